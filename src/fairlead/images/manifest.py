"""Reading what an image says about itself: manifest, list of platforms, configuration.

All of it comes from outside, so every field is checked here, once; the rest of the package trusts the result.
(opencontainers/image-spec manifest.md, image-index.md, config.md; distribution's manifest v2 schema 2.)
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fairlead.errors import Invalid, NotFound
from fairlead.images.layout import CONFIG, DOCKER_LIST, INDEX, LAYER, MANIFEST, chain_ids, digest_of, parse_document
from fairlead.images.platforms import Platform, here, platform_of, runnable_on

LAYERS_MAX = 500
"""Overlayfs stacks at most this many (OVL_MAX_STACK, fs/overlayfs/overlayfs.h)."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob as a manifest names it."""

    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The manifest of an image for one platform: its own bytes, and what they name."""

    body: bytes
    config: Blob
    layers: tuple[Blob, ...]

    @property
    def digest(self) -> str:
        """``sha256:…`` of the manifest itself."""
        return digest_of(self.body)

    @property
    def blobs(self) -> tuple[str, ...]:
        """Digests of everything that belongs to the image, each once."""
        return tuple(dict.fromkeys((self.digest, self.config.digest, *(layer.digest for layer in self.layers))))


@dataclass(frozen=True, slots=True)
class Content:
    """An image whose blobs are all at hand, ready to be unpacked."""

    manifest: Manifest
    config: dict[str, Any]
    diff_ids: tuple[str, ...]

    @property
    def id(self) -> str:
        """The image's id."""
        return self.manifest.config.digest.removeprefix("sha256:")

    @property
    def chains(self) -> tuple[str, ...]:
        """Chain ids of the layers, lowest first."""
        return chain_ids(self.diff_ids)


def is_list(document: dict[str, Any]) -> bool:
    """An image for several platforms."""
    media = document.get("mediaType")
    return media in (INDEX, DOCKER_LIST) or (media is None and "manifests" in document)


def choose_platform(document: dict[str, Any], name: str, wanted: Platform | None = None) -> str:
    """The digest, in a list, of the manifest for a platform, by default this machine's.

    Raises `NotFound` with what there is instead.
    """
    wanted = wanted or here()
    fitting = runnable_on(wanted)
    offered = []
    matches: list[tuple[int, str]] = []
    for item in _list_of_objects(document.get("manifests"), "manifest list"):
        place = item.get("platform")
        found = platform_of(place) if isinstance(place, dict) and place else None
        if found is None or found in fitting:
            rank = fitting.index(found) if found else len(fitting)
            matches.append((rank, _digest(item, "manifest list")))
        elif found.system != "unknown":  # "unknown/unknown" are build attestations, no platforms
            offered.append(str(found))
    if not matches:
        raise NotFound(
            f"no matching manifest for {wanted} in the manifest list of {name}: "
            f"it has {', '.join(sorted(set(offered))) or 'nothing'}"
        )
    return min(matches, key=lambda match: match[0])[1]


def parse_manifest(body: bytes, name: str) -> Manifest:
    """Raises `Invalid` where this is no image that can be run."""
    document = parse_document(body, "manifest")
    if document.get("schemaVersion") == 1:
        raise Invalid(f"{name} has a manifest of the old schema 1, which is not supported: push it anew")
    config = document.get("config")
    if not isinstance(config, dict):
        raise Invalid(f"{name} is no container image: its manifest names no configuration")
    kind = str(config.get("mediaType", ""))
    if kind not in (CONFIG, "application/vnd.docker.container.image.v1+json", ""):
        raise Invalid(f"{name} is no container image but an artifact of type {kind}")
    layers = _list_of_objects(document.get("layers"), "manifest")
    if len(layers) > LAYERS_MAX:
        raise Invalid(f"{name} has {len(layers)} layers: at most {LAYERS_MAX} can be stacked")
    for layer in layers:
        if "foreign" in (media := str(layer.get("mediaType", ""))) or "nondistributable" in media:
            raise Invalid(f"{name} has a layer of type {media}, which is not stored in the registry")
    return Manifest(body, _blob(config), tuple(_blob(layer) for layer in layers))


