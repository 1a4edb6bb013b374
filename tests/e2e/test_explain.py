"""What `--explain` prints, typed by hand on a fresh host, builds what the command builds."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lab import Host

NAMESPACES = [
    ["netns", "add", "ns0"],
    ["netns", "add", "ns1"],
    ["link", "add", "ns0/vth0", "ns1/vth1", "--ip", "172.0.0.2/24", "--peer-ip", "172.0.0.3/24"],
]
BRIDGE = [
    ["netns", "add", "ns0"],
    ["netns", "add", "ns1"],
    ["network", "create", "br0", "--subnet", "10.0.0.0/24", "-o", "com.docker.network.bridge.name=br0"],
    ["network", "connect", "br0", "ns0", "--ip", "10.0.0.2"],
    ["network", "connect", "br0", "ns1"],
]


def kernel_state(host: Host) -> dict[str, Any]:
    """Links, addresses and routes of the host and its namespaces, and the rules; what the kernel chose left out."""
    found: dict[str, Any] = {}
    for name in ["", *sorted(host.sh("ip netns ls | cut -d' ' -f1").split())]:
        if name == "internet":
            continue
        where = ["-n", name] if name else []
        links = {}
        for link in host.json("ip", *where, "-d", "-j", "addr"):
            # These are the kernel's choice, or follow from an id that is new each time.
            random = link["ifname"] in ("vth0", "vth1", "br0") or (not name and link["ifname"] != "fairlead0")
            links[re.sub("^veth.*", "veth", link["ifname"])] = {
                "up": "UP" in link["flags"],
                "mac": "" if random else link["address"],
                "mtu": link["mtu"],
                "kind": link.get("linkinfo", {}).get("info_kind"),
                "hairpin": link.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"),
                "master": link.get("master"),
                "marked": link.get("ifalias", "").startswith("fairlead:"),
                "addresses": sorted(
                    f"{a['local']}/{a['prefixlen']} {a.get('broadcast')}"
                    for a in link["addr_info"]
                    if not a["local"].startswith("fe80")
                ),
            }
        # Whether a route is ``linkdown`` the kernel notices in its own time (linkwatch), also after a command ended.
        routes = [route | {"flags": []} for route in host.json("ip", *where, "-j", "route")]
        found[name] = (links, sorted(json.dumps(route, sort_keys=True) for route in routes))
    found["rules"] = host.sh("nft list ruleset")
    found["forward"] = host.sh("cat /proc/sys/net/ipv4/ip_forward")
    return found


@pytest.mark.parametrize("commands", [NAMESPACES, BRIDGE], ids=["link", "bridge"])
def test_the_explained_lines_build_the_same(host: Host, commands: list[list[str]]) -> None:
    lines = host.fairlead("daemon", "--explain").stdout
    for command in commands:
        before = kernel_state(host)
        lines += host.fairlead(*command, "--explain").stdout
        assert kernel_state(host) == before, "--explain changes nothing"
        host.fairlead(*command)
    with Host() as other:
        other.sh("set -e\n" + lines)
        by_hand = kernel_state(other)
        # The default bridge's MAC follows from a random id; it is in the lines, so it is the same.
        by_command = kernel_state(host)
        for part, state in by_command.items():
            assert by_hand[part] == state, part
        if commands is NAMESPACES:
            other.sh("ip netns exec ns0 ping -c1 -W1 172.0.0.3")
        else:
            other.sh("ip netns exec ns0 ping -c1 -W1 10.0.0.3")
            other.sh("ip netns exec ns0 ping -c1 -W1 8.8.8.8")


def test_the_lines_of_a_link_are_those_a_person_would_type(host: Host) -> None:
    for command in NAMESPACES[:2]:
        host.fairlead(*command)
    lines = host.fairlead(*NAMESPACES[2], "--explain").stdout
    assert re.sub("fairlead:[0-9a-f]{64}", "fairlead:<id>", lines).splitlines() == [
        "ip -n ns0 link add vth0 type veth peer name vth1 netns ns1",
        "ip -n ns0 link set vth0 alias fairlead:<id>",
        "ip -n ns0 addr add 172.0.0.2/24 brd + dev vth0",
        "ip -n ns0 link set vth0 up",
        "ip -n ns1 addr add 172.0.0.3/24 brd + dev vth1",
        "ip -n ns1 link set vth1 up",
    ]


def test_explaining_a_removal(host: Host) -> None:
    for command in BRIDGE:
        host.fairlead(*command)
    assert host.fairlead("netns", "rm", "ns0", "--explain").stdout.splitlines()[-1] == "ip netns del ns0"
    for name in ("ns0", "ns1"):
        host.fairlead("netns", "rm", name)
    assert host.fairlead("network", "rm", "br0", "--explain").stdout.splitlines()[-1] == "ip link del br0"
    assert "br0" in host.sh("ip link")
