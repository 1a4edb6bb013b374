"""Asks a link who has an address: by ARP (RFC 826), or Neighbour Discovery (RFC 4861).

More than one answer means that the address is taken twice.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from fairlead.model import Address

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_ETHERNET = 14
_BROADCAST = b"\xff" * 6

_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2

_IPV6 = struct.Struct("!IHBB16s16s")
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOURCE_MAC, _TARGET_MAC = 1, 2
"""Options of Neighbour Discovery: who asks, who answers."""


def who_has(ifname: str, address: Address, source: Address, *, patience: float = 0.3, more: float = 0.05) -> list[str]:
    """The hardware addresses that answer for an address on this thread's link; empty if none does in `patience` s.

    After the first answer `more` seconds are left for others.  `source` is the address that this link asks from, which
    may be the one that is asked for.  Raises `OSError` if the link is down or gone.
    """
    protocol = _ETH_P_ARP if address.version == 4 else _ETH_P_IPV6
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(protocol)) as sock:
        sock.bind((ifname, protocol))
        own = sock.getsockname()[4]
        if len(own) != 6:
            return []
        if isinstance(address, IPv4Address):
            sock.send(_arp_probe(own, address))
            return _answers(sock, own, lambda frame: _arp_answer(frame, address), patience, more)
        assert isinstance(source, IPv6Address)
        sock.send(_solicitation(own, source, address))
        return _answers(sock, own, lambda frame: _advertised(frame, address), patience, more)


def _answers(
    sock: socket.socket, own: bytes, answer: Callable[[bytes], bytes | None], patience: float, more: float
) -> list[str]:
    found: list[str] = []
    # Not select(2), which knows no descriptors above 1023: a daemon of many containers has them.
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    until = time.monotonic() + patience
    while (left := until - time.monotonic()) > 0 and poll.poll(left * 1000):
        mac = answer(sock.recv(256))
        if mac and mac != own and mac.hex(":") not in found:
            if not found:
                until = time.monotonic() + more
            found.append(mac.hex(":"))
    return found


def _arp_probe(own: bytes, address: IPv4Address) -> bytes:
    """It names no sender's address, so nobody's table changes (RFC 5227, 2.1.1)."""
    asked = _ARP.pack(1, 0x0800, 6, 4, _REQUEST, own, bytes(4), bytes(6), address.packed)
    return _BROADCAST + own + struct.pack("!H", _ETH_P_ARP) + asked


def _arp_answer(frame: bytes, address: IPv4Address) -> bytes | None:
    if len(frame) < _ETHERNET + _ARP.size:
        return None
    _, _, _, _, operation, mac, sender, _, _ = _ARP.unpack_from(frame, _ETHERNET)
    return mac if operation == _REPLY and sender == address.packed else None


def _solicitation(own: bytes, source: IPv6Address, address: IPv6Address) -> bytes:
    """The question of a host that wants to send there (RFC 4861, 4.3).

    That of one that wants to have the address (RFC 4862, from no address) would take it from a host that is just
    trying it.  So that is asked for our own alone: to that host it is refused anyway, by us.
    """
    own_address = source == address
    group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + address.packed[13:]
    option = b"" if own_address else bytes((_SOURCE_MAC, 1)) + own
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address.packed + option
    sender = bytes(16) if own_address else source.packed
    # The checksum covers a header of its own (RFC 8200, 8.1).
    total = checksum(sender + group + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    body = body[:2] + struct.pack("!H", total) + body[4:]
    packet = _IPV6.pack(6 << 28, len(body), socket.IPPROTO_ICMPV6, 255, sender, group) + body
    return b"\x33\x33" + group[12:] + own + struct.pack("!H", _ETH_P_IPV6) + packet


def _advertised(frame: bytes, address: IPv6Address) -> bytes | None:
    start = _ETHERNET + _IPV6.size
    if len(frame) < start + 24 or frame[_ETHERNET + 6] != socket.IPPROTO_ICMPV6 or frame[start] != _ADVERTISEMENT:
        return None
    if frame[start + 8 : start + 24] != address.packed:
        return None
    option = frame[start + 24 : start + 32]
    return option[2:8] if option[:2] == bytes((_TARGET_MAC, 1)) else frame[6:12]


def checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
