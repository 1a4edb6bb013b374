"""What happens, as Docker's events: whoever makes something happen publishes it, whoever listens gets it.

The last events are kept, so that ``since`` can ask for what is over, and written line by line to a file of the run
directory, so that they outlive the daemon (not the machine).  Source: Docker Engine API v1.51, "Monitor events".
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import msgspec

from fairlead.model import Endpoint, Network, Phase, Record, Sandbox
from fairlead.store import Store

KEPT = 1000
"""Events that are kept for ``since``; Docker keeps 256."""

_BEHIND = 10_000
"""Events that a listener may be behind before it is cut off, so that it cannot fill the memory."""

Filters = dict[str, list[str]]


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened.  `kind` is container, network, volume, image or daemon; `time` is in nanoseconds."""

    kind: str
    action: str
    id: str
    attributes: dict[str, str]
    time: int
    scope: str = "local"

    def shape(self) -> dict[str, Any]:
        """Docker's JSON, with the fields of before API 1.22 for containers and images."""
        shape: dict[str, Any] = {}
        if self.kind in ("container", "image"):
            shape |= {"status": self.action, "id": self.id}
            if image := self.attributes.get("image"):
                shape["from"] = image
        return {
            **shape,
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": self.attributes},
            "scope": self.scope,
            "time": self.time // 1_000_000_000,
            "timeNano": self.time,
        }


