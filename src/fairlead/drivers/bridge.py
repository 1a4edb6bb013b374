"""The bridge driver: a Linux bridge on the host, a veth pair for each endpoint, NAT to the world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

import msgspec

from fairlead.errors import Invalid
from fairlead.firewall import network_elements, port_steps
from fairlead.kernel.firewalls import OtherChain
from fairlead.model import HOST, Address, Endpoint, Network, Sandbox, check_ifname
from fairlead.plan import Plan, Step
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.firewall import AcceptIn
from fairlead.plan.links import AddBridge, AddVeth, SetLink
from fairlead.plan.netlink import link_name, owner_mark
from fairlead.plan.sysctl import SetSysctl

if TYPE_CHECKING:
    from fairlead.drivers import Host

NAME = "com.docker.network.bridge.name"
MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"
DEFAULT_BRIDGE = "com.docker.network.bridge.default_bridge"
HOST_BINDING = "com.docker.network.bridge.host_binding_ipv4"
MTU = "com.docker.network.driver.mtu"
PREFIX = "com.docker.network.container_iface_prefix"

_MTU_RANGE = range(68, 65536)
"""Bytes: RFC 791's least, and what a veth takes at most."""


class Bridge:
    """See the module's text."""

    options = frozenset({NAME, MASQUERADE, DEFAULT_BRIDGE, HOST_BINDING, MTU, PREFIX})
    endpoint_options: frozenset[str] = frozenset()
    has_links = True

    def complete(self, network: Network, host: Host) -> Network:
        """Name the bridge, and check the options' values."""
        mtu(network)
        _boolean(network, MASQUERADE)
        name = check_ifname(network.options.get(NAME) or f"br-{network.id[:12]}")
        return msgspec.structs.replace(network, ifname=name)

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Name the host's end of the pair, and choose the MAC."""
        return msgspec.structs.replace(
            endpoint, host_ifname=f"veth{endpoint.id[:7]}", mac=endpoint.mac or mac_of(endpoint)
        )

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """The bridge's addresses; an internal network leads nowhere."""
        return () if network.internal else tuple(pool.gateway for pool in network.pools if pool.gateway)

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """The bridge with its addresses, its elements of the firewall, and its pass through other firewalls."""
        name = network.ifname
        steps: list[Step] = [
            AddBridge(name, _hash_mac(network.id), owner_mark(network.id), mtu(network)),
            SetLink(HOST, name, link_local=False),
        ]
        for pool in network.pools:
            if pool.gateway:
                steps.append(AddAddress(HOST, name, ip_interface(f"{pool.gateway}/{pool.subnet.prefixlen}")))
        routed = any(pool.gateway for pool in network.pools)
        if routed:
            # Without this the kernel would not send what 127.0.0.1 asks of a published port into the bridge.
            steps.append(SetSysctl(f"net/ipv4/conf/{name}/route_localnet", "1", link=link_name(HOST, name)))
        steps += network_elements(network, masquerade=routed and _boolean(network, MASQUERADE))
        steps += [AcceptIn(chain, name) for chain in others]
        return Plan(tuple(steps))

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """The veth pair, one end in the bridge and one in the sandbox, its addresses, routes and ports."""
        ports = port_steps(endpoint)
        inside, name = sandbox.path, endpoint.ifname
        steps: list[Step] = [
            # Held first, as that is what another program may have beaten us to.
            *(step for step in ports if step.channel() == "ports"),
            AddVeth(
                HOST,
                endpoint.host_ifname,
                inside,
                name,
                owner_mark(endpoint.id),
                peer_mac=endpoint.mac,
                mtu=mtu(network),
            ),
            SetLink(HOST, endpoint.host_ifname, master=network.ifname, link_local=False),
            *(AddAddress(inside, name, interface) for interface in (*endpoint.addresses, *endpoint.link_local)),
            SetLink(inside, name, link_local=any(i.version == 6 for i in endpoint.addresses)),
        ]
        for gateway in endpoint.gateways:
            everywhere = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
            steps.append(AddRoute(inside, name, everywhere, gateway))
        return Plan((*steps, *(step for step in ports if step.channel() != "ports")))


def mtu(network: Network) -> int:
    """The MTU asked for, or 0 for the kernel's own."""
    value = network.options.get(MTU, "0")
    if value != "0" and (not value.isdecimal() or int(value) not in _MTU_RANGE):
        raise Invalid(f"option {MTU}={value}: it must be a number of bytes from {_MTU_RANGE[0]} to {_MTU_RANGE[-1]}")
    return int(value)


def mac_of(endpoint: Endpoint) -> str:
    """A MAC that follows from the IPv4 address, as Docker's: an address used again needs no new neighbour entry."""
    for interface in endpoint.addresses:
        if interface.version == 4:
            return "02:42:" + interface.packed.hex(":")
    return _hash_mac(endpoint.id)


def _hash_mac(record_id: str) -> str:
    digest = hashlib.sha256(record_id.encode()).digest()
    return "02:" + digest[:5].hex(":")


def _boolean(network: Network, option: str) -> bool:
    value = network.options.get(option, "true").lower()
    if value not in ("true", "false", "1", "0"):
        raise Invalid(f"option {option}={network.options[option]}: it must be true or false")
    return value in ("true", "1")
