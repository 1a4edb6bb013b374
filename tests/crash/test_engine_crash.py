"""`kill -9` at every boundary of every operation of the engine: what was acknowledged works, nothing is left over."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from kernel_lab import (
    assert_consistent,
    assert_nothing_left,
    assert_reached,
    die_at,
    held_ports,
    open_here,
    recorded_ports,
    sh,
)
from lab import INTERNET

from fairlead.engine import Engine
from fairlead.model import LinkEnd, Network, Pool
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec

PORTS = (PortSpec(port=80, host_port=8081), PortSpec(port=53, host_port=5353, protocol="udp"))
ENDS = (
    LinkEnd(sandbox="ns0", ifname="vth0", addresses=(ip_interface("172.0.0.2/24"),)),
    LinkEnd(sandbox="ns1", ifname="vth1", addresses=(ip_interface("172.0.0.3/24"),)),
)


def network(engine: Engine, name: str, subnet: str) -> None:
    spec = NetworkSpec(name=name, pools=(Pool(subnet=ip_network(subnet)),))
    engine.perform(engine.planner.create_network, spec)


def ipv6_network(engine: Engine) -> None:
    """It makes the host forward IPv6, and has endpoints that do not talk and may be asked directly."""
    options = {
        "com.docker.network.bridge.enable_icc": "false",
        "com.docker.network.bridge.gateway_mode_ipv6": "routed",
        "com.docker.network.bridge.trusted_host_interfaces": "eth0",
    }
    engine.perform(engine.planner.create_network, NetworkSpec(name="six", ipv6=True, options=options))


def two_sandboxes(engine: Engine) -> None:
    for name in ("ns0", "ns1"):
        engine.perform(engine.planner.open_sandbox, name)


def attached_twice(engine: Engine) -> None:
    two_sandboxes(engine)
    network(engine, "second", "10.0.1.0/24")
    engine.perform(engine.planner.attach, "ns0", EndpointSpec(network="bridge", ports=PORTS))
    engine.perform(engine.planner.attach, "ns0", EndpointSpec(network="second"))
    engine.perform(engine.planner.add_link, *ENDS)


CONTAINER = "c" * 64

OPERATIONS: dict[str, tuple[Callable[[Engine], object], Callable[[Engine], object]]] = {
    "network create": (lambda e: None, lambda e: network(e, "made", "10.0.0.0/24")),
    "network rm": (
        lambda e: network(e, "made", "10.0.0.0/24"),
        lambda e: e.perform(e.planner.remove_network, "made"),
    ),
    "network create --ipv6": (lambda e: None, ipv6_network),
    "network rm of IPv6": (ipv6_network, lambda e: e.perform(e.planner.remove_network, "six")),
    "netns add": (lambda e: None, lambda e: e.perform(e.planner.open_sandbox, "ns0")),
    "netns rm": (attached_twice, lambda e: e.perform(e.planner.close_sandbox, "ns0")),
    "container sandbox": (
        lambda e: None,
        lambda e: e.perform(
            e.planner.open_sandbox,
            CONTAINER,
            container=CONTAINER,
            endpoints=(EndpointSpec(network="bridge", ports=PORTS),),
        ),
    ),
    "connect": (
        two_sandboxes,
        lambda e: e.perform(e.planner.attach, "ns0", EndpointSpec(network="bridge", ports=PORTS)),
    ),
    "connect by IPv6": (
        lambda e: (ipv6_network(e), two_sandboxes(e)),
        lambda e: e.perform(e.planner.attach, "ns0", EndpointSpec(network="six", ports=PORTS)),
    ),
    "disconnect": (attached_twice, lambda e: e.perform(e.planner.detach, "ns0", "bridge")),
    "link add": (two_sandboxes, lambda e: e.perform(e.planner.add_link, *ENDS)),
    "link rm": (attached_twice, lambda e: e.perform(e.planner.remove_link, "ns0/vth0")),
    "reset": (attached_twice, lambda e: e.reset()),
}


@pytest.fixture
def world(fresh_kernel: None) -> None:
    sh(INTERNET)


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_boundary(world: None, name: str, tmp_path: Path) -> None:
    setup, act = OPERATIONS[name]
    outcomes: set[str] = set()
    point = 0
    while True:
        directory = tmp_path / str(point)
        passed = die_at(directory, setup, act, point)
        engine = open_here(directory)
        assert_consistent(engine)
        assert held_ports() == recorded_ports(engine), "no port is held for nobody"
        outcomes.add(" ".join(sorted(one.name for one in engine.catalog.networks() + engine.catalog.sandboxes())))
        assert_usable(engine)
        assert_nothing_left(engine)
        assert sh("cd /proc/sys/net/ipv6/conf; cat all/forwarding eth0/accept_ra default/accept_ra") == "0\n1\n1\n"
        engine.close()
        if passed >= 0:
            break
        point += 1
    assert point >= 3, "an operation has at least its two commits and a step"
    assert passed == point


def assert_usable(engine: Engine) -> None:
    """No ghosts: names, addresses and ports that nobody holds can be had, and what is there can be used."""
    engine.perform(engine.planner.open_sandbox, "fresh")
    taken = {port.host_port for endpoint in engine.catalog.endpoints() for port in endpoint.ports}
    ports = tuple(port for port in PORTS if port.host_port not in taken)
    if engine.store.owner("network:bridge"):
        engine.perform(engine.planner.attach, "fresh", EndpointSpec(network="bridge", ports=ports))
    for sandbox in engine.catalog.sandboxes():
        for endpoint in engine.catalog.endpoints(sandbox=sandbox.id):
            gateway = engine.store.get(Network, endpoint.network)
            assert gateway is not None
            assert_reached(str(gateway.pools[0].gateway), sandbox.path)
        if engine.catalog.endpoints(sandbox=sandbox.id):
            assert_reached("8.8.8.8", sandbox.path)
