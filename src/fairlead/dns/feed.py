"""The daemon's side of the resolver: starts it when there is somebody to serve, and tells it what the records say.

What was told is remembered, so that only differences are sent; after a new start of either side everything is told
again.  A resolver that dies is started again at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fairlead.containers.record import Container
from fairlead.dns import names
from fairlead.dns.resolver import VERSION
from fairlead.errors import FairleadError
from fairlead.model import Endpoint, Network, Phase, Record, Sandbox
from fairlead.store import Store

PATIENCE = 5.0
"""Seconds within which the resolver answers; it takes less than a millisecond.  One that does not is replaced."""

LEAST_PAUSE = 1.0
"""Seconds between two starts of a resolver that keeps dying."""

_MOST_OWED = 64
"""Answers that may be unread before one is waited for: a resolver that hangs is to be noticed."""

log = logging.getLogger("fairlead.dns")

Entries = dict[str, names.Entry]


class Feed:
    """Safe to use from several threads.  What goes wrong is logged: a network without names is still a network."""

    def __init__(self, store: Store, run: Path) -> None:
        self._store = store
        self._run = run
        self._lock = threading.RLock()
        self._connection: _Connection | None = None
        self._members: Entries = {}
        self._sandboxes: Entries = {}
        self._expecting = False
        """The resolver was told of a sandbox before that was committed."""
        self._open = False
        self._started = 0.0

    def open(self) -> None:
        """After the recovery of the engine: take the resolver over, if there is one, and tell it everything."""
        with self._lock:
            self._open = True
            self._tell_whole()

    def renew(self) -> None:
        """Tell everything again, to a resolver that may have lost something."""
        with self._lock:
            if self._open:
                self._let_go()
                self._tell_whole()

    def expect(self, records: Sequence[Record]) -> None:
        """These records are about to be committed: sandboxes that get their first names have the sockets opened now.

        That takes as long as a good part of an attach, and the resolver does it beside the kernel's other work.
        """
        with self._lock:
            if not self._open or self._connection is None:
                return
            sandboxes = {}
            for record in records:
                if isinstance(record, Sandbox) and self._is_there(record):
                    joined = [other for other in records if isinstance(other, Endpoint) and other.sandbox == record.id]
                    sandboxes[record.id] = self._served(record, joined)
            first = {id_: entry for id_, entry in _entries(sandboxes).items() if id_ not in self._sandboxes}
            if first:
                with contextlib.suppress(OSError):  # It will be told of again.
                    self._connection.tell({"whole": False, "members": {}, "sandboxes": first})
                    self._sandboxes |= first
                    self._expecting = True

    def changed(self, records: Iterable[Record]) -> None:
        """Tell what these records now amount to."""
        with self._lock:
            if not self._open:
                return
            members, sandboxes = self._differences(records)
            if not members and not sandboxes:
                return
            # Of names alone no answer is awaited, which makes an attach quicker: the resolver has them in its queue
            # before any request that comes later.  Sockets are open, or closed, when we return.
            sockets = any(entry is None or id_ not in self._sandboxes for id_, entry in sandboxes.items())
            _apply(self._members, members)
            _apply(self._sandboxes, sandboxes)
            if self._connection is None:
                self._tell_whole()
            else:
                try:
                    if self._expecting:
                        self._settle(self._connection)
                        self._expecting = False
                    self._send(self._connection, members, sandboxes, wait=sockets)
                except OSError:
                    self._let_go(kill=True)
                    self._tell_whole()

    def _differences(self, records: Iterable[Record]) -> tuple[dict[str, names.Entry | None], ...]:
        endpoints = {record.id: None for record in records if isinstance(record, Endpoint)}
        owners = {record.id: None for record in records if isinstance(record, Sandbox)}
        owners |= {record.sandbox: None for record in records if isinstance(record, Endpoint)}
        members = {id_: self._member(id_) for id_ in endpoints}
        sandboxes = {id_: self._sandbox(id_) for id_ in owners}
        return (
            {id_: entry for id_, entry in members.items() if entry != self._members.get(id_)},
            {id_: entry for id_, entry in sandboxes.items() if entry != self._sandboxes.get(id_)},
        )

    def _member(self, id_: str) -> names.Entry | None:
        endpoint = self._store.get(Endpoint, id_)
        network = self._store.get(Network, endpoint.network) if endpoint else None
        sandbox = self._store.get(Sandbox, endpoint.sandbox) if endpoint else None
        if not endpoint or not network or not sandbox:
            return None
        return names.member(endpoint, network, sandbox, self._container(sandbox))

    def _sandbox(self, id_: str) -> names.Entry | None:
        sandbox = self._store.get(Sandbox, id_)
        if sandbox is None:
            return None
        joined = (self._store.owner(f"endpoint:{network.id}:{id_}") for network in self._store.all(Network))
        ready = [place for place in joined if isinstance(place, Endpoint) and place.phase is Phase.READY]
        return self._served(sandbox, ready)

    def _served(self, sandbox: Sandbox, endpoints: Iterable[Endpoint]) -> names.Entry | None:
        networks = [network for place in endpoints if (network := self._store.get(Network, place.network))]
        return names.served(sandbox, networks, self._container(sandbox))

    def _is_there(self, sandbox: Sandbox) -> bool:
        kept = self._store.get(Sandbox, sandbox.id)
        return kept is not None and kept.phase is Phase.READY

    def _container(self, sandbox: Sandbox) -> Container | None:
        return self._store.get(Container, sandbox.container) if sandbox.container else None

    # Telling

    def _tell_whole(self) -> None:
        """Everything, over a new connection."""
        members = {endpoint.id: self._member(endpoint.id) for endpoint in self._store.all(Endpoint)}
        sandboxes = {sandbox.id: self._sandbox(sandbox.id) for sandbox in self._store.all(Sandbox)}
        self._members, self._sandboxes = _entries(members), _entries(sandboxes)
        try:
            self._connect()
            if self._connection:
                self._send(self._connection, self._members, self._sandboxes, whole=True)
        except (OSError, ValueError, FairleadError) as error:
            log.error("names are not served: %s", error)
            self._let_go()

    def _connect(self) -> None:
        """Reach the resolver that is there, or start one if there is somebody to serve."""
        path = self._run / "dns.sock"
        with contextlib.suppress(OSError):
            connection = _Connection(path)
            if connection.version == VERSION:
                self._watch(connection)
                return
            connection.quit()
        if not self._sandboxes:
            return
        self._started = time.monotonic()
        command = [sys.executable, "-P", "-m", "fairlead.dns", str(self._run)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=30)
        if done.returncode:
            raise FairleadError(f"the resolver could not be started: exit code {done.returncode}")
        self._watch(_Connection(path))
        log.info("the resolver was started", extra={"pid": self._connection.pid if self._connection else 0})

    def _send(
        self,
        connection: _Connection,
        members: Mapping[str, names.Entry | None],
        sandboxes: Mapping[str, names.Entry | None],
        *,
        whole: bool = False,
        wait: bool = True,
    ) -> None:
        connection.tell({"whole": whole, "members": members, "sandboxes": sandboxes})
        if wait:
            self._settle(connection)

    def _settle(self, connection: _Connection) -> None:
        """Wait until all sockets are open that should be."""
        for id_, reason in connection.settle().items():
            sandbox = self._store.get(Sandbox, id_)
            log.error("names are not served in %s: %s", sandbox.name if sandbox else id_[:12], reason)
            self._sandboxes.pop(id_, None)  # told again with the next change of this sandbox

    # The resolver's life

    def _watch(self, connection: _Connection) -> None:
        self._connection = connection
        threading.Thread(target=self._await_end, args=(connection,), name="names", daemon=True).start()

    def _await_end(self, connection: _Connection) -> None:
        connection.await_end()
        with self._lock:
            if self._connection is not connection:
                return  # we ended it ourselves
            self._let_go()
        time.sleep(max(0.0, self._started + LEAST_PAUSE - time.monotonic()))
        with self._lock:
            if self._open and self._sandboxes and self._connection is None:
                log.warning("the resolver ended: starting it again")
                self._tell_whole()

    def _let_go(self, *, kill: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection:
            if kill:
                connection.kill()
            connection.close()

    def close(self) -> None:
        """The daemon stops; the resolver goes on with what it was told."""
        with self._lock:
            self._open = False
            self._let_go()

    def end(self) -> None:
        """After a reset: end the resolver; returns when it is gone."""
        with self._lock:
            self._open = False
            if self._connection:
                self._connection.quit()
            self._let_go()


class _Connection:
    """A connection to a running resolver; raises `OSError` when there is none, or it does not answer in time."""

    def __init__(self, path: Path) -> None:
        self._owed = 0
        """Answers that are still to be read."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.settimeout(PATIENCE)
            self._socket.connect(str(path))
            self._lines = self._socket.makefile("rb")
            hello = self._line()
        except OSError:
            self._socket.close()
            raise
        self.version: int = hello["version"]
        self.pid: int = hello["pid"]

    def tell(self, message: dict[str, Any]) -> None:
        """Send a line; its answer is read some time later."""
        if self._owed >= _MOST_OWED:
            self.settle()
        self._socket.sendall(msgspec.json.encode(message) + b"\n")
        self._owed += 1

    def settle(self) -> dict[str, str]:
        """Wait until all that was told is done; the sandboxes that could not be served, and why."""
        failed: dict[str, str] = {}
        while self._owed:
            failed |= self._line()["failed"]
            self._owed -= 1
        return failed

    def _line(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line:
            raise ConnectionResetError("the resolver ended")
        answer: dict[str, Any] = msgspec.json.decode(line)
        return answer

    def await_end(self) -> None:
        """Return when the connection has ended, by either side."""
        poll = select.poll()
        with contextlib.suppress(OSError, ValueError):
            poll.register(self._socket, select.POLLRDHUP)
            poll.poll()

    def quit(self) -> None:
        """End the resolver, and wait for that."""
        with contextlib.suppress(OSError):
            self._socket.sendall(b'{"quit": true}\n')
            while self._lines.readline():
                pass

    def kill(self) -> None:
        """End a resolver that does not answer."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Wakes who waits in `await_end`."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _apply(entries: Entries, differences: Mapping[str, names.Entry | None]) -> None:
    for id_, entry in differences.items():
        if entry is None:
            entries.pop(id_, None)
        else:
            entries[id_] = entry


def _entries(found: Mapping[str, names.Entry | None]) -> Entries:
    return {id_: entry for id_, entry in found.items() if entry is not None}
