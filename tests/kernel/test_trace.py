"""Every cause that a trace must name, made on a real kernel; where it can be, the remedy is run and must help."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import BEHIND_THE_HOST, Host, images, ipv6_ready

PLAIN = """
ip link add br0 type bridge
ip link set br0 up
for n in 1 2 3; do
    ip netns add ns$n
    ip link add v$n type veth peer name eth0 netns ns$n
    ip link set v$n master br0 up
    ip -n ns$n link set lo up
    ip -n ns$n addr add 10.0.0.$n/24 dev eth0
    ip -n ns$n link set eth0 up
done
sysctl -qw net.bridge.bridge-nf-call-iptables=0
"""
"""The tutorial's: three namespaces on a bridge made by hand, without Fairlead."""

ROUTED = BEHIND_THE_HOST + "sysctl -qw net.ipv4.ip_forward=1\n"
"""Two namespaces with the host as their router."""

PLAIN6 = """
ip link add br0 type bridge
ip link set br0 up
for n in 1 2 3; do
    ip netns add ns$n
    ip link add v$n type veth peer name eth0 netns ns$n
    sysctl -qw net.ipv6.conf.v$n.accept_dad=0; ip netns exec ns$n sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip link set v$n master br0 up
    ip -n ns$n link set lo up
    ip -n ns$n addr add fd00::$n/64 dev eth0 nodad
    ip -n ns$n link set eth0 up
done
sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
""" + "".join(ipv6_ready(f"v{n}", f"ns{n}") for n in (1, 2, 3))
"""The same as `PLAIN`, with IPv6."""

ROUTED6 = """
for n in 1 2; do
    ip netns add r$n
    ip link add w$n type veth peer name eth0 netns r$n
    sysctl -qw net.ipv6.conf.w$n.accept_dad=0; ip netns exec r$n sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip addr add fd01:$n::1/64 dev w$n nodad
    ip link set w$n up
    ip -n r$n link set lo up
    ip -n r$n addr add fd01:$n::2/64 dev eth0 nodad
    ip -n r$n link set eth0 up
    ip -n r$n route add default via fd01:$n::1
done
sysctl -qw net.ipv6.conf.all.forwarding=1
""" + "".join(ipv6_ready(f"w{n}", f"r{n}") for n in (1, 2))
"""The same as `ROUTED`, with IPv6."""

NESTED = """
fairlead network create front; fairlead netns add out; fairlead network connect front out
ip -n out link add ib type bridge; ip -n out addr add 10.50.0.1/24 dev ib; ip -n out link set ib up
ip netns add in1; ip -n out link add iv1 type veth peer name eth0 netns in1; ip -n out link set iv1 master ib up
ip -n in1 addr add 10.50.0.11/24 dev eth0; ip -n in1 link set eth0 up; ip -n in1 route add default via 10.50.0.1
ip netns exec out sysctl -qw net.ipv4.ip_forward=1
ip netns exec internet ip route add default via 198.51.100.2
"""
"""A namespace behind one of Fairlead's, as Docker in Docker has it; nobody rewrites its address."""

PATCHED = """
for n in 1 2; do
    ip link add b$n type bridge; ip link set b$n up
    ip netns add p$n; ip link add pv$n type veth peer name eth0 netns p$n; ip link set pv$n master b$n up
    ip -n p$n addr add 10.60.0.$n/24 dev eth0; ip -n p$n link set eth0 up
done
ip link add x1 type veth peer name x2; ip link set x1 master b1 up; ip link set x2 master b2 up
sysctl -qw net.bridge.bridge-nf-call-iptables=0
"""
"""Two bridges, joined by a cable."""

SWITCH = """
ip netns add sw; ip -n sw link add swb type bridge; ip -n sw link set swb up
for n in 1 2; do
    ip netns add h$n; ip link add p$n netns sw type veth peer name eth0 netns h$n; ip -n sw link set p$n master swb up
    ip -n h$n addr add 10.7.0.$n/24 dev eth0; ip -n h$n link set eth0 up
done
ip netns exec sw sysctl -qw net.bridge.bridge-nf-call-iptables=1
"""
"""A bridge in a namespace of its own."""

MACVLANS = """
ip link add mp type veth peer name mq; ip link set mp up; ip link set mq up
for n in 1 2; do
    ip netns add m$n; ip link add mv$n link mp type macvlan mode MODE; ip link set mv$n netns m$n name eth0
    ip -n m$n addr add 10.7.0.$n/24 dev eth0; ip -n m$n link set eth0 up
done
"""
"""Two macvlans on one link."""

OURS = """
fairlead network create front
fairlead network create back
for n in a b; do fairlead netns add $n; fairlead network connect front $n; done
fairlead netns add c
fairlead network connect back c
"""
"""Namespaces of Fairlead: a and b in one network, c in another."""


@dataclass(frozen=True)
class Case:
    """`arguments` of the trace; the verdict's cause, words that its sentence must have.

    `mend`: which remedy to run, and then the trace must succeed; None: nothing that a line could mend.
    """

    name: str
    setup: str
    arguments: str
    cause: str
    words: tuple[str, ...]
    mend: int | None = 0
    tidy: str = ""
    """What to run besides, before tracing again: what the remedy leaves to the user."""


def _serving(address: str, option: str, connections: int = 0) -> str:
    """Lines that have a program in ns2 listen at port 80, which takes no connection of one that may wait."""
    program = f"""
import socket, time
server = socket.socket(socket.AF_INET6 if ":" in "{address}" else socket.AF_INET)
server.setsockopt({option})
server.bind(("{address}", 80))
server.listen(0)
waiting = [socket.create_connection(("{address}", 80)) for _ in range({connections})]
print("ready", flush=True)
time.sleep(1000)
"""
    return f"""
mkfifo $FAIRLEAD_RUN.ready; exec 3<>$FAIRLEAD_RUN.ready
nsenter --net=/run/netns/ns2 {sys.executable} -c '{program}' >&3 2>/dev/null &
read ready <&3
"""


