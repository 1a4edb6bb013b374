"""Which host ports are chosen, which sockets hold them, and the lines that redirect them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from fairlead.engine import KINDS
from fairlead.errors import Conflict, FairleadError, Invalid
from fairlead.firewall import port_steps
from fairlead.model import Address, Endpoint, Protocol, PublishedPort, Sandbox, new_id
from fairlead.plan.ports import HoldPort
from fairlead.publishing import Publisher
from fairlead.spec import PortSpec
from fairlead.store import Store

V4, V6 = ip_address("0.0.0.0"), ip_address("::")
ONE, TWO = ip_address("192.0.2.1"), ip_address("192.0.2.2")


class Host:
    """Programs that have ports, and the order in which the kernel picks."""

    def __init__(self) -> None:
        self.used: set[int] = {7000, 40000}
        self.picks = iter([8081, 40001, 40002])

    def pick(self, protocol: Protocol, addresses: Sequence[Address], number: int) -> int | None:
        if not number:
            return next(self.picks, None)
        return None if number in self.used else number


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    store = Store(tmp_path / "store.db", KINDS)
    sandbox = Sandbox(id=new_id(), name="c" * 64, path="/x", container="c" * 64)
    taken = (
        PublishedPort(host_ip=V4, host_port=8081, protocol="tcp", port=80),
        PublishedPort(host_ip=V6, host_port=8081, protocol="tcp", port=80),
        PublishedPort(host_ip=ONE, host_port=9000, protocol="tcp", port=80),
    )
    store.put(sandbox, Endpoint(id=new_id(), network="n", sandbox=sandbox.id, ports=taken))
    yield Publisher(store, pick=Host().pick, ipv6=True)
    store.close()


def spec(port: int, first: int = 0, last: int = 0, ip: Address | None = None, protocol: Protocol = "tcp") -> PortSpec:
    return PortSpec(port=port, host_port=first, host_port_end=last, host_ip=ip, protocol=protocol)


@pytest.mark.parametrize(
    ("specs", "wanted"),
    [
        ([spec(80, 8080)], ["0.0.0.0:8080/tcp", "[::]:8080/tcp"]),
        ([spec(80, 8081, protocol="udp")], ["0.0.0.0:8081/udp", "[::]:8081/udp"]),
        ([spec(80)], ["0.0.0.0:40001/tcp", "[::]:40001/tcp"]),  # 8081, which the kernel thinks free, is claimed
        ([spec(80, ip=ONE), spec(81, ip=ONE)], ["192.0.2.1:40001/tcp", "192.0.2.1:40002/tcp"]),
        ([spec(80, 9000, ip=TWO)], ["192.0.2.2:9000/tcp"]),
        ([spec(80, 7000, 7002)], ["0.0.0.0:7001/tcp", "[::]:7001/tcp"]),
        ([spec(80, 8080, 8082, ONE), spec(81, 8080, 8082, ONE)], ["192.0.2.1:8080/tcp", "192.0.2.1:8082/tcp"]),
        ([spec(80, 9000, 9001, V4)], ["0.0.0.0:9001/tcp"]),
        ([spec(80, 5, ip=ONE), spec(81, 5, ip=TWO)], ["192.0.2.1:5/tcp", "192.0.2.2:5/tcp"]),
    ],
)
def test_chosen(publisher: Publisher, specs: list[PortSpec], wanted: list[str]) -> None:
    assert [str(port) for port in publisher.choose(specs)] == wanted


@pytest.mark.parametrize(
    ("specs", "binding", "kind", "sentence"),
    [
        (
            [spec(80, 8081)],
            "",
            Conflict,
            "Bind for 0.0.0.0:8081/tcp failed: port is already allocated (to container cc",
        ),
        ([spec(80, 8081, ip=ONE)], "", Conflict, "Bind for 192.0.2.1:8081/tcp failed: port is already allocated"),
        ([spec(80, 9000)], "", Conflict, "Bind for 0.0.0.0:9000/tcp failed: port is already allocated"),
        ([spec(80, 9000)], "192.0.2.1", Conflict, "Bind for 192.0.2.1:9000/tcp failed: port is already allocated"),
        ([spec(80, 5), spec(81, 5)], "", Conflict, "already allocated (to this request)"),
        ([spec(80, 8081, 8081)], "", Conflict, "port is already allocated"),
        ([spec(80, 7000, 7001), spec(81, 7000, 7001)], "", Conflict, "all tcp ports from 7000 to 7001 are already"),
        ([spec(1), spec(2), spec(3)], "", Conflict, "no free tcp port is left on this host"),
        ([spec(80, 5)], "nonsense", Invalid, "the network's host binding 'nonsense' is not an IP address"),
    ],
)
def test_refused(
    publisher: Publisher, specs: list[PortSpec], binding: str, kind: type[FairleadError], sentence: str
) -> None:
    with pytest.raises(kind) as caught:
        publisher.choose(specs, binding)
    assert sentence in str(caught.value)


def endpoint(*ports: PublishedPort, addresses: tuple[str, ...] = ("10.0.0.2/24",)) -> Endpoint:
    return Endpoint(
        id=new_id(), network="n", sandbox="s", ports=ports, addresses=tuple(ip_interface(one) for one in addresses)
    )


def port(ip: Address, number: int, protocol: Protocol = "tcp", inside: int = 80) -> PublishedPort:
    return PublishedPort(host_ip=ip, host_port=number, protocol=protocol, port=inside)


def test_one_socket_holds_both_families() -> None:
    four = ip_address("10.0.0.2")
    steps = port_steps(endpoint(port(V4, 1), port(V6, 1), port(V4, 2), port(ONE, 3), port(V6, 4)))
    assert [step for step in steps if isinstance(step, HoldPort)] == [
        HoldPort("tcp", None, 1, (four, 80)),
        HoldPort("tcp", V4, 2),
        HoldPort("tcp", ONE, 3),
        HoldPort("tcp", V6, 4, (four, 80)),
    ]


def test_ports_of_one_kind_are_neighbours_and_so_sent_together() -> None:
    ports = [port(ip, number, protocol) for number in range(1, 5) for protocol in ("tcp", "udp") for ip in (V4, V6)]  # type: ignore[arg-type]
    channels = [step.channel() for step in port_steps(endpoint(*ports))]
    assert len(set(channels)) == 3
    assert channels == sorted(channels, key=list(dict.fromkeys(channels)).index)


@pytest.mark.parametrize(
    ("published", "lines", "unlines"),
    [
        (
            port(V4, 53, "udp"),
            ["ports4_any '{ udp . 53 : 10.0.0.2 . 80 }'", "conntrack -D -p udp --orig-port-dst 53 || true"],
            ["ports4_any '{ udp . 53 }'", "conntrack -D -p udp --orig-port-dst 53 --dst-nat 10.0.0.2 || true"],
        ),
        (
            port(ONE, 53, "sctp"),
            [
                "ports4 '{ sctp . 192.0.2.1 . 53 : 10.0.0.2 . 80 }'",
                "conntrack -D -p sctp --orig-dst 192.0.2.1 --orig-port-dst 53 || true",
            ],
            [
                "ports4 '{ sctp . 192.0.2.1 . 53 }'",
                "conntrack -D -p sctp --orig-dst 192.0.2.1 --orig-port-dst 53 --dst-nat 10.0.0.2 || true",
            ],
        ),
        (port(ONE, 53), ["ports4 '{ tcp . 192.0.2.1 . 53 : 10.0.0.2 . 80 }'"], ["ports4 '{ tcp . 192.0.2.1 . 53 }'"]),
    ],
    ids=["udp", "sctp", "tcp"],
)
def test_lines(published: PublishedPort, lines: list[str], unlines: list[str]) -> None:
    _, redirect = port_steps(endpoint(published))
    for said, wanted, verb in ((redirect.shell(), lines, "add"), (redirect.unshell(), unlines, "delete")):
        assert list(said) == [f"nft {verb} element inet fairlead {wanted[0]}", *wanted[1:]]
