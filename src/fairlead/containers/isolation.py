"""How far a container is cut off from its host, where that differs from the usual: whose namespaces it shares, which
devices it sees, what is masked, which system calls it may make.

`Isolation` is the wish, as the record keeps it; `Surroundings` is what it comes to at a start (the other container's
process, the devices' numbers); `apply` writes both into the OCI configuration.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.containers import seccomp
from fairlead.errors import Conflict, Invalid
from fairlead.paths import Paths

if TYPE_CHECKING:
    from fairlead.containers.record import Container

PREFIX = "container:"
"""Of a mode: what follows names the container whose namespace is joined."""

_RULE = re.compile(r"([acb]) (\d+|\*):(\d+|\*) ([rwm]{1,3})")

_NOT_DEVICES = {"pts", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"}
"""In /dev, what every container has of its own (moby, oci/devices)."""


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device of the host, or a directory of them; `access` is of r, w and m (mknod)."""

    host: str
    inside: str
    access: str = "rwm"


class Isolation(msgspec.Struct, frozen=True, kw_only=True):
    """Empty modes are the usual: namespaces of its own."""

    pid: str = ""
    """``host`` or ``container:REF``."""
    ipc: str = ""
    """``host``, ``none``, ``shareable``, ``container:REF``."""
    uts: str = ""
    """``host``."""
    cgroup: str = ""
    """``host``."""
    cgroup_parent: str = ""
    devices: tuple[Device, ...] = ()
    device_rules: tuple[str, ...] = ()
    masked: tuple[str, ...] | None = None
    """None: the default ones."""
    read_only: tuple[str, ...] | None = None
    annotations: dict[str, str] = {}
    seccomp: str = ""
    """``unconfined``, or a profile's JSON; empty: the default profile."""
    block_limits: dict[str, tuple[tuple[str, int], ...]] = {}
    """By the runtime's name for it (``throttleReadBpsDevice``): devices' paths, and numbers."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a wish comes to when the container starts."""

    namespaces: dict[str, str]
    """Kind of namespace to the path of the one to join."""
    shm: str
    """Where the host keeps its /dev/shm; empty: it has its own."""
    nodes: tuple[dict[str, Any], ...]
    """Devices as the runtime makes them."""
    block: dict[str, Any]


NOTHING = Surroundings({}, "", (), {})


def shm_place(paths: Paths, container_id: str) -> Path:
    """Where the /dev/shm of a container is that shares it."""
    return paths.run / "shm" / container_id


def surroundings(container: Container, paths: Paths, get: Callable[[str], Container]) -> Surroundings:
    """Look around; raises in Docker's words where what is to be shared is not there."""
    wish = container.spec.isolation
    namespaces = {}
    shm = str(shm_place(paths, container.id)) if wish.ipc == "shareable" else ""
    if wish.pid.startswith(PREFIX):
        namespaces["pid"] = f"/proc/{_joined(wish.pid, 'PID', get).pid}/ns/pid"
    if wish.ipc.startswith(PREFIX):
        other = _joined(wish.ipc, "IPC", get)
        if other.spec.isolation.ipc != "shareable":
            raise Invalid(
                f"can't join IPC of container {other.id}: non-shareable IPC (hint: use IpcMode:shareable for the "
                "donor container)"
            )
        namespaces["ipc"] = f"/proc/{other.pid}/ns/ipc"
        shm = str(shm_place(paths, other.id))
    nodes = [node for device in wish.devices for node in _nodes(device)]
    if container.spec.privileged:
        given = {node["path"] for node in nodes}
        nodes += [node for node in _all_nodes() if node["path"] not in given]
    return Surroundings(namespaces, shm, tuple(nodes), _block(wish))


def _joined(mode: str, what: str, get: Callable[[str], Container]) -> Container:
    other = get(mode.removeprefix(PREFIX))
    other.check_not_restarting()
    if not other.is_running:
        raise Conflict(f"cannot join {what} namespace of a non running container: container {other.id} is not running")
    return other


def _nodes(device: Device) -> Iterator[dict[str, Any]]:
    """A device, or all of a directory."""
    try:
        status = os.stat(device.host)
    except OSError as error:
        raise Invalid(
            f'error gathering device information while adding custom device "{device.host}": '
            f"{(error.strerror or '').lower()}"
        ) from None
    if not stat.S_ISDIR(status.st_mode):
        yield _node(device.host, device.inside, device.access, status)
        return
    found = False
    for place, directories, names in os.walk(device.host):
        directories.sort()
        for name in sorted(names):
            path = os.path.join(place, name)
            status = os.lstat(path)
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found = True
                yield _node(path, device.inside + path.removeprefix(device.host), device.access, status)
    if not found:
        raise Invalid(
            f'error gathering device information while adding custom device "{device.host}": not a device node'
        )


