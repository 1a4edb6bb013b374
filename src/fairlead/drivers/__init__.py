"""Drivers: pure functions from records to plans, one module each, and other people's, found by entry point.

A driver is loaded when a network first needs it, so that none slows the daemon's start.  `docs/drivers.md` says how to
write one; `fairlead.drivers.conformance` puts any driver through what Fairlead relies on.
"""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from fairlead.errors import FairleadError, NotFound

if TYPE_CHECKING:
    from fairlead.kernel.firewalls import OtherChain
    from fairlead.kernel.rtnetlink import LinkFact
    from fairlead.model import Address, Endpoint, Interface, Network, Sandbox
    from fairlead.plan import Plan

__all__ = ["ENTRY_POINTS", "Driver", "Host", "driver_named", "driver_names", "driver_of"]

ENTRY_POINTS = "fairlead.drivers"
"""The group of entry points in which a package names its drivers: ``name = "package.module:Class"``."""

_BUILT_IN: Mapping[str, str] = {
    "bridge": "fairlead.drivers.bridge:Bridge",
    "host": "fairlead.drivers.simple:Shared",
    "ipvlan": "fairlead.drivers.ipvlan:Ipvlan",
    "macvlan": "fairlead.drivers.macvlan:Macvlan",
    "null": "fairlead.drivers.simple:Null",
}
"""Docker calls the driver of ``none`` null."""

log = logging.getLogger("fairlead.drivers")


class Host(Protocol):
    """What a driver may ask of the host while it decides; the answers are facts of this moment."""

    def link(self, name: str) -> LinkFact | None:
        """A link of the host."""
        ...

    def addresses(self, link: str) -> tuple[Interface, ...]:
        """The addresses of a link of the host."""
        ...

    def uplink_mtu(self) -> int:
        """The least MTU, in bytes, of the links that the host's default routes lead through; 0 if there are none."""
        ...

    def has_kind(self, kind: str) -> bool:
        """Whether this kernel can make links of a kind, such as ``ipvlan``."""
        ...

    def networks_on(self, parent: str) -> Sequence[Network]:
        """The other networks that stand on a parent link (`Network.parent`), of any driver."""
        ...


class Driver(Protocol):
    """What the planner asks of a driver.  Nothing here does I/O: what it needs to know, it is given."""

    options: frozenset[str]
    """The network options that the driver knows."""
    endpoint_options: frozenset[str]
    """The endpoint options that it knows."""
    has_links: bool
    """Whether endpoints are interfaces with addresses, so that the network needs a subnet."""
    behind_host: bool
    """Whether the host takes part, with an address in each subnet: then the network has one per family, which must not
    overlap with what the host has a route to, and ports can be published."""

    def home(self, options: Mapping[str, str], host: Host) -> tuple[Interface, ...]:
        """The addresses of an interface of the host that the network will use as it is.

        The network's subnets may overlap theirs; a family for which no subnet was asked gets theirs.
        """
        ...

    def complete(self, network: Network, host: Host) -> Network:
        """The record with what the driver decides filled in (the bridge's name); raises `Invalid` on bad options."""
        ...

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """The record with what the driver decides filled in: the host's interface, the MAC unless it was given."""
        ...

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """The default routes that an endpoint of this network may give, at most one per family and subnet.

        An unspecified address (``0.0.0.0``, ``::``) stands for a route straight into the endpoint's link.
        """
        ...

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """What makes the network; `others` are other firewalls' chains that would drop its packets."""
        ...

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """What makes the endpoint."""
        ...


@functools.cache
def driver_named(name: str) -> Driver:
    """The driver, or `NotFound`, in Docker's words, with the names there are."""
    place = _BUILT_IN.get(name) or _others().get(name)
    if place is None:
        raise NotFound(f'plugin "{name}" not found: the network drivers here are {", ".join(driver_names())}')
    module, _, attribute = place.partition(":")
    try:
        driver: Driver = getattr(importlib.import_module(module), attribute)()
    except Exception as error:  # Anybody's code runs here.
        log.exception("loading the driver %s", name)
        raise FairleadError(f"network driver {name!r} ({place}) cannot be loaded: {error}") from error
    return driver


def driver_of(network: Network) -> Driver:
    """The driver of a network that exists; where it is not installed any more, one that only lets it be removed."""
    try:
        return driver_named(network.driver)
    except FairleadError as error:
        log.warning("network %s: %s", network.name, error)
        from fairlead.drivers.simple import Absent

        return Absent()


def driver_names() -> list[str]:
    """The drivers that there are."""
    return sorted({*_BUILT_IN, *_others()})


@functools.cache
def _others() -> Mapping[str, str]:
    """The drivers of other packages.  Looking through all that is installed takes tens of milliseconds."""
    from importlib.metadata import entry_points

    return {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
