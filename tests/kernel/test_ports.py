"""Published ports on the real kernel: who may reach them, who holds them, and where flows go when containers change."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
from kernel_lab import assert_consistent, assert_nothing_left, held_ports, open_here, recorded_ports, sh
from lab import INTERNET
from packets import ask, running, server
from test_networks import join, make_network

from fairlead.engine import Engine
from fairlead.errors import Conflict, Invalid
from fairlead.kernel import conntrack
from fairlead.kernel.netlink import NETLINK_NETFILTER, Socket
from fairlead.kernel.ports import bind
from fairlead.model import Protocol, PublishedPort
from fairlead.plan import Plan
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec

ANYWHERE = ip_address("0.0.0.0")
LOOPBACK = ip_address("127.0.0.1")


@pytest.fixture
def engine(fresh_kernel: None, tmp_path: Path) -> Iterator[Engine]:
    sh(INTERNET)
    one = open_here(tmp_path)
    yield one
    assert_consistent(one)
    assert_nothing_left(one)
    assert not keepers(tmp_path)


@pytest.fixture
def serve(engine: Engine) -> Iterator[Callable[[], None]]:
    """Start an echo server (TCP and UDP, port 80) in the sandbox ``web``."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(server("web", 80))


NAMED_ECHO = """
import socket, sys
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    data, address = server.recvfrom(100)
    server.sendto(sys.argv[2].encode(), address)
"""
"""Answers each datagram with its own name."""


def named_echo(namespace: str, port: int, name: str) -> contextlib.AbstractContextManager[None]:
    return running(namespace, NAMED_ECHO, str(port), name)


