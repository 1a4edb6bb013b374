"""The step: the smallest change to the kernel that Fairlead knows.

A step says *what should be*: "this bridge exists", "this address is on that link".  It knows four things: how to make
it so (`apply`), how to take it back (`revert`), whether it is so (`check`), and the line a person would type for both
directions (`shell`, `unshell`).  Attach, roll-back, restart-recovery, repair and ``--explain`` all use the same steps,
so what is shown is what is done.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
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

    @abstractmethod
    def apply(self, kernel: Kernel) -> None:
        """Make it so.  Raises `KernelError` where the kernel refuses; then nothing of this step remains."""

    @abstractmethod
    def revert(self, kernel: Kernel) -> None:
        """Take it back.  What is gone already is no error: reverting twice, or half a step, is safe."""

    @abstractmethod
    def check(self, kernel: Kernel) -> State:
        """Compare with the kernel, changing nothing."""

    @abstractmethod
    def shell(self) -> tuple[str, ...]:
        """The lines that a person would type to apply this step in a root shell on the host."""

    @abstractmethod
    def unshell(self) -> tuple[str, ...]:
        """The lines that a person would type to revert it."""

    def makes(self) -> tuple[str, ...]:
        """Names of the kernel objects that vanish when this step is reverted, such as ``link:/run/netns/a:eth0``."""
        return ()

    def inside(self) -> tuple[str, ...]:
        """Names of the objects that this step's effect lives in: when one of them goes, so does the effect."""
        return ()
