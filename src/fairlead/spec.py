"""What users ask for, as typed values: the front doors make these, the planner turns them into changes."""

from __future__ import annotations

import msgspec

from fairlead.model import Address, Pool, Protocol


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``network create``."""

    name: str
    driver: str = "bridge"
    ipv4: bool = True
    ipv6: bool = False
    """The address families.  One that has no pool in `pools` gets one from the default pools."""
    pools: tuple[Pool, ...] = ()
    """A pool without a gateway gets the first free address as one…"""
    no_gateway: bool = False
    """…unless this is set (``--gateway none``): the bridge gets no address, the sandboxes no default route."""
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    config_only: bool = False
    """Not to be a network, but what others are made from…"""
    config_from: str = ""
    """…those that name it here."""


class PortSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One wanted published port.  `host_ip` None: every address, both families.

    `host_port` 0: any free one; `host_port_end` > `host_port`: any free one of that range.
    """

    port: int
    protocol: Protocol = "tcp"
    host_ip: Address | None = None
    host_port: int = 0
    host_port_end: int = 0


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``network connect`` or of a container's place in a network.  `network`: name or id prefix."""

    network: str
    ips: tuple[Address, ...] = ()
    """At most one per family; a family without one gets a free address of the network."""
    wished: tuple[Address, ...] = ()
    """Addresses to have if nobody else has them, instead of any free ones."""
    link_local_ips: tuple[Address, ...] = ()
    mac: str = ""
    ifname: str = ""
    priority: int = 0
    aliases: tuple[str, ...] = ()
    links: dict[str, str] = {}
    ports: tuple[PortSpec, ...] = ()
    options: dict[str, str] = {}
