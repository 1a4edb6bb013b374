"""Bridges that filter VLANs: how they are drawn, and what a trace through them names as the cause."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host

pytestmark = pytest.mark.vm

FILTERED = """
set -e
ip link del br0 2>/dev/null || true
for n in 1 2 3; do ip netns del ns$n 2>/dev/null || true; done
for n in 1 2 3; do ip link del v$n 2>/dev/null || true; done
ip link add br0 type bridge vlan_filtering 1
ip link set br0 up
for n in 1 2 3; do
    ip netns add ns$n
    ip link add v$n type veth peer name eth0 netns ns$n
    ip link set v$n master br0 up
    ip -n ns$n addr add 10.0.0.$n/24 dev eth0
    ip -n ns$n link set eth0 up
done
"""
"""Three namespaces on a bridge, all ports in VLAN 1 and without tags."""

TRUNK = """
for n in 1 2; do bridge vlan del dev v$n vid 1; bridge vlan add dev v$n vid 10 pvid untagged; done
ip -n ns1 addr flush dev eth0; ip -n ns1 link add link eth0 name eth0.10 type vlan id 10
ip -n ns1 addr add 10.0.0.1/24 dev eth0.10; ip -n ns1 link set eth0.10 up
bridge vlan add dev v1 vid 10
"""
"""ns1 sends with the tag 10, ns2 without any: the bridge takes it off, and puts it on."""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.sh("ip link add br0 type bridge vlan_filtering 1; ip link add v1 type veth peer name v2")
        if (
            one.run("ip", "link", "set", "v1", "master", "br0", check=False).returncode
            or one.run("bridge", "vlan", "add", "dev", "v1", "vid", "9", check=False).returncode
        ):
            pytest.skip("this kernel's bridges do not filter VLANs")
        one.environment["PATH"] = f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"
        one.fairlead("netns", "ls", timeout=100)
        yield one


def trace(host: Host, arguments: str) -> dict[str, Any]:
    done = host.fairlead("trace", *arguments.split(), "--format", "json", check=False, timeout=100)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


CASES = [
    pytest.param(
        "bridge vlan del dev v1 vid 1; bridge vlan add dev v1 vid 10 pvid untagged",
        "ns1 ns2",
        ("br0 on the host", "VLAN 10", "v2 on the host", "is in VLAN 1:"),
        id="a-port-in-another-vlan",
    ),
    pytest.param(
        "ip addr add 10.0.0.9/24 dev br0; bridge vlan del dev v1 vid 1; bridge vlan add dev v1 vid 10 pvid untagged",
        "host ns1",
        ("VLAN 1", "v1 on the host", "is in VLAN 10:"),
        id="the-bridge-in-another-vlan",
    ),
    pytest.param(
        "ip addr add 10.0.0.9/24 dev br0; bridge vlan del dev br0 vid 1 self",
        "ns1 10.0.0.9",
        ("VLAN 1", "br0 itself is in no VLAN"),
        id="the-bridge-in-no-vlan",
    ),
    pytest.param(
        "bridge vlan add dev v1 vid 1 untagged",
        "ns1 ns2",
        ("v1 on the host", "without a tag", "VLAN 1"),
        id="a-port-without-a-vlan-of-its-own",
    ),
    pytest.param(
        "bridge vlan add dev v2 vid 10 pvid untagged",
        "ns1 ns2",
        ("VLAN 10", "v1 on the host", "is in VLAN 1:"),
        id="a-port-that-is-not-in-the-vlan-of-the-answer",
    ),
    pytest.param(
        TRUNK + "bridge vlan del dev v1 vid 10",
        "ns1 ns2",
        ("VLAN 10", "v1 on the host", "is in no VLAN"),
        id="a-tag-that-a-port-does-not-take",
    ),
    pytest.param(
        TRUNK + "bridge vlan add dev v2 vid 10 pvid",
        "ns1 ns2",
        ("VLAN 10", "v2 on the host", "with their tag, which ns2 does not expect"),
        id="a-tag-that-a-port-leaves-on",
    ),
    pytest.param(
        TRUNK + "bridge vlan add dev v1 vid 10 untagged",
        "ns2 10.0.0.1",
        ("VLAN 10", "v1 on the host", "without their tag, which ns1 expects"),
        id="a-tag-that-a-port-takes-off",
    ),
]
"""What is done to the bridge, what is asked, and words of the verdict."""


@pytest.mark.parametrize(("spoil", "arguments", "words"), CASES)
def test_causes(host: Host, spoil: str, arguments: str, words: tuple[str, ...]) -> None:
    host.sh(FILTERED + spoil)
    verdict = trace(host, arguments)["Verdict"]
    assert verdict["Cause"] == "vlan-filtered", verdict
    for word in words:
        assert word in verdict["Sentence"], verdict
    host.sh(verdict["Remedies"][0])
    again = trace(host, arguments)["Verdict"]
    assert again["Ok"], (verdict, again)


@pytest.mark.parametrize("more", ["", TRUNK], ids=["untagged", "trunk"])
def test_what_passes(host: Host, more: str) -> None:
    host.sh(FILTERED + more)
    for arguments in ("ns1 ns2", "ns2 10.0.0.1"):
        found = trace(host, arguments)
        assert found["Verdict"]["Ok"], found["Verdict"]
        assert {"v1", "v2"} <= {hop.get("Interface") for hop in found["Hops"]}


def test_one_address_in_two_vlans(host: Host) -> None:
    """Only who is in the sender's VLAN is meant."""
    host.sh(
        FILTERED + "bridge vlan add dev v2 vid 10 pvid untagged; bridge vlan del dev v2 vid 1;"
        "ip -n ns2 addr flush dev eth0; ip -n ns2 addr add 10.0.0.3/24 dev eth0"
    )
    found = trace(host, "ns1 10.0.0.3")
    assert found["Verdict"]["Ok"], found["Verdict"]
    assert ("ns3", "receive") in {(hop["NamespaceName"], hop["Kind"]) for hop in found["Hops"]}
    assert "ns2" not in {hop["NamespaceName"] for hop in found["Hops"]}


