"""``--network container:ID``: two containers in one sandbox, which lives as long as either of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, Host, images

PUBLISHED = "localhost:8081/hostname"


class Lab(Host):
    """A host with the image alpine, the network ``u`` and a daemon that can be killed."""

    def __init__(self) -> None:
        super().__init__()
        self.daemon: subprocess.Popen[str] | None = None
        self.start()
        self.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        self.fairlead("network", "create", "--subnet", "10.1.0.0/16", "u")

    def start(self) -> None:
        """Start the daemon."""
        self.daemon = self.popen(FAIRLEAD, "daemon", stderr=subprocess.DEVNULL)
        ping = ["curl", "-sf", "--unix-socket", f"{self.run_dir}/fairlead.sock", "x/_ping"]
        eventually(lambda: self.run(*ping, check=False).returncode == 0)

    def end(self, number: int) -> None:
        """End the daemon, gracefully or not."""
        assert self.daemon is not None
        os.kill(int((self.run_dir / "daemon.pid").read_text()), number)
        self.daemon.wait(10)

    def refused(self, *words: str) -> str:
        """What a command that must fail says."""
        done = self.fairlead(*words, check=False)
        assert done.returncode
        return done.stderr

    def answers(self) -> bool:
        """Whether the published port does."""
        return self.run("curl", "-sfm2", PUBLISHED, check=False).returncode == 0

    def namespaces(self) -> list[str]:
        """The containers' namespaces that there are."""
        return [path.name for path in (self.run_dir / "netns").glob("*")]

    def shown(self, name: str) -> str:
        """The ports that ``ps`` shows of a container."""
        return self.fairlead("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.Ports}}").stdout.strip()


def eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as one:
        yield one


@pytest.fixture
def pair(lab: Lab) -> Iterator[Lab]:
    """``app`` publishes a port, and ``side`` in its sandbox serves it."""
    lab.fairlead("run", "-d", "--name", "app", "--network", "u", "-p", "8081:80", "alpine", "sleep", "1000")
    serve = ("httpd", "-f", "-p", "80", "-h", "/etc")
    lab.fairlead("run", "-d", "--name", "side", "--network", "container:app", "alpine", *serve)
    eventually(lab.answers)
    yield lab
    for name in ("side", "app", "third"):
        lab.fairlead("rm", "-f", name, check=False)
    assert lab.namespaces() == []
    assert lab.sh("ip -br link show type veth | grep -c ^veth || true").strip() == "0"
    assert not lab.answers()


def test_what_is_shared(pair: Lab) -> None:
    ids = {name: pair.fairlead("inspect", "-f", "{{.Id}}", name).stdout.strip() for name in ("app", "side")}
    pids = {name: int(pair.fairlead("inspect", "-f", "{{.State.Pid}}", name).stdout) for name in ids}
    assert os.stat(f"/proc/{pids['app']}/ns/net").st_ino == os.stat(f"/proc/{pids['side']}/ns/net").st_ino
    assert os.stat(f"/proc/{pids['app']}/ns/uts").st_ino != os.stat(f"/proc/{pids['side']}/ns/uts").st_ino
    for command in ("hostname", "cat /etc/hosts", "cat /etc/resolv.conf", "cat /etc/hostname"):
        one, other = (pair.fairlead("exec", name, *command.split()).stdout for name in ids)
        assert one == other, command
    assert pair.fairlead("exec", "side", "nslookup", "app").stdout.count("10.1.0.2")
    assert pair.fairlead("inspect", "-f", "{{.HostConfig.NetworkMode}}", "side").stdout == f"container:{ids['app']}\n"
    assert pair.fairlead("inspect", "-f", "{{json .NetworkSettings.Networks}}", "side").stdout.strip() == "{}"
    assert "8081->80" in pair.shown("app")
    assert pair.shown("side") == ""
    assert "container, with side" in pair.fairlead("netns", "ls", "--all").stdout


def test_it_outlives_the_first(pair: Lab) -> None:
    address = pair.fairlead("exec", "side", "ip", "addr").stdout
    pair.fairlead("stop", "-t0", "app")
    assert pair.answers()
    assert "8081->80" in pair.shown("side"), "a port that is held is shown by somebody"
    pair.fairlead("start", "app")
    assert pair.fairlead("exec", "app", "ip", "addr").stdout == address
    assert pair.answers()
    pair.fairlead("restart", "-t0", "app")
    assert pair.fairlead("exec", "app", "ip", "addr").stdout == address
    pair.fairlead("rm", "-f", "app")
    assert pair.answers()
    assert pair.fairlead("exec", "side", "ip", "addr").stdout == address
    assert "No such container" in pair.refused("restart", "-t0", "side")


