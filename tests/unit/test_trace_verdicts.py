"""Verdicts on recorded observations, and what they are made of: packets' headers, rules as nft writes them, the way.

`trace/observations.jsonl` was recorded by tests/kernel/test_trace.py (FAIRLEAD_RECORD=DIRECTORY), one line for each
cause.
"""

from __future__ import annotations

import json
import struct
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.api.trace import shape
from fairlead.cli.flags import Failure
from fairlead.cli.trace import lines, parse_destination
from fairlead.errors import Invalid
from fairlead.kernel.nftrace import Event, Rule, Ruleset
from fairlead.kernel.packets import DROP, RECEIVE, SEND, Mark, Sight
from fairlead.see.trace.model import Asked, Hop, Observation, Outcome, Trace
from fairlead.see.trace.questions import is_question
from fairlead.see.trace.run import check
from fairlead.see.trace.verdict import CAUSES, judge
from fairlead.see.trace.way import Seen, owner_of, parse, way_of

RECORDED: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parent / "trace" / "observations.jsonl").read_text().splitlines()
]


def observed(name: str) -> Observation:
    (found,) = [one["Observation"] for one in RECORDED if one["Name"] == name]
    return msgspec.convert(found, Observation)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda one: one["Name"])
def test_verdicts(recorded: dict[str, Any]) -> None:
    verdict = judge(msgspec.convert(recorded["Observation"], Observation))
    assert (verdict.cause, verdict.ok) == (recorded["Cause"], recorded["Ok"])
    assert list(verdict.remedies) == recorded["Remedies"]
    assert verdict.sentence.endswith(".")
    assert verdict.ok or verdict.remedies


def test_every_cause_of_the_issue_is_recorded() -> None:
    assert {one["Cause"] for one in RECORDED} >= {
        "answered", "arp-failed", "bound-elsewhere", "bridge-netfilter", "duplicate-address", "forward-drop",
        "forwarding-off", "icc-off", "input-drop", "interface-down", "internal-network", "missing-address", "mtu",
        "name-not-resolving", "networks-isolated", "no-carrier", "no-route", "not-published", "nothing-listening",
        "other-protocol", "output-drop", "overlap", "port-without-master", "rp-filter", "stale-conntrack",
        "wrong-address", "wrong-gateway",
    }  # fmt: skip


def test_an_answer_that_came_when_nobody_waited_any_more() -> None:
    seen = observed("published")
    silent = msgspec.structs.replace(seen, outcome=Outcome(kind="silence", milliseconds=0.001))
    verdict = judge(silent)
    assert (verdict.cause, verdict.ok) == ("late-answer", False)
    assert "longer than the trace waited (2 s)" in verdict.sentence
    assert verdict.remedies == ("fairlead trace --wait 2 internet 198.51.100.2:8080",)
    in_time = msgspec.structs.replace(seen, outcome=Outcome(kind="silence", milliseconds=2000))
    assert judge(in_time).cause == "reply-lost"


def test_a_kernel_that_has_refused_enough_and_says_so_no_more() -> None:
    """ICMP port unreachables are limited: after six the seventh question is dropped without a word."""
    seen = observed("nothing-listening-udp")
    hops = tuple(hop for hop in seen.hops if hop.direction == "request")
    drop = Hop(direction="request", namespace=seen.reached, kind="drop", interface="eth0", reason="NO_SOCKET")
    silent = msgspec.structs.replace(seen, hops=(*hops, drop), outcome=Outcome(kind="silence", milliseconds=2000))
    verdict = judge(silent)
    assert verdict.cause == "nothing-listening"
    assert "nothing listens at port 81/udp in ns2" in verdict.sentence
    assert "only some" in verdict.sentence


@pytest.mark.parametrize("cause", CAUSES, ids=lambda cause: cause.__name__)
def test_a_cause_reads_any_observation(cause: Any) -> None:
    """Also where it does not fit, and where little is known."""
    for recorded in RECORDED:
        seen = msgspec.convert(recorded["Observation"], Observation)
        cause(seen)
        cause(msgspec.structs.replace(seen, hops=(), ports=(), places=(), memberships=(), sockets=None))


