"""What each option of a bridge network does to packets, in both families; docs/networking.md says it in words."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from kernel_lab import assert_consistent, assert_nothing_left, elements, links, open_here, sh, works
from lab import INTERNET, ipv6_ready
from packets import PING, ask, ping, server

from fairlead.engine import Engine
from fairlead.errors import Conflict, FairleadError, Invalid
from fairlead.kernel import rtnetlink
from fairlead.kernel.netlink import Message, Socket, attributes
from fairlead.model import Endpoint, LinkEnd, Network, Pool
from fairlead.plan.links import SeeCarrier
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec

_GETLINK, _IFNAME, _RUNNING = 18, 3, 0x40  # rtnetlink(7), netdevice(7)
BRIDGE = "com.docker.network.bridge."
MODE4, MODE6 = f"{BRIDGE}gateway_mode_ipv4", f"{BRIDGE}gateway_mode_ipv6"
HOST = {4: "198.51.100.2", 6: "2001:db8::2"}
OUTSIDE = {4: "198.51.100.1", 6: "2001:db8::1"}
SUBNETS = {"br0": {4: "10.0.1.0/24", 6: "fd00:1::/64"}, "br1": {4: "10.0.2.0/24", 6: "fd00:2::/64"}}

IPV6 = """
ip addr add 2001:db8::2/64 dev eth0 nodad
ip -n internet addr add 2001:db8::1/64 dev eth0 nodad
ip -n internet addr add 2001:db8:8::8/128 dev lo nodad
ip -6 route add default via 2001:db8::1
"""


@pytest.fixture
def engine(fresh_kernel: None, tmp_path: Path) -> Iterator[Engine]:
    sh(INTERNET + IPV6 + ipv6_ready())
    one = open_here(tmp_path)
    yield one
    assert_consistent(one)
    assert_nothing_left(one)


def network(engine: Engine, name: str, *, families: tuple[int, ...] = (4, 6), **words: Any) -> Network:
    """A network whose bridge is called like it, with the subnets of `SUBNETS`."""
    options = {f"{BRIDGE}name": name, **words.pop("options", {})}
    pools = tuple(Pool(subnet=ip_network(SUBNETS[name][version])) for version in families)
    spec = NetworkSpec(name=name, ipv4=4 in families, ipv6=6 in families, pools=pools, options=options, **words)
    return engine.perform(engine.planner.create_network, spec)


def join(engine: Engine, sandbox: str, name: str, *ports: PortSpec) -> Endpoint:
    engine.perform(engine.planner.open_sandbox, sandbox)
    return engine.perform(engine.planner.attach, sandbox, EndpointSpec(network=name, ports=ports))


def running(socket: Socket) -> set[str]:
    """The links that can send.  All are asked for at once, as then the kernel does not see to their carriers first."""
    found = list(socket.dump(Message(_GETLINK, 0, bytes(16))))
    flags = {dict(attributes(body[16:]))[_IFNAME]: struct.unpack_from("=I", body, 8)[0] for body in found}
    return {name.rstrip(b"\0").decode() for name, flag in flags.items() if flag & _RUNNING}


def address_of(endpoint: Endpoint, version: int) -> str:
    return next(str(one.ip) for one in endpoint.addresses if one.version == version)


def route_from_outside(name: str, *versions: int) -> None:
    """The neighbour sends what is for the network by way of the host."""
    for version in versions or (4, 6):
        sh(f"ip -n internet route add {SUBNETS[name][version]} via {HOST[version]}")


def addresses(ifname: str, namespace: str = "") -> set[str]:
    where = ["-n", namespace] if namespace else []
    found = json.loads(sh(f"ip {' '.join(where)} -j addr show dev {ifname}"))
    return {f"{one['local']}/{one['prefixlen']}" for one in found[0]["addr_info"]}


@pytest.fixture(params=["0", "1"])
def br_netfilter(request: pytest.FixtureRequest, engine: Engine) -> str:
    """Whether frames from port to port of a bridge pass the firewalls (the default where the module is loaded)."""
    for family in ("iptables", "ip6tables"):
        Path(f"/proc/sys/net/bridge/bridge-nf-call-{family}").write_text(request.param)
    return str(request.param)


WEB = PortSpec(port=80, host_port=8081)

NAT = {
    "outside asks the published port of the host": True,
    "outside asks the published port of the container": False,
    "outside asks another port of the container": False,
    "outside pings the container": False,
    "another network asks the published port of the container": False,
    "another network asks another port of the container": False,
    "another network asks the published port of the host": True,
    "the host asks another port of the container": True,
    "outside sees the container's own address": False,
}
UNPROTECTED = {**dict.fromkeys(NAT, True), "outside sees the container's own address": False}
ROUTED = {
    **NAT,
    "outside asks the published port of the host": False,
    "another network asks the published port of the host": False,
    "outside asks the published port of the container": True,
    "another network asks the published port of the container": True,
    "outside pings the container": True,
    "outside sees the container's own address": True,
}


def seen(version: int, web: str) -> dict[str, bool]:
    """The same questions to the kernel."""
    with server("web", 80, 81), server("internet", 9):
        return {
            "outside asks the published port of the host": bool(ask(HOST[version], 8081, "internet")),
            "outside asks the published port of the container": bool(ask(web, 80, "internet")),
            "outside asks another port of the container": bool(ask(web, 81, "internet")),
            "outside pings the container": ping(web, "internet"),
            "another network asks the published port of the container": bool(ask(web, 80, "other")),
            "another network asks another port of the container": bool(ask(web, 81, "other")),
            "another network asks the published port of the host": bool(ask(HOST[version], 8081, "other")),
            "the host asks another port of the container": bool(ask(web, 81)),
            "outside sees the container's own address": ask(OUTSIDE[version], 9, "web") == web,
        }


@pytest.mark.usefixtures("br_netfilter")
@pytest.mark.parametrize(
    ("modes", "reach"),
    [
        (("nat", "routed"), (NAT, ROUTED)),
        (("routed", "nat-unprotected"), (ROUTED, UNPROTECTED)),
        (("nat-unprotected", "nat"), (UNPROTECTED, NAT)),
    ],
    ids=["nat, routed", "routed, unprotected", "unprotected, nat"],
)
def test_a_gateway_mode_decides_for_its_own_family(
    engine: Engine, modes: tuple[str, str], reach: tuple[dict[str, bool], dict[str, bool]]
) -> None:
    network(engine, "br0", options={MODE4: modes[0], MODE6: modes[1]})
    network(engine, "br1")
    web = join(engine, "web", "br0", WEB)
    join(engine, "other", "br1")
    route_from_outside("br0")
    for version, expected in zip((4, 6), reach, strict=True):
        assert seen(version, address_of(web, version)) == expected, f"IPv{version}"


def test_a_routed_network_holds_no_port_of_the_host(engine: Engine) -> None:
    network(engine, "br0", families=(4,), options={MODE4: "routed"})
    web = join(engine, "web", "br0", WEB, PortSpec(port=80, host_port=8082))
    assert {(str(port.host_ip), port.host_port, port.port) for port in web.ports} == {("0.0.0.0", 0, 80)}
    with server("", 8081):
        assert ask("127.0.0.1", 8081), "the port is the host's own"
    assert elements()["direct4"] == [{"concat": ["tcp", "10.0.1.2", 80]}]
    other = join(engine, "other", "br0", WEB)
    assert other.ports[0].host_port == 0


def test_an_internal_network_in_isolated_mode_is_between_its_containers_alone(engine: Engine) -> None:
    network(engine, "br0", internal=True, options={MODE4: "isolated", MODE6: "isolated"})
    one, two = join(engine, "one", "br0"), join(engine, "two", "br0")
    assert addresses("br0") == set()
    assert address_of(one, 4) == "10.0.1.1", "there is no gateway to keep an address for"
    for version in (4, 6):
        assert ping(address_of(two, version), "one")
        assert not ping(address_of(one, version))
    with pytest.raises(Invalid, match=r"gateway_mode_ipv6=isolated: it is for internal networks only \(--internal\)"):
        network(engine, "br1", options={MODE6: "isolated"})


def test_an_internal_network_has_no_way_in_or_out_but_the_host(engine: Engine) -> None:
    network(engine, "br0", internal=True)
    network(engine, "br1")
    inner = join(engine, "inner", "br0")
    join(engine, "other", "br1", WEB, PortSpec(port=80, host_port=8082, host_ip=ip_address("::")))
    route_from_outside("br0")
    sh("ip -n inner route add default via 10.0.1.1; ip -n inner -6 route add default via fd00:1::1")
    with server("other", 80), server("", 5000), server("inner", 80):
        for version, bridge in ((4, "10.0.1.1"), (6, "fd00:1::1")):
            assert ask(bridge, 5000, "inner"), "a program of the host"
            assert ask(address_of(inner, version), 80), "from the host"
            assert not ask(address_of(inner, version), 80, "internet")
            assert not ask(address_of(inner, version), 80, "other")
            assert not ping(OUTSIDE[version], "inner")
            for port in (8081, 8082):
                assert not ask(bridge, port, "inner"), "a port of another network"


def test_no_relay_leads_out_of_an_internal_network(engine: Engine) -> None:
    network(engine, "br0", internal=True)
    network(engine, "br1", families=(4,))
    join(engine, "inner", "br0")
    join(engine, "other", "br1", WEB)
    with server("other", 80):
        assert ask("2001:db8::2", 8081, "internet"), "relayed to IPv4"
        assert not ask("fd00:1::1", 8081, "inner")


@pytest.mark.usefixtures("br_netfilter")
def test_containers_that_may_not_talk(engine: Engine) -> None:
    network(engine, "br0", options={f"{BRIDGE}enable_icc": "false"})
    one, two = join(engine, "one", "br0", WEB), join(engine, "two", "br0")
    assert all(links()[name].get("master") == "br0" for name in (one.host_ifname, two.host_ifname))
    with server("one", 80), server("internet", 9):
        for version, gateway in ((4, "10.0.1.1"), (6, "fd00:1::1")):
            address = address_of(one, version)
            assert not ping(address, "two")
            assert not ask(address, 80, "two")
            assert not ask(address, 80, "two", "udp")
            sh(f"ip -n two route add {address} via {gateway}")
            sh(f"ip -n one route add {address_of(two, version)} via {gateway}")
            assert not ask(address, 80, "two"), "nor by way of the gateway"
            assert ask(address, 80), "from the host"
            assert ask(HOST[version], 8081, "two"), "what is published is, to neighbours as well"
            assert ask(HOST[version], 8081, "one"), "and to itself"
            assert ask(OUTSIDE[version], 9, "two") == HOST[version]


def test_a_trusted_interface_reaches_published_ports_directly(engine: Engine) -> None:
    sh("ip link add lan type veth peer name eth0 netns $(ip netns add lan; echo lan); ip link set lan up")
    sh("ip addr add 192.0.2.1/24 dev lan; ip addr add 2001:db8:1::1/64 dev lan nodad")
    sh("ip -n lan addr add 192.0.2.2/24 dev eth0; ip -n lan addr add 2001:db8:1::2/64 dev eth0 nodad")
    sh("ip -n lan link set eth0 up; ip -n lan route add default via 192.0.2.1")
    sh("ip -n lan -6 route add default via 2001:db8:1::1\n" + ipv6_ready("lan", "lan"))
    network(engine, "br0", options={f"{BRIDGE}trusted_host_interfaces": "wg0:lan"})
    local = PortSpec(port=80, host_port=8081, host_ip=ip_address("127.0.0.1"))
    web = join(engine, "web", "br0", local, PortSpec(port=80, host_port=8082, host_ip=ip_address("::1")))
    route_from_outside("br0")
    with server("web", 80, 81):
        for version in (4, 6):
            assert ask(address_of(web, version), 80, "lan")
            assert not ask(address_of(web, version), 81, "lan")
            assert not ask(address_of(web, version), 80, "internet")
    sh("ip netns del lan; while ip link show lan 2>/dev/null; do sleep 0.05; done")


def test_trust_in_an_interface_does_not_open_the_other_family(engine: Engine) -> None:
    network(engine, "br0", options={MODE4: "routed", f"{BRIDGE}trusted_host_interfaces": "wg0"})
    web = join(engine, "web", "br0", WEB)
    route_from_outside("br0")
    with server("web", 80):
        assert ask(address_of(web, 4), 80, "internet"), "routed"
        assert not ask(address_of(web, 6), 80, "internet"), "not routed, and eth0 is not trusted"


def test_packets_leave_with_the_address_asked_for(engine: Engine) -> None:
    sh("ip addr add 198.51.100.7/24 dev eth0; ip addr add 2001:db8::7/64 dev eth0 nodad")
    options = {"com.docker.network.host_ipv4": "198.51.100.7", "com.docker.network.host_ipv6": "2001:db8::7"}
    network(engine, "br0", options=options)
    join(engine, "one", "br0")
    with server("internet", 9):
        assert ask(OUTSIDE[4], 9, "one") == "198.51.100.7"
        assert ask(OUTSIDE[6], 9, "one") == "2001:db8::7"


def test_packets_leave_with_their_own_address_without_masquerade(engine: Engine) -> None:
    network(engine, "br0", options={f"{BRIDGE}enable_ip_masquerade": "false"})
    one = join(engine, "one", "br0", WEB)
    route_from_outside("br0")
    with server("internet", 9), server("one", 80):
        for version in (4, 6):
            assert ask(OUTSIDE[version], 9, "one") == address_of(one, version)
            assert ask(HOST[version], 8081, "internet") == OUTSIDE[version]


def test_a_bridge_without_the_gateways_address(engine: Engine) -> None:
    network(engine, "br0", options={f"{BRIDGE}inhibit_ipv4": "true"})
    one = join(engine, "one", "br0")
    assert addresses("br0") == {"fd00:1::1/64", "fe80::1/64"}
    assert "default via 10.0.1.1 dev eth0" in sh("ip -n one route")
    assert not ping(OUTSIDE[4], "one")
    sh("ip addr add 10.0.1.1/24 dev br0")
    sh("ip -n one neigh flush dev eth0")  # It has just asked in vain, and asks again once a second only.
    assert ping(OUTSIDE[4], "one"), "the user gives the address"
    assert ping(OUTSIDE[6], "one")
    assert address_of(one, 4) == "10.0.1.2"


@pytest.mark.parametrize(("asked", "uplink", "got"), [("1400", 1500, 1400), ("", 1420, 1420), ("", 9000, 1500)])
def test_the_mtu_is_the_one_asked_for_or_what_the_way_out_carries(
    engine: Engine, asked: str, uplink: int, got: int
) -> None:
    sh(f"ip link set eth0 mtu {uplink}; ip -n internet link set eth0 mtu {uplink}")
    network(engine, "br0", options={"com.docker.network.driver.mtu": asked} if asked else {})
    endpoint = join(engine, "one", "br0")
    assert links("one")["eth0"]["mtu"] == got
    assert links()[endpoint.host_ifname]["mtu"] == got
    assert links()["br0"]["mtu"] == got
    assert works(f"ip netns exec one {PING} -M do -s {min(got, uplink) - 28} {OUTSIDE[4]}")


@pytest.mark.parametrize(
    ("binding", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("198.51.100.2", {"198.51.100.2"}),
        ("0.0.0.0", {"127.0.0.1", "198.51.100.2", "::1", "2001:db8::2"}),
        ("::", {"::1", "2001:db8::2"}),
        ("2001:db8::2", {"2001:db8::2"}),
    ],
)
def test_ports_are_published_on_the_networks_address(engine: Engine, binding: str, reached: set[str]) -> None:
    network(engine, "br0", options={f"{BRIDGE}host_binding_ipv4": binding})
    join(engine, "web", "br0", WEB)
    with server("web", 80):
        assert {host for host in ("127.0.0.1", "198.51.100.2", "::1", "2001:db8::2") if ask(host, 8081)} == reached


def test_interfaces_inside_are_called_as_asked(engine: Engine) -> None:
    network(engine, "br0", options={"com.docker.network.container_iface_prefix": "lan"})
    assert join(engine, "one", "br0").ifname == "lan0"
    assert "lan0" in links("one")


# A bridge that was there before


def theirs() -> list[dict[str, Any]]:
    """What of the bridge and its port is nobody's business but theirs."""
    words = ("ifindex", "address", "mtu", "master", "ifalias", "flags", "qdisc", "txqlen")
    return [{word: links()[name].get(word) for word in words} for name in ("br0", "vm0")]


