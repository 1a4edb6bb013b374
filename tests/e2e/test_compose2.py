"""What docker-compose 2 asks (`likeness.compose`) at the newest version of the API, which Docker 20.10 has not."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
from lab import Host
from likeness.client import Answer, Call, Engine, Step, load
from likeness.compare import compare
from likeness.compose import COMPOSE
from peer import CLI

pytestmark = [
    pytest.mark.skipif(not CLI, reason="the docker command is not installed"),
    pytest.mark.timeout(300),
]

STEPS = [step for steps in COMPOSE.values() for step in steps]

CHANGES = (
    ("GET /images/*", "body.*VirtualSize"),  # gone with 1.44
    ("GET /images/*", "body.Container*"),  # gone with 1.45
    ("GET /images/*", "body.Config.*"),  # 1.50: what is not set is left out
    ("GET /containers/*", "body.*Aliases.2"),  # 1.45: the short id is in DNSNames alone
    ("GET /containers/*/logs*", "Content-Type"),  # 1.42: multiplexed-stream
    ("POST /exec/*/start *", "Content-Type"),
    ("GET /containers/*/top", "body.Processes.*"),  # other processes
)
"""What may differ between versions 1.41 and 1.51: in which answers, where (Docker's "API version history")."""


def play(engine: Engine, version: str) -> list[tuple[Step, Answer]]:
    engine.clean()
    taken = [(step, engine.take(replace(step, version=version) if isinstance(step, Call) else step)) for step in STEPS]
    return [(step, answer) for step, answer in taken if answer is not None]


def test_the_newest_version_differs_only_in_what_changed() -> None:
    """And 1.41 is compared with Docker itself (test_like_docker.py)."""
    assert CLI
    with Host() as host:
        host.fairlead("network", "ls")  # starts the daemon
        engine = Engine("Fairlead", host, host.run_dir / "fairlead.sock", CLI)
        load(host, CLI, engine.path)
        old, new = play(engine, "/v1.41"), play(engine, "/v1.51")
        engine.clean()
    found = []
    for (step, before), (_, now) in zip(old, new, strict=True):
        mismatches = {mismatch.path: mismatch for mismatch in (*compare(before, now), *compare(now, before))}
        found += [
            f"{step}: {path}: {mismatch.docker!r}, {mismatch.fairlead!r}"
            for path, mismatch in mismatches.items()
            if not any(fnmatchcase(str(step), one) and fnmatchcase(path, place) for one, place in CHANGES)
        ]
    assert found == []
    assert [str(step) for step, answer in new if answer.status >= 400] == [
        "GET /images/nope/json",
        "GET /volumes/shop_data",
    ]
    answers = {str(step).partition(" {")[0].partition("?")[0]: answer.value for step, answer in new}
    (network,) = answers["GET /containers/{web2}/json"]["NetworkSettings"]["Networks"].values()
    assert network["Aliases"] == ["0123456789ab_shop-web-1", "web"]
    assert network["DNSNames"][0] == "shop-web-1"
    assert network["GwPriority"] == 0
