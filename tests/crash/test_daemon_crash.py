"""`kill -9` of the daemon at every boundary of a container's life, then start: nothing lost, nothing left."""

from __future__ import annotations

from functools import partial

import pytest
from crash_lab import RUN, Command, at_every_boundary, containers, crash_host, settled
from lab import Host

__all__ = ["crash_host"]

OPERATIONS: dict[str, tuple[tuple[Command, ...], Command]] = {
    "run": ((), RUN),
    "run in a network": ((), ("run", "-d", "--network", "named", *RUN[2:])),
    "run --rm": ((), ("run", "--rm", "--name", "web", "alpine", "true")),
    "start": ((("create", *RUN[2:]),), ("start", "web")),
    "stop": ((RUN,), ("stop", "-t", "0", "web")),
    "kill": ((RUN,), ("kill", "web")),
    "rm -f": ((RUN,), ("rm", "-f", "web")),
    "rm": ((("create", *RUN[2:]),), ("rm", "web")),
    "restart": ((RUN,), ("restart", "-t", "0", "web")),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_boundary(crash_host: Host, name: str) -> None:
    setup, operation = OPERATIONS[name]
    assert at_every_boundary(crash_host, setup, operation, partial(assert_whole, crash_host), ["web"]) > 3


def assert_whole(host: Host, acknowledged: Command | None) -> None:
    """A fresh daemon knows as running exactly what runs; what was acknowledged is so."""
    settled(host, partial(expected, host))
    running = [one for one in containers(host) if one["State"] == "running"]
    for one in running:
        assert host.fairlead("exec", "web", "true").returncode == 0, one
        assert host.run("curl", "-sSm3", "-o/dev/null", "localhost:8081/hostname").returncode == 0
        if host.fairlead("inspect", "--format", "{{.HostConfig.NetworkMode}}", "web").stdout == "named\n":
            assert "Address: 172." in host.fairlead("exec", "web", "nslookup", "web", check=False).stdout
    if acknowledged:
        wanted = {"run": 1, "start": 1, "restart": 1, "stop": 0, "kill": 0, "rm": 0}[acknowledged[0]]
        if "--rm" not in acknowledged:
            assert len(running) == wanted


def expected(host: Host) -> dict[str, int]:
    running = sum(one["State"] == "running" for one in containers(host))
    return dict.fromkeys(("mounts", "namespaces", "veths", "monitors", "bundles", "runtime", "ports"), running)
