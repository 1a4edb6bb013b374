"""Small numbers kept back for the sockets of a library that takes no others.

libnftables waits with select(2), whose sets end at FD_SETSIZE (1024); for a greater number glibc ends the whole
process.  A daemon that looks at hundreds of namespaces, or has as many clients, has used the small ones up.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from typing import TypeVar

from fairlead.errors import KernelError

T = TypeVar("T")

_END = 1024
"""FD_SETSIZE."""
_PLENTY = 512
"""Where so small a number is free, no other threads use up all those below the end before we come to it."""
_KEPT = 8

_kept: list[int] = []


def keep() -> None:
    """Keep small numbers back, as far as there are any."""
    with contextlib.suppress(OSError):
        while len(_kept) < _KEPT:
            number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            if number >= _END:
                os.close(number)
                break
            _kept.append(number)


def small(make: Callable[[], T], unmake: Callable[[T], None]) -> T:
    """What `make` makes, whose one descriptor, a netlink socket, has a small number.

    One caller at a time.  Raises `KernelError` when all small numbers are in use.
    """
    keep()
    if _free() < _PLENTY:
        return make()
    while _kept:
        number = _kept.pop()
        os.close(number)
        made = make()
        if _is_netlink(number):
            return made
        unmake(made)  # Another thread was quicker.
    raise KernelError(f"too many open files: libnftables needs a descriptor below {_END}, and all are in use")


def _free() -> int:
    """The number that is given out next."""
    try:
        number = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _END
    os.close(number)
    return number


def _is_netlink(number: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(number)) as one:
            return one.family == socket.AF_NETLINK
    except OSError:
        return False
