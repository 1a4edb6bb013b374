"""The step that holds a published port on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel.ports import Key, Target
from fairlead.model import Address, PublishedPort
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


@dataclass(frozen=True, slots=True)
class HoldPort(Step):
    """A socket in the keeper that keeps a port from other programs; see `fairlead.kernel.ports`.

    No line can be typed for it: a shell holds no sockets.
    """

    port: PublishedPort
    relay_to: Address | None = None

    def channel(self) -> object:
        return "ports"

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        kernel.ports.hold({step.key(): step._target() for step in steps if isinstance(step, HoldPort)})

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        kernel.ports.release([step.key() for step in steps if isinstance(step, HoldPort)])

    def key(self) -> Key:
        """What names the port among those held."""
        return (self.port.protocol, self.port.host_ip, self.port.host_port)

    def _target(self) -> Target | None:
        return (self.relay_to, self.port.port) if self.relay_to else None

    def check(self, kernel: Kernel) -> State:
        if not kernel.ports.holds(self.key()):
            return State.MISSING
        return State.HOLDS if kernel.ports.target(self.key()) == self._target() else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        return ()

    def unshell(self) -> tuple[str, ...]:
        return ()
