"""Room kept for the moment when the disk is full: without it, nothing could be removed to make room.

SQLite writes before it forgets, and so does everything that is careful.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

BYTES = 1 << 20
"""Enough for some hundred removals, each of a few pages in the write-ahead log."""


class Reserve:
    """A file of that size, beside the store's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = False
        self.keep()

    def keep(self) -> None:
        """Take the room, if it is not taken yet and there is any."""
        if self._kept:
            return
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BYTES)
                self._kept = True
            finally:
                os.close(descriptor)
                if not self._kept:
                    self._path.unlink()

    def give(self) -> bool:
        """Let go of the room; False if there was none."""
        given, self._kept = self._kept, False
        if given:
            self._path.unlink(missing_ok=True)
        return given
