"""The macvlan driver: each endpoint is a link with its own MAC on a link of the host, a machine of its LAN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.drivers.bridge import mac_of
from fairlead.drivers.parent import OnParent, choice, temporary
from fairlead.errors import Conflict, Invalid
from fairlead.model import Endpoint, Network, Sandbox
from fairlead.plan.macvlan import AddMacvlan
from fairlead.plan.netlink import owner_mark

if TYPE_CHECKING:
    from fairlead.drivers import Host

MODE = "macvlan_mode"
MODES = ("bridge", "private", "vepa", "passthru")


class Macvlan(OnParent):
    """Several networks may share a parent, as with Docker, except in passthru mode, which takes it for one endpoint."""

    kind = "macvlan"
    dummy_prefix = "dm-"
    options = OnParent.options | {MODE}

    def complete(self, network: Network, host: Host) -> Network:
        """Also refuses to share a parent in passthru mode."""
        mode = choice(network, MODE, MODES)
        network = super().complete(network, host)
        for other in host.networks_on(network.parent):
            if other.driver == network.driver and "passthru" in (mode, choice(other, MODE, MODES)):
                raise Conflict(
                    f"the parent interface {network.parent} is in use by network {other.name}: "
                    f"in passthru mode a network needs it for itself"
                )
        return replace(network, single=mode == "passthru")

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Choose the MAC; in passthru mode it is the parent's."""
        if not network.single:
            return replace(endpoint, mac=endpoint.mac or mac_of(endpoint))
        if endpoint.mac:
            raise Invalid(f"network {network.name} is in passthru mode: its endpoint has the MAC of {network.parent}")
        return endpoint

    def link(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> AddMacvlan:
        """The macvlan."""
        return AddMacvlan(
            parent=network.parent,
            namespace=sandbox.path,
            name=endpoint.ifname,
            temporary=temporary(endpoint),
            alias=owner_mark(endpoint.id),
            mac=endpoint.mac,
            mtu=network.mtu,
            mode=choice(network, MODE, MODES),
        )
