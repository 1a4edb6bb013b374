"""Unpacking a layer: from a packed tar of unknown origin to a directory that overlayfs can stack.

    blob ─► gzip, zstd … ─► digest ─► GNU tar ─► directory ─► whiteouts turned into overlayfs' own

GNU tar and not our own code: a tar from outside is hostile until proved otherwise.  tar drops leading slashes, refuses
members with "..", and makes symlinks that lead up or to an absolute place only when all else is done, so no member can
be written through one (tar(1) manual, "Security"; each layer goes into an empty directory of its own, which is what
that protection presumes).  Here is then checked what tar does not know: that the bytes are those which the image's
configuration names, and what the names beginning with ``.wh.`` mean (opencontainers/image-spec layer.md).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from fairlead.errors import FairleadError, Invalid, MissingProgram
from fairlead.images.layout import CHUNK, disk_full, explained

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
"""What overlayfs reads: the directory hides the one below it (Documentation/filesystems/overlayfs.rst)."""

_MAGIC = {
    b"\x1f\x8b": ("gzip",),
    b"\x28\xb5\x2f\xfd": ("zstd",),
    b"\xfd7zXZ\x00": ("xz", "-T1"),
    b"BZh": ("bzip2",),
}
"""First bytes of a packed file → what unpacks it.  (zstd's skippable frames, 0x184D2A5?, are added below.)"""

_FULL = re.compile(r"No space left|quota exceeded|Wrote only \d+ of")
"""What tar says of a full disk; "Wrote only" where the disk took half of a write."""

_C_LOCALE = {**os.environ, "LC_ALL": "C"}

TAR = (
    *("tar", "--extract", "--file=-"),
    *("--numeric-owner", "--same-owner", "--same-permissions", "--delay-directory-restore"),
    *("--xattrs", "--xattrs-include=security.capability", "--xattrs-include=user.*"),
    *("--warning=no-timestamp", "--warning=no-unknown-keyword"),
)
"""No ``trusted.*``: a layer must not bring overlayfs' own marks, which lead to other layers' directories."""


def unpacker(head: bytes) -> tuple[str, ...]:
    """The program that unpacks a file with these first bytes; empty for one that is not packed."""
    for magic, command in _MAGIC.items():
        if head.startswith(magic):
            return command
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F:
        return ("zstd",)
    return ()


@contextlib.contextmanager
def plain(file: BinaryIO) -> Iterator[BinaryIO]:
    """The unpacked bytes of an open file, whatever it is packed with; raises `Invalid` where it is damaged."""
    file.seek(0)
    command = unpacker(file.read(8))
    file.seek(0)
    if not command:
        yield file
        return
    # The child shares our file offset, so `file.tell()`'s system call shows the caller how far it has read.
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*command, "-dc"], stdin=file.fileno(), stdout=subprocess.PIPE, stderr=complaints, env=_C_LOCALE
            )
        except FileNotFoundError:
            raise MissingProgram(f"the archive is packed with {command[0]}, which is not installed") from None
        assert process.stdout is not None
        with contextlib.suppress(OSError):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, CHUNK)
        finished = False
        try:
            yield process.stdout  # type: ignore[misc]
            finished = not process.stdout.read(1)
        finally:
            process.stdout.close()
            if not finished:
                process.kill()
            code = process.wait()
        if finished and code:
            raise Invalid(f"the archive is damaged: {_complaint(complaints) or f'{command[0]} failed'}")


