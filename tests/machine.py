"""A host with a daemon, one image, and the real docker CLI."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab import FAIRLEAD, Host

BUSYBOX = "/bin/busybox"
SOURCE = str(Path(__file__).parents[1] / "src")


class Machine:
    """A host with a daemon and one image, and the docker CLI pointed at it."""

    def __init__(self, host: Host, layer: Path) -> None:
        self.host = host
        self.seen: set[str] = set()
        host.environment |= {"PYTHONPATH": SOURCE, "DOCKER_HOST": host.environment["FAIRLEAD_HOST"]}
        self.daemon = self.start()
        self.docker("import", "--change", 'CMD ["sh"]', "--change", "ENV PATH=/bin", str(layer), "box")

    def start(self, *, fault: int = 0) -> subprocess.Popen[str]:
        """Start the daemon; with `fault` it will kill itself at that boundary."""
        environment = {**self.host.environment, "FAIRLEAD_FAULT": str(fault or "")}
        self.daemon = self.host.popen(FAIRLEAD, "daemon", env=environment)
        eventually(lambda: self.api("GET", "/version"), 60)
        return self.daemon

    def stop(self) -> None:
        self.daemon.terminate()
        assert self.daemon.wait(20) == 0

    def kill(self) -> None:
        self.daemon.kill()
        self.daemon.wait()

    def docker(self, *words: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        done = self.host.run("docker", *words, check=check, **options)
        with contextlib.suppress(FileNotFoundError):
            self.seen |= set(os.listdir(self.host.state / "containers"))
        return done

    def out(self, *words: str, **options: Any) -> str:
        return self.docker(*words, **options).stdout.strip()

    def inspect(self, name: str) -> dict[str, Any]:
        return json.loads(self.out("inspect", name))[0]  # type: ignore[no-any-return]

    def api(self, method: str, path: str, body: Any = None) -> Any:
        words = ["curl", "-s", "--unix-socket", f"{self.host.run_dir}/fairlead.sock", "-X", method, f"http://x{path}"]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "-d", json.dumps(body)]
        text = self.host.run(*words, check=False).stdout
        return json.loads(text) if text.strip() else None

    def leftovers(self) -> str:
        """Whatever containers have left on this host; empty when all are gone."""
        return self.host.sh(
            f"""
            grep {self.host.directory} /proc/self/mounts | grep -v ' nsfs ' || true
            find {self.host.run_dir}/containers {self.host.run_dir}/crun {self.host.run_dir}/netns -mindepth 1 || true
            find {self.host.state}/containers -mindepth 1 || true
            for id in {" ".join(self.seen)}; do ls -d /sys/fs/cgroup/*/fairlead-$id 2>/dev/null || true; done
            ip -br link | grep veth || true
            ps -eo args | grep -e '--cid=' | grep {self.host.directory} | grep -v grep || true
            """
        ).strip()


def eventually(test: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < deadline, "did not become true"
        time.sleep(0.02)
    return found


def is_process(pid: int) -> str:
    """What the kernel says about a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return ""
