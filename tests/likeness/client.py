"""The least client of Docker's API that shows an answer as it came, and steps of which scenarios are made."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab import Host, images


@dataclass(frozen=True)
class Call:
    """One request.  ``{name}`` in the path or body stands for what an earlier step kept."""

    method: str
    path: str
    body: Any = None
    """JSON; bytes are sent as they are."""
    keep: dict[str, str] = field(default_factory=dict)
    """Name → key of the answer whose value is kept."""
    headers: dict[str, str] = field(default_factory=dict)
    version: str = "/v1.41"
    """Docker 20.10's newest, so that both engines answer in the shapes of one version."""

    def __str__(self) -> str:
        body = "" if self.body is None else f" {self.body if isinstance(self.body, bytes) else json.dumps(self.body)}"
        return f"{self.method} {self.path}{body[:120]}"


@dataclass(frozen=True)
class Cli:
    """One command of the docker command line; `output` says whether what it prints is compared as well."""

    words: tuple[str, ...]
    input: str | None = None
    output: bool = True
    keep: str = ""
    """Name under which what it prints is kept."""

    def __str__(self) -> str:
        return "docker " + " ".join(self.words)


@dataclass(frozen=True)
class Pause:
    """Wait until a container has a status, or so many seconds at most."""

    container: str
    status: str

    def __str__(self) -> str:
        return f"(wait until {self.container} is {self.status})"


Step = Call | Cli | Pause


def cli(line: str, *, input: str | None = None, output: bool = True, keep: str = "") -> Cli:
    """A command, its words split at white space; ``·`` stands for a space within a word."""
    return Cli(tuple(word.replace("·", " ") for word in line.split()), input=input, output=output, keep=keep)


@dataclass(frozen=True)
class Answer:
    """A status (or exit code) and what came with it: decoded JSON, or text."""

    status: int
    value: Any
    kind: str = ""
    """Content-Type."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("docker", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Engine:
    """An engine's socket, on a host of its own."""

    def __init__(self, name: str, host: Host, path: Path, cli: str) -> None:
        self.name = name
        self.host = host
        self.path = path
        self._cli = cli
        self.kept: dict[str, str] = {}

    def take(self, step: Step) -> Answer | None:
        """Do a step; a pause has no answer."""
        if isinstance(step, Pause):
            self._wait(step)
            return None
        return self._run(step) if isinstance(step, Cli) else self.call(step)

    def call(self, call: Call) -> Answer:
        """Send a request and read the whole answer."""
        body = call.body
        content = body if isinstance(body, bytes) else None if body is None else self._fill(json.dumps(body)).encode()
        headers = {"Content-Type": "application/json"} if content is not None else {}
        status, kind, raw = self.send(
            call.method, call.version + self._fill(call.path), content, {**headers, **call.headers}
        )
        value: Any = raw.decode(errors="replace")
        if kind.startswith("application/json") and raw.strip():
            lines = raw.decode().splitlines()
            value = json.loads(raw) if len(lines) == 1 else [json.loads(line) for line in lines]
        for name, key in call.keep.items():
            if isinstance(value, dict) and key in value:
                self.kept[name] = value[key]
        return Answer(status, value, kind)

    def send(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> tuple[int, str, bytes]:
        """Status, Content-Type and body of one request on a connection of its own."""
        connection = _Connection(self.path)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.getheader("Content-Type") or "", response.read()
        finally:
            connection.close()

    def _fill(self, text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: self.kept.get(match[1], match[0]), text)

    def _run(self, step: Cli) -> Answer:
        words = [self._fill(word) for word in step.words]
        self.host.environment["DOCKER_HOST"] = f"unix://{self.path}"
        done = self.host.run(self._cli, *words, check=False, input=step.input, timeout=60)
        if step.keep:
            self.kept[step.keep] = done.stdout.strip()
        return Answer(done.returncode, f"{done.stdout}{done.stderr}" if step.output else "")

    def _wait(self, step: Pause) -> None:
        import time

        for _ in range(100):
            answer = self.call(Call("GET", f"/containers/{step.container}/json"))
            if answer.status == 200 and step.status in (
                answer.value["State"]["Status"],
                answer.value["State"].get("Health", {}).get("Status"),
            ):
                return
            time.sleep(0.1)

    def clean(self) -> None:
        """Remove every container, network and volume; give the images the names back with which it began."""
        self.kept.clear()
        for container in self.call(Call("GET", "/containers/json?all=1")).value:
            self.call(Call("DELETE", f"/containers/{container['Id']}?force=1&v=1"))
        for network in self.call(Call("GET", "/networks")).value:
            if network["Name"] not in ("bridge", "host", "none"):
                self.call(Call("DELETE", f"/networks/{network['Id']}"))
        for name in IMAGES:
            if self.call(Call("POST", f"/images/kept/{name}/tag?repo={name}&tag=latest")).status == 404:
                load(self.host, self._cli, self.path, (name,))
        volumes = self.call(Call("GET", "/volumes"))
        for volume in (volumes.value.get("Volumes") or []) if volumes.status == 200 else []:
            self.call(Call("DELETE", f"/volumes/{volume['Name']}?force=1"))


IMAGES = ("alpine", "nginx")


def load(host: Host, program: str, socket: Path, names: tuple[str, ...] = IMAGES) -> None:
    """``docker load``, and a second name for each image, under which it stays."""
    environment = {**host.environment, "DOCKER_HOST": f"unix://{socket}"}
    for name in names:
        for words in (("load", "-i", str(images() / f"{name}.tar")), ("tag", name, f"kept/{name}")):
            subprocess.run(host.enter(program, *words), env=environment, check=True, capture_output=True)
