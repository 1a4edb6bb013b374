"""The firewall as data: one constant table, and the elements that networks and published ports add to it.

Follow a packet.  *Published port*: it arrives for an address of this host (`prerouting`, or `output` if a host program
sent it); the maps give container address and port by one lookup, whatever the number of ports.  A packet from outside
that claims to be for 127.0.0.1 is not redirected, and the kernel throws it away.  What cannot be redirected reaches the
socket that holds the port, which relays.

*Forwarded* (`forward`): replies pass.  From a bridge back into the same one: what was redirected, and all else unless
its containers may not talk to each other (then their ports are isolated as well, so that packets come this way only by
way of the gateway).  An internal bridge has no other traffic.  Into a bridge of ours (`enter`), from outside or from
another network, come packets that were redirected; any, where the network is unprotected; to a published port's own
address and number, where the network is routed or the interface trusted; and to a routed network also ICMP.  Nothing
else.  Traffic between others is not ours to judge.

*For this host* (`input`): its programs answer the containers, even those of internal networks; but not the sockets that
relay between address families, which would be a way out.

*Leaving* (`postrouting`): a sandbox's packet to the world takes the address that its network was given for this, or the
host's own; a redirected packet that turns back into the bridge it came from, or comes from the host itself, takes the
bridge's address so that the answer comes back this way.  Only then is the client's address not kept.

Gateway modes are per family, so the sets that they fill are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fairlead.kernel.ports import Target
from fairlead.model import Address, Endpoint, PublishedPort, text_of
from fairlead.plan import Step
from fairlead.plan.firewall import AddElement, AddTable
from fairlead.plan.ports import HoldPort, RedirectFlows

TABLE = AddTable(
    """\
	# The bridges of our networks; of those, the ones with no way in or out, and the ones whose containers may not talk.
	set bridges { type ifname; }
	set internal { type ifname; }
	set silent { type ifname; }
	# Each bridge with itself: where a packet goes back to where it came from.
	set itself { type ifname . ifname; }
	# Bridges into which anyone may send, and those whose published ports are reached at the container's own address…
	set unprotected4 { type ifname; }
	set unprotected6 { type ifname; }
	set routed4 { type ifname; }
	set routed6 { type ifname; }
	# …or are from one interface of the host (interface . bridge); and what those ports are.
	set trusted { type ifname . ifname; }
	set direct4 { type inet_proto . ipv4_addr . inet_service; }
	set direct6 { type inet_proto . ipv6_addr . inet_service; }
	# Bridges whose packets to the world take an address of this host: any, or this one.
	set masqueraded4 { type ifname; }
	set masqueraded6 { type ifname; }
	map source4 { type ifname : ipv4_addr; }
	map source6 { type ifname : ipv6_addr; }
	# Published ports: on one address of the host, or (…_any) on all of them.
	map ports4 { type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }
	map ports6 { type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }
	map ports4_any { type inet_proto . inet_service : ipv4_addr . inet_service; }
	map ports6_any { type inet_proto . inet_service : ipv6_addr . inet_service; }
	# Ports published by containers of a silent bridge, as asked from within it.
	set homeward { type ifname . inet_proto . inet_service; }
	# Ports of the host that a socket relays to the other family.
	set relayed4 { type inet_proto . ipv4_addr . inet_service; }
	set relayed6 { type inet_proto . ipv6_addr . inet_service; }
	set relayed_any { type nf_proto . inet_proto . inet_service; }
	chain protect {
		type filter hook prerouting priority raw; policy accept;
		# Our bridges route 127.0.0.0/8, so that published ports answer there; sandboxes must not use it.
		iifname @bridges ip daddr 127.0.0.0/8 drop
		iifname @bridges ip saddr 127.0.0.0/8 drop
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		# The kernel throws these away, but only after this.
		ip daddr 127.0.0.0/8 accept
		# Where br_netfilter is on, a redirected frame would go from port to port, which are isolated: a socket relays.
		iifname . meta l4proto . th dport @homeward accept
		fib daddr type local jump published
	}
	chain output {
		type nat hook output priority -100; policy accept;
		# The kernel takes no answer from an interface for ::1: there a socket relays.
		ip6 daddr ::1 accept
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
		iifname . oifname @itself goto within
		iifname @internal drop
		oifname @internal drop
		oifname @bridges goto enter
	}
	chain within {
		ct status dnat accept
		iifname @silent drop
	}
	chain enter {
		ct status dnat accept
		meta nfproto ipv4 oifname @unprotected4 accept
		meta nfproto ipv6 oifname @unprotected6 accept
		meta nfproto ipv4 oifname @routed4 jump direct
		meta nfproto ipv6 oifname @routed6 jump direct
		iifname . oifname @trusted jump direct
		meta l4proto icmp oifname @routed4 accept
		meta l4proto icmpv6 oifname @routed6 accept
		drop
	}
	chain direct {
		meta l4proto . ip daddr . th dport @direct4 accept
		meta l4proto . ip6 daddr . th dport @direct6 accept
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname @internal jump inside
	}
	chain inside {
		meta l4proto . ip daddr . th dport @relayed4 drop
		meta l4proto . ip6 daddr . th dport @relayed6 drop
		meta nfproto . meta l4proto . th dport @relayed_any drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ct status dnat iifname . oifname @itself masquerade
		# From no interface: from this host, or, with br_netfilter, inside the bridge.
		ct status dnat iif 0 oifname @bridges masquerade
		oifname @bridges accept
		snat ip to iifname map @source4
		snat ip6 to iifname map @source6
		meta nfproto ipv4 iifname @masqueraded4 masquerade
		meta nfproto ipv6 iifname @masqueraded6 masquerade
	}
