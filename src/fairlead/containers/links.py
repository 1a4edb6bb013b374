"""``--link TARGET[:ALIAS]``: a container knows another by a name of its own.

In networks that users make this is one more name in the resolver, which follows the other wherever it is
(`Endpoint.links`).  The default bridge has no names, so there the links are what Docker calls legacy: lines of
/etc/hosts, written anew when the other starts with another address, and variables of the environment, which cannot
follow.  Source of the forms: moby, daemon/links and daemon/container_operations_unix.go (v28).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.containers.etc import read_lines, write_lines
from fairlead.containers.record import Container, ContainerSpec
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound
from fairlead.model import Endpoint
from fairlead.spec import EndpointSpec

if TYPE_CHECKING:
    from fairlead.containers.sharing import Sharing
    from fairlead.engine import Engine
    from fairlead.paths import Paths
    from fairlead.store import Store


@dataclass(frozen=True)
class Linked:
    """What a container is to know of those that it is linked to."""

    hosts: tuple[str, ...] = ()
    """Lines of /etc/hosts."""
    environment: tuple[str, ...] = ()

    def put_into(self, spec: ContainerSpec) -> ContainerSpec:
        """The spec with the variables; the user's own win."""
        names = {variable.partition("=")[0] for variable in spec.env}
        added = tuple(variable for variable in self.environment if variable.partition("=")[0] not in names)
        return replace(spec, env=added + spec.env) if added else spec


NOT_LINKED = Linked()


def divided(
    links: dict[str, str], mode: str, endpoints: tuple[EndpointSpec, ...]
) -> tuple[dict[str, str], tuple[EndpointSpec, ...]]:
    """What ``--link`` means in a network mode: links of the default bridge, or of the first network."""
    if not links:
        return {}, endpoints
    if mode == "host":
        raise Invalid(_ON_HOST)
    if mode == "none":
        raise Invalid("conflicting options: a container in network mode none cannot reach what it is linked to")
    if mode == "bridge":
        return links, endpoints
    first, *others = endpoints
    return {}, (replace(first, links={**links, **first.links}), *others)


_ON_HOST = "conflicting options: host type networking can't be used with links. This would result in undefined behavior"


def parse(text: str) -> tuple[str, str]:
    """``TARGET[:ALIAS]`` as alias and target; also ``/TARGET:/OWN/ALIAS``, as inspect shows it."""
    target, colon, alias = text.partition(":")
    if not target.strip("/") or (colon and not alias) or ":" in alias:
        raise Invalid(f"bad format for links: {text}: CONTAINER or CONTAINER:ALIAS is needed")
    if alias.startswith("/"):
        alias = alias.rpartition("/")[2]
    target = target.removeprefix("/")
    return alias or target, target


def checked(links: dict[str, str], get: Callable[[str], Container]) -> dict[str, str]:
    """Links by alias with targets that the resolver knows: a name, or an id in full; raises `Invalid`."""
    found = {}
    for alias, target in links.items():
        try:
            container = get(target)
        except FairleadError as error:
            # Not 404: of that status the answer to a create would mean "pull the image".
            raise Invalid(f"could not get container for {target}: {error}") from None
        if container.spec.network_mode == "host":
            raise Invalid(_ON_HOST)
        found[alias] = target if target == container.name else container.id
    return found


def known(links: dict[str, str], get: Callable[[str], Container]) -> dict[str, str]:
    """The same for a network with names: a target may come later, since it is looked for when its name is asked for."""
    found: dict[str, str] = {}
    for alias, target in links.items():
        try:
            found |= checked({alias: get(target).name}, get)
        except NotFound:
            found[alias] = target
    return found


def by_id(links: dict[str, str], get: Callable[[str], Container]) -> dict[str, str]:
    """The links of the default bridge as the record keeps them: by alias the full id, so that a rename is followed."""
    return {alias: get(target).id for alias, target in checked(links, get).items()}


def settled(spec: ContainerSpec, get: Callable[[str], Container]) -> ContainerSpec:
    """A new container's spec with all its links checked; raises `Invalid`."""
    endpoints = tuple(
        replace(endpoint, links=known(endpoint.links, get)) if endpoint.links else endpoint
        for endpoint in spec.endpoints
    )
    return replace(spec, links=by_id(spec.links, get), endpoints=endpoints)


def without(spec: ContainerSpec, alias: str) -> ContainerSpec:
    """The spec without one of its links; raises `NotFound`."""
    if alias not in spec.links and not any(alias in endpoint.links for endpoint in spec.endpoints):
        raise NotFound(f"No such link: {alias}")
    links = {name: target for name, target in spec.links.items() if name != alias}
    endpoints = tuple(
        replace(one, links={name: target for name, target in one.links.items() if name != alias})
        for one in spec.endpoints
    )
    return replace(spec, links=links, endpoints=endpoints)


