"""The resource limits of ``run``, ``create`` and ``update``, as the API takes them."""

from __future__ import annotations

from fairlead.cli import parse
from fairlead.cli.flags import Flag, Options, Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LIMITS = (
    Flag("--blkio-weight", "Relative weight of block I/O (10 to 1000, 0 for none)", "number"),
    Flag("-c --cpu-shares", "Relative weight of processor time", "number"),
    Flag("-m --memory", "Memory limit, such as 512m", "text", "bytes"),
    Flag("--cpu-period", "Period of the processor's scheduler, in microseconds", "number"),
    Flag("--cpu-quota", "Processor time in each period, in microseconds", "number"),
    Flag("--cpu-rt-period", "Period of the real-time scheduler, in microseconds", "number"),
    Flag("--cpu-rt-runtime", "Real-time processor time in each such period, in microseconds", "number"),
    Flag("--cpus", "Number of processors, such as 0.5", "text", "decimal"),
    Flag("--cpuset-cpus", "Processors to run on (0-3, 0,1)", "text"),
    Flag("--cpuset-mems", "Memory nodes to use (0-3, 0,1)", "text"),
    Flag("--memory-reservation", "Memory that is left to it when memory is short", "text", "bytes"),
    Flag("--memory-swap", "Memory and swap together; -1 for no limit of swap", "text", "bytes"),
    Flag("--pids-limit", "Limit of processes (-1 for none)", "number"),
)
"""What can be changed later, too."""

ONCE = (
    Flag("--memory-swappiness", "How readily memory goes to swap (0 to 100)", "number"),
    Flag("--oom-kill-disable", "Do not kill its processes when memory is short"),
    Flag("--ulimit", "Limit of setrlimit(2): NAME=SOFT[:HARD]", "list"),
)
"""What is said at the start or never."""

_SIZES = {"memory": "Memory", "memory-reservation": "MemoryReservation"}
_NUMBERS = {
    "blkio-weight": "BlkioWeight",
    "cpu-period": "CpuPeriod",
    "cpu-quota": "CpuQuota",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "memory-swappiness": "MemorySwappiness",
    "pids-limit": "PidsLimit",
}
_TEXTS = {"cpuset-cpus": "CpusetCpus", "cpuset-mems": "CpusetMems"}


def limits(options: Options) -> dict[str, Any]:
    """Those that were given."""
    found: dict[str, Any] = {field: parse.size(options.text(n)) for n, field in _SIZES.items() if options.has(n)}
    found |= {field: options.number(name) for name, field in _NUMBERS.items() if options.has(name)}
    found |= {field: options.text(name) for name, field in _TEXTS.items() if options.has(name)}
    if options.has("memory-swap"):
        swap = options.text("memory-swap")
        found["MemorySwap"] = -1 if swap == "-1" else parse.size(swap)
    if options.has("cpus"):
        found["NanoCpus"] = parse.cpus(options.text("cpus"))
    if options.flag("oom-kill-disable"):
        found["OomKillDisable"] = True
    if options.has("ulimit"):
        found["Ulimits"] = [_ulimit(text) for text in options.many("ulimit")]
    return found


def _ulimit(text: str) -> dict[str, Any]:
    name, equals, values = text.partition("=")
    soft, _, hard = values.partition(":")
    try:
        numbers = {"Soft": int(soft), "Hard": int(hard or soft)}
    except ValueError:
        numbers = {}
    if not name or not equals or not numbers:
        raise Usage(f"invalid --ulimit {text!r}: NAME=SOFT[:HARD] is needed, such as nofile=1024:2048")
    return {"Name": name, **numbers}
