"""Docker's many ways to ask for a mount, as binds, volumes and tmpfs: ``Binds``, ``Mounts``, ``Tmpfs``,
``VolumesFrom``, ``Volumes``; with its rules about which wins, and its words when it refuses.

(docs.docker.com/reference/api/engine/version/v1.51, ContainerCreate; moby's volume/mounts/linux_parser.go.)
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from fairlead.api.members import text_member
from fairlead.containers.record import Bind, Container, VolumeMount
from fairlead.containers.volumes import ANONYMOUS, check_driver, check_options, check_volume_name
from fairlead.errors import Invalid

Lookup = Callable[[str], Container]

_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_CONSISTENCY = ("consistent", "cached", "delegated")
_MODES = (("ro", "rw"), ("z", "Z"), _CONSISTENCY)
"""What may stand behind the second colon of ``-v``: one of each group at most."""
_COPY = ("nocopy", "copy")
_TMPFS_WORDS = re.compile(
    r"(ro|rw|(no)?(exec|suid|dev|atime|diratime|swap)|(rel|strict)atime|defaults|sync|async|dirsync|remount|mand|nomand"
    r"|(size|mode|uid|gid|nr_inodes|nr_blocks|mpol)=[^,]+)"
)


@dataclass
class Mounts:
    """All that is mounted by the user's wish."""

    binds: list[Bind] = field(default_factory=list)
    volumes: list[VolumeMount] = field(default_factory=list)
    tmpfs: dict[str, str] = field(default_factory=dict)

    def targets(self) -> set[str]:
        """The paths inside that are taken."""
        return {bind.target for bind in self.binds} | {volume.target for volume in self.volumes} | set(self.tmpfs)

    def claim(self, target: str, taken: set[str]) -> None:
        """What came from another container gives way; anything else that is there already is the user's mistake."""
        if target in taken or target in self.tmpfs:
            raise Invalid(f"Duplicate mount point: {target}")
        taken.add(target)
        self.binds = [bind for bind in self.binds if bind.target != target]
        self.volumes = [volume for volume in self.volumes if volume.target != target]


def parse_mounts(body: dict[str, Any], host: dict[str, Any], image: dict[str, Any], lookup: Lookup) -> Mounts:
    """All mounts of a container that is to be made; `image` is the image's own configuration.  Raises `Invalid`."""
    found = Mounts()
    driver = text_member(host, "VolumeDriver")
    for text in _list(host, "VolumesFrom"):
        _from_container(found, text, lookup)
    taken: set[str] = set()
    for target, options in _object(host, "Tmpfs").items():
        clean = check_target(target)
        found.tmpfs[clean] = _tmpfs_words(str(options))
        found.binds = [bind for bind in found.binds if bind.target != clean]
        found.volumes = [volume for volume in found.volumes if volume.target != clean]
    for text in _list(host, "Binds"):
        mount = parse_bind(text)
        found.claim(mount.target, taken)
        if isinstance(mount, Bind):
            found.binds.append(mount)
        else:
            found.volumes.append(mount)
    for item in _list(host, "Mounts", dict):
        _from_mount(found, item, taken)
    for target in (*_object(image, "Volumes"), *_object(body, "Volumes")):
        clean = check_target(target)
        if clean not in found.targets():
            found.volumes.append(VolumeMount(name="", target=clean, anonymous=True, labels={ANONYMOUS: ""}))
    if found.volumes:
        check_driver(found.volumes[0].name, driver)
    return found


