"""A plan: an ordered list of steps, and the two ways through it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fairlead.plan.step import State, Step

__all__ = ["Plan", "State", "Step"]


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps in the order in which they are applied; reverting goes the other way."""

    steps: tuple[Step, ...] = ()

    def __add__(self, other: Plan) -> Plan:
        return Plan(self.steps + other.steps)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def to_revert(self) -> tuple[Step, ...]:
        """The steps to revert, last first, without those that vanish with the object they live in.

        Deleting a veth takes its addresses and routes along, so a detach is one deletion, not five.
        """
        doomed = {name for step in self.steps for name in step.makes()}
        return tuple(step for step in reversed(self.steps) if doomed.isdisjoint(step.inside()))

    def shell(self) -> list[str]:
        """The lines that a person would type to apply the plan."""
        return [line for step in self.steps for line in step.shell()]

    def unshell(self) -> list[str]:
        """The lines that a person would type to take it back."""
        return [line for step in self.to_revert() for line in step.unshell()]
