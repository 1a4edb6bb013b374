"""Causes on the wire: links, bridges, neighbours, addresses that nobody or more than one has.  Pure."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from fairlead.plan.netlink import word
from fairlead.see.trace.model import Hop, Leg, Membership, Observation, Port, Verdict
from fairlead.see.trace.words import (
    asked_for,
    at,
    broken,
    ip,
    is_address,
    is_lost,
    on_one_wire,
    outer,
    run,
    setting,
    subject,
    there,
    version,
    within,
)

OK_KINDS = ("answered", "refused")


def duplicate_address(seen: Observation) -> Verdict | None:
    """Two answer for one address: which of them gets a packet is chance."""
    for leg in seen.legs:
        own = _of_different(seen, [_mac_of(seen, leg), *leg.own_macs])
        if leg.own_macs and leg.route.source and len(own) > 1:
            return _duplicate(seen, leg, leg.route.source, own)
        macs = _of_different(seen, list(leg.macs or ()))
        if len(macs) > 1:
            return _duplicate(seen, leg, leg.next_hop, macs)
    for port in seen.ports:
        for text in port.duplicates:
            meant = seen.target is not None and port.namespace == seen.target.inode and is_address(text, seen.address)
            if meant or (port.namespace == seen.source.inode and seen.outcome.kind not in OK_KINDS):
                return _refused(seen, port, text)
    return None


def _refused(seen: Observation, port: Port, text: str) -> Verdict:
    """The kernel itself found, when an IPv6 address was added, that somebody else has it (RFC 4862, 5.4.5)."""
    first = next(
        (
            one
            for one in seen.ports
            if text in one.addresses and text not in one.duplicates and one.namespace != port.namespace
        ),
        None,
    )
    place = seen.place(port.namespace)
    who = at(seen, (first.namespace, first.name)) if first else "somebody else on the wire"
    remedy = ip(place, f"addr del {text} dev {word(port.name)}")
    if first:
        taken = ip(seen.place(first.namespace), f"addr del {text} dev {word(first.name)}")
        remedy = f"{taken} && {remedy} && {ip(place, f'addr add {text} dev {word(port.name)} nodad')}"
        remedy += f" && {ip(seen.source, f'neigh flush to {ip_interface(text).ip}')}"
    return Verdict(
        ok=False,
        cause="duplicate-address",
        sentence=f"{at(seen, (port.namespace, port.name))} has the address {text}, but it does not work: {who} had it "
        "already when it was added (duplicate address detection failed).",
        remedies=(remedy,),
    )


def _of_different(seen: Observation, macs: list[str]) -> list[str]:
    """One of each namespace: with two interfaces on a wire a Linux host answers by both, for any of its addresses."""
    owners = {port.mac: port.namespace for port in seen.ports}
    found: dict[object, str] = {}
    for mac in macs:
        found.setdefault(owners.get(mac, mac), mac)
    return list(found.values())


def _duplicate(seen: Observation, leg: Leg, address: str, macs: list[str]) -> Verdict:
    holders = [
        port for port in seen.ports if port.mac in macs and any(is_address(one, address) for one in port.addresses)
    ]
    known = [at(seen, (port.namespace, port.name)) + f" ({port.mac})" for port in holders]
    # Somebody who is known may answer for an address of another of its interfaces.
    others = {port.mac: at(seen, (port.namespace, port.name)) for port in seen.ports}
    known += [f"{others.get(mac, 'a stranger')} ({mac})" for mac in macs if mac not in {port.mac for port in holders}]
    remedies: list[str] = []
    # Whose address it should be by our records, or who asked or was asked for, keeps it.
    ends = (seen.source.inode, seen.target.inode if seen.target else 0)
    keeps = next((port for port in holders if _intended(seen, port, address)), None)
    keeps = keeps or next((port for port in holders if port.namespace in ends), None)
    for port in holders:
        if port is not keeps and len(remedies) < len(macs) - 1:
            with_length = next(one for one in port.addresses if is_address(one, address))
            # Who sends to it may still hold the hardware address of the one that loses it.
            sender = leg.holders[0][0] if address == leg.route.source and leg.holders else leg.namespace
            forget = ip(seen.place(sender), f"neigh flush to {address}")
            remedies.append(
                f"{ip(seen.place(port.namespace), f'addr del {with_length} dev {word(port.name)}')} && {forget}"
            )
    return Verdict(
        ok=False,
        cause="duplicate-address",
        sentence=f"{address} is taken {len(macs)} times on one wire: by {' and by '.join(known)}; which of them gets "
        "a packet is chance.",
        remedies=tuple(remedies),
    )


def _intended(seen: Observation, port: Port, address: str) -> bool:
    return any(
        one.namespace == port.namespace and any(is_address(text, address) for text in one.addresses)
        for one in seen.memberships
    )


def _mac_of(seen: Observation, leg: Leg) -> str:
    port = seen.port((leg.namespace, leg.route.interface))
    return port.mac if port else ""


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


def wrong_address(seen: Observation) -> Verdict | None:
    """The one that was meant has another address, or none."""
    if seen.target and seen.target.kind != "host":
        intended = [one for one in seen.memberships if one.namespace == seen.target.inode]
        for one in intended:
            port = seen.port((one.namespace, one.interface))
            missing = [text for text in one.addresses if port and text not in port.addresses]
            missing = [text for text in missing if ip_interface(text).version == ip_address(seen.address).version]
            if port and missing and any(is_address(text, seen.address) for text in missing):
                if port.six:
                    return without_six(seen, port)
                return _missing(seen, port, missing[0])
    leg = broken(seen)
    if not leg:
        return None
    # Somebody's record says that they have the address, and they do not.
    for one in seen.memberships:
        for text in one.addresses:
            port = seen.port((one.namespace, one.interface))
            if port and is_address(text, leg.next_hop or leg.to) and text not in port.addresses:
                return _missing(seen, port, text)
    return _other_subnet(seen, leg)


def _missing(seen: Observation, port: Port, wanted: str) -> Verdict:
    place = seen.place(port.namespace)
    same = [text for text in port.addresses if ip_interface(text).version == ip_interface(wanted).version]
    has = f"has {', '.join(same)} instead" if same else "has none"
    remedies = [ip(place, f"addr del {text} dev {word(port.name)}") for text in same]
    remedies.append(ip(place, f"addr add {wanted} dev {word(port.name)}"))
    return Verdict(
        ok=False,
        cause="wrong-address",
        sentence=f"{at(seen, (port.namespace, port.name))} should have the address {wanted}, but {has}.",
        remedies=tuple(remedies),
    )


def without_six(seen: Observation, port: Port) -> Verdict:
    """The sentence for a link without any IPv6; also where its address is missed."""
    place, name = seen.place(port.namespace), f"net.ipv6.conf.{setting(port.name)}.disable_ipv6"
    mine = [text for one in seen.memberships for text in one.addresses if one.namespace == port.namespace]
    addresses = [text for text in mine if ip_interface(text).version == 6] or ["ADDRESS/LENGTH"]
    why = f"{name} = 1" if port.six == "disabled" else f"its MTU of {port.mtu} is below 1280, the least of IPv6"
    larger = ip(place, f"link set {word(port.name)} mtu 1280")
    mend = run(place, f"sysctl -w {name}=0") if port.six == "disabled" else larger
    return Verdict(
        ok=False,
        cause="missing-address",
        sentence=f"There is no IPv6 on {at(seen, (port.namespace, port.name))}: {why}.",
        # Its addresses went with it.
        remedies=(mend, *(ip(place, f"addr add {text} dev {word(port.name)}") for text in addresses)),
    )


def _other_subnet(seen: Observation, leg: Leg) -> Verdict | None:
    """On one bridge, but not in one subnet."""
    if leg.came_in or not seen.target or (leg.route.matched != "default" and not leg.route.error):
        return None
    mine = [port for port in seen.ports if port.namespace == leg.namespace and port.addresses and port.name != "lo"]
    theirs = [port for port in seen.ports if port.namespace == seen.target.inode and port.addresses]
    for one in mine:
        for other in theirs:
            if one.namespace == other.namespace or not on_one_wire(seen, one, other):
                continue
            ours, theirs_text = one.addresses[0], other.addresses[0]
            if within(str(ip_interface(theirs_text).ip), one.addresses):
                continue
            place = seen.place(other.namespace)
            fit = _free_neighbour(ours, theirs_text)
            remedies = (
                ip(place, f"addr del {theirs_text} dev {word(other.name)}"),
                ip(place, f"addr add {fit} dev {word(other.name)}"),
            )
            return Verdict(
                ok=False,
                cause="wrong-address",
                sentence=f"{at(seen, (one.namespace, one.name))} ({ours}) and {at(seen, (other.namespace, other.name))}"
                f" ({theirs_text}) are on one wire, but their addresses are not in one subnet.",
                remedies=remedies,
            )
    return None


def _free_neighbour(ours: str, theirs: str) -> str:
    """Their host number in our subnet."""
    network = ip_interface(ours).network
    number = int(ip_interface(theirs).ip) & int(network.hostmask)
    fit = network[number] if 0 < number < network.num_addresses - 1 else network[1]
    if fit == ip_interface(ours).ip:
        fit = network[number + 1 if number + 2 < network.num_addresses else 1]
    return f"{fit}/{network.prefixlen}"


def arp_failed(seen: Observation) -> Verdict | None:
    """Nobody on the wire answers for the next hop's address, or the sender holds a wrong hardware address for it."""
    leg = broken(seen)
    if not leg or not is_lost(leg):
        return _deaf(seen)
    place = seen.place(leg.namespace)
    where = (
        f"the bridge {leg.bridge[1]}" if leg.bridge else f"the wire of {at(seen, (leg.namespace, leg.route.interface))}"
    )
    gateway = " (the gateway)" if leg.route.gateway else ""
    mine = seen.port((leg.namespace, leg.route.interface))
    others = [at(seen, end) + _other_tag(mine, seen.port(end)) for end in leg.elsewhere[:2]]
    hint = f" {' and '.join(others)} has it, but is not on this wire." if others else ""
    return Verdict(
        ok=False,
        cause="arp-failed",
        sentence=f"Nobody on {where} has the address {leg.next_hop}{gateway}{subject(leg)}: {place.name}'s question "
        f"for its hardware address stays without answer.{hint}",
        remedies=(ip(place, f"neigh show {leg.next_hop}"), "fairlead topology"),
    )


