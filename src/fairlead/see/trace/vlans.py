"""What a bridge that filters VLANs does with frames between two who are plugged into it.  Pure.

A frame that comes in without a tag is of the port's own VLAN (``pvid``); with a tag, of that one, in which it must be.
It leaves only by ports that are in its VLAN: without its tag where the port has that VLAN ``untagged``
(bridge(8); net/bridge/br_vlan.c).
"""

from __future__ import annotations

from dataclasses import dataclass

from fairlead.kernel.survey import LinkRow, VlanRow
from fairlead.see.trace.model import MissingVlan

End = tuple[int, str]

_SHOWN = 4
"""So many of a port's VLANs are told."""


@dataclass(frozen=True, slots=True)
class Plug:
    """Where somebody's frames enter a bridge: at a port, or at the bridge itself; `tag` 0: they have none."""

    bridge: End
    end: End
    port: LinkRow
    tag: int = 0

    @property
    def rows(self) -> tuple[VlanRow, ...]:
        """The VLANs of the port."""
        return self.port.vlans or ()

    @property
    def own(self) -> int:
        """The VLAN of frames without a tag, 0 if these are dropped."""
        return next((row.first for row in self.rows if row.pvid), 0)

    def row(self, vlan: int) -> VlanRow | None:
        """How the port is in a VLAN."""
        return next((row for row in self.rows if row.first <= vlan <= row.last), None)


def lacking(one: Plug, other: Plug) -> tuple[End, MissingVlan] | None:
    """Where frames between the two are dropped, or arrive as they are not expected; to find each other takes both ways.

    Two who send with different tags are not for each other, whatever the bridge does.
    """
    if one.bridge != other.bridge or one.port.vlans is None or one.end == other.end:
        return None
    return _on_the_way(one, other) or _on_the_way(other, one)


def _on_the_way(sender: Plug, receiver: Plug) -> tuple[End, MissingVlan] | None:
    vlan = sender.tag or sender.own
    if not vlan or (receiver.tag and not sender.tag and vlan != receiver.tag):
        # Into which VLAN the sender belongs, the other one tells.
        return _lack(sender, receiver.tag or receiver.own or 1, "absent" if vlan else "no-pvid")
    if not sender.row(vlan):
        return _lack(sender, vlan, "absent")
    row = receiver.row(vlan)
    if row is None:
        return _lack(receiver, vlan, "absent")
    if row.untagged and receiver.tag:
        return _lack(receiver, vlan, "without-tag")
    if not row.untagged and not receiver.tag:
        return _lack(receiver, vlan, "with-tag")
    return None


def _lack(plug: Plug, vlan: int, why: str) -> tuple[End, MissingVlan]:
    numbers = [number for row in plug.rows for number in range(row.first, row.last + 1)]
    return (
        plug.end,
        MissingVlan(
            bridge=plug.bridge,
            vlan=vlan,
            tagged=bool(plug.tag),
            why=why,  # type: ignore[arg-type]
            present=tuple(numbers[:_SHOWN]),
        ),
    )