CASES = [
    Case(
        "forward-policy-with-br-netfilter",
        PLAIN + "iptables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        "ns1 ns2",
        "bridge-netfilter",
        ("policy of the chain ip filter FORWARD", "br_netfilter"),
    ),
    Case(
        "forward-policy-with-br-netfilter-the-other-remedy",
        PLAIN + "iptables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-iptables=1",
        "ns1 10.0.0.2",
        "bridge-netfilter",
        ("policy of the chain ip filter FORWARD",),
        mend=1,
    ),
    Case(
        "forward-policy-with-br-netfilter-in-a-namespace",
        SWITCH + "ip netns exec sw iptables -P FORWARD DROP",
        "h1 h2",
        "bridge-netfilter",
        ("policy of the chain ip filter FORWARD", "in sw", "sw's IP firewall"),
    ),
    Case(
        "six-forward-policy-with-br-netfilter",
        PLAIN6
        + "ip6tables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-ip6tables=1\n"
        + "for n in 135 136; do ip6tables -A FORWARD -p icmpv6 --icmpv6-type $n -j ACCEPT; done",
        "ns1 fd00::2",
        "bridge-netfilter",
        ("policy of the chain ip6 filter FORWARD", "net.bridge.bridge-nf-call-ip6tables = 1"),
        1,
    ),
    Case(
        "six-neighbours-hidden-by-br-netfilter",
        PLAIN6 + "ip6tables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-ip6tables=1",
        "ns1 fd00::2",
        "arp-failed",
        ("eth0 of ns2", "policy of the chain ip6 filter FORWARD", "br_netfilter"),
    ),
    Case(
        "forward-policy-routed",
        ROUTED + "iptables -P FORWARD DROP",
        "r1 10.1.2.2",
        "forward-drop",
        ("policy of the chain ip filter FORWARD", "iptables"),
    ),
    Case(
        "a-policy-of-iptables-legacy",
        ROUTED + "iptables-legacy -P FORWARD DROP",
        "r1 10.1.2.2",
        "forward-drop",
        ("policy of the chain ip filter FORWARD", "iptables-legacy"),
    ),
    Case(
        "a-rule-of-iptables-legacy",
        ROUTED + "iptables-legacy -A FORWARD -p icmp -d 10.1.2.2 -j DROP",
        "r1 10.1.2.2",
        "forward-drop",
        ("-d 10.1.2.2/32 -p icmp -j DROP", "iptables-legacy"),
    ),
    Case(
        "a-rule-of-nftables",
        ROUTED
        + """
        nft add table inet own
        nft add chain inet own f '{ type filter hook forward priority 10; }'
        nft add rule inet own f ip daddr 10.1.2.2 icmp type echo-request drop
        """,
        "r1 10.1.2.2",
        "forward-drop",
        ("chain inet own f", "icmp type echo-request drop", "the administrator"),
    ),
    Case(
        "a-rule-of-another-table",
        ROUTED + "iptables -t mangle -A FORWARD -d 10.1.2.2 -j DROP",
        "r1 10.1.2.2",
        "forward-drop",
        ("chain ip mangle FORWARD",),
    ),
    Case(
        "a-rule-of-another-table-of-iptables-legacy",
        ROUTED + "iptables-legacy -t raw -A PREROUTING -d 10.1.2.2 -j DROP",
        "r1 10.1.2.2",
        "rule-drop",
        ("chain ip raw PREROUTING", "iptables-legacy"),
    ),
    Case(
        "a-policy-for-a-bridge",
        PLAIN
        + "nft 'table bridge f { chain w { type filter hook forward priority 0; policy drop; }; }'\n"
        + "nft add rule bridge f w ether type arp accept",
        "ns1 ns2",
        "forward-drop",
        ("policy of the chain bridge f w",),
    ),
    Case(
        "a-rule-of-a-device",
        ROUTED
        + "nft 'table netdev f { chain w { type filter hook ingress device w1 priority 0; ip protocol icmp drop; }; }'",
        "r1 10.1.2.2",
        "rule-drop",
        ("chain netdev f w (ip protocol icmp drop) on the ingress hook",),
    ),
    Case(
        "a-rule-of-a-device-of-ipv6",
        ROUTED6
        + "nft 'table inet f { chain w { type filter hook ingress devices = { w2, w1 } priority 0; "
        + "meta l4proto ipv6-icmp icmpv6 type echo-request drop; }; }'",
        "r1 fd01:2::2",
        "rule-drop",
        ("chain inet f w (icmpv6 type echo-request drop) on the ingress hook",),
    ),
    Case(
        "a-rule-for-what-leaves-by-a-device",
        ROUTED
        + "nft 'table netdev f { chain w { type filter hook egress device w2 priority 0; ip protocol icmp drop; }; }'",
        "r1 10.1.2.2",
        "rule-drop",
        ("chain netdev f w (ip protocol icmp drop) on the egress hook",),
    ),
    Case("ip-forward-off", ROUTED, "r1 10.1.2.2", "forwarding-off", ("net.ipv4.ip_forward = 0", "w1")),
    Case("own-interface-down", PLAIN + "ip -n ns1 link set eth0 down", "ns1 ns2", "interface-down", ("eth0 of ns1",)),
    Case("their-interface-down", PLAIN + "ip -n ns2 link set eth0 down", "ns1 ns2", "interface-down", ("eth0 of ns2",)),
    Case("bridge-down", PLAIN + "ip link set br0 down", "ns1 ns2", "interface-down", ("br0 on the host",)),
    Case("our-interface-down", OURS + "ip -n a link set eth0 down", "a b", "interface-down", ("eth0 of a",)),
    Case("no-carrier-here", PLAIN + "ip link set v1 down", "ns1 ns2", "no-carrier", ("eth0 of ns1", "v1 on the host")),
    Case("no-carrier-there", PLAIN + "ip link set v2 down", "ns1 ns2", "no-carrier", ("eth0 of ns2", "v2 on the host")),
    Case(
        "peer-gone",
        "ip link add br1 type bridge; ip addr add 10.7.0.1/24 dev br1; ip link set br1 up; ip netns add gone; "
        "ip link add p type veth peer name eth0 netns gone; ip link set p master br1 up; ip link del p",
        "host 10.7.0.2",
        "no-carrier",
        ("br1 on the host", "no interface that is up"),
        mend=None,
    ),
    Case("own-port-without-master", PLAIN + "ip link set v1 nomaster", "ns1 ns2", "port-without-master", ("v1",)),
    Case("their-port-without-master", PLAIN + "ip link set v2 nomaster", "ns1 ns2", "port-without-master", ("v2",)),
    Case(
        "our-port-without-master",
        OURS + "ip link set {port_a} nomaster",
        "a b",
        "port-without-master",
        ("is no port of a bridge",),
    ),
    Case(
        "wrong-subnet",
        PLAIN + "ip -n ns2 addr flush dev eth0; ip -n ns2 addr add 10.0.9.2/24 dev eth0",
        "ns1 ns2",
        "wrong-address",
        ("10.0.9.2/24", "10.0.0.1/24", "not in one subnet"),
        mend=-1,
    ),
    Case("missing-address", PLAIN + "ip -n ns1 addr flush dev eth0", "ns1 ns2", "missing-address", ("eth0 of ns1",)),
    Case("our-address-missing", OURS + "ip -n b addr flush dev eth0", "a b", "wrong-address", ("eth0 of b", "none")),
    Case(
        "our-address-wrong",
        OURS + "ip -n b addr flush dev eth0; ip -n b addr add 172.31.255.9/24 dev eth0",
        "a {b}",
        "wrong-address",
        ("eth0 of b", "172.31.255.9/24 instead"),
        mend=-1,
    ),
    Case(
        "duplicate-address",
        PLAIN + "ip -n ns3 addr add 10.0.0.2/24 dev eth0",
        "ns1 ns2",
        "duplicate-address",
        ("10.0.0.2", "eth0 of ns2", "eth0 of ns3"),
    ),
    Case(
        "own-address-duplicate",
        PLAIN + "ip -n ns3 addr add 10.0.0.1/24 dev eth0",
        "ns1 ns2",
        "duplicate-address",
        ("10.0.0.1", "eth0 of ns1", "eth0 of ns3"),
    ),
    Case(
        "no-route",
        ROUTED + "ip -n r1 route del default",
        "r1 10.1.2.2",
        "no-route",
        ("There is no route in r1 to 10.1.2.2",),
    ),
    Case(
        "no-route-back",
        ROUTED + "ip -n r2 route del default",
        "r1 10.1.2.2",
        "no-route",
        ("There is no route in r2 to 10.1.1.2 on the way back",),
    ),
    Case("no-route-host", ROUTED + "ip route del default", "r1 8.8.8.8", "no-route", ("no route on the host",), None),
    Case(
        "blackhole",
        ROUTED + "ip route add blackhole 10.1.2.2/32",
        "r1 10.1.2.2",
        "no-route",
        ("blackhole", "10.1.2.2"),
    ),
    *(
        Case(f"refused-by-{name}", ROUTED + lines, "r1 10.1.2.2", "no-route", words)
        for name, lines, words in (
            ("an-unreachable-route", "ip route add unreachable 10.1.2.2", ("10.1.2.2/32 on the host", "unreachable")),
            ("an-unreachable-route-here", "ip -n r1 route add unreachable 10.1.2.2", ("10.1.2.2/32 in r1",)),
            ("a-thrown-route", "ip route del default; ip route add throw 10.1.2.2", ("on the host", "kind throw")),
            ("a-rule", "ip rule add from 10.1.1.0/24 to 10.1.2.2 blackhole", ("from 10.1.1.0/24 to 10.1.2.2/32",)),
            ("a-rule-here", "ip -n r1 rule add to 10.1.2.2 unreachable", ("routing policy in r1", "unreachable")),
            ("a-rule-of-an-interface", "ip rule add not iif w2 prohibit", ("not from all iif w2 prohibit",)),
            (
                "a-route-of-another-table",
                "ip rule add iif w1 table 77; ip route add blackhole 10.1.2.0/24 table 77",
                ("10.1.2.0/24 in table 77 on the host", "blackhole"),
            ),
        )
    ),
    Case(
        "six-refused-by-a-rule",
        ROUTED6 + "ip -6 rule add to fd01:2::/64 prohibit",
        "r1 fd01:2::2",
        "no-route",
        ("from all to fd01:2::/64 prohibit",),
    ),
    Case(
        "wrong-gateway-nobody",
        ROUTED + "ip -n r1 route replace default via 10.1.1.77",
        "r1 10.1.2.2",
        "wrong-gateway",
        ("10.1.1.77", "nobody", "the router there is 10.1.1.1"),
    ),
    Case(
        "wrong-gateway-no-router",
        PLAIN
        + """
        ip addr add 10.0.0.254/24 dev br0
        ip netns add far
        ip link add w type veth peer name eth0 netns far
        ip addr add 10.9.0.1/24 dev w
        ip link set w up
        ip -n far addr add 10.9.0.2/24 dev eth0
        ip -n far link set eth0 up
        ip -n far route add default via 10.9.0.1
        ip -n ns1 route add default via 10.0.0.3
        """,
        "ns1 far",
        "wrong-gateway",
        ("10.0.0.3", "no router", "the router there is 10.0.0.254"),
    ),
    Case(
        "six-own-interface-down",
        PLAIN6 + "ip -n ns1 link set eth0 down",
        "ns1 fd00::2",
        "interface-down",
        ("eth0 of ns1",),
        tidy=f"ip -n ns1 addr replace fd00::1/64 dev eth0 nodad\n{ipv6_ready('v1', 'ns1')}",
    ),
    Case("six-no-carrier", PLAIN6 + "ip link set v2 down", "ns1 ns2", "no-carrier", ("eth0 of ns2", "v2 on the host")),
    Case("six-port-without-master", PLAIN6 + "ip link set v2 nomaster", "ns1 ns2", "port-without-master", ("v2",)),
    Case(
        "six-duplicate-address",
        PLAIN6 + "ip -n ns3 addr add fd00::2/64 dev eth0 nodad",
        "ns1 ns2",
        "duplicate-address",
        ("fd00::2", "eth0 of ns2", "eth0 of ns3"),
    ),
    Case(
        "six-own-address-duplicate",
        PLAIN6 + "ip -n ns3 addr add fd00::1/64 dev eth0 nodad",
        "ns1 ns2",
        "duplicate-address",
        ("fd00::1", "eth0 of ns1", "eth0 of ns3"),
    ),
    Case(
        "six-duplicate-that-the-kernel-refused",
        PLAIN6
        + """
        ip netns exec ns3 sysctl -qw net.ipv6.conf.eth0.accept_dad=1
        ip -n ns3 addr del fd00::3/64 dev eth0
        ip -n ns3 addr add fd00::2/64 dev eth0
        for i in $(seq 100); do ip -n ns3 addr show dev eth0 | grep -q dadfailed && break; sleep 0.1; done
        """,
        "ns1 ns3",
        "duplicate-address",
        ("eth0 of ns3 has the address fd00::2/64", "eth0 of ns2 had it already"),
    ),
    Case(
        "six-nobody",
        PLAIN6,
        "ns1 fd00::77",
        "arp-failed",
        ("Nobody on the bridge br0", "fd00::77"),
        None,
    ),
    Case(
        "six-deaf",
        PLAIN6
        + """
        ip netns exec ns2 nft add table inet own
        ip netns exec ns2 nft add chain inet own i '{ type filter hook input priority 0; }'
        ip netns exec ns2 nft add rule inet own i icmpv6 type nd-neighbor-solicit drop
        """,
        "ns1 ns2",
        "arp-failed",
        ("eth0 of ns2 has the address fd00::2", "chain inet own i", "on the input hook in ns2"),
    ),
    Case(
        "six-forward-policy",
        ROUTED6 + "ip6tables -P FORWARD DROP",
        "r1 fd01:2::2",
        "forward-drop",
        ("policy of the chain ip6 filter FORWARD",),
    ),
    Case(
        "six-forwarding-off",
        ROUTED6 + "sysctl -qw net.ipv6.conf.all.forwarding=0",
        "r1 fd01:2::2",
        "forwarding-off",
        ("net.ipv6.conf.all.forwarding = 0",),
    ),
    Case(
        "six-no-route",
        ROUTED6 + "ip -n r1 -6 route del default",
        "r1 fd01:2::2",
        "no-route",
        ("no route in r1 to fd01:2::2",),
    ),
    Case(
        "six-no-route-back",
        ROUTED6 + "ip -n r2 -6 route del default",
        "r1 fd01:2::2",
        "no-route",
        ("no route in r2 to fd01:1::2 on the way back",),
    ),
    Case(
        "six-blackhole",
        ROUTED6 + "ip route add blackhole fd01:2::2/128",
        "r1 fd01:2::2",
        "no-route",
        ("blackhole", "fd01:2::2"),
    ),
    Case(
        "six-wrong-gateway",
        ROUTED6 + "ip -n r1 -6 route replace default via fd01:1::77",
        "r1 fd01:2::2",
        "wrong-gateway",
        ("fd01:1::77", "nobody", "the router there is fd01:1::1"),
    ),
    Case(
        "six-missing-address",
        PLAIN6 + "ip -n ns1 addr del fd00::1/64 dev eth0",
        "ns1 fd00::2",
        "missing-address",
        ("eth0 of ns1",),
        None,
    ),
    Case(
        "six-nothing-listening", PLAIN6, "ns1 [fd00::2]:81", "nothing-listening", ("port 81/tcp in ns2", "reset"), None
    ),
    Case(
        "six-filtered",
        PLAIN6
        + """
        ip netns exec ns2 nft add table inet own
        ip netns exec ns2 nft add chain inet own i '{ type filter hook input priority 0; policy drop; }'
        ip netns exec ns2 nft add rule inet own i icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        """,
        "ns1 ns2",
        "input-drop",
        ("policy of the chain inet own i", "in ns2 drops"),
    ),
    Case(
        "six-mtu",
        ROUTED6 + "ip link set w2 mtu 1300; ip -n r2 link set eth0 mtu 1300",
        "--size 1400 r1 fd01:2::2",
        "mtu",
        ("1300",),
        None,
    ),
    Case(
        "no-route-back-to-a-namespace-behind-a-namespace",
        NESTED,
        "in1 8.8.8.8",
        "no-route",
        ("no route on the host to 10.50.0.11 of in1 on the way back", "leads away, to internet"),
    ),
    Case(
        "no-route-to-a-namespace-behind-a-namespace",
        NESTED,
        "host in1",
        "no-route",
        ("no route on the host to 10.50.0.11 of in1", "leads away, to internet"),
        None,
    ),
    Case("patch-down", PATCHED + "ip link set x2 down", "p1 p2", "interface-down", ("x2 on the host",)),
    Case("patch-without-master", PATCHED + "ip link set x2 nomaster", "p1 p2", "port-without-master", ("x2",)),
    Case("behind-a-patch", PATCHED, "p1 p2:80", "nothing-listening", ("nothing listens at port 80/tcp in p2",), None),
    Case("networks-isolated", OURS, "a c", "networks-isolated", ("front", "back", "kept apart")),
    Case(
        "internal-to-outside",
        "fairlead network create --internal in; fairlead netns add a; fairlead network connect in a",
        "a 8.8.8.8",
        "internal-network",
        ("internal network in",),
        tidy="ip netns exec internet ip route add 172.16.0.0/12 via 198.51.100.2",
    ),
    Case(
        "icc-off",
        "fairlead network create -o com.docker.network.bridge.enable_icc=false quiet; "
        "for n in a b; do fairlead netns add $n; fairlead network connect quiet $n; done",
        "a b",
        "icc-off",
        ("quiet", "enable_icc=false"),
    ),
    Case("nothing-listening", PLAIN, "ns1 ns2:81", "nothing-listening", ("port 81/tcp in ns2", "reset"), None),
    Case("nothing-listening-udp", PLAIN, "--udp ns1 ns2:81", "nothing-listening", ("81/udp", "unreachable"), None),
    Case(
        "filtered",
        PLAIN
        + """
        ip netns exec ns2 nft add table inet own
        ip netns exec ns2 nft add chain inet own i '{ type filter hook input priority 0; policy drop; }'
        """,
        "ns1 ns2",
        "input-drop",
        ("policy of the chain inet own i", "in ns2 drops"),
    ),
    Case(
        "rejected",
        PLAIN + "ip netns exec ns2 iptables -A INPUT -p tcp --dport 81 -j REJECT",
        "ns1 ns2:81",
        "input-drop",
        ("rejects", "ip filter INPUT"),
        None,
    ),
    Case(
        "filtered-answer",
        PLAIN + "ip netns exec ns2 iptables -A OUTPUT -p icmp -j DROP",
        "ns1 ns2",
        "output-drop",
        ("drops the answer", "ip filter OUTPUT"),
    ),
    Case(
        "rp-filter",
        PLAIN
        + """
        ip link add x type veth peer name eth1 netns ns2
        ip link set x master br0 up; ip -n ns2 addr add 10.8.0.2/24 dev eth1; ip -n ns2 link set eth1 up
        ip -n ns2 route add 10.0.0.1/32 dev eth1
        ip netns exec ns2 sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth1.arp_ignore=1
        """,
        "ns1 ns2",
        "rp-filter",
        ("rp_filter", "10.0.0.1", "eth0"),
    ),
    Case(
        "rp-filter-of-a-name-with-a-dot",
        PLAIN
        + """
        ip -n ns2 link set eth0 down; ip -n ns2 link set eth0 name eth.5; ip -n ns2 link set eth.5 up
        ip link add x type veth peer name eth1 netns ns2
        ip link set x master br0 up; ip -n ns2 addr add 10.8.0.2/24 dev eth1; ip -n ns2 link set eth1 up
        ip -n ns2 route add 10.0.0.1/32 dev eth1
        ip netns exec ns2 sysctl -qw net/ipv4/conf/eth.5/rp_filter=1 net.ipv4.conf.eth1.arp_ignore=1
        """,
        "ns1 ns2",
        "rp-filter",
        ("rp_filter", "10.0.0.1", "eth.5"),
    ),
    Case(
        "down-with-a-name-like-a-command",
        PLAIN + "ip -n ns1 link set eth0 down; ip -n ns1 link set eth0 name 'a;false'",
        "ns1 ns2",
        "interface-down",
        ("a;false of ns1",),
    ),
    Case(
        "rp-filter-after-a-router",
        ROUTED
        + """
        ip link add x type veth peer name eth1 netns r2
        ip link set x up; ip -n r2 addr add 10.8.0.2/24 dev eth1; ip -n r2 link set eth1 up
        ip addr add 10.8.0.1/24 dev x
        ip -n r2 route add 10.1.1.0/24 via 10.8.0.1
        ip netns exec r2 sysctl -qw net.ipv4.conf.eth0.rp_filter=1
        """,
        "r1 10.1.2.2",
        "rp-filter",
        ("The kernel in r2 drops", "10.1.1.2", "eth0", "rp_filter"),
    ),
    Case("arp-nobody", PLAIN, "ns1 10.0.0.9", "arp-failed", ("Nobody on the bridge br0", "10.0.0.9"), None),
    Case(
        "arp-off",
        PLAIN + "ip netns exec ns2 sysctl -qw net.ipv4.conf.eth0.arp_ignore=8",
        "ns1 ns2",
        "arp-failed",
        ("does not answer", "hardware address"),
        None,
    ),
    Case(
        "arp-stale",
        PLAIN + "ip -n ns1 neigh add 10.0.0.2 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
        "ns1 ns2",
        "arp-failed",
        ("wrong hardware address",),
    ),
    Case(
        "arp-wrong-on-the-way-back",
        PLAIN + "ip -n ns2 neigh add 10.0.0.1 lladdr 02:00:00:00:00:99 dev eth0",
        "ns1 ns2",
        "arp-failed",
        ("ns2 sends frames for 10.0.0.1", "02:00:00:00:00:99 on the way back", "eth0 of ns1"),
    ),
    Case(
        "arp-wrong-at-the-router",
        ROUTED + "ip neigh add 10.1.2.2 lladdr 02:00:00:00:00:99 dev w2",
        "r1 10.1.2.2",
        "arp-failed",
        ("host sends frames for 10.1.2.2", "eth0 of r2"),
    ),
    Case(
        "arp-ignored",
        PLAIN + "ip netns exec ns2 sysctl -qw net.ipv4.conf.all.arp_ignore=8",
        "ns1 ns2",
        "arp-failed",
        ("eth0 of ns2", "arp_ignore is 8"),
    ),
    Case(
        "arp-dropped-on-the-bridge",
        PLAIN + "nft 'table bridge own { chain f { type filter hook forward priority 0; ether type arp drop; }; }'",
        "ns1 ns2",
        "arp-failed",
        ("eth0 of ns2", "chain bridge own f (ether type arp drop) on the forward hook on the host", "administrator"),
    ),
    Case(
        "arp-dropped-before-the-answer",
        PLAIN
        + "ip netns exec ns2 nft 'table arp own { chain i { type filter hook input priority 0; policy drop; }; }'",
        "ns1 ns2",
        "arp-failed",
        ("eth0 of ns2", "policy of the chain arp own i on the input hook in ns2"),
    ),
    Case(
        "arp-answer-dropped",
        PLAIN
        + "ip netns exec ns2 nft 'table arp own { chain o { type filter hook output priority 0; jump p; }; chain p { "
        + "}; }'; ip netns exec ns2 nft add rule arp own p arp operation reply drop",
        "ns1 10.0.0.2",
        "arp-failed",
        ("eth0 of ns2", "chain arp own p (arp operation reply drop) on the output hook in ns2"),
    ),
    Case(
        "arp-dropped-at-the-asker",
        PLAIN
        + "ip netns exec ns1 nft 'table arp own { chain o { type filter hook output priority 0; "
        + "arp operation request drop; }; }'",
        "ns1 ns2",
        "arp-failed",
        ("ns1's question", "chain arp own o (arp operation request drop) on the output hook in ns1"),
    ),
    Case(
        "arp-dropped-at-a-device",
        PLAIN
        + "nft 'table netdev own { chain w { type filter hook ingress device v1 priority 0; meta protocol arp drop; "
        + "}; }'",
        "ns1 ns2",
        "arp-failed",
        ("chain netdev own w", "on the ingress hook on the host"),
    ),
    Case(
        "arp-dropped-at-the-router",
        ROUTED + "nft 'table arp own { chain o { type filter hook output priority 0; arp operation request drop; }; }'",
        "r1 10.1.2.2",
        "arp-failed",
        ("host's question", "chain arp own o (arp operation request drop)"),
    ),
    Case(
        "arp-dropped-on-the-way-back",
        ROUTED
        + "ip netns exec r2 nft 'table arp own { chain o { type filter hook output priority 0; arp operation request "
        + "drop; }; }'; ip neigh add 10.1.2.2 lladdr $(ip netns exec r2 cat /sys/class/net/eth0/address) dev w2",
        "r1 10.1.2.2",
        "arp-failed",
        ("r2's question", "on the way back", "chain arp own o"),
    ),
    Case(
        "broadcasts-not-flooded",
        PLAIN + "bridge link set dev v2 bcast_flood off",
        "ns1 ns2",
        "port-unflooded",
        ("v2 on the host, a port of the bridge br0", "the question who has 10.0.0.2", "bcast_flood is off"),
    ),
    Case(
        "multicasts-not-flooded",
        PLAIN6 + "ip link set br0 type bridge mcast_snooping 0; bridge link set dev v2 mcast_flood off",
        "ns1 fd00::2",
        "port-unflooded",
        ("v2 on the host", "the question who has fd00::2", "mcast_flood is off"),
    ),
    Case(
        "neither-learned-nor-flooded",
        PLAIN + "bridge link set dev v2 learning off flood off; ip link set v2 type bridge_slave fdb_flush",
        "ns1 ns2",
        "port-unflooded",
        ("v2 on the host", "has not learned", ": flood is off"),
    ),
    Case(
        "prefix-too-long",
        PLAIN + "ip -n ns1 addr add 10.0.0.1/32 dev eth0; ip -n ns1 addr del 10.0.0.1/24 dev eth0",
        "ns1 10.0.0.2",
        "wrong-netmask",
        ("eth0 of ns1 (10.0.0.1/32)", "eth0 of ns2 (10.0.0.2/24)", "10.0.0.2 is outside of the subnet"),
    ),
    Case(
        "their-prefix-too-long",
        PLAIN + "ip -n ns2 addr flush dev eth0; ip -n ns2 addr add 10.0.0.200/25 dev eth0",
        "ns1 ns2",
        "wrong-netmask",
        ("eth0 of ns2 (10.0.0.200/25)", "10.0.0.1 is outside of the subnet on the way back"),
    ),
    Case(
        "six-prefix-too-long",
        PLAIN6 + "ip -n ns1 addr flush dev eth0; ip -n ns1 addr add fd00::1/128 dev eth0 nodad",
        "ns1 fd00::2",
        "wrong-netmask",
        ("eth0 of ns1 (fd00::1/128)", "eth0 of ns2 (fd00::2/64)"),
    ),
    Case(
        "broadcast-address-by-the-prefix",
        PLAIN + "ip -n ns2 addr flush dev eth0; ip -n ns2 addr add 10.0.0.255/16 dev eth0",
        "ns1 ns2",
        "wrong-netmask",
        ("by that of eth0 of ns1, 10.0.0.255 is the broadcast address",),
    ),
    Case("a-broadcast-address", PLAIN, "ns1 10.0.0.255", "broadcast-address", ("of 10.0.0.0/24 at eth0 of ns1",), None),
    Case(
        "prefix-too-short",
        ROUTED + "ip -n r1 addr add 10.1.1.2/16 dev eth0; ip -n r1 addr del 10.1.1.2/24 dev eth0\n"
        "ip -n r1 route replace default via 10.1.1.1",
        "r1 10.1.2.2",
        "wrong-netmask",
        ("eth0 of r1 (10.1.1.2/16)", "w1 on the host (10.1.1.1/24)", "though eth0 of r2 elsewhere has it"),
    ),
    Case(
        "their-prefix-too-short",
        ROUTED + "ip -n r2 addr add 10.1.2.2/16 dev eth0; ip -n r2 addr del 10.1.2.2/24 dev eth0\n"
        "ip -n r2 route replace default via 10.1.2.1",
        "r1 10.1.2.2",
        "wrong-netmask",
        ("eth0 of r2 (10.1.2.2/16)", "10.1.1.2 is looked for on this wire too on the way back"),
    ),
    Case(
        "port-blocked",
        PLAIN
        + "for i in $(seq 200); do bridge link show dev v2 | grep -q 'state forwarding' && break; sleep 0.05; done\n"
        + "bridge link set dev v2 state 0",
        "ns1 ns2",
        "port-blocked",
        ("v2 on the host", "br0", "disabled"),
    ),
    Case(
        "port-that-listens-to-the-spanning-tree",
        PLAIN + "ip link set br0 type bridge stp_state 1 forward_delay 3000; ip link set v2 down; ip link set v2 up",
        "ns1 ns2",
        "port-blocked",
        ("v2 on the host", "listening", "spanning tree"),
        1,
    ),
    Case(
        "fdb-with-an-address-of-its-own",
        PLAIN + "bridge fdb replace $(ip -n ns2 -br link show eth0 | awk '{print $3}') dev br0 self permanent",
        "ns1 ns2",
        "wrong-fdb",
        ("br0 on the host", "eth0 of ns2", "its own"),
    ),
    Case(
        "macvlans-that-are-private",
        MACVLANS.replace("MODE", "private"),
        "m1 m2",
        "macvlan-apart",
        ("eth0 of m1", "mode"),
        -1,
        "ip -n m2 link set eth0 type macvlan mode bridge",
    ),
    Case(
        "a-macvlan-and-its-parent",
        MACVLANS.replace("MODE", "bridge") + "ip addr add 10.7.0.9/24 dev mp",
        "m1 10.7.0.9",
        "macvlan-apart",
        ("eth0 of m1", "mp on the host"),
        None,
    ),
    Case(
        "forwarding-off-of-one-interface",
        ROUTED + "sysctl -qw net.ipv4.conf.w1.forwarding=0",
        "r1 10.1.2.2",
        "forwarding-off",
        ("net.ipv4.conf.w1.forwarding = 0",),
    ),
    Case(
        "rp-filter-without-a-route-back",
        ROUTED
        + "sysctl -qw net.ipv4.conf.all.rp_filter=2; ip route del default\n"
        + "ip addr del 10.1.1.1/24 dev w1; ip addr add 10.1.1.1/32 dev w1",
        "r1 10.1.2.2",
        "rp-filter",
        ("10.1.1.2 by w1", "no route back"),
    ),
    Case(
        "a-ring-of-routers",
        ROUTED
        + "ip netns exec r2 sysctl -qw net.ipv4.ip_forward=1; ip route add 198.51.100.1 via 10.1.2.2\n"
        + "ip -n internet route add default via 198.51.100.2",
        "r1 198.51.100.1",
        "ttl",
        ("go round in a ring", "host by its route to 198.51.100.1/32 via 10.1.2.2", "r2 by its route to default"),
    ),
    Case(
        "a-short-time-to-live",
        ROUTED + "ip netns exec r1 sysctl -qw net.ipv4.ip_default_ttl=1",
        "r1 10.1.2.2",
        "ttl",
        ("over when it comes to host",),
    ),
    Case(
        "echoes-ignored",
        PLAIN + "ip netns exec ns2 sysctl -qw net.ipv4.icmp_echo_ignore_all=1",
        "ns1 ns2",
        "no-answer",
        ("reached ns2", "icmp_echo_ignore_all = 1"),
    ),
    Case(
        "listens-for-ipv6-alone",
        PLAIN + _serving("::", "socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1"),
        "ns1 10.0.0.2:80",
        "bound-elsewhere",
        ("only on ::", "not on 10.0.0.2"),
        None,
    ),
    Case(
        "listens-for-another-interface-alone",
        PLAIN + _serving("0.0.0.0", 'socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo"'),
        "ns1 10.0.0.2:80",
        "bound-elsewhere",
        ("in ns2 listens at port 80/tcp on 0.0.0.0", "what comes in by eth0", "SO_BINDTODEVICE"),
        None,
    ),
    Case(
        "listens-with-the-other-protocol-at-one-address",
        PLAIN + _serving("10.0.0.2", "socket.SOL_SOCKET, socket.SO_REUSEADDR, 1"),
        "--udp ns1 ns2:80",
        "other-protocol",
        ("ns2 listens at port 80 with TCP",),
        None,
    ),
    Case(
        "a-full-queue",
        PLAIN + _serving("10.0.0.2", "socket.SOL_SOCKET, socket.SO_REUSEADDR, 1", connections=1),
        "ns1 ns2:80",
        "no-answer",
        ("port 80", "queue is full, with 1 waiting"),
        None,
    ),
    Case(
        "six-disabled",
        PLAIN6 + "ip netns exec ns1 sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1",
        "ns1 fd00::2",
        "missing-address",
        ("no IPv6 on eth0 of ns1", "disable_ipv6 = 1"),
        tidy="ip -n ns1 addr add fd00::1/64 dev eth0 nodad",
    ),
    Case(
        "six-with-a-small-mtu",
        PLAIN6 + "ip -n ns1 link set eth0 mtu 1200",
        "ns1 fd00::2",
        "missing-address",
        ("no IPv6 on eth0 of ns1", "1200 is below 1280"),
        tidy="ip -n ns1 addr add fd00::1/64 dev eth0 nodad; ip -n ns2 link set eth0 mtu 1280; ip link set v2 mtu 1280",
    ),
    Case(
        "led-to-an-address-that-nobody-has",
        ROUTED + "iptables -t nat -A PREROUTING -d 10.1.1.1 -p tcp --dport 80 -j DNAT --to 10.1.2.99:80",
        "r1 10.1.1.1:80",
        "arp-failed",
        ("w2 on the host has the address 10.1.2.99",),
        None,
    ),
    Case("loopback-down", PLAIN + "ip -n ns1 link set lo down", "ns1 10.0.0.1", "interface-down", ("lo of ns1",)),
    Case(
        "refused-by-a-rule-for-a-mark",
        ROUTED
        + "ip rule add fwmark 5 table 78; ip route add blackhole default table 78\n"
        + "iptables -t mangle -A PREROUTING -i w1 -j MARK --set-mark 5",
        "r1 10.1.2.2",
        "no-route",
        ("routing on the host", "came in by w1", "marked"),
        None,
    ),
    Case(
        "refused-by-a-rule-for-a-mark-here",
        ROUTED
        + "ip -n r1 rule add fwmark 5 unreachable; ip netns exec r1 iptables -t mangle -A OUTPUT -j MARK --set-mark 5",
        "r1 10.1.2.2",
        "dropped-by-netfilter",
        ("in r1",),
        None,
    ),
    Case(
        "overlap-with-a-host-route",
        OURS
        + """
        ip netns add vpn; ip link add vpn0 type veth peer name far netns vpn; ip link set vpn0 up
        ip -n vpn link set far up; ip -n vpn addr add 192.168.77.1/24 dev far
        ip route add {b}/32 dev vpn0
        """,
        "host b",
        "overlap",
        ("vpn0", "{b}"),
    ),
    Case(
        "overlap-with-a-vpn",
        "fairlead network create --subnet 10.5.0.0/16 wide; fairlead netns add a; fairlead network connect wide a; "
        "ip link add vpn0 type veth peer name far; ip link set vpn0 up; ip link set far up; "
        "ip route add 10.5.7.0/24 dev vpn0",
        "a 10.5.7.9",
        "overlap",
        ("10.5.7.0/24", "vpn0", "overlaps"),
        None,
    ),
]
"""Causes, each the only thing that is wrong."""


