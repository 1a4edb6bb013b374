"""Which ports of this host are taken, and by whom (proc(5): net/tcp and its like, and a process's fd)."""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from fairlead.model import Address, Protocol

Bound = tuple[Protocol, Address, int]
"""A protocol, a local address, a port."""

_LISTEN = "0A"
_UNCONNECTED = "07"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
_FILES: tuple[tuple[str, Protocol, str], ...] = (
    ("tcp", "tcp", _LISTEN),
    ("tcp6", "tcp", _LISTEN),
    ("udp", "udp", _UNCONNECTED),
    ("udp6", "udp", _UNCONNECTED),
)


def bound() -> dict[Bound, set[int]]:
    """The ports on which sockets wait in this thread's network namespace, with the inodes of the sockets."""
    found: dict[Bound, set[int]] = {}
    for name, protocol, state in _FILES:
        for words in _rows(f"/proc/thread-self/net/{name}"):
            if words[3] == state:
                address, _, port = words[1].partition(":")
                found.setdefault((protocol, _address(address), int(port, 16)), set()).add(int(words[9]))
    for words in _rows("/proc/thread-self/net/sctp/eps"):
        # ENDPT SOCK STY SST HBKT LPORT UID INODE LADDRS…
        for text in words[8:]:
            address_ = IPv6Address(text) if ":" in text else IPv4Address(text)
            found.setdefault(("sctp", address_, int(words[5])), set()).add(int(words[7]))
    return found


def _rows(path: str) -> Iterator[list[str]]:
    with contextlib.suppress(OSError):
        yield from (line.split() for line in Path(path).read_text().splitlines()[1:])


def _address(text: str) -> Address:
    """An address as the kernel prints it: words of 32 bits in host order."""
    words = struct.pack(f"={len(text) // 8}I", *(int(text[i : i + 8], 16) for i in range(0, len(text), 8)))
    if len(words) == 4:
        return IPv4Address(words)
    return IPv6Address(words)


def of_process(pid: int) -> set[int]:
    """The inodes of a process's sockets; none when it has ended."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if match := _SOCKET.fullmatch(os.readlink(entry.path)):
                    found.add(int(match[1]))
    return found


def holder(inodes: set[int]) -> tuple[int, str]:
    """The process that has one of these sockets: its number and name; (0, "") if none that we can see."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and inodes & of_process(int(entry)):
            with contextlib.suppress(OSError):
                return int(entry), Path(f"/proc/{entry}/comm").read_text(errors="backslashreplace").strip()
    return 0, ""
