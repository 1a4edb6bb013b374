"""Causes in the length of prefixes: two on one wire who do not agree on what their subnet is.  Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from itertools import product
from typing import NamedTuple

from fairlead.plan.netlink import word
from fairlead.see.trace.model import Leg, Observation, Port, Verdict
from fairlead.see.trace.words import at, ip, is_address, is_lost, on_one_wire, subject, subnet, within


def too_long(seen: Observation) -> Verdict | None:
    """The sender's prefix leaves out a neighbour whose own prefix takes the sender in."""
    for leg in seen.legs:
        if leg.route.error != "ENETUNREACH" and leg.route.kind != "broadcast":
            continue
        for pair in _neighbours(seen, leg):
            if is_address(pair.theirs, leg.to) and _length(pair.theirs) < _length(pair.mine):
                here = "the broadcast address" if within(leg.to, (pair.mine,)) else "outside of the subnet"
                return _differ(seen, pair, f"{leg.to} is {here}{subject(leg)}")
    return None


def too_short(seen: Observation) -> Verdict | None:
    """The sender's prefix takes in an address that is elsewhere: it is looked for on the wire, not sent to a router."""
    for leg in seen.legs:
        if leg.barrier or leg.route.gateway or not is_lost(leg) or not (leg.elsewhere or seen.covering):
            continue
        for pair in _neighbours(seen, leg):
            apart = within(leg.to, (pair.mine,)) and not within(leg.to, (pair.theirs,))
            if apart and pair.one.name == leg.route.interface and _length(pair.theirs) > _length(pair.mine):
                away = f", though {at(seen, leg.elsewhere[0])} elsewhere has it" if leg.elsewhere else ""
                return _differ(seen, pair, f"{leg.to} is looked for on this wire too{subject(leg)}{away}")
    return None


def broadcast(seen: Observation) -> Verdict | None:
    """The address is the one for everybody in a subnet (RFC 919)."""
    leg = next((leg for leg in seen.legs if leg.route.kind == "broadcast"), None)
    if leg is None:
        return None
    end = (leg.namespace, leg.route.interface)
    port = seen.port(end)
    addresses = port.addresses if port else ()
    network = next((subnet(text) for text in addresses if within(leg.to, (text,))), "the subnet")
    return Verdict(
        ok=False,
        cause="broadcast-address",
        sentence=f"{leg.to} is the broadcast address of {network} at {at(seen, end)}{subject(leg)}: "
        "nobody has it for their own, and only a program that asks for it may send to it (SO_BROADCAST).",
        remedies=("fairlead topology",),
    )


class _Pair(NamedTuple):
    """An address of the sender, and a neighbour's whose subnet it is in."""

    one: Port
    mine: str
    other: Port
    theirs: str


def _neighbours(seen: Observation, leg: Leg) -> Iterator[_Pair]:
    ours = [port for port in seen.ports if port.namespace == leg.namespace]
    others = [port for port in seen.ports if port.namespace != leg.namespace]
    for one, other in product(ours, others):
        for mine, theirs in product(one.addresses, other.addresses) if on_one_wire(seen, one, other) else ():
            if within(str(ip_interface(mine).ip), (theirs,)):
                yield _Pair(one, mine, other, theirs)


def _length(text: str) -> int:
    return ip_interface(text).network.prefixlen


def _differ(seen: Observation, pair: _Pair, so: str) -> Verdict:
    here, there = (at(seen, (port.namespace, port.name)) for port in (pair.one, pair.other))
    place, device = seen.place(pair.one.namespace), word(pair.one.name)
    fit = f"{ip_interface(pair.mine).ip}/{_length(pair.theirs)}"
    lines = [ip(place, f"addr add {fit} dev {device}"), ip(place, f"addr del {pair.mine} dev {device}")]
    if ip_interface(fit).version == 6:
        lines.reverse()  # No IPv6 address can be there twice.  (With the last IPv4 address the routes would go.)
    return Verdict(
        ok=False,
        cause="wrong-netmask",
        sentence=f"{here} ({pair.mine}) and {there} ({pair.theirs}) are on one wire, but the lengths of their prefixes "
        f"differ: by that of {here}, {so}.",
        remedies=(" && ".join(lines),),
    )
