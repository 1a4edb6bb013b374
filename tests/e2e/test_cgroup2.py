"""Containers on a host with cgroup v2 alone and systemd, as a fresh Debian 12 is: the machine of `make test-vm`.

All in one file, as those run one after the other there: some change what all control groups share.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, ROOT, Host
from machine import Machine, eventually, is_process

TREE = Path("/sys/fs/cgroup")
pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not (TREE / "cgroup.controllers").exists(), reason="needs a host with cgroup v2 alone"),
]

LIMITS = ("-m", "64m", "--memory-swap", "64m", "--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "30")


@pytest.fixture(scope="module")
def shared(layer: Path) -> Iterator[Machine]:
    with Host(internet=False) as host:
        one = Machine(host, layer)
        one.docker("run", "-d", "--name", "one", *LIMITS, "box", "sh", "-c", "while :; do :; done & sleep 9999")
        try:
            yield one
        finally:
            one.docker("rm", "-f", *one.out("ps", "-aq").split(), check=False)
            left = one.leftovers()
            one.host.fairlead("system", "reset", "--force")
            one.daemon.wait(60)
            assert left == ""
            assert not (TREE / "fairlead").exists()


def group(machine: Machine, name: str) -> Path:
    """The control group of a container's first process, as the kernel tells it."""
    pid = machine.inspect(name)["State"]["Pid"]
    line = Path(f"/proc/{pid}/cgroup").read_text().strip()
    assert line.startswith("0::/"), line
    return TREE / line.removeprefix("0::/")


def test_limits_are_the_kernels(shared: Machine) -> None:
    files = group(shared, "one")
    assert files == TREE / "fairlead" / f"fairlead-{shared.inspect('one')['Id']}"
    found = {name: (files / name).read_text().strip() for name in ("memory.max", "cpu.max", "pids.max", "cpu.weight")}
    # crun reckons shares 2…262144 to weight 1…10000 (runtime-spec, config-linux.md).
    assert found == {"memory.max": str(64 << 20), "cpu.max": "50000 100000", "pids.max": "30", "cpu.weight": "20"}
    assert (files / "memory.swap.max").read_text().strip() == "0"
    inside = shared.out("exec", "one", "cat", "/proc/self/cgroup", "/sys/fs/cgroup/memory.max")
    assert inside.splitlines() == ["0::/", str(64 << 20)]


def test_stats_and_top(shared: Machine) -> None:
    sample = shared.api("GET", "/containers/one/stats?stream=0")
    cpu, memory = sample["cpu_stats"], sample["memory_stats"]
    assert cpu["cpu_usage"]["total_usage"] > sample["precpu_stats"]["cpu_usage"]["total_usage"] > 0
    assert cpu["throttling_data"]["throttled_periods"] > 0
    assert (memory["limit"], sample["pids_stats"]["limit"]) == (64 << 20, 30)
    assert 0 < memory["usage"] < 64 << 20
    assert memory["stats"]["anon"] > 0
    assert sample["pids_stats"]["current"] == 2
    assert sum("sleep 9999" in line for line in shared.out("top", "one").splitlines()) >= 1
    assert len(shared.out("top", "one").splitlines()) == 3


def test_update(shared: Machine) -> None:
    files = group(shared, "one")
    words = ("-m", "96m", "--memory-swap", "128m", "--cpus", "0.25", "--pids-limit", "40", "--cpuset-cpus", "0")
    shared.docker("update", *words, "one")
    names = ("memory.max", "memory.swap.max", "cpu.max", "pids.max", "cpuset.cpus")
    found = [(files / name).read_text().strip() for name in names]
    assert found == [str(96 << 20), str(32 << 20), "25000 100000", "40", "0"]
    shared.docker("update", "--pids-limit", "-1", "one")
    assert (files / "pids.max").read_text().strip() == "max"
    refused = shared.docker("update", "--cpuset-cpus", "4000", "one", check=False)
    assert refused.returncode == 1
    assert (files / "cpuset.cpus").read_text().strip() == "0"


def test_pause(shared: Machine) -> None:
    files = group(shared, "one")
    shared.docker("pause", "one")
    try:
        # A process that is busy freezes at its next chance.
        eventually(lambda: "frozen 1" in (files / "cgroup.events").read_text())
        assert shared.inspect("one")["State"]["Status"] == "paused"
    finally:
        shared.docker("unpause", "one")
    eventually(lambda: "frozen 0" in (files / "cgroup.events").read_text())


def test_too_many_processes_and_too_much_memory(shared: Machine) -> None:
    forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 5 & done; echo all"
    done = shared.docker("run", "--rm", "--pids-limit", "5", "box", "sh", "-c", forks, check=False)
    assert "all" not in done.stdout
    assert "fork" in done.stderr
    hungry = ("run", "--name", "hungry", "-m", "16m", "--memory-swap", "16m", "box", "tail", "-c", "60000000")
    shared.docker(*hungry, "/dev/zero", check=False)
    state = shared.inspect("hungry")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)


def test_what_outlives_the_daemon(shared: Machine) -> None:
    pid = shared.inspect("one")["State"]["Pid"]
    files = group(shared, "one")
    shared.kill()
    shared.start()
    assert shared.inspect("one")["State"]["Pid"] == pid
    assert shared.out("exec", "one", "echo", "hi") == "hi"
    assert files.is_dir()
    assert shared.api("GET", "/containers/one/stats?stream=0&one-shot=1")["memory_stats"]["usage"] > 0


