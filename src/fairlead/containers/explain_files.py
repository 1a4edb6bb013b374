"""What copying a container's files in and out would do, as the lines that a person would type.  Changes nothing.

The program that copies (`fairlead.copier`) shows itself the container's files in a mount namespace of its own and
resolves paths in there.  Here paths are resolved when the lines are written, so that they name the host's own files:
no link inside a container leads a line elsewhere.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fairlead.containers.archive import Archives
from fairlead.containers.record import Container
from fairlead.plan.containers import MountOverlay

if TYPE_CHECKING:
    from fairlead.containers.service import Containers

Lines = list[str]

_EXPORTED = (
    "--one-file-system --xattrs --xattrs-include=security.capability --warning=no-file-changed --sort=name "
    "--pax-option=delete=atime,delete=ctime"
)
_UNPACK = "tar --extract --file=- --numeric-owner --same-owner --same-permissions"


@dataclass(frozen=True, slots=True)
class _Found:
    """A path of a container's as one of the host's, and the lines that bring it there and take it away again."""

    container: Container
    path: str
    before: Lines
    after: Lines

    def lines(self, *copying: str) -> Lines:
        """All of it, with what is done in between."""
        return [*self.before, *copying, *self.after]


class FileExplainer:
    """Explains copies; each method raises what the copy would raise."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._archives = Archives(containers)

    async def get(self, ref: str, path: str, target: str, *, owner: bool) -> Lines:
        """Out of a container to `target`, a path of the host; empty: as a tar to the standard output."""
        found = await self._find(ref, path)
        if target:
            options = "--archive" if owner else "--recursive --no-dereference --preserve=mode,timestamps,links"
            return found.lines(f"cp {options} --no-target-directory {shlex.join([found.path, target])}")
        whole = path.endswith(("/", "/."))
        directory, name = (found.path, ".") if whole else os.path.split(found.path)
        return found.lines(f"{_pack(directory)} -- {shlex.quote(name)}")

    async def put(self, ref: str, path: str, source: str, name: str, *, as_user: bool) -> Lines:
        """Into a directory of a container: `source`, a path of the host, as `name`; empty: a tar on standard input.

        A `source` that ends with ``/.`` is a directory; with the `name` ``.`` what is in it goes into that at `path`.
        """
        found = await self._find(ref, path, into=True)
        owner = await self._archives.owner(found.container) if as_user else None
        place, target = shlex.quote(found.path), shlex.quote(os.path.join(found.path, name))
        unpack = f"{_UNPACK} --directory={place}"
        given = f"--owner={owner[0]} --group={owner[1]}" if owner else ""
        if not source:
            if not given:
                return found.lines(unpack)
            scratch = shlex.quote(str(self._containers.paths.run / "cp"))
            packing = f"{_pack_content(scratch, given)} | {unpack}"
            return found.lines(f"mkdir {scratch}", f"{_UNPACK} --directory={scratch}", packing, f"rm -r {scratch}")
        taken = shlex.quote(source)
        if name == ".":
            into = f"{_pack_content(taken, given)} | {unpack}"
            return found.lines(into)
        if given and source.endswith("/."):
            # Not by chown(1), which would reach what is there already.
            pack = f"{_pack(source)} {given} ."
            return found.lines(f"mkdir -p {target}", f"{pack} | {_UNPACK} --directory={target}")
        copy = f"cp --archive --remove-destination --no-target-directory {taken} {target}"
        return found.lines(copy, *([f"chown --no-dereference {owner[0]}:{owner[1]} {target}"] if owner else []))

    async def export(self, ref: str, target: str) -> Lines:
        """All of a container's own files as a tar to `target`, a path of the host; empty: to the standard output."""
        found = await self._find(ref, "/", alone=True)
        command = _pack_content(shlex.quote(found.path), _EXPORTED)
        return found.lines(f"{command} >{shlex.quote(target)}" if target else command)

    async def _find(self, ref: str, path: str, *, into: bool = False, alone: bool = False) -> _Found:
        """A path of a container's.  `into`: to write there; `alone`: without what is mounted beneath it."""
        container, job, answer = await self._archives.find(ref, path, into=into)
        paths, number = self._containers.paths, int(answer["mount"])
        beneath = {} if alone else {int(other): target for other, target in answer["beneath"].items()}
        before, after = self._volumes(container, job, [number, *beneath])
        if number >= 0 and not beneath:
            place = os.path.normpath(os.path.join(answer["sources"][number], answer["rest"]))
            return _Found(container, place, before, after)
        root = paths.container_run(container.id) / "rootfs"
        if beneath or not container.is_running:
            root, mounting = self._root(container, job, into=into)
            before += mounting
            shown = {**({number: job["mounts"][number][2]} if number >= 0 else {}), **beneath}
            for other, target in sorted(shown.items()):
                if source := answer["sources"][other]:
                    point = shlex.quote(f"{root}{target}")
                    if not container.is_running:
                        before.append(f"{'mkdir -p' if os.path.isdir(source) else 'touch'} {point}")
                    before.append(f"mount --rbind --make-rprivate {shlex.quote(source)} {point}")
            after = [f"umount --recursive {shlex.quote(str(paths.view))}", *after]
        return _Found(container, os.path.normpath(f"{root}{answer['real']}"), before, after)

    def _root(self, container: Container, job: dict[str, Any], *, into: bool) -> tuple[Path, Lines]:
        """A container's root file system on a directory of our own, as `copier.build_view` makes it.

        What is mounted there is private: else unmounting it would reach what it comes from (mount_namespaces(7)).
        """
        paths, state = self._containers.paths, self._containers.paths.container_state(container.id)
        view = shlex.quote(str(paths.view))
        if container.is_running:
            return paths.view, [f"mkdir -p {view}", f"mount --bind --make-private {shlex.quote(job['root'])} {view}"]
        if into:
            lower = self._containers.images.lower_directories(self._containers.image(container))
            overlay = MountOverlay(paths.view, tuple(lower), state / "upper", state / "work")
            return paths.view, [*overlay.shell()]
        # So that what is made to mount on is not the container's.
        lower = [Path(layer) for layer in job["lower"]]
        overlay = MountOverlay(paths.view / "root", tuple(lower), paths.view / "upper", paths.view / "work")
        return paths.view / "root", [f"mkdir -p {view}", f"mount -t tmpfs -o mode=0700 tmpfs {view}", *overlay.shell()]

    def _volumes(self, container: Container, job: dict[str, Any], numbers: list[int]) -> tuple[Lines, Lines]:
        """The lines that mount what the options of these volumes ask for, and take it away again."""
        used = {job["mounts"][number][0] for number in numbers if number >= 0}
        before: Lines = []
        after: Lines = []
        for name in dict.fromkeys(volume.name for volume in container.spec.volumes):
            place = str(self._containers.paths.volume(name))
            if place in used and (lines := self._containers.volumes.mount_lines(name)):
                before += lines
                after.append(f"umount {shlex.quote(place)}")
        return before, after


def _pack(directory: str) -> str:
    """The beginning of the line that packs something of a directory."""
    return f"tar --create --file=- --format=posix --numeric-owner --directory={shlex.quote(directory)}"


def _pack_content(directory: str, options: str) -> str:
    """The line that packs what is in a directory (quoted), named without a leading ``./``."""
    names = f"find {directory} -mindepth 1 -maxdepth 1 -printf '%f\\0' | sort -z"
    pack = ["tar --create --file=- --format=posix --numeric-owner", options, f"--directory={directory}"]
    return f"{names} | {' '.join(filter(None, pack))} --null --verbatim-files-from --files-from=-"
