"""VLAN interfaces, of Fairlead's networks and of others: how they are drawn, and how a trace goes through them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host

pytestmark = pytest.mark.vm

OURS = """
set -e
fairlead network create -d macvlan -o parent=eth0.10 --subnet 192.168.10.0/24 tagged
for n in a b; do fairlead netns add $n; done
fairlead network connect tagged a --ip 192.168.10.2
fairlead network connect tagged b --ip 192.168.10.3
"""

THEIRS = """
set -e
for id in 10 30; do
    ip -n internet link add link eth0 name eth0.$id type vlan id $id
    ip -n internet addr add 192.168.$id.1/24 dev eth0.$id
    ip -n internet link set eth0.$id up
done
# A port of a bridge is a VLAN of the uplink's.
ip link add link eth0 name eth0.30 type vlan id 30
ip link add br30 type bridge
ip link set eth0.30 master br30
ip link set eth0.30 up
ip link set br30 up
ip netns add x
ip link add vx type veth peer name eth0 netns x
ip link set vx master br30 up
ip -n x addr add 192.168.30.2/24 dev eth0
ip -n x link set eth0 up
# A VLAN on a bridge, and one on the other side of one of its cables.
ip link add br5 type bridge
ip link set br5 up
ip link add link br5 name br5.20 type vlan id 20
ip addr add 10.20.0.1/24 dev br5.20
ip link set br5.20 up
ip netns add z
ip link add vz type veth peer name eth0 netns z
ip link set vz master br5 up
ip -n z link set eth0 up
ip -n z link add link eth0 name eth0.20 type vlan id 20
ip -n z addr add 10.20.0.2/24 dev eth0.20
ip -n z link set eth0.20 up
ip -n z route add default via 10.20.0.1
# One that was moved away from the link on which it stands.
ip netns add w
ip link add link eth0 name eth0.40 type vlan id 40
ip link set eth0.40 netns w
ip -n w link set eth0.40 up
sleep 1
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        if one.run(
            "sh", "-c", "ip link add link eth0 name v9 type vlan id 9 && ip link del v9", check=False
        ).returncode:
            pytest.skip("this kernel has no VLAN interfaces")
        one.environment["PATH"] = f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"
        one.sh(OURS + THEIRS, timeout=200)
        yield one


def topology(host: Host, form: str) -> str:
    return host.fairlead("topology", "--format", form, timeout=100).stdout


def test_each_is_known_with_its_tag_and_what_it_stands_on(host: Host) -> None:
    found = {}
    for room in json.loads(topology(host, "json"))["Namespaces"]:
        for one in room["Interfaces"]:
            if one["Kind"] == "vlan":
                below = one["Parent"] and (one["Parent"]["Namespace"] == room["Id"], one["Parent"]["Interface"])
                found[room["Name"], one["Name"]] = (one["Data"]["id"], below, one["Mark"])
    wanted = {}
    for name in ("host", "internet", "x", "z", "w"):
        where = [] if name == "host" else ["-n", name]
        for link in host.json("ip", *where, "-d", "-j", "link"):
            if link.get("linkinfo", {}).get("info_kind") == "vlan":
                below = (True, link["link"]) if "link" in link else (False, "eth0")
                wanted[name, link["ifname"]] = (str(link["linkinfo"]["info_data"]["id"]), below, "")
    assert found == wanted
    assert len(found) == 7


def test_they_are_drawn_once_each_with_what_they_stand_on(host: Host) -> None:
    text = topology(host, "text")
    assert "see above" not in text
    for line in (
        "│ eth0.10  vlan 10 on eth0, network tagged ",
        "├─ eth0.30  vlan 30 on eth0 ",
        "│ br5.20  10.20.0.1/24  vlan 20 on br5 ",
        "│ eth0.20  10.20.0.2/24  vlan 20 on eth0 ",
        "┤ eth0.40  vlan 40 ",
        "┤ eth0  192.168.10.2/24  macvlan bridge ",
    ):
        assert text.count(line) == 1, line
    assert text.count("eth0.10 ") == 2, "the host's and the other side's"
    mermaid = topology(host, "mermaid").splitlines()
    for edge in (
        "host_peth0 -.- host_peth0_2e_10",
        'host_peth0 -.-|"eth0.30"| host_br30',
        "host_br5 -.- host_pbr5_2e_20",
    ):
        assert f"  {edge}" in mermaid
    dot = topology(host, "dot")
    for edge in ("host:peth0:s -- host_br30:peth0_2e_30:n [style=dashed];", "host_br5:head -- host:pbr5_2e_20:n"):
        assert edge in dot
    assert "vlan 10 on eth0, network tagged" in topology(host, "svg")
    part = host.fairlead("topology", "tagged", timeout=100).stdout
    assert "eth0.10  vlan 10 on eth0, network tagged" in part
    assert "br30" not in part


def trace(host: Host, words: str) -> dict[str, Any]:
    done = host.fairlead("trace", "--wait", "1", "--format", "json", *words.split(), check=False, timeout=100)
    verdict: dict[str, Any] = json.loads(done.stdout)["Verdict"]
    return verdict


UP = "eth0 on the host → eth0 of internet"
WAYS = {
    "a 192.168.10.1": f"eth0 of a → eth0.10 on the host → {UP} → eth0.10 of internet.",
    "a b": "eth0 of b.",
    "x 192.168.30.1": f"vx on the host → eth0.30 on the host → {UP} → eth0.30 of internet.",
    "z 10.20.0.1": "eth0.20 of z → eth0 of z → vz on the host → br5 on the host → br5.20 on the host.",
    "host 10.20.0.2": "br5.20 on the host → br5 on the host → vz on the host → eth0 of z → eth0.20 of z.",
}


@pytest.mark.parametrize("words", WAYS)
def test_the_way_through_them(host: Host, words: str) -> None:
    found = trace(host, words)
    assert found["Ok"], found
    assert found["Sentence"].endswith(WAYS[words])


def mended(host: Host, words: str, cause: str, says: str) -> None:
    found = trace(host, words)
    assert (found["Cause"], found["Ok"]) == (cause, False), found
    assert says in found["Sentence"], found
    host.sh(found["Remedies"][0])
    assert trace(host, words)["Ok"], found


def test_what_goes_on_behind_a_vlan_is_followed(host: Host) -> None:
    """The answer's way back: it is missing where the last router knows nothing of the VLAN's addresses."""
    host.sh("sysctl -qw net.ipv4.ip_forward=1; nft add table inet own; sleep 0.2")
    found = trace(host, "z 8.8.8.8")
    assert found["Cause"] == "no-route", found
    assert "There is no route in internet to 10.20.0.2 on the way back" in found["Sentence"]
    host.sh(found["Remedies"][0])
    assert trace(host, "z 8.8.8.8")["Ok"]


def test_what_a_vlan_stands_on_is_down(host: Host) -> None:
    host.sh("ip -n z link set eth0 down")
    mended(host, "z 10.20.0.1", "interface-down", "eth0 of z, on which eth0.20 stands, is down")


def test_another_tag_on_the_other_side(host: Host) -> None:
    host.sh("ip link del br5.20; ip link add link br5 name br5.21 type vlan id 21")
    host.sh("ip addr add 10.20.0.1/24 dev br5.21; ip link set br5.21 up; sleep 0.5")
    found = trace(host, "z 10.20.0.1")
    assert found["Cause"] == "arp-failed", found
    assert "br5.21 on the host (VLAN 21 instead of 20) has it, but is not on this wire" in found["Sentence"]
