"""The step: the smallest change to the kernel that Fairlead knows.

A step says *what should be*: "this bridge exists", "this address is on that link".  It knows four things: how to make
it so (`apply`), how to take it back (`revert`), whether it is so (`check`), and the line a person would type for both
directions (`shell`, `unshell`).  Attach, roll-back, restart-recovery, repair and ``--explain`` all use the same steps,
so what is shown is what is done.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


class State(enum.Enum):
    """What `Step.check` finds in the kernel."""

    HOLDS = "holds"
    MISSING = "missing"
    DIFFERS = "differs"


class Step(ABC):
    """One kind of kernel object that should exist; subclasses are frozen dataclasses."""

    __slots__ = ()

    def apply(self, kernel: Kernel) -> None:
        """Make it so, or raise a `FairleadError` with nothing of this step left."""
        self.apply_together(kernel, (self,))

    def revert(self, kernel: Kernel) -> None:
        """Take it back.  What is gone already is no error: reverting twice, or half a step, is safe."""
        self.revert_together(kernel, (self,))

    def channel(self) -> object:
        """Neighbouring steps of a plan with equal channels are applied, or reverted, together; None: alone."""
        return None

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        """Apply all of these steps of one channel, or, raising, none; override this or `apply`."""
        for step in steps:
            step.apply(kernel)

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        """Revert steps of one channel, given in the order in which to revert; override this or `revert`."""
        for step in steps:
            step.revert(kernel)

    @abstractmethod
    def check(self, kernel: Kernel) -> State:
        """Compare with the kernel, changing nothing."""

    @abstractmethod
    def shell(self) -> tuple[str, ...]:
        """The lines that a person would type to apply this step in a root shell on the host."""

    @abstractmethod
    def unshell(self) -> tuple[str, ...]:
        """The lines that a person would type to revert it."""

    def clearing(self, kernel: Kernel) -> tuple[str, ...]:
        """The lines that take away what is there in its place, where it `State.DIFFERS`; only looks at the kernel."""
        return self.unshell()

    def makes(self) -> tuple[str, ...]:
        """Names of the kernel objects that vanish when this step is reverted, such as ``link:/run/netns/a:eth0``."""
        return ()

    def inside(self) -> tuple[str, ...]:
        """Names of the objects that this step's effect lives in: when one of them goes, so does the effect."""
        return ()
