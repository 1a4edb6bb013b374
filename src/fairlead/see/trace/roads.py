"""Causes in routing: no way, a wrong one, one that the kernel does not believe.  Pure."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from fairlead.kernel.lookup import REFUSALS
from fairlead.plan.netlink import word
from fairlead.see.trace import addresses
from fairlead.see.trace.model import Leg, Membership, Observation, Port, Verdict
from fairlead.see.trace.words import (
    asked_for,
    at,
    broken,
    endpoint,
    first,
    ip,
    is_address,
    is_lost,
    run,
    setting,
    subject,
    there,
    version,
    within,
)


def rp_filter(seen: Observation) -> Verdict | None:
    """The kernel would answer by another interface than the packet came in by, and so does not believe its sender."""
    dropped = next((hop for hop in seen.hops if hop.kind == "drop" and hop.reason == "IP_RPFILTER"), None)
    if dropped:
        interface = dropped.interface or _came_in(seen, dropped.namespace)
        return _not_believed(seen, (dropped.namespace, interface), dropped.source)
    for leg in seen.legs:
        # The kernel answers EXDEV to the look-up of such a packet; since 6.14 or so EINVAL.
        if leg.route.error not in ("EXDEV", "EINVAL") or not leg.came_in or leg.back.interface == leg.came_in:
            continue
        port = seen.port((leg.namespace, leg.came_in))
        if port and (port.rp_filter == 1 or (port.rp_filter == 2 and leg.back.error)):
            return _not_believed(seen, (leg.namespace, leg.came_in), leg.source)
    return None


def _came_in(seen: Observation, namespace: int) -> str:
    return next((hop.interface for hop in seen.hops if hop.kind == "receive" and hop.namespace == namespace), "")


def _not_believed(seen: Observation, end: tuple[int, str], source: str) -> Verdict:
    place = seen.place(end[0])
    address, _ = endpoint(source)
    names = [f"net.ipv4.conf.{name}.rp_filter" for name in ("all", setting(end[1]))]
    leg = next((leg for leg in seen.legs if (leg.namespace, leg.came_in) == end), None)
    if leg and leg.back.error:
        # That it does not believe even when it is loose.
        why = "it has no route back"
        sender = first(seen)
        near = sender and end in sender.holders
        off = run(place, f"sysctl -w {' '.join(f'{name}=0' for name in names)}")
        remedy = ip(place, f"route add {address} dev {word(end[1])}") if near else off
    else:
        why = f"its own route back to {address} is not by {end[1]}"
        remedy = run(place, f"sysctl -w {' '.join(f'{name}=2' for name in names)}")
    return Verdict(
        ok=False,
        cause="rp-filter",
        sentence=f"The kernel {there(place)} drops what comes from {address} by {end[1]}: {why}, and rp_filter is on.",
        remedies=(remedy, ip(place, f"route get {address}")),
    )


def overlap(seen: Observation) -> Verdict | None:
    """A route of the host (a VPN's, say) covers addresses of a container network."""
    if seen.outcome.kind == "refused":
        return None
    host = next((place for place in seen.places if place.kind == "host"), None)
    if host is None:
        return None
    for leg in seen.legs:
        if leg.namespace != host.inode or leg.route.kind == "local" or not leg.route.interface or leg.holders:
            continue
        # Who has the address is reached by another interface than the one that the route leads to.
        for holder in leg.elsewhere:
            bridge = _attached(seen, holder)
            if bridge and bridge.name != leg.route.interface and within(leg.to, bridge.addresses):
                subnet = next(a for a in bridge.addresses if within(leg.to, (a,)))
                return _overlapping(seen, leg, bridge, str(ip_interface(subnet).network))
    return _into_the_other(seen, host.inode)


def _attached(seen: Observation, holder: tuple[int, str]) -> Port | None:
    """The bridge that a link is at."""
    inner = seen.port(holder)
    outer = seen.port(inner.peer) if inner and inner.peer else None
    return seen.port((outer.namespace, outer.master)) if outer and outer.master else None


def _overlapping(seen: Observation, leg: Leg, bridge: Port, subnet: str) -> Verdict:
    place = seen.place(leg.namespace)
    return Verdict(
        ok=False,
        cause="overlap",
        sentence=f"The host's route to {leg.route.matched} by {leg.route.interface} covers {leg.to}, which is at "
        f"{bridge.name} ({subnet}): packets for it leave by {leg.route.interface}{subject(leg)}.",
        remedies=(
            ip(place, f"route replace {leg.to} dev {word(bridge.name)}"),
            "fairlead network create --subnet ANOTHER-SUBNET NAME",
        ),
    )


def _into_the_other(seen: Observation, host: int) -> Verdict | None:
    """The source looks for the address on its own wire, though the host has a route to elsewhere for it."""
    leg, route = first(seen), seen.covering
    if not leg or not route or leg.route.gateway or leg.barrier or not is_lost(leg):
        return None
    if route.matched == leg.route.matched:
        return None  # The host's own way to that network.
    return Verdict(
        ok=False,
        cause="overlap",
        sentence=f"{leg.to} is in the subnet {leg.route.matched} of {seen.source.name}'s own network, where nobody has "
        f"it; the host has a route to {route.matched} by {route.interface}, which that subnet overlaps.",
        remedies=(
            "fairlead network create --subnet ANOTHER-SUBNET NAME",
            ip(seen.source, f"route add {route.matched} via {_router(seen, leg)}"),
        ),
    )


def _router(seen: Observation, leg: Leg) -> str:
    """The address by which the host is reached on the wire of a leg."""
    if leg.bridge and (port := seen.port(leg.bridge)):
        for text in port.addresses:
            if within(str(ip_interface(text).ip), _addresses(seen, leg)):
                return str(ip_interface(text).ip)
    for one in seen.memberships:
        if one.namespace == leg.namespace and one.gateways:
            return one.gateways[0]
    peer = seen.port((leg.namespace, leg.route.interface))
    far = seen.port(peer.peer) if peer and peer.peer else None
    return str(ip_interface(far.addresses[0]).ip) if far and far.addresses else ""


def _addresses(seen: Observation, leg: Leg) -> tuple[str, ...]:
    return tuple(a for port in seen.ports if port.namespace == leg.namespace for a in port.addresses)


def exhausted(seen: Observation) -> Verdict | None:
    """The packet's time to live ran out: it goes round in a ring, or passes more routers than it may."""
    late = "11/0" if version(seen) == 4 else "3/0"
    told = next((hop for hop in seen.hops if hop.direction == "error" and hop.icmp == late), None)
    end = next((hop for hop in seen.hops if hop.kind == "drop" and hop.reason == "IP_INHDR"), told)
    if not told or not end:
        return None
    legs = [leg for leg in seen.legs if leg.direction == ("request" if end.direction == "error" else end.direction)]
    ring: list[Leg] = []
    for number, leg in enumerate(legs):
        again = [n for n, one in enumerate(legs[:number]) if (one.namespace, one.to) == (leg.namespace, leg.to)]
        if again:
            ring = legs[again[0] : number]
            break
    if ring:
        ways = [
            f"{seen.place(leg.namespace).name} by its route to {leg.route.matched} via {leg.next_hop}" for leg in ring
        ]
        # The default routes of a ring are seldom the wrong ones.
        wrong = next((leg for leg in ring if leg.route.matched != "default"), ring[0])
        place = seen.place(wrong.namespace)
        return Verdict(
            ok=False,
            cause="ttl",
            sentence=f"Packets to {ring[0].to} go round in a ring{subject(ring[0])} until their time to live is over: "
            f"{', and '.join(ways)}.",
            remedies=(ip(place, f"route del {wrong.route.matched} via {wrong.next_hop}"),),
        )
    place = seen.place(legs[0].namespace if legs else seen.source.inode)
    interface = setting(legs[0].route.interface) if legs else "all"
    name = "net.ipv4.ip_default_ttl" if version(seen) == 4 else f"net.ipv6.conf.{interface}.hop_limit"
    return Verdict(
        ok=False,
        cause="ttl",
        sentence=f"The time to live of the packet is over when it comes to "
        f"{seen.place(end.namespace).name}: it passes more routers than it may.",
        remedies=(run(place, f"sysctl -w {name}=64"),),
    )


def no_address(seen: Observation) -> Verdict | None:
    """The sender has no address of this family at all."""
    leg = broken(seen)
    if not leg or leg.came_in or leg.route.error not in ("ENETUNREACH", "EHOSTUNREACH"):
        return None
    if seen.place(leg.namespace).kind == "host":
        return None
    links = [port for port in seen.ports if port.namespace == leg.namespace and port.name != "lo"]
    usable = [text for port in links for text in port.addresses if not ip_interface(text).is_link_local]
    place = seen.place(leg.namespace)
    if not links:
        networks = [one.network for one in seen.memberships if one.namespace == leg.namespace]
        join = f"fairlead network connect NETWORK {place.name}" if place.owner == "fairlead" else ""
        return Verdict(
            ok=False,
            cause="no-interface",
            sentence=f"{place.name} has no interface but its loopback"
            + (f", though it should be in {', '.join(networks)}." if networks else ": it is in no network."),
            remedies=(join or "fairlead topology",),
        )
    if usable:
        return None
    link = links[0]
    if off := next((port for port in links if port.six), None):
        return addresses.without_six(seen, off)
    for one in seen.memberships:
        for text in one.addresses:
            if one.namespace == leg.namespace and ip_interface(text).version == version(seen):
                remedies = [ip(place, f"addr add {text} dev {word(one.interface)}")]
                if one.gateways and not one.internal and not within(leg.to, (text,)):
                    remedies.append(ip(place, f"route add default via {one.gateways[0]}"))
                return _without(seen, leg, one.interface, remedies)
    suggestion = _address_near(seen, link) or "ADDRESS/LENGTH"
    return _without(seen, leg, link.name, [ip(place, f"addr add {suggestion} dev {word(link.name)}")])


def _without(seen: Observation, leg: Leg, interface: str, remedies: list[str]) -> Verdict:
    return Verdict(
        ok=False,
        cause="missing-address",
        sentence=f"{at(seen, (leg.namespace, interface))} has no IPv{version(seen)} address, so there is no route to "
        f"{leg.to}{subject(leg)}.",
        remedies=tuple(remedies),
    )


def _address_near(seen: Observation, link: Port) -> str:
    """An address in the subnet of the target's, where it is on the same wire: the first that nobody here has."""
    taken = {ip_interface(text).ip for port in seen.ports for text in port.addresses}
    for port in seen.ports:
        for text in port.addresses:
            if port.namespace != link.namespace and within(seen.address, (text,)) and port.name != "lo":
                network = ip_interface(text).network
                for number in range(1, min(network.num_addresses - 1, 1000)):
                    if network[number] not in taken:
                        return f"{network[number]}/{network.prefixlen}"
    return ""


def internal(seen: Observation) -> Verdict | None:
    """From an internal network there is no way out, by intent."""
    leg = broken(seen)
    if not leg or leg.direction != "request":
        return None
    if not leg.came_in and leg.route.error == "ENETUNREACH":
        mine = [one for one in seen.memberships if one.namespace == leg.namespace]
        if mine and all(one.internal for one in mine):
            return internal_verdict(seen, mine[0])
    return None


def internal_verdict(seen: Observation, network: Membership) -> Verdict:
    """The sentence; also where a rule of ours said it."""
    name = seen.place(network.namespace).name
    return Verdict(
        ok=False,
        cause="internal-network",
        sentence=f"{name} is only in the internal network {network.network}, from which there is no way out to "
        f"{asked_for(seen)}.",
        remedies=(f"fairlead network connect bridge {name}",),
    )


def no_route(seen: Observation) -> Verdict | None:
    """A namespace on the way has no route to the address, or one that refuses it."""
    for leg in seen.legs:
        place = seen.place(leg.namespace)
        error = leg.route.error
        if leg.route.kind in REFUSALS:
            return _refuses(seen, leg)
        if error == "ENETUNREACH" and not (leg.came_in and forwards_not(seen, leg)):
            gateway = _gateway_for(seen, leg)
            to = "default" if gateway or place.kind == "host" else leg.to
            line = ip(place, f"route add {to} via {gateway or 'GATEWAY'}")
            return Verdict(
                ok=False,
                cause="no-route",
                sentence=f"There is no route {there(place)} to {leg.to}{subject(leg)}: neither a default route nor "
                "one that covers it.",
                remedies=(line,),
            )
    return None


def _refuses(seen: Observation, leg: Leg) -> Verdict:
    place, route = seen.place(leg.namespace), leg.route
    if route.rule:
        what = f"The rule of the routing policy {there(place)} “{route.rule}”"
        line = f"{'-6 ' if version(seen) == 6 else ''}rule del {route.rule}"
    else:
        table = "" if route.table in ("", "main") else f" table {route.table}"
        what = f"The route to {route.matched}{table and ' in' + table} {there(place)} is of the kind {route.kind}: it"
        six = "-6 " if version(seen) == 6 and route.matched == "default" else ""
        line = f"{six}route del {route.kind} {route.matched}{table}"
    return Verdict(
        ok=False,
        cause="no-route",
        sentence=f"{what} refuses packets to {leg.to}{subject(leg)}.",
        remedies=(ip(place, line),),
    )


def strayed(seen: Observation) -> Verdict | None:
    """A router on the way knows the address by its default route alone, and that leads away from whoever has it."""
    for direction in ("request", "reply"):
        legs = [leg for leg in seen.legs if leg.direction == direction]
        if len(legs) < 2 or legs[-1].route.kind == "local":
            continue
        turn = next((leg for leg in legs[:-1] if leg.route.matched == "default" and _is_router(seen, leg)), None)
        owner = next((one for one in seen.ports if turn and _holds(one, turn.to)), None)
        if not turn or not owner or not turn.holders or turn.holders[0][0] in (owner.namespace, seen.source.inode):
            continue
        place, away = seen.place(turn.namespace), seen.place(turn.holders[0][0])
        subnet = next(str(ip_interface(text).network) for text in owner.addresses if is_address(text, turn.to))
        line = ip(place, f"route add {subnet} via {_nearer(seen, turn) or 'GATEWAY'}")
        return Verdict(
            ok=False,
            cause="no-route",
            sentence=f"There is no route {there(place)} to {turn.to} of {seen.place(owner.namespace).name}"
            f"{subject(turn)} but the default one, which leads away, to {away.name}.",
            remedies=(line,),
        )
    return None


def _is_router(seen: Observation, leg: Leg) -> bool:
    return bool(leg.came_in) or seen.place(leg.namespace).kind == "host"


def _holds(port: Port, address: str) -> bool:
    return any(is_address(text, address) for text in port.addresses)


def _nearer(seen: Observation, turn: Leg) -> str:
    """The address of whoever sent the request on to the namespace in which its answer takes the wrong turn."""
    reached = [end for end in seen.ports if end.namespace == turn.namespace]
    for leg in seen.legs:
        port = seen.port((leg.namespace, leg.route.interface)) if leg.direction == "request" else None
        if not port or not any(end[0] == turn.namespace for end in leg.holders):
            continue
        for text in port.addresses:
            if any(within(str(ip_interface(text).ip), end.addresses) for end in reached):
                return str(ip_interface(text).ip)
    return ""


def _gateway_for(seen: Observation, leg: Leg) -> str:
    """Who on the wires of a namespace could be its router: by our records, or who has addresses there and routes."""
    for one in seen.memberships:
        if one.namespace == leg.namespace:
            for gateway in one.gateways:
                if ip_address(gateway).version == version(seen):
                    return gateway
    # Nobody there sends a packet back to where it came from.
    mine = [port for port in seen.ports if port.namespace == leg.namespace and port.name not in ("lo", leg.came_in)]
    for port in mine:
        outer = seen.port(port.peer) if port.peer else None
        candidates = [outer, seen.port((outer.namespace, outer.master)) if outer and outer.master else None]
        for one_port in candidates:
            for text in one_port.addresses if one_port else ():
                if within(str(ip_interface(text).ip), port.addresses):
                    return str(ip_interface(text).ip)
    return ""


def wrong_gateway(seen: Observation) -> Verdict | None:
    """The gateway is an address that nobody has, or somebody who passes nothing on."""
    leg = broken(seen)
    if leg and leg.route.gateway and is_lost(leg):
        who = "nobody on its wire has"
    else:
        leg = next((one for one in seen.legs if one.route.gateway and one.holders and _idle(seen, one)), None)
        if leg is None:
            return None
        who = f"{at(seen, leg.holders[0])} has, which is no router,"
    place = seen.place(leg.namespace)
    better = _better_gateway(seen, leg)
    if not better and "no router" in who:
        return None
    remedy = ip(place, f"route replace {leg.route.matched} via {better or 'GATEWAY'}")
    return Verdict(
        ok=False,
        cause="wrong-gateway",
        sentence=f"{place.name}'s route to {leg.to} ({leg.route.matched}) is by the gateway {leg.route.gateway}, an "
        f"address that {who.rstrip(',')}{subject(leg)}" + (f"; the router there is {better}." if better else "."),
        remedies=(remedy,),
    )


def _idle(seen: Observation, leg: Leg) -> bool:
    port = seen.port(leg.holders[0])
    place = seen.place(leg.holders[0][0])
    return bool(port and not port.forwards and place.kind != "host" and leg.to != leg.next_hop)


def _better_gateway(seen: Observation, leg: Leg) -> str:
    found = _gateway_for(seen, leg)
    return "" if found == leg.route.gateway else found


def forwards_not(seen: Observation, leg: Leg) -> bool:
    """Whether the namespace of a leg drops what it should pass on."""
    port = seen.port((leg.namespace, leg.came_in))
    return bool(leg.came_in and port and not port.forwards)


def forwarding_off(seen: Observation) -> Verdict | None:
    """A namespace that should pass packets on is no router."""
    for leg in seen.legs:
        if (
            leg.came_in
            and leg.route.error in ("", "EHOSTUNREACH")
            and leg.route.kind != "local"
            and forwards_not(seen, leg)
        ):
            place = seen.place(leg.namespace)
            port = seen.port((leg.namespace, leg.came_in))
            name = "net.ipv4.ip_forward" if version(seen) == 4 else "net.ipv6.conf.all.forwarding"
            if port and port.forwards_alone_not:
                name = f"net.ipv4.conf.{setting(port.name)}.forwarding"
            remedies = [run(place, f"sysctl -w {name}=1")]
            return Verdict(
                ok=False,
                cause="forwarding-off",
                sentence=f"Packets from {leg.came_in} to {leg.to} would have to be passed on {there(place)}, but "
                f"forwarding is off there ({name} = 0){subject(leg)}.",
                remedies=tuple(remedies),
            )
    return None
