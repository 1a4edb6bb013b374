"""Reading a container's log, which conmon writes in the Kubernetes CRI format.

A line is ``TIME STREAM P|F TEXT``: P when the text is a part of a line (conmon cuts at its buffer's end), F when the
line ends here.  Source: kubernetes/design-proposals-archive, node/kubelet-cri-logging.md.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fairlead.containers.streams import STDERR, STDOUT, Frame

_BLOCK = 1 << 16

_LIBC = ctypes.CDLL(None, use_errno=True)
_IN_MODIFY = 0x2
_IN_NONBLOCK_CLOEXEC = os.O_NONBLOCK | os.O_CLOEXEC


class Entry(NamedTuple):
    """One line of the log file.  `time` is as written, RFC 3339 with nanoseconds and offset."""

    time: bytes
    stream: int
    whole: bool
    text: bytes

    @property
    def nanoseconds(self) -> int:
        """The time since the epoch."""
        return nanoseconds(self.time.decode())

    def payload(self, *, timestamps: bool, details: bytes | None = None) -> bytes:
        """The bytes that the container wrote, with time and details in front if wanted."""
        text = self.text + (b"\n" if self.whole else b"")
        if details is not None:
            text = details + b" " + text
        return self.time.replace(b"+00:00", b"Z") + b" " + text if timestamps else text


def nanoseconds(text: str) -> int:
    """An RFC 3339 time since the epoch, all its nine decimals (Python keeps six); raises ValueError."""
    head, point, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    moment = datetime.fromisoformat(head + rest[len(digits) :])
    if point and not digits:
        raise ValueError(text)
    return int(moment.timestamp()) * 1_000_000_000 + int(digits[:9].ljust(9, "0"))


def parse(line: bytes) -> Entry | None:
    """An entry of the log file (without its newline); None for what conmon never writes."""
    parts = line.split(b" ", 3)
    if len(parts) < 3 or parts[1] not in (b"stdout", b"stderr"):
        return None
    stream = STDOUT if parts[1] == b"stdout" else STDERR
    return Entry(parts[0], stream, parts[2] == b"F", parts[3] if len(parts) > 3 else b"")


def tail_offset(file: BinaryIO, count: int) -> int:
    """Where the last `count` lines of output begin; parts of a line count as one with its end."""
    return _tail(file, count)[0]


def _tail(file: BinaryIO, count: int) -> tuple[int, int]:
    """Where the last `count` lines begin, and how many there are, if fewer."""
    end = position = file.seek(0, os.SEEK_END)
    if count <= 0:
        return end, 0
    pending = b""
    found = 0
    start = end
    while position > 0:
        size = min(_BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size) + pending
        lines = block.split(b"\n")
        # The first piece may begin in the block before.
        pending = lines[0] if position else b""
        offset = position + len(block)
        for index in range(len(lines) - 1, 0 if position else -1, -1):
            offset -= len(lines[index])
            entry = parse(lines[index])
            if entry is not None:
                at_end = start == end and found == 0
                if (entry.whole or at_end) and (found := found + 1) > count:
                    return start, count
                start = offset
            offset -= 1
    return 0, found


def rotated(path: Path, number: int) -> Path:
    """The log's older files: 1 is the youngest of them, 0 the log itself."""
    return path.with_name(f"{path.name}.{number}") if number else path


