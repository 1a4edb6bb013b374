"""The verdict: one sentence with the cause, and what to type.  Pure: made of an `Observation` alone.

`CAUSES` is the table of rules, in order: each looks for one cause and returns a verdict, or None.  What was seen to
happen (a rule that dropped the packet, the kernel's reason) comes before what the facts let one expect.
"""

from __future__ import annotations

from collections.abc import Callable

from fairlead.see.trace import addresses, firewall, hosts, masks, neighbours, roads, wires
from fairlead.see.trace.model import Observation, Verdict

Cause = Callable[[Observation], Verdict | None]

CAUSES: tuple[Cause, ...] = (
    hosts.name_not_resolving,
    addresses.duplicate_address,
    hosts.stale_flow,
    hosts.too_big,
    hosts.answered,
    firewall.dropped_by_rule,
    roads.rp_filter,
    roads.exhausted,
    masks.too_short,
    roads.overlap,
    wires.loopback_down,
    wires.link_down,
    wires.no_carrier,
    wires.no_master,
    roads.no_address,
    roads.internal,
    wires.icc_off,
    wires.vlan_filtered,
    wires.bridge_refuses,
    wires.unflooded,
    wires.macvlan_apart,
    masks.too_long,
    masks.broadcast,
    addresses.wrong_address,
    roads.no_route,
    roads.strayed,
    roads.wrong_gateway,
    roads.forwarding_off,
    neighbours.arp_failed,
    hosts.bound_elsewhere,
    hosts.other_protocol,
    hosts.nothing_listens,
    firewall.dropped_unseen,
    hosts.delivered,
    hosts.unexplained,
)


def judge(seen: Observation) -> Verdict:
    """The first cause that fits; the last one always does."""
    for cause in CAUSES:
        if verdict := cause(seen):
            return verdict
    raise AssertionError("the last cause fits everything")
