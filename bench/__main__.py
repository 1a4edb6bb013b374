"""``python -m bench``: install and start the peers, measure, print the table."""

from __future__ import annotations

import argparse
import fnmatch
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench import kernel, stage
from bench.measurements import Measurement, measurements
from bench.peer import Peer, Unavailable
from bench.report import Results, save, table

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "docker.io",
    "dnsperf",
    "podman",
    "netavark",
    "containernetworking-plugins",
    "crun",
    "conmon",
    "busybox-static",
)
QUICK = ("memory", "attach", "crowd-1", "crowd-100", "network", "run", "query", "ports-1", "ports-50", "names")
PAUSE = 0.05
"""Seconds between two samples: the kernel takes links and namespaces away in the background, under one lock."""
CALM = 15.0
"""Seconds after preparations: each new link asks for routers three times, four seconds apart (RFC 4861 10), and in a
bridge with hundreds of ports each question goes to all of them."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", metavar="NAME,…", help="these measurements alone; * and ? stand for any characters")
    parser.add_argument("--peers", metavar="NAME,…", help="Fairlead and these contestants alone")
    parser.add_argument("--rounds", type=int, help="as many rounds for every measurement")
    parser.add_argument("--quick", action="store_true", help="two rounds, and nothing that takes a minute")
    parser.add_argument("--list", action="store_true", help="say which measurements and contestants there are, and end")
    parser.add_argument("--json", type=Path, help="where to save all samples (default: bench/results/TIME.json)")
    chosen = parser.parse_args()
    if chosen.rounds is not None and chosen.rounds < 1:
        parser.error("--rounds must be at least 1")
    return chosen


class Bench:
    """One run."""

    def __init__(self, rounds: int | None, peers: list[str] | None) -> None:
        self.results = Results()
        self._rounds = rounds
        self._peers = peers
        self._started: list[Peer] = []
        self.failed = False

    def perform(self, measurement: Measurement) -> None:
        """All rounds of one measurement.  A contestant that fails is left out of the rest, and the report says so."""
        here = [(peer, action) for peer, action in measurement.contestants if self._start(peer)]
        ready = [peer for peer, _ in here]
        say(f"{measurement.name}: {', '.join(peer.name for peer in ready)}")
        for peer, prepare in measurement.before:
            if peer in ready and not self._attempt(measurement, peer, prepare):
                ready.remove(peer)
        if measurement.before:
            time.sleep(CALM)
        rounds = self._rounds or measurement.rounds
        for number in range(rounds):
            for peer, action in here:
                if peer in ready and not self._attempt(measurement, peer, partial(self._sample, peer, action)):
                    ready.remove(peer)
                time.sleep(PAUSE)
            say(f"  round {number + 1} of {rounds}")

    def _sample(self, peer: Peer, action: Callable[[], dict[str, float]]) -> None:
        self.results.add(peer.name, action())

    def _attempt(self, measurement: Measurement, peer: Peer, action: Callable[[], None]) -> bool:
        try:
            with kernel.inside(peer.host):
                action()
        except Exception as error:
            self.failed = True
            self.results.absent[f"{peer.name} in {measurement.name}"] = f"failed: {error}"
            say(f"  {peer.name} failed: {error}")
            return False
        return True

    def _start(self, peer: Peer) -> bool:
        if peer in self._started:
            return True
        wanted = self._peers is None or peer.name in self._peers or peer.name == "fairlead"
        if not wanted or peer.name in self.results.absent:
            return False
        try:
            with kernel.inside(peer.host):
                self._started.append(peer)
                peer.start()
        except Exception as error:
            self._started.remove(peer)
            self.results.absent[peer.name] = str(error)
            self.failed = self.failed or not isinstance(error, Unavailable)
            say(f"{peer.name} does not take part: {error}")
            return False
        return True

    def stop(self) -> None:
        for peer in reversed(self._started):
            with kernel.inside(peer.host):
                peer.stop()


def say(text: str) -> None:
    """Progress goes to stderr, the table to stdout."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    chosen = arguments()
    if os.geteuid() != 0:
        say("bench: must be run as root, for it makes namespaces and starts daemons in them")
        return 1
    if not os.environ.get(stage.INSIDE):
        subprocess.run([ROOT / "scripts/install-packages", *PACKAGES], check=True)
    stage.enter()
    every = measurements(stage.Stage())
    if chosen.list:
        for each in every:
            print(f"{each.name:<12}{', '.join(peer.name for peer, _ in each.contestants)}")
        return 0
    patterns = chosen.only.split(",") if chosen.only else QUICK if chosen.quick else ("*",)
    selected = [each for each in every if any(fnmatch.fnmatchcase(each.name, pattern) for pattern in patterns)]
    if not selected:
        say(f"bench: no measurement is named {chosen.only}; --list shows them")
        return 2
    bench = Bench(chosen.rounds or (2 if chosen.quick else None), chosen.peers.split(",") if chosen.peers else None)
    try:
        for measurement in selected:
            bench.perform(measurement)
    except KeyboardInterrupt:
        say("interrupted: what there is so far")
    finally:
        bench.stop()
    print(table(bench.results))
    file = chosen.json or ROOT / "bench/results" / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    save(bench.results, file)
    say(f"\nAll samples are in {file}")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
