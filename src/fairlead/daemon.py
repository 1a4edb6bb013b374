"""``fairlead daemon``: one process that serves the API on a unix socket.

The order at start matters.  The lock comes first, because two daemons on one run directory would both recover it.  The
socket is bound before recovery, so that clients that connect meanwhile wait instead of failing, but nothing is accepted
until recovery is done.  At the end containers keep running: they belong to conmon, not to us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import dataclasses
import errno
import fcntl
import gc
import logging
import os
import resource
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec
from aiohttp import web

from fairlead.api import absent as api_absent
from fairlead.api import archive as api_archive
from fairlead.api import containers as api_containers
from fairlead.api import events as api_events
from fairlead.api import exec as api_exec
from fairlead.api import fairlead as api_fairlead
from fairlead.api import images as api_images
from fairlead.api import login as api_login
from fairlead.api import networks as api_networks
from fairlead.api import see as api_see
from fairlead.api import stats as api_stats
from fairlead.api import system as api_system
from fairlead.api import trace as api_trace
from fairlead.api import update as api_update
from fairlead.api import usage as api_usage
from fairlead.api import volumes as api_volumes
from fairlead.api import websocket as api_websocket
from fairlead.api.app import IN_FLIGHT, Daemon, make_app
from fairlead.api.server import Connection
from fairlead.containers import Containers
from fairlead.containers.record import Container
from fairlead.containers.volumes import Volume, volume_event
from fairlead.dns.feed import Feed
from fairlead.engine import KINDS, Engine
from fairlead.errors import FairleadError
from fairlead.events import Events, NetworkNews
from fairlead.fault import Fault
from fairlead.images import Image, Images
from fairlead.kernel import Kernel
from fairlead.kernel.watch import FirewallWatch, LegacyWatch
from fairlead.paths import Paths
from fairlead.plan.executor import Executor
from fairlead.store import Store

WORKERS = 16
"""Threads for the engine's synchronous calls; more would only wait for the store's lock."""

STOP_SECONDS = 30.0
"""How long a stop waits for changes in hand.  systemd's own limit is 90 s."""

LOCK_SECONDS = 10.0
"""How long a daemon started by the command line waits for one that is just stopping."""

OWNER_SECONDS = 1.0
"""How long the name of a daemon that has just died may still be taken."""

_OWNER = "\0fairlead"

LEVELS = ("debug", "info", "warning", "error")

log = logging.getLogger("fairlead.daemon")


def build(paths: Paths, fault: Fault) -> Daemon:
    """Wire the parts together; nothing is recovered or served yet."""
    store = Store(paths.store, (*KINDS, Image, Container, Volume))
    store.fault = fault
    executor = Executor(Kernel(paths.run), fault)
    engine = Engine(store, executor, paths)
    names = Feed(store, paths.run)
    engine.listeners.append(names.changed)
    engine.heralds.append(names.expect)
    images = Images(store, paths)
    containers = Containers(store, paths, engine, images, executor)
    events = Events(paths.run / "events")
    containers.listeners.append(partial(container_event, events))
    containers.volumes.listeners.append(partial(volume_event, events))
    return Daemon(paths=paths, engine=engine, images=images, containers=containers, names=names, events=events)


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """Every route of the API."""
    return [
        *api_system.routes(daemon),
        *api_networks.routes(daemon),
        *api_fairlead.routes(daemon),
        *api_see.routes(daemon),
        *api_trace.routes(daemon),
        *api_images.routes(daemon),
        *api_containers.routes(daemon),
        *api_exec.routes(daemon),
        *api_login.routes(daemon),
        *api_volumes.routes(daemon),
        *api_archive.routes(daemon),
        *api_absent.routes(),
        *api_events.routes(daemon),
        *api_stats.routes(daemon),
        *api_update.routes(daemon),
        *api_websocket.routes(daemon),
        *api_usage.routes(daemon),
    ]


def main(log_level: str = "info") -> int:
    """Run until SIGTERM or SIGINT; returns the exit code."""
    ready = Ready()
    if ready.asked:
        detach()
    try:
        set_up_log(log_level)
        if os.geteuid() != 0:
            raise FairleadError("the daemon must run as root: it makes network namespaces, links and firewall rules")
        paths = Paths.from_environment()
        fault = _fault()
        raise_limits()
        make_directories(paths)
        with lock(paths, patient=ready.asked), sole_owner():
            return asyncio.run(serve(paths, fault, ready))
    except AlreadyServing:
        ready.say("ready")  # whoever holds the lock answers: that is all our starter wants
        return 0
    except FairleadError as error:
        ready.say(f"error {error}")
        print(f"fairlead: {error}", file=sys.stderr)
        return 1


def _fault() -> Fault:
    try:
        return Fault.from_environment()
    except ValueError:
        raise FairleadError(f"FAIRLEAD_FAULT is {os.environ['FAIRLEAD_FAULT']!r}: a number is needed") from None


