"""The topology: facts and intent in one picture, as typed values with a JSON form.  What is drawn is drawn from this.

A *mark* says where the two disagree.  ``missing``: a record wants it and the kernel lacks it.  ``unowned``: it is in
something of Fairlead's, or carries its mark, but no record knows it.  ``differs``: it is there but not as its record
says.  The *note* beside a mark says what is wrong, in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import msgspec

from fairlead.kernel.survey import VlanRow
from fairlead.model import Endpoint, Interface, Network, Sandbox, text_of
from fairlead.see.facts import End, InterfaceFact, NamespaceFact, RouteFact, Snapshot
from fairlead.see.intent import Intent, Wanted
from fairlead.see.nat import OURS, Nat
from fairlead.see.owners import CONTAINERS

Mark = Literal["", "missing", "unowned", "differs"]
HOST_ID = "host"


class _Shape(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Everything here is a value, written with the API's capital letters."""


class Place(_Shape, frozen=True, kw_only=True):
    """An interface, by its namespace's `id` and its name."""

    namespace: str
    interface: str


class Traffic(_Shape, frozen=True, kw_only=True):
    """Counted by the kernel since the link was made."""

    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    tx_packets: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    rx_errors: int = 0
    tx_errors: int = 0


class Vlans(_Shape, frozen=True, kw_only=True):
    """VLANs of a port of a bridge, from `first` to `last`, with the two flags that bridge(8) has for them."""

    first: int
    last: int
    pvid: bool
    untagged: bool


class Port(_Shape, frozen=True, kw_only=True):
    """An interface.  `carries`: it is up and there is somebody at the other end, as far as the kernel can know."""

    name: str
    index: int = 0
    kind: str = ""
    mac: str = ""
    mtu: int = 0
    up: bool = False
    state: str = ""
    carries: bool = False
    addresses: tuple[str, ...] = ()
    missing_addresses: tuple[str, ...] = ()
    """What a record gives it and it has not."""
    unowned_addresses: tuple[str, ...] = ()
    """What it has of ours to decide, but from no record."""
    master: str = ""
    peer: Place | None = None
    parent: Place | None = None
    hidden: bool = False
    """It leads to a namespace that cannot be seen from here."""
    isolated: bool = False
    alias: str = ""
    data: dict[str, str] = {}
    vlans: tuple[Vlans, ...] | None = None
    """Of a bridge that filters VLANs, and of its ports."""
    network: str = ""
    """The name of the Fairlead network that it belongs to."""
    record: str = ""
    """The id of Fairlead's record."""
    traffic: Traffic = Traffic()
    mark: Mark = ""
    note: str = ""


class Route(_Shape, frozen=True, kw_only=True):
    """A route of the main table; `destination` is ``default`` for either family's default route."""

    destination: str
    gateway: str = ""
    interface: str = ""
    metric: int = 0
    type: str = "unicast"
    version: int = 4
    mark: Mark = ""


class Room(_Shape, frozen=True, kw_only=True):
    """A namespace.  `kind`: host, container, namespace (kept by a name), or process (known by its processes alone)."""

    id: str
    name: str
    kind: Literal["host", "container", "namespace", "process"]
    manager: str = ""
    owner: str = ""
    """The id by which its manager knows it."""
    path: str = ""
    pids: tuple[int, ...] = ()
    ports: tuple[Port, ...] = msgspec.field(default=(), name="Interfaces")
    routes: tuple[Route, ...] = ()
    mark: Mark = ""
    note: str = ""

    def port(self, name: str) -> Port | None:
        """An interface by name."""
        return next((port for port in self.ports if port.name == name), None)


class Net(_Shape, frozen=True, kw_only=True):
    """A Fairlead network.  `interface`: the bridge or parent link that carries it, on the host."""

    id: str
    name: str
    driver: str
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    interface: str = ""
    internal: bool = False


class Published(_Shape, frozen=True, kw_only=True):
    """A port of the host that leads to a port elsewhere; `host_ip` empty: on all addresses of that version."""

    protocol: str
    host_ip: str = ""
    host_port: int
    address: str
    port: int
    version: int = 4
    namespace: str = ""
    """The id of the namespace that has the address, empty if none has."""
    manager: str = ""
    rule: str = ""
    mark: Mark = ""


