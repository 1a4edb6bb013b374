"""The words of Fairlead as typed, frozen values: networks, sandboxes, endpoints, links.  No I/O here.

These records are *intent*: what the user asked for, as the store keeps it.  Facts (what the kernel has) are never
stored.  Records refer to each other by id, and each has one owner, so no two live copies can disagree.
"""

from __future__ import annotations

import enum
import functools
import os
import re
from abc import ABC
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from fairlead.errors import Invalid

if TYPE_CHECKING:
    Address = IPv4Address | IPv6Address
    Interface = IPv4Interface | IPv6Interface
    IPNetwork = IPv4Network | IPv6Network
else:
    # msgspec takes one custom type per field, so at run time each pair of families stands behind one abstract class.

    class Address(ABC):
        """An IPv4Address or IPv6Address."""

    class Interface(ABC):
        """An IPv4Interface or IPv6Interface: an address with its prefix length."""

    class IPNetwork(ABC):
        """An IPv4Network or IPv6Network."""

    for _abstract, _families in (
        (Address, (IPv4Address, IPv6Address)),
        (Interface, (IPv4Interface, IPv6Interface)),
        (IPNetwork, (IPv4Network, IPv6Network)),
    ):
        for _family in _families:
            _abstract.register(_family)

Protocol = Literal["tcp", "udp", "sctp"]

HOST = ""
"""The namespace path that stands for the host's own network namespace."""

IFNAME_MAX = 15
"""Bytes in an interface name (IFNAMSIZ less the closing zero, linux/if.h)."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class Phase(enum.Enum):
    """Where a record is between intent and fact; see `docs/architecture.md`, "Nothing half done"."""

    ADDING = "adding"
    READY = "ready"
    REMOVING = "removing"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Something the store keeps.  `claims` are the words that no two records may hold at once.

    A claim ``STEM@REST`` can also be looked up by its stem (`Store.owners`).
    """

    id: str

    def claims(self) -> tuple[str, ...]:
        """Names, addresses and ports that belong to this record alone, such as ``network:br0``."""
        return ()


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """The addresses of a network in one family.

    Leases are given from `ip_range` (within `subnet`); `gateway` and `auxiliary` are reserved.
    """

    subnet: IPNetwork
    ip_range: IPNetwork | None = None
    gateway: Address | None = None
    auxiliary: dict[str, Address] = {}


class Network(Record, frozen=True, kw_only=True):
    """What ``network create`` makes.  `created` is seconds since the epoch."""

    name: str
    driver: str
    pools: tuple[Pool, ...] = ()
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    created: float = 0.0
    predefined: bool = False
    ifname: str = ""
    """The host interface that carries the network (a bridge), empty where the driver needs none."""
    parent: str = ""
    """The host interface that the endpoints' interfaces stand on (macvlan, ipvlan); other networks may share it."""
    adopted: bool = False
    """The interface or parent was there before the network: addresses and settings are the network's, it is not."""
    kept: tuple[Interface, ...] = ()
    """Addresses that an adopted interface had of itself: they stay when the network goes."""
    mtu: int = 0
    """Bytes that its links carry; 0: as the kernel makes them."""
    single: bool = False
    """It takes one endpoint (macvlan in passthru mode)."""
    config_only: bool = False
    """No network, but what others are made from: it is nowhere in the kernel, its pools bind nobody."""
    config_from: str = ""
    """The name of the one that it was made from."""
    phase: Phase = Phase.READY

    @property
    def has_names(self) -> bool:
        """Whether those in it know each other by name: in every network that a user made, as in Docker."""
        return not self.predefined

    def claims(self) -> tuple[str, ...]:
        return (f"network:{self.name}",) + ((f"link::{self.ifname}",) if self.ifname else ())