class Traced:
    """What a trace said.  With FAIRLEAD_RECORD=DIRECTORY its observation is kept there, for the tests of verdicts."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.stdout, done.stderr
        self.code = done.returncode
        self.answer: dict[str, Any] = json.loads(done.stdout)
        self.verdict: dict[str, Any] = self.answer["Verdict"]
        self.sentence: str = self.verdict["Sentence"]
        assert self.code == (0 if self.verdict["Ok"] else 1)
        if directory := os.environ.get("FAIRLEAD_RECORD"):
            name = os.environ["PYTEST_CURRENT_TEST"].partition("::")[2].partition(" ")[0]
            name = name.removeprefix("test_").replace("[", "-").rstrip("]").replace("causes-", "")
            kept = {key: self.answer[key] for key in ("Verdict", "Observation")}
            number = len(list(Path(directory).glob(f"{name}*.json")))
            Path(directory, f"{name}{'-' + str(number) if number else ''}.json").write_text(json.dumps(kept))

    @property
    def said(self) -> tuple[str, str]:
        return self.verdict["Cause"], self.sentence

    @property
    def ways(self) -> list[tuple[str, str, str]]:
        return [
            (hop["Direction"], hop["NamespaceName"], hop.get("Interface", ""))
            for hop in self.answer["Hops"]
            if hop["Kind"] in ("send", "receive")
        ]


def trace(host: Host, arguments: str) -> Traced:
    return Traced(host.fairlead("trace", "--wait", "1", *arguments.split(), "--format", "json", check=False))


@pytest.fixture
def machine() -> Iterator[Host]:
    with Host() as one:
        one.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        yield one


def prepare(host: Host, script: str) -> dict[str, str]:
    """Run a setup in two parts: what it makes, and then, with the addresses known, what spoils it."""
    first, ours, rest = script.partition(OURS)
    known: dict[str, str] = {}
    if ours:
        host.sh(f"set -e\n{ours}")
        for name in ("a", "b", "c"):
            found = host.json("fairlead", "netns", "inspect", name)[0]
            known[name] = found["Endpoints"][0]["Addresses"][0].partition("/")[0]
            known[f"port_{name}"] = found["Endpoints"][0]["HostInterface"]
    host.sh(f"set -e\n{_filled(first + rest, known)}")
    return known


def _filled(text: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        text = text.replace("{" + name + "}", value)
    return text


ELSEWHERE = (
    "forward-policy-with-br-netfilter",
    "a-rule-of-nftables",
    "a-rule-of-a-device",
    "nothing-listening",
    "rp-filter-after-a-router",
    "blackhole",
    "filtered-answer",
    "ip-forward-off",
)
"""What is tried on Debian's stock kernel too, whose structures and reasons for drops are others."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=pytest.mark.vm) if case.name in ELSEWHERE else case for case in CASES],
    ids=lambda case: case.name,
)
def test_causes(machine: Host, case: Case) -> None:
    known = prepare(machine, case.setup)
    arguments = _filled(case.arguments, known)
    if case.name == "ip-forward-off":
        machine.fairlead("netns", "ls")  # Starts the daemon, which turns it on.
        machine.sh("sysctl -qw net.ipv4.ip_forward=0")
    before = machine.sh("nft list ruleset; for n in $(ls /run/netns); do ip netns exec $n nft list ruleset; done")
    found = trace(machine, arguments)
    assert found.verdict["Cause"] == case.cause, found.said
    for word in case.words:
        assert _filled(word, known) in found.sentence, found.said
    assert not found.verdict["Ok"]
    after = machine.sh("nft list ruleset; for n in $(ls /run/netns); do ip netns exec $n nft list ruleset; done")
    assert "fairlead_trace" not in after
    if "fairlead" in before:
        assert _uncounted(after) == _uncounted(before)
    if case.mend is not None:
        lines = found.verdict["Remedies"] if case.mend < 0 else [found.verdict["Remedies"][case.mend]]
        machine.sh("set -e\n" + "\n".join(lines) + "\n" + case.tidy)
        again = trace(machine, arguments)
        assert again.verdict["Ok"], (lines, again.said)


