"""macvlan and ipvlan by what a packet meets.  The LAN is what is at eth0's other end.

Where the kernel lacks a feature, the sentence that says so is looked at; `make test-vm` has a kernel that lacks none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from kernel_lab import assert_consistent, assert_nothing_left, die_at, links, open_here, sh, works
from lab import INTERNET, ipv6_ready
from packets import ping

from fairlead.engine import Engine
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid, KernelError, MissingFeature
from fairlead.model import Endpoint, Network, Pool
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec

pytestmark = pytest.mark.vm

LAN = """
ip addr add 192.168.50.2/24 dev eth0
ip addr add fd00:50::2/64 dev eth0 nodad
ip -n internet addr add 192.168.50.1/24 dev eth0
ip -n internet addr add fd00:50::1/64 dev eth0 nodad
ip -n internet addr add 2001:db8::8/128 dev lo
"""
"""eth0 of the host is on a LAN, whose router (the internet) has the first address."""

SUBNETS = ("192.168.50.0/24", "fd00:50::/64")
SENTENCES = {
    "ipvlan": r"this kernel has no ipvlan \(CONFIG_IPVLAN, module ipvlan\)",
    "vlan": r"this kernel has no VLAN interfaces \(CONFIG_VLAN_8021Q, module 8021q\): .* cannot be made",
    "dummy": r"this kernel has no dummy interfaces \(CONFIG_DUMMY, module dummy\): name a parent",
}


@functools.cache
def kernel_has(kind: str) -> bool:
    """Whether `ip` can make such a link here, on a parent of its own: eth0 may be taken, by a passthru macvlan say."""
    words = {"vlan": "vlan id 9"}.get(kind, kind)
    parent = "" if kind == "dummy" else "link probe8"
    return works(
        f"""ip link add probe8 type veth peer name probe9; trap 'ip link del probe8' EXIT
        ip link add {parent} name probe0 type {words}; ip link del probe0"""
    )


@pytest.fixture
def engine(fresh_kernel: None, tmp_path: Path) -> Iterator[Engine]:
    sh(INTERNET + LAN + ipv6_ready())
    one = open_here(tmp_path)
    yield one
    assert_consistent(one)
    assert_nothing_left(one)


def make(
    engine: Engine,
    driver: str,
    *subnets: str,
    name: str = "lan",
    needs: tuple[str, ...] = (),
    internal: bool = False,
    **options: str,
) -> Network:
    """A network; where the kernel lacks what it needs, the refusal is looked at and the test ends here."""
    options = {key.replace("__", "."): value for key, value in options.items()}
    pools = tuple(Pool(subnet=ip_network(subnet)) for subnet in subnets or SUBNETS)
    ipv6 = any(pool.subnet.version == 6 for pool in pools)
    spec = NetworkSpec(name=name, driver=driver, pools=pools, ipv6=ipv6, internal=internal, options=options)
    lacking = next((kind for kind in (driver, *needs) if not kernel_has(kind)), None)
    if lacking is None:
        return engine.perform(engine.planner.create_network, spec)
    before = links()
    with pytest.raises(MissingFeature, match=SENTENCES[lacking]) as refusal:
        engine.perform(engine.planner.create_network, spec)
    assert refusal.value.status == 501
    assert set(links()) == set(before)
    assert engine.store.owner(f"network:{name}") is None
    pytest.skip(f"this kernel has no {lacking}; the sentence that says so was checked")


def join(engine: Engine, sandbox: str, network: str = "lan", *ips: str, mac: str = "") -> Endpoint:
    if not any(one.name == sandbox for one in engine.catalog.sandboxes()):
        engine.perform(engine.planner.open_sandbox, sandbox)
    spec = EndpointSpec(network=network, ips=tuple(map(ip_address, ips)), mac=mac)
    endpoint = engine.perform(engine.planner.attach, sandbox, spec)
    wait_for_addresses(sandbox)
    return endpoint


def wait_for_addresses(sandbox: str) -> None:
    """Until duplicate-address detection has let all IPv6 addresses be used."""
    sh(
        f"for i in $(seq 100); do ip -n {sandbox} -6 addr show tentative | grep -q inet6 || exit 0; sleep 0.1; done; "
        "exit 1"
    )


def addresses(endpoint: Endpoint) -> list[str]:
    return [str(interface.ip) for interface in endpoint.addresses]


L2 = [
    ("macvlan", {}, True),
    ("macvlan", {"macvlan_mode": "private"}, False),
    ("macvlan", {"macvlan_mode": "vepa"}, False),
    ("ipvlan", {}, True),
    ("ipvlan", {"ipvlan_flag": "private"}, False),
    ("ipvlan", {"ipvlan_flag": "vepa"}, False),
]


@pytest.mark.parametrize(("driver", "options", "neighbours"), L2, ids=lambda value: str(value))
def test_endpoints_are_machines_of_the_lan(
    engine: Engine, driver: str, options: dict[str, str], neighbours: bool
) -> None:
    make(engine, driver, parent="eth0", **options)
    one, two = (join(engine, name, "lan", f"192.168.50.{n}", f"fd00:50::{n}") for name, n in (("one", 11), ("two", 12)))
    for address in ("192.168.50.1", "fd00:50::1", "8.8.8.8", "2001:db8::8"):
        assert ping(address, "one"), f"the LAN's router, and what is behind it by way of it: {address}"
    assert all(ping(address, "internet") for address in addresses(one)), "the LAN reaches the endpoint"
    assert [ping(address, "one") for address in addresses(two)] == [neighbours, neighbours]
    assert not any(ping(address) for address in addresses(one)), "the host itself does not"
    assert not ping("192.168.50.2", "one")
    kind = links("one")["eth0"]["linkinfo"]
    assert kind["info_kind"] == driver
    assert kind["info_data"]["mode"] == (options.get("macvlan_mode", "bridge") if driver == "macvlan" else "l2")
    assert "fl" + one.id[:10] not in links("one")


def test_the_hosts_own_addresses_are_not_given(engine: Engine) -> None:
    sh("ip addr add 192.168.50.3/24 dev eth0")
    network = make(engine, "macvlan", parent="eth0")
    assert [{name: str(ip) for name, ip in pool.auxiliary.items()} for pool in network.pools] == [
        {"eth0": "192.168.50.2", "eth0-2": "192.168.50.3"},
        {"eth0": "fd00:50::2"},
    ]
    assert addresses(join(engine, "one")) == ["192.168.50.4", "fd00:50::3"]
    with pytest.raises(Conflict, match=r"192.168.50.3 is reserved as auxiliary address eth0-2 of network lan"):
        join(engine, "two", "lan", "192.168.50.3")


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_ipvlan_routes_for_its_endpoints(engine: Engine, mode: str) -> None:
    make(engine, "ipvlan", "10.60.0.0/24", "10.61.0.0/24", "fd00:60::/64", parent="eth0", ipvlan_mode=mode)
    one = join(engine, "one")
    two = join(engine, "two", "lan", "10.61.0.7")
    assert addresses(two)[0] == "10.61.0.7", "of its second subnet"
    routes = sh("ip -n one route; ip -n one -6 route")
    assert "default dev eth0 scope link" in routes
    assert "default dev eth0 metric" in routes
    assert "via" not in routes
    assert all(ping(address, "one") for address in addresses(two)), "from one subnet to the other"
    # In these modes it is the host's routes that lead on, and the neighbour's that lead back.
    sh(
        """ip -6 route add default via fd00:50::1; ip -n internet route add 10.60.0.0/23 via 198.51.100.2
        ip -n internet -6 route add fd00:60::/64 via fd00:50::2"""
    )
    assert ping("8.8.8.8", "one")
    assert ping("2001:db8::8", "one")
    assert ping(addresses(one)[0], "internet")
    assert links("one")["eth0"]["linkinfo"]["info_data"]["mode"] == mode


def test_ipvlan_keeps_its_endpoints_apart_in_l3_mode_too(engine: Engine) -> None:
    make(engine, "ipvlan", "10.60.0.0/24", parent="eth0", ipvlan_mode="l3", ipvlan_flag="private")
    join(engine, "one")
    two = join(engine, "two")
    sh("ip -n internet route add 10.60.0.0/24 via 198.51.100.2")
    assert ping("8.8.8.8", "one")
    assert not any(ping(address, "one") for address in addresses(two))


def test_passthru_gives_the_parent_to_one_endpoint(engine: Engine) -> None:
    make(engine, "macvlan", parent="eth0", macvlan_mode="passthru")
    mac = links()["eth0"]["address"]
    engine.perform(engine.planner.open_sandbox, "other")
    with pytest.raises(Invalid, match="in passthru mode: its endpoint has the MAC of eth0"):
        join(engine, "one", mac="02:42:00:00:00:01")
    join(engine, "one", "lan", "192.168.50.11")
    assert links("one")["eth0"]["address"] == mac
    assert ping("192.168.50.1", "one")
    with pytest.raises(Forbidden, match="network lan takes one endpoint, and one is it"):
        join(engine, "other")
    with pytest.raises(Conflict, match="eth0 is in use by network lan: in passthru mode"):
        make(engine, "macvlan", "10.9.0.0/24", name="second", parent="eth0")
    engine.perform(engine.planner.detach, "one", "lan")
    join(engine, "other")


def test_macvlan_networks_share_a_parent_and_ipvlan_networks_do_not(engine: Engine) -> None:
    make(engine, "macvlan", parent="eth0")
    make(engine, "macvlan", "10.9.0.0/24", name="second", parent="eth0")
    join(engine, "one")
    join(engine, "two", "second")
    with pytest.raises(Conflict, match="eth0 is in use by network lan: in passthru mode"):
        make(engine, "macvlan", "10.8.0.0/24", name="third", parent="eth0", macvlan_mode="passthru")
    make(engine, "ipvlan", "10.10.0.0/24", name="ip1", parent="eth0")
    with pytest.raises(Conflict, match="eth0 is in use by network ip1: it carries one ipvlan network"):
        make(engine, "ipvlan", "10.11.0.0/24", name="ip2", parent="eth0")
    with pytest.raises(KernelError, match="eth0 is a bridge's port or carries links of another kind"):
        join(engine, "three", "ip1")


def test_addresses_mac_mtu_and_names_are_as_asked(engine: Engine) -> None:
    make(
        engine,
        "macvlan",
        parent="eth0",
        com__docker__network__driver__mtu="1400",
        com__docker__network__container_iface_prefix="lan",
    )
    endpoint = join(engine, "one", "lan", "192.168.50.77", "fd00:50::77", mac="02:42:00:00:00:77")
    link = links("one")["lan0"]
    assert (link["mtu"], link["address"]) == (1400, "02:42:00:00:00:77")
    assert addresses(endpoint) == ["192.168.50.77", "fd00:50::77"]
    shown = sh("ip -n one addr show lan0")
    assert "192.168.50.77/24 brd 192.168.50.255" in shown
    assert "fd00:50::77/64" in shown
    again = join(engine, "two")
    assert links("two")["lan0"]["address"] == again.mac
    engine.perform(engine.planner.detach, "two", "lan")
    assert join(engine, "two").mac == again.mac
    spec = EndpointSpec(network="lan", ports=(PortSpec(port=80, host_port=8081),))
    with pytest.raises(Invalid, match="ports cannot be published"):
        engine.perform(engine.planner.open_sandbox, "three", endpoints=(spec,))


def test_an_internal_network_leads_no_further_than_the_lan(engine: Engine) -> None:
    make(engine, "macvlan", internal=True, parent="eth0")
    join(engine, "one", "lan", "192.168.50.11")
    assert ping("192.168.50.1", "one")
    assert not ping("8.8.8.8", "one")
    assert "default" not in sh("ip -n one route; ip -n one -6 route | grep -v unreachable")


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_without_a_parent_endpoints_meet_each_other_alone(engine: Engine, driver: str) -> None:
    network = make(engine, driver, needs=("dummy",))
    dummy = f"{'dm' if driver == 'macvlan' else 'di'}-{network.id[:12]}"
    assert links()[dummy]["linkinfo"]["info_kind"] == "dummy"
    join(engine, "one", "lan", "192.168.50.11")
    two = join(engine, "two")
    assert all(ping(address, "one") for address in addresses(two))
    assert not ping("192.168.50.1", "one")
    assert_consistent(engine)
    for name in ("one", "two"):
        engine.perform(engine.planner.close_sandbox, name)
    engine.perform(engine.planner.remove_network, "lan")
    assert dummy not in links()


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_a_vlan_interface_is_made_and_removed(engine: Engine, driver: str) -> None:
    network = make(engine, driver, needs=("vlan",), parent="eth0.10")
    assert network.parent == "eth0.10"
    info = links()["eth0.10"]
    assert (info["link"], info["linkinfo"]["info_data"]["id"]) == ("eth0", 10)
    sh(
        """ip -n internet link add link eth0 name eth0.10 type vlan id 10; ip -n internet link set eth0.10 up
        ip -n internet addr flush dev eth0 to 192.168.50.0/24; ip -n internet addr add 192.168.50.1/24 dev eth0.10"""
    )
    join(engine, "one", "lan", "192.168.50.11")
    assert ping("192.168.50.1", "one"), "through the tag"
    engine.perform(engine.planner.close_sandbox, "one")
    engine.perform(engine.planner.remove_network, "lan")
    assert "eth0.10" not in links()


def test_a_vlan_interface_stays_as_long_as_a_network_needs_it(engine: Engine, tmp_path: Path) -> None:
    make(engine, "macvlan", needs=("vlan",), parent="eth0.10")
    make(engine, "macvlan", "10.9.0.0/24", name="second", parent="eth0.10")
    engine.perform(engine.planner.remove_network, "lan")
    assert "eth0.10" in links()
    engine.store.close()
    again = open_here(tmp_path)
    assert "eth0.10" in links(), "it is no orphan"
    engine.__dict__.update(again.__dict__)
    join(engine, "two", "second")
    engine.perform(engine.planner.close_sandbox, "two")
    engine.perform(engine.planner.remove_network, "second")
    assert "eth0.10" not in links()


def test_a_vlan_interface_of_the_users_stays_the_users(engine: Engine) -> None:
    if kernel_has("vlan"):
        sh("ip link add link eth0 name eth0.10 type vlan id 10; ip link set eth0.10 up")
    network = make(engine, "macvlan", needs=("vlan",), parent="eth0.10")
    assert network.adopted
    engine.perform(engine.planner.remove_network, "lan")
    assert "eth0.10" in links()
    sh("ip link del eth0.10")


REFUSED = [
    ({"parent": "nope"}, Invalid, "this host has no interface nope"),
    ({"parent": "nope.10"}, Invalid, "this host has neither an interface nope.10 nor nope"),
    ({"parent": "eth0.4095"}, Invalid, "only with a VLAN id from 1 to 4094"),
    ({"parent": "eth0.x"}, Invalid, "only with a VLAN id from 1 to 4094"),
    ({"parent": "lo"}, Invalid, "the loopback interface cannot be a parent"),
    ({"parent": "eth0", "macvlan_mode": "l2"}, Invalid, "it must be one of bridge, private, vepa, passthru"),
    ({"parent": "eth0", "ipvlan_mode": "l2"}, Invalid, "unknown to the driver macvlan"),
    ({"parent": "eth0", "com__docker__network__driver__mtu": "9000"}, Invalid, "eth0 carries 1500 bytes at most"),
]


@pytest.mark.parametrize(("options", "kind", "sentence"), REFUSED, ids=lambda value: str(value))
def test_mistakes_get_a_sentence(
    engine: Engine, options: dict[str, str], kind: type[FairleadError], sentence: str
) -> None:
    before = set(links())
    with pytest.raises(kind, match=sentence):
        make(engine, "macvlan", **options)
    assert set(links()) == before


def test_a_parent_that_is_down_or_gone_is_named(engine: Engine) -> None:
    sh("ip link add up0 type veth peer name up1; ip link set up1 up")
    make(engine, "macvlan", parent="up0")
    with pytest.raises(KernelError, match="up0 is down; `ip link set up0 up` sets it up"):
        join(engine, "one")
    assert set(links("one")) == {"lo"}
    sh("ip link del up0")
    with pytest.raises(KernelError, match="this host has no interface up0"):
        join(engine, "one")
    assert engine.catalog.endpoints() == []
    engine.perform(engine.planner.remove_network, "lan")


def test_a_name_that_somebody_took_inside_is_left_to_them(engine: Engine) -> None:
    make(engine, "macvlan", parent="eth0")
    engine.perform(engine.planner.open_sandbox, "one")
    sh("ip -n one link add eth0 type bridge")
    with pytest.raises(KernelError, match="cannot make the macvlan eth0 on eth0: File exists"):
        join(engine, "one")
    assert links("one")["eth0"]["linkinfo"]["info_kind"] == "bridge"
    assert set(links("one")) == {"lo", "eth0"}
    sh("ip -n one link del eth0")


def test_recovery_mends_what_was_broken_by_hand_and_clears_orphans(engine: Engine, tmp_path: Path) -> None:
    make(engine, "macvlan", parent="eth0")
    join(engine, "one", "lan", "192.168.50.11")
    join(engine, "two")
    engine.store.close()
    sh(
        """ip -n one link del eth0; ip -n two addr flush dev eth0
        ip link add link eth0 name stray netns two type macvlan; ip -n two link set stray alias fairlead:0123456789
        ip link add link eth0 name theirs netns two type macvlan"""
    )
    again = open_here(tmp_path)
    assert ping("192.168.50.1", "one")
    assert ping("192.168.50.1", "two")
    assert set(links("two")) == {"lo", "eth0", "theirs"}
    sh("ip -n two link del theirs")
    engine.__dict__.update(again.__dict__)


OPERATIONS: dict[str, tuple[Callable[[Engine], object], Callable[[Engine], object]]] = {
    "connect": (
        lambda e: (make(e, "macvlan", parent="eth0"), e.perform(e.planner.open_sandbox, "one")),
        lambda e: join(e, "one"),
    ),
    "disconnect": (
        lambda e: (make(e, "macvlan", parent="eth0"), join(e, "one")),
        lambda e: e.perform(e.planner.detach, "one", "lan"),
    ),
    "vlan": (lambda e: None, lambda e: make(e, "macvlan", needs=("vlan",), parent="eth0.10")),
    "vlan rm": (
        lambda e: make(e, "macvlan", needs=("vlan",), parent="eth0.10"),
        lambda e: e.perform(e.planner.remove_network, "lan"),
    ),
    "dummy": (lambda e: None, lambda e: make(e, "ipvlan", needs=("dummy",))),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_every_boundary(fresh_kernel: None, name: str, tmp_path: Path) -> None:
    sh(INTERNET + LAN + ipv6_ready())
    if (kind := name.split()[0]) in SENTENCES and not kernel_has(kind):
        pytest.skip(f"this kernel has no {kind}")
    setup, act = OPERATIONS[name]
    for point in range(100):
        directory = tmp_path / str(point)
        passed = die_at(directory, setup, act, point)
        engine = open_here(directory)
        assert_consistent(engine)
        if not engine.store.owner("network:lan"):
            make(engine, "macvlan", parent="eth0")
        join(engine, "fresh")
        assert ping("192.168.50.1", "fresh") or engine.catalog.network("lan").parent != "eth0"
        assert_nothing_left(engine)
        engine.store.close()
        if passed >= 0:
            break
    assert passed == point >= 3
