"""Real Docker Engine on a throwaway host, so that the same calls can be put to it and to Fairlead."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from lab import Host

from bench.podman import configure

DOCKERD = shutil.which("dockerd", path="/usr/sbin:/usr/bin")
"""Debian's package docker.io; None where it is not installed."""

CLI = shutil.which("docker", path="/usr/local/bin:/usr/bin")
"""The docker command; the newest one that is here."""

COMPOSE = shutil.which("docker-compose", path="/usr/local/bin:/usr/bin")
"""docker-compose 1.29, Debian's package docker-compose."""

PODMAN = shutil.which("podman", path="/usr/bin") if Path("/usr/lib/podman/netavark").exists() else None
"""Debian's package podman, with its own network stack, the package netavark; None where one is not installed."""

_PODMAN_PREPARE = """
set -e
for place in /run/containers /run/libpod; do mkdir -p $place && mount -t tmpfs tmpfs $place; done
# crun refuses to work where both kinds of control groups are.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
"""

_PREPARE = """
set -e
mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker
# Docker would load br_netfilter, which changes how other bridges of the machine work.
if [ -e /sbin/modprobe ]; then mount --bind /bin/true "$(readlink -f /sbin/modprobe)"; fi
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
"""


class Docker:
    """dockerd with its own data, sockets and containerd, in the namespaces of `host`.  Use as a context manager."""

    def __init__(self, host: Host) -> None:
        assert DOCKERD is not None
        self.host = host
        self.socket = host.directory / "docker.sock"
        self._cgroup = f"fairlead-peer-{os.getpid()}-{host.directory.name[-8:]}"
        self._log = host.directory / "dockerd.log"
        host.sh(_PREPARE)
        with open(self._log, "wb") as log:
            self._process = host.popen(
                DOCKERD,
                f"--host=unix://{self.socket}",
                f"--data-root={host.directory}/docker",
                f"--exec-root={host.directory}/exec",
                f"--pidfile={host.directory}/docker.pid",
                "--exec-opt=native.cgroupdriver=cgroupfs",
                f"--cgroup-parent=/{self._cgroup}",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._await()

    def _await(self) -> None:
        for _ in range(600):
            if self._process.poll() is not None:
                break
            with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
                one.connect(str(self.socket))
                one.sendall(b"HEAD /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")
                if one.recv(12).endswith(b"200"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"dockerd did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def __enter__(self) -> Docker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the daemon with all its containers; the host's end takes the rest."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for mount in self.host.sh("cat /proc/self/mounts").splitlines():
            if str(self.host.directory) in (point := mount.split()[1]):
                self.host.run("umount", "-l", point, check=False)
        _remove_cgroups(self._cgroup)


class Podman:
    """podman with its own files, in the namespaces of `host`.  Use as a context manager."""

    def __init__(self, host: Host) -> None:
        self.host = host
        place = host.directory / "podman"
        host.environment |= configure(place, driver="vfs", run=f"{place}/run")
        self._cgroup = f"fairlead-peer-{os.getpid()}-{host.directory.name[-8:]}"
        host.sh(_PODMAN_PREPARE)

    def __enter__(self) -> Podman:
        return self

    def __exit__(self, *_: object) -> None:
        self.podman("rm", "--all", "--force", "--time", "0", check=False)
        _remove_cgroups(self._cgroup)
        for place in ("/run/containers", "/run/libpod"):
            self.host.run("umount", place, check=False)
            with contextlib.suppress(OSError):
                os.rmdir(place)  # Where it was not there before, it is empty.

    def podman(self, *words: str, check: bool = True) -> str:
        """Run a podman command, return what it prints."""
        assert PODMAN is not None
        return self.host.run(PODMAN, *words, check=check).stdout.strip()

    def run(self, name: str, *words: str) -> str:
        """Start a container, return its id."""
        # No more than this process may have itself.
        limits = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", f"--cgroup-parent=/{self._cgroup}")
        return self.podman("run", "--detach", "--name", name, *limits, *words)


def _remove_cgroups(name: str) -> None:
    """Take the control groups of this name away, in each hierarchy, as soon as the last process has left them."""
    for top in [Path("/sys/fs/cgroup") / name, *Path("/sys/fs/cgroup").glob(f"*/{name}")]:
        for _ in range(50):
            for directory, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)
            if not top.exists():
                break
            time.sleep(0.02)
