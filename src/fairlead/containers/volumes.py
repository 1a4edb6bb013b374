"""Volumes: directories with a name that outlive containers, as Docker's ``local`` driver has them.

A volume is in use as long as a container's record names it, so nothing counts references.  It is made in this order:
record (`ADDING`), directory, content, then, in one transaction with the container that asked for it, `READY`.  It goes
in this order: record (`REMOVING`), directory out of its place by one rename, record, and at leisure the files.  After a
crash `recover` undoes the one and finishes the other; a directory that no record names is only removed when it is
empty, as what is in it was somebody's data.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import logging
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from msgspec.structs import replace

from fairlead.containers.record import Container, Status, VolumeMount
from fairlead.containers.usage import tree_size
from fairlead.errors import Conflict, FairleadError, Invalid, KernelError, NotFound
from fairlead.events import Events
from fairlead.images.layout import remove_tree
from fairlead.kernel import mounts
from fairlead.model import Phase, Record, new_id
from fairlead.paths import Paths
from fairlead.store import Store

log = logging.getLogger("fairlead.volumes")

DRIVER = "local"

ANONYMOUS = "com.docker.volume.anonymous"
"""The label of a volume that got its name from us, as Docker 24 and later set it."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")
_GRAVEYARD = ".removed"
"""In the directory of all volumes; no volume can have this name."""

_PATIENCE = 60
"""Seconds that a server has to let itself be mounted."""

_SERVER = re.compile(r"\baddr=([^,]+)")
_SECRET = re.compile(r"\bpassword=[^,]*")

_NEEDED = {"device": ("type",), "type": ("device",), "o": ("device", "type")}
"""Which driver options need which others (moby, volume/local/local_unix.go)."""

Fill = Callable[[Sequence[tuple[str, Path]]], None]
"""Copies what the image has at each path into the directory beside it, where that is empty; blocks."""
Listener = Callable[[str, "Volume", dict[str, str]], None]
"""Is told of what happened: create, destroy, mount, unmount; the volume; extra attributes."""


class Volume(Record, frozen=True, kw_only=True):
    """A volume; its id is its name."""

    labels: dict[str, str] = {}
    options: dict[str, str] = {}
    """``type``, ``device`` and ``o``: what is mounted on its directory while a container runs; or none."""
    created: float = 0.0
    phase: Phase = Phase.READY

    @property
    def anonymous(self) -> bool:
        """It got its name from us."""
        return ANONYMOUS in self.labels


