"""The drivers that make nothing: ``host`` (the sandbox is the host's namespace) and ``null`` (loopback alone)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.kernel.firewalls import OtherChain
from fairlead.model import Address, Endpoint, Network, Sandbox
from fairlead.plan import Plan

if TYPE_CHECKING:
    from fairlead.drivers import Host


class Null:
    """A network without links."""

    options: frozenset[str] = frozenset()
    endpoint_options: frozenset[str] = frozenset()
    has_links = False

    def complete(self, network: Network, host: Host) -> Network:
        """There is nothing to decide."""
        return network

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """There is nothing to decide."""
        return endpoint

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """None: it leads nowhere, or is the host's own."""
        return ()

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """Nothing."""
        return Plan()

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """Nothing."""
        return Plan()


class Shared(Null):
    """The host's own namespace."""
