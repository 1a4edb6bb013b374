"""Looks a name up as a program in the source would: /etc/hosts, then the servers of its resolv.conf."""

from __future__ import annotations

import secrets
import socket
import struct
import time
from ipaddress import ip_address
from pathlib import Path

from fairlead.dns import wire
from fairlead.kernel import Kernel
from fairlead.see.trace.model import Name, Place

PATIENCE = 4.0
"""Seconds for each server."""

_CODES = {wire.SERVFAIL: "SERVFAIL", wire.NXDOMAIN: "NXDOMAIN", wire.REFUSED: "REFUSED"}


def files_of(place: Place, processes: list[int]) -> tuple[Path, Path]:
    """The resolv.conf and hosts that programs in the namespace have."""
    etc = Path("/etc")
    for pid in processes:
        if place.kind != "host" and Path(f"/proc/{pid}/root/etc/resolv.conf").exists():
            etc = Path(f"/proc/{pid}/root/etc")
            break
    named = Path("/etc/netns") / place.name
    resolv = named / "resolv.conf" if (named / "resolv.conf").exists() and not processes else etc / "resolv.conf"
    return resolv, etc / "hosts"


def look_up(kernel: Kernel, place: Place, name: str, resolv: str, hosts: str, version: int = 4) -> Name:
    """The addresses of a name; a problem is told, not raised."""
    for line in hosts.splitlines():
        words = line.partition("#")[0].split()
        if name in words[1:] and _version(words[0]) == version:
            return Name(name=name, server="/etc/hosts", addresses=(words[0],))
    lines = [line.split() for line in resolv.splitlines()]
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver" and _version(words[1])]
    suffixes = [suffix for words in lines if words and words[0] == "search" for suffix in words[1:]]
    if not servers:
        return Name(name=name, problem="no resolver")
    found = Name(name=name, server=servers[0], problem="no answer")
    for server in servers[:2]:
        for candidate in (name, *(f"{name}.{suffix}" for suffix in suffixes[:3] if suffix != ".")):
            found = _ask(kernel, place, name, candidate, server, version)
            if found.addresses:
                return found
            if found.problem == "no answer":
                break
        if found.problem != "no answer":
            break
    return found


def _version(text: str) -> int:
    try:
        return ip_address(text.partition("%")[0]).version
    except ValueError:
        return 0


def _ask(kernel: Kernel, place: Place, name: str, candidate: str, server: str, version: int) -> Name:
    kind = wire.A if version == 4 else wire.AAAA
    try:
        labels = candidate.rstrip(".").encode("ascii" if candidate.isascii() else "idna").split(b".")
    except UnicodeError:
        labels = []
    if not labels or any(not 0 < len(label) < 64 for label in labels):
        return Name(name=name, server=server, problem="no valid name")
    question = b"".join(bytes((len(label),)) + label for label in labels) + b"\0" + struct.pack("!HH", kind, wire.IN)
    id_ = secrets.randbits(16)
    request = struct.pack("!HHHHHH", id_, 0x0100, 1, 0, 0, 0) + question
    try:
        with kernel.namespaces.entered(place.path):
            sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM)
        with sock:
            sock.connect((server, 53))
            sock.send(request)
            answer = _answer(sock, request[:2])
    except OSError:
        return Name(name=name, server=server, problem="no answer")
    code = answer[3] & 0xF if len(answer) > 3 else wire.SERVFAIL
    addresses = _addresses(answer, kind, 12 + len(question))
    problem = "" if addresses else _CODES.get(code, "no address")
    return Name(name=name, server=server, addresses=addresses, problem=problem)


def _answer(sock: socket.socket, id_: bytes) -> bytes:
    """The answer to the question of this number; raises `TimeoutError`, also where others come without an end."""
    until = time.monotonic() + PATIENCE
    while (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        answer = sock.recv(4096)
        if answer[:2] == id_:
            return answer
    raise TimeoutError


def _addresses(answer: bytes, kind: int, offset: int) -> tuple[str, ...]:
    """The address records of an answer section (RFC 1035, 4.1)."""
    found = []
    try:
        (count,) = struct.unpack_from("!H", answer, 6)
        for _ in range(count):
            while answer[offset] and answer[offset] < 0xC0:
                offset += 1 + answer[offset]
            offset += 2 if answer[offset] >= 0xC0 else 1
            type_, _, _, length = struct.unpack_from("!HHIH", answer, offset)
            offset += 10
            if type_ == kind and length in (4, 16):
                found.append(str(ip_address(answer[offset : offset + length])))
            offset += length
    except (IndexError, struct.error, ValueError):
        pass
    return tuple(found)
