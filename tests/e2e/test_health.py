"""Health checks, by Docker's own client, on the real kernel."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, eventually

QUICK = ("--health-interval", "100ms", "--health-retries", "2", "--health-timeout", "5s")


def run(machine: Machine, name: str, command: str, *words: str) -> None:
    machine.docker("run", "-d", "--name", name, "--health-cmd", command, *QUICK, *words, "box", "sleep", "99")


def health(machine: Machine, name: str) -> dict[str, Any]:
    return machine.inspect(name)["State"]["Health"]  # type: ignore[no-any-return]


def until(machine: Machine, name: str, status: str) -> dict[str, Any]:
    eventually(lambda: health(machine, name)["Status"] == status)
    return health(machine, name)


def probes(machine: Machine) -> list[str]:
    """The processes of health checks: all that `sleep 77`."""
    lines = machine.host.sh("ps -eo pid,stat,args").splitlines()
    return [line for line in lines if "sleep 77" in line and "ps -eo" not in line]


def test_well_then_ill_then_well(shared: Machine) -> None:
    before = time.time()
    run(shared, "changing", "test ! -e /tmp/ill && echo fine || { echo bad >&2; exit 7; }")
    found = until(shared, "changing", "healthy")
    assert found["FailingStreak"] == 0
    assert (found["Log"][-1]["ExitCode"], found["Log"][-1]["Output"]) == (0, "fine\n")
    assert found["Log"][-1]["Start"] < found["Log"][-1]["End"]
    assert shared.out("ps", "--format", "{{.Status}}", "--filter", "health=healthy").endswith("(healthy)")
    assert shared.out("ps", "-q", "--filter", "health=unhealthy") == ""
    shared.docker("exec", "changing", "touch", "/tmp/ill")
    found = until(shared, "changing", "unhealthy")
    assert found["FailingStreak"] >= 2
    assert (found["Log"][-1]["ExitCode"], found["Log"][-1]["Output"]) == (7, "bad\n")
    shared.docker("exec", "changing", "rm", "/tmp/ill")
    until(shared, "changing", "healthy")
    eventually(lambda: len(health(shared, "changing")["Log"]) == 5)
    time.sleep(0.3)
    assert len(health(shared, "changing")["Log"]) == 5
    shared.docker("rm", "-f", "changing")
    lines = shared.out("events", "--since", f"{before:.6f}", "--until", f"{time.time():.6f}", "--format", "{{.Action}}")
    said = [line for line in lines.splitlines() if line.startswith("health_status")]
    assert said == ["health_status: healthy", "health_status: unhealthy", "health_status: healthy"]
    assert "exec_die" in lines


def test_a_check_that_dies_with_its_container_did_not_fail(shared: Machine) -> None:
    before = time.time()
    for _ in range(20):
        run(shared, "brief", "test ! -e /ill && echo fine", "--health-interval", "1ms", "--health-retries", "1")
        until(shared, "brief", "healthy")
        time.sleep(0.2)
        shared.docker("rm", "-f", "brief")
    lines = shared.out("events", "--since", f"{before:.6f}", "--until", f"{time.time():.6f}", "--format", "{{.Action}}")
    assert "health_status: unhealthy" not in lines


def test_it_is_starting_until_the_first_check(shared: Machine) -> None:
    run(shared, "beginning", "true", "--health-interval", "60s")
    assert shared.out("ps", "--filter", "health=starting", "--format", "{{.Status}}").endswith("(health: starting)")
    assert health(shared, "beginning") == {"Status": "starting", "FailingStreak": 0, "Log": []}
    shared.docker("rm", "-f", "beginning")


def test_a_probe_that_takes_too_long_is_killed_with_all_its_processes(shared: Machine) -> None:
    run(shared, "slow", "echo waiting; sleep 77 & sleep 77", "--health-timeout", "300ms")
    found = until(shared, "slow", "unhealthy")
    assert found["Log"][-1]["ExitCode"] == -1
    assert found["Log"][-1]["Output"] == "Health check exceeded timeout (300ms): waiting\n"
    shared.docker("pause", "slow")
    shared.docker("unpause", "slow")
    started = time.monotonic()
    shared.docker("rm", "-f", "slow")
    assert time.monotonic() - started < 3
    eventually(lambda: probes(shared) == [])


def test_no_zombies_and_no_processes_pile_up(shared: Machine) -> None:
    """The container's first process reaps nobody, so what a check leaves behind would stay."""
    run(shared, "tidy", "sleep 77", "--health-timeout", "100ms", "--health-interval", "50ms")
    eventually(lambda: health(shared, "tidy")["FailingStreak"] > 5)

    def processes() -> list[str]:
        return shared.out("top", "tidy", "-eo", "pid,stat,args").splitlines()[1:]

    # At any moment one check may run, or have just been killed; more would have piled up.
    eventually(lambda: len(processes()) <= 2 and not [line for line in processes() if " Z" in line])
    shared.docker("pause", "tidy")  # Nothing is checked now, and nothing may be left.
    shared.docker("unpause", "tidy")
    shared.docker("stop", "-t", "0", "tidy")
    assert health(shared, "tidy")["Status"] == "unhealthy"
    assert probes(shared) == []
    daemon = (shared.host.run_dir / "daemon.pid").read_text().strip()
    zombies = f"ps --ppid {daemon} -o stat= -o args= | grep -c '^Z' || true"
    eventually(lambda: shared.host.sh(zombies).strip() == "0")  # The last check may have been killed just now.
    shared.docker("rm", "tidy")


