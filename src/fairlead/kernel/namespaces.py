"""Network namespaces: make, enter, delete (man 7 network_namespaces, man 8 ip-netns)."""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from fairlead.errors import Conflict, KernelError

NAMED = Path("/run/netns")
"""Where `ip netns` keeps its namespaces."""

_CLONE_NEWNET = 0x40000000
_MS_BIND = 0x1000
_MS_REC = 0x4000
_MS_SHARED = 1 << 20
_MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount_bind(source: str, target: str) -> None:
    """Bind `source` on `target`; raises `OSError`."""
    _call("mount", source.encode(), target.encode(), b"none", _MS_BIND, None)


def unmount(target: str) -> bool:
    """Unmount lazily; False when nothing was mounted there."""
    try:
        _call("umount2", target.encode(), _MNT_DETACH)
    except OSError:
        return False
    return True


def open_namespace(path: str) -> int:
    """A descriptor of the namespace at `path`; the caller closes it."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise KernelError(f"the network namespace {path} is gone") from None


class Namespaces:
    """Knows the host's namespace, that is, the one in which the daemon was started."""

    def __init__(self) -> None:
        self._host = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of it; nobody can be brought back to it after this."""
        host, self._host = self._host, -1
        if host >= 0:
            os.close(host)

    @contextlib.contextmanager
    def entered(self, path: str) -> Iterator[None]:
        """Run the body in the namespace at `path` (this thread only); an empty path is the host's."""
        if not path:
            yield
            return
        self._enter(path)
        try:
            yield
        finally:
            _call("setns", self._host, _CLONE_NEWNET)

    @contextlib.contextmanager
    def entered_by(self, fd: int) -> Iterator[None]:
        """Run the body in the namespace behind a descriptor (this thread only); raises `OSError`."""
        _call("setns", fd, _CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", self._host, _CLONE_NEWNET)

    def inode(self) -> int:
        """What names the host's namespace, as long as it exists (man 7 namespaces)."""
        return os.fstat(self._host).st_ino

    def _enter(self, path: str) -> None:
        fd = open_namespace(path)
        try:
            _call("setns", fd, _CLONE_NEWNET)
        except OSError as error:
            raise KernelError(f"{path} is not a network namespace: {error.strerror}") from None
        finally:
            os.close(fd)

    def add(self, path: str) -> None:
        """Make a namespace and keep it alive by a mount on `path`, as `ip netns add` does.  `Conflict` if it exists."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent == NAMED:
            _share(NAMED)
        try:
            target.touch(mode=0o444, exist_ok=False)
        except FileExistsError:
            raise Conflict(f"a network namespace {path} exists already") from None
        failures: list[OSError] = []

        def make() -> None:
            try:
                _call("unshare", _CLONE_NEWNET)
                mount_bind("/proc/thread-self/ns/net", path)
            except OSError as error:
                failures.append(error)

        # A thread of its own, because unshare changes the calling thread for good.
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if failures:
            target.unlink()
            raise KernelError(f"cannot make the network namespace {path}: {failures[0]}")

    def remove(self, path: str) -> None:
        """Delete it: the kernel frees it, and all links in it, once no process uses it.  Gone already is fine."""
        while unmount(path):
            pass
        Path(path).unlink(missing_ok=True)

    def exists(self, path: str) -> bool:
        """Whether a namespace is mounted on `path`, not just a file left by a crash."""
        try:
            return os.stat(path).st_dev == os.fstat(self._host).st_dev
        except OSError:
            return False


def _share(directory: Path) -> None:
    """Let mounts below `directory` be seen in other mount namespaces, as `ip netns add` does (ip-netns(8))."""
    try:
        _call("mount", b"none", str(directory).encode(), b"none", _MS_SHARED | _MS_REC, None)
    except OSError:
        _call("mount", str(directory).encode(), str(directory).encode(), b"none", _MS_BIND | _MS_REC, None)
        _call("mount", b"none", str(directory).encode(), b"none", _MS_SHARED | _MS_REC, None)
