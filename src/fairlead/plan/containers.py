"""The steps that make a container run: its root file system, its bundle, its monitor, its first process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.errors import DiskFull, Invalid, KernelError
from fairlead.kernel import cgroups, mounts
from fairlead.plan.filters import keep_filter, with_filter
from fairlead.plan.launch import in_memory, run_crun, without_unified, words_without_unified
from fairlead.plan.runtime import Place, is_monitor, program, read_pid
from fairlead.plan.step import State, Step
from fairlead.plan.users import resolve

if TYPE_CHECKING:
    from fairlead.kernel import Kernel

_PATIENCE = 30.0
"""Seconds that a killed monitor gets to end."""


_MOMENT = 0.5
"""Seconds that the first process gets to become its program, or to be gone, on a busy machine."""


class StartRefused(KernelError):
    """crun could not create the container; `reason` is what it said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class MountOverlay(Step):
    """The container's root file system: its own writable layer over the image's layers (topmost first)."""

    target: Path
    lower: tuple[Path, ...] = ()
    upper: Path = Path()
    work: Path = Path()

    def apply(self, kernel: Kernel) -> None:
        try:
            for directory in (self.upper, self.work, self.target):
                directory.mkdir(parents=True, exist_ok=True)
            mounts.mount_overlay(list(self.lower), self.upper, self.work, self.target)
        except OSError as error:
            raise _kernel_error(f"the root file system {self.target} cannot be mounted", error) from error

    def revert(self, kernel: Kernel) -> None:
        while mounts.unmount(self.target):
            pass
        for directory in (self.target, self.target.parent):
            with contextlib.suppress(FileNotFoundError):
                directory.rmdir()

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if mounts.is_mount_point(self.target) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        options = mounts.overlay_options(list(self.lower), self.upper, self.work)
        return (
            f"mkdir -p {shlex.join(map(str, (self.upper, self.work, self.target)))}",
            f"mount -t overlay overlay -o {shlex.quote(options)} {shlex.quote(str(self.target))}",
        )

    def unshell(self) -> tuple[str, ...]:
        return (f"umount {shlex.quote(str(self.target))}",)


