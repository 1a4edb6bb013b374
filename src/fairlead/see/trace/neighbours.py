"""Causes among neighbours: nobody answers for a hardware address, or a wrong one is held.  Pure."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from fairlead.plan.netlink import word
from fairlead.see.trace.model import OK_KINDS, Hop, Leg, Observation, Port, Verdict
from fairlead.see.trace.words import at, broken, ip, is_address, is_lost, ruling, run, setting, subject, there, within

_SHOWN = ", which br_netfilter makes the bridge's frames pass"
"""Neighbour Discovery is IPv6, so br_netfilter shows it to the firewall too."""
_HIDE = "sysctl -w net.bridge.bridge-nf-call-ip6tables=0"


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
        if _sent_on(seen, leg):
            continue
        if seen.unheard and seen.unheard.destination == leg.next_hop:
            return _ruled_out(seen, leg, leg.holders[0], seen.unheard)
        if leg.macs == ():
            return _unanswering(seen, leg, leg.holders[0])
    return None


def _unanswering(seen: Observation, leg: Leg, holder: tuple[int, str]) -> Verdict:
    place, port = seen.place(holder[0]), seen.port(holder)
    four = ip_address(leg.next_hop).version == 4
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
            why += _SHOWN
            remedies.insert(0, run(seen.place(leg.bridge[0]), _HIDE))
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
            why = _SHOWN
            remedies.append(run(seen.place(leg.bridge[0]), _HIDE))
    remedies.append(" && ".join(run(place, f"nft insert rule {chain} {match} accept") for match in matches))
    return Verdict(
        ok=False,
        cause="arp-failed",
        sentence=f"{at(seen, holder)} has the address {leg.next_hop}, but {seen.place(leg.namespace).name}'s question "
        f"for its hardware address, or the answer, is dropped{subject(leg)} by the {ruling(rule)} {there(place)}{why}; "
        f"it is of {rule.owner}.",
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
