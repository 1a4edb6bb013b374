"""Causes in addresses: more than one has it, or whoever should has another.  Pure."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from fairlead.plan.netlink import word
from fairlead.see.trace.model import OK_KINDS, Leg, Observation, Port, Verdict
from fairlead.see.trace.words import at, broken, ip, is_address, on_one_wire, run, setting, within


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
