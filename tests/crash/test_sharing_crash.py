"""`kill -9` of the daemon at every boundary of what happens to a shared sandbox: it stays while one runs in it."""

from __future__ import annotations

from functools import partial

import pytest
from crash_lab import RUN, Command, at_every_boundary, containers, crash_host, settled
from lab import Host

__all__ = ["crash_host"]

JOIN = ("run", "-d", "--name", "side", "--network", "container:web", "alpine", "httpd", "-f", "-p", "81", "-h", "/etc")
FIRST = ("run", "-d", "--network", "named", *RUN[2:])

OPERATIONS: dict[str, tuple[tuple[Command, ...], Command]] = {
    "join": ((FIRST,), JOIN),
    "the first is stopped": ((FIRST, JOIN), ("stop", "-t", "0", "web")),
    "the first is started again": ((FIRST, JOIN, ("stop", "-t", "0", "web")), ("start", "web")),
    "the first is removed": ((FIRST, JOIN), ("rm", "-f", "web")),
    "the other is removed": ((FIRST, JOIN), ("rm", "-f", "side")),
    "the last is stopped": ((FIRST, JOIN, ("stop", "-t", "0", "web")), ("stop", "-t", "0", "side")),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_boundary(crash_host: Host, name: str) -> None:
    setup, operation = OPERATIONS[name]
    assert at_every_boundary(crash_host, setup, operation, partial(assert_whole, crash_host), ["web", "side"]) > 2


def assert_whole(host: Host, _: Command | None) -> None:
    """What runs has its network, what does not has left nothing."""
    settled(host, partial(expected, host))
    for one in containers(host):
        if one["State"] == "running":
            assert "172." in host.fairlead("exec", str(one["Id"]), "ip", "addr", "show", "eth0").stdout


def expected(host: Host) -> dict[str, int]:
    running = sum(one["State"] == "running" for one in containers(host))
    each = dict.fromkeys(("mounts", "monitors", "bundles", "runtime"), running)
    return {**each, **dict.fromkeys(("namespaces", "veths", "ports"), min(running, 1))}
