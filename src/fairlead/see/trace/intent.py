"""What Fairlead's own records say of the namespaces on the way."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.catalog import Catalog
from fairlead.dns import ADDRESS
from fairlead.drivers.bridge_options import ICC, boolean
from fairlead.model import Address, Endpoint, Network, Sandbox
from fairlead.see.trace.model import Membership, Place, Published


class Intent:
    """The catalog as a trace needs it; `names` are containers' names by id."""

    def __init__(self, catalog: Catalog, names: dict[str, str]) -> None:
        self._names = names
        self._networks = {network.id: network for network in catalog.networks()}
        self._sandboxes = {sandbox.id: sandbox for sandbox in catalog.sandboxes()}
        self._endpoints = catalog.endpoints()

    def memberships(self, places: Iterable[Place | None]) -> tuple[Membership, ...]:
        """The networks that these namespaces are in."""
        by_path = {place.path: place.inode for place in places if place and place.path}
        found = []
        for endpoint in self._endpoints:
            sandbox, network = self._sandboxes.get(endpoint.sandbox), self._networks.get(endpoint.network)
            if sandbox and network and sandbox.path in by_path:
                found.append(_membership(by_path[sandbox.path], endpoint, network))
        return tuple(found)

    def published(self, port: int) -> tuple[Published, ...]:
        """The published ports of this number, whatever the protocol."""
        return tuple(
            Published(
                address=str(one.host_ip),
                port=one.host_port,
                protocol=one.protocol,
                container=self._name(endpoint),
                target=str(next((address.ip for address in endpoint.addresses), "")),
                target_port=one.port,
            )
            for endpoint in self._endpoints
            for one in endpoint.ports
            if port and one.host_port == port
        )

    def addresses_of(self, place: Place) -> list[str]:
        """The addresses that the endpoints of a namespace should have."""
        return [address for one in self.memberships([place]) for address in one.addresses]

    def holder_of(self, address: Address) -> str:
        """The path of the namespace that should have an address, if it is one of ours."""
        for endpoint in self._endpoints:
            if any(one.ip == address for one in endpoint.addresses):
                sandbox = self._sandboxes.get(endpoint.sandbox)
                return sandbox.path if sandbox else ""
        return ""

    def resolver_of(self, place: Place) -> str:
        """The resolver's address in a namespace of ours that has names."""
        sandbox = next((one for one in self._sandboxes.values() if one.path == place.path), None)
        return ADDRESS if sandbox and sandbox.names else ""

    def _name(self, endpoint: Endpoint) -> str:
        sandbox: Sandbox | None = self._sandboxes.get(endpoint.sandbox)
        if sandbox is None:
            return endpoint.sandbox[:12]
        return self._names.get(sandbox.container, sandbox.name) if sandbox.container else sandbox.name


def _membership(inode: int, endpoint: Endpoint, network: Network) -> Membership:
    return Membership(
        namespace=inode,
        network=network.name,
        driver=network.driver,
        bridge=network.ifname or network.parent,
        interface=endpoint.ifname,
        addresses=tuple(map(str, endpoint.addresses)),
        gateways=tuple(str(pool.gateway) for pool in network.pools if pool.gateway),
        subnets=tuple(str(pool.subnet) for pool in network.pools),
        internal=network.internal,
        silent=network.driver == "bridge" and not boolean(network.options, ICC, default=True),
        mtu=network.mtu,
    )
