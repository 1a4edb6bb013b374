"""Layers from hostile and odd tars.  The directory beside the target plays the rest of the machine."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.errors import FairleadError, Invalid
from fairlead.images.unpack import OPAQUE_XATTR, settle, unpack_layer, unpacker, whiteout_target

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="layers have owners, devices and trusted.* attributes")

Member = tuple[str, dict[str, object]]


def file(name: str, content: bytes = b"x", **more: object) -> Member:
    return name, {"type": tarfile.REGTYPE, "content": content, **more}


def directory(name: str, **more: object) -> Member:
    return name, {"type": tarfile.DIRTYPE, "mode": 0o755, **more}


def symlink(name: str, target: str) -> Member:
    return name, {"type": tarfile.SYMTYPE, "linkname": target}


def hardlink(name: str, target: str) -> Member:
    return name, {"type": tarfile.LNKTYPE, "linkname": target}


def make_tar(*members: Member) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, fields in members:
            fields = dict(fields)
            content = fields.pop("content", b"")
            assert isinstance(content, bytes)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Lab:
    """A directory `target` to unpack into, beside a file that must stay as it is."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.target = directory / "target"
        self.target.mkdir()
        self.outside = directory / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("untouched")

    def unpack(self, tar: bytes, packed: bytes | None = None) -> int:
        blob = self.directory / "blob"
        blob.write_bytes(packed or tar)
        unpack_layer(blob, self.target, f"sha256:{hashlib.sha256(tar).hexdigest()}", lambda current: None)
        return settle(self.target)

    def check_outside(self) -> None:
        assert {path.name for path in self.directory.iterdir()} == {"target", "outside", "blob"}
        assert [path.name for path in self.outside.iterdir()] == ["secret"]
        assert (self.outside / "secret").read_text() == "untouched"
        assert (self.outside / "secret").stat().st_nlink == 1


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


HOSTILE: dict[str, Callable[[Path], tuple[Member, ...]]] = {
    "dotdot": lambda outside: (file("../outside/evil"),),
    "dotdot inside": lambda outside: (directory("a"), file("a/../../outside/evil")),
    "absolute": lambda outside: (file(f"{outside}/evil"),),
    "absolute over": lambda outside: (file(f"{outside}/secret", b"evil"),),
    "through an absolute symlink": lambda outside: (symlink("a", str(outside)), file("a/evil")),
    "through a relative symlink": lambda outside: (symlink("a", "../outside"), file("a/evil")),
    "through a symlink chain": lambda outside: (symlink("a", "b"), symlink("b", "../outside"), file("a/evil")),
    "through a symlinked file": lambda outside: (symlink("a", str(outside / "secret")), file("a", b"evil")),
    "hard link out": lambda outside: (hardlink("a", "../outside/secret"), file("a", b"evil")),
    "hard link absolute": lambda outside: (hardlink("a", str(outside / "secret")), file("a", b"evil")),
    "hard link through a symlink": lambda outside: (symlink("s", "../outside"), hardlink("a", "s/secret")),
    "hard link to a symlink": lambda outside: (
        symlink("s", str(outside / "secret")),
        hardlink("a", "s"),
        file("a", b"evil"),
    ),
    "mode through a symlink": lambda outside: (symlink("d", str(outside)), directory("d", mode=0o000)),
    "whiteout in a symlinked directory": lambda outside: (symlink("d", str(outside)), file("d/.wh.secret")),
    "whiteout of a symlink": lambda outside: (symlink("secret", str(outside / "secret")), file(".wh.secret")),
    "opaque in a symlinked directory": lambda outside: (symlink("d", str(outside)), file("d/.wh..wh..opq")),
    "whiteout that is a symlink": lambda outside: (symlink(".wh.a", str(outside / "secret")),),
    "opaque mark that is a symlink": lambda outside: (symlink(".wh..wh..opq", str(outside / "secret")),),
    "whiteout of the parent": lambda outside: (directory("a"), file("a/.wh...")),
    "root is a symlink": lambda outside: (symlink(".", str(outside)), file("evil")),
}


@needs_root
@pytest.mark.parametrize("name", HOSTILE)
def test_no_tar_writes_outside(lab: Lab, name: str) -> None:
    modes = {path: path.stat().st_mode for path in (lab.directory, lab.outside, lab.outside / "secret")}
    try:
        lab.unpack(make_tar(*HOSTILE[name](lab.outside)))
    except Invalid as error:
        assert "\n" not in str(error)  # noqa: PT017
    lab.check_outside()
    assert {path: path.stat().st_mode for path in modes} == modes
    assert OPAQUE_XATTR not in os.listxattr(lab.outside)


@needs_root
def test_a_member_with_dots_is_an_error_and_says_which(lab: Lab) -> None:
    with pytest.raises(Invalid, match=r"\.\./outside/evil: Member name contains"):
        lab.unpack(make_tar(file("../outside/evil")))


@needs_root
def test_ordinary_members_keep_what_they_are(lab: Lab) -> None:
    old = os.umask(0o077)
    try:
        size = lab.unpack(
            make_tar(
                directory("tmp", mode=0o1777),
                file("bin", b"12345", mode=0o4755, uid=12, gid=34, mtime=1000),
                hardlink("same", "bin"),
                symlink("abs", "/etc/passwd"),
                symlink("up", "../../x"),
                ("fifo", {"type": tarfile.FIFOTYPE}),
                ("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}),
            )
        )
    finally:
        os.umask(old)
    status = (lab.target / "bin").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o4755, 12, 34)
    assert (status.st_mtime, status.st_nlink) == (1000, 2)
    assert size == 5
    assert stat.S_IMODE((lab.target / "tmp").stat().st_mode) == 0o1777
    assert os.readlink(lab.target / "abs") == "/etc/passwd"
    assert os.readlink(lab.target / "up") == "../../x"
    assert (lab.target / "null").stat().st_rdev == os.makedev(1, 3)
    assert (lab.target / "fifo").is_fifo()


