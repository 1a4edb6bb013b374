"""`kill -9` of the daemon at every boundary of a container's life, then start: nothing lost, nothing left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, Host, images

RUN = ("run", "-d", "--name", "web", "-p", "8081:80", "alpine", "httpd", "-f", "-p", "80", "-h", "/etc")

OPERATIONS: dict[str, tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]] = {
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


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.fairlead("network", "create", "named")
        stop_daemon(one)
        yield one


def stop_daemon(host: Host) -> None:
    """End the daemon gracefully, if one runs."""
    try:
        pid = int((host.run_dir / "daemon.pid").read_text())
        os.kill(pid, signal.SIGTERM)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
            return
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
        done = host.fairlead(*operation, check=False)
        died = daemon.poll() is not None
        if died:
            assert daemon.returncode == -signal.SIGKILL
        else:
            time.sleep(0.3)  # What follows the answer, such as --rm, has its boundaries as well.
            died = daemon.poll() is not None
            stop_daemon(host)
        daemon.wait()
        assert_whole(host, acknowledged=operation if done.returncode == 0 else None)
        host.fairlead("rm", "-f", "web", check=False)
        assert_clean(host)
        if not died:
            break
        point += 1
    assert point > 3


def containers(host: Host) -> list[dict[str, object]]:
    found = host.json(FAIRLEAD, "ps", "-a", "--no-trunc", "--format", "json")
    assert isinstance(found, list)
    return found


def assert_whole(host: Host, acknowledged: tuple[str, ...] | None) -> None:
    """A fresh daemon knows as running exactly what runs; what was acknowledged is so."""
    deadline = time.monotonic() + 5
    while traces(host) != expected(host) and time.monotonic() < deadline:
        time.sleep(0.05)  # A process that was just killed takes a moment to be gone.
    assert traces(host) == expected(host)
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
    assert containers(host) == []
    deadline = time.monotonic() + 5
    while any(traces(host).values()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(traces(host).values()), traces(host)
    assert not list((host.state / "containers").glob("*"))
    assert "8081" not in host.sh("nft list table inet fairlead")
