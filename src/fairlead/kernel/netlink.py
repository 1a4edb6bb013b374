"""Netlink as bytes: messages, attributes, sockets (man 7 netlink, man 7 rtnetlink).

Messages are packed by hand: an attach is eight of them, and a general library's overhead per message would cost more
than the kernel does (figures in `docs/dependencies.md`).  Only what Fairlead sends is here.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fairlead.errors import KernelError

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300

_NFNL_BATCH_BEGIN, _NFNL_BATCH_END = 16, 17
_NFNL_SUBSYS_NFTABLES = 10
"""linux/netfilter/nfnetlink.h."""

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLMSG_OVERRUN = 4
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_NLA_TYPE_MASK = 0x3FFF
_NLA_F_NESTED = 0x8000

_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP = 1
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11

_MOST = 1 << 16
"""Bytes of one datagram: the kernel fills half as many when it lists (netlink_dump, net/netlink/af_netlink.c).  Python
takes a larger buffer from the kernel each time, and gives it back."""

_MAX_IN_FLIGHT = 64
"""Requests per send: their acknowledgements must fit the receive buffer."""


class NetlinkError(KernelError):
    """The kernel's refusal of one message; `errno` is the reason, the text is the kernel's own where it gives one."""

    def __init__(self, number: int, text: str = "") -> None:
        super().__init__(text or os.strerror(number))
        self.errno = number


@dataclass(frozen=True, slots=True)
class Message:
    """A request without its header: the header's sequence number is given when it is sent."""

    type: int
    flags: int
    body: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One type-length-value, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def nested(kind: int, *attributes: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    """A zero-terminated string attribute."""
    return attribute(kind, value.encode() + b"\0")


def u32(kind: int, value: int) -> bytes:
    """A 32-bit attribute in host order."""
    return attribute(kind, struct.pack("=I", value))


def u16(kind: int, value: int) -> bytes:
    """A 16-bit attribute in host order."""
    return attribute(kind, struct.pack("=H", value))


def u8(kind: int, value: int) -> bytes:
    """An 8-bit attribute."""
    return attribute(kind, bytes((value,)))


def attributes(data: bytes | memoryview) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data`, flags stripped from their types."""
    offset = 0
    while offset + 4 <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _NLA_TYPE_MASK, bytes(data[offset + 4 : offset + length])
        offset += (length + 3) & ~3


def as_text(value: bytes | None) -> str:
    """An attribute that is a string; empty where there is none.  What is no UTF-8 is U+FFFD."""
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def as_number(value: bytes | None, default: int = 0) -> int:
    """An attribute that is a 32-bit number in host order."""
    return int(struct.unpack("=I", value)[0]) if value else default


_SO_RCVBUFFORCE = 33
"""asm-generic/socket.h."""


class Socket:
    """A netlink socket in the network namespace in which it was opened.  Not for use by two threads at once."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        if protocol != NETLINK_ROUTE:
            # A transaction of many elements is answered at once; a route socket never has more than it asked for.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._sequence = 0
        self.overrun = False

    def close(self) -> None:
        """Close; a netlink socket keeps its namespace alive, so do not hold on to it."""
        self._socket.close()

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def join(self, group: int, room: int = 0) -> None:
        """Receive the notifications of a multicast group; `room` bytes of them may wait (SO_RCVBUFFORCE, socket(7))."""
        if room:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, room)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def drain(self) -> list[tuple[int, bytes]]:
        """The notifications that have arrived, as (type, body), without waiting.

        Where the kernel had more than the socket holds, the rest is lost, and `overrun` is true from then on.
        """
        found: list[tuple[int, bytes]] = []
        while True:
            try:
                data = self._socket.recv(_MOST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.overrun = True
                continue
            found.extend((kind, bytes(body)) for kind, _, _, body in _split(data))

    def send(self, messages: Iterable[Message]) -> list[NetlinkError | None]:
        """Send requests, several in one system call; returns each one's outcome in order."""
        outcomes: list[NetlinkError | None] = []
        pending = list(messages)
        for start in range(0, len(pending), _MAX_IN_FLIGHT):
            outcomes += self._send(pending[start : start + _MAX_IN_FLIGHT])
        return outcomes

    def _send(self, messages: list[Message]) -> list[NetlinkError | None]:
        first = self._sequence + 1
        self._sequence += len(messages)
        self._socket.send(
            b"".join(_pack(message, message.flags | NLM_F_ACK, first + i) for i, message in enumerate(messages))
        )
        outcomes: list[NetlinkError | None] = [None] * len(messages)
        waiting = len(messages)
        while waiting:
            for kind, flags, sequence, body in _split(self._socket.recv(_MOST)):
                if kind == _NLMSG_ERROR and 0 <= sequence - first < len(messages):
                    outcomes[sequence - first] = _refusal(flags, body)
                    waiting -= 1
        return outcomes

    def transact(self, messages: Sequence[Message]) -> None:
        """Send nf_tables requests as one transaction: all of them or none; raises the first refusal.

        A transaction is framed by two messages that are answered only when they are refused (nfnetlink_rcv_batch,
        net/netfilter/nfnetlink.c).
        """
        first = self._sequence + 1
        self._sequence += len(messages) + 2
        frame = struct.pack("=BBH", 0, 0, socket.htons(_NFNL_SUBSYS_NFTABLES))
        framed = [Message(_NFNL_BATCH_BEGIN, 0, frame), *messages, Message(_NFNL_BATCH_END, 0, frame)]
        acknowledged = range(first + 1, first + 1 + len(messages))
        self._socket.send(
            b"".join(
                _pack(message, message.flags | (NLM_F_ACK if number in acknowledged else 0), number)
                for number, message in enumerate(framed, first)
            )
        )
        waiting, refused = set(acknowledged), None
        while waiting:
            for kind, flags, sequence, body in _split(self._socket.recv(_MOST)):
                if kind != _NLMSG_ERROR or not first <= sequence <= self._sequence:
                    continue
                if error := _refusal(flags, body):
                    refused = refused or error
                    if sequence not in acknowledged:
                        waiting.clear()
                waiting.discard(sequence)
        if refused:
            raise refused

    def ask(self, message: Message) -> bytes | None:
        """Send a request that is answered by one message; None when there is no such object."""
        found: bytes | None = None
        self._sequence += 1
        self._socket.send(_pack(message, message.flags, self._sequence))
        while found is None:
            for kind, flags, sequence, body in _split(self._socket.recv(_MOST)):
                if sequence != self._sequence:
                    continue
                if kind != _NLMSG_ERROR:
                    found = bytes(body)
                elif error := _refusal(flags, body):
                    if error.errno in (errno.ENODEV, errno.ENOENT, errno.ESRCH):
                        return None
                    raise error
        return found

    def dump(self, message: Message) -> list[bytes]:
        """Every object of a kind; asks again when the kernel says that the listing was torn (NLM_F_DUMP_INTR)."""
        for _ in range(10):
            found, torn = self._dump(message)
            if not torn:
                break
        return found

    def _dump(self, message: Message) -> tuple[list[bytes], bool]:
        self._sequence += 1
        self._socket.send(_pack(message, message.flags | NLM_F_DUMP, self._sequence))
        found: list[bytes] = []
        torn = False
        while True:
            for kind, flags, sequence, body in _split(self._socket.recv(_MOST)):
                if sequence != self._sequence:
                    continue
                torn |= bool(flags & _NLM_F_DUMP_INTR)
                if kind == _NLMSG_DONE:
                    return found, torn
                if kind == _NLMSG_ERROR:
                    raise _refusal(flags, body) or NetlinkError(errno.EPROTO)
                found.append(bytes(body))


def _pack(message: Message, flags: int, sequence: int) -> bytes:
    """A request as it is sent, padded so that another may follow."""
    body = message.body
    header = _HEADER.pack(16 + len(body), message.type, flags | NLM_F_REQUEST, sequence, 0)
    return header + body + b"\0" * (-len(body) % 4)


def _split(data: bytes) -> Iterator[tuple[int, int, int, memoryview]]:
    """The messages of one datagram as (type, flags, sequence, body)."""
    view = memoryview(data)
    offset = 0
    while offset + 16 <= len(view):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(view, offset)
        if length < 16:
            return
        yield kind, flags, sequence, view[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def _refusal(flags: int, body: memoryview) -> NetlinkError | None:
    """The error in an NLMSG_ERROR, or None when it is an acknowledgement."""
    (code,) = _ERROR.unpack_from(body)
    if code == 0:
        return None
    reason = ""
    if flags & _NLM_F_ACK_TLVS:
        # struct nlmsgerr: the code, the offending header (all of the message unless capped), then attributes.
        request = _HEADER.unpack_from(body, 4)[0] if not flags & _NLM_F_CAPPED else 16
        for kind, value in attributes(body[4 + ((request + 3) & ~3) :]):
            if kind == _NLMSGERR_ATTR_MSG:
                reason = value.rstrip(b"\0").decode(errors="replace").rstrip(".")
    return NetlinkError(-code, reason)