SERVE = "alpine httpd -f -p 80 -h /etc"


@pytest.fixture(scope="module")
def web() -> Iterator[Host]:
    """A host with the image; what a test makes there, it takes away by `system reset`, which keeps images."""
    with Host() as one:
        one.environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.sh("ip netns exec internet ip route add default via 198.51.100.2")
        yield one


@pytest.fixture
def clean(web: Host) -> Iterator[Host]:
    yield web
    web.sh(
        "fairlead rm -f $(fairlead ps -aq) 2>/dev/null; fairlead network prune -f 2>/dev/null; "
        "for n in $(fairlead netns ls -q); do fairlead netns rm $n; done; nft delete table inet own 2>/dev/null; "
        "nft delete table inet old 2>/dev/null; conntrack -F 2>/dev/null; ip link set eth0 mtu 1500",
        check=False,
    )


OWN = """
nft add table inet own
nft add chain inet own {hook} '{{ type filter hook {hook} priority 5; policy {policy}; }}'
nft add rule inet own {hook} ct state established,related accept
nft add rule inet own {hook} iifname lo accept
"""
"""A firewall as people write it, and ufw and firewalld have it."""

PUBLISHED = [
    Case(
        "published",
        f"fairlead run -d --name web -p 8080:80 {SERVE}",
        "internet 198.51.100.2:8080",
        "answered",
        ("accepts the connection", "eth0 on the host", "eth0 of web"),
        None,
    ),
    Case(
        "published-to-an-address",
        f"fairlead run -d --name web -p 127.0.0.1:8080:80 {SERVE}",
        "internet 198.51.100.2:8080",
        "bound-elsewhere",
        ("published by web", "only on 127.0.0.1", "not on 198.51.100.2"),
        None,
    ),
    Case(
        "published-for-another-protocol",
        f"fairlead run -d --name web -p 8080:80/udp {SERVE}",
        "internet 198.51.100.2:8080",
        "other-protocol",
        ("published by web for UDP, not for TCP",),
        None,
    ),
    Case(
        "published-for-tcp-asked-by-udp",
        f"fairlead run -d --name web -p 8080:80 {SERVE}",
        "--udp internet 198.51.100.2:8080",
        "other-protocol",
        ("published by web for TCP, not for UDP",),
        None,
    ),
    Case(
        "not-published",
        f"fairlead run -d --name web {SERVE}",
        "internet 198.51.100.2:8080",
        "nothing-listening",
        ("port 8080/tcp on the host",),
        None,
    ),
    Case(
        "published-but-nothing-listens",
        "fairlead run -d --name web -p 8080:81 alpine sleep 1000",
        "internet 198.51.100.2:8080",
        "nothing-listening",
        ("port 81/tcp in web", "reset"),
        None,
    ),
    Case(
        "listens-on-loopback-in-the-container",
        "fairlead run -d --name web -p 8080:80 alpine httpd -f -p 127.0.0.1:80 -h /etc",
        "internet 198.51.100.2:8080",
        "bound-elsewhere",
        ("A program in web listens at port 80/tcp, but only on 127.0.0.1",),
        None,
    ),
    Case(
        "published-behind-a-forward-rule",
        f"fairlead run -d --name web -p 8080:80 {SERVE}\n"
        + OWN.format(hook="forward", policy="accept")
        + "nft add rule inet own forward tcp dport 80 drop",
        "internet 198.51.100.2:8080",
        "forward-drop",
        ("chain inet own forward", "tcp dport 80 drop", "the administrator"),
    ),
    Case(
        "published-and-relayed-behind-an-input-policy",
        f"ip addr add 2001:db8:9::2/64 dev eth0 nodad; ip -n internet addr add 2001:db8:9::1/64 dev eth0 nodad\n"
        f"fairlead run -d --name web -p 8080:80 {SERVE}\n"
        + OWN.format(hook="input", policy="drop")
        + "nft add rule inet own input meta l4proto ipv6-icmp accept",
        "internet [2001:db8:9::2]:8080",
        "input-drop",
        ("policy of the chain inet own input", "on the host drops the request"),
    ),
    Case(
        "host-network-behind-an-input-policy",
        "fairlead run -d --name web --network host alpine httpd -f -p 8081 -h /etc\n"
        + OWN.format(hook="input", policy="drop"),
        "internet 198.51.100.2:8081",
        "input-drop",
        ("policy of the chain inet own input", "on the host drops the request"),
    ),
    Case(
        "asked-from-outside-at-its-own-address",
        f"fairlead run -d --name web {SERVE}",
        "internet web:80",
        "not-published",
        ("web in the network bridge", "nothing opens"),
        None,
    ),
    Case(
        "to-outside",
        "fairlead run -d --name web alpine sleep 1000",
        "web 8.8.8.8",
        "answered",
        ("8.8.8.8 answers", "eth0 of web", "eth0 on the host"),
        None,
    ),
]


@pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case.name)
def test_published_ports(clean: Host, case: Case) -> None:
    clean.sh(f"set -e\n{case.setup}")
    found = trace(clean, case.arguments)
    assert found.verdict["Cause"] == case.cause, found.said
    for word in case.words:
        assert word in found.sentence, found.said
    assert found.verdict["Ok"] == (case.cause == "answered")
    if case.mend is not None:
        clean.sh(f"set -e\n{found.verdict['Remedies'][case.mend]}")
        again = trace(clean, case.arguments)
        assert again.verdict["Ok"], (found.verdict["Remedies"], again.said)


@pytest.mark.parametrize("words", ["--icmp --size 1472", "--udp --size 1472 :99", ""], ids=["icmp", "udp", "small"])
def test_a_narrow_uplink(clean: Host, words: str) -> None:
    """With a size that size is tried, without one the trace finds out by itself."""
    clean.sh(
        f"set -e\nfairlead run -d --name web {SERVE}; ip link set eth0 mtu 1400; ip -n internet link set eth0 mtu 1400"
    )
    options, _, port = words.partition(" :")
    question = f"{options} web 8.8.8.8" + (f":{port}" if port else "")
    found = trace(clean, question)
    assert found.verdict["Cause"] == "mtu", found.said
    assert "of 1500 bytes that must not be fragmented does not fit through eth0 on the host" in found.sentence
    assert "carries 1400 bytes" in found.sentence
    clean.sh(f"set -e\n{found.verdict['Remedies'][0]}; ip -n internet link set eth0 mtu 1500")
    if not words:
        assert trace(clean, question).verdict["Ok"]
    again = trace(clean, f"--icmp --size {1472 if words else 1372} web 8.8.8.8")
    assert again.verdict["Cause"] == ("mtu" if words else "answered")
    if words:
        assert "does not fit into eth0 of web, which carries 1400 bytes" in again.sentence
        clean.sh(again.verdict["Remedies"][0] + " --format json")