def test_a_bridge_that_is_there_is_used_and_left_as_it_was(engine: Engine) -> None:
    sh("""ip link add br0 type bridge; ip link set br0 alias theirs; ip addr add 10.0.1.9/24 dev br0
        ip addr add fd00:1::9/64 dev br0 nodad; ip link set br0 up
        ip netns add vm; ip link add vm0 type veth peer name eth0 netns vm; ip link set vm0 master br0 up
        # The bridge has the lowest of its ports' addresses: one that most others are below.
        ip link set vm0 address fe:fe:00:00:00:01
        ip -n vm link set eth0 up; ip -n vm addr add 10.0.1.77/24 dev eth0
        # The kernel takes a moment to see the carrier, and changes the flags of both then.
        for i in $(seq 200); do ip link show br0 | grep -q 'state UP' && break; sleep 0.05; done""")
    before = theirs()
    had = addresses("br0")
    spec = NetworkSpec(name="br0", ipv6=True, options={f"{BRIDGE}name": "br0"})
    made = engine.perform(engine.planner.create_network, spec)
    assert [(str(pool.subnet), str(pool.gateway)) for pool in made.pools] == [
        ("10.0.1.0/24", "10.0.1.9"),
        ("fd00:1::/64", "fd00:1::9"),
    ]
    join(engine, "one", "br0", WEB)
    assert theirs() == before
    assert ping("10.0.1.77", "one")
    assert ping(OUTSIDE[4], "one")
    assert ping(OUTSIDE[6], "one")
    with server("one", 80):
        assert ask("127.0.0.1", 8081)
    engine.perform(engine.planner.close_sandbox, "one")
    engine.perform(engine.planner.remove_network, "br0")
    assert theirs() == before
    assert addresses("br0") == had
    assert sh("cat /proc/sys/net/ipv4/conf/br0/route_localnet") == "0\n"
    sh("ip link del br0; ip netns del vm; while ip link show vm0 2>/dev/null; do sleep 0.05; done")


