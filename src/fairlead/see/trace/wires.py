"""Causes on the wire: links, and what bridges do.  Pure."""

from __future__ import annotations

from ipaddress import ip_interface

from fairlead.plan.netlink import word
from fairlead.see.trace.model import Leg, Membership, Observation, Port, Verdict
from fairlead.see.trace.words import asked_for, at, broken, ip, outer, run, subject, version, within


def loopback_down(seen: Observation) -> Verdict | None:
    """A namespace whose loopback is down does not reach even its own addresses."""
    for leg in seen.legs:
        loopback = seen.port((leg.namespace, leg.route.interface))
        if leg.route.kind == "local" and not leg.came_in and loopback and not loopback.up:
            return _down(seen, (loopback.namespace, loopback.name), subject(leg))
    return None


def link_down(seen: Observation) -> Verdict | None:
    """An interface on the way is down: the sender's, the receiver's, their other ends, or the bridge."""
    leg = broken(seen)
    if leg and leg.barrier in ("down", "bridge-down", "parent-down") and leg.barrier_at:
        return _down(seen, leg.barrier_at, subject(leg))
    if leg and leg.barrier == "peer-down" and leg.barrier_at and _faces_host(seen, leg.barrier_at):
        return None  # Its own side sees no carrier.
    if leg and leg.route.error == "ENETUNREACH" and not leg.route.kind:
        # A link that goes down takes its routes with it.
        for port in seen.ports:
            if port.namespace == leg.namespace and not port.up and _would_lead(seen, port, leg.to):
                return _down(seen, (port.namespace, port.name), subject(leg))
    return None


def _down(seen: Observation, end: tuple[int, str], where: str) -> Verdict:
    port = seen.port(end)
    below = seen.port(port.peer) if port and port.vlan and port.peer else None
    if below and not below.up:
        # It goes down with that one, cannot come up before, and then comes by itself (net/8021q/vlan.c).
        what, end_up = (
            f"{at(seen, (below.namespace, below.name))}, on which {end[1]} stands,",
            (below.namespace, below.name),
        )
    else:
        what, end_up = at(seen, end), end
    return Verdict(
        ok=False,
        cause="interface-down",
        sentence=f"The interface {what} is down{where}, so nothing gets to {asked_for(seen)}.",
        remedies=(ip(seen.place(end_up[0]), f"link set {word(end_up[1])} up"), *_lost_routes(seen, end)),
    )


def _lost_routes(seen: Observation, end: tuple[int, str]) -> list[str]:
    """The default route that a link which goes down takes along."""
    place = seen.place(end[0])
    for one in seen.memberships:
        here = one.namespace == end[0] and one.interface == end[1] and one.gateways and not one.internal
        if here and not any(leg.namespace == end[0] and leg.route.matched == "default" for leg in seen.legs):
            return [ip(place, f"route replace default via {one.gateways[0]} dev {word(end[1])}")]
    return []


def _would_lead(seen: Observation, port: Port, to: str) -> bool:
    if within(to, port.addresses):
        return True
    if any(one.namespace == port.namespace and one.interface == port.name for one in seen.memberships):
        return True
    # Its IPv6 addresses go with it (net.ipv6.conf.*.keep_addr_on_down).
    return port.name != "lo" and (bool(port.addresses) or version(seen) == 6)


def no_carrier(seen: Observation) -> Verdict | None:
    """The link is up, but its other end is down, or gone."""
    leg = broken(seen)
    if not leg or not leg.barrier_at:
        return None
    if leg.barrier == "peer-down":
        here = next((port for port in seen.ports if port.peer == leg.barrier_at), None)
        here_text = at(seen, (here.namespace, here.name)) if here else "the interface"
        return Verdict(
            ok=False,
            cause="no-carrier",
            sentence=f"{here_text} has no carrier{subject(leg)}: its other end, {at(seen, leg.barrier_at)}, is down.",
            remedies=(ip(seen.place(leg.barrier_at[0]), f"link set {word(leg.barrier_at[1])} up"),),
        )
    if leg.barrier in ("no-carrier", "no-peer"):
        end = leg.barrier_at
        port = seen.port(end)
        place = seen.place(end[0])
        if port and port.kind == "bridge":
            return Verdict(
                ok=False,
                cause="no-carrier",
                sentence=f"The bridge {at(seen, end)} has no carrier{subject(leg)}: no interface that is up is a port "
                f"of it, so {leg.next_hop} cannot be there.",
                remedies=(ip(place, f"link set PORT master {word(end[1])}"),),
            )
        return Verdict(
            ok=False,
            cause="no-carrier",
            sentence=f"{at(seen, end)} has no carrier{subject(leg)}: nothing is at the other end of its wire.",
            remedies=(ip(place, f"link show {word(end[1])}"),),
        )
    return None


def _faces_host(seen: Observation, end: tuple[int, str]) -> bool:
    return any(port.peer == end for port in seen.ports)


