"""Kill the daemon at a chosen point, so that tests can crash it at every step boundary and not by luck of timing.

``FAIRLEAD_FAULT=N`` kills the process with SIGKILL when the N-th point after start-up is passed; N counts from 1.
``FAIRLEAD_FAULT_LOG=path`` appends the name of each point passed, one a line, so that a test can count them first.
Without either variable a point costs one attribute look-up.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping


class Fault:
    """A callable for `Store.fault` and `Executor`; it does nothing until it is armed."""

    def __init__(self, kill_at: int = 0, log: str = "") -> None:
        self._kill_at = kill_at
        self._log = log
        self._passed = 0
        self._armed = False
        self._lock = threading.Lock()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Fault:
        """Raises `ValueError` where ``FAIRLEAD_FAULT`` is no number."""
        return cls(int(environment.get("FAIRLEAD_FAULT") or 0), environment.get("FAIRLEAD_FAULT_LOG", ""))

    def arm(self) -> None:
        """Start-up is over: count from here."""
        self._armed = bool(self._kill_at or self._log)

    def __call__(self, point: str) -> None:
        if not self._armed:
            return
        with self._lock:
            self._passed += 1
            if self._log:
                with open(self._log, "a") as file:
                    file.write(point + "\n")
            if self._passed == self._kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
