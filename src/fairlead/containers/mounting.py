"""What a container sees of the host's files: where each of its mounts comes from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fairlead.containers.record import Bind, Container
from fairlead.errors import Invalid
from fairlead.kernel import mounts
from fairlead.paths import Paths
from fairlead.plan.containers import BindSubpaths


def sources(container: Container, paths: Paths) -> dict[str, Path]:
    """Where the content of each volume is that the runtime binds, by the path inside."""
    return {
        mount.target: paths.subpaths / container.id / str(number) if mount.subpath else paths.volume(mount.name)
        for number, mount in enumerate(container.spec.volumes)
    }


def subpath_steps(container: Container, paths: Paths) -> tuple[BindSubpaths, ...]:
    """The step for the volumes of which only a part is seen, if there are any."""
    places = sources(container, paths)
    parts = tuple(
        (paths.volume(mount.name), mount.subpath, places[mount.target])
        for mount in container.spec.volumes
        if mount.subpath
    )
    return (BindSubpaths(paths.subpaths / container.id, parts),) if parts else ()


def make_bind_sources(binds: Iterable[Bind]) -> None:
    """A source that is not there becomes a directory, as Docker has it for ``-v``; ``--mount`` refuses."""
    for bind in binds:
        source = Path(bind.source)
        if source.exists():
            _check_propagation(bind)
            continue
        if bind.strict:
            raise Invalid(f'invalid mount config for type "bind": bind source path does not exist: {bind.source}')
        try:
            source.mkdir(parents=True, exist_ok=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise Invalid(f"the bind source {bind.source} cannot be made: {error.strerror}") from None


def _check_propagation(bind: Bind) -> None:
    """What is to be shared, or to follow, must come from a mount that does; raises `Invalid` in Docker's words."""
    words = {option.removeprefix("r") for option in bind.options}
    if words & {"shared", "slave"}:
        where, kinds = mounts.propagation(Path(bind.source))
        if "shared" in words and "shared" not in kinds:
            raise Invalid(f"path {bind.source} is mounted on {where} but it is not a shared mount")
        if not kinds & {"shared", "master"}:
            raise Invalid(f"path {bind.source} is mounted on {where} but it is not a shared or slave mount")


def shown(container: Container, paths: Paths | None = None) -> list[dict[str, Any]]:
    """The list ``Mounts`` of ``docker inspect``; without `paths`, as in ``docker ps``, not where volumes are."""
    spec = container.spec
    found: list[dict[str, Any]] = [
        {
            "Type": "bind",
            "Source": bind.source,
            "Destination": bind.target,
            "Mode": "" if bind.strict else ",".join(bind.options),
            "RW": "ro" not in bind.options,
            "Propagation": next((o for o in bind.options if o.endswith(("shared", "slave", "private"))), "rprivate"),
        }
        for bind in spec.binds
    ]
    found += [
        {
            "Type": "volume",
            "Name": volume.name,
            "Source": str(paths.volume(volume.name)) if paths else "",
            "Destination": volume.target,
            "Driver": "local",
            "Mode": volume.mode,
            "RW": not volume.read_only,
            "Propagation": "",
        }
        for volume in spec.volumes
    ]
    by_flag = spec.asked.get("Tmpfs") or {}
    found += [
        {"Type": "tmpfs", "Source": "", "Destination": target, "Mode": "", "RW": True, "Propagation": ""}
        for target in spec.tmpfs
        if target not in by_flag
    ]
    return found