def _other_tag(mine: Port | None, theirs: Port | None) -> str:
    """That two interfaces are not in one VLAN, if they are not."""
    here, there = mine.vlan if mine else 0, theirs.vlan if theirs else 0
    return f" (VLAN {there or 'none'} instead of {here or 'none'})" if here != there else ""


def _deaf(seen: Observation) -> Verdict | None:
    """The address is there, but does not answer ARP, or frames go to another hardware address."""
    if seen.outcome.kind in OK_KINDS:
        return None
    for leg in seen.legs:
        if not leg.holders or leg.route.kind == "local":
            continue
        holder = seen.port(leg.holders[0])
        sender = seen.place(leg.namespace)
        wrong = holder and leg.neighbour and leg.neighbour not in (holder.mac, *(leg.macs or ()))
        if wrong and holder:
            return Verdict(
                ok=False,
                cause="arp-failed",
                sentence=f"{sender.name} sends frames for {leg.next_hop} to a wrong hardware address, {leg.neighbour}"
                f"{subject(leg)}: {at(seen, leg.holders[0])} has {holder.mac}.",
                remedies=(ip(sender, f"neigh del {leg.next_hop} dev {word(leg.route.interface)}"),),
            )
        ruled = seen.unheard is not None and seen.unheard.destination == leg.next_hop
        if (leg.macs == () or ruled) and not _sent_on(seen, leg):
            return _unanswering(seen, leg, leg.holders[0])
    return None