def test_a_narrow_port_of_a_bridge_tells_nobody(machine: Host) -> None:
    machine.sh(PLAIN + "ip link set v2 mtu 1300; ip -n ns2 link set eth0 mtu 1300")
    found = trace(machine, "ns1 ns2")
    assert found.verdict["Cause"] == "mtu", found.said
    assert "v2 on the host, which carries 1300 bytes, and the sender is not told" in found.sentence, found.said
    machine.sh(found.verdict["Remedies"][0])
    assert trace(machine, "ns1 ns2").verdict["Ok"]


SEND_ONE = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 4444))
s.sendto(b"x", ("198.51.100.2", 5353))
"""

ECHO_UDP = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", 5353))
print("ready", flush=True)
while True:
    data, address = s.recvfrom(2000)
    s.sendto(data, address)
"""


@contextmanager
def redirected(host: Host, old: str) -> Iterator[None]:
    """Port 5353/udp of the host was led to 10.1.1.2, where nobody answers, and now is to 10.1.2.2.

    A program in the internet with the source port 4444 has known it since then.
    """
    host.sh(ROUTED + "ip netns exec internet ip route add default via 198.51.100.2; " + old)
    host.sh("nft add table ip own; nft add chain ip own p '{ type nat hook prerouting priority -150; }'")
    host.sh("nft add rule ip own p udp dport 5353 dnat to 10.1.1.2:5353")
    host.run("ip", "netns", "exec", "internet", sys.executable, "-c", SEND_ONE)
    host.sh("nft flush chain ip own p; nft add rule ip own p udp dport 5353 dnat to 10.1.2.2:5353")
    server = host.popen("ip", "netns", "exec", "r2", sys.executable, "-c", ECHO_UDP, stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("source_port", ["--source-port 4444 ", ""])
def test_a_stale_flow(machine: Host, source_port: str) -> None:
    question = f"--udp {source_port}internet 198.51.100.2:5353"
    with redirected(machine, "ip -n r1 addr flush dev eth0"):
        found = trace(machine, question)
        assert found.verdict["Cause"] == "stale-conntrack", found.said
        assert "still leads to 10.1.1.2:5353" in found.sentence
        assert "new ones go to 10.1.2.2:5353" in found.sentence
        assert found.sentence.startswith("New flows get through") == (not source_port)
        machine.sh(found.verdict["Remedies"][0])
        again = trace(machine, question)
        assert again.verdict["Cause"] == "answered", again.said


def test_a_flow_to_another_server_that_answers_is_no_fault(machine: Host) -> None:
    """As a balancer's."""
    with redirected(machine, ""):
        server = machine.popen("ip", "netns", "exec", "r1", sys.executable, "-c", ECHO_UDP, stdout=subprocess.PIPE)
        try:
            assert server.stdout is not None
            assert server.stdout.readline() == "ready\n"
            machine.run("ip", "netns", "exec", "internet", sys.executable, "-c", SEND_ONE)
            assert trace(machine, "--udp internet 198.51.100.2:5353").verdict["Cause"] == "answered"
        finally:
            server.kill()
            server.wait()


def test_the_way_and_its_times(machine: Host) -> None:
    known = prepare(machine, OURS)
    found = trace(machine, "a b")
    assert found.verdict["Ok"], found.said
    there = [
        ("request", "a", "eth0"),
        ("request", "host", known["port_a"]),
        ("request", "host", known["port_b"]),
        ("request", "b", "eth0"),
    ]
    back = [("reply", *where[1:]) for where in reversed(there)]
    assert found.ways == there + back
    times = [hop["Time"] for hop in found.answer["Hops"] if "Time" in hop]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 2_000_000
    assert "ms, by eth0 of a → " in found.sentence


def test_rules_and_rewritten_addresses_on_the_way(clean: Host) -> None:
    clean.sh(f"fairlead run -d --name web -p 8080:80 {SERVE}")
    found = trace(clean, "internet 198.51.100.2:8080")
    address = clean.json("fairlead", "inspect", "web")[0]["NetworkSettings"]["IPAddress"]
    said = [(hop["Direction"], hop["Text"]) for hop in found.answer["Hops"] if hop["Kind"] == "nat"]
    assert said == [
        ("request", f"destination 198.51.100.2:8080 → {address}:80"),
        ("reply", f"source {address}:80 → 198.51.100.2:8080"),
    ]
    rules = [hop for hop in found.answer["Hops"] if hop["Kind"] == "rule"]
    assert {(hop["Family"], hop["Table"], hop["Owner"]) for hop in rules} == {("inet", "fairlead", "Fairlead")}
    (redirect,) = [hop for hop in rules if "dnat ip to" in hop["Text"]]
    listed = clean.sh("nft -a list chain inet fairlead published")
    assert f"{redirect['Text']} # handle {redirect['Handle']}" in listed
    kinds = [hop["Kind"] for hop in found.answer["Hops"] if hop["NamespaceName"] == "host"]
    first, last = kinds.index("rule"), kinds.index("send")
    assert kinds[0] == "receive"
    assert first < last


def test_ipv6(machine: Host) -> None:
    machine.sh(
        "fairlead network create --ipv6 six; for n in a b; do fairlead netns add $n; "
        "fairlead network connect six $n; done"
    )
    found = machine.json("fairlead", "netns", "inspect", "b")[0]
    address = next(one for one in found["Endpoints"][0]["Addresses"] if ":" in one).partition("/")[0]
    assert trace(machine, f"a {address}").verdict["Ok"]
    refused = trace(machine, f"a [{address}]:80")
    assert refused.verdict["Cause"] == "nothing-listening", refused.said
    assert trace(machine, f"--udp a [{address}]:80").verdict["Cause"] == "nothing-listening"
    machine.sh(f"ip -n b -6 addr del {address}/64 dev eth0")
    lost = trace(machine, f"a {address}")
    assert lost.verdict["Cause"] == "wrong-address", lost.said
    machine.sh(lost.verdict["Remedies"][0])


def test_a_name_of_ipv6_alone(machine: Host) -> None:
    machine.sh(
        "fairlead network create --ipv4=false --ipv6 six; for n in a b; do fairlead netns add $n; "
        "fairlead network connect six $n; done"
    )
    found = trace(machine, "a b")
    assert found.verdict["Ok"], found.said
    assert found.answer["Name"]["Server"] == "127.0.0.11"
    assert found.answer["Name"]["Addresses"] == [found.answer["Address"]]
    assert ":" in found.answer["Address"]


def test_places_by_path_and_by_process(machine: Host) -> None:
    machine.sh(PLAIN)
    sleeper = machine.popen("ip", "netns", "exec", "ns2", "sleep", "100")
    try:
        time.sleep(0.2)
        for word in ("/run/netns/ns2", str(sleeper.pid)):
            found = trace(machine, f"ns1 {word}")
            assert found.verdict["Ok"], found.said
            assert found.answer["Address"] == "10.0.0.2"
    finally:
        sleeper.kill()
        sleeper.wait()


def test_a_container_of_another_engine(machine: Host) -> None:
    """Found by asking the engine that answers the Docker API at its usual place."""
    machine.sh(PLAIN)
    sleeper = machine.popen("ip", "netns", "exec", "ns2", "sleep", "100")
    machine.sh(
        "mount -t tmpfs tmpfs /var/run/podman 2>/dev/null || "
        "{ mkdir -p /var/run/podman && mount -t tmpfs tmpfs /var/run/podman; }"
    )
    engine = machine.popen(sys.executable, "-c", ENGINE, str(sleeper.pid), stdout=subprocess.PIPE)
    try:
        assert engine.stdout is not None
        assert engine.stdout.readline() == "ready\n"
        found = trace(machine, "ns1 theirs")
        assert found.verdict["Ok"], found.said
        assert found.answer["Address"] == "10.0.0.2"
        refused = machine.fairlead("trace", "ns1", "nobodys", check=False)
        assert refused.returncode == 1
    finally:
        for process in (engine, sleeper):
            process.kill()
            process.wait()


ENGINE = """
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("/run/podman/podman.sock")
server.listen()
print("ready", flush=True)
while True:
    client, _ = server.accept()
    asked = client.recv(4096).decode().split()[1]
    body = json.dumps({"State": {"Pid": int(sys.argv[1])}}) if asked == "/containers/theirs/json" else "{}"
    status = "200 OK" if asked == "/containers/theirs/json" else "404 Not Found"
    client.sendall(f"HTTP/1.0 {status}\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n{body}".encode())
    client.close()
"""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ("ns1", 2, "'trace' needs 2 arguments"),
        ("ns1 10.0.0.2:x", 2, "a port from 1 to 65535"),
        ("ns1 10.0.0.2:70000", 2, "a port from 1 to 65535"),
        ("--icmp ns1 10.0.0.2:80", 2, "an ICMP echo has no port"),
        ("--udp --icmp ns1 10.0.0.2", 2, "only one of --udp and --icmp"),
        ("--udp ns1 10.0.0.2", 1, "UDP needs a port"),
        ("--size 99 ns1 10.0.0.2:80", 1, "a TCP connection has no size"),
        ("--size 99999 ns1 10.0.0.2", 1, "0 to 65000 bytes"),
        ("--wait 99 ns1 10.0.0.2", 1, "0.1 to 30 seconds"),
        ("nosuch 10.0.0.2", 1, "No such container or namespace: nosuch"),
        ("/nosuch 10.0.0.2", 1, "No such network namespace: /nosuch"),
        ("/etc/passwd 10.0.0.2", 1, "/etc/passwd is not a network namespace"),
        ("999999999 10.0.0.2", 1, "No such process"),
        ("--format yaml ns1 10.0.0.2", 2, "only text and json"),
        ("--source-port 99999 ns1 10.0.0.2:80", 1, "invalid source port"),
    ],
)
def test_bad_questions(plain: Host, arguments: str, code: int, words: str) -> None:
    done = plain.fairlead("trace", *arguments.split(), check=False)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def plain() -> Iterator[Host]:
    with Host() as one:
        one.sh(PLAIN)
        yield one