def check_volume_name(name: str) -> str:
    """Return `name`; raises `Invalid` in Docker's words."""
    if len(name) == 1:
        raise Invalid(f"create {name}: volume name is too short, names should be at least two alphanumeric characters")
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise Invalid(
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    return name


def check_options(name: str, options: dict[str, str]) -> None:
    """Raises `Invalid` for what the local driver does not know."""
    for option in options:
        if option == "size":
            raise Invalid(f"create {name}: quota size requested but no quota support")
        if option not in _NEEDED:
            raise Invalid(f'create {name}: invalid option: "{option}"')
    for option, needed in _NEEDED.items():
        for other in needed if option in options else ():
            if other not in options:
                raise Invalid(f'create {name}: missing required option: "{other}"')


class Volumes:
    """All volumes of one instance.  Everything but what is marked so runs on the daemon's event loop."""

    def __init__(self, store: Store, paths: Paths) -> None:
        self._store = store
        self._paths = paths
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._mounting: dict[str, threading.Lock] = {}
        """By volume: held while it is decided whether something is to be mounted or unmounted, and done."""
        self._held: Counter[str] = Counter()
        """By how many bodies of `mounted`."""
        self.listeners: builtins.list[Listener] = []

    # Reading

    def list(self) -> list[Volume]:
        """All volumes, by name."""
        found = (volume for volume in self._store.all(Volume) if volume.phase is Phase.READY)
        return sorted(found, key=lambda volume: volume.id)

    def get(self, name: str) -> Volume:
        """Raises `NotFound`: ``get NAME: no such volume``."""
        volume = self._store.get(Volume, name)
        if volume is None or volume.phase is not Phase.READY:
            raise NotFound(f"get {name}: no such volume")
        return volume

    def users(self) -> dict[str, builtins.list[str]]:
        """Ids of the containers that name each volume."""
        found: dict[str, builtins.list[str]] = {}
        for container in self._store.all(Container):
            for name in {mount.name for mount in container.spec.volumes}:
                found.setdefault(name, []).append(container.id)
        return found

    def path(self, name: str) -> Path:
        """Where its content is."""
        return self._paths.volume(name)

    def size(self, name: str) -> int:
        """Bytes of its files; blocks."""
        return tree_size(self.path(name))

    # Making

    async def create(self, name: str, driver: str, options: dict[str, str], labels: dict[str, str]) -> Volume:
        """A volume; one of that name that exists already is the answer, as it is.  An empty name: a random one."""
        check_driver(name, driver)
        if not name:
            name, labels = new_id(), {**labels, ANONYMOUS: ""}
        check_volume_name(name)
        async with self._lock(name):
            if found := self._store.get(Volume, name):
                return found
            check_options(name, options)
            volume = await self._begin(name, options, labels)
            self._store.put(volume)
        self._tell("create", volume)
        return volume

    async def _begin(self, name: str, options: dict[str, str], labels: dict[str, str]) -> Volume:
        """Intent and directory; the caller holds the lock, and stores what is returned when all is done."""
        volume = Volume(id=name, options=options, labels=labels, created=time.time(), phase=Phase.ADDING)
        self._store.put(volume)
        try:
            self.path(name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self._store.delete(volume)
            raise FairleadError(
                f"create {name}: the directory of the volume cannot be made: {error.strerror}"
            ) from None
        return replace(volume, phase=Phase.READY)

    @asynccontextmanager
    async def made_for(
        self, wanted: Iterable[VolumeMount], has: Callable[[str], bool], fill: Fill
    ) -> AsyncIterator[builtins.list[Volume]]:
        """The volumes of a container that is being created are there, and filled, while the body stores it.

        `has` says whether the image may have something at a path; where not, the volume is not even looked into.
        The body stores the volumes it is given together with the container; if it raises, they are gone again.
        """
        wanted = tuple(wanted)
        made: builtins.list[Volume] = []
        async with AsyncExitStack() as stack:
            for name in sorted({mount.name for mount in wanted}):
                await stack.enter_async_context(self._lock(name))
            try:
                for mount in wanted:
                    if not any(volume.id == mount.name for volume in (*made, *self._store.all(Volume))):
                        made.append(await self._begin(mount.name, mount.options, mount.labels))
                await self._fill([mount for mount in wanted if has(mount.target)], fill)
                yield made
            except BaseException:
                for volume in made:
                    self._bury(volume)
                raise
        for volume in made:
            self._tell("create", volume)

    async def _fill(self, wanted: Sequence[VolumeMount], fill: Fill) -> None:
        """Copy the image's content into volumes that are empty; the first mount of a volume that asks for it does."""
        places: dict[str, tuple[str, Path]] = {}
        for mount in wanted:
            volume = self._store.get(Volume, mount.name)
            if mount.copy and not mount.subpath and volume is not None and mount.name not in places:
                places[mount.name] = (mount.target, self.path(mount.name))
        if not places:
            return
        await asyncio.to_thread(self._fill_now, places, fill)

    def _fill_now(self, places: dict[str, tuple[str, Path]], fill: Fill) -> None:
        with self.mounted(places):
            empty = [place for place in places.values() if place[1].is_dir() and not os.listdir(place[1])]
            if empty:
                fill(empty)

    # Removing

    async def remove(self, name: str, *, force: bool = False) -> None:
        """Remove a volume that no container names; with `force` one that is not there is no error."""
        async with self._lock(name):
            try:
                volume = self.get(name)
            except NotFound:
                if force:
                    return
                raise
            if users := self.users().get(name):
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(users)}]")
            self._store.put(replace(volume, phase=Phase.REMOVING))
            grave = self._bury(volume)
        self._tell("destroy", volume)
        if grave:
            await asyncio.to_thread(remove_tree, grave)

    async def remove_anonymous(self, wanted: Iterable[VolumeMount]) -> None:
        """Those of a removed container's volumes that were made for it alone; what another uses stays."""
        for mount in wanted:
            if mount.anonymous:
                with contextlib.suppress(NotFound, Conflict):
                    await self.remove(mount.name)

    async def prune(self, fits: Callable[[Volume], bool]) -> tuple[builtins.list[str], int]:
        """Remove the volumes that no container names and that fit; returns their names and their bytes."""
        users = self.users()
        names: builtins.list[str] = []
        freed = 0
        for volume in self.list():
            if volume.id not in users and fits(volume):
                size = await asyncio.to_thread(self.size, volume.id)
                with contextlib.suppress(NotFound, Conflict):
                    await self.remove(volume.id)
                    names.append(volume.id)
                    freed += size
        return names, freed

    def _bury(self, volume: Volume) -> Path | None:
        """Take its directory out of its place, then forget it; returns what is to be removed at leisure."""
        self._unmount(volume)
        self._mounting.pop(volume.id, None)
        place = self._paths.volumes / volume.id
        grave = self._paths.volumes / _GRAVEYARD / f"{volume.id[:200]}-{secrets.token_hex(4)}"
        grave.parent.mkdir(parents=True, exist_ok=True)
        found = True
        try:
            place.rename(grave)
        except FileNotFoundError:
            found = False
        self._store.delete(volume)
        return grave if found else None

    # Mounting; from threads

    def mount(self, wanted: Iterable[VolumeMount]) -> None:
        """Before a container starts: what its volumes' options ask for is mounted.  Blocks.

        The container's record says `STARTING` by now, so no other container's end takes it away again.
        """
        for name in {mount.name for mount in wanted}:
            volume = self._store.get(Volume, name)
            if volume is None:
                raise NotFound(f"get {name}: no such volume")
            self.path(name).mkdir(parents=True, exist_ok=True)
            if volume.options:
                with self._guard(name):
                    self._mount(volume)

    def unmount(self, container: Container) -> None:
        """After a container ended: take away what no other running container uses.  Blocks."""
        for name in {mount.name for mount in container.spec.volumes}:
            volume = self._store.get(Volume, name)
            if volume is not None and volume.options:
                with self._guard(name):
                    if not self._is_mounted_for_others(name, container.id):
                        self._unmount(volume)

    @contextlib.contextmanager
    def mounted(self, names: Iterable[str]) -> Iterator[None]:
        """These are mounted while the body runs, whoever uses them besides.  Blocks."""
        volumes = [v for v in (self._store.get(Volume, name) for name in set(names)) if v is not None and v.options]
        self._held.update(volume.id for volume in volumes)
        try:
            for volume in volumes:
                with self._guard(volume.id):
                    self._mount(volume)
            yield
        finally:
            self._held.subtract(volume.id for volume in volumes)
            for volume in volumes:
                with self._guard(volume.id):
                    if not self._is_mounted_for_others(volume.id, ""):
                        self._unmount(volume)

    def _guard(self, name: str) -> threading.Lock:
        return self._mounting.setdefault(name, threading.Lock())

    def _is_mounted_for_others(self, name: str, container: str) -> bool:
        resting = (Status.CREATED, Status.EXITED, Status.REMOVING, Status.RESTARTING)
        return self._held[name] > 0 or any(
            other.id != container and other.status not in resting and any(m.name == name for m in other.spec.volumes)
            for other in self._store.all(Container)
        )

    def _mount(self, volume: Volume) -> None:
        if mounts.is_mounted(self.path(volume.id)):
            return
        target = str(self.path(volume.id))
        kind, device, options = _wanted(volume)
        try:
            words = [sys.executable, "-I", "-S", mounts.__file__, device, target, kind, options]
            done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            raise KernelError(f"error while mounting volume '{target}': no answer in {_PATIENCE} seconds") from None
        if done.returncode:
            flags, data = mounts.parse_options(options)
            what = f"mount {device}:{target}" + (f", flags: {flags:#x}" if flags else "")
            what += f", data: {_SECRET.sub('password=********', data)}" if data else ""
            reason = os.strerror(done.returncode)
            raise KernelError(
                f"error while mounting volume '{target}': failed to mount local volume: {what}: "
                f"{reason[0].lower()}{reason[1:]}"
            )

    def mount_lines(self, name: str) -> builtins.list[str]:
        """The line that mounts what a volume's options ask for, if it has any and is not mounted."""
        volume = self._store.get(Volume, name)
        if volume is None or not volume.options or mounts.is_mounted(self.path(name)):
            return []
        kind, device, options = _wanted(volume)
        words = ["-t", kind, *(["-o", options] if options else []), "--", device, str(self.path(name))]
        return [shlex.join(["mount", "--internal-only", *words])]

    def _unmount(self, volume: Volume) -> None:
        if volume.options and mounts.is_mounted(self.path(volume.id)):
            mounts.unmount(self.path(volume.id))

    # Order

    def _lock(self, name: str) -> asyncio.Lock:
        """The lock of this name; it lives as long as somebody holds or awaits it."""
        return self._locks.setdefault(name, asyncio.Lock())

    def tell_use(self, action: str, container: Container) -> None:
        """Say that a container's volumes were mounted or unmounted (``mount``, ``unmount``)."""
        for mount in container.spec.volumes:
            if volume := self._store.get(Volume, mount.name):
                attributes = {"container": container.id}
                if action == "mount":
                    attributes |= {"destination": mount.target, "read/write": str(not mount.read_only).lower()}
                    attributes["propagation"] = ""
                self._tell(action, volume, attributes)

    def _tell(self, action: str, volume: Volume, attributes: dict[str, str] | None = None) -> None:
        for listener in self.listeners:
            listener(action, volume, attributes or {})

    def recover(self) -> None:
        """After a start: undo what was being made, finish what was being removed.  Blocks."""
        for volume in self._store.all(Volume):
            if volume.phase is not Phase.READY:
                self._bury(volume)
        known = {volume.id for volume in self._store.all(Volume)}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self._paths.volumes):
                if entry.name == _GRAVEYARD:
                    for grave in os.scandir(entry.path):
                        remove_tree(Path(grave.path))
                elif entry.name not in known:
                    _remove_empty(Path(entry.path))


