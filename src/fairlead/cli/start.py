"""Start the daemon on demand: detached, its log in the run directory, and wait until it says that it answers."""

from __future__ import annotations

import fcntl
import os
import sys

from fairlead.cli.client import Connection, Unreachable, own_socket
from fairlead.paths import Paths

_LOG_BYTES = 16 << 20
"""A log greater than this is put aside before the next start."""


def start_daemon() -> None:
    """Returns when the daemon answers; raises `Unreachable` with its own sentence where it does not.

    The lock makes commands that come at once start one daemon: the later ones find that it answers.
    """
    paths = Paths.from_environment()
    try:
        paths.run.mkdir(mode=0o711, parents=True, exist_ok=True)
        lock = os.open(paths.run / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unreachable(f"the daemon cannot be started: {paths.run}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers():
            said = _launch(paths)
            if said != "ready":
                reason = said.removeprefix("error ") if said else f"it ended without a word: see {paths.log}"
                raise Unreachable(f"the daemon could not be started: {reason}")
    finally:
        os.close(lock)


def _answers() -> bool:
    try:
        Connection(own_socket()).close()
    except OSError:
        return False
    return True


def _launch(paths: Paths) -> str:
    """Start the process and return the line that it writes to the pipe, empty if it ended without one."""
    reader, writer = os.pipe()
    if paths.log.exists() and paths.log.stat().st_size > _LOG_BYTES:
        paths.log.replace(paths.log.with_suffix(".log.1"))
    log = os.open(paths.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.set_inheritable(writer, True)
    environment = {**os.environ, "FAIRLEAD_READY_FD": str(writer)}
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        environment.pop(name, None)
    command = [sys.executable, "-P", "-m", "fairlead.cli", "daemon"]
    os.posix_spawn(
        sys.executable,
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, null, 0),
            (os.POSIX_SPAWN_DUP2, log, 1),
            (os.POSIX_SPAWN_DUP2, log, 2),
        ],
        setsid=True,
    )
    for fd in (writer, log, null):
        os.close(fd)
    with os.fdopen(reader) as pipe:
        return pipe.readline().strip()
