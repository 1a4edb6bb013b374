"""The snapshot of the network against what ip(8) says of the same."""

from __future__ import annotations

import gc
import ipaddress
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from kernel_lab import sh, works

from fairlead.kernel import survey
from fairlead.kernel.namespaces import Namespaces
from fairlead.see.facts import InterfaceFact, NamespaceFact, Snapshot, read

pytestmark = pytest.mark.usefixtures("fresh_kernel")

OURS = Path("/run/fairlead-nowhere/netns")

ZOO = """
ip netns add a
ip netns add b
ip netns add alone
ip link add br0 type bridge
ip link add va type veth peer name eth0 netns a
ip link add vb type veth peer name eth0 netns b
ip link set va master br0
ip link set vb master br0
ip link set dev br0 up
ip link set dev va up
ip link set dev vb up alias "somebody's"
ip addr add 10.9.0.1/24 dev br0
ip -n a addr add 10.9.0.2/24 dev eth0
ip -n a addr add fd09::2/64 dev eth0 nodad
ip -n a link set eth0 up
ip -n a route add default via 10.9.0.1
ip -n b link set eth0 up mtu 1400
ip -n a link add direct type veth peer name direct netns b
ip link add here type veth peer name there
ip link add link here name mv netns b type macvlan mode private
ip -n a link add vx type vxlan id 42 local 10.9.0.2 group 239.1.1.1 dev eth0 dstport 4789
ip route add blackhole 192.0.2.0/24
bridge link set dev vb isolated on hairpin on
"""


def snapshot(**options: bool) -> Snapshot:
    return read(Namespaces(), OURS, **options)


def ip(namespace: str, *words: str) -> Any:
    where = ["-n", namespace] if namespace else []
    return json.loads(subprocess.run(["ip", *where, "-d", "-s", "-j", *words], capture_output=True, check=True).stdout)


def named(found: Snapshot, name: str) -> NamespaceFact:
    fact = found.at(f"/run/netns/{name}" if name else "")
    assert fact, name
    return fact


def interface(found: Snapshot, namespace: str, name: str) -> InterfaceFact:
    fact = named(found, namespace).named(name)
    assert fact, f"{namespace}/{name}"
    return fact


@pytest.mark.parametrize("namespace", ["", "a", "b", "alone"])
def test_links_addresses_and_routes_are_those_that_ip_shows(namespace: str) -> None:
    sh(ZOO)
    fact = named(snapshot(), namespace)
    links = {link["ifname"]: link for link in ip(namespace, "link")}
    assert {one.name for one in fact.interfaces} == set(links)
    addresses = {link["ifname"]: link["addr_info"] for link in ip(namespace, "address")}
    numbers = {one.index: one.name for one in fact.interfaces}
    for one in fact.interfaces:
        link = links[one.name]
        assert one.index == link["ifindex"]
        assert one.kind == link.get("linkinfo", {}).get("info_kind", "")
        assert one.mac == link.get("address", "")
        assert one.mtu == link["mtu"]
        assert one.up == ("UP" in link["flags"])
        assert one.state == link["operstate"].lower()
        assert one.alias == link.get("ifalias", "")
        assert numbers.get(one.master, "") == link.get("master", "")
        assert {str(a) for a in one.addresses} == {f"{a['local']}/{a['prefixlen']}" for a in addresses[one.name]}
        assert one.counters.tx_packets == pytest.approx(link["stats64"]["tx"]["packets"], abs=8)
    routes = ip(namespace, "route", "show", "table", "main") + ip(namespace, "-6", "route", "show", "table", "main")
    expected = {
        (
            r["dst"].replace("default", "::/0" if "pref" in r else "0.0.0.0/0"),
            r.get("gateway", ""),
            r.get("dev", "") if r.get("type", "unicast") == "unicast" else "",
            r.get("type", "unicast"),
        )
        for r in routes
    }
    assert {
        (
            str(r.destination) if r.destination.prefixlen < r.destination.max_prefixlen else str(r.destination[0]),
            str(r.gateway or ""),
            numbers.get(r.interface, "") if r.type == "unicast" else "",
            r.type,
        )
        for r in fact.routes
    } == expected


def test_the_other_ends_are_found_in_whatever_namespace_they_are() -> None:
    sh(ZOO)
    found = snapshot()

    def other(namespace: str, name: str) -> tuple[str, str]:
        one = interface(found, namespace, name)
        end = one.peer or one.parent
        assert end
        there = found.namespace(end.namespace)
        assert there
        beyond = there.interface(end.index)
        assert beyond
        return there.owner.name, beyond.name

    assert other("", "va") == ("a", "eth0")
    assert other("", "vb") == ("b", "eth0")
    assert other("a", "eth0") == ("host", "va")
    assert other("a", "direct") == ("b", "direct")
    assert other("b", "direct") == ("a", "direct")
    assert other("", "here") == ("host", "there")
    assert other("b", "mv") == ("host", "here")
    assert other("a", "vx") == ("a", "eth0")
    assert interface(found, "b", "mv").data == {"mode": "private"}
    vxlan = {"id": "42", "group": "239.1.1.1", "local": "10.9.0.2", "port": "4789"}
    assert interface(found, "a", "vx").data == vxlan
    port = interface(found, "", "vb")
    assert (port.isolated, port.hairpin) == (True, True)


