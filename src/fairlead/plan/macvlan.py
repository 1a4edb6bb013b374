"""The step that makes a macvlan: a link with a MAC of its own on a parent link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairlead.kernel import rtnetlink
from fairlead.plan.child import AddChild

if TYPE_CHECKING:
    from fairlead.kernel.netlink import Message


@dataclass(frozen=True, slots=True)
class AddMacvlan(AddChild):
    """A macvlan in a sandbox.  `mode`: bridge, private, vepa or passthru (ip-link(8))."""

    kind: ClassVar[str] = "macvlan"

    mode: str = "bridge"

    def message(self, parent: int, fd: int) -> Message:
        return rtnetlink.add_macvlan(self.temporary, parent, mode=self.mode, fd=fd, mac=self.mac, mtu=self.mtu)

    def words(self) -> str:
        return f"macvlan mode {self.mode}"
