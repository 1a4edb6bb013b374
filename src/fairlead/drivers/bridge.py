"""The bridge driver: a Linux bridge on the host, a veth pair for each endpoint, NAT to the world.

docs/networking.md says what each option does to the kernel, and who reaches whom.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.drivers import bridge_options
from fairlead.drivers.bridge_options import HOST_BINDING, ISOLATED, MODES, MTU, NAME, PREFIX, ROUTED, UNPROTECTED
from fairlead.drivers.bridge_options import BridgeOptions as Options
from fairlead.errors import Conflict, Invalid
from fairlead.firewall import port_steps
from fairlead.kernel.firewalls import OtherChain
from fairlead.model import HOST, Address, Endpoint, Interface, Network, Pool, PublishedPort, Sandbox, check_ifname
from fairlead.plan import Plan, Step
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.firewall import AcceptIn, AddElement
from fairlead.plan.links import AddBridge, AddVeth, SeeCarrier, SetLink
from fairlead.plan.netlink import link_name, owner_mark
from fairlead.plan.sysctl import SetSysctl
from fairlead.spec import PortSpec

if TYPE_CHECKING:
    from fairlead.drivers import Host

__all__ = ["HOST_BINDING", "PREFIX", "Bridge", "binding", "divide_ports"]

_LINK_LOCAL = ip_interface("fe80::1/64")
"""What an IPv6 bridge has besides its address in the subnet, as Docker's: routers are known by such addresses."""

_ETHERNET_MTU = 1500
_IPV6_MTU = 1280
"""Bytes; the kernel switches IPv6 off on a link that carries less (RFC 8200 5)."""

_EVERYWHERE = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
_ANY = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


