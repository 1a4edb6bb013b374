"""One real probe: a TCP connection, a UDP datagram, or an ICMP echo, sent from a namespace by an ordinary socket.

Its packets are known by a random number (`fairlead.kernel.packets`): the first sequence number of a TCP connection, or
the first bytes that a datagram carries.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import select
import socket
import struct
import time

from fairlead.kernel import Kernel
from fairlead.kernel.discovery import checksum
from fairlead.kernel.packets import Mark
from fairlead.model import Address
from fairlead.see.trace.model import Asked, Outcome

_TCP_REPAIR, _TCP_REPAIR_QUEUE, _TCP_QUEUE_SEQ = 19, 20, 21
_SEND_QUEUE = 2
"""linux/tcp.h: an unconnected socket in repair mode takes the sequence number that it will begin with."""
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE = 10, 23, 3
"""linux/in.h: "don't fragment", and no heed to a path MTU learned before."""
_ECHO = {4: (8, 0), 6: (128, 129)}
_DNS = 53
_DNS_QUESTION = struct.pack("!HHHH", 1, 0, 0, 0) + b"\0" + struct.pack("!HH", 2, 1)
"""For the name servers of the root."""


class Abandoned(Exception):
    """Nobody waits for the answer any more."""


class Interrupt:
    """By which another thread ends a probe's wait.  Use as a context manager."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __enter__(self) -> Interrupt:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._event)

    def set(self) -> None:
        """End it; again is fine."""
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._event


class Probe:
    """Open in the namespace at `path`; `mark` then tells its packets, and `run` sends it.  Raises `OSError`."""

    def __init__(self, kernel: Kernel, path: str, asked: Asked, address: Address, interrupt: Interrupt) -> None:
        self._asked, self._address, self._interrupt = asked, address, interrupt
        self._number = secrets.randbits(32) | 1
        if asked.protocol == "udp" and asked.port == _DNS:
            self._number = self._number & 0xFFFF0000 | 0x0100  # An id, and the flag for recursion.
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        icmp = socket.IPPROTO_ICMP if address.version == 4 else socket.IPPROTO_ICMPV6
        kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0), "icmp": (socket.SOCK_RAW, icmp)}
        with kernel.namespaces.entered(path):
            self._socket = socket.socket(family, *kinds[asked.protocol])
        try:
            self._prepare()
        except BaseException:
            self._socket.close()
            raise
        port = self._socket.getsockname()[1] if asked.protocol == "udp" else 0
        self.mark = Mark(self._number, port)

    def _prepare(self) -> None:
        sock, asked = self._socket, self._asked
        six = self._address.version == 6
        level = socket.IPPROTO_IPV6 if six else socket.IPPROTO_IP
        sock.setsockopt(level, _IPV6_RECVERR if six else _IP_RECVERR, 1)
        if asked.size:
            sock.setsockopt(level, _IPV6_MTU_DISCOVER if six else _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        if asked.source_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if asked.protocol != "icmp" and (asked.source_port or asked.protocol == "udp"):
            sock.bind(("::" if six else "0.0.0.0", asked.source_port))
        if asked.protocol == "tcp":
            for option, value in (
                (_TCP_REPAIR, 1),
                (_TCP_REPAIR_QUEUE, _SEND_QUEUE),
                (_TCP_QUEUE_SEQ, self._number - (1 << 32) if self._number >> 31 else self._number),
                (_TCP_REPAIR, 0),
            ):
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.setblocking(False)

    def run(self) -> tuple[Outcome, int]:
        """Send it and wait; the outcome, and when it was sent (nanoseconds of CLOCK_MONOTONIC).

        Raises `Abandoned` once the interrupt is set.
        """
        started = time.monotonic_ns()

        def outcome(kind: str, number: int = 0, said: str = "") -> Outcome:
            took = (time.monotonic_ns() - started) / 1e6
            return Outcome(kind=kind, error=errno.errorcode.get(number, ""), milliseconds=took, said=said)  # type: ignore[arg-type]

        try:
            answered = self._connect() if self._asked.protocol == "tcp" else self._send()
        except OSError as error:
            number = error.errno or errno.EIO
            kind = "refused" if number == errno.ECONNREFUSED else "error"
            return outcome(kind, number, os.strerror(number)), started
        finally:
            self.close()
        return outcome("answered" if answered else "silence"), started

    def _target(self) -> tuple[str, int]:
        return str(self._address), self._asked.port if self._asked.protocol != "icmp" else 0

    def _connect(self) -> bool:
        number = self._socket.connect_ex(self._target())
        if number == errno.EINPROGRESS:
            if not self._wait(self._asked.patience, sent=True):
                return False
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        return True

    def _send(self) -> bool:
        cookie = struct.pack("!I", self._number)
        padding = bytes(max(0, self._asked.size - len(cookie)))
        self._socket.connect(self._target())
        if self._asked.protocol == "udp":
            self._socket.send(cookie + (_DNS_QUESTION if self._asked.port == _DNS else padding))
        else:
            self._socket.send(self._echo(cookie + (padding or bytes(52))))
        until = time.monotonic() + self._asked.patience
        while (left := until - time.monotonic()) > 0:
            if not self._wait(left):
                break
            with contextlib.suppress(BlockingIOError):
                if self._is_answer(self._socket.recv(1 << 16), cookie):
                    return True
        return False

    def _wait(self, seconds: float, *, sent: bool = False) -> bool:
        """Until there is something to read, or (`sent`) the connection is made or refused."""
        # Not select(2), which knows no descriptors above 1023: a daemon of many containers has them.
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT if sent else select.POLLIN)
        poll.register(self._interrupt, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(seconds * 1000)}
        if self._interrupt.fileno() in ready:
            raise Abandoned
        return bool(ready)

    def _echo(self, payload: bytes) -> bytes:
        kind, _ = _ECHO[self._address.version]
        identity = secrets.randbits(16)
        unsummed = struct.pack("!BBHHH", kind, 0, 0, identity, 1) + payload
        if self._address.version == 6:
            return unsummed  # The kernel computes ICMPv6's checksum (RFC 3542, 3.1).
        return unsummed[:2] + struct.pack("!H", checksum(unsummed)) + unsummed[4:]

    def _is_answer(self, data: bytes, cookie: bytes) -> bool:
        if self._asked.protocol == "udp":
            return True
        start = (data[0] & 0xF) * 4 if self._address.version == 4 else 0  # A raw IPv4 socket gives the IP header too.
        reply = 0 if self._address.version == 4 else _ECHO[6][1]
        return data[start : start + 1] == bytes((reply,)) and data[start + 8 : start + 12] == cookie

    def close(self) -> None:
        """Close the socket; again is fine."""
        self._socket.close()
