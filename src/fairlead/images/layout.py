"""Where images lie on the disk.

    images/                    mode 0700, since layers hold set-uid programs and device nodes of other systems
      oci-layout, index.json   the directory is an OCI image layout, so skopeo and umoci can read it …
      blobs/sha256/DIGEST      … manifests, configurations and packed layers
      layers/CHAIN             unpacked layers, in the form that overlayfs stacks
      tmp/                     what is being made; nothing else is ever half done

Everything gets its place by one rename from tmp/, so the death of the process leaves rubbish in tmp/ and nowhere else.
(opencontainers/image-spec: image-layout.md, config.md "Layer ChainID".)
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fairlead.errors import DiskFull, FairleadError, Invalid
from fairlead.images.record import Image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

DOCUMENT_MAX = 8 << 20
"""Bytes that a manifest or a configuration may have; registries' own limit for manifests is 4 MiB."""

CHUNK = 1 << 20
"""Bytes per read where blobs are copied or hashed."""

_FULL = (errno.ENOSPC, errno.EDQUOT)


class Layout:
    """The directories below `root`.  All methods block; the bigger ones are meant for worker threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layers = root / "layers"
        self.temporary = root / "tmp"
        self._blobs = root / "blobs" / "sha256"

    def prepare(self) -> None:
        """Make the directories where they are missing."""
        with explained(self.root):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.root.chmod(0o700)
            for directory in (self.layers, self.temporary, self._blobs):
                directory.mkdir(parents=True, exist_ok=True)
            marker = self.root / "oci-layout"
            if not marker.exists():
                marker.write_text('{"imageLayoutVersion":"1.0.0"}')

    def blob(self, digest: str) -> Path:
        """The place of a blob; `digest` is ``sha256:…`` and was validated where it came in."""
        return self._blobs / digest.removeprefix("sha256:")

    def layer(self, chain_id: str) -> Path:
        """The place of an unpacked layer.

        The directory is named by half the digest: mount(2) takes one page of options, and an image may have 127 layers,
        whose names must all fit into ``lowerdir=`` (relative to `layers`: 127 · 33 bytes).
        """
        return self.layers / chain_id.removeprefix("sha256:")[:32]

    @contextlib.asynccontextmanager
    async def workspace(self, purpose: str) -> AsyncIterator[Path]:
        """`scratch` for coroutines: what is left is removed by a worker thread, also when the caller is cancelled."""
        with explained(self.root):
            self.prepare()
            path = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.temporary))
        try:
            yield path
        finally:
            await asyncio.shield(asyncio.to_thread(remove_tree, path))

    @contextlib.contextmanager
    def scratch(self, purpose: str) -> Iterator[Path]:
        """A directory below tmp/ that is gone afterwards, together with all that was left in it."""
        with explained(self.root):
            self.prepare()
            path = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=self.temporary))
        try:
            yield path
        finally:
            remove_tree(path)

    def add_blob(self, source: Path, digest: str) -> None:
        """Move a file, whose digest the caller has verified, to its place."""
        source.chmod(0o600)
        source.rename(self.blob(digest))

    def add_document(self, body: bytes) -> str:
        """Keep a manifest or configuration as a blob; returns its digest."""
        digest = digest_of(body)
        if not self.blob(digest).exists():
            self._write(self.blob(digest), body)
        return digest

    def _write(self, target: Path, body: bytes) -> None:
        """All of `body` or nothing."""
        with explained(self.root), tempfile.NamedTemporaryFile(dir=self.temporary, delete=False) as file:
            try:
                file.write(body)
                file.flush()
                os.rename(file.name, target)
            except BaseException:
                os.unlink(file.name)
                raise

    def write_index(self, images: Iterable[Image]) -> None:
        """Write index.json anew: which manifest carries which tag.  It only repeats what the store knows."""
        manifests: list[dict[str, Any]] = []
        for image in images:
            blob = self.blob(image.manifest)
            with contextlib.suppress(OSError, ValueError):
                document = json.loads(blob.read_bytes())
                descriptor = {
                    "mediaType": document.get("mediaType") or MANIFEST,
                    "digest": image.manifest,
                    "size": blob.stat().st_size,
                }
                for tag in image.tags:
                    manifests.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}})
                if not image.tags:
                    manifests.append(descriptor)
        body = {"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}
        self._write(self.root / "index.json", json.dumps(body).encode())

    def strangers(self, images: Iterable[Image]) -> list[Path]:
        """The blobs and unpacked layers that belong to none of `images`."""
        images = list(images)
        known = {self.blob(digest) for image in images for digest in image.blobs}
        known |= {self.layer(chain) for image in images for chain in image.layers}
        return [path for path in (*_entries(self._blobs), *_entries(self.layers)) if path not in known]

    def leftovers(self) -> list[Path]:
        """What is in tmp/; after a start, when nothing is being made, all of it is rubbish."""
        return _entries(self.temporary)

    def bury(self, paths: Iterable[Path]) -> list[Path]:
        """Take things out of their places at once; the caller removes the returned paths at leisure."""
        graves = []
        for path in paths:
            grave = self.temporary / f"gone-{path.name}-{secrets.token_hex(4)}"
            with contextlib.suppress(FileNotFoundError):
                path.rename(grave)
                graves.append(grave)
        return graves

    def sync(self) -> None:
        """Wait until all is on the disk, so that no power cut can keep the record and lose the files (syncfs(2))."""
        subprocess.run(["sync", "--file-system", str(self.root)], check=False, stderr=subprocess.DEVNULL)


def _entries(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.is_dir() else []


def digest_of(body: bytes) -> str:
    """``sha256:…``"""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def chain_ids(diff_ids: Iterable[str]) -> tuple[str, ...]:
    """The name of each layer *on top of those below it*, lowest first, without ``sha256:`` (config.md)."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digest_of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(item.removeprefix("sha256:") for item in chain)