class Client:
    """Sends datagrams from one source port of a namespace, again and again."""

    def __init__(self, host: str, port: int, namespace: str = "") -> None:
        self._far = (host, port)
        made: list[socket.socket] = []

        def make() -> None:
            if namespace:
                with open(f"/run/netns/{namespace}") as file:
                    assert ctypes.CDLL(None).setns(file.fileno(), 0x40000000) == 0  # CLONE_NEWNET
            made.append(socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        (self._socket,) = made
        self._socket.settimeout(0.3)
        self._socket.connect(self._far)

    def ask(self) -> str:
        """The answer to one datagram; empty if there is none."""
        with contextlib.suppress(OSError):
            self._socket.send(b"?")
            return self._socket.recv(100).decode()
        return ""


UDP = PortSpec(port=53, host_port=5353, protocol="udp")


@pytest.mark.parametrize("host", ["198.51.100.2", "127.0.0.1"])
def test_a_running_udp_client_moves_to_the_new_container(engine: Engine, host: str) -> None:
    client = Client(host, 5353, "internet" if host != "127.0.0.1" else "")
    join(engine, "one", "bridge", UDP)
    with named_echo("one", 53, "one"):
        assert client.ask() == "one"
    engine.perform(engine.planner.close_sandbox, "one")
    assert client.ask() == ""  # and so the kernel has a flow that leads to the host itself
    join(engine, "two", "bridge", UDP, ip="172.17.0.9")
    with named_echo("two", 53, "two"):
        assert client.ask() == "two"


def test_a_reused_address_with_another_port(engine: Engine) -> None:
    client = Client("198.51.100.2", 5353, "internet")
    join(engine, "one", "bridge", UDP, ip="172.17.0.9")
    with named_echo("one", 53, "one"):
        assert client.ask() == "one"
    engine.perform(engine.planner.close_sandbox, "one")
    join(engine, "two", "bridge", PortSpec(port=54, host_port=5353, protocol="udp"), ip="172.17.0.9")
    with named_echo("two", 54, "two"):
        assert client.ask() == "two"


def test_only_stale_flows_are_forgotten(engine: Engine) -> None:
    """Another address, another port, another host behind us, a flow that is right already: all of these stay."""
    sh("ip addr add 198.51.100.3/24 dev eth0; ip -n internet route add 172.17.0.0/16 via 198.51.100.2")
    join(engine, "other", "bridge")
    for destination, port, namespace in (
        ("198.51.100.2", 5353, "internet"),
        ("198.51.100.3", 5353, "internet"),
        ("198.51.100.2", 5354, "internet"),
        ("8.8.8.8", 5353, "other"),
    ):
        client = Client(destination, port, namespace)
        eventually(lambda client=client, to=destination, port=port: client.ask() == "" and to in flows_to(port))  # type: ignore[misc]
    assert flows_to(5353) == ["198.51.100.2", "198.51.100.3", "8.8.8.8"]
    here = PortSpec(port=53, host_port=5353, protocol="udp", host_ip=ip_address("198.51.100.2"))
    join(engine, "one", "bridge", here)
    assert flows_to(5353) == ["198.51.100.3", "8.8.8.8"]
    assert flows_to(5354) == ["198.51.100.2"]
    Client("198.51.100.2", 5353, "internet").ask()
    join(engine, "one-more", "bridge", PortSpec(port=53, host_port=5354, protocol="udp"))
    assert flows_to(5353) == ["198.51.100.2", "198.51.100.3", "8.8.8.8"]
    assert flows_to(5354) == []
    engine.perform(engine.planner.close_sandbox, "one")
    assert flows_to(5353) == ["198.51.100.3", "8.8.8.8"]


def flows_to(port: int, protocol: Protocol = "udp") -> list[str]:
    """The original destinations of the tracked flows to a port."""
    netfilter = Socket(NETLINK_NETFILTER)
    found = sorted(str(flow.destination[0]) for flow in conntrack.flows(netfilter, 4, protocol, port))
    everything = [flow for flow in conntrack.flows(netfilter, 4, protocol) if flow.destination[1] == port]
    netfilter.close()
    assert len(everything) == len(found)
    return found


def test_flows_that_went_astray_during_a_flush_come_back(engine: Engine) -> None:
    client = Client("198.51.100.2", 5353, "internet")
    here = PortSpec(port=53, host_port=5353, protocol="udp", host_ip=ip_address("198.51.100.2"))
    join(engine, "one", "bridge", here)
    with named_echo("one", 53, "one"):
        sh("nft flush ruleset; conntrack -F 2>/dev/null")
        assert client.ask() == ""
        engine.mend()
        assert client.ask() == "one"


SCTP_LISTEN = """
import socket
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP)
raw.settimeout(5)
print("ready", flush=True)
packet, (source, _) = raw.recvfrom(200)
print(source, int.from_bytes(packet[22:24], "big"), flush=True)
"""


def sctp_init(source: int, destination: int) -> bytes:
    """An SCTP packet with an INIT chunk (RFC 9260, sections 3.1 and 3.3.2)."""
    chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0x1234, 65536, 1, 1, 1)
    head = struct.pack("!HHI", source, destination, 0)
    crc = 0xFFFFFFFF
    for byte in head + bytes(4) + chunk:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return head + struct.pack("<I", crc ^ 0xFFFFFFFF) + chunk


