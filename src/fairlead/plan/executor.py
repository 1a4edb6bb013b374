"""The one place that applies and reverts plans."""

from __future__ import annotations

from collections.abc import Callable

from fairlead.kernel import Kernel
from fairlead.plan import Plan, State, Step


class Executor:
    """Applies plans in order, batching what can be sent as one; a plan that fails half way is reverted whole."""

    def __init__(self, kernel: Kernel, fault: Callable[[str], None] = lambda point: None) -> None: ...

    def apply(self, plan: Plan) -> None: ...
    def revert(self, plan: Plan) -> None: ...
    def check(self, plan: Plan) -> list[tuple[Step, State]]: ...
    def repair(self, plan: Plan) -> None: ...
