"""``python -m fairlead.dns RUN``: the resolver of the instance whose run directory is RUN.

The first process returns as soon as the socket listens; what serves is its child, which belongs to nobody.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import resource
import signal
import socket
import sys
import time

from fairlead.dns.resolver import Resolver

SOCKET, LOCK = "dns.sock", "dns.pid"

_PR_SET_NAME = 15  # linux/prctl.h

_PATIENCE = 5.0
"""Seconds to wait for another resolver that is just ending."""


def main(run: str) -> int:
    """Returns the exit code: 1 when another resolver serves this run directory."""
    lock = os.open(os.path.join(run, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    if not _locked(lock):
        print(f"fairlead.dns: another resolver serves {run}", file=sys.stderr)
        return 1
    path = os.path.join(run, SOCKET)
    if os.path.exists(path):
        os.unlink(path)  # we hold the lock, so it is a dead resolver's
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    os.umask(0o177)
    listener.bind(path)
    listener.listen(8)
    if os.fork():
        return 0
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_NAME, b"fairlead-names")
    os.chdir("/")
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resolver = Resolver(listener)
    gc.collect()
    gc.freeze()
    try:
        resolver.loop.run()
    finally:
        os.unlink(path)
    return 0


def _locked(lock: int) -> bool:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
