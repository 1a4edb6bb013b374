"""The keeper: a small process that holds the sockets of an instance's published ports, all of them.

It outlives the daemon, so that ports stay held while no daemon runs.  The daemon binds (`fairlead.kernel.ports`) and
passes the sockets here.  Where the kernel cannot redirect to the container, because that has an address of the other
family only, or because ``::1`` was asked, the socket accepts and its traffic is relayed.

It is started with one argument, the path of its unix socket, and with that socket, listening, as its standard input.
There it takes one connection, the daemon's; a new one displaces the old.  A message is a word and lines:

    hold      PROTOCOL ADDRESS PORT [ADDRESS PORT]   as many sockets come along; the second address: relay to there
    release   PROTOCOL ADDRESS PORT                  answered with "released"
    list                                             answered with "keeper PID", such lines, and "end"
    end                                              answered with the end of the connection

The address ``*`` is all of both families.  With nothing to hold it ends by itself after `LINGER` seconds.  It runs as a
file of its own under ``python -I -S`` and imports nothing of Fairlead and little else: it is there for long, and small.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LINGER = 5.0
"""Seconds without a port after which the keeper ends: longer than a container's restart takes."""

MESSAGE = 1 << 17
"""Bytes in a message at most."""

SOCKETS = 200
"""Sockets in a message at most; the kernel's own limit is 253 (SCM_MAX_FD, net/scm.h)."""

UDP_IDLE = 90.0
"""Seconds without a datagram after which a relayed UDP exchange is forgotten."""

