"""What a container uses, in Docker's fields (Engine API v1.51, "Get container stats based on resource usage")."""

from __future__ import annotations

import os
import time
from typing import Any

from fairlead.containers.inspect import rfc3339
from fairlead.containers.record import Container
from fairlead.kernel.cgroups import BlockCount, Cgroup, host_cpu, interfaces

_NEVER = "0001-01-01T00:00:00Z"

_NO_CPU = {
    "cpu_usage": {"total_usage": 0, "usage_in_kernelmode": 0, "usage_in_usermode": 0},
    "throttling_data": {"periods": 0, "throttled_periods": 0, "throttled_time": 0},
}


def sample(container: Container, cgroup: str, runtimes: set[int], before: dict[str, Any] | None) -> dict[str, Any]:
    """The numbers of now; with those of an earlier sample, by which clients reckon the processor's load.

    `runtimes`, which may be in the group, are none of the container's processes, and have one thread each.
    """
    shape: dict[str, Any] = {
        "name": f"/{container.name}",
        "id": container.id,
        "read": _NEVER,
        "preread": before["read"] if before else _NEVER,
        "num_procs": 0,
        "pids_stats": {},
        "blkio_stats": _blocks((), (), 1),
        "cpu_stats": _NO_CPU,
        "precpu_stats": before["cpu_stats"] if before else _NO_CPU,
        "memory_stats": {},
        "storage_stats": {},
    }
    if not container.is_running:
        return shape
    group = Cgroup(cgroup)
    counters = group.read()
    pids = counters.pids - len(runtimes.intersection(group.processes() if runtimes else ()))
    system, processors = host_cpu()
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    usage: dict[str, Any] = {
        "total_usage": counters.cpu_total,
        "usage_in_kernelmode": counters.cpu_kernel,
        "usage_in_usermode": counters.cpu_user,
    }
    memory: dict[str, Any] = {
        "usage": counters.memory,
        "stats": counters.memory_stat,
        "limit": min(counters.memory_limit or machine, machine),
    }
    if counters.version == 1:
        usage["percpu_usage"] = list(counters.cpu_each)
        memory |= {"max_usage": counters.memory_most, "failcnt": counters.memory_failures}
    shape |= {
        "read": rfc3339(time.time()),
        "pids_stats": {"current": pids, "limit": counters.pids_limit or (1 << 64) - 1},
        "blkio_stats": _blocks(counters.bytes, counters.operations, counters.version),
        "cpu_stats": {
            "cpu_usage": usage,
            "system_cpu_usage": system,
            "online_cpus": processors,
            "throttling_data": {
                "periods": counters.periods,
                "throttled_periods": counters.throttled_periods,
                "throttled_time": counters.throttled_time,
            },
        },
        "memory_stats": memory,
    }
    if container.spec.network_mode != "host":
        shape["networks"] = {name: _traffic(numbers) for name, numbers in interfaces(container.pid).items()}
    return shape


def _traffic(numbers: tuple[int, ...]) -> dict[str, int]:
    words = ("bytes", "packets", "errors", "dropped")
    received = {f"rx_{word}": number for word, number in zip(words, numbers, strict=False)}
    return received | {f"tx_{word}": number for word, number in zip(words, numbers[8:], strict=False)}


def _blocks(count: tuple[BlockCount, ...], operations: tuple[BlockCount, ...], version: int) -> dict[str, Any]:
    """With version 1 what no driver counts is an empty list, with version 2 it is null: so Docker has it."""
    none: list[Any] | None = [] if version == 1 else None
    rest = ("io_queue", "io_service_time", "io_wait_time", "io_merged", "io_time")

    def entries(counts: tuple[BlockCount, ...]) -> list[dict[str, Any]] | None:
        return [{"major": c.major, "minor": c.minor, "op": c.kind, "value": c.value} for c in counts] or none

    return {
        "io_service_bytes_recursive": entries(count),
        "io_serviced_recursive": entries(operations),
        **{f"{name}_recursive": none for name in rest},
        "sectors_recursive": none,
    }
