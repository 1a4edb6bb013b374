"""The page's server: what changed, who may ask, when the daemon is asked at all."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from fairlead.errors import FairleadError
from fairlead.see import rules
from fairlead.ui import changes, watch
from fairlead.ui.daemon import Refused, Unreachable
from fairlead.ui.logs import FRAMED, Unframed
from fairlead.ui.server import assets, make_app, shown

TOKEN = "a-token-of-this-test"


def port(name: str, received: int = 0, **more: Any) -> dict[str, Any]:
    return {"Name": name, "Addresses": [], "Traffic": {"RxBytes": received, "TxBytes": 7}, **more}


def topology(**rooms: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "Namespaces": [
            {"Id": id_, "Name": id_, "Path": f"/run/{id_}", "Interfaces": ports} for id_, ports in rooms.items()
        ],
        "Networks": [],
        "Published": [],
        "Masquerading": [],
        "LeftOut": 0,
    }


# What changed


def test_nothing_changed() -> None:
    one = changes.split(topology(host=[port("lo")]))
    assert changes.between(one, copy.deepcopy(one)) == {"Changed": [], "Gone": [], "Traffic": {}}


def test_counters_alone_are_no_change_of_a_room() -> None:
    old, new = (changes.split(topology(host=[port("lo", count), port("eth0")])) for count in (1, 2))
    found = changes.between(old, new)
    assert found == {"Changed": [], "Gone": [], "Traffic": {"host": {"lo": [2, 7, 0, 0, 0, 0]}}}


def test_what_came_went_and_moved() -> None:
    old = changes.split(topology(host=[port("lo")], a=[port("eth0")], b=[port("eth0")]))
    new = changes.split(
        {**topology(host=[port("lo")], b=[port("eth0", Mark="differs")], c=[port("eth0", 3)]), "LeftOut": 2}
    )
    found = changes.between(old, new)
    assert [room["Id"] for room in found["Changed"]] == ["b", "c"]
    assert found["Gone"] == ["a"]
    assert found["Traffic"] == {"c": {"eth0": [3, 7, 0, 0, 0, 0]}}
    assert found["LeftOut"] == 2
    assert "Networks" not in found
    assert not any("Traffic" in one for room in found["Changed"] for one in room["Interfaces"])


# Logs


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_frames_are_undone_however_they_come(size: int) -> None:
    data = b"".join(
        bytes([stream, 0, 0, 0]) + len(text).to_bytes(4, "big") + text
        for stream, text in ((1, b"one\n"), (2, b""), (2, b"two \x01\n" * 40))
    )
    unframed = Unframed(FRAMED)
    assert (
        b"".join(unframed.feed(data[at : at + size]) for at in range(0, len(data), size))
        == b"one\n" + b"two \x01\n" * 40
    )
    assert Unframed("application/vnd.docker.raw-stream").feed(data) == data


# Rules


def test_rules_are_told_apart_by_table() -> None:
    text = "table ip nat { # handle 3\n\tchain output { # handle 1\n\t\taccept # handle 2\n\t}\n}\ntable inet f {\n}\n"
    assert rules.parse(text) == [
        rules.Table(family="ip", name="nat", lines=("chain output { # handle 1", "\taccept # handle 2", "}")),
        rules.Table(family="inet", name="f", lines=()),
    ]
    assert rules.parse("") == []


# Traces


def test_hops_are_in_the_namespaces_of_the_topology() -> None:
    answer = {
        "Hops": [{"Namespace": 7, "Kind": "send"}, {"Namespace": 1, "Kind": "receive"}],
        "Observation": {
            "Asked": {"Source": "a"},
            "Source": {"Inode": 7},
            "Places": [{"Inode": 1, "Kind": "host"}, {"Inode": 7}],
            "Legs": [{"BarrierAt": [1, "br0"]}, {}],
        },
        "Verdict": {"Ok": False},
    }
    found = shown(answer)
    assert [hop["Room"] for hop in found["Hops"]] == ["7", "host"]
    assert found["SourceRoom"] == "7"
    assert found["Barriers"] == [{"Room": "host", "Interface": "br0"}]
    assert "Observation" not in found


# The server


class Daemon:
    """Stands in for the daemon's API."""

    def __init__(self) -> None:
        self.now: dict[str, Any] | FairleadError = topology(host=[port("lo")])
        self.looks = 0
        self.posted: list[tuple[str, Any]] = []
        self.event = asyncio.Event()

    async def get(self, path: str, **query: str) -> Any:
        if path != "/fairlead/topology":
            return {"Path": path, "Query": query}
        self.looks += 1
        if isinstance(self.now, FairleadError):
            raise self.now
        return copy.deepcopy(self.now)

    async def post(self, path: str, body: Any) -> Any:
        self.posted.append((path, body))
        raise Refused("there is no such source", 404)

    @asynccontextmanager
    async def stream(self, *_: Any) -> AsyncIterator[Any]:
        daemon = self

        class Answer:
            @property
            async def content(self) -> AsyncIterator[bytes]:
                while True:
                    await daemon.event.wait()
                    daemon.event.clear()
                    yield b"{}\n"

        yield Answer()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "PERIOD", 0.02)


