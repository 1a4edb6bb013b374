"""``docker commit``: a container's changes as a new image."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from fairlead.containers import layerdiff
from fairlead.containers.record import Container, Status
from fairlead.errors import Conflict, FairleadError
from fairlead.images import Image
from fairlead.images.changes import apply_changes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fairlead.containers.service import Containers

_GIVEN = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "StopSignal", "User", "Volumes",
          "WorkingDir")  # fmt: skip
"""Members of the request's body that win over the container's own."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: the new image's name (or empty: none), who made it and why, and what is to be different."""

    name: str
    comment: str
    author: str
    changes: Sequence[str]
    body: dict[str, Any]
    pause: bool


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the image is made of."""

    container: Container
    parent: Image
    settings: dict[str, Any]
    upper: Path
    lower: list[Path]
    entry: dict[str, str]
    source: dict[str, Any]
    freeze: bool


def _parts(containers: Containers, ref: str, wanted: Wanted) -> _Parts:
    """Raises what a commit would raise."""
    container = containers.get(ref)
    if container.status is Status.REMOVING:
        raise Conflict(f"You cannot commit container {container.id} which is being removed")
    parent = containers.image(container)
    before = config_of(container, parent, wanted.body)
    settings = apply_changes(before, wanted.changes)
    if not settings.get("Entrypoint") and not settings.get("Cmd"):
        settings["Cmd"] = before.get("Cmd")  # An image that runs nothing helps nobody; so does Docker.
    source = {
        "parent": f"sha256:{parent.id}",
        "container": container.id,
        "container_config": {
            "Image": container.spec.image,
            "Hostname": container.spec.hostname,
            "Cmd": list(container.spec.arguments),
        },
    }
    return _Parts(
        container=container,
        parent=parent,
        settings={key: value for key, value in settings.items() if value is not None},
        upper=containers.paths.container_state(container.id) / "upper",
        lower=containers.images.lower_directories(parent),
        entry={
            "created_by": " ".join(container.spec.arguments),
            "author": wanted.author,
            "comment": wanted.comment,
        },
        source=source,
        freeze=wanted.pause and container.status is Status.RUNNING,
    )


async def commit(containers: Containers, ref: str, wanted: Wanted) -> Image:
    """Make the image; a running container is frozen meanwhile, if that is wanted."""
    parts = _parts(containers, ref, wanted)
    container, frozen = parts.container, False
    if parts.freeze:
        try:
            await containers.pause(container.id)
            frozen = True
        except FairleadError:
            # It has ended meanwhile, and we hear of it in a moment; or else it is as it was, and that is an error.
            if Path(f"/proc/{container.pid}").exists():
                raise
    try:
        return await containers.images.derive(
            parts.parent,
            parts.settings,
            wanted.name,
            write=lambda out: _write(parts.upper, parts.lower, out),
            entry=parts.entry,
            source=parts.source,
        )
    finally:
        if frozen:
            with contextlib.suppress(FairleadError):  # it has ended meanwhile
                await containers.unpause(container.id)


def explain_commit(containers: Containers, ref: str, wanted: Wanted) -> list[str]:
    """What `commit` would do, as shell lines.  Blocks while it looks at what the container changed."""
    parts = _parts(containers, ref, wanted)
    lines = containers.images.explain_derive(
        parts.parent,
        parts.settings,
        wanted.name,
        packing=lambda target: layerdiff.layer_lines(parts.upper, parts.lower, target),
        entry=parts.entry,
        source=parts.source,
    )
    if parts.freeze:
        crun = containers.place(parts.container).crun
        lines = [shlex.join(crun("pause", parts.container.id)), *lines, shlex.join(crun("resume", parts.container.id))]
    return lines


def _write(upper: Path, lower: list[Path], out: BinaryIO) -> bool:
    if not layerdiff.changes(upper, lower):
        return False
    layerdiff.write_layer(upper, lower, out)
    return True


def config_of(container: Container, parent: Image, body: dict[str, Any]) -> dict[str, Any]:
    """The new image's ``config``: the parent's, what the container was given, what the request says."""
    spec = container.spec
    settings: dict[str, Any] = {
        **(parent.config.get("config") or {}),
        "Cmd": list(spec.command) or None,
        "Entrypoint": list(spec.entrypoint) or None,
        "Env": list(spec.env),
        "ExposedPorts": {port: {} for port in spec.exposed},
        "Labels": dict(spec.labels),
        "User": spec.user,
        "WorkingDir": spec.workdir,
    }
    volumes: dict[str, Any] = {volume.target: {} for volume in spec.volumes if volume.anonymous}
    if volumes:
        settings["Volumes"] = {**(settings.get("Volumes") or {}), **volumes}
    if spec.stop_signal != "SIGTERM":
        settings["StopSignal"] = spec.stop_signal
    for key in _GIVEN:
        if value := body.get(key):
            if isinstance(value, dict) and isinstance(settings.get(key), dict):
                value = {**settings[key], **value}
            settings[key] = value
    return {key: value for key, value in settings.items() if value is not None}