class Masquerading(_Shape, frozen=True, kw_only=True):
    """Packets from a subnet, or by an interface, leave with another source (empty: the host's own)."""

    source: str
    to: str = ""
    version: int = 4
    manager: str = ""
    rule: str = ""


class Topology(_Shape, frozen=True, kw_only=True):
    """The whole: the host is the first of the namespaces.  `left_out`: how many have no name and lead nowhere."""

    rooms: tuple[Room, ...] = msgspec.field(name="Namespaces")
    nets: tuple[Net, ...] = msgspec.field(default=(), name="Networks")
    published: tuple[Published, ...] = ()
    masquerading: tuple[Masquerading, ...] = ()
    left_out: int = 0

    @property
    def host(self) -> Room:
        """The host's own namespace."""
        return self.rooms[0]

    def room(self, id_: str) -> Room | None:
        """A namespace by id."""
        return next((room for room in self.rooms if room.id == id_), None)


def build(snapshot: Snapshot, intent: Intent, nat: Nat) -> Topology:
    """Set intent beside facts."""
    builder = _Builder(snapshot, intent)
    rooms = [builder.room(fact) for fact in snapshot.namespaces]
    rooms += builder.missing_rooms()
    return Topology(
        rooms=(rooms[0], *sorted(rooms[1:], key=lambda room: (room.kind, _natural(room.name), room.id))),
        nets=tuple(_net(network) for network in sorted(intent.networks.values(), key=_network_order)),
        published=tuple(_published(rooms, intent, nat)),
        masquerading=tuple(
            Masquerading(source=one.source, to=one.to, version=one.version, manager=one.manager, rule=one.rule)
            for one in nat.masquerades
        ),
        left_out=snapshot.left_out,
    )


