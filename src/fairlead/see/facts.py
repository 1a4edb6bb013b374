"""The machine's network as the kernel has it, at one moment: every namespace, and what leads from one to another.

A snapshot is read, never kept, and reading changes nothing.  Fairlead's own namespaces are read like anybody's: what
the store says of them is set beside it elsewhere (`fairlead.see.topology`).
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.kernel import survey
from fairlead.kernel.namespaces import Namespaces
from fairlead.kernel.netlink import Socket
from fairlead.kernel.survey import Counters, NeighbourRow, RouteRow
from fairlead.model import Interface
from fairlead.see.owners import Owner, is_users_container, owner_of

__all__ = ["Counters", "End", "InterfaceFact", "NamespaceFact", "NeighbourFact", "RouteFact", "Snapshot", "read"]

NeighbourFact = NeighbourRow
RouteFact = RouteRow
_NONE = Counters()


@dataclass(frozen=True, slots=True)
class End:
    """An interface, by the namespace that it is in (its inode) and its number there."""

    namespace: int
    index: int


@dataclass(frozen=True, slots=True)
class InterfaceFact:
    """An interface.  `master` is the number of a link of the same namespace, 0: none.

    `peer` is the other end of a veth pair; `parent` is what a macvlan, ipvlan, vlan, vxlan stands on.  Where the other
    end is in a namespace that cannot be seen from here, `hidden` is true and they are None.
    """

    index: int
    name: str
    kind: str = ""
    loopback: bool = False
    up: bool = False
    carrier: bool = False
    state: str = "unknown"
    mac: str = ""
    mtu: int = 0
    master: int = 0
    peer: End | None = None
    parent: End | None = None
    hidden: bool = False
    alias: str = ""
    isolated: bool = False
    hairpin: bool = False
    data: Mapping[str, str] = field(default_factory=dict)
    counters: Counters = _NONE
    addresses: tuple[Interface, ...] = ()
    duplicates: tuple[Interface, ...] = ()
    """Those of the addresses that do not work, because another host had them already (IPv6)."""

    @property
    def works(self) -> bool:
        """Whether it is up, and something that works is at the other end."""
        # The operational state says the same, but a moment later (net/core/link_watch.c).
        return self.up and self.carrier


@dataclass(frozen=True, slots=True)
class NamespaceFact:
    """A network namespace, known by its inode.  `paths` is where it is kept, `pids` who is in it (not the host's)."""

    inode: int
    owner: Owner
    paths: tuple[str, ...] = ()
    pids: tuple[int, ...] = ()
    interfaces: tuple[InterfaceFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()
    neighbours: tuple[NeighbourFact, ...] = ()

    @property
    def place(self) -> str:
        """A path that leads into it: empty for the host's own."""
        if self.owner.manager == "host":
            return ""
        return self.paths[0] if self.paths else f"/proc/{self.pids[0]}/ns/net"

    def interface(self, index: int) -> InterfaceFact | None:
        """By number."""
        return next((one for one in self.interfaces if one.index == index), None)

    def named(self, name: str) -> InterfaceFact | None:
        """By name."""
        return next((one for one in self.interfaces if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All namespaces, the host's first.

    Left out, and counted, are those that nobody keeps by a path, that are no container of an ordinary user's, and that
    no link joins to the rest: services and programs that locked themselves in.
    """

    namespaces: tuple[NamespaceFact, ...]
    left_out: int = 0

    @property
    def host(self) -> NamespaceFact:
        """The host's own."""
        return self.namespaces[0]

    def namespace(self, inode: int) -> NamespaceFact | None:
        """By inode."""
        return next((one for one in self.namespaces if one.inode == inode), None)

    def at(self, path: str) -> NamespaceFact | None:
        """By the path at which it is kept; empty: the host's."""
        if not path:
            return self.host
        return next((one for one in self.namespaces if path in one.paths), None)


def read(namespaces: Namespaces, ours: Path, *, everything: bool = False) -> Snapshot:
    """A snapshot of what can be seen from the namespace in which `namespaces` was made.

    `ours` is the directory in which Fairlead keeps its containers' namespaces.  With `everything` nothing is left out.
    Namespaces that go while we read are not in it.
    """
    with contextlib.ExitStack() as stack:
        found = _Reading(namespaces, stack)
        found.dump_all()
        here = survey.cgroup(os.getpid())
        kept = found.inodes() if everything else found.connected(here)
        facts = tuple(found.fact(inode, ours, here) for inode in found.inodes() if inode in kept)
    return Snapshot(facts, left_out=len(found.inodes()) - len(kept))


@dataclass(slots=True)
class _Dump:
    """What one namespace answered, and descriptors to ask it further."""

    fd: int
    socket: Socket
    links: list[survey.LinkRow]
    addresses: list[survey.AddressRow]
    routes: list[RouteFact]
    neighbours: list[NeighbourFact]
    by_index: dict[int, survey.LinkRow]
    nsids: dict[int, int] = field(default_factory=dict)
    """By which number it knows others: number → inode."""


class _Reading:
    def __init__(self, namespaces: Namespaces, stack: contextlib.ExitStack) -> None:
        self._namespaces = namespaces
        self._stack = stack
        self._paths = survey.mounted()
        self._pids = survey.inhabited()
        self._host = namespaces.inode()
        self._dumps: dict[int, _Dump] = {}
        self._with: dict[tuple[int, int], list[int]] = {}
        """Which namespaces have a veth of a number with a peer of a number, and (0) any link of a number."""

    def inodes(self) -> list[int]:
        """The namespaces that could be read, the host first."""
        return list(self._dumps)

    def dump_all(self) -> None:
        """Read every namespace, then find out where links lead to."""
        wanted = [self._host, *sorted({*self._paths, *self._pids} - {self._host})]
        _allow_files(2 * len(wanted) + 100)
        for inode in wanted:
            # Gone meanwhile, or of a kind that we may not enter: then it is not seen.
            with contextlib.suppress(OSError):
                self._dump(inode)
        for inode, dump in self._dumps.items():
            for link in dump.links:
                self._with.setdefault((link.index, 0), []).append(inode)
                if link.kind == "veth":
                    self._with.setdefault((link.index, link.lower), []).append(inode)
        for inode, dump in self._dumps.items():
            for link in dump.links:
                if link.nsid >= 0 and link.nsid not in dump.nsids:
                    self._resolve(inode, dump, link)

    def _dump(self, inode: int) -> None:
        fd = self._open(inode)
        self._stack.callback(os.close, fd)
        with self._namespaces.entered_by(fd):
            socket = Socket()
        self._stack.callback(socket.close)
        links = survey.links(socket)
        self._dumps[inode] = _Dump(
            fd=fd,
            socket=socket,
            links=links,
            addresses=survey.addresses(socket),
            routes=survey.routes(socket),
            neighbours=survey.neighbours(socket),
            by_index={link.index: link for link in links},
        )

    def _open(self, inode: int) -> int:
        pids = (f"/proc/{pid}/ns/net" for pid in self._pids.get(inode, ()))
        places = ["/proc/thread-self/ns/net"] if inode == self._host else [*self._paths.get(inode, ()), *pids]
        for place in places:
            with contextlib.suppress(OSError):
                fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
                if os.fstat(fd).st_ino == inode:
                    return fd
                os.close(fd)  # A process of that number is another one by now, or something is mounted on top.
        raise FileNotFoundError(f"no way into the network namespace {inode}")

    def _resolve(self, inode: int, dump: _Dump, link: survey.LinkRow) -> None:
        """Which namespace is meant by a link's number of it: asked of the likely ones, until one is."""
        for candidate in self._candidates(inode, link):
            if candidate in dump.nsids.values():
                continue
            number = survey.nsid_of(dump.socket, self._dumps[candidate].fd)
            if number >= 0:
                dump.nsids[number] = candidate
            if number == link.nsid:
                return

    def _candidates(self, inode: int, link: survey.LinkRow) -> Iterator[int]:
        """The namespaces with a link of the number that this one leads to; of a veth, only with one that leads back."""
        back = link.index if link.kind == "veth" else 0
        return (other for other in self._with.get((link.lower, back), ()) if other != inode)

    def connected(self, here: str) -> set[int]:
        """The host, what is kept by a path, users' containers, and what links lead to from these."""
        kept: set[int] = set()
        ahead = [self._host, *(inode for inode in self._dumps if inode in self._paths)]
        # Those of root are kept by a path, but a user's path is in a mount namespace of the user.
        ahead += [inode for inode in self._dumps if is_users_container(self._pids.get(inode, ()), here)]
        leads: dict[int, set[int]] = {}
        for inode, dump in self._dumps.items():
            for other in dump.nsids.values():
                leads.setdefault(inode, set()).add(other)
                leads.setdefault(other, set()).add(inode)
        while ahead:
            inode = ahead.pop()
            if inode not in kept:
                kept.add(inode)
                ahead += leads.get(inode, ())
        return kept

    def fact(self, inode: int, ours: Path, here: str) -> NamespaceFact:
        """What was read of one namespace."""
        dump = self._dumps[inode]
        host = inode == self._host
        paths, pids = self._paths.get(inode, []), self._pids.get(inode, [])
        addresses: dict[int, list[survey.AddressRow]] = {}
        for address in dump.addresses:
            addresses.setdefault(address.index, []).append(address)
        return NamespaceFact(
            inode=inode,
            owner=Owner("host", name="host") if host else owner_of(paths, pids, ours, here),
            paths=tuple(paths),
            pids=() if host else tuple(pids),
            interfaces=tuple(self._interface(inode, link, addresses.get(link.index, ())) for link in dump.links),
            routes=tuple(dump.routes),
            neighbours=tuple(dump.neighbours),
        )

    def _interface(self, inode: int, link: survey.LinkRow, addresses: Sequence[survey.AddressRow]) -> InterfaceFact:
        there = inode if link.nsid < 0 else self._dumps[inode].nsids.get(link.nsid, 0)
        itself = there == inode and link.lower == link.index
        other = End(there, link.lower) if there and link.lower and not itself else None
        if other and other.index not in self._dumps[there].by_index:
            other = None  # Made or gone between the two readings.
        return InterfaceFact(
            index=link.index,
            name=link.name,
            kind=link.kind,
            loopback=link.loopback,
            up=link.up,
            carrier=link.carrier,
            state=link.state,
            mac=link.mac,
            mtu=link.mtu,
            master=link.master,
            peer=other if link.kind == "veth" else None,
            parent=other if link.kind != "veth" else None,
            hidden=link.nsid >= 0 and not there,
            alias=link.alias,
            isolated=link.isolated,
            hairpin=link.hairpin,
            data=link.data,
            counters=link.counters,
            addresses=tuple(row.interface for row in addresses),
            duplicates=tuple(row.interface for row in addresses if row.broken),
        )


def _allow_files(count: int) -> None:
    """Let this process have so many open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count <= hard or soft < hard < count:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
