"""Connection tracking by netlink: which flows the kernel knows, and how to make it forget some.

Numbers and names are those of linux/netfilter/nfnetlink_conntrack.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from fairlead.kernel.netlink import Message, Socket, attribute, attributes, nested, u8, u32
from fairlead.model import Address, Protocol

_GET, _DELETE = (1 << 8) | 1, (1 << 8) | 2
"""NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET and IPCTNL_MSG_CT_DELETE."""
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _ID, _FILTER = 1, 2, 3, 12, 25
_SEEN_REPLY = 2
"""IPS_SEEN_REPLY (linux/netfilter/nf_conntrack_common.h)."""
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_IP_SRC, _IP_DST = {4: 1, 6: 3}, {4: 2, 6: 4}
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_FILTER_ORIG_FLAGS, _FILTER_REPLY_FLAGS = 1, 2
_F_PROTO_NUM, _F_PROTO_DST_PORT = 1 << 3, 1 << 5
"""CTA_FILTER_F_… (net/netfilter/nf_internals.h): which parts of a given tuple must match.  Linux 5.8 and later; before,
the filter is not understood and everything is listed."""

_NUMBERS: dict[Protocol, int] = {
    "tcp": socket.IPPROTO_TCP,
    "udp": socket.IPPROTO_UDP,
    "sctp": socket.IPPROTO_SCTP,
}
_PROTOCOLS = {number: protocol for protocol, number in _NUMBERS.items()}
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


@dataclass(frozen=True, slots=True)
class Flow:
    """A tracked flow: where its first packet was sent to, and whence the answers come."""

    version: int
    protocol: Protocol
    destination: tuple[Address, int]
    """As the client knows it; other than `answers` if the flow was redirected."""
    answers: tuple[Address, int]
    key: bytes
    """The attributes by which the kernel finds it again."""


def flows(netfilter: Socket, version: int, protocol: Protocol, port: int = 0) -> list[Flow]:
    """The flows of a protocol over IPv4 or IPv6, sent to this port, or (0) to any."""
    words = u8(_PROTO_NUM, _NUMBERS[protocol])
    flags = _F_PROTO_NUM
    if port:
        words += attribute(_PROTO_DST_PORT, struct.pack("!H", port))
        flags |= _F_PROTO_DST_PORT
    chosen = nested(_FILTER, u32(_FILTER_ORIG_FLAGS, flags), u32(_FILTER_REPLY_FLAGS, 0))
    body = _header(version) + nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, words)) + chosen
    found = (_flow(version, answer) for answer in netfilter.dump(Message(_GET, 0, body)))
    return [flow for flow in found if flow and flow.protocol == protocol and (not port or flow.destination[1] == port)]


@dataclass(frozen=True, slots=True)
class Tracked:
    """A flow as its own ends see it."""

    source: tuple[Address, int]
    answers: tuple[Address, int]
    """Whence the answers come: other than the destination if the flow was redirected."""
    unreplied: bool


def tracked(netfilter: Socket, protocol: Protocol, destination: tuple[Address, int]) -> list[Tracked]:
    """The flows to one address and port."""
    version = destination[0].version
    words = u8(_PROTO_NUM, _NUMBERS[protocol]) + attribute(_PROTO_DST_PORT, struct.pack("!H", destination[1]))
    flags = u32(_FILTER_ORIG_FLAGS, _F_PROTO_NUM | _F_PROTO_DST_PORT)
    chosen = nested(_FILTER, flags, u32(_FILTER_REPLY_FLAGS, 0))
    body = _header(version) + nested(_TUPLE_ORIG, nested(_TUPLE_PROTO, words)) + chosen
    found = []
    for answer in netfilter.dump(Message(_GET, 0, body)):
        values = dict(attributes(answer[4:]))
        source, asked, number = _tuple(version, values[_TUPLE_ORIG])
        answers, _, _ = _tuple(version, values[_TUPLE_REPLY])
        if asked == destination and number == _NUMBERS[protocol]:
            (status,) = struct.unpack("!I", values.get(_STATUS, bytes(4)))
            found.append(Tracked(source, answers, not status & _SEEN_REPLY))
    return found


def forget(netfilter: Socket, doomed: Iterable[Flow]) -> None:
    """Delete flows; the next packet of each begins a new one.  One that is gone already is no error."""
    messages = [Message(_DELETE, 0, _header(flow.version) + flow.key) for flow in doomed]
    for error in netfilter.send(messages):
        if error and error.errno != errno.ENOENT:
            raise error


def _header(version: int) -> bytes:
    """struct nfgenmsg."""
    return struct.pack("=BBH", _FAMILIES[version], 0, 0)


def _flow(version: int, answer: bytes) -> Flow | None:
    values = dict(attributes(answer[4:]))
    _, destination, number = _tuple(version, values[_TUPLE_ORIG])
    source, _, _ = _tuple(version, values[_TUPLE_REPLY])
    if number not in _PROTOCOLS:
        return None
    key = nested(_TUPLE_ORIG, values[_TUPLE_ORIG]) + attribute(_ID, values[_ID])
    return Flow(version, _PROTOCOLS[number], destination, source, key)


def _tuple(version: int, body: bytes) -> tuple[tuple[Address, int], tuple[Address, int], int]:
    """Source, destination and protocol number of a tuple."""
    parts = dict(attributes(body))
    ip, proto = dict(attributes(parts[_TUPLE_IP])), dict(attributes(parts[_TUPLE_PROTO]))
    source, destination = ip_address(ip[_IP_SRC[version]]), ip_address(ip[_IP_DST[version]])
    (source_port,) = struct.unpack("!H", proto.get(_PROTO_SRC_PORT, b"\0\0"))
    (port,) = struct.unpack("!H", proto.get(_PROTO_DST_PORT, b"\0\0"))
    return (source, source_port), (destination, port), proto[_PROTO_NUM][0]
