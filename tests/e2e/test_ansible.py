"""Ansible's community.docker: one playbook for Fairlead and for a real Docker, and what it says of both.

The playbook is ansible.yml.  What Ansible compares with its wishes, to know whether anything is to be done, is what an
engine shows of a container: so a second run tells whether all of it is shown as it was asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import Host
from likeness.client import Answer, load
from likeness.compare import compare
from likeness.differences import excused
from peer import CLI, COMPOSE, DOCKERD, Docker

pytestmark = [
    pytest.mark.skipif(not shutil.which("ansible-playbook"), reason="apt-get install ansible"),
    pytest.mark.skipif(not (DOCKERD and COMPOSE), reason="apt-get install docker.io docker-compose"),
    pytest.mark.xdist_group("docker"),
    pytest.mark.timeout(300),
]

BOOK = Path(__file__).parent / "ansible.yml"
ENGINES = ("docker", "fairlead")
SHOWN = {"container": "GET /containers/x/json", "network": "GET /networks/x", "volume": "GET /volumes/x"}
"""What results have of the engine's answers → the request that gave it."""

Results = dict[str, dict[str, list[dict[str, Any]]]]
"""Task → host → what came of it, each time."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    assert CLI
    place = tmp_path_factory.mktemp("ansible")
    with Host() as one, Host() as other, Docker(one) as docker:
        other.fairlead("network", "ls")  # starts the daemon
        sockets = dict(zip(ENGINES, (docker.socket, other.run_dir / "fairlead.sock"), strict=True))
        for host, socket in zip((one, other), sockets.values(), strict=True):
            load(host, CLI, socket)
        yield play(place, sockets)


def play(place: Path, sockets: dict[str, Path]) -> Results:
    """Run the playbook; it talks to the engines' sockets alone, so it needs no host of its own."""
    (place / "script").write_text("#!/bin/sh\necho script $1\n")
    engines = {name: {"socket": f"unix://{path}", "file": f"{place}/{name}.tar"} for name, path in sockets.items()}
    containers = {
        f"{name} by {plugin}": {
            "ansible_connection": f"community.docker.{plugin}",
            "ansible_host": "plain",
            "ansible_docker_extra_args": f"-H unix://{path}",
            "ansible_docker_docker_host": f"unix://{path}",
            "script": f"{place}/script",
        }
        for name, path in sockets.items()
        for plugin in ("docker", "docker_api")
    }
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    inventory = {"engines": {"hosts": engines, "vars": local}, "containers": {"hosts": containers}}
    (place / "inventory.json").write_text(json.dumps(inventory))
    environment = {
        **os.environ,
        "HOME": str(place),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_DIFF_ALWAYS": "1",
        "ANSIBLE_REMOTE_TMP": "/tmp/.ansible",
    }
    command = ["ansible-playbook", "-i", str(place / "inventory.json"), str(BOOK)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert done.stdout.startswith("{"), f"{done.stdout}{done.stderr}"
    assert not done.returncode, done.stdout[-3000:]
    found: Results = {}
    for part in json.loads(done.stdout)["plays"]:
        for task in part["tasks"]:
            hosts = {host: result.get("results", [result]) for host, result in task["hosts"].items()}
            found[task["task"]["name"]] = hosts
    return found


def outcome(result: dict[str, Any]) -> dict[str, Any]:
    """What counts of a result, whoever the engine is."""
    return {
        "changed": result["changed"],
        "failed": bool(result.get("failed")),
        **{key: result[key] for key in ("stdout", "stderr", "rc") if key in result},
    }


def test_every_task_ends_as_with_docker(results: Results) -> None:
    found = []
    for task, hosts in results.items():
        for host in hosts:
            if not host.startswith("fairlead"):
                continue
            pairs = zip(hosts[host.replace("fairlead", "docker")], hosts[host], strict=True)
            for number, (docker, fairlead) in enumerate(pairs):
                if outcome(docker) != outcome(fairlead):
                    said = fairlead.get("msg") or fairlead.get("diff")
                    found.append(f"{task} {number}: Docker {outcome(docker)}, Fairlead {outcome(fairlead)}: {said}")
    assert not found, "\n".join(found)


def test_what_is_as_it_should_be_is_not_changed_again(results: Results) -> None:
    found = [
        f"{task}: {hosts['fairlead'][number].get('diff')}"
        for task, hosts in results.items()
        for number in range(1, len(hosts.get("fairlead", ())))
        if hosts["fairlead"][number]["item"] in ("again", hosts["fairlead"][number - 1]["item"])
        and hosts["fairlead"][number]["changed"]
    ]
    assert not found, "\n".join(found)


def test_what_ansible_was_shown_is_what_docker_shows(results: Results) -> None:
    found = []
    for task, hosts in results.items():
        pairs = zip(*(hosts.get(name, ()) for name in ENGINES), strict=True)
        for docker, fairlead in pairs:
            for key, request in SHOWN.items():
                shown = (Answer(200, result.get(key), "application/json") for result in (docker, fairlead))
                found += [f"{task}: {one}" for one in compare(*shown) if not excused(request, one)]
    assert not found, "\n".join(found)


def test_a_container_is_a_host_for_ansible(results: Results) -> None:
    for plugin in ("docker", "docker_api"):
        (command,) = results["a command in a container"][f"fairlead by {plugin}"]
        assert (command["stdout_lines"], command["rc"]) == (["13", "b"], 0)
        (script,) = results["a script in a container"][f"fairlead by {plugin}"]
        assert script["stdout_lines"] == ["script one"]