def no_master(seen: Observation) -> Verdict | None:
    """The outer end of a veth pair is no port of a bridge, and has no address either."""
    leg = broken(seen)
    if not leg or leg.barrier != "no-master" or not leg.barrier_at:
        return None
    place = seen.place(leg.barrier_at[0])
    inner = next((port for port in seen.ports if port.peer == leg.barrier_at), None)
    bridge = _bridge_of(seen, inner, leg) or "BRIDGE"
    of = f", the other end of {at(seen, (inner.namespace, inner.name))}," if inner else ""
    return Verdict(
        ok=False,
        cause="port-without-master",
        sentence=f"{at(seen, leg.barrier_at)}{of} is no port of a bridge and has no address: what comes in there goes "
        "nowhere.",
        remedies=(ip(place, f"link set {word(leg.barrier_at[1])} master {word(bridge)}"),),
    )


def _bridge_of(seen: Observation, inner: Port | None, leg: Leg) -> str:
    """The bridge that a veth should be at: by our records, by the other legs, by an address in the same subnet."""
    if inner:
        for one in seen.memberships:
            if one.namespace == inner.namespace and one.interface == inner.name and one.bridge:
                return one.bridge
    if inner and inner.master:
        # A cable between bridges: to the one on which the address is.
        outers = [outer(seen, port) for end in leg.elsewhere if (port := seen.port(end))]
        found = next((one.master for one in outers if one and one.master not in ("", inner.master)), "")
        if found:
            return found
    for other in (leg, *seen.legs):
        if other.bridge:
            return other.bridge[1]
    for port in seen.ports:
        if (
            port.kind == "bridge"
            and inner
            and any(within(str(ip_interface(a).ip), port.addresses) for a in inner.addresses)
        ):
            return port.name
    bridges = {port.master for port in seen.ports if port.master}
    return bridges.pop() if len(bridges) == 1 else ""


def icc_off(seen: Observation) -> Verdict | None:
    """Containers of a network whose containers may not talk to each other: their ports are isolated."""
    leg = broken(seen)
    if not leg or leg.barrier != "isolated":
        return None
    networks = [one for one in seen.memberships if one.namespace == leg.namespace and one.silent]
    return isolated_verdict(seen, networks[0] if networks else None, leg.holders[0] if leg.holders else None)


def isolated_verdict(seen: Observation, network: Membership | None, other: tuple[int, str] | None) -> Verdict:
    """The sentence for icc off; also where a rule, not the port, keeps them apart."""
    source = seen.source.name
    far = seen.place(other[0]).name if other else seen.asked.destination
    if network is None:
        bridge = next((leg.bridge for leg in seen.legs if leg.bridge), None)
        ports = [port for port in seen.ports if port.isolated and port.master]
        return Verdict(
            ok=False,
            cause="icc-off",
            sentence=f"The ports of {source} and {far} at the bridge {bridge[1] if bridge else ''} are isolated from "
            "each other.",
            remedies=tuple(
                ip(seen.place(port.namespace), f"link set {word(port.name)} type bridge_slave isolated off")
                for port in ports[:1]
            ),
        )
    return Verdict(
        ok=False,
        cause="icc-off",
        sentence=f"The containers of the network {network.network} may not talk to each other: it was made with "
        "com.docker.network.bridge.enable_icc=false.",
        remedies=(
            f"fairlead network create {source}-{far} && fairlead network connect {source}-{far} {source} && "
            f"fairlead network connect {source}-{far} {far}",
        ),
    )


def bridge_refuses(seen: Observation) -> Verdict | None:
    """A bridge's port that passes nothing on, or a MAC that the bridge is told to look for behind another."""
    leg = broken(seen)
    if not leg or not leg.barrier_at or not leg.bridge or leg.barrier not in ("blocked", "fixed"):
        return None
    place, port = seen.place(leg.barrier_at[0]), seen.port(leg.barrier_at)
    name, bridge = word(leg.barrier_at[1]), word(leg.bridge[1])
    if leg.barrier == "blocked":
        state = port.state if port else "blocking"
        opened = run(place, f"bridge link set dev {name} state 3")
        wait, remedies = "", [opened]
        if state in ("listening", "learning"):
            wait = ": the spanning tree protocol still looks for rings, which takes half a minute"
            without = ip(place, f"link set {bridge} type bridge stp_state 0")
            remedies = [f"sleep 30; {run(place, f'bridge link show dev {name}')}", f"{without} && {opened}"]
        return Verdict(
            ok=False,
            cause="port-blocked",
            sentence=f"{at(seen, leg.barrier_at)}, a port of the bridge {leg.bridge[1]}, passes nothing on"
            f"{subject(leg)}: its state is {state}{wait}.",
            remedies=tuple(remedies),
        )
    holder = seen.port(leg.holders[0])
    mac = holder.mac if holder else leg.neighbour
    itself = leg.barrier_at == leg.bridge
    entry = f"{mac} dev {name} {'self' if itself else 'master'}"
    where = "its own" if itself else f"behind {leg.barrier_at[1]}"
    return Verdict(
        ok=False,
        cause="wrong-fdb",
        sentence=f"The bridge {at(seen, leg.bridge)} is told that {mac}, the hardware address of "
        f"{at(seen, leg.holders[0])}, is {where}{subject(leg)}: an entry of its forwarding table that it does not "
        "learn anew.",
        remedies=(run(place, f"bridge fdb del {entry}"),),
    )


