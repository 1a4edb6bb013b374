"""Reading image archives: what ``docker save`` writes, and OCI archives.

Both are a tar with JSON that names members.  Only members that the JSON names are read, into files whose names are
chosen here (their digests), so nothing in the archive decides where anything is written; links are followed inside the
archive's own table of members and nowhere else.

skopeo reads archives too, but gives Docker images another id on the way (see `skopeo.py`), packs what is not packed,
and takes three runs over the archive for each image.

(moby's image/tarexport/load.go; opencontainers/image-spec image-layout.md.)
"""

from __future__ import annotations

import contextlib
import json
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from fairlead.errors import Invalid, NotFound
from fairlead.images.layout import DOCUMENT_MAX, Layout, copy_hashed, digest_of, explained, parse_document, parse_json
from fairlead.images.manifest import (
    Blob,
    Content,
    choose_platform,
    is_list,
    make_manifest,
    parse_content,
    parse_manifest,
)
from fairlead.images.platforms import Platform, platform_of, runs_on
from fairlead.images.reference import Reference
from fairlead.images.unpack import plain

_LINKS_MAX = 8
"""Links from one member to the next; docker save makes one."""

_NEITHER = "the archive holds no image: a docker archive (manifest.json) or an OCI archive (index.json) was expected"


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image out of an archive, its blobs in the layout, and the tags that it had there."""

    content: Content
    tags: tuple[Reference, ...]
    members: dict[str, str]
    """By digest, the member of the archive that has these bytes; what the archive has not was made here."""


def read_archive(packed: Path, scratch: Path, layout: Layout, platform: Platform | None = None) -> list[Loaded]:
    """All images of an archive, or those for a platform.  Blocks while it copies the blobs into the layout.

    Raises `Invalid`, and `NotFound` where none is for the platform (there Docker's answer is an empty one).
    """
    tar = _unpacked(packed, scratch)
    try:
        with explained(layout.root), tarfile.open(tar, "r:") as archive:
            reader = _Reader(archive, scratch, layout, platform)
            if "manifest.json" in reader.members:
                found = list(reader.docker_images())
            elif "index.json" in reader.members:
                found = list(reader.oci_images())
            else:
                raise Invalid(_NEITHER)
            if not found:
                others = ", ".join(sorted(map(str, reader.left_out)))
                raise NotFound(f"no image in the archive is for {platform}: it has {others}")
            return found
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise Invalid(f"the archive is not a tar file, or damaged: {error}") from error


def _unpacked(packed: Path, scratch: Path) -> Path:
    """The archive as a file in which one can seek."""
    with explained(scratch), packed.open("rb") as file, plain(file) as stream:
        if stream is file:
            return packed
        target = scratch / "archive"
        with target.open("wb") as out:
            copy_hashed(stream, out)
    return target


class _Reader:
    def __init__(
        self, archive: tarfile.TarFile, scratch: Path, layout: Layout, platform: Platform | None = None
    ) -> None:
        self._archive = archive
        self._scratch = scratch
        self._layout = layout
        self._platform = platform
        self.left_out: set[Platform] = set()
        """Of the images that are there, the platforms that were not asked for."""
        self.members = {posixpath.normpath(member.name): member for member in archive}
        self._stored: dict[str, Blob] = {}
        self._places: dict[str, str] = {}

    def docker_images(self) -> Iterator[Loaded]:
        entries = parse_json(self._document("manifest.json"), "manifest.json")
        if not isinstance(entries, list) or not entries:
            raise Invalid(_NEITHER)
        for entry in entries:
            paths = entry.get("Layers") if isinstance(entry, dict) else None
            config = entry.get("Config") if isinstance(entry, dict) else None
            if not isinstance(config, str) or not isinstance(paths, list) or not all(isinstance(p, str) for p in paths):
                raise Invalid("the archive is damaged: its manifest.json does not name configuration and layers")
            body = self._document(config)
            if not self._wanted(body):
                continue
            layers = [self._store(path) for path in paths]
            manifest = parse_manifest(json.dumps(make_manifest(body, layers)).encode(), config)
            tags = entry.get("RepoTags") or []
            if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
                raise Invalid("the archive is damaged: the tags in its manifest.json are not a list of names")
            content = parse_content(manifest, body, tags[0] if tags else "the image")
            yield self._keep(content, body, [Reference.parse(tag).tagged() for tag in tags])

    def oci_images(self) -> Iterator[Loaded]:
        index = parse_document(self._document("index.json"), "index")
        items = [item for item in index.get("manifests") or [] if isinstance(item, dict)]
        if not items:
            raise Invalid(_NEITHER)
        tagged = [item for item in items if _tags(item)]
        # Several manifests without names are one image for several platforms.
        for item in tagged or [{"digest": choose_platform({"manifests": items}, "the archive", self._platform)}]:
            body = self._by_digest(item.get("digest"), "manifest")
            document = parse_document(body, "manifest")
            if is_list(document):
                body = self._by_digest(choose_platform(document, "the image", self._platform), "manifest")
            manifest = parse_manifest(body, "the image")
            config = self._by_digest(manifest.config.digest, "configuration")
            if not self._wanted(config):
                continue
            content = parse_content(manifest, config, "the image")
            for layer in manifest.layers:
                if self._store(_blob_name(layer.digest)).digest != layer.digest:
                    raise Invalid(f"the archive is damaged: blob {layer.digest} has other bytes than its name says")
            yield self._keep(content, config, _tags(item))

    def _wanted(self, config: bytes) -> bool:
        """Whether an image with this configuration is for the platform that was asked for."""
        if self._platform is None:
            return True
        found = platform_of(parse_document(config, "configuration"))
        if not runs_on(found, self._platform):
            self.left_out.add(found)
            return False
        return True

    def _keep(self, content: Content, config: bytes, tags: list[Reference]) -> Loaded:
        self._layout.add_document(config)
        self._layout.add_document(content.manifest.body)
        members = {digest: self._places[digest] for digest in content.manifest.blobs if digest in self._places}
        return Loaded(content, tuple(tags), members)

    def _member(self, name: str) -> tarfile.TarInfo:
        """The file that a name leads to."""
        where = posixpath.normpath(name)
        for _ in range(_LINKS_MAX):
            member = self.members.get(where)
            if member is None:
                raise Invalid(f"the archive is damaged: it has no {name!r}")
            if member.issym():
                where = posixpath.normpath(posixpath.join(posixpath.dirname(where), member.linkname))
            elif member.islnk():
                where = posixpath.normpath(member.linkname)
            else:
                break
        if member is None or not member.isreg():
            raise Invalid(f"the archive is damaged: {name!r} is not a file")
        return member

    @contextlib.contextmanager
    def _open(self, name: str) -> Iterator[BinaryIO]:
        stream = self._archive.extractfile(self._member(name))
        assert stream is not None
        with stream:
            yield cast(BinaryIO, stream)

    def _document(self, name: str) -> bytes:
        with self._open(name) as stream:
            body = stream.read(DOCUMENT_MAX + 1)
        if len(body) > DOCUMENT_MAX:
            raise Invalid(f"the archive is damaged: {name!r} has more than {DOCUMENT_MAX >> 20} MiB")
        self._places[digest_of(body)] = self._member(name).name
        return body

    def _by_digest(self, digest: Any, what: str) -> bytes:
        if not isinstance(digest, str):
            raise Invalid(f"the archive is damaged: a {what} has no digest")
        body = self._document(_blob_name(digest))
        if digest_of(body) != digest:
            raise Invalid(f"the archive is damaged: {what} {digest} has other bytes than its name says")
        return body

    def _store(self, name: str) -> Blob:
        """Copy a member into the layout, under the digest that its bytes have."""
        if name not in self._stored:
            target = self._scratch / "blob"
            with self._open(name) as stream, target.open("wb") as out:
                digest = copy_hashed(stream, out)
            self._stored[name] = Blob(digest, target.stat().st_size)
            self._places[digest] = self._member(name).name
            self._layout.add_blob(target, digest)
        return self._stored[name]


def _blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"


def _tags(item: dict[str, Any]) -> list[Reference]:
    """The names of a manifest in index.json: containerd's full one, or skopeo's where it is more than a bare tag."""
    notes = item.get("annotations")
    if not isinstance(notes, dict):
        return []
    full = notes.get("io.containerd.image.name")
    short = notes.get("org.opencontainers.image.ref.name")
    name = full or (short if isinstance(short, str) and (":" in short or "/" in short) else None)
    return [Reference.parse(name).tagged()] if isinstance(name, str) else []
