"""Asks a namespace's own network stack which way it would send something (man 7 rtnetlink, linux/rtnetlink.h)."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from fairlead.kernel.netlink import Message, NetlinkError, Socket, attribute, attributes, u32
from fairlead.model import Address

_GETROUTE = 26
_ROUTE = struct.Struct("=BBBBBBBBI")

_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 2, 3, 4, 5, 7, 15
_ROUTE_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable"}
_ROUTE_TYPES |= {8: "prohibit", 9: "throw"}
_TABLES = {253: "default", 254: "main", 255: "local"}


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


def _address(value: bytes | None) -> Address | None:
    return ip_address(value) if value else None


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0
