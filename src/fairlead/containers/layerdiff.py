"""What a container changed: its own layer, read against the image's layers beneath.  Blocks; meant for threads.

In its own layer overlayfs keeps whole files, whiteouts (character devices 0:0) for what is gone, and marks directories
that hide what is beneath them as opaque (Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import stat
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fairlead.errors import FairleadError
from fairlead.images.unpack import OPAQUE, OPAQUE_XATTR, WHITEOUT

MODIFIED, ADDED, DELETED = 0, 1, 2
"""Kinds as the API counts them."""

_REDIRECT = "trusted.overlay.redirect"
NOT_ITS_OWN = {
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/mtab",
    "/dev",
    "/proc",
    "/sys",
    "/run/.containerenv",
    "/.dockerenv",
}
"""What the runtime makes to mount on, and what `MarkRoot` makes: no change of the container's, as Docker sees it."""


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs; `place` is where its own layer has it (where it is not deleted)."""

    path: str
    kind: int
    place: str


def changes(upper: Path, lower: Sequence[Path]) -> list[Change]:
    """All that differs from the image, by path; what lies above a change is modified.  `lower`: topmost first."""
    if not upper.is_dir():
        return []
    found = {change.path: change for change in _walk(os.fspath(upper), "", [os.fspath(layer) for layer in lower])}
    kept: list[Change] = []
    above: set[str] = set()
    for path, change in sorted(found.items(), reverse=True):
        # A directory that is there only because of what lay beneath it is no change if none of that counts.
        if (
            change.kind == MODIFIED
            and path not in above
            and _is_directory(change.place)
            and not _has_other_attributes(change.place, path, lower)
        ):
            continue
        kept.append(change)
        while path:
            path = path.rpartition("/")[0]
            above.add(path)
    return kept[::-1]


def _walk(directory: str, path: str, lowers: list[str]) -> Iterator[Change]:
    """The changes beneath one directory of the layer; `lowers` are the directories that show through it."""
    pending = [(directory, path, lowers)]
    while pending:
        directory, path, lowers = pending.pop()
        seen = set()
        with os.scandir(directory) as entries:
            for entry in entries:
                seen.add(entry.name)
                inner = f"{path}/{entry.name}"
                if inner in NOT_ITS_OWN:
                    continue
                status = entry.stat(follow_symlinks=False)
                exists, below = _beneath(lowers, entry.name)
                if _is_whiteout(status):
                    if exists:
                        yield Change(inner, DELETED, entry.path)
                    continue
                yield Change(inner, MODIFIED if exists else ADDED, entry.path)
                if stat.S_ISDIR(status.st_mode):
                    opaque = is_opaque(entry.path)
                    if opaque:
                        yield from _hidden(entry.path, inner, below)
                    pending.append((entry.path, inner, [] if opaque else below))


def _beneath(lowers: list[str], name: str) -> tuple[bool, list[str]]:
    """Whether the layers have this name, and the directories of theirs that would show through one of that name."""
    exists, directories = False, []
    for lower in lowers:
        place = os.path.join(lower, name)
        try:
            status = os.lstat(place)
        except OSError:
            continue
        if _is_whiteout(status):
            break
        if not exists:
            exists = True
        if not stat.S_ISDIR(status.st_mode):
            break
        directories.append(place)
        if is_opaque(place):
            break
    return exists, directories


def _hidden(directory: str, path: str, lowers: list[str]) -> Iterator[Change]:
    """What an opaque directory hides and does not have itself."""
    present = set(os.listdir(directory))
    gone: set[str] = set()
    covered: set[str] = set()
    for lower in lowers:
        with os.scandir(lower) as entries:
            for entry in entries:
                if entry.name in covered:
                    continue
                covered.add(entry.name)
                if not _is_whiteout(entry.stat(follow_symlinks=False)):
                    gone.add(entry.name)
    for name in gone - present:
        yield Change(f"{path}/{name}", DELETED, "")


def _has_other_attributes(place: str, path: str, lower: Sequence[Path]) -> bool:
    """Whether a directory has another owner or mode than in the image."""
    mine = os.lstat(place)
    lowers = [os.fspath(layer) for layer in lower]
    for name in path.strip("/").split("/"):
        _, lowers = _beneath(lowers, name)
    if not lowers:
        return True
    theirs = os.lstat(lowers[0])
    return (mine.st_mode, mine.st_uid, mine.st_gid) != (theirs.st_mode, theirs.st_uid, theirs.st_gid)


def _is_directory(place: str) -> bool:
    return stat.S_ISDIR(os.lstat(place).st_mode)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(directory: str) -> bool:
    """Whether overlayfs lets nothing show through this directory; raises where it was renamed (``redirect_dir``)."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        names = os.listxattr(directory, follow_symlinks=False)
    if _REDIRECT in names:
        raise FairleadError(
            f"{directory} was renamed by the container, which this kernel's overlayfs keeps as a reference: "
            "its changes cannot be told (the module option overlay.redirect_dir=off helps)"
        )
    return OPAQUE_XATTR in names and os.getxattr(directory, OPAQUE_XATTR, follow_symlinks=False) == b"y"


