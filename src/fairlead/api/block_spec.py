"""The members of HostConfig that limit block I/O (Docker Engine API v1.51)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fairlead.errors import Invalid
from fairlead.kernel.cgroups import ROOT, Cgroup


@dataclass(frozen=True, slots=True)
class _Limit:
    """One member."""

    file: str
    """In control groups of version 1, where it needs one in the kernel (blk-cgroup, bfq-iosched)."""
    files: tuple[str, ...]
    """The same in version 2: any of these."""
    without: str
    """Docker's words for a kernel that has none, and what happens then."""
    runtime: str = ""
    """The runtime's name for a limit of single devices."""
    number: str = "Rate"
    """The member with the number of each device."""


_WEIGHTS = ("io.weight", "io.bfq.weight")
_LIMITS = {
    "BlkioWeight": _Limit("blkio.weight", _WEIGHTS, "Block I/O weight|Weight"),
    "BlkioWeightDevice": _Limit(
        "blkio.weight_device", _WEIGHTS, "Block I/O weight_device|Weight-device", "weightDevice", "Weight"
    ),
    "BlkioDeviceReadBps": _Limit(
        "blkio.throttle.read_bps_device",
        ("io.max",),
        "BPS Block I/O read limit|Block I/O BPS read limit",
        "throttleReadBpsDevice",
    ),
    "BlkioDeviceWriteBps": _Limit(
        "blkio.throttle.write_bps_device",
        ("io.max",),
        "BPS Block I/O write limit|Block I/O BPS write limit",
        "throttleWriteBpsDevice",
    ),
    "BlkioDeviceReadIOps": _Limit(
        "blkio.throttle.read_iops_device",
        ("io.max",),
        "IOPS Block read limit|Block I/O IOPS read limit",
        "throttleReadIOPSDevice",
    ),
    "BlkioDeviceWriteIOps": _Limit(
        "blkio.throttle.write_iops_device",
        ("io.max",),
        "IOPS Block write limit|Block I/O IOPS write limit",
        "throttleWriteIOPSDevice",
    ),
}
DEVICES = tuple(member for member, limit in _LIMITS.items() if limit.runtime)
"""Those that limit single devices, and cannot be changed later."""


def discard_unsupported(host: dict[str, Any]) -> list[str]:
    """Take out of HostConfig what this kernel cannot limit, as Docker does; returns a warning for each."""
    warnings = []
    for member, limit in _LIMITS.items():
        if host.get(member) and not _is_supported(limit):
            del host[member]
            what, discarded = limit.without.split("|")
            warnings.append(f"Your kernel does not support {what} or the cgroup is not mounted. {discarded} discarded.")
    return warnings


def _is_supported(limit: _Limit) -> bool:
    if Cgroup("/", ROOT).version == 1:
        return (ROOT / "blkio" / limit.file).exists()
    # The root group has no limits; those beneath have the files of their controllers.
    return any(next(ROOT.glob(f"*/{name}"), None) for name in limit.files)


def device_limits(host: dict[str, Any]) -> dict[str, tuple[tuple[str, int], ...]]:
    """By the runtime's name for a limit, devices' paths and numbers; raises `Invalid`."""
    found = {}
    for member, limit in _LIMITS.items():
        if limit.runtime and (items := host.get(member)):
            found[limit.runtime] = tuple((item.get("Path") or "", item.get(limit.number) or 0) for item in items)
            if min(number for _, number in found[limit.runtime]) < 0:
                raise Invalid(f"{member}: {limit.number} must be a number from 0 on")
    for path, weight in found.get("weightDevice", ()):
        check_weight(weight, f"invalid weight for device: {path}:{weight}")
    return found


def check_weight(weight: int, sentence: str = "Range of blkio weight is from 10 to 1000") -> None:
    """Raises `Invalid` for what the kernel does not take; 0 is none."""
    if weight and not 10 <= weight <= 1000:
        raise Invalid(sentence)
