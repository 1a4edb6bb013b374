"""The firewall as data: one constant table, and the elements that networks and published ports add to it.

Follow a packet.  *Published port*: it arrives for an address of this host (`prerouting`, or `output` if a host program
sent it); the maps give container address and port by one lookup, whatever the number of ports.  *Forwarded*: replies
pass; bridges may talk to themselves; internal ones to nobody else; what a map has redirected may enter; anything else
may not enter a bridge of ours, from outside or from another network.  *Leaving*: a sandbox's packet to the world takes
the host's address; a redirected packet that turns back into the bridge it came from, or comes from the host itself,
takes the bridge's address so that the answer comes back this way.  Only then is the client's address not kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.kernel.ports import Target
from fairlead.model import Address, Endpoint, Network, PublishedPort
from fairlead.plan import Step
from fairlead.plan.firewall import AddElement, AddTable
from fairlead.plan.ports import HoldPort, RedirectFlows

TABLE = AddTable(
    """\
	# The bridges of our networks; of those, the ones with no way in or out, and the ones that borrow host addresses.
	set bridges { type ifname; }
	set internal { type ifname; }
	set masqueraded { type ifname; }
	# Pairs of bridges between which packets may pass.
	set talk { type ifname . ifname; }
	# Published ports: on one address of the host, or (…_any) on all of them.
	map ports4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
	map ports6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
	map ports4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
	map ports6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
	chain protect {
		type filter hook prerouting priority raw; policy accept;
		# Our bridges route 127.0.0.0/8, so that published ports answer there.  Sandboxes must not reach it, nor may a
		# machine of the local network: its packet would be redirected before the kernel finds it impossible.
		iifname != "lo" ip daddr 127.0.0.0/8 drop
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump published
	}
	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump published
	}
	chain published {
		dnat ip to meta l4proto . ip daddr . th dport map @ports4
		dnat ip6 to meta l4proto . ip6 daddr . th dport map @ports6
		meta nfproto ipv4 dnat ip to meta l4proto . th dport map @ports4_any
		ip6 daddr != ::1 dnat ip6 to meta l4proto . th dport map @ports6_any
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		iifname . oifname @talk accept
		iifname @internal drop
		oifname @internal drop
		oifname @bridges ct status dnat accept
		oifname @bridges drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ct status dnat iifname . oifname @talk masquerade
		# From no interface: from this host, or, with br_netfilter, inside the bridge.
		ct status dnat iif 0 oifname @bridges masquerade
		iifname @masqueraded oifname != @bridges masquerade
	}
"""
)

IP_FORWARD = "net/ipv4/ip_forward"


def network_elements(network: Network, *, masquerade: bool) -> list[Step]:
    """What a bridge network adds to the sets."""
    name = f'"{network.ifname}"'
    elements: list[Step] = [AddElement("bridges", name), AddElement("talk", f"{name} . {name}")]
    if network.internal:
        elements.append(AddElement("internal", name))
    elif masquerade:
        elements.append(AddElement("masqueraded", name))
    return elements


def port_steps(endpoint: Endpoint) -> list[Step]:
    """Hold each published port, and redirect it to the endpoint where the kernel can: from family to the same family.

    Nor can it redirect what is sent to ``::1``, which never leaves the loopback (RFC 4291, 2.5.3; IPv6 has no
    route_localnet).  There the holder relays (see `fairlead.kernel.ports`).
    """
    elements: list[Step] = []
    relays: dict[PublishedPort, Target] = {}
    for port in endpoint.ports:
        target = target_of(port, (interface.ip for interface in endpoint.addresses))
        inet6 = port.host_ip.version == 6
        redirected = target.version == port.host_ip.version and not (inet6 and port.host_ip.is_loopback)
        if redirected:
            elements.append(_element(port, target))
        if not redirected or (inet6 and port.host_ip.is_unspecified):
            relays[port] = (target, port.port)
    return [*HoldPort.steps(endpoint.ports, relays), *elements]


def target_of(port: PublishedPort, addresses: Iterable[Address]) -> Address:
    """The endpoint's address that a port leads to: one of the port's family, or else any."""
    return min(addresses, key=lambda address: address.version != port.host_ip.version)


def _element(port: PublishedPort, target: Address) -> AddElement:
    name = f"ports{port.host_ip.version}"
    key = f"{port.protocol} . {port.host_ip} . {port.host_port}"
    value = f"{target} . {port.port}"
    if port.host_ip.is_unspecified:
        name, key = f"{name}_any", f"{port.protocol} . {port.host_port}"
    return AddElement(name, key, value) if port.protocol == "tcp" else RedirectFlows(name, key, value, port, target)
