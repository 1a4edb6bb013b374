"""``fairlead stats`` and ``fairlead top``: what containers use, and what runs in them."""

from __future__ import annotations

import sys
import time

from fairlead.cli.client import ApiError, Client, segment
from fairlead.cli.flags import NO_TRUNC, Command, Flag, Options
from fairlead.cli.output import print_json, short, show, table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_CLEAR = "\x1b[H\x1b[J"
_INTERVAL = 1.0


def _stats(options: Options, words: list[str]) -> None:
    """Single samples a second apart; the load is reckoned here, between two of them."""
    client = Client()
    before: dict[str, dict[str, Any]] = {}
    _sample(client, options, words, before)
    while True:
        time.sleep(_INTERVAL)
        samples = _sample(client, options, words, before)
        if options.flag("no-stream"):
            show(options, samples, _columns(options.flag("no-trunc")), id_of=lambda sample: short(sample["id"]))
            return
        sys.stdout.write(_CLEAR if sys.stdout.isatty() and options.text("format") in ("", "table") else "")
        show(options, samples, _columns(options.flag("no-trunc")))
        sys.stdout.flush()


def _sample(
    client: Client, options: Options, words: list[str], before: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """One sample of each container, with the processor's numbers of the one before (which it replaces)."""
    names = words or [container["Id"] for container in client.get("/containers/json", all=options.flag("all"))]
    found = []
    for name in names:
        try:
            sample = client.get(f"/containers/{segment(name)}/stats?stream=0&one-shot=1")
        except ApiError as error:
            if words or error.status != 404:
                raise
            continue  # It ended since the list was made.
        sample["precpu_stats"] = before.get(sample["id"], sample)["cpu_stats"]
        before[sample["id"]] = sample
        found.append(sample)
    return found


def cpu_percent(sample: dict[str, Any]) -> float:
    """The load since the sample before, 100 for one whole processor (docker/cli, stats_helpers.go)."""
    now, before = sample["cpu_stats"], sample["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    return float(used / passed * now.get("online_cpus", 1) * 100) if used > 0 and passed > 0 else 0.0


def memory_used(sample: dict[str, Any]) -> int:
    """Memory without the page cache that can go at once."""
    memory = sample["memory_stats"]
    stat = memory.get("stats") or {}
    idle = stat.get("total_inactive_file", stat.get("inactive_file", 0))
    usage = memory.get("usage", 0)
    return int(usage - idle if idle < usage else usage)


def binary_size(count: float) -> str:
    """Bytes in powers of 1024, four significant digits, as docker writes memory."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.4g}{unit}"
        count /= 1024
    return f"{count:.4g}TiB"


def _traffic(sample: dict[str, Any]) -> str:
    from fairlead.cli.output import size

    networks = (sample.get("networks") or {}).values()
    return f"{size(sum(n['rx_bytes'] for n in networks))} / {size(sum(n['tx_bytes'] for n in networks))}"


def _blocks(sample: dict[str, Any]) -> str:
    from fairlead.cli.output import size

    entries = sample["blkio_stats"].get("io_service_bytes_recursive") or []
    read, written = (sum(e["value"] for e in entries if e["op"].lower() == kind) for kind in ("read", "write"))
    return f"{size(read)} / {size(written)}"


def _columns(whole: bool) -> dict[str, Callable[[dict[str, Any]], str]]:
    def share(sample: dict[str, Any]) -> str:
        limit = sample["memory_stats"].get("limit", 0)
        return f"{memory_used(sample) / limit * 100:.2f}%" if limit else "0.00%"

    return {
        "CONTAINER ID": lambda sample: sample["id"] if whole else short(sample["id"]),
        "NAME": lambda sample: sample["name"].lstrip("/"),
        "CPU %": lambda sample: f"{cpu_percent(sample):.2f}%",
        "MEM USAGE / LIMIT": lambda sample: (
            f"{binary_size(memory_used(sample))} / {binary_size(sample['memory_stats'].get('limit', 0))}"
        ),
        "MEM %": share,
        "NET I/O": _traffic,
        "BLOCK I/O": _blocks,
        "PIDS": lambda sample: str(sample["pids_stats"].get("current", 0)),
    }


def _top(options: Options, words: list[str]) -> None:
    name, *arguments = words
    answer = Client().get(f"/containers/{segment(name)}/top", ps_args=" ".join(arguments) or None)
    if options.text("format") == "json":
        print_json([dict(zip(answer["Titles"], row, strict=False)) for row in answer["Processes"]])
    else:
        print(table(answer["Titles"], answer["Processes"]))


STATS = Command(
    "stats",
    "[OPTIONS] [CONTAINER...]",
    "Show what containers use, second by second",
    _stats,
    (
        Flag("-a --all", "Show all containers, not just the running ones"),
        Flag("--no-stream", "Show it once and end"),
        NO_TRUNC,
        Flag("--format", "'json', 'table', or a template such as '{{.Name}}'", "text"),
    ),
    (0, None),
)
TOP = Command(
    "top",
    "CONTAINER [ps OPTIONS]",
    "Show the processes that run in a container",
    _top,
    (Flag("--format", "json", "text"),),
    (1, None),
    stop=True,
)
