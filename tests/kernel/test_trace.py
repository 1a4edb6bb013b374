"""Every cause that a trace must name, made on a real kernel; where it can be, the remedy is run and must help."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import Host, images

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

ROUTED = """
for n in 1 2; do
    ip netns add r$n
    ip link add w$n type veth peer name eth0 netns r$n
    ip addr add 10.1.$n.1/24 dev w$n
    ip link set w$n up
    ip -n r$n link set lo up
    ip -n r$n addr add 10.1.$n.2/24 dev eth0
    ip -n r$n link set eth0 up
    ip -n r$n route add default via 10.1.$n.1
done
sysctl -qw net.ipv4.ip_forward=1
"""
"""Two namespaces with the host as their router."""

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
        "forward-policy-routed",
        ROUTED + "iptables -P FORWARD DROP",
        "r1 10.1.2.2",
        "forward-drop",
        ("policy of the chain ip filter FORWARD", "iptables"),
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
    """What a trace said."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.stdout, done.stderr
        self.code = done.returncode
        self.answer: dict[str, Any] = json.loads(done.stdout)
        self.verdict: dict[str, Any] = self.answer["Verdict"]
        self.sentence: str = self.verdict["Sentence"]
        assert self.code == (0 if self.verdict["Ok"] else 1)

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
    return Traced(host.fairlead("trace", *arguments.split(), "--format", "json", check=False))


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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
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
