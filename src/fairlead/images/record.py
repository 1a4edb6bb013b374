"""What the store keeps of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from fairlead.model import Record

Progress = Callable[[dict[str, Any]], None]
"""Takes Docker's JSON progress messages: ``{"status": …, "id": …, "progressDetail": {"current": …, "total": …}}``."""


class Image(Record, frozen=True, kw_only=True):
    """An unpacked image.  `id` is the config blob's digest without ``sha256:`` (64 hex digits), as Docker has it."""

    tags: tuple[str, ...] = ()
    """Full references as Docker shows them, such as ``nginx:latest`` or ``localhost:5000/nginx:1``."""
    digests: tuple[str, ...] = ()
    """Where it was pulled from, by the digest that the registry served: ``nginx@sha256:…``."""
    config: dict[str, Any] = msgspec.field(default_factory=dict)
    """The OCI image configuration document (opencontainers/image-spec config.md), ``{"config": {"Env": …}, …}``."""
    layers: tuple[str, ...] = ()
    """Chain ids of the unpacked layers, lowest first."""
    layer_sizes: tuple[int, ...] = ()
    """Bytes of the files in each of `layers`."""
    size: int = 0
    """Bytes of the unpacked layers."""
    created: float = 0.0
    """When the image was built, by its own configuration; seconds since the epoch, 0 where it does not say."""
    manifest: str = ""
    """Digest of the manifest blob that names the config and layer blobs."""
    blobs: tuple[str, ...] = ()
    """Digests of all blobs that belong to the image: manifest, config, layers."""

    removed: bool = False
    """Removed by force, while stopped containers were made from it: it stays for them, and for nobody else."""

    @property
    def names(self) -> tuple[str, ...]:
        """All references to it."""
        return (*self.tags, *self.digests)

    def claims(self) -> tuple[str, ...]:
        return tuple(f"image:{tag}" for tag in self.tags)
