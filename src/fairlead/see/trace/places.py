"""Which network namespaces there are on this machine, and what people call them."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fairlead.catalog import Catalog
from fairlead.errors import Conflict, FairleadError, Invalid, NotFound
from fairlead.kernel import Kernel, survey
from fairlead.kernel.namespaces import NAMED
from fairlead.model import Sandbox
from fairlead.paths import Paths
from fairlead.plan.netlink import word
from fairlead.see.owners import CONTAINERS, owner_of
from fairlead.see.reader import Reader
from fairlead.see.trace.model import Place

HOST_WORDS = ("host", "")

_ENGINES = (("docker", "/var/run/docker.sock"), ("podman", "/run/podman/podman.sock"))
"""Other engines that answer the Docker API, and where."""


class Places:
    """Finds namespaces by the words that users have for them; made anew for each trace."""

    def __init__(self, kernel: Kernel, reader: Reader, catalog: Catalog, paths: Paths, names: dict[str, str]) -> None:
        """`names`: our containers' names by their id."""
        self._kernel, self._reader, self._catalog, self._paths = kernel, reader, catalog, paths
        self._names = names
        self.host = Place(inode=reader.host, name="host", kind="host")
        self._all: dict[int, Place] | None = None
        self._found: dict[int, Place] = {}
        """Those that were asked for, by the name that they were asked by."""
        self._containers: dict[int, tuple[str, str]] = {}
        """Other engines' containers: name and id."""

    def find(self, word: str) -> Place:
        """``host``, a container, a namespace's name or path, a process id, or another engine's container."""
        place = self._find(word)
        self._found[place.inode] = place
        return place

    def _find(self, word: str) -> Place:
        if word in HOST_WORDS:
            return self.host
        if word.startswith("/"):
            return self._at(word, Path(word).name, "namespace")
        for sandbox in self._catalog.sandboxes():
            name = self._name(sandbox)
            long = sandbox.container or sandbox.id
            if word in (name, sandbox.name, long) or (len(word) >= 4 and long.startswith(word)):
                return self._ours(sandbox)
        if (NAMED / word).exists():
            return self._at(str(NAMED / word), word, "namespace")
        if word.isdigit():
            if not Path("/proc", word).exists():
                raise NotFound(f"No such process: {word}")
            return self._at(f"/proc/{word}/ns/net", f"process {word}", "process")
        if stopped := next((id_ for id_, name in self._names.items() if word == name or id_.startswith(word)), ""):
            raise Conflict(f"container {self._names[stopped]} is not running: it has no network namespace")
        for owner, path in _ENGINES:
            if place := self._foreign(owner, path, word):
                return place
        # An engine without a daemon (podman), or one whose socket is elsewhere.
        for inode, (name, id_) in self._containers.items() if self.all() else ():
            if word in (name, id_) or (len(word) >= 4 and id_.startswith(word)):
                return self.all()[inode]
        raise NotFound(
            f"No such container or namespace: {word} (allowed are host, a container, the name or path of a network "
            "namespace, a process id)"
        )

    def at_path(self, path: str) -> Place | None:
        """The namespace at a path of our records, if it is there."""
        return next((place for place in self.all().values() if path and place.path == path), None)

    def known(self, inode: int) -> Place | None:
        """The namespace with this inode, if anything here names it."""
        if inode == self.host.inode:
            return self.host
        return self._found.get(inode) or self.all().get(inode)

    def all(self) -> dict[int, Place]:
        """Every namespace that has a name or a process, by inode."""
        if self._all is None:
            self._all = {self.host.inode: self.host}
            for place in self._search():
                self._all.setdefault(place.inode, place)
        return self._all

    def _search(self) -> Iterator[Place]:
        for sandbox in self._catalog.sandboxes():
            with contextlib.suppress(FairleadError):
                yield self._ours(sandbox)
        here = survey.cgroup(os.getpid())
        for inode in self._reader.inodes:
            paths, pids = self._reader.paths.get(inode, []), self._reader.pids.get(inode, [])
            owner = owner_of(paths, pids, self._paths.namespaces, here)
            path = paths[0] if paths else f"/proc/{pids[0]}/ns/net"
            name = owner.name or owner.id[:12]
            if owner.manager in CONTAINERS:
                # One of another Fairlead's is none that our commands know.
                whose = owner.manager if owner.manager != "fairlead" else ""
                self._containers[inode] = owner.name, owner.id
                yield _place(inode, path, name, "container", whose)
            elif paths:
                yield _place(inode, path, name, "namespace")
            else:
                yield _place(inode, path, f"{name} (process {pids[0]})", "process")

    def _ours(self, sandbox: Sandbox) -> Place:
        if sandbox.container:
            place = self._at(sandbox.path, self._name(sandbox), "container", "fairlead")
            return msgspec.structs.replace(place, shell=f"fairlead netns exec {place.name}")
        return self._at(sandbox.path, sandbox.name, "namespace", "fairlead")

    def _name(self, sandbox: Sandbox) -> str:
        return self._names.get(sandbox.container, sandbox.container[:12]) if sandbox.container else sandbox.name

    def _at(self, path: str, name: str, kind: str, owner: str = "") -> Place:
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            raise NotFound(f"No such network namespace: {path}") from None
        except OSError as error:
            raise Invalid(f"{path}: {error.strerror}") from None
        if inode == self.host.inode:
            return self.host
        with self._kernel.namespaces.entered(path):  # Refuses what is no network namespace.
            pass
        return _place(inode, path, name, kind, owner)

    def _foreign(self, owner: str, path: str, word: str) -> Place | None:
        """Another engine's container by name or id; None if there is no such engine or container."""
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", word):
            return None
        found = self._ask(path, f"/containers/{word}/json")
        try:
            pid, networks = int(found["State"]["Pid"]), tuple(found.get("NetworkSettings", {}).get("Networks") or ())
            name = str(found.get("Name") or word).lstrip("/")
        except (KeyError, TypeError, ValueError, AttributeError):
            return None
        if not pid:
            raise Conflict(f"container {name} of {owner} is not running: it has no network namespace")
        place = self._at(f"/proc/{pid}/ns/net", name, "container", owner)
        return msgspec.structs.replace(place, networks=networks)

    def _ask(self, path: str, what: str) -> Any:
        """The JSON answer of an engine; None if there is none."""
        if not os.path.exists(path) or os.path.realpath(path) == os.path.realpath(self._paths.socket):
            return None
        try:
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(2)
                sock.connect(path)
                sock.sendall(f"GET {what} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
                answer = b"".join(iter(lambda: sock.recv(1 << 16), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            if head.split(b"\r\n", 1)[0].split(b" ")[1:2] != [b"200"]:
                return None
            if b"chunked" in head.lower():
                body = _unchunked(body)
            return msgspec.json.decode(body)
        except (OSError, ValueError, msgspec.DecodeError):
            return None


def _place(inode: int, path: str, name: str, kind: str, owner: str = "") -> Place:
    shell = f"ip netns exec {word(name)}" if path == str(NAMED / name) else f"nsenter --net={word(path)}"
    return Place(inode=inode, name=name, kind=kind, path=path, owner=owner, shell=shell)  # type: ignore[arg-type]


def _unchunked(body: bytes) -> bytes:
    """A body without its chunks' lengths (RFC 9112, 7.1)."""
    found = b""
    while body:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0] or b"0", 16)
        if not length:
            break
        found, body = found + rest[:length], rest[length + 2 :]
    return found