def test_sctp_is_redirected_and_its_flows_move(engine: Engine) -> None:
    """By packets made by hand, so that it is tested where the kernel has no SCTP sockets as well."""
    from fairlead.firewall import port_steps

    raw_sockets: list[socket.socket] = []

    def make() -> None:
        with open("/run/netns/internet") as file:
            assert ctypes.CDLL(None).setns(file.fileno(), 0x40000000) == 0
        raw_sockets.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_SCTP))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    port = PublishedPort(host_ip=ANYWHERE, host_port=5000, protocol="sctp", port=80)
    for name in ("one", "two"):
        endpoint = join(engine, name, "bridge")
        published = type(endpoint)(**{**_fields(endpoint), "ports": (port,)})
        redirect = Plan(tuple(step for step in port_steps(published) if step.channel() != "ports"))
        assert len(redirect.steps) == 1
        engine._executor.apply(redirect)
        listen = ["ip", "netns", "exec", name, "python3", "-c", SCTP_LISTEN]
        with subprocess.Popen(listen, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            raw_sockets[0].sendto(sctp_init(4000, 5000), ("198.51.100.2", 0))
            assert server.stdout.readline() == "198.51.100.1 80\n", "redirected, the client's address kept"
        assert flows_to(5000, "sctp") == ["198.51.100.2"]
        engine._executor.revert(redirect)
        assert flows_to(5000, "sctp") == []
    raw_sockets[0].close()


def _fields(endpoint: object) -> dict[str, object]:
    return {name: getattr(endpoint, name) for name in endpoint.__struct_fields__}  # type: ignore[attr-defined]


def test_sctp_without_a_kernel_that_has_it(engine: Engine) -> None:
    spec = PortSpec(port=80, host_port=5000, protocol="sctp")
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        with pytest.raises(Invalid, match=r"5000/sctp cannot be published: this host's kernel has no SCTP"):
            join(engine, "one", "bridge", spec)
    else:
        join(engine, "one", "bridge", spec)
        with pytest.raises(Conflict):
            bind("sctp", ANYWHERE, 5000)


# Who reaches it

ASKERS = {
    "the host by 127.0.0.1": ("", "127.0.0.1"),
    "the host by ::1": ("", "::1"),
    "the host by its address": ("", "198.51.100.2"),
    "outside": ("internet", "198.51.100.2"),
    "outside by 127.0.0.1": ("internet", "127.0.0.1"),
    "another network": ("other", "198.51.100.2"),
    "its neighbour": ("neighbour", "198.51.100.2"),
    "itself": ("web", "198.51.100.2"),
    "itself by the gateway": ("web", "172.17.0.1"),
}
EVERYWHERE = {name for name in ASKERS if name != "outside by 127.0.0.1"}
SCOPES = {
    "": EVERYWHERE,
    "0.0.0.0": EVERYWHERE - {"the host by ::1"},
    "127.0.0.1": {"the host by 127.0.0.1"},
    "::1": {"the host by ::1"},
    "::": {"the host by ::1"},
    "198.51.100.2": EVERYWHERE - {"the host by 127.0.0.1", "the host by ::1", "itself by the gateway"},
    "172.17.0.1": {"itself by the gateway"},
}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("address", SCOPES, ids=lambda address: address or "all")
def test_who_reaches_a_port(engine: Engine, serve: Callable[[], None], address: str, protocol: str) -> None:
    join(
        engine,
        "web",
        "bridge",
        PortSpec(port=80, host_port=8081, host_ip=ip_address(address) if address else None, protocol=protocol),  # type: ignore[arg-type]
    )
    join(engine, "neighbour", "bridge")
    make_network(engine, "second", "10.0.2.0/24")
    join(engine, "other", "second")
    serve()
    # A machine of the local network that means to reach our 127.0.0.1.
    sh("""ip -n internet addr del 127.0.0.1/8 dev lo
        ip -n internet route add 127.0.0.1/32 via 198.51.100.2 src 198.51.100.1
        ip netns exec internet sysctl -qw net.ipv4.conf.all.route_localnet=1""")
    answers = {name: ask(host, 8081, namespace=place, protocol=protocol) for name, (place, host) in ASKERS.items()}
    assert {name for name, answer in answers.items() if answer} == SCOPES[address]
    if answers["outside"]:
        assert answers["outside"] == "198.51.100.1", "the client's address is kept"
    if answers["another network"]:
        assert answers["another network"] == "10.0.2.2", "the client's address is kept"


# Who holds it


def keepers(directory: Path) -> list[int]:
    """The processes that hold the ports of the engine whose state is below `directory`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if f"{directory}/run/keeper.sock" in words:
                found.append(int(process.name))
    return found


def is_held(port: int, address: str = "0.0.0.0", protocol: Protocol = "tcp") -> bool:
    try:
        bind(protocol, ip_address(address), port).close()
    except Conflict:
        return True
    return False


def eventually(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ports_stay_held_and_relayed_without_the_daemon(
    engine: Engine, serve: Callable[[], None], tmp_path: Path
) -> None:
    assert not keepers(tmp_path), "not before the first port is published"
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081), PortSpec(port=80, host_port=8082, protocol="udp"))
    serve()
    (keeper,) = keepers(tmp_path)
    engine.close()
    for protocol, port in (("tcp", 8081), ("udp", 8082)):
        for address in ("0.0.0.0", "::"):
            assert is_held(port, address, protocol)  # type: ignore[arg-type]
        assert ask("::1", port, protocol=protocol)
        assert ask("198.51.100.2", port, namespace="internet", protocol=protocol)
    again = open_here(tmp_path)
    engine.__dict__.update(again.__dict__)
    assert keepers(tmp_path) == [keeper]
    assert ask("::1", 8081)
    engine.perform(engine.planner.close_sandbox, "web")
    assert not is_held(8081)
    assert not is_held(8081, "::")
    eventually(lambda: not keepers(tmp_path), 8)


def test_a_killed_keeper_heals_and_redirected_connections_do_not_notice(
    engine: Engine, serve: Callable[[], None], tmp_path: Path
) -> None:
    many = (PortSpec(port=80, host_port=port) for port in range(8081, 8381))
    join(engine, "web", "bridge", PortSpec(port=81, host_port=8080), *many)
    serve()
    (keeper,) = keepers(tmp_path)
    with conversation("web", 81), socket.create_connection(("198.51.100.2", 8080)) as open_before:
        open_before.settimeout(2)
        os.kill(keeper, signal.SIGKILL)
        for word in (b"one", b"two"):
            open_before.send(word)
            assert open_before.recv(100) == word, "a redirected connection goes on"
    eventually(lambda: keepers(tmp_path) not in ([], [keeper]))
    eventually(lambda: is_held(8380, "::"))
    assert all(is_held(port, address) for port in range(8081, 8381) for address in ("0.0.0.0", "::"))
    assert ask("::1", 8081)


def test_a_keeper_that_died_without_a_daemon(engine: Engine, tmp_path: Path) -> None:
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081), PortSpec(port=80))
    engine.close()
    (keeper,) = keepers(tmp_path)
    os.kill(keeper, signal.SIGKILL)
    eventually(lambda: not held_ports())
    engine.__dict__.update(open_here(tmp_path).__dict__)
    assert is_held(8081)
    assert keepers(tmp_path) != [keeper]


def test_a_keeper_that_dies_at_any_moment(engine: Engine, tmp_path: Path) -> None:
    """Operations go on, and what is held in the end is what the store says (`assert_consistent`)."""
    over = threading.Event()
    killed: set[int] = set()

    def kill() -> None:
        while not over.wait(0.03):
            for keeper in keepers(tmp_path):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(keeper, signal.SIGKILL)
                    killed.add(keeper)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for turn in range(40):
            join(engine, f"ns{turn}", "bridge", PortSpec(port=80), PortSpec(port=53, host_port=9000 + turn))
            if turn % 3:
                engine.perform(engine.planner.close_sandbox, f"ns{turn - 1}")
    finally:
        over.set()
        killer.join()
    assert len(killed) > 3
    eventually(lambda: held_ports() == recorded_ports(engine))


def test_a_keeper_that_is_stuck(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.kernel.ports._ANSWER_SECONDS", 0.3)
    join(engine, "one", "bridge", PortSpec(port=80, host_port=8081))
    join(engine, "two", "bridge", PortSpec(port=80, host_port=8082))
    (keeper,) = keepers(tmp_path)
    os.kill(keeper, signal.SIGSTOP)
    engine.perform(engine.planner.close_sandbox, "one")
    eventually(lambda: held_ports() == {"0.0.0.0:8082/tcp", "[::]:8082/tcp"})
    assert keepers(tmp_path) != [keeper]


CONVERSATION = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
client, _ = server.accept()
while data := client.recv(1 << 16):
    client.sendall(data)
client.close()
"""


def conversation(namespace: str, port: int) -> contextlib.AbstractContextManager[None]:
    """A server that echoes all of one TCP connection."""
    return running(namespace, CONVERSATION, str(port))


@pytest.mark.parametrize("way", ["client ends first", "server ends first", "reset"])
def test_a_relayed_connection(engine: Engine, way: str) -> None:
    """Half closed stays half open, in either direction; much data passes; a refusal is a reset."""
    join(engine, "web", "bridge", PortSpec(port=81, host_port=8080))
    size = 8 << 20
    program = {
        "client ends first": CONVERSATION,
        "server ends first": TALKER,
        "reset": 'print("ready", flush=True); input()',
    }[way]
    with running("web", program, "81", str(size)), socket.create_connection(("::1", 8080)) as client:
        client.settimeout(5)
        if way == "client ends first":
            sender = threading.Thread(target=lambda: (client.sendall(os.urandom(size)), client.shutdown(1)))
            sender.start()
            assert sum(len(part) for part in parts(client)) == size
            sender.join()
        elif way == "server ends first":
            assert sum(len(part) for part in parts(client)) == size
            client.send(b"bye")
            client.shutdown(socket.SHUT_WR)
        else:
            with pytest.raises(ConnectionResetError):
                client.recv(1)


TALKER = """
import socket, sys
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
client, _ = server.accept()
client.sendall(bytes(int(sys.argv[2])))
client.shutdown(socket.SHUT_WR)
assert client.recv(10) == b"bye"
assert client.recv(10) == b""
"""


def parts(sock: socket.socket) -> Iterator[bytes]:
    """What comes until the end of file."""
    while part := sock.recv(1 << 16):
        yield part


def test_a_relayed_udp_answer_comes_from_the_address_that_was_asked(engine: Engine) -> None:
    sh("""ip addr add 2001:db8::1/64 dev eth0 nodad; ip addr add 2001:db8::2/64 dev eth0 nodad
        ip -n internet addr add 2001:db8::9/64 dev eth0 nodad""")
    join(engine, "one", "bridge", UDP)
    with named_echo("one", 53, "one"):
        for address in ("2001:db8::1", "2001:db8::2", "::1"):
            assert Client(address, 5353, "" if address == "::1" else "internet").ask() == "one", address


# Which port


def test_a_picked_port_is_bound_from_the_choice_on(engine: Engine, tmp_path: Path) -> None:
    """At no boundary of the operation is the number free for another program."""
    seen: list[str] = []

    def look(point: str) -> None:
        for endpoint in engine.catalog.endpoints():
            for port in endpoint.ports:
                seen.append(point)
                assert is_held(port.host_port, str(port.host_ip)), point

    engine._executor._fault = look
    engine.store.fault = look
    specs = (PortSpec(port=80), PortSpec(port=81, host_port=8000, host_port_end=8010))
    endpoint = join(engine, "web", "bridge", *specs)
    assert {"commit", "apply AddVeth"} <= {point.split(" SetLink")[0] for point in seen}
    engine._executor._fault = engine.store.fault = lambda point: None
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    numbers = [port.host_port for port in endpoint.ports]
    assert first <= numbers[0] <= last
    assert numbers == [numbers[0], numbers[0], 8000, 8000]


def test_what_was_picked_and_not_used_is_let_go(engine: Engine) -> None:
    sh("sysctl -qw net.ipv4.ip_local_port_range='41000 41003'")
    engine.perform(engine.planner.open_sandbox, "web")
    lines = engine.explain(engine.planner.attach, "web", EndpointSpec(network="bridge", ports=(PortSpec(port=80),)))
    assert any("tcp . 4100" in line for line in lines)
    assert not any(is_held(port) for port in range(41000, 41004))
    with pytest.raises(Invalid):
        join(engine, "web", "bridge", PortSpec(port=80), PortSpec(port=80, host_ip=ip_address("203.0.113.9")))
    with socket.create_server(("0.0.0.0", 9000)), pytest.raises(Conflict):
        join(engine, "web", "bridge", PortSpec(port=80), PortSpec(port=81, host_port=9000))
    assert not any(is_held(port) for port in range(41000, 41004))


def test_the_ephemeral_range_runs_out(engine: Engine) -> None:
    sh("sysctl -qw net.ipv4.ip_local_port_range='41000 41003'")
    with socket.create_server(("0.0.0.0", 41002)):
        endpoint = join(engine, "web", "bridge", *(PortSpec(port=80) for _ in range(3)))
        assert {port.host_port for port in endpoint.ports} == {41000, 41001, 41003}
        with pytest.raises(Conflict, match="no free tcp port is left on this host"):
            join(engine, "more", "bridge", PortSpec(port=80))
    join(engine, "more", "bridge", PortSpec(port=80))


def test_a_range_goes_round_what_is_taken(engine: Engine) -> None:
    wanted = PortSpec(port=80, host_port=8000, host_port_end=8003)
    with socket.create_server(("127.0.0.1", 8001)), socket.create_server(("::1", 8002), family=socket.AF_INET6):
        join(engine, "one", "bridge", PortSpec(port=80, host_port=8000, host_ip=LOOPBACK))
        assert {port.host_port for port in join(engine, "two", "bridge", wanted).ports} == {8003}
        with pytest.raises(Conflict, match="all tcp ports from 8000 to 8003 are already allocated"):
            join(engine, "three", "bridge", wanted)
    spec = PortSpec(port=80, host_port=8000, host_port_end=8003, host_ip=ip_address("203.0.113.9"))
    with pytest.raises(Invalid, match=r"this host has no address 203\.0\.113\.9"):
        join(engine, "three", "bridge", spec)


def test_a_port_that_a_connection_uses(engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 7000)) as server, socket.create_connection(("127.0.0.1", 7000)) as client:
        number = client.getsockname()[1]
        with pytest.raises(Conflict, match=f"{number}/tcp is in use by another program on this host"):
            join(engine, "web", "bridge", PortSpec(port=80, host_port=number))
        server.close()


