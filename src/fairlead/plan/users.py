"""Users and groups as the image names them, read from its own /etc/passwd and /etc/group.

The files are read beneath the root file system: a symlink in an image must not make us read the host's files.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fairlead.errors import Invalid
from fairlead.kernel.mounts import open_beneath

_MAX = 1 << 20
"""Bytes of a passwd or group file that are read; a longer one is the image's trick."""


@dataclass(frozen=True, slots=True)
class User:
    """Numeric ids of a process, and its home directory."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    """Further groups, `gid` among them."""
    home: str


def resolve(root: Path | Sequence[Path], user: str, extra: tuple[str, ...] = ()) -> User:
    """``name``, ``uid``, ``name:group``, ``uid:gid``… as Docker reads it; empty means 0.  `extra`: ``--group-add``.

    `root`: the root file system, or the layers of one that is not mounted, topmost first.
    """
    roots = [root] if isinstance(root, Path) else root
    passwd = _rows(roots, "etc/passwd", 6)
    group = _rows(roots, "etc/group", 3)
    wanted, _, wanted_group = user.partition(":")
    wanted = wanted or "0"
    row = next((r for r in passwd if r[0] == wanted), None)
    if row is None and wanted.isdigit():
        row = next((r for r in passwd if r[2] == wanted), None)
    if row is None and not wanted.isdigit():
        raise Invalid(f"unable to find user {wanted}: no matching entries in passwd file")
    uid = int(row[2]) if row else _number(wanted, "user")
    gid = int(row[3]) if row else 0
    name = row[0] if row else None
    if wanted_group:
        # A group given by hand replaces the user's groups, as in Docker.
        gid, groups = _group(group, wanted_group), []
    else:
        groups = [int(r[2]) for r in group if name and len(r) > 3 and name in r[3].split(",")]
    groups += [_group(group, one) for one in extra]
    # The group is among the further ones, too: a file that keeps its group out would let in who sheds it with a set-gid
    # program (CVE-2022-36109, moby's daemon/oci_linux.go).
    return User(uid, gid, tuple(dict.fromkeys((gid, *groups))), (row[5] if row else "") or "/")


def _group(rows: list[list[str]], wanted: str) -> int:
    for row in rows:
        if row[0] == wanted:
            return int(row[2])
    if wanted.isdigit():
        return _number(wanted, "group")
    raise Invalid(f"unable to find group {wanted}: no matching entries in group file")


def _number(text: str, what: str) -> int:
    if int(text) > 0x7FFFFFFF:
        raise Invalid(f"{what} id {text} is out of range: 0 to 2147483647 are allowed")
    return int(text)


def _rows(roots: Sequence[Path], path: str, fields: int) -> list[list[str]]:
    """The lines of the first such file with at least `fields` fields and numbers where they belong."""
    for root in roots:
        try:
            fd = open_beneath(root, path)
        except OSError as error:
            if error.errno == errno.ENXIO:  # A whiteout: it was removed in this layer.
                return []
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV):
                continue
            raise
        with os.fdopen(fd, "rb") as file:
            text = file.read(_MAX).decode("utf-8", "replace")
        rows = [line.split(":") for line in text.splitlines()]
        return [r for r in rows if len(r) >= fields and r[2].isdigit() and (fields < 6 or r[3].isdigit())]
    return []
