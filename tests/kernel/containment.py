"""Which way packets may go, as a table; and the lab that finds out which way they do go.

`reaches` is the table, written from docs/networking.md ("Who reaches whom"): it knows nothing of how Fairlead works.
`Lab` builds one network of each kind with two sandboxes in each, and `Lab.probe` tries everything at once.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from kernel_lab import sh

from fairlead.engine import Engine
from fairlead.model import Address, Endpoint, Pool
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec

PUBLISHED, OTHER = 80, 7000
"""Every sandbox serves both ports; only the first is published."""

OUTSIDE = {4: ip_address("8.8.8.8"), 6: ip_address("2001:db8:8::8")}
HOST = {4: ip_address("198.51.100.2"), 6: ip_address("2001:db8:1::2")}
NEIGHBOUR = {4: ip_address("198.51.100.1"), 6: ip_address("2001:db8:1::1")}

BRIDGE = "com.docker.network.bridge."


@dataclass(frozen=True)
class Kind:
    """One kind of network: what it is made with, and what is said of it."""

    driver: str = "bridge"
    internal: bool = False
    options: Mapping[str, str] = field(default_factory=dict)
    publishes: bool = True
    """A published port is a port of the host."""
    leads_out: bool = True
    """Its containers have a way to other networks."""
    knows_host: bool = True
    """Its containers reach the host by their gateway's address."""
    talks: bool = True
    """Its containers reach each other."""
    opens: frozenset[int] = frozenset()
    """The ports at a container's own address that are open to everybody outside the network."""


def _modes(mode: str) -> dict[str, str]:
    return {f"{BRIDGE}gateway_mode_ipv{version}": mode for version in (4, 6)}


KINDS: dict[str, Kind] = {
    "default": Kind(),
    "user": Kind(),
    "internal": Kind(internal=True, publishes=False, leads_out=False),
    "quiet": Kind(options={f"{BRIDGE}enable_icc": "false"}, talks=False),
    "routed": Kind(options=_modes("routed"), publishes=False, opens=frozenset({PUBLISHED})),
    "unprotected": Kind(options=_modes("nat-unprotected"), opens=frozenset({PUBLISHED, OTHER})),
    "isolated": Kind(internal=True, options=_modes("isolated"), publishes=False, leads_out=False, knows_host=False),
    "lan": Kind(driver="macvlan", options={"parent": "eth0"}, publishes=False, knows_host=False),
}
"""`default` stands for the predefined network `bridge` with IPv6 added; `lan` is a macvlan network on the uplink."""


@dataclass(frozen=True)
class Target:
    """Something to be reached: a port of a sandbox, of the host, of the world."""

    name: str
    address: Address
    port: int


def reaches(source: str, target: str) -> bool:
    """What the documentation says.  Names as `Lab.targets` has them; `source` is a sandbox, ``host`` or ``outside``."""
    words = target.split()
    what, kind = words[0], words[-1]
    from_kind = KINDS.get(source.partition("/")[0])
    if what == "world":
        return from_kind is None or from_kind.leads_out
    if what == "service":  # a program of the host, by the gateway's address of the asker
        return from_kind is None or from_kind.knows_host
    if what == "uplink":  # the same program, by the address of the host on its LAN
        return from_kind is None or (from_kind.leads_out and from_kind.driver != "macvlan")
    if what == "loopback":  # published on 127.0.0.1 or ::1: for programs of the host alone
        return source == "host"
    if what == "port":  # published on every address of the host
        return from_kind is None or (from_kind.leads_out and from_kind.driver != "macvlan")
    number, there = int(words[1]), KINDS[kind]
    if from_kind is there:
        return there.talks
    if there.driver == "macvlan":
        # The LAN reaches it as any other machine; the host, and what goes through the host, does not.
        return source == "outside"
    if source == "host":
        return there.knows_host
    if from_kind is not None and (not from_kind.leads_out or from_kind.driver == "macvlan"):
        # The host's answer to a machine that stands on its own uplink goes out by that link, and does not come back.
        return False
    return number in there.opens


SERVER = """
import socket, sys, threading
def serve(port):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)
    def answer():
        while True:
            client, address = server.accept()
            client.sendall(b"here")
            client.close()
    threading.Thread(target=answer, daemon=True).start()
for port in map(int, sys.argv[1:]):
    serve(port)
print("ready", flush=True)
sys.stdin.read()
"""

PROBE = """
import asyncio, json, sys
PATIENCE = 2.0
async def ask(name, address, port):
    try:
        reader, writer = await asyncio.wait_for(asyncio.open_connection(address, port), PATIENCE)
        data = await asyncio.wait_for(reader.read(10), PATIENCE)
        writer.close()
    except (OSError, asyncio.TimeoutError):
        return None
    return name if data == b"here" else None
async def main():
    print(json.dumps([name for name in await asyncio.gather(*(ask(*one) for one in json.load(sys.stdin))) if name]))
asyncio.run(main())
"""
"""Connects to all targets at once, and says which of them answered."""


