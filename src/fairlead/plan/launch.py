"""How crun and conmon are started.

crun does not run as the file that it is: a container could write to it through /proc/self/exe (CVE-2019-5736).  So at
every start it binds itself read-only somewhere and starts a second time from there, unless it is in memory that nobody
can write to; and that it is here.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fairlead.kernel import mounts
from fairlead.plan.runtime import Place

_CGROUPS = Path("/sys/fs/cgroup")
_UNIFIED = _CGROUPS / "unified"

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
"""Those, and no others, by which crun knows such memory (fcntl(2), F_GET_SEALS)."""

_MFD_EXEC = 0x10
"""memfd_create(2), since Linux 6.3: it is to be run; what the sysctl vm.memfd_noexec may otherwise not allow."""

_LINKING = threading.Lock()

_Started = TypeVar("_Started")


def in_memory(path: str, run: Path) -> str:
    """Where to run a program from: a link in the run directory to the copy in our memory, which lives as long as we do.

    The file itself, where the kernel allows no such copy.
    """
    status = os.stat(path)
    with _LINKING:
        return _linked(path, status.st_ino, status.st_mtime_ns, run)


@functools.cache
def _linked(path: str, _inode: int, _changed: int, run: Path) -> str:
    """Made again when another version is installed; the former stays, for those who start it just now."""
    # Linux calls a process by the last part of the name that it was run by.
    link = run / "bin" / os.path.basename(path)
    new = link.with_suffix(".new")
    try:
        link.parent.mkdir(exist_ok=True)
        new.unlink(missing_ok=True)
        new.symlink_to(f"/proc/{os.getpid()}/fd/{_copy(path)}")
        new.rename(link)
    except OSError:
        return path
    return str(link) if os.access(link, os.X_OK) else path


def _copy(path: str) -> int:
    descriptor = _memory(os.path.basename(path))
    try:
        with open(path, "rb") as file, open(descriptor, "wb", closefd=False) as copy:
            copy.write(file.read())
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
        # What is open for writing cannot be run (execve(2), ETXTBSY).
        return os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(descriptor)


def _memory(name: str) -> int:
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    with contextlib.suppress(OSError):
        return os.memfd_create(name, flags | _MFD_EXEC)
    return os.memfd_create(name, flags)  # An older kernel.


def run_crun(place: Place, *arguments: str, document: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run crun for a container and collect what it says; `document` is its standard input."""
    argv = place.crun(*arguments)
    return subprocess.run(
        argv,
        executable=in_memory(argv[0], place.run),
        stdin=subprocess.DEVNULL if document is None else None,
        input=document,
        capture_output=True,
        close_fds=False,
    )


@functools.cache
def is_hybrid() -> bool:
    """Whether cgroup v1 and v2 share the controllers of this host.

    There crun refuses to work when the v2 tree has any controller, although it uses only the v1 trees; so it gets to
    see a mount table without the v2 tree.
    """
    try:
        return bool((_UNIFIED / "cgroup.controllers").read_text().strip())
    except OSError:
        return False


def without_unified(start: Callable[[], _Started], *, shared: bool = False) -> _Started:
    """Have a program started where crun accepts a hybrid host; elsewhere just start it.

    What the host mounts later is still seen there, for binds that follow the host; with `shared` also the other way
    round, for which the cgroup mounts must first be taken out of the sharing.
    """
    if not is_hybrid():
        return start()

    def apart() -> _Started:
        mounts.unshare()
        if shared:
            mounts.make_private(_CGROUPS)
        else:
            mounts.make_slave(Path("/"))
        mounts.unmount(_UNIFIED)
        return start()

    # A thread of its own, because unshare(2) changes the calling thread for good.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(apart).result()


def words_without_unified(*, shared: bool = False) -> tuple[str, ...]:
    """The same as words before a command."""
    if not is_hybrid():
        return ()
    script = f'umount {_UNIFIED} && exec "$@"'
    if shared:
        script = f"mount --make-rprivate {_CGROUPS} && {script}"
    kind = "unchanged" if shared else "slave"
    return ("unshare", "--mount", f"--propagation={kind}", "sh", "-c", script, "sh")
