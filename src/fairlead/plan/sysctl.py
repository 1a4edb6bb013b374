"""The step that sets a kernel setting."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import sysctl
from fairlead.model import HOST
from fairlead.plan.netlink import in_namespace, word
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


@dataclass(frozen=True, slots=True)
class SetSysctl(Step):
    """A setting of the host, written with slashes (``net/ipv4/ip_forward``); `before` is what revert restores.

    With `link` the setting belongs to that interface (``link:…``) and goes with it.  With `optional` a kernel that has
    no such setting (one without IPv6) is no error.  With `namespace` it is one of that network namespace.
    """

    name: str
    value: str
    before: str = ""
    link: str = ""
    optional: bool = False
    namespace: str = HOST

    def apply(self, kernel: Kernel) -> None:
        with kernel.namespaces.entered(self.namespace):
            if self.link:
                host = self.namespace == HOST
                kernel.link_settings.write(self.name, self.value, host=host, optional=self.optional)
            else:
                sysctl.write(self.name, self.value, optional=self.optional)

    def revert(self, kernel: Kernel) -> None:
        if self.before:
            with kernel.namespaces.entered(self.namespace):
                if sysctl.read(self.name) == self.value:
                    sysctl.write(self.name, self.before)

    def check(self, kernel: Kernel) -> State:
        with kernel.namespaces.entered(self.namespace):
            value = sysctl.read(self.name)
        return State.HOLDS if value == self.value or (self.optional and value is None) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        line = f"sysctl -{'e' * self.optional}qw {word(self.name)}={word(self.value)}"
        return (in_namespace(self.namespace, line),)

    def unshell(self) -> tuple[str, ...]:
        return (
            (in_namespace(self.namespace, f"sysctl -qw {word(self.name)}={word(self.before)}"),) if self.before else ()
        )

    def inside(self) -> tuple[str, ...]:
        return (self.link,) if self.link else ()
