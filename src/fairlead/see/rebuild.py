"""What exists now, as the shell lines that would build it again.

Of Fairlead's own the plans say it, as they do for everything else.  Of a foreign namespace the facts do: its links,
with their other ends, addresses and routes, in the words of ip(8).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fairlead.catalog import Catalog
from fairlead.containers.record import Container
from fairlead.errors import Conflict, NotFound
from fairlead.model import HOST, Network, Phase, Record, Sandbox
from fairlead.plan.netlink import ip, word
from fairlead.see.facts import InterfaceFact, NamespaceFact, Snapshot
from fairlead.see.ground import Ground

_PLAIN = re.compile(r"[\w.-]+", re.ASCII)
"""What may stand in a line as it is: a process, whose own name may be all that is known, chooses it freely."""


def lines(ground: Ground, ref: str) -> list[str]:
    """The lines for a network, container or namespace, by name or id; raises `NotFound`."""
    catalog = Catalog(ground.store)
    for find in (_network, _sandbox):
        try:
            return list(find(ground, catalog, ref))
        except NotFound:
            continue
    snapshot = ground.snapshot()
    for fact in snapshot.namespaces[1:]:
        owner = fact.owner
        if ref in (owner.name, owner.id, *(str(pid) for pid in fact.pids[:1])) or _begins(owner.id, ref):
            return list(_foreign(snapshot, fact))
    raise NotFound(f"No such network, container or namespace: {ref}")


def _begins(id_: str, ref: str) -> bool:
    return len(ref) >= 4 and id_.startswith(ref)


# Ours


def _network(ground: Ground, catalog: Catalog, ref: str) -> Iterator[str]:
    """The network itself, then those in it, each with its namespace."""
    network, owners = catalog.network(ref), ground.owners()
    yield from _record(ground, network, f"network {network.name}, driver {network.driver}")
    for endpoint in catalog.endpoints(network=network.id):
        sandbox = ground.store.get(Sandbox, endpoint.sandbox)
        if sandbox and endpoint.phase is Phase.READY:
            yield from _record(ground, sandbox, _title(sandbox, owners))
            yield from _record(ground, endpoint, f"{_name(sandbox, owners)} in network {network.name}")


def _find_sandbox(ground: Ground, catalog: Catalog, ref: str) -> Sandbox:
    containers = ground.store.all(Container)
    found = next((one for one in containers if ref in (one.name, one.id) or _begins(one.id, ref)), None)
    if found is None:
        return catalog.sandbox(ref)
    for sandbox in catalog.sandboxes():
        if sandbox.container == found.id:
            return sandbox
    if found.is_running:
        raise Conflict(f"container {found.name} uses the host's network: it has no namespace of its own")
    raise Conflict(
        f"container {found.name} is not running: `fairlead start {found.name} --explain` says what starts it"
    )


def _sandbox(ground: Ground, catalog: Catalog, ref: str) -> Iterator[str]:
    """The namespace, then its place in each network, then its straight links."""
    sandbox, owners = _find_sandbox(ground, catalog, ref), ground.owners()
    yield from _record(ground, sandbox, _title(sandbox, owners))
    for endpoint in catalog.endpoints(sandbox=sandbox.id):
        network = ground.store.get(Network, endpoint.network)
        if network and endpoint.phase is Phase.READY:
            needs = f" (which `fairlead explain {network.name}` builds)" if network.ifname else ""
            yield from _record(ground, endpoint, f"its place in network {network.name}{needs}")
    for link in catalog.links(sandbox=sandbox.id):
        ends = (f"{owners.get(end.sandbox, ('', 'host'))[1]}/{end.ifname}" for end in link.ends)
        yield from _record(ground, link, f"the link {' ── '.join(ends)}")


def _record(ground: Ground, record: Record, title: str) -> Iterator[str]:
    yield f"# {title}"
    yield from ground.planner.plan_of(record).shell()


def _title(sandbox: Sandbox, owners: dict[str, tuple[str, str]]) -> str:
    return f"{'container' if sandbox.container else 'namespace'} {_name(sandbox, owners)}"


def _name(sandbox: Sandbox, owners: dict[str, tuple[str, str]]) -> str:
    id_, name = owners.get(sandbox.id, (sandbox.id, sandbox.name))
    return name or id_[:12]


# Others'


def _foreign(snapshot: Snapshot, fact: NamespaceFact) -> Iterator[str]:
    words = (fact.owner.name, fact.owner.id[:12], "namespace")
    name = next(word for word in words if _PLAIN.fullmatch(word))
    path = f"/run/netns/{name}"
    yield f"# {fact.owner.manager} {name}: as it is now, by the name {name}"
    yield f"ip netns add {name}"
    yield from _masters(snapshot, fact)
    made: set[int] = set()
    for one in fact.interfaces:
        if one.index not in made:
            yield from _link(snapshot, fact, one, path, made)
    for one in fact.interfaces:
        if one.master and (master := fact.interface(one.master)):
            yield ip(path, f"link set {_q(one)} master {_q(master)}")
        if one.mtu and one.mtu != (65536 if one.loopback else 1500):
            yield ip(path, f"link set {_q(one)} mtu {one.mtu}")
        yield from _addresses(one, path)
        if one.up:
            yield ip(path, f"link set {_q(one)} up")
    yield from _routes(fact, path)


def _q(one: InterfaceFact) -> str:
    """An interface's name as a word of a line: who is root in a namespace may choose any."""
    return word(one.name)


