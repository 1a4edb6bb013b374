"""Other limits and another restart policy for a container that exists."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

import msgspec

from fairlead.containers.bundle import resources
from fairlead.containers.record import Limits, Restart, Status
from fairlead.errors import Conflict, Invalid, KernelError
from fairlead.kernel.cgroups import Cgroup
from fairlead.plan.launch import run_crun, without_unified
from fairlead.plan.runtime import Place

if TYPE_CHECKING:
    from fairlead.containers.service import Containers


async def update(containers: Containers, ref: str, limits: Limits, restart: Restart) -> None:
    """Change the record and, if it runs, the control group; raises what the kernel refuses, changing nothing."""
    id_ = containers.get(ref).id
    async with containers.live(id_).lock:
        container = containers.get(id_)
        if container.status is Status.REMOVING:
            raise Conflict(f"container {container.id} is marked for removal and cannot be updated")
        if container.spec.auto_remove and restart.name != "no":
            raise Invalid("Restart policy cannot be updated because AutoRemove is enabled for the container")
        if container.is_running and limits != container.spec.limits:
            await asyncio.to_thread(apply_limits, containers.place(container), container.spec.limits, limits)
        spec = msgspec.structs.replace(container.spec, limits=limits, restart=restart)
        containers.store.put(msgspec.structs.replace(container, spec=spec))
    containers.tell("update", container)


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
    text = json.dumps(document).encode()
    done = without_unified(lambda: run_crun(place, "update", "--resources=-", place.id, document=text))
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip()
        raise KernelError(f"Cannot update container {place.id}: {reason}")
