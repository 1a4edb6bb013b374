"""A network driver for Fairlead: each endpoint has a wire of its own to the host, and the host routes.

There is no bridge, so endpoints share no broadcast domain: none can pose as another by ARP or as a router, and none
hears another's broadcasts.  The host has one route per endpoint.  Like the `ptp` plugin of CNI it suits hosts with many
containers that talk to the world, not to each other.

Containers reach the world by the host's address, their published ports are ports of the host, and they do not reach
each other, except at published ports; with ``-o open=true`` everybody who has a route may send to them.

See docs/drivers.md of Fairlead for what each method is asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_interface, ip_network

from msgspec.structs import replace

from fairlead.drivers import Host
from fairlead.drivers.bridge import mac_of
from fairlead.errors import Invalid
from fairlead.firewall import port_steps
from fairlead.kernel.firewalls import OtherChain
from fairlead.model import HOST, Address, Endpoint, Interface, Network, Sandbox, interface_of
from fairlead.plan import Plan, Step
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.firewall import AddElement
from fairlead.plan.links import AddVeth, SetLink
from fairlead.plan.netlink import link_name, owner_mark
from fairlead.plan.sysctl import SetSysctl

OPEN = "open"
_LINK_LOCAL = ip_interface("fe80::1/64")
"""What the host's end needs to ask who has an address (RFC 4861 7.2.2); without it nothing from elsewhere arrives."""
_EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


class PointToPoint:
    """See the module's text."""

    options = frozenset({OPEN})
    endpoint_options: frozenset[str] = frozenset()
    has_links = True
    behind_host = True

    def home(self, options: Mapping[str, str], host: Host) -> tuple[Interface, ...]:
        """There is no interface of the host that the network uses as it is."""
        return ()

    def complete(self, network: Network, host: Host) -> Network:
        """There is nothing to decide, but a bad option is refused here, before anything has happened."""
        _is_open(network)
        return network

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Name the host's end of the wire, and choose a MAC: the same whenever this container joins this network."""
        return replace(endpoint, host_ifname=f"ptp{endpoint.id[:11]}", mac=endpoint.mac or mac_of(endpoint))

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """The host's end of each wire; an internal network leads nowhere."""
        return () if network.internal else tuple(pool.gateway for pool in network.pools if pool.gateway)

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """Nothing: the network is what its endpoints share."""
        return Plan()

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """The wire, the addresses of both its ends, a route at each, and what the firewall lets pass."""
        inside, name, outside = sandbox.path, endpoint.ifname, endpoint.host_ifname
        versions = {interface.version for interface in endpoint.addresses}
        gateways = [pool.gateway for pool in network.pools if pool.gateway]
        ports = port_steps(endpoint)
        steps: list[Step] = [
            # The host's ports first, as that is what another program may have beaten us to.
            *(step for step in ports if step.channel() == "ports"),
            AddVeth(HOST, outside, inside, name, owner_mark(endpoint.id), peer_mac=endpoint.mac, queues=1),
            *_settings(outside, redirects=any(port.host_port for port in endpoint.ports), ipv6=6 in versions),
            # Before anything can be sent: the firewall knows the wire as it knows a bridge.
            *_elements(network, outside),
            *(AddAddress(HOST, outside, _alone(gateway)) for gateway in gateways),
            *([AddAddress(HOST, outside, _LINK_LOCAL)] if 6 in versions else []),
            *(AddAddress(inside, name, _alone(interface.ip)) for interface in endpoint.addresses),
            *(AddAddress(inside, name, interface) for interface in endpoint.link_local),
            SetLink(HOST, outside, link_local=False),
            SetLink(inside, name, link_local=6 in versions),
            # Routes need links that are up.
            *(AddRoute(HOST, outside, _alone(interface.ip).network) for interface in endpoint.addresses),
            *(AddRoute(inside, name, _alone(gateway).network) for gateway in gateways),
            *(AddRoute(inside, name, _EVERYWHERE[gateway.version], gateway) for gateway in endpoint.gateways),
        ]
        return Plan((*steps, *(step for step in ports if step.channel() != "ports")))


def _is_open(network: Network) -> bool:
    value = network.options.get(OPEN, "false")
    if value not in ("true", "false"):
        raise Invalid(f"option {OPEN}={value}: it must be true or false")
    return value == "true"


def _alone(address: Address) -> Interface:
    """The address with a prefix as long as itself: its only neighbour is at the other end of the wire."""
    return interface_of(address, address.max_prefixlen)


def _settings(link: str, *, redirects: bool, ipv6: bool) -> list[Step]:
    """The host's end: whether it speaks IPv6, that no container is a router of the host's, and 127.0.0.1's ports."""
    where = link_name(HOST, link)
    wanted = {f"net/ipv6/conf/{link}/disable_ipv6": "0" if ipv6 else "1"}
    if ipv6:
        wanted[f"net/ipv6/conf/{link}/accept_ra"] = "0"
    if redirects:
        # Without this the kernel would not send what 127.0.0.1 asks of a published port into the wire.
        wanted[f"net/ipv4/conf/{link}/route_localnet"] = "1"
    return [SetSysctl(setting, value, link=where, optional="ipv6" in setting) for setting, value in wanted.items()]


def _elements(network: Network, link: str) -> list[Step]:
    """What the wire adds to the firewall's sets; `fairlead.firewall` says what they do."""
    name = f'"{link}"'
    steps: list[Step] = [AddElement("bridges", name), AddElement("itself", f"{name} . {name}")]
    if network.internal:
        return [*steps, AddElement("internal", name)]
    for version in sorted({pool.subnet.version for pool in network.pools if pool.gateway}):
        steps.append(AddElement(f"masqueraded{version}", name))
        if _is_open(network):
            steps.append(AddElement(f"unprotected{version}", name))
    return steps
