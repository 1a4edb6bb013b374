"""A program of its own that reads and writes containers' files: ``docker cp``, ``export``, the filling of volumes.

A container's files are hostile: links lead anywhere, and its processes move things while we look.  So this program
builds the container's view (root file system, volumes, binds) in a mount namespace of its own, makes it its root
directory, and only then looks at a path.  Nothing is loaded from there: no module is imported and no name service is
asked after the change of root (both would run the container's code as root of the host).

The first line of output is a JSON object: ``{"error": [STATUS, SENTENCE]}``, or what was asked for; then comes the tar
stream.  The standard library only, since it is started by its file name with ``-I -S``, which is quick.
"""

from __future__ import annotations

import bz2  # noqa: F401 - tarfile imports it when it is needed, which is too late here
import ctypes
import errno
import json
import lzma  # noqa: F401
import os
import stat
import subprocess
import sys
import tarfile
import threading
import time
import zlib  # noqa: F401

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_SYS_OPENAT2 = 437
_RESOLVE_IN_ROOT = 0x10
_CAPABILITY = "security.capability"
_PAX = "SCHILY.xattr."
"""Before the name of an extended attribute in a tar's header, as star and Docker have it."""
_BLOCK = 1 << 20


class Refused(Exception):
    """The request cannot be met: an HTTP status and the sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


# The view


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _mount(source: str, target: str, kind: str, flags: int = 0, options: str = "") -> None:
    _call("mount", os.fsencode(source), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), os.fsencode(options))


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_in(root: str, path: str) -> int:
    """A descriptor (O_PATH) of `path` as a process with root directory `root` finds it; raises OSError."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        how = _How(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT)
        size = ctypes.c_size_t(ctypes.sizeof(how))
        found: int = _LIBC.syscall(_SYS_OPENAT2, directory, os.fsencode(path), ctypes.byref(how), size)
        if found < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
        return found
    finally:
        os.close(directory)


def build_view(job: dict[str, Any]) -> str:
    """Mount the container's root, private to this process, with its volumes and binds; returns where it is."""
    _call("unshare", _CLONE_NEWNS)
    _mount("none", "/", "none", _MS_REC | _MS_PRIVATE)
    view = job["view"]
    if job.get("root"):
        _mount(job["root"], view, "none", _MS_BIND)
        root = view
    else:
        root = _overlay(view, job["lower"], job.get("upper"), job.get("work"))
    for source, subpath, target, read_only in job.get("mounts", []):
        _bind(root, source, subpath, target, read_only)
    return str(root)


def _overlay(view: str, lower: list[str], upper: str | None, work: str | None) -> str:
    """Without `upper`, what is written (mount points alone) is gone with us."""
    _mount("tmpfs", view, "tmpfs", 0, "mode=0700")
    root = f"{view}/root"
    os.mkdir(root)
    if upper is None or work is None:
        upper, work = f"{view}/upper", f"{view}/work"
    for directory in (upper, work):
        os.makedirs(directory, exist_ok=True)
    # The options have one page: by their descriptors' names, any number of layers fits.
    layers = [os.open(layer, os.O_PATH | os.O_DIRECTORY) for layer in lower]
    ends = [os.open(end, os.O_PATH | os.O_DIRECTORY) for end in (upper, work)]
    names = [f"/proc/self/fd/{fd}" for fd in (*layers, *ends)]
    if upper.startswith(view) and layers:
        _match_root(f"{view}/upper", lower[0])
    _mount("overlay", root, "overlay", 0,
           f"lowerdir={':'.join(names[:-2])},upperdir={names[-2]},workdir={names[-1]}")  # fmt: skip
    for fd in (*layers, *ends):
        os.close(fd)
    return root


def _match_root(upper: str, lower: str) -> None:
    """The topmost directory's own owner, mode and time are the container's "/"."""
    found = os.stat(lower)
    os.chown(upper, found.st_uid, found.st_gid)
    os.chmod(upper, stat.S_IMODE(found.st_mode))
    os.utime(upper, ns=(found.st_atime_ns, found.st_mtime_ns))


