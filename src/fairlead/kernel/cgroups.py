"""What the kernel counts for a control group, in version 1 and 2.

Sources: Linux Documentation/admin-guide/cgroup-v1/{cpuacct,memory,blkio-controller,pids}.rst and cgroup-v2.rst.  On
hosts that have both (hybrid) the controllers are in the trees of version 1, and so are the numbers.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")

_OWN = Path("/proc/self/cgroup")

_UNLIMITED = 1 << 62
"""Version 1 writes the largest multiple of a page that fits for "no limit"; nobody has so much."""

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
"""Nanoseconds in a clock tick (USER_HZ)."""


@dataclass(frozen=True, kw_only=True)
class BlockCount:
    """Bytes or operations of one kind (``Read``, ``Write``…) on one block device."""

    major: int
    minor: int
    kind: str
    value: int


@dataclass(frozen=True, kw_only=True)
class Counters:
    """What a control group has used.  Times in nanoseconds, sizes in bytes; a limit of 0 is none."""

    version: int
    cpu_total: int = 0
    cpu_kernel: int = 0
    cpu_user: int = 0
    cpu_each: tuple[int, ...] = ()
    """By processor; version 1 alone tells."""
    periods: int = 0
    throttled_periods: int = 0
    throttled_time: int = 0
    memory: int = 0
    memory_most: int = 0
    memory_failures: int = 0
    """How often the limit was hit."""
    memory_limit: int = 0
    memory_stat: dict[str, int] = field(default_factory=dict)
    pids: int = 0
    pids_limit: int = 0
    bytes: tuple[BlockCount, ...] = ()
    operations: tuple[BlockCount, ...] = ()


class Cgroup:
    """One control group, by its path beneath the trees' roots (``/fairlead-…``).  What is gone counts nothing."""

    def __init__(self, path: str, root: Path = ROOT) -> None:
        self._path = path.lstrip("/")
        self._root = root
        self.version = 2 if (root / "cgroup.controllers").exists() else 1

    def _directory(self, controller: str) -> Path:
        return self._root / self._path if self.version == 2 else self._root / controller / self._path

    def _text(self, controller: str, name: str) -> str:
        try:
            return (self._directory(controller) / name).read_text()
        except OSError:
            return ""

    def _number(self, controller: str, name: str) -> int:
        """A single number; 0 for ``max``."""
        text = self._text(controller, name).strip()
        number = int(text) if text.lstrip("-").isdigit() else 0
        return number if number < _UNLIMITED else 0

    def _table(self, controller: str, name: str) -> dict[str, int]:
        """Lines of a name and a number."""
        found = {}
        for line in self._text(controller, name).splitlines():
            word, _, number = line.partition(" ")
            if number.isdigit():
                found[word] = int(number)
        return found

    def processes(self) -> list[int]:
        """The processes of the group and of those beneath it, as the host numbers them."""
        found: set[int] = set()
        for directory, _, files in os.walk(self._directory("pids")):
            if "cgroup.procs" in files:
                try:
                    found |= {int(line) for line in Path(directory, "cgroup.procs").read_text().split()}
                except OSError:
                    continue
        return sorted(found)

    def unlimit_processes(self) -> None:
        """Any number of processes; crun 1.8 cannot say that of a container that runs."""
        (self._directory("pids") / "pids.max").write_text("max")

    def entrances(self, own: Path = _OWN) -> list[str]:
        """Where a process with a single thread writes 0 to move itself into the group of version 1.

        That need not wait as other moves do (`expect_move`).
        """
        files = (f"{self._root}/{tree}/{self._path}/tasks" for tree in _trees_of_version_1(own))
        return [file for file in files if os.access(file, os.W_OK)]

    def remove_empty(self, *, patience: float = 0.0, own: Path = _OWN) -> None:
        """Remove the group; it stays where processes or other groups are in it, and one that is gone is no error.

        `patience`: seconds that processes which are ending get to be gone.
        """
        deadline = time.monotonic() + patience
        for tree in _trees_of_version_1(own) if self.version == 1 else [""]:
            while not self._try_to_remove(tree) and time.monotonic() < deadline:
                time.sleep(0.002)

    def _try_to_remove(self, tree: str) -> bool:
        try:
            (self._root / tree / self._path).rmdir()
        except OSError as error:
            return error.errno != errno.EBUSY
        return True

    def read(self) -> Counters:
        """All of it, now."""
        return self._read_2() if self.version == 2 else self._read_1()

    def _read_1(self) -> Counters:
        used, throttled = self._table("cpuacct", "cpuacct.stat"), self._table("cpu", "cpu.stat")
        each = tuple(int(word) for word in self._text("cpuacct", "cpuacct.usage_percpu").split())
        return Counters(
            version=1,
            cpu_total=self._number("cpuacct", "cpuacct.usage"),
            cpu_kernel=used.get("system", 0) * _TICK,
            cpu_user=used.get("user", 0) * _TICK,
            cpu_each=each,
            periods=throttled.get("nr_periods", 0),
            throttled_periods=throttled.get("nr_throttled", 0),
            throttled_time=throttled.get("throttled_time", 0),
            memory=self._number("memory", "memory.usage_in_bytes"),
            memory_most=self._number("memory", "memory.max_usage_in_bytes"),
            memory_failures=self._number("memory", "memory.failcnt"),
            memory_limit=self._number("memory", "memory.limit_in_bytes"),
            memory_stat=self._table("memory", "memory.stat"),
            pids=self._number("pids", "pids.current"),
            pids_limit=self._number("pids", "pids.max"),
            bytes=self._blocks_1("io_service_bytes"),
            operations=self._blocks_1("io_serviced"),
        )

    def _blocks_1(self, what: str) -> tuple[BlockCount, ...]:
        """``8:0 Read 4096``: the scheduler's own count where it keeps one, the throttle's otherwise."""
        for name in (f"blkio.bfq.{what}_recursive", f"blkio.throttle.{what}_recursive", f"blkio.throttle.{what}"):
            found = []
            for line in self._text("blkio", name).splitlines():
                device, *rest = line.split()
                if len(rest) == 2 and ":" in device and rest[1].isdigit():
                    major, _, minor = device.partition(":")
                    found.append(BlockCount(major=int(major), minor=int(minor), kind=rest[0], value=int(rest[1])))
            if found:
                return tuple(found)
        return ()

    def _read_2(self) -> Counters:
        cpu = self._table("", "cpu.stat")
        both = {"rbytes": "read", "wbytes": "write"}, {"rios": "read", "wios": "write"}
        return Counters(
            version=2,
            cpu_total=cpu.get("usage_usec", 0) * 1000,
            cpu_kernel=cpu.get("system_usec", 0) * 1000,
            cpu_user=cpu.get("user_usec", 0) * 1000,
            periods=cpu.get("nr_periods", 0),
            throttled_periods=cpu.get("nr_throttled", 0),
            throttled_time=cpu.get("throttled_usec", 0) * 1000,
            memory=self._number("", "memory.current"),
            memory_most=self._number("", "memory.peak"),
            memory_failures=self._table("", "memory.events").get("max", 0),
            memory_limit=self._number("", "memory.max"),
            memory_stat=self._table("", "memory.stat"),
            pids=self._number("", "pids.current"),
            pids_limit=self._number("", "pids.max"),
            bytes=self._blocks_2(both[0]),
            operations=self._blocks_2(both[1]),
        )

    def _blocks_2(self, kinds: dict[str, str]) -> tuple[BlockCount, ...]:
        """``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …``."""
        found = []
        for line in self._text("", "io.stat").splitlines():
            device, *pairs = line.split()
            major, colon, minor = device.partition(":")
            for name, _, value in (pair.partition("=") for pair in pairs if colon):
                if name in kinds and value.isdigit():
                    count = BlockCount(major=int(major), minor=int(minor), kind=kinds[name], value=int(value))
                    found.append(count)
        return tuple(found)


