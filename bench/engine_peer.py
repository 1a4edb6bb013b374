"""What Fairlead and Docker are both asked, by the same client, in the words of Docker's Engine API."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from socket import create_connection
from statistics import median

from bench.http import Http
from bench.lookups import lookups
from bench.peer import Peer, Sample, Unavailable, await_, memory, run, seconds

IMAGE = "bench:latest"
SLEEP = ["/bin/sleep", "3600"]
CONTAINERS = 10
"""How many containers "memory, per container" is averaged over."""


DOCKER = shutil.which("docker", path="/usr/local/bin:/usr/bin")
"""The docker command; the newest that is here."""

SERVE = ["/bin/busybox", "httpd", "-f", "-p", "80"]
GATEWAY = "10.201.0.1"
"""An address of the contestant's host, and so one that published ports answer on."""
FIRST_PORT = 10000
PORTS_EACH = 500
"""How many of many published ports one container has."""
CONNECTIONS = 300
APART = 0.05
"""Seconds between two commands, so that none meets what the kernel still clears away of the one before."""


def port_numbers(count: int) -> range:
    """Every second port: Podman would join neighbours to one range and publish that instead."""
    return range(20000, 20000 + 2 * count, 2)


def answers(port: int) -> bool:
    """Whether a server is there yet."""
    try:
        create_connection((GATEWAY, port), 10).close()
    except ConnectionError:
        return False
    return True


def connect(*ports: int) -> list[float]:
    """How long a TCP connection to each of these published ports takes: the median of many, in turn."""

    def once(port: int) -> None:
        with create_connection((GATEWAY, port), 10):
            pass

    for port in ports:
        await_(partial(answers, port), f"the server at port {port}")
    rounds = [[seconds(partial(once, port)) for port in ports] for _ in range(CONNECTIONS)]
    return [median(values) for values in zip(*rounds, strict=True)]