def _wanted(volume: Volume) -> tuple[str, str, str]:
    """Type, device and options of a volume's mount; raises `KernelError` where the server's name has no address.

    The kernel wants the address of an NFS or CIFS server as a number (moby, volume/local/local_linux.go).
    """
    kind, device, options = (volume.options.get(word, "") for word in ("type", "device", "o"))
    server = _SERVER.search(options)
    if kind in ("nfs", "nfs4", "cifs") and server:
        try:
            found = socket.getaddrinfo(server[1], None, type=socket.SOCK_STREAM)
        except OSError as error:
            reason = f"lookup {server[1]}: {error.strerror}"
            raise KernelError(f"error resolving passed in network volume address: {reason}") from None
        options = options.replace(server[0], f"addr={found[0][4][0]}")
    return kind or "none", device or "none", options


def _remove_empty(directory: Path) -> None:
    for path in (directory / "_data", directory):
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            log.warning("%s belongs to no volume and is not empty: it is left alone", directory)
            return


def volume_event(events: Events, action: str, volume: Volume, attributes: dict[str, str]) -> None:
    """Publish what happened to a volume, as Docker does."""
    events.publish("volume", action, volume.id, {"driver": DRIVER, **attributes})


def check_driver(name: str, driver: str) -> None:
    """Raises `NotFound` in Docker's words for a driver that is not there."""
    if driver not in ("", DRIVER):
        raise NotFound(f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found')
