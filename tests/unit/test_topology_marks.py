"""Facts and intent set beside each other, and the words for what comes of it; all of it data."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TypeVar

import pytest
from fakes import UNIQUE_LOCAL, FakeFacts
from msgspec.structs import replace

from fairlead.catalog import Catalog
from fairlead.engine import KINDS
from fairlead.model import Network, Phase, Pool, Record, Sandbox
from fairlead.planner import Change, Planner
from fairlead.publishing import Publisher
from fairlead.see import intent, nat, words
from fairlead.see.facts import End, InterfaceFact, NamespaceFact, RouteFact, Snapshot
from fairlead.see.nat import Masquerade, Nat, Redirect
from fairlead.see.owners import Owner
from fairlead.see.topology import Published, Topology, build
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec
from fairlead.store import Store

HOST, NS0 = 100, 200
POOL = Pool(subnet=ip_network("10.0.0.0/24"), gateway=ip_address("10.0.0.1"))
R = TypeVar("R")


class World:
    """A network br0 with the namespace ns0 in it, and the snapshot of a kernel that has all of that."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "store.db", KINDS)
        publisher = Publisher(self.store, pick=lambda _p, _a, number: number or 40000, ipv6=False)
        catalog = Catalog(self.store)
        self.planner = Planner(self.store, catalog, FakeFacts(), publisher, directory / "netns", UNIQUE_LOCAL)
        bridge = {"com.docker.network.bridge.name": "br0"}
        self._do(self.planner.create_network(NetworkSpec(name="br0", options=bridge, pools=(POOL,))))
        self._do(self.planner.open_sandbox("ns0"))
        port = PortSpec(protocol="tcp", port=80, host_port=8081)
        self.endpoint = self._do(self.planner.attach("ns0", EndpointSpec(network="br0", ports=(port,))))

    def _do(self, change: Change[R]) -> R:
        self.store.put(*change.add, *change.replace)
        return change.result

    def records(self) -> list[Record]:
        return [record for kind in KINDS for record in self.store.all(kind)]

    def snapshot(self, **changes: object) -> Snapshot:
        """`changes`: by interface, the fields that are other than they should be, or None: it is not there."""
        mark = f"fairlead:{self.endpoint.id}"
        address = self.endpoint.addresses[0]
        network = self.store.all(Network)[0]

        def links(*facts: InterfaceFact) -> tuple[InterfaceFact, ...]:
            found = []
            for fact in facts:
                change = changes.get(fact.name if fact.name != self.endpoint.host_ifname else "veth", {})
                if change is not None:
                    fields = {name: getattr(fact, name) for name in fact.__slots__}
                    found.append(InterfaceFact(**{**fields, **change}))  # type: ignore[dict-item]
            return tuple(found)

        up = {"up": True, "carrier": True}
        host = NamespaceFact(
            HOST,
            Owner("host", name="host"),
            interfaces=links(
                InterfaceFact(1, "lo", loopback=True, **up),
                InterfaceFact(3, "br0", kind="bridge", alias=f"fairlead:{network.id}", addresses=(_GATEWAY,), **up),
                InterfaceFact(4, self.endpoint.host_ifname, kind="veth", master=3, peer=End(NS0, 2), alias=mark, **up),
            ),
        )
        inside = NamespaceFact(
            NS0,
            Owner("ip netns", "ns0", "ns0"),
            paths=("/run/netns/ns0",),
            interfaces=links(
                InterfaceFact(1, "lo", loopback=True, **up),
                InterfaceFact(2, "eth0", kind="veth", peer=End(HOST, 4), addresses=(address,), **up),
            ),
            routes=(RouteFact(ip_network("0.0.0.0/0"), ip_address("10.0.0.1"), 2),),
        )
        return Snapshot((host, inside))

    def topology(self, snapshot: Snapshot | None = None, rules: Nat | None = None) -> Topology:
        owners = {sandbox.id: (sandbox.id, sandbox.name) for sandbox in self.store.all(Sandbox)}
        gathered = intent.gather(self.records(), self.records(), self.planner.plan_of, owners)
        usual = Nat((Redirect("tcp", "", 8081, "10.0.0.2", 80, 4, "fairlead", "map ports4_any"),))
        return build(snapshot or self.snapshot(), gathered, rules or usual)


_GATEWAY = ip_interface("10.0.0.1/24")
_STRANGE = (_GATEWAY, ip_interface("10.9.9.9/24"))
_NOT_THERE = "missing: the kernel has no such interface"
_NO_PORT = "differs: it should be a port of br0"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.store.close()


def marks(topology: Topology) -> dict[str, str]:
    """All that is marked, with its note."""
    found = {f"{room.name}/{port.name}": f"{port.mark}: {port.note}" for room in topology.rooms for port in room.ports}
    found |= {room.name: f"{room.mark}: {room.note}" for room in topology.rooms}
    return {name: words for name, words in found.items() if words != ": "}


