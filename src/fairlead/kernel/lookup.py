"""Questions to a namespace's own network stack: which way would it send this, who is that neighbour, what is this link.

(man 7 rtnetlink, linux/rtnetlink.h, linux/neighbour.h)
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from fairlead.kernel.netlink import Message, NetlinkError, Socket, attribute, attributes, u32
from fairlead.model import Address

_GETLINK, _GETROUTE, _GETNEIGH, _GETNSID = 18, 26, 30, 90
_LINK = struct.Struct("=BxHiII")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGH = struct.Struct("=BxxxiHBB")

_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 2, 3, 4, 5, 7, 15
_ROUTE_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable"}
_ROUTE_TYPES |= {8: "prohibit", 9: "throw"}
_TABLES = {253: "default", 254: "main", 255: "local"}

_NDA_DST, _NDA_LLADDR = 1, 2
_NUD = {0x01: "incomplete", 0x02: "reachable", 0x04: "stale", 0x08: "delay", 0x10: "probe", 0x20: "failed"}
_NUD |= {0x40: "noarp", 0x80: "permanent"}

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_EXT_MASK, _IFLA_CARRIER, _IFLA_LINK_NETNSID = 18, 20, 29, 33, 37
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_DATA, _IFLA_BRPORT_ISOLATED = 1, 5, 33
_RTEXT_FILTER_SKIP_STATS = 8
_IFF_UP = 1

_NETNSA_NSID, _NETNSA_FD = 1, 3


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What a route look-up says; `error` is the number of the kernel's refusal, and then nothing else counts."""

    error: int = 0
    kind: str = ""
    """``unicast``, ``local``, ``blackhole``…"""
    matched: str = ""
    """The destination of the route that matched, ``default`` or a prefix."""
    table: str = ""
    gateway: Address | None = None
    index: int = 0
    """Of the interface that it leads to."""
    source: Address | None = None
    """The address that a socket here would get."""


@dataclass(frozen=True, slots=True)
class LinkDetail:
    """A link with what matters to whether packets pass it."""

    index: int
    name: str
    kind: str
    up: bool
    carrier: bool
    mtu: int
    mac: str
    master: int
    alias: str
    isolated: bool
    lower: int
    """The index of a veth's peer, or of the link that this one stands on; 0 if there is none."""
    lower_namespace: int
    """By which number this namespace knows the one of `lower`; -1: it is here."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An entry of the neighbour table."""

    index: int
    address: Address
    mac: str
    state: str