class Bridge:
    """See the module's text."""

    options = bridge_options.KNOWN
    endpoint_options: frozenset[str] = frozenset()
    has_links = True
    behind_host = True

    def home(self, options: Mapping[str, str], host: Host) -> tuple[Interface, ...]:
        """The addresses of a bridge that is there already, and that the network will use as it is."""
        name = options.get(NAME, "")
        if not name or not _adoptable(check_ifname(name), host):
            return ()
        return tuple(interface for interface in host.addresses(name) if not interface.is_link_local)

    def complete(self, network: Network, host: Host) -> Network:
        """Name the bridge or adopt one, choose the MTU, and check the options' values."""
        options = bridge_options.read(network.options)
        _check(network, options)
        name = check_ifname(options.name or f"br-{network.id[:12]}")
        adopted = _adoptable(name, host)
        return replace(
            network,
            ifname=name,
            adopted=adopted,
            kept=host.addresses(name) if adopted else (),
            mtu=_mtu(network, options, name if adopted else "", host),
            pools=tuple(_with_due_gateway(pool, network, options) for pool in network.pools),
        )

    def complete_endpoint(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """Name the host's end of the pair, and choose the MAC."""
        return replace(endpoint, host_ifname=f"veth{endpoint.id[:7]}", mac=endpoint.mac or mac_of(endpoint))

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """The bridge's addresses; an internal network leads nowhere."""
        return () if network.internal else tuple(pool.gateway for pool in network.pools if pool.gateway)

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """The bridge with its addresses, its elements of the firewall, and its pass through other firewalls."""
        options = bridge_options.read(network.options)
        name = network.ifname
        versions = {pool.subnet.version for pool in network.pools}
        steps: list[Step] = []
        if not network.adopted:
            steps.append(AddBridge(name, _hash_mac(network.id), owner_mark(network.id), network.mtu))
            steps += _ipv6_settings(name, on=6 in versions and options.modes[6] != ISOLATED)
            steps.append(SetLink(HOST, name, link_local=False))
        steps += _addresses(network, options)
        if _redirects(network, options, 4):
            # Without this the kernel would not send what 127.0.0.1 asks of a published port into the bridge.
            setting = f"net/ipv4/conf/{name}/route_localnet"
            if network.adopted:
                steps.append(SetSysctl(setting, "1", before="0"))
            else:
                steps.append(SetSysctl(setting, "1", link=link_name(HOST, name)))
        steps += _elements(network, options)
        steps += [AcceptIn(chain, name, within=network.internal) for chain in others if chain.passes(versions)]
        return Plan(tuple(steps))

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """The veth pair, one end in the bridge and one in the sandbox, its addresses, routes and ports.

        The outer end comes up last, when all inside is done: then the bridge sees one change of its port, not three
        (up, no carrier, carrier), and each is work for every port that it has.
        """
        options = bridge_options.read(network.options)
        ports = port_steps(endpoint, direct=_direct(options), silent="" if options.icc else network.ifname)
        inside, name, port = sandbox.path, endpoint.ifname, endpoint.host_ifname
        steps: list[Step] = [
            # Held first, as that is what another program may have beaten us to.
            *(step for step in ports if step.channel() == "ports"),
            AddVeth(
                HOST,
                port,
                inside,
                name,
                owner_mark(endpoint.id),
                # A bridge without a MAC of its own has the lowest of its ports': ours is higher than any of theirs.
                mac=f"fe:ff:{_hash_mac(endpoint.id)[6:]}" if network.adopted else "",
                peer_mac=endpoint.mac,
                mtu=network.mtu,
                queues=1,
            ),
            # A port is no interface to speak IPv6 on; else the host had routes, and joined groups, for each.
            SetSysctl(f"net/ipv6/conf/{port}/disable_ipv6", "1", link=link_name(HOST, port), optional=True),
            _no_advertised_router(inside, name),
            *(AddAddress(inside, name, interface) for interface in (*endpoint.addresses, *endpoint.link_local)),
            SetLink(inside, name, link_local=any(i.version == 6 for i in endpoint.addresses)),
        ]
        steps += [AddRoute(inside, name, _EVERYWHERE[gateway.version], gateway) for gateway in endpoint.gateways]
        steps.append(SetLink(HOST, port, master=network.ifname, isolated=not options.icc))
        steps += [step for step in ports if step.channel() != "ports"]
        return Plan((*steps, SeeCarrier(HOST, (port, network.ifname)), SeeCarrier(inside, (name,))))


def binding(network: Network) -> str:
    """The host address on which the network's ports are published if none is given, empty: all of them."""
    return bridge_options.read(network.options).binding if network.driver == "bridge" else ""


def divide_ports(network: Network, ports: Sequence[PortSpec]) -> tuple[list[PortSpec], list[PublishedPort]]:
    """The ports that need one of the host, and those that do not: where the family is routed."""
    routed = _in_mode(network, ROUTED)
    if not routed:
        return list(ports), []
    held: list[PortSpec] = []
    direct: list[PublishedPort] = []
    usual = binding(network)
    for port in ports:
        given = port.host_ip or (ip_address(usual) if usual else None)
        for pool in network.pools:
            version = pool.subnet.version
            if given and given.version != version:
                continue
            address = given or _ANY[version]
            if version in routed:
                direct.append(PublishedPort(host_ip=address, host_port=0, protocol=port.protocol, port=port.port))
            else:
                held.append(replace(port, host_ip=address))
    return held, direct


def mac_of(endpoint: Endpoint) -> str:
    """A MAC that follows from the network and from whose endpoint it is: the same at each start.

    Docker's older way, 02:42 and the IPv4 address, spared a neighbour to learn a new MAC for an address used again; now
    `fairlead.announcing` sees to it.
    """
    return _hash_mac(f"{endpoint.network} {endpoint.owner or endpoint.id}")


# Completing


def _adoptable(name: str, host: Host) -> bool:
    """Whether there is a bridge of this name that is not one of ours; raises `Conflict` if it is of no use."""
    link = host.link(name)
    if link is None or link.kind != "bridge" or link.alias.startswith("fairlead:"):
        return False
    if not link.up:
        raise Conflict(f"bridge {name} is there already, but down: set it up (ip link set {name} up) or choose another")
    return True


def _check(network: Network, options: Options) -> None:
    for version, mode in options.modes.items():
        if mode == ISOLATED and not network.internal:
            raise Invalid(f"option {MODES[version]}={ISOLATED}: it is for internal networks only (--internal)")
    if options.default_bridge and not network.predefined:
        raise Invalid(f"option {bridge_options.DEFAULT_BRIDGE}: only the pre-defined network bridge may have it")
    if options.mtu and options.mtu < _IPV6_MTU and any(pool.subnet.version == 6 for pool in network.pools):
        raise Invalid(f"option {MTU}={options.mtu}: a network with IPv6 needs at least {_IPV6_MTU} bytes")
    try:
        check_ifname(network.options.get(PREFIX, "eth") + "0")
    except Invalid as error:
        raise Invalid(f"option {PREFIX}={network.options[PREFIX]}: {error}") from None


def _mtu(network: Network, options: Options, adopted: str, host: Host) -> int:
    """What was asked for, or what the adopted bridge has, or what the way out carries, if that is less than usual.

    Larger packets than the way out carries would stall where "fragmentation needed" gets lost (moby#49398).
    """
    if options.mtu or (network.internal and not adopted):
        return options.mtu
    if adopted:
        link = host.link(adopted)
        return link.mtu if link else 0
    least = host.uplink_mtu()
    if not 0 < least < _ETHERNET_MTU:
        return 0
    return max(least, _IPV6_MTU) if any(pool.subnet.version == 6 for pool in network.pools) else least


def _with_due_gateway(pool: Pool, network: Network, options: Options) -> Pool:
    """Without one where nothing would have its address: neither the bridge, nor somebody to whom a route leads."""
    version = pool.subnet.version
    inhibited = version == 4 and options.inhibit and network.internal
    return replace(pool, gateway=None) if options.modes[version] == ISOLATED or inhibited else pool


# Planning


def _ipv6_settings(name: str, *, on: bool) -> Iterator[Step]:
    """A bridge without IPv6 addresses speaks none.  With them: a container must not pose as the host's router."""
    link = link_name(HOST, name)
    yield SetSysctl(f"net/ipv6/conf/{name}/disable_ipv6", "0" if on else "1", link=link, optional=True)
    if on:
        yield SetSysctl(f"net/ipv6/conf/{name}/accept_ra", "0", link=link)


def _no_advertised_router(inside: str, name: str) -> Step:
    """Addresses and routes are ours to give: none of the network's containers may pose as another's router."""
    setting = f"net/ipv6/conf/{name}/accept_ra"
    return SetSysctl(setting, "0", link=link_name(inside, name), optional=True, namespace=inside)


def _addresses(network: Network, options: Options) -> Iterator[Step]:
    """The bridge's: the gateways, and for IPv6 a link-local one; those that an adopted bridge has are left to it."""
    name = network.ifname
    for pool in network.pools:
        gateway, version = pool.gateway, pool.subnet.version
        if gateway is None or (version == 4 and options.inhibit):
            continue
        wanted = [ip_interface(f"{gateway}/{pool.subnet.prefixlen}")]
        if version == 6 and gateway.is_link_local:
            wanted = [ip_interface(f"{gateway}/64")]
        elif version == 6 and not network.adopted:
            wanted.append(_LINK_LOCAL)
        yield from (AddAddress(HOST, name, interface) for interface in wanted if interface not in network.kept)
        if version == 6 and gateway.is_link_local and not pool.subnet.is_link_local:
            yield AddRoute(HOST, name, pool.subnet)


def _elements(network: Network, options: Options) -> Iterator[Step]:
    """What the network adds to the firewall's sets."""
    name = f'"{network.ifname}"'
    yield AddElement("bridges", name)
    yield AddElement("itself", f"{name} . {name}")
    if not options.icc:
        yield AddElement("silent", name)
    if network.internal:
        yield AddElement("internal", name)
        return
    for pool in network.pools:
        version = pool.subnet.version
        if options.modes[version] in (ROUTED, UNPROTECTED):
            yield AddElement(f"{options.modes[version].removeprefix('nat-')}{version}", name)
        if options.modes[version] != ROUTED and options.masquerade and pool.gateway:
            if source := options.sources.get(version):
                yield AddElement(f"source{version}", name, str(source))
            else:
                yield AddElement(f"masqueraded{version}", name)
    for interface in options.trusted:
        yield AddElement("trusted", f'"{interface}" . {name}')


def _redirects(network: Network, options: Options, version: int) -> bool:
    """Whether published ports of the host lead to containers by redirection, in this family."""
    led = any(pool.gateway and pool.subnet.version == version for pool in network.pools)
    return led and not network.internal and options.modes[version] != ROUTED


def _direct(options: Options) -> frozenset[int]:
    """The families in which somebody may ask a container's own address for its published ports."""
    return frozenset(version for version in (4, 6) if options.trusted or options.modes[version] == ROUTED)


def _in_mode(network: Network, mode: str) -> frozenset[int]:
    if network.driver != "bridge":
        return frozenset()
    modes = bridge_options.read(network.options).modes
    return frozenset(pool.subnet.version for pool in network.pools if modes[pool.subnet.version] == mode)


def _hash_mac(record_id: str) -> str:
    digest = hashlib.sha256(record_id.encode()).digest()
    return "02:" + digest[:5].hex(":")