def test_an_adopted_bridge_gets_the_subnet_asked_for_and_loses_it_again(engine: Engine) -> None:
    sh("ip link add br0 type bridge; ip addr add 10.5.0.1/24 dev br0; ip link set br0 up")
    had = addresses("br0")
    made = network(engine, "br0")
    assert addresses("br0") - had == {"10.0.1.1/24", "fd00:1::1/64"}
    engine.perform(engine.planner.remove_network, made.id)
    assert addresses("br0") == had
    sh("ip addr add fe80::1/64 dev br0 nodad")
    had = addresses("br0")
    pool = Pool(subnet=ip_network("fd00:1::/64"), gateway=ip_address("fe80::1"))
    spec = NetworkSpec(name="six", ipv4=False, ipv6=True, pools=(pool,), options={f"{BRIDGE}name": "br0"})
    engine.perform(engine.planner.create_network, spec)
    engine.perform(engine.planner.remove_network, "six")
    assert addresses("br0") == had, "its own link-local address is left to it as well"
    sh("ip link set br0 down")
    with pytest.raises(Conflict, match=r"bridge br0 is there already, but down: set it up \(ip link set br0 up\)"):
        network(engine, "br0")
    sh("ip link del br0")


# IPv6


def test_an_ipv6_container_is_reached_at_once(engine: Engine) -> None:
    made = engine.perform(
        engine.planner.create_network, NetworkSpec(name="six", ipv4=False, ipv6=True, options={f"{BRIDGE}name": "six"})
    )
    assert made.pools[0].subnet.subnet_of(ip_network("fd00::/8"))  # type: ignore[arg-type]
    engine.perform(engine.planner.open_sandbox, "one")
    ports = (WEB, PortSpec(port=80, host_port=8081, protocol="udp"))
    endpoint = engine.perform(engine.planner.attach, "one", EndpointSpec(network="six", ports=ports))
    assert "tentative" not in sh("ip -n one -6 addr show scope global; ip -6 addr show dev six")
    assert ping(str(endpoint.addresses[0].ip))
    assert ping("2001:db8:8::8", "one")
    with server("one", 80):
        assert ask(HOST[6], 8081, "internet") == OUTSIDE[6], "published, with the client's address"
        for host in ("::1", "2001:db8::2", "127.0.0.1", HOST[4]):
            for protocol in ("tcp", "udp"):
                assert ask(host, 8081, protocol=protocol), host
        assert ask(HOST[4], 8081, "internet"), "relayed"
        assert ask(HOST[6], 8081, "one"), "hairpin"


