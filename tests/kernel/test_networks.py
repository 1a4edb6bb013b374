"""Networks by what a packet meets: it arrives, or it does not."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest
from kernel_lab import (
    assert_consistent,
    assert_nothing_left,
    elements,
    links,
    open_here,
    sh,
)
from lab import INTERNET
from packets import ask, ping, server

from fairlead.engine import Engine
from fairlead.errors import Conflict, Invalid, KernelError
from fairlead.kernel.watch import FirewallWatch
from fairlead.model import Endpoint, LinkEnd, Network, Pool
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec


@pytest.fixture
def engine(fresh_kernel: None, tmp_path: Path) -> Iterator[Engine]:
    sh(INTERNET)
    one = open_here(tmp_path)
    yield one
    assert_consistent(one)
    assert_nothing_left(one)


@pytest.fixture
def serve(engine: Engine) -> Iterator[Callable[..., None]]:
    """Start a server in a sandbox that says who asks."""
    with contextlib.ExitStack() as servers:

        def start(namespace: str, port: int = 80) -> None:
            servers.enter_context(server(namespace, port))

        yield start


def make_network(engine: Engine, name: str, subnet: str, **words: object) -> Network:
    spec = NetworkSpec(
        name=name,
        pools=(Pool(subnet=ip_network(subnet)),),
        options={"com.docker.network.bridge.name": name},
        **words,  # type: ignore[arg-type]
    )
    return engine.perform(engine.planner.create_network, spec)


def join(engine: Engine, sandbox: str, network: str, *ports: PortSpec, ip: str = "") -> Endpoint:
    spec = EndpointSpec(network=network, ports=ports, ips=(ip_address(ip),) if ip else ())
    if not any(one.name == sandbox for one in engine.catalog.sandboxes()):
        engine.perform(engine.planner.open_sandbox, sandbox)
    return engine.perform(engine.planner.attach, sandbox, spec)


def test_a_link_between_two_namespaces(engine: Engine) -> None:
    for name in ("ns0", "ns1"):
        engine.perform(engine.planner.open_sandbox, name)
    ends = (
        LinkEnd(sandbox="ns0", ifname="vth0", addresses=(ip_interface("172.0.0.2/24"),)),
        LinkEnd(sandbox="ns1", ifname="vth1", addresses=(ip_interface("172.0.0.3/24"),)),
    )
    engine.perform(engine.planner.add_link, *ends)
    assert ping("172.0.0.3", "ns0")
    assert_consistent(engine)
    with pytest.raises(Conflict, match="ns0 already has an interface vth0"):
        engine.perform(engine.planner.add_link, *ends)
    engine.perform(engine.planner.close_sandbox, "ns1")
    assert "vth0" not in links("ns0")
    assert engine.catalog.links() == []


def test_a_link_to_the_host(engine: Engine) -> None:
    engine.perform(engine.planner.open_sandbox, "ns0")
    ends = (
        LinkEnd(sandbox="", ifname="tohost", addresses=(ip_interface("172.0.0.2/24"),)),
        LinkEnd(sandbox="ns0", ifname="up", addresses=(ip_interface("172.0.0.3/24"),)),
    )
    link = engine.perform(engine.planner.add_link, *ends)
    assert ping("172.0.0.3")
    engine.perform(engine.planner.remove_link, link.id[:8])
    assert "tohost" not in links()


@pytest.mark.parametrize("iptables", ["iptables", "iptables-legacy"])
def test_three_namespaces_on_a_bridge_where_another_firewall_drops(engine: Engine, iptables: str) -> None:
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text("1")
    sh(f"{iptables} -P FORWARD DROP")
    sh(
        """ip link add hand0 type bridge; ip link set hand0 up
        for i in 1 2; do ip netns add h$i; ip link add p$i type veth peer name eth0 netns h$i
        ip link set p$i master hand0 up; ip -n h$i link set eth0 up; ip -n h$i addr add 10.7.0.$i/24 dev eth0; done"""
    )
    assert not ping("10.7.0.2", "h1")
    sh("ip netns del h1; ip netns del h2; ip link del hand0; while ip link | grep -q ' p[12]@'; do sleep 0.05; done")
    rules = sh(f"{iptables} -S")
    make_network(engine, "br0", "10.0.0.0/24", no_gateway=True)
    for i in (1, 2, 3):
        endpoint = join(engine, f"ns{i}", "br0", ip=f"10.0.0.{i}")
        assert endpoint.ifname == "eth0"
    assert all(ping(f"10.0.0.{j}", f"ns{i}") for i in (1, 2, 3) for j in (1, 2, 3))
    assert sh(f"{iptables} -S").count("fairlead:br0") == 2
    for i in (1, 2, 3):
        engine.perform(engine.planner.close_sandbox, f"ns{i}")
    engine.perform(engine.planner.remove_network, "br0")
    assert sh(f"{iptables} -S") == rules
    sh(f"{iptables} -P FORWARD ACCEPT")


def test_the_world_is_reached_by_masquerade(engine: Engine, serve: object) -> None:
    join(engine, "ns0", "bridge")
    assert ping("8.8.8.8", "ns0")
    serve("internet", 9)  # type: ignore[operator]
    assert ask("8.8.8.8", 9, namespace="ns0") == "198.51.100.2"


def test_networks_are_isolated_but_published_ports_are_not(engine: Engine, serve: object) -> None:
    make_network(engine, "a", "10.0.1.0/24")
    make_network(engine, "b", "10.0.2.0/24")
    one = join(engine, "one", "a", PortSpec(port=80, host_port=8081))
    join(engine, "two", "b")
    join(engine, "near", "a")
    serve("one")  # type: ignore[operator]
    address = str(one.addresses[0].ip)
    assert ask(address, 80, namespace="near")
    assert not ask(address, 80, namespace="two")
    assert ask("198.51.100.2", 8081, namespace="two")
    sh("ip -n internet route add 10.0.1.0/24 via 198.51.100.2")
    assert not ask(address, 80, namespace="internet"), "nobody outside reaches what is not published"
    assert ask("198.51.100.2", 8081, namespace="internet")


def test_an_internal_network_has_no_way_in_or_out(engine: Engine) -> None:
    make_network(engine, "inner", "10.0.1.0/24", internal=True)
    join(engine, "one", "inner")
    join(engine, "two", "inner")
    assert ping("10.0.1.3", "one")
    assert not ping("8.8.8.8", "one")
    sh("ip -n one route add default via 10.0.1.1")
    assert not ping("8.8.8.8", "one")
    with pytest.raises(Invalid, match="network inner is internal: ports cannot be published"):
        join(engine, "three", "inner", PortSpec(port=80, host_port=8081))


@pytest.mark.parametrize("br_netfilter", ["0", "1"])
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_a_published_port_answers_everywhere(engine: Engine, serve: object, protocol: str, br_netfilter: str) -> None:
    Path("/proc/sys/net/bridge/bridge-nf-call-iptables").write_text(br_netfilter)
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081, protocol=protocol))  # type: ignore[arg-type]
    join(engine, "neighbour", "bridge")
    serve("web")  # type: ignore[operator]
    for host in ("127.0.0.1", "::1", "198.51.100.2", "172.17.0.1"):
        assert ask(host, 8081, protocol=protocol), host
    assert ask("198.51.100.2", 8081, namespace="internet", protocol=protocol) == "198.51.100.1", "client address kept"
    for namespace in ("neighbour", "web"):
        assert ask("198.51.100.2", 8081, namespace=namespace, protocol=protocol), f"hairpin from {namespace}"
    engine.perform(engine.planner.detach, "web", "bridge")
    assert not ask("127.0.0.1", 8081, protocol=protocol)


def test_a_port_on_one_address_answers_there_alone(engine: Engine, serve: object) -> None:
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081, host_ip=ip_address("127.0.0.1")))
    join(engine, "other", "bridge")
    serve("web")  # type: ignore[operator]
    assert ask("127.0.0.1", 8081)
    assert not ask("198.51.100.2", 8081)
    assert not ask("198.51.100.2", 8081, namespace="internet")
    sh("ip -n internet route add 127.0.0.0/8 via 198.51.100.2 table local 2>/dev/null || true")
    sh("ip -n other route add table 9 127.0.0.0/8 via 172.17.0.1 2>/dev/null || true")
    assert not ask("172.17.0.1", 8081, namespace="other")


def test_sandboxes_do_not_reach_the_hosts_loopback(engine: Engine) -> None:
    join(engine, "ns0", "bridge")
    sh("ip netns exec ns0 sysctl -qw net.ipv4.conf.all.route_localnet=1")
    sh("ip -n ns0 addr del 127.0.0.1/8 dev lo; ip -n ns0 route add 127.0.0.0/8 via 172.17.0.1 src 172.17.0.2")
    with socket.create_server(("127.0.0.1", 5555)) as server:
        server.settimeout(0.5)
        assert not ask("127.0.0.1", 5555, namespace="ns0")


def test_ports_are_held_against_others_and_given_back(engine: Engine) -> None:
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081), PortSpec(port=53, host_port=53, protocol="udp"))
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("0.0.0.0", 8081))
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("::1", 8081), family=socket.AF_INET6)
    engine.perform(engine.planner.close_sandbox, "web")
    with (
        socket.create_server(("0.0.0.0", 8081)),
        pytest.raises(Conflict, match=r"port 0\.0\.0\.0:8081/tcp is in use by another program"),
    ):
        join(engine, "web", "bridge", PortSpec(port=80, host_port=8081))
    assert engine.catalog.endpoints() == []
    assert_consistent(engine)
    with pytest.raises(Invalid, match=r"this host has no address 203\.0\.113\.9"):
        join(engine, "web", "bridge", PortSpec(port=80, host_port=1, host_ip=ip_address("203.0.113.9")))


def test_a_random_port_is_free_and_published(engine: Engine, serve: object) -> None:
    endpoint = join(engine, "web", "bridge", PortSpec(port=80), PortSpec(port=81))
    numbers = {port.host_port for port in endpoint.ports}
    assert len(numbers) == 2
    serve("web")  # type: ignore[operator]
    assert ask("127.0.0.1", endpoint.ports[0].host_port)


def test_a_foreign_link_that_appears_meanwhile_is_refused_and_left_alone(engine: Engine) -> None:
    spec = NetworkSpec(name="n", options={"com.docker.network.bridge.name": "br7"})
    change = engine.planner.create_network(spec)
    sh("ip link add br7 type bridge")
    with pytest.raises(KernelError, match="cannot make the bridge br7: File exists"):
        engine.perform(lambda: change)
    assert "br7" in links()
    sh("ip link del br7")
    assert engine.store.owner("network:n") is None


def test_default_subnets_avoid_what_the_host_reaches(engine: Engine) -> None:
    sh("ip route add 172.18.0.0/15 via 198.51.100.1; ip addr add 172.20.5.5/24 dev eth0")
    made = [engine.perform(engine.planner.create_network, NetworkSpec(name=f"n{i}")) for i in range(2)]
    assert [str(network.pools[0].subnet) for network in made] == ["172.21.0.0/16", "172.22.0.0/16"]


def test_what_others_take_away_comes_back(engine: Engine, serve: object) -> None:
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081))
    serve("web")  # type: ignore[operator]
    watch = FirewallWatch()
    ours = threading.Thread(target=make_network, args=(engine, "own", "10.0.1.0/24"))
    ours.start()
    time.sleep(0.2)
    assert not watch.changed_by_others()
    sh("nft flush ruleset; iptables -P FORWARD DROP")
    time.sleep(0.05)
    ours.join()
    assert watch.changed_by_others()
    watch.close()
    # Until it is mended the keeper relays, and so the server does not see who asks.
    assert ask("198.51.100.2", 8081, namespace="internet") == "172.17.0.1"
    engine.mend()
    assert ask("198.51.100.2", 8081, namespace="internet") == "198.51.100.1"
    sh("iptables -P FORWARD ACCEPT")


@pytest.mark.parametrize(
    ("change", "touched"),
    [
        ("nft add table inet other", False),
        ("nft add table ip fairlead; nft delete table ip fairlead", False),
        ("iptables -A INPUT -j ACCEPT", False),
        ("nft flush map inet fairlead ports4_any", True),
        ("nft delete element inet fairlead ports4_any '{ tcp . 8081 }'", True),
        ("nft flush chain inet fairlead enter", True),
        ("nft insert rule inet fairlead enter drop", True),
        ("nft add table inet other; nft flush ruleset", True),
    ],
)
def test_the_table_is_made_anew_only_when_others_touch_it(engine: Engine, change: str, touched: bool) -> None:
    join(engine, "web", "bridge", PortSpec(port=80, host_port=8081))
    watch = FirewallWatch()
    sh(change)
    time.sleep(0.05)
    assert watch.changed_by_others()
    assert watch.table_touched() is touched
    assert not watch.table_touched()
    before = sh("nft -a list table inet fairlead 2>/dev/null || true")
    engine.mend(table=touched)
    # Other handles: it was made anew.
    assert (sh("nft -a list table inet fairlead") != before) is touched
    assert len(elements()["ports4_any"]) == 1
    time.sleep(0.05)
    assert not watch.changed_by_others()
    watch.close()


def test_no_notification_of_many_is_lost(engine: Engine) -> None:
    """Of a foreign change among ten thousand elements, the daemon hears, and not that it was its own doing."""
    watch = FirewallWatch()
    elements = ", ".join(f"tcp . {port} : 10.9.9.9 . 80" for port in range(20000, 30000))
    engine.kernel.nft.run(f"add element inet fairlead ports4_any {{ {elements} }}\n")
    assert not watch.changed_by_others()
    sh("nft flush map inet fairlead ports4_any")
    assert watch.changed_by_others()
    assert watch.table_touched()
    watch.close()


def test_recovery_leaves_alone_a_fairlead_that_runs_in_a_sandbox(engine: Engine, tmp_path: Path) -> None:
    engine.perform(engine.planner.open_sandbox, "one")
    engine.close()
    sh("ip -n one link add br-in type bridge; ip -n one link set br-in alias fairlead:0123456789")
    sh("ip -n one link add v0 type veth peer name v1; ip -n one link set v0 alias fairlead:9876543210")
    again = open_here(tmp_path)
    assert {"br-in", "v0", "v1"} <= set(links("one"))
    sh("ip -n one link del br-in; ip -n one link del v0")
    engine.__dict__.update(again.__dict__)


def test_recovery_mends_what_was_broken_by_hand_and_clears_orphans(engine: Engine, tmp_path: Path) -> None:
    make_network(engine, "a", "10.0.1.0/24")
    join(engine, "one", "a", PortSpec(port=80, host_port=8081))
    engine._executor.kernel.ports.release([("tcp", None, 8081)])
    engine.close()
    sh("ip link del dev a; nft delete table inet fairlead; ip netns del one")
    sh("ip link add stray type bridge; ip link set stray alias fairlead:0123456789")
    sh(f"mkdir -p {tmp_path}/run/netns; touch {tmp_path}/run/netns/gone")
    again = open_here(tmp_path)
    assert_consistent(again)
    assert "stray" not in links()
    assert len(elements()["ports4_any"]) == 1
    engine.__dict__.update(again.__dict__)
