"""The step that makes an ipvlan: a link that shares its parent's MAC and is told apart by its addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairlead.kernel import rtnetlink
from fairlead.plan.child import AddChild

if TYPE_CHECKING:
    from fairlead.kernel.netlink import Message


@dataclass(frozen=True, slots=True)
class AddIpvlan(AddChild):
    """An ipvlan in a sandbox.  `mode`: l2, l3 or l3s; `flag`: bridge, private or vepa (ip-link(8))."""

    kind: ClassVar[str] = "ipvlan"

    mode: str = "l2"
    flag: str = "bridge"

    def message(self, parent: int, fd: int) -> Message:
        return rtnetlink.add_ipvlan(self.temporary, parent, mode=self.mode, flag=self.flag, fd=fd, mtu=self.mtu)

    def words(self) -> str:
        return f"ipvlan mode {self.mode} {self.flag}"
