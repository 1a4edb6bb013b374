"""What looks at the machine, without a kernel: owners, names, drawings, lines that build others' namespaces again."""

from __future__ import annotations

import contextlib
import time
from ipaddress import ip_interface
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fairlead.kernel import Kernel, survey
from fairlead.see import checks_ours, rebuild, text
from fairlead.see.facts import End, InterfaceFact, NamespaceFact, Snapshot
from fairlead.see.owners import Owner, owner_of
from fairlead.see.topology import Place, Port, Room, Topology
from fairlead.see.trace import names
from fairlead.see.trace.model import Place as TracedPlace


def test_a_process_that_ends_while_its_name_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [["/usr/bin/sleep", "9"], []]
    monkeypatch.setattr(survey, "command_line", lambda pid: answers.pop(0))
    monkeypatch.setattr(survey, "cgroup", lambda pid: "/")
    assert owner_of([], [42], Path("/run/fairlead/netns"), "/") == Owner("process", "42", "sleep")


@pytest.mark.parametrize("name", ["ä..b", "a..b", "ö" * 70, "."])
def test_what_can_be_no_name(name: str) -> None:
    place = TracedPlace(inode=1, name="a")
    found = names.look_up(cast(Kernel, None), place, name, "nameserver 192.0.2.1", "")
    assert (found.problem, found.addresses) == ("no valid name", ())


def vlan(name: str, below: str, room: str = "host", **more: object) -> Port:
    return Port(
        name=name,
        kind="vlan",
        up=True,
        carries=True,
        data={"id": name.partition(".")[2]},
        parent=Place(namespace=room, interface=below),
        **more,  # type: ignore[arg-type]
    )


def plain(name: str, kind: str = "device", **more: object) -> Port:
    return Port(name=name, kind=kind, up=True, carries=True, **more)  # type: ignore[arg-type]


def test_what_stands_on_a_link_of_its_own_namespace_is_drawn_once() -> None:
    host = Room(
        id="host",
        name="host",
        kind="host",
        ports=(plain("eth0"), vlan("eth0.10", "eth0"), plain("br0", "bridge"), vlan("eth0.20", "eth0", master="br0")),
    )
    other = Room(id="7", name="w", kind="namespace", ports=(vlan("eth0.30", "eth0"),))
    drawn = text.render(Topology(rooms=(host, other)))
    assert "see above" not in drawn
    assert "│ eth0.10  vlan 10 on eth0 " in drawn
    assert "└─ eth0.20  vlan 20 on eth0 " in drawn
    assert "┤ eth0.30  vlan 30  " in drawn, "on what it stands there is where the line comes from"


def test_the_ports_of_what_is_no_bridge_are_drawn_in_a_namespace_too() -> None:
    ports = (plain("eth0", master="red"), plain("eth1", master="red"), plain("red", "vrf"))
    room = Room(id="7", name="ns0", kind="namespace", manager="ip netns", ports=ports)
    drawn = text.render(Topology(rooms=(Room(id="host", name="host", kind="host"), room)))
    assert [drawn.count(name) for name in ("eth0", "eth1", "red  vrf")] == [1, 1, 1]


HOSTILE = "a;reboot"


def test_lines_for_others_namespaces_hold_no_command_of_theirs() -> None:
    """Who is root in a namespace chooses the names of its interfaces, and a process its own."""
    inner = InterfaceFact(
        index=2,
        name=HOSTILE,
        kind="vlan",
        up=True,
        data={"id": "5"},
        parent=End(8, 2),
        addresses=(ip_interface("10.0.0.2/24"),),
    )
    fact = NamespaceFact(inode=7, owner=Owner("process", "42", "$(reboot)\nreboot"), pids=(42,), interfaces=(inner,))
    below = NamespaceFact(
        inode=8,
        owner=Owner("ip netns", "low", "low"),
        paths=("/run/netns/low",),
        interfaces=(InterfaceFact(2, HOSTILE),),
    )
    snapshot = Snapshot((NamespaceFact(inode=1, owner=Owner("host", name="host")), fact, below))
    lines = list(rebuild._foreign(snapshot, fact))
    assert lines == [
        "# process 42: as it is now, by the name 42",
        "ip netns add 42",
        f"ip -n low link add link '{HOSTILE}' name '{HOSTILE}' netns 42 type vlan id 5",
        f"ip -n 42 addr add 10.0.0.2/24 brd + dev '{HOSTILE}'",
        f"ip -n 42 link set '{HOSTILE}' up",
    ]


def test_a_process_may_call_itself_anything_but_only_what_can_be_shown_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "command_line", lambda pid: ["/bin/a\x1b[2J\nb ü"])
    monkeypatch.setattr(survey, "cgroup", lambda pid: "/")
    assert owner_of([], [42], Path("/run/fairlead/netns"), "/").name == "a?[2J?b ü"


class Socket:
    """One that takes everything."""

    def __init__(self, *_: object) -> None: ...
    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None: ...
    def settimeout(self, seconds: float) -> None: ...
    def connect(self, address: object) -> None: ...
    def send(self, data: bytes) -> None: ...


class Babbling(Socket):
    """Its other side goes on answering other questions."""

    heard = 0

    def recv(self, size: int) -> bytes:
        Babbling.heard += 1
        time.sleep(0.01)
        assert Babbling.heard < 100, "it listens for ever"
        return b""


def test_a_name_server_that_answers_something_else_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "PATIENCE", 0.1)
    monkeypatch.setattr(names.socket, "socket", Babbling)
    kernel = SimpleNamespace(namespaces=SimpleNamespace(entered=lambda path: contextlib.nullcontext()))
    place = TracedPlace(inode=1, name="a")
    found = names.look_up(cast(Kernel, kernel), place, "web", "nameserver 192.0.2.1", "")
    assert found.problem == "no answer"


class Mute(Socket):
    """Its other side sends one byte."""

    def recv(self, size: int) -> bytes:
        return b"x"


def test_half_an_answer_in_the_resolvers_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks_ours.socket, "socket", Mute)
    namespaces = SimpleNamespace(entered=lambda path: contextlib.nullcontext())
    patient = SimpleNamespace(ground=SimpleNamespace(kernel=SimpleNamespace(namespaces=namespaces)))
    sandbox = SimpleNamespace(path="/run/netns/a")
    assert checks_ours._asked(cast(Any, patient), cast(Any, sandbox), "a") == "gives half an answer"
