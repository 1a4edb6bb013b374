"""A container as intent and history: what was asked for (`ContainerSpec`), what has happened to it (`Container`)."""

from __future__ import annotations

import enum
from typing import Any, Literal

import msgspec

from fairlead.containers.isolation import Isolation
from fairlead.engine import EndpointSpec, PortSpec
from fairlead.errors import Conflict, FairleadError
from fairlead.model import Address, Record

RestartName = Literal["no", "always", "unless-stopped", "on-failure"]

DEFAULT_STOP_TIMEOUT = 10
"""Seconds between the stop signal and SIGKILL, as Docker has it."""


class Status(enum.Enum):
    """Where a container is in its life; `NEXT` says which status may follow which."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    STARTING_AGAIN = "starting again"
    EXITED = "exited"
    REMOVING = "removing"


NEXT: dict[Status, frozenset[Status]] = {
    # CREATED → CREATED and EXITED → EXITED: the record changes (a name, a network), the status does not.
    Status.CREATED: frozenset({Status.CREATED, Status.STARTING, Status.REMOVING}),
    # A start that fails goes back to where it came from; nobody was told that it runs.
    Status.STARTING: frozenset({Status.RUNNING, Status.CREATED, Status.EXITED}),
    Status.RUNNING: frozenset({Status.RUNNING, Status.PAUSED, Status.RESTARTING, Status.EXITED}),
    Status.PAUSED: frozenset({Status.PAUSED, Status.RUNNING, Status.RESTARTING, Status.EXITED}),
    # Waiting for the restart policy's back-off; a stop ends the wait.
    Status.RESTARTING: frozenset({Status.RESTARTING, Status.STARTING_AGAIN, Status.EXITED, Status.REMOVING}),
    # As STARTING, but it was said to run, and is until its policy gives up.
    Status.STARTING_AGAIN: frozenset({Status.RUNNING, Status.RESTARTING, Status.EXITED}),
    Status.EXITED: frozenset({Status.EXITED, Status.STARTING, Status.RESTARTING, Status.REMOVING}),
    Status.REMOVING: frozenset({Status.REMOVING}),
}
"""The life of a container."""


class Restart(msgspec.Struct, frozen=True, kw_only=True):
    """When to start again by itself; `maximum` 0 means without limit (``on-failure`` alone has one)."""

    name: RestartName = "no"
    maximum: int = 0

    def wants(self, *, exit_code: int, count: int, stopped_by_user: bool) -> bool:
        """Whether a container that just exited is to be started again."""
        if stopped_by_user or self.name == "no":
            return False
        if self.name == "on-failure":
            return exit_code != 0 and (self.maximum == 0 or count < self.maximum)
        return True


class Bind(msgspec.Struct, frozen=True, kw_only=True):
    """A host directory or file seen inside.  `options` are mount(8) words, such as ``ro`` or ``rslave``."""

    source: str
    target: str
    options: tuple[str, ...] = ()
    recursive: bool = True
    """What is mounted beneath the source comes along."""
    flat: bool = False
    """Read-only is the mount itself, and not what is mounted beneath it."""
    strict: bool = False
    """The source must be there; else one that is missing becomes a directory."""

    def __str__(self) -> str:
        return ":".join((self.source, self.target, *((",".join(self.options),) if self.options else ())))


class VolumeMount(msgspec.Struct, frozen=True, kw_only=True):
    """A volume seen inside.  The settings at the end are for making the volume, where there is none of that name."""

    name: str
    """Empty until the container is made: then a volume of its own gets a random name."""
    target: str
    mode: str = ""
    """As ``docker inspect`` shows it."""
    read_only: bool = False
    copy: bool = True
    """An empty volume gets what the image has at `target`."""
    subpath: str = ""
    anonymous: bool = False
    """Made for this container, and goes with it where that is asked for."""
    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """Of the local driver."""


class Ulimit(msgspec.Struct, frozen=True, kw_only=True):
    """A limit of setrlimit(2), by its name without ``RLIMIT_`` in small letters; -1 for none."""

    name: str
    soft: int
    hard: int


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Resource limits; 0 means none.  `memory` in bytes, `nano_cpus` in billionths of a processor.

    Periods, `cpu_quota` and `realtime_runtime` are microseconds; a `memory_swap` of -1 is swap without limit.
    """

    memory: int = 0
    memory_swap: int = 0
    pids: int = 0
    nano_cpus: int = 0
    cpu_shares: int = 0
    cpuset: str = ""
    cpuset_mems: str = ""
    cpu_period: int = 0
    cpu_quota: int = 0
    realtime_period: int = 0
    realtime_runtime: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    block_weight: int = 0
    """Of block I/O: 10 to 1000."""
    ulimits: tuple[Ulimit, ...] = ()