def _bind(root: str, source: str, subpath: str, target: str, read_only: bool) -> None:
    try:
        origin = open_in(source, subpath) if subpath else os.open(source, os.O_PATH)
    except OSError:
        return  # the source of a bind is gone: there is nothing to see
    is_directory = stat.S_ISDIR(os.fstat(origin).st_mode)
    place = _mount_point(root, target, is_directory)
    if place >= 0:
        _mount(f"/proc/self/fd/{origin}", f"/proc/self/fd/{place}", "none", _MS_BIND | _MS_REC)
        os.close(place)
        if read_only:
            again = open_in(root, target)
            _mount("none", f"/proc/self/fd/{again}", "none", _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
            os.close(again)
    os.close(origin)


def _mount_point(root: str, target: str, directory: bool) -> int:
    """A descriptor of the place to mount on, made where it is missing; -1 where it cannot be."""
    try:
        return open_in(root, target)
    except OSError as error:
        if error.errno != errno.ENOENT:
            return -1
    parent, _, name = target.rstrip("/").rpartition("/")
    above = _mount_point(root, parent, True) if parent else os.open(root, os.O_PATH)
    if above < 0 or name in ("", ".", ".."):
        return -1
    try:
        if directory:
            os.mkdir(name, dir_fd=above)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644, dir_fd=above))
    except OSError:
        pass  # a broken link, say: then it is not found again below
    finally:
        os.close(above)
    try:
        return open_in(root, target)
    except OSError:
        return -1


def enter(root: str) -> None:
    """Make the view our root directory, for good, and shut the door to loading anything from it."""
    tarfile.pwd = tarfile.grp = None  # type: ignore[attr-defined]
    # What encodes names is looked up by name, and kept: so it is looked up now.
    "x".encode("utf-8", "surrogateescape").decode("ascii", "replace")
    "x".encode("iso8859-1")
    sys.path.clear()
    sys.meta_path.clear()
    sys.path_hooks.clear()
    os.chroot(root)
    os.chdir("/")


# Looking


_GO_KINDS = {
    stat.S_IFDIR: 1 << 31,
    stat.S_IFLNK: 1 << 27,
    stat.S_IFBLK: 1 << 26,
    stat.S_IFCHR: 1 << 26 | 1 << 21,
    stat.S_IFIFO: 1 << 25,
    stat.S_IFSOCK: 1 << 24,
}


def go_mode(mode: int) -> int:
    """A file's mode as Go's os.FileMode has it (go.dev/pkg/io/fs#FileMode)."""
    found = mode & 0o777 | _GO_KINDS.get(stat.S_IFMT(mode), 0)
    for bit, go in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        found |= go if mode & bit else 0
    return found


def normal(path: str) -> str:
    """Absolute and clean, but with the ``/`` or ``/.`` at its end, which say that a link is to be followed."""
    clean = os.path.normpath("/" + path.lstrip("/"))
    if clean == "/":
        return clean
    if path.endswith("/."):
        return clean + "/."
    return clean + "/" if path.endswith("/") else clean


def base(path: str) -> str:
    """The last word of a path, as Go's path.Base has it."""
    return os.path.basename(path.rstrip("/")) or "/"


def look(path: str, container: str) -> dict[str, Any]:
    """Docker's ContainerPathStat; raises `Refused`."""
    try:
        found = os.lstat(path)
    except OSError as error:
        raise explained(error, path, container) from None
    seconds, rest = divmod(found.st_mtime_ns, 1_000_000_000)
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = f".{rest:09d}".rstrip("0").rstrip(".")
    link = os.path.realpath(path) if stat.S_ISLNK(found.st_mode) else ""
    return {
        "name": base(path),
        "size": found.st_size,
        "mode": go_mode(found.st_mode),
        "mtime": f"{moment}{fraction}Z",
        "linkTarget": link,
    }


