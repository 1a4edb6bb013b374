"""The servers that the host itself asks: its /etc/resolv.conf, read again as soon as it changes (man 5 resolv.conf)."""

from __future__ import annotations

import os
import socket

PATH = "/etc/resolv.conf"

FALLBACK = ("8.8.8.8", "8.8.4.4")
"""What Docker falls back to where the host names no server."""


class HostServers:
    """Looks at the file's time for each request (a microsecond), so a change is used at once."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._servers: tuple[str, ...] = FALLBACK

    def __call__(self) -> tuple[str, ...]:
        """Their addresses."""
        try:
            found = os.stat(self._path)
            seen = (found.st_mtime_ns, found.st_ino, found.st_size)
            if seen != self._seen:
                with open(self._path, errors="replace") as file:
                    self._servers = servers(file.read()) or FALLBACK
                self._seen = seen
        except OSError:
            pass  # it is being replaced, or gone: what it said last holds
        return self._servers


def servers(text: str) -> tuple[str, ...]:
    """The addresses of the ``nameserver`` lines."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver" and is_address(words[1]):
            found.append(words[1])
    return tuple(found)


def led_to(resolver: str, text: str) -> str:
    """A resolv.conf that asks `resolver` alone, otherwise as the host's: what it searches, its options."""
    kept = [line for line in text.splitlines() if line.split()[:1] in (["search"], ["domain"], ["options"])]
    if not any(word.startswith("ndots:") for line in kept for word in line.split()):
        kept.append("options ndots:0")
    return "\n".join((f"nameserver {resolver}", *kept)) + "\n"


def is_address(word: str) -> bool:
    """Whether it is an IPv4 or IPv6 address, perhaps with ``%INTERFACE``."""
    try:
        socket.inet_pton(socket.AF_INET6 if ":" in word else socket.AF_INET, word.partition("%")[0])
    except OSError:
        return False
    return True


def only_on_host(server: str) -> bool:
    """Whether only the host's own namespace leads there: its loopback, its links."""
    return server.startswith("127.") or server in ("::1", "0.0.0.0", "::") or "%" in server
