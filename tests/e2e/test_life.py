"""What changes containers that exist, and what is read from them: update, wait, logs, attach, list, prune."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import docker
import pytest
from machine import Machine, eventually


@pytest.fixture
def sleeper(shared: Machine) -> Iterator[str]:
    shared.docker("run", "-d", "--name", "sleeper", "-m", "64m", "box", "sleep", "999")
    yield "sleeper"
    shared.docker("rm", "-f", "sleeper", check=False)


def cgroup(machine: Machine, name: str, controller: str, file: str) -> str:
    id_ = machine.inspect(name)["Id"]
    return Path(f"/sys/fs/cgroup/{controller}/fairlead-{id_}/{file}").read_text().strip()


# Update


def test_update_reaches_the_kernel_and_the_record(shared: Machine, sleeper: str) -> None:
    words = ("-m", "128m", "--memory-swap", "200m", "--cpu-shares", "512", "--cpuset-cpus", "0", "--pids-limit", "77")
    shared.docker("update", *words, "--cpu-quota", "50000", "--restart", "on-failure:3", sleeper)
    assert cgroup(shared, sleeper, "memory", "memory.limit_in_bytes") == str(128 << 20)
    assert cgroup(shared, sleeper, "memory", "memory.memsw.limit_in_bytes") == str(200 << 20)
    assert cgroup(shared, sleeper, "cpu", "cpu.shares") == "512"
    assert cgroup(shared, sleeper, "cpu", "cpu.cfs_quota_us") == "50000"
    assert cgroup(shared, sleeper, "cpuset", "cpuset.cpus") == "0"
    assert cgroup(shared, sleeper, "pids", "pids.max") == "77"
    found = shared.inspect(sleeper)["HostConfig"]
    assert (found["Memory"], found["MemorySwap"], found["CpuShares"], found["PidsLimit"]) == (
        128 << 20,
        200 << 20,
        512,
        77,
    )
    assert found["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    shared.docker("update", "--pids-limit", "-1", sleeper)
    assert cgroup(shared, sleeper, "pids", "pids.max") == "max"
    shared.docker("restart", "-t", "0", sleeper)
    assert cgroup(shared, sleeper, "memory", "memory.limit_in_bytes") == str(128 << 20)
    assert shared.host.fairlead("update", "-m", "96m", sleeper).stdout == "sleeper\n"
    assert cgroup(shared, sleeper, "memory", "memory.limit_in_bytes") == str(96 << 20)


@pytest.mark.skipif(not Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists(), reason="no real-time groups here")
def test_real_time_limits(shared: Machine) -> None:
    shared.docker(
        "run", "-d", "--name", "prompt", "--cpu-rt-period", "500000", "--cpu-rt-runtime", "1000", "box", "sleep", "99"
    )
    assert cgroup(shared, "prompt", "cpu", "cpu.rt_period_us") == "500000"
    assert cgroup(shared, "prompt", "cpu", "cpu.rt_runtime_us") == "1000"
    found = shared.inspect("prompt")["HostConfig"]
    assert (found["CpuRealtimePeriod"], found["CpuRealtimeRuntime"]) == (500000, 1000)
    shared.docker("update", "--cpu-rt-runtime", "2000", "prompt")
    assert cgroup(shared, "prompt", "cpu", "cpu.rt_runtime_us") == "2000"
    shared.docker("rm", "-f", "prompt")
    words = ("--cpu-rt-period", "1000", "--cpu-rt-runtime", "2000")
    refused = shared.docker("run", "--rm", *words, "box", "true", check=False)
    assert "cpu real-time runtime cannot be higher than cpu real-time period" in refused.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (["-m", "1g"], "Memory limit should be smaller than already set memoryswap limit"),
        (["--cpuset-cpus", "4000"], "not available"),
        (["--cpu-period", "1"], "CPU cfs period"),
        (["--restart", "sometimes"], "invalid restart policy"),
    ],
)
def test_a_wrong_update_changes_nothing(shared: Machine, sleeper: str, words: list[str], message: str) -> None:
    before = shared.inspect(sleeper)["HostConfig"]
    done = shared.docker("update", *words, sleeper, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert shared.inspect(sleeper)["HostConfig"] == before


def test_ulimits_and_limits_at_the_start(shared: Machine) -> None:
    words = ("--ulimit", "nofile=100:200", "--cpu-period", "50000", "--cpu-quota", "25000", "-m", "64m")
    words += ("--memory-reservation", "32m", "--cpuset-mems", "0")
    out = shared.out("run", "--name", "limited", *words, "box", "sh", "-c", "ulimit -n; ulimit -Hn")
    assert out.split() == ["100", "200"]
    found = shared.inspect("limited")["HostConfig"]
    assert found["Ulimits"] == [{"Name": "nofile", "Hard": 200, "Soft": 100}]
    assert (found["CpuPeriod"], found["CpuQuota"], found["MemoryReservation"]) == (50000, 25000, 32 << 20)
    shared.docker("rm", "limited")
    out = shared.host.fairlead("run", "--rm", "--ulimit", "nofile=99", "box", "sh", "-c", "ulimit -n").stdout
    assert out == "99\n"


def test_the_stop_signal_by_hand_keeps_the_policy_from_starting_again(shared: Machine) -> None:
    script = "trap 'exit 0' TERM; while :; do sleep 0.05; done"
    shared.docker("run", "-d", "--name", "always", "--restart", "always", "box", "sh", "-c", script)
    time.sleep(0.3)
    shared.docker("kill", "-s", "TERM", "always")
    eventually(lambda: shared.inspect("always")["State"]["Status"] == "exited")
    time.sleep(0.5)
    assert shared.inspect("always")["RestartCount"] == 0
    shared.docker("rm", "always")


def test_rename_pause_unpause(shared: Machine, sleeper: str) -> None:
    shared.host.fairlead("rename", sleeper, "dreamer")
    assert shared.host.fairlead("pause", "dreamer").stdout == "dreamer\n"
    assert shared.out("ps", "--filter", "status=paused", "--format", "{{.Names}}") == "dreamer"
    shared.host.fairlead("unpause", "dreamer")
    shared.docker("rename", "dreamer", sleeper)
    assert "already in use" in shared.docker("create", "--name", sleeper, "box", check=False).stderr


# Kill, wait, remove, prune


def test_kill_what_does_not_run(shared: Machine) -> None:
    shared.docker("create", "--name", "resting", "box")
    client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock")
    with contextlib.closing(client), pytest.raises(docker.errors.APIError) as caught:
        client.containers.get("resting").kill()
    assert caught.value.status_code == 409
    assert "is not running" in str(caught.value)
    shared.docker("rm", "resting")


@pytest.mark.parametrize("condition", ["not-running", "next-exit", "removed"])
def test_wait_sends_its_headers_at_once(shared: Machine, condition: str) -> None:
    name = f"awaited-{condition}"
    shared.docker("run", "-d", "--name", name, "box", "sh", "-c", "sleep 2; exit 5")
    path = f"{shared.host.run_dir}/fairlead.sock"
    url = f"http://x/containers/{name}/wait?condition={condition}"
    curl = shared.host.popen(
        "curl", "-sN", "-D", "/dev/stderr", "--unix-socket", path, "-X", "POST", url, stdout=-1, stderr=-1
    )
    started = time.monotonic()
    assert curl.stderr is not None
    assert " 200 " in curl.stderr.readline()
    assert time.monotonic() - started < 1.8
    eventually(lambda: shared.inspect(name)["State"]["Status"] == "exited")
    if condition == "removed":
        time.sleep(0.3)
        assert curl.poll() is None
    else:
        eventually(lambda: curl.poll() is not None)
    shared.docker("rm", name)
    out, _ = curl.communicate(timeout=5)
    assert json.loads(out) == {"StatusCode": 5}


def test_prune(shared: Machine) -> None:
    shared.docker("create", "--name", "kept", "--label", "keep", "box")
    shared.docker("create", "--name", "gone", "--label", "go=1", "box")
    assert shared.out("container", "prune", "-f", "--filter", "until=1h", "--filter", "label=go") == (
        "Total reclaimed space: 0B"
    )
    assert "Deleted Containers" in shared.out("container", "prune", "-f", "--filter", "label!=keep")
    assert shared.out("ps", "-a", "--format", "{{.Names}}") == "kept"
    assert shared.api("POST", "/containers/prune?filters=%7B%22label%22%3A%5B%22none%22%5D%7D") == {
        "ContainersDeleted": None,
        "SpaceReclaimed": 0,
    }
    shared.docker("rm", "kept")


# List


def test_filters(shared: Machine) -> None:
    shared.docker("network", "create", "filtering")
    shared.docker("create", "--name", "alpha", "--label", "a=1", "--expose", "8080", "box")
    shared.docker(
        "run", "-d", "--name", "beta", "--label", "a=2", "--network", "filtering", "-p", "8099:80", "box", "sleep", "99"
    )
    done = shared.docker("run", "--name", "gamma", "-v", "/tmp:/inside", "box", "sh", "-c", "exit 3", check=False)
    assert done.returncode == 3, done.stderr

    def names(*filters: str, all: bool = True) -> str:
        words = [word for text in filters for word in ("--filter", text)]
        return " ".join(sorted(shared.out("ps", *(["-a"] if all else []), *words, "--format", "{{.Names}}").split()))

    id_ = shared.inspect("beta")["Id"]
    network = shared.out("network", "inspect", "-f", "{{.Id}}", "filtering")
    assert names("name=^/alpha$") == names("name=^alpha$") == names("name=alp") == "alpha"
    assert names("name=alpha", "name=beta") == "alpha beta"
    assert names(f"id={id_[:8]}") == "beta"
    assert names("label=a") == "alpha beta"
    assert names("label=a", "label=a=2") == names("label=a=2") == "beta"
    assert names("status=created") == names("status=created", all=False) == "alpha"
    assert names("status=created", "status=exited") == "alpha gamma"
    assert names("exited=3") == "gamma"
    assert names("exited=3", all=False) == ""
    assert names("exited=0") == ""
    assert names("ancestor=box", all=False) == "beta"
    assert names("ancestor=nothing") == ""
    assert names("before=gamma") == "alpha beta"
    assert names("since=alpha", "label=a") == "beta"
    assert names("network=filtering") == names(f"network={network}") == "beta"
    assert names("publish=8099") == names("publish=8000-8100/tcp") == "beta"
    assert names("publish=8099/udp") == ""
    assert names("expose=8080/tcp") == "alpha"
    assert names("volume=/inside") == names("volume=/tmp") == "gamma"
    assert names("health=none", "name=beta") == "beta"
    assert names("health=healthy") == ""
    assert names("is-task=false") == "alpha beta gamma"
    assert names("is-task=true") == ""
    assert shared.out("ps", "-n", "2", "--format", "{{.Names}}").split() == ["gamma", "beta"]
    for wrong in ("status=flying", "exited=x", "health=fine", "colour=red", "name=(a+)+$", "name=["):
        assert "invalid filter" in shared.docker("ps", "--filter", wrong, check=False).stderr
    assert "No such container" in shared.docker("ps", "--filter", "before=nobody", check=False).stderr
    shared.docker("rm", "-f", "alpha", "beta", "gamma")
    shared.docker("network", "rm", "filtering")


def test_sizes(shared: Machine) -> None:
    shared.docker("run", "--name", "sized", "box", "sh", "-c", "head -c 1000000 /dev/zero > /file")
    entry = shared.api("GET", "/containers/json?all=1&size=1")[0]
    assert entry["SizeRw"] == 1_000_000
    assert entry["SizeRootFs"] == entry["SizeRw"] + shared.inspect("box")["Size"]
    assert "SizeRw" not in shared.api("GET", "/containers/json?all=1")[0]
    found = shared.api("GET", "/containers/sized/json?size=1")
    assert (found["SizeRw"], found["SizeRootFs"]) == (entry["SizeRw"], entry["SizeRootFs"])
    shared.docker("run", "--name", "calm", "box", "true")
    assert "SizeRw" not in shared.api("GET", "/containers/json?all=1&size=1")[0]
    shared.docker("rm", "sized", "calm")


# Logs


def test_the_log_is_rotated_and_no_line_is_lost_or_twice(shared: Machine) -> None:
    """The files hold the last lines, in order and without a gap; a reader that follows misses none at all."""
    words = ("--log-opt", "max-size=100k", "--log-opt", "max-file=3")
    script = "i=0; while [ $i -lt 30000 ]; do echo line $i; i=$((i+1)); [ $((i%3000)) -eq 0 ] && sleep 0.6; done"
    shared.docker("create", "--name", "talker", *words, "box", "sh", "-c", script)
    follower = shared.host.popen("docker", "start", "talker", stdout=-1)
    follower.communicate()
    reader = shared.host.popen("docker", "logs", "-f", "talker", stdout=-1)
    out, _ = reader.communicate(timeout=60)
    numbers = [int(line.split()[1]) for line in out.splitlines()]
    assert numbers == list(range(30000))
    state = shared.host.state / "containers" / shared.inspect("talker")["Id"]
    files = sorted(path.name for path in state.glob("container.log*"))
    assert files == ["container.log", "container.log.1", "container.log.2"]
    assert all(path.stat().st_size < 400_000 for path in state.glob("container.log*"))
    kept = [int(line.split()[1]) for line in shared.out("logs", "talker").splitlines()]
    assert kept == list(range(kept[0], 30000))
    assert kept[0] > 0
    count = len(kept) - 10
    assert shared.out("logs", "-n", str(count), "talker").splitlines()[0] == f"line {kept[10]}"
    assert shared.out("logs", "--tail", "2", "talker") == "line 29998\nline 29999"
    shared.docker("rm", "talker")


def test_no_log_at_all(shared: Machine) -> None:
    assert shared.out("run", "--name", "mute", "--log-driver", "none", "box", "echo", "said") == "said"
    done = shared.docker("logs", "mute", check=False)
    assert "configured logging driver does not support reading" in done.stderr
    assert not list((shared.host.state / "containers" / shared.inspect("mute")["Id"]).glob("container.log*"))
    shared.docker("rm", "mute")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--log-driver", "syslog"], "looking up logging plugin syslog"),
        (["--log-opt", "colour=red"], "unknown log opt 'colour' for json-file log driver"),
        (["--log-opt", "max-size=tiny"], "invalid log option max-size 'tiny'"),
        (["--log-opt", "max-file=0"], "max-file cannot be less than 1"),
    ],
)
def test_wrong_log_options(shared: Machine, words: list[str], message: str) -> None:
    done = shared.docker("create", *words, "box", check=False)
    assert done.returncode == 1
    assert message in done.stderr


def test_details_of_logs(shared: Machine) -> None:
    options = ("--label", "ab=1", "--label", "b=2", "-e", "AC=x y", "--log-opt", "labels-regex=^a")
    tag = "{{.Name}}/{{ .ImageName }}"
    words = (*options, "--log-opt", "env-regex=^A", "--log-opt", f"tag={tag}", "--log-opt", "mode=non-blocking")
    shared.docker("run", "--name", "detailed", *words, "box", "echo", "hi")
    assert shared.out("logs", "--details", "detailed") == "AC=x+y,ab=1,tag=detailed%2Fbox hi"


def test_logs_in_all_forms(shared: Machine) -> None:
    options = ("--log-opt", "labels=a", "--log-opt", "env=B", "--label", "a=1", "-e", "B=2")
    shared.docker("run", "--name", "forms", *options, "box", "sh", "-c", "echo one; sleep 1.1; echo two >&2")
    assert shared.docker("logs", "forms").stdout == "one\n"
    assert shared.docker("logs", "forms").stderr == "two\n"
    assert shared.docker("logs", "--details", "forms").stdout == "B=2,a=1 one\n"
    stamp, _, text = shared.docker("logs", "-t", "forms").stdout.partition(" ")
    assert text == "one\n"
    assert stamp.endswith("Z")
    assert shared.docker("logs", "--since", stamp, "forms").stdout == "one\n"
    later = shared.docker("logs", "-t", "forms").stderr.split()[0]
    assert shared.docker("logs", "--since", later, "forms").stdout == ""
    assert shared.docker("logs", "--until", stamp, "forms").stderr == ""
    assert shared.docker("logs", "-n", "1", "forms").stdout == ""
    assert shared.docker("logs", "-n", "0", "forms").stderr == ""
    raw = shared.host.run(
        "curl",
        "-s",
        "--unix-socket",
        f"{shared.host.run_dir}/fairlead.sock",
        "http://x/v1.41/containers/forms/logs?stdout=1&stderr=1",
        "-D",
        "/dev/stderr",
    )
    assert "application/vnd.docker.raw-stream" in raw.stderr
    assert raw.stdout == "\x01\0\0\0\0\0\0\x04one\n\x02\0\0\0\0\0\0\x04two\n"
    assert "choose at least one stream" in shared.api("GET", "/containers/forms/logs")["message"]
    shared.docker("rm", "forms")


# Attach by websocket


def test_attach_by_websocket(shared: Machine) -> None:
    shared.docker("run", "-d", "-i", "--name", "echoing", "box", "sh", "-c", "echo hello; cat; echo bye >&2")
    time.sleep(0.3)

    async def talk() -> list[bytes]:
        connector = aiohttp.UnixConnector(f"{shared.host.run_dir}/fairlead.sock")
        said: list[bytes] = []
        async with aiohttp.ClientSession(connector=connector) as session:
            query = "logs=1&stream=1&stdin=1&stdout=1&stderr=1"
            async with session.ws_connect(f"http://x/containers/echoing/attach/ws?{query}") as socket:
                assert (await socket.receive()).data == b"hello\n"
                await socket.send_bytes(b"one\n")
                assert (await socket.receive()).data == b"one\n"
                await socket.send_str("zwei\n")
                said.append((await socket.receive()).data)
            async with session.get("http://x/containers/echoing/attach/ws?stream=1&stdout=1") as answer:
                assert answer.status == 400
        return said

    assert asyncio.run(talk()) == [b"zwei\n"]
    assert shared.inspect("echoing")["State"]["Running"]
    shared.docker("rm", "-f", "echoing")


def test_inspect_has_every_field_of_docker(shared: Machine, sleeper: str) -> None:
    found = shared.inspect(sleeper)
    for part, names in FIELDS.items():
        document: Any = found[part] if part else found
        assert not set(names.split()) - set(document), part


FIELDS = {
    "": """Id Created Path Args State Image ResolvConfPath HostnamePath HostsPath LogPath Name RestartCount Driver
        Platform
        MountLabel ProcessLabel AppArmorProfile ExecIDs HostConfig GraphDriver Mounts Config NetworkSettings""",
    "State": "Status Running Paused Restarting OOMKilled Dead Pid ExitCode Error StartedAt FinishedAt",
    "HostConfig": """Binds ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver
        VolumesFrom ConsoleSize CapAdd CapDrop CgroupnsMode Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup
        Links OomScoreAdj PidMode Privileged PublishAllPorts ReadonlyRootfs SecurityOpt UTSMode UsernsMode ShmSize
        Runtime
        Isolation CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps
        BlkioDeviceWriteBps BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod
        CpuRealtimeRuntime CpusetCpus CpusetMems Devices DeviceCgroupRules DeviceRequests MemoryReservation MemorySwap
        MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount CpuPercent IOMaximumIOps IOMaximumBandwidth
        MaskedPaths ReadonlyPaths""",
    "Config": """Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image
        Volumes WorkingDir Entrypoint OnBuild Labels""",
    "NetworkSettings": """Bridge SandboxID SandboxKey Ports HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen
        SecondaryIPAddresses SecondaryIPv6Addresses EndpointID Gateway GlobalIPv6Address GlobalIPv6PrefixLen IPAddress
        IPPrefixLen IPv6Gateway MacAddress Networks""",
}
"""What Docker 28 shows of a running container (api/types/container in moby)."""


def test_a_wait_that_nobody_awaits_any_more_is_forgotten(shared: Machine, sleeper: str) -> None:
    path = f"{shared.host.run_dir}/fairlead.sock"
    before = shared.api("GET", "/info")["NFd"]
    for _ in range(20):
        words = ("curl", "-s", "-m", "0.1", "--unix-socket", path, "-X", "POST", f"http://x/containers/{sleeper}/wait")
        subprocess.run(shared.host.enter(*words), check=False)
    eventually(lambda: shared.api("GET", "/info")["NFd"] <= before + 2)


# The daemon's own end and new start


def test_policies_and_memory_limits_outlive_the_daemon(shared: Machine) -> None:
    """What ends while no daemon is there is started again by the next, as its policy says; the others never notice."""
    before = time.time()
    script = "sleep 0.7; exit 3"
    shared.docker("run", "-d", "--name", "steady", "--restart", "always", "box", "sleep", "999")
    shared.docker("run", "-d", "--name", "failing", "--restart", "on-failure:2", "box", "sh", "-c", script)
    shared.docker("run", "-d", "--name", "once", "box", "sh", "-c", script)
    pid = shared.inspect("steady")["State"]["Pid"]
    shared.kill()
    time.sleep(1)
    shared.start()
    assert shared.inspect("steady")["State"]["Pid"] == pid
    assert shared.inspect("once")["State"]["Status"] == "exited"
    assert shared.inspect("once")["State"]["ExitCode"] == 3
    eventually(lambda: shared.inspect("failing")["State"]["Status"] == "exited", 20)
    assert shared.inspect("failing")["RestartCount"] == 2
    until = f"{time.time():.6f}"
    words = ("--filter", "container=failing", "--format", "{{.Action}}")
    said = shared.out("events", "--since", f"{before:.6f}", "--until", until, *words).split()
    assert said == ["create", *["start", "die"] * 3]
    shared.docker("rm", "-f", "steady", "failing", "once")


def test_out_of_memory(shared: Machine) -> None:
    before = time.time()
    script = "x=$(head -c 100000000 /dev/zero | tr '\\0' a); echo ${#x}"
    shared.docker(
        "run", "-m", "12m", "--memory-swap", "12m", "--name", "hungry", "box", "sh", "-c", script, check=False
    )
    state = shared.inspect("hungry")["State"]
    assert (state["OOMKilled"], state["ExitCode"]) == (True, 137)
    until = f"{time.time():.6f}"
    words = ("--filter", "event=oom", "--filter", "event=die", "--format", "{{.Action}}")
    said = shared.out("events", "--since", f"{before:.6f}", "--until", until, *words).split()
    assert said == ["oom", "die"]
    shared.docker("rm", "hungry")
