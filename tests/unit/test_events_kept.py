"""Events: kept, filtered, written and read again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fairlead.cli.events import event_text
from fairlead.events import KEPT, Event, Events, matches


def event(kind: str = "container", action: str = "start", id_: str = "abc", **attributes: str) -> Event:
    return Event(kind=kind, action=action, id=id_, attributes=attributes, time=1_700_000_000_123_456_789)


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ({}, True),
        ({"type": ["container"]}, True),
        ({"type": ["network", "container"]}, True),
        ({"type": ["network"]}, False),
        ({"event": ["start", "die"]}, True),
        ({"event": ["sta"]}, False),
        ({"container": ["web"]}, True),
        ({"container": ["w"]}, True),
        ({"container": ["ab"]}, True),
        ({"container": ["other"]}, False),
        ({"network": ["abc"]}, False),
        ({"image": ["nginx"]}, True),
        ({"image": ["nginx:1"]}, True),
        ({"image": ["ngin"]}, False),
        ({"label": ["a=1"]}, True),
        ({"label": ["a", "b"]}, False),
        ({"scope": ["local"]}, True),
        ({"scope": ["swarm"]}, False),
        ({"daemon": ["x"]}, False),
        ({"type": []}, True),
        ({"unknown": ["x"]}, True),
    ],
)
def test_filters(filters: dict[str, list[str]], passes: bool) -> None:
    assert matches(event(name="web", image="nginx:1", a="1"), filters) is passes


def test_actions_with_a_colon_are_found_by_their_first_word() -> None:
    assert matches(event(action="exec_start: ls -l"), {"event": ["exec_start"]})
    assert matches(event(action="health_status: healthy"), {"event": ["health_status"]})
    assert matches(event(action="health_status: healthy"), {"event": ["health_status: healthy"]})
    assert not matches(event(action="health_status: healthy"), {"event": ["health_status: unhealthy"]})


def test_shapes() -> None:
    assert event(image="box", name="web").shape() == {
        "status": "start",
        "id": "abc",
        "from": "box",
        "Type": "container",
        "Action": "start",
        "Actor": {"ID": "abc", "Attributes": {"image": "box", "name": "web"}},
        "scope": "local",
        "time": 1_700_000_000,
        "timeNano": 1_700_000_000_123_456_789,
    }
    assert "status" not in event(kind="network").shape()
    assert event_text(event(name="web", a="1").shape()).endswith(" container start abc (a=1, name=web)")


def listened(events: Events, since: int = 0, until: int = 0) -> list[str]:
    async def ask() -> list[str]:
        async with events.listen(since, until) as (past, _):
            return [one.action for one in past]

    return asyncio.run(ask())


def test_the_past_is_told_when_asked_for() -> None:
    events = Events()
    for action in ("create", "start", "die"):
        events.publish("container", action, "x")
    assert listened(events) == []
    assert listened(events, since=1) == ["create", "start", "die"]
    times = [one.time for one in events._kept]
    assert len(set(times)) == 3
    assert listened(events, since=times[1]) == ["start", "die"]
    assert listened(events, until=times[1]) == ["create", "start"]


def test_the_file_is_read_again_and_does_not_grow_for_ever(tmp_path: Path) -> None:
    file = tmp_path / "events"
    events = Events(file)
    for number in range(2 * KEPT + 10):
        events.publish("image", "tag", str(number), {"name": "é\n"})
    events.close()
    assert len(file.read_bytes().splitlines()) < 2 * KEPT + 1
    with file.open("ab") as stream:
        stream.write(b'{"kind": "cont')  # cut off by a crash
    again = Events(file)
    assert [one.id for one in again._kept] == [str(number) for number in range(KEPT + 10, 2 * KEPT + 10)]
    again.publish("image", "tag", "new")
    again.close()
    assert [one.id for one in Events(file)._kept][-1] == "new"


def test_a_directory_that_cannot_be_written_keeps_nothing_from_happening(tmp_path: Path) -> None:
    events = Events(tmp_path / "absent" / "events")
    events.publish("volume", "create", "v")
    assert listened(events, since=1) == ["create"]


def test_listeners_hear_all_in_order_from_other_threads() -> None:
    events = Events()

    async def listen() -> list[str]:
        heard: list[str] = []
        async with events.listen() as (_, listener):
            await asyncio.to_thread(lambda: [events.publish("container", str(n), "x") for n in range(100)])
            async for one in listener:
                heard.append(one.action)
                if len(heard) == 100:
                    break
        return heard

    assert asyncio.run(listen()) == [str(number) for number in range(100)]
    assert events.listening == 0


def test_one_who_does_not_listen_is_cut_off() -> None:
    events = Events()

    async def listen() -> int:
        async with events.listen() as (_, listener):
            for number in range(10_010):
                events.publish("container", str(number), "x")
            return len([one async for one in listener])

    assert asyncio.run(listen()) == 10_000
