"""``/events``: Docker's own client listens to what happens."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from typing import Any

import docker
from machine import Machine, eventually


class Listening:
    """``docker events`` for the time of a block."""

    def __init__(self, machine: Machine, *filters: str) -> None:
        self._machine = machine
        self._filters = [word for text in filters for word in ("--filter", text)]
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Listening:
        self._before = self._machine.api("GET", "/info")["NEventsListener"]
        self._process = self._machine.host.popen(
            "docker", "events", "--format", "{{json .}}", *self._filters, stdout=-1
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        eventually(lambda: self._machine.api("GET", "/info")["NEventsListener"] > self._before)
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.events.append(json.loads(line))
            self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """Until nothing has come for a while."""
        self._last = time.monotonic()
        eventually(lambda: time.monotonic() - self._last > 1)
        self._process.terminate()
        self._process.wait(10)
        self._reader.join()
        eventually(lambda: self._machine.api("GET", "/info")["NEventsListener"] == self._before)

    @property
    def words(self) -> list[str]:
        return [f"{event['Type']} {event['Action']}" for event in self.events]


def test_the_life_of_a_container(shared: Machine) -> None:
    with Listening(shared, "type=container", "type=network") as heard:
        shared.docker("network", "create", "eventful", "--label", "a=b")
        id_ = shared.out(
            "run", "-d", "--name", "one", "--network", "eventful", "--label", "colour=blue", "box", "sleep", "99"
        )
        shared.docker("network", "connect", "bridge", "one")
        shared.docker("network", "disconnect", "bridge", "one")
        shared.docker("pause", "one")
        shared.docker("unpause", "one")
        shared.docker("exec", "one", "sh", "-c", "exit 3", check=False)
        shared.docker("top", "one")
        shared.docker("rename", "one", "uno")
        shared.docker("kill", "-s", "WINCH", "uno")
        shared.docker("restart", "-t", "0", "uno")
        shared.docker("stop", "-t", "0", "uno")
        shared.docker("rm", "uno")
        shared.docker("network", "rm", "eventful")
    assert heard.words == [
        "network create",
        "container create",
        "network connect",
        "container start",
        "network connect",
        "network disconnect",
        "container pause",
        "container unpause",
        "container exec_create: sh -c exit 3",
        "container exec_start: sh -c exit 3",
        "container exec_die",
        "container top",
        "container rename",
        "container kill",
        "container kill",
        "container kill",
        "container die",
        "network disconnect",
        "container stop",
        "network connect",
        "container start",
        "container restart",
        "container kill",
        "container kill",
        "container die",
        "network disconnect",
        "container stop",
        "container destroy",
        "network destroy",
    ]
    created, joined, started = heard.events[1:4]
    assert created["Actor"] == {"ID": id_, "Attributes": {"colour": "blue", "image": "box", "name": "one"}}
    assert (created["status"], created["id"], created["from"], created["scope"]) == ("create", id_, "box", "local")
    assert created["time"] == created["timeNano"] // 10**9
    assert joined["Actor"]["Attributes"] == {"container": id_, "name": "eventful", "type": "bridge"}
    assert "status" not in joined
    assert [event["timeNano"] for event in heard.events] == sorted({event["timeNano"] for event in heard.events})
    by_action = {event["Action"]: event["Actor"]["Attributes"] for event in heard.events}
    assert by_action["rename"] | {"oldName": "/one", "name": "uno"} == by_action["rename"]
    assert by_action["exec_die"]["exitCode"] == "3"
    assert len(by_action["exec_die"]["execID"]) == 64
    assert [e["Actor"]["Attributes"]["signal"] for e in heard.events if e["Action"] == "kill"] == [
        "28",
        "15",
        "9",
        "15",
        "9",
    ]
    assert by_action["die"] | {"exitCode": "137", "execDuration": "0"} == by_action["die"]
    assert started["Actor"]["Attributes"]["name"] == "one"


def test_a_container_that_removes_itself(shared: Machine) -> None:
    with Listening(shared, "type=container") as heard:
        shared.docker("run", "--rm", "box", "sh", "-c", "exit 4", check=False)
    words = [word.removeprefix("container ") for word in heard.words]
    assert words == ["create", "attach", "start", "die", "destroy"]
    assert heard.events[3]["Actor"]["Attributes"]["exitCode"] == "4"


def test_images(shared: Machine) -> None:
    with Listening(shared, "type=image") as heard:
        shared.docker("tag", "box", "other:1")
        shared.docker("rmi", "other:1")
    id_ = shared.inspect("box")["Id"]
    assert heard.words == ["image tag", "image untag"]
    assert heard.events[0]["Actor"] == {"ID": id_, "Attributes": {"name": "other:1"}}
    assert heard.events[0]["id"] == id_


def test_filters(shared: Machine) -> None:
    with Listening(shared, "event=start", "event=exec_create", "container=fil", "label=colour=red") as heard:
        shared.docker("run", "-d", "--name", "filtered", "--label", "colour=red", "box", "sleep", "99")
        shared.docker("run", "-d", "--name", "filtered2", "--label", "colour=blue", "box", "sleep", "99")
        shared.docker("run", "-d", "--name", "unwanted", "--label", "colour=red", "box", "sleep", "99")
        shared.docker("exec", "filtered", "true")
    assert heard.words == ["container start", "container exec_create: true"]
    with Listening(shared, "image=box", "event=die") as heard:
        shared.docker("rm", "-f", "filtered", "filtered2", "unwanted")
    assert heard.words == ["container die"] * 3


def test_since_and_until(shared: Machine) -> None:
    before = time.time()
    shared.docker("create", "--name", "old", "box")
    between = time.time()
    shared.docker("rm", "old")
    done = shared.out("events", "--since", f"{before:.6f}", "--until", f"{between:.6f}", "--format", "{{.Action}}")
    assert done == "create"
    done = shared.out(
        "events", "--since", f"{before:.6f}", "--until", f"{time.time() + 1:.6f}", "--format", "{{.Action}}"
    )
    assert done.split() == ["create", "destroy"]
    assert "message" in shared.api("GET", "/events?since=yesterday")
    assert "message" in shared.api("GET", "/events?filters=%5B")


def test_the_past_outlives_the_daemon(shared: Machine) -> None:
    before = time.time()
    shared.docker("run", "-d", "--name", "lasting", "box", "sh", "-c", "sleep 1")
    shared.kill()
    time.sleep(1.2)
    shared.start()
    until = f"{time.time():.6f}"
    words = shared.out("events", "--since", f"{before:.6f}", "--until", until, "--format", "{{.Action}}").split()
    assert words == ["create", "connect", "start", "die", "disconnect"]
    shared.docker("rm", "lasting")


def test_nobody_listens_any_more(shared: Machine) -> None:
    with Listening(shared, "type=volume"):
        pass
    eventually(lambda: shared.api("GET", "/info")["NEventsListener"] == 0)


def test_docker_py(shared: Machine) -> None:
    client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock")
    with contextlib.closing(client):
        stream = client.events(decode=True, filters={"event": ["create", "destroy"]})
        container = client.containers.create("box")
        container.remove()
        assert [next(stream)["Action"], next(stream)["Action"]] == ["create", "destroy"]
        stream.close()


def test_the_command(shared: Machine) -> None:
    before = time.time()
    shared.docker("create", "--name", "seen", "--label", "a=b", "box")
    words = ("events", "--since", f"{before:.6f}", "--until", f"{time.time():.6f}")
    line = shared.host.fairlead(*words).stdout
    assert " container create " in line
    assert line.endswith(" (a=b, image=box, name=seen)\n")
    assert " create " in shared.host.fairlead("events", "--since", "1m", "--until", "0s").stdout
    assert json.loads(shared.host.fairlead(*words, "--format", "json").stdout)["Action"] == "create"
    shared.docker("rm", "seen")