def expect_move(root: Path = ROOT, own: Path = _OWN) -> None:
    """Tell the kernel that a process is about to be moved between control groups, so that it waits now and not then.

    Moving excludes forking, by a lock that is free for those who fork: the first to move waits until every processor
    has noticed, some 10 ms; for a moment afterwards others need not (percpu_down_write, kernel/locking/percpu-rwsem.c;
    cgroup_procs_write_start, kernel/cgroup/cgroup.c).  To move ourselves to where we are is enough, in any one tree.
    """
    for tree, group in _groups(own):
        # Hybrid hosts have the tree of version 2 beside the others.
        for place in (root / tree,) if tree else (root, root / "unified"):
            with contextlib.suppress(OSError):
                _write(f"{place}{group}/cgroup.procs", str(os.getpid()))
                return


def _groups(own: Path) -> list[tuple[str, str]]:
    """The group that a process is in by the tree, whose name is empty for version 2 (cgroups(7))."""
    lines = (line.split(":", 2) for line in own.read_text().splitlines())
    return [(controllers.removeprefix("name="), path) for _, controllers, path in lines]


@functools.cache
def _trees_of_version_1(own: Path) -> list[str]:
    return [tree for tree, _ in _groups(own) if tree]


def _write(path: str, text: str) -> None:
    """Write to a file that exists; raises OSError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def host_cpu(stat: Path = Path("/proc/stat")) -> tuple[int, int]:
    """Nanoseconds that all processors have spent on anything, idleness included, and how many there are (proc(5))."""
    total = processors = 0
    for line in stat.read_text().splitlines():
        name, *numbers = line.split()
        if name == "cpu":
            total = sum(map(int, numbers[:7])) * _TICK
        elif name.startswith("cpu"):
            processors += 1
    return total, processors


def interfaces(pid: int) -> dict[str, tuple[int, ...]]:
    """By interface of a process's network namespace but ``lo``: the sixteen counters of /proc/PID/net/dev (proc(5))."""
    try:
        lines = Path(f"/proc/{pid}/net/dev").read_text(errors="replace").splitlines()[2:]
    except OSError:
        return {}
    found = {}
    for line in lines:
        name, _, numbers = line.partition(":")
        if name.strip() != "lo":
            found[name.strip()] = tuple(map(int, numbers.split()))
    return found