def _unanswering(seen: Observation, leg: Leg, holder: tuple[int, str]) -> Verdict:
    place, port = seen.place(holder[0]), seen.port(holder)
    four = ip_address(leg.next_hop).version == 4
    if seen.unheard and seen.unheard.destination == leg.next_hop:
        return _ruled_out(seen, leg, holder, seen.unheard)
    why = "a filter for ARP, there or on the way" if four else "a filter for ICMPv6, there or on the way"
    remedies: list[str] = []
    if port and not port.arp:
        why, remedies = "arp is off there", [ip(place, f"link set {word(holder[1])} arp on")]
    elif port and four and port.arp_ignore:
        names = (f"net.ipv4.conf.{name}.arp_ignore" for name in ("all", setting(holder[1])))
        why = f"arp_ignore is {port.arp_ignore} there"
        remedies = [run(place, f"sysctl -w {' '.join(f'{name}=0' for name in names)}")]
    elif port and any(is_address(text, leg.next_hop) for text in port.tentative):
        why = "it is tentative: the kernel still asks whether somebody else has it, which takes a second or two"
        remedies = [f"sleep 2; {ip(place, f'addr show {holder[1]}')}"]
    if leg.bridge and not remedies:
        remedies = [run(seen.place(leg.bridge[0]), "nft list ruleset")]
        if not four and seen.bridge_netfilter:
            # Neighbour Discovery is IPv6, so br_netfilter shows it to the firewall too.
            why += ", which br_netfilter makes the bridge's frames pass"
            remedies.insert(0, run(seen.place(leg.bridge[0]), "sysctl -w net.bridge.bridge-nf-call-ip6tables=0"))
    return Verdict(
        ok=False,
        cause="arp-failed",
        sentence=f"{at(seen, holder)} has the address {leg.next_hop}, but does not answer "
        f"{seen.place(leg.namespace).name}'s question for its hardware address{subject(leg)} ({why}).",
        remedies=(*remedies, run(place, "nft list ruleset")),
    )


