"""What users may not ask, and the shell lines that what they may ask amounts to; no root, no kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from fakes import UNIQUE_LOCAL, FakeFacts
from msgspec.structs import replace

from fairlead.catalog import Catalog
from fairlead.engine import KINDS
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, NotFound
from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import Endpoint, LinkEnd, Network, Phase, Pool, Record
from fairlead.plan.names import RedirectNames
from fairlead.plan.ports import HoldPort
from fairlead.planner import Change, Planner
from fairlead.publishing import Publisher
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec
from fairlead.store import Store

BRIDGE = "com.docker.network.bridge.name"


class World:
    """A store and a planner; `do` is an engine whose kernel always says yes."""

    def __init__(self, path: Path) -> None:
        self.facts = FakeFacts()
        self.store = Store(path / "store.db", KINDS)
        publisher = Publisher(self.store, pick=lambda _protocol, _addresses, number: number or 40000, ipv6=True)
        self.planner = Planner(
            self.store, Catalog(self.store), self.facts, publisher, Path("/run/fairlead/netns"), UNIQUE_LOCAL
        )

    def do(self, change: Change[Any]) -> Any:
        self.store.delete(*change.remove)
        self.store.put(*change.add, *change.replace)
        for record in change.remove:
            self.planner.released(record)
        return change.result

    def network(self, name: str = "br0", subnet: str = "10.0.0.0/24", **options: Any) -> Network:
        spec = NetworkSpec(name=name, pools=(Pool(subnet=ip_network(subnet)),), options={BRIDGE: name}, **options)
        network = self.do(self.planner.create_network(spec))
        assert isinstance(network, Network)
        return network


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.store.close()


def lines(change: Change[Any]) -> list[str]:
    """The change as shell, ids that are random written as such."""
    found = [*change.undo.unshell(), *change.plan.shell()]
    records: tuple[Record, ...] = (*change.add, *change.remove)
    for record in records:
        found = [line.replace(record.id, "<id>").replace(record.id[:7], "<id7>") for line in found]
        if isinstance(record, Endpoint) and record.mac:
            found = [line.replace(record.mac, "<mac>") for line in found]
    return found


def test_a_namespace(world: World) -> None:
    assert lines(world.planner.open_sandbox("ns0")) == ["ip netns add ns0", "ip -n ns0 link set lo up"]
    world.do(world.planner.open_sandbox("ns0"))
    assert lines(world.planner.close_sandbox("ns0")) == ["ip netns del ns0"]


def test_a_link(world: World) -> None:
    for name in ("ns0", "ns1"):
        world.do(world.planner.open_sandbox(name))
    one = LinkEnd(sandbox="ns0", ifname="vth0", addresses=(ip_interface("172.0.0.2/24"),))
    other = LinkEnd(sandbox="ns1", ifname="vth1", addresses=(ip_interface("172.0.0.3/24"),))
    change = world.planner.add_link(one, other)
    assert lines(change) == [
        "ip -n ns0 link add vth0 type veth peer name vth1 netns ns1",
        "ip -n ns0 link set vth0 alias fairlead:<id>",
        "ip -n ns0 addr add 172.0.0.2/24 brd + dev vth0",
        "ip -n ns0 link set vth0 up",
        "ip -n ns1 addr add 172.0.0.3/24 brd + dev vth1",
        "ip -n ns1 link set vth1 up",
    ]
    world.do(change)
    assert lines(world.planner.remove_link("ns1/vth1")) == ["ip -n ns0 link del vth0"]


NETWORK_LINES = [
    "ip link set br0 alias fairlead:<id>",
    "sysctl -eqw net/ipv6/conf/br0/disable_ipv6=1",
    "ip link set br0 addrgenmode none",
    "ip link set br0 up",
    "ip addr add 10.0.0.1/24 brd + dev br0",
    "sysctl -qw net/ipv4/conf/br0/route_localnet=1",
    "nft add element inet fairlead bridges '{ \"br0\" }'",
    'nft add element inet fairlead itself \'{ "br0" . "br0" }\'',
    "nft add element inet fairlead masqueraded4 '{ \"br0\" }'",
]


def test_an_ipv6_network_makes_the_host_forward_and_keep_listening(world: World) -> None:
    world.facts.forwards, world.facts.listeners = False, ["default", "eth0"]
    pool = Pool(subnet=ip_network("fd00:5::/64"))
    spec = NetworkSpec(name="br0", ipv4=False, ipv6=True, pools=(pool,), options={BRIDGE: "br0"})
    change = world.planner.create_network(spec)
    made = lines(change)
    assert made[:3] == [
        "sysctl -qw net/ipv6/conf/default/accept_ra=2",
        "sysctl -qw net/ipv6/conf/eth0/accept_ra=2",
        "sysctl -qw net/ipv6/conf/all/forwarding=1",
    ]
    assert made[4:] == [
        "ip link set br0 alias fairlead:<id>",
        "sysctl -eqw net/ipv6/conf/br0/disable_ipv6=0",
        "sysctl -qw net/ipv6/conf/br0/accept_ra=0",
        "ip link set br0 addrgenmode none",
        "ip link set br0 up",
        "ip addr add fd00:5::1/64 nodad dev br0",
        "ip addr add fe80::1/64 nodad dev br0",
        "nft add element inet fairlead bridges '{ \"br0\" }'",
        'nft add element inet fairlead itself \'{ "br0" . "br0" }\'',
        "nft add element inet fairlead masqueraded6 '{ \"br0\" }'",
    ]
    assert change.settings == {"net/ipv6/conf/all/forwarding": "default eth0"}
    world.do(change)
    assert not any("forwarding" in line or "accept_ra" in line for line in lines(world.planner.remove_network("br0")))


def test_a_host_without_ipv6_makes_no_ipv6_network(world: World) -> None:
    world.facts.ipv6 = False
    with pytest.raises(Invalid, match="this host's kernel has no IPv6"):
        world.planner.create_network(NetworkSpec(name="n", ipv6=True))


def test_an_adopted_bridge_is_neither_made_nor_deleted(world: World) -> None:
    world.facts.bridges["br7"] = LinkFact(index=7, name="br7", kind="bridge", up=True, mtu=9000)
    world.facts.found["br7"] = (ip_interface("10.7.0.9/24"),)
    world.facts.routes.append(ip_network("10.7.0.0/24"))
    change = world.planner.create_network(NetworkSpec(name="n", options={BRIDGE: "br7"}))
    assert [str(pool.gateway) for pool in change.result.pools] == ["10.7.0.9"]
    world.do(change)
    world.do(world.planner.open_sandbox("ns0"))
    (made, *_) = lines(world.planner.attach("ns0", EndpointSpec(network="n")))
    assert made.startswith("ip link add veth<id7> address fe:ff:")
    assert " mtu 9000 " in made
    both = lines(change) + lines(world.planner.remove_network("n"))
    assert not any(line.startswith("ip ") for line in both)
    assert "sysctl -qw net/ipv4/conf/br7/route_localnet=0" in both


def test_a_routed_port_needs_no_port_of_the_host(world: World) -> None:
    network = NetworkSpec(
        name="n", ipv6=True, options={"com.docker.network.bridge.gateway_mode_ipv6": "routed", BRIDGE: "br0"}
    )
    world.do(world.planner.create_network(network))
    world.do(world.planner.open_sandbox("ns0"))
    ports = (PortSpec(port=80, host_port=8081),)
    change = world.planner.attach("ns0", EndpointSpec(network="n", ports=ports))
    assert [(str(port.host_ip), port.host_port) for port in change.result.ports] == [("0.0.0.0", 8081), ("::", 0)]
    assert [line for line in lines(change) if line.startswith("nft ")] == [
        "nft add element inet fairlead ports4_any '{ tcp . 8081 : 172.17.0.2 . 80 }'",
        "nft add element inet fairlead direct6 '{ tcp . fd00:1:2::2 . 80 }'",
    ]


@pytest.mark.parametrize("irrelevant", [{}, {"attachable": True}, {"labels": {"a": "b"}}])
def test_a_network(world: World, irrelevant: dict[str, Any]) -> None:
    spec = NetworkSpec(
        name="br0", pools=(Pool(subnet=ip_network("10.0.0.0/24")),), options={BRIDGE: "br0"}, **irrelevant
    )
    change = world.planner.create_network(spec)
    made = lines(change)
    assert made[0].startswith("ip link add br0 address 02:")
    assert made[1:] == NETWORK_LINES
    world.do(change)
    assert lines(world.planner.remove_network("br0"))[-1] == "ip link del br0"


def test_an_internal_network_and_one_without_masquerade_borrow_no_address(world: World) -> None:
    for name, options in (("a", {}), ("b", {"com.docker.network.bridge.enable_ip_masquerade": "false"})):
        spec = NetworkSpec(name=name, internal=not options, options=options)
        assert not any("masqueraded" in line for line in lines(world.planner.create_network(spec)))


def test_a_network_without_gateway_leads_nowhere(world: World) -> None:
    spec = NetworkSpec(name="n", no_gateway=True, pools=(Pool(subnet=ip_network("10.0.0.0/24")),))
    made = lines(world.planner.create_network(spec))
    assert not any(word in line for line in made for word in ("masqueraded", "route_localnet", "addr add"))


def test_other_firewalls_are_told_to_let_the_bridge_pass_and_untold_at_the_end(world: World) -> None:
    world.facts.chains = [OtherChain("ip", "filter", "FORWARD"), OtherChain("ip", "filter", "FORWARD", legacy=True)]
    made = lines(world.planner.create_network(NetworkSpec(name="n", options={BRIDGE: "br9"})))
    assert made[-4:] == [
        'nft \'insert rule ip filter FORWARD iifname "br9" counter accept comment "fairlead:br9"\'',
        'nft \'insert rule ip filter FORWARD oifname "br9" counter accept comment "fairlead:br9"\'',
        "iptables-legacy -I FORWARD -i br9 -m comment --comment fairlead:br9 -j ACCEPT",
        "iptables-legacy -I FORWARD -o br9 -m comment --comment fairlead:br9 -j ACCEPT",
    ]


def test_an_endpoint_with_a_port(world: World) -> None:
    world.network()
    world.do(world.planner.open_sandbox("ns0"))
    ports = (PortSpec(port=80, host_port=8081),)
    change = world.planner.attach("ns0", EndpointSpec(network="br0", ports=ports))
    assert lines(change) == [
        "ip link add veth<id7> numtxqueues 1 numrxqueues 1 type veth"
        " peer name eth0 address <mac> numtxqueues 1 numrxqueues 1 netns ns0",
        "ip link set veth<id7> alias fairlead:<id>",
        "sysctl -eqw net/ipv6/conf/veth<id7>/disable_ipv6=1",
        "ip netns exec ns0 sysctl -eqw net/ipv6/conf/eth0/accept_ra=0",
        "ip -n ns0 addr add 10.0.0.2/24 brd + dev eth0",
        "ip netns exec ns0 sysctl -qw net/ipv4/conf/eth0/arp_notify=1",
        "ip -n ns0 link set eth0 addrgenmode none",
        "ip -n ns0 link set eth0 up",
        "ip -n ns0 route add default via 10.0.0.1 dev eth0",
        "ip link set veth<id7> master br0",
        "ip link set veth<id7> up type bridge_slave hairpin on",
        "nft add element inet fairlead ports4_any '{ tcp . 8081 : 10.0.0.2 . 80 }'",
        "nft add element inet fairlead relayed_any '{ ipv6 . tcp . 8081 }'",
        *RedirectNames("/run/netns/ns0").shell(),
    ]
    world.do(change)
    assert lines(world.planner.detach("ns0", "br0")) == [
        "nft delete element inet fairlead relayed_any '{ ipv6 . tcp . 8081 }'",
        "nft delete element inet fairlead ports4_any '{ tcp . 8081 }'",
        "ip link del veth<id7>",
    ]


def test_the_default_route_passes_to_another_network(world: World) -> None:
    world.network("br0", "10.0.0.0/24")
    world.network("br1", "10.0.1.0/24")
    world.do(world.planner.open_sandbox("ns0"))
    world.do(world.planner.attach("ns0", EndpointSpec(network="br0")))
    second = world.do(world.planner.attach("ns0", EndpointSpec(network="br1")))
    assert second.ifname == "eth1"
    assert second.gateways == ()
    change = world.planner.detach("ns0", "br0")
    assert change.plan.shell() == ["ip -n ns0 route add default via 10.0.1.1 dev eth1"]
    world.do(change)
    assert world.store.all(type(second))[0].gateways == (ip_address("10.0.1.1"),)


def test_published_ports_pass_to_another_network(world: World) -> None:
    world.network("br0", "10.0.0.0/24")
    world.network("br1", "10.0.1.0/24")
    ports = (PortSpec(port=80, host_ip=ip_address("192.0.2.1"), host_port=8081),)
    world.do(world.planner.open_sandbox("ns0"))
    first = world.do(world.planner.attach("ns0", EndpointSpec(network="br0", ports=ports)))
    world.do(world.planner.attach("ns0", EndpointSpec(network="br1")))
    change = world.planner.detach("ns0", "br0", ports)
    assert not [step for step in change.undo if isinstance(step, HoldPort)], "it is held all the time"
    assert "nft delete element inet fairlead ports4 '{ tcp . 192.0.2.1 . 8081 }'" in lines(change)
    assert "nft add element inet fairlead ports4 '{ tcp . 192.0.2.1 . 8081 : 10.0.1.2 . 80 }'" in lines(change)
    world.do(change)
    assert [endpoint.ports for endpoint in world.store.all(Endpoint)] == [first.ports]


def test_the_ports_of_a_namespace_go_with_its_endpoint(world: World) -> None:
    world.network("br0", "10.0.0.0/24")
    world.network("br1", "10.0.1.0/24")
    world.do(world.planner.open_sandbox("ns0"))
    world.do(world.planner.attach("ns0", EndpointSpec(network="br0", ports=(PortSpec(port=80, host_port=8081),))))
    world.do(world.planner.attach("ns0", EndpointSpec(network="br1")))
    world.do(world.planner.detach("ns0", "br0"))
    assert [endpoint.ports for endpoint in world.store.all(Endpoint)] == [()]


def test_a_network_of_higher_priority_takes_the_default_route_at_once(world: World) -> None:
    world.network("br0", "10.0.0.0/24")
    world.network("br1", "10.0.1.0/24")
    world.do(world.planner.open_sandbox("ns0"))
    world.do(world.planner.attach("ns0", EndpointSpec(network="br0")))
    change = world.planner.attach("ns0", EndpointSpec(network="br1", priority=1))
    assert change.undo.unshell() == ["ip -n ns0 route del default via 10.0.0.1 dev eth0"]
    assert "ip -n ns0 route add default via 10.0.1.1 dev eth1" in change.plan.shell()
    world.do(change)
    change = world.planner.detach("ns0", "br1")
    assert change.plan.shell() == ["ip -n ns0 route add default via 10.0.0.1 dev eth0"]


def test_each_family_has_its_own_default_route(world: World) -> None:
    world.network("four", "10.0.0.0/24")
    world.do(world.planner.create_network(NetworkSpec(name="six", ipv4=False, ipv6=True, options={BRIDGE: "br6"})))
    specs = (EndpointSpec(network="four"), EndpointSpec(network="six"))
    made = world.planner.open_sandbox("ns0", endpoints=specs)
    assert [line for line in made.plan.shell() if "default" in line] == [
        "ip -n ns0 route add default via 10.0.0.1 dev eth0",
        "ip -n ns0 -6 route add default via fd00:1:2::1 dev eth1",
    ]


def test_the_lowest_free_address_is_given_again(world: World) -> None:
    world.network()
    for name in ("a", "b", "c"):
        world.do(world.planner.open_sandbox(name))
        world.do(world.planner.attach(name, EndpointSpec(network="br0")))
    world.do(world.planner.detach("b", "br0"))
    world.do(world.planner.detach("a", "br0"))
    again = world.do(world.planner.attach("b", EndpointSpec(network="br0")))
    assert str(again.addresses[0]) == "10.0.0.2/24"


def wrong_networks() -> list[tuple[dict[str, Any], type[FairleadError], str]]:
    pool = Pool(subnet=ip_network("10.9.0.0/24"))
    return [
        ({"name": "br0"}, Conflict, "network with name br0 already exists"),
        ({"name": "-x"}, Invalid, "invalid network name '-x'"),
        ({"name": ""}, Invalid, "invalid network name ''"),
        (
            {"name": "n", "driver": "foo"},
            NotFound,
            'plugin "foo" not found: the network drivers here are bridge, host, ipvlan, macvlan, null',
        ),
        ({"name": "n", "driver": "host"}, Forbidden, 'only one instance of "host" network is allowed'),
        ({"name": "n", "options": {"ab": "c"}}, Invalid, "option 'ab' is unknown to the driver bridge; known are:"),
        ({"name": "n", "options": {BRIDGE: "x" * 16}}, Invalid, "has 16 bytes: 1 to 15 are allowed"),
        ({"name": "n", "options": {BRIDGE: "a/b"}}, Invalid, "must not be '.' or '..' nor contain '/'"),
        ({"name": "n", "options": {BRIDGE: "eth0"}}, Conflict, "taken by an interface of this host"),
        ({"name": "n", "options": {BRIDGE: "br0"}}, Conflict, "bridge name br0 is taken by network br0"),
        ({"name": "n", "options": {"com.docker.network.driver.mtu": "x"}}, Invalid, "a number of bytes from 68"),
        ({"name": "n", "options": {"com.docker.network.driver.mtu": "67"}}, Invalid, "a number of bytes from 68"),
        ({"name": "n", "pools": (Pool(subnet=ip_network("10.0.0.128/25")),)}, Forbidden, "overlaps with 10.0.0.0/24"),
        ({"name": "n", "pools": (Pool(subnet=ip_network("198.51.0.0/16")),)}, Forbidden, "this host has a route to"),
        ({"name": "n", "pools": (pool, replace(pool, subnet=ip_network("10.8.0.0/24")))}, Invalid, "one subnet per"),
        ({"name": "n", "pools": (replace(pool, gateway=ip_address("10.1.1.1")),)}, Invalid, "gateway 10.1.1.1 is not"),
        ({"name": "n", "pools": (replace(pool, gateway=ip_address("10.9.0.255")),)}, Invalid, "broadcast address"),
        ({"name": "n", "pools": (replace(pool, ip_range=ip_network("10.8.0.0/25")),)}, Invalid, "range 10.8.0.0/25"),
        (
            {"name": "n", "pools": (replace(pool, auxiliary={"r": ip_address("1.1.1.1")}),)},
            Invalid,
            "address r 1.1.1.1",
        ),
    ]


@pytest.mark.parametrize(("words", "kind", "sentence"), wrong_networks())
def test_networks_that_are_refused(
    world: World, words: dict[str, Any], kind: type[FairleadError], sentence: str
) -> None:
    world.network()
    with pytest.raises(kind) as caught:
        world.planner.create_network(NetworkSpec(**words))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def wrong_endpoints() -> list[tuple[dict[str, Any], type[FairleadError], str]]:
    return [
        ({"network": "nope"}, NotFound, "network nope not found"),
        ({"network": "br0", "ips": (ip_address("10.0.1.1"),)}, Invalid, "not in the subnet 10.0.0.0/24 of network br0"),
        ({"network": "br0", "ips": (ip_address("10.0.0.1"),)}, Conflict, "is the gateway of network br0"),
        ({"network": "br0", "ips": (ip_address("10.0.0.2"),)}, Conflict, "address 10.0.0.2 is already in use by first"),
        ({"network": "br0", "ips": (ip_address("fd00::1"),)}, Invalid, "network br0 has no IPv6 subnet"),
        ({"network": "br0", "mac": "xx"}, Invalid, "is not of the form"),
        ({"network": "br0", "mac": "01:00:5e:00:00:01"}, Invalid, "multicast"),
        ({"network": "br0", "ifname": "much-too-long-name"}, Invalid, "has 18 bytes"),
        ({"network": "br0", "ports": (PortSpec(port=80, host_port=8081),)}, Conflict, "port is already allocated"),
        (
            {"network": "br0", "options": {X: "y"}},
            Invalid,
            f"option '{X}' is unknown to endpoints of the driver bridge",
        ),
        (
            {"network": "br0", "ports": (PortSpec(port=80, host_port=8081, host_ip=ip_address("127.0.0.1")),)},
            Conflict,
            "Bind for 127.0.0.1:8081/tcp failed: port is already allocated",
        ),
        (
            {"network": "br0", "ports": (PortSpec(port=1, host_port=9), PortSpec(port=2, host_port=9))},
            Conflict,
            "already allocated (to this request)",
        ),
    ]


X = "com.docker.network.endpoint.x"


@pytest.mark.parametrize(("words", "kind", "sentence"), wrong_endpoints())
def test_endpoints_that_are_refused(
    world: World, words: dict[str, Any], kind: type[FairleadError], sentence: str
) -> None:
    world.network()
    for name in ("first", "second"):
        world.do(world.planner.open_sandbox(name))
    world.do(world.planner.attach("first", EndpointSpec(network="br0", ports=(PortSpec(port=80, host_port=8081),))))
    with pytest.raises(kind) as caught:
        world.planner.attach("second", EndpointSpec(**words))
    assert sentence in str(caught.value)


def test_other_refusals(world: World) -> None:
    network = world.network()
    world.do(world.planner.open_sandbox("ns0"))
    world.facts.paths.add("/run/netns/theirs")
    spec = EndpointSpec(network="br0")
    world.do(world.planner.attach("ns0", spec))
    cases = [
        (lambda: world.planner.open_sandbox("ns0"), Conflict, "network namespace ns0 already exists"),
        (lambda: world.planner.open_sandbox("theirs"), Conflict, "Fairlead did not make it"),
        (lambda: world.planner.open_sandbox("../x"), Invalid, "invalid network namespace name"),
        (lambda: world.planner.attach("ns0", spec), Forbidden, "ns0 is already connected to network br0"),
        (lambda: world.planner.attach("ns9", spec), NotFound, "No such network namespace: ns9"),
        (lambda: world.planner.detach("ns0", "nope"), NotFound, "network nope not found"),
        (lambda: world.planner.remove_network("br0"), Forbidden, "has active endpoints: disconnect ns0 first"),
        (lambda: world.planner.remove_link("ns0/x"), NotFound, "No such link: ns0/x"),
    ]
    for make, kind, sentence in cases:
        with pytest.raises(kind, match=sentence):
            make()  # type: ignore[no-untyped-call]
    world.do(world.planner.detach("ns0", network.id[:6]))
    with pytest.raises(Forbidden, match="ns0 is not connected to network br0"):
        world.planner.detach("ns0", "br0")


def test_nothing_joins_what_is_being_removed(world: World) -> None:
    network = world.network()
    world.do(world.planner.open_sandbox("ns0"))
    world.store.put(replace(network, phase=Phase.REMOVING))
    with pytest.raises(Conflict, match="is being changed"):
        world.planner.attach("ns0", EndpointSpec(network="br0"))


def test_a_published_range_takes_the_first_free_port(world: World) -> None:
    world.network()
    for name, port in (("a", 7000), ("b", 7001)):
        world.do(world.planner.open_sandbox(name))
        spec = PortSpec(port=80, host_port=7000, host_port_end=7001)
        endpoint = world.do(world.planner.attach(name, EndpointSpec(network="br0", ports=(spec,))))
        assert {published.host_port for published in endpoint.ports} == {port}
        assert [str(published.host_ip) for published in endpoint.ports] == ["0.0.0.0", "::"]
    world.do(world.planner.open_sandbox("c"))
    with pytest.raises(Conflict, match="all tcp ports from 7000 to 7001"):
        world.planner.attach("c", EndpointSpec(network="br0", ports=(spec,)))