def test_limits_stay_when_systemd_withdraws_controllers_of_the_root(shared: Machine) -> None:
    """systemd takes back from the root's children what none of its units needs, at each `daemon-reload`."""
    files = group(shared, "one")
    before = (files / "cpu.max").read_text()
    for controller in ("cpu", "cpuset", "io", "memory", "pids"):
        with contextlib.suppress(OSError):
            (TREE / "cgroup.subtree_control").write_text(f"-{controller}")
    assert (files / "cpu.max").read_text() == before


def test_stop_and_kill_leave_no_group(shared: Machine) -> None:
    for name, words in (("two", ("stop", "-t", "0")), ("three", ("kill",))):
        shared.docker("run", "-d", "--name", name, "box", "sh", "-c", "sleep 9999 & sleep 9998")
        files = group(shared, name)
        pids = [int(pid) for pid in (files / "cgroup.procs").read_text().split()]
        assert len(pids) == 2
        shared.docker(*words, name)
        assert shared.inspect(name)["State"]["ExitCode"] == 137
        eventually(lambda files=files: not files.exists())
        assert not any(is_process(pid) for pid in pids)


def test_a_monitor_that_was_killed_leaves_no_group(shared: Machine) -> None:
    shared.docker("run", "-d", "--name", "four", "box", "sleep", "9999")
    files = group(shared, "four")
    pid = shared.inspect("four")["State"]["Pid"]
    os.kill(int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]), signal.SIGKILL)
    eventually(lambda: shared.inspect("four")["State"]["Status"] == "exited")
    eventually(lambda: not files.exists())


# The unit files, by a real systemd

UNITS = Path("/run/systemd/system")
STATE = Path("/tmp/systemd-state")
ENVIRONMENT = {**os.environ, "DOCKER_HOST": "unix:///run/fairlead/fairlead.sock", "FAIRLEAD_STATE": str(STATE)}

# Where the program is, and nothing of what a machine that boots does besides.
ALONE = "[Unit]\nDefaultDependencies=no\n"
SERVICE = f"""{ALONE}[Service]
ExecStart=
ExecStart={FAIRLEAD} daemon
Environment=FAIRLEAD_STATE={STATE} PYTHONPATH={ROOT}/src PATH={os.environ["PATH"]}
"""


def run(*words: str) -> str:
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def installed(layer: Path) -> Iterator[None]:
    for name, text in (("fairlead.service", SERVICE), ("fairlead.socket", ALONE)):
        shutil.copy(ROOT / "systemd" / name, UNITS)
        (UNITS / f"{name}.d").mkdir()
        (UNITS / f"{name}.d/test.conf").write_text(text)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", "fairlead.socket")
    run("docker", "import", "--change", "ENV PATH=/bin", str(layer), "box")
    yield
    run(FAIRLEAD, "system", "reset", "--force")
    run("systemctl", "stop", "fairlead.socket", "fairlead.service")


def main_pid() -> int:
    return int(run("systemctl", "show", "--property=MainPID", "--value", "fairlead.service"))


def state() -> dict[str, object]:
    found = json.loads(run("docker", "inspect", "one"))[0]["State"]
    assert isinstance(found, dict)
    return found


@pytest.mark.skipif(not Path("/run/vm").exists(), reason="installs units, so only in the machine of make test-vm")
def test_containers_outlive_what_systemd_does_to_the_daemon(installed: None) -> None:
    run("docker", "run", "-d", "--name", "one", "--cpus", "0.5", "-p", "8081:80", "box", "sleep", "9999")
    pid = int(str(state()["Pid"]))
    group = TREE / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")
    assert group.parent == Path("/sys/fs/cgroup/fairlead")
    monitor = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert Path(f"/proc/{monitor}/cgroup").read_text() == "0::/system.slice/fairlead.service\n"

    daemons = {main_pid()}
    for words in (["restart"], ["kill", "--kill-whom=main", "--signal=KILL"], ["stop"]):
        run("systemctl", *words, "fairlead.service")
        if words[0] == "kill":
            eventually(lambda: main_pid() not in {0, *daemons}, 30)
        # Stopped, it is started again by its socket.
        assert run("docker", "exec", "one", "echo", "hi") == "hi"
        assert state() | {"Pid": pid, "Running": True} == state()
        daemons.add(main_pid())
        run("systemctl", "daemon-reload")
        assert (group / "cpu.max").read_text() == "50000 100000\n"
    assert len(daemons) == 4

    run("docker", "rm", "-f", "one")
    assert not is_process(pid)
    assert not group.exists()
    run(FAIRLEAD, "system", "reset", "--force")


def test_the_doctors_advice_is_one_line_to_type(shared: Machine) -> None:
    def found() -> dict[str, Any]:
        findings = json.loads(shared.host.fairlead("doctor", "--format", "json", check=False, timeout=100).stdout)
        return next(one for one in findings if one["Check"] == "cgroups")

    def options() -> set[str]:
        return set(shared.host.sh("grep ' cgroup2 ' /proc/self/mounts | head -n 1").split()[3].split(","))

    before = options()
    (line,) = found()["Remedy"]
    assert "favordynmods" not in before, "the doctor itself changes nothing"
    try:
        shared.host.sh(line)
        assert options() == {*before, "favordynmods"}
        assert (found()["Result"], found()["Remedy"]) == ("ok", [])
    finally:
        # With a source as well, mount(8) keeps none of the options that there are.
        shared.host.sh(f"mount -o remount,{','.join(sorted(before))} cgroup2 {TREE}")
    assert options() == before
