"""Kernel settings below /proc/sys (man 5 proc, kernel.org/doc/Documentation/networking/ip-sysctl)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

from fairlead.errors import KernelError
from fairlead.kernel import mounts

_ROOT = Path("/proc/sys")

IPV6_FORWARD = "net/ipv6/conf/all/forwarding"
"""Whether the host passes on IPv6 packets of others."""

_MOST_LOOKS = 64
"""Namespaces looked at in one mount; to make another takes as long as it takes to find one's own among some 300."""


def _path(name: str) -> Path:
    # An interface name may hold dots, so names are given with slashes: net/ipv4/conf/br0.5/route_localnet.
    return _ROOT / name


def read(name: str) -> str | None:
    """The value, or None when the kernel has no such setting.  `name` has slashes: ``net/ipv4/ip_forward``."""
    try:
        return _path(name).read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None


def write(name: str, value: str, *, optional: bool = False) -> None:
    """Set it; raises `KernelError`, but not for a setting that the kernel does not have if that is `optional`."""
    _write(name, value, optional, lambda: os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC))


class LinkSettings:
    """The settings of links, soon found however many namespaces there are.

    All namespaces have a directory ``net/ipv6`` at the same place, and the kernel finds one's own by going through all
    that anybody has looked at in this mount of /proc (proc_sys_compare, fs/proc/proc_sysctl.c): with a thousand that
    takes a millisecond.  So we look at them in mounts of our own, the host's in one and those of sandboxes in another,
    which is made anew now and then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._mounts: dict[bool, int] = {}
        """By whether it is for the host."""
        self._looks = 0

    def write(self, name: str, value: str, *, host: bool, optional: bool = False) -> None:
        """As the function `write`; the calling thread is in the namespace of the link, on the `host` or elsewhere."""
        _write(name, value, optional, lambda: self._open(name, host))

    def close(self) -> None:
        """Let go of the mounts."""
        with self._lock:
            while self._mounts:
                os.close(self._mounts.popitem()[1])

    def _open(self, name: str, host: bool) -> int:
        with self._lock:
            self._looks += not host
            if self._looks > _MOST_LOOKS:
                self._looks = 1
                os.close(self._mounts.pop(False))
            if host not in self._mounts:
                self._mounts[host] = _proc()
            return os.open(f"sys/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._mounts[host])


def _proc() -> int:
    """A /proc of our own; everybody's where the kernel gives us none."""
    try:
        return mounts.mount_nowhere("proc")
    except OSError:
        return os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _write(name: str, value: str, optional: bool, opening: Callable[[], int]) -> None:
    try:
        fd = opening()
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        raise KernelError(f"cannot set {name.replace('/', '.')} to {value}: {error.strerror}") from None