def drawn(host: Host, *words: str) -> str:
    return host.fairlead("topology", *words, timeout=100).stdout


def test_each_port_is_drawn_with_its_vlans(host: Host) -> None:
    host.sh(
        "set -e; ip link add br8 type bridge vlan_filtering 1; ip link set br8 up; bridge vlan add dev br8 vid 10 self;"
        "for n in 1 2 3; do ip netns add f$n; ip link add u$n type veth peer name eth0 netns f$n;"
        "  ip link set u$n master br8 up; ip -n f$n link set eth0 up; done;"
        "bridge vlan add dev u2 vid 10; bridge vlan add dev u2 vid 20-22; bridge vlan add dev u2 vid 40 untagged;"
        "bridge vlan del dev u3 vid 1; ip link add eth9 type dummy; ip link set eth9 master br8 up;"
        "ip link add plain type bridge; ip link add p1 type dummy; ip link set p1 master plain"
    )
    ports = {one["Name"]: one for one in json.loads(drawn(host, "--format", "json"))["Namespaces"][0]["Interfaces"]}
    one = {"First": 1, "Last": 1, "Pvid": True, "Untagged": True}
    assert ports["u1"]["Vlans"] == ports["eth9"]["Vlans"] == [one]
    assert ports["u2"]["Vlans"] == [
        one,
        {"First": 10, "Last": 10, "Pvid": False, "Untagged": False},
        {"First": 20, "Last": 22, "Pvid": False, "Untagged": False},
        {"First": 40, "Last": 40, "Pvid": False, "Untagged": True},
    ]
    assert ports["u3"]["Vlans"] == []
    assert ports["br8"]["Data"] == {"vlan_filtering": "1"}
    assert ports["p1"]["Vlans"] is ports["plain"]["Vlans"] is None, "of a bridge that does not filter"
    text = drawn(host)
    assert re.search(r"br8  bridge that filters VLANs, vlan 1, tagged 10\b", text), text
    assert re.search(r"├─ u1 ─+┤ eth0 .*\n│ +│ +vlan 1 ", text), text
    assert re.search(r"├─ u2 ─+┤ eth0 .*\n│ +│ +vlan 1, tagged 10,20-22, untagge… ", text), text
    assert re.search(r"─ u3 ─+┤ eth0 .*\n│ .*no vlan ", text), text
    assert re.search(r"─ eth9  dummy, vlan 1 ", text), text
    assert {len(line) for line in text.splitlines() if line.startswith("│")} == {80}
    for format_ in ("mermaid", "dot"):
        assert "vlan 1, tagged 10" in drawn(host, "--format", format_)
    host.sh("for n in $(seq 4 20); do ip netns add f$n; done")
    assert re.search(r"├─ u2 \(vlan 1, tagged 10,20-22, untagged 40\) *── f2  eth0", drawn(host))
