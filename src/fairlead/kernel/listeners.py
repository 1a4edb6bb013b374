"""Which sockets of this thread's namespace wait for packets (man 5 proc, /proc/net/tcp)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from fairlead.model import Address

_NET = Path("/proc/thread-self/net")
_LISTEN, _UDP_UNCONNECTED = "0A", "07"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that takes what comes for this address and port."""

    protocol: str
    address: Address
    port: int
    waiting: int = 0
    """TCP connections that the program has not taken yet."""

    def takes(self, address: Address) -> bool:
        """Whether packets for an address of this namespace come to it (leaving sockets for IPv6 alone aside)."""
        if self.address.is_unspecified:
            return self.address.version == address.version or self.address.version == 6
        return self.address == address


def listeners(port: int) -> list[Listener]:
    """The listening TCP and unconnected UDP sockets at a port, of both protocols and families."""
    found = []
    for protocol, state in (("tcp", _LISTEN), ("udp", _UDP_UNCONNECTED)):
        for file in (protocol, protocol + "6"):
            try:
                lines = (_NET / file).read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                words = line.split()
                host, _, number = words[1].rpartition(":")
                if words[3] == state and int(number, 16) == port:
                    waiting = int(words[4].rpartition(":")[2], 16) if protocol == "tcp" else 0
                    found.append(Listener(protocol, _address(host), port, waiting))
    return found


def _address(text: str) -> Address:
    """Written as numbers of 32 bits in the machine's order."""
    words = [int(text[start : start + 8], 16) for start in range(0, len(text), 8)]
    found = ip_address(struct.pack(f"={len(words)}I", *words))
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found
