"""Control groups of both versions, from files as the kernel writes them."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fairlead.cli.stats import binary_size, cpu_percent, memory_used
from fairlead.containers import spawning
from fairlead.containers.record import Container, Limits
from fairlead.kernel.cgroups import BlockCount, Cgroup, Counters, expect_move, host_cpu
from fairlead.plan.runtime import Place

VERSION_2 = {
    "cgroup.procs": "4711\n4712\n",
    "inner/cgroup.procs": "4720\n",
    "cpu.stat": (
        "usage_usec 1234567\nuser_usec 1000000\nsystem_usec 234567\ncore_sched.force_idle_usec 0\n"
        "nr_periods 20\nnr_throttled 3\nthrottled_usec 4500\nnr_bursts 0\nburst_usec 0\n"
    ),
    "memory.current": "8650752\n",
    "memory.peak": "9000000\n",
    "memory.max": "67108864\n",
    "memory.events": "low 0\nhigh 0\nmax 12\noom 1\noom_kill 1\noom_group_kill 0\n",
    "memory.stat": "anon 4096\nfile 8192\ninactive_file 4096\nfile_mapped 0\nkernel 12288\npgfault 77\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": (
        "254:0 rbytes=1048576 wbytes=4096 rios=20 wios=1 dbytes=0 dios=0\n7:0\n"
        "8:16 rbytes=0 wbytes=512 rios=0 wios=1 dbytes=0 dios=0\n"
    ),
}
VERSION_1 = {
    "pids/x/cgroup.procs": "4711\n",
    "cpuacct/x/cpuacct.usage": "1234567890\n",
    "cpuacct/x/cpuacct.stat": "user 100\nsystem 23\n",
    "cpuacct/x/cpuacct.usage_percpu": "1000000000 234567890 \n",
    "cpu/x/cpu.stat": "nr_periods 7\nnr_throttled 2\nthrottled_time 99\n",
    "memory/x/memory.usage_in_bytes": "8650752\n",
    "memory/x/memory.max_usage_in_bytes": "9000000\n",
    "memory/x/memory.failcnt": "5\n",
    "memory/x/memory.limit_in_bytes": "9223372036854771712\n",
    "memory/x/memory.stat": "cache 4096\nrss 8192\ntotal_inactive_file 4096\n",
    "pids/x/pids.current": "1\n",
    "pids/x/pids.max": "100\n",
    "blkio/x/blkio.bfq.io_service_bytes_recursive": "Total 0\n",
    "blkio/x/blkio.throttle.io_service_bytes_recursive": (
        "8:0 Read 4096\n8:0 Write 0\n8:0 Sync 4096\n8:0 Async 0\n8:0 Discard 0\n8:0 Total 4096\nTotal 4096\n"
    ),
}


def tree(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


@pytest.fixture
def two(tmp_path: Path) -> Cgroup:
    tree(tmp_path, {"cgroup.controllers": "cpu io memory pids\n", **{f"x/{n}": t for n, t in VERSION_2.items()}})
    return Cgroup("/x", tmp_path)


def test_version_2(two: Cgroup) -> None:
    assert two.read() == Counters(
        version=2,
        cpu_total=1_234_567_000,
        cpu_user=1_000_000_000,
        cpu_kernel=234_567_000,
        periods=20,
        throttled_periods=3,
        throttled_time=4_500_000,
        memory=8650752,
        memory_most=9000000,
        memory_failures=12,
        memory_limit=67108864,
        memory_stat={
            "anon": 4096,
            "file": 8192,
            "inactive_file": 4096,
            "file_mapped": 0,
            "kernel": 12288,
            "pgfault": 77,
        },
        pids=3,
        bytes=(
            BlockCount(major=254, minor=0, kind="read", value=1048576),
            BlockCount(major=254, minor=0, kind="write", value=4096),
            BlockCount(major=8, minor=16, kind="read", value=0),
            BlockCount(major=8, minor=16, kind="write", value=512),
        ),
        operations=(
            BlockCount(major=254, minor=0, kind="read", value=20),
            BlockCount(major=254, minor=0, kind="write", value=1),
            BlockCount(major=8, minor=16, kind="read", value=0),
            BlockCount(major=8, minor=16, kind="write", value=1),
        ),
    )
    assert two.processes() == [4711, 4712, 4720]


def test_version_1(tmp_path: Path) -> None:
    one = Cgroup("/x", tree(tmp_path, VERSION_1))
    counters = one.read()
    assert (counters.version, counters.cpu_total, counters.cpu_each) == (1, 1234567890, (1000000000, 234567890))
    assert (counters.cpu_user, counters.cpu_kernel) == (10**9, 230_000_000)
    assert (counters.periods, counters.throttled_periods, counters.throttled_time) == (7, 2, 99)
    assert (counters.memory, counters.memory_most, counters.memory_failures) == (8650752, 9000000, 5)
    assert counters.memory_limit == 0
    assert (counters.pids, counters.pids_limit) == (1, 100)
    assert [count.kind for count in counters.bytes] == ["Read", "Write", "Sync", "Async", "Discard", "Total"]
    assert one.processes() == [4711]


def test_what_is_gone_counts_nothing(tmp_path: Path) -> None:
    assert Cgroup("/x", tmp_path).read() == Counters(version=1)
    (tmp_path / "cgroup.controllers").touch()
    assert Cgroup("/x", tmp_path).read() == Counters(version=2)
    assert Cgroup("/x", tmp_path).processes() == []


@pytest.mark.parametrize(
    ("tree", "own"),
    [
        ("pids/a", "8:pids:/a\n3:cpu,cpuacct:/b\n0::/\n"),
        ("systemd", "9:name=systemd:/\n0::/\n"),
        ("unified/x", "0::/x\n"),
        ("x", "0::/x\n"),
    ],
)
def test_a_move_is_announced_where_we_are(tmp_path: Path, tree: str, own: str) -> None:
    mine = tmp_path / "own"
    mine.write_text(own)
    procs = tmp_path / "root" / tree / "cgroup.procs"
    procs.parent.mkdir(parents=True)
    procs.touch()
    expect_move(tmp_path / "root", mine)
    assert procs.read_text() == str(os.getpid())
    procs.unlink()
    expect_move(tmp_path / "root", mine)
    assert not procs.exists()


@pytest.mark.parametrize(
    ("version", "limits", "told"),
    [
        (1, Limits(), False),  # crun is started in the group
        (1, Limits(memory=1 << 26), True),
        (2, Limits(), False),  # crun has the process born there
        (2, Limits(memory=1 << 26), False),
    ],
)
def test_an_exec_announces_a_move_where_there_will_be_one(
    version: int, limits: Limits, told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    announced: list[bool] = []
    monkeypatch.setattr(spawning, "expect_move", lambda: announced.append(True))
    monkeypatch.setattr(spawning, "Cgroup", lambda path: SimpleNamespace(version=version))
    container = SimpleNamespace(spec=SimpleNamespace(limits=limits))
    spawning.prepare(cast(Place, SimpleNamespace(cgroup="/x")), cast(Container, container))
    assert announced == [True] * told


def test_the_host(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 1 5 100 2 0 3 9 0 0\ncpu0 5 0 2 50 1 0 1 4 0 0\ncpu1 5 1 3 50 1 0 2 5 0 0\nintr 7\n")
    assert host_cpu(stat) == (121 * 10_000_000, 2)


def test_the_command_reckons() -> None:
    cpu = {"cpu_usage": {"total_usage": 150}, "system_cpu_usage": 1400, "online_cpus": 2}
    before = {"cpu_usage": {"total_usage": 100}, "system_cpu_usage": 1000, "online_cpus": 2}
    assert cpu_percent({"cpu_stats": cpu, "precpu_stats": before}) == 25.0
    assert cpu_percent({"cpu_stats": cpu, "precpu_stats": cpu}) == 0.0
    assert memory_used({"memory_stats": {"usage": 100, "stats": {"total_inactive_file": 30, "inactive_file": 9}}}) == 70
    assert memory_used({"memory_stats": {}}) == 0
    assert binary_size(1536 << 10) == "1.5MiB"
