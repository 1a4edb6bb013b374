"""The step that holds a published port on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.model import Address, PublishedPort
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


@dataclass(frozen=True, slots=True)
class HoldPort(Step):
    """A socket in the daemon that keeps a port from other programs; see `fairlead.kernel.ports`.

    No line can be typed for it: a shell holds no sockets.
    """

    port: PublishedPort
    relay_to: Address | None = None

    def channel(self) -> object:
        return "ports"

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        held: list[Step] = []
        try:
            for step in steps:
                step.apply(kernel)
                held.append(step)
        except Exception:
            HoldPort.revert_together(kernel, held)
            raise

    def apply(self, kernel: Kernel) -> None:
        target = (self.relay_to, self.port.port) if self.relay_to else None
        kernel.ports.hold(self.port.protocol, self.port.host_ip, self.port.host_port, target)

    def revert(self, kernel: Kernel) -> None:
        kernel.ports.release(self.port.protocol, self.port.host_ip, self.port.host_port)

    def check(self, kernel: Kernel) -> State:
        held = kernel.ports.held(self.port.protocol, self.port.host_ip, self.port.host_port)
        return State.HOLDS if held else State.MISSING

    def shell(self) -> tuple[str, ...]:
        return ()

    def unshell(self) -> tuple[str, ...]:
        return ()
