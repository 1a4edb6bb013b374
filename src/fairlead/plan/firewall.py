"""Steps on nftables: our table, elements of its sets and maps, and accept rules in other firewalls' chains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.errors import KernelError
from fairlead.kernel.firewalls import OtherChain
from fairlead.plan.netlink import word
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel

FAMILY_TABLE = "inet fairlead"


@dataclass(frozen=True, slots=True)
class AddTable(Step):
    """Our nftables table with its rules, sets and maps, all of them constant; what grows are the elements."""

    body: str

    def apply(self, kernel: Kernel) -> None:
        kernel.nft.run(self.transaction())

    def revert(self, kernel: Kernel) -> None:
        kernel.nft.run(f"add table {FAMILY_TABLE}\ndelete table {FAMILY_TABLE}\n")

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if kernel.nft.has_table(FAMILY_TABLE) else State.MISSING

    def transaction(self, elements: Sequence[AddElement] = ()) -> str:
        """The commands that exchange whatever table is there for ours with these elements, in one moment."""
        table = f"add table {FAMILY_TABLE}\ndelete table {FAMILY_TABLE}\ntable {FAMILY_TABLE} {{\n{self.body}}}\n"
        return table + "".join(f"add element {words}\n" for words in _grouped(elements, values=True))

    def shell(self) -> tuple[str, ...]:
        return ("nft -f - <<'END'", *f"table {FAMILY_TABLE} {{\n{self.body}}}".splitlines(), "END")

    def unshell(self) -> tuple[str, ...]:
        return (f"nft delete table {FAMILY_TABLE}",)

    def makes(self) -> tuple[str, ...]:
        return (f"table:{FAMILY_TABLE}",)


@dataclass(frozen=True, slots=True)
class AddElement(Step):
    """An element of a set (`value` empty) or map of our table."""

    set: str
    key: str
    value: str = ""

    def channel(self) -> object:
        return "nft"

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        kernel.nft.run("".join(f"add element {words}\n" for words in _grouped(steps, values=True)))

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        # `destroy` needs nftables 1.0.8: add first, so that an element that is gone is no error.
        lines = [f"add element {words}\n" for words in _grouped(steps, values=True)]
        lines += [f"delete element {words}\n" for words in _grouped(steps, values=False)]
        try:
            kernel.nft.run("".join(lines))
        except KernelError:
            # Asked afterwards only, as with thousands of elements even this question takes libnftables a while.
            if kernel.nft.has_table(FAMILY_TABLE):
                raise

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if kernel.nft.has_element(FAMILY_TABLE, self.set, self.key, self.value) else State.MISSING

    def _words(self) -> str:
        return f"{self.key} : {self.value}" if self.value else self.key

    def shell(self) -> tuple[str, ...]:
        return (f"nft add element {FAMILY_TABLE} {self.set} {word(f'{{ {self._words()} }}')}",)

    def unshell(self) -> tuple[str, ...]:
        return (f"nft delete element {FAMILY_TABLE} {self.set} {word(f'{{ {self.key} }}')}",)

    def inside(self) -> tuple[str, ...]:
        return (f"table:{FAMILY_TABLE}",)


def _grouped(steps: Sequence[Step], *, values: bool) -> list[str]:
    sets: dict[str, list[str]] = {}
    for step in steps:
        assert isinstance(step, AddElement)
        sets.setdefault(step.set, []).append(step._words() if values else step.key)
    return [f"{FAMILY_TABLE} {name} {{ {', '.join(elements)} }}" for name, elements in sets.items()]


@dataclass(frozen=True, slots=True)
class AcceptIn(Step):
    """Accept rules for a bridge in another firewall's forward chain, which would drop what ours has accepted.

    A packet passes every base chain of a hook; an accept ends only its own chain (nft(8), "verdict statements").  With
    br_netfilter the chain even sees frames between two ports of one bridge, and that is all there is to accept for a
    bridge that leads nowhere (`within`).
    """

    chain: OtherChain
    bridge: str
    within: bool = False

    def apply(self, kernel: Kernel) -> None:
        kernel.firewalls.accept(self.chain, self.bridge, within=self.within)

    def revert(self, kernel: Kernel) -> None:
        kernel.firewalls.withdraw(self.chain, self.bridge)

    def check(self, kernel: Kernel) -> State:
        accepted = kernel.firewalls.accepts(self.chain, self.bridge, within=self.within)
        return State.HOLDS if accepted else State.MISSING

    def shell(self) -> tuple[str, ...]:
        return self.chain.accept_lines(self.bridge, within=self.within)

    def unshell(self) -> tuple[str, ...]:
        return self.chain.withdraw_lines(self.bridge, within=self.within)
