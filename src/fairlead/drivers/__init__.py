"""Drivers: pure functions from records to plans.  One module per driver; `DRIVERS` is the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.drivers.bridge import Bridge
from fairlead.drivers.simple import Null, Shared
from fairlead.errors import Invalid
from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import Address, Endpoint, Network, Sandbox
from fairlead.plan import Plan

__all__ = ["DRIVERS", "Driver", "Host", "driver_named"]


class Host(Protocol):
    """What a driver may ask of the host while it decides; the answers are facts of this moment."""

    def link(self, name: str) -> LinkFact | None:
        """A link of the host."""
        ...


class Driver(Protocol):
    """What the planner asks of a driver.  Nothing here does I/O."""

    options: frozenset[str]
    """The network options that the driver knows."""
    endpoint_options: frozenset[str]
    """The endpoint options that it knows."""
    has_links: bool
    """Whether endpoints are interfaces with addresses, so that the network needs a subnet."""

    def complete(self, network: Network, host: Host) -> Network:
        """The record with what the driver decides filled in (the bridge's name); raises `Invalid` on bad options."""
        ...

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """The record with what the driver decides filled in: the host's interface, the MAC unless it was given."""
        ...

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """The default routes that an endpoint of this network may give, at most one per family."""
        ...

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """What makes the network; `others` are other firewalls' chains that would drop its packets."""
        ...

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """What makes the endpoint."""
        ...


DRIVERS: Mapping[str, Driver] = {"bridge": Bridge(), "host": Shared(), "null": Null()}


def driver_named(name: str) -> Driver:
    """The driver, or `Invalid` with the names there are.  (Docker calls the driver of ``none`` null.)"""
    if name not in DRIVERS:
        raise Invalid(f"network driver {name!r} is unknown: {', '.join(DRIVERS)} are available")
    return DRIVERS[name]