class _Builder:
    def __init__(self, snapshot: Snapshot, intent: Intent) -> None:
        self._snapshot = snapshot
        self._intent = intent
        self._facts = {fact.inode: fact for fact in snapshot.namespaces}
        self._names = {fact.inode: {one.index: one.name for one in fact.interfaces} for fact in snapshot.namespaces}
        self._by_path = {sandbox.path: sandbox for sandbox in intent.sandboxes.values()}
        self._wanted: dict[str, dict[str, Wanted]] = {}
        """What should be in a namespace (by path) at a name."""
        for (path, name), wanted in intent.wanted.items():
            self._wanted.setdefault(path, {})[name] = wanted

    # Namespaces

    def room(self, fact: NamespaceFact) -> Room:
        sandbox = next((self._by_path[path] for path in fact.paths if path in self._by_path), None)
        host = fact is self._snapshot.host
        path = "" if host else sandbox.path if sandbox else fact.place
        ports = [self._port(fact, one, path, ours=sandbox is not None) for one in fact.interfaces]
        has = {port.name for port in ports}
        ports += self._missing_ports(path, has) if host or sandbox else []
        manager, kind, owner, name = self._identity(fact, sandbox)
        return Room(
            id=HOST_ID if host else str(fact.inode),
            name=name,
            kind=kind,
            manager=manager,
            owner=owner,
            path=path,
            pids=fact.pids,
            ports=tuple(ports),
            routes=tuple(self._routes(fact, path if host or sandbox else None)),
        )

    def _identity(
        self, fact: NamespaceFact, sandbox: Sandbox | None
    ) -> tuple[str, Literal["host", "container", "namespace", "process"], str, str]:
        owner = fact.owner
        if sandbox:
            id_, name = self._intent.owners.get(sandbox.id, (sandbox.id, sandbox.name))
            return OURS, "container" if sandbox.container else "namespace", id_, name or id_[:12]
        if owner.manager == "host":
            return "host", "host", "", "host"
        name = owner.name or owner.id[:12]
        if owner.manager in CONTAINERS:
            return owner.manager, "container", owner.id, name
        if fact.paths:
            return owner.manager, "namespace", owner.id, name
        who = f"{owner.name} " if owner.manager == "process" and owner.name else ""
        name = f"{who}(pid {fact.pids[0]})" if owner.manager == "process" else name
        return owner.manager, "process", owner.id, name

    def missing_rooms(self) -> Iterator[Room]:
        """Sandboxes whose namespace is gone."""
        for sandbox in self._intent.sandboxes.values():
            if self._snapshot.at(sandbox.path) is None:
                id_, name = self._intent.owners.get(sandbox.id, (sandbox.id, sandbox.name))
                yield Room(
                    id=f"missing:{sandbox.id}",
                    name=name or id_[:12],
                    kind="container" if sandbox.container else "namespace",
                    manager=OURS,
                    owner=id_,
                    path=sandbox.path,
                    ports=tuple(self._missing_ports(sandbox.path, {"lo"})),
                    mark="missing",
                    note=f"there is no network namespace at {sandbox.path}",
                )

    # Interfaces

    def _port(self, fact: NamespaceFact, one: InterfaceFact, path: str, *, ours: bool) -> Port:
        wanted = self._wanted.get(path, {}).get(one.name)
        addresses = [text_of(address) for address in one.addresses]
        missing, unowned, faults = self._disagreement(fact, one, path, wanted, ours=ours)
        mark: Mark = "differs" if faults or missing or unowned else ""
        if self._is_stranger(fact, one, path, wanted, ours=ours):
            mark, faults = "unowned", ["no record of Fairlead's knows it"]
        if one.duplicates:
            faults.append(f"another host has {', '.join(map(text_of, one.duplicates))} too")
        return Port(
            name=one.name,
            index=one.index,
            kind=one.kind or ("loopback" if one.loopback else "device"),
            mac=one.mac,
            mtu=one.mtu,
            up=one.up,
            state=one.state,
            carries=one.works,
            addresses=tuple(addresses),
            missing_addresses=tuple(missing),
            unowned_addresses=tuple(unowned),
            master=self._names[fact.inode].get(one.master, ""),
            peer=self._place(one.peer),
            parent=self._place(one.parent),
            hidden=one.hidden,
            isolated=one.isolated,
            alias=one.alias,
            data=dict(one.data),
            vlans=None if one.vlans is None else tuple(_vlans(row) for row in one.vlans),
            network=self._network_of(wanted),
            record=wanted.record.id if wanted and wanted.record else "",
            traffic=Traffic(**{name: getattr(one.counters, name) for name in Traffic.__struct_fields__}),
            mark=mark,
            note="; ".join(faults),
        )

    def _place(self, end: End | None) -> Place | None:
        if end is None or end.namespace not in self._facts:
            return None
        name = self._names[end.namespace].get(end.index, "")
        host = end.namespace == self._snapshot.host.inode
        return Place(namespace=HOST_ID if host else str(end.namespace), interface=name)

    def _network_of(self, wanted: Wanted | None) -> str:
        record = wanted.record if wanted else None
        if isinstance(record, Endpoint):
            network = self._intent.networks.get(record.network)
            return network.name if network else ""
        return record.name if isinstance(record, Network) else ""

    def _is_stranger(
        self, fact: NamespaceFact, one: InterfaceFact, path: str, wanted: Wanted | None, *, ours: bool
    ) -> bool:
        if wanted or one.loopback or (path, one.name) in self._intent.passing or one.alias in self._intent.known:
            return False
        # Elsewhere a mark may be that of another instance, whose host that namespace is.
        return ours or (fact is self._snapshot.host and one.alias.startswith("fairlead:"))

    def _disagreement(
        self, fact: NamespaceFact, one: InterfaceFact, path: str, wanted: Wanted | None, *, ours: bool
    ) -> tuple[list[str], list[str], list[str]]:
        """Addresses that are missing, those that are nobody's, and what else is not as wanted."""
        if wanted is None or (path, one.name) in self._intent.passing:
            return [], [], []
        missing = [text_of(address) for address in sorted(wanted.addresses - set(one.addresses), key=_numeric)]
        made_by_us = wanted.kind and not one.loopback
        extra = [
            text_of(address)
            for address in one.addresses
            if made_by_us and address not in wanted.addresses and not address.is_link_local
        ]
        faults = [f"{address} is missing" for address in missing]
        faults += [f"{address} is from no record" for address in extra]
        if wanted.kind and wanted.kind != one.kind:
            faults.append(f"it should be a {wanted.kind}")
        master = self._names[fact.inode].get(one.master, "")
        if wanted.master and wanted.master != master:
            faults.append(f"it should be a port of {wanted.master}")
        if wanted.up and not one.up:
            faults.append("it should be up")
        return missing, extra, faults

    def _missing_ports(self, path: str, has: set[str]) -> list[Port]:
        return [
            Port(
                name=name,
                kind=wanted.kind,
                master=wanted.master,
                missing_addresses=tuple(text_of(address) for address in sorted(wanted.addresses, key=_numeric)),
                network=self._network_of(wanted),
                record=wanted.record.id if wanted.record else "",
                mark="missing",
                note="the kernel has no such interface",
            )
            for name, wanted in self._wanted.get(path, {}).items()
            if name not in has and wanted.kind
        ]

    # Routes

    def _routes(self, fact: NamespaceFact, path: str | None) -> Iterator[Route]:
        names = self._names[fact.inode]
        has = set()
        for route in fact.routes:
            name = names.get(route.interface, "")
            has.add((route.destination, route.gateway, name))
            yield _route(route, name)
        for name, wanted in self._wanted.get(path, {}).items() if path is not None else ():
            for step in wanted.routes:
                if (step.destination, step.gateway, name) not in has and (path, name) not in self._intent.passing:
                    lost = RouteFact(step.destination, step.gateway)
                    yield msgspec.structs.replace(_route(lost, name), mark="missing")