def test_without_watching_packets_the_facts_still_tell() -> None:
    """On a kernel that lets nobody watch."""
    for name, cause in (
        ("own-interface-down", "interface-down"),
        ("their-port-without-master", "port-without-master"),
        ("no-route", "no-route"),
        ("nothing-listening", "nothing-listening"),
        ("arp-nobody", "arp-failed"),
        ("rp-filter-after-a-router", "rp-filter"),
    ):
        seen = msgspec.structs.replace(observed(name), hops=(), notes=("packets were not watched: no BTF",))
        assert judge(seen).cause == cause, name


def test_what_is_not_understood_is_said_so() -> None:
    seen = msgspec.structs.replace(observed("forward-policy-routed"), hops=(), notes=("packets were not watched",))
    verdict = judge(seen)
    assert not verdict.ok
    assert "packets could not be watched on this kernel" in verdict.sentence


def test_a_trace_for_people() -> None:
    seen = observed("published-behind-a-forward-rule")
    text = "\n".join(lines(shape(Trace(observation=seen, verdict=judge(seen)))))
    assert text.startswith("internet → 198.51.100.2:8080, TCP\n  request  198.51.100.1:")
    assert "✘ inet own forward handle" in text
    assert "✘ dropped by the kernel: NETFILTER_DROP" in text
    assert "⇄ destination 198.51.100.2:8080 → 172.17.0." in text
    assert "\n\n✘ The rule " in text
    assert "  remedy: nft insert rule inet own forward " in text


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("web", ("web", 0)),
        ("web:80", ("web", 80)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("fd00::1", ("fd00::1", 0)),
        ("[fd00::1]", ("fd00::1", 0)),
        ("[fd00::1]:80", ("fd00::1", 80)),
        ("/run/netns/a", ("/run/netns/a", 0)),
    ],
)
def test_destinations(text: str, found: tuple[str, int]) -> None:
    assert parse_destination(text) == found


@pytest.mark.parametrize("text", ["web:", "web:0", "web:65536", "web:http", "[fd00::1", "[fd00::1]80", "[fd00::1]:"])
def test_destinations_that_are_none(text: str) -> None:
    if text == "[fd00::1]:":
        with pytest.raises(Failure, match="after the colon"):
            parse_destination(text)
        return
    with pytest.raises(Failure, match="invalid destination"):
        parse_destination(text)


@pytest.mark.parametrize(
    "asked",
    [
        Asked(source="a", destination="b"),
        Asked(source="", destination="b", port=1),
        Asked(source="a", destination="b", protocol="icmp", port=1),
        Asked(source="a", destination="b", port=1, size=1),
        Asked(source="a", destination="b", port=1, source_port=-1),
        Asked(source="a", destination="b", port=1, patience=0),
        Asked(source="a", destination="b", protocol="icmp", size=-1),
    ],
)
def test_questions_that_cannot_be_asked(asked: Asked) -> None:
    with pytest.raises(Invalid):
        check(asked)


# Packets

MARK = Mark(cookie=0x01020304, udp_port=5000)
A, B = "10.0.0.1", "10.0.0.2"


def ipv4(source: str, destination: str, protocol: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0)
    return head + ip_address(source).packed + ip_address(destination).packed + body.ljust(40, b"\0")


def syn(source: str = A, destination: str = B, port: int = 80) -> bytes:
    return ipv4(source, destination, 6, struct.pack("!HHIIH", 4000, port, MARK.cookie, 0, 0x5002))


def syn_ack(source: str = B, destination: str = A) -> bytes:
    return ipv4(source, destination, 6, struct.pack("!HHIIH", 80, 4000, 7, MARK.cookie + 1, 0x5012))


