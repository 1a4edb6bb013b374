"""What every endpoint has: its MAC, its settings, its addresses again; and the links.  No root, no kernel."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from test_planner import World, lines

from fairlead.containers import links
from fairlead.containers.record import Container, ContainerSpec, Status
from fairlead.endpoints import SYSCTLS
from fairlead.errors import Conflict, Invalid, NotFound
from fairlead.model import Endpoint, Pool
from fairlead.spec import EndpointSpec, NetworkSpec


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    one.network()
    for name in ("ns0", "ns1"):
        one.do(one.planner.open_sandbox(name))
    yield one
    one.store.close()


def attach(world: World, sandbox: str, **wanted: Any) -> Endpoint:
    endpoint = world.do(world.planner.attach(sandbox, EndpointSpec(network="br0", **wanted)))
    assert isinstance(endpoint, Endpoint)
    return endpoint


def test_the_mac_stays_with_its_owner(world: World) -> None:
    first = attach(world, "ns0")
    world.do(world.planner.detach("ns0", "br0"))
    other = attach(world, "ns1")
    again = attach(world, "ns0")
    assert again.mac == first.mac
    assert again.addresses != first.addresses
    assert other.mac != first.mac
    assert int(first.mac[:2], 16) & 3 == 2, "locally administered, of one station"


def test_the_mac_is_another_in_another_network(world: World) -> None:
    world.network("br1", "10.1.0.0/24")
    first = attach(world, "ns0")
    second = world.do(world.planner.attach("ns0", EndpointSpec(network="br1")))
    assert first.mac != second.mac


def test_a_mac_is_had_once(world: World) -> None:
    first = attach(world, "ns0")
    with pytest.raises(Conflict, match=f"MAC address {first.mac} is already in use by ns0"):
        attach(world, "ns1", mac=first.mac.upper())
    world.do(world.planner.detach("ns0", "br0"))
    attach(world, "ns1", mac=first.mac)
    assert attach(world, "ns0").mac != first.mac, "one that was not asked for gives way"


def test_wished_addresses(world: World) -> None:
    assert attach(world, "ns0", wished=(ip_address("10.0.0.7"),)).addresses == (ip_interface("10.0.0.7/24"),)
    wished = tuple(map(ip_address, ("10.0.0.7", "10.0.0.1", "10.0.0.255", "10.9.0.9", "fd00::1")))
    assert attach(world, "ns1", wished=wished).addresses == (ip_interface("10.0.0.2/24"),)


def test_settings_come_before_the_link_is_up(world: World) -> None:
    options = {SYSCTLS: "net.ipv4.conf.IFNAME.log_martians=1,net.ipv6.conf.ifname.accept_ra=2"}
    change = world.planner.attach("ns0", EndpointSpec(network="br0", ifname="lan.5", options=options))
    found = lines(change)
    up = found.index("ip -n ns0 link set lan.5 up")
    assert found.index("ip netns exec ns0 sysctl -qw net/ipv4/conf/lan.5/log_martians=1") < up
    assert [line for line in found if "accept_ra" in line] == [
        "ip netns exec ns0 sysctl -qw net/ipv6/conf/lan.5/accept_ra=2"
    ], "in place of ours"


@pytest.mark.parametrize(
    "setting",
    [
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.eth0.log_martians=1",
        "net.ipv4.conf.all.forwarding=1",
        "net.ipv4.conf.IFNAME.log_martians",
        "net.ipv4.conf.IFNAME.log_martians=",
        "net.core.conf.IFNAME.x=1",
        "net.ipv4.conf.IFNAME.../../all/forwarding=1",
        "kernel.panic=1",
        ",",
    ],
)
def test_settings_of_others_are_refused(world: World, setting: str) -> None:
    with pytest.raises(Invalid, match="is not allowed"):
        attach(world, "ns0", options={SYSCTLS: setting})


def test_names_need_a_network_that_has_them(world: World) -> None:
    spec = NetworkSpec(name="bridge", pools=(Pool(subnet=ip_network("10.3.0.0/24")),))
    world.do(world.planner.create_network(spec, predefined=True))
    for wanted in ({"aliases": ("a",)}, {"links": {"a": "b"}}):
        with pytest.raises(Invalid, match=r"user defined networks|only be had by a container"):
            world.planner.attach("ns0", EndpointSpec(network="bridge", **wanted))  # type: ignore[arg-type]


# Links


def container(name: str, **fields: Any) -> Container:
    spec = {"image": "alpine", "hostname": f"{name}-host", **fields.pop("spec", {})}
    known = {"status": Status.RUNNING, **fields}
    return Container(id=name * 8, name=name, image_id="i", created=0.0, spec=ContainerSpec(**spec), **known)


PLACE = Endpoint(id="e", network="n", sandbox="s", addresses=(ip_interface("172.17.0.2/16"),))


@pytest.mark.parametrize(
    ("text", "found"),
    [("web", ("web", "web")), ("web:db", ("db", "web")), ("/web:/own/db", ("db", "web")), ("/web", ("web", "web"))],
)
def test_links_are_read(text: str, found: tuple[str, str]) -> None:
    assert links.parse(text) == found


@pytest.mark.parametrize("text", ["", ":", ":db", "web:", "a:b:c", "/"])
def test_bad_links(text: str) -> None:
    with pytest.raises(Invalid, match="bad format for links"):
        links.parse(text)


def test_what_a_link_of_the_default_bridge_is() -> None:
    web = container("web", spec={"exposed": ("53/udp", "80/tcp", "81/tcp", "443/tcp"), "env": ("A=b=c", "PATH=/x")})
    own = container("own", spec={"links": {"my-db": web.id}, "env": ("MY_DB_NAME=mine",)})
    found = links.linked(own, {web.id: web}.get, lambda _: PLACE)
    assert found.hosts == ("172.17.0.2\tmy-db web-host web",)
    told = dict(line.split("=", 1) for line in found.environment)
    assert told["MY_DB_PORT"] == "tcp://172.17.0.2:80"
    assert told["MY_DB_PORT_443_TCP_ADDR"] == "172.17.0.2"
    assert told["MY_DB_PORT_53_UDP"] == "udp://172.17.0.2:53"
    assert (told["MY_DB_PORT_80_TCP_START"], told["MY_DB_PORT_80_TCP_PORT_END"]) == ("tcp://172.17.0.2:80", "81")
    assert told["MY_DB_ENV_A"] == "b=c"
    assert "MY_DB_ENV_PATH" not in told
    assert told["MY_DB_NAME"] == "/own/my-db"
    assert "MY_DB_NAME=/own/my-db" not in found.put_into(own.spec).env


def test_links_that_lead_nowhere() -> None:
    web = container("web", status=Status.EXITED)
    own = container("own", spec={"links": {"db": web.id}})
    with pytest.raises(Conflict, match="Cannot link to a non running container: /web AS /own/db"):
        links.linked(own, {web.id: web}.get, lambda _: PLACE)
    runs = container("web")
    with pytest.raises(Invalid, match="Cannot link to /web, as it does not belong to the default network"):
        links.linked(own, {web.id: runs}.get, lambda _: None)
    assert links.linked(own, lambda _: None, lambda _: PLACE) == links.Linked(), "removed: no error, as in Docker"


def test_targets_must_be() -> None:
    web, host = container("web"), container("host", spec={"network_mode": "host"})

    def get(ref: str) -> Container:
        for one in (web, host):
            if ref in (one.name, one.id, one.id[:5]):
                return one
        raise NotFound(f"No such container: {ref}")

    assert links.checked({"a": "web", "b": web.id[:5]}, get) == {"a": "web", "b": web.id}
    with pytest.raises(Invalid, match="could not get container for nope: No such container: nope"):
        links.checked({"a": "nope"}, get)
    with pytest.raises(Invalid, match="host type networking can't be used with links"):
        links.checked({"a": "host"}, get)


def test_where_links_go() -> None:
    given = {"db": "web"}
    place = EndpointSpec(network="u", links={"x": "y"})
    assert links.divided(given, "bridge", (place,)) == (given, (place,))
    assert links.divided(given, "u", (place,))[1][0].links == {"db": "web", "x": "y"}
    for mode in ("host", "none"):
        with pytest.raises(Invalid, match="conflicting options"):
            links.divided(given, mode, ())


def test_hosts_follow() -> None:
    before = ["127.0.0.1\tlocalhost", "10.0.0.2\tdb web", "10.0.0.9\tweb db", "# db"]
    after = links.rewritten(before, "db", ["10.0.0.3\tdb renamed", "fd00::3\tdb renamed"])
    assert after == [before[0], "10.0.0.3\tdb renamed", "fd00::3\tdb renamed", *before[2:]]
    assert links.rewritten(after, "db", ["10.0.0.2\tdb web"]) == before