def _ruled_out(seen: Observation, leg: Leg, holder: tuple[int, str], rule: Hop) -> Verdict:
    """A rule drops the question, or the answer."""
    place = seen.place(rule.namespace)
    policy = rule.text == "policy drop"
    which = "policy" if policy else f"rule {rule.handle}"
    text = "" if policy else f" ({rule.text})"
    chain = f"{rule.family} {rule.table} {rule.chain}"
    remedies: list[str] = []
    why = ""
    if ip_address(leg.next_hop).version == 4:
        # Each of the two asks for the other; a router, by its own address.
        mine = seen.port((leg.namespace, leg.route.interface))
        near = (text for text in (mine.addresses if mine else ()) if within(leg.next_hop, (text,)))
        asker = next((str(ip_interface(text).ip) for text in near), leg.source)
        matches = [f"arp saddr ip {address}" for address in (asker, leg.next_hop)]
    else:
        matches = ["icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"]
        if leg.bridge and seen.bridge_netfilter and rule.family in ("inet", "ip6"):
            # Neighbour Discovery is IPv6, so br_netfilter shows it to the firewall too.
            why = ", which br_netfilter makes the bridge's frames pass"
            remedies.append(run(seen.place(leg.bridge[0]), "sysctl -w net.bridge.bridge-nf-call-ip6tables=0"))
    remedies.append(" && ".join(run(place, f"nft insert rule {chain} {match} accept") for match in matches))
    return Verdict(
        ok=False,
        cause="arp-failed",
        sentence=f"{at(seen, holder)} has the address {leg.next_hop}, but {seen.place(leg.namespace).name}'s question "
        f"for its hardware address, or the answer, is dropped{subject(leg)} by the {which} of the chain {chain}{text} "
        f"on the {rule.hook} hook {there(place)}{why}; it is of {rule.owner}.",
        remedies=tuple(remedies),
    )


def _sent_on(seen: Observation, leg: Leg) -> bool:
    return any(
        hop.kind == "send"
        and hop.namespace == leg.namespace
        and hop.interface == leg.route.interface
        and hop.direction == leg.direction
        for hop in seen.hops
    )
