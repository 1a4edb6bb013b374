"""What is measured, with whom, how often, and the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench.cni import Cni, CniPort
from bench.docker import Docker
from bench.fairlead import Fairlead
from bench.netavark import Netavark, NetavarkPort
from bench.peer import Peer, Sample
from bench.podman import MOST_PORTS, Podman
from bench.raw import Crun, Raw
from bench.stage import Stage

SEEN = 500
"""Namespaces that are drawn at once."""


@dataclass(frozen=True)
class Measurement:
    """One thing that several contestants do in turn, `rounds` times."""

    name: str
    rounds: int
    contestants: Sequence[tuple[Peer, Callable[[], Sample]]]
    before: Sequence[tuple[Peer, Callable[[], None]]] = ()


@dataclass(frozen=True)
class Target:
    """Fairlead's value in `row` is at most `ratio` times that of `other` in `other_row` (if empty, in the same row)."""

    row: str
    ratio: float
    other: str
    other_row: str = ""


@dataclass(frozen=True)
class Limit:
    """Fairlead's value in `row` is at most this."""

    row: str
    value: float


TARGETS = (
    Target("attach", 1 / 20, Netavark.name),
    Target("attach", 1 / 10, Cni.name),
    Target("attach", 3, Raw.name),
    Target("attach, 900 present", 1.5, Fairlead.name, "attach, 1 present"),
    Target("network create", 1 / 10, Docker.name),
    Target("run --rm true", 1 / 4, Docker.name),
    Target("start, 500 ports", 1 / 100, Docker.name),
    Target("remove, 500 ports", 1 / 100, Docker.name),
    Target("start, 1 port, 10000 present", 1.5, Fairlead.name, "start, 1 port, 1 present"),
    Target("connect, last of 10000 ports", 1.5, Fairlead.name, "connect, first of 10000 ports"),
    Target("ps", 2, Docker.name),
    Target("docker ps", 1, Docker.name),
    Target("docker network inspect", 1, Docker.name),
    Target("docker run --rm", 1 / 2, Docker.name),
    Target("docker exec", 1 / 2, Docker.name),
    Target("network ls", 2, Docker.name),
    Target("1000 lookups", 1, Docker.name),
    Target("lookup, p99 latency", 1, Docker.name),
    Limit("memory, daemon idle", 60e6),
    Limit(f"topology, {SEEN} present", 1),
)


def measurements(stage: Stage) -> list[Measurement]:
    """All of them, in the order in which they are run; the contestants are not started yet."""
    fairlead, docker, podman = Fairlead(stage), Docker(stage), Podman(stage)
    cni, raw, crun = Cni(stage), Raw(stage), Crun(stage)
    attaching = (fairlead, Netavark(stage), NetavarkPort(stage), cni, CniPort(stage), docker, raw)
    crowding = (fairlead, cni, raw)
    return [
        Measurement("memory", 3, [(peer, peer.footprint) for peer in (fairlead, docker, podman)]),
        Measurement("attach", 20, [(peer, peer.attach) for peer in attaching]),
        Measurement("network", 10, [(peer, peer.network_create) for peer in (fairlead, docker, podman)]),
        Measurement("run", 10, [(peer, peer.run_true) for peer in (fairlead, docker, podman, crun)]),
        Measurement("query", 10, [(peer, peer.queries) for peer in (fairlead, docker, podman)]),
        Measurement("docker-command", 10, [(peer, peer.docker_command) for peer in (fairlead, docker)]),
        *(
            Measurement(
                f"ports-{count}",
                rounds,
                [(peer, partial(peer.ports, count)) for peer in (fairlead, docker, podman) if _able(peer, count)],
            )
            for count, rounds in ((1, 5), (MOST_PORTS, 3), (100, 3), (500, 2))
        ),
        Measurement("names", 5, [(peer, peer.names) for peer in (fairlead, docker)]),
        # Last, and growing: what is present stays until the stage goes.
        _crowded(crowding, 1),
        _crowded(crowding, 100),
        Measurement("topology", 5, [(fairlead, fairlead.look)], before=[(fairlead, partial(fairlead.crowd, SEEN))]),
        _crowded(crowding, 900),
        *(
            Measurement(
                f"ports-{count}-add-one",
                10,
                [(peer, partial(peer.add_port, count)) for peer in peers],
                before=[(peer, partial(peer.port_crowd, count)) for peer in peers],
            )
            for count, peers in ((1, (fairlead, docker)), (500, (docker,)), (10000, (fairlead,)))
        ),
    ]


def _crowded(peers: Sequence[Fairlead | Cni | Raw], count: int) -> Measurement:
    """An attach with so many endpoints present."""
    return Measurement(
        f"crowd-{count}",
        10,
        [(peer, peer.attach_in_crowd) for peer in peers],
        before=[(peer, partial(peer.crowd, count)) for peer in peers],
    )


def _able(peer: Peer, ports: int) -> bool:
    return not isinstance(peer, Podman) or ports <= MOST_PORTS