def test_equal_numbers_in_several_namespaces_do_not_mislead() -> None:
    """Every pair has the same two numbers, so that only the kernel's namespace ids tell them apart."""
    for name in "abcd":
        sh(f"ip netns add {name}")
    for one, other in (("a", "b"), ("c", "d")):
        sh(f"ip -n {one} link add eth0 index 7 type veth peer name eth0 index 9 netns {other}")
        sh(f"ip -n {other} link add eth1 index 7 type veth peer name eth1 index 9 netns {one}")
    found = snapshot()
    for one, other in (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")):
        for name in ("eth0", "eth1"):
            end = interface(found, one, name).peer
            assert end
            assert end.namespace == named(found, other).inode
            assert end.index == interface(found, other, name).index


def test_a_namespace_without_a_name_is_seen_where_a_link_leads_to_it() -> None:
    linked = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    apart = subprocess.Popen(["unshare", "-n", "sleep", "60"])
    try:
        for process in (linked, apart):
            while os.readlink(f"/proc/{process.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
                pass
        sh(f"ip link add v type veth peer name eth0 netns {linked.pid}")
        found = snapshot()
        pids = [pid for one in found.namespaces for pid in one.pids]
        assert linked.pid in pids
        assert apart.pid not in pids
        (one,) = (one for one in found.namespaces if linked.pid in one.pids)
        assert (one.owner.manager, one.owner.name) == ("process", "sleep")
        assert one.place == f"/proc/{linked.pid}/ns/net"
        assert found.left_out >= 1
        assert apart.pid in [pid for one in snapshot(everything=True).namespaces for pid in one.pids]
    finally:
        for process in (linked, apart):
            process.kill()
            process.wait()


def test_reading_leaves_no_descriptor_and_this_thread_at_home() -> None:
    sh(ZOO)
    gc.collect()  # Else what an earlier test left is closed while this one counts.
    before, home = len(os.listdir("/proc/self/fd")), os.readlink("/proc/thread-self/ns/net")
    namespaces = Namespaces()
    read(namespaces, OURS)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert os.readlink("/proc/thread-self/ns/net") == home


def test_neighbours_and_a_duplicate_address() -> None:
    sh(ZOO)
    sh("ip neigh add 10.9.0.77 lladdr 02:00:00:00:00:77 dev br0 nud permanent")
    host = snapshot().host
    (entry,) = (n for n in host.neighbours if n.address == ipaddress.ip_address("10.9.0.77"))
    assert (entry.mac, entry.state) == ("02:00:00:00:00:77", "permanent")


@pytest.mark.vm
def test_links_that_need_more_of_a_kernel() -> None:
    """VLAN, ipvlan, dummy: where this kernel lacks a kind there is no such link to look at."""
    sh("ip link add here type veth peer name there; ip netns add b")
    wanted = {
        "vlan": ("ip link add link here name x1 type vlan id 7", {"id": "7"}),
        "ipvlan": ("ip link add link here name x2 type ipvlan mode l3", {"mode": "l3"}),
        "dummy": ("ip link add x3 type dummy", {}),
        "macvlan": ("ip link add link there name x4 type macvlan mode bridge", {"mode": "bridge"}),
    }
    made = {kind: data for kind, (line, data) in wanted.items() if works(line)}
    assert "macvlan" in made
    assert {one.kind: dict(one.data) for one in snapshot().host.interfaces if one.name.startswith("x")} == made


def test_a_container_of_an_ordinary_user_is_seen_though_nothing_leads_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """As podman without root makes them.  The name of the cgroup is all that is not real."""
    theirs = subprocess.Popen(["unshare", "--user", "--net", "sleep", "60"])
    try:
        while os.readlink(f"/proc/{theirs.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            pass
        assert theirs.pid not in [pid for one in snapshot().namespaces for pid in one.pids]
        scope = f"/user.slice/user-1000.slice/libpod-{'a' * 64}.scope/container"
        real = survey.cgroup
        monkeypatch.setattr(survey, "cgroup", lambda pid: scope if pid == theirs.pid else real(pid))
        (found,) = (one for one in snapshot().namespaces if theirs.pid in one.pids)
        assert (found.owner.manager, found.owner.id) == ("podman", "a" * 64)
    finally:
        theirs.kill()
        theirs.wait()
