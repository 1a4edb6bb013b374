"""The drivers that make nothing: ``host`` (the sandbox is the host's namespace), ``null`` (loopback alone), none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fairlead.kernel.firewalls import OtherChain
from fairlead.model import Address, Endpoint, Interface, Network, Sandbox
from fairlead.plan import Plan

if TYPE_CHECKING:
    from fairlead.drivers import Host


class Null:
    """A network without links."""

    options: frozenset[str] = frozenset()
    endpoint_options: frozenset[str] = frozenset()
    has_links = False
    behind_host = False

    def home(self, options: Mapping[str, str], host: Host) -> tuple[Interface, ...]:
        """None."""
        return ()

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


class Absent(Null):
    """Stands for a driver whose package is not here any more: its networks can be removed, but not joined."""