def test_what_is_as_it_should_be_has_no_mark(world: World) -> None:
    topology = world.topology()
    assert marks(topology) == {}
    assert words.notes(topology) == []
    host, inside = topology.rooms
    assert (host.id, inside.id, inside.name, inside.kind, inside.manager) == (
        "host",
        "200",
        "ns0",
        "namespace",
        "fairlead",
    )
    eth0 = inside.port("eth0")
    assert eth0
    assert (eth0.network, eth0.record) == ("br0", world.endpoint.id)
    assert eth0.peer
    assert (eth0.peer.namespace, eth0.peer.interface) == ("host", world.endpoint.host_ifname)
    assert [(one.namespace, one.mark) for one in topology.published] == [("200", "")]
    assert [net.interface for net in topology.nets] == ["br0"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"eth0": {"addresses": ()}}, {"ns0/eth0": "differs: 10.0.0.2/24 is missing"}),
        ({"eth0": {"up": False}}, {"ns0/eth0": "differs: it should be up"}),
        ({"eth0": {"kind": "macvlan"}}, {"ns0/eth0": "differs: it should be a veth"}),
        ({"veth": {"master": 0}}, {"host/VETH": _NO_PORT}),
        ({"br0": {"addresses": _STRANGE}}, {"host/br0": "differs: 10.9.9.9/24 is from no record"}),
        ({"br0": {"addresses": (_GATEWAY, ip_interface("fe80::1/64"))}}, {}),
        ({"eth0": None}, {"ns0/eth0": _NOT_THERE}),
        ({"br0": None}, {"host/br0": _NOT_THERE, "host/VETH": _NO_PORT}),
        ({"eth0": {"duplicates": (ip_interface("fd00::2/64"),)}}, {"ns0/eth0": ": another host has fd00::2/64 too"}),
    ],
)  # fmt: skip
def test_what_differs_is_marked(world: World, changes: dict[str, object], expected: dict[str, str]) -> None:
    found = marks(world.topology(world.snapshot(**changes)))
    assert {name.replace(world.endpoint.host_ifname, "VETH"): note for name, note in found.items()} == expected


def test_strangers_are_marked_where_all_is_ours_or_has_our_mark(world: World) -> None:
    host, inside = world.snapshot().namespaces
    extra = InterfaceFact(9, "tun0", kind="tun", up=True, carrier=True)
    leaked = InterfaceFact(8, "veth8", kind="veth", alias="fairlead:dead", up=True, carrier=True)
    by_hand = InterfaceFact(7, "mine", kind="bridge", up=True, carrier=True)
    foreign = NamespaceFact(300, Owner("docker", "d" * 64, "web"), ("/x",), interfaces=(extra, leaked))
    snapshot = Snapshot(
        (
            NamespaceFact(HOST, host.owner, interfaces=(*host.interfaces, leaked, by_hand)),
            NamespaceFact(NS0, inside.owner, inside.paths, (), (*inside.interfaces, extra), inside.routes),
            foreign,
        )
    )
    topology = world.topology(snapshot)
    assert marks(topology) == {
        "host/veth8": "unowned: no record of Fairlead's knows it",
        "ns0/tun0": "unowned: no record of Fairlead's knows it",
    }
    (web,) = (room for room in topology.rooms if room.name == "web")
    assert (web.kind, web.manager, words.role(web)) == ("container", "docker", "docker container")


def test_a_namespace_that_is_gone_is_there_as_missing(world: World) -> None:
    snapshot = world.snapshot(veth=None)
    topology = world.topology(Snapshot(snapshot.namespaces[:1]))
    (gone,) = (room for room in topology.rooms if room.name == "ns0")
    assert (gone.mark, gone.note) == ("missing", "there is no network namespace at /run/netns/ns0")
    assert [(port.name, port.mark, port.missing_addresses) for port in gone.ports] == [
        ("eth0", "missing", ("10.0.0.2/24",))
    ]


def test_what_is_just_being_made_or_removed_has_no_mark(world: World) -> None:
    for phase in (Phase.ADDING, Phase.REMOVING):
        world.store.put(replace(world.endpoint, phase=phase))
        assert marks(world.topology(world.snapshot(eth0=None, veth=None), Nat())) == {}
        assert marks(world.topology()) == {}


def test_what_changes_while_we_look_has_no_mark(world: World) -> None:
    before = world.records()
    world.store.delete(world.endpoint)
    gathered = intent.gather(before, world.records(), world.planner.plan_of, {})
    assert marks(build(world.snapshot(), gathered, Nat())) == {}
    assert marks(build(world.snapshot(eth0=None, veth=None), gathered, Nat())) == {}


