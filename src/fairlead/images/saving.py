"""Images out of the store: the documents of an archive that Docker loads, and a push by skopeo.

An archive is Docker's and an OCI image layout at once, as Docker 25 and later write it: the blobs are there once, and
``manifest.json`` (Docker's list) and ``index.json`` (OCI's) both name them.  Blobs go in as they are, packed or not.
(moby's image/tarexport/save.go; opencontainers/image-spec image-layout.md.)
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from fairlead.errors import FairleadError
from fairlead.images.layout import INDEX, MANIFEST, Layout
from fairlead.images.record import Image
from fairlead.images.reference import Reference

Chosen = dict[str, tuple[Image, list[str]]]
"""By image id: the image, and the tags under which it is saved."""

NAMES = "names"
"""The file that names an archive's blobs; it does not go into the archive itself."""


def documents(layout: Layout, chosen: Chosen) -> dict[str, bytes]:
    """The archive's JSON files by name, and `NAMES`, the list of its blobs for tar; raises where a blob is lost."""
    entries: list[dict[str, Any]] = []
    manifests: list[dict[str, Any]] = []
    repositories: dict[str, dict[str, str]] = {}
    for image, tags in chosen.values():
        manifest = read_manifest(layout, image)
        layers = [str(layer["digest"]) for layer in manifest["layers"]]
        entries.append(
            {
                "Config": _name(f"sha256:{image.id}"),
                "RepoTags": tags or None,
                "Layers": [_name(digest) for digest in layers],
            }
        )
        descriptor = {
            "mediaType": manifest.get("mediaType") or MANIFEST,
            "digest": image.manifest,
            "size": layout.blob(image.manifest).stat().st_size,
        }
        for tag in tags:
            reference = Reference.parse(tag)
            notes = {
                "io.containerd.image.name": f"{reference.domain}/{reference.path}:{reference.tag}",
                "org.opencontainers.image.ref.name": reference.tag,
            }
            manifests.append({**descriptor, "annotations": notes})
            if layers:
                repositories.setdefault(tag.rpartition(":")[0], {})[reference.tag] = layers[-1].removeprefix("sha256:")
        if not tags:
            manifests.append(descriptor)
    blobs = dict.fromkeys(_name(digest) for image, _ in chosen.values() for digest in image.blobs)
    return {
        NAMES: "".join(f"{blob}\n" for blob in blobs).encode(),
        "manifest.json": json.dumps(entries).encode(),
        "index.json": json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).encode(),
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "repositories": json.dumps(repositories).encode(),
    }


def read_manifest(layout: Layout, image: Image) -> dict[str, Any]:
    """An image's own manifest; raises where it or another blob is lost."""
    for digest in image.blobs:
        if not layout.blob(digest).exists():
            raise FairleadError(f"image {image.id[:12]} lost its blob {digest}: pull or load the image again")
    found: dict[str, Any] = json.loads(layout.blob(image.manifest).read_bytes())
    return found


def archive_command(layout: Layout, scratch: Path, files: Iterable[str]) -> list[str]:
    """The tar command that writes the archive to its output; `files` of `documents` are in `scratch`."""
    return [
        *("tar", "--create", "--file=-", "--format=posix", "--numeric-owner", "--owner=0", "--group=0", "--mode=0644"),
        *("--pax-option=delete=atime,delete=ctime", "--directory", str(layout.root)),
        *(f"--files-from={scratch / NAMES}", "--directory", str(scratch), *(file for file in files if file != NAMES)),
    ]


def push_layout(layout: Layout, scratch: Path, image: Image) -> str:
    """A layout of one image for skopeo, whose blobs are ours; returns its name for skopeo."""
    place = scratch / "layout"
    (place / "blobs").mkdir(parents=True)
    os.symlink(layout.root / "blobs/sha256", place / "blobs/sha256")
    manifest = read_manifest(layout, image)
    descriptor = {
        "mediaType": manifest.get("mediaType") or MANIFEST,
        "digest": image.manifest,
        "size": layout.blob(image.manifest).stat().st_size,
        "annotations": {"org.opencontainers.image.ref.name": "image"},
    }
    (place / "index.json").write_text(json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor]}))
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return f"oci:{place}:image"


def choose(refs: Iterable[str], everything: Sequence[Image], get: Callable[[str], Image]) -> Chosen:
    """What each name stands for: a tag is saved with that tag, a repository with all its tags, an id with none."""
    chosen: Chosen = {}
    for ref in refs:
        wanted: list[tuple[Image, str]] = []
        try:
            reference = Reference.parse(ref)
        except FairleadError:
            reference = None
        if reference is not None and not reference.tag and not reference.digest:
            wanted = [
                (image, tag) for image in everything for tag in image.tags if tag.rpartition(":")[0] == reference.name
            ]
        if not wanted:
            image = get(ref)
            shown = str(reference.tagged()) if reference is not None else ""
            wanted = [(image, shown if shown in image.tags else "")]
        for image, tag in wanted:
            tags = chosen.setdefault(image.id, (image, []))[1]
            if tag and tag not in tags:
                tags.append(tag)
    return chosen


def _name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/', 1)}"
