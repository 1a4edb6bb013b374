"""Log files that do not grow for ever: the options ``max-size`` and ``max-file``.

The daemon looks at the sizes twice a second and renames the files; conmon is then told to begin a new one.  So a file
may grow a little over its size, by what is written in that time, and no line is lost or cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from typing import TYPE_CHECKING

from fairlead.containers.logs import rotated
from fairlead.containers.plans import log_path
from fairlead.containers.record import Container
from fairlead.plan.runtime import Place

if TYPE_CHECKING:
    from pathlib import Path

    from fairlead.containers.service import Containers

log = logging.getLogger("fairlead.containers")

_LOOK = 0.5
"""Seconds between two looks."""


class Rotator:
    """Watches the logs of running containers that have a ``max-size``; asleep while there are none."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._timer: asyncio.TimerHandle | None = None

    def wake(self) -> None:
        """A container has started."""
        if self._timer is None and self._limited():
            self._timer = asyncio.get_running_loop().call_later(_LOOK, self._look)

    def close(self) -> None:
        """The daemon stops."""
        if self._timer:
            self._timer.cancel()

    def _limited(self) -> list[Container]:
        return [c for c in self._containers.store.all(Container) if c.is_running and c.spec.log.max_size]

    def _look(self) -> None:
        self._timer = None
        for container in self._limited():
            try:
                self._rotate(container)
            except OSError:
                log.exception("rotating the log of container %s failed", container.name)
        self.wake()

    def _rotate(self, container: Container) -> None:
        path = log_path(self._containers.paths, container.id)
        try:
            if path.stat().st_size < container.spec.log.max_size:
                return
            shift(path, container.spec.log.max_file)
        except FileNotFoundError:
            # conmon made it, so somebody took it away, such as a daemon that died in the middle of this.
            log.debug("container %s has no log", container.name)
        command_monitor(self._containers.place(container), "2 0 0")


def shift(path: Path, files: int) -> None:
    """Give each file the name of the next older one; the oldest goes."""
    if files == 1:
        path.unlink(missing_ok=True)
    for number in range(files - 2, -1, -1):
        with contextlib.suppress(FileNotFoundError):
            rotated(path, number).rename(rotated(path, number + 1))


def command_monitor(place: Place, command: str) -> None:
    """Tell conmon something: ``1 HEIGHT WIDTH`` of the terminal, or ``2 0 0``, to reopen its log.

    Source: containers/conmon, src/ctrl.c.
    """
    with contextlib.suppress(OSError):
        control = os.open(place.bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(control, f"{command}\n".encode())
        finally:
            os.close(control)