def test_a_killed_daemon_leaves_no_rules(machine: Host) -> None:
    """They stand while a trace waits for an answer, and are gone with the process."""
    machine.sh(PLAIN + "iptables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    machine.fairlead("netns", "ls")
    daemon = int((machine.run_dir / "daemon.pid").read_text())
    waiting = machine.popen(
        "fairlead", "trace", "--wait", "20", "ns1", "ns2", stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        _eventually(lambda: "fairlead_trace" in machine.sh("nft list tables"))
        os.kill(daemon, signal.SIGKILL)
        _eventually(lambda: "fairlead_trace" not in machine.sh("nft list tables"))
        assert waiting.wait(10) == 1
    finally:
        waiting.kill()
        waiting.wait()


def test_an_interrupted_trace_leaves_no_rules(machine: Host) -> None:
    machine.sh(PLAIN + "iptables -P FORWARD DROP; sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    waiting = machine.popen(
        "fairlead", "trace", "--wait", "30", "ns1", "ns2", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _eventually(lambda: "fairlead_trace" in machine.sh("nft list tables"))
    waiting.send_signal(signal.SIGINT)
    assert waiting.wait(10) == 130
    _eventually(lambda: "fairlead_trace" not in machine.sh("nft list tables"), seconds=3)
    assert '"error"' not in (machine.run_dir / "daemon.log").read_text()


def test_several_at_once_do_not_mix(machine: Host) -> None:
    machine.sh(PLAIN + "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables -A FORWARD -j ACCEPT")
    machine.fairlead("netns", "ls")
    questions = ["ns1 ns2", "ns2 ns3", "ns3 ns1", "ns1 ns3"]
    running = [
        machine.popen("fairlead", "trace", "--format", "json", *question.split(), stdout=subprocess.PIPE)
        for question in questions
    ]
    for question, process in zip(questions, running, strict=True):
        answer = json.loads(process.communicate(timeout=30)[0])
        source, target = question.split()
        assert answer["Verdict"]["Ok"]
        assert {hop["NamespaceName"] for hop in answer["Hops"]} == {source, target, "host"}
        rules = [(hop["Direction"], hop["Chain"], hop["Handle"]) for hop in answer["Hops"] if hop["Kind"] == "rule"]
        assert len(rules) == len(set(rules)) > 0


UNDER_SIGNALS = """
import signal
from fairlead.kernel.packets import Mark, PacketWatch

PacketWatch(Mark(1)).close()
came = []
signal.signal(signal.SIGALRM, lambda *_: came.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
for _ in range(100):
    PacketWatch(Mark(1)).close()
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(came))
"""


def test_signals_do_not_keep_from_watching() -> None:
    """The kernel's verifier gives up where a signal waits for the thread; daemons get some when children end."""
    done = subprocess.run([sys.executable, "-c", UNDER_SIGNALS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20


def _eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


UPSTREAM = str(Path(__file__).parents[1] / "upstream.py")


@contextmanager
def upstream(host: Host, mode: str) -> Iterator[None]:
    """The host's name server, in the internet; it knows nx.test not to exist, or nothing at all."""
    resolv = host.directory / "resolv.conf"
    resolv.write_text("nameserver 198.51.100.1\n")
    host.sh(f"mount --bind {resolv} /etc/resolv.conf; ip netns exec internet ip route add default via 198.51.100.2")
    server = host.popen(
        "ip", "netns", "exec", "internet", sys.executable, UPSTREAM, "198.51.100.1", mode, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == "ready"
        yield
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize(
    ("mode", "source", "words"),
    [
        ("answer", "a", "127.0.0.11 knows no such name"),
        ("servfail", "a", "127.0.0.11 answers SERVFAIL"),
        ("answer", "host", "198.51.100.1 knows no such name"),
        ("refused", "host", "198.51.100.1 answers REFUSED"),
        ("silent", "host", "198.51.100.1 does not answer"),
    ],
)
def test_a_name_that_does_not_resolve(machine: Host, mode: str, source: str, words: str) -> None:
    with upstream(machine, mode):
        prepare(machine, OURS)
        found = trace(machine, f"{source} nx.test:80")
    assert found.verdict["Cause"] == "name-not-resolving", found.said
    assert "nx.test does not resolve" in found.sentence
    assert words in found.sentence, found.said
    assert not found.answer["Hops"]


def test_a_name_is_resolved_in_the_source(machine: Host) -> None:
    known = prepare(machine, OURS)
    machine.sh("fairlead network disconnect front b; fairlead network connect --alias db front b")
    found = trace(machine, "a db")
    assert found.verdict["Ok"], found.said
    assert found.answer["Address"] == known["b"]
    assert found.answer["Name"] == {"Name": "db", "Server": "127.0.0.11", "Addresses": [known["b"]]}


def _uncounted(ruleset: str) -> str:
    return "\n".join(line.partition("counter packets")[0] for line in ruleset.splitlines())
