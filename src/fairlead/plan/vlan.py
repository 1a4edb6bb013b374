"""The step that makes a VLAN sub-interface of a link of the host."""

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
class AddVlan(NetlinkStep):
    """A link that carries what `parent` sends and receives under one VLAN tag (IEEE 802.1Q); `vlan` is 1 to 4094."""

    name: str
    parent: str
    vlan: int
    alias: str
    namespace: str = HOST

    def make(self, batch: Batch) -> None:
        message = rtnetlink.add_vlan(self.name, batch.index(self.parent), vlan=self.vlan)
        batch.add(message, f"cannot make the VLAN interface {self.name}")
        batch.flush()  # If the name is taken, the mark must not go to the link that has it.
        batch.add(rtnetlink.set_link(self.name, alias=self.alias), f"cannot mark the interface {self.name}")

    def unmake(self, batch: Batch) -> None:
        delete_ours(batch, self.name, self.alias)

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.name)
        if fact is None:
            return State.MISSING
        return State.HOLDS if fact.kind == "vlan" and fact.alias == self.alias else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        return (
            ip(self.namespace, f"link add link {word(self.parent)} name {word(self.name)} type vlan id {self.vlan}"),
            ip(self.namespace, f"link set {word(self.name)} alias {self.alias}"),
        )

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link del {word(self.name)}"),)

    def makes(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name),)

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.parent),)