def parse_bind(text: str) -> Bind | VolumeMount:
    """``/source:/target[:options]`` or ``name:/target[:options]``."""
    if "\0" in text:
        raise Invalid(f"invalid volume specification: {text!r}: it has a zero byte")
    parts = text.split(":")
    if len(parts) == 1:
        return VolumeMount(name="", target=check_target(text, text), anonymous=True, labels={ANONYMOUS: ""})
    if len(parts) > 3 or not all(parts):
        raise Invalid(f"invalid volume specification: '{text}'")
    source, target = parts[:2]
    options = parts[2].split(",") if len(parts) == 3 else []
    clean = check_target(target, text)
    is_bind = source.startswith("/")
    _check_mode(options, *_MODES, _COPY, _PROPAGATION)
    kind, others, member = ("bind", _COPY, "VolumeOptions") if is_bind else ("volume", _PROPAGATION, "BindOptions")
    if not set(options).isdisjoint(others):
        reason = f'invalid mount config for type "{kind}": field {member} must not be specified'
        raise Invalid(f"invalid volume specification: '{text}': {reason}")
    if is_bind:
        kept = tuple(option for option in options if option != "rw")
        return Bind(source=os.path.normpath(source), target=clean, options=kept)
    return VolumeMount(
        name=check_volume_name(source),
        target=clean,
        mode=",".join(options) or "z",
        read_only="ro" in options,
        copy="nocopy" not in options,
    )


def _check_mode(options: list[str], *groups: tuple[str, ...]) -> None:
    """Every option is of a group, and no two of one."""
    found = [group for option in options for group in groups if option in group]
    if len(found) != len(options) or len(set(found)) != len(found):
        raise Invalid(f"invalid mode: {','.join(options)}")


def check_target(target: str, text: str = "") -> str:
    """The clean path inside; raises `Invalid` in Docker's words."""
    if "\0" in target:
        raise Invalid(f"invalid mount path: {target!r} has a zero byte")
    if not target.startswith("/"):
        raise Invalid(f"invalid mount path: '{target}' mount path must be absolute")
    clean = os.path.normpath(target)
    if clean.lstrip("/") == "":
        shown = f"invalid volume specification: '{text}': " if text else ""
        raise Invalid(f"{shown}invalid specification: destination can't be '/'")
    return clean if not clean.startswith("//") else clean[1:]


def _from_container(found: Mounts, text: str, lookup: Lookup) -> None:
    """``CONTAINER[:ro|rw|…]``: all its volumes and binds."""
    ref, _, mode = text.partition(":")
    if not ref:
        raise Invalid(f"malformed volumes-from specification: {text}")
    _check_mode(mode.split(",") if mode else [], *_MODES)
    read_only = "ro" in mode.split(",")
    other = lookup(ref).spec
    targets = {bind.target for bind in other.binds} | {volume.target for volume in other.volumes}
    found.binds = [bind for bind in found.binds if bind.target not in targets]
    found.volumes = [volume for volume in found.volumes if volume.target not in targets]
    for bind in other.binds:
        options = bind.options if not read_only or "ro" in bind.options else (*bind.options, "ro")
        found.binds.append(replace(bind, options=options))
    for volume in other.volumes:
        found.volumes.append(
            replace(volume, copy=False, anonymous=False, labels={}, read_only=volume.read_only or read_only)
        )


def _from_mount(found: Mounts, item: dict[str, Any], taken: set[str]) -> None:
    kind = text_member(item, "Type")

    def refused(reason: str) -> Invalid:
        return Invalid(f'invalid mount config for type "{kind}": {reason}')

    if kind not in ("bind", "volume", "tmpfs"):
        raise refused("mount type unknown")
    if not text_member(item, "Target"):
        raise refused("field Target must not be empty")
    try:
        target = check_target(text_member(item, "Target"))
    except Invalid as error:
        raise refused(str(error)) from None
    for name, owner in (("BindOptions", "bind"), ("VolumeOptions", "volume"), ("TmpfsOptions", "tmpfs")):
        if item.get(name) and owner != kind:
            raise refused(f"field {name} must not be specified")
    found.claim(target, taken)
    if kind == "bind":
        found.binds.append(_bind_of(item, target, refused))
    elif kind == "volume":
        found.volumes.append(_volume_of(item, target, refused))
    else:
        if text_member(item, "Source"):
            raise refused("field Source must not be specified")
        found.tmpfs[target] = _tmpfs_of(item, refused)