def test_headers() -> None:
    there, back = parse(syn(), MARK), parse(syn_ack(), MARK)
    assert there
    assert (there.direction, there.source, there.destination) == ("request", "10.0.0.1:4000", "10.0.0.2:80")
    assert back
    assert back.direction == "reply"
    told = parse(ipv4("10.0.0.9", A, 1, struct.pack("!BBHI", 3, 4, 0, 0) + syn()), MARK)
    assert told
    assert (told.direction, told.icmp, told.source) == ("error", "3/4", "10.0.0.9")
    echo = parse(ipv4(B, A, 1, struct.pack("!BBHHHI", 0, 0, 0, 1, 1, MARK.cookie)), MARK)
    assert echo
    assert echo.direction == "reply"
    datagram = parse(ipv4(B, A, 17, struct.pack("!HHHHI", 53, 5000, 12, 0, MARK.cookie)), MARK)
    assert datagram
    assert datagram.direction == "reply"
    six = bytes((0x60, 0, 0, 0, 0, 20, 6, 64)) + ip_address("fd00::1").packed + ip_address("fd00::2").packed
    found = parse(six + struct.pack("!HHIIH", 1, 2, MARK.cookie, 0, 0).ljust(40, b"\0"), MARK)
    assert found
    assert (found.source, found.destination) == ("[fd00::1]:1", "[fd00::2]:2")
    others = [
        ipv4(A, B, 6, struct.pack("!HHIIH", 4000, 80, 7, 8, 0x5002)),
        ipv4(A, B, 1, struct.pack("!BBHHHI", 8, 0, 0, 1, 1, 7)),
        ipv4(A, B, 17, struct.pack("!HHHHI", 5000, 53, 12, 0, 7)),
    ]
    for other in (b"", b"\x45", b"\x00" * 60, syn()[:20], *others):
        assert parse(other, MARK) is None


# Rules

LISTING = """\
table ip filter { # handle 3
	chain FORWARD { # handle 1
		type filter hook forward priority filter; policy drop;
		counter packets 0 bytes 0 jump DOCKER-USER # handle 5
		iifname "br-1" counter packets 0 bytes 0 accept comment "fairlead:br-1" # handle 9
	}
	chain DOCKER-USER { # handle 4
	}
	chain ufw-user-input { # handle 6
		tcp dport 22 counter packets 1 bytes 60 accept # handle 7
	}
}
table inet fairlead { # handle 8
	map ports4 { # handle 2
		type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service
	}
	chain forward { # handle 10
		type filter hook forward priority filter; policy accept;
		ct state established,related accept # handle 46
	}
}
table bridge own {
	chain p {
		type filter hook prerouting priority dstnat + 10; policy accept;
	}
}
table inet fairlead_trace_1_2 { # handle 9 progname fairlead-nft
	flags owner
	chain output { # handle 1
		type filter hook output priority -2000000000; policy accept;
	}
}
"""


def test_a_ruleset_as_nft_writes_it() -> None:
    ruleset = Ruleset(LISTING)
    assert ruleset.rules["ip", "filter", "FORWARD", 5].text == "counter packets 0 bytes 0 jump DOCKER-USER"
    assert ruleset.rules["inet", "fairlead", "forward", 46].text == "ct state established,related accept"
    assert len(ruleset.rules) == 4
    forward = ruleset.chains["ip", "filter", "FORWARD"]
    assert (forward.hook, forward.priority, forward.policy) == ("forward", "filter", "drop")
    assert ruleset.chains["bridge", "own", "p"].priority == "dstnat + 10"
    assert ruleset.families == {"ip", "inet", "bridge"}


@pytest.mark.parametrize(
    ("family", "table", "chain", "handle", "owner"),
    [
        ("ip", "filter", "FORWARD", 5, "Docker"),
        ("ip", "filter", "FORWARD", 9, "Fairlead"),
        ("ip", "filter", "FORWARD", 0, "ufw"),
        ("ip", "filter", "ufw-user-input", 7, "ufw"),
        ("inet", "fairlead", "forward", 46, "Fairlead"),
        ("inet", "firewalld", "filter_INPUT", 1, "firewalld"),
        ("bridge", "own", "p", 1, "the administrator"),
        ("ip", "nat", "KUBE-SERVICES", 1, "Kubernetes"),
        ("ip", "nat", "PREROUTING", 1, "iptables"),
        ("inet", "netavark", "INPUT", 1, "podman"),
        ("ip", "docker-bridges", "filter-FORWARD", 1, "Docker"),
    ],
)
def test_whose_a_rule_is(family: str, table: str, chain: str, handle: int, owner: str) -> None:
    ruleset = Ruleset(LISTING)
    rule = ruleset.rules.get((family, table, chain, handle))
    if handle and rule is None:
        rule = Rule(family, table, chain, handle, "accept")
    assert owner_of(ruleset, family, table, chain, rule) == owner


# The way

LINKS = {(1, 2): "eth0", (9, 2): "v1", (9, 3): "v2", (9, 4): "br0", (5, 2): "eth0"}


