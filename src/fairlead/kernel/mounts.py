"""Mounting, unmounting, and opening files inside a root file system that is not trusted."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)

MNT_DETACH = 2
"""umount2(2): take the mount out of the tree now, finish when the last user lets go."""

_MS_REMOUNT = 32
_MS_BIND = 4096
_MS_REC = 16384
_CLONE_NEWNS = 0x20000

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT, _SYS_OPENAT2 = 430, 431, 432, 437
"""The same on every architecture that has them (Linux 5.2, openat2 5.6)."""
_FSCONFIG_CMD_CREATE = 6
_CLOSE_ON_EXEC = 1
"""For fsopen(2) and fsmount(2) alike."""
_RESOLVE_IN_ROOT = 0x10
"""openat2(2): resolve absolute links and ``..`` as if `root` were ``/``."""

_FLAGS = {
    "ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "sync": 16, "remount": 32, "mand": 64, "dirsync": 128,
    "noatime": 1024, "nodiratime": 2048, "bind": _MS_BIND, "rbind": _MS_BIND | _MS_REC,
    "unbindable": 1 << 17, "private": 1 << 18, "slave": 1 << 19, "shared": 1 << 20,
    "runbindable": 1 << 17 | _MS_REC, "rprivate": 1 << 18 | _MS_REC, "rslave": 1 << 19 | _MS_REC,
    "rshared": 1 << 20 | _MS_REC, "relatime": 1 << 21, "strictatime": 1 << 24,
}  # fmt: skip
"""Words of mount(8) for the flags of mount(2)."""
_OPPOSITES = {
    "rw": "ro", "suid": "nosuid", "dev": "nodev", "exec": "noexec", "async": "sync", "nomand": "mand",
    "atime": "noatime", "diratime": "nodiratime", "norelatime": "relatime", "nostrictatime": "strictatime",
}  # fmt: skip

_PROPAGATION = 0b1111 << 17
_PER_MOUNT = 1 | 2 | 4 | 8 | 1024 | 2048 | 1 << 21
"""Flags of a mount, which a bind has of its own only if it is remounted."""

DATA_MAX = 4095
"""Bytes that mount(2) takes as options: a page less the closing zero."""


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def unshare() -> None:
    """Give the calling thread, for good, a mount namespace of its own (unshare(2)); raises OSError."""
    _checked(_LIBC.unshare(_CLONE_NEWNS))


def make_private(target: Path) -> None:
    """What is mounted beneath `target` is no longer passed on, in either direction (mount_namespaces(7))."""
    mount("none", target, "none", flags=_FLAGS["rprivate"])


def make_slave(target: Path) -> None:
    """What others mount beneath `target` is still seen here; what is mounted here is seen here alone."""
    mount("none", target, "none", flags=_FLAGS["rslave"])


def mount(source: str, target: Path, kind: str, options: str = "", flags: int = 0) -> None:
    """mount(2); raises OSError."""
    result = _LIBC.mount(
        source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode() or None
    )
    _checked(result, str(target))


def parse_options(text: str) -> tuple[int, str]:
    """Options as mount(8) takes them, as flags and what is left for the file system."""
    flags, data = 0, []
    for word in filter(None, text.split(",")):
        if word in _FLAGS:
            flags |= _FLAGS[word]
        elif word in _OPPOSITES:
            flags &= ~_FLAGS[_OPPOSITES[word]]
        elif word != "defaults":
            data.append(word)
    return flags, ",".join(data)


def mount_with(source: str, target: Path, kind: str, options: str) -> None:
    """Mount as mount(8) would without a helper for this kind of file system; raises OSError."""
    flags, data = parse_options(options)
    mount(source, target, kind, data, flags & ~_PROPAGATION)
    if flags & _MS_BIND and flags & _PER_MOUNT:
        mount("", target, "", "", flags & ~_PROPAGATION | _MS_REMOUNT)
    if flags & _PROPAGATION:
        mount("", target, "", "", flags & (_PROPAGATION | _MS_REC))


def mount_nowhere(kind: str) -> int:
    """Mount a new file system of this kind without a place in the tree; a descriptor of its root.

    fsopen(2), fsmount(2); it is unmounted when the descriptor is closed.  Raises OSError.
    """
    context = _checked(_LIBC.syscall(_SYS_FSOPEN, kind.encode(), _CLOSE_ON_EXEC))
    try:
        _checked(_LIBC.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0))
        return _checked(_LIBC.syscall(_SYS_FSMOUNT, context, _CLOSE_ON_EXEC, 0))
    finally:
        os.close(context)


def _checked(result: int, path: str | None = None) -> int:
    """What a call of the C library gave, unless it failed: then raises OSError."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result