@asynccontextmanager
async def page() -> AsyncIterator[tuple[TestClient[Any, Any], Daemon]]:
    daemon, bound = Daemon(), [0]
    app = make_app(daemon, TOKEN, lambda: bound[0])  # type: ignore[arg-type]
    server = TestServer(app, host="127.0.0.1")
    async with TestClient(server) as client:
        bound[0] = server.port or 0
        yield client, daemon


def status(path: str, method: str = "GET", **options: Any) -> int:
    async def ask() -> int:
        async with page() as (client, _), client.request(method, path, **options) as answer:
            assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
            assert not [name for name in answer.headers if name.startswith("Access-Control")]
            return answer.status

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "path",
    ["/", "/x/", f"/{TOKEN[:-1]}/", f"/{TOKEN}x/", f"/{TOKEN.upper()}/live", "/%FF%00/", "/é/"],
)
def test_without_the_token_there_is_nothing(path: str) -> None:
    assert status(path) == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "127.0.0.1.evil.example", "[::1]:80", ""])
def test_another_host_name_is_refused(host: str) -> None:
    assert status(f"/{TOKEN}/", headers={"Host": host}) == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_another_origin_is_refused(origin: str) -> None:
    assert status(f"/{TOKEN}/", headers={"Origin": origin}) == 403


def test_the_page_itself_is_served() -> None:
    assert status(f"/{TOKEN}/") == 200
    assert status(f"/{TOKEN}/vendor/dagre.js") == 200
    assert status(f"/{TOKEN}/nothing.js") == 404
    assert status(f"/{TOKEN}/../server.py") in (403, 404)
    assert status(f"/{TOKEN}/%2e%2e/server.py") in (403, 404)


