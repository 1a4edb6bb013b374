"""Docker Engine, as Debian packages it."""

from __future__ import annotations

from pathlib import Path

from bench.engine_peer import IMAGE, SLEEP, EnginePeer
from bench.stage import CGROUP, Stage


class Docker(EnginePeer):
    """dockerd with all of its own: data, sockets, containerd."""

    name = "docker"
    cli = "/usr/bin/docker"
    programs = ("dockerd", "containerd", "containerd-shim", "docker-proxy")

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        self.socket = Path("/run/bench-docker.sock")
        self.daemon = [
            "/usr/sbin/dockerd",
            f"--host=unix://{self.socket}",
            f"--data-root={stage.directory}/docker",
            "--exec-root=/run/bench-docker",
            "--pidfile=/run/bench-docker.pid",
            "--exec-opt=native.cgroupdriver=cgroupfs",
            f"--cgroup-parent=/{CGROUP}",
        ]

    def prepare_attach(self) -> None:
        self.http.send("POST", "/containers/create?name=subject", {"Image": IMAGE, "Cmd": SLEEP})
        self.http.send("POST", "/containers/subject/start")

    def forget_subject(self) -> None:
        self.http.send("DELETE", "/containers/subject?force=1")
