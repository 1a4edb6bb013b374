"""testcontainers, as Python's test suites use it: ports, networks, files, and waiting for all sorts of signs.

It connects to published ports, so it runs on the host, as a program of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from lab import Host, images

HEAD = """
import json, urllib.request
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    HealthcheckWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy, PortWaitStrategy,
)
"""


@pytest.fixture(scope="module")
def play() -> Iterator[Callable[[str], Any]]:
    """Runs lines of Python with testcontainers on a host, and returns their `result`."""
    with Host() as host:
        for name in ("alpine", "nginx"):
            host.fairlead("image", "load", "-i", str(images() / f"{name}.tar"))
        host.environment |= {
            "DOCKER_HOST": host.environment["FAIRLEAD_HOST"],
            # Its helper that removes what is left is an image of a registry.
            "TESTCONTAINERS_RYUK_DISABLED": "true",
            "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
        }

        def run(lines: str) -> Any:
            done = host.run(sys.executable, "-c", f"{HEAD}{lines}\nprint(json.dumps(result))")
            assert host.fairlead("ps", "-aq").stdout == ""
            assert host.fairlead("network", "ls", "-q", "--filter", "type=custom").stdout == ""
            return json.loads(done.stdout)

        yield run


def test_a_published_port(play: Callable[[str], Any]) -> None:
    lines = """
with DockerContainer("nginx:latest").with_exposed_ports(80).waiting_for(HttpWaitStrategy(80)) as web:
    address = f"http://{web.get_container_host_ip()}:{web.get_exposed_port(80)}/"
    result = urllib.request.urlopen(address).status
"""
    assert play(lines) == 200


def test_a_port_of_ones_choice(play: Callable[[str], Any]) -> None:
    lines = """
with DockerContainer("nginx:latest").with_bind_ports("80/tcp", 18081).waiting_for(PortWaitStrategy(80)) as web:
    result = web.get_exposed_port(80)
"""
    assert play(lines) == 18081


def test_output_exec_and_files(play: Callable[[str], Any]) -> None:
    lines = """
box = DockerContainer("alpine:latest", command=["sh", "-c", "cat /tmp/given; sleep 60"])
box.with_copy_into_container(b"now it is ready\\n", "/tmp/given")
with box.waiting_for(LogMessageWaitStrategy("ready")) as box:
    said = box.exec(["sh", "-c", "cat /tmp/given; exit 3"])
    result = [box.get_logs()[0].decode(), said.exit_code, said.output.decode()]
"""
    assert play(lines) == ["now it is ready\n", 3, "now it is ready\n"]


def test_health(play: Callable[[str], Any]) -> None:
    lines = """
check = {"test": ["CMD", "true"], "interval": 200_000_000}
box = DockerContainer("alpine:latest", command="sleep 60", healthcheck=check)
with box.waiting_for(HealthcheckWaitStrategy()):
    box.get_wrapped_container().reload()
    result = box.get_wrapped_container().health
"""
    assert play(lines) == "healthy"


def test_networks_and_aliases(play: Callable[[str], Any]) -> None:
    lines = """
with Network() as network:
    web = DockerContainer("nginx:latest").with_network(network).with_network_aliases("web")
    box = DockerContainer("alpine:latest", command="sleep 60").with_network(network)
    with web.with_exposed_ports(80).waiting_for(HttpWaitStrategy(80)), box:
        result = box.exec(["wget", "-qO-", "http://web/"]).exit_code
"""
    assert play(lines) == 0
