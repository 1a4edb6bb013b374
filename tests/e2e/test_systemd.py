"""The unit files, by a real systemd: in the virtual machine of `make test-vm`, which has nothing to lose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import FAIRLEAD, ROOT
from test_containers import eventually, is_process, layer

__all__ = ["layer"]

pytestmark = [
    pytest.mark.vm,
    pytest.mark.skipif(not Path("/run/vm").exists(), reason="installs units, so only in the machine of make test-vm"),
]

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


def test_containers_outlive_what_systemd_does_to_the_daemon(installed: None) -> None:
    run("docker", "run", "-d", "--name", "one", "--cpus", "0.5", "-p", "8081:80", "box", "sleep", "9999")
    pid = int(str(state()["Pid"]))
    group = Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::/")
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
    assert not group.parent.exists()