_CHUNK = 1 << 16
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Loop:
    """Calls back when a socket is ready.  A socket that is waited for in neither direction is not watched at all, as
    the kernel would tell of its hang-up again and again."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, tuple[int, Callable[[int], None]]] = {}

    def watch(self, sock: socket.socket, events: int, call: Callable[[int], None]) -> None:
        """Call when one of `events` has come; 0: no more."""
        number = sock.fileno()
        before = self._watched.pop(number, None)
        if events:
            self._watched[number] = (events, call)
        if before and not events:
            self._epoll.unregister(number)
        elif events and not before:
            self._epoll.register(number, events)
        elif before and before[0] != events:
            self._epoll.modify(number, events)

    def turn(self, timeout: float) -> bool:
        """Wait and call; False if nothing came."""
        found = self._epoll.poll(timeout)
        for number, events in found:
            if watched := self._watched.get(number):
                watched[1](events)
        return bool(found)


class Stream:
    """A relayed connection.  Each end's end of file is passed on to the other: half closed stays half open."""

    def __init__(self, loop: Loop, client: socket.socket, target: tuple[str, int]) -> None:
        client.setblocking(False)
        far = socket.socket(_family(target), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for end in (client, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # What comes small is to go on small, at once.
        self._loop = loop
        self._other = {client: far, far: client}
        self._waiting = {client: b"", far: b""}
        """What is still to be sent to each."""
        self._ended: set[socket.socket] = set()
        self._shut: set[socket.socket] = set()
        self._connecting: socket.socket | None = far
        self._calls: dict[socket.socket, Callable[[int], None]] = {
            client: lambda events: self._ready(client),
            far: lambda events: self._ready(far),
        }
        far.connect_ex(target)
        self._watch()

    def _watch(self) -> None:
        for sock, other in self._other.items():
            events = 0
            if self._connecting is None and sock not in self._ended and not self._waiting[other]:
                events |= _IN
            if self._waiting[sock] or sock is self._connecting:
                events |= _OUT
            self._loop.watch(sock, events, self._calls[sock])

    def _ready(self, sock: socket.socket) -> None:
        try:
            if sock is self._connecting:
                if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    raise OSError(error, "connect")
                self._connecting = None
            else:
                self._read(sock)
            for end in self._other:
                self._write(end)
        except OSError:
            self._close(abort=True)
            return
        if len(self._shut) == 2:
            self._close(abort=False)
        else:
            self._watch()

    def _read(self, sock: socket.socket) -> None:
        other = self._other[sock]
        if sock in self._ended or self._waiting[other]:
            return
        try:
            data = sock.recv(_CHUNK)
        except BlockingIOError:
            return
        self._waiting[other] = data
        if not data:
            self._ended.add(sock)

    def _write(self, sock: socket.socket) -> None:
        if data := self._waiting[sock]:
            try:
                self._waiting[sock] = data[sock.send(data) :]
            except BlockingIOError:
                return
        if self._other[sock] in self._ended and not self._waiting[sock] and sock not in self._shut:
            sock.shutdown(socket.SHUT_WR)
            self._shut.add(sock)

    def _close(self, *, abort: bool) -> None:
        for sock in self._other:
            self._loop.watch(sock, 0, lambda events: None)
            if abort:
                # No orderly end: the peer is to see a reset (SO_LINGER with zero, socket(7)).
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            sock.close()


class Acceptor:
    """A held TCP port whose connections are relayed."""

    def __init__(self, loop: Loop, held: socket.socket, target: tuple[str, int]) -> None:
        self._loop = loop
        self._held = held
        self._target = target
        loop.watch(held, _IN, lambda events: self._accept())

    def _accept(self) -> None:
        try:
            client, _ = self._held.accept()
            Stream(self._loop, client, self._target)
        except OSError:
            return  # The client is gone already, or no descriptor is left: then it is tried again.

    def forget_idle(self, now: float) -> None:
        """Connections say themselves when they end."""

    def close(self) -> None:
        """Accept no more; connections under way go on."""
        self._loop.watch(self._held, 0, lambda events: None)
        self._held.close()


class Datagrams:
    """A held UDP port whose datagrams are relayed: a connected socket towards the target for each client."""

    def __init__(self, loop: Loop, held: socket.socket, target: tuple[str, int]) -> None:
        self._loop = loop
        self._held = held
        self._target = target
        self._clients: dict[Any, tuple[socket.socket, list[float]]] = {}
        # To answer from the address that was asked, which a host with several would otherwise choose by its routes.
        self._inet6 = held.family == socket.AF_INET6
        if self._inet6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        else:
            held.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        loop.watch(held, _IN, lambda events: self._from_client())

    def _from_client(self) -> None:
        try:
            data, ancillary, _, client = self._held.recvmsg(_CHUNK, 128)
            asked = tuple(_source(level, kind, value) for level, kind, value in ancillary)
            if (client, asked) not in self._clients:
                self._clients[client, asked] = (self._towards_target(client, asked), [0.0])
            far, last = self._clients[client, asked]
            last[0] = time.monotonic()
            far.send(data)
        except OSError:
            return  # Datagrams may be lost.

    def _towards_target(self, client: Any, asked: Any) -> socket.socket:
        far = socket.socket(_family(self._target), socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        far.connect(self._target)
        self._loop.watch(far, _IN, lambda events: self._from_target(far, client, asked))
        return far

    def _from_target(self, far: socket.socket, client: Any, asked: Any) -> None:
        try:
            self._held.sendmsg([far.recv(_CHUNK)], asked, 0, client)
        except OSError:
            return  # The target refused (ICMP), or the client is gone.

    def forget_idle(self, now: float) -> None:
        """Drop the clients that have been silent."""
        for key in [key for key, (_, last) in self._clients.items() if now - last[0] > UDP_IDLE]:
            self._forget(key)

    def _forget(self, key: Any) -> None:
        far, _ = self._clients.pop(key)
        self._loop.watch(far, 0, lambda events: None)
        far.close()

    def close(self) -> None:
        """Forget the clients."""
        self._loop.watch(self._held, 0, lambda events: None)
        for key in list(self._clients):
            self._forget(key)
        self._held.close()


def _say(daemon: socket.socket, message: bytes) -> None:
    try:
        daemon.send(message)
    except OSError:
        return  # It is gone.


_IP_PKTINFO = 8
"""linux/in.h; Python's socket has no name for it before 3.14."""


def _source(level: int, kind: int, value: bytes) -> tuple[int, int, bytes]:
    """A received in6_pktinfo or in_pktinfo as one to send with: the address that was asked, by whatever interface."""
    if level == socket.IPPROTO_IPV6:
        return level, kind, value[:16] + bytes(4)
    return level, kind, bytes(4) + value[8:12] + bytes(4)


def _family(target: tuple[str, int]) -> int:
    return socket.AF_INET6 if ":" in target[0] else socket.AF_INET


class Keeper:
    """The sockets by the words that name them, and the daemon's connection."""

    def __init__(self, listener: socket.socket) -> None:
        self._loop = Loop()
        self._listener = listener
        self._daemon: socket.socket | None = None
        self._held: dict[str, int | Acceptor | Datagrams] = {}
        """A plain descriptor where nothing is relayed: most are, and there may be thousands."""
        self._lines: dict[str, str] = {}
        self._ended = False
        self._loop.watch(listener, _IN, lambda events: self._accept())

    def run(self) -> None:
        """Until the daemon says so, or there is nothing to do."""
        swept = time.monotonic()
        while not self._ended:
            if not self._loop.turn(UDP_IDLE / 3 if self._held else LINGER) and not self._held:
                return
            now = time.monotonic()
            if now - swept > UDP_IDLE / 3:
                swept = now
                for held in self._held.values():
                    if not isinstance(held, int):
                        held.forget_idle(now)

    def _accept(self) -> None:
        daemon, _ = self._listener.accept()
        if self._daemon:
            _say(self._daemon, b"displaced")
            self._drop()
        self._daemon = daemon
        self._loop.watch(daemon, _IN, lambda events: self._hear(daemon))

    def _drop(self) -> None:
        if self._daemon:
            self._loop.watch(self._daemon, 0, lambda events: None)
            self._daemon.close()
            self._daemon = None

    def _hear(self, daemon: socket.socket) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(daemon, MESSAGE, SOCKETS, socket.MSG_DONTWAIT)
            word, *lines = data.decode().splitlines() or [""]
            if word == "hold":
                for line, descriptor in zip(lines, descriptors, strict=False):
                    self._hold(line, descriptor)
            elif word == "release":
                for line in lines:
                    self._release(line)
                daemon.send(b"released")
            elif word == "list":
                self._list(daemon)
            elif word == "end":
                self._ended = True
            else:
                self._drop()
        except BlockingIOError:
            return  # The event was for a socket that had this number before.
        except OSError:
            self._drop()  # The daemon died; the next one will ask for the list.

    def _hold(self, line: str, descriptor: int) -> None:
        protocol, address, port, *target = line.split()
        key = f"{protocol} {address} {port}"
        self._release(key)
        self._lines[key] = line
        if target:
            relay = Datagrams if protocol == "udp" else Acceptor
            held = socket.socket(fileno=descriptor)
            held.setblocking(False)
            self._held[key] = relay(self._loop, held, (target[0], int(target[1])))
        else:
            self._held[key] = descriptor

    def _release(self, key: str) -> None:
        held = self._held.pop(key, None)
        if held is None:
            return
        del self._lines[key]
        if isinstance(held, int):
            os.close(held)
        else:
            held.close()

    def _list(self, daemon: socket.socket) -> None:
        daemon.send(f"keeper {os.getpid()}".encode())
        lines = list(self._lines.values())
        for start in range(0, len(lines), SOCKETS):
            daemon.send("\n".join(lines[start : start + SOCKETS]).encode())
        daemon.send(b"end")


def main(path: str) -> None:
    """See the module's text."""
    with open("/proc/self/comm", "w") as comm:
        comm.write("fairlead-keeper")
    os.chdir("/")
    Keeper(socket.socket(fileno=0)).run()
    # The path before the socket: whoever starts the next keeper has seen this one's connection end.
    os.unlink(path)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
