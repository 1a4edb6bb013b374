"""Which subnets a network gets: those that its user names, and where one is missing, one of the default pools."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, Protocol

from msgspec.structs import replace

from fairlead import ipam
from fairlead.catalog import Catalog
from fairlead.errors import Forbidden, Invalid
from fairlead.model import Interface, IPNetwork, Pool
from fairlead.spec import NetworkSpec

if TYPE_CHECKING:
    from fairlead.drivers import Driver


class Facts(Protocol):
    """What is asked of the kernel."""

    def has_ipv6(self) -> bool:
        """Whether this host speaks IPv6 at all."""
        ...

    def networks(self) -> list[IPNetwork]:
        """What the host has addresses in or routes to, default routes aside."""
        ...


class Subnets:
    """Chooses; `unique_local` is the block from which IPv6 subnets come that nobody named."""

    def __init__(self, catalog: Catalog, facts: Facts, unique_local: IPv6Network) -> None:
        self._catalog = catalog
        self._facts = facts
        self._default_pools = {4: ipam.DEFAULT_POOLS, 6: ((unique_local, 64),)}

    def choose(self, spec: NetworkSpec, driver: Driver, home: Sequence[Interface]) -> tuple[Pool, ...]:
        """The pools asked for, and one for each wanted family without; `home` as `Driver.home` returns it.

        Raises `Invalid`, and `Forbidden` where a subnet overlaps with what is there already.
        """
        if not spec.ipv4 and not spec.ipv6:
            raise Invalid("a network needs IPv4 or IPv6: both are switched off")
        if spec.ipv6 and not self._facts.has_ipv6():
            raise Invalid("this host's kernel has no IPv6: a network with IPv6 cannot be made")
        ours = {
            pool.subnet: network.name
            for network in self._catalog.networks()
            if not network.config_only
            for pool in network.pools
        }
        theirs = self._facts.networks() if driver.behind_host and not spec.no_gateway else []
        at_home = {interface.network for interface in home}
        theirs = [network for network in theirs if network not in at_home]
        for pool in spec.pools:
            _check(pool, ours, theirs)
        versions = [pool.subnet.version for pool in spec.pools]
        if len(set(versions)) < len(versions) and driver.behind_host:
            raise Invalid(f"a network of the driver {spec.driver} takes one subnet per address family")
        for one, other in itertools.combinations(spec.pools, 2):
            if ipam.find_overlap(one.subnet, [other.subnet]):
                raise Invalid(f"subnets {one.subnet} and {other.subnet} of one network overlap")
        wanted = {4: spec.ipv4, 6: spec.ipv6}
        pools = [pool for pool in spec.pools if wanted[pool.subnet.version]]
        for version in (4, 6):
            if wanted[version] and version not in versions:
                pool = Pool(subnet=self._missing(version, ours, home))
                _check(pool, ours, theirs)
                pools.append(pool)
        pools.sort(key=lambda pool: pool.subnet.version)
        return tuple(_with_gateway(pool, spec, home) for pool in pools)

    def _missing(self, version: int, ours: Mapping[IPNetwork, str], home: Sequence[Interface]) -> IPNetwork:
        found = next((interface.network for interface in home if interface.version == version), None)
        return found or ipam.choose_subnet([*ours, *self._facts.networks()], self._default_pools[version])


def _check(pool: Pool, ours: Mapping[IPNetwork, str], theirs: Sequence[IPNetwork]) -> None:
    ipam.check_pool(pool)
    if overlap := ipam.find_overlap(pool.subnet, ours):
        raise Forbidden(f"subnet {pool.subnet} overlaps with {overlap} of network {ours[overlap]}: choose another")
    if overlap := ipam.find_overlap(pool.subnet, theirs):
        raise Forbidden(f"subnet {pool.subnet} overlaps with {overlap}, which this host has a route to")


def _with_gateway(pool: Pool, spec: NetworkSpec, home: Sequence[Interface]) -> Pool:
    if pool.gateway or spec.no_gateway:
        return pool
    there = next((interface.ip for interface in home if interface.ip in pool.subnet), None)
    return replace(pool, gateway=there or ipam.first_free(pool, lambda address: False))
