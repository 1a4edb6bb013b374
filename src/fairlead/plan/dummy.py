"""The step that makes a dummy: a link of the host that leads nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import rtnetlink
from fairlead.model import HOST
from fairlead.plan.links import delete_ours
from fairlead.plan.netlink import NetlinkStep, ip, link_name, word
from fairlead.plan.step import State

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel


@dataclass(frozen=True, slots=True)
class AddDummy(NetlinkStep):
    """A dummy.  Its MAC is given, so that we know it for ours even if we died before it got its mark."""

    name: str
    mac: str
    alias: str
    namespace: str = HOST

    def make(self, batch: Batch) -> None:
        batch.add(rtnetlink.add_dummy(self.name, mac=self.mac), f"cannot make the dummy interface {self.name}")
        batch.flush()  # If the name is taken, the mark must not go to the link that has it.
        batch.add(rtnetlink.set_link(self.name, alias=self.alias), f"cannot mark the interface {self.name}")

    def unmake(self, batch: Batch) -> None:
        delete_ours(batch, self.name, self.alias, mac=self.mac)

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.name)
        if fact is None:
            return State.MISSING
        return State.HOLDS if fact.kind == "dummy" and fact.alias == self.alias else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        return (
            ip(self.namespace, f"link add {word(self.name)} address {self.mac} type dummy"),
            ip(self.namespace, f"link set {word(self.name)} alias {self.alias}"),
        )

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link del {word(self.name)}"),)

    def makes(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name),)
