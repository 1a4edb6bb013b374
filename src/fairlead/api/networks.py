"""Networks in the shapes of Docker's ``/networks``."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_network

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, Explained, answer, body_as, filters, flag, parse_bool, perform
from fairlead.api.shapes import (
    EndpointSettings,
    Strings,
    endpoint_spec,
    network_endpoints,
    network_shape,
    owners,
    parse_address,
)
from fairlead.configs import check_joinable
from fairlead.containers.plans import published
from fairlead.containers.sharing import check_can_connect
from fairlead.drivers.bridge_options import ENABLE, boolean
from fairlead.engine import NetworkSpec
from fairlead.errors import FairleadError, Forbidden, Invalid, NotFound
from fairlead.model import Endpoint, IPNetwork, Network, Phase, Pool

NONE_IS_ALONE = "container cannot be connected to multiple networks with one of the networks in private (none) mode"

HOST_STAYS = (
    "container cannot be disconnected from host network or connected to host network: "
    "the host network has no endpoints, only a container may share it, from its start on"
)

_UNITS = {"s": 1, "m": 60, "h": 3600}


class IpamConfig(msgspec.Struct, rename="pascal"):
    """One subnet of a wanted network (IPAMConfig).  `gateway` may be ``none``: Fairlead's own addition."""

    subnet: str | None = None
    ip_range: str | None = msgspec.field(default=None, name="IPRange")
    gateway: str | None = None
    auxiliary_addresses: Strings | None = None
    aux_address: Strings | None = None


class Ipam(msgspec.Struct, rename="pascal"):
    """IPAM of a wanted network."""

    driver: str | None = None
    config: list[IpamConfig] | None = None
    options: Strings | None = None


class ConfigFrom(msgspec.Struct, rename="pascal"):
    """The configuration network to take the settings from (ConfigReference)."""

    network: str | None = None


class CreateNetwork(msgspec.Struct, rename="pascal"):
    """The body of ``POST /networks/create`` (NetworkCreateRequest)."""

    name: str = ""
    driver: str | None = None
    scope: str | None = None
    internal: bool | None = False
    attachable: bool | None = False
    ingress: bool | None = False
    config_only: bool | None = False
    config_from: ConfigFrom | None = None
    ipam: Ipam | None = msgspec.field(default=None, name="IPAM")
    enable_ipv4: bool | None = msgspec.field(default=None, name="EnableIPv4")
    enable_ipv6: bool | None = msgspec.field(default=None, name="EnableIPv6")
    options: Strings | None = None
    labels: Strings | None = None


class Connect(msgspec.Struct, rename="pascal"):
    """The body of ``POST /networks/{id}/connect``."""

    container: str = ""
    endpoint_config: EndpointSettings | None = None


class Disconnect(msgspec.Struct, rename="pascal"):
    """The body of ``POST /networks/{id}/disconnect``."""

    container: str = ""
    force: bool | None = False


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""
    catalog, planner = daemon.engine.catalog, daemon.engine.planner

    async def list_(request: web.Request) -> web.Response:
        wanted = filters(request, ("name", "id", "driver", "label", "type", "dangling", "scope"))
        endpoints, owner = network_endpoints(daemon), owners(daemon)
        return answer(
            [
                network_shape(network, endpoints.get(network.id, []), owner)
                for network in sorted(catalog.networks(), key=lambda network: network.name)
                if network.phase is Phase.READY and matches(network, endpoints.get(network.id, []), wanted)
            ]
        )

    async def inspect(request: web.Request) -> web.Response:
        network = catalog.network(request.match_info["id"])
        parse_bool(request, "verbose")  # tells of services, which only a swarm has
        scope = request.query.get("scope")
        if scope and scope != "local":
            raise NotFound(f"network {request.match_info['id']} not found")
        return answer(network_shape(network, network_endpoints(daemon).get(network.id, []), owners(daemon)))

    async def create(request: web.Request) -> web.Response:
        network = await perform(
            daemon, request, planner.create_network, network_spec(await body_as(request, CreateNetwork))
        )
        return answer({"Id": network.id, "Warning": ""}, 201)

    async def remove(request: web.Request) -> web.Response:
        await perform(daemon, request, planner.remove_network, request.match_info["id"])
        return answer(status=204)

    async def connect(request: web.Request) -> web.Response:
        wanted = await body_as(request, Connect)
        network = catalog.network(request.match_info["id"])
        check_joinable(network)
        _check_predefined(network)
        spec = endpoint_spec(network.id, wanted.endpoint_config)
        one_of_ours = is_container(daemon, wanted.container)
        if one_of_ours and not flag(request, "explain"):
            await daemon.containers.membership.connect(wanted.container, spec)
        else:
            if one_of_ours:
                spec = daemon.containers.membership.with_ports(daemon.containers.get(wanted.container), spec)
            await perform(daemon, request, planner.attach, sandbox_named(daemon, wanted.container), spec)
        return web.Response()

    async def disconnect(request: web.Request) -> web.Response:
        wanted = await body_as(request, Disconnect)
        left = catalog.network(request.match_info["id"])
        if left.driver == "host":
            raise Invalid(HOST_STAYS)
        network = left.id
        one_of_ours = is_container(daemon, wanted.container)
        if one_of_ours and not flag(request, "explain"):
            await daemon.containers.membership.disconnect(wanted.container, network)
        else:
            ports = published(daemon.containers.get(wanted.container)) if one_of_ours else ()
            await perform(daemon, request, planner.detach, sandbox_named(daemon, wanted.container), network, ports)
        return web.Response()

    async def prune(request: web.Request) -> web.Response:
        wanted = filters(request, ("until", "label", "label!"))
        until = prune_until(wanted)
        used = network_endpoints(daemon)
        deleted = []
        for network in catalog.networks():
            if network.predefined or network.phase is not Phase.READY or network.id in used:
                continue
            if until is not None and network.created >= until:
                continue
            if not labels_match(network.labels, wanted):
                continue
            try:
                await perform(daemon, request, planner.remove_network, network.id)
            except FairleadError as error:
                if error.status >= 500:
                    raise
                continue  # used or gone since: then it is not for us to prune
            deleted.append(network.name)
        daemon.events.publish("network", "prune", "", {"reclaimed": "0"})
        return answer({"NetworksDeleted": deleted or None})

    return [
        web.get("/networks", list_),
        web.get("/networks/", list_),
        web.get("/networks/{id}", inspect),
        web.post("/networks/create", create),
        web.post("/networks/prune", prune),
        web.post("/networks/{id}/connect", connect),
        web.post("/networks/{id}/disconnect", disconnect),
        web.delete("/networks/{id}", remove),
    ]