def linked(
    container: Container,
    target_of: Callable[[str], Container | None],
    endpoint_of: Callable[[Container], Endpoint | None],
) -> Linked:
    """What a container that starts on the default bridge gets; raises where Docker refuses the start.

    `endpoint_of`: a running container's place on the default bridge.  A target that was removed is no error.
    """
    hosts: list[str] = []
    environment: list[str] = []
    for alias, id_ in sorted(container.spec.links.items()):
        target = target_of(id_)
        if target is None:
            continue
        if not target.is_running:
            raise Conflict(f"Cannot link to a non running container: /{target.name} AS /{container.name}/{alias}")
        endpoint = endpoint_of(target)
        if endpoint is None:
            raise Invalid(f"Cannot link to /{target.name}, as it does not belong to the default network")
        hosts += hosts_lines(alias, target, endpoint)
        environment += variables(container.name, alias, target, endpoint)
    return Linked(tuple(hosts), tuple(environment))


def hosts_lines(alias: str, target: Container, endpoint: Endpoint) -> list[str]:
    """A line for each address: the alias, the target's host name, its own name."""
    names = " ".join(dict.fromkeys((alias, target.spec.hostname, target.name)))
    return [f"{interface.ip}\t{names}" for interface in endpoint.addresses]


def rewritten(lines: Iterable[str], alias: str, new: list[str]) -> list[str]:
    """The lines of /etc/hosts with those of a link exchanged in their place: where the first name is the alias."""
    found: list[str] = []
    for line in lines:
        if line.partition("\t")[2].split(" ")[0] == alias:
            found += [one for one in new if one not in found]
        else:
            found.append(line)
    return found


def variables(own: str, alias: str, target: Container, endpoint: Endpoint) -> list[str]:
    """``DB_PORT_5432_TCP_ADDR=172.17.0.2``…: Docker's, for the ports that the target exposes, the TCP ones first."""
    word = alias.upper().replace("-", "_")
    address = next((str(interface.ip) for interface in endpoint.addresses if interface.version == 4), "")
    found: list[str] = []
    ports = sorted(
        ((int(number), protocol or "tcp") for number, _, protocol in (p.partition("/") for p in target.spec.exposed)),
        key=lambda port: (port[1] != "tcp", port[1], port[0]),
    )
    if ports and address:
        number, protocol = ports[0]
        found.append(f"{word}_PORT={protocol}://{address}:{number}")
        for run in _runs(ports):
            found += _range(word, address, run) if len(run) > 1 else []
        for number, protocol in ports:
            prefix = f"{word}_PORT_{number}_{protocol.upper()}"
            found += [
                f"{prefix}={protocol}://{address}:{number}",
                f"{prefix}_ADDR={address}",
                f"{prefix}_PORT={number}",
                f"{prefix}_PROTO={protocol}",
            ]
    found.append(f"{word}_NAME=/{own}/{alias}")
    for variable in target.spec.env:
        name, equals, value = variable.partition("=")
        if equals and name not in ("HOME", "PATH"):
            found.append(f"{word}_ENV_{name}={value}")
    return found


def _runs(ports: list[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """The ports in runs without a gap."""
    runs: list[list[tuple[int, str]]] = []
    for number, protocol in ports:
        if runs and runs[-1][-1] == (number - 1, protocol):
            runs[-1].append((number, protocol))
        else:
            runs.append([(number, protocol)])
    return runs


def _range(word: str, address: str, run: list[tuple[int, str]]) -> list[str]:
    (first, protocol), (last, _) = run[0], run[-1]
    prefix = f"{word}_PORT_{first}_{protocol.upper()}"
    return [
        f"{prefix}_START={protocol}://{address}:{first}",
        f"{prefix}_PORT_START={first}",
        f"{prefix}_END={protocol}://{address}:{last}",
        f"{prefix}_PORT_END={last}",
    ]


class Links:
    """The links of the default bridge, as containers start."""

    def __init__(self, store: Store, engine: Engine, sharing: Sharing, paths: Paths) -> None:
        self._store = store
        self._catalog = engine.catalog
        self._sharing = sharing
        self._paths = paths

    def of(self, container: Container) -> Linked:
        """What a container that starts gets; raises where Docker refuses the start."""
        return linked(container, lambda id_: self._store.get(Container, id_), self._place)

    def moved(self, target: Container) -> None:
        """A container has started, perhaps with another address: those linked to it that run are to know."""
        for other in self._store.all(Container):
            if other.is_running and target.id in other.spec.links.values() and (endpoint := self._place(target)):
                file = self._paths.container_state(other.id) / "hosts"
                lines = read_lines(file) if file.exists() else []
                for alias, id_ in other.spec.links.items():
                    if id_ == target.id:
                        lines = rewritten(lines, alias, hosts_lines(alias, target, endpoint))
                with contextlib.suppress(FileNotFoundError):  # it is being removed
                    write_lines(file, lines)  # in place, as it is bound into the container

    def _place(self, container: Container) -> Endpoint | None:
        sandbox = self._sharing.sandbox(container)
        for endpoint in self._catalog.endpoints(sandbox=sandbox.id) if sandbox else ():
            if self._catalog.network(endpoint.network).name == "bridge":
                return endpoint
        return None