def route(sock: Socket, destination: Address, *, source: Address | None = None, index_in: int = 0) -> RouteAnswer:
    """How this namespace sends to an address; with `index_in`, how it passes on what came in there from `source`."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    words = attribute(_RTA_DST, destination.packed)
    bits = destination.max_prefixlen
    if source:
        words += attribute(_RTA_SRC, source.packed)
    if index_in:
        words += u32(_RTA_IIF, index_in)

    def ask(flags: int) -> dict[int, bytes] | RouteAnswer:
        body = _ROUTE.pack(family, bits, bits if source else 0, 0, 0, 0, 0, 0, flags) + words
        try:
            answer = sock.ask(Message(_GETROUTE, 0, body))
        except NetlinkError as error:
            return RouteAnswer(error=error.errno)
        if answer is None:
            return RouteAnswer(error=errno.ENETUNREACH)
        _, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(answer)
        values = dict(attributes(answer[_ROUTE.size :]))
        values[-1], values[-2] = bytes((length,)), bytes((kind,))
        values.setdefault(_RTA_TABLE, struct.pack("=I", table))
        return values

    resolved, matched = ask(_RTM_F_LOOKUP_TABLE), ask(_RTM_F_LOOKUP_TABLE | _RTM_F_FIB_MATCH)
    kind, prefix, table = "", "", ""
    if not isinstance(matched, RouteAnswer):
        number = _number(matched.get(_RTA_TABLE))
        table = _TABLES.get(number, str(number))
        length = matched[-1][0]
        base = ip_address(matched.get(_RTA_DST, bytes(bits // 8)))
        prefix = f"{base}/{length}" if length else "default"
        kind = _ROUTE_TYPES.get(matched[-2][0], "unicast")
    if isinstance(resolved, RouteAnswer):
        if not kind:
            kind, prefix = _refusing(sock, family, destination)
        return RouteAnswer(error=resolved.error, kind=kind, matched=prefix, table=table)
    kind = _ROUTE_TYPES.get(resolved[-2][0], "unicast")
    if kind in ("blackhole", "unreachable", "prohibit"):
        refused = {"blackhole": errno.EINVAL, "prohibit": errno.EACCES}.get(kind, errno.ENETUNREACH)
        return RouteAnswer(error=refused, kind=kind, matched=prefix, table=table)
    gateway = _address(resolved.get(_RTA_GATEWAY))
    return RouteAnswer(
        kind=kind,
        matched=prefix,
        table=table,
        gateway=gateway,
        index=_number(resolved.get(_RTA_OIF)),
        source=_address(resolved.get(_RTA_PREFSRC)),
    )


def _refusing(sock: Socket, family: int, destination: Address) -> tuple[str, str]:
    """Kind and prefix of the route that refuses packets to an address, which a look-up does not tell; or nothing."""
    found: list[tuple[int, str, str]] = []
    for answer in sock.dump(Message(_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))):
        _, length, _, _, _, _, _, kind, _ = _ROUTE.unpack_from(answer)
        values = dict(attributes(answer[_ROUTE.size :]))
        prefix = ip_network((ip_address(values.get(_RTA_DST, bytes(destination.max_prefixlen // 8))), length))
        if destination in prefix:
            found.append((length, _ROUTE_TYPES.get(kind, ""), str(prefix) if length else "default"))
    _, kind_text, text = max(found, default=(0, "", ""))
    return (kind_text, text) if kind_text in ("blackhole", "unreachable", "prohibit") else ("", "")


def link_details(sock: Socket) -> list[LinkDetail]:
    """All links of a namespace."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    return [_link(answer) for answer in sock.dump(Message(_GETLINK, 0, body))]


def _link(body: bytes) -> LinkDetail:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    values = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(values.get(_IFLA_LINKINFO, b"")))
    port = dict(attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")))
    nsid = values.get(_IFLA_LINK_NETNSID)
    return LinkDetail(
        index=index,
        name=_string(values.get(_IFLA_IFNAME)),
        kind=_string(info.get(_IFLA_INFO_KIND)),
        up=bool(flags & _IFF_UP),
        carrier=values.get(_IFLA_CARRIER, b"\1") != b"\0",
        mtu=_number(values.get(_IFLA_MTU)),
        mac=values.get(_IFLA_ADDRESS, b"").hex(":"),
        master=_number(values.get(_IFLA_MASTER)),
        alias=_string(values.get(_IFLA_IFALIAS)),
        isolated=port.get(_IFLA_BRPORT_ISOLATED) == b"\1",
        lower=_number(values.get(_IFLA_LINK)),
        lower_namespace=struct.unpack("=i", nsid)[0] if nsid else -1,
    )


def neighbours(sock: Socket, version: int) -> list[Neighbour]:
    """The neighbour table of one family."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    found = []
    for answer in sock.dump(Message(_GETNEIGH, 0, _NEIGH.pack(family, 0, 0, 0, 0))):
        _, index, state, _, _ = _NEIGH.unpack_from(answer)
        values = dict(attributes(answer[_NEIGH.size :]))
        address = _address(values.get(_NDA_DST))
        if address:
            mac = values.get(_NDA_LLADDR, b"").hex(":")
            found.append(Neighbour(index, address, mac, _NUD.get(state, str(state))))
    return found


def namespace_number(sock: Socket, path: str) -> int:
    """By which number the socket's namespace knows the one at `path`; -1 if it does not know it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        # struct rtgenmsg is one byte, padded.
        answer = sock.ask(Message(_GETNSID, 0, bytes(4) + u32(_NETNSA_FD, fd)))
    except NetlinkError:
        return -1
    finally:
        os.close(fd)
    values = dict(attributes(answer[4:])) if answer else {}
    return int(struct.unpack("=i", values.get(_NETNSA_NSID, b"\xff" * 4))[0])


def _address(value: bytes | None) -> Address | None:
    return ip_address(value) if value else None


def _string(value: bytes | None) -> str:
    return value.rstrip(b"\0").decode(errors="replace") if value else ""


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0
