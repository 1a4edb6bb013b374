"""Hostile packets against the live resolver: it never stops, and answers afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rrset
import pytest

from fairlead.kernel import Kernel
from fairlead.plan.links import SetLink
from fairlead.plan.names import RedirectNames

PLACE = "/run/netns/fuzzed"
SO_RCVBUFFORCE = 33
ADDRESS = ("127.0.0.11", 53)
MEMBER = {
    "sandbox": "s",
    "network": "n",
    "network_name": "net",
    "names": ["web"],
    "addresses": ["10.0.0.2"],
    "links": {},
    "priority": 0,
}


class Target:
    """A resolver that serves one namespace, whose upstream is at 127.0.0.1 of that namespace."""

    def __init__(self, run: Path) -> None:
        self.kernel = Kernel(run)
        self.kernel.namespaces.add(PLACE)
        SetLink(PLACE, "lo").apply(self.kernel)
        RedirectNames(PLACE).apply(self.kernel)
        subprocess.run([sys.executable, "-P", "-m", "fairlead.dns", str(run)], check=True, timeout=20)
        self._feed = socket.socket(socket.AF_UNIX)
        self._feed.connect(str(run / "dns.sock"))
        self._lines = self._feed.makefile("rb")
        self.pid: int = json.loads(self._lines.readline())["pid"]
        place = {"path": PLACE, "upstreams": ["127.0.0.1"], "outside": True}
        self._feed.sendall(
            json.dumps({"whole": True, "members": {"e": MEMBER}, "sandboxes": {"s": place}}).encode() + b"\n"
        )
        assert json.loads(self._lines.readline()) == {"failed": {}}

    def socket(self, kind: socket.SocketKind) -> socket.socket:
        """A socket in the namespace."""
        with self.kernel.namespaces.entered(PLACE):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(5)
        return made

    def connected(self) -> socket.socket:
        """A TCP connection to the resolver."""
        made = self.socket(socket.SOCK_STREAM)
        made.connect(ADDRESS)
        return made

    def send(self, datagram: bytes) -> None:
        """One datagram; what comes back is of no interest."""
        with self.socket(socket.SOCK_DGRAM) as client:
            client.sendto(datagram, ADDRESS)

    def answers(self) -> bool:
        """Whether it is the same process, and right over UDP and TCP."""
        query = dns.message.make_query("web", "A")
        with self.socket(socket.SOCK_DGRAM) as client:
            client.sendto(query.to_wire(), ADDRESS)
            data = client.recv(65535)
            while data[:2] != query.to_wire()[:2]:  # an answer to who had this port before
                data = client.recv(65535)
            over_udp = dns.message.from_wire(data)
        with self.connected() as client:
            client.sendall(framed(query.to_wire()))
            over_tcp = dns.message.from_wire(receive(client))
        os.kill(self.pid, 0)
        return all(
            query.is_response(answer) and answer.answer[0].to_text() == "web. 600 IN A 10.0.0.2"
            for answer in (over_udp, over_tcp)
        )

    def close(self) -> None:
        """End the process."""
        self._feed.close()
        os.kill(self.pid, signal.SIGTERM)
        self.kernel.namespaces.remove(PLACE)
        self.kernel.close()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def receive(client: socket.socket) -> bytes:
    """One message over TCP."""
    data = b""
    while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
        got = client.recv(65535)
        assert got, "closed"
        data += got
    return data[2:]


@pytest.fixture
def target(fresh_kernel: None, tmp_path: Path) -> Iterator[Target]:
    one = Target(tmp_path)
    yield one
    one.close()


def mutated(message: bytes, chance: random.Random) -> bytes:
    """A message with bits flipped, bytes gone, or bytes added."""
    changed = bytearray(message)
    for _ in range(chance.randint(1, 6)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    kind = chance.random()
    if kind < 0.3:
        return bytes(changed[: chance.randrange(len(changed))])
    if kind < 0.5:
        return bytes(changed) + chance.randbytes(chance.randrange(600))
    return bytes(changed)


def hostile(chance: random.Random) -> Iterator[bytes]:
    """Datagrams that break one rule each, then ever more of them at random."""
    plain = dns.message.make_query("web", "A", use_edns=0, id=0x1234).to_wire()
    header = plain[:12]
    yield b""
    yield b"\0"
    yield header
    yield b"\xff" * 12
    yield b"\0" * 65507
    yield chance.randbytes(65507)
    for counts in ((0xFFFF, 0, 0, 0), (1, 0xFFFF, 0xFFFF, 0xFFFF), (0, 0, 0, 0), (2, 0, 0, 0)):
        yield header[:4] + struct.pack("!4H", *counts) + plain[12:]
    for name in (
        b"\xc0\x0c",  # points to itself
        b"\xc0\x0e\xc0\x0c",  # to each other
        b"\x03web\xc0\x0c",
        b"\x40" + b"a" * 64,
        b"\x80a\0",
        b"\x3f" + b"a" * 10,
        (b"\x3f" + b"a" * 63) * 8 + b"\0",
        b"\x01a" * 200 + b"\0",
        bytes((1, 0)) * 100 + b"\0",
        b"\x03\xff\xfe\xfd\0",
        b"\x03w.b\0",
    ):
        yield header[:10] + b"\0\0" + name + b"\0\x01\0\x01"
    for flags in range(0, 0x10000, 0x0101):
        yield plain[:2] + struct.pack("!H", flags) + plain[4:]
    for kind in (0, 6, 12, 15, 33, 41, 65, 250, 251, 252, 255, 65535):
        yield header[:10] + b"\0\0" + b"\x03web\0" + struct.pack("!HH", kind, 1)
        yield header[:10] + b"\0\0" + b"\x03web\0" + struct.pack("!HH", 1, kind)
    for _ in range(3000):
        yield mutated(plain, chance)
        yield chance.randbytes(chance.randrange(200))


def test_datagrams(target: Target) -> None:
    chance = random.Random(53)
    for number, datagram in enumerate(hostile(chance)):
        target.send(datagram)
        if number % 500 == 0:
            assert target.answers()
    assert target.answers()


def test_streams(target: Target) -> None:
    chance = random.Random(53)
    plain = dns.message.make_query("web", "A").to_wire()
    for length, body in (
        (0, b""),
        (1, b"\0"),
        (65535, plain),
        (len(plain) - 5, plain),
        (len(plain) + 5, plain),
        (65535, chance.randbytes(65535)),
        (12, b"\xff" * 12),
    ):
        with target.connected() as client:
            client.sendall(length.to_bytes(2, "big") + body)
        assert target.answers()
    for _ in range(300):
        with target.connected() as client, contextlib.suppress(OSError):
            client.sendall(chance.randbytes(chance.randrange(1, 2000)))
    for datagram in hostile(chance):
        with target.connected() as client, contextlib.suppress(OSError):
            client.sendall(framed(datagram[:65535]) * 2)
        if chance.random() < 0.9:
            continue
        assert target.answers()
    assert target.answers()


def test_a_request_byte_by_byte(target: Target) -> None:
    query = dns.message.make_query("web", "A")
    with target.connected() as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in framed(query.to_wire()):
            client.sendall(bytes((byte,)))
        assert query.is_response(dns.message.from_wire(receive(client)))


def test_clients_that_hang(target: Target) -> None:
    """More connections than are served: the others wait for none of them."""
    hanging = [target.connected() for _ in range(100)]
    for client in hanging:
        with contextlib.suppress(OSError):
            client.sendall(b"\0")
    query = dns.message.make_query("web", "A")
    with target.socket(socket.SOCK_DGRAM) as client:
        client.sendto(query.to_wire(), ADDRESS)
        assert query.is_response(dns.message.from_wire(client.recv(65535)))
    for client in hanging:
        client.close()
    assert target.answers()


def test_a_client_that_does_not_read(target: Target) -> None:
    with target.connected() as client:
        client.settimeout(1)
        with contextlib.suppress(OSError):
            for _ in range(200):
                client.sendall(framed(dns.message.make_query("web", "A").to_wire()) * 1000)
    assert target.answers()
    status = Path(f"/proc/{target.pid}/status").read_text()
    assert int(status.split("VmRSS:")[1].split()[0]) < 60_000  # kB


def upstream(target: Target, respond: Callable[[bytes], list[bytes]]) -> socket.socket:
    """A server that says whatever it likes, until its socket is closed."""
    server = target.socket(socket.SOCK_DGRAM)
    server.settimeout(None)
    server.bind(("127.0.0.1", 53))

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                data, client = server.recvfrom(65535)
                for answer in respond(data):
                    server.sendto(answer, client)

    threading.Thread(target=serve, daemon=True).start()
    return server


def test_answers_of_a_hostile_upstream(target: Target) -> None:
    chance = random.Random(53)

    def respond(data: bytes) -> list[bytes]:
        query = dns.message.from_wire(data)
        honest = dns.message.make_response(query)
        honest.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", "192.0.2.1"))
        wire = honest.to_wire()
        forged = [bytes((wire[0] ^ 1,)) + wire[1:], data, b"", wire[:12], chance.randbytes(100)]
        return [*forged, *(mutated(wire, chance) for _ in range(3)), wire]

    server = upstream(target, respond)
    answered = 0
    for number in range(400):
        query = dns.message.make_query(f"host{number}.test", "A")
        with target.socket(socket.SOCK_DGRAM) as client:
            client.sendto(query.to_wire(), ADDRESS)
            data = client.recv(65535)
            assert data[:2] == query.to_wire()[:2]
            with contextlib.suppress(Exception):
                answered += query.is_response(dns.message.from_wire(data))
    assert answered > 100
    server.close()
    assert target.answers()


def test_a_flood_of_requests_that_wait(target: Target) -> None:
    """An upstream that is silent: those who ask for names of the network do not wait, and nothing piles up."""
    server = upstream(target, lambda data: [])
    with target.socket(socket.SOCK_DGRAM) as client:
        client.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        for number in range(2000):
            client.sendto(dns.message.make_query(f"slow{number}.test", "A").to_wire(), ADDRESS)
        began = time.monotonic()
        assert target.answers()
        assert time.monotonic() - began < 2
        refused = 0
        with contextlib.suppress(TimeoutError):
            client.settimeout(0.3)
            while True:
                refused += dns.message.from_wire(client.recv(65535)).rcode() == dns.rcode.SERVFAIL
        assert refused > 1000
    assert len(os.listdir(f"/proc/{target.pid}/fd")) < 300
    server.close()
    assert target.answers()


def test_rubbish_from_the_daemons_side(target: Target, tmp_path: Path) -> None:
    """A line that is no message costs nothing but that line."""
    for line in (b"\n", b"{}\n", b'{"whole": true}\n', b"[1, 2]\n", b"\xff\xfe\n", b"x" * 300_000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as other:
            other.connect(str(tmp_path / "dns.sock"))
            other.sendall(line)
            time.sleep(0.05)
    assert target.answers()
