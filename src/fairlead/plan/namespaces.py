"""The step that makes a network namespace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


@dataclass(frozen=True, slots=True)
class AddNamespace(Step):
    """A network namespace, kept alive by a mount on `path`."""

    path: str

    def apply(self, kernel: Kernel) -> None:
        kernel.namespaces.add(self.path)

    def revert(self, kernel: Kernel) -> None:
        kernel.namespaces.remove(self.path)

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if kernel.namespaces.exists(self.path) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        if self.path.startswith("/run/netns/"):
            return (f"ip netns add {self.path.removeprefix('/run/netns/')}",)
        directory = self.path.rpartition("/")[0]
        return (f"mkdir -p {directory}", f"touch {self.path}", f"unshare --net={self.path} true")

    def unshell(self) -> tuple[str, ...]:
        if self.path.startswith("/run/netns/"):
            return (f"ip netns del {self.path.removeprefix('/run/netns/')}",)
        return (f"umount {self.path}", f"rm {self.path}")

    def makes(self) -> tuple[str, ...]:
        return (f"netns:{self.path}",)
