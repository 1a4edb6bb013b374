"""Walks the way that a packet should go by what the namespaces themselves say: routes, links, bridges, neighbours.

From a namespace a route look-up gives an interface and a next hop; whoever has the next hop's address on the wire is
the next namespace; and so on until the address is somebody's own.  Only questions are asked.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import msgspec

from fairlead.errors import FairleadError, NotFound
from fairlead.kernel import Kernel, discovery, lookup, sysctl
from fairlead.kernel.netlink import Socket
from fairlead.kernel.survey import AddressRow, LinkRow, NeighbourRow, forwarding, neighbours
from fairlead.model import Address
from fairlead.see.reader import Reader
from fairlead.see.trace.model import Direction, Leg, MissingVlan, Place, Port, Route
from fairlead.see.trace.places import Places
from fairlead.see.trace.vlans import Plug, lacking

MOST_LEGS = 8

_LEAST_MTU = 1280
"""Of IPv6."""

_STACKED = ("macvlan", "ipvlan", "vlan")
"""The kinds of links that stand on another."""

End = tuple[int, str]
"""A namespace and the name of a link there."""


@dataclass
class Snapshot:
    """A namespace's links and its addresses of one family, by the link's index."""

    place: Place
    links: dict[int, LinkRow] = field(default_factory=dict)
    addresses: dict[int, list[AddressRow]] = field(default_factory=dict)

    def named(self, name: str) -> LinkRow | None:
        """A link by name."""
        return next((link for link in self.links.values() if link.name == name), None)


@dataclass
class Wire:
    """What a link leads to."""

    bridge: End | None = None
    barrier: str = ""
    barrier_at: End | None = None
    cut: tuple[str, End] | None = None
    """Where a cable to a further bridge is no way; a barrier only for who would be behind it."""
    outside: bool = False
    stations: list[End] = field(default_factory=list)


class Survey:
    """For one address family; remembers what it has read."""

    def __init__(self, kernel: Kernel, reader: Reader, places: Places, version: int) -> None:
        self._kernel, self._reader, self._places, self._version = kernel, reader, places, version
        self._snapshots: dict[int, Snapshot] = {}
        self.used: dict[int, Place] = {}
        """The namespaces that the walks came through."""
        self._entered: set[End] = set()
        """The bridges whose ports are being looked at."""
        self._neighbours: dict[int, list[NeighbourRow]] = {}

    def keep_neighbours(self) -> None:
        """Keep which hardware addresses are known on the way so far: when we ask, who is asked learns them."""
        self._neighbours = {inode: neighbours(self._socket(inode)) for inode in self.used}

    def snapshot(self, inode: int) -> Snapshot:
        """A namespace's links; empty if it is gone."""
        if inode not in self._snapshots:
            place = self._places.known(inode) or Place(inode=inode, name=f"net:[{inode}]", path="/nonexistent")
            found = self._snapshots[inode] = Snapshot(place)
            if reading := self._reader.read(inode):
                found.links = reading.links
                for row in reading.addresses:
                    if row.interface.version == self._version:
                        found.addresses.setdefault(row.index, []).append(row)
        return self._snapshots[inode]

    def name(self, inode: int, index: int) -> str:
        """The name of a link."""
        if not index:
            return ""
        link = self.snapshot(inode).links.get(index)
        return link.name if link else f"#{index}"

    def port(self, end: End) -> Port | None:
        """A link as the verdict wants to know it."""
        shot = self.snapshot(end[0])
        link = shot.named(end[1])
        if not link:
            return None
        rows = shot.addresses.get(link.index, ())
        family = f"net/ipv{self._version}/conf"
        forwards, alone_not, strict, ignore, six = True, False, 0, 0, ""
        with contextlib.suppress(FairleadError, OSError), self._kernel.namespaces.entered(shot.place.path):
            one = link.name if self._version == 4 else "all"
            forwards = sysctl.read(f"{family}/{one}/forwarding") == "1"
            if self._version == 6:
                disabled = sysctl.read(f"{family}/{link.name}/disable_ipv6")
                six = "small" if disabled is None and link.mtu < _LEAST_MTU else "disabled" if disabled == "1" else ""
            alone_not = not forwards and sysctl.read(f"{family}/all/forwarding") == "1"
            # Of these two the greater counts.
            strict, ignore = (
                max(int(sysctl.read(f"net/ipv4/conf/{which}/{word}") or "0") for which in ("all", link.name))
                for word in ("rp_filter", "arp_ignore")
            )
        return Port(
            namespace=end[0],
            name=link.name,
            index=link.index,
            kind=link.kind,
            up=link.up,
            carrier=link.carrier,
            mtu=link.mtu,
            mac=link.mac,
            master=self.name(end[0], link.master),
            isolated=link.isolated,
            vlan=self._tag(end),
            addresses=tuple(str(row.interface) for row in rows),
            duplicates=tuple(str(row.interface) for row in rows if row.broken),
            tentative=tuple(str(row.interface) for row in rows if row.tentative and not row.broken),
            forwards=forwards,
            forwards_alone_not=alone_not,
            rp_filter=strict if self._version == 4 else 0,
            arp=link.arp,
            arp_ignore=ignore,
            six=six,  # type: ignore[arg-type]
            state="" if link.port_state == "forwarding" else link.port_state,
            unflooded=link.unflooded,
            peer=self.peer(end),
        )

    def walk(
        self,
        direction: Direction,
        start: int,
        source: Address | None,
        to: Address,
        *,
        rewritten: dict[tuple[int, str], str],
        thorough: bool,
        ask: bool = True,
    ) -> Iterator[Leg]:
        """The legs from a namespace to an address.

        `rewritten`: where destinations are replaced on the way, by namespace and old address.  `thorough`: look at
        every wire's stations, which with hundreds of them takes a while.  `ask`: ask the wires who has an address.
        """
        inode, came_in = start, 0
        for _ in range(MOST_LEGS):
            leg, following = self._leg(direction, inode, source, to, came_in, thorough, ask)
            changed = rewritten.get((inode, str(to)), "")
            yield leg
            if leg.route.kind == "local" and changed and changed != str(to):
                to = ip_address(changed)
                continue
            if source is None and leg.route.source:
                source = ip_address(leg.route.source)
            if not following:
                return
            inode, name = following
            link = self.snapshot(inode).named(name)
            came_in = link.index if link else 0

    def _leg(
        self,
        direction: Direction,
        inode: int,
        source: Address | None,
        to: Address,
        came_in: int,
        thorough: bool,
        ask: bool,
    ) -> tuple[Leg, End | None]:
        shot = self.snapshot(inode)
        self.used[inode] = shot.place
        door = (came_in, self.name(inode, came_in)) if came_in else None
        answer = lookup.route(self._socket(inode), to, source=source if came_in else None, came_in=door)
        route = self._said(inode, answer)
        leg = Leg(
            direction=direction,
            namespace=inode,
            came_in=self.name(inode, came_in),
            source=str(source or answer.source or ""),
            to=str(to),
            route=route,
            back=self.route(inode, source) if came_in and source else Route(),
        )
        if answer.error and thorough:
            leg = msgspec.structs.replace(leg, elsewhere=tuple(end for end in self._everyone() if self._has(end, to)))
        if answer.error or answer.kind == "local":
            return leg, None
        following = answer.gateway or to
        out = (inode, route.interface)
        wire = self.wire(out, thorough=thorough, wanted=following)
        holders = tuple(end for end in wire.stations if self._has(end, following))
        # Where a bridge filters VLANs, who is in ours comes first; the others may have the same addresses.
        lacks = {end: missing for end in holders if (missing := self._lacking(out, end))}
        holders = tuple(end for end in holders if end not in lacks) or holders
        elsewhere: tuple[End, ...] = ()
        if thorough and not holders:
            elsewhere = tuple(end for end in self._everyone() if end != out and self._has(end, following))
        neighbour = self._neighbour(out, following) if thorough else ""  # Before we ask ourselves.
        macs, own = self._ask(out, following, answer.source) if ask else (None, ())
        barrier, barrier_at = wire.barrier, wire.barrier_at
        if not barrier and holders:
            barrier, barrier_at = self._far_barrier(out, holders[0])
        missing_vlan = None
        if not barrier and holders and holders[0] in lacks:
            barrier, (barrier_at, missing_vlan) = "vlan", lacks[holders[0]]
        if not barrier and holders and thorough:
            barrier, barrier_at = self._forwarded(wire.bridge, holders[0], asked=macs is not None and not macs)
        if not holders and (over := [end for end in elsewhere if self._are_stacked(out, end)]):
            barrier, barrier_at = "parent", over[0]
        if not barrier and not holders and elsewhere and wire.cut:
            barrier, barrier_at = wire.cut
        if not barrier and not holders:
            for end in elsewhere:
                far = self.wire(end, thorough=False)
                if far.barrier:
                    barrier, barrier_at = far.barrier, far.barrier_at
                    break
        leg = Leg(
            direction=leg.direction,
            namespace=inode,
            came_in=leg.came_in,
            source=leg.source,
            to=leg.to,
            route=route,
            back=leg.back,
            next_hop=str(following),
            bridge=wire.bridge,
            barrier=barrier,  # type: ignore[arg-type]
            barrier_at=barrier_at,
            missing_vlan=missing_vlan,
            outside=wire.outside,
            holders=holders,
            elsewhere=elsewhere,
            neighbour=neighbour,
            macs=macs,
            own_macs=own,
        )
        return leg, holders[0] if holders else None

    def route(self, inode: int, to: Address) -> Route:
        """How a namespace itself sends to an address."""
        return self._said(inode, lookup.route(self._socket(inode), to))

    def _socket(self, inode: int) -> Socket:
        reading = self._reader.read(inode)
        if reading is None:
            raise NotFound(f"the network namespace of {self.snapshot(inode).place.name} is gone")
        return reading.socket

    def _said(self, inode: int, answer: lookup.RouteAnswer) -> Route:
        return Route(
            error=errno.errorcode.get(answer.error, str(answer.error)) if answer.error else "",
            kind=answer.kind,
            matched=answer.matched,
            table=answer.table,
            rule=answer.rule,
            gateway=str(answer.gateway or ""),
            interface=self.name(inode, answer.index),
            source=str(answer.source or ""),
        )

    def _ask(
        self, out: End, following: Address, source: Address | None
    ) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
        """Who answers for the next hop, and who else for our own address; None where it cannot be asked."""
        link = self.snapshot(out[0]).named(out[1])
        if not link or not link.up or not link.mac or link.name == "lo":
            return None, ()
        asks = source or next(iter(self._own(out)), None)
        if following.version == 6 and asks is None:
            return None, ()
        try:
            with self._kernel.namespaces.entered(self.snapshot(out[0]).place.path):
                macs = tuple(discovery.who_has(link.name, following, asks or following))
                own = tuple(discovery.who_has(link.name, source, source, patience=0.05)) if source else ()
        except OSError:
            return None, ()
        return macs, own

    def _own(self, end: End) -> list[Address]:
        """The addresses of a link, but for those that do not work."""
        shot = self.snapshot(end[0])
        link = shot.named(end[1])
        return [row.interface.ip for row in shot.addresses.get(link.index, ()) if not row.broken] if link else []

    def wire(self, end: End, *, thorough: bool, wanted: Address | None = None) -> Wire:
        """What is on the other side of a link, and what keeps frames from getting there.

        Without `thorough`, of a bridge's ports only the known namespaces' are looked at, or until `wanted` is found.
        """
        shot = self.snapshot(end[0])
        link = shot.named(end[1])
        if not link:
            return Wire(barrier="no-peer", barrier_at=end)
        if not link.up:
            return Wire(barrier="down", barrier_at=end)
        if link.kind == "bridge":
            wire = Wire(bridge=end)
            if not link.carrier:
                wire.barrier, wire.barrier_at = "no-carrier", end
            self._on_bridge(end, wire, thorough, wanted)
            return wire
        if link.master and self._is_bridge(end[0], link.master):
            wire = Wire(bridge=(end[0], self.name(end[0], link.master)))
            assert wire.bridge is not None
            self._on_bridge(wire.bridge, wire, thorough, wanted)
            return wire
        if link.kind == "veth":
            return self._veth(end, link, thorough, wanted)
        if link.kind in _STACKED:
            return self._stacked(end, link, thorough)
        wire = Wire(outside=link.kind != "dummy" and link.name != "lo")
        if not link.carrier:
            wire.barrier, wire.barrier_at = "no-carrier", end
        return wire

    def _veth(self, end: End, link: LinkRow, thorough: bool, wanted: Address | None) -> Wire:
        peer = self.peer(end)
        if peer is None:
            return Wire(barrier="" if link.carrier else "no-carrier", barrier_at=end, outside=link.carrier)
        far = self.snapshot(peer[0]).named(peer[1])
        assert far is not None
        if not far.up:
            return Wire(barrier="peer-down", barrier_at=peer)
        if far.master and self._is_bridge(peer[0], far.master):
            bridge = (peer[0], self.name(peer[0], far.master))
            wire = Wire(bridge=bridge)
            carrier = self.snapshot(bridge[0]).named(bridge[1])
            if carrier and not carrier.up:
                wire.barrier, wire.barrier_at = "bridge-down", bridge
            elif far.port_state not in ("", "forwarding"):
                wire.barrier, wire.barrier_at = "blocked", peer
            self._on_bridge(bridge, wire, thorough, wanted)
            wire.stations = [station for station in wire.stations if station != end]
            return wire
        wire = Wire(stations=[peer])
        # That of an IPv6 link comes by itself.
        if not any(not (one.version == 6 and one.is_link_local) for one in self._own(peer)):
            wire.barrier, wire.barrier_at = "no-master", peer
        return wire

    def _stacked(self, end: End, link: LinkRow, thorough: bool) -> Wire:
        """The wire of a link that stands on another: that one's, and for a VLAN whoever there has the same tag."""
        parent = self.peer(end)
        if parent is None:
            return Wire(barrier="" if link.carrier else "parent-down", barrier_at=end, outside=True)
        below = self.wire(parent, thorough=thorough)
        wire = Wire(outside=below.outside)
        if below.barrier in ("down", "no-peer"):
            wire.barrier, wire.barrier_at = "parent-down", parent
        elif below.barrier in ("no-carrier", "peer-down", "bridge-down", "parent-down"):
            wire.barrier, wire.barrier_at = below.barrier, below.barrier_at
        above = self._above()
        stations = below.stations
        if link.kind == "vlan":
            tag = link.data.get("id")
            tagged = [one for station in stations for one in above.get(station, ())]
            same = [there for there, one in tagged if one.kind == "vlan" and one.data.get("id") == tag]
            # A bridge that filters VLANs may take the tag off on the way.
            plug = self._plug(parent)
            plain = stations if plug and plug.port.vlans is not None else []
            stations = [*(one for one in plain if not self._tag(one)), *(one for one in same if one != end)]
        else:
            # Not the parent itself, which does not hear them, nor they it.
            wire.stations = [there for there, one in above.get(parent, ()) if one.kind == link.kind and there != end]
        wire.stations += stations
        wire.stations += [there for on in stations for there, one in above.get(on, ()) if one.kind != "vlan"]
        return wire

    def _above(self) -> dict[End, list[tuple[End, LinkRow]]]:
        """What stands on each link."""
        above: dict[End, list[tuple[End, LinkRow]]] = {}
        for shot in self._known():
            for one in shot.links.values():
                if one.kind in _STACKED and (under := self.peer((shot.place.inode, one.name))):
                    above.setdefault(under, []).append(((shot.place.inode, one.name), one))
        return above

    def _on_bridge(self, bridge: End, wire: Wire, thorough: bool, wanted: Address | None) -> None:
        if bridge in self._entered:
            return  # A ring of bridges, by way of their VLANs.
        self._entered.add(bridge)
        try:
            self._at_ports(bridge, wire, thorough, wanted)
        finally:
            self._entered.remove(bridge)

    def _at_ports(self, bridge: End, wire: Wire, thorough: bool, wanted: Address | None) -> None:
        shot = self.snapshot(bridge[0])
        master = shot.named(bridge[1])
        if not master:
            return
        wire.stations.append(bridge)
        thorough |= master.vlans is not None  # Several may have the address, each in a VLAN of its own.
        if not wire.barrier and not any(port.master == master.index and port.up for port in shot.links.values()):
            wire.barrier, wire.barrier_at = "no-carrier", bridge
        if wanted and self._has(bridge, wanted) and not thorough:
            return
        ports = [port for port in shot.links.values() if port.master == master.index]
        wire.outside |= any(port.kind not in ("veth", "vlan") for port in ports)
        # Those that are known already first: on a wire of hundreds they may be all that is needed.
        ports.sort(key=lambda port: self._reader.behind(bridge[0], port) not in self._snapshots)
        for port in ports:
            if port.kind == "vlan":
                tagged = self._stacked((bridge[0], port.name), port, thorough)
                wire.stations += [station for station in tagged.stations if station not in wire.stations]
                wire.outside |= tagged.outside
            if port.kind == "veth" and (peer := self.peer((bridge[0], port.name))) and peer not in wire.stations:
                wire.stations.append(peer)
                if wanted and not thorough and self._has(peer, wanted):
                    return
                self._on_patched(bridge, port, peer, wire, thorough, wanted)
        if master.vlans is not None:
            # What one of them sends with a tag may reach another without.
            above = self._above()
            upper = [there for on in wire.stations for there, one in above.get(on, ()) if one.kind == "vlan"]
            wire.stations += [station for station in upper if station not in wire.stations]

    def _on_patched(
        self, bridge: End, port: LinkRow, peer: End, wire: Wire, thorough: bool, wanted: Address | None
    ) -> None:
        """Go on where a cable leads from one bridge to another."""
        far = self.snapshot(peer[0]).named(peer[1])
        if not far or self._own(peer):
            return
        further = (peer[0], self.name(peer[0], far.master)) if far.master else None
        if further is None or not self._is_bridge(peer[0], far.master):
            if not self._is_namespace_of_one(peer):
                wire.cut = wire.cut or ("no-master", peer)
        elif further != bridge and further not in wire.stations:
            if not port.up or not far.up:
                wire.cut = wire.cut or ("down", peer if not far.up else (bridge[0], port.name))
                return
            wire.stations.append((bridge[0], port.name))
            self._on_bridge(further, wire, thorough, wanted)

    def _is_namespace_of_one(self, end: End) -> bool:
        """Whether an end is that of a namespace which just has no address there, not a lost cable between bridges."""
        return not any(self._is_bridge(end[0], index) for index in self.snapshot(end[0]).links)

    def _far_barrier(self, out: End, holder: End) -> tuple[str, End | None]:
        """What keeps a holder of the address from being reached, seen from its own side."""
        link = self.snapshot(holder[0]).named(holder[1])
        if not link:
            return "", None
        if not link.up:
            return "down", holder
        mine = self.snapshot(out[0]).named(out[1])
        if link.kind == "macvlan" and mine and mine.kind == "macvlan" and self.peer(out) == self.peer(holder):
            # Those of other modes send through the parent to the switch, which seldom sends anything back.
            apart = next((end for end, row in ((out, mine), (holder, link)) if row.data.get("mode") != "bridge"), None)
            return ("private", apart) if apart else ("", None)
        if link.kind != "veth":
            return "", None
        theirs = self.peer(holder)
        ours = self.peer(out)
        far = self.snapshot(theirs[0]).named(theirs[1]) if theirs else None
        near = self.snapshot(ours[0]).named(ours[1]) if ours else None
        if theirs and far and not far.up:
            return "peer-down", theirs
        if theirs and far and near and far.isolated and near.isolated and far.master == near.master:
            return "isolated", theirs
        if theirs and far and far.port_state not in ("", "forwarding"):
            return "blocked", theirs
        return "", None

    def _are_stacked(self, one: End, other: End) -> bool:
        """Whether one link is a macvlan or the like on the other: those two do not hear each other."""
        for upper, lower in ((one, other), (other, one)):
            link = self.snapshot(upper[0]).named(upper[1])
            if link and link.kind in ("macvlan", "ipvlan") and self.peer(upper) == lower:
                return True
        return False

    def _neighbour(self, out: End, address: Address) -> str:
        """The hardware address that a namespace holds for a neighbour."""
        link = self.snapshot(out[0]).named(out[1])
        kept = self._neighbours.get(out[0])
        known = neighbours(self._socket(out[0])) if kept is None else kept
        return next((row.mac for row in known if link and row.index == link.index and row.address == address), "")

    def _forwarded(self, bridge: End | None, holder: End, *, asked: bool) -> tuple[str, End | None]:
        """What keeps a bridge from passing frames on to a holder, `asked`: who was asked for in vain."""
        link = self.snapshot(holder[0]).named(holder[1])
        theirs = self.peer(holder)
        if not bridge or not link or not theirs or theirs[0] != bridge[0]:
            return "", None
        shot = self.snapshot(bridge[0])
        master, port = shot.named(bridge[1]), shot.named(theirs[1])
        if not master or not port or port.master != master.index:
            return "", None
        known = forwarding(self._socket(bridge[0])).get((master.index, link.mac))
        if known and known.fixed and known.port != port.index:
            return "fixed", (bridge[0], self.name(bridge[0], known.port))
        question = "bcast_flood" if self._version == 4 else "mcast_flood"
        if (asked and question in port.unflooded) or (not known and "flood" in port.unflooded):
            return "unflooded", theirs
        return "", None

    def _lacking(self, one: End, other: End) -> tuple[End, MissingVlan] | None:
        """What keeps two apart at a bridge that filters VLANs."""
        near, far = self._plug(one), self._plug(other)
        return lacking(near, far) if near and far else None

    def _plug(self, end: End) -> Plug | None:
        """Where an interface's frames enter a bridge."""
        tag = 0
        while link := self.snapshot(end[0]).named(end[1]):
            if link.kind == "bridge":
                return Plug(end, end, link, tag)
            if link.master and self._is_bridge(end[0], link.master):
                return Plug((end[0], self.name(end[0], link.master)), end, link, tag)
            below = self.peer(end)
            far = self.snapshot(below[0]).named(below[1]) if below else None
            if not below or not far or (link.kind == "veth" and not far.master):
                return None
            tag = tag or self._tag(end)
            end = below
        return None

    def _tag(self, end: End) -> int:
        """The tag of a VLAN interface, 0 of any other."""
        link = self.snapshot(end[0]).named(end[1])
        return int(link.data.get("id", 0)) if link and link.kind == "vlan" else 0

    def peer(self, end: End) -> End | None:
        """The other end of a veth pair, or the link that one stands on."""
        shot = self.snapshot(end[0])
        link = shot.named(end[1])
        if not link or not link.lower or link.kind not in ("veth", *_STACKED):
            return None
        far = self._reader.other_end(end[0], link)
        return (far[0], self.name(*far)) if far else None

    def _is_bridge(self, inode: int, index: int) -> bool:
        link = self.snapshot(inode).links.get(index)
        return bool(link and link.kind == "bridge")

    def _has(self, end: End, address: Address) -> bool:
        return address in self._own(end)

    def _known(self) -> list[Snapshot]:
        """The namespaces that have to do with us: those with a name, and those joined to the host or to one on the way.

        Others (of a virtual machine's test, say) may have the same addresses, but no wire leads there.
        """
        named = {inode for inode, place in self._places.all().items() if place.kind in ("host", "namespace")}
        named |= {inode for inode, place in self._places.all().items() if place.owner == "fairlead"} | set(self.used)
        joined = {
            behind
            for inode in {self._places.host.inode, *self.used}
            for link in self.snapshot(inode).links.values()
            if link.lower and (behind := self._reader.behind(inode, link))
        }
        return [self.snapshot(inode) for inode in sorted(named | joined)]

    def is_held(self, inode: int, address: Address) -> bool:
        """Whether somebody has an address, as far as this machine can know: far ones count as held."""
        route = self.route(inode, address)
        if route.kind == "local" or route.gateway:
            return True
        return not route.error and any(self._has(end, address) for end in self._everyone())

    def with_mac(self, mac: str) -> End | None:
        """A link of this machine by its hardware address."""
        for shot in self._known():
            for link in shot.links.values():
                if link.mac == mac:
                    return shot.place.inode, link.name
        return None

    def _everyone(self) -> Iterator[End]:
        """Every link of every namespace that has an address."""
        for shot in self._known():
            for index in shot.addresses:
                if index in shot.links:
                    yield shot.place.inode, shot.links[index].name
