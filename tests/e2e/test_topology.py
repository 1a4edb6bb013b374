"""The topology command on a real kernel: what is there, what should be, whose it is; and what rebuilds it."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from lab import FAIRLEAD, Host, images
from peer import PODMAN, Podman

BRIDGE = ("-o", "com.docker.network.bridge.name=br0")


def topology(host: Host, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.fairlead("topology", "--format", "json", *words).stdout)
    return found


def rooms(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {room["Name"]: room for room in found["Namespaces"]}


def port(found: dict[str, Any], room: str, name: str) -> dict[str, Any]:
    (one,) = (one for one in rooms(found)[room]["Interfaces"] if one["Name"] == name)
    return dict(one)


@pytest.fixture
def two(host: Host) -> Host:
    """Two namespaces on br0."""
    host.fairlead("netns", "add", "ns0", "ns1")
    host.fairlead("network", "create", "br0", "--subnet", "10.0.0.0/24", *BRIDGE)
    host.fairlead("network", "connect", "br0", "ns0", "--ip", "10.0.0.2")
    host.fairlead("network", "connect", "br0", "ns1", "--ip", "10.0.0.3")
    return host


def test_each_cable_leads_where_ip_says(two: Host) -> None:
    found = topology(two)
    for name in ("ns0", "ns1"):
        eth0 = port(found, name, "eth0")
        (link,) = two.json("ip", "-n", name, "-j", "link", "show", "eth0")
        outer = {one["ifindex"]: one for one in two.json("ip", "-j", "link")}[link["link_index"]]
        assert eth0["Peer"] == {"Namespace": "host", "Interface": outer["ifname"]}
        back = port(found, "host", outer["ifname"])
        assert back["Peer"] == {"Namespace": rooms(found)[name]["Id"], "Interface": "eth0"}
        assert back["Master"] == outer["master"] == "br0"
        assert eth0["Network"] == back["Network"] == "br0"
        assert eth0["Mac"] == link["address"]
    assert not re.search(r"[✗?!]", two.fairlead("topology").stdout)


def test_what_somebody_broke_is_marked(two: Host) -> None:
    two.sh(
        "set -e; ip -n ns0 addr del 10.0.0.2/24 dev eth0; ip -n ns0 addr add 10.0.0.9/24 dev eth0;"
        "ip -n ns1 link add tap0 type bridge; ip netns del ns1;"
        "ip link add lost type bridge; ip link set lost alias fairlead:beef"
    )
    drawn = two.fairlead("topology").stdout
    assert "! ns0/eth0: 10.0.0.2/24 is missing; 10.0.0.9/24 is from no record" in drawn
    assert "✗ ns1: there is no network namespace at /run/netns/ns1" in drawn
    assert "? host/lost: no record of Fairlead's knows it" in drawn
    found = topology(two)
    assert rooms(found)["ns1"]["Mark"] == "missing"
    assert port(found, "ns0", "eth0")["MissingAddresses"] == ["10.0.0.2/24"]
    assert port(found, "ns0", "eth0")["UnownedAddresses"] == ["10.0.0.9/24"]
    two.sh("ip -n ns0 addr del 10.0.0.9/24 dev eth0")
    two.fairlead("doctor", "--fix")
    assert not re.search(r"[✗?!]", two.fairlead("topology").stdout)


def test_published_ports_and_nat_of_ours(host: Host) -> None:
    host.fairlead("image", "load", "-i", str(images() / "nginx.tar"))
    host.fairlead("run", "-d", "--name", "web", "-p", "8081:80", "-p", "127.0.0.1:9000-9002:90-92/udp", "nginx")
    found = topology(host)
    web = rooms(found)["web"]
    assert web["Kind"] == "container"
    ports = {(p["HostIp"], p["HostPort"], p["Protocol"], p["Port"]) for p in found["Published"]}
    assert ports >= {("", 8081, "tcp", 80), ("127.0.0.1", 9001, "udp", 91)}
    assert {p["Namespace"] for p in found["Published"]} == {web["Id"]}
    assert [m["Source"] for m in found["Masquerading"]] == ["fairlead0"]
    drawn = host.fairlead("topology", "web").stdout
    assert "│ 8081 → 80/tcp " in drawn
    assert "│ 127.0.0.1:9000-9002 → 90-92/udp " in drawn
    host.fairlead("stop", "-t", "0", "web")
    assert "web" not in rooms(topology(host)), "a stopped container has nothing in the kernel"


def test_namespaces_by_hand_and_rules_of_others(host: Host) -> None:
    host.sh(
        "set -e; ip netns add hand; ip link add br7 type bridge; ip addr add 192.0.2.1/24 dev br7; ip link set br7 up;"
        "ip link add v7 type veth peer name eth0 netns hand; ip link set v7 master br7 up;"
        "ip -n hand addr add 192.0.2.7/24 dev eth0; ip -n hand link set eth0 up;"
        "iptables -t nat -A PREROUTING -p tcp --dport 77 -j DNAT --to-destination 192.0.2.7:80;"
        "iptables -t nat -A POSTROUTING -s 192.0.2.0/24 ! -o br7 -j MASQUERADE;"
        "nft add table ip mine; nft add chain ip mine pre '{ type nat hook prerouting priority -100; }';"
        "nft add rule ip mine pre ip daddr 198.51.100.2 udp dport 78 dnat to 192.0.2.7:81"
    )
    drawn = host.fairlead("topology", "hand").stdout
    assert re.search(r"br7  192\.0\.2\.1/24  bridge, NAT", drawn)
    assert re.search(r"v7 ─+┤ eth0  192\.0\.2\.7/24", drawn)
    assert "│ 77 → 80/tcp " in drawn
    assert "│ 198.51.100.2:78 → 81/udp " in drawn
    assert not re.search(r"[✗?!]", drawn), "what is nobody's business of ours has no mark"


def test_names_that_are_no_utf8(host: Host) -> None:
    host.sh(r"""ip netns add plain; name=$(printf 'f\374r'); touch "/run/netns/$name"
        unshare --net="/run/netns/$name" true; ip link add $(printf 'v\374') type veth peer name eth0 netns plain""")
    found = topology(host)
    assert {"host", "plain", "f\ufffdr"} <= set(rooms(found))
    (cable,) = rooms(found)["plain"]["Interfaces"][1:]
    assert cable["Peer"]["Interface"] == "v\ufffd"
    for form in ("text", "svg", "mermaid", "dot"):
        assert "v\ufffd" in host.fairlead("topology", "--format", form).stdout


def test_every_format_and_bad_words(two: Host) -> None:
    assert two.fairlead("topology", "--format", "dot", "br0").stdout.startswith("graph topology {")
    assert two.fairlead("topology", "--format", "mermaid").stdout.startswith("flowchart TB\n")
    if shutil.which("dot"):
        svg = two.fairlead("topology", "--format", "svg").stdout
        assert "</svg>" in svg
        assert "10.0.0.2/24" in svg
    part = topology(two, "ns0")
    assert set(rooms(part)) == {"host", "ns0"}
    refused = two.fairlead("topology", "--format", "png", check=False)
    assert (refused.returncode, refused.stderr) == (
        2,
        "fairlead: invalid format 'png': only text, svg, mermaid, dot, json are allowed\n",
    )
    refused = two.fairlead("topology", "nope", check=False)
    assert (refused.returncode, refused.stderr) == (1, "fairlead: No such network, container or namespace: nope\n")


def test_while_containers_come_and_go_nothing_is_marked(two: Host) -> None:
    again = f"{FAIRLEAD} network disconnect br0 ns1; {FAIRLEAD} network connect br0 ns1 --ip 10.0.0.3"
    work = two.popen("sh", "-c", f"for i in $(seq 16); do {again}; done")
    try:
        looks = 0
        while work.poll() is None:
            drawn = two.fairlead("topology").stdout
            assert not re.search(r"[✗?!] ", drawn), drawn
            looks += 1
        assert looks > 3
    finally:
        work.wait(60)


# Rebuilding


def kernel_state(host: Host, names: tuple[str, ...]) -> dict[str, Any]:
    """Links, addresses and routes, without what the kernel chooses."""
    found: dict[str, Any] = {}
    for name in names:
        where = ["-n", name] if name else []
        for link in host.json("ip", *where, "-d", "-j", "addr"):
            found[f"{name}/{link['ifname']}"] = (
                link.get("linkinfo", {}).get("info_kind"),
                link.get("master"),
                link["mtu"],
                link.get("ifalias"),
                "UP" in link["flags"],
                sorted(f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] != "link"),
            )
        routes = host.sh(f"ip {' '.join(where)} route").replace(" linkdown", "")  # What the kernel sees a moment later.
        found[f"{name} routes"] = sorted(line.strip() for line in routes.splitlines())
    return found


def test_explain_rebuilds_a_network_and_a_namespace_of_ours(two: Host) -> None:
    two.fairlead("link", "add", "ns0/vth0", "ns1/vth1", "--ip", "172.0.0.2/24", "--peer-ip", "172.0.0.3/24")
    lines = two.fairlead("daemon", "--explain").stdout + two.fairlead("explain", "br0").stdout
    straight = two.fairlead("explain", "ns0").stdout
    assert straight.startswith("# namespace ns0\n")
    lines += straight[straight.index("# the link ns0/vth0 ── ns1/vth1") :]
    with Host() as other:
        other.sh(f"set -e\n{lines}")
        names = ("", "ns0", "ns1")
        assert kernel_state(other, names) == kernel_state(two, names)
        other.sh("ip netns exec ns0 ping -c1 -w5 10.0.0.3; ip netns exec ns0 ping -c1 -w5 172.0.0.3")


def test_explain_rebuilds_what_others_made(host: Host) -> None:
    host.sh(
        "set -e; ip netns add hand; ip netns add far; ip link add br7 type bridge; ip addr add 192.0.2.1/24 dev br7;"
        "ip link set br7 up; ip link add v7 type veth peer name eth0 netns hand; ip link set v7 master br7 up;"
        "ip -n hand addr add 192.0.2.7/24 dev eth0; ip -n hand link set lo up; ip -n hand link set eth0 up mtu 1400;"
        "ip -n hand route add default via 192.0.2.1; ip -n hand route add blackhole 203.0.113.0/24;"
        "ip link add link eth0 name mv netns hand type macvlan mode private"
    )
    lines = host.fairlead("explain", "hand").stdout
    with Host() as other:
        other.sh(f"set -e\n{lines}")
        for name in ("hand",):
            assert kernel_state(other, (name,)) == kernel_state(host, (name,))
        assert kernel_state(other, ("",))["/v7"] == kernel_state(host, ("",))["/v7"]
        other.sh("ping -c1 -w5 192.0.2.7")


def test_explain_of_a_container_and_of_nothing(host: Host) -> None:
    host.fairlead("image", "load", "-i", str(images() / "nginx.tar"))
    host.fairlead("run", "-d", "--name", "web", "-p", "8081:80", "nginx")
    lines = host.fairlead("explain", "web").stdout
    assert "# its place in network bridge (which `fairlead explain bridge` builds)" in lines
    assert "nft add element inet fairlead ports4_any '{ tcp . 8081 : 172.17.0.2 . 80 }'" in lines
    host.fairlead("stop", "-t", "0", "web")
    refused = host.fairlead("explain", "web", check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        "fairlead: container web is not running: `fairlead start web --explain` says what starts it\n"
    )
    refused = host.fairlead("explain", "nope", check=False)
    assert refused.stderr == "fairlead: No such network, container or namespace: nope\n"
    assert host.fairlead("explain", check=False).returncode == 2


def test_a_cable_between_the_bridges_of_two_namespaces_is_shown_with_them(host: Host) -> None:
    host.sh(
        "for n in 1 2; do ip link add b$n type bridge; ip netns add p$n;"
        "    ip link add v$n master b$n type veth peer name eth0 netns p$n; done;"
        "ip link add x1 type veth peer name x2; ip link set x1 master b1; ip link set x2 master b2;"
        "ip link add b3 type bridge; ip link add y1 type veth peer name y3; ip link set y1 master b1;"
        "ip link set y3 master b3"
    )
    shown = {one["Name"] for one in topology(host, "p1", "p2")["Namespaces"][0]["Interfaces"]}
    assert shown >= {"b1", "b2", "v1", "v2", "x1", "x2"}
    assert not shown & {"b3", "y1", "y3"}
    assert not {one["Name"] for one in topology(host, "p1")["Namespaces"][0]["Interfaces"]} & {"b2", "x1", "x2"}


# Docker's containers


@pytest.fixture
def docker(host: Host) -> Iterator[Host]:
    """A host with a Docker daemon of its own, whose directories are not the usual ones."""
    if not shutil.which("dockerd"):
        pytest.skip("dockerd is not installed")
    place = host.directory / "docker"
    place.mkdir()
    socket = f"unix://{place}/docker.sock"
    words = ["--data-root", f"{place}/data", "--exec-root", f"{place}/exec", "-p", f"{place}/pid", "-H", socket]
    with (place / "log").open("w") as log:
        daemon = host.popen("dockerd", *words, "--storage-driver", "vfs", stdout=log, stderr=log)
    host.environment["DOCKER_HOST"] = socket
    try:
        for _ in range(150):
            if host.run("docker", "version", check=False).returncode == 0:
                break
            time.sleep(0.2)
        host.run("docker", "load", "-i", str(images() / "nginx.tar"))
        yield host
        host.sh("docker ps -aq | xargs -r docker rm -f")
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_dockers_containers_are_in_the_picture(docker: Host) -> None:
    docker.run("docker", "run", "-d", "--name", "dweb", "-p", "8090:80", "nginx")
    docker.run("docker", "run", "-d", "--name", "alone", "--network", "none", "nginx")
    found = topology(docker)
    dweb, alone = rooms(found)["dweb"], rooms(found)["alone"]
    assert (dweb["Kind"], dweb["Manager"]) == ("container", "docker")
    assert alone["Manager"] == "docker"
    id_ = docker.run("docker", "inspect", "-f", "{{.Id}}", "dweb").stdout.strip()
    assert dweb["Owner"] == id_
    address = docker.run("docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", "dweb").stdout.strip()
    drawn = docker.fairlead("topology", "dweb").stdout
    assert re.search(r"docker0  172\.17\.0\.1/16  bridge, NAT", drawn)
    assert f"eth0  {address}/16" in drawn
    assert "│ 8090 → 80/tcp " in drawn
    assert "─ docker container ─┐" in drawn
    lines = docker.fairlead("explain", "dweb").stdout
    assert f"ip -n dweb addr add {address}/16 brd + dev eth0" in lines


# podman's containers


@pytest.fixture
def podman(host: Host) -> Iterator[Podman]:
    """A host with podman and its own network stack."""
    if not PODMAN:
        pytest.skip("podman with netavark is not installed")
    with Podman(host) as found:
        found.podman("load", "-i", str(images() / "nginx.tar"))
        yield found


def test_podmans_containers_are_in_the_picture_and_traced(podman: Podman) -> None:
    """podman has no daemon that could be asked: all of it is read off the kernel and the monitor's command line."""
    host = podman.host
    pweb = podman.run("pweb", "-p", "8090:80", "nginx")
    pother = podman.run("pother", "nginx")
    found = topology(host)
    for name, id_ in (("pweb", pweb), ("pother", pother)):
        room = rooms(found)[name]
        assert (room["Kind"], room["Manager"], room["Owner"]) == ("container", "podman", id_)
    address = podman.podman("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "pweb")
    drawn = host.fairlead("topology", "pweb").stdout
    assert re.search(r"podman0  10\.88\.0\.1/16  bridge, NAT", drawn)
    assert f"eth0  {address}/16" in drawn
    assert "│ 8090 → 80/tcp " in drawn
    assert "─ podman container ─┐" in drawn
    for source, target in (("pother", "pweb:80"), (pother[:12], f"{pweb}:80"), ("host", "127.0.0.1:8090")):
        done = host.fairlead("trace", source, target, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "eth0 of pweb" in done.stdout
    to_port = host.fairlead("trace", "internet", "198.51.100.2:8090").stdout
    assert re.search(r"NETAVARK-DN-\w+ handle \d+, of podman: .*dnat to", to_port)
