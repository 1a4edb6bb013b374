"""Steps that have the kernel tell a link's neighbours which addresses it has."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import rtnetlink
from fairlead.plan.netlink import GONE, NetlinkStep, in_namespace, ip, link_name, word
from fairlead.plan.step import State

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel

_PATIENCE = 0.05
"""Seconds for a link to come up whose other end is up; the kernel takes less than a millisecond (linkwatch)."""


@dataclass(frozen=True, slots=True)
class NotifyByArp(NetlinkStep):
    """The link's IPv4 addresses are announced when it comes up, and when its MAC is set."""

    namespace: str
    link: str

    def make(self, batch: Batch) -> None:
        batch.add(rtnetlink.notify_by_arp(self.link), f"cannot have {self.link} announce its addresses")

    def unmake(self, batch: Batch) -> None:
        """It goes with the link."""

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            return State.HOLDS if rtnetlink.notifies_by_arp(socket, self.link) else State.MISSING

    def shell(self) -> tuple[str, ...]:
        return (in_namespace(self.namespace, f"sysctl -qw {word(f'net/ipv4/conf/{self.link}/arp_notify')}=1"),)

    def unshell(self) -> tuple[str, ...]:
        return ()

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.link), f"netns:{self.namespace}")


@dataclass(frozen=True, slots=True)
class Announce(NetlinkStep):
    """The link's addresses are announced now: it is given the MAC that it has, which the kernel takes for news.

    A link only sends once the kernel has seen that its other end is up.  That happens beside us, so it is waited for.
    An announcement that is lost all the same is no error: neighbours find out by themselves, only later.
    """

    namespace: str
    link: str
    mac: str

    def make(self, batch: Batch) -> None:
        batch.flush()
        deadline = time.monotonic() + _PATIENCE
        while not rtnetlink.is_running(batch.socket, self.link) and time.monotonic() < deadline:
            time.sleep(0.0002)
        batch.add(rtnetlink.set_mac(self.link, self.mac), f"cannot announce the addresses of {self.link}", GONE)

    def unmake(self, batch: Batch) -> None:
        """What was said is said."""

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS

    def shell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link set {word(self.link)} address {self.mac}"),)

    def unshell(self) -> tuple[str, ...]:
        return ()

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.link), f"netns:{self.namespace}")