FAMILIES = {
    "both": (True, True),
    "IPv4 alone": (True, False),
    "IPv6 alone": (False, True),
}
ADDRESSES = ["127.0.0.1", "::1", "198.51.100.2", "2001:db8::2"]


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("families", FAMILIES)
def test_a_port_answers_in_both_families_whatever_the_container_has(
    engine: Engine, families: str, protocol: Protocol
) -> None:
    sh("""ip addr add 2001:db8::2/64 dev eth0 nodad; ip -n internet addr add 2001:db8::9/64 dev eth0 nodad
        sysctl -qw net.ipv6.conf.all.forwarding=1""")
    ipv4, ipv6 = FAMILIES[families]
    engine.perform(engine.planner.create_network, NetworkSpec(name="n", ipv4=ipv4, ipv6=ipv6))
    join(engine, "web", "n", PortSpec(port=80, host_port=8081, protocol=protocol))
    eventually(lambda: "tentative" not in sh("ip -n web addr"))
    with server("web", 80):
        answers = {address: ask(address, 8081, protocol=protocol) for address in ADDRESSES}
        assert all(answers.values()), answers
        for host, client, kept in (
            ("198.51.100.2", "198.51.100.1", ipv4),
            ("2001:db8::2", "2001:db8::9", ipv6),
        ):
            seen = ask(host, 8081, namespace="internet", protocol=protocol)
            assert seen
            assert (seen == client) is kept, seen
        hairpin = {host: ask(host, 8081, namespace="web", protocol=protocol) for host in ADDRESSES[2:]}
        # With one family it has no way to an address of the other.
        assert {host: bool(answer) for host, answer in hairpin.items()} == dict(
            zip(ADDRESSES[2:], (ipv4, ipv6), strict=True)
        )