"""
)

IP_FORWARD = "net/ipv4/ip_forward"


def port_steps(endpoint: Endpoint, *, direct: Collection[int] = (), silent: str = "") -> list[Step]:
    """What publishes an endpoint's ports.

    `direct`: the families in which its own address may be asked for them; `silent`: its bridge, if the containers there
    may not talk to each other.

    Each port of the host is held, and redirected to the endpoint where both are of one family.  What the kernel cannot
    redirect, the holder relays (see `fairlead.kernel.ports`): from one family to the other, what the host asks of
    ``::1``, and what comes from within a silent bridge.  A port without a host port (of a routed network) is reached
    directly alone.
    """
    relays: dict[PublishedPort, Target] = {}
    elements: dict[Step, None] = {}
    for port in endpoint.ports:
        target = target_of(port, (interface.ip for interface in endpoint.addresses))
        if target.version in direct:
            elements[AddElement(f"direct{target.version}", f"{port.protocol} . {target} . {port.port}")] = None
        if not port.host_port:
            continue
        if target.version != port.host_ip.version:
            relays[port] = (target, port.port)
            elements[_relayed(port)] = None
        else:
            six_loopback = port.host_ip.version == 6 and (port.host_ip.is_unspecified or port.host_ip.is_loopback)
            if six_loopback or silent:
                relays[port] = (target, port.port)
            elements[_redirected(port, target)] = None
        if silent:
            elements[AddElement("homeward", f'"{silent}" . {port.protocol} . {port.host_port}')] = None
    holds = HoldPort.steps([port for port in endpoint.ports if port.host_port], relays)
    # Those of one kind together, as neighbours are sent together.
    return [*holds, *sorted(elements, key=lambda step: isinstance(step, RedirectFlows))]


def target_of(port: PublishedPort, addresses: Iterable[Address]) -> Address:
    """The endpoint's address that a port leads to: one of the port's family, or else any."""
    return min(addresses, key=lambda address: address.version != port.host_ip.version)


def _redirected(port: PublishedPort, target: Address) -> AddElement:
    name = f"ports{port.host_ip.version}"
    key = f"{port.protocol} . {port.host_ip} . {port.host_port}"
    value = f"{text_of(target)} . {port.port}"
    if port.host_ip.is_unspecified:
        name, key = f"{name}_any", f"{port.protocol} . {port.host_port}"
    return AddElement(name, key, value) if port.protocol == "tcp" else RedirectFlows(name, key, value, port, target)


def _relayed(port: PublishedPort) -> AddElement:
    if port.host_ip.is_unspecified:
        return AddElement("relayed_any", f"ipv{port.host_ip.version} . {port.protocol} . {port.host_port}")
    return AddElement(f"relayed{port.host_ip.version}", f"{port.protocol} . {port.host_ip} . {port.host_port}")