class Sandbox(Record, frozen=True, kw_only=True):
    """A network namespace that Fairlead owns, by name (``netns add``) or for a container (`container` is its id)."""

    name: str
    path: str
    container: str = ""
    created: float = 0.0
    names: bool = False
    """The resolver's address leads to it: since the sandbox was first in a network that has names."""
    phase: Phase = Phase.READY

    def claims(self) -> tuple[str, ...]:
        return (f"sandbox:{self.name}", f"netns:{self.path}")


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A host address and port that leads to a port of an endpoint.  ``0.0.0.0`` / ``::`` mean every address.

    Host port 0: none does, but the port may be asked for at the endpoint's own address (of a routed network).
    """

    host_ip: Address
    host_port: int
    protocol: Protocol
    port: int

    def __str__(self) -> str:
        host = f"[{text_of(self.host_ip)}]" if self.host_ip.version == 6 else text_of(self.host_ip)
        return f"{host}:{self.host_port}/{self.protocol}"

    def claim(self) -> str:
        """What the port is claimed by, found by its number whatever the address."""
        return f"{port_stem(self.protocol, self.host_port)}@{self.host_ip}"


def port_stem(protocol: Protocol, number: int) -> str:
    """What the claims of a host port begin with, whatever the address."""
    return f"port:{protocol}/{number}"


class Endpoint(Record, frozen=True, kw_only=True):
    """A sandbox's place in a network."""

    network: str
    sandbox: str
    ifname: str = ""
    host_ifname: str = ""
    addresses: tuple[Interface, ...] = ()
    """At most one per family."""
    link_local: tuple[Interface, ...] = ()
    """Further addresses, of link-local blocks, that the user asked for."""
    gateways: tuple[Address, ...] = ()
    """Default routes to set in the sandbox, at most one per family; empty where another endpoint has them.

    An unspecified address (``0.0.0.0``, ``::``) stands for a default route straight into the interface (ipvlan l3)."""
    priority: int = 0
    """Of several endpoints the one with the highest gives the default routes (`fairlead.gateways`)."""
    mac: str = ""
    """Empty where it has none of its own.  No two endpoints of a network have the same."""
    owner: str = ""
    """What the MAC follows from: the container's id, or the name of the namespace."""
    aliases: tuple[str, ...] = ()
    links: dict[str, str] = {}
    """Names that this endpoint alone knows others by: alias → container name or id."""
    ports: tuple[PublishedPort, ...] = ()
    options: dict[str, str] = {}
    phase: Phase = Phase.READY

    def claims(self) -> tuple[str, ...]:
        return (
            f"endpoint:{self.network}:{self.sandbox}",
            *((f"link:{self.sandbox}:{self.ifname}",) if self.ifname else ()),
            *(f"address:{self.network}:{interface.ip}" for interface in (*self.addresses, *self.link_local)),
            *((f"mac:{self.network}:{self.mac}",) if self.mac else ()),
            *(port.claim() for port in self.ports if port.host_port),
        )


class LinkEnd(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a link: an interface in a sandbox (empty id: the host)."""

    sandbox: str
    ifname: str
    addresses: tuple[Interface, ...] = ()


class Link(Record, frozen=True, kw_only=True):
    """A veth pair straight between two sandboxes."""

    ends: tuple[LinkEnd, LinkEnd]
    phase: Phase = Phase.READY

    def claims(self) -> tuple[str, ...]:
        return tuple(f"link:{end.sandbox}:{end.ifname}" for end in self.ends)


def new_id() -> str:
    """A fresh 64-digit hexadecimal id, as Docker's objects have (256 random bits)."""
    return os.urandom(32).hex()


@functools.lru_cache(4096, typed=True)
def text_of(value: Address | Interface | IPNetwork) -> str:
    """As `str` has it.  Kept, because writing ``::`` takes 10 µs, and a container with 500 ports has it 500 times."""
    return str(value)


def interface_of(address: Address, length: int) -> Interface:
    """The address with its prefix length; by numbers, as writing and parsing text would cost ten times as much."""
    kind = IPv4Interface if address.version == 4 else IPv6Interface
    return kind((int(address), length))


def check_name(name: str, what: str) -> str:
    """Return `name`, or raise `Invalid` where Docker would: ``[a-zA-Z0-9][a-zA-Z0-9_.-]*``."""
    if not _NAME.fullmatch(name):
        raise Invalid(f"invalid {what} name {name!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed")
    return name


def check_network_name(name: str) -> str:
    """Return `name`, or raise `Invalid`.  Docker takes nearly anything, spaces too; what a path or an option could be
    mistaken for is refused here."""
    if not name.strip() or not name.isprintable() or "/" in name or name.startswith("-"):
        raise Invalid(f"invalid network name {name!r}: printable characters other than '/' are allowed, '-' not first")
    return name


def check_ifname(name: str) -> str:
    """Return `name`, or raise `Invalid` where the kernel would (dev_valid_name, net/core/dev.c)."""
    if not name or len(name.encode()) > IFNAME_MAX:
        raise Invalid(f"interface name {name!r} has {len(name.encode())} bytes: 1 to {IFNAME_MAX} are allowed")
    if name in {".", ".."} or any(c in "/:" or c.isspace() or not c.isprintable() for c in name):
        raise Invalid(f"interface name {name!r} must not be '.' or '..' nor contain '/', ':' or white space")
    return name


T = TypeVar("T", bound=msgspec.Struct)

_PARSERS: dict[Any, Any] = {Address: ip_address, Interface: ip_interface, IPNetwork: ip_network}


def encode(record: msgspec.Struct) -> bytes:
    """A record as JSON, the form in which every store keeps it."""
    return _ENCODER.encode(record)


def decode(kind: type[T], body: bytes) -> T:
    """The inverse of `encode`; raises `msgspec.ValidationError` on a body that is no such record."""
    return msgspec.json.decode(body, type=kind, dec_hook=lambda type_, value: _PARSERS[type_](value))


_ENCODER = msgspec.json.Encoder(enc_hook=text_of)
