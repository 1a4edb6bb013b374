"""The ipvlan driver: each endpoint is a link that shares its parent's MAC and is told apart by its addresses.

In l2 mode endpoints are machines of the parent's LAN.  In l3 and l3s mode the kernel routes for them: there is no
broadcast, so a default route needs no gateway, and the LAN's machines need a route to the subnet.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING

from fairlead.drivers.parent import OnParent, choice, temporary
from fairlead.errors import Conflict, Invalid
from fairlead.model import Address, Endpoint, Network, Sandbox
from fairlead.plan.ipvlan import AddIpvlan
from fairlead.plan.netlink import owner_mark

if TYPE_CHECKING:
    from fairlead.drivers import Host

MODE = "ipvlan_mode"
FLAG = "ipvlan_flag"
MODES = ("l2", "l3", "l3s")
FLAGS = ("bridge", "private", "vepa")


class Ipvlan(OnParent):
    """A parent carries one ipvlan network, as with Docker: the kernel keeps mode and flag per parent."""

    kind = "ipvlan"
    dummy_prefix = "di-"
    options = OnParent.options | {MODE, FLAG}

    def complete(self, network: Network, host: Host) -> Network:
        """Also refuses a parent that has an ipvlan network."""
        choice(network, MODE, MODES)
        choice(network, FLAG, FLAGS)
        network = super().complete(network, host)
        for other in host.networks_on(network.parent):
            if other.driver == network.driver:
                raise Conflict(
                    f"the parent interface {network.parent} is in use by network {other.name}: "
                    f"it carries one ipvlan network"
                )
        return network

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """There is nothing to choose: the MAC is the parent's."""
        if endpoint.mac:
            raise Invalid(
                f"network {network.name} is an ipvlan network: its endpoints have the MAC of {network.parent}"
            )
        return endpoint

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """In l3 and l3s mode the link itself, in each family that the network has."""
        if network.internal or choice(network, MODE, MODES) == "l2":
            return super().gateways(network)
        versions = {pool.subnet.version for pool in network.pools}
        return tuple(IPv4Address(0) if version == 4 else IPv6Address(0) for version in sorted(versions))

    def link(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> AddIpvlan:
        """The ipvlan."""
        return AddIpvlan(
            parent=network.parent,
            namespace=sandbox.path,
            name=endpoint.ifname,
            temporary=temporary(endpoint),
            alias=owner_mark(endpoint.id),
            mtu=network.mtu,
            mode=choice(network, MODE, MODES),
            flag=choice(network, FLAG, FLAGS),
        )