@pytest.mark.parametrize("removed", [True, False])
def test_whoever_does_not_run_makes_way(lab: Lab, removed: bool) -> None:
    """As when compose makes a container anew whose network another has joined."""
    fixed = ("--network", "u", "--ip", "10.1.7.7", "--mac-address", "02:00:00:00:07:07", "-p", "8081:80", "alpine")
    lab.fairlead("run", "-d", "--name", "old", *fixed, "sleep", "1000")
    lab.fairlead("run", "-d", "--name", "side", "--network", "container:old", "alpine", "sleep", "1000")
    try:
        assert "already in use" in lab.refused("run", "-d", "--name", "early", *fixed, "sleep", "1000")
        lab.fairlead("stop", "-t0", "old")
        assert "10.1.7.7" in lab.fairlead("exec", "side", "ip", "addr").stdout
        if removed:
            lab.fairlead("rm", "old")
        lab.fairlead("run", "-d", "--name", "new", *fixed, "httpd", "-f", "-p", "80", "-h", "/etc")
        eventually(lab.answers)
        assert "10.1.7.7" not in lab.fairlead("exec", "side", "ip", "addr").stdout
        if not removed:
            assert "already in use" in lab.refused("start", "old")
            lab.fairlead("rm", "-f", "new")
            lab.fairlead("start", "old")
            assert "10.1.7.7" in lab.fairlead("exec", "side", "ip", "addr").stdout
            assert "8081->80" in lab.shown("old")
    finally:
        lab.fairlead("rm", "-f", "side", "old", "new", "early", check=False)
    assert lab.namespaces() == []


def test_it_outlives_the_one_that_joined(pair: Lab) -> None:
    pair.fairlead("rm", "-f", "side")
    assert pair.fairlead("exec", "app", "ping", "-c1", "-W2", "10.1.0.1").returncode == 0
    assert "8081->80" in pair.shown("app")


@pytest.mark.parametrize("first_runs", [True, False])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_outlives_the_daemon(pair: Lab, number: int, first_runs: bool) -> None:
    if not first_runs:
        pair.fairlead("stop", "-t0", "app")
    pair.end(number)
    assert pair.answers()
    pair.start()
    assert pair.answers()
    assert pair.fairlead("exec", "side", "ping", "-c1", "-W2", "10.1.0.1").returncode == 0
    assert len(pair.namespaces()) == 1


def test_a_removed_first_survives_the_daemon(pair: Lab) -> None:
    pair.fairlead("rm", "-f", "app")
    pair.end(signal.SIGKILL)
    pair.start()
    assert pair.answers()
    assert len(pair.namespaces()) == 1


def test_both_die_while_the_daemon_is_down(pair: Lab) -> None:
    ids = pair.fairlead("inspect", "-f", "{{.State.Pid}}", "app", "side").stdout.split()
    pair.end(signal.SIGKILL)
    for pid in ids:
        os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in ids))
    pair.start()
    eventually(lambda: pair.namespaces() == [])
    assert not pair.answers()


def test_a_removed_name_is_free(pair: Lab) -> None:
    pair.fairlead("rm", "-f", "app")
    pair.fairlead("run", "-d", "--name", "app", "--network", "u", "alpine", "sleep", "1000")
    found = pair.fairlead("run", "--rm", "--network", "u", "alpine", "nslookup", "app").stdout
    assert "10.1.0.3" in found
    assert "10.1.0.2" not in found


def test_networks_come_and_go_for_both(pair: Lab) -> None:
    pair.fairlead("network", "create", "--subnet", "10.2.0.0/16", "v")
    pair.fairlead("stop", "-t0", "app")
    pair.fairlead("network", "connect", "v", "app")
    assert "10.2.0.2" in pair.fairlead("exec", "side", "ip", "addr").stdout
    pair.fairlead("start", "app")
    assert "10.2.0.2" in pair.fairlead("exec", "side", "cat", "/etc/hosts").stdout
    pair.fairlead("network", "disconnect", "v", "app")
    assert "10.2.0.2" not in pair.fairlead("exec", "side", "ip", "addr").stdout
    pair.fairlead("network", "rm", "v")


def test_who_joins_one_that_joined(pair: Lab) -> None:
    pair.fairlead("run", "-d", "--name", "third", "--network", "container:side", "alpine", "sleep", "1000")
    pair.fairlead("rm", "-f", "side")
    pair.fairlead("stop", "-t0", "app")
    assert pair.fairlead("exec", "third", "ping", "-c1", "-W2", "10.1.0.1").returncode == 0


