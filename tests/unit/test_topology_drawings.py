"""Drawings of topologies that were read from a real kernel: `scripts/draw-examples` keeps the data and the drawings."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from fairlead.errors import MissingProgram, NotFound
from fairlead.see import graph, select, text
from fairlead.see.topology import Net, Place, Port, Published, Room, Route, Topology, Vlans

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "topologies"
EXAMPLES = sorted(path.stem for path in DATA.glob("*.json"))


def example(name: str) -> Topology:
    return msgspec.json.decode((DATA / f"{name}.json").read_bytes(), type=Topology)


def test_there_is_one_for_each_example() -> None:
    assert sorted(path.stem for path in (ROOT / "examples").glob("*.sh")) == EXAMPLES


@pytest.mark.parametrize("name", EXAMPLES)
def test_drawings_are_as_before(name: str) -> None:
    topology = example(name)
    assert text.render(topology) == (DATA / f"{name}.txt").read_text()
    assert graph.dot(topology) == (DATA / f"{name}.dot").read_text()
    assert graph.mermaid(topology) == (DATA / f"{name}.mmd").read_text()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_page_shows_them(name: str) -> None:
    page = (ROOT / "docs" / "topology.md").read_text()
    assert f"```text\n{(DATA / f'{name}.txt').read_text()}```" in page
    assert f"](pictures/{name}.svg)" in page
    assert (ROOT / "docs" / "pictures" / f"{name}.svg").read_text().startswith("<?xml")


def hosts(count: int, **of_port: object) -> Topology:
    """A bridge with so many containers."""
    rooms = [
        Room(
            id=str(n),
            name=f"c{n}",
            kind="container",
            manager="fairlead",
            ports=(
                Port(
                    name="eth0",
                    index=2,
                    kind="veth",
                    up=True,
                    carries=True,
                    mtu=1500,
                    addresses=(f"10.1.{n // 250}.{n % 250 + 2}/16", f"fd00:1234:5678:9abc:def0:1234:5678:{n:x}/64"),
                    peer=Place(namespace="host", interface=f"veth{n:07x}"),
                ),
            ),
            routes=(Route(destination="default", gateway="10.1.0.1", interface="eth0"),),
        )
        for n in range(count)
    ]
    ports = [
        Port(
            name=f"veth{n:07x}",
            index=n + 10,
            kind="veth",
            up=True,
            carries=True,
            mtu=1500,
            master="br0",
            peer=Place(namespace=str(n), interface="eth0"),
        )
        for n in range(count)
    ]
    bridge = Port(
        name="br0", index=3, kind="bridge", up=True, carries=True, mtu=1500, addresses=("10.1.0.1/16",), network="n"
    )
    host = Room(id="host", name="host", kind="host", manager="host", ports=(bridge, *ports))
    net = Net(id="f" * 64, name="n", driver="bridge", subnets=("10.1.0.0/16",), interface="br0")
    published = Published(protocol="tcp", host_port=8081, address="10.1.0.2", port=80, namespace="0")
    return Topology(rooms=(host, *rooms), nets=(net,), published=(published,))


@pytest.mark.parametrize("count", [0, 1, 10, 15, 40, 500])
@pytest.mark.parametrize("width", [60, 80, 132])
def test_text_never_is_wider_than_asked_for(count: int, width: int) -> None:
    lines = text.render(hosts(count), width=width).splitlines()
    assert max(map(len, lines)) <= width
    frame = [line for line in lines if line.startswith("│")]
    assert {len(line) for line in frame} == {width}, "the frame is closed on its right side"
    for number in range(count):
        assert any(re.search(rf"\bc{number}\b", line) for line in lines)


@pytest.mark.parametrize("count", [3, 30])
@pytest.mark.parametrize("width", [60, 80])
def test_ports_of_a_bridge_that_filters_vlans(count: int, width: int) -> None:
    plain = hosts(count)
    vlans = (
        Vlans(first=1, last=1, pvid=True, untagged=True),
        Vlans(first=20, last=22, pvid=False, untagged=False),
        Vlans(first=40, last=40, pvid=False, untagged=True),
    )
    ports = tuple(replace(port, vlans=() if port.name.endswith("1") else vlans) for port in plain.host.ports)
    topology = replace(plain, rooms=(replace(plain.host, ports=ports), *plain.rooms[1:]))
    lines = text.render(topology, width=width).splitlines()
    assert {len(line) for line in lines} == {width}
    drawn = "\n".join(lines)
    words = "vlan 1, tagged 20-22, untagged 40"
    assert f"network n, {words}"[:20] in drawn
    if count == 3 and width == 80:
        assert re.search(rf"─ veth0000000 ─+┤ eth0 .*\n│  │ +{words} │", drawn), drawn
        assert re.search(r"─ veth0000001 ─+┤ eth0 .*\n│  │ +no vlan ", drawn), drawn
    elif count == 30:
        assert f"├─ veth0000000 ({words}) ── c0 "[: width - 10] in drawn
    assert re.sub(r"\x1b\[[0-9;]*m", "", text.render(topology, width=width, colour=True)) == drawn + "\n"
    assert f'|"veth0000000, {words}"|' in graph.mermaid(topology)
    assert f"veth0000000 ({words})" in graph.dot(topology)


def test_ten_containers_have_boxes_and_five_hundred_a_line_each() -> None:
    ten, many = text.render(hosts(10)), text.render(hosts(500))
    assert ten.count("┌─ c") == 10
    assert "10.1.0.2/16" in ten
    assert len(ten.splitlines()) <= 60
    assert "┌─ c" not in many
    assert len(many.splitlines()) <= 510


def test_colours_change_nothing_but_colours() -> None:
    topology = example("2-three-on-a-bridge")
    coloured = text.render(topology, colour=True)
    assert "\x1b[36m10.0.0.1/24\x1b[0m" in coloured
    for one in (topology, marked(), hosts(3), hosts(30)):
        assert re.sub(r"\x1b\[[0-9;]*m", "", text.render(one, colour=True)) == text.render(one)


def test_a_line_has_the_ports_before_what_may_be_cut() -> None:
    (line,) = (line for line in text.render(hosts(30)).splitlines() if " c0 " in line)
    assert line.startswith("│  ├─ veth0000000 ── c0  eth0  10.1.0.2/16  8081 → 80/tcp  fd00:")


def marked() -> Topology:
    """The three on a bridge, after somebody was at work with ip."""
    topology = example("2-three-on-a-bridge")
    rooms = []
    for room in topology.rooms:
        ports = tuple(
            replace(
                port,
                addresses=(),
                missing_addresses=port.addresses,
                mark="differs",
                note="10.0.0.1/24 is missing",
            )
            if (room.name, port.name) == ("ns0", "eth0")
            else port
            for port in room.ports
        )
        if room.name == "ns1":
            stranger = Port(name="tun0", index=9, kind="tun", mark="unowned", note="no record of Fairlead's knows it")
            ports = (*ports, stranger)
        room = replace(room, ports=ports)
        if room.name == "ns2":
            room = replace(room, mark="missing", note="there is no network namespace at /run/netns/ns2")
        rooms.append(room)
    return replace(topology, rooms=tuple(rooms))


def test_marks_are_drawn_and_explained() -> None:
    drawn = text.render(marked())
    assert "┤ ! eth0  ✗ 10.0.0.1/24" in drawn
    assert "│ ? tun0  tun, down" in drawn
    assert "┌─ ✗ ns2 ─" in drawn
    assert drawn.splitlines()[-3:] == [
        "! ns0/eth0: 10.0.0.1/24 is missing",
        "? ns1/tun0: no record of Fairlead's knows it",
        "✗ ns2: there is no network namespace at /run/netns/ns2",
    ]
    for language in (graph.dot(marked()), graph.mermaid(marked())):
        assert "✗ 10.0.0.1/24" in language
        assert "? tun0" in language
        assert "✗ ns2" in language


@pytest.mark.parametrize("name", [*EXAMPLES, "marked", "many"])
def test_graphviz_takes_the_graph(name: str) -> None:
    if not shutil.which("dot"):
        pytest.skip("graphviz is not installed")
    topology = {"marked": marked(), "many": hosts(40)}.get(name) or example(name)
    done = subprocess.run(["dot", "-Tsvg"], input=graph.dot(topology), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    for room in topology.rooms:
        assert room.name in done.stdout
    assert graph.svg(topology) == done.stdout


def test_without_graphviz_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(MissingProgram, match="laid out by Graphviz: install the package graphviz"):
        graph.svg(example("1-two-namespaces"))


def test_names_are_quoted_where_a_language_wants_it() -> None:
    room = Room(id="7", name='a"<b>&', kind="namespace", ports=(Port(name='e"<0', kind="veth", up=True, carries=True),))
    topology = Topology(rooms=(Room(id="host", name="host", kind="host"), room))
    assert "a&quot;&lt;b&gt;&amp;" in graph.dot(topology)
    assert 'subgraph ns1["a&quot;&lt;b&gt;&amp;"]' in graph.mermaid(topology)
    if shutil.which("dot"):
        assert "e&quot;&lt;0" in graph.svg(topology)


def test_a_part_by_network_container_or_id() -> None:
    topology = hosts(3)
    part = select.only(topology, ["c1"])
    assert [room.name for room in part.rooms] == ["host", "c1"]
    assert [port.name for port in part.host.ports] == ["br0", "veth0000001"]
    assert [net.name for net in part.nets] == ["n"]
    assert part.published == ()
    assert select.only(topology, ["c0"]).published == topology.published
    assert select.only(topology, ["n"]).rooms == topology.rooms
    assert select.only(topology, ["f" * 12]).nets == topology.nets
    assert select.only(topology, []) is topology
    with pytest.raises(NotFound, match="No such network, container or namespace: nope"):
        select.only(topology, ["nope"])


def test_a_part_of_a_straight_link_has_its_other_end() -> None:
    part = select.only(example("1-two-namespaces"), ["ns0"])
    assert [room.name for room in part.rooms] == ["host", "ns0", "ns1"]
    assert [port.name for port in part.host.ports] == ["eth0"]
    assert "├──────────┤ vth1  172.0.0.3/24" in text.render(part)


def test_the_page_on_the_doctor_tells_of_every_check() -> None:
    from fairlead.see.checks import CHECKS

    page = (ROOT / "docs" / "doctor.md").read_text()
    told = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert told == ["daemon", *(check.name for check in CHECKS)]