def _check_predefined(network: Network) -> None:
    """What cannot be asked of the networks that are always there, in Docker's words."""
    if network.driver == "null":
        raise Invalid(NONE_IS_ALONE)
    if network.driver == "host":
        raise Invalid(HOST_STAYS)


def is_container(daemon: Daemon, ref: str) -> bool:
    """Whether `ref` names a container; a namespace made by name is found where no container is."""
    if not ref:
        raise Invalid("Container is missing: the name or id of a container or namespace is needed")
    try:
        daemon.containers.get(ref)
    except NotFound:
        return False
    return True


def sandbox_named(daemon: Daemon, ref: str) -> str:
    """The id of the sandbox `ref`, a running container's or a namespace's own.

    A stopped container has none, so there is nothing that the kernel would be asked: then the explanation is empty.
    """
    try:
        container = daemon.containers.get(ref)
    except NotFound:
        try:
            return daemon.engine.catalog.sandbox(ref).id
        except NotFound:
            raise NotFound(f"No such container: {ref} (and no network namespace of that name)") from None
    check_can_connect(container.spec.network_mode)
    if sandbox := daemon.containers.sharing.sandbox(container):
        return sandbox.id
    raise Explained([])


def network_spec(wanted: CreateNetwork) -> NetworkSpec:
    """A create request as the engine's spec; raises `Invalid` for what is not served."""
    if wanted.ingress:
        raise Forbidden(
            "Ingress network can only be global scope network: those belong to swarms, of which there is none"
        )
    if wanted.scope == "swarm":
        raise Forbidden("cannot create a swarm scoped network when swarm is not active")
    if wanted.scope not in (None, "", "local"):
        raise Invalid(f"invalid scope {wanted.scope!r}: only 'local' is supported")
    ipam = wanted.ipam or Ipam()
    if ipam.driver not in (None, "", "default"):
        raise NotFound(f'plugin "{ipam.driver}" not found: the only IPAM driver here is default')
    if ipam.options:
        raise Invalid(f"invalid IPAM option {next(iter(ipam.options))!r}: the default driver has none")
    options = dict(wanted.options or {})
    ipv4 = _enabled(wanted.enable_ipv4, options, ENABLE[4])
    ipv6 = _enabled(wanted.enable_ipv6, options, ENABLE[6])
    pools, no_gateway = [], False
    for config in ipam.config or []:
        no_gateway |= config.gateway == "none"
        if config.subnet:
            pools.append(_pool(config))
        elif (
            config.ip_range
            or config.auxiliary_addresses
            or config.aux_address
            or config.gateway not in (None, "", "none")
        ):
            raise Invalid("invalid IPAM config: an IP range, gateway or auxiliary address needs a subnet")
    return NetworkSpec(
        name=wanted.name,
        driver=wanted.driver or "bridge",
        ipv4=ipv4 is not False,
        ipv6=bool(ipv6) or (ipv6 is None and any(pool.subnet.version == 6 for pool in pools)),
        pools=tuple(pools),
        no_gateway=no_gateway,
        internal=bool(wanted.internal),
        attachable=bool(wanted.attachable),
        options=options,
        labels=wanted.labels or {},
        config_only=bool(wanted.config_only),
        config_from=(wanted.config_from.network if wanted.config_from else "") or "",
    )


