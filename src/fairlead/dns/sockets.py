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


def _enter(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def open_in(namespace: str, family: int, kind: int) -> socket.socket:
    """A socket that does not block, in the namespace at this path (empty: our own); raises `OSError`."""
    kind |= socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    if not namespace:
        return socket.socket(family, kind)
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(fd)
        try:
            return socket.socket(family, kind)
        finally:
            _enter(_home)
    finally:
        os.close(fd)


def listen_in(namespace: str) -> tuple[socket.socket, socket.socket]:
    """The resolver's UDP and TCP sockets of a sandbox; raises `OSError` with neither left."""
    datagrams = open_in(namespace, socket.AF_INET, socket.SOCK_DGRAM)
    try:
        datagrams.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        datagrams.bind((ADDRESS, LISTEN_PORT))
        streams = open_in(namespace, socket.AF_INET, socket.SOCK_STREAM)
    except OSError:
        datagrams.close()
        raise
    try:
        streams.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        streams.bind((ADDRESS, LISTEN_PORT))
        streams.listen(_BACKLOG)
    except OSError:
        datagrams.close()
        streams.close()
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