@dataclass(frozen=True, slots=True)
class MarkRoot(Step):
    """What programs look for in a root, as Docker puts it there beneath the image's own files.

    By /.dockerenv they tell that they are in a container; in /etc/mtab older ones (df, check_disk) look for the mounts.
    Both stay: whatever a container has in its root is its own from here on.
    """

    root: Path

    def apply(self, kernel: Kernel) -> None:
        try:
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.root / ".dockerenv", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o755))
            self._link_table()
        except OSError as error:
            raise _kernel_error(f"the root file system {self.root} cannot be written", error) from error

    def _link_table(self) -> None:
        try:
            # The image may have a link in the directory's place, which leads anywhere.
            etc = os.open(self.root / "etc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            with contextlib.suppress(FileExistsError):
                os.symlink("/proc/mounts", "mtab", dir_fd=etc)
        finally:
            os.close(etc)

    def revert(self, kernel: Kernel) -> None:
        pass

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS

    def shell(self) -> tuple[str, ...]:
        mark, etc, table = (shlex.quote(f"{self.root}/{name}") for name in (".dockerenv", "etc", "etc/mtab"))
        return (
            f"[ -e {mark} -o -L {mark} ] || install --mode 755 /dev/null {mark}",
            f"[ ! -d {etc} -o -L {etc} -o -e {table} -o -L {table} ] || ln -s /proc/mounts {table}",
        )

    def unshell(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class WriteBundle(Step):
    """The runtime's configuration, and the files that are bound over the container's /etc.

    Users and groups are names of the image, so this step reads its passwd file: the root must be mounted before.
    """

    place: Place
    config: dict[str, Any] = field(default_factory=dict, hash=False)
    user: str = ""
    groups: tuple[str, ...] = ()
    files: tuple[tuple[Path, str], ...] = ()
    layers: tuple[Path, ...] = ()
    """What the root consists of, topmost first: for the lines, which are written while it is not mounted."""

    def apply(self, kernel: Kernel) -> None:
        try:
            for path, text in self.files:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            self.place.exits.mkdir(parents=True, exist_ok=True)
            self.place.runtime_root.mkdir(parents=True, exist_ok=True)
            self.place.exit_file.unlink(missing_ok=True)
            config = with_filter(self._completed(self.place.rootfs), self.place)
            self.place.config.write_text(json.dumps(config))
        except OSError as error:
            raise _kernel_error(f"the bundle {self.place.bundle} cannot be written", error) from error

    def _completed(self, root: Path | Sequence[Path]) -> dict[str, Any]:
        user = resolve(root, self.user, self.groups)
        process = dict(self.config["process"])
        process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
        if not any(variable.startswith("HOME=") for variable in process["env"]):
            process["env"] = [*process["env"], f"HOME={user.home}"]
        if user.uid:
            # execve(2) drops the effective set of a user other than root anyway; as Docker, only the bound stays.
            process["capabilities"] = {"bounding": process["capabilities"]["bounding"]}
        return {**self.config, "process": process}

    def revert(self, kernel: Kernel) -> None:
        # The root is still mounted here: its contents are not ours to remove, and `MountOverlay` removes the rest.
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.place.bundle):
                if entry.path == str(self.place.rootfs):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if self.place.config.exists() else State.MISSING

    def shell(self) -> tuple[str, ...]:
        place = self.place
        directories = dict.fromkeys(path.parent for path, _ in self.files)
        return (
            f"mkdir -p {shlex.join(map(str, (*directories, place.exits, place.runtime_root)))}",
            f"rm -f {shlex.quote(str(place.exit_file))}",
            *(line for path, text in self.files for line in _here(path, text.splitlines())),
            *_here(place.config, _readable(self._completed(self.layers))),
        )

    def unshell(self) -> tuple[str, ...]:
        return (f"rm {shlex.quote(str(self.place.config))}",)


@dataclass(frozen=True, slots=True)
class BindSubpaths(Step):
    """Parts of volumes, each bound where the runtime finds it: resolved by us, as links in it may lead anywhere."""

    directory: Path
    parts: tuple[tuple[Path, str, Path], ...] = ()
    """The volume's content, the path in it, where it is bound."""

    def apply(self, kernel: Kernel) -> None:
        for source, subpath, target in self.parts:
            try:
                mounts.bind_subpath(source, subpath, target)
            except OSError as error:
                self.revert(kernel)
                raise Invalid(f"cannot access path {source}/{subpath}: {error.strerror}") from error

    def revert(self, kernel: Kernel) -> None:
        # Never more than an empty directory or file is removed here: were the mount still there, it would refuse.
        with contextlib.suppress(FileNotFoundError):
            for entry in list(os.scandir(self.directory)):
                while mounts.unmount(Path(entry.path)):
                    pass
                if entry.is_dir(follow_symlinks=False):
                    os.rmdir(entry.path)
                elif not os.path.getsize(entry.path):
                    os.unlink(entry.path)
            self.directory.rmdir()

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if all(mounts.is_mounted(target) for _, _, target in self.parts) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        return tuple(
            f"mount --bind -- {shlex.quote(f'{source}/{subpath}')} {shlex.quote(str(target))}"
            for source, subpath, target in self.parts
        )

    def unshell(self) -> tuple[str, ...]:
        return tuple(f"umount {shlex.quote(str(target))}" for _, _, target in self.parts)


@dataclass(frozen=True, slots=True)
class MountShm(Step):
    """The /dev/shm of a container that shares it: on the host, where others can get at it."""

    target: Path
    size: int = 0

    def apply(self, kernel: Kernel) -> None:
        try:
            self.target.mkdir(parents=True, exist_ok=True)
            mounts.mount("shm", self.target, "tmpfs", f"mode=1777,size={self.size}")
        except OSError as error:
            raise _kernel_error(f"the shared memory {self.target} cannot be mounted", error) from error

    def revert(self, kernel: Kernel) -> None:
        while mounts.unmount(self.target):
            pass
        with contextlib.suppress(FileNotFoundError):
            self.target.rmdir()

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if mounts.is_mounted(self.target) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        place = shlex.quote(str(self.target))
        return (f"mkdir -p {place}", f"mount -t tmpfs -o mode=1777,size={self.size} shm {place}")

    def unshell(self) -> tuple[str, ...]:
        return (f"umount {shlex.quote(str(self.target))}",)


@dataclass(frozen=True, slots=True)
class StartMonitor(Step):
    """conmon, which has crun create the container: all is set up, the first process waits to be started."""

    place: Place
    log: Path | None = None
    terminal: bool = False
    stdin: bool = False
    keep_stdin: bool = False
    shared: bool = False

    def apply(self, kernel: Kernel) -> None:
        threading.Thread(target=cgroups.expect_move).start()  # By the time that crun moves the container, it is due.
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as answers:
            try:
                launcher = without_unified(lambda: self._launch(writer), shared=self.shared)
            finally:
                os.close(writer)
            # conmon writes one line: the pid, or -1 and the runtime's message; an early death closes the pipe.
            line = answers.readline()
        launcher.wait()
        answer: dict[str, Any] = {"data": -1, "message": "conmon ended without an answer"}
        try:
            if line:
                answer = json.loads(line)
        except ValueError:
            answer = {"data": -1, "message": line.decode(errors="replace")}
        if answer["data"] <= 0:
            self.revert(kernel)
            raise StartRefused(str(answer.get("message", "")))
        keep_filter(self.place)

    def _launch(self, writer: int) -> subprocess.Popen[bytes]:
        # An absolute path and no preexec_fn: so Python starts it by vfork.
        return subprocess.Popen(
            self._argv(in_memory(program("crun"), self.place.run)),
            env={"_OCI_SYNCPIPE": str(writer), "PATH": os.defpath, "LC_ALL": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.place.bundle,
            pass_fds=(writer,),
        )

    def _argv(self, runtime: str = "") -> list[str]:
        return self.place.monitor(
            log=self.log,
            terminal=self.terminal,
            stdin=self.stdin,
            keep_stdin=self.keep_stdin,
            runtime=runtime,
        )

    def revert(self, kernel: Kernel) -> None:
        monitor = read_pid(self.place.monitor_pid_file)
        if self.place.runtime_state.exists():
            done = run_crun(self.place, "delete", "--force", self.place.id)
            if done.returncode and self.place.runtime_state.exists():
                raise KernelError(f"crun delete {self.place.id[:12]}: {done.stderr.decode(errors='replace').strip()}")
        if is_monitor(monitor, self.place.id):
            _await_end(monitor)
        # crun forgets it where it did not finish making the container, be it that the first process is still ending.
        cgroups.Cgroup(self.place.cgroup).remove_empty(patience=_MOMENT)

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS if is_monitor(read_pid(self.place.monitor_pid_file), self.place.id) else State.MISSING

    def makes(self) -> tuple[str, ...]:
        return (f"container:{self.place.id}",)

    def shell(self) -> tuple[str, ...]:
        """conmon works on in the background: the pid file says that crun has made the container."""
        bundle, pid = (shlex.quote(str(path)) for path in (self.place.bundle, self.place.pid_file))
        argv = [*words_without_unified(shared=self.shared), *self._argv()]
        return (
            f"(cd {bundle} && {shlex.join(argv)} </dev/null >/dev/null 2>&1)",
            f"for i in $(seq 100); do [ -s {pid} ] && break; sleep 0.1; done",
        )

    def unshell(self) -> tuple[str, ...]:
        return (shlex.join(self.place.crun("delete", "--force", self.place.id)),)


@dataclass(frozen=True, slots=True)
class StartProcess(Step):
    """The first process runs."""

    place: Place

    def apply(self, kernel: Kernel) -> None:
        pid = read_pid(self.place.pid_file)
        before = _program(pid)
        done = run_crun(self.place, "start", self.place.id)
        if done.returncode:
            raise StartRefused(done.stderr.decode(errors="replace"))
        # crun has only let it go on; whoever is told that it runs wants to see the program, not crun's first half.
        deadline = time.monotonic() + _MOMENT
        while before and not _has_begun(pid, before) and time.monotonic() < deadline:
            time.sleep(0.0002)

    def revert(self, kernel: Kernel) -> None:
        with contextlib.suppress(ProcessLookupError):
            if pid := read_pid(self.place.pid_file):
                os.kill(pid, signal.SIGKILL)

    def check(self, kernel: Kernel) -> State:
        # crun removes the fifo on which the first process waits once it was told to go on.
        if not self.place.runtime_state.exists() or (self.place.runtime_state / "exec.fifo").exists():
            return State.MISSING
        return State.HOLDS

    def inside(self) -> tuple[str, ...]:
        return (f"container:{self.place.id}",)

    def shell(self) -> tuple[str, ...]:
        return (shlex.join(self.place.crun("start", self.place.id)),)

    def unshell(self) -> tuple[str, ...]:
        return (shlex.join(self.place.crun("kill", self.place.id, "KILL")),)


def _program(pid: int) -> tuple[int, int] | None:
    """What a process runs, as the numbers of a file (proc_pid_exe(5)); None when it is gone."""
    try:
        status = os.stat(f"/proc/{pid}/exe")
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _has_begun(pid: int, before: tuple[int, int]) -> bool:
    """Whether a process runs another program than before, or has ended; its words come a moment after its program."""
    now = _program(pid)
    if now is None:
        return True
    try:
        return now != before and bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return True


def _await_end(pid: int) -> None:
    """Wait for a monitor whose container is gone; end it when it does not."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()  # select(2) takes no descriptor above 1023, and a daemon of many containers has more.
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    finally:
        os.close(descriptor)


def _here(path: Path, lines: Sequence[str]) -> tuple[str, ...]:
    """The lines that write a file of these."""
    end = "END"
    while end in lines:
        end += "_"
    return (f"cat >{shlex.quote(str(path))} <<'{end}'", *lines, end)


def _readable(document: dict[str, Any], depth: int = 2) -> list[str]:
    """JSON with a line for each thing of the first levels, and each of those on one line, however long."""
    lines = ["{"]
    for number, (name, value) in enumerate(document.items()):
        deeper = _readable(value, depth - 1) if depth > 1 and value and isinstance(value, dict) else [json.dumps(value)]
        comma = "," if number < len(document) - 1 else ""
        lines += [f" {json.dumps(name)}: {deeper[0]}", *(f" {line}" for line in deeper[1:])]
        lines[-1] += comma
    return [*lines, "}"]


def _kernel_error(what: str, error: OSError) -> KernelError | DiskFull | Invalid:
    if error.errno == 28:  # ENOSPC
        return DiskFull(f"{what}: no space left on the device")
    return KernelError(f"{what}: {error.strerror}")
