"""Drivers: pure functions from records to plans.  One module per driver; `DRIVERS` is the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from fairlead.drivers.bridge import Bridge
from fairlead.drivers.simple import Host, Null
from fairlead.errors import Invalid
from fairlead.kernel.firewalls import OtherChain
from fairlead.model import Endpoint, Network, Sandbox
from fairlead.plan import Plan

__all__ = ["DRIVERS", "Driver", "driver_named"]


class Driver(Protocol):
    """What the planner asks of a driver.  Nothing here does I/O."""

    options: frozenset[str]
    """The network options that the driver knows."""
    has_links: bool
    """Whether endpoints are interfaces with addresses, so that the network needs a subnet."""

    def complete(self, network: Network) -> Network:
        """The record with what the driver decides filled in (the bridge's name); raises `Invalid` on bad options."""
        ...

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """What makes the network; `others` are other firewalls' chains that would drop its packets."""
        ...

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """What makes the endpoint."""
        ...


DRIVERS: Mapping[str, Driver] = {"bridge": Bridge(), "host": Host(), "null": Null()}


def driver_named(name: str) -> Driver:
    """The driver, or `Invalid` with the names there are.  (Docker calls the driver of ``none`` null.)"""
    if name not in DRIVERS:
        raise Invalid(f"network driver {name!r} is unknown: {', '.join(DRIVERS)} are available")
    return DRIVERS[name]
