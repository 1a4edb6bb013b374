"""A part of a topology: what belongs to some networks, containers or namespaces, and what leads to them."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from fairlead.errors import NotFound
from fairlead.see.topology import HOST_ID, Net, Port, Room, Topology


def only(topology: Topology, refs: Sequence[str]) -> Topology:
    """The part with these networks, containers, namespaces (by name, or by an id's beginning); all if none is given.

    The host stays, with the interfaces that lead there and its ways out.  Raises `NotFound`.
    """
    if not refs:
        return topology
    kept: dict[str, set[str] | None] = {}
    """The namespaces to keep, each with the interfaces to keep, or None: all."""
    nets: set[str] = set()
    for ref in refs:
        rooms = [room for room in topology.rooms if _is(ref, room.name, room.owner)]
        found = [net for net in topology.nets if _is(ref, net.name, net.id)]
        if not rooms and not found:
            raise NotFound(f"No such network, container or namespace: {ref}")
        for net in found:
            nets.add(net.id)
            _keep_net(topology, net, kept)
        for room in rooms:
            kept[room.id] = None
    _keep_ways(topology, kept)
    shown = {net.interface for net in topology.nets if net.id in nets}
    rooms = [_part(room, kept[room.id], shown) for room in topology.rooms if room.id in kept]
    bridges = {port.name for port in rooms[0].ports}
    return replace(
        topology,
        rooms=tuple(rooms),
        nets=tuple(net for net in topology.nets if net.id in nets or net.interface in bridges),
        published=tuple(one for one in topology.published if one.namespace in kept and one.namespace),
        left_out=0,
    )


def _is(ref: str, name: str, id_: str) -> bool:
    return ref == name or (len(ref) >= 4 and bool(id_) and id_.startswith(ref))


def _keep_net(topology: Topology, net: Net, kept: dict[str, set[str] | None]) -> None:
    for room in topology.rooms:
        names = {port.name for port in room.ports if port.network == net.name or _stands_on(port, net)}
        if room.kind == "host":
            names |= {port.name for port in room.ports if net.interface and port.master == net.interface}
            names |= {net.interface} if net.interface else set()
        # Whoever hangs on the bridge belongs to the network, Fairlead's or not.
        names |= {
            port.name
            for port in room.ports
            if port.peer and port.peer.namespace == HOST_ID and _master(topology, port.peer.interface) == net.interface
        }
        if names and (before := kept.setdefault(room.id, set())) is not None:
            before |= names


def _stands_on(port: Port, net: Net) -> bool:
    parent = port.parent
    return (
        bool(net.interface) and parent is not None and parent.namespace == HOST_ID and parent.interface == net.interface
    )


def _master(topology: Topology, name: str) -> str:
    port = topology.host.port(name)
    return (port.master if port else "") or "\0"


def _keep_ways(topology: Topology, kept: dict[str, set[str] | None]) -> None:
    """The host's interfaces that lead to what is kept, and its default routes'; the other ends of straight links."""
    host = kept.setdefault(HOST_ID, set())
    for id_ in list(kept):
        room = topology.room(id_)
        for port in room.ports if room and id_ != HOST_ID else ():
            if kept[id_] is not None and port.name not in (kept[id_] or ()):
                continue
            for place in (port.peer, port.parent):
                if place is None:
                    continue
                names = kept.setdefault(place.namespace, set())
                if names is not None:
                    names.add(place.interface)
    if host is not None:
        host |= {route.interface for route in topology.host.routes if route.destination == "default"}
        ports = {port.name: port for port in topology.host.ports}
        for name in list(host):
            host |= _under(name, ports)
        host |= {ports[name].master for name in list(host) if name in ports and ports[name].master}
        host |= {port.name for port in topology.host.ports if _joins(port, ports) <= host and _joins(port, ports)}


def _under(name: str, ports: dict[str, Port]) -> set[str]:
    """What an interface of the host stands on, all the way down: a VLAN, its link."""
    found: set[str] = set()
    while (port := ports.get(name)) and (below := port.parent) and below.namespace == HOST_ID:
        name = below.interface
        if name in found:
            break
        found.add(name)
    return found


def _joins(port: Port, ports: dict[str, Port]) -> set[str]:
    """The two bridges of the host that a cable joins, of which this is an end; none if it does not."""
    far = ports.get(port.peer.interface) if port.peer and port.peer.namespace == HOST_ID else None
    return {port.master, far.master} if far and port.master and far.master else set()


def _part(room: Room, names: set[str] | None, shown: set[str]) -> Room:
    if names is None:
        return room
    ports = tuple(port for port in room.ports if port.name in names or port.name in shown)
    has = {port.name for port in ports}
    return replace(room, ports=ports, routes=tuple(route for route in room.routes if route.interface in has))