def test_only_json_is_taken_and_only_where_it_belongs() -> None:
    assert status(f"/{TOKEN}/trace", "POST", data=b"{}") == 403
    assert status(f"/{TOKEN}/trace", "POST", data=b"[", headers={"Content-Type": "application/json"}) == 400
    assert status(f"/{TOKEN}/trace", "POST", data=b"[]", headers={"Content-Type": "application/json"}) == 400
    assert status(f"/{TOKEN}/trace", "POST", json={"Source": "x" * 70000}) == 413
    assert status(f"/{TOKEN}/trace", "POST", json={"Source": "nobody"}) == 404
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert status(f"/{TOKEN}/trace", method) in (403, 405)


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Without a network the page is the same: no file names another server, but in links to licences and namespaces."""
    found = assets()
    assert {"index.html", "main.js", "style.css", "vendor/dagre.js"} <= set(found)
    for name, (content, _) in found.items():
        for line in content.decode().splitlines():
            assert "//cdn" not in line
            assert not any(f'{word}="http' in line for word in ("src", "href")), name
            assert "@import" not in line


# Watching


async def heard(messages: AsyncIterator[watch.Message], wanted: str) -> dict[str, Any]:
    async with asyncio.timeout(5):
        async for name, data in messages:
            if name == wanted:
                return data
    raise AssertionError(wanted)


@pytest.mark.usefixtures("fast")
def test_the_daemon_is_asked_only_while_somebody_looks() -> None:
    async def scene() -> None:
        daemon = Daemon()
        one = watch.Watch(daemon)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)
        assert daemon.looks == 0
        first, second = one.follow(), one.follow()
        await heard(first, "topology")
        await heard(first, "change")
        await heard(second, "topology")
        await first.aclose()  # type: ignore[attr-defined]
        before = daemon.looks
        await heard(second, "change")
        await heard(second, "change")
        assert daemon.looks > before
        await second.aclose()  # type: ignore[attr-defined]
        before = daemon.looks
        await asyncio.sleep(0.2)
        assert daemon.looks == before

    asyncio.run(scene())


@pytest.mark.usefixtures("fast")
def test_a_page_that_comes_while_the_last_one_goes_is_served() -> None:
    async def scene() -> None:
        daemon = Daemon()
        one = watch.Watch(daemon)  # type: ignore[arg-type]
        first = one.follow()
        await heard(first, "topology")
        second = one.follow()
        _, found = await asyncio.gather(first.aclose(), heard(second, "topology"))  # type: ignore[attr-defined]
        assert found["Topology"]["Namespaces"]
        await heard(second, "change")
        await second.aclose()  # type: ignore[attr-defined]
        before = daemon.looks
        await asyncio.sleep(0.2)
        assert daemon.looks == before

    asyncio.run(scene())


@pytest.mark.usefixtures("fast")
def test_each_page_hears_what_changed_since_its_own_last_message() -> None:
    async def scene() -> None:
        daemon = Daemon()
        one = watch.Watch(daemon)  # type: ignore[arg-type]
        slow, quick = one.follow(), one.follow()
        await heard(slow, "topology")
        await heard(quick, "topology")
        daemon.now = topology(host=[port("lo")], a=[port("eth0")])
        while not (await heard(quick, "change"))["Changed"]:
            pass
        daemon.now = topology(host=[port("lo")], b=[port("eth0")])
        while not (await heard(quick, "change"))["Gone"]:
            pass
        # The slow one never heard of a.
        found = await heard(slow, "change")
        assert [room["Id"] for room in found["Changed"]] == ["b"]
        assert found["Gone"] == []
        await slow.aclose()  # type: ignore[attr-defined]
        await quick.aclose()  # type: ignore[attr-defined]

    asyncio.run(scene())


@pytest.mark.usefixtures("fast")
def test_a_daemon_that_went_is_told_of_and_seen_again() -> None:
    async def scene() -> None:
        daemon = Daemon()
        one = watch.Watch(daemon)  # type: ignore[arg-type]
        messages = one.follow()
        await heard(messages, "topology")
        good, daemon.now = daemon.now, Unreachable("the daemon does not answer")
        assert (await heard(messages, "trouble"))["Message"] == "the daemon does not answer"
        daemon.now = good
        await heard(messages, "topology")
        await messages.aclose()  # type: ignore[attr-defined]

    asyncio.run(scene())


@pytest.mark.usefixtures("fast")
def test_a_page_that_is_closed_is_noticed() -> None:
    async def scene() -> None:
        async with page() as (client, daemon):
            async with client.get(f"/{TOKEN}/live") as answer:
                said = [await answer.content.readline() for _ in range(3)]
                assert said == [b"retry: 500\n", b"\n", b"event: topology\n"]
                assert daemon.looks
            await asyncio.sleep(0.3)
            before = daemon.looks
            await asyncio.sleep(0.3)
            assert daemon.looks == before

    asyncio.run(scene())


def test_rules_are_asked_by_id_alone() -> None:
    """A path never comes from the page: it is that of a namespace in the topology."""

    async def scene() -> None:
        async with page() as (client, _):
            async with client.get(f"/{TOKEN}/rules/host") as answer:
                assert await answer.json() == {"Path": "/fairlead/rules", "Query": {"namespace": "/run/host"}}
            async with client.get(f"/{TOKEN}/rules/%2Fetc%2Fpasswd") as answer:
                assert answer.status == 404
                assert "no namespace" in (await answer.json())["message"]

    asyncio.run(scene())