def _vlans(row: VlanRow) -> Vlans:
    return Vlans(first=row.first, last=row.last, pvid=row.pvid, untagged=row.untagged)


def _route(route: RouteFact, name: str) -> Route:
    return Route(
        destination=text_of(route.destination) if route.destination.prefixlen else "default",
        gateway=text_of(route.gateway) if route.gateway else "",
        interface=name if route.type == "unicast" else "",
        metric=route.metric,
        type=route.type,
        version=route.destination.version,
    )


def _net(network: Network) -> Net:
    return Net(
        id=network.id,
        name=network.name,
        driver=network.driver,
        subnets=tuple(text_of(pool.subnet) for pool in network.pools),
        gateways=tuple(text_of(pool.gateway) for pool in network.pools if pool.gateway),
        interface=network.ifname or network.parent,
        internal=network.internal,
    )


def _published(rooms: Iterable[Room], intent: Intent, nat: Nat) -> Iterator[Published]:
    owner: dict[str, str] = {}
    for room in rooms:
        # Of several with one address ours is meant, or one that a manager of containers made.
        for port in room.ports:
            for address in port.addresses:
                plain = address.partition("/")[0]
                if plain not in owner or room.manager == OURS:
                    owner[plain] = room.id
    wanted = {key: step for key, step in intent.elements.items() if key[0].startswith("ports")}
    for one in nat.redirects:
        mark: Mark = ""
        if one.manager == OURS:
            set_ = one.rule.removeprefix("map ")
            on = f"{one.host_ip} . " if one.host_ip else ""
            step = wanted.pop((set_, f"{one.protocol} . {on}{one.host_port}"), None)
            mark = "unowned" if step is None else "" if step.value == f"{one.address} . {one.port}" else "differs"
        yield Published(
            protocol=one.protocol,
            host_ip=one.host_ip,
            host_port=one.host_port,
            address=one.address,
            port=one.port,
            version=one.version,
            namespace=owner.get(one.address, ""),
            manager=one.manager,
            rule=one.rule,
            mark=mark,
        )
    for (set_, key), step in wanted.items():
        protocol, *host, number = key.split(" . ")
        address, port_there = step.value.split(" . ")
        yield Published(
            protocol=protocol,
            host_ip=host[0] if host else "",
            host_port=int(number),
            address=address,
            port=int(port_there),
            version=4 if set_.startswith("ports4") else 6,
            namespace=owner.get(address, ""),
            manager=OURS,
            rule=f"map {set_}",
            mark="missing",
        )


def _network_order(network: Network) -> tuple[bool, str]:
    return (not network.predefined, network.name)


def _numeric(interface: Interface) -> tuple[int, int]:
    return interface.version, int(interface)


def _natural(name: str) -> list[tuple[int, int | str]]:
    """Numbers in a name count as such: a2 before a10."""
    found: list[tuple[int, int | str]] = []
    digits = ""
    for character in f"{name}\0":
        if character.isdecimal():
            digits += character
            continue
        if digits:
            found.append((0, int(digits)))
            digits = ""
        found.append((1, character))
    return found
