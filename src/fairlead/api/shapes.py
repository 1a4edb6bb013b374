"""Records as Docker's JSON, where more than one module needs the same shape."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.containers.inspect import rfc3339
from fairlead.containers.links import parse as parse_link
from fairlead.containers.record import Container
from fairlead.endpoints import IFNAME
from fairlead.engine import EndpointSpec
from fairlead.errors import Invalid
from fairlead.model import Address, Endpoint, Network, Phase

if TYPE_CHECKING:
    from fairlead.api.app import Daemon

Strings = dict[str, str]


def owners(daemon: Daemon) -> dict[str, tuple[str, str]]:
    """By sandbox id: the id and name that users know it by, a container's or its own."""
    store, shown_by = daemon.engine.store, daemon.containers.sharing.shown_by
    found = {}
    for sandbox in daemon.engine.catalog.sandboxes():
        if sandbox.container:
            container = store.get(Container, shown_by(sandbox))
            found[sandbox.id] = (container.id, container.name) if container else (sandbox.container, "")
        else:
            found[sandbox.id] = (sandbox.id, sandbox.name)
    return found


def network_shape(network: Network, endpoints: list[Endpoint], owner: dict[str, tuple[str, str]]) -> dict[str, Any]:
    """A network as ``GET /networks/{id}`` answers it; `owner` as `owners` returns it."""
    config: list[dict[str, Any]] = []
    for pool in network.pools:
        entry: dict[str, Any] = {"Subnet": str(pool.subnet)}
        if pool.ip_range is not None:
            entry["IPRange"] = str(pool.ip_range)
        if pool.gateway is not None:
            entry["Gateway"] = str(pool.gateway)
        if pool.auxiliary:
            entry["AuxiliaryAddresses"] = {name: str(address) for name, address in pool.auxiliary.items()}
        config.append(entry)
    containers = {}
    for endpoint in endpoints:
        id_, name = owner.get(endpoint.sandbox, (endpoint.sandbox, ""))
        containers[id_] = {
            "Name": name,
            "EndpointID": endpoint.id,
            "MacAddress": endpoint.mac,
            "IPv4Address": _first_address(endpoint, 4),
            "IPv6Address": _first_address(endpoint, 6),
        }
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": rfc3339(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": not network.pools or any(pool.subnet.version == 4 for pool in network.pools),
        "EnableIPv6": any(pool.subnet.version == 6 for pool in network.pools),
        "IPAM": {"Driver": "default", "Options": None, "Config": config},
        "Internal": network.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": network.config_from},
        "ConfigOnly": network.config_only,
        "Containers": containers,
        "Options": {**_defaults(network), **network.options},
        "Labels": network.labels,
    }


def _defaults(network: Network) -> Strings:
    """The options of the default bridge that Docker shows though nobody gave them."""
    if not network.predefined or network.driver != "bridge":
        return {}
    return {
        "com.docker.network.bridge.enable_icc": "true",
        "com.docker.network.bridge.enable_ip_masquerade": "true",
        "com.docker.network.bridge.host_binding_ipv4": "0.0.0.0",
        "com.docker.network.driver.mtu": str(network.mtu or 1500),
    }


def network_endpoints(daemon: Daemon) -> dict[str, list[Endpoint]]:
    """The acknowledged endpoints by network id, gathered in one pass."""
    found: dict[str, list[Endpoint]] = {}
    for endpoint in daemon.engine.catalog.endpoints():
        if endpoint.phase is Phase.READY:
            found.setdefault(endpoint.network, []).append(endpoint)
    return found


def _first_address(endpoint: Endpoint, version: int) -> str:
    return next((str(interface) for interface in endpoint.addresses if interface.version == version), "")


class IpamOfEndpoint(msgspec.Struct, rename="pascal"):
    """EndpointIPAMConfig."""

    ipv4_address: str | None = msgspec.field(default=None, name="IPv4Address")
    ipv6_address: str | None = msgspec.field(default=None, name="IPv6Address")
    link_local_ips: list[str] | None = msgspec.field(default=None, name="LinkLocalIPs")


class EndpointSettings(msgspec.Struct):
    """What a client asks of an endpoint (EndpointSettings); fields that only answers carry are ignored."""

    ipam: IpamOfEndpoint | None = msgspec.field(default=None, name="IPAMConfig")
    aliases: list[str] | None = msgspec.field(default=None, name="Aliases")
    links: list[str] | None = msgspec.field(default=None, name="Links")
    mac: str | None = msgspec.field(default=None, name="MacAddress")
    driver_options: Strings | None = msgspec.field(default=None, name="DriverOpts")
    gateway_priority: int | None = msgspec.field(default=None, name="GwPriority")


def endpoint_spec(network: str, settings: EndpointSettings | None) -> EndpointSpec:
    """Docker's EndpointSettings as the engine's spec; raises `Invalid` for what is not served."""
    settings = settings or EndpointSettings()
    ipam = settings.ipam or IpamOfEndpoint()
    options = dict(settings.driver_options or {})
    ifname = options.pop(IFNAME, "")
    return EndpointSpec(
        network=network,
        ips=tuple(
            _of_family(text, version) for text, version in ((ipam.ipv4_address, 4), (ipam.ipv6_address, 6)) if text
        ),
        link_local_ips=tuple(parse_address(text) for text in ipam.link_local_ips or ()),
        mac=settings.mac or "",
        ifname=ifname,
        priority=settings.gateway_priority or 0,
        aliases=tuple(settings.aliases or ()),
        links=dict(parse_link(text) for text in settings.links or ()),
        options=options,
    )


def _of_family(text: str, version: int) -> Address:
    address = parse_address(text)
    if address.version != version:
        raise Invalid(f"invalid IPv{version} address {text!r}: it is an IPv{address.version} address")
    return address


def parse_address(text: str) -> Address:
    """An address, or `Invalid`."""
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(f"invalid address {text!r}: an IPv4 or IPv6 address is needed") from None
