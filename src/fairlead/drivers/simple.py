"""The drivers that make nothing: ``host`` (the sandbox is the host's namespace) and ``null`` (loopback alone)."""

from __future__ import annotations

from collections.abc import Sequence

from fairlead.kernel.firewalls import OtherChain
from fairlead.model import Endpoint, Network, Sandbox
from fairlead.plan import Plan


class Null:
    """A network without links."""

    options: frozenset[str] = frozenset()
    has_links = False

    def complete(self, network: Network) -> Network:
        """There is nothing to decide."""
        return network

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """Nothing."""
        return Plan()

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """Nothing."""
        return Plan()


class Host(Null):
    """The host's own namespace."""
