"""What ``docker push`` tells of each layer, read off the skopeo that sends it.

skopeo says nothing that a program could follow, so two other things are looked at: how far it has read the file of a
layer (proc(5), ``fdinfo``), and its debug log, which names the layers that the registry has.  A skopeo whose log reads
differently costs the words "Layer already exists", nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from fairlead.images.record import Progress
from fairlead.images.words import bar, short

POLL = 0.1
"""Seconds between two looks."""

_SKIPPED = re.compile(rb"Skipping blob (sha256:[0-9a-f]{64}) \(already present\)")

_COMPLAINT = 1 << 16
"""Bytes of the log's end that are kept for the case of an error."""


class Sending:
    """One push.  Layers are (digest of the blob, bytes, diff id): Docker names them by the latter, topmost first."""

    def __init__(self, layers: Iterable[tuple[str, int, str]], progress: Progress) -> None:
        self._progress = progress
        self._layers = {digest: (size, short(diff_id)) for digest, size, diff_id in reversed(list(layers))}
        self._read: dict[str, int] = {}
        self._done: set[str] = set()
        for _, name in self._layers.values():
            progress({"status": "Preparing", "progressDetail": {}, "id": name})

    async def follow(self, process: asyncio.subprocess.Process) -> tuple[bytes, bytes]:
        """Tell what skopeo does until it has ended; returns its output and the end of its log."""
        assert process.stdout is not None
        assert process.stderr is not None
        log = asyncio.ensure_future(self._hear(process.stderr))
        output = asyncio.ensure_future(process.stdout.read())
        try:
            while not log.done():
                await asyncio.wait([log], timeout=POLL)
                self._look(process.pid)
            await process.wait()
            return await output, await log
        finally:
            log.cancel()
            output.cancel()

    def end(self) -> None:
        """All has been sent."""
        for digest in self._layers:
            self._finish(digest, "Pushed")

    async def _hear(self, stream: asyncio.StreamReader) -> bytes:
        tail, line = b"", b""
        while data := await stream.read(1 << 14):
            *whole, line = (line + data).split(b"\n")
            for text in whole:
                if found := _SKIPPED.search(text):
                    self._finish(found[1].decode(), "Layer already exists")
            tail = (tail + data)[-_COMPLAINT:]
        return tail

    def _look(self, pid: int) -> None:
        now = dict(_positions(pid, self._layers))
        for digest, position in now.items():
            size, name = self._layers[digest]
            if digest not in self._done and position > self._read.get(digest, 0):
                self._read[digest] = position
                self._progress(
                    {
                        "status": "Pushing",
                        "progressDetail": {"current": position, "total": size},
                        "progress": bar(position, size),
                        "id": name,
                    }
                )
        for digest, position in self._read.items():
            if digest not in now and position >= self._layers[digest][0]:
                self._finish(digest, "Pushed")

    def _finish(self, digest: str, status: str) -> None:
        if digest in self._layers and digest not in self._done:
            self._done.add(digest)
            self._progress({"status": status, "progressDetail": {}, "id": self._layers[digest][1]})


def _positions(pid: int, wanted: Iterable[str]) -> Iterator[tuple[str, int]]:
    """How far a process has read the files that have these digests for names."""
    process = Path(f"/proc/{pid}")
    with contextlib.suppress(OSError):
        for number in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):  # closed meanwhile
                digest = f"sha256:{os.path.basename(os.readlink(process / 'fd' / number))}"
                if digest in wanted:
                    yield digest, int((process / "fdinfo" / number).read_text().split()[1])
