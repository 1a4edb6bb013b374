"""A daemon that kills itself at each boundary in turn, and what running containers leave, for the tests of crashes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, Host, has_ended, images

Command = tuple[str, ...]

RUN: Command = ("run", "-d", "--name", "web", "-p", "8081:80", "alpine", "httpd", "-f", "-p", "80", "-h", "/etc")


@pytest.fixture(scope="module")
def crash_host() -> Iterator[Host]:
    """A host with the image alpine and the network `named`, and no daemon yet."""
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.fairlead("network", "create", "named")
        stop_daemon(one)
        yield one


def at_every_boundary(
    host: Host,
    setup: Iterable[Command],
    operation: Command,
    assert_whole: Callable[[Command | None], None],
    containers: Iterable[str],
) -> int:
    """`kill -9` at each boundary of an operation in turn, then a new start; returns how many there are.

    `assert_whole` gets the operation if it was acknowledged; `containers` are removed afterwards, and all with them.
    """
    point = 1
    while True:
        for command in setup:
            host.fairlead(*command)
        stop_daemon(host)
        daemon = start_daemon(host, point)
        done = host.fairlead(*operation, check=False)
        died = _ended(daemon)
        stop_daemon(host)
        daemon.wait()
        assert died == (daemon.returncode == -signal.SIGKILL)
        assert_whole(operation if done.returncode == 0 else None)
        for container in containers:
            host.fairlead("rm", "-f", container, check=False)
        assert_clean(host)
        if not died:
            return point
        point += 1


def _ended(daemon: subprocess.Popen[str]) -> bool:
    """Whether the daemon has killed itself: its clients hear of that a little earlier than we do.

    What follows the answer, such as --rm, has its boundaries as well.
    """
    try:
        daemon.wait(0.5)
    except subprocess.TimeoutExpired:
        return False
    return True


def stop_daemon(host: Host) -> None:
    """End the daemon gracefully, if one runs."""
    try:
        pid = int((host.run_dir / "daemon.pid").read_text())
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    deadline = time.monotonic() + 10
    while not has_ended(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def start_daemon(host: Host, fault: int) -> subprocess.Popen[str]:
    """A daemon that kills itself at the given fault point."""
    environment = {**host.environment, "FAIRLEAD_FAULT": str(fault)}
    daemon = host.popen(FAIRLEAD, "daemon", env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while host.run("curl", "-sf", "--unix-socket", f"{host.run_dir}/fairlead.sock", "x/_ping", check=False).returncode:
        assert time.monotonic() < deadline, "the daemon does not answer"
        time.sleep(0.02)
    return daemon


def containers(host: Host) -> list[dict[str, object]]:
    """All containers, as the daemon lists them."""
    found = host.json(FAIRLEAD, "ps", "-a", "--no-trunc", "--format", "json")
    assert isinstance(found, list)
    return found


def settled(host: Host, expected: Callable[[], dict[str, int]]) -> None:
    """What is left is what running containers leave: a process that was just killed takes a moment to be gone."""
    deadline = time.monotonic() + 5
    while traces(host) != expected() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert traces(host) == expected()


def traces(host: Host) -> dict[str, int]:
    """What running containers leave in the kernel and on disk, counted."""
    run = str(host.run_dir)
    mounts = host.sh("cat /proc/self/mounts").splitlines()
    links = json.loads(host.sh("ip -j link"))
    monitors = [
        pid
        for pid in os.listdir("/proc")
        if pid.isdigit() and (command := _command(pid)) and "conmon" in command[0] and run in " ".join(command)
    ]
    return {
        "mounts": sum(line.startswith("overlay ") and run in line for line in mounts),
        "namespaces": _count(host.run_dir / "netns"),
        "veths": sum(link["ifname"].startswith("veth") for link in links),
        "monitors": len(monitors),
        "bundles": _count(host.run_dir / "containers"),
        "runtime": _count(host.run_dir / "crun"),
        "ports": len(host.sh("ss -Hlntu").splitlines()),
    }


def _command(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _count(directory: Path) -> int:
    return sum(1 for _ in directory.glob("*")) if directory.exists() else 0


def assert_clean(host: Host) -> None:
    """Nothing is left of any container."""
    assert containers(host) == []
    deadline = time.monotonic() + 5
    while any(traces(host).values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(traces(host).values()), traces(host)
    assert not list((host.state / "containers").glob("*"))
    assert "8081" not in host.sh("nft list table inet fairlead")
