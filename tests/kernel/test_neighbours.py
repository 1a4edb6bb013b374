"""Endpoints by what their neighbours know of them, and by what the kernel has of their settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from kernel_lab import assert_consistent, assert_nothing_left, links, open_here, sh, works
from lab import INTERNET

from fairlead.endpoints import SYSCTLS
from fairlead.engine import Engine
from fairlead.errors import Conflict, KernelError
from fairlead.model import Endpoint, Pool
from fairlead.plan.announce import Announce
from fairlead.spec import EndpointSpec, NetworkSpec

SUBNETS = ("10.5.0.0/24", "fd00:5::/64")
LAN = "ip link set eth0 up; ip -n internet addr add 10.5.0.1/24 dev eth0"
WANTED = ("10.5.0.9", "fd00:5::9")
STALE = "02:00:00:00:00:99"


@pytest.fixture
def engine(fresh_kernel: None, tmp_path: Path) -> Iterator[Engine]:
    sh(INTERNET + LAN)
    one = open_here(tmp_path)
    for name in ("one", "two"):
        one.perform(one.planner.open_sandbox, name)
    yield one
    assert_consistent(one)
    assert_nothing_left(one)


def network(engine: Engine, driver: str = "bridge", **options: str) -> None:
    pools = tuple(Pool(subnet=ip_network(subnet)) for subnet in SUBNETS)
    spec = NetworkSpec(name="n", driver=driver, pools=pools, ipv6=True, options=options)
    engine.perform(engine.planner.create_network, spec)


def join(engine: Engine, sandbox: str, *ips: str, **wanted: Any) -> Endpoint:
    spec = EndpointSpec(network="n", ips=tuple(map(ip_address, ips)), **wanted)
    return engine.perform(engine.planner.attach, sandbox, spec)


def had_before(engine: Engine) -> None:
    """Another sandbox has had the addresses, and is gone."""
    engine.perform(engine.planner.open_sandbox, "former")
    join(engine, "former", *WANTED)
    engine.perform(engine.planner.close_sandbox, "former")


def mistake(namespace: str, link: str) -> None:
    """A neighbour is sure that the addresses are with somebody who is not there any more."""
    ip = f"ip -n {namespace}" if namespace else "ip"
    for address in WANTED:
        sh(f"{ip} neigh replace {address} lladdr {STALE} dev {link} nud reachable")


def known(namespace: str, link: str) -> dict[str, str]:
    """The MACs that a neighbour knows the addresses with."""
    ip = f"ip -n {namespace}" if namespace else "ip"
    found = json.loads(sh(f"{ip} -j neigh show dev {link}"))
    return {entry["dst"]: entry.get("lladdr", "") for entry in found if entry["dst"] in WANTED}


def assert_reachable(namespace: str) -> None:
    """By the first packet, of both families."""
    for address in WANTED:
        where = f"ip netns exec {namespace}" if namespace else ""
        assert works(f"{where} ping -c1 -W1 {address}"), (namespace, address)


@pytest.mark.parametrize("driver", ["bridge", "macvlan"])
def test_a_new_owner_is_reachable_at_once(engine: Engine, driver: str) -> None:
    options = {"parent": "eth0"} if driver == "macvlan" else {"com.docker.network.bridge.name": "br5"}
    network(engine, driver, **options)
    had_before(engine)
    neighbour = join(engine, "one")
    mistake("one", neighbour.ifname)
    endpoint = join(engine, "two", *WANTED)
    assert known("one", "eth0") == dict.fromkeys(WANTED, endpoint.mac)
    assert_reachable("one")


def test_the_host_is_told_too(engine: Engine) -> None:
    network(engine, **{"com.docker.network.bridge.name": "br5"})
    had_before(engine)
    join(engine, "one")  # so that the bridge is up
    mistake("", "br5")
    endpoint = join(engine, "two", *WANTED)
    assert known("", "br5") == dict.fromkeys(WANTED, endpoint.mac)
    assert_reachable("")


def test_machines_of_the_lan_are_told_too(engine: Engine) -> None:
    network(engine, "macvlan", parent="eth0")
    sh(f"ip -n internet neigh replace {WANTED[0]} lladdr {STALE} dev eth0 nud reachable")
    endpoint = join(engine, "two", *WANTED)
    assert known("internet", "eth0")[WANTED[0]] == endpoint.mac


def test_a_sandbox_that_opens_with_its_endpoints_is_announced(engine: Engine) -> None:
    network(engine)
    had_before(engine)
    join(engine, "one")
    mistake("one", "eth0")
    spec = EndpointSpec(network="n", ips=tuple(map(ip_address, WANTED)))
    engine.perform(engine.planner.open_sandbox, "three", endpoints=(spec,))
    assert_reachable("one")


def test_an_address_works_at_once(engine: Engine) -> None:
    """No detection of duplicates is waited for: nobody else in the network is given the address."""
    network(engine)
    join(engine, "two", *WANTED)
    (line,) = [line for line in sh("ip -n two addr show dev eth0").splitlines() if WANTED[1] in line]
    assert "tentative" not in line
    assert works(f"ip netns exec two ping -c1 -W1 -I {WANTED[1]} fd00:5::1")


def test_settings(engine: Engine) -> None:
    network(engine)
    wanted = {
        "net/ipv4/conf/lan0/log_martians": "1",
        "net/ipv6/conf/lan0/accept_ra": "2",
        "net/ipv4/neigh/lan0/gc_stale_time": "77",
    }
    text = ",".join(f"{name.replace('lan0', 'IFNAME').replace('/', '.')}={value}" for name, value in wanted.items())
    endpoint = join(engine, "two", ifname="lan0", options={SYSCTLS: text})
    found = {name: sh(f"ip netns exec two cat /proc/sys/{name}").strip() for name in wanted}
    assert found == wanted
    assert engine._executor.repair(engine.planner.plan_of(endpoint)) == [], "two settings do not fight"


def test_a_setting_that_the_kernel_does_not_have(engine: Engine) -> None:
    network(engine)
    before = set(links())
    with pytest.raises(KernelError, match=r"cannot set net\.ipv4\.conf\.eth0\.nonsense to 1"):
        join(engine, "two", options={SYSCTLS: "net.ipv4.conf.IFNAME.nonsense=1"})
    assert set(links("two")) == {"lo"}
    assert set(links()) == before


def test_macs(engine: Engine) -> None:
    network(engine)
    first = join(engine, "one")
    assert links("one")["eth0"]["address"] == first.mac
    with pytest.raises(Conflict, match=f"MAC address {first.mac} is already in use by one"):
        join(engine, "two", mac=first.mac)
    engine.perform(engine.planner.detach, "one", "n")
    join(engine, "two")
    engine.perform(engine.planner.attach, "one", EndpointSpec(network="n"))
    assert links("one")["eth0"]["address"] == first.mac


def test_what_is_lost_is_made_again(engine: Engine) -> None:
    network(engine)
    endpoint = join(engine, "two")
    sh("ip netns exec two sysctl -qw net.ipv4.conf.eth0.arp_notify=0 net.ipv6.conf.eth0.ndisc_notify=0")
    names = [type(step).__name__ for step in engine._executor.repair(engine.planner.plan_of(endpoint))]
    assert names == ["NotifyByArp", "SetSysctl"]
    assert sh("ip netns exec two sysctl -n net.ipv4.conf.eth0.arp_notify net.ipv6.conf.eth0.ndisc_notify") == "1\n1\n"


def test_default_routes_go_by_priority(engine: Engine) -> None:
    network(engine)
    for number, name in enumerate(("m", "o")):
        pools = (Pool(subnet=ip_network(f"10.{number + 6}.0.0/24")),)
        engine.perform(engine.planner.create_network, NetworkSpec(name=name, pools=pools))

    def route() -> str:
        return sh("ip -n two route show default").split(" dev ")[0].strip()

    def connect(name: str, priority: int) -> None:
        engine.perform(engine.planner.attach, "two", EndpointSpec(network=name, priority=priority))

    connect("m", 0)
    assert route() == "default via 10.6.0.1"
    connect("n", 0)
    assert route() == "default via 10.5.0.1", "both families come first"
    connect("o", 1)
    assert route() == "default via 10.7.0.1"
    assert sh("ip -n two -6 route show default").startswith("default via fd00:5::1")
    engine.perform(engine.planner.detach, "two", "o")
    assert route() == "default via 10.5.0.1"
    engine.perform(engine.planner.detach, "two", "n")
    connect("o", -1)
    assert route() == "default via 10.6.0.1"


def announcements(engine: Engine, sandbox: str, *ips: str) -> int:
    """How many steps of an attach announce something; each is the last of its plan, as nobody would hear it before."""
    spec = EndpointSpec(network="n", ips=tuple(map(ip_address, ips)))
    plan = engine.planner.attach(sandbox, spec).plan
    found = [step for step in plan if isinstance(step, Announce)]
    assert plan.steps[len(plan.steps) - len(found) :] == tuple(found)
    return len(found)


def test_an_address_is_announced_where_somebody_may_be_mistaken(engine: Engine) -> None:
    network(engine)
    assert announcements(engine, "two", *WANTED) == 0, "nobody has had it"
    join(engine, "two", *WANTED)
    engine.perform(engine.planner.detach, "two", "n")
    assert announcements(engine, "two", *WANTED) == 0, "it comes back to the same owner"
    assert announcements(engine, "one", *WANTED) == 1
    assert announcements(engine, "one", "10.5.0.10") == 0
    engine.perform(engine.planner.remove_network, "n")
    network(engine)
    assert announcements(engine, "one", *WANTED) == 0, "a new bridge remembers nothing"


def test_who_was_in_an_older_network_is_not_known(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: 1e9)  # Before this engine was opened.
        network(engine)
    assert announcements(engine, "one", *WANTED) == 1


def test_the_neighbours_on_a_lan_are_not_known(engine: Engine) -> None:
    network(engine, "macvlan", parent="eth0")
    assert announcements(engine, "one", *WANTED) == 1
