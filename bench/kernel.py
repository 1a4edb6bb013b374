"""The few system calls that the bench makes itself: namespaces and bind mounts, without starting a program."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000  # linux/sched.h
MS_BIND = 4096  # linux/mount.h

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def setns(fd: int) -> None:
    """Move the calling thread to the network namespace of `fd` (setns(2))."""
    _check(_libc.setns(fd, CLONE_NEWNET), "setns")


@contextmanager
def inside(namespace: Path) -> Iterator[None]:
    """Be in that network namespace, and so are the programs started meanwhile; then back.

    This is why no `nsenter` is in front of a measured program: it would be measured too.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    there = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(there)
        yield
    finally:
        setns(home)
        os.close(home)
        os.close(there)


def add_namespace(path: Path) -> None:
    """A new network namespace, kept by a mount on `path`."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        _check(_libc.unshare(CLONE_NEWNET), "unshare")
        source = b"/proc/thread-self/ns/net"
        _check(_libc.mount(source, os.fsencode(path), None, MS_BIND, None), f"mount on {path}")
    finally:
        setns(home)
        os.close(home)
