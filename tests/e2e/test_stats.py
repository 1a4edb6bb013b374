"""What containers use and what runs in them, by Docker's own clients."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from lab import Host
from machine import Machine, eventually

BUSY = "dd if=/dev/zero of=/dev/null bs=1M & head -c 20000000 /dev/zero > /dev/shm/x; sleep 99; true"


@pytest.fixture(scope="module")
def shared(layer: Path) -> Iterator[Machine]:
    with Host() as host:
        one = Machine(host, layer)
        one.docker("run", "-d", "--name", "busy", "-m", "100m", "--pids-limit", "50", "box", "sh", "-c", BUSY)
        one.docker("create", "--name", "still", "box")
        time.sleep(1)
        try:
            yield one
        finally:
            one.docker("rm", "-f", *one.out("ps", "-aq").split(), check=False)
            one.stop()


def test_one_sample(shared: Machine) -> None:
    started = time.monotonic()
    sample = shared.api("GET", "/v1.41/containers/busy/stats?stream=0&one-shot=1")
    assert time.monotonic() - started < 0.9
    cpu, memory = sample["cpu_stats"], sample["memory_stats"]
    assert cpu["cpu_usage"]["total_usage"] > 10**8
    assert cpu["cpu_usage"]["usage_in_kernelmode"] + cpu["cpu_usage"]["usage_in_usermode"] > 10**8
    assert cpu["system_cpu_usage"] > cpu["cpu_usage"]["total_usage"]
    assert cpu["online_cpus"] >= 1
    assert sample["precpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert 20_000_000 < memory["usage"] <= memory["limit"] == 100 << 20
    assert sample["pids_stats"] == {"current": 3, "limit": 50}
    assert sample["networks"]["eth0"].keys() >= {"rx_bytes", "tx_bytes", "rx_packets", "tx_dropped", "rx_errors"}
    assert (sample["name"], sample["id"]) == ("/busy", shared.inspect("busy")["Id"])


def test_two_samples_tell_the_load(shared: Machine) -> None:
    sample = shared.api("GET", "/containers/busy/stats?stream=0")
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    assert used / (now["system_cpu_usage"] - before["system_cpu_usage"]) * now["online_cpus"] > 0.2
    assert before["system_cpu_usage"] < now["system_cpu_usage"]
    assert "0001" < sample["preread"] < sample["read"]


def test_the_network_is_counted(shared: Machine) -> None:
    before = shared.api("GET", "/containers/busy/stats?stream=0&one-shot=1")["networks"]["eth0"]
    shared.docker("exec", "busy", "ping", "-c", "3", "-i", "0.1", "8.8.8.8")
    after = shared.api("GET", "/containers/busy/stats?stream=0&one-shot=1")["networks"]["eth0"]
    assert after["tx_packets"] - before["tx_packets"] >= 3
    assert after["rx_bytes"] - before["rx_bytes"] >= 3 * 84


def test_the_runtime_of_an_exec_is_no_process(shared: Machine) -> None:
    """With cgroup v1 crun is in the group of a container without limits as long as the exec runs."""
    shared.docker("run", "-d", "--name", "free", "box", "sleep", "99")
    shared.docker("exec", "-d", "free", "sleep", "98")
    eventually(lambda: "sleep 98" in shared.out("top", "free"))
    assert len(shared.api("GET", "/containers/free/top")["Processes"]) == 2
    assert shared.api("GET", "/containers/free/stats?stream=0&one-shot=1")["pids_stats"]["current"] == 2
    shared.docker("rm", "-f", "free")


def test_what_does_not_run_uses_nothing(shared: Machine) -> None:
    sample = shared.api("GET", "/containers/still/stats?stream=0")
    assert sample["read"] == "0001-01-01T00:00:00Z"
    assert sample["cpu_stats"]["cpu_usage"]["total_usage"] == 0
    assert "No such container" in shared.api("GET", "/containers/none/stats")["message"]


def test_docker_shows_it(shared: Machine) -> None:
    line = json.loads(shared.out("stats", "--no-stream", "--format", "json", "busy"))
    assert line["Name"] == "busy"
    assert float(line["CPUPerc"].rstrip("%")) > 20
    assert line["MemUsage"].endswith("/ 100MiB")
    assert line["PIDs"] == "3"


def test_a_stream_ends_with_its_container(shared: Machine) -> None:
    client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock")
    with contextlib.closing(client):
        short = client.containers.run("box", ["sleep", "99"], detach=True)
        stream = short.stats(decode=True)
        first, second = next(stream), next(stream)
        assert first["precpu_stats"]["cpu_usage"]["total_usage"] == 0
        assert second["precpu_stats"] == first["cpu_stats"]
        short.remove(force=True)
        assert len(list(stream)) <= 2


def test_top(shared: Machine) -> None:
    titles, *rows = (line.split() for line in shared.out("top", "busy").splitlines())
    assert titles[:3] == ["UID", "PID", "PPID"]
    assert len(rows) == 3
    out = shared.out("top", "busy", "-eo", "pid,args")
    assert "dd if=/dev/zero" in out
    assert "fairlead" not in out
    found = shared.api("GET", "/containers/busy/top?ps_args=aux")
    assert found["Titles"][-1] == "COMMAND"
    assert len(found["Processes"]) == 3
    assert "is not running" in shared.docker("top", "still", check=False).stderr
    assert "PID field" in shared.docker("top", "busy", "-eo", "args", check=False).stderr
    assert "invalid ps_args" in shared.api("GET", "/containers/busy/top?ps_args=%22")["message"]


@pytest.mark.parametrize("limit", [(), ("-m", "64m"), ("--pids-limit", "20"), ("--cpus", "0.5")])
@pytest.mark.parametrize("terminal", [(), ("-t",)])
def test_an_exec_is_in_the_control_groups_of_its_container(
    shared: Machine, limit: tuple[str, ...], terminal: tuple[str, ...]
) -> None:
    shared.docker("run", "-d", "--name", "grouped", *limit, "box", "sleep", "98")
    try:
        shared.docker("exec", "-d", *terminal, "grouped", "sleep", "97")
        eventually(lambda: "sleep 97" in shared.out("top", "grouped"))
        rows = shared.out("top", "grouped", "-eo", "pid,args").splitlines()[1:]
        assert sorted(row.split(maxsplit=1)[1] for row in rows) == ["sleep 97", "sleep 98"]
        first, second = (Path(f"/proc/{row.split()[0]}/cgroup").read_text() for row in rows)
        assert first == second
        assert shared.inspect("grouped")["Id"] in first
    finally:
        shared.docker("rm", "-f", "grouped")


def test_the_commands(shared: Machine) -> None:
    def samples() -> Any:
        return json.loads(shared.host.fairlead("stats", "--no-stream", "--format", "json").stdout)

    eventually(lambda: [sample["name"] for sample in samples()] == ["/busy"])
    lines = shared.host.fairlead("stats", "--no-stream").stdout.splitlines()
    assert lines[0].split()[:3] == ["CONTAINER", "ID", "NAME"]
    assert "100MiB" in lines[1]
    assert shared.host.fairlead("stats", "--no-stream", "--format", "{{.PIDs}}", "busy").stdout == "3\n"
    assert "dd if=/dev/zero" in shared.host.fairlead("top", "busy", "-eo", "pid,args").stdout


def test_what_was_started_is_the_program_itself(shared: Machine) -> None:
    """The runtime's own process becomes the program only in the end; nobody is to see it before."""
    for _ in range(10):
        client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock")
        with contextlib.closing(client):
            container = client.containers.run("box", "sleep 60", detach=True)
            assert "sleep 60" in container.top()["Processes"][0]
            container.remove(force=True)
