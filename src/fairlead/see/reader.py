"""Reads network namespaces: which there are, what links and addresses one has, and where a link's other end is.

The one reader of all that looks: a snapshot reads every namespace, a trace those that its way leads to.  What was read
once is not read again, so a reader is made anew for each look.  Reading changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from fairlead.kernel import survey
from fairlead.kernel.namespaces import Namespaces
from fairlead.kernel.netlink import Socket
from fairlead.kernel.survey import AddressRow, LinkRow


@dataclass(slots=True)
class Reading:
    """What one namespace answered, and descriptors to ask it further, as long as the reader is open."""

    inode: int
    fd: int
    socket: Socket
    links: dict[int, LinkRow]
    """By index."""
    addresses: list[AddressRow]
    numbers: dict[int, int] = field(default_factory=dict)
    """Inodes of other namespaces by the number that this one knows them by…"""
    asked: set[int] = field(default_factory=set)
    """…and those that it was asked about."""

    def named(self, name: str) -> LinkRow | None:
        """A link by name."""
        return next((link for link in self.links.values() if link.name == name), None)


class Reader:
    """Sees what can be seen from the namespace in which `namespaces` was made.  Use as a context manager."""

    def __init__(self, namespaces: Namespaces, *, counters: bool = True) -> None:
        """Without `counters` links are read without them, which is quicker."""
        self._namespaces, self._counters = namespaces, counters
        self.host = namespaces.inode()
        self.paths = survey.mounted()
        """Where namespaces are kept…"""
        self.pids = survey.inhabited()
        """…and who is in them, by inode."""
        self.inodes = (self.host, *sorted({*self.paths, *self.pids} - {self.host}))
        """All of them, the host's first."""
        self._stack = contextlib.ExitStack()
        self._readings: dict[int, Reading | None] = {}
        self._fitting: dict[tuple[int, int], list[int]] = {}
        """Which of those read have a veth of a number with a peer of a number, and (0) any link of a number."""
        # Two for each namespace that is read, and what the process has open besides.
        _allow_files(2 * len(self.inodes) + 100)

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def read(self, inode: int) -> Reading | None:
        """A namespace's links and addresses; None if it is gone, or of a kind that we may not enter."""
        if inode not in self._readings:
            self._readings[inode] = None
            with contextlib.suppress(OSError):
                self._readings[inode] = self._read(inode)
        return self._readings[inode]

    def _read(self, inode: int) -> Reading:
        fd = self._open(inode)
        self._stack.callback(os.close, fd)
        with self._namespaces.entered_by(fd):
            socket = Socket()
        self._stack.callback(socket.close)
        links = {link.index: link for link in survey.links(socket, counters=self._counters)}
        for link in links.values():
            self._fitting.setdefault((link.index, 0), []).append(inode)
            if link.kind == "veth":
                self._fitting.setdefault((link.index, link.lower), []).append(inode)
        return Reading(inode, fd, socket, links, survey.addresses(socket))

    def _open(self, inode: int) -> int:
        pids = (f"/proc/{pid}/ns/net" for pid in self.pids.get(inode, ()))
        # The host's is opened by a thread that is at home, which also works where nothing keeps it by a path.
        places = ["/proc/thread-self/ns/net"] if inode == self.host else [*self.paths.get(inode, ()), *pids]
        for place in places:
            with contextlib.suppress(OSError):
                fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
                if os.fstat(fd).st_ino == inode:
                    return fd
                os.close(fd)  # A process of that number is another one by now, or something is mounted on top.
        raise FileNotFoundError(f"no way into the network namespace {inode}")

    def other_end(self, inode: int, link: LinkRow) -> tuple[int, int] | None:
        """Namespace and index of a veth's peer, or of the link that one stands on; None: none, or not to be seen.

        Reads the namespace that it is in.
        """
        there = self.behind(inode, link)
        if not there or not link.lower or (there, link.lower) == (inode, link.index):
            return None
        far = self.read(there)
        # Made or gone between the two readings.
        return (there, link.lower) if far and link.lower in far.links else None

    def behind(self, inode: int, link: LinkRow) -> int:
        """The inode of the namespace that a link's other end is in, 0 if it is not to be seen from here."""
        if link.nsid < 0:
            return inode
        here = self.read(inode)
        if here is None:
            return 0
        if link.nsid not in here.numbers:
            self._ask(here, link)
        return here.numbers.get(link.nsid, 0)

    def _ask(self, here: Reading, link: LinkRow) -> None:
        """Which namespace is meant by a link's number of it: asked of the likely ones first, until one is."""
        for candidate in self._candidates(here, link):
            if candidate == here.inode or candidate in here.asked:
                continue
            here.asked.add(candidate)
            with contextlib.suppress(OSError), self._descriptor(candidate) as fd:
                number = survey.nsid_of(here.socket, fd)
                if number >= 0:
                    here.numbers[number] = candidate
                if number == link.nsid:
                    return

    def _candidates(self, here: Reading, link: LinkRow) -> Iterator[int]:
        """Of those read, the ones with a link of the number that this one leads to (of a veth, one that leads back).

        Then those not read yet, the host first: that is where most links of a sandbox lead.
        """
        yield from self._fitting.get((link.lower, link.index if link.kind == "veth" else 0), ())
        yield from (inode for inode in self.inodes if inode not in self._readings)

    @contextlib.contextmanager
    def _descriptor(self, inode: int) -> Iterator[int]:
        if found := self._readings.get(inode):
            yield found.fd
            return
        fd = self._open(inode)
        try:
            yield fd
        finally:
            os.close(fd)


def _allow_files(count: int) -> None:
    """Let this process have so many open files, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count <= hard or soft < hard < count:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(count, hard), hard))