def write_layer(upper: Path, lower: Sequence[Path], out: BinaryIO) -> None:
    """The changes as an image's layer: a tar with whiteouts (opencontainers/image-spec layer.md)."""
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18) as tar:
        for change in changes(upper, lower):
            name = change.path.lstrip("/")
            if change.kind == DELETED:
                if change.place:  # what an opaque directory hides needs no mark of its own
                    head, _, last = name.rpartition("/")
                    _add_empty(tar, f"{head}/{WHITEOUT}{last}" if head else f"{WHITEOUT}{last}")
                continue
            member = tar.gettarinfo(change.place, name)
            if member is None:
                continue  # a socket
            member.uname = member.gname = ""
            if member.isdir():
                tar.addfile(member)
                if is_opaque(change.place):
                    _add_empty(tar, f"{name}/{OPAQUE}")
            elif member.isreg():
                _add_file(tar, member, change.place)
            else:
                tar.addfile(member)


def layer_lines(upper: Path, lower: Sequence[Path], target: Path) -> list[str]:
    """What `write_layer` does, as shell lines that write the tar `target`; none where nothing was changed."""
    files: list[str] = []
    marks: list[str] = []
    for change in changes(upper, lower):
        name = change.path.lstrip("/")
        if change.kind == DELETED:
            if change.place:
                marks.append(os.path.join(os.path.dirname(name), WHITEOUT + os.path.basename(name)))
        elif not stat.S_ISSOCK(os.lstat(change.place).st_mode):
            files.append(name)
            if _is_directory(change.place) and is_opaque(change.place):
                marks.append(f"{name}/{OPAQUE}")
    if not files and not marks:
        return []
    archive, beside = shlex.quote(str(target)), target.with_name("marks")
    lines = _tar_lines("--create", archive, upper, files)
    if marks:
        # What an image's layer says of files that are gone are files, too: empty ones, with a name of a certain kind.
        places = dict.fromkeys(str(beside / os.path.dirname(mark)) for mark in marks)
        lines.append(f"mkdir -p {' '.join(map(_word, places))}")
        lines.append(f"touch {' '.join(_word(str(beside / mark)) for mark in marks)}")
        lines += _tar_lines("--append", archive, beside, marks)
    return lines


def _tar_lines(verb: str, archive: str, directory: Path, names: list[str]) -> list[str]:
    """The lines that put these names, and nothing beneath them, into an archive."""
    options = "--numeric-owner --format=posix --xattrs --xattrs-include=security.capability --no-recursion"
    where = f"--file={archive} --directory={shlex.quote(str(directory))}"
    return [
        f"tar {verb} {where} {options} --pax-option=delete=atime,delete=ctime --files-from=- <<'END'",
        *(f"./{_escaped(name)}" for name in names),
        "END",
    ]


def _escaped(name: str) -> str:
    """A name as tar reads it from a list: what is no plain letter, by its number (tar(1), ``--unquote``)."""
    return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\{byte:03o}" for byte in os.fsencode(name))


def _word(name: str) -> str:
    """A name as a word for the shell, which may hold any bytes."""
    if name.isprintable():
        return shlex.quote(name)
    return '"$(printf %b ' + shlex.quote("".join(f"\\0{byte:03o}" for byte in os.fsencode(name))) + ')"'


def _add_empty(tar: tarfile.TarFile, name: str) -> None:
    member = tarfile.TarInfo(name)
    member.mode = 0o600
    tar.addfile(member, io.BytesIO())


def _add_file(tar: tarfile.TarFile, member: tarfile.TarInfo, place: str) -> None:
    for name in ("security.capability",):
        try:
            value = os.getxattr(place, name, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
        else:
            member.pax_headers = {f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape")}
    with open(place, "rb") as file:
        tar.addfile(member, file)
