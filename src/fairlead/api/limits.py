"""Docker's resource limits (HostConfig's and those of ``POST /containers/{id}/update``) as `Limits`, and back."""

from __future__ import annotations

import os
from typing import Any

from fairlead.api.block_spec import check_weight
from fairlead.containers.record import Limits, Ulimit
from fairlead.errors import Invalid
from fairlead.kernel.cgroups import ROOT

_NUMBERS = {
    "Memory": "memory",
    "MemorySwap": "memory_swap",
    "MemoryReservation": "memory_reservation",
    "NanoCpus": "nano_cpus",
    "CpuShares": "cpu_shares",
    "CpuPeriod": "cpu_period",
    "CpuQuota": "cpu_quota",
    "CpuRealtimePeriod": "realtime_period",
    "CpuRealtimeRuntime": "realtime_runtime",
    "PidsLimit": "pids",
    "BlkioWeight": "block_weight",
}
_WORDS = {"CpusetCpus": "cpuset", "CpusetMems": "cpuset_mems"}

_LEAST_MEMORY = 6 << 20


def limits(host: dict[str, Any], before: Limits | None = None) -> Limits:
    """The limits; what is absent or 0 stays as it was `before`.  Raises `Invalid`."""
    given: dict[str, Any] = {}
    for name, field in _NUMBERS.items():
        value = host.get(name)
        if value is None or (value == 0 and name != "PidsLimit"):
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise Invalid(f"{name} must be a number")
        given[field] = max(0, value) if name == "PidsLimit" else value
    for name, field in _WORDS.items():
        if value := host.get(name):
            if not isinstance(value, str):
                raise Invalid(f"{name} must be a string")
            given[field] = value
    if (value := host.get("MemorySwappiness")) is not None:
        if not isinstance(value, int) or not -1 <= value <= 100:
            raise Invalid(f"Invalid value: {value}, valid memory swappiness range is 0-100")
        given["memory_swappiness"] = None if value == -1 else value
    if host.get("OomKillDisable") is not None:
        given["oom_kill_disable"] = bool(host["OomKillDisable"])
    if host.get("Ulimits"):
        given["ulimits"] = _ulimits(host["Ulimits"])
    if before is not None:
        _check_memory(given, before)
    found = Limits(**{**(_fields(before) if before else {}), **given})
    _check(found)
    return found


def _fields(limits: Limits) -> dict[str, Any]:
    return {name: getattr(limits, name) for name in Limits.__struct_fields__}


def _check_memory(given: dict[str, Any], before: Limits) -> None:
    """More memory than there was memory and swap: the user has to say how much swap it is to be."""
    swap = before.memory_swap or 2 * before.memory
    if given.get("memory", 0) > swap > 0 and "memory_swap" not in given:
        raise Invalid(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )


def _check(limits: Limits) -> None:
    if limits.memory < 0 or 0 < limits.memory < _LEAST_MEMORY:
        raise Invalid("Minimum memory limit allowed is 6MB")
    if limits.memory_swap > 0 and not limits.memory:
        raise Invalid("You should always set the Memory limit when using Memoryswap limit, see usage")
    if limits.memory and 0 < limits.memory_swap < limits.memory:
        raise Invalid("Minimum memoryswap limit should be larger than memory limit, see usage")
    if limits.memory_reservation and not _LEAST_MEMORY <= limits.memory_reservation <= (
        limits.memory or limits.memory_reservation
    ):
        raise Invalid("Minimum memory limit can not be less than memory reservation limit, see usage")
    if limits.block_weight:
        check_weight(limits.block_weight)
    processors = os.cpu_count() or 1
    if limits.nano_cpus < 0 or limits.nano_cpus > processors * 1_000_000_000:
        raise Invalid(f"range of CPUs is from 0.01 to {processors}.00, as there are only {processors} CPUs available")
    if limits.nano_cpus and (limits.cpu_period or limits.cpu_quota):
        raise Invalid("Conflicting options: Nano CPUs and CPU Period cannot both be set")
    if limits.cpu_period and not 1000 <= limits.cpu_period <= 1_000_000:
        raise Invalid("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")
    if 0 < limits.cpu_quota < 1000:
        raise Invalid("CPU cfs quota can not be less than 1ms (i.e. 1000)")
    if (limits.realtime_period or limits.realtime_runtime) and not (ROOT / "cpu" / "cpu.rt_runtime_us").exists():
        raise Invalid("Your kernel does not support CPU real-time scheduler")
    if 0 < limits.realtime_period < limits.realtime_runtime:
        raise Invalid("cpu real-time runtime cannot be higher than cpu real-time period")
    if limits.cpu_shares < 0:
        raise Invalid(f"invalid CPU shares ({limits.cpu_shares}): value must be a positive integer")
    for name, text, known in (
        ("CPUs", limits.cpuset, "/sys/devices/system/cpu/online"),
        ("memory nodes", limits.cpuset_mems, "/sys/devices/system/node/online"),
    ):
        if text and not _numbers(text, name) <= _available(known):
            raise Invalid(f"Requested {name} are not available - requested {text}, available: {_read(known)}")


def _numbers(text: str, what: str) -> set[int]:
    """``0-3,7``, as cpuset(7) writes lists."""
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or int(last or first) > 8192:
            raise Invalid(f"Invalid value {text} for cpuset {what}")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _available(path: str) -> set[int]:
    return _numbers(_read(path), "list")


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return "0"


_ULIMITS = ("core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack").split()  # noqa: SIM905
"""Those of setrlimit(2)."""


def _ulimits(value: Any) -> tuple[Ulimit, ...]:
    found = []
    for entry in value if isinstance(value, list) else [None]:
        if not isinstance(entry, dict):
            raise Invalid("Ulimits must be a list of objects")
        name, soft, hard = entry.get("Name"), entry.get("Soft"), entry.get("Hard")
        if not isinstance(name, str) or name not in _ULIMITS:
            raise Invalid(f"invalid ulimit type: {name}")
        if not isinstance(soft, int) or not isinstance(hard, int):
            raise Invalid(f"ulimit {name}: Soft and Hard must be numbers")
        if hard != -1 and (soft > hard or soft == -1):
            raise Invalid(f"ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")
        found.append(Ulimit(name=name, soft=soft, hard=hard))
    return tuple(found)
