"""`kill -9` of the daemon at every boundary of what happens to a shared sandbox: it stays while one runs in it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from lab import Host, images
from test_daemon_crash import RUN, assert_clean, containers, start_daemon, stop_daemon, traces

JOIN = ("run", "-d", "--name", "side", "--network", "container:web", "alpine", "httpd", "-f", "-p", "81", "-h", "/etc")
FIRST = ("run", "-d", "--network", "named", *RUN[2:])

OPERATIONS: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
    "join": ((FIRST,), JOIN),
    "the first is stopped": ((FIRST, JOIN), ("stop", "-t", "0", "web")),
    "the first is started again": ((FIRST, JOIN, ("stop", "-t", "0", "web")), ("start", "web")),
    "the first is removed": ((FIRST, JOIN), ("rm", "-f", "web")),
    "the other is removed": ((FIRST, JOIN), ("rm", "-f", "side")),
    "the last is stopped": ((FIRST, JOIN, ("stop", "-t", "0", "web")), ("stop", "-t", "0", "side")),
}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.fairlead("network", "create", "named")
        stop_daemon(one)
        yield one


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_boundary(host: Host, name: str) -> None:
    setup, operation = OPERATIONS[name]
    point = 1
    while True:
        for command in setup:
            host.fairlead(*command)
        stop_daemon(host)
        daemon = start_daemon(host, point)
        host.fairlead(*operation, check=False)
        died = ended(daemon)
        stop_daemon(host)
        daemon.wait()
        assert died == (daemon.returncode == -signal.SIGKILL)
        assert_whole(host)
        for container in ("web", "side"):
            host.fairlead("rm", "-f", container, check=False)
        assert_clean(host)
        if not died:
            break
        point += 1
    assert point > 2


def ended(daemon: subprocess.Popen[str]) -> bool:
    """Whether the daemon has killed itself: its clients hear of that a little earlier than we do."""
    try:
        daemon.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def assert_whole(host: Host) -> None:
    """What runs has its network, what does not has left nothing."""
    deadline = time.monotonic() + 5
    while traces(host) != expected(host) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces(host) == expected(host)
    for one in containers(host):
        if one["State"] == "running":
            assert "172." in host.fairlead("exec", str(one["Id"]), "ip", "addr", "show", "eth0").stdout


def expected(host: Host) -> dict[str, int]:
    running = sum(one["State"] == "running" for one in containers(host))
    each = dict.fromkeys(("mounts", "monitors", "bundles", "runtime"), running)
    return {**each, **dict.fromkeys(("namespaces", "veths", "ports"), min(running, 1))}