def test_docker_says_the_same(pair: Lab) -> None:
    docker = ("docker", "-H", pair.environment["FAIRLEAD_HOST"])
    told = pair.run(*docker, "run", "--rm", "--network", "container:app", "alpine", "hostname").stdout
    assert told == pair.fairlead("exec", "app", "hostname").stdout
    done = pair.run(*docker, "run", "-d", "--network", "container:app", "-p", "81:81", "alpine", "true", check=False)
    assert done.returncode == 125
    assert "conflicting options: port publishing and the container type network mode" in done.stderr


def test_refusals(pair: Lab) -> None:
    cannot = "cannot join network of a non running container"
    assert "No such container: nobody" in pair.refused("run", "--network", "container:nobody", "alpine", "true")
    assert "container:<name|id>" in pair.refused("run", "--network", "container:", "alpine", "true")
    shared = "container sharing network namespace with another container or host cannot be connected to any other"
    assert shared in pair.refused("network", "connect", "u", "side")
    assert "is not connected" in pair.refused("network", "disconnect", "u", "side")
    pair.fairlead("stop", "-t0", "app")
    assert cannot in pair.refused("run", "--rm", "--name", "third", "--network", "container:app", "alpine", "true")
    assert pair.fairlead("ps", "-aq", "--filter", "name=third").stdout == ""
    with contextlib.suppress(AssertionError):
        pair.fairlead("stop", "-t0", "side")
    assert cannot in pair.refused("start", "side")


def test_none_and_host_are_shared_too(lab: Lab) -> None:
    for mode, links in (("none", {"lo"}), ("host", {"lo", "eth0"})):
        lab.fairlead("run", "-d", "--name", "app", "--network", mode, "alpine", "sleep", "1000")
        told = lab.fairlead("run", "--rm", "--network", "container:app", "alpine", "ip", "-o", "link").stdout
        lab.fairlead("rm", "-f", "app")
        names = {line.split(":")[1].strip().partition("@")[0] for line in told.splitlines()}
        assert (names >= links) if mode == "host" else (names == links)


def test_settings_of_the_first_stay(lab: Lab) -> None:
    setting = "net.ipv4.ip_unprivileged_port_start"
    lab.fairlead("run", "-d", "--name", "app", "--sysctl", f"{setting}=99", "alpine", "sleep", "1000")
    lab.fairlead("run", "--rm", "--network", "container:app", "alpine", "true")
    assert lab.fairlead("exec", "app", "cat", f"/proc/sys/{setting.replace('.', '/')}").stdout == "99\n"
    lab.fairlead("rm", "-f", "app")


def test_all_at_once(pair: Lab) -> None:
    """Whoever comes while the others go has a network, or is refused."""
    for _ in range(6):
        commands = (("stop", "-t0", "app"), ("restart", "-t0", "side"), ("start", "app"), ("stop", "-t0", "side"))
        running = [pair.popen(FAIRLEAD, *command, stderr=subprocess.DEVNULL) for command in commands]
        for process in running:
            process.wait(30)
        for name in ("app", "side"):
            if pair.fairlead("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n":
                assert "10.1.0.2" in pair.fairlead("exec", name, "ip", "addr").stdout
        pair.fairlead("start", "app", check=False)
        pair.fairlead("start", "side")
        assert pair.answers()
        assert len(pair.namespaces()) == 1


def test_they_come_back_in_order(lab: Lab) -> None:
    """What the policy wants running is started by a new daemon, the one that joins after the one that it joins."""
    lab.fairlead("run", "-d", "--restart", "always", "--name", "a-app", "--network", "u", "alpine", "sleep", "1000")
    joined = ("--restart", "always", "--network", "container:a-app")
    lab.fairlead("run", "-d", *joined, "--name", "a-side", "alpine", "sleep", "1000")
    pids = lab.fairlead("inspect", "-f", "{{.State.Pid}}", "a-app", "a-side").stdout.split()
    lab.end(signal.SIGKILL)
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
    lab.start()
    eventually(lambda: lab.fairlead("exec", "a-side", "true", check=False).returncode == 0)
    assert "10.1.0.2" in lab.fairlead("exec", "a-side", "ip", "addr").stdout
    assert lab.fairlead("inspect", "-f", "{{.RestartCount}}", "a-side").stdout == "1\n", "at the first try"
    lab.fairlead("rm", "-f", "a-side", "a-app")
