"""Starting the process of an exec: ``crun exec``, its streams, and how it comes into its container's control group."""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import os
import socket
import struct
import subprocess
import tempfile
import termios
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.containers.bundle import available_capabilities, merged
from fairlead.containers.record import Container, Limits
from fairlead.kernel.cgroups import Cgroup, expect_move
from fairlead.plan.launch import in_memory
from fairlead.plan.runtime import Place
from fairlead.plan.users import resolve

if TYPE_CHECKING:
    from fairlead.containers.execs import Exec, ExecSpec

_Start = Callable[..., "subprocess.Popen[bytes]"]
"""Starts crun with these words behind its own and these streams."""

_ENTER = (
    "/bin/sh",
    "-c",
    'while [ "$1" != -- ]; do echo 0 >"$1" || exit; shift; done; shift; exec "$@"',
    "sh",
)
"""Moves itself into groups, whose `entrances` follow and then ``--``, and becomes the program behind that."""


def prepare(place: Place, container: Container) -> None:
    """An exec will be started soon: let what has to be waited for begin."""
    if Cgroup(place.cgroup).version == 1 and _is_limited(container):
        expect_move()


def spawn(place: Place, container: Container, execution: Exec, detach: bool) -> dict[str, int]:
    """Start ``crun exec``; returns our ends of its streams.  In a thread."""
    base = place.bundle / "exec" / execution.id
    base.mkdir(parents=True)
    execution.pid_file = base / "pid"
    (base / "process.json").write_text(json.dumps(_process(place, container, execution.spec)))
    words = ["exec", f"--process={base / 'process.json'}", f"--pid-file={execution.pid_file}"]
    log = [f"--log={base / 'log'}", "--log-format=json"]

    inside = Cgroup(place.cgroup).version == 1 and not _is_limited(container)
    before = [*_ENTER, *Cgroup(place.cgroup).entrances(), "--"] if inside else []
    crun, *arguments = place.crun(*log, *words, root=_without_group(place, base) if inside else None)

    def start(*more: str, **streams: Any) -> subprocess.Popen[bytes]:
        argv = [*before, in_memory(crun, place.run), *arguments, *more, container.id]
        return subprocess.Popen(argv, **streams)

    if execution.spec.tty:
        return _spawn_terminal(execution, start)
    return _spawn_pipes(execution, start, detach)


def _is_limited(container: Container) -> bool:
    """Whether the container's control group is limited, so that crun has no place in it: its limits are not for crun.

    To move a process into a group takes some 10 ms (`expect_move`).  With version 2 crun has it born there (clone3(2),
    CLONE_INTO_CGROUP), and is itself outside.  With version 1 that is not possible: either crun is started in the group
    already, and is there as long as the process, or it moves the process there.
    """
    return msgspec.structs.replace(container.spec.limits, ulimits=()) != Limits()


def _without_group(place: Place, base: Path) -> Path:
    """What crun knows of the container but for the control group, which it then leaves alone; returns its root."""
    root = base / "crun"
    state = root / place.id
    state.mkdir(parents=True)
    for name in ("config.json", "seccomp.bpf"):
        (state / name).symlink_to(place.runtime_state / name)
    status = json.loads((place.runtime_state / "status").read_text())
    (state / "status").write_text(json.dumps({**status, "cgroup-path": ""}))
    return root


def _spawn_pipes(execution: Exec, start: _Start, detach: bool) -> dict[str, int]:
    null = os.open(os.devnull, os.O_RDWR)
    ours: dict[str, int] = {}
    theirs = {"stdin": null, "stdout": null, "stderr": null}
    try:
        if not detach:
            for name, wanted in (("stdin", execution.spec.attach_stdin), ("stdout", True), ("stderr", True)):
                if wanted:
                    reader, writer = os.pipe()
                    ours[name], theirs[name] = (writer, reader) if name == "stdin" else (reader, writer)
        execution.process = start(
            **theirs,
            # crun, which stays beside the process, holds our ends as well, and does not read: should the daemon
            # die, what the process says fills a pipe, where else it would be killed for saying it (SIGPIPE).
            pass_fds=[descriptor for name, descriptor in ours.items() if name != "stdin"],
        )
    except BaseException:
        for descriptor in ours.values():
            os.close(descriptor)
        raise
    finally:
        for descriptor in set(theirs.values()) | {null}:
            os.close(descriptor)
    return ours


def _spawn_terminal(execution: Exec, start: _Start) -> dict[str, int]:
    """With a terminal: crun makes it inside the container and hands its master side over a socket."""
    with tempfile.TemporaryDirectory(prefix="fairlead-tty-") as directory, socket.socket(socket.AF_UNIX) as server:
        path = f"{directory}/socket"
        server.bind(path)
        server.listen(1)
        null = subprocess.DEVNULL
        execution.process = start(f"--console-socket={path}", stdin=null, stdout=null, stderr=null)
        server.settimeout(0.02)
        while True:
            try:
                connection, _ = server.accept()
                break
            except TimeoutError:
                if execution.process.poll() is not None:
                    return {}
    with connection:
        connection.settimeout(5)
        descriptors = array.array("i")
        _, control, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(descriptors.itemsize))
        for _, _, data in control:
            descriptors.frombytes(data[: descriptors.itemsize])
    if not descriptors:
        return {}
    execution.terminal = descriptors[0]
    if execution.size:
        resize(execution.terminal, *execution.size)
    return {"stdin": os.dup(descriptors[0]), "stdout": os.dup(descriptors[0])}


def resize(terminal: int, height: int, width: int) -> None:
    """Give a terminal a size, in characters (ioctl_tty(2), TIOCSWINSZ); one that is gone is no error."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _process(place: Place, container: Container, spec: ExecSpec) -> dict[str, Any]:
    """The OCI process: the container's own with another command, user, directory and more environment."""
    process: dict[str, Any] = dict(json.loads(place.config.read_text())["process"])
    user = resolve(place.rootfs, spec.user or container.spec.user, container.spec.group_add)
    own_home = [v for v in container.spec.env if v.startswith("HOME=")]
    env = [v for v in process["env"] if not v.startswith("HOME=")] + own_home
    env += ["TERM=xterm"] if spec.tty and not any(v.startswith("TERM=") for v in env) else []
    env = merged(env, spec.env)
    env += [f"HOME={user.home}"] if not any(v.startswith("HOME=") for v in env) else []
    bound = available_capabilities() if spec.privileged else process["capabilities"]["bounding"]
    kinds = ("bounding",) if user.uid and not spec.privileged else ("bounding", "effective", "permitted")
    return {
        **process,
        "terminal": spec.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)},
        "args": list(spec.command),
        "env": env,
        "cwd": spec.workdir or process["cwd"],
        "capabilities": dict.fromkeys(kinds, bound),
    }
