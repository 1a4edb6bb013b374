"""The command lines of crun and conmon, and where they leave what we read: pid files, exit codes, sockets.

conmon is the monitor: it starts ``crun create``, keeps the container's standard streams, writes the log and, at the
end, the exit code.  It is not our child for long (it forks twice), so it and the container outlive the daemon.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import MissingProgram
from fairlead.kernel.cgroups import Cgroup
from fairlead.paths import Paths


@functools.cache
def program(name: str) -> str:
    """The absolute path of a program that containers need; raises `MissingProgram`."""
    path = shutil.which(name)
    if path is None:
        raise MissingProgram(f"the program {name} is not installed: containers need it (apt install {name})")
    return path


@functools.cache
def usual_parent() -> str:
    """The control group of all containers: of its own with version 2, the root with version 1.

    systemd takes from the children of version 2's root the controllers that no unit needs, at each ``daemon-reload``,
    and the limits go with them.  The kernel refuses that while a child passes the controllers on to its own children
    (cgroup-v2.rst, "Top-down Constraint"), as this one does.  In version 1 there is no such thing, and without a parent
    nothing is left in the trees.
    """
    return "/fairlead" if Cgroup("/").version == 2 else ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one container's run-time files are."""

    id: str
    run: Path
    """The instance's run directory; the container's own is beneath."""
    parent: str = ""
    """Of its control group, such as ``/group``; empty: what is usual here (`usual_parent`)."""

    @classmethod
    def of(cls, paths: Paths, container: str, parent: str = "") -> Place:
        return cls(container, paths.run, parent)

    @property
    def bundle(self) -> Path:
        return self.run / "containers" / self.id

    @property
    def config(self) -> Path:
        return self.bundle / "config.json"

    @property
    def rootfs(self) -> Path:
        return self.bundle / "rootfs"

    @property
    def pid_file(self) -> Path:
        return self.bundle / "pid"

    @property
    def monitor_pid_file(self) -> Path:
        return self.bundle / "monitor.pid"

    @property
    def exits(self) -> Path:
        return self.bundle / "exits"

    @property
    def exit_file(self) -> Path:
        return self.exits / self.id

    @property
    def oom_file(self) -> Path:
        """conmon makes it in its working directory, the bundle."""
        return self.bundle / "oom"

    @property
    def runtime_root(self) -> Path:
        return self.run / "crun"

    @property
    def runtime_state(self) -> Path:
        return self.runtime_root / self.id

    @property
    def cgroup(self) -> str:
        """Its path in the tree, or in each tree of version 1."""
        return f"{self.parent or usual_parent()}/fairlead-{self.id}"

    def crun(self, *arguments: str, root: Path | None = None) -> list[str]:
        """A crun command line; `root` is where crun keeps what it knows of the container, if not where it is usual."""
        return [program("crun"), f"--root={root or self.runtime_root}", "--cgroup-manager=cgroupfs", *arguments]

    def monitor(
        self, *, log: Path | None, terminal: bool, stdin: bool, keep_stdin: bool, runtime: str = ""
    ) -> list[str]:
        """The conmon command line that creates the container.

        `log`: None keeps no output.  `keep_stdin`: the container's standard input stays open when the attached client
        goes away.  `runtime`: where to run crun from, if not where it is installed.
        """
        return [
            program("conmon"),
            "--api-version=1",
            f"--cid={self.id}",
            f"--cuuid={self.id}",
            f"--runtime={runtime or program('crun')}",
            f"--runtime-arg=--root={self.runtime_root}",
            "--runtime-arg=--cgroup-manager=cgroupfs",
            f"--bundle={self.bundle}",
            f"--container-pidfile={self.pid_file}",
            f"--conmon-pidfile={self.monitor_pid_file}",
            f"--exit-dir={self.exits}",
            f"--log-path=k8s-file:{log}" if log else "--log-path=none",
            "--log-level=error",
            "--full-attach",
            "--no-sync-log",
            *(["--terminal"] if terminal else []),
            *(["--stdin"] if stdin else []),
            *(["--leave-stdin-open"] if keep_stdin else []),
        ]


def read_pid(path: Path) -> int:
    """The number in a pid file, 0 if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def is_monitor(pid: int, container: str) -> bool:
    """Whether this process is the container's conmon; a reused pid is not, as the id is in its command line."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().split(b"\0")
    except OSError:
        return False
    return f"--cid={container}".encode() in words and os.path.basename(words[0]) == b"conmon"


def explain_refusal(message: str, command: str) -> tuple[int, str]:
    """Docker's exit code and its sentence for what crun said when it could not start the first process.

    The CLI takes 127 and 126 from these very words (docker/cli, cli/command/container/run.go).
    """
    text = message.strip().splitlines()[-1] if message.strip() else "the runtime gave no reason"
    lower = text.lower()
    if not command or "not found in $path" in lower or "open executable: no such file" in lower:
        reason = "no such file or directory" if "/" in command else "executable file not found in $PATH"
        return 127, f'exec: "{command}": {reason}'
    if "open executable: permission denied" in lower or ("exec" in lower and "permission denied" in lower):
        return 126, f'exec: "{command}": permission denied'
    if "open executable: operation not permitted" in lower:  # crun's words for a directory
        return 126, f'exec: "{command}": permission denied'
    if "open executable: is a directory" in lower:
        return 126, f'exec: "{command}": is a directory: permission denied'
    if "exec format error" in lower:
        return 126, f'exec: "{command}": exec format error'
    if found := re.search(r"chdir [`'](.*?)[`']: (.*)", text):
        text = f'chdir to cwd ("{found[1]}") set in config.json failed: {found[2].lower()}'
    if "no such file or directory" in lower or "not a directory" in lower:  # a directory to be in, a setting, a mount
        return 127, text.replace("No such file", "no such file")
    return 128, text
