"""The life of containers: create, start, stop, restart, remove; and what happens when they end by themselves.

Whoever changes a container holds its lock.  The record in the store is committed before the kernel is touched
(`STARTING`, `REMOVING`) and again after, so `recover` can always tell what was promised.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import msgspec

from fairlead.containers import copying, plans
from fairlead.containers.execs import Execs
from fairlead.containers.health import HealthMonitors
from fairlead.containers.isolation import surroundings
from fairlead.containers.links import NOT_LINKED, Links, settled
from fairlead.containers.log_details import log_details
from fairlead.containers.logs import read_log
from fairlead.containers.membership import Membership
from fairlead.containers.mounting import make_bind_sources
from fairlead.containers.names import random_name
from fairlead.containers.record import DEFAULT_STOP_TIMEOUT, Container, ContainerSpec, Status
from fairlead.containers.recovery import Recovery
from fairlead.containers.rotation import Rotator, command_monitor
from fairlead.containers.sharing import Sharing, resolve
from fairlead.containers.streams import Attachment, Frame, Hub
from fairlead.containers.volumes import Volumes
from fairlead.endpoints import check_spec
from fairlead.engine import Engine
from fairlead.errors import (
    Conflict,
    FairleadError,
    Invalid,
    KernelError,
    MissingFeature,
    NotFound,
    NotModified,
)
from fairlead.images import Image, Images
from fairlead.kernel.cgroups import Cgroup
from fairlead.model import Address, Endpoint, check_name, new_id
from fairlead.paths import Paths
from fairlead.plan.containers import StartRefused
from fairlead.plan.executor import Executor
from fairlead.plan.launch import run_crun
from fairlead.plan.runtime import Place, explain_refusal, is_monitor, program, read_pid
from fairlead.store import Store

log = logging.getLogger("fairlead.containers")

Condition = Literal["not-running", "next-exit", "removed"]
Listener = Callable[[str, Container, dict[str, str]], None]
"""Is told of what happened: the action in Docker's words, the container, extra attributes."""

_FIRST_DELAY = 0.1
_LONGEST_DELAY = 60.0
_STEADY = 10.0
"""Seconds: a restart waits 0.1 s, each next one twice as long up to a minute; a run of 10 s starts over (as Docker)."""

_UNKNOWN_EXIT = 255
"""The exit code of a container whose monitor died with it, or was killed."""


