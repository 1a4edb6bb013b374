"""Whose a network namespace is, read off the cgroups of the processes in it and the place where it is kept.

Container managers name the cgroup of a container after its id, each in its own way; a name people would know is then
looked up where the manager keeps it, if that can be read.  Nothing is asked of a manager's daemon.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fairlead.kernel import survey
from fairlead.kernel.namespaces import NAMED

_ID = r"([0-9a-f]{64})"
_CGROUPS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("fairlead", re.compile(rf"/fairlead-{_ID}")),
    ("docker", re.compile(rf"/docker(?:/|-){_ID}")),
    ("podman", re.compile(rf"/libpod-{_ID}")),
    ("kubernetes", re.compile(rf"/(?:cri-containerd|crio)-{_ID}")),
    ("lxc", re.compile(r"/lxc(?:\.payload\.|/)([^/]+)")),
    ("nspawn", re.compile(r"/machine-([^/]+)\.scope")),
    ("systemd", re.compile(r"/([^/]+)\.service")),
)
"""How managers name a container's cgroup, most telling first."""

CONTAINERS = frozenset({"fairlead", "docker", "podman", "kubernetes", "lxc", "nspawn"})
"""The managers of containers."""


@dataclass(frozen=True, slots=True)
class Owner:
    """`manager` is ``host``, ``fairlead``, ``docker``…, ``ip netns``, or ``process``; `id` is what it calls it by."""

    manager: str
    id: str = ""
    name: str = ""


def owner_of(paths: Sequence[str], pids: Sequence[int], namespaces: Path, here: str) -> Owner:
    """Who owns the namespace kept at these paths, with these processes.

    `namespaces` is where Fairlead keeps its containers'.  `here` is our own cgroup: what that says of a container is
    about the one in which all of this runs.
    """
    for path in paths:
        if Path(path).parent == namespaces:
            return Owner("fairlead", Path(path).name)
    found = next((owner for pid in pids[:4] if (owner := _by_cgroup(pid, here))), None)
    if found and found.manager in CONTAINERS:
        return found
    named = next((Path(path).name for path in paths if Path(path).parent == NAMED), "")
    if named:
        return Owner("ip netns", named, named)
    if found:
        return found
    if paths:
        return Owner("docker" if "/docker/netns/" in paths[0] else "mount", Path(paths[0]).name)
    words = survey.command_line(pids[0]) if pids else []
    return Owner("process", str(pids[0]) if pids else "", _shown(os.path.basename(words[0])) if words else "")


def is_users_container(pids: Sequence[int], here: str) -> bool:
    """Whether these are the processes of a container that an ordinary user started, with podman without root, say."""
    return any(
        survey.has_own_users(pid) and (owner := _by_cgroup(pid, here)) and owner.manager in CONTAINERS
        for pid in pids[:1]
    )


def _by_cgroup(pid: int, here: str) -> Owner | None:
    path = survey.cgroup(pid)
    for manager, pattern in _CGROUPS:
        matches = [match for match in pattern.findall(path) if match not in here]
        if matches:
            return Owner(manager, matches[-1], _name(manager, matches[-1], pid))
    return None


def _name(manager: str, id_: str, pid: int) -> str:
    if manager == "docker":
        return _docker_name(id_, pid)
    if manager == "podman":
        return _podman_name(pid)
    return "" if manager in ("fairlead", "kubernetes") else id_


def _podman_name(pid: int) -> str:
    """The container's name is a word of the command line of its monitor (conmon(8), ``--name``)."""
    words = survey.command_line(survey.parent(pid))
    for flag in ("-n", "--name"):
        if flag in words[:-1]:
            return _shown(words[words.index(flag) + 1])
    return ""


def _shown(name: str) -> str:
    """A name that its bearer chose freely: without what would do something to a terminal, or begin a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def _docker_name(id_: str, pid: int) -> str:
    """From the file in which dockerd keeps the container: beside its ``hostname``, which is mounted inside."""
    for directory in (*_mounted_from(id_, pid), f"/var/lib/docker/containers/{id_}"):
        try:
            config = msgspec.json.decode(Path(directory, "config.v2.json").read_bytes())
        except (OSError, msgspec.DecodeError):
            continue
        if isinstance(config, dict):
            return str(config.get("Name", "")).removeprefix("/")
    return ""


def _mounted_from(id_: str, pid: int) -> list[str]:
    """The directories on this host, named by the id, from which a process has files mounted (proc(5), mountinfo)."""
    try:
        theirs = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
        ours = [line.split(" ") for line in Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()]
    except OSError:
        return []
    found: dict[str, None] = {}
    for line in theirs:
        _, _, device, root, *_ = line.split(" ")
        inside, slash, _ = root.partition(f"/{id_}/")
        if slash:
            for words in ours:
                base = words[3].rstrip("/")
                if words[2] == device and (inside == base or inside.startswith(f"{base}/")):
                    found[f"{words[4].rstrip('/')}{inside.removeprefix(base)}/{id_}"] = None
    return list(found)
