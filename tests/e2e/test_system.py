"""``_ping``, ``version``, ``info``, ``system df`` and ``system prune``, by Docker's own clients."""

from __future__ import annotations

import contextlib
import json
import os

import docker
import pytest
from machine import Machine


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/_ping", "/v1.22/_ping", "/v1.51/_ping"])
def test_ping(shared: Machine, method: str, path: str) -> None:
    words = ["-X", "GET"] if method == "GET" else ["-I"]
    sock = f"{shared.host.run_dir}/fairlead.sock"
    text = shared.host.run("curl", "-si", *words, "--unix-socket", sock, f"http://x{path}").stdout
    head, _, rest = text.partition("\n\n")
    lines = head.splitlines()
    assert lines[0].split()[1] == "200"
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:])}
    assert headers["api-version"] == "1.51"
    assert headers["ostype"] == "linux"
    assert headers["docker-experimental"] == "false"
    assert headers["swarm"] == "inactive"
    assert headers["builder-version"] == "1"
    assert headers["cache-control"] == "no-cache, no-store, must-revalidate"
    assert headers["pragma"] == "no-cache"
    assert headers["server"].startswith("Fairlead/")
    assert rest == ("OK" if method == "GET" else "")


def test_version(shared: Machine) -> None:
    client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock", version="auto")
    with contextlib.closing(client):
        found = client.version()
    assert (found["ApiVersion"], found["MinAPIVersion"], found["Os"]) == ("1.51", "1.22", "linux")
    assert found["KernelVersion"] == os.uname().release
    engine, *parts = found["Components"]
    assert all(isinstance(value, str) for value in engine["Details"].values())
    crun = shared.host.sh("crun --version | head -1").split()[-1]
    assert {part["Name"]: part["Version"] for part in parts}["crun"] == crun
    assert "API version:      1.51 (minimum version 1.22)" in shared.out("version")


def test_info_counts(shared: Machine) -> None:
    shared.docker("run", "-d", "--name", "up", "box", "sleep", "99")
    shared.docker("run", "-d", "--name", "frozen", "box", "sleep", "99")
    shared.docker("pause", "frozen")
    shared.docker("create", "--name", "new", "box")
    info = json.loads(shared.out("info", "--format", "json"))
    assert (info["Containers"], info["ContainersRunning"], info["ContainersPaused"], info["ContainersStopped"]) == (
        3,
        1,
        1,
        1,
    )
    assert info["Images"] == 1
    assert info["NCPU"] == os.cpu_count()
    assert info["CgroupVersion"] in ("1", "2")
    assert info["PidsLimit"]
    assert set(info["Plugins"]["Network"]) >= {"bridge", "host", "null", "macvlan"}
    assert "ServerErrors" not in info
    assert "Server Version" in shared.host.fairlead("system", "info").stdout
    assert shared.host.fairlead("info", "--format", "{{.ContainersRunning}}").stdout == "1\n"
    shared.docker("rm", "-f", "up", "frozen", "new")


def test_df_and_prune(shared: Machine) -> None:
    shared.docker("run", "--name", "big", "box", "sh", "-c", "head -c 3000000 /dev/zero > /file")
    shared.docker("run", "-d", "--name", "alive", "box", "sh", "-c", "head -c 1000000 /dev/zero > /file; sleep 99")
    shared.docker("network", "create", "idle")
    usage = shared.api("GET", "/system/df")
    assert usage["LayersSize"] == shared.inspect("box")["Size"]
    assert [image["Containers"] for image in usage["Images"]] == [2]
    assert {entry["Names"][0]: entry["SizeRw"] // 1_000_000 for entry in usage["Containers"]} == {
        "/big": 3,
        "/alive": 1,
    }
    shared.docker("run", "--rm", "-v", "full:/data", "box", "sh", "-c", "head -c 2000000 /dev/zero > /data/file")
    volumes = shared.api("GET", "/system/df")["Volumes"]
    assert [(one["Name"], one["UsageData"]) for one in volumes] == [("full", {"Size": 2_000_000, "RefCount": 0})]
    assert shared.host.fairlead("system", "df").stdout.splitlines()[3].split() == (
        ["Local", "Volumes", "1", "0", "2MB", "2MB", "(100%)"]
    )
    shared.docker("volume", "rm", "full")
    only = shared.api("GET", "/system/df?type=image")
    assert only["Containers"] is None
    assert only["Images"]
    assert shared.api("GET", "/system/df?type=stone") == {"message": "unknown object type: stone"}
    rows = [line.split() for line in shared.out("system", "df").splitlines()]
    assert rows[1][:3] == ["Images", "1", "1"]
    assert rows[2][:3] == ["Containers", "2", "1"]
    ours = [line.split() for line in shared.host.fairlead("system", "df").stdout.splitlines()]
    assert ours[2] == rows[2]
    assert "no terminal to ask on" in shared.host.fairlead("system", "prune", check=False).stderr
    explained = shared.host.fairlead("system", "prune", "--explain").stdout
    assert "rm -r" in explained
    out = shared.host.fairlead("system", "prune", "-f").stdout
    assert "Deleted Containers:" in out
    assert "Deleted Networks:\nidle\n" in out
    assert "Total reclaimed space: 3" in out
    assert shared.out("ps", "-a", "--format", "{{.Names}}") == "alive"
    shared.docker("kill", "alive")
    assert "Deleted Containers:" in shared.host.fairlead("container", "prune", "-f").stdout
    assert shared.out("system", "prune", "-f").startswith("Total reclaimed space: 0B")
