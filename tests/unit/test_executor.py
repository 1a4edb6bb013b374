"""The executor against steps that only take notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from fairlead.errors import KernelError
from fairlead.plan import Plan, State, Step
from fairlead.plan.executor import Executor


@dataclass(frozen=True)
class Note(Step):
    name: str
    log: list[str] = field(hash=False)
    fails: str = ""
    together: str = ""
    made: str = ""
    within: str = ""
    state: State = State.HOLDS

    def channel(self) -> object:
        return self.together or None

    @staticmethod
    def apply_together(kernel: Any, steps: Sequence[Step]) -> None:
        notes = [step for step in steps if isinstance(step, Note)]
        if any(note.fails == "apply" for note in notes):
            raise KernelError(f"no {notes[0].name}")
        notes[0].log.append("+" + "".join(note.name for note in notes))

    @staticmethod
    def revert_together(kernel: Any, steps: Sequence[Step]) -> None:
        notes = [step for step in steps if isinstance(step, Note)]
        if any(note.fails == "revert" for note in notes):
            raise KernelError(f"stuck {''.join(note.name for note in notes if note.fails)}")
        notes[0].log.append("-" + "".join(note.name for note in notes))

    def check(self, kernel: Any) -> State:
        return self.state

    def shell(self) -> tuple[str, ...]:
        return (f"make {self.name}",)

    def unshell(self) -> tuple[str, ...]:
        return (f"unmake {self.name}",)

    def makes(self) -> tuple[str, ...]:
        return (self.made,) if self.made else ()

    def inside(self) -> tuple[str, ...]:
        return (self.within,) if self.within else ()


def executor(points: list[str] | None = None) -> Executor:
    return Executor(None, points.append if points is not None else lambda point: None)  # type: ignore[arg-type]


def test_applies_in_order_and_reverts_backwards() -> None:
    log: list[str] = []
    plan = Plan((Note("a", log), Note("b", log), Note("c", log)))
    executor().apply(plan)
    executor().revert(plan)
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_neighbours_of_one_channel_go_together() -> None:
    log: list[str] = []
    executor().apply(Plan((Note("a", log, together="x"), Note("b", log, together="x"), Note("c", log))))
    assert log == ["+ab", "+c"]


def test_a_failure_takes_back_what_was_done_and_nothing_else() -> None:
    log: list[str] = []
    with pytest.raises(KernelError, match="no c"):
        executor().apply(Plan((Note("a", log), Note("b", log), Note("c", log, fails="apply"), Note("d", log))))
    assert log == ["+a", "+b", "-b", "-a"]


def test_reverting_goes_on_after_a_failure_and_tells_all() -> None:
    log: list[str] = []
    with pytest.raises(KernelError, match="stuck c; stuck b"):
        executor().revert(Plan((Note("a", log), Note("b", log, fails="revert"), Note("c", log, fails="revert"))))
    assert log == ["-a"]


def test_a_batch_that_cannot_be_reverted_is_reverted_one_by_one() -> None:
    log: list[str] = []
    plan = Plan((Note("a", log, together="x"), Note("b", log, together="x", fails="revert")))
    with pytest.raises(KernelError, match="stuck b"):
        executor().revert(plan)
    assert log == ["-a"]


def test_what_lives_in_a_doomed_object_needs_no_reverting() -> None:
    log: list[str] = []
    plan = Plan((Note("link", log, made="link:x"), Note("address", log, within="link:x"), Note("other", log)))
    executor().revert(plan)
    assert log == ["-other", "-link"]
    assert plan.unshell() == ["unmake other", "unmake link"]
    assert plan.shell() == ["make link", "make address", "make other"]


def test_repair_makes_what_is_missing_and_remakes_what_differs() -> None:
    log: list[str] = []
    plan = Plan(
        (Note("a", log), Note("b", log, state=State.MISSING), Note("c", log, state=State.DIFFERS), Note("d", log))
    )
    repaired = executor().repair(plan)
    assert log == ["+b", "-c", "+c"]
    assert [step.name for step in repaired if isinstance(step, Note)] == ["b", "c"]


def test_there_is_a_fault_point_at_every_boundary() -> None:
    points: list[str] = []
    log: list[str] = []
    plan = Plan((Note("a", log), Note("b", log)))
    executor(points).apply(plan)
    executor(points).revert(plan)
    assert points == ["apply Note", "apply Note", "applied", "revert Note", "revert Note", "reverted"]
