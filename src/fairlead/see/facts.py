"""The machine's network as the kernel has it, at one moment: every namespace, and what leads from one to another.

A snapshot is read, never kept, and reading changes nothing.  Fairlead's own namespaces are read like anybody's: what
the store says of them is set beside it elsewhere (`fairlead.see.topology`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fairlead.kernel import survey
from fairlead.kernel.namespaces import Namespaces
from fairlead.kernel.survey import Counters, NeighbourRow, RouteRow, VlanRow
from fairlead.model import Interface
from fairlead.see.owners import Owner, is_users_container, owner_of
from fairlead.see.reader import Reader, Reading

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
    vlans: tuple[VlanRow, ...] | None = None
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
    with Reader(namespaces) as reader:
        dumps = {inode: dump for inode in reader.inodes if (dump := _dump(reader, inode))}
        here = survey.cgroup(os.getpid())
        kept = set(dumps) if everything else _connected(reader, dumps, here)
        facts = tuple(_fact(reader, dump, ours, here) for inode, dump in dumps.items() if inode in kept)
    return Snapshot(facts, left_out=len(dumps) - len(kept))


@dataclass(slots=True)
class _Dump:
    """What one namespace answered at one moment."""

    reading: Reading
    routes: list[RouteFact]
    neighbours: list[NeighbourFact]


def _dump(reader: Reader, inode: int) -> _Dump | None:
    reading = reader.read(inode)
    # One that goes now is not seen.
    with contextlib.suppress(OSError):
        return _Dump(reading, survey.routes(reading.socket), survey.neighbours(reading.socket)) if reading else None
    return None


def _connected(reader: Reader, dumps: Mapping[int, _Dump], here: str) -> set[int]:
    """The host, what is kept by a path, users' containers, and what links lead to from these."""
    kept: set[int] = set()
    ahead = [inode for inode in dumps if inode == reader.host or inode in reader.paths]
    # Those of root are kept by a path, but a user's path is in a mount namespace of the user.
    ahead += [inode for inode in dumps if is_users_container(reader.pids.get(inode, ()), here)]
    leads: dict[int, set[int]] = {}
    for inode, dump in dumps.items():
        for link in dump.reading.links.values():
            if (other := reader.behind(inode, link)) and other != inode:
                leads.setdefault(inode, set()).add(other)
                leads.setdefault(other, set()).add(inode)
    while ahead:
        inode = ahead.pop()
        if inode in dumps and inode not in kept:
            kept.add(inode)
            ahead += leads.get(inode, ())
    return kept


def _fact(reader: Reader, dump: _Dump, ours: Path, here: str) -> NamespaceFact:
    """What was read of one namespace."""
    inode = dump.reading.inode
    host = inode == reader.host
    paths, pids = reader.paths.get(inode, []), reader.pids.get(inode, [])
    addresses: dict[int, list[survey.AddressRow]] = {}
    for address in dump.reading.addresses:
        addresses.setdefault(address.index, []).append(address)
    return NamespaceFact(
        inode=inode,
        owner=Owner("host", name="host") if host else owner_of(paths, pids, ours, here),
        paths=tuple(paths),
        pids=() if host else tuple(pids),
        interfaces=tuple(
            _interface(reader, inode, link, addresses.get(link.index, ())) for link in dump.reading.links.values()
        ),
        routes=tuple(dump.routes),
        neighbours=tuple(dump.neighbours),
    )


def _interface(
    reader: Reader, inode: int, link: survey.LinkRow, addresses: Sequence[survey.AddressRow]
) -> InterfaceFact:
    found = reader.other_end(inode, link)
    other = End(*found) if found else None
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
        hidden=not reader.behind(inode, link),
        alias=link.alias,
        isolated=link.isolated,
        hairpin=link.hairpin,
        data=link.data,
        counters=link.counters,
        vlans=link.vlans,
        addresses=tuple(row.interface for row in addresses),
        duplicates=tuple(row.interface for row in addresses if row.broken),
    )
