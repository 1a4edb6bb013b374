"""What the contestants have in common."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from bench.stage import Stage

Sample = dict[str, float]
"""Row → value: seconds, or bytes where the row's name begins with ``memory``."""


class Unavailable(Exception):
    """This contestant cannot take part; the text says why."""


class Peer:
    """One contestant.  It is started and measured from inside its own network namespace, `host`."""

    name: str

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.host: Path = stage.host(self.name.replace(" ", "-"))

    def start(self) -> None:
        """Get ready to be measured; raises `Unavailable`."""

    def stop(self) -> None:
        """End what `start` began; memory and namespaces go with the stage."""


def seconds(action: Callable[[], object]) -> float:
    """How long `action` takes."""
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def run(*command: str | Path, input: str | bytes | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed; raises with its own words if it fails."""
    data = input.encode() if isinstance(input, str) else input
    stdin = subprocess.DEVNULL if data is None else None
    done = subprocess.run(command, input=data, stdin=stdin, capture_output=True, env=env, timeout=300)
    if done.returncode:
        said = (done.stderr + done.stdout).decode(errors="replace").strip()
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {done.returncode}: {said}")
    return done.stdout.decode(errors="replace")


def await_(condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """Wait until `condition`; raises `Unavailable` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise Unavailable(f"{what} took longer than {timeout:.0f} s")
        time.sleep(0.02)


def memory(commands: Iterable[str], field: str = "Pss") -> int:
    """Bytes of all processes of these names (`comm`, at most 15 characters).

    ``Pss`` divides each shared page among those that map it, so that it may be added up; ``Rss`` counts it for each
    (proc(5), smaps_rollup).
    """
    wanted = {name[:15] for name in commands}
    total = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() in wanted:
                for line in (process / "smaps_rollup").read_text().splitlines():
                    if line.startswith(f"{field}:"):
                        total += int(line.split()[1]) * 1024
        except OSError:
            pass  # it has ended meanwhile
    return total
