"""Further processes in running containers (``exec``).

They are the daemon's children: their output goes straight through it, and they end with their container.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fairlead.containers.record import Container, Status
from fairlead.containers.spawning import prepare, resize, spawn
from fairlead.containers.streams import STDERR, STDOUT, Attachment, Frame
from fairlead.errors import Conflict, Invalid, NotFound
from fairlead.model import new_id
from fairlead.plan.runtime import explain_refusal, read_pid

if TYPE_CHECKING:
    from fairlead.containers.service import Containers

log = logging.getLogger("fairlead.containers")

_CHUNK = 1 << 15

_LINGER = 1.0
"""Seconds of silence after which the output ends although a process in the background still holds it."""

_NOT_STARTED = 126
"""The exit code of what could not be started, for whatever reason, as clients expect it (docker-py's tests do).  Docker
has it so up to version 24; later ones say 127 where the command is not there."""

_REMEMBERED = 1000
"""Ended execs that can still be inspected."""


class ExecSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``exec``."""

    command: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    privileged: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    detach_keys: str = ""
    """As the user wrote them; empty: the default ones."""


@dataclass(slots=True)
class Exec:
    """One exec: not started, running, or ended (`exit_code` is set)."""

    id: str
    container: str
    spec: ExecSpec
    started: bool = False
    exit_code: int | None = None
    pid_file: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    terminal: int = -1
    size: tuple[int, int] | None = None
    carried: int = 0
    """Pieces of output that were read so far."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        return self.process is not None and self.exit_code is None

    @property
    def pid(self) -> int:
        return read_pid(self.pid_file) if self.running and self.pid_file else 0


class _Input:
    """Takes what the user types: the write end of a pipe, or the terminal."""

    def __init__(self, descriptor: int, *, terminal: bool) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._terminal = terminal
        self._lock = asyncio.Lock()

    async def write(self, data: bytes) -> None:
        async with self._lock:
            view = memoryview(data)
            while view:
                if self._descriptor < 0:
                    raise BrokenPipeError
                try:
                    view = view[os.write(self._descriptor, view) :]
                except BlockingIOError:
                    await _writable(self._descriptor)

    def end_input(self) -> None:
        # A terminal has no half: the user types ^D.
        if not self._terminal:
            self.close()

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Execs:
    """All execs since the daemon started."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._execs: dict[str, Exec] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def get(self, ref: str) -> Exec:
        """Raises `NotFound`."""
        try:
            return self._execs[ref]
        except KeyError:
            matches = [e for e in self._execs.values() if ref and e.id.startswith(ref)]
            if len(matches) == 1:
                return matches[0]
            raise NotFound(f"No such exec instance: {ref}") from None

    def of(self, container_id: str) -> list[Exec]:
        """A container's execs that have not ended."""
        return [e for e in self._execs.values() if e.container == container_id and e.exit_code is None]

    def runtimes(self, container_id: str) -> set[int]:
        """The crun of each of those; where it is in the container's control group (`spawning`) it is no part of it."""
        return {e.process.pid for e in self.of(container_id) if e.process}

    def create(self, ref: str, spec: ExecSpec) -> Exec:
        """Note what is to run; nothing runs yet."""
        container = self._running(ref)
        if not spec.command:
            raise Invalid("No exec command specified")
        made = Exec(new_id(), container.id, spec)
        self._execs[made.id] = made
        over = [e.id for e in self._execs.values() if e.exit_code is not None]
        for id_ in over[: max(0, len(over) - _REMEMBERED)]:
            del self._execs[id_]
        self._tell("exec_create", container, made)
        # Those who create one start it next.
        asyncio.get_running_loop().run_in_executor(None, prepare, self._containers.place(container), container)
        return made

    def _tell(self, action: str, container: Container, execution: Exec, **more: str) -> None:
        if action != "exec_die":
            action = f"{action}: {' '.join(execution.spec.command)}"
        self._containers.tell(action, container, {"execID": execution.id, **more})

    def _running(self, ref: str) -> Container:
        container = self._containers.get(ref)
        if container.status is Status.PAUSED:
            raise Conflict(f"Container {container.name} is paused, unpause the container before exec")
        container.check_running()
        return container

    def check_startable(self, ref: str) -> Container:
        """The container to run it in; raises `Conflict` when it runs or ran, or the container does not run."""
        execution = self.get(ref)
        if execution.started:
            state = "is already running" if execution.running else "has already run"
            raise Conflict(f"Error: Exec command {execution.id} {state}")
        return self._running(execution.container)

    async def start(self, ref: str, *, detach: bool = False, size: tuple[int, int] | None = None) -> Attachment:
        """Run it.  What it says comes out of the attachment; raises `Invalid` as Docker would when it cannot run."""
        execution = self.get(ref)
        container = self.check_startable(execution.id)
        execution.started = True
        execution.size = size or execution.size
        attachment = Attachment(stdout=True, stderr=True)
        place = self._containers.place(container)
        spawning = asyncio.ensure_future(asyncio.to_thread(spawn, place, container, execution, detach))
        given_up: asyncio.CancelledError | None = None
        try:
            try:
                streams = await asyncio.shield(spawning)
            except asyncio.CancelledError as error:
                # Nobody waits for it any more, but the thread starts it all the same, and somebody must reap it.
                given_up = error
                streams = await spawning
        except BaseException:
            execution.exit_code = _NOT_STARTED
            execution.ended.set()
            shutil.rmtree(self._containers.place(container).bundle / "exec" / execution.id, ignore_errors=True)
            raise
        self._tell("exec_start", container, execution)
        task = asyncio.get_running_loop().create_task(self._attend(container, execution, streams, attachment))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if given_up:
            raise given_up
        if detach:
            # Only a refusal is of interest, and that comes at once or not at all.
            pid_file = execution.pid_file
            while not execution.ended.is_set() and pid_file and not read_pid(pid_file):
                await asyncio.sleep(0.002)
            if execution.exit_code == _NOT_STARTED and (frames := [f async for f in attachment]):
                raise Invalid(frames[-1].data.decode(errors="replace").strip())
        return attachment

    async def _attend(
        self, container: Container, execution: Exec, streams: dict[str, int], attachment: Attachment
    ) -> None:
        """Carry output until the process has ended, then note its exit code."""
        source = _Input(streams["stdin"], terminal=execution.spec.tty) if "stdin" in streams else None
        attachment.connect(source)
        assert execution.process is not None
        log_file = (execution.pid_file or Path()).with_name("log")
        readers = [
            asyncio.ensure_future(_pump(streams[name], number, attachment, execution))
            for name, number in (("stdout", STDOUT), ("stderr", STDERR))
            if name in streams
        ]
        try:
            code = await _reap(execution.process)
            message = _first_error(log_file)
            if code and message is not None:
                _, reason = explain_refusal(message, execution.spec.command[0])
                code = _NOT_STARTED
                sentence = f"OCI runtime exec failed: exec failed: unable to start container process: {reason}"
                # To where errors go; Docker sends it to the standard output.
                stream = STDOUT if execution.spec.tty else STDERR
                await attachment.put(Frame(stream, f"{sentence}\r\n".encode()))
            execution.exit_code = code
            await _last_words(readers, execution, attachment)
        finally:
            for reader in readers:
                reader.cancel()
            if source:
                source.close()
            if execution.terminal >= 0:
                os.close(execution.terminal)
                execution.terminal = -1
            if execution.exit_code is None:
                execution.exit_code = 137
            execution.ended.set()
            shutil.rmtree(log_file.parent, ignore_errors=True)
            self._tell("exec_die", container, execution, exitCode=str(execution.exit_code))
            await attachment.finish()

    async def kill(self, ref: str) -> None:
        """End an exec and what it has started, at once.

        The innermost processes go first, and the others get a moment: whoever waits for a child then reaps it, where
        otherwise it would be left to the container's first process, which may not.
        """
        execution = self.get(ref)
        if execution.process is None or execution.ended.is_set():
            return
        _, *processes = descendants(execution.process.pid)  # The first is crun, which gives us the exit code.
        for pid in reversed(processes):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(execution.ended.wait(), 0.01)
        if not processes and not execution.pid:
            with contextlib.suppress(ProcessLookupError):
                execution.process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(execution.ended.wait(), _LINGER)

    def resize(self, ref: str, height: int, width: int) -> None:
        """The size of an exec's terminal, in characters; before the start it is kept for it."""
        execution = self.get(ref)
        execution.size = (height, width)
        if execution.terminal >= 0:
            resize(execution.terminal, height, width)

    def container_ended(self, container_id: str) -> None:
        """Its execs that were never started never will be."""
        for execution in self.of(container_id):
            if not execution.started:
                execution.exit_code = 137

    def close(self) -> None:
        """The daemon stops."""
        for task in self._tasks:
            task.cancel()


def _first_error(log_file: Path) -> str | None:
    """What crun noted when it could not start the process; None when it could."""
    try:
        lines = log_file.read_text().splitlines()
        return str(json.loads(lines[0])["msg"]) if lines else None
    except (OSError, ValueError, KeyError):
        return None


async def _pump(descriptor: int, number: int, attachment: Attachment, execution: Exec) -> None:
    """Carry one stream to the user until its end.

    crun's own complaint comes on the same stderr; the user gets it in Docker's words instead.  So what comes there is
    kept until crun has written the pid file, which it does when the process runs, or is dropped when it never does.
    """
    os.set_blocking(descriptor, False)
    held: list[bytes] | None = [] if number == STDERR else None
    try:
        while True:
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                await _readable(descriptor)
                continue
            except OSError:
                return  # EIO: the last process has closed the terminal
            execution.carried += 1
            if held is not None:
                held.append(data)
                if not await _has_started(execution):
                    return
                data, held = b"".join(held), None
            if not data:
                return
            await attachment.put(Frame(number, data))
    finally:
        os.close(descriptor)


async def _last_words(readers: list[asyncio.Task[None]], execution: Exec, attachment: Attachment) -> None:
    """Wait for what is still in the pipes: for ever while the user is slow, for a moment while nothing comes."""
    pending: set[asyncio.Task[None]] = set(readers)
    while pending:
        before = execution.carried
        _, pending = await asyncio.wait(pending, timeout=_LINGER)
        if execution.carried == before and not attachment.is_full:
            return


async def _has_started(execution: Exec) -> bool:
    """Whether crun could start the process; it says so within milliseconds."""
    assert execution.pid_file is not None
    while not read_pid(execution.pid_file):
        if execution.exit_code is not None:
            return False
        if execution.process is not None and execution.process.poll() is not None:
            return bool(read_pid(execution.pid_file))
        await asyncio.sleep(0.001)
    return True


def descendants(pid: int) -> list[int]:
    """A process and all that it has started, children after their parents (proc_pid_children(5))."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
    return found


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_writer(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


async def _reap(process: subprocess.Popen[bytes]) -> int:
    """The exit code of a child, without a thread for the wait."""
    if process.poll() is None:
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return process.wait()
        try:
            await _readable(descriptor)
        finally:
            os.close(descriptor)
    code = process.wait()
    if code < 0:
        return 128 - code
    return code
