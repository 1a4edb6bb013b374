"""From records to what the resolver is told; the host's resolv.conf."""

from __future__ import annotations

import os
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import msgspec

from fairlead.containers.record import Container, ContainerSpec
from fairlead.dns import hosts, names
from fairlead.model import Endpoint, Network, Phase, Sandbox

USER = Network(id="n" * 64, name="net1", driver="bridge")
BRIDGE = Network(id="b" * 64, name="bridge", driver="bridge", predefined=True)
SANDBOX = Sandbox(id="5" * 64, name="ns0", path="/run/netns/ns0")
ENDPOINT = Endpoint(
    id="e",
    network=USER.id,
    sandbox=SANDBOX.id,
    addresses=(ip_interface("10.0.0.2/24"), ip_interface("fd00::2/64")),
    aliases=("www", "web"),
    links={"db": "other"},
    priority=7,
)
CONTAINER = Container(
    id="c" * 64,
    name="web",
    image_id="i",
    created=0.0,
    spec=ContainerSpec(image="i", hostname="box", dns=("192.0.2.1",)),
)


def entry(**changes: Any) -> dict[str, Any] | None:
    return names.member(msgspec.structs.replace(ENDPOINT, **changes), USER, SANDBOX, CONTAINER)


def test_what_a_container_is_called() -> None:
    found = entry()
    assert found
    assert found["names"] == ["web", "www", "c" * 12, "box", "c" * 64]
    assert found["addresses"] == ["10.0.0.2", "fd00::2"]
    assert (found["links"], found["priority"], found["network_name"]) == ({"db": "other"}, 7, "net1")


def test_what_a_namespace_is_called() -> None:
    found = names.member(ENDPOINT, USER, SANDBOX, None)
    assert found
    assert found["names"] == ["ns0", "www", "web", "5" * 12, "5" * 64]


def test_who_is_not_known() -> None:
    assert entry(phase=Phase.ADDING) is None
    assert entry(phase=Phase.REMOVING) is None
    assert names.member(ENDPOINT, BRIDGE, SANDBOX, CONTAINER) is None


def test_where_the_resolver_is() -> None:
    assert names.served(SANDBOX, [BRIDGE], None) is None
    named = msgspec.structs.replace(SANDBOX, names=True)
    assert names.served(named, [USER], None) == {"path": "/run/netns/ns0", "upstreams": [], "outside": True}
    with_own = names.served(named, [USER], CONTAINER)
    assert with_own
    assert with_own["upstreams"] == ["192.0.2.1"]
    assert names.served(msgspec.structs.replace(named, phase=Phase.REMOVING), [USER], None) is None


def test_from_where_anything_is_passed_on() -> None:
    named = msgspec.structs.replace(SANDBOX, names=True)
    internal = msgspec.structs.replace(USER, internal=True)
    nothing = Network(id="0" * 64, name="none", driver="null", predefined=True)
    for networks, outside in (
        ([USER], True),
        ([internal], False),
        ([internal, BRIDGE], True),
        ([internal, nothing], False),
        ([BRIDGE], True),
        ([], False),
    ):
        found = names.served(named, networks, None)
        assert found
        assert found["outside"] is outside, networks


def test_the_hosts_servers() -> None:
    text = "# nameserver 1.1.1.1\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver\nnameserver x\nsearch a\n"
    assert hosts.servers(text) == ("192.0.2.1", "fe80::1%eth0")


def test_the_hosts_servers_change(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    known = hosts.HostServers(str(file))
    assert known() == hosts.FALLBACK
    file.write_text("nameserver 192.0.2.1\n")
    assert known() == ("192.0.2.1",)
    (tmp_path / "new").write_text("nameserver 192.0.2.2\n")
    os.replace(tmp_path / "new", file)
    assert known() == ("192.0.2.2",)
    file.unlink()
    assert known() == ("192.0.2.2",)
    file.write_text("# none\n")
    assert known() == hosts.FALLBACK


def test_servers_that_only_the_host_reaches() -> None:
    for server in ("127.0.0.53", "::1", "fe80::1%eth0"):
        assert hosts.only_on_host(server)
    for server in ("192.0.2.1", "fd00::1"):
        assert not hosts.only_on_host(server)


def test_a_resolv_conf_that_leads_to_the_resolver() -> None:
    text = "# by hand\nnameserver 192.0.2.1\nsearch a.test b.test\noptions edns0\n"
    assert hosts.led_to("127.0.0.11", text) == (
        "nameserver 127.0.0.11\nsearch a.test b.test\noptions edns0\noptions ndots:0\n"
    )
    assert hosts.led_to("127.0.0.11", "options ndots:3 edns0\n") == "nameserver 127.0.0.11\noptions ndots:3 edns0\n"
