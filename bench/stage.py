"""Where the bench takes place: namespaces of its own, so that nothing of it reaches the machine's own network.

One network namespace per contestant, so that none has to work through another's firewall rules; one mount and one
process namespace for all, with an own /run, so that all of it is gone when the bench ends, however it ends.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from bench import kernel

CGROUP = "fairlead-bench"
BUSYBOX = Path("/bin/busybox")
"""Debian's busybox-static, the only file of the image that every contestant runs."""

INSIDE = "FAIRLEAD_BENCH_INSIDE"
_PREPARE = """
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock
# crun refuses to run where both versions of cgroups are mounted; here it sees version 1 alone.
if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi
# Docker loads br_netfilter, which would change how the machine's own bridges work.
if [ -e /sbin/modprobe ]; then mount --bind /bin/true "$(readlink -f /sbin/modprobe)"; fi
exec "$@"
"""


def enter() -> None:
    """Start this program again inside, wait for it, and exit with its exit code; inside already, return."""
    if os.environ.get(INSIDE):
        _become_init()
        return
    directory = tempfile.mkdtemp(prefix="fairlead-bench-", dir="/var/tmp")
    unshare = ["unshare", "--net", "--mount", "--propagation", "private"]
    unshare += ["--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*unshare, "sh", "-c", _PREPARE, "sh", sys.executable, "-m", "bench", *sys.argv[1:]]
    try:
        code = subprocess.call(command, env={**os.environ, INSIDE: directory})
    except KeyboardInterrupt:
        code = 130
    finally:
        _remove_cgroups()
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(code)


def _become_init() -> None:
    """Process 1 must collect the dead of others; do that, and let a child be the bench."""
    child = os.fork()
    if child == 0:
        return
    while True:
        with contextlib.suppress(KeyboardInterrupt):
            pid, status = os.wait()
            if pid == child:
                os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _remove_cgroups() -> None:
    """Cgroups have no namespace that ends with us (version 1), so what daemons leave is removed by name."""
    for top in [Path("/sys/fs/cgroup") / CGROUP, *Path("/sys/fs/cgroup").glob(f"*/{CGROUP}")]:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


class Stage:
    """The directory of this run, and what all contestants share."""

    def __init__(self) -> None:
        self.directory = Path(os.environ[INSIDE])
        self.rootfs = self.directory / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        shutil.copy(BUSYBOX, self.rootfs / "bin/busybox")
        for applet in ("sh", "sleep", "true"):
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            tar.add(self.rootfs, arcname=".")
        self.image = archive.getvalue()

    def host(self, name: str) -> Path:
        """A contestant's own "machine": a network namespace with loopback up.  Returns its path."""
        path = Path("/run/bench-hosts") / name
        kernel.add_namespace(path)
        with kernel.inside(path):
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return path

    def namespace(self, name: str) -> Path:
        """A network namespace to attach; it is in /run/netns."""
        path = Path("/run/netns") / name
        kernel.add_namespace(path)
        return path
