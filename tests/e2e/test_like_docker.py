"""The same calls to real Docker and to Fairlead, each on a host of its own, and their answers side by side.

The steps are in `likeness.scenarios`, the deliberate differences with their reasons in `likeness.differences`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from lab import Host
from likeness.client import Engine, load
from likeness.compare import compare
from likeness.differences import excused
from likeness.scenarios import SCENARIOS
from peer import CLI, DOCKERD, Docker

pytestmark = [
    pytest.mark.skipif(not DOCKERD, reason="Docker is not installed: apt-get install docker.io"),
    pytest.mark.xdist_group("docker"),
]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[Engine, Engine]]:
    """Docker and Fairlead with the images alpine and nginx."""
    assert CLI
    with Host() as one, Host() as other, Docker(one) as docker:
        other.fairlead("network", "ls")  # starts the daemon
        pair = (
            Engine("Docker", one, docker.socket, CLI),
            Engine("Fairlead", other, other.run_dir / "fairlead.sock", CLI),
        )
        for engine in pair:
            load(engine.host, CLI, engine.path)
        yield pair


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", SCENARIOS)
def test_fairlead_answers_like_docker(engines: tuple[Engine, Engine], name: str) -> None:
    found = []
    for engine in engines:
        engine.clean()
    for step in SCENARIOS[name]:
        docker, fairlead = (engine.take(step) for engine in engines)
        if docker is None or fairlead is None:
            continue
        for mismatch in compare(docker, fairlead):
            if not excused(str(step), mismatch):
                found.append(f"{step}\n    {mismatch}")
    for engine in engines:
        engine.clean()
    assert not found, f"{len(found)} differences\n" + "\n".join(found)