def test_a_sandbox_without_ipv6_addresses_has_no_ipv6(engine: Engine) -> None:
    join(engine, "one", "bridge")
    assert "inet6" not in sh("ip -n one addr show dev eth0")
    assert "inet6" not in sh("ip addr show dev fairlead0")
    assert sh("ip -n one -6 route show default") == ""


def test_a_link_local_gateway(engine: Engine) -> None:
    pool = Pool(subnet=ip_network("fd00:1::/64"), gateway=ip_address("fe80::1"))
    spec = NetworkSpec(name="br0", ipv4=False, ipv6=True, pools=(pool,), options={f"{BRIDGE}name": "br0"})
    engine.perform(engine.planner.create_network, spec)
    one, two = join(engine, "one", "br0", WEB), join(engine, "two", "br0")
    assert "default via fe80::1 dev eth0" in sh("ip -n one -6 route")
    assert addresses("br0") == {"fe80::1/64"}
    assert ping(address_of(two, 6), "one")
    assert ping("2001:db8:8::8", "one")
    assert ping(address_of(one, 6)), "from the host"
    with server("one", 80):
        for namespace in ("", "internet", "two"):
            assert ask(HOST[6], 8081, namespace), namespace
        assert ask("::1", 8081)


_ADVERTISE = """
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
prefix = socket.inet_pton(socket.AF_INET6, sys.argv[2])
# RFC 4861 4.2 and 4.6.2: router lifetime 1800 s; a prefix of 64 bits, on-link and autonomous, for a day.
message = bytes([134, 0, 0, 0, 64, 0]) + (1800).to_bytes(2) + bytes(8)
message += bytes([3, 4, 64, 0xC0]) + (86400).to_bytes(4) * 2 + bytes(4) + prefix
s.sendto(message, ("ff02::1", 0, 0, socket.if_nametoindex(sys.argv[1])))
"""


