"""Asks a link who has an IPv4 address (RFC 826, RFC 5227): more than one answer means that it is taken twice."""

from __future__ import annotations

import select
import socket
import struct
import time
from ipaddress import IPv4Address

_ETH_P_ARP = 0x0806
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_REQUEST, _REPLY = 1, 2
_NOBODY = "0.0.0.0"


def who_has(ifname: str, address: IPv4Address, *, patience: float = 0.3, more: float = 0.05) -> list[str]:
    """The hardware addresses that answer for an address on this thread's link; empty if none does in `patience` s.

    After the first answer `more` seconds are left for others.  The question is a probe (RFC 5227, 2.1.1): it names no
    sender's address, so nobody's table changes.  Raises `OSError` if the link is down or gone.
    """
    found: list[str] = []
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.htons(_ETH_P_ARP)) as sock:
        sock.bind((ifname, _ETH_P_ARP))
        own = sock.getsockname()[4]
        if len(own) != 6:
            return []
        nobody = socket.inet_aton(_NOBODY)
        asked = _ARP.pack(1, 0x0800, 6, 4, _REQUEST, own, nobody, bytes(6), address.packed)
        sock.send(b"\xff" * 6 + own + struct.pack("!H", _ETH_P_ARP) + asked)
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
            frame = sock.recv(256)
            if len(frame) < 14 + _ARP.size:
                continue
            _, _, _, _, operation, mac, sender, _, _ = _ARP.unpack_from(frame, 14)
            if operation == _REPLY and sender == address.packed and mac != own and mac.hex(":") not in found:
                if not found:
                    until = time.monotonic() + more
                found.append(mac.hex(":"))
    return found
