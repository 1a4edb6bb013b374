"""Asking the network whether a packet arrives: a server in a namespace, questions to it, pings.  Both families."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

_SERVER = """
import socket, sys, threading
def shown(address):
    return address[0].removeprefix("::ffff:").encode()
def tcp(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    yield
    while True:
        client, address = server.accept()
        client.sendall(shown(address))
        client.close()
def udp(port):
    server = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    server.bind(("::", port))
    yield
    while True:
        data, info, _, address = server.recvmsg(100, 1000)
        # From the address that was asked, whichever the kernel would choose.
        server.sendmsg([shown(address)], info, 0, address)
for port in map(int, sys.argv[1:]):
    for serve in (tcp(port), udp(port)):
        next(serve)
        threading.Thread(target=next, args=(serve,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()
"""

_ASK = """
import socket, sys
protocol, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family, _, _, _, address = socket.getaddrinfo(host, port, flags=socket.AI_NUMERICHOST)[0]
s = socket.socket(family, socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[4]))
s.connect(address)
s.send(b"hello")
print(s.recv(100).decode())
"""


def inside(namespace: str, *command: str) -> list[str]:
    """The command line for a named namespace, or for here."""
    return ["ip", "netns", "exec", namespace, *command] if namespace else list(command)


@contextmanager
def running(namespace: str, program: str, *arguments: str) -> Iterator[None]:
    """A Python program in a namespace, from when it says that it is ready."""
    process = subprocess.Popen(
        inside(namespace, "python3", "-c", program, *arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
    finally:
        process.kill()
        process.wait()


def server(namespace: str, *ports: int) -> AbstractContextManager[None]:
    """Something that answers with the address of who asks, over TCP and UDP, at these ports."""
    return running(namespace, _SERVER, *map(str, ports))


def ask(host: str, port: int, namespace: str = "", protocol: str = "tcp", patience: float = 1.0) -> str:
    """What a server saw as the address of who asks; empty when there was no answer in `patience` seconds."""
    command = inside(namespace, "python3", "-c", _ASK, protocol, host, str(port), str(patience))
    return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()


PING = "ping -c1 -i0.3 -w2"
"""Goes on until the first answer, for two seconds: that a packet is lost does not mean that there is no way."""


def ping(host: object, namespace: str = "") -> bool:
    """Whether an echo request is answered."""
    command = inside(namespace, *PING.split(), str(host))
    return subprocess.run(command, capture_output=True, timeout=20).returncode == 0