def explained(error: OSError, path: str, container: str) -> Refused:
    if error.errno == errno.ENOENT:
        return Refused(404, f"Could not find the file {path} in container {container}")
    if error.errno == errno.ENOTDIR:
        return Refused(400, f"{path}: not a directory")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Refused(507, f"{path}: no space left on the device")
    if error.errno == errno.EROFS:
        return Refused(403, "container rootfs is marked read-only")
    return Refused(500, f"{path}: {error.strerror}")


def find(job: dict[str, Any]) -> dict[str, Any]:
    """Where a path really is: in which of the mounts (-1: in the root), how it is called there, which lie beneath it.

    Of each of those the real path, too.  With ``into`` it must be a directory in which one may write.
    """
    path = normal(job["path"])
    look(path, job["container"])
    if path.endswith(("/", "/.")):
        real = os.path.realpath(path)
    else:
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if job.get("into"):
        real = os.path.realpath(path)
        if not os.path.isdir(real):
            raise Refused(400, "extraction point is not a directory")
        _check_writable(real, job)
    number = _mount_of(real, job)
    targets = [os.path.realpath(target) for _, _, target, _ in job["mounts"]]
    beneath = {
        str(other): target for other, target in enumerate(targets) if target != real and _is_within(target, real)
    }
    inside = targets[number] if number >= 0 else "/"
    return {"real": real, "mount": number, "rest": os.path.relpath(real, inside), "beneath": beneath}


def _real_source(source: str, subpath: str) -> str:
    """Where on the host a mount comes from; empty where that is gone."""
    if not subpath:
        return source
    try:
        origin = open_in(source, subpath)
    except OSError:
        return ""
    try:
        return os.readlink(f"/proc/self/fd/{origin}")
    finally:
        os.close(origin)


# Reading


class _Steady:
    """A file of the length that was announced, even when it shrinks meanwhile."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        data = self._file.read(size)
        return data + bytes(size - len(data))


def write_tar(path: str, name: str, out: BinaryIO) -> None:
    """The tree at `path`, with `name` for its own name."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18) as tar:
        tar.copybufsize = _BLOCK  # type: ignore[attr-defined]
        for place, label in _tree(path, name):
            try:
                _add(tar, place, label)
            except FileNotFoundError:
                continue  # gone since the directory was read


def _tree(path: str, name: str) -> Iterator[tuple[str, str]]:
    yield path, name
    if os.path.islink(path.rstrip("/")) and not path.endswith(("/", "/.")):
        return
    pending = [(path, name)] if os.path.isdir(path) else []
    while pending:
        directory, label = pending.pop()
        try:
            with os.scandir(directory) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue
        for entry in found:
            inner = f"{label.rstrip('/')}/{entry.name}"
            yield entry.path, inner
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, inner))


def _add(tar: tarfile.TarFile, place: str, label: str) -> None:
    member = tar.gettarinfo(place, label)
    if member is None:
        return  # a socket: there is none in a tar
    member.name = label
    if not member.isreg():
        tar.addfile(member)
        return
    try:
        value = os.getxattr(place, _CAPABILITY, follow_symlinks=False)
        member.pax_headers = {_PAX + _CAPABILITY: value.decode("utf-8", "surrogateescape")}
    except OSError:
        pass
    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        tar.addfile(member, _Steady(file))  # type: ignore[arg-type]


# Writing