class HealthCheck(msgspec.Struct, frozen=True, kw_only=True):
    """How to find out whether a container is well.  Times in nanoseconds; 0 is the default, which Docker sets."""

    test: tuple[str, ...] = ()
    """``CMD`` and a command, ``CMD-SHELL`` and a line for `shell`, or ``NONE``."""
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0
    shell: tuple[str, ...] = ("/bin/sh", "-c")

    @property
    def command(self) -> tuple[str, ...]:
        """What to run; empty where nothing is to be checked."""
        kind, *words = self.test or ("NONE",)
        if kind == "CMD-SHELL":
            return (*self.shell, " ".join(words))
        return tuple(words) if kind == "CMD" else ()

    @property
    def every(self) -> int:
        return self.interval or 30_000_000_000

    @property
    def patience(self) -> int:
        return self.timeout or 30_000_000_000

    @property
    def start_every(self) -> int:
        return self.start_interval or 5_000_000_000

    @property
    def failures(self) -> int:
        """Failures in a row that make it unhealthy."""
        return self.retries or 3


class Log(msgspec.Struct, frozen=True, kw_only=True):
    """Where the output is kept.  A driver of ``none`` keeps nothing; `options` are the user's words for the rest."""

    driver: str = "json-file"
    options: dict[str, str] = {}
    max_size: int = 0
    """Bytes after which a new file is begun; 0: never."""
    max_file: int = 1
    """Files that are kept."""


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``container create``; everything that the image decides by default is decided already."""

    image: str
    """The reference as the user gave it."""
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    hostname: str = ""
    domainname: str = ""
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    binds: tuple[Bind, ...] = ()
    volumes: tuple[VolumeMount, ...] = ()
    asked: dict[str, Any] = {}
    """Members of HostConfig that inspect shows again as they were given; what they ask for is in the fields here."""
    tmpfs: dict[str, str] = {}
    labels: dict[str, str] = {}
    restart: Restart = Restart()
    auto_remove: bool = False
    network_mode: str = "bridge"
    """A network's name, ``host``, ``none``, ``bridge``, or ``container:ID``."""
    endpoints: tuple[EndpointSpec, ...] = ()
    """The networks to be in at start, the one of `network_mode` first; without ports."""
    ports: tuple[PortSpec, ...] = ()
    publish_all: bool = False
    exposed: tuple[str, ...] = ()
    """``80/tcp``…: the image's and the user's."""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    group_add: tuple[str, ...] = ()
    no_new_privileges: bool = False
    stop_signal: str = "SIGTERM"
    stop_timeout: int | None = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    links: dict[str, str] = {}
    """Of the default bridge (`fairlead.containers.links`): alias → container id.  Those of other networks are in
    `endpoints`."""
    sysctls: dict[str, str] = {}
    read_only: bool = False
    shm_size: int = 64 << 20
    oom_score_adj: int = 0
    init: bool = False
    limits: Limits = Limits()
    isolation: Isolation = Isolation()
    health: HealthCheck | None = None
    log: Log = Log()

    @property
    def keep_stdin(self) -> bool:
        """Whether standard input stays open when its user goes; on a terminal always, as one may attach again."""
        return self.open_stdin and (self.tty or not self.stdin_once)

    @property
    def arguments(self) -> tuple[str, ...]:
        """The whole command line of the container's first process."""
        return self.entrypoint + self.command


class Container(Record, frozen=True, kw_only=True):
    """A container.  Times are seconds since the epoch, 0 for never."""

    name: str
    image_id: str
    spec: ContainerSpec
    created: float
    status: Status = Status.CREATED
    pid: int = 0
    """The first process, while it runs, as the host numbers it."""
    monitor_pid: int = 0
    """conmon, while it runs."""
    exit_code: int = 0
    error: str = ""
    oom_killed: bool = False
    started: float = 0.0
    finished: float = 0.0
    restart_count: int = 0
    remove_volumes: bool = False
    """Being removed, and its anonymous volumes with it."""
    stopped_by_user: bool = False
    """Stopped by hand, so that ``unless-stopped`` leaves it alone."""
    addresses: dict[str, tuple[Address, ...]] = {}
    """What it had in its last run, by network id: it gets them again if they are free."""
    joined: str = ""
    """The container in whose sandbox its run is, or last was (`fairlead.containers.sharing`); empty: its own."""

    def claims(self) -> tuple[str, ...]:
        return (f"container:{self.name}",)

    @property
    def is_running(self) -> bool:
        """Whether its processes exist."""
        return self.status in (Status.RUNNING, Status.PAUSED)

    @property
    def is_restarting(self) -> bool:
        """Whether it has ended, and its policy starts it again; Docker counts it among those that run."""
        return self.status in (Status.RESTARTING, Status.STARTING_AGAIN)

    def check_not_restarting(self) -> None:
        """Raise `Conflict` where `is_restarting`."""
        if self.is_restarting:
            raise Conflict(f"Container {self.id} is restarting, wait until the container is running")

    def check_running(self) -> None:
        """Raise `Conflict` unless its processes exist."""
        self.check_not_restarting()
        if not self.is_running:
            raise Conflict(f"container {self.id} is not running")

    def becomes(self, status: Status, **fields: object) -> Container:
        """The record in its next status; raises where the life of a container does not allow that."""
        if status not in NEXT[self.status]:
            raise FairleadError(f"container {self.name} cannot go from {self.status.value} to {status.value}")
        return msgspec.structs.replace(self, status=status, **fields)
