"""What the links have in common that stand on a parent link of the host and live in a sandbox: macvlan and ipvlan."""

from __future__ import annotations

import errno
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from fairlead.errors import KernelError
from fairlead.kernel import rtnetlink
from fairlead.kernel.netlink import NetlinkError
from fairlead.model import HOST
from fairlead.plan.netlink import ip, link_name, netns_word, word
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel
    from fairlead.kernel.netlink import Message


@dataclass(frozen=True, slots=True)
class AddChild(Step):
    """A link named `name` in `namespace`, on the host's link `parent`.

    It is made in its namespace at once, under a name that nothing else has (`temporary`): older kernels (6.1, say)
    refuse there the name of any link of the host, such as eth0.  It gets its own name after its mark, so one with the
    temporary name is always ours.
    """

    kind: ClassVar[str]

    parent: str
    namespace: str
    name: str
    temporary: str
    alias: str
    mac: str = ""
    """Empty: the kernel's choice, which for an ipvlan and a macvlan in passthru mode is the parent's."""
    mtu: int = 0

    @abstractmethod
    def message(self, parent: int, fd: int) -> Message:
        """The request, to the host's namespace, that makes it under its temporary name; `fd` is its namespace."""

    @abstractmethod
    def words(self) -> str:
        """The kind with its settings, as ip-link(8) writes them after ``type``."""

    def apply(self, kernel: Kernel) -> None:
        what = f"cannot make the {self.kind} {self.name} on {self.parent}"
        try:
            with kernel.batch(HOST) as batch:
                parent = batch.link(self.parent)
                if parent is None:
                    raise KernelError(f"{what}: this host has no interface {self.parent}")
                if not parent.up:
                    raise KernelError(f"{what}: {self.parent} is down; `ip link set {self.parent} up` sets it up")
                batch.add(self.message(parent.index, batch.namespace(self.namespace)), what)
        except NetlinkError as error:
            if error.errno != errno.EBUSY:
                raise
            raise KernelError(f"{what}: {self.parent} is a bridge's port or carries links of another kind") from None
        try:
            with kernel.batch(self.namespace) as batch:
                batch.add(rtnetlink.set_link(self.temporary, alias=self.alias), what)
                batch.add(rtnetlink.rename(batch.index(self.temporary), self.name), what)
        except KernelError:
            self.revert(kernel)
            raise

    def revert(self, kernel: Kernel) -> None:
        if not kernel.namespaces.exists(self.namespace):
            return
        with kernel.batch(self.namespace) as batch:
            for name in (self.temporary, self.name):
                if self._is_ours(batch, name):
                    batch.delete_link(name)

    def _is_ours(self, batch: Batch, name: str) -> bool:
        fact = batch.link(name)
        return fact is not None and fact.kind == self.kind and (name == self.temporary or fact.alias == self.alias)

    def check(self, kernel: Kernel) -> State:
        if not kernel.namespaces.exists(self.namespace):
            return State.MISSING
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.name)
            if fact is None:
                return State.DIFFERS if rtnetlink.get_link(socket, self.temporary) else State.MISSING
        same = fact.kind == self.kind and fact.alias == self.alias and (not self.mac or fact.mac == self.mac)
        return State.HOLDS if same else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        mac = f" address {self.mac}" if self.mac else ""
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        place = f"{word(self.temporary)} netns {netns_word(self.namespace)}"
        return (
            ip(HOST, f"link add link {word(self.parent)} name {place}{mac}{mtu} type {self.words()}"),
            ip(self.namespace, f"link set {word(self.temporary)} alias {self.alias}"),
            ip(self.namespace, f"link set {word(self.temporary)} name {word(self.name)}"),
        )

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link del {word(self.name)}"),)

    def makes(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name),)

    def inside(self) -> tuple[str, ...]:
        return (f"netns:{self.namespace}",)