class EnginePeer(Peer):
    """A daemon with Docker's API on a unix socket."""

    cli: str
    daemon: list[str]
    socket: Path
    programs: Iterable[str]
    """Names of all programs that its memory is in."""
    network = "bench"

    def start(self) -> None:
        self._begin()
        repository, tag = IMAGE.split(":")
        self.http.send("POST", f"/images/create?fromSrc=-&repo={repository}&tag={tag}", self.stage.image)
        subnet = {"Config": [{"Subnet": "10.201.0.0/16"}]}
        self.http.send("POST", "/networks/create", {"Name": self.network, "IPAM": subnet})
        self.prepare_attach()

    def _begin(self) -> None:
        log = open(self.stage.directory / f"{self.name}.log", "ab")  # noqa: SIM115  # the daemon writes it to its end
        try:
            self._process = subprocess.Popen(self.daemon, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except FileNotFoundError as error:
            raise Unavailable(f"{error.filename} is not installed") from None
        finally:
            log.close()
        await_(self._ready, f"the start of {self.daemon[0]}")
        self.http = Http(self.socket)

    def _ready(self) -> bool:
        if self._process.poll() is not None:
            log = (self.stage.directory / f"{self.name}.log").read_text(errors="replace").strip().splitlines()
            raise Unavailable(f"its daemon ended with exit code {self._process.returncode}: {' '.join(log[-1:])}")
        try:
            http = Http(self.socket)
        except OSError:
            return False
        http.send("GET", "/_ping")
        http.close()
        return True

    def stop(self) -> None:
        if hasattr(self, "http"):
            self.http.close()
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    # What is attached: the two differ only in how one gets something to attach.

    def prepare_attach(self) -> None:
        """Have something that `attach_one("subject")` can attach."""
        raise NotImplementedError

    def attach_one(self, subject: str, network: str) -> None:
        self.http.send("POST", f"/networks/{network}/connect", {"Container": subject})

    def detach_one(self, subject: str, network: str) -> None:
        self.http.send("POST", f"/networks/{network}/disconnect", {"Container": subject})

    def attach(self) -> Sample:
        return {
            "attach": seconds(lambda: self.attach_one("subject", self.network)),
            "detach": seconds(lambda: self.detach_one("subject", self.network)),
        }

    def network_create(self) -> Sample:
        return {
            "network create": seconds(lambda: self.http.send("POST", "/networks/create", {"Name": "short"})),
            "network rm": seconds(lambda: self.http.send("DELETE", "/networks/short")),
        }

    def run_true(self) -> Sample:
        return {"run --rm true": seconds(lambda: run(self.cli, "run", "--rm", IMAGE, "true", env=self.environment()))}

    def environment(self) -> dict[str, str]:
        """For the command line client."""
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DOCKER_HOST": f"unix://{self.socket}"}

    def queries(self) -> Sample:
        return {
            "ps": seconds(lambda: run(self.cli, "ps", env=self.environment())),
            "network ls": seconds(lambda: run(self.cli, "network", "ls", env=self.environment())),
        }

    def docker_command(self) -> Sample:
        """The docker command itself, the same one for every engine."""
        if DOCKER is None:
            raise Unavailable("the docker command is not installed")
        env = self.environment()
        container = self._create()
        self.http.send("POST", f"/containers/{container}/start")
        commands = {
            "docker ps": ["ps"],
            "docker network inspect": ["network", "inspect", self.network],
            "docker run --rm": ["run", "--rm", IMAGE, "/bin/true"],
            "docker exec": ["exec", container, "/bin/true"],
        }
        taken: Sample = {}
        try:
            for row, words in commands.items():
                time.sleep(APART)
                taken[row] = seconds(partial(run, DOCKER, *words, env=env))
            return taken
        finally:
            self.http.send("DELETE", f"/containers/{container}?force=1")

    def ports(self, count: int) -> Sample:
        """Start and remove one container with so many published ports."""
        numbers = port_numbers(count)
        container = self._create(
            ExposedPorts={f"{port}/tcp": {} for port in numbers},
            HostConfig={"PortBindings": {f"{port}/tcp": [{"HostPort": str(port)}] for port in numbers}},
        )
        name = "1 port" if count == 1 else f"{count} ports"
        return {
            f"start, {name}": seconds(lambda: self.http.send("POST", f"/containers/{container}/start")),
            f"memory, {name}": memory(self.programs),
            f"remove, {name}": seconds(lambda: self.http.send("DELETE", f"/containers/{container}?force=1")),
        }

    def port_crowd(self, count: int) -> None:
        """Have `count` ports published, first 1 and then more: the first and the last lead to a server."""
        if count == 1:
            self._publish(range(FIRST_PORT, FIRST_PORT + 1), SERVE)
            return
        last = FIRST_PORT + count - 1
        for start in range(FIRST_PORT + 1, last, PORTS_EACH):
            self._publish(range(start, min(start + PORTS_EACH, last)), SLEEP)
        self._publish(range(last, last + 1), SERVE)

    def _publish(self, numbers: range, command: list[str]) -> None:
        bindings = {"80/tcp": [{"HostPort": str(port)} for port in numbers]}
        host_config = {"PortBindings": bindings, "NetworkMode": self.network}
        container = self._create(Cmd=command, ExposedPorts={"80/tcp": {}}, HostConfig=host_config)
        self.http.send("POST", f"/containers/{container}/start")

    def add_port(self, count: int) -> Sample:
        """Start and remove a container with one more port, and connect to the first and the last."""
        bindings = {"80/tcp": [{"HostPort": str(FIRST_PORT - 1)}]}
        container = self._create(ExposedPorts={"80/tcp": {}}, HostConfig={"PortBindings": bindings})
        sample = {
            f"start, 1 port, {count} present": seconds(
                lambda: self.http.send("POST", f"/containers/{container}/start")
            ),
            f"remove, 1 port, {count} present": seconds(
                lambda: self.http.send("DELETE", f"/containers/{container}?force=1")
            ),
        }
        if count > 1:
            first, last = connect(FIRST_PORT, FIRST_PORT + count - 1)
            sample |= {f"connect, first of {count} ports": first, f"connect, last of {count} ports": last}
        return sample

    def names(self) -> Sample:
        """One of two containers asks for the name that both have."""
        joined = {"EndpointsConfig": {self.network: {"Aliases": ["known"]}}}
        containers = [self._create(HostConfig={"NetworkMode": self.network}, NetworkingConfig=joined) for _ in "ab"]
        try:
            for container in containers:
                self.http.send("POST", f"/containers/{container}/start")
            pid = self.http.send("GET", f"/containers/{containers[0]}/json")["State"]["Pid"]
            return lookups(pid, "known", self.stage.directory)
        finally:
            for container in containers:
                self.http.send("DELETE", f"/containers/{container}?force=1")

    def _create(self, **more: object) -> str:
        body = {"Image": IMAGE, "Cmd": SLEEP, **more}
        return str(self.http.send("POST", "/containers/create", body)["Id"])

    def footprint(self) -> Sample:
        """Memory of a daemon that has just started and has no container, and of each container more."""
        before = memory(self.programs)
        containers = [self._create() for _ in range(CONTAINERS)]
        for container in containers:
            self.http.send("POST", f"/containers/{container}/start")
        after = memory(self.programs)
        for container in containers:
            self.http.send("DELETE", f"/containers/{container}?force=1")
        self.forget_subject()
        self.stop()
        self._begin()
        time.sleep(1)  # what it does after it has begun to answer
        idle = memory(self.programs, "Rss")
        self.prepare_attach()
        return {"memory, daemon idle": idle, "memory, per container": (after - before) / CONTAINERS}

    def forget_subject(self) -> None:
        """Undo `prepare_attach`, so that the daemon has no container."""
        raise NotImplementedError