def _node(host: str, inside: str, access: str, status: os.stat_result) -> dict[str, Any]:
    if not (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)):
        raise Invalid(f'error gathering device information while adding custom device "{host}": not a device node')
    return {
        "path": inside,
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "access": access,
    }


def _all_nodes() -> Iterator[dict[str, Any]]:
    """The host's devices, for a privileged container."""
    for place, directories, names in os.walk("/dev"):
        directories[:] = sorted(name for name in directories if name not in _NOT_DEVICES)
        for name in sorted(names):
            path = os.path.join(place, name)
            if name not in _NOT_DEVICES:
                try:
                    status = os.lstat(path)
                except OSError:
                    continue
                if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                    yield _node(path, path, "rwm", status)


def _block(wish: Isolation) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, devices in wish.block_limits.items():
        found[name] = []
        for path, number in devices:
            try:
                status = os.stat(path)
            except OSError as error:
                raise Invalid(f"stat {path}: {str(error.strerror).lower()}") from None
            key = "weight" if name == "weightDevice" else "rate"
            found[name].append({"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev), key: number})
    return found


def apply(document: dict[str, Any], container: Container, around: Surroundings, allowed: list[str]) -> None:
    """Write it into an OCI configuration; `allowed` are the container's capabilities."""
    spec, wish, linux = container.spec, container.spec.isolation, document["linux"]
    host = {kind for kind, mode in (("pid", wish.pid), ("ipc", wish.ipc), ("uts", wish.uts), ("cgroup", wish.cgroup))
            if mode == "host"}  # fmt: skip
    linux["namespaces"] = [
        {**entry, "path": around.namespaces[entry["type"]]} if entry["type"] in around.namespaces else entry
        for entry in linux["namespaces"]
        if entry["type"] not in host
    ]
    if "uts" in host:
        document.pop("hostname", None)
        document.pop("domainname", None)
    _share_memory(document, wish, around)
    if wish.masked is not None:
        linux["maskedPaths"] = list(wish.masked)
    if wish.read_only is not None:
        linux["readonlyPaths"] = list(wish.read_only)
    if wish.annotations:
        document["annotations"] = dict(wish.annotations)
    resources = linux["resources"]
    if around.nodes:
        linux["devices"] = [{key: value for key, value in node.items() if key != "access"} for node in around.nodes]
    if not spec.privileged:
        resources["devices"] += [
            {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"],
             "access": node["access"]}
            for node in around.nodes
        ]  # fmt: skip
        resources["devices"] += [_rule(text) for text in wish.device_rules]
        if (profile := seccomp.profile(wish.seccomp, allowed)) is not None:
            linux["seccomp"] = profile
    if around.block:
        resources.setdefault("blockIO", {}).update(around.block)


def _share_memory(document: dict[str, Any], wish: Isolation, around: Surroundings) -> None:
    """/dev/shm and /dev/mqueue go with the IPC namespace."""
    mounts = document["mounts"]
    ours = {entry["destination"]: entry for entry in mounts if entry["source"] in ("shm", "mqueue")}
    if wish.ipc == "none":
        mounts[:] = [entry for entry in mounts if entry is not ours.get("/dev/shm")]
        return
    binds = {"/dev/shm": around.shm} if around.shm else {}
    if wish.ipc == "host":
        binds = {"/dev/shm": "/dev/shm", "/dev/mqueue": "/dev/mqueue"}
    for target, source in binds.items():
        if (entry := ours.get(target)) is None:
            continue
        if wish.ipc == "host" and not os.path.isdir(source):
            mounts.remove(entry)
        else:
            entry.update(type="bind", source=source, options=["rbind", "rprivate", "nosuid", "noexec", "nodev"])


def check_rule(text: str) -> str:
    """Return it; raises `Invalid` in Docker's words."""
    if not _RULE.fullmatch(text):
        raise Invalid(f"invalid device cgroup rule format: '{text}'")
    return text


def _rule(text: str) -> dict[str, Any]:
    match = _RULE.fullmatch(text)
    assert match is not None
    entry: dict[str, Any] = {"allow": True, "type": match[1], "access": match[4]}
    for name, number in (("major", match[2]), ("minor", match[3])):
        if number != "*":
            entry[name] = int(number)
    return entry