async def serve(paths: Paths, fault: Fault, ready: Ready) -> int:
    """Recover, answer requests until told to stop, and stop gracefully."""
    started = time.monotonic()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(WORKERS, thread_name_prefix="worker"))
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with listener(paths) as sock:
        daemon = dataclasses.replace(build(paths, fault), stop=stopping.set)
        await recover(daemon)
        mender = Mender(daemon)
        app = make_app(routes(daemon))
        runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=1)
        await runner.setup()
        assert runner.server is not None
        server = await loop.create_server(partial(Connection, runner.server, loop), sock=sock, backlog=512)
        gc.collect()
        gc.freeze()  # what start-up made lives as long as we do: no later collection need look at it
        fault.arm()
        ready.say("ready")
        log.info("ready", extra={"socket": str(paths.socket), "seconds": round(time.monotonic() - started, 3)})
        await stopping.wait()
        ready.stopping()
        log.info("stopping")
        server.close()
        await app[IN_FLIGHT].drain(STOP_SECONDS)
        await runner.cleanup()
        await mender.close()
        await daemon.containers.close()
        daemon.names.close()
        daemon.engine.close()
        daemon.events.close()
    log.info("stopped")
    return 0


def container_event(events: Events, action: str, container: Container, more: dict[str, str]) -> None:
    """A container's event: its labels, image and name say whose it is."""
    attributes = {**container.spec.labels, "image": container.spec.image, "name": container.name, **more}
    events.publish("container", action, container.id, attributes)


async def recover(daemon: Daemon) -> None:
    """Make the kernel, the images and the containers what the store says they are."""
    await asyncio.to_thread(daemon.engine.recover)
    await asyncio.to_thread(daemon.names.open)
    await asyncio.to_thread(daemon.images.recover)
    news = NetworkNews(daemon.events, daemon.engine.store)
    news.open()
    daemon.engine.listeners.append(news.changed)
    await asyncio.to_thread(daemon.containers.volumes.recover)
    await daemon.containers.recover()


