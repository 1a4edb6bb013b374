"""Kernel settings below /proc/sys (man 5 proc, kernel.org/doc/Documentation/networking/ip-sysctl)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from fairlead.errors import KernelError

_ROOT = Path("/proc/sys")

IPV6_FORWARD = "net/ipv6/conf/all/forwarding"
"""Whether the host passes on IPv6 packets of others."""


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
    """The settings of the host's links, soon found however many namespaces there are.

    All namespaces have a directory ``net/ipv6/conf`` at the same place, and the kernel finds one's own by going through
    them (proc_sys_compare, fs/proc/proc_sysctl.c): with a thousand that takes a millisecond.  So the host's stay open.
    """

    def __init__(self) -> None:
        self._directories: dict[str, int] = {}

    def write(self, name: str, value: str, *, optional: bool = False) -> None:
        """As the function `write`, for a name such as ``net/ipv6/conf/eth0/disable_ipv6``; by a thread at home."""
        net, family, conf, setting = name.split("/", 3)
        _write(name, value, optional, lambda: self._open(f"{net}/{family}/{conf}", setting))

    def _open(self, directory: str, setting: str) -> int:
        if directory not in self._directories:
            self._directories[directory] = os.open(_path(directory), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        return os.open(setting, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self._directories[directory])


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