def _masters(snapshot: Snapshot, fact: NamespaceFact) -> Iterator[str]:
    """The bridges of the host on which it hangs, unless they are there."""
    host = snapshot.host
    seen = set()
    for one in fact.interfaces:
        end = host.interface(one.peer.index) if one.peer and one.peer.namespace == host.inode else None
        bridge = host.interface(end.master) if end and end.master else None
        if bridge and bridge.kind == "bridge" and bridge.index not in seen:
            seen.add(bridge.index)
            yield f"ip link add {_q(bridge)} type bridge  # unless it is there"
            yield from _addresses(bridge, HOST)
            yield f"ip link set {_q(bridge)} up"


def _link(snapshot: Snapshot, fact: NamespaceFact, one: InterfaceFact, path: str, made: set[int]) -> Iterator[str]:
    """What makes a link, and puts its other end where it was."""
    if one.loopback:
        return
    mac = f" address {one.mac}" if one.mac else ""
    if one.kind == "veth" and one.peer:
        there = snapshot.namespace(one.peer.namespace)
        end = there.interface(one.peer.index) if there else None
        if there is None or end is None:
            return
        if there is fact:
            made.add(end.index)
            yield ip(path, f"link add {_q(one)}{mac} type veth peer name {_q(end)} address {end.mac}")
            return
        # From the other side, so that the line need not say where the host is.
        place = HOST if there is snapshot.host else there.place
        other = f"{_q(one)}{mac} netns {path.removeprefix('/run/netns/')}"
        yield ip(place, f"link add {_q(end)} address {end.mac} type veth peer name {other}")
        yield from _addresses(end, place)
        if end.master and (master := there.interface(end.master)):
            yield ip(place, f"link set {_q(end)} master {_q(master)}")
        if end.up:
            yield ip(place, f"link set {_q(end)} up")
    elif one.kind in ("macvlan", "ipvlan", "vlan") and one.parent:
        there = snapshot.namespace(one.parent.namespace)
        parent = there.interface(one.parent.index) if there else None
        if there and parent:
            words = {"vlan": f"id {one.data.get('id')}"}.get(one.kind, f"mode {one.data.get('mode')}")
            place, netns = path, ""
            if there is not fact:
                place = HOST if there is snapshot.host else there.place
                netns = f" netns {path.removeprefix('/run/netns/')}"
            own = mac if one.kind == "macvlan" else ""
            yield ip(place, f"link add link {_q(parent)} name {_q(one)}{own}{netns} type {one.kind} {words}")
    elif one.kind in ("bridge", "dummy"):
        yield ip(path, f"link add {_q(one)}{mac} type {one.kind}")
    else:
        yield f"# {one.name} is of a kind ({one.kind or 'device'}) that is not rebuilt by a line"


def _addresses(one: InterfaceFact, place: str) -> Iterator[str]:
    for address in one.addresses:
        if not address.ip.is_loopback and not (address.version == 6 and address.is_link_local):
            words = " brd +" if address.version == 4 and address.network.prefixlen < 31 else ""
            words += " nodad" if address.version == 6 else ""
            yield ip(place, f"addr add {address}{words} dev {_q(one)}")


def _routes(fact: NamespaceFact, path: str) -> Iterator[str]:
    """What its addresses do not bring along."""
    names = {one.index: _q(one) for one in fact.interfaces}
    own = {address.network for one in fact.interfaces for address in one.addresses}
    for route in fact.routes:
        if route.destination in own and route.gateway is None:
            continue
        where = str(route.destination) if route.destination.prefixlen else "default"
        family = "-6 " if route.destination.version == 6 else ""
        via = f" via {route.gateway}" if route.gateway else ""
        device = f" dev {names[route.interface]}" if route.interface in names and route.type == "unicast" else ""
        kind = "" if route.type == "unicast" else f"{route.type} "
        metric = f" metric {route.metric}" if route.metric and route.destination.version == 4 else ""
        if device or kind:
            yield ip(path, f"{family}route add {kind}{where}{via}{device}{metric}")
