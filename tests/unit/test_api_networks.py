"""The API of networks, namespaces, links and the system, on an engine whose kernel always says yes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer
from fakes import UNIQUE_LOCAL, FakeFacts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.api import fairlead as api_fairlead
from fairlead.api import networks as api_networks
from fairlead.api import system as api_system
from fairlead.api.app import IN_FLIGHT, Daemon, answer, make_app
from fairlead.api.networks import parse_until, prune_until
from fairlead.api.shapes import rfc3339
from fairlead.catalog import Catalog
from fairlead.containers.record import Container, ContainerSpec, Status
from fairlead.containers.sharing import Sharing
from fairlead.dns.feed import Feed
from fairlead.drivers.bridge_options import ENABLE
from fairlead.engine import KINDS
from fairlead.errors import Invalid, NotFound
from fairlead.model import new_id
from fairlead.paths import Paths
from fairlead.planner import Planner
from fairlead.publishing import Publisher
from fairlead.spec import EndpointSpec, NetworkSpec
from fairlead.store import Store


class FakeEngine:
    """Plans for real and stores for real, but asks no kernel."""

    def __init__(self, directory: Path) -> None:
        self.store = Store(directory / "store.db", (*KINDS, Container))
        self.catalog = Catalog(self.store)
        publisher = Publisher(self.store, pick=lambda _protocol, _addresses, number: number or 40000, ipv6=True)
        self.planner = Planner(self.store, self.catalog, FakeFacts(), publisher, directory / "netns", UNIQUE_LOCAL)
        self.was_reset = False

    def perform(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        change = make(*args, **kwargs)
        self.store.put(*change.add, *change.replace)
        self.store.delete(*change.remove)
        for record in change.remove:
            self.planner.released(record)
        return change.result

    def explain(self, make: Callable[..., Any], *args: Any, **kwargs: Any) -> list[str]:
        change = make(*args, **kwargs)
        return [*change.undo.unshell(), *change.plan.shell()]

    def explain_reset(self) -> list[str]:
        return ["true"]

    def reset(self) -> None:
        self.was_reset = True


class FakeContainers:
    """Containers that are only records; running ones have a sandbox."""

    def __init__(self, engine: FakeEngine) -> None:
        self._engine = engine
        self.sharing = Sharing(engine.store, engine)  # type: ignore[arg-type]
        self.membership = self
        self.connected: list[tuple[str, EndpointSpec]] = []
        self.disconnected: list[tuple[str, str]] = []
        self.removed: list[str] = []

    def list(self) -> list[Container]:
        return self._engine.store.all(Container)

    def get(self, ref: str) -> Container:
        for container in self.list():
            if ref in (container.name, container.id):
                return container
        raise NotFound(f"No such container: {ref}")

    async def connect(self, ref: str, spec: EndpointSpec) -> None:
        self.connected.append((ref, spec))

    def with_ports(self, container: Container, spec: EndpointSpec) -> EndpointSpec:
        return spec

    async def disconnect(self, ref: str, network: str) -> None:
        self.disconnected.append((ref, network))

    async def remove(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        assert force
        self.removed.append(ref)
        self._engine.store.delete(self.get(ref))


class FakeImages:
    def list(self) -> list[object]:
        return [object(), object()]


class World:
    """A daemon without kernel, and a client to ask it."""

    def __init__(self, directory: Path) -> None:
        self.engine = FakeEngine(directory)
        self.containers = FakeContainers(self.engine)
        self.stopped: list[bool] = []
        images: Any = FakeImages()
        engine: Any = self.engine
        containers: Any = self.containers
        names = Feed(self.engine.store, directory)
        self.daemon = replace(
            Daemon(Paths(directory, directory), engine, images, containers, names),
            stop=lambda: self.stopped.append(True),
        )
        self.engine.perform(self.engine.planner.create_network, NetworkSpec(name="bridge"), predefined=True)

    def container(self, name: str, status: Status = Status.RUNNING) -> Container:
        container = Container(
            id=new_id(), name=name, image_id="i", spec=ContainerSpec(image="i"), created=0.0, status=status
        )
        self.engine.store.put(container)
        if status is Status.RUNNING:
            self.engine.perform(self.engine.planner.open_sandbox, container.id, container=container.id)
        return container

    def run(self, work: Callable[[Asker], Coroutine[None, None, None]]) -> None:
        async def main() -> None:
            app = make_app(
                [
                    *api_system.routes(self.daemon),
                    *api_networks.routes(self.daemon),
                    *api_fairlead.routes(self.daemon),
                ]
            )
            async with TestClient(TestServer(app)) as client:
                await work(Asker(client))

        asyncio.run(main())


class Asker:
    """Asks and expects a status."""

    def __init__(self, client: TestClient[Any, Any]) -> None:
        self.client = client

    async def __call__(self, line: str, body: Any = None, *, status: int = 200, **query: str) -> Any:
        method, path = line.split()
        response: ClientResponse = await self.client.request(method, path, json=body, params=query)
        text = await response.text()
        assert response.status == status, f"{line} → {response.status} {text}"
        return json.loads(text) if text and response.content_type == "application/json" else text


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    one.engine.store.close()


def test_ping_and_versions(world: World) -> None:
    async def work(ask: Asker) -> None:
        assert await ask("GET /_ping") == "OK"
        head = await ask.client.head("/v1.44/_ping")
        assert head.status == 200
        assert head.headers["Api-Version"] == "1.51"
        assert head.headers["Ostype"] == "linux"
        version = await ask("GET /v1.22/version")
        assert version["ApiVersion"] == "1.51"
        assert version["MinAPIVersion"] == "1.22"
        assert version["Os"] == "linux"
        assert "too new" in (await ask("GET /v1.52/version", status=400))["message"]
        old = await ask.client.get("/v1.21/version")
        assert (old.status, old.content_type) == (400, "text/plain")
        assert "too old" in await old.text()
        assert "page not found" in (await ask("GET /v1.51/nonsense", status=404))["message"]
        assert "page not found" in (await ask("PUT /networks", status=404))["message"]

    world.run(work)


def test_info_counts(world: World) -> None:
    world.container("a")
    world.container("b", Status.EXITED)

    async def work(ask: Asker) -> None:
        info = await ask("GET /info")
        assert (info["Containers"], info["ContainersRunning"], info["ContainersStopped"], info["Images"]) == (
            2,
            1,
            1,
            2,
        )

    world.run(work)


def test_life_of_a_network(world: World) -> None:
    async def work(ask: Asker) -> None:
        wanted = {
            "Name": "net",
            "Driver": "bridge",
            "IPAM": {
                "Config": [
                    {
                        "Subnet": "10.0.0.0/24",
                        "IPRange": "10.0.0.128/25",
                        "Gateway": "10.0.0.1",
                        "AuxiliaryAddresses": {"printer": "10.0.0.9"},
                    }
                ]
            },
            "Labels": {"a": "b"},
            "Options": None,
            "EnableIPv6": False,
            "ConfigFrom": None,
        }
        made = await ask("POST /networks/create", wanted, status=201)
        assert made["Warning"] == ""
        shape = await ask(f"GET /networks/{made['Id'][:12]}")
        assert shape["Name"] == "net"
        assert shape["Id"] == made["Id"]
        assert shape["Scope"] == "local"
        assert shape["IPAM"]["Config"] == wanted["IPAM"]["Config"]  # type: ignore[index]
        assert shape["Labels"] == {"a": "b"}
        assert shape["EnableIPv4"]
        assert not shape["EnableIPv6"]
        assert shape["Containers"] == {}
        again = await ask("POST /networks/create", wanted, status=409)
        assert again["message"] == "network with name net already exists"
        await ask("DELETE /networks/net", status=204)
        await ask("GET /networks/net", status=404)
        assert "bridge" in (await ask("DELETE /networks/bridge", status=403))["message"]

    world.run(work)


@pytest.mark.parametrize(
    ("body", "families", "options"),
    [
        ({}, (True, False), {}),
        ({"EnableIPv6": True}, (True, True), {}),
        ({"EnableIPv4": False, "EnableIPv6": True}, (False, True), {}),
        ({"Options": {ENABLE[6]: "true"}}, (True, True), {ENABLE[6]: "true"}),
        ({"Options": {ENABLE[4]: "false", ENABLE[6]: "1"}}, (False, True), {ENABLE[4]: "false", ENABLE[6]: "1"}),
        ({"Options": {ENABLE[6]: "true"}, "EnableIPv6": False}, (True, False), {}),
        ({"IPAM": {"Config": [{"Subnet": "fd00:5::/64"}]}}, (True, True), {}),
    ],
)
def test_the_families_that_are_asked_for(
    world: World, body: dict[str, Any], families: tuple[bool, bool], options: dict[str, str]
) -> None:
    async def work(ask: Asker) -> None:
        await ask("POST /networks/create", {"Name": "net", **body}, status=201)
        shape = await ask("GET /networks/net")
        assert (shape["EnableIPv4"], shape["EnableIPv6"]) == families
        assert len(shape["IPAM"]["Config"]) == sum(families)
        assert shape["Options"] == options
        wrong = {"Name": "wrong", "EnableIPv4": False, "EnableIPv6": False}
        assert "both are switched off" in (await ask("POST /networks/create", wrong, status=400))["message"]

    world.run(work)


def test_explain_changes_nothing(world: World) -> None:
    async def work(ask: Asker) -> None:
        lines = (await ask("POST /networks/create", {"Name": "net"}, explain="1"))["Lines"]
        assert any(line.startswith("ip link add") for line in lines)
        await ask("GET /networks/net", status=404)
        await ask("POST /networks/create", {"Name": "net"}, status=201)
        assert (await ask("DELETE /networks/net", explain="1"))["Lines"]
        await ask("GET /networks/net")
        lines = (await ask("POST /fairlead/netns", {"Name": "ns0"}, explain="1"))["Lines"]
        assert "ip netns add ns0" in lines
        assert await ask("GET /fairlead/netns") == []
        await ask("POST /fairlead/netns", {"Name": "ns0"}, status=201)
        await ask("POST /networks/net/connect", {"Container": "ns0"}, explain="1")
        assert (await ask("GET /fairlead/netns/ns0"))["Endpoints"] == []
        ends = [{"Sandbox": "ns0", "Interface": "v0"}, {"Interface": "v1"}]
        assert (await ask("POST /fairlead/links", {"Ends": ends}, explain="1"))["Lines"]
        assert await ask("GET /fairlead/links") == []
        assert (await ask("POST /networks/prune", explain="1"))["Lines"]
        await ask("GET /networks/net")
        assert (await ask("POST /fairlead/reset", explain="1"))["Lines"] == ["true"]
        assert not world.stopped

    world.run(work)


def test_filters(world: World) -> None:
    async def work(ask: Asker) -> None:
        for name, labels in (("red", {"a": "1"}), ("reddish", {"a": "2"})):
            await ask("POST /networks/create", {"Name": name, "Labels": labels}, status=201)
        await ask("POST /fairlead/netns", {"Name": "ns0"}, status=201)
        await ask("POST /networks/red/connect", {"Container": "ns0"})

        async def names(**filters: Any) -> list[str]:
            return [network["Name"] for network in await ask("GET /networks", filters=json.dumps(filters))]

        assert await names() == ["bridge", "red", "reddish"]
        assert await names(name=["red"]) == ["red", "reddish"]
        assert await names(name={"^red$": True}) == ["red"]
        assert await names(name={"^red$": False}) == ["bridge", "red", "reddish"]
        assert await names(name=["bridge", "dish"]) == ["bridge", "reddish"]
        assert await names(label=["a"]) == ["red", "reddish"]
        assert await names(label=["a=2"]) == ["reddish"]
        assert await names(label=["a=1", "a=2"]) == []
        assert await names(type=["builtin"]) == ["bridge"]
        assert await names(dangling=["true"]) == ["reddish"]
        assert await names(driver=["bridge"], scope=["swarm"]) == []
        for bad in (
            {"color": ["red"]},
            {"type": ["odd"]},
            {"dangling": ["perhaps"]},
            {"name": "red"},
            [1],
            {"name": [1]},
        ):
            await ask("GET /networks", filters=json.dumps(bad), status=400)
        await ask("GET /networks", filters="{", status=400)
        assert (await ask("POST /networks/prune", filters='{"label":["a=1"]}'))["NetworksDeleted"] is None
        assert (await ask("POST /networks/prune"))["NetworksDeleted"] == ["reddish"]

    world.run(work)


def test_namespaces_and_links(world: World) -> None:
    container = world.container("web")

    async def work(ask: Asker) -> None:
        for name in ("ns0", "ns1"):
            await ask("POST /fairlead/netns", {"Name": name}, status=201)
        await ask("POST /fairlead/netns", {"Name": "ns0"}, status=409)
        await ask("POST /networks/create", {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0/24"}]}}, status=201)
        wanted = {"Container": "ns0", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.0.0.7"}, "Aliases": ["x"]}}
        await ask("POST /networks/n/connect", wanted)
        (entry,) = (await ask("GET /networks/n"))["Containers"].values()
        assert entry["Name"] == "ns0"
        assert entry["IPv4Address"] == "10.0.0.7/24"
        ends = [
            {"Sandbox": "ns0", "Interface": "v0", "Addresses": ["172.0.0.2/24"]},
            {"Sandbox": "web", "Interface": "v1", "Addresses": ["172.0.0.3/24"]},
        ]
        link = await ask("POST /fairlead/links", {"Ends": ends}, status=201)
        assert [end["SandboxName"] for end in link["Ends"]] == ["ns0", "web"]
        (shown,) = (await ask("GET /fairlead/netns/ns0"))["Links"]
        assert shown == link
        assert [ns["Name"] for ns in await ask("GET /fairlead/netns")] == ["ns0", "ns1"]
        everything = await ask("GET /fairlead/netns", all="1")
        assert {ns["ContainerName"] for ns in everything} == {"", "web"}
        assert (await ask("GET /fairlead/netns/web"))["Container"] == container.id
        await ask("DELETE /networks/n", status=403)
        await ask("DELETE /fairlead/links/ns0/v0", status=204)
        await ask("DELETE /fairlead/links/ns0/v0", status=404)
        await ask("POST /networks/n/disconnect", {"Container": "ns0"})
        await ask("DELETE /fairlead/netns/ns0", status=204)
        assert (
            "belongs to container web" in (await ask(f"DELETE /fairlead/netns/{container.id}", status=409))["message"]
        )

    world.run(work)


def test_connect_of_a_container_is_the_containers_business(world: World) -> None:
    container = world.container("web")
    network = world.engine.perform(world.engine.planner.create_network, NetworkSpec(name="n"))

    async def work(ask: Asker) -> None:
        config = {"DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"}, "MacAddress": "02:00:00:00:00:01"}
        await ask("POST /networks/n/connect", {"Container": "web", "EndpointConfig": config})
        ((ref, spec),) = world.containers.connected
        assert ref == "web"
        assert (spec.network, spec.ifname, spec.mac, spec.options) == (network.id, "lan0", "02:00:00:00:00:01", {})
        await ask("POST /networks/n/disconnect", {"Container": "web", "Force": True})
        assert world.containers.disconnected == [("web", network.id)]
        assert (await ask("POST /networks/n/connect", {"Container": "web"}, explain="1"))["Lines"]
        assert len(world.containers.connected) == 1
        world.engine.perform(world.engine.planner.close_sandbox, container.id)
        assert (await ask("POST /networks/n/connect", {"Container": "web"}, explain="1"))["Lines"] == []

    world.run(work)


def test_reset(world: World) -> None:
    container = world.container("web")

    async def work(ask: Asker) -> None:
        counts = await ask("POST /fairlead/reset")
        assert counts == {"Containers": 1, "Links": 0, "Namespaces": 0, "Networks": 0}
        assert world.containers.removed == [container.id]
        assert world.engine.was_reset
        assert world.stopped

    world.run(work)


CREATE = "POST /networks/create"
BAD: list[tuple[str, Any, str]] = [
    (CREATE, {}, "name"),
    (CREATE, {"Name": ""}, "name"),
    (CREATE, {"Name": "a/b"}, "name"),
    (CREATE, {"Name": 1}, "Name"),
    (CREATE, {"Name": "n", "Internal": "yes"}, "Internal"),
    (CREATE, {"Name": "n", "Labels": {"a": 1}}, "Labels"),
    (CREATE, {"Name": "n", "Options": ["a"]}, "Options"),
    (CREATE, {"Name": "n", "Options": {"com.docker.network.bridge.nonsense": "1"}}, "nonsense"),
    (CREATE, {"Name": "n", "IPAM": {"Config": {}}}, "Config"),
    (CREATE, {"Name": "n", "IPAM": {"Options": {"a": "b"}}}, "IPAM option"),
    (CREATE, {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0"}]}}, "prefix length"),
    (CREATE, {"Name": "n", "IPAM": {"Config": [{"Subnet": "nonsense/24"}]}}, "subnet"),
    (CREATE, {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.1/24"}]}}, "it should be 10.0.0.0/24"),
    (CREATE, {"Name": "n", "IPAM": {"Config": [{"Subnet": "10.0.0.0/24", "Gateway": "x"}]}}, "address"),
    (CREATE, {"Name": "n", "IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}}, "needs a subnet"),
    (CREATE, [], "JSON object"),
    ("POST /networks/bridge/connect", {}, "Container is missing"),
    ("POST /networks/bridge/connect", {"Container": 1}, "Container"),
    ("POST /networks/bridge/connect", {"Container": "web", "EndpointConfig": {"GwPriority": "high"}}, "GwPriority"),
    ("POST /networks/bridge/connect", {"Container": "web", "EndpointConfig": {"Links": [":a"]}}, "link"),
    (
        "POST /networks/bridge/connect",
        {"Container": "web", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.0.0"}}},
        "invalid address '10.0.0'",
    ),
    ("POST /fairlead/netns", {}, "Name"),
    ("POST /fairlead/netns", {"Name": "../x"}, "name"),
    ("POST /fairlead/links", {"Ends": []}, "two ends"),
    ("POST /fairlead/links", {"Ends": [{"Interface": "a/b"}, {"Interface": "c"}]}, "a/b"),
    ("POST /fairlead/links", {"Ends": [{"Interface": "a", "Addresses": ["10.0.0.1"]}, {"Interface": "b"}]}, "prefix"),
]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": "n", "Scope": "swarm"}, 403, "cannot create a swarm scoped network when swarm is not active"),
        ({"Name": "n", "Ingress": True}, 403, "Ingress network can only be global scope network"),
        ({"Name": "n", "Driver": "nonsense"}, 404, 'plugin "nonsense" not found'),
        ({"Name": "n", "IPAM": {"Driver": "mine"}}, 404, 'plugin "mine" not found'),
        ({"Name": "bridge"}, 403, "operation is not permitted on predefined bridge network"),
    ],
)
def test_what_docker_refuses_is_refused_in_its_words(world: World, body: Any, status: int, words: str) -> None:
    async def work(ask: Asker) -> None:
        assert words in (await ask(CREATE, body, status=status))["message"]
        assert [network["Name"] for network in await ask("GET /networks")] == ["bridge"]

    world.run(work)


def test_networks_are_made_from_configurations(world: World) -> None:
    async def work(ask: Asker) -> None:
        subnet = {"Config": [{"Subnet": "10.7.0.0/24", "Gateway": "10.7.0.9"}]}
        settings = {"Options": {"com.docker.network.driver.mtu": "1400"}, "Labels": {"a": "b"}, "IPAM": subnet}
        await ask(CREATE, {"Name": "c", "ConfigOnly": True, **settings}, status=201)
        shown = await ask("GET /networks/c")
        assert (shown["ConfigOnly"], shown["Driver"]) == (True, "null")
        await ask(CREATE, {"Name": "n", "ConfigFrom": {"Network": "c"}}, status=201)
        made = await ask("GET /networks/n")
        assert made["ConfigFrom"] == {"Network": "c"}
        assert (made["Options"], made["Labels"]) == (settings["Options"], settings["Labels"])
        assert made["IPAM"]["Config"] == subnet["Config"]
        for body, status, words in (
            ({"ConfigFrom": {"Network": "c"}, "Labels": {"x": "y"}}, 403, "user specified configurations"),
            ({"ConfigFrom": {"Network": "c"}, "ConfigOnly": True}, 403, "cannot depend on another"),
            ({"ConfigFrom": {"Network": "n"}}, 404, 'configuration network "n" does not exist'),
        ):
            assert words in (await ask(CREATE, {"Name": "m", **body}, status=status))["message"]
        assert "is in use by n" in (await ask("DELETE /networks/c", status=403))["message"]
        world.container("box")
        refused = await ask("POST /networks/c/connect", {"Container": "box"}, status=403)
        assert "multiple networks" in refused["message"] or "configuration-only" in refused["message"]
        await ask("DELETE /networks/n", status=204)
        await ask("DELETE /networks/c", status=204)

    world.run(work)


@pytest.mark.parametrize(("line", "body", "why"), BAD)
def test_bad_requests_get_one_sentence_and_change_nothing(world: World, line: str, body: Any, why: str) -> None:
    world.container("web")
    before = (world.engine.catalog.networks(), world.engine.catalog.sandboxes(), world.engine.catalog.links())

    async def work(ask: Asker) -> None:
        message = (await ask(line, body, status=400))["message"]
        assert why.lower() in message.lower()
        assert "\n" not in message

    world.run(work)
    assert before == (world.engine.catalog.networks(), world.engine.catalog.sandboxes(), world.engine.catalog.links())


@pytest.mark.parametrize(
    "line",
    [
        "GET /networks/none",
        "DELETE /networks/none",
        "GET /fairlead/netns/none",
        "DELETE /fairlead/netns/none",
        "DELETE /fairlead/links/none",
        "DELETE /fairlead/links/none/eth0",
        "GET /networks/%2e%2e",
        "GET /networks/%00",
        "GET /networks/%ff",
        "GET /v1.51/networks/" + "a" * 4000,
    ],
)
def test_what_is_not_there(world: World, line: str) -> None:
    async def work(ask: Asker) -> None:
        assert (await ask(line, status=404))["message"]

    world.run(work)


def test_connect_of_nothing(world: World) -> None:
    async def work(ask: Asker) -> None:
        message = (await ask("POST /networks/bridge/connect", {"Container": "none"}, status=404))["message"]
        assert message == "No such container: none (and no network namespace of that name)"
        await ask("POST /networks/none/connect", {"Container": "none"}, status=404)

    world.run(work)


def test_bodies_that_are_no_json(world: World) -> None:
    async def work(ask: Asker) -> None:
        for data in (b"{", b"\xff\xfe", b"null", b"1", b'"a"', b"[" * 100_000, b'{"Name":' * 5000, b'{"Name": NaN}'):
            for path in ("/networks/create", "/networks/bridge/connect", "/fairlead/netns", "/fairlead/links"):
                response = await ask.client.post(path, data=data)
                assert response.status == 400, (data[:20], path, response.status)
                assert json.loads(await response.text())["message"]

    world.run(work)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
fields = st.sampled_from(
    [
        "Name",
        "Driver",
        "IPAM",
        "Config",
        "Options",
        "Labels",
        "Container",
        "EndpointConfig",
        "IPAMConfig",
        "Ends",
        "Subnet",
    ]
)


@given(
    bodies=st.lists(st.dictionaries(fields, anything, max_size=4), min_size=5, max_size=20), words=st.text(max_size=20)
)
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_requests_never_break_the_daemon(
    tmp_path_factory: pytest.TempPathFactory, bodies: Any, words: str
) -> None:
    world = World(tmp_path_factory.mktemp("world"))

    async def work(ask: Asker) -> None:
        for body in bodies:
            for path in ("networks/create", "networks/bridge/connect", "networks/bridge/disconnect", "fairlead/netns"):
                response = await ask.client.post(f"/{path}", json=body)
                assert response.status < 500, (path, body, await response.text())
            response = await ask.client.post("/fairlead/links", json=body)
            assert response.status < 500, (body, await response.text())
        for path in ("networks", "fairlead/netns", "networks/prune"):
            method = "POST" if path.endswith("prune") else "GET"
            response = await ask.client.request(
                method, f"/{path}", params={"filters": words, "all": words, "scope": words}
            )
            assert response.status < 500, (path, words)

    try:
        world.run(work)
    finally:
        world.engine.store.close()


def test_a_stop_ends_streams_and_lets_changes_finish(world: World) -> None:
    from aiohttp import web

    done: list[str] = []

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            await asyncio.sleep(60)
        finally:
            done.append("stream")
        return response

    async def change(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.2)
        done.append("change")
        return answer({})

    async def main() -> None:
        app = make_app([web.get("/stream", stream), web.get("/change", change)])
        async with TestClient(TestServer(app)) as client:
            streaming = asyncio.create_task(client.get("/stream"))
            changing = asyncio.create_task(client.get("/change"))
            assert (await streaming).status == 200
            await asyncio.wait_for(app[IN_FLIGHT].drain(10), 5)
            assert (await changing).status == 200

    asyncio.run(main())
    assert done == ["stream", "change"]


def test_times() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z", "never, as Go writes it"
    assert rfc3339(1700000000.25) == "2023-11-14T22:13:20.250000000Z"
    assert parse_until("60") == 60
    assert parse_until("1970-01-01T00:01:00+00:00") == 60
    assert parse_until("1h30m") > 0
    assert (prune_until({}), prune_until({"until": ["60"]})) == (None, 60)
    with pytest.raises(Invalid, match="more than one until filter"):
        prune_until({"until": ["1m", "2m"]})
