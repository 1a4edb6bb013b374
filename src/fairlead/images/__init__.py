"""Images: import, load, pull, tag, remove, and the unpacked layers that containers stand on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fairlead.model import Record
from fairlead.paths import Paths
from fairlead.store import Store

Progress = Callable[[dict[str, Any]], None]
"""Takes Docker's JSON progress messages: ``{"status": …, "id": …, "progressDetail": {"current": …, "total": …}}``."""


class Image(Record, frozen=True, kw_only=True):
    """An unpacked image.  `id` is the config blob's digest without ``sha256:`` (64 hex digits), as Docker has it."""

    tags: tuple[str, ...] = ()
    """Full references as Docker shows them, such as ``nginx:latest`` or ``localhost:5000/nginx:1``."""
    digests: tuple[str, ...] = ()
    config: dict[str, Any] = {}
    """The OCI image configuration document (opencontainers/image-spec config.md), ``{"config": {"Env": …}, …}``."""
    layers: tuple[str, ...] = ()
    """Chain ids of the unpacked layers, lowest first."""
    size: int = 0
    """Bytes of the unpacked layers."""
    created: float = 0.0

    def claims(self) -> tuple[str, ...]:
        return tuple(f"image:{tag}" for tag in self.tags)


class Images:
    """The image store.  A `ref` is a tag (``:latest`` if absent), a digest, an id, or an unambiguous id prefix."""

    def __init__(self, store: Store, paths: Paths) -> None: ...

    def list(self) -> list[Image]: ...
    def get(self, ref: str) -> Image:
        """Raises `NotFound`: ``No such image: REF``."""

    def lower_directories(self, image: Image) -> list[Path]:
        """The unpacked layers, topmost first, as overlayfs wants its ``lowerdir``."""

    async def pull(self, ref: str, progress: Progress, *, insecure: bool | None = None) -> Image: ...
    async def load(self, archive: AsyncIterator[bytes], progress: Progress) -> list[Image]: ...
    async def import_(
        self, tar: AsyncIterator[bytes], ref: str, *, changes: list[str] | None = None, message: str = ""
    ) -> Image: ...
    def tag(self, ref: str, new: str) -> None: ...
    async def remove(
        self, ref: str, *, force: bool = False, in_use: Callable[[str], list[str]]
    ) -> list[dict[str, str]]:
        """Returns Docker's ``[{"Untagged": …}, {"Deleted": …}]``; `in_use` names the containers of an image id."""

    async def prune(self, *, all_unused: bool, in_use: Callable[[str], list[str]]) -> list[dict[str, str]]: ...
    def recover(self) -> None:
        """After a start: remove half-unpacked layers, unreferenced blobs and temporary files."""