def advertise(namespace: str, prefix: str, interface: str = "eth0") -> None:
    """A router advertisement from the interface of a namespace, where forwarding need not be on."""
    mine = f"ip -n {namespace} -6 addr show dev {interface} scope link"
    assert comes_true(f"{mine} | grep -q inet6 && ! {mine} | grep -q tentative")
    sh(f"ip netns exec {namespace} python3 -c '{_ADVERTISE}' {interface} {prefix}")


def has_default_route() -> bool:
    return "proto ra" in sh("ip -6 route show default")


def comes_true(script: str) -> bool:
    return works(f"for i in $(seq 30); do {script} && exit 0; sleep 0.1; done; exit 1")


def test_the_host_goes_on_hearing_its_routers(engine: Engine, tmp_path: Path) -> None:
    sh("ip -6 route del default; ip link add later type bridge")
    advertise("internet", "2001:db8:a::")
    assert comes_true("ip -6 route show default | grep -q 'proto ra'")
    network(engine, "br0")
    assert sh("cat /proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
    assert has_default_route(), "it was not thrown away"
    sh("ip -6 route flush proto ra")
    advertise("internet", "2001:db8:b::")
    assert comes_true("ip -6 route show default | grep -q 'proto ra'"), "and comes anew"
    assert comes_true("ip -6 addr show dev eth0 | grep -q 2001:db8:b:")
    join(engine, "one", "br0")
    assert ping("2001:db8:8::8", "one")
    # A container is no router of the host's.
    sh("ip -6 route flush proto ra; ip -n one link set eth0 addrgenmode eui64")
    advertise("one", "2001:db8:c::")
    sh("sleep 0.5")
    assert not has_default_route()
    assert "2001:db8:c:" not in sh("ip -6 addr")
    engine.reset()
    for name, value in (("all/forwarding", "0"), ("eth0/accept_ra", "1"), ("default/accept_ra", "1")):
        assert sh(f"cat /proc/sys/net/ipv6/conf/{name}") == f"{value}\n", name
    sh("ip link del later")
    engine.recover()


@pytest.mark.parametrize("families", [(4,), (4, 6)])
def test_a_container_is_no_router_of_its_neighbours(engine: Engine, families: tuple[int, ...]) -> None:
    network(engine, "br0", families=families)
    join(engine, "rogue", "br0")
    victim = join(engine, "victim", "br0")
    sh("ip -n rogue addr add fe80::66/64 dev eth0 nodad")
    advertise("rogue", "2001:db8:c::")
    sh("sleep 0.5")
    assert {one for one in addresses("eth0", "victim") if not one.startswith("fe80")} == set(map(str, victim.addresses))
    assert "proto ra" not in sh("ip -n victim -6 route")
    assert "proto ra" not in sh("ip -6 route")


def test_an_internal_network_needs_no_forwarding(engine: Engine, tmp_path: Path) -> None:
    network(engine, "br0", internal=True)
    engine.store.close()
    engine.__dict__.update(open_here(tmp_path).__dict__)
    assert sh("cat /proc/sys/net/ipv6/conf/all/forwarding") == "0\n"


def test_a_host_that_forwards_already_is_left_as_it_is(engine: Engine) -> None:
    sh("sysctl -qw net.ipv6.conf.all.forwarding=1")
    network(engine, "br0")
    assert sh("cat /proc/sys/net/ipv6/conf/eth0/accept_ra") == "1\n"
    engine.reset()
    assert sh("cat /proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
    engine.recover()


def test_after_a_reboot_the_host_forwards_again(engine: Engine, tmp_path: Path) -> None:
    network(engine, "br0")
    engine.store.close()
    sh("sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.eth0.accept_ra=1")
    again = open_here(tmp_path)
    assert sh("cat /proc/sys/net/ipv6/conf/all/forwarding /proc/sys/net/ipv6/conf/eth0/accept_ra") == "1\n2\n"
    engine.__dict__.update(again.__dict__)


# Others on the network, and other firewalls


def test_a_port_on_127_0_0_1_is_not_for_the_neighbour(engine: Engine) -> None:
    network(engine, "br0")
    join(engine, "web", "br0", PortSpec(port=80, host_port=8081, host_ip=ip_address("127.0.0.1")))
    join(engine, "near", "br0")
    route_from_outside("br0")
    for namespace, gateway in (("internet", "198.51.100.2"), ("near", "10.0.1.1")):
        sh(f"ip netns exec {namespace} sysctl -qw net.ipv4.conf.all.route_localnet=1")
        sh(f"ip -n {namespace} addr flush dev lo; ip -n {namespace} route add 127.0.0.0/8 via {gateway}")
    with server("web", 80), server("", 5000):
        assert ask("127.0.0.1", 8081)
        for namespace in ("internet", "near"):
            for protocol in ("tcp", "udp"):
                assert not ask("127.0.0.1", 8081, namespace, protocol)
                assert not ask("127.0.0.1", 5000, namespace, protocol)


def test_a_container_does_not_pose_as_the_hosts_loopback(engine: Engine) -> None:
    network(engine, "br0")
    join(engine, "one", "br0")
    sh("ip addr add 127.0.0.7/8 dev lo; ip -n one addr add 127.0.0.9/32 dev eth0")
    sh("ip netns exec one sysctl -qw net.ipv4.conf.all.route_localnet=1")
    script = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("10.0.1.1", 5000))
server.settimeout(1)
import subprocess
subprocess.run(["ip", "netns", "exec", "one", "python3", "-c",
    "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('127.0.0.9', 0));"
    "s.sendto(b'x', ('10.0.1.1', 5000))"], check=True)
print(server.recvfrom(10))
"""
    assert not works(f"python3 - <<'END'\n{script}\nEND")
    assert works(f"python3 - <<'END'\n{script.replace('127.0.0.9', '10.0.1.2')}\nEND")


def _iptables(legacy: str, *rules: str) -> str:
    return "".join(f"{program}{legacy} {rule}\n" for rule in rules for program in ("iptables", "ip6tables"))


FIREWALLS = {
    "iptables": _iptables("", "-P FORWARD DROP"),
    "iptables-legacy": _iptables("-legacy", "-P FORWARD DROP"),
    "nft": """nft -f - <<'END'
table inet guard { chain forwarded { type filter hook forward priority 0; policy drop; }; }
END""",
    # As Red Hat's iptables did: the last rule of a chain whose policy is accept.
    "reject": _iptables("", "-A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT", "-A FORWARD -j REJECT"),
    "reject-legacy": _iptables("-legacy", "-A FORWARD -j REJECT"),
    "like firewalld": """nft -f - <<'END'
table inet firewalld {
    chain zones { iifname "eth0" reject; }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop
        jump zones; reject with icmpx type admin-prohibited
    }
}
END""",
    "like ufw": _iptables("", "-P FORWARD DROP", "-N ufw", "-A ufw -j REJECT", "-A FORWARD -j ufw"),
}


@pytest.mark.usefixtures("br_netfilter")
@pytest.mark.parametrize("firewall", FIREWALLS)
def test_other_firewalls_let_pass_what_ours_allows(engine: Engine, firewall: str) -> None:
    sh(FIREWALLS[firewall])
    engine.mend()
    network(engine, "br0")
    network(engine, "br1", internal=True)
    web, near, inner = join(engine, "web", "br0", WEB), join(engine, "near", "br0"), join(engine, "inner", "br1")
    join(engine, "inner2", "br1")
    route_from_outside("br0")
    route_from_outside("br1")
    with server("web", 80):
        for version in (4, 6):
            assert ping(OUTSIDE[version], "web")
            assert ping(address_of(web, version), "near")
            assert ping(address_of(inner, version), "inner2")
            assert ask(HOST[version], 8081, "internet") == OUTSIDE[version]
            assert ask(HOST[version], 8081, "near")
            assert not ping(address_of(near, version), "internet")
            assert not ping(address_of(inner, version), "internet")
    rules = sh("nft list ruleset 2>/dev/null; iptables-legacy -S; ip6tables-legacy -S")
    assert 'iifname "br1" counter accept' not in rules
    assert "-i br1 -m" not in rules
    for sandbox in ("web", "near", "inner", "inner2"):
        engine.perform(engine.planner.close_sandbox, sandbox)
    for name in ("br0", "br1"):
        engine.perform(engine.planner.remove_network, name)
    rules = sh("nft list ruleset 2>/dev/null; iptables-legacy -S; ip6tables-legacy -S")
    assert "fairlead:br0" not in rules
    assert "fairlead:br1" not in rules
    engine.reset()
    assert "fairlead:" not in sh("nft list ruleset 2>/dev/null; iptables-legacy -S; ip6tables-legacy -S")
    engine.recover()


@pytest.mark.parametrize("legacy", ["", "-legacy"])
def test_a_rule_that_drops_some_packets_is_obeyed(engine: Engine, legacy: str) -> None:
    sh(_iptables(legacy, "-A FORWARD -i eth0 -p tcp --dport 80 -j DROP"))
    rules = sh(f"iptables{legacy} -S; ip6tables{legacy} -S")
    network(engine, "br0")
    join(engine, "web", "br0", WEB, PortSpec(port=81, host_port=8082))
    assert sh(f"iptables{legacy} -S; ip6tables{legacy} -S") == rules
    with server("web", 80, 81):
        for version in (4, 6):
            assert not ask(HOST[version], 8081, "internet")
            assert ask(HOST[version], 8082, "internet")


def test_an_ipv4_network_asks_nothing_of_an_ipv6_firewall(engine: Engine) -> None:
    sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    engine.mend()
    network(engine, "br0", families=(4,))
    assert sh("iptables -S").count("fairlead:br0") == 2
    assert "fairlead:br0" not in sh("ip6tables -S")


# What is refused


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({MODE4: "bridge"}, "gateway_mode_ipv4=bridge: it must be one of nat, nat-unprotected, routed, isolated"),
        ({f"{BRIDGE}enable_icc": "maybe"}, "enable_icc=maybe: it must be true or false"),
        ({f"{BRIDGE}inhibit_ipv4": "2"}, "inhibit_ipv4=2: it must be true or false"),
        ({f"{BRIDGE}host_binding_ipv4": "here"}, "host_binding_ipv4=here: it must be an IP address"),
        ({f"{BRIDGE}trusted_host_interfaces": "a b:c"}, "trusted_host_interfaces=a b:c: it must be interface names"),
        ({f"{BRIDGE}default_bridge": "true"}, "only the pre-defined network bridge may have it"),
        ({"com.docker.network.host_ipv4": "::1"}, "host_ipv4=::1: it must be an IPv4 address"),
        ({"com.docker.network.host_ipv6": "x"}, "host_ipv6=x: it must be an IPv6 address"),
        ({"com.docker.network.driver.mtu": "1000"}, "driver.mtu=1000: a network with IPv6 needs at least 1280 bytes"),
        ({"com.docker.network.container_iface_prefix": "way-too-long-it-is"}, "container_iface_prefix=way-too-long"),
        ({"com.docker.network.mtu": "1400"}, "option 'com.docker.network.mtu' is unknown to the driver bridge"),
    ],
)
def test_bad_values_are_named(engine: Engine, options: dict[str, str], sentence: str) -> None:
    with pytest.raises(FairleadError, match=sentence) as caught:
        network(engine, "br0", options=options)
    assert "\n" not in str(caught.value)
    assert "br0" not in links()


def test_rules_and_chains_are_the_same_whatever_there_is(engine: Engine) -> None:
    def written() -> list[dict[str, Any]]:
        things = json.loads(sh("nft -j list table inet fairlead"))["nftables"]
        return [thing for thing in things if "rule" in thing or "chain" in thing]

    before = written()
    trusted = {f"{BRIDGE}trusted_host_interfaces": "eth0"}
    network(engine, "br0", options={MODE4: "routed", f"{BRIDGE}enable_icc": "false", **trusted})
    network(engine, "br1", internal=True)
    join(engine, "web", "br0", *(PortSpec(port=80, host_port=8000 + i) for i in range(20)))
    assert written() == before


# What an attach waits for

_KERNEL = tuple(int(number) for number in os.uname().release.split(".")[:2])


@pytest.mark.skipif(_KERNEL < (6, 8), reason="older kernels see to a carrier when they get to it")
def test_who_is_attached_can_send_at_once(engine: Engine) -> None:
    network(engine, "br0")
    join(engine, "one", "br0")
    plan = engine.planner.plan_of(engine.catalog.endpoints()[0])
    assert [step.links[1:] for step in plan if isinstance(step, SeeCarrier)] == [("br0",), ()]
    link = engine.perform(
        engine.planner.add_link, LinkEnd(sandbox="", ifname="near"), LinkEnd(sandbox="one", ifname="far")
    )
    seen = [step.links for step in engine.planner.plan_of(link) if isinstance(step, SeeCarrier)]
    assert seen == [("near",), ("far",)]
    for round_ in range(100):
        sh("ip link add x type veth peer name y")
        with engine._executor.kernel.socket("") as socket:
            up = [rtnetlink.set_link(name, up=True) for name in ("y", "x")]
            assert not any(socket.send([*up, *(rtnetlink.look_at(name) for name in ("x", "y"))]))
            assert {"x", "y"} <= running(socket), round_
        sh("ip link del x")
