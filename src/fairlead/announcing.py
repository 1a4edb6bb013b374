"""Which endpoints are made known to their neighbours: those whose address somebody may know with another MAC.

A neighbour that still knows an address with the MAC of who had it before would send there in vain, for up to a minute.
So the kernel is asked to announce such an address, by gratuitous ARP (RFC 5227 3) and unsolicited neighbour
advertisement (RFC 4861 7.2.6): it does so when a link's MAC is set, even to what it was, once the link is told to
(``arp_notify``, ``ndisc_notify``: kernel.org/doc/Documentation/networking/ip-sysctl).

An announcement is a broadcast: the kernel copies it to each port of the bridge, and each namespace there takes it in.
With a thousand endpoints that takes several times as long as the whole attach.  An address which nobody has had yet, or
which comes back to its last owner, is spared it.
"""

from __future__ import annotations

import time

from fairlead.drivers import driver_of
from fairlead.model import Address, Endpoint, Interface, Network, Sandbox
from fairlead.plan import Plan
from fairlead.plan.announce import Announce


class Neighbours:
    """What neighbours may remember: for each network the MAC that each address had last."""

    def __init__(self) -> None:
        self._since = time.time()
        self._last: dict[str, dict[Address, str]] = {}

    def left(self, endpoint: Endpoint) -> None:
        """An endpoint is gone; its addresses may be given to another."""
        last = self._last.setdefault(endpoint.network, {})
        last.update({interface.ip: endpoint.mac for interface in _addresses(endpoint)})

    def gone(self, network: Network) -> None:
        """A network is gone, and all memories with it."""
        self._last.pop(network.id, None)

    def announcement(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """What makes an endpoint known where that is needed, to be done when all is up."""
        if endpoint.ifname and endpoint.mac and self._may_be_mistaken(network, endpoint):
            return Plan((Announce(sandbox.path, endpoint.ifname, endpoint.mac),))
        return Plan()

    def _may_be_mistaken(self, network: Network, endpoint: Endpoint) -> bool:
        if network.adopted or not driver_of(network).behind_host:
            return True  # There are machines among the neighbours of which we know nothing.
        if network.created < self._since:
            return True  # Who was in it before this process is not known.
        last = self._last.get(network.id, {})
        return any(last.get(interface.ip, endpoint.mac) != endpoint.mac for interface in _addresses(endpoint))


def _addresses(endpoint: Endpoint) -> tuple[Interface, ...]:
    return (*endpoint.addresses, *endpoint.link_local)