def seen(sights: list[Sight], events: dict[int, list[Event]] | None = None) -> Seen:
    rulesets = {inode: Ruleset(LISTING) for inode in events or {}}
    return Seen(sights, events or {}, rulesets, MARK, 1000, lambda inode, index: LINKS.get((inode, index), ""))


def sight(time: int, kind: int, namespace: int, index: int, headers: bytes, reason: str = "") -> Sight:
    return Sight(1000 + time, kind, 77, index, namespace, 60, headers, reason)


def event(kind: str, chain: str, handle: int, verdict: str, index_in: int, index_out: int, headers: bytes) -> Event:
    return Event(1, "ip", "filter", chain, kind, handle, verdict, "", index_in, index_out, headers)


def short(sights: list[Sight], events: dict[int, list[Event]] | None = None, *, answered: bool = False) -> list[str]:
    hops = way_of(seen(sights, events), answered=answered)
    return [f"{hop.kind} {hop.namespace} {hop.interface or hop.text or hop.reason}".strip() for hop in hops]


def test_a_rule_stands_between_the_interfaces_that_it_judged() -> None:
    sights = [
        sight(0, SEND, 1, 2, syn()),
        sight(9_000, RECEIVE, 9, 2, syn()),
        sight(20_000, DROP, 9, 2, syn(), "NETFILTER_DROP"),
    ]
    policy = event("policy", "FORWARD", 0, "drop", 2, 3, syn())
    found = short(sights, {9: [policy]})
    assert found == ["send 1 eth0", "receive 9 v1", "rule 9 v1", "drop 9 v1"]


def test_changed_addresses_are_told_before_the_first_sight_of_them() -> None:
    sights = [
        sight(0, RECEIVE, 9, 2, syn(port=8080)),
        sight(5, SEND, 9, 4, syn(destination="172.17.0.2")),
        sight(6, SEND, 9, 3, syn(destination="172.17.0.2")),
    ]
    assert short(sights) == [
        "receive 9 v1", "nat 9 destination 10.0.0.2:8080 → 172.17.0.2:80", "send 9 br0", "send 9 v2",
    ]  # fmt: skip


def test_a_second_try_of_tcp_is_left_out() -> None:
    once = [sight(0, SEND, 1, 2, syn()), sight(5, RECEIVE, 9, 2, syn())]
    again = [
        sight(time + 1_000_000_000, kind, space, 2, syn()) for time, kind, space in ((0, SEND, 1), (5, RECEIVE, 9))
    ]
    assert short(once + again) == short(once) == ["send 1 eth0", "receive 9 v1"]


def test_drops_that_are_no_fault_are_left_out() -> None:
    sights = [sight(0, SEND, 1, 2, syn()), sight(1, DROP, 5, 2, syn(), "OTHERHOST")]
    assert short(sights, answered=True) == ["send 1 eth0"]
    assert short([sights[0], sight(2, DROP, 1, 2, syn(), "QUEUE_PURGE")]) == ["send 1 eth0"]


def test_a_refused_request_ends_before_the_answer() -> None:
    """Though the kernel frees it after it has sent the reset."""
    sights = [
        sight(0, RECEIVE, 5, 2, syn()),
        sight(10_000, SEND, 5, 2, syn_ack()),
        sight(20_000, DROP, 5, 2, syn(), "NO_SOCKET"),
    ]
    assert short(sights) == ["receive 5 eth0", "drop 5 eth0", "send 5 eth0"]


def test_questions_for_a_hardware_address() -> None:
    one, two = ip_address("10.0.0.1"), ip_address("10.0.0.2")
    arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x800, 6, 4, 1, b"mac-of", one.packed, bytes(6), two.packed)
    assert is_question(arp, two)
    assert is_question(arp, one), "as an answer would tell it"
    assert not is_question(arp, ip_address("10.0.0.3"))
    ipv4 = bytes((0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0)) + one.packed + two.packed + bytes(8)
    assert not is_question(ipv4, two)
    six = ip_address("fd00::1")
    solicitation = struct.pack("!IHBB16s16sB", 6 << 28, 32, 58, 255, six.packed, six.packed, 135) + bytes(19)
    assert is_question(solicitation, six)
    assert not is_question(solicitation[:40] + b"\x80" + solicitation[41:], six), "an echo"
