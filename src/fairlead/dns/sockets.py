"""Sockets in other network namespaces.

The one raw kernel interface outside `fairlead.kernel`, whose imports would double the resolver's memory.
"""

from __future__ import annotations

import ctypes
import os
import socket

from fairlead.dns import ADDRESS, LISTEN_PORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    Server = tuple[str, int]

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BACKLOG = 64
_BUFFER = 1 << 20
"""Bytes of requests that may wait in a sandbox, some thousands."""

_libc = ctypes.CDLL(None, use_errno=True)
_home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


class _Entered:
    """The body of a ``with`` runs in the namespace at this path (empty: our own)."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        if self._path:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _set(fd)
            finally:
                os.close(fd)

    def __exit__(self, *_: object) -> None:
        if self._path:
            _set(_home)


def _set(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def _open(family: int, kind: int) -> socket.socket:
    return socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def open_in(namespace: str, family: int, kind: int) -> socket.socket:
    """A socket that does not block, in the namespace at this path (empty: our own); raises `OSError`."""
    with _Entered(namespace):
        return _open(family, kind)


def listen_in(namespace: str) -> tuple[socket.socket, socket.socket]:
    """The resolver's UDP and TCP sockets of a sandbox; raises `OSError` with neither left."""
    opened: list[socket.socket] = []
    try:
        with _Entered(namespace):
            opened += [_open(socket.AF_INET, kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)]
        datagrams, streams = opened
        datagrams.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        datagrams.bind((ADDRESS, LISTEN_PORT))
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        streams.bind((ADDRESS, LISTEN_PORT))
        streams.listen(_BACKLOG)
    except OSError:
        for one in opened:
            one.close()
        raise
    return datagrams, streams


def is_namespace(path: str, inode: int) -> bool:
    """Whether `path` still is the namespace with this inode number, not just a file left behind."""
    try:
        return os.stat(path).st_ino == inode
    except OSError:
        return False


def namespace_of(path: str) -> int:
    """The inode number of the namespace at `path`; raises `OSError`."""
    return os.stat(path).st_ino