def extract(job: dict[str, Any], source: BinaryIO) -> None:
    """Unpack a tar stream into a directory that exists; raises `Refused`."""
    path, container = normal(job["path"]), job["container"]
    try:
        found = os.stat(path)
    except OSError as error:
        raise explained(error, path, container) from None
    if not stat.S_ISDIR(found.st_mode):
        raise Refused(400, "extraction point is not a directory")
    _check_writable(os.path.realpath(path), job)
    os.chdir(path)
    times: list[tuple[str, float]] = []
    try:
        with tarfile.open(fileobj=source, mode="r|*", bufsize=1 << 18) as tar:
            tar.copybufsize = _BLOCK  # type: ignore[attr-defined]
            for member in tar:
                _extract(tar, member, job, times)
        while source.read(_BLOCK):
            pass  # what follows the end marker, so that the sender is not cut short
    except tarfile.TarError as error:
        raise Refused(400, f"the archive is damaged or not a tar file: {error}") from None
    except OSError as error:
        raise explained(error, error.filename or path, container) from None
    for name, moment in reversed(times):
        try:
            os.utime(name, (moment, moment), follow_symlinks=False)
        except OSError:
            continue


def _check_writable(path: str, job: dict[str, Any]) -> None:
    number = _mount_of(path, job)
    read_only = job.get("read_only", False) if number < 0 else job["mounts"][number][3]
    if read_only:
        volume = number >= 0
        raise Refused(403, "mounted volume is marked read-only" if volume else "container rootfs is marked read-only")


def _mount_of(path: str, job: dict[str, Any]) -> int:
    """The number of the mount in which a real path is, -1 where it is in the root itself."""
    best, found = "", -1
    for number, (_, _, target, _) in enumerate(job.get("mounts", [])):
        real = os.path.realpath(target)
        if _is_within(path, real) and len(real) >= len(best):
            best, found = real, number
    return found


def _is_within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, job: dict[str, Any], times: list[Any]) -> None:
    name = os.path.normpath(member.name.lstrip("/") or ".")
    if name == ".." or name.startswith("../"):
        raise Refused(400, f"the archive has the member {member.name!r}, which leads out of the directory")
    if member.islnk():
        link = os.path.normpath(member.linkname.lstrip("/"))
        if link.startswith("../"):
            raise Refused(400, f"the archive has the link {member.name!r}, which leads out of the directory")
        member.linkname = link
    if "\0" in name:
        raise Refused(400, "the archive has a member with a zero byte in its name")
    if name == "." and not member.isdir():
        raise Refused(400, "the archive has a member without a name")
    if _make_room(name, member, job.get("no_overwrite", False)):
        return
    member.name = name
    if (owner := job.get("owner")) is not None:
        member.uid, member.gid = owner
    if parent := os.path.dirname(name):
        os.makedirs(parent, exist_ok=True)
    tar.extract(member, ".", numeric_owner=True)
    if member.isdir():
        times.append((name, member.mtime))
    for key, value in member.pax_headers.items():
        if key.startswith((_PAX + "user.", _PAX + _CAPABILITY)) and not member.issym():
            try:
                os.setxattr(name, key.removeprefix(_PAX), value.encode("utf-8", "surrogateescape"))
            except OSError as error:
                if error.errno != errno.ENOTSUP:
                    raise


def _make_room(name: str, member: tarfile.TarInfo, strict: bool) -> bool:
    """Take away what is in the way; directories are merged.  True: there is nothing to do for this member."""
    try:
        found = os.lstat(name)
    except FileNotFoundError:
        return False
    is_directory = stat.S_ISDIR(found.st_mode)
    if strict and is_directory and not member.isdir():
        raise Refused(400, f'cannot overwrite directory "{name}" with non-directory "{member.name}"')
    if strict and not is_directory and member.isdir():
        raise Refused(400, f'cannot overwrite non-directory "{name}" with directory "{member.name}"')
    if is_directory and member.isdir():
        return name == "."
    if is_directory:
        _remove_tree(name)
    else:
        os.unlink(name)
    return False


def _remove_tree(top: str) -> None:
    """Without following a link and without recursion."""
    for directory, _, files, fd in os.fwalk(top, topdown=False, follow_symlinks=False):
        for name in files:
            os.unlink(name, dir_fd=fd)
        for entry in os.listdir(fd):
            found = os.lstat(f"{directory}/{entry}")
            if stat.S_ISDIR(found.st_mode):
                os.rmdir(entry, dir_fd=fd)
            else:
                os.unlink(entry, dir_fd=fd)
    os.rmdir(top)