@dataclass(slots=True)
class Live:
    """What the daemon knows about one container beyond its record; rebuilt after a start of the daemon."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiters: list[tuple[Condition, asyncio.Future[int]]] = field(default_factory=list)
    pending: list[Attachment] = field(default_factory=list)
    """Users who attached before the start."""
    hub: Hub | None = None
    watch: int = -1
    """A pidfd of conmon, while it runs."""
    delay: float = _FIRST_DELAY
    timer: asyncio.TimerHandle | None = None


class Containers:
    """All containers of one instance.  A `ref` is a name (``/`` in front allowed), an id, or a unique id prefix."""

    def __init__(self, store: Store, paths: Paths, engine: Engine, images: Images, executor: Executor) -> None:
        self.store = store
        self.paths = paths
        self.engine = engine
        self.images = images
        self.volumes = Volumes(store, paths)
        self.sharing = Sharing(store, engine)
        self.links = Links(store, engine, self.sharing, paths)
        self._executor = executor
        self._live: dict[str, Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.execs = Execs(self)
        self.health = HealthMonitors(self)
        self.rotator = Rotator(self)
        self.membership = Membership(self)
        self.listeners: builtins.list[Listener] = []

    # Reading

    def list(self) -> builtins.list[Container]:
        """All containers, the newest first."""
        return sorted(self.store.all(Container), key=lambda c: c.created, reverse=True)

    def get(self, ref: str) -> Container:
        """Raises `NotFound`: ``No such container: REF``."""
        name = ref.removeprefix("/")
        if found := self.store.get(Container, name) or self.store.owner(f"container:{name}"):
            return found  # type: ignore[return-value]
        matches = [c for c in self.store.all(Container) if name and c.id.startswith(name)]
        if len(matches) > 1:
            raise Invalid(f"Multiple IDs found with provided prefix: {name}")
        if not matches:
            raise NotFound(f"No such container: {ref}")
        return matches[0]

    def using_image(self, image_id: str) -> builtins.list[str]:
        """The containers made from an image, as Docker speaks of them: ``running container 0123456789ab``."""
        return [
            f"{'running' if c.is_running else 'stopped'} container {c.id[:12]}"
            for c in sorted(self.store.all(Container), key=lambda c: not c.is_running)
            if c.image_id == image_id
        ]

    def image(self, container: Container) -> Image:
        """The image that a container was made from."""
        return self.images.of(container.image_id)

    def place(self, container: Container) -> Place:
        """Where its run-time files are."""
        return Place.of(self.paths, container.id, container.spec.isolation.cgroup_parent)

    def endpoints(self, container: Container) -> builtins.list[Endpoint]:
        """Its places in networks, while it runs; those of a shared sandbox are shown with one container alone."""
        sandbox = self.sharing.sandbox(container) if container.is_running else None
        if sandbox is None or self.sharing.shown_by(sandbox) != container.id:
            return []
        return self.engine.catalog.endpoints(sandbox=sandbox.id)

    def all_endpoints(self) -> dict[str, builtins.list[Endpoint]]:
        """All running containers' places in networks by container id, gathered in one pass."""
        sandboxes = [sandbox for sandbox in self.engine.catalog.sandboxes() if sandbox.container]
        owner = {sandbox.id: self.sharing.shown_by(sandbox) for sandbox in sandboxes}
        found: dict[str, builtins.list[Endpoint]] = {}
        for endpoint in self.engine.catalog.endpoints():
            if container := owner.get(endpoint.sandbox):
                found.setdefault(container, []).append(endpoint)
        return found

    def live(self, container_id: str) -> Live:
        return self._live.setdefault(container_id, Live())

    # Creating and removing

    async def create(self, name: str, spec: ContainerSpec) -> Container:
        """A container that does not run yet.  An empty name: a random one."""
        container = self.plan_new(name, spec)
        lower = self.images.lower_directories(self.image(container))
        has, fill = partial(copying.image_has, lower), partial(copying.fill, self.paths, lower)
        async with self.volumes.made_for(container.spec.volumes, has, fill) as made:
            self.images.get(container.image_id)  # it may have been removed while the volumes were being filled
            try:
                self.store.put(container, *made)
            except Conflict:
                raise self._name_taken(container.name) from None
        self.tell("create", container)
        return container

    def plan_new(self, name: str, spec: ContainerSpec) -> Container:
        """The validated record; changes nothing."""
        image = self.images.get(spec.image)
        name = name.removeprefix("/")
        if name:
            check_name(name, "container")
            if self.store.owner(f"container:{name}"):
                raise self._name_taken(name)
        else:
            name = random_name(lambda word: self.store.owner(f"container:{word}") is not None)
        if not spec.arguments:
            raise Invalid("no command specified: neither the request nor the image says what to run")
        for endpoint in spec.endpoints:
            try:
                check_spec(endpoint, self.engine.catalog.network(endpoint.network))
            except NotFound:
                # Not 404: of that status the answer to a create would mean "pull the image".
                raise Invalid(f"network {endpoint.network} not found") from None
        id_ = new_id()
        mode = resolve(spec.network_mode, self.store, own=name)
        shared = self.store.get(Container, mode.partition(":")[2])
        hostname, domainname = (shared.spec.hostname, shared.spec.domainname) if shared else ("", "")
        spec = msgspec.structs.replace(
            spec,
            network_mode=mode,
            hostname=spec.hostname or hostname or id_[:12],
            domainname=spec.domainname or domainname,
            volumes=tuple(v if v.name else msgspec.structs.replace(v, name=new_id()) for v in spec.volumes),
        )
        spec = settled(spec, self.get)
        container = Container(id=id_, name=name, image_id=image.id, spec=spec, created=time.time())
        # Building the plan validates the rest: capabilities, the init program.
        plans.preparing(container, self.paths, [], namespace="/", endpoints=[])
        for name in ("crun", "conmon"):
            program(name)
        return container

    def _name_taken(self, name: str) -> Conflict:
        owner = self.store.owner(f"container:{name}")
        return Conflict(
            f'Conflict. The container name "/{name}" is already in use by container "{owner.id if owner else ""}". '
            "You have to remove (or rename) that container to be able to reuse that name."
        )

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; a running one only with `force`, which kills it.  `volumes`: the anonymous ones, too."""
        id_ = self.get(ref).id
        while True:
            if force:
                await self._end(id_, signal.SIGKILL, None)
            live = self.live(id_)
            async with live.lock:
                container = self.get(id_)
                if container.status is Status.RESTARTING and not force:
                    raise Conflict(
                        f"cannot remove container {container.name}: container is restarting: "
                        "stop the container before removing or force remove"
                    )
                if not container.is_running:
                    await self.remove_now(container, live, volumes=volumes)
                    return
            if not force:
                state = "paused" if container.status is Status.PAUSED else "running"
                raise Conflict(
                    f'cannot remove container "{container.name}": container is {state}: '
                    "stop the container before removing or force remove"
                )

    async def remove_now(self, container: Container, live: Live, *, volumes: bool = False) -> None:
        """The rest of the life; the caller holds the lock."""
        if live.timer:
            live.timer.cancel()
        volumes = volumes or container.remove_volumes or container.spec.auto_remove
        container = container.becomes(Status.REMOVING, remove_volumes=volumes)
        self.store.put(container)
        await self.erase(container.id)
        self.store.delete(container)
        await self.images.let_go(self.using_image)
        if volumes:
            await self.volumes.remove_anonymous(container.spec.volumes)
        await asyncio.to_thread(self.sharing.removed, container.id)
        self._live.pop(container.id, None)
        self.health.forget(container.id)
        for attachment in live.pending:
            await attachment.finish()
        for _, waiter in live.waiters:
            if not waiter.done():
                waiter.set_result(container.exit_code)
        self.tell("destroy", container)

    async def erase(self, container_id: str) -> None:
        """All that a container has on disk and in the kernel; what is gone already is no error."""
        await self.clear(container_id)
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(shutil.rmtree, self.paths.container_state(container_id))

    # Starting

    async def start(self, ref: str) -> None:
        """Start a container; raises `NotModified` when it runs already."""
        container = self.get(ref)
        live = self.live(container.id)
        async with live.lock:
            container = self.get(container.id)
            if container.status is Status.PAUSED:
                raise Conflict("cannot start a paused container, try unpause instead")
            if container.is_running or container.is_restarting:
                raise NotModified(f"container {container.name} is already running")
            live.delay = _FIRST_DELAY
            await self._start(msgspec.structs.replace(container, restart_count=0, stopped_by_user=False), live)

    async def _start(self, container: Container, live: Live) -> None:
        """From any resting status to running, or back with nothing left; the caller holds the lock."""
        if live.timer:
            live.timer.cancel()
            live.timer = None
        again = container.status is Status.RESTARTING
        starting = container.becomes(
            Status.STARTING_AGAIN if again else Status.STARTING, error="", oom_killed=False, joined=""
        )
        self.store.put(starting)
        try:
            if joined := self.sharing.root(starting):
                # From here on whoever else ends leaves us the sandbox.
                starting = msgspec.structs.replace(starting, joined=joined)
                self.store.put(starting)
            prepared = await asyncio.to_thread(self._prepare, starting)
            self._connect(starting, live)
            started = time.time()
            await asyncio.to_thread(self._executor.apply, plans.running(starting, self.paths))
        except Exception as error:
            await self._start_failed(container, starting, live, error)
        except BaseException:
            # The daemon is being stopped: `recover` undoes the rest.
            raise
        else:
            running = starting.becomes(
                Status.RUNNING,
                pid=prepared[0],
                monitor_pid=prepared[1],
                started=started,
                exit_code=0,
                addresses=self._addresses(starting),
            )
            self.store.put(running)
            self.watch(container.id, prepared[1])
            self.volumes.tell_use("mount", running)
            if any(container.id in other.spec.links.values() for other in self.store.all(Container)):
                await asyncio.to_thread(self.links.moved, running)
            self.tell("start", running)
            self.health.begin(running)
            self.rotator.wake()

    def _prepare(self, container: Container) -> tuple[int, int]:
        """Sandbox, root, bundle, monitor; returns the pids of the first process and of conmon.  In a thread."""
        lower = self.images.lower_directories(self.image(container))
        make_bind_sources(container.spec.binds)
        self.volumes.mount(container.spec.volumes)
        linked = self.links.of(container) if container.spec.links else NOT_LINKED
        sandbox = self.sharing.open(container)
        plan = plans.preparing(
            container,
            self.paths,
            lower,
            namespace=sandbox.path if sandbox else None,
            endpoints=self.engine.catalog.endpoints(sandbox=sandbox.id) if sandbox else [],
            has_names=sandbox is not None and sandbox.names,
            linked=linked,
            around=surroundings(container, self.paths, self.get),
        )
        self._executor.apply(plan)
        place = self.place(container)
        return read_pid(place.pid_file), read_pid(place.monitor_pid_file)

    def _addresses(self, container: Container) -> dict[str, tuple[Address, ...]]:
        """What it has, by network id, to be had again at its next start."""
        sandbox = None if container.joined else self.sharing.sandbox(container)
        endpoints = self.engine.catalog.endpoints(sandbox=sandbox.id) if sandbox else []
        return {one.network: tuple(interface.ip for interface in one.addresses) for one in endpoints}

    def _connect(self, container: Container, live: Live) -> None:
        """Join those who attached before the start, so that they miss nothing."""
        if live.pending:
            live.hub = self._hub(container)
            for attachment in live.pending:
                live.hub.add(attachment)
            live.pending.clear()

    async def _start_failed(self, before: Container, starting: Container, live: Live, error: Exception) -> None:
        """Take everything back, note the reason, and raise it as the user should read it."""
        await self.clear(starting.id)
        code, sentence = 128, str(error)
        if isinstance(error, StartRefused):
            code, reason = explain_refusal(error.reason, starting.spec.arguments[0])
            sentence = (
                "failed to create task for container: failed to create shim task: OCI runtime create failed: "
                f"unable to start container process: {reason}"
            )
        elif not isinstance(error, FairleadError):
            log.error("starting container %s failed", starting.name, exc_info=error)
        rest = Status.EXITED if before.finished else Status.CREATED
        self.store.put(starting.becomes(rest, exit_code=code, error=sentence, stopped_by_user=before.stopped_by_user))
        live.hub = None
        for attachment in live.pending:
            await attachment.finish()
        live.pending.clear()
        if starting.spec.auto_remove:
            await self.remove_now(self.get(starting.id), live)
        else:
            self._wake(live, ("next-exit", "not-running"), code)
        if isinstance(error, StartRefused):
            # The user's mistake (no such command) is 400; whatever else the runtime met with is 500.
            raise (Invalid if code in (126, 127) else KernelError)(sentence) from error
        raise error

    # Ending

    def watch(self, container_id: str, monitor: int) -> None:
        """Be told when conmon ends, which it does when the container has ended and all output is in the log."""
        live = self.live(container_id)
        try:
            live.watch = os.pidfd_open(monitor)
        except ProcessLookupError:
            self._spawn(self.ended(container_id))
            return
        asyncio.get_running_loop().add_reader(live.watch, self._monitor_ended, container_id)

    def _monitor_ended(self, container_id: str) -> None:
        live = self.live(container_id)
        asyncio.get_running_loop().remove_reader(live.watch)
        os.close(live.watch)
        live.watch = -1
        self._spawn(self.ended(container_id))

    async def ended(self, container_id: str) -> None:
        """A container has ended: record it, clear away, tell those who wait, start it again if that is its policy."""
        live = self.live(container_id)
        async with live.lock:
            container = self.store.get(Container, container_id)
            if container is None or not container.is_running:
                return
            code, finished = self._exit_of(container)
            again = container.spec.restart.wants(
                exit_code=code, count=container.restart_count, stopped_by_user=container.stopped_by_user
            )
            ended = container.becomes(
                Status.RESTARTING if again else Status.EXITED,
                restart_count=container.restart_count + again,
                exit_code=code,
                finished=finished,
                oom_killed=self.place(container).oom_file.exists(),
                pid=0,
                monitor_pid=0,
            )
            self.store.put(ended)
            live.hub = None
            self.health.end(ended)
            self.execs.container_ended(container_id)
            if ended.oom_killed:
                self.tell("oom", ended)
            self.tell("die", ended, {"exitCode": str(code), "execDuration": str(int(finished - ended.started))})
            self.volumes.tell_use("unmount", ended)
            try:
                if ended.spec.auto_remove:
                    await self.remove_now(ended, live)
                    return
                await self.clear(container_id)
            except Exception:
                log.exception("clearing container %s away failed; the next start of the daemon tries again", ended.name)
            if again:
                self._restart_later(ended, live)
            # Also before a restart: who waits for the end of a run has seen it (as Docker).
            self._wake(live, ("next-exit", "not-running"), code)

    def _exit_of(self, container: Container) -> tuple[int, float]:
        """The exit code and when; unknown where conmon was killed before it could write them."""
        path = self.place(container).exit_file
        try:
            return int(path.read_text()), path.stat().st_mtime
        except (OSError, ValueError):
            return _UNKNOWN_EXIT, time.time()

    def _restart_later(self, container: Container, live: Live) -> None:
        if container.finished - container.started >= _STEADY:
            live.delay = _FIRST_DELAY
        live.timer = asyncio.get_running_loop().call_later(
            live.delay, lambda: self._spawn(self.start_again(container.id))
        )
        live.delay = min(live.delay * 2, _LONGEST_DELAY)

    async def start_again(self, container_id: str) -> None:
        live = self.live(container_id)
        async with live.lock:
            container = self.store.get(Container, container_id)
            if container is None or container.status is not Status.RESTARTING:
                return
            try:
                await self._start(container, live)
            except FairleadError as error:
                log.warning("restarting container %s failed: %s", container.name, error)
                failed = self.get(container_id)
                policy = failed.spec.restart
                if policy.wants(exit_code=1, count=failed.restart_count, stopped_by_user=failed.stopped_by_user):
                    waiting = failed.becomes(Status.RESTARTING, restart_count=failed.restart_count + 1)
                    self.store.put(waiting)
                    self._restart_later(waiting, live)

    async def clear(self, container_id: str) -> None:
        """Take a run's remains out of the kernel: monitor, mount, bundle, sandbox.  Idempotent.

        Closing a sandbox waits for the kernel to let go of its links, so it goes on beside the rest.
        """
        outcomes = await asyncio.gather(
            asyncio.to_thread(self._take_back, container_id),
            asyncio.to_thread(self.sharing.close, container_id),
            return_exceptions=True,
        )
        errors = [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        if errors:
            raise FairleadError(f"container {container_id[:12]} could not be cleared away: {errors[0]}") from errors[0]

    def _take_back(self, container_id: str) -> None:
        self._executor.revert(plans.remains(container_id, self.paths))
        if container := self.store.get(Container, container_id):
            self.volumes.unmount(container)

    async def stop(self, ref: str, timeout: int | None = None, stop_signal: str = "") -> None:
        """Ask the container to end, and kill it after `timeout` seconds (-1: never); `NotModified` if it has ended."""
        wanted = signal_number(stop_signal) if stop_signal else 0
        container = await self._settled(ref)
        if not container.is_running and not container.is_restarting:
            raise NotModified(f"container {container.name} is not running")
        if timeout is None:
            timeout = container.spec.stop_timeout
        number = wanted or signal_number(container.spec.stop_signal)
        await self._end(container.id, number, DEFAULT_STOP_TIMEOUT if timeout is None else timeout)
        self.tell("stop", container)

    async def _end(self, container_id: str, number: int, timeout: int | None) -> None:
        """Signal, wait, kill; returns when the container's remains are cleared away.  A `timeout` of None: kill now."""
        live = self.live(container_id)
        async with live.lock:
            current = self.store.get(Container, container_id)
            if current is not None and current.status is Status.RESTARTING:
                if live.timer:
                    live.timer.cancel()
                self.store.put(current.becomes(Status.EXITED, stopped_by_user=True))
                self._wake(live, ("next-exit", "not-running"), current.exit_code)
                return
            if current is None or not current.is_running:
                return
            if current.status is Status.PAUSED:
                await asyncio.to_thread(self._crun, current, "resume")
                current = current.becomes(Status.RUNNING)
            current = current.becomes(current.status, stopped_by_user=True)
            self.store.put(current)
            ended = self.subscribe(container_id, "next-exit")
        self._signal(current, number)
        if timeout is not None:
            try:
                await asyncio.wait_for(asyncio.shield(ended), None if timeout < 0 else timeout)
                return
            except TimeoutError:
                self._signal(current, signal.SIGKILL)
        await ended

    async def restart(self, ref: str, timeout: int | None = None, stop_signal: str = "") -> None:
        """Stop if it runs, and start."""
        container = self.get(ref)
        with contextlib.suppress(NotModified):
            await self.stop(container.id, timeout, stop_signal)
        with contextlib.suppress(NotModified):
            await self.start(container.id)
        self.tell("restart", container)

    async def kill(self, ref: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to the first process; SIGKILL and its stop signal count as stopped by the user.

        One that waits to be started again has no process: whatever the signal, it is not started again.
        """
        container = await self._settled(ref)
        if not container.is_running and not container.is_restarting:
            raise Conflict(f"cannot kill container: {ref}: container {container.id} is not running")
        if number == signal.SIGKILL or container.is_restarting:
            await self._end(container.id, number, None)
            return
        if number == signal_number(container.spec.stop_signal):
            async with self.live(container.id).lock:
                container = self.get(container.id)
                if container.is_running:
                    container = container.becomes(container.status, stopped_by_user=True)
                    self.store.put(container)
        self._signal(container, number)

    async def _settled(self, ref: str) -> Container:
        """The container once a start, end or removal of it that is under way is over."""
        container = self.get(ref)
        async with self.live(container.id).lock:
            return self.get(container.id)

    def _signal(self, container: Container, number: int) -> None:
        # conmon reaps the first process only when it ends itself soon after, so while conmon lives the pid is right.
        if is_monitor(container.monitor_pid, container.id):
            with contextlib.suppress(ProcessLookupError):
                os.kill(container.pid, number)
                self.tell("kill", container, {"signal": str(int(number))})

    async def pause(self, ref: str) -> None:
        """Freeze all processes."""
        await self._freeze(ref, Status.RUNNING, Status.PAUSED, "pause")

    async def unpause(self, ref: str) -> None:
        """Let them go on."""
        await self._freeze(ref, Status.PAUSED, Status.RUNNING, "resume")

    async def _freeze(self, ref: str, before: Status, after: Status, verb: str) -> None:
        container = self.get(ref)
        async with self.live(container.id).lock:
            container = self.get(container.id)
            container.check_not_restarting()
            if container.status is not before:
                state = "already paused" if container.status is Status.PAUSED else f"not {before.value}"
                raise Conflict(f"Container {container.id} is {state}")
            await asyncio.to_thread(self._crun, container, verb)
            self.store.put(container.becomes(after))
        self.tell("pause" if after is Status.PAUSED else "unpause", container)
        if after is Status.PAUSED:
            self.health.suspend(container.id)
        else:
            self.health.resume(container)

    def _crun(self, container: Container, verb: str) -> None:
        done = run_crun(self.place(container), verb, container.id)
        if done.returncode:
            raise FairleadError(f"cannot {verb} container {container.name}: {done.stderr.decode().strip()}")

    # Waiting

    def subscribe(self, ref: str, condition: Condition = "not-running") -> asyncio.Future[int]:
        """A future of the exit code; made at once, so that nothing is missed between asking and waiting."""
        container = self.get(ref)
        waiter: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        at_rest = container.status in (Status.CREATED, Status.EXITED)
        if condition == "not-running" and at_rest:
            waiter.set_result(container.exit_code)
        else:
            live = self.live(container.id)
            live.waiters = [one for one in live.waiters if not one[1].done()]  # Without those who have given up.
            live.waiters.append((condition, waiter))
        return waiter

    async def wait(self, ref: str, condition: Condition = "not-running") -> int:
        """The exit code, once the condition holds."""
        return await self.subscribe(ref, condition)

    def _wake(self, live: Live, conditions: tuple[Condition, ...], code: int) -> None:
        for condition, waiter in live.waiters:
            if condition in conditions and not waiter.done():
                waiter.set_result(code)
        live.waiters = [(condition, waiter) for condition, waiter in live.waiters if not waiter.done()]

    # Streams

    def attach(self, ref: str, *, stdout: bool = True, stderr: bool = True) -> Attachment:
        """Join the streams; before the start that means waiting for it."""
        container = self.get(ref)
        if container.status is Status.PAUSED:
            raise Conflict(f"container {container.name} is paused, unpause the container before attach")
        if container.is_restarting:
            raise Conflict(f"container {container.name} is restarting, wait until the container is running")
        live = self.live(container.id)
        attachment = Attachment(stdout=stdout, stderr=stderr)
        if container.is_running:
            if live.hub is None or live.hub.ended.done():
                try:
                    live.hub = self._hub(container)
                except OSError:
                    attachment.close()
                    return attachment
            live.hub.add(attachment)
        else:
            live.pending.append(attachment)
        self.tell("attach", container)
        return attachment

    def detach(self, ref: str, attachment: Attachment) -> None:
        """Leave the streams; the container goes on."""
        attachment.close()
        with contextlib.suppress(NotFound):
            container = self.get(ref)
            if attachment.detached:
                self.tell("detach", container)
            live = self.live(container.id)
            if live.hub:
                live.hub.remove(attachment)
            if attachment in live.pending:
                live.pending.remove(attachment)

    def _hub(self, container: Container) -> Hub:
        return Hub.connect(self.place(container).bundle, keep_stdin=container.spec.keep_stdin)

    def logs(
        self,
        ref: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: int = 0,
        until: int = 0,
        tail: int | None = None,
        timestamps: bool = False,
        follow: bool = False,
        details: bool = False,
    ) -> AsyncGenerator[Frame, None]:
        """What the container has said; with `follow` also what it will say, until it ends."""
        container = self.get(ref)
        if container.spec.log.driver == "none":
            raise MissingFeature("configured logging driver does not support reading")
        return read_log(
            plans.log_path(self.paths, container.id),
            stdout=stdout,
            stderr=stderr,
            since=since,
            until=until,
            tail=tail,
            timestamps=timestamps,
            follow=partial(self.subscribe, container.id) if follow and container.is_running else None,
            files=container.spec.log.max_file,
            details=log_details(container) if details else None,
        )

    async def resize(self, ref: str, height: int, width: int) -> None:
        """Tell the container's terminal its size, in characters."""
        container = self.get(ref)
        if not container.is_running:
            raise Conflict(f"cannot resize a stopped container: container {container.id} is not running")
        command_monitor(self.place(container), f"1 {height} {width}")
        self.tell("resize", container, {"height": str(height), "width": str(width)})

    def processes(self, ref: str) -> builtins.list[int]:
        """The host's numbers of all processes of a running container; crun, which may be beside them, is none."""
        container = self.get(ref)
        container.check_running()
        runtimes = self.execs.runtimes(container.id)
        return [pid for pid in Cgroup(self.place(container).cgroup).processes() if pid not in runtimes]

    # Changing

    async def rename(self, ref: str, name: str) -> None:
        """Give a container another name."""
        container = self.get(ref)
        name = check_name(name.removeprefix("/"), "container")
        async with self.live(container.id).lock:
            container = self.get(container.id)
            if name == container.name:
                raise Invalid("Renaming a container with the same name as its current name")
            try:
                self.store.put(msgspec.structs.replace(container, name=name))
            except Conflict:
                raise Conflict(f"Error when allocating new name: {self._name_taken(name)}") from None
        for sandbox in self.engine.catalog.sandboxes():
            if sandbox.container == container.id:
                await asyncio.to_thread(self.engine.refresh, sandbox)
        self.tell("rename", self.get(container.id), {"oldName": f"/{container.name}"})

    # Starting and stopping the daemon

    async def recover(self) -> None:
        """After a start of the daemon and the engine's own recovery; see `Recovery`."""
        await Recovery(self).run()

    async def close(self) -> None:
        """The daemon stops: forget the watches; containers go on."""
        loop = asyncio.get_running_loop()
        for live in self._live.values():
            if live.watch >= 0:
                loop.remove_reader(live.watch)
                os.close(live.watch)
                live.watch = -1
            if live.timer:
                live.timer.cancel()
            if live.hub:
                live.hub.ended.cancel()
        await self.health.close()
        self.rotator.close()
        self.execs.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("a task of the containers failed", exc_info=error)

    def tell(self, action: str, container: Container, attributes: dict[str, str] | None = None) -> None:
        """Something has happened to a container: an event of Docker's."""
        for listener in self.listeners:
            listener(action, container, attributes or {})


def signal_number(name: str) -> int:
    """``SIGTERM``, ``TERM``, ``15`` → 15; raises `Invalid`."""
    word = name.upper().removeprefix("SIG")
    if word.isdigit() and 0 < int(word) <= signal.NSIG:
        return int(word)
    if word.startswith("RTMIN+") and word[6:].isdigit():
        return signal.SIGRTMIN + int(word[6:])
    try:
        return signal.Signals[f"SIG{word}"]
    except KeyError:
        raise Invalid(f"Invalid signal: {name}") from None
