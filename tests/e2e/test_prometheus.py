"""Prometheus finds containers by its docker_sd_configs: the same targets, with the same labels, as with Docker."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from lab import Host
from likeness.client import load
from likeness.compare import normal
from machine import eventually
from peer import CLI, DOCKERD, Docker

pytestmark = [
    pytest.mark.skipif(not shutil.which("prometheus"), reason="apt-get install prometheus"),
    pytest.mark.skipif(not (DOCKERD and CLI), reason="Docker is not installed: apt-get install docker.io"),
    pytest.mark.xdist_group("docker"),
]

CONTAINERS = """
set -e
docker network create one --subnet 10.55.0.0/24 --label team=x
docker network create two --subnet 10.56.0.0/24
docker run -d --name ports --network two --label job=web -p 18081:80 -p 127.0.0.1:18082:443 nginx
docker run -d --name networks --network one --ip 10.55.0.7 --label some.thing/else=9 nginx
docker network connect two networks
docker run -d --name hosty --network host alpine sleep 60
docker create --name stopped nginx
"""
CONFIG = """
scrape_configs:
  - job_name: all
    docker_sd_configs: [{{host: "{host}"}}]
  - job_name: filtered
    docker_sd_configs: [{{host: "{host}", port: 77, filters: [{{name: label, values: ["job=web"]}}]}}]
"""


def targets(host: Host, socket: Path) -> list[dict[str, str]]:
    """What Prometheus has found on this host: the labels of each target."""
    directory = host.directory / "prometheus"
    directory.mkdir()
    host.environment["DOCKER_HOST"] = f"unix://{socket}"
    host.sh(CONTAINERS)
    (directory / "config.yml").write_text(CONFIG.format(host=f"unix://{socket}"))
    options = [f"--config.file={directory}/config.yml", f"--storage.tsdb.path={directory}/data"]
    command = ("prometheus", *options, "--web.listen-address=127.0.0.1:9090", "--log.level=error")
    with open(directory / "log", "w") as log:
        process = host.popen(*command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def found() -> list[dict[str, Any]]:
        text = host.run("curl", "-s", "127.0.0.1:9090/api/v1/targets", check=False).stdout
        active: list[dict[str, Any]] = json.loads(text)["data"]["activeTargets"] if text.startswith("{") else []
        jobs = {target["scrapePool"] for target in active}
        return active if jobs == {"all", "filtered"} else []

    try:
        shown = [target["discoveredLabels"] for target in eventually(found, 30)]
    finally:
        process.terminate()
        process.wait(20)
    return sorted(
        ({name: normal(value) for name, value in labels.items()} for labels in shown),
        key=lambda labels: (labels["job"], labels["__meta_docker_container_name"], labels["__address__"]),
    )


def test_prometheus_finds_what_it_finds_with_docker() -> None:
    assert CLI
    with Host() as one, Host() as other, Docker(one) as docker:
        other.fairlead("network", "ls")  # starts the daemon
        found = []
        for host, socket in ((one, docker.socket), (other, other.run_dir / "fairlead.sock")):
            load(host, CLI, socket)
            found.append(targets(host, socket))
    assert found[1] == found[0]
    addresses = [(labels["job"], labels["__address__"]) for labels in found[1]]
    assert addresses == [
        ("all", "localhost"),
        ("all", "10.55.0.7:80"),
        ("all", "10.56.0.3:80"),
        ("all", "10.56.0.2:443"),
        ("all", "10.56.0.2:80"),
        ("filtered", "10.56.0.2:443"),
        ("filtered", "10.56.0.2:80"),
    ]
    assert [labels.get("__meta_docker_port_public") for labels in found[1][-2:]] == ["18082", "18081"]
