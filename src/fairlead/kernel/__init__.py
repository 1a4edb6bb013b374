"""The only package that touches the kernel: netlink, namespaces, nftables, settings, sockets that hold ports."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from fairlead.kernel import rtnetlink
from fairlead.kernel.carriers import Carriers
from fairlead.kernel.firewalls import Firewalls
from fairlead.kernel.namespaces import Namespaces, open_namespace
from fairlead.kernel.netlink import NETLINK_ROUTE, Message, NetlinkError, Socket
from fairlead.kernel.nftables import Nftables
from fairlead.kernel.ports import Ports
from fairlead.kernel.removal import Removals
from fairlead.kernel.sysctl import LinkSettings
from fairlead.model import HOST

__all__ = ["Batch", "Kernel", "NetlinkError"]


class Batch:
    """Requests to one namespace, sent together; use inside ``with kernel.batch(path) as batch``.

    A request that needs a link's index makes the ones before it be sent first, as the link may be among them.
    """

    def __init__(self, socket: Socket, another: Callable[[], Socket], removals: Removals) -> None:
        self.socket = socket
        self._another = another
        self._removals = removals
        self.owner: object = None
        """On whose behalf `add` is called…"""
        self.made: list[object] = []
        """…and the owners of the requests that the kernel carried out."""
        self._pending: list[tuple[Message, str, tuple[int, ...], object]] = []
        self._indices: dict[str, int] = {}
        self._descriptors: list[int] = []

    def add(self, message: Message, what: str, tolerate: tuple[int, ...] = ()) -> None:
        """Queue a request.  `what` names it in an error; errors numbered in `tolerate` count as success."""
        self._pending.append((message, what, tolerate, self.owner))

    def delete_link(self, name: str) -> None:
        """Delete a link after what is queued, and wait until it is gone; one that is gone already is no error."""
        self.flush()
        if (refused := self._removals.delete(name, self.socket, self._another())) and refused.errno != errno.ENODEV:
            raise NetlinkError(refused.errno, f"cannot delete the interface {name}: {refused}")

    def namespace(self, path: str) -> int:
        """A descriptor of a namespace (empty: the host's), for a request; it stays open until the requests are sent."""
        # This thread is at home: it enters a namespace for as long as it takes to open a socket.
        self._descriptors.append(open_namespace(path or "/proc/thread-self/ns/net"))
        return self._descriptors[-1]

    def link(self, name: str) -> rtnetlink.LinkFact | None:
        """A link as it is once the requests so far are carried out."""
        self.flush()
        return rtnetlink.get_link(self.socket, name)

    def find(self, link: str) -> int | None:
        """The index of a link, or None if there is no such link."""
        if link not in self._indices:
            self.flush()
            index = rtnetlink.link_index(self.socket, link)
            if index is None:
                return None
            self._indices[link] = index
        return self._indices[link]

    def index(self, link: str) -> int:
        """The index of a link that must exist."""
        found = self.find(link)
        if found is None:
            raise NetlinkError(errno.ENODEV, f"there is no interface {link}")
        return found

    def flush(self) -> None:
        """Send what is queued; raises the first refusal that is not tolerated."""
        pending, self._pending = self._pending, []
        outcomes = self.socket.send([message for message, _, _, _ in pending])
        refused: NetlinkError | None = None
        for (_, what, tolerate, owner), error in zip(pending, outcomes, strict=True):
            if error is None:
                self.made.append(owner)
            elif error.errno not in tolerate:
                refused = refused or NetlinkError(error.errno, f"{what}: {error}")
        self.close()
        if refused:
            raise refused

    def close(self) -> None:
        """Close the descriptors that requests needed."""
        while self._descriptors:
            os.close(self._descriptors.pop())


class Kernel:
    """Handed to every step; opens what the steps need.  `run` is the instance's run directory.

    Safe to use from several threads.
    """

    def __init__(self, run: Path) -> None:
        self.namespaces = Namespaces()
        self.nft = Nftables()
        self.firewalls = Firewalls(self.nft)
        self.ports = Ports(run)
        self.link_settings = LinkSettings()
        self.carriers = Carriers(self.socket)
        self._removals = Removals()
        self._idle: list[Socket] = []

    @contextlib.contextmanager
    def socket(self, namespace: str, protocol: int = NETLINK_ROUTE) -> Iterator[Socket]:
        """A netlink socket in the namespace at this path (empty: the host's).

        The host's for routes are used again, unless an error may have left an answer unread.
        """
        again = namespace == HOST and protocol == NETLINK_ROUTE
        socket = self._idle.pop() if again and self._idle else self._open(namespace, protocol)
        good = False
        try:
            yield socket
            good = True
        finally:
            if good and again:
                self._idle.append(socket)
            else:
                socket.close()

    def close(self) -> None:
        """Let go of all that was opened; the keeper of the ports goes on holding them.  Nothing is used after this."""
        self._removals.close()
        self.carriers.close()
        self.ports.close()
        self.nft.close()
        self.link_settings.close()
        while self._idle:
            self._idle.pop().close()
        self.namespaces.close()

    def _open(self, namespace: str, protocol: int) -> Socket:
        with self.namespaces.entered(namespace):
            return Socket(protocol)

    @contextlib.contextmanager
    def batch(self, namespace: str) -> Iterator[Batch]:
        """Collect requests for a namespace; they are sent when the body ends, or not at all if it raises."""
        with self.socket(namespace) as socket:
            batch = Batch(socket, lambda: self._open(namespace, NETLINK_ROUTE), self._removals)
            try:
                yield batch
                batch.flush()
            finally:
                batch.close()
