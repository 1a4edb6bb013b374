"""Sockets that hold the host's published ports, so that no other program can take them.

Packets to a published port are redirected by nftables before they reach these sockets.  What the kernel cannot redirect
is a connection between families: to ``[::1]:8081`` when the container has only an IPv4 address.  For those few, the
holding socket accepts and one thread for all ports relays.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fairlead.errors import Conflict, FairleadError, Invalid
from fairlead.model import Address, Protocol

_TYPES = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "sctp": socket.SOCK_STREAM}
_PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP, "sctp": socket.IPPROTO_SCTP}
_BACKLOG = 128
_UDP_IDLE = 90.0
"""Seconds without a datagram after which a relayed UDP exchange is forgotten."""

Key = tuple[Protocol, Address, int]
Target = tuple[Address, int]


class Ports:
    """The ports that this process holds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: dict[Key, socket.socket] = {}
        self._relay: _Relay | None = None

    def held(self, key: Key) -> bool:
        """Whether we hold this port."""
        return key in self._held

    def hold(self, wanted: Mapping[Key, Target | None]) -> None:
        """Take these ports, all or none, and relay what arrives at one with a target of the other family.

        Raises `Conflict` if one is in use, with none taken; those that we hold already stay as they are.
        """
        with self._lock:
            taken: dict[Key, socket.socket] = {}
            try:
                for key in wanted.keys() - self._held.keys():
                    taken[key] = bind(*key)
            except FairleadError:
                for held in taken.values():
                    held.close()
                raise
            self._held |= taken
            relayed = [(held, target) for key, held in taken.items() if (target := wanted[key]) and key[0] != "sctp"]
            if relayed:
                self._relay = self._relay or _Relay()
                self._relay.serve(relayed)

    def release(self, keys: Iterable[Key]) -> None:
        """Give ports back; one not held is no error."""
        with self._lock:
            given = [held for key in keys if (held := self._held.pop(key, None))]
            if self._relay:
                self._relay.stop(given)
            for held in given:
                held.close()


def bind(protocol: Protocol, address: Address, port: int) -> socket.socket:
    """A socket that keeps everyone else from `port` (0: any free one); raises `Conflict`, `Invalid`."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    where = f"{address}:{port}/{protocol}" if address.version == 4 else f"[{address}]:{port}/{protocol}"
    try:
        held = socket.socket(family, _TYPES[protocol] | socket.SOCK_CLOEXEC, _PROTOCOLS[protocol])
    except OSError as error:
        raise Invalid(f"port {where} cannot be published: {error.strerror}") from None
    try:
        if family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol != "udp":
            # Closed connections may linger on the port.  With this set only a listening socket keeps others out, so
            # the holder listens even where nothing will ever reach it.
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind((str(address), port))
        if protocol != "udp":
            held.listen(_BACKLOG)
        held.setblocking(False)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise Conflict(f"port {where} is in use by another program on this host") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise Invalid(f"port {where} cannot be published: this host has no address {address}") from None
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise FairleadError(f"port {where} cannot be held: too many open files") from None
        raise Invalid(f"port {where} cannot be published: {os.strerror(error.errno or 0)}") from None
    return held


class _Relay:
    """One thread with an event loop, for all relayed ports."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._sessions: dict[socket.socket, _Datagrams] = {}
        threading.Thread(target=self._loop.run_forever, name="relay", daemon=True).start()

    def serve(self, relayed: Sequence[tuple[socket.socket, Target]]) -> None:
        self._loop.call_soon_threadsafe(self._add, relayed)

    def stop(self, given: Sequence[socket.socket]) -> None:
        """Let go of sockets, on return, whether they were relayed or not."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._remove, given, done)
        done.wait()

    def _add(self, relayed: Sequence[tuple[socket.socket, Target]]) -> None:
        for held, target in relayed:
            if held.type == socket.SOCK_DGRAM:
                self._sessions[held] = _Datagrams(self._loop, held, target)
            else:
                self._loop.add_reader(held, self._accept, held, target)

    def _remove(self, given: Sequence[socket.socket], done: threading.Event) -> None:
        for held in given:
            self._loop.remove_reader(held)
            if session := self._sessions.pop(held, None):
                session.close()
        done.set()

    def _accept(self, held: socket.socket, target: Target) -> None:
        try:
            client, _ = held.accept()
        except OSError:
            return
        client.setblocking(False)
        task = self._loop.create_task(_relay_stream(client, target))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


_tasks: set[asyncio.Task[None]] = set()


async def _relay_stream(client: socket.socket, target: Target) -> None:
    reader, writer = await asyncio.open_connection(sock=client)
    try:
        far_reader, far_writer = await asyncio.open_connection(str(target[0]), target[1])
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
    except OSError:
        writer.transport.abort()
        far_writer.transport.abort()
    finally:
        writer.close()
        far_writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until end of file, which is passed on, so that a half-closed connection stays half-open."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


class _Datagrams:
    """Relays one UDP port: a connected socket towards the target for each client address."""

    def __init__(self, loop: asyncio.AbstractEventLoop, held: socket.socket, target: Target) -> None:
        self._loop = loop
        self._held = held
        self._target = target
        self._clients: dict[Any, tuple[socket.socket, asyncio.TimerHandle]] = {}
        loop.add_reader(held, self._from_client)

    def close(self) -> None:
        for client in list(self._clients):
            self._forget(client)

    def _from_client(self) -> None:
        try:
            data, client = self._held.recvfrom(1 << 16)
        except OSError:
            return
        if client not in self._clients:
            family = socket.AF_INET if self._target[0].version == 4 else socket.AF_INET6
            far = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            far.connect((str(self._target[0]), self._target[1]))
            self._loop.add_reader(far, self._from_target, far, client)
        else:
            far, timer = self._clients[client]
            timer.cancel()
        self._clients[client] = (far, self._loop.call_later(_UDP_IDLE, self._forget, client))
        _try(lambda: far.send(data))

    def _from_target(self, far: socket.socket, client: Any) -> None:
        _try(lambda: self._held.sendto(far.recv(1 << 16), client))

    def _forget(self, client: Any) -> None:
        far, timer = self._clients.pop(client)
        timer.cancel()
        self._loop.remove_reader(far)
        far.close()


def _try(send: Callable[[], object]) -> None:
    """Datagrams may be lost, and a refusal by the target (ICMP) is reported to the sender by nobody."""
    try:
        send()
    except OSError:
        return
