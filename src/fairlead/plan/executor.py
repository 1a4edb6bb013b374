"""The one place that applies and reverts plans."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

from fairlead.errors import KernelError
from fairlead.kernel import Kernel
from fairlead.plan import Plan, State, Step

log = logging.getLogger("fairlead.plan")


class Executor:
    """Applies plans in order, batching what can be sent as one; a plan that fails half way is reverted whole.

    `fault` is called before and after each batch, so that tests can kill the process at every boundary.
    """

    def __init__(self, kernel: Kernel, fault: Callable[[str], None] = lambda point: None) -> None:
        self.kernel = kernel
        self._fault = fault

    def apply(self, plan: Plan) -> None:
        """Apply every step, or raise the first error with everything reverted."""
        done: list[Step] = []
        try:
            for steps in _batches(plan.steps):
                self._fault(f"apply {_names(steps)}")
                type(steps[0]).apply_together(self.kernel, steps)
                done += steps
            self._fault("applied")
        except Exception:
            try:
                self.revert(Plan(tuple(done)))
            except KernelError:
                log.exception("undoing a failed plan failed as well")
            raise

    def revert(self, plan: Plan) -> None:
        """Revert every step, last first.  What fails does not stop the rest; raises `KernelError` at the end."""
        errors: list[Exception] = []
        for steps in _batches(plan.to_revert()):
            self._fault(f"revert {_names(steps)}")
            try:
                type(steps[0]).revert_together(self.kernel, steps)
            except Exception as error:
                if len(steps) == 1:
                    errors.append(error)
                else:
                    errors += self._revert_each(steps)
        self._fault("reverted")
        if errors:
            raise KernelError("; ".join(map(str, errors))) from ExceptionGroup("reverting", errors)

    def _revert_each(self, steps: Sequence[Step]) -> Iterator[Exception]:
        """A batch that failed, one by one: each step is safe to revert twice."""
        for step in steps:
            try:
                step.revert(self.kernel)
            except Exception as error:
                yield error

    def check(self, plan: Plan) -> list[tuple[Step, State]]:
        """How each step compares with the kernel."""
        found: list[tuple[Step, State]] = []
        for step in plan:
            try:
                found.append((step, step.check(self.kernel)))
            except Exception:  # A step inside a namespace that is gone cannot even be looked at.
                log.debug("cannot check %r", step, exc_info=True)
                found.append((step, State.MISSING))
        return found

    def repair(self, plan: Plan) -> list[Step]:
        """Make what is missing and remake what differs; returns the steps that this took."""
        repaired: list[Step] = []
        for step in plan:
            ((_, state),) = self.check(Plan((step,)))
            if state is State.HOLDS:
                continue
            if state is State.DIFFERS:
                step.revert(self.kernel)
            step.apply(self.kernel)
            repaired.append(step)
        return repaired


def _batches(steps: Sequence[Step]) -> Iterator[list[Step]]:
    for channel, group in itertools.groupby(steps, key=lambda step: step.channel()):
        if channel is None:
            yield from ([step] for step in group)
        else:
            yield list(group)


def _names(steps: Sequence[Step]) -> str:
    return " ".join(dict.fromkeys(type(step).__name__ for step in steps))
