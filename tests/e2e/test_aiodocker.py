"""aiodocker, Docker's client for asyncio, drives Fairlead: containers, logs, exec, attach, events, networks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator

import aiodocker
import pytest
from lab import Host, images

Work = Callable[[aiodocker.Docker], Awaitable[None]]


@pytest.fixture
def run() -> Iterator[Callable[[Work], None]]:
    """Runs a coroutine with a client of a Fairlead on a host of its own."""
    with Host() as host:
        host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))

        async def main(work: Work) -> None:
            async with aiodocker.Docker(url=host.environment["FAIRLEAD_HOST"]) as docker:
                await asyncio.wait_for(work(docker), 60)

        yield lambda work: asyncio.run(main(work))


def test_a_container_from_create_to_delete(run: Callable[[Work], None]) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        assert (await docker.version())["Os"] == "linux"
        config = {"Image": "alpine", "Cmd": ["sh", "-c", "echo out; echo err >&2; exit 3"]}
        container = await docker.containers.create_or_replace("box", config)
        await container.start()
        assert (await container.wait())["StatusCode"] == 3
        assert await container.log(stdout=True) == ["out\n"]
        assert await container.log(stderr=True) == ["err\n"]
        assert [line async for line in container.log(stdout=True, follow=True)] == ["out\n"]
        shown = await container.show()
        assert (shown["Name"], shown["State"]["ExitCode"]) == ("/box", 3)
        assert [one.id for one in await docker.containers.list(all=True)] == [container.id]
        await container.rename("crate")
        again = await docker.containers.get("crate")
        assert again.id == container.id
        await container.delete()
        with pytest.raises(aiodocker.DockerError) as error:
            await docker.containers.get("crate")
        assert error.value.status == 404

    run(work)


def test_exec_and_attach(run: Callable[[Work], None]) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        config = {"Image": "alpine", "Cmd": ["cat"], "OpenStdin": True, "AttachStdin": True}
        container = await docker.containers.create(config, name="box")
        await container.start()

        one = await container.exec(["sh", "-c", "echo out; echo err >&2; exit 4"])
        said: dict[int, bytes] = {}
        async with one.start(detach=False) as stream:
            while (message := await stream.read_out()) is not None:
                said[message.stream] = said.get(message.stream, b"") + message.data
        assert said == {1: b"out\n", 2: b"err\n"}
        assert (await one.inspect())["ExitCode"] == 4

        two = await container.exec(["cat"], stdin=True, tty=False)
        async with two.start(detach=False) as stream:
            await stream.write_in(b"through\n")
            message = await stream.read_out()
            assert message is not None
            assert message.data == b"through\n"

        async with container.attach(stdin=True, stdout=True, stderr=True) as stream:
            await stream.write_in(b"typed\n")
            message = await stream.read_out()
            assert message is not None
            assert message.data == b"typed\n"
        await container.kill()
        await container.delete()

    run(work)


def test_events(run: Callable[[Work], None]) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        seen = docker.events.subscribe()
        for number in range(50):  # it listens a moment later
            await docker.networks.create({"Name": f"probe{number}"})
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(seen.get(), 0.2)
                break
        container = await docker.containers.create({"Image": "alpine", "Cmd": ["true"]}, name="box")
        await container.start()
        await container.wait()
        await container.delete()
        actions: list[str] = []
        while not actions or actions[-1] != "destroy":
            event = await asyncio.wait_for(seen.get(), 20)
            assert event is not None
            if event["Type"] == "container":
                assert event["Actor"]["ID"] == container.id
                actions.append(event["Action"])
        assert [action for action in actions if action in ("create", "start", "die", "destroy")] == [
            "create",
            "start",
            "die",
            "destroy",
        ]

    run(work)


def test_networks(run: Callable[[Work], None]) -> None:
    async def work(docker: aiodocker.Docker) -> None:
        subnet = {"Config": [{"Subnet": "10.44.0.0/24"}]}
        network = await docker.networks.create({"Name": "net", "IPAM": subnet, "Labels": {"a": "b"}})
        assert "net" in [one["Name"] for one in await docker.networks.list()]
        container = await docker.containers.create({"Image": "alpine", "Cmd": ["sleep", "600"]}, name="box")
        await container.start()
        await network.connect(
            {"Container": "box", "EndpointConfig": {"IPAMConfig": {"IPv4Address": "10.44.0.9"}, "Aliases": ["crate"]}}
        )
        shown = await network.show()
        assert shown["Containers"][container.id]["IPv4Address"] == "10.44.0.9/24"
        endpoint = (await container.show())["NetworkSettings"]["Networks"]["net"]
        assert endpoint["IPAddress"] == "10.44.0.9"
        assert "crate" in endpoint["Aliases"]
        with pytest.raises(aiodocker.DockerError) as error:
            await network.delete()
        assert error.value.status == 403
        await network.disconnect({"Container": "box"})
        assert await network.delete()
        await container.delete(force=True)

    run(work)