def unpack_layer(blob: Path, target: Path, diff_id: str, progress: Callable[[int], None]) -> None:
    """Unpack into the empty directory `target`; `progress` takes the bytes of `blob` read so far.

    Raises `Invalid` (damaged, hostile, or not what `diff_id` names) or `DiskFull`; what is in `target` then is rubbish.
    """
    with explained(target.parent), blob.open("rb") as packed, tempfile.TemporaryFile() as complaints:
        hashed = hashlib.sha256()
        try:
            tar = subprocess.Popen(
                [*TAR, f"--directory={target}"], stdin=subprocess.PIPE, stderr=complaints, env=_C_LOCALE
            )
        except FileNotFoundError:
            raise MissingProgram("layers are unpacked with tar, which is not installed") from None
        assert tar.stdin is not None
        try:
            with contextlib.suppress(OSError):
                fcntl.fcntl(tar.stdin, fcntl.F_SETPIPE_SZ, CHUNK)
            length = 0
            with plain(packed) as stream:
                while chunk := stream.read(CHUNK):
                    hashed.update(chunk)
                    length += len(chunk)
                    # A tar that gave up, or that has seen the end marker, reads no more; the digest goes on.
                    with contextlib.suppress(BrokenPipeError):
                        tar.stdin.write(chunk)
                    progress(os.lseek(packed.fileno(), 0, os.SEEK_CUR))
            with contextlib.suppress(BrokenPipeError):
                tar.stdin.close()
            code = tar.wait()
        finally:
            if tar.poll() is None:
                tar.kill()
                tar.wait()
            with contextlib.suppress(BrokenPipeError):
                tar.stdin.close()
        if code:
            raise _refused(_complaint(complaints), target)
        if not length:
            raise Invalid("the layer is empty: a tar archive was expected")
        if f"sha256:{hashed.hexdigest()}" != diff_id:
            raise Invalid(f"the layer is damaged: it should be {diff_id} and is sha256:{hashed.hexdigest()}")


def _complaint(file: BinaryIO) -> str:
    """The first thing that a program complained of, without its own name."""
    file.seek(0)
    lines = [line for line in file.read(1 << 16).decode(errors="replace").splitlines() if line.strip()]
    lines = [line for line in lines if "Removing leading" not in line] or lines
    full = next((line for line in lines if _FULL.search(line)), None)
    return (full or (lines[0] if lines else "")).partition(": ")[2].strip()


def _refused(complaint: str, target: Path) -> FairleadError:
    if _FULL.search(complaint):
        return disk_full(target.parent)
    if "does not look like a tar" in complaint:
        return Invalid("the archive is not a tar file, plain or packed with gzip, bzip2, xz or zstd")
    return Invalid(f"the layer cannot be unpacked: {complaint or 'tar failed'}")


def whiteout_target(name: str) -> str | None:
    """What a name in a layer hides: ``.wh.a`` hides ``a``; None for an ordinary name.

    Empty for aufs' own notes (``.wh..wh.…``), which mean nothing here and vanish, as in Docker.
    """
    if not name.startswith(WHITEOUT):
        return None
    if name.startswith(WHITEOUT + WHITEOUT):
        return ""
    hidden = name.removeprefix(WHITEOUT)
    if hidden in ("", ".", ".."):
        raise Invalid(f"the layer has the whiteout {name!r}, which names no file")
    return hidden


def settle(root: Path) -> int:
    """Turn the whiteouts in an unpacked layer into overlayfs' own; returns the bytes of its files.

    Walks without recursion (a hostile tree is deeper than Python's stack) and goes only into real directories: no
    symlink is followed, and nobody else writes here meanwhile, since the directories above are open to root alone.
    Settling again changes nothing and only counts.
    """
    try:
        return _settle(root)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise Invalid("the layer has a path that is longer than Linux allows (4096 bytes)") from None
        raise


def _settle(root: Path) -> int:
    total = 0
    linked: set[int] = set()
    pending = [os.fspath(root)]
    while pending:
        directory = pending.pop()
        with os.scandir(directory) as entries:
            found = list(entries)
        names = {entry.name for entry in found}
        for entry in found:
            hidden = whiteout_target(entry.name)
            if hidden is not None:
                _convert(directory, entry, hidden, hidden in names)
                continue
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                pending.append(entry.path)
            elif stat.S_ISREG(status.st_mode) and status.st_ino not in linked:
                total += status.st_size
                if status.st_nlink > 1:
                    linked.add(status.st_ino)
    return total


def _convert(directory: str, entry: os.DirEntry[str], hidden: str, present: bool) -> None:
    if entry.is_dir(follow_symlinks=False):
        raise Invalid(f"the layer has a directory named {entry.name!r}: only a file can be a whiteout")
    os.unlink(entry.path)
    if entry.name == OPAQUE:
        os.setxattr(directory, OPAQUE_XATTR, b"y", follow_symlinks=False)
    elif hidden:
        target = os.path.join(directory, hidden)
        if not present:
            os.mknod(target, stat.S_IFCHR, os.makedev(0, 0))
        elif stat.S_ISDIR(os.lstat(target).st_mode):
            # Removed and made again in one layer: what was below must not show through.
            os.setxattr(target, OPAQUE_XATTR, b"y", follow_symlinks=False)
