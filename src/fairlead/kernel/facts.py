"""What the planner may ask of the kernel: always afresh, changing nothing."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from fairlead.kernel import Kernel, rtnetlink, sysctl
from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import HOST, Address, Interface, IPNetwork, Protocol

_PROBE = "fairlead-probe"


class KernelFacts:
    """`fairlead.planner.Facts` read off the real kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    def link(self, name: str) -> LinkFact | None:
        """A link of the host."""
        return self.link_in(HOST, name)

    def link_in(self, path: str, name: str) -> LinkFact | None:
        """A link in the namespace at `path`."""
        with self._kernel.socket(path) as socket:
            return rtnetlink.get_link(socket, name)

    def addresses(self, link: str) -> tuple[Interface, ...]:
        """The addresses of a link of the host."""
        with self._kernel.socket(HOST) as socket:
            fact = rtnetlink.get_link(socket, link)
            found = rtnetlink.addresses(socket) if fact else []
        return tuple(address.interface for address in found if fact and address.index == fact.index)

    def uplink_mtu(self) -> int:
        """The least MTU of the links that the host's default routes lead through; 0 if there are none."""
        with self._kernel.socket(HOST) as socket:
            indices = {route.index for route in rtnetlink.routes(socket) if not route.destination.prefixlen}
            found = [rtnetlink.get_link_at(socket, index) for index in indices]
        return min((link.mtu for link in found if link), default=0)

    def forwards_ipv6(self) -> bool:
        """Whether this host passes on IPv6 packets of others."""
        return sysctl.read(sysctl.IPV6_FORWARD) == "1"

    def router_listeners(self) -> list[str]:
        """The interfaces, and ``default`` for those to come, that take in router advertisements, but would stop if
        the host forwarded.  Ours are none of them."""
        with self._kernel.socket(HOST) as socket:
            ours = {link.name for link in rtnetlink.links(socket) if link.alias.startswith("fairlead:")}
        names = {path.parent.name for path in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra")}
        return sorted(
            name
            for name in names - ours - {"all", "lo"}
            if sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "1"
            and sysctl.read(f"net/ipv6/conf/{name}/forwarding") == "0"
        )

    def has_kind(self, kind: str) -> bool:
        """Whether the kernel can make links of a kind (``ipvlan``), by its answer to a wish for one."""
        with self._kernel.socket(HOST) as socket:
            (refused,) = socket.send([rtnetlink.probe(_PROBE, kind)])
            if refused is None:  # No kernel known makes it; but if one did, it must not stay.
                socket.send([rtnetlink.delete_link(_PROBE)])
        return refused is None or refused.errno != errno.EOPNOTSUPP

    def networks(self) -> list[IPNetwork]:
        """What the host has addresses in or routes to, default routes aside."""
        with self._kernel.socket(HOST) as socket:
            found = {address.interface.network for address in rtnetlink.addresses(socket)}
            found |= {route.destination for route in rtnetlink.routes(socket) if route.destination.prefixlen}
        return list(found)

    def namespace_exists(self, path: str) -> bool:
        """Whether there is anything at this path."""
        return os.path.lexists(path)

    def blocking_chains(self) -> list[OtherChain]:
        """Other firewalls' chains that would drop forwarded packets."""
        return self._kernel.firewalls.blocking()

    def marked_chains(self, bridge: str) -> list[OtherChain]:
        """Other firewalls' chains that hold accept rules of ours for a bridge."""
        return self._kernel.firewalls.marked(bridge)

    def has_ipv6(self) -> bool:
        """Whether this host speaks IPv6 at all."""
        return Path("/proc/sys/net/ipv6").exists()

    def pick_port(self, protocol: Protocol, addresses: Sequence[Address], number: int) -> int | None:
        """This port, or (0) any one, if it is free on all of these addresses; it is bound from here on."""
        return self._kernel.ports.pick(protocol, addresses, number)