def _enabled(field: bool | None, options: Strings, option: str) -> bool | None:
    """Whether a family is wanted: the field says it, or else the driver option (Docker 28)."""
    if field is not None:
        options.pop(option, None)
        return field
    return boolean(options, option, default=False) if option in options else None


def _pool(config: IpamConfig) -> Pool:
    auxiliary = config.auxiliary_addresses or config.aux_address or {}
    return Pool(
        subnet=_subnet(config.subnet or "", "subnet"),
        ip_range=_subnet(config.ip_range, "IP range") if config.ip_range else None,
        gateway=parse_address(config.gateway) if config.gateway and config.gateway != "none" else None,
        auxiliary={name: parse_address(address) for name, address in auxiliary.items()},
    )


def _subnet(text: str, what: str) -> IPNetwork:
    if "/" not in text:
        raise Invalid(f"invalid {what} {text!r}: an address and a prefix length are needed, such as 10.0.0.0/24")
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        meant = ip_network(text, strict=False)
    except ValueError:
        raise Invalid(
            f"invalid {what} {text!r}: an address and a prefix length are needed, such as 10.0.0.0/24"
        ) from None
    raise Invalid(f"invalid {what} {text!r}: it should be {meant}")


# Filters


def matches(network: Network, endpoints: list[Endpoint], wanted: dict[str, list[str]]) -> bool:
    """Whether a network passes the filters: each filter by any of its words, labels by all."""
    tests: dict[str, Callable[[str], bool]] = {
        "name": lambda word: _name_matches(network.name, word),
        "id": lambda word: network.id.startswith(word),
        "driver": lambda word: network.driver == word,
        "scope": lambda word: word == "local",
        "type": lambda word: _choice("type", word, {"builtin": network.predefined, "custom": not network.predefined}),
        "dangling": lambda word: (
            _choice("dangling", word.lower(), dict.fromkeys(_TRUE, True) | dict.fromkeys(_FALSE, False))
            == (not endpoints and not network.predefined)
        ),
    }
    return labels_match(network.labels, wanted) and all(
        any(tests[name](word) for word in words) for name, words in wanted.items() if name in tests and words
    )


_TRUE, _FALSE = ("true", "1"), ("false", "0")


def _choice(name: str, word: str, values: dict[str, bool]) -> bool:
    if word not in values:
        raise Invalid(f"invalid filter '{name}={word}': only {', '.join(values)} are allowed")
    return values[word]


def _name_matches(name: str, word: str) -> bool:
    """Docker matches names by regular expression; the anchors are what clients use (compose: ``^name$``).

    Nothing more is read, since a hostile expression could take Python's matcher for ever.
    """
    core = word.removeprefix("^").removesuffix("$")
    if word.startswith("^") and word.endswith("$"):
        return name == core
    if word.startswith("^"):
        return name.startswith(core)
    if word.endswith("$"):
        return name.endswith(core)
    return core in name


def labels_match(labels: Strings, wanted: dict[str, list[str]]) -> bool:
    """All of ``label``, none of ``label!``; a word is a key or ``key=value``."""

    def has(word: str) -> bool:
        key, equals, value = word.partition("=")
        return key in labels and (not equals or labels[key] == value)

    return all(has(word) for word in wanted.get("label", [])) and not any(
        has(word) for word in wanted.get("label!", [])
    )


def parse_until(text: str) -> float:
    """The moment that ``until`` means, in seconds since the epoch: a duration back from now, a time stamp, a date."""
    try:
        return float(text)
    except ValueError:
        pass
    seconds, number = 0.0, ""
    for character in text:
        if character in _UNITS and number.replace(".", "", 1).isdecimal():
            seconds, number = seconds + float(number) * _UNITS[character], ""
        else:
            number += character
    if not number and seconds:
        return time.time() - seconds
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        raise Invalid(f"invalid filter 'until={text}': a duration (10m, 1h30m) or a time is needed") from None


def prune_until(wanted: dict[str, list[str]]) -> float | None:
    """The moment before which something must have been made to be pruned; Docker takes one alone."""
    texts = wanted.get("until", [])
    if len(texts) > 1:
        raise Invalid("more than one until filter specified")
    return parse_until(texts[0]) if texts else None
