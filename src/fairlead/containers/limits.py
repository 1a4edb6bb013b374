"""Other limits for a container that runs."""

from __future__ import annotations

import contextlib
import json
import subprocess
from typing import Any

from fairlead.containers.bundle import resources
from fairlead.containers.record import Limits
from fairlead.errors import KernelError
from fairlead.kernel.cgroups import Cgroup
from fairlead.plan.runtime import Place, without_unified


def apply_limits(place: Place, before: Limits, wanted: Limits) -> None:
    """Have crun set what differs; raises `KernelError`, and then the limits are what they were."""
    if wanted.pids <= 0 < before.pids:
        Cgroup(place.cgroup).unlimit_processes()
    document = changed(before, wanted)
    if not document:
        return
    try:
        _update(place, document)
    except KernelError:
        # What is set one by one may be half set.
        with contextlib.suppress(KernelError):
            _update(place, changed(wanted, before))
        raise


def changed(before: Limits, wanted: Limits) -> dict[str, Any]:
    """What of the runtime's resources is to be set: all of each group in which anything differs."""
    old, new = resources(before), resources(wanted)
    return {group: part for group, part in new.items() if part != old.get(group)}


def _update(place: Place, document: dict[str, Any]) -> None:
    done = subprocess.run(
        [*without_unified(), *place.crun("update", "--resources=-", place.id)],
        input=json.dumps(document).encode(),
        capture_output=True,
        close_fds=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise KernelError(f"Cannot update container {place.id}: {reason}")
