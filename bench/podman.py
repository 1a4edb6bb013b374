"""Podman, as Debian packages it, by its command line (it has no daemon)."""

from __future__ import annotations

import os
from pathlib import Path

from bench.engine_peer import CONTAINERS, IMAGE, SLEEP, port_numbers
from bench.peer import Peer, Sample, Unavailable, memory, run, seconds
from bench.stage import CGROUP

PROGRAM = "/usr/bin/podman"
MOST_PORTS = 50
"""More take minutes."""
PARENT = f"--cgroup-parent=/{CGROUP}"

_CONTAINERS_CONF = """
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "netavark"
network_config_dir = "{place}/networks"
"""
_STORAGE_CONF = """
[storage]
driver = "{driver}"
graphroot = "{place}/storage"
runroot = "{run}"
"""


def configure(place: Path, *, driver: str, run: str) -> dict[str, str]:
    """Settings for a podman with files of its own, in a directory made for it; returns the variables that name them."""
    (place / "networks").mkdir(parents=True)
    for file, text in (("containers.conf", _CONTAINERS_CONF), ("storage.conf", _STORAGE_CONF)):
        (place / file).write_text(text.format(place=place, driver=driver, run=run))
    return {
        "CONTAINERS_CONF": str(place / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(place / "storage.conf"),
    }


class Podman(Peer):
    """podman with crun, conmon and netavark."""

    name = "podman"
    programs = ("podman", "conmon", "aardvark-dns")

    def start(self) -> None:
        if not Path(PROGRAM).exists():
            raise Unavailable(f"{PROGRAM} is not installed")
        directory = self.stage.directory / "podman"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            **configure(directory, driver="overlay", run="/run/bench-podman"),
        }
        self._podman("import", "-", IMAGE, input=self.stage.image)

    def _podman(self, *arguments: str, input: bytes | None = None) -> str:
        return run(PROGRAM, *arguments, input=input, env=self._environment).strip()

    def network_create(self) -> Sample:
        return {
            "network create": seconds(lambda: self._podman("network", "create", "short")),
            "network rm": seconds(lambda: self._podman("network", "rm", "short")),
        }

    def run_true(self) -> Sample:
        return {"run --rm true": seconds(lambda: self._podman("run", PARENT, "--rm", IMAGE, "true"))}

    def queries(self) -> Sample:
        return {
            "ps": seconds(lambda: self._podman("ps")),
            "network ls": seconds(lambda: self._podman("network", "ls")),
        }

    def ports(self, count: int) -> Sample:
        published = [f"--publish={port}:{port}" for port in port_numbers(count)]
        container = self._podman("create", PARENT, *published, IMAGE, *SLEEP)
        name = "1 port" if count == 1 else f"{count} ports"
        return {
            f"start, {name}": seconds(lambda: self._podman("start", container)),
            f"memory, {name}": memory(self.programs),
            f"remove, {name}": seconds(lambda: self._podman("rm", "--force", "--time=0", container)),
        }

    def footprint(self) -> Sample:
        before = memory(self.programs)
        containers = [self._podman("run", PARENT, "--detach", IMAGE, *SLEEP) for _ in range(CONTAINERS)]
        after = memory(self.programs)
        self._podman("rm", "--force", "--time=0", *containers)
        return {"memory, per container": (after - before) / CONTAINERS}