def unmount(target: Path) -> bool:
    """umount2(2), detaching; False when nothing is mounted there.  Raises OSError."""
    try:
        _checked(_LIBC.umount2(os.fsencode(target), MNT_DETACH), str(target))
    except OSError as error:
        if error.errno in (22, 2):  # EINVAL: not a mount point; ENOENT: no such directory
            return False
        raise
    return True


def is_mount_point(path: Path) -> bool:
    """Whether a mount sits on exactly this directory (its device differs from its parent's)."""
    try:
        return os.stat(path).st_dev != os.stat(path.parent).st_dev
    except FileNotFoundError:
        return False


def mount_overlay(lower: list[Path], upper: Path, work: Path, target: Path) -> None:
    """An overlay file system; `lower` has the topmost layer first (Documentation/filesystems/overlayfs.rst).

    Many layers with long names do not fit in mount(2)'s page of options; then each is named by an open descriptor.
    """
    options = overlay_options(lower, upper, work)
    if len(os.fsencode(options)) <= DATA_MAX:
        mount("overlay", target, "overlay", options)
        return
    descriptors = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lower]
    try:
        names = [Path(f"/proc/self/fd/{fd}") for fd in descriptors]
        mount("overlay", target, "overlay", overlay_options(names, upper, work))
    finally:
        for fd in descriptors:
            os.close(fd)


def overlay_options(lower: list[Path], upper: Path, work: Path) -> str:
    """The options of mount(8); colons and commas in names are escaped as overlayfs wants it."""
    return f"lowerdir={':'.join(map(_escape, lower))},upperdir={_escape(upper)},workdir={_escape(work)}"


def _escape(path: Path) -> str:
    return str(path).replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def open_beneath(root: Path, path: str, flags: int = os.O_RDONLY) -> int:
    """Open `path` as a process with root directory `root` would: no link leads out.  Raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # Without O_NONBLOCK a pipe would hold us; with O_PATH nothing is opened, and no other flag is allowed.
        extra = os.O_CLOEXEC if flags & os.O_PATH else os.O_CLOEXEC | os.O_NONBLOCK
        how = _OpenHow(flags | extra, 0, _RESOLVE_IN_ROOT)
        fd = _LIBC.syscall(
            _SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(ctypes.sizeof(how))
        )
        return _checked(fd, path)
    finally:
        os.close(directory)


def is_mounted(path: Path) -> bool:
    """Whether a mount sits on this directory, also one of the same file system (a bind): by proc(5)'s mountinfo."""
    wanted = os.fsencode(path)
    for byte in (b"\\", b" ", b"\t", b"\n"):
        wanted = wanted.replace(byte, b"\\%03o" % byte[0])
    with open("/proc/thread-self/mountinfo", "rb") as file:
        return any(line.split(b" ", 5)[4] == wanted for line in file)


def propagation(path: Path) -> tuple[str, set[str]]:
    """The mount point that a path is on, and its kinds of propagation: ``shared``, ``master`` (proc(5), mountinfo)."""
    wanted, best, kinds = os.fsencode(os.path.realpath(path)) + b"/", b"", set[str]()
    with open("/proc/thread-self/mountinfo", "rb") as file:
        for line in file:
            fields = line.split(b" ")
            point = fields[4].replace(b"\\040", b" ")
            if wanted.startswith(point.rstrip(b"/") + b"/") and len(point) >= len(best):
                optional = fields[6 : fields.index(b"-", 6)]
                best, kinds = point, {word.partition(b":")[0].decode() for word in optional}
    return os.fsdecode(best), kinds


def bind_subpath(source: Path, subpath: str, target: Path) -> None:
    """Bind what is at `subpath` in `source`, whose links lead nowhere else, on `target`; raises OSError."""
    origin = open_beneath(source, subpath, os.O_PATH)
    try:
        if os.path.isdir(f"/proc/self/fd/{origin}"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        mount(f"/proc/self/fd/{origin}", target, "none", flags=_MS_BIND | _MS_REC)
    finally:
        os.close(origin)


if __name__ == "__main__":
    # A program of its own, which can be given up: mount(2) waits for servers. The exit code is the kernel's error.
    try:
        mount_with(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4])
    except OSError as error:
        sys.exit(error.errno)