class Lab:
    """One network of each kind, each with two sandboxes (`user/a`, `user/b`); ports of `b` are published."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.endpoints: dict[str, Endpoint] = {}
        self._servers: list[subprocess.Popen[str]] = []
        for number, (name, kind) in enumerate(KINDS.items()):
            self._make(name, kind, number)
        self._route_back()
        for name in self.endpoints:
            self._serve(_namespace(name), PUBLISHED, OTHER)
        self._serve("internet", OTHER)
        self._serve("", 7001)

    def _make(self, name: str, kind: Kind, number: int) -> None:
        subnets = [f"10.{100 + number}.0.0/24", f"fd00:{100 + number}::/64"]
        words: dict[str, Any] = {}
        if kind.driver == "macvlan":
            subnets = ["198.51.100.0/24", "2001:db8:1::/64"]
            words["pools"] = tuple(
                Pool(subnet=ip_network(subnet), gateway=NEIGHBOUR[4 + 2 * i], ip_range=ip_network(ranges))
                for i, (subnet, ranges) in enumerate(
                    zip(subnets, ("198.51.100.128/25", "2001:db8:1::8000/113"), strict=True)
                )
            )
        else:
            words["pools"] = tuple(Pool(subnet=ip_network(subnet)) for subnet in subnets)
        options = dict(kind.options)
        if name == "default":
            options[f"{BRIDGE}default_bridge"] = "true"
        spec = NetworkSpec(name=name, driver=kind.driver, ipv6=True, internal=kind.internal, options=options, **words)
        self.engine.perform(self.engine.planner.create_network, spec, predefined=name == "default")
        for one in "ab":
            ports: tuple[PortSpec, ...] = ()
            if one == "b" and kind.publishes:
                ports = (
                    PortSpec(port=PUBLISHED, host_port=8000 + number),
                    PortSpec(port=PUBLISHED, host_port=8100 + number, host_ip=ip_address("127.0.0.1")),
                    PortSpec(port=PUBLISHED, host_port=8100 + number, host_ip=ip_address("::1")),
                )
            elif one == "b" and kind.opens:
                ports = (PortSpec(port=PUBLISHED),)
            endpoint = EndpointSpec(network=name, ports=ports)
            sandbox = f"{name}-{one}"
            self.engine.perform(self.engine.planner.open_sandbox, sandbox, endpoints=(endpoint,))
            (self.endpoints[f"{name}/{one}"],) = self.engine.catalog.endpoints(
                sandbox=self.engine.catalog.sandbox(sandbox).id
            )

    def _route_back(self) -> None:
        """The neighbour knows the way to every bridge, and even tries 127.0.0.1 by way of the host."""
        for number, kind in enumerate(KINDS.values()):
            if kind.driver == "bridge":
                sh(f"ip -n internet route add 10.{100 + number}.0.0/24 via {HOST[4]}")
                sh(f"ip -n internet -6 route add fd00:{100 + number}::/64 via {HOST[6]}")

    def _serve(self, namespace: str, *ports: int) -> None:
        where = ["ip", "netns", "exec", namespace] if namespace else []
        server = subprocess.Popen(
            [*where, "python3", "-c", SERVER, *map(str, ports)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._servers.append(server)
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"

    def targets(self, source: str, version: int) -> list[Target]:
        """All that a source may try in one family."""
        found = [Target("world", OUTSIDE[version], OTHER), Target("uplink", HOST[version], 7001)]
        if gateway := self._gateway(source, version):
            found.append(Target("service", gateway, 7001))
        for number, (name, kind) in enumerate(KINDS.items()):
            for one in "ab":
                if f"{name}/{one}" == source:
                    continue
                address = _address(self.endpoints[f"{name}/{one}"], version)
                if one == "b":
                    found.append(Target(f"address {PUBLISHED} {name}", address, PUBLISHED))
                if kind.opens or one == "b":
                    found.append(Target(f"address {OTHER} {name}", address, OTHER))
            if kind.publishes:
                # Whoever is not the host cannot even ask for 127.0.0.1: it tries the host's addresses instead.
                loopback = ip_address("127.0.0.1" if version == 4 else "::1")
                found.append(Target(f"port {name}", HOST[version], 8000 + number))
                asked = loopback if source == "host" else HOST[version]
                found.append(Target(f"loopback {name}", asked, 8100 + number))
        return found

    def _gateway(self, source: str, version: int) -> Address | None:
        if source not in self.endpoints:
            return None
        network = self.engine.catalog.network(source.partition("/")[0])
        return next((pool.gateway for pool in network.pools if pool.subnet.version == version), None)

    def probe(self, source: str, version: int) -> dict[str, bool]:
        """What the source reaches, by the names of the targets."""
        namespace = {"host": "", "outside": "internet"}.get(source, _namespace(source))
        where = ["ip", "netns", "exec", namespace] if namespace else []
        targets = self.targets(source, version)
        done = subprocess.run(
            [*where, "python3", "-c", PROBE],
            input=json.dumps([(target.name, str(target.address), target.port) for target in targets]),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        answered = set(json.loads(done.stdout))
        return {target.name: target.name in answered for target in targets}

    def close(self) -> None:
        """Stop the servers and take everything away."""
        for server in self._servers:
            server.kill()
            server.wait()


def sources() -> Iterable[str]:
    """Who asks: one sandbox of each network, the host, the outside."""
    return (*(f"{name}/a" for name in KINDS), "host", "outside")


def _namespace(name: str) -> str:
    return name.replace("/", "-")


def _address(endpoint: Endpoint, version: int) -> Address:
    return next(interface.ip for interface in endpoint.addresses if interface.version == version)
