"""Looking up names as fast as a resolver can answer: dnsperf, Debian's package, in a container's namespace."""

from __future__ import annotations

from pathlib import Path

from bench import kernel
from bench.peer import Sample, Unavailable, run

SECONDS = 3
"""How long one round asks."""

_BATCH = 1000


def lookups(pid: int, name: str, directory: Path) -> Sample:
    """Ask 127.0.0.11 for `name` in the network namespace of process `pid`, with a hundred requests under way.

    ``-v`` makes dnsperf print each request's latency; that costs both contestants the same.
    """
    questions = directory / "questions"
    questions.write_text(f"{name} A\n" * 100)
    with kernel.inside(Path(f"/proc/{pid}/ns/net")):
        said = run("dnsperf", "-s", "127.0.0.11", "-d", questions, "-l", str(SECONDS), "-q", "100", "-v")
    latencies = sorted(float(line.split()[4]) for line in said.splitlines() if line.startswith("> NOERROR"))
    lost = int(said.split("Queries lost:")[1].split()[0])
    if lost or len(latencies) < _BATCH:
        raise Unavailable(f"{lost} requests were lost, {len(latencies)} answered")
    rate = float(said.split("Queries per second:")[1].split()[0])
    return {
        f"{_BATCH} lookups": _BATCH / rate,
        "lookup, median latency": latencies[len(latencies) // 2],
        "lookup, p99 latency": latencies[len(latencies) * 99 // 100],
    }
