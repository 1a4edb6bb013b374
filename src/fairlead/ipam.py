"""Address management: which subnet a network gets, which address an endpoint.  Policy only; no I/O.

That nobody else has an address is guaranteed by the store's claims, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from secrets import randbits

from fairlead.errors import Conflict, Invalid
from fairlead.model import Address, IPNetwork, Pool

DEFAULT_POOLS: tuple[tuple[IPNetwork, int], ...] = (
    *((ip_network(f"172.{i}.0.0/16"), 16) for i in range(17, 32)),
    (ip_network("192.168.0.0/16"), 20),
)
"""Docker's: (block, prefix length of the subnets cut from it) (dockerd, default-address-pools)."""


def unique_local() -> IPv6Network:
    """A block of IPv6 addresses that no other site has: fd00::/8 with 40 random bits (RFC 4193 3.2.2)."""
    return IPv6Network((0xFD << 120 | randbits(40) << 80, 48))


def choose_subnet(used: Iterable[IPNetwork], pools: Iterable[tuple[IPNetwork, int]] = DEFAULT_POOLS) -> IPNetwork:
    """The first subnet of the pools that overlaps nothing in `used`; raises `Conflict` when there is none."""
    taken = list(used)
    for block, length in pools:
        for subnet in block.subnets(new_prefix=length):
            if not any(_overlap(subnet, other) for other in taken):
                return subnet
    raise Conflict("all predefined address pools are in use or overlap the host's routes: give a --subnet")


def find_overlap(subnet: IPNetwork, others: Iterable[IPNetwork]) -> IPNetwork | None:
    """The first of `others` that shares addresses with `subnet`."""
    return next((other for other in others if _overlap(subnet, other)), None)


def _overlap(one: IPNetwork, other: IPNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def check_pool(pool: Pool) -> None:
    """Raise `Invalid` unless range, gateway and auxiliary addresses lie in the subnet."""
    if pool.ip_range and not _within(pool.ip_range, pool.subnet):
        raise Invalid(f"the range {pool.ip_range} is not within the subnet {pool.subnet}")
    if pool.gateway:
        _check_reserved(pool, pool.gateway, "gateway")
    for name, address in pool.auxiliary.items():
        _check_reserved(pool, address, f"auxiliary address {name}")
        if address == pool.gateway:
            raise Conflict(f"the auxiliary address {name} is the gateway {address}: choose another")
    addresses = list(pool.auxiliary.values())
    if len(set(addresses)) < len(addresses):
        raise Conflict("two auxiliary addresses are the same")


def _check_reserved(pool: Pool, address: Address, what: str) -> None:
    if what == "gateway" and address.version == pool.subnet.version == 6 and address.is_link_local:
        return  # The usual gateway of an IPv6 network: fe80::1.
    if address not in pool.subnet:
        raise Invalid(f"the {what} {address} is not in the subnet {pool.subnet}")
    if address in unusable(pool.subnet):
        raise Invalid(f"the {what} {address} is the network or broadcast address of {pool.subnet}")


def _within(inner: IPNetwork, outer: IPNetwork) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def unusable(subnet: IPNetwork) -> frozenset[Address]:
    """The addresses of a subnet that no host may have (RFC 1122 3.2.1.3; a /31 has none, RFC 3021)."""
    if isinstance(subnet, IPv4Network) and subnet.prefixlen >= 31:
        return frozenset()
    last = (subnet.broadcast_address,) if subnet.version == 4 else ()
    return frozenset((subnet.network_address, *last))


def first_free(pool: Pool, taken: Callable[[Address], bool], start: int = 0) -> Address:
    """The lowest free address of the range (or subnet), looking from offset `start`; raises `Conflict` when full."""
    block = pool.ip_range or pool.subnet
    reserved = {*unusable(pool.subnet), pool.gateway, *pool.auxiliary.values()}
    first = int(block.network_address)
    for offset in range(start, block.num_addresses):
        address = ip_address(first + offset) if block.version == 4 else block[offset]
        if address not in reserved and not taken(address):
            return address
    raise Conflict(f"no free address is left in {block}")


def check_address(pool: Pool, address: Address, network: str) -> None:
    """Raise unless a user may ask for this address in the network named `network`."""
    if address not in pool.subnet:
        raise Invalid(f"address {address} is not in the subnet {pool.subnet} of network {network}")
    if address in unusable(pool.subnet):
        raise Invalid(f"address {address} is reserved: it is the network or broadcast address of {pool.subnet}")
    if address == pool.gateway:
        raise Conflict(f"address {address} is reserved: it is the gateway of network {network}")
    for name, auxiliary in pool.auxiliary.items():
        if address == auxiliary:
            raise Conflict(f"address {address} is reserved as auxiliary address {name} of network {network}")


class Hints:
    """For each network, an offset below which no address is free, so that the 900th attach looks no further."""

    def __init__(self) -> None:
        self._low: dict[str, int] = {}

    def allocate(self, network_id: str, pool: Pool, taken: Callable[[Address], bool]) -> Address:
        """`first_free` from the hint on."""
        key = f"{network_id}/{pool.subnet}"
        address = first_free(pool, taken, self._low.get(key, 0))
        self._low[key] = self._offset(pool, address)
        return address

    def released(self, network_id: str, pool: Pool, address: Address) -> None:
        """An address is free again."""
        key = f"{network_id}/{pool.subnet}"
        offset = self._offset(pool, address)
        if 0 <= offset < self._low.get(key, 0):
            self._low[key] = offset

    @staticmethod
    def _offset(pool: Pool, address: Address) -> int:
        return int(address) - int((pool.ip_range or pool.subnet).network_address)