def plain(source: BinaryIO) -> BinaryIO:
    """The stream unpacked, where it is packed with zstd, which tarfile does not know."""
    head = source.peek(4)[:4]  # type: ignore[attr-defined]
    if head != b"\x28\xb5\x2f\xfd":
        return source
    try:
        program = subprocess.Popen(["zstd", "-dc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise Refused(500, "the archive is packed with zstd, which is not installed") from None
    assert program.stdin is not None
    assert program.stdout is not None
    sink = program.stdin

    def feed() -> None:
        try:
            while data := source.read1(_BLOCK):  # type: ignore[attr-defined]
                sink.write(data)
            sink.close()
        except OSError:
            pass

    threading.Thread(target=feed, daemon=True).start()
    return program.stdout  # type: ignore[return-value]


# Whole trees, by the host's programs


def fill(root: str, places: list[list[str]]) -> list[str]:
    """Copy what the image has at each path into an empty directory; returns the directories that were filled."""
    filled = []
    for path, target in places:
        try:
            source = open_in(root, path)
        except OSError:
            continue
        if stat.S_ISDIR(os.fstat(source).st_mode) and not os.listdir(target):
            done = subprocess.run(
                ["cp", "-a", "--", f"/proc/{os.getpid()}/fd/{source}/.", f"{target}/"],
                capture_output=True,
                text=True,
                env={**os.environ, "LC_ALL": "C"},
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or ["cp failed"])[-1]
                raise Refused(507 if "No space left" in last else 500, f"the volume cannot be filled: {last}")
            filled.append(target)
        os.close(source)
    return filled


def export(root: str) -> None:
    """Become tar, which writes everything, named without a leading ``./``."""
    os.chdir(root)
    # By a pipe and not as arguments: names may begin with a dash, and there may be many.
    reader, writer = os.pipe()
    names = b"\0".join(os.fsencode(name) for name in sorted(os.listdir("."))) + b"\0"
    if os.fork() == 0:
        os.close(reader)
        with open(writer, "wb") as file:
            file.write(names)
        os._exit(0)
    os.close(writer)
    os.dup2(reader, 0)
    command = ["tar", "--create", "--file=-", "--numeric-owner", "--format=posix", "--one-file-system"]
    command += ["--xattrs", "--xattrs-include=security.capability", "--warning=no-file-changed", "--sort=name"]
    command += ["--pax-option=delete=atime,delete=ctime", "--null", "--verbatim-files-from", "--files-from=-"]
    os.execvp("tar", command)


def main(job: dict[str, Any]) -> None:
    """Do one job."""
    out = sys.stdout.buffer

    def say(value: dict[str, Any]) -> None:
        out.write(json.dumps(value).encode() + b"\n")
        out.flush()

    try:
        root = build_view(job)
        match job["do"]:
            case "fill":
                say({"filled": fill(root, job["places"])})
            case "export":
                say({})
                export(root)
            case "stat":
                enter(root)
                say({"stat": look(normal(job["path"]), job["container"])})
            case "find":
                sources = [_real_source(source, subpath) for source, subpath, _, _ in job["mounts"]]
                enter(root)
                say({**find(job), "sources": sources})
            case "get":
                enter(root)
                path = normal(job["path"])
                say({"stat": look(path, job["container"])})
                write_tar(path, base(path), out)
                out.flush()
            case "put":
                source = plain(sys.stdin.buffer)
                enter(root)
                extract(job, source)
                say({})
    except Refused as refused:
        say({"error": [refused.status, str(refused)]})
    except OSError as error:
        say({"error": [500, f"{error.filename or 'the container'}: {error.strerror}"]})


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
