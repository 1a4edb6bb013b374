"""Steps that give links addresses and namespaces routes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import rtnetlink
from fairlead.model import Address, Interface, IPNetwork
from fairlead.plan.netlink import GONE, NetlinkStep, ip, link_name, word
from fairlead.plan.step import State

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel


@dataclass(frozen=True, slots=True)
class AddAddress(NetlinkStep):
    """An address on a link."""

    namespace: str
    link: str
    interface: Interface

    def make(self, batch: Batch) -> None:
        message = rtnetlink.add_address(batch.index(self.link), self.interface)
        batch.add(message, f"cannot give {self.link} the address {self.interface}")

    def unmake(self, batch: Batch) -> None:
        if index := batch.find(self.link):
            message = rtnetlink.delete_address(index, self.interface)
            batch.add(message, f"cannot take the address {self.interface} from {self.link}", GONE)

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.link)
            found = fact and any(
                a.index == fact.index and a.interface == self.interface for a in rtnetlink.addresses(socket)
            )
        return State.HOLDS if found else State.MISSING

    def shell(self) -> tuple[str, ...]:
        broadcast = " brd +" if self.interface.version == 4 and self.interface.network.prefixlen < 31 else ""
        undoubted = " nodad" if self.interface.version == 6 else ""
        return (ip(self.namespace, f"addr add {self.interface}{broadcast}{undoubted} dev {word(self.link)}"),)

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"addr del {self.interface} dev {word(self.link)}"),)

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.link), f"netns:{self.namespace}")


@dataclass(frozen=True, slots=True)
class AddRoute(NetlinkStep):
    """A route by way of a link; prefix length 0 is the default route."""

    namespace: str
    link: str
    destination: IPNetwork
    gateway: Address | None = None

    def make(self, batch: Batch) -> None:
        message = rtnetlink.add_route(batch.index(self.link), self.destination, self.gateway)
        batch.add(message, f"cannot add the route to {self._words()}")

    def unmake(self, batch: Batch) -> None:
        if index := batch.find(self.link):
            message = rtnetlink.delete_route(index, self.destination, self.gateway)
            batch.add(message, f"cannot delete the route to {self._words()}", GONE)

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.link)
            found = fact and any(
                r.index == fact.index and r.destination == self.destination and r.gateway == self.gateway
                for r in rtnetlink.routes(socket)
            )
        return State.HOLDS if found else State.MISSING

    def _words(self) -> str:
        destination = str(self.destination) if self.destination.prefixlen else "default"
        via = f" via {self.gateway}" if self.gateway else ""
        return f"{destination}{via} dev {word(self.link)}"

    def _family(self) -> str:
        return "-6 " if self.destination.version == 6 else ""

    def shell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"{self._family()}route add {self._words()}"),)

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"{self._family()}route del {self._words()}"),)

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.link), f"netns:{self.namespace}")