def parse_content(manifest: Manifest, config_body: bytes, name: str) -> Content:
    """Check the configuration against the manifest; raises `Invalid`."""
    if digest_of(config_body) != manifest.config.digest:
        raise Invalid(f"{name} is damaged: its configuration is not what its manifest names")
    config = parse_document(config_body, "configuration")
    system = config.get("os") or "linux"
    if system != "linux":
        raise Invalid(f"{name} is an image for {system!r}: only linux can run here")
    rootfs = config.get("rootfs")
    diff_ids = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(diff_ids, list) or not all(isinstance(d, str) and _DIGEST.fullmatch(d) for d in diff_ids):
        raise Invalid(f"{name} is damaged: its configuration does not list its layers")
    if len(diff_ids) != len(manifest.layers):
        raise Invalid(
            f"{name} is damaged: its configuration lists {len(diff_ids)} layers, its manifest {len(manifest.layers)}"
        )
    return Content(manifest, _checked(config, name), tuple(diff_ids))


_WORDS = ("Cmd", "Entrypoint", "Env", "OnBuild", "Shell")
_TEXTS = ("User", "WorkingDir", "StopSignal", "Image", "Hostname", "Domainname")
_TABLES = ("ExposedPorts", "Volumes", "Labels", "Healthcheck")


def _checked(config: dict[str, Any], name: str) -> dict[str, Any]:
    """The configuration with every field that is used later of the right type; null stands for an absent one."""
    config = {key: value for key, value in config.items() if value is not None}
    settings = config.get("config", {})
    if not isinstance(settings, dict):
        raise Invalid(f"{name} is damaged: the 'config' of its configuration is not a JSON object")
    settings = {key: value for key, value in settings.items() if value is not None}
    for key in ("Cmd", "Entrypoint"):
        # Docker reads a plain string as a list of one (moby's api/types/strslice).
        if isinstance(settings.get(key), str):
            settings[key] = [settings[key]]
    for key in _WORDS:
        value = settings.get(key, [])
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise Invalid(f"{name} is damaged: {key} in its configuration is not a list of words")
    for key in _TEXTS:
        if not isinstance(settings.get(key, ""), str):
            raise Invalid(f"{name} is damaged: {key} in its configuration is not a text")
    for key in _TABLES:
        if not isinstance(settings.get(key, {}), dict):
            raise Invalid(f"{name} is damaged: {key} in its configuration is not a JSON object")
    if not all(isinstance(value, str) for value in settings.get("Labels", {}).values()):
        raise Invalid(f"{name} is damaged: a label in its configuration is not a text")
    if not isinstance(config.get("history", []), list):
        raise Invalid(f"{name} is damaged: the history in its configuration is not a list")
    return {**config, "config": settings}


def make_manifest(config_body: bytes, layers: list[Blob]) -> dict[str, Any]:
    """The manifest of an image that came without one, with uncompressed layers."""
    return {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config_body), "size": len(config_body)},
        "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.size} for layer in layers],
    }


def created_at(config: dict[str, Any]) -> float:
    """The configuration's RFC 3339 time as seconds since the epoch, 0 where it is absent or nonsense."""
    text = config.get("created")
    if isinstance(text, str):
        # Go writes nanoseconds, datetime takes microseconds.
        short = re.sub(r"(\.\d{6})\d+", r"\1", text)
        with contextlib.suppress(ValueError, OverflowError):
            return max(0.0, datetime.fromisoformat(short).timestamp())
    return 0.0


def _list_of_objects(value: object, what: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Invalid(f"the image is damaged: its {what} has no list where one belongs")
    return value


def _digest(item: dict[str, Any], what: str) -> str:
    digest = item.get("digest")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise Invalid(f"the image is damaged: its {what} has {digest!r} for a digest; sha256:… is allowed")
    return digest


def _blob(item: dict[str, Any]) -> Blob:
    size = item.get("size")
    if not isinstance(size, int) or size < 0:
        raise Invalid(f"the image is damaged: its manifest has {size!r} for a size in bytes")
    return Blob(_digest(item, "manifest"), size)