def is_whiteout(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


@needs_root
def test_whiteouts_become_those_of_overlayfs(lab: Lab) -> None:
    lab.unpack(
        make_tar(
            file(".wh.gone"),
            directory("d"),
            file("d/.wh..wh..opq"),
            file("d/new"),
            directory("again"),
            file(".wh.again"),
            file("kept"),
            file(".wh.kept"),
            file(".wh..wh.aufs"),
        )
    )
    assert {path.name for path in lab.target.iterdir()} == {"gone", "d", "again", "kept"}
    assert is_whiteout(lab.target / "gone")
    assert os.getxattr(lab.target / "d", OPAQUE_XATTR) == b"y"
    assert [path.name for path in (lab.target / "d").iterdir()] == ["new"]
    assert os.getxattr(lab.target / "again", OPAQUE_XATTR) == b"y"
    assert (lab.target / "kept").read_bytes() == b"x"


@needs_root
def test_the_kernel_reads_the_whiteouts(lab: Lab) -> None:
    """The real overlayfs, over a lower layer: what is white is gone, what is opaque shows nothing from below."""
    lower = lab.directory / "lower"
    for name in ("gone", "stays", "d/old"):
        (lower / name).parent.mkdir(parents=True, exist_ok=True)
        (lower / name).write_text("below")
    lab.unpack(make_tar(file(".wh.gone"), directory("d"), file("d/.wh..wh..opq"), file("d/new")))
    merged = lab.directory / "merged"
    merged.mkdir()
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={lab.target}:{lower}", str(merged)], check=True
    )
    try:
        assert sorted(str(p.relative_to(merged)) for p in merged.rglob("*")) == ["d", "d/new", "stays"]
    finally:
        subprocess.run(["umount", str(merged)], check=True)


@needs_root
def test_overlayfs_marks_in_a_tar_are_not_taken_over(lab: Lab) -> None:
    marks = {
        "SCHILY.xattr.trusted.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.ours": "kept",
    }
    lab.unpack(make_tar(directory("d", pax_headers=marks)))
    assert os.listxattr(lab.target / "d") == ["user.ours"]


@needs_root
@pytest.mark.parametrize("program", ["gzip", "xz", "zstd", "bzip2"])
def test_packed_layers(lab: Lab, program: str) -> None:
    tar = make_tar(file("a", b"y" * 3_000_000))
    packed = subprocess.run([program, "-c"], input=tar, capture_output=True, check=True).stdout
    assert lab.unpack(tar, packed) == 3_000_000


@needs_root
@pytest.mark.parametrize("program", ["gzip", "xz", "zstd", "bzip2"])
def test_a_cut_packed_layer_is_damaged(lab: Lab, program: str) -> None:
    tar = make_tar(file("a", os.urandom(3_000_000)))
    packed = subprocess.run([program, "-c"], input=tar, capture_output=True, check=True).stdout
    with pytest.raises(Invalid, match="damaged"):
        lab.unpack(tar, packed[: len(packed) // 2])


@needs_root
def test_other_bytes_than_the_configuration_names(lab: Lab) -> None:
    with pytest.raises(Invalid, match="should be sha256:"):
        lab.unpack(make_tar(file("a")), make_tar(file("b")))


@needs_root
@pytest.mark.parametrize("content", [b"", b"hello", b"\0" * 100, os.urandom(5000)])
def test_what_is_no_tar(lab: Lab, content: bytes) -> None:
    with pytest.raises(FairleadError) as caught:
        lab.unpack(content, content or None)
    assert caught.value.status == 400


@needs_root
def test_bytes_after_the_end_marker_count_for_the_digest(lab: Lab) -> None:
    """Many tars have padding after the end; tar stops reading there, the digest must not."""
    tar = make_tar(file("a")) + b"\0" * 5_000_000
    assert lab.unpack(tar) == 1


@needs_root
def test_a_very_deep_tree(lab: Lab) -> None:
    """Deeper than Python's stack."""
    path = "/".join(["d"] * 1800)
    lab.unpack(make_tar(file(f"{path}/.wh.x")))
    found = subprocess.run(["find", str(lab.target), "-type", "c"], capture_output=True, text=True, check=True).stdout
    assert found.strip().endswith("/d/x")
    subprocess.run(["rm", "-rf", str(lab.target)], check=True)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("a", None),
        (".wh", None),
        ("x.wh.a", None),
        (".wh.a", "a"),
        (".wh..a", ".a"),
        (".wh..wh..opq", ""),
        (".wh..wh.orph", ""),
    ],
)
def test_whiteout_names(name: str, hidden: str | None) -> None:
    assert whiteout_target(name) == hidden


@pytest.mark.parametrize("name", [".wh.", ".wh..", ".wh..."])
def test_whiteouts_of_nothing(name: str) -> None:
    with pytest.raises(Invalid):
        whiteout_target(name)


def test_unpackers() -> None:
    assert unpacker(b"\x1f\x8b\x08") == ("gzip",)
    assert unpacker(b"\x50\x2a\x4d\x18") == ("zstd",)
    assert unpacker(b"etc/passwd") == ()
    assert unpacker(b"") == ()
