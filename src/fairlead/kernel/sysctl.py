"""Kernel settings below /proc/sys (man 5 proc, kernel.org/doc/Documentation/networking/ip-sysctl)."""

from __future__ import annotations

import os
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
    try:
        fd = os.open(_path(name), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, value.encode())
        finally:
            os.close(fd)
    except OSError as error:
        if optional and isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        raise KernelError(f"cannot set {name.replace('/', '.')} to {value}: {error.strerror}") from None
