"""examples/compose, by docker-compose 1.29: a project of four services comes up, is isolated as declared, and goes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import ROOT, Host, images
from peer import CLI, COMPOSE

pytestmark = [
    pytest.mark.skipif(not COMPOSE, reason="docker-compose is not installed: apt-get install docker-compose"),
    pytest.mark.skipif(not CLI, reason="the docker command is not installed"),
    pytest.mark.timeout(300),
]

PROJECT = ["--file", str(ROOT / "examples" / "compose" / "docker-compose.yml"), "--project-name", "shop"]


class Shop:
    """The project on a host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        host.fairlead("network", "ls")  # starts the daemon
        host.environment["DOCKER_HOST"] = host.environment["FAIRLEAD_HOST"]
        for name in ("alpine", "nginx"):
            host.fairlead("image", "load", "-i", str(images() / f"{name}.tar"))

    def compose(self, *words: str, check: bool = True, project: list[str] = PROJECT) -> str:
        assert COMPOSE
        done = self.host.run(COMPOSE, *project, *words, check=check, timeout=120)
        return done.stdout + done.stderr

    def docker(self, *words: str, check: bool = True) -> str:
        assert CLI
        return self.host.run(CLI, *words, check=check).stdout

    def ask(self, path: str = "/api/") -> str:
        """What the published port answers; api may need a moment after its start."""
        for _ in range(50):
            if answer := self.host.sh(f"curl -sf -m 2 http://127.0.0.1:8080{path} || true"):
                return answer
            time.sleep(0.1)
        raise AssertionError(f"no answer for {path}")

    def inside(self, service: str, script: str) -> tuple[int, str]:
        """Exit code and output of a shell line in the first container of a service."""
        assert COMPOSE
        done = self.host.run(COMPOSE, *PROJECT, "exec", "-T", service, "sh", "-c", script, check=False)
        return done.returncode, done.stdout


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Host() as host:
        yield Shop(host)


def test_the_project_comes_up_works_scales_and_goes(shop: Shop) -> None:
    before = shop.host.json("ip", "-json", "link")
    shop.compose("up", "-d")
    states = {line["Names"]: line for line in map(json.loads, shop.docker("ps", "--format", "json").splitlines())}
    assert set(states) == {"shop_web_1", "shop_api_1", "shop_database_1", "shop_logger_1"}
    assert "(healthy)" in states["shop_database_1"]["Status"]
    assert states["shop_web_1"]["Ports"] == "127.0.0.1:8080->80/tcp"
    assert "shop_database_1" in shop.compose("ps")

    # The world asks web, web asks api by its alias, api asks the database by one of its.
    assert "Welcome to nginx" in shop.ask("/")
    assert shop.ask().endswith("hello from the database\n")
    assert "hello from the database" in shop.compose("logs", "--tail=5", "logger")

    names_resolve_and_networks_isolate(shop)
    scaled(shop)
    data_outlives_containers(shop)

    shop.compose("down", "-v")
    assert shop.docker("ps", "-aq") == ""
    assert shop.docker("network", "ls", "-q", "--filter", "type=custom") == ""
    assert shop.docker("volume", "ls", "-q") == ""
    left = {link["ifname"] for link in shop.host.json("ip", "-json", "link")} - {link["ifname"] for link in before}
    assert left <= {"fairlead0"}


def test_a_container_that_is_made_anew_keeps_its_volumes(shop: Shop, tmp_path: Path) -> None:
    """Those of its image, too, which docker-compose 1.29 finds in a part of the image's description that is gone."""
    shop.docker("create", "--name", "seed", "alpine", "true")
    shop.docker("commit", "--change", "VOLUME /own", "seed", "with-volume")
    (tmp_path / "docker-compose.yml").write_text(
        """
version: "3.8"
services:
  one: {image: with-volume, command: sleep 600, init: true, volumes: ["/asked", "named:/named"]}
volumes: {named: {}}
"""
    )
    project = ["--file", str(tmp_path / "docker-compose.yml"), "--project-name", "anew"]
    shop.compose("up", "-d", project=project)
    before = shop.docker("inspect", "--format", "{{.Id}}", "anew_one_1")
    shop.docker("exec", "anew_one_1", "touch", "/own/f", "/asked/f", "/named/f")
    shop.compose("up", "-d", "--force-recreate", project=project)
    assert shop.docker("inspect", "--format", "{{.Id}}", "anew_one_1") != before
    shop.docker("exec", "anew_one_1", "ls", "/own/f", "/asked/f", "/named/f")
    shop.compose("down", "-v", "-t", "0", project=project)
    shop.docker("rm", "seed")
    shop.docker("volume", "prune", "--force")  # of those that it kept by their names, docker-compose removes none
    assert shop.docker("volume", "ls", "-q") == ""


def names_resolve_and_networks_isolate(shop: Shop) -> None:
    for service, name in (("api", "web"), ("api", "store"), ("api", "database"), ("web", "api"), ("logger", "db")):
        code, output = shop.inside(service, f"ping -c 1 -W 2 {name}")
        assert code == 0, f"{service} cannot reach {name}: {output}"
    # web is not in `back`: it knows no database, and the address leads nowhere.
    assert shop.inside("web", "ping -c 1 -W 1 database")[0] != 0
    found: Any = json.loads(shop.docker("inspect", "shop_database_1"))[0]
    address = found["NetworkSettings"]["Networks"]["shop_back"]["IPAddress"]
    assert address.startswith("10.89.7.")
    assert shop.inside("web", f"ping -c 1 -W 1 {address}")[0] != 0
    # `back` is internal: who is in it alone has no way out; api, in both, has.
    assert shop.inside("database", "ping -c 1 -W 1 8.8.8.8")[0] != 0
    assert "default" not in shop.inside("database", "ip route")[1]
    shop.host.sh("ip -n internet route replace 172.16.0.0/12 via 198.51.100.2")
    assert shop.inside("api", "ping -c 1 -W 2 8.8.8.8")[0] == 0
    # The published port is bound to loopback alone.
    assert shop.host.sh("curl -s -m 1 http://198.51.100.2:8080/ || echo refused") == "refused\n"


def scaled(shop: Shop) -> None:
    shop.compose("up", "-d", "--scale", "api=3")
    hosts = {shop.ask().split()[1] for _ in range(60)}
    assert len(hosts) > 1, "one container answered all requests"
    shop.compose("up", "-d")
    assert len(shop.docker("ps", "-q", "--filter", "label=com.docker.compose.service=api").split()) == 1


def data_outlives_containers(shop: Shop) -> None:
    assert shop.inside("database", "echo kept > /data/greeting")[0] == 0
    shop.compose("stop")
    assert shop.docker("ps", "-q") == ""
    shop.compose("start")
    assert shop.ask().endswith(": kept\n")
    shop.compose("down")
    assert shop.docker("volume", "ls", "-q") == "shop_data\n"
    shop.compose("up", "-d")
    assert shop.ask().endswith(": kept\n")
