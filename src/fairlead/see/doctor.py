"""The doctor: what may be wrong with the host and with what is ours, one small check each, and what mends it.

A check only looks.  What it finds is data: a result, a sentence, and the lines that would mend it.  Those of ours are
mended by the engine, in the way in which it repairs after a start; the host's and other programs' are left to people.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec

from fairlead.errors import FairleadError
from fairlead.kernel import Kernel
from fairlead.model import Endpoint, Link, Network, Phase, Record, Sandbox
from fairlead.plan import Plan, State, Step
from fairlead.plan.executor import Executor
from fairlead.see.facts import Snapshot
from fairlead.see.ground import Ground

Result = Literal["ok", "warning", "failed"]

FIX = "fairlead doctor --fix"


class Finding(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What a check found.  `remedy` are lines to type; `ours`: ``--fix`` would mend it; `mended`: it just has."""

    check: str
    result: Result
    sentence: str
    remedy: tuple[str, ...] = ()
    ours: bool = False
    mended: bool = False


@dataclass(frozen=True)
class Patient:
    """What checks look at; each part is read once, when a check first asks for it.

    `daemon`: it is the daemon that looks, so what is half done is in good hands.
    """

    ground: Ground
    daemon: bool = True

    @cached_property
    def snapshot(self) -> Snapshot:
        """The network as the kernel has it."""
        return self.ground.snapshot()

    @cached_property
    def table(self) -> list[dict[str, Any]]:
        """Our nftables table, as nft lists it; empty if there is none."""
        return self.ground.kernel.nft.table("inet fairlead")

    def __post_init__(self) -> None:
        # Before any of the kernel is read: what goes while we look was there, and is no stranger.
        self.__dict__["_first"] = self.ground.records()

    @property
    def known(self) -> list[Record]:
        """Every record that there was since we began to look, in whatever phase."""
        found = {record.id: record for record in self.__dict__["_first"]}
        return list({**found, **{record.id: record for record in self.ground.records()}}.values())

    @cached_property
    def records(self) -> list[Record]:
        """The records that the kernel should have, and that nobody is changing."""
        return [record for record in self.ground.records() if phase(record) is Phase.READY]

    def stays(self, record: Record) -> bool:
        """Whether it still is as it was: what somebody changes while we look is not wrong."""
        return self.ground.store.get(type(record), record.id) == record

    def all(self, kind: type[msgspec.Struct]) -> list[Any]:
        """Those of a kind."""
        return [record for record in self.records if isinstance(record, kind)]

    @cached_property
    def owners(self) -> dict[str, tuple[str, str]]:
        """By sandbox: the id and name that users know it by."""
        return self.ground.owners()

    def check(self, record: Record, kinds: tuple[type[Step], ...], *, but: bool = False) -> list[tuple[Step, State]]:
        """How the steps of these kinds (or, with `but`, of all others) of a record compare with the kernel."""
        steps = [step for step in self.ground.planner.plan_of(record) if isinstance(step, kinds) != but]
        return _settled(Executor(self.ground.kernel).check(Plan(tuple(steps))))

    def title(self, record: Record) -> str:
        """A record as people know it."""
        if isinstance(record, Network):
            return f"network {record.name}"
        if isinstance(record, Sandbox):
            return f"{'container' if record.container else 'namespace'} {self.name(record.id)}"
        if isinstance(record, Endpoint):
            network = self.ground.store.get(Network, record.network)
            return f"{self.name(record.sandbox)} in network {network.name if network else record.network[:12]}"
        if isinstance(record, Link):
            return "the link " + " ── ".join(
                f"{self.name(end.sandbox) if end.sandbox else 'host'}/{end.ifname}" for end in record.ends
            )
        return record.id[:12]

    def name(self, sandbox: str) -> str:
        """What users call a sandbox."""
        id_, name = self.owners.get(sandbox, (sandbox, ""))
        return name or id_[:12]


Looking = Callable[[Patient], Iterator[Finding]]


@dataclass(frozen=True)
class Check:
    """One thing to look at.  `fine` is what is said when nothing was found wrong."""

    name: str
    about: str
    look: Looking
    fine: str


def examine(patient: Patient, checks: Iterable[Check]) -> list[Finding]:
    """All findings.  A check that fails by itself is a finding too, and does not stop the others."""
    found: list[Finding] = []
    for check in checks:
        try:
            findings = list(check.look(patient))
        except (FairleadError, OSError) as error:
            findings = [Finding(check=check.name, result="failed", sentence=f"this could not be looked at: {error}")]
        found += findings or [Finding(check=check.name, result="ok", sentence=check.fine)]
    return found


def phase(record: Record) -> Phase:
    """Where a record is between intent and fact."""
    assert isinstance(record, Network | Sandbox | Endpoint | Link)
    return record.phase


def _settled(states: list[tuple[Step, State]]) -> list[tuple[Step, State]]:
    """What lives in something that is missing is missing too, even if by itself it may be absent (a setting that not
    every kernel has)."""
    lost = {name for step, state in states if state is not State.HOLDS for name in step.makes()}
    return [(step, State.MISSING if not lost.isdisjoint(step.inside()) else state) for step, state in states]


def lines_of(kernel: Kernel, steps: Iterable[tuple[Step, State]]) -> tuple[str, ...]:
    """The lines that would make these steps hold; what differs is taken back first."""
    found: list[str] = []
    for step, state in steps:
        if state is State.HOLDS:
            continue
        if state is State.DIFFERS:
            found += step.clearing(kernel)
        found += step.shell()
    return tuple(found)


def remedy(lines: Sequence[str]) -> tuple[str, ...]:
    """Lines to type, if they are few; else the command that does what is meant."""
    return tuple(lines) if 0 < len(lines) <= 2 else (FIX,)
