"""What the planner may ask of the kernel: always afresh, changing nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from fairlead.kernel import Kernel, rtnetlink
from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import HOST, Address, IPNetwork, Protocol


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
