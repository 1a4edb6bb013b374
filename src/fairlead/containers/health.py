"""Health checks: a command that runs inside the container every now and then, and what its exit codes add up to.

One task per running container waits, probes, and judges.  What it found is kept in a file of the container's state, so
that a new daemon goes on where the last one was.  Source of the rules: moby, daemon/health.go; Dockerfile reference,
HEALTHCHECK.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from fairlead.containers.execs import Exec, ExecSpec
from fairlead.containers.record import Container, HealthCheck
from fairlead.errors import FairleadError

if TYPE_CHECKING:
    from fairlead.containers.service import Containers

log = logging.getLogger("fairlead.containers")

HealthStatus = Literal["starting", "healthy", "unhealthy"]

KEPT = 5
"""Results that inspect shows."""

OUTPUT = 4096
"""Bytes of a probe's output that are kept."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One probe.  Times are seconds since the epoch; an exit code of -1: it did not end by itself, or never began."""

    start: float
    end: float
    exit_code: int
    output: str


class Health(msgspec.Struct, kw_only=True):
    """How a container is.  `streak` counts the failures since the last success."""

    status: HealthStatus = "starting"
    streak: int = 0
    results: list[Result] = []

    def judge(self, result: Result, check: HealthCheck, started: float) -> None:
        """Take a result into account; `started`: when the container was."""
        self.results = [*self.results, result][-KEPT:]
        if result.exit_code == 0:
            self.status, self.streak = "healthy", 0
            return
        if self.status == "starting" and result.start - started < check.start_period / 1e9:
            return  # Failures before a container had time to start do not count.
        self.streak += 1
        if self.streak >= check.failures:
            self.status = "unhealthy"


def wait_before(health: Health, check: HealthCheck, started: float, now: float) -> float:
    """Seconds until the next probe: in the start period a container is asked more often, until it is healthy."""
    starting = health.status == "starting" and now - started < check.start_period / 1e9
    return (check.start_every if starting else check.every) / 1e9


class HealthMonitors:
    """The health of all containers of one instance."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._known: dict[str, Health] = {}

    def of(self, container: Container) -> Health | None:
        """How it is, or was when it ended; None where nothing is checked."""
        check = container.spec.health
        if check is None or not check.command:
            return None
        if container.id not in self._known:
            self._known[container.id] = self._read(container.id)
        return self._known[container.id]

    def begin(self, container: Container) -> None:
        """The container has started."""
        if (health := self.of(container)) is None:
            return
        health.status, health.streak = "starting", 0
        self._keep(container.id, health)
        self.resume(container)

    def resume(self, container: Container) -> None:
        """Go on checking: after a pause, or after a restart of the daemon."""
        check = container.spec.health
        if check is None or not check.command or container.id in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._watch(container, check))
        self._tasks[container.id] = task
        task.add_done_callback(self._finished)

    def suspend(self, container_id: str) -> None:
        """Stop checking for a while; a probe that runs is killed."""
        if task := self._tasks.pop(container_id, None):
            task.cancel()

    def end(self, container: Container) -> None:
        """The container has ended: nobody can say any more that it is healthy (Docker calls it unhealthy)."""
        self.suspend(container.id)
        if health := self.of(container):
            health.status = "unhealthy"
            self._keep(container.id, health)

    def forget(self, container_id: str) -> None:
        """The container is removed."""
        self.suspend(container_id)
        self._known.pop(container_id, None)

    async def close(self) -> None:
        """The daemon stops."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            log.error("a health check failed", exc_info=error)

    async def _watch(self, container: Container, check: HealthCheck) -> None:
        health = self.of(container)
        assert health is not None
        while True:
            await asyncio.sleep(wait_before(health, check, container.started, time.time()))
            result = await self._probe(container, check)
            if result.exit_code and not is_alive(container.pid):
                continue  # The container has ended, which is no fault of the check; soon we are told of it.
            before = health.status
            health.judge(result, check, container.started)
            self._keep(container.id, health)
            if health.status != before:
                # A rename since the start must show, so the record is read again.
                current = self._containers.store.get(Container, container.id)
                self._containers.tell(f"health_status: {health.status}", current or container)

    async def _probe(self, container: Container, check: HealthCheck) -> Result:
        start = time.time()
        output = bytearray()
        execs = self._containers.execs
        execution: Exec | None = None
        try:
            async with asyncio.timeout(check.patience / 1e9):
                execution = execs.create(container.id, _exec_spec(check))
                attachment = await execs.start(execution.id)
                async for frame in attachment:
                    output += frame.data[: OUTPUT + 1 - len(output)]
                await execution.ended.wait()
            code = execution.exit_code if execution.exit_code is not None else -1
            text = _text(output)
        except TimeoutError:
            code, text = -1, f"Health check exceeded timeout ({duration(check.patience)})"
            if output:
                text += f": {_text(output)}"
        except FairleadError as error:
            code, text = -1, str(error)
        finally:
            if execution is not None:
                # Also when we are cancelled; then nothing may be awaited for long.
                await asyncio.shield(execs.kill(execution.id))
        return Result(start=start, end=time.time(), exit_code=code, output=text)

    # The file

    def _path(self, container_id: str) -> Path:
        return self._containers.paths.container_state(container_id) / "health.json"

    def _read(self, container_id: str) -> Health:
        try:
            return msgspec.json.decode(self._path(container_id).read_bytes(), type=Health)
        except (OSError, msgspec.MsgspecError):
            return Health()

    def _keep(self, container_id: str, health: Health) -> None:
        path = self._path(container_id)
        with contextlib.suppress(OSError):
            new = path.with_suffix(".new")
            new.write_bytes(msgspec.json.encode(health))
            new.rename(path)


def is_alive(pid: int) -> bool:
    """Whether a process runs.  One that ends has no program any more (proc_pid_exe(5)), long before it is a zombie: the
    first of a container first sees all others killed (zap_pid_ns_processes, kernel/pid_namespace.c)."""
    try:
        os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False
    return True


def _exec_spec(check: HealthCheck) -> ExecSpec:
    return ExecSpec(command=check.command, attach_stdout=True, attach_stderr=True)


def _text(output: bytearray) -> str:
    text = bytes(output[:OUTPUT]).decode(errors="replace")
    return text + "..." if len(output) > OUTPUT else text


def duration(nanoseconds: int) -> str:
    """As Go writes it: ``1m30s``, ``2.5s``, ``300ms``."""
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1e6:g}ms"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1e9:.9f}".rstrip("0").rstrip(".") + "s"
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + seconds