def test_failures_in_the_start_period_do_not_count(shared: Machine) -> None:
    period = ("--health-start-period", "5s", "--health-start-interval", "100ms", "--health-interval", "100ms")
    run(shared, "patient", "exit 1", *period)
    eventually(lambda: len(health(shared, "patient")["Log"]) >= 3)
    found = health(shared, "patient")
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    until(shared, "patient", "unhealthy")
    shared.docker("rm", "-f", "patient")


def test_what_cannot_run_is_a_failure(shared: Machine) -> None:
    shared.api(
        "POST",
        "/containers/create?name=wrong",
        {
            "Image": "box",
            "Cmd": ["sleep", "99"],
            "Healthcheck": {"Test": ["CMD", "/no/such"], "Interval": 10**8, "Retries": 1},
        },
    )
    shared.docker("start", "wrong")
    found = until(shared, "wrong", "unhealthy")
    assert found["Log"][-1]["ExitCode"] != 0
    assert "no such file or directory" in found["Log"][-1]["Output"]
    shared.docker("rm", "-f", "wrong")


def test_it_goes_on_after_a_restart_of_the_daemon(shared: Machine) -> None:
    run(shared, "lasting", "test ! -e /tmp/ill")
    until(shared, "lasting", "healthy")
    pid = shared.inspect("lasting")["State"]["Pid"]
    shared.kill()
    shared.start()
    assert health(shared, "lasting")["Status"] == "healthy"
    shared.docker("exec", "lasting", "touch", "/tmp/ill")
    until(shared, "lasting", "unhealthy")
    assert shared.inspect("lasting")["State"]["Pid"] == pid
    shared.docker("restart", "-t", "0", "lasting")
    assert health(shared, "lasting")["Status"] in ("starting", "unhealthy")
    shared.docker("rm", "-f", "lasting")


def test_the_image_says_how_and_the_user_may_differ(shared: Machine) -> None:
    change = 'HEALTHCHECK --interval=100ms --retries=1 CMD ["test", "-d", "/proc"]'
    image = shared.host.directory / "image.tar"
    box = json.loads(shared.out("image", "inspect", "box"))[0]["GraphDriver"]["Data"]["UpperDir"]
    shared.host.sh(f"tar -C {box} -cf {image} .")
    shared.docker("import", "--change", change, "--change", "ENV PATH=/bin", str(image), "checked")
    shared.docker("run", "-d", "--name", "inherits", "checked", "sleep", "99")
    assert shared.inspect("inherits")["Config"]["Healthcheck"] == {
        "Test": ["CMD", "test", "-d", "/proc"],
        "Interval": 10**8,
        "Retries": 1,
    }
    until(shared, "inherits", "healthy")
    shared.docker("run", "-d", "--name", "differs", "--health-retries", "4", "checked", "sleep", "99")
    assert shared.inspect("differs")["Config"]["Healthcheck"]["Retries"] == 4
    assert shared.inspect("differs")["Config"]["Healthcheck"]["Test"][0] == "CMD"
    shared.docker("run", "-d", "--name", "without", "--no-healthcheck", "checked", "sleep", "99")
    assert "Health" not in shared.inspect("without")["State"]
    assert shared.out("ps", "--filter", "health=none", "--format", "{{.Names}}").split() == ["without"]
    shared.docker("rm", "-f", "inherits", "differs", "without")


def test_the_memory_of_the_daemon_stays_flat(shared: Machine) -> None:
    def memory() -> int:
        daemon = int((shared.host.run_dir / "daemon.pid").read_text())
        return int(Path(f"/proc/{daemon}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    run(shared, "chatty", "yes | head -c 1000000", "--health-interval", "10ms")
    eventually(lambda: len(health(shared, "chatty")["Log"]) == 5)
    assert len(health(shared, "chatty")["Log"][-1]["Output"]) == 4096 + 3
    before = memory()
    time.sleep(5)
    assert memory() - before < 2 << 20
    shared.docker("rm", "-f", "chatty")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--health-interval", "1us", "--health-cmd", "x"], "Interval in Healthcheck cannot be less than 1ms"),
        (["--health-retries", "-1", "--health-cmd", "x"], "etries"),
    ],
)
def test_wrong_checks_are_refused(shared: Machine, words: list[str], message: str) -> None:
    done = shared.docker("create", *words, "box", check=False)
    assert done.returncode in (1, 125)
    assert message in done.stderr


def test_the_command(shared: Machine) -> None:
    words = ("--health-cmd", "true", "--health-interval", "100ms", "--health-start-period", "1m30s")
    shared.host.fairlead("run", "-d", "--name", "ours", *words, "box", "sleep", "99")
    assert shared.inspect("ours")["Config"]["Healthcheck"] == {
        "Test": ["CMD-SHELL", "true"],
        "Interval": 10**8,
        "StartPeriod": 90 * 10**9,
    }
    shared.host.fairlead("rm", "-f", "ours")
    done = shared.host.fairlead("create", "--no-healthcheck", "--health-cmd", "x", "box", check=False)
    assert (done.returncode, done.stderr) == (2, done.stderr)
    assert "--no-healthcheck conflicts with --health-* options" in done.stderr