def unflooded(seen: Observation) -> Verdict | None:
    """A bridge's port that is not given what goes to everybody, or to whom the bridge does not know."""
    leg = broken(seen)
    port = seen.port(leg.barrier_at) if leg and leg.barrier == "unflooded" and leg.barrier_at else None
    if not leg or not port or not leg.bridge:
        return None
    what = {
        "bcast_flood": f"broadcasts, such as the question who has {leg.next_hop}",
        "mcast_flood": f"multicasts, such as the question who has {leg.next_hop}",
        "flood": "frames for hardware addresses that the bridge has not learned",
    }
    question = "bcast_flood" if version(seen) == 4 else "mcast_flood"
    flag = question if leg.macs == () and question in port.unflooded else "flood"
    return Verdict(
        ok=False,
        cause="port-unflooded",
        sentence=f"{at(seen, (port.namespace, port.name))}, a port of the bridge {leg.bridge[1]}, is not given "
        f"{what[flag]}{subject(leg)}: {flag} is off there.",
        remedies=(run(seen.place(port.namespace), f"bridge link set dev {word(port.name)} {flag} on"),),
    )


def macvlan_apart(seen: Observation) -> Verdict | None:
    """A macvlan and the link that it stands on, or two of which one is private."""
    leg = broken(seen)
    if not leg or leg.barrier not in ("parent", "private") or not leg.barrier_at:
        return None
    if leg.barrier == "private":
        return Verdict(
            ok=False,
            cause="macvlan-apart",
            sentence=f"{at(seen, leg.barrier_at)} is a macvlan that the kernel keeps apart from others on the same "
            f"link{subject(leg)}: its mode is not bridge.",
            remedies=(
                ip(seen.place(leg.barrier_at[0]), f"link set {word(leg.barrier_at[1])} type macvlan mode bridge"),
            ),
        )
    ends = [(leg.namespace, leg.route.interface), leg.barrier_at]
    upper, lower = sorted(ends, key=lambda end: bool((port := seen.port(end)) and port.peer in ends), reverse=True)
    port, place = seen.port(upper), seen.place(lower[0])
    kind = port.kind if port else "macvlan"
    address = next((str(ip_interface(text).ip) for text in port.addresses), "ADDRESS") if port else "ADDRESS"
    shim = f"{kind}0"
    child = seen.place(upper[0])
    ours = (f"fairlead network connect bridge {child.name}",) if child.owner == "fairlead" else ()
    return Verdict(
        ok=False,
        cause="macvlan-apart",
        sentence=f"{at(seen, upper)} is a {kind} on {at(seen, lower)}: the kernel passes nothing between those two"
        f"{subject(leg)}, so {leg.next_hop} cannot be reached this way.",
        remedies=(
            *ours,
            f"{ip(place, f'link add {shim} link {word(lower[1])} type {kind} mode {_MODES.get(kind, kind)}')} && "
            f"{ip(place, f'link set {shim} up')} && {ip(place, f'addr add FREE-ADDRESS dev {shim}')} && "
            f"{ip(place, f'route add {address} dev {shim}')}",
        ),
    )


_MODES = {"macvlan": "bridge", "ipvlan": "l2"}


def vlan_filtered(seen: Observation) -> Verdict | None:
    """A bridge drops frames whose VLAN a port is not in, or passes them on otherwise than expected."""
    leg = broken(seen)
    lack = leg.missing_vlan if leg else None
    if not leg or not lack or not leg.barrier_at:
        return None
    port = leg.barrier_at
    itself = port == lack.bridge
    who = f"{port[1]} itself" if itself else f"its port {at(seen, port)}"
    inner = next((one for one in seen.ports if one.peer == port), None)
    behind = seen.place(inner.namespace if inner else port[0]).name
    present = f"VLAN{'s' if len(lack.present) > 1 else ''} {', '.join(map(str, lack.present))}"
    fault = {
        "absent": f"is in {present if lack.present else 'no VLAN'}: frames of VLAN {lack.vlan} are dropped there",
        "no-pvid": f"has no VLAN for frames without a tag, which are dropped there ({leg.next_hop} is in VLAN "
        f"{lack.vlan})",
        "with-tag": f"passes frames of VLAN {lack.vlan} on with their tag, which {behind} does not expect",
        "without-tag": f"passes frames of VLAN {lack.vlan} on without their tag, which {behind} expects",
    }[lack.why]
    words = [f"bridge vlan add dev {word(port[1])} vid {lack.vlan}"]
    words += [] if lack.tagged else ["pvid untagged"]
    words += ["self"] if itself else []
    return Verdict(
        ok=False,
        cause="vlan-filtered",
        sentence=f"The bridge {at(seen, lack.bridge)} filters VLANs, and {who} {fault}{subject(leg)}.",
        remedies=(run(seen.place(port[0]), " ".join(words)),),
    )
