"""The resolver process: takes the names that the daemon feeds it, and serves them in every sandbox it is told of.

It outlives the daemon and keeps what it was told last.  The protocol is one JSON object a line on a unix socket: first
the resolver says ``{"version": …, "pid": …}``; then each line of the daemon is answered by one of ours.

``{"whole": bool, "members": {ID: entry or null}, "sandboxes": {ID: entry or null}}`` adds, replaces and (null) drops;
with ``whole`` everything that is not in it is dropped.  The answer tells which sandboxes could not be served, and why:
``{"failed": {ID: text}}``.  ``{"quit": true}`` ends the process.
"""

from __future__ import annotations

import json
import os
import socket

from fairlead.dns.forward import Grudges
from fairlead.dns.hosts import HostServers
from fairlead.dns.loop import Loop
from fairlead.dns.server import Sandbox
from fairlead.dns.sockets import is_namespace
from fairlead.dns.table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
"""Of the protocol; a daemon that speaks another one has this process replaced."""

LINGER = 60.0
"""Seconds that the process stays when it serves no sandbox."""

LOOK_ROUND = 10.0
"""Seconds between looks whether somebody else took a namespace away, which our sockets would keep alive."""

_PIECE = 1 << 16
"""Bytes read at a time; Python's memory for more than that is mapped and unmapped for each."""

_FEED_PATIENCE = 1.0
"""Seconds for the daemon to take an answer, for which it waits."""


class Resolver:
    """All sandboxes, and the daemon's connections."""

    def __init__(self, listener: socket.socket) -> None:
        self.loop = Loop()
        self._table = Table()
        self._hosts = HostServers()
        self._grudges = Grudges()
        self._sandboxes: dict[str, Sandbox] = {}
        self._listener = listener
        self._feeds: set[_Feed] = set()
        self._idle = 0.0
        self.loop.watch(listener.fileno(), self._accept)
        self.loop.later(LOOK_ROUND, self._look_round)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        self._feeds.add(_Feed(self, client, self._feeds.discard))

    def take(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what a line says, and return what is to be answered."""
        if message.get("quit"):
            self.loop.stop()
            return {}
        members, sandboxes = message["members"], message["sandboxes"]
        touched: set[str] = set()
        if message["whole"]:
            for id_ in self._table.members.keys() - members.keys():
                touched |= self._table.drop(id_)
            for id_ in self._sandboxes.keys() - sandboxes.keys():
                self._sandboxes.pop(id_).close()
        for id_, entry in members.items():
            touched |= self._table.drop(id_) if entry is None else self._table.put(id_, entry)
        failed = {}
        for id_, entry in sandboxes.items():
            try:
                self._change(id_, entry)
            except OSError as error:
                failed[id_] = str(error)
        for id_ in touched:
            if id_ in self._sandboxes:
                self._sandboxes[id_].renew()
        return {"failed": failed}

    def _change(self, id_: str, entry: dict[str, Any] | None) -> None:
        before = self._sandboxes.get(id_)
        if before and entry and before.path == entry["path"] and is_namespace(before.path, before.inode):
            before.take(entry)
            return
        if before:
            del self._sandboxes[id_]
            before.close()
        if entry:
            self._sandboxes[id_] = Sandbox(self.loop, self._table, self._hosts, self._grudges, id_, entry)

    def _look_round(self) -> None:
        """Let go of namespaces that are gone, and end when there was nothing to do for a while."""
        for id_, sandbox in list(self._sandboxes.items()):
            if not is_namespace(sandbox.path, sandbox.inode):
                del self._sandboxes[id_]
                sandbox.close()
        self._idle = 0.0 if self._sandboxes else self._idle + LOOK_ROUND
        if self._idle >= LINGER:
            self.loop.stop()
        self.loop.later(LOOK_ROUND, self._look_round)


class _Feed:
    """One connection of the daemon."""

    def __init__(self, resolver: Resolver, client: socket.socket, closed: Any) -> None:
        self._resolver = resolver
        self._client = client
        self._closed = closed
        self._input = bytearray()
        client.settimeout(_FEED_PATIENCE)
        resolver.loop.watch(client.fileno(), self._read)
        self._say({"version": VERSION, "pid": os.getpid()})

    def _read(self) -> None:
        try:
            data = self._client.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        self._input += data
        while (end := self._input.find(b"\n")) >= 0:
            line = bytes(self._input[:end])
            del self._input[: end + 1]
            self._say(self._resolver.take(json.loads(line)))

    def _say(self, message: dict[str, Any]) -> None:
        try:
            self._client.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self._close()

    def _close(self) -> None:
        self._resolver.loop.forget(self._client.fileno())
        self._client.close()
        self._closed(self)
