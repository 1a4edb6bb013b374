"""The members of HostConfig that say how far a container is cut off from the host (Docker Engine API v1.51)."""

from __future__ import annotations

import os
from typing import Any

from fairlead.api import block_spec
from fairlead.api.members import text_member
from fairlead.containers import seccomp
from fairlead.containers.isolation import PREFIX, Device, Isolation, check_rule
from fairlead.containers.record import Container
from fairlead.errors import Invalid

_MEMBERS = (
    "Annotations CgroupParent CgroupnsMode DeviceCgroupRules Devices IpcMode Isolation MaskedPaths PidMode "
    "ReadonlyPaths Runtime SecurityOpt UTSMode UsernsMode"
)
SHOWN_AGAIN = (*_MEMBERS.split(), *block_spec.DEVICES)
"""Members of HostConfig that inspect shows as they came."""

RUNTIMES = ("", "crun", "runc", "io.containerd.runc.v2")
"""All mean crun, which is what there is."""


def parse_isolation(body: dict[str, Any], host: dict[str, Any], container: Any) -> Isolation:
    """Raises `Invalid`; `container` finds a container by its name or id, for the modes that join one."""
    runtime = text_member(host, "Runtime")
    if runtime not in RUNTIMES:
        raise Invalid(f"unknown or invalid runtime name: {runtime}")
    uts = _mode(host, "UTSMode", "UTS", ("", "private", "host"))
    if uts == "host" and body.get("Hostname"):
        raise Invalid("conflicting options: hostname and the UTS mode")
    if (userns := text_member(host, "UsernsMode")) not in ("", "private", "host"):
        raise Invalid(f"invalid user namespace mode: {userns}")
    words = _security(host)
    return Isolation(
        pid=_own(_join(_mode(host, "PidMode", "PID", ("", "private", "host"), join=True), container)),
        ipc=_own(_join(_mode(host, "IpcMode", "IPC", _IPC, join=True), container)),
        uts=_own(uts),
        cgroup=_own(_mode(host, "CgroupnsMode", "cgroup namespace", ("", "private", "host"))),
        cgroup_parent=_parent(text_member(host, "CgroupParent")),
        devices=tuple(map(_device, _objects(host, "Devices"))),
        device_rules=tuple(check_rule(text) for text in _texts(host, "DeviceCgroupRules") or ()),
        masked=() if words.get("systempaths") == "unconfined" else _texts(host, "MaskedPaths"),
        read_only=() if words.get("systempaths") == "unconfined" else _texts(host, "ReadonlyPaths"),
        annotations=_annotations(host),
        seccomp=words.get("seccomp", ""),
        block_limits=block_spec.device_limits(host),
    )


_IPC = ("", "private", "host", "none", "shareable")


def _own(mode: str) -> str:
    """The usual has no word in the record."""
    return "" if mode == "private" else mode


def _mode(host: dict[str, Any], member: str, what: str, allowed: tuple[str, ...], *, join: bool = False) -> str:
    mode = text_member(host, member)
    if mode in allowed or (join and mode.startswith(PREFIX) and mode != PREFIX):
        return mode
    raise Invalid(f"invalid {what} mode: {mode}")


def _join(mode: str, container: Any) -> str:
    """The container to join by its id, so that a rename does not matter."""
    if not mode.startswith(PREFIX):
        return mode
    found: Container = container(mode.removeprefix(PREFIX))
    return PREFIX + found.id


def _parent(text: str) -> str:
    clean = os.path.normpath("/" + text.strip("/")) if text else ""
    if ".." in text.split("/"):
        raise Invalid(f"invalid cgroup parent: {text}")
    return "" if clean == "/" else clean


def _device(item: dict[str, Any]) -> Device:
    host = text_member(item, "PathOnHost")
    inside, access = text_member(item, "PathInContainer") or host, text_member(item, "CgroupPermissions") or "rwm"
    if not host.startswith("/"):
        raise Invalid(f"invalid device: {host!r} is not an absolute path")
    if not inside.startswith("/"):
        raise Invalid(f"{inside} is not an absolute path")
    if set(access) - set("rwm"):
        raise Invalid(f"invalid device mode: {access}")
    return Device(host=os.path.normpath(host), inside=os.path.normpath(inside), access=access)


def _annotations(host: dict[str, Any]) -> dict[str, str]:
    found = host.get("Annotations") or {}
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Invalid("Annotations must be an object of strings")
    if "" in found:
        raise Invalid("invalid Annotations: the empty string is not permitted as an annotation key")
    return found


def no_new_privileges(host: dict[str, Any]) -> bool:
    """Whether the option is among SecurityOpt."""
    return _security(host).get("no-new-privileges", "false") in ("", "true")


def _security(host: dict[str, Any]) -> dict[str, str]:
    """SecurityOpt by its words; raises `Invalid` for what is not understood or cannot be served."""
    found: dict[str, str] = {}
    for option in _texts(host, "SecurityOpt") or ():
        # From old clients with a colon.
        separator = "=" if "=" in option.partition(":")[0] or ":" not in option else ":"
        word, given, value = option.partition(separator)
        if word == "no-new-privileges":
            if value not in ("", "true", "false"):
                raise Invalid(f"invalid --security-opt 2: {option!r}")
            found[word] = value
        elif not given:
            raise Invalid(f"invalid --security-opt 1: {option!r}")
        elif word == "seccomp":
            found[word] = "" if value in ("builtin", "default") else value
            if found[word] not in ("", seccomp.UNCONFINED):
                seccomp.parse(value)
        elif word == "systempaths" and value == "unconfined":
            found[word] = value
        elif word == "apparmor" and value in ("unconfined", "docker-default", ""):
            continue  # Fairlead sets no profile
        elif word == "label":
            continue  # as Docker where there is no SELinux
        else:
            raise Invalid(f"security option {option!r} is not supported: only no-new-privileges, seccomp are")
    return found


def _texts(body: dict[str, Any], name: str) -> tuple[str, ...] | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise Invalid(f"{name} must be a list of strings")
    return tuple(value)


def _objects(body: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Invalid(f"{name} must be a list of objects")
    return value


def _number(body: dict[str, Any], name: str) -> int:
    value = body.get(name) or 0
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise Invalid(f"{name} must be a number from 0 on")
    return value
