"""`make demo` runs to its end on a throwaway host, and after `make demo-clean` the host is as it was before."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab import FAIRLEAD, Host

MAKE = ("make", "--no-print-directory", "-C", str(Path(__file__).parents[2]))


def look(host: Host) -> dict[str, str]:
    """What `make demo-clean` must put back: everything of the host that a demo could change."""
    return {
        "links": host.sh("ip -oneline link | sed 's/ state .*//'"),
        "addresses": host.sh("ip -oneline address"),
        "routes": host.sh("ip route show table all; ip -6 route show table all; ip rule"),
        "rules": re.sub(r"packets \d+ bytes \d+", "", host.sh("nft list ruleset")),
        "namespaces": host.sh("ls /run/netns"),
        "mounts": host.sh("cut -d' ' -f5- /proc/self/mountinfo"),
        "sysctls": host.sh("sysctl -a 2>/dev/null | grep ^net\\. | grep -v -e _count -e nf_conntrack_ -e '_bucket'"),
        "files": "\n".join(str(p) for top in (host.state, host.run_dir) for p in (top, *top.rglob("*")) if p.exists()),
    }


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)


def processes(host: Host) -> set[str]:
    """The programs of this host: those whose environment or command line names its directory."""
    mark = str(host.directory).encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            if mark in words or mark in (entry / "environ").read_bytes():
                found.add(words.replace(b"\0", b" ").decode())
        except OSError:
            pass
    return found


def cgroups(*ids: str) -> list[str]:
    """Where these containers' cgroups are, in any hierarchy."""
    return [directory for id_ in ids for directory in glob.glob(f"/sys/fs/cgroup/**/*{id_}*", recursive=True)]


@pytest.mark.timeout(300)
def test_demo_leaves_no_trace() -> None:
    with Host() as host:
        # A new host's link-local addresses change for a second (duplicate address detection), whoever does nothing.
        wait_until(lambda: not host.sh("ip -6 address show tentative"))
        before = look(host)
        demo = host.run(*MAKE, "demo", timeout=240)
        lines = demo.stdout.splitlines()
        assert "$ fairlead run --name nginx_test1 -d -p 8081:80 nginx" in lines
        assert lines.count("200") == 3, demo.stdout
        assert "$ fairlead exec a1 ping -c 1 -W 2 8.8.8.8" in lines
        assert "$ fairlead topology" in lines
        assert demo.stdout.rstrip().endswith("make demo-clean")
        assert "\033" not in demo.stdout, "colour is for terminals"
        containers = {
            container["State"]["Pid"]: container["Id"]
            for container in host.json(FAIRLEAD, "inspect", "nginx_test1", "a1", "a2")
        }
        assert cgroups(*containers.values()), "each container should have one"
        assert processes(host), "the daemon should run"

        host.run(*MAKE, "demo-clean")
        wait_until(lambda: not processes(host))  # the daemon's own end comes after its socket's
        assert processes(host) == set()
        assert [pid for pid in containers if Path(f"/proc/{pid}").exists()] == []
        assert cgroups(*containers.values()) == []
        for kind, after in look(host).items():
            assert after == before[kind], kind

        again = host.run(*MAKE, "demo-clean")
        assert "There is no demo on this machine" in again.stdout


def test_demo_does_not_mix_with_a_state_that_is_in_use() -> None:
    with Host(internet=False) as host:
        host.state.mkdir()
        (host.state / "fairlead.db").write_text("someone's")
        demo = host.run(*MAKE, "demo", check=False, timeout=120)
        assert demo.returncode != 0
        assert "Fairlead is in use on this machine" in demo.stderr
        assert [path.name for path in host.state.iterdir()] == ["fairlead.db"]
