"""Asks a namespace's own network stack which way it would send something (man 7 rtnetlink, linux/rtnetlink.h)."""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_network

from fairlead.kernel.netlink import Message, NetlinkError, Socket, as_number, as_text, attribute, attributes, u32
from fairlead.model import Address, IPNetwork

_GETROUTE, _GETRULE = 26, 34
_ROUTE = struct.Struct("=BBBBBBBBI")
_RULE = struct.Struct("=BBBBBBBBI")

_RTM_F_LOOKUP_TABLE, _RTM_F_FIB_MATCH = 0x1000, 0x2000
_RTA_DST, _RTA_SRC, _RTA_IIF, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC, _RTA_TABLE = 1, 2, 3, 4, 5, 7, 15
_ROUTE_TYPES = {1: "unicast", 2: "local", 3: "broadcast", 5: "multicast", 6: "blackhole", 7: "unreachable"}
_ROUTE_TYPES |= {8: "prohibit", 9: "throw"}
_TABLES = {253: "default", 254: "main", 255: "local"}
REFUSALS = ("blackhole", "unreachable", "prohibit", "throw")
"""The kinds of routes, and of rules but for the last, that lead nowhere."""
_FRA_DST, _FRA_SRC, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_SUPPRESS_PREFIXLEN, _FRA_TABLE = 1, 2, 3, 6, 14, 15
_FRA_SELECTORS = {4, 10, 11, 12, 13, 16, 17, 19, 20, 22, 23, 24, 25}
"""By what else rules choose (linux/fib_rules.h): marks, flows, tunnels, groups, oif, users, protocols, ports; goto."""
_FR_ACTIONS = {1: "", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_FIB_RULE_INVERT = 2
_NO_LENGTH = b"\xff" * 4


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What a route look-up says; `error` is the number of the kernel's refusal, and then nothing else counts."""

    error: int = 0
    kind: str = ""
    """``unicast``, ``local``, ``blackhole``…"""
    matched: str = ""
    """The destination of the route that matched, ``default`` or a prefix."""
    table: str = ""
    rule: str = ""
    """The rule of the routing policy that refuses, as ip(8) writes it; then no route matched."""
    gateway: Address | None = None
    index: int = 0
    """Of the interface that it leads to."""
    source: Address | None = None
    """The address that a socket here would get."""


def route(
    sock: Socket, destination: Address, *, source: Address | None = None, came_in: tuple[int, str] | None = None
) -> RouteAnswer:
    """How this namespace sends to an address; with `came_in`, how it passes on what comes from `source`.

    `came_in` is the interface that it came in by: number and name.
    """
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    words = attribute(_RTA_DST, destination.packed)
    bits = destination.max_prefixlen
    if source:
        words += attribute(_RTA_SRC, source.packed)
    if came_in:
        words += u32(_RTA_IIF, came_in[0])

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
        number = as_number(matched.get(_RTA_TABLE))
        table = _TABLES.get(number, str(number))
        length = matched[-1][0]
        base = ip_address(matched.get(_RTA_DST, bytes(bits // 8)))
        prefix = f"{base}/{length}" if length else "default"
        kind = _ROUTE_TYPES.get(matched[-2][0], "unicast")
    if isinstance(resolved, RouteAnswer):
        if kind not in REFUSALS:
            return replace(_refusing(sock, family, destination, source, came_in), error=resolved.error)
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
        index=as_number(resolved.get(_RTA_OIF)),
        source=_address(resolved.get(_RTA_PREFSRC)),
    )


def _refusing(
    sock: Socket, family: int, to: Address, source: Address | None, came_in: tuple[int, str] | None
) -> RouteAnswer:
    """The route or rule that refuses packets to an address, which a look-up does not tell; or nothing.

    As the kernel looks (net/core/fib_rules.c): rule after rule, and in the table of one for the longest prefix.  Rules
    that ask for more than the look-up said (a mark, a port) do not match it.
    """
    routes: dict[int, list[tuple[int, str, str]]] = {}
    for answer in sock.dump(Message(_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))):
        _, length, _, _, table, _, _, number, _ = _ROUTE.unpack_from(answer)
        values = dict(attributes(answer[_ROUTE.size :]))
        prefix = ip_network((ip_address(values.get(_RTA_DST, bytes(to.max_prefixlen // 8))), length))
        if to in prefix:
            found = (length, _ROUTE_TYPES.get(number, ""), str(prefix) if length else "default")
            routes.setdefault(as_number(values.get(_RTA_TABLE)) or table, []).append(found)
    thrown = RouteAnswer()
    for answer in sock.dump(Message(_GETRULE, 0, _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))):
        _, to_length, from_length, tos, table, _, _, action, flags = _RULE.unpack_from(answer)
        values = dict(attributes(answer[_RULE.size :]))
        wanted = as_text(values.get(_FRA_IIFNAME))
        near, far = _prefix(values.get(_FRA_SRC), from_length), _prefix(values.get(_FRA_DST), to_length)
        fits = not ((near and (source is None or source not in near)) or (far and to not in far))
        fits &= wanted in ("", came_in[1] if came_in else "lo")
        if tos or _FRA_SELECTORS & set(values) or action not in _FR_ACTIONS or fits == bool(flags & _FIB_RULE_INVERT):
            continue
        if kind := _FR_ACTIONS[action]:
            words = ["priority", str(as_number(values.get(_FRA_PRIORITY)))]
            words += ["not"] if flags & _FIB_RULE_INVERT else []
            words += ["from", str(near) if near else "all", *(("to", str(far)) if far else ())]
            words += ["iif", wanted] if wanted else []
            return RouteAnswer(kind=kind, rule=" ".join((*words, kind)))
        number = as_number(values.get(_FRA_TABLE)) or table
        least = as_number(values.get(_FRA_SUPPRESS_PREFIXLEN, _NO_LENGTH))
        fitting = (one for one in routes.get(number, ()) if least == as_number(_NO_LENGTH) or one[0] > least)
        _, kind, text = max(fitting, default=(0, "", ""))
        here = RouteAnswer(kind=kind, matched=text, table=_TABLES.get(number, str(number)))
        if kind and kind != "throw":
            return here if kind in REFUSALS else RouteAnswer()
        thrown = here if kind else thrown
    return thrown


def _prefix(value: bytes | None, length: int) -> IPNetwork | None:
    return ip_network((ip_address(value), length)) if value else None


def _address(value: bytes | None) -> Address | None:
    return ip_address(value) if value else None