class Mender:
    """Puts our firewall state back when another program took it away (a reload, a flush).

    A reload comes as a burst of transactions, so a moment passes before the mending, and one mending serves all that
    came before it.
    """

    DELAY = 0.05
    """Seconds."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._loop = asyncio.get_running_loop()
        self._watches: list[FirewallWatch | LegacyWatch] = []
        self._tasks: list[asyncio.Task[None]] = []
        nftables = FirewallWatch()
        self._follow(nftables, lambda: daemon.engine.mend(table=nftables.table_touched()))
        try:
            self._follow(LegacyWatch(), daemon.engine.mend_other_firewalls)
        except OSError as error:
            log.warning("changes to iptables-legacy will only be seen at the next start: %s", error)

    def _follow(self, watch: FirewallWatch | LegacyWatch, mend: Callable[[], None]) -> None:
        heard = asyncio.Event()

        def hear() -> None:
            if watch.changed_by_others():
                heard.set()

        self._loop.add_reader(watch.fileno(), hear)
        self._watches.append(watch)
        self._tasks.append(self._loop.create_task(self._mend(heard, mend)))

    async def _mend(self, heard: asyncio.Event, mend: Callable[[], None]) -> None:
        while True:
            await heard.wait()
            await asyncio.sleep(self.DELAY)
            heard.clear()
            async with self._daemon.mending:
                try:
                    await asyncio.to_thread(mend)
                except Exception:
                    log.exception("the firewall was changed by another program and could not be mended")

    async def close(self) -> None:
        """Stop listening."""
        for watch in self._watches:
            self._loop.remove_reader(watch.fileno())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for watch in self._watches:
            watch.close()


# Start-up


class AlreadyServing(FairleadError):
    """Another daemon holds the run directory and answers."""


class Ready:
    """Tells those who started us that we answer: systemd (sd_notify(3)), or the command line through a pipe.

    The command line gives the pipe's number in ``FAIRLEAD_READY_FD`` and reads one line: ``ready``, or ``error`` and
    the sentence to show.
    """

    def __init__(self) -> None:
        number = os.environ.pop("FAIRLEAD_READY_FD", "")
        self._pipe = int(number) if number.isdigit() else -1
        self.asked = self._pipe >= 0
        if self.asked:
            os.set_inheritable(self._pipe, False)
        self._notify = os.environ.pop("NOTIFY_SOCKET", "")

    def say(self, line: str) -> None:
        """Pass the line on, once."""
        if self._pipe >= 0:
            with contextlib.suppress(OSError):
                os.write(self._pipe, line.replace("\n", " ").encode() + b"\n")
            os.close(self._pipe)
            self._pipe = -1
        if line == "ready":
            self._tell_systemd("READY=1")

    def stopping(self) -> None:
        """Tell systemd that this end is wanted."""
        self._tell_systemd("STOPPING=1")

    def _tell_systemd(self, state: str) -> None:
        if self._notify:
            address = "\0" + self._notify[1:] if self._notify.startswith("@") else self._notify
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(state.encode(), address)


def detach() -> None:
    """Let go of what the command that started us happened to have open, such as a script's lock or pipe.

    What Python itself opened is never inheritable (PEP 446), so that is the mark.
    """
    os.chdir("/")
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) > 2 and os.get_inheritable(int(name)):
                os.close(int(name))


def raise_limits() -> None:
    """As many open files as allowed (ports are bound many at a time), and at most two malloc arenas.

    glibc gives each thread an arena of its own, so sixteen idle workers would hold megabytes (mallopt(3)).
    """
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    arena_max = -8  # M_ARENA_MAX, malloc.h
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(arena_max, 2)


def make_directories(paths: Paths) -> None:
    """The state and run directories, closed to others than root."""
    for directory in (paths.state, paths.run):
        try:
            directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        except OSError as error:
            raise FairleadError(f"the directory {directory} cannot be made: {error.strerror}") from None


@contextlib.contextmanager
def lock(paths: Paths, patient: bool) -> Iterator[None]:
    """Hold the run directory against a second daemon; the file tells our process id.

    A daemon that the command line started is `patient`: it may have come while another is stopping (wait for it) or
    starting (then that one will do: `AlreadyServing`).
    """
    fd = os.open(paths.run / "daemon.pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + (LOCK_SECONDS if patient else 0)
        while not _locked(fd):
            pid = os.pread(fd, 32, 0).decode(errors="replace").strip()
            if patient and _answers(paths.socket):
                raise AlreadyServing("another daemon answers")
            if time.monotonic() >= deadline:
                raise FairleadError(f"another Fairlead daemon (pid {pid or 'unknown'}) already runs on {paths.run}")
            time.sleep(0.02)
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
        os.ftruncate(fd, 0)
    finally:
        os.close(fd)


@contextlib.contextmanager
def sole_owner() -> Iterator[None]:
    """Keep other instances out of this network namespace: each would remove the other's links as orphans.

    An abstract socket's name is known in one network namespace, and free again when its process ends (unix(7)).
    """
    with socket.socket(socket.AF_UNIX) as sock:
        deadline = time.monotonic() + OWNER_SECONDS
        while True:
            try:
                sock.bind(_OWNER)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() >= deadline:
                    raise FairleadError(
                        f"another Fairlead daemon (pid {_owner_pid()}) owns this network namespace: "
                        "an instance with FAIRLEAD_STATE and FAIRLEAD_RUN of its own needs a namespace of its own, too"
                    ) from None
            time.sleep(0.02)
        sock.listen(1)
        yield


def _owner_pid() -> str:
    """Who listens there: what the kernel says of the other end of a connection, SO_PEERCRED."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.setblocking(False)
            sock.connect(_OWNER)
            return str(struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
        except OSError:
            return "unknown"


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(1)
        try:
            sock.connect(str(path))
            sock.sendall(b"HEAD /_ping HTTP/1.1\r\nHost: fairlead\r\nConnection: close\r\n\r\n")
            return sock.recv(12).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@contextlib.contextmanager
def listener(paths: Paths) -> Iterator[socket.socket]:
    """The socket to accept on: systemd's (sd_listen_fds(3)), or our own, which goes away with us."""
    count, pid = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if count.isdigit() and int(count) > 0 and pid == str(os.getpid()):
        with _passed() as sock:
            yield sock
        return
    with socket.socket(socket.AF_UNIX) as sock:
        old_mask = os.umask(0o117)  # only root and root's group may connect: whoever can is root on this machine
        try:
            paths.socket.unlink(missing_ok=True)  # we hold the lock, so it is a dead daemon's
            sock.bind(str(paths.socket))
            sock.listen(512)
        except OSError as error:
            reason = error.strerror or str(error)
            raise FairleadError(f"the socket {paths.socket} cannot be made: {reason}") from None
        finally:
            os.umask(old_mask)
        try:
            yield sock
        finally:
            paths.socket.unlink(missing_ok=True)


def _passed() -> socket.socket:
    first = 3  # SD_LISTEN_FDS_START
    try:
        sock = socket.socket(fileno=first)
    except OSError:
        raise FairleadError("LISTEN_FDS is set, but descriptor 3 is no socket: see fairlead.socket") from None
    sock.set_inheritable(False)
    if sock.family != socket.AF_UNIX:
        sock.close()
        raise FairleadError("systemd passed a socket that is no unix socket: see fairlead.socket")
    return sock


# Log


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger, message, then whatever came as ``extra``."""

    _usual = frozenset(vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"})

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created).astimezone().isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry.update({name: value for name, value in vars(record).items() if name not in self._usual})
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def set_up_log(level: str) -> None:
    """Structured log to stderr."""
    if level not in LEVELS:
        raise FairleadError(f"invalid log level {level!r}: only {', '.join(LEVELS)} are allowed")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel("WARNING")