class Listener:
    """One who listens, from the moment it was made; iterate over it."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: collections.deque[Event] = collections.deque()
        self._news = asyncio.Event()
        self._overrun = False

    def tell(self, event: Event) -> None:
        """From any thread."""
        self._overrun |= len(self._events) >= _BEHIND
        if not self._overrun:
            self._events.append(event)
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody listens any more.
            self._loop.call_soon_threadsafe(self._news.set)

    async def __aiter__(self) -> AsyncIterator[Event]:
        while True:
            while self._events:
                yield self._events.popleft()
            if self._overrun:
                return
            self._news.clear()
            if not self._events:
                await self._news.wait()


class Events:
    """The events of one instance.  All methods may be called from any thread."""

    def __init__(self, file: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._kept: collections.deque[Event] = collections.deque(maxlen=KEPT)
        self._listeners: list[Listener] = []
        self._file = file
        self._descriptor = -1
        self._written = 0
        self._last = 0
        self._read()

    def publish(self, kind: str, action: str, id_: str, attributes: dict[str, str] | None = None) -> None:
        """Something has happened.  `id_` is the actor's; `attributes` say more of it: its name, its labels."""
        with self._lock:
            # No two events at the same instant: ``since`` then neither repeats nor loses one.
            self._last = max(time.time_ns(), self._last + 1)
            event = Event(kind=kind, action=action, id=id_, attributes=attributes or {}, time=self._last)
            self._kept.append(event)
            self._write(event)
            for listener in self._listeners:
                listener.tell(event)

    @property
    def listening(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @contextlib.asynccontextmanager
    async def listen(self, since: int = 0, until: int = 0) -> AsyncIterator[tuple[list[Event], Listener]]:
        """What is over (nothing, if neither time is given), and one who hears all that comes after it.

        Times in nanoseconds since the epoch; an `until` of 0 is no end.
        """
        listener = Listener()
        with self._lock:
            past = [event for event in self._kept if _within(event, since, until)] if since or until else []
            self._listeners.append(listener)
        try:
            yield past, listener
        finally:
            with self._lock:
                self._listeners.remove(listener)

    def close(self) -> None:
        """The daemon stops."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
            self._descriptor = -1
            self._file = None

    # The file

    def _read(self) -> None:
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            for line in self._file.read_bytes().splitlines():
                with contextlib.suppress(msgspec.MsgspecError, UnicodeError):  # The last line may be cut off.
                    self._kept.append(msgspec.json.decode(line, type=Event))
        self._last = max((event.time for event in self._kept), default=0)

    def _write(self, event: Event) -> None:
        """That events cannot be kept (a full disk) keeps nothing from happening."""
        if self._file is None:
            return
        with contextlib.suppress(OSError):
            if self._descriptor < 0 or self._written >= KEPT:
                self._rewrite(self._file)
            else:
                os.write(self._descriptor, msgspec.json.encode(event) + b"\n")
                self._written += 1

    def _rewrite(self, file: Path) -> None:
        """A new file of the kept events alone, so that it does not grow for ever."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        new = file.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, b"".join(msgspec.json.encode(event) + b"\n" for event in self._kept))
            new.rename(file)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._written = descriptor, 0


def _within(event: Event, since: int, until: int) -> bool:
    return event.time >= since and (not until or event.time <= until)


def matches(event: Event, filters: Filters) -> bool:
    """Whether an event passes; each filter by any of its words, labels by all (moby, daemon/events/filter.go)."""
    return all(_test(event, name, words) for name, words in filters.items() if words)


def _test(event: Event, name: str, words: list[str]) -> bool:
    attributes = event.attributes
    if name == "event":
        return any(event.action == word or event.action.startswith(f"{word}:") for word in words)
    if name == "type":
        return event.kind in words
    if name == "scope":
        return event.scope in words
    if name == "label":
        return all(_has_label(attributes, word) for word in words)
    if name == "image":
        image = attributes.get("name" if event.kind == "image" else "image", "")
        return any(word in (event.id, image, _without_tag(event.id), _without_tag(image)) for word in words)
    if name in ("container", "daemon", "network", "volume", "plugin", "node", "service", "secret", "config"):
        if event.kind != name:
            return False
        return any(event.id.startswith(word) or attributes.get("name", "").startswith(word) for word in words)
    return True  # Docker takes no notice of filters that it does not know.


def _has_label(attributes: dict[str, str], wanted: str) -> bool:
    name, equals, value = wanted.partition("=")
    return name in attributes and (not equals or attributes[name] == value)


def _without_tag(reference: str) -> str:
    head, colon, tag = reference.rpartition(":")
    return head if colon and "/" not in tag else reference


class NetworkNews:
    """Makes events of the engine's commits: networks that come and go, and who joins and leaves them."""

    def __init__(self, events: Events, store: Store) -> None:
        self._events = events
        self._store = store
        self._opened = False
        self._networks: dict[str, dict[str, str]] = {}
        self._endpoints: dict[str, tuple[str, dict[str, str]]] = {}
        """What is known to be there: the network's id and the attributes."""

    def open(self) -> None:
        """From now on it is news; what there is already is none."""
        self.changed((*self._store.all(Network), *self._store.all(Endpoint)))
        self._opened = True

    def _publish(self, action: str, id_: str, attributes: dict[str, str]) -> None:
        if self._opened:
            self._events.publish("network", action, id_, attributes)

    def changed(self, records: Iterable[Record]) -> None:
        """The engine's listener: these records were committed; see the store for what has become of them."""
        for record in sorted(records, key=lambda record: isinstance(record, Network)):
            if isinstance(record, Network):
                self._network(record)
            elif isinstance(record, Endpoint):
                self._endpoint(record)

    def _network(self, record: Network) -> None:
        now = self._store.get(Network, record.id)
        if now is None:
            if attributes := self._networks.pop(record.id, None):
                self._publish("destroy", record.id, attributes)
        elif now.phase is Phase.READY and record.id not in self._networks:
            self._networks[record.id] = {"name": now.name, "type": now.driver}
            self._publish("create", record.id, self._networks[record.id])

    def _endpoint(self, record: Endpoint) -> None:
        now = self._store.get(Endpoint, record.id)
        if now is None:
            if known := self._endpoints.pop(record.id, None):
                self._publish("disconnect", *known)
        elif now.phase is Phase.READY and record.id not in self._endpoints:
            network, sandbox = self._store.get(Network, now.network), self._store.get(Sandbox, now.sandbox)
            if network is None or sandbox is None:
                return
            attributes = {"container": sandbox.container or sandbox.id, "name": network.name, "type": network.driver}
            self._endpoints[record.id] = (network.id, attributes)
            self._publish("connect", network.id, attributes)