def remove_tree(path: Path) -> None:
    """Remove a tree of any depth, without following a symlink or a mount.

    rm(1) and not `shutil.rmtree`: that one recurses, and a hostile layer is deeper than Python's stack.
    """
    if not os.path.lexists(path):
        return
    command = ["rm", "-rf", "--one-file-system", "--", str(path)]
    done = subprocess.run(command, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, text=True, check=False)
    if done.returncode:
        raise FairleadError(f"{path} cannot be removed: {done.stderr.strip().splitlines()[-1]}")


@contextlib.contextmanager
def explained(where: Path) -> Iterator[None]:
    """Turns the kernel's refusals into sentences: `DiskFull`, or what failed where."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(where) from error
        raise FairleadError(f"the image store {where} cannot be used: {error.strerror or error}") from error


def disk_full(where: Path) -> DiskFull:
    """The one sentence for a full disk."""
    return DiskFull(f"no space left for images in {where}: free some (fairlead image prune) and try again")


def copy_hashed(source: BinaryIO, target: BinaryIO) -> str:
    """Copy a stream; returns its digest."""
    hashed = hashlib.sha256()
    while chunk := source.read(CHUNK):
        hashed.update(chunk)
        target.write(chunk)
    return f"sha256:{hashed.hexdigest()}"


def free_copy(source: Path, target: Path) -> None:
    """The same file under a second name; a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def parse_json(body: bytes, what: str) -> Any:
    """JSON out of an image; raises `Invalid`.  By msgspec and not json: what it reads, the store can write again."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise Invalid(f"the image is damaged: its {what} is not JSON") from error


def parse_document(body: bytes, what: str) -> dict[str, Any]:
    """A JSON object out of an image; raises `Invalid`."""
    document = parse_json(body, what)
    if not isinstance(document, dict):
        raise Invalid(f"the image is damaged: its {what} is not a JSON object")
    return document