def test_published_ports_beside_the_rules(world: World) -> None:
    element = Redirect("tcp", "", 8081, "10.0.0.2", 80, 4, "fairlead", "map ports4_any")
    stranger = Redirect("udp", "", 53, "10.0.0.9", 53, 4, "fairlead", "map ports4_any")
    other = Redirect("tcp", "", 8081, "10.0.0.7", 80, 4, "fairlead", "map ports4_any")
    docker = Redirect("tcp", "192.0.2.1", 90, "10.0.0.2", 90, 4, "iptables", "ip nat DOCKER")

    def found(*redirects: Redirect) -> dict[int, tuple[str, str]]:
        topology = world.topology(rules=Nat(redirects))
        return {one.host_port: (one.mark, one.namespace) for one in topology.published}

    assert found(element, docker) == {8081: ("", "200"), 90: ("", "200")}
    assert found(stranger) == {8081: ("missing", "200"), 53: ("unowned", "")}
    assert found(other) == {8081: ("differs", "")}


def test_a_lost_default_route_is_marked(world: World) -> None:
    host, inside = world.snapshot().namespaces
    bare = NamespaceFact(NS0, inside.owner, inside.paths, (), inside.interfaces)
    topology = world.topology(Snapshot((host, bare)))
    assert words.notes(topology) == [("missing", "ns0: the route default via 10.0.0.1 is missing")]


def test_namespaces_are_in_the_order_of_people() -> None:
    names = ["a10", "a2", "b", "a1"]
    facts = [
        NamespaceFact(n, Owner("ip netns", name, name), (f"/run/netns/{name}",)) for n, name in enumerate(names, 2)
    ]
    topology = build(Snapshot((NamespaceFact(1, Owner("host")), *facts)), intent.Intent(), Nat())
    assert [room.name for room in topology.rooms] == ["host", "a1", "a2", "a10", "b"]


def published(*ports: tuple[str, str, int, int]) -> list[str]:
    found = words.published(
        Published(host_ip=ip, protocol=protocol, host_port=host, port=port, address="10.0.0.2")
        for ip, protocol, host, port in ports
    )
    return [text for text, _ in found]


def test_published_ports_in_words() -> None:
    assert published(("", "tcp", 8081, 80), ("::", "tcp", 8081, 80)) == ["8081 → 80/tcp"]
    assert published(("127.0.0.1", "tcp", 80, 80), ("::1", "udp", 53, 53)) == [
        "127.0.0.1:80 → 80/tcp",
        "[::1]:53 → 53/udp",
    ]
    assert published(*(("", "tcp", n, n) for n in range(8000, 8500))) == ["8000-8499 → 8000-8499/tcp"]
    assert published(("", "tcp", 1, 1), ("", "tcp", 2, 3)) == ["1 → 1/tcp", "2 → 3/tcp"]


def test_iptables_rules_in_the_usual_way() -> None:
    """As Docker 20.10 and netavark 1.4 write them."""
    text = """\
*nat
:PREROUTING ACCEPT [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p udp -m udp --dport 53 -j DNAT --to-destination 172.17.0.2:5353
-A POSTROUTING -s 10.88.0.0/16 -j NETAVARK-1D8721804F16F
-A NETAVARK-1D8721804F16F -d 10.88.0.0/16 -j ACCEPT
-A NETAVARK-1D8721804F16F ! -d 224.0.0.0/4 -j MASQUERADE
-A NETAVARK-DN-1D8721804F16F -p tcp -m tcp --dport 90 -j DNAT --to-destination 10.88.0.5
COMMIT
"""
    found = list(nat.parse_saved(text, "ip"))
    assert [one for one in found if isinstance(one, Redirect)] == [
        Redirect("tcp", "", 8080, "172.17.0.2", 80, 4, "iptables", "ip nat DOCKER"),
        Redirect("udp", "127.0.0.1", 53, "172.17.0.2", 5353, 4, "iptables", "ip nat DOCKER"),
        Redirect("tcp", "", 90, "10.88.0.5", 90, 4, "iptables", "ip nat NETAVARK-DN-1D8721804F16F"),
    ]
    assert [one for one in found if isinstance(one, Masquerade)] == [
        Masquerade("172.17.0.0/16", "", 4, "iptables", "ip nat POSTROUTING"),
        Masquerade("10.88.0.0/16", "", 4, "iptables", "ip nat NETAVARK-1D8721804F16F"),
    ]
    (six,) = nat.parse_saved("-A DOCKER -p tcp -m tcp --dport 80 -j DNAT --to-destination [fd00::2]:8080\n", "ip6")
    assert six == Redirect("tcp", "", 80, "fd00::2", 8080, 6, "iptables", "ip6 nat DOCKER")
