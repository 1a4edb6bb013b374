"""A throwaway host for tests: an outer network and mount namespace, with its own run and state directories.

Nothing that a test does here reaches the machine's own network.  The "internet" is another namespace, holding 8.8.8.8,
at the far end of the host's `eth0` (host 198.51.100.2/24, internet 198.51.100.1).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FAIRLEAD = str(Path(sys.executable).parent / "fairlead")

_INSIDE = """
mount --make-rprivate /
mount -t tmpfs tmpfs /run/netns 2>/dev/null || { mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }
ip link set lo up
echo ready
exec sleep infinity
"""

INTERNET = """
set -e
ip netns add internet
ip link add eth0 type veth peer name eth0 netns internet
# No duplicate address detection: what a test sends is to arrive at once, not a second or two later.
sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip netns exec internet sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip addr add 198.51.100.2/24 dev eth0
ip link set eth0 up
ip route add default via 198.51.100.1
ip -n internet link set lo up
ip -n internet addr add 198.51.100.1/24 dev eth0
ip -n internet addr add 8.8.8.8/32 dev lo
ip -n internet link set eth0 up
"""


def ipv6_ready(link: str = "eth0", namespace: str = "internet", peer: str = "eth0") -> str:
    """Shell lines that wait until IPv6 works on a link of this host and on its peer in a namespace.

    When a link gets a carrier, the kernel gives it the route to ff00::/8 a moment later, from a work queue (linkwatch);
    until then it cannot ask for its neighbours (RFC 4861), so even an address without duplicate address detection
    reaches nobody.
    """
    ends = [f"ip -6 route show table local dev {link}", f"ip -n {namespace} -6 route show table local dev {peer}"]
    there = " && ".join(f"{end} | grep -q '^multicast ff00::/8'" for end in ends)
    return f"for i in $(seq 200); do {there} && break; sleep 0.05; done; {there}\n"


BEHIND_THE_HOST = """
for n in 1 2; do
    ip netns add r$n
    ip link add w$n type veth peer name eth0 netns r$n
    ip addr add 10.1.$n.1/24 dev w$n
    ip link set w$n up
    ip -n r$n link set lo up
    ip -n r$n addr add 10.1.$n.2/24 dev eth0
    ip -n r$n link set eth0 up
    ip -n r$n route add default via 10.1.$n.1
done
"""
"""Somebody's two namespaces, each with a cable to the host, which is their router if it forwards."""


def has_ended(pid: int) -> bool:
    """Whether a process has, also where nobody has waited for it yet.  It may end while it is looked at (ESRCH)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


class Host:
    """One fake host.  Use as a context manager; leaving it stops all that runs inside."""

    def __init__(self, *, internet: bool = True) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fairlead-lab-"))
        self.state = self.directory / "state"
        self.run_dir = self.directory / "run"
        self.environment = {
            **os.environ,
            "FAIRLEAD_STATE": str(self.state),
            "FAIRLEAD_RUN": str(self.run_dir),
            "FAIRLEAD_HOST": f"unix://{self.run_dir}/fairlead.sock",
        }
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", _INSIDE], stdout=subprocess.PIPE, text=True
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n"
        if internet:
            self.sh(INTERNET)

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enter(self, *command: str) -> list[str]:
        """The command line that runs `command` on this host."""
        return ["nsenter", f"--target={self._holder.pid}", "--net", "--mount", f"--wd={os.getcwd()}", *command]

    def run(
        self, *command: str, check: bool = True, input: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on this host and collect what it says; with `check`, a failure raises and shows it."""
        done = subprocess.run(
            self.enter(*command),
            env=self.environment,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)} → {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def sh(self, script: str, **options: Any) -> str:
        """Run shell lines on this host, return what they print."""
        return self.run("sh", "-c", script, **options).stdout

    def fairlead(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run the fairlead command on this host (which starts the daemon on demand)."""
        return self.run(FAIRLEAD, *arguments, **options)

    def json(self, *command: str) -> Any:
        """Run a program and decode the JSON it prints."""
        return json.loads(self.run(*command).stdout)

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program on this host; the caller ends it."""
        return subprocess.Popen(self.enter(*command), env=options.pop("env", self.environment), text=True, **options)

    def close(self) -> None:
        """End every process of the host: in its mount namespace, of its daemon, in its containers' cgroups."""
        for name in self._containers():
            # In version 1 a process that is frozen does not even die.
            for freezer in Path("/sys/fs/cgroup").glob(f"freezer/fairlead-{name}/freezer.state"):
                freezer.write_text("THAWED")
        for _ in range(50):
            found = self._processes()
            if not found:
                break
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        self._holder.kill()
        self._holder.wait()
        for name in self._containers():
            groups = Path("/sys/fs/cgroup")
            for cgroup in [groups / "fairlead" / f"fairlead-{name}", *groups.glob(f"*/fairlead-{name}")]:
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _containers(self) -> list[str]:
        return [path.name for path in (self.state / "containers").glob("*")]

    def _processes(self) -> list[int]:
        mounts = os.stat(f"/proc/{self._holder.pid}/ns/mnt").st_ino
        marks = [str(self.directory).encode(), *(f"fairlead-{name}".encode() for name in self._containers())]
        found: list[int] = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit() or int(entry) in (os.getpid(), self._holder.pid):
                continue
            process = Path("/proc", entry)
            with contextlib.suppress(OSError):
                words = (process / "cmdline").read_bytes() + (process / "cgroup").read_bytes()
                if os.stat(process / "ns/mnt").st_ino == mounts or any(mark in words for mark in marks):
                    found.append(int(entry))
        return found


def images() -> Path:
    """The directory with alpine.tar and nginx.tar, built from Debian packages if they are not there yet."""
    directory = ROOT / "build" / "images"
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([ROOT / "scripts" / "build-images", directory], check=True, capture_output=True, timeout=300)
    return directory