class LogReader:
    """Reads one log from a position on, through its older files to the one that is written; `close` it."""

    def __init__(self, path: Path, files: int = 1) -> None:
        self._path = path
        self._files = files
        self._file: BinaryIO | None = None
        self._rest = b""

    def open(self, tail: int | None) -> None:
        """Open at the beginning, or where the last `tail` lines begin; a log that is not there yet is empty."""
        for number in range(self._files):
            older = rotated(self._path, number)
            try:
                file = older.open("rb")
            except FileNotFoundError:
                if number:
                    break
                continue  # It is being rotated right now.
            self._use(file)
            if tail is not None:
                offset, found = _tail(file, tail)
                file.seek(offset)
                tail -= found
                if tail <= 0:
                    break

    def _use(self, file: BinaryIO) -> None:
        self.close()
        self._file = file

    def entries(self) -> list[Entry]:
        """The next complete entries, a block at a time; empty at the present end."""
        if self._file is None:
            self.open(None)
        while self._file is not None:
            # Looked up before the last read: whoever began the next file has finished with this one.
            following = self._following(self._file)
            while block := self._file.read(_BLOCK):
                *lines, self._rest = (self._rest + block).split(b"\n")
                if found := [entry for line in lines if (entry := parse(line))]:
                    return found
            if following is None:
                break
            self._use(following)
            self._rest = b""
        return []

    def _following(self, file: BinaryIO) -> BinaryIO | None:
        """The file that was begun after this one."""
        mine = os.fstat(file.fileno())
        younger: Path | None = None
        for number in range(self._files + 1):
            candidate = rotated(self._path, number)
            try:
                status = candidate.stat()
            except FileNotFoundError:
                if number == 0:
                    return None  # The next one is not begun yet.
                break
            if (status.st_dev, status.st_ino) == (mine.st_dev, mine.st_ino):
                break
            younger = candidate
        try:
            return younger.open("rb") if younger else None
        except FileNotFoundError:
            return None  # Moved on in this very moment: the next look finds it.

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Watch:
    """Wakes when a file grows (inotify(7)); polls every half second as a safety net."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = _LIBC.inotify_init1(_IN_NONBLOCK_CLOEXEC)
        if self._fd >= 0:
            self.renew()
            asyncio.get_running_loop().add_reader(self._fd, self._wake)
        self.event = asyncio.Event()

    def renew(self) -> None:
        """Watch the file that has the name now; to watch it twice is no harm."""
        if self._fd >= 0:
            _LIBC.inotify_add_watch(self._fd, os.fsencode(self._path), _IN_MODIFY)

    def _wake(self) -> None:
        try:
            os.read(self._fd, 4096)
        except BlockingIOError:
            return
        self.event.set()

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)


async def read_log(
    path: Path,
    *,
    stdout: bool = True,
    stderr: bool = True,
    since: int = 0,
    until: int = 0,
    tail: int | None = None,
    timestamps: bool = False,
    follow: Callable[[], asyncio.Future[int] | None] | None = None,
    files: int = 1,
    details: bytes | None = None,
) -> AsyncGenerator[Frame, None]:
    """The log's frames.  `follow` gives a future that is done when the container has ended, None if it has already.

    `since`, `until`: nanoseconds since the epoch.  `files`: how many there may be, with the older ones.  `details`: to
    be set before each line, behind its time.
    """
    wanted = {n for n, w in ((STDOUT, stdout), (STDERR, stderr)) if w}
    ended = follow() if follow else None
    path.parent.mkdir(parents=True, exist_ok=True)
    if ended is not None and not rotated(path, 1).exists():
        path.touch()  # Something to watch, before the container says its first word.
    reader = LogReader(path, files)
    watch = _Watch(path) if ended is not None else None
    inside: dict[int, bool] = {}
    """Per stream: are we within a line whose time was printed already."""
    try:
        reader.open(tail)
        while True:
            if watch:
                watch.event.clear()
                watch.renew()
            over = ended is None or ended.done()
            while entries := reader.entries():
                for entry in entries:
                    if until and entry.nanoseconds > until:
                        return
                    if entry.stream in wanted and (not since or entry.nanoseconds >= since):
                        begins = not inside.get(entry.stream, False)
                        inside[entry.stream] = not entry.whole
                        more = details if begins else None
                        yield Frame(entry.stream, entry.payload(timestamps=timestamps and begins, details=more))
                await asyncio.sleep(0)
            if over or ended is None or watch is None:
                return
            change = asyncio.ensure_future(watch.event.wait())
            either: list[asyncio.Future[Any]] = [change, ended]
            await asyncio.wait(either, timeout=0.5, return_when=asyncio.FIRST_COMPLETED)
            change.cancel()
    finally:
        reader.close()
        if watch:
            watch.close()