def _bind_of(item: dict[str, Any], target: str, refused: Callable[[str], Invalid]) -> Bind:
    source, options = text_member(item, "Source"), _object(item, "BindOptions")
    if not source:
        raise refused("field Source must not be empty")
    if not source.startswith("/"):
        raise refused(f"invalid mount path: '{source}' mount path must be absolute")
    propagation = text_member(options, "Propagation")
    if propagation not in ("", *_PROPAGATION):
        raise refused(f"invalid propagation mode: {propagation}")
    flat, forced = bool(options.get("ReadOnlyNonRecursive")), bool(options.get("ReadOnlyForceRecursive"))
    read_only = bool(item.get("ReadOnly"))
    if (flat or forced) and not read_only:
        name = "ReadOnlyNonRecursive" if flat else "ReadOnlyForceRecursive"
        raise refused(f"mount source: {name} is set but ReadOnly is not")
    strict = not options.get("CreateMountpoint")
    if strict and not os.path.lexists(source):
        raise refused(f"bind source path does not exist: {source}")
    words = (["ro"] if read_only else []) + ([propagation] if propagation else [])
    return Bind(
        source=os.path.normpath(source),
        target=target,
        options=tuple(words),
        recursive=not options.get("NonRecursive"),
        flat=flat,
        strict=strict,
    )


def _volume_of(item: dict[str, Any], target: str, refused: Callable[[str], Invalid]) -> VolumeMount:
    name, options = text_member(item, "Source"), _object(item, "VolumeOptions")
    driver = _object(options, "DriverConfig")
    check_driver(name, text_member(driver, "Name"))
    settings = _texts(driver, "Options")
    if name:
        try:
            check_volume_name(name)
            check_options(name, settings)
        except Invalid as error:
            raise refused(str(error)) from None
    elif item.get("ReadOnly"):
        raise refused("must not set ReadOnly mode when using anonymous volumes")
    subpath = text_member(options, "Subpath")
    if subpath and (subpath.startswith("/") or ".." in subpath.split("/")):
        raise refused(f"subpath must be a relative path within the volume: {subpath}")
    labels = _texts(options, "Labels")
    return VolumeMount(
        name=name,
        target=target,
        mode="z" if name else "",
        read_only=bool(item.get("ReadOnly")),
        copy=not options.get("NoCopy"),
        subpath="" if subpath == "." else subpath,
        anonymous=not name,
        labels=labels if name else {**labels, ANONYMOUS: ""},
        options=settings,
    )


def _tmpfs_of(item: dict[str, Any], refused: Callable[[str], Invalid]) -> str:
    options = _object(item, "TmpfsOptions")
    size, mode = options.get("SizeBytes") or 0, options.get("Mode") or 0
    if not isinstance(size, int) or not isinstance(mode, int) or size < 0 or mode < 0:
        raise refused("SizeBytes and Mode of TmpfsOptions must be numbers from 0 on")
    words = [f"size={size}"] if size else []
    words += [f"mode={mode:o}"] if mode else []
    words += ["ro"] if item.get("ReadOnly") else []
    for option in options.get("Options") or []:
        if not isinstance(option, list) or not 1 <= len(option) <= 2 or not all(isinstance(w, str) for w in option):
            raise refused(f"invalid option array length: {option}")
        words.append("=".join(option))
    return _tmpfs_words(",".join(words))


def _tmpfs_words(text: str) -> str:
    for word in filter(None, text.split(",")):
        if not _TMPFS_WORDS.fullmatch(word):
            raise Invalid(f'invalid tmpfs option ["{word}"]')
    return text


def _list(body: dict[str, Any], name: str, kind: type = str) -> list[Any]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise Invalid(f"{name} must be a list of {'strings' if kind is str else 'objects'}")
    return value


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name) or {}
    if not isinstance(value, dict):
        raise Invalid(f"{name} must be an object")
    return value


def _texts(body: dict[str, Any], name: str) -> dict[str, str]:
    value = _object(body, name)
    if not all(isinstance(text, str) for text in value.values()):
        raise Invalid(f"{name} must be an object of strings")
    return value
