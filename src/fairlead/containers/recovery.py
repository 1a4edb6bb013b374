"""After a start of the daemon: make every container what its record says, and remove what belongs to none.

The records are taken at their word: RUNNING was acknowledged and is adopted, or has ended meanwhile; STARTING was not
and is undone; REMOVING was asked for and is finished.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from fairlead.containers.record import Container, Status
from fairlead.containers.sharing import PREFIX
from fairlead.plan.runtime import Place, is_monitor

if TYPE_CHECKING:
    from fairlead.containers.service import Containers

log = logging.getLogger("fairlead.containers")


class Recovery:
    """One run of it."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers
        self._store = containers.store

    async def run(self) -> None:
        """What fails for one container is logged and does not keep the others, or the daemon, from starting."""
        # Who joined another's network can only be started after it.
        for container in sorted(self._store.all(Container), key=lambda one: self._depth(one)):
            try:
                await self._recover(container)
                await self._revive(container.id)
            except Exception:
                log.exception("recovering container %s failed", container.name)
        await self._clear_strangers()
        await self._containers.images.let_go(self._containers.using_image)

    def _depth(self, container: Container) -> int:
        """How many others must run before it can."""
        depth, seen, one = 0, set[str](), container
        while one.spec.network_mode.startswith(PREFIX) and one.id not in seen:
            seen.add(one.id)
            depth += 1
            other = self._store.get(Container, one.spec.network_mode.removeprefix(PREFIX))
            if other is None:
                break
            one = other
        return depth

    async def _recover(self, container: Container) -> None:
        live = self._containers.live(container.id)
        if container.is_running:
            if is_monitor(container.monitor_pid, container.id):
                self._containers.watch(container.id, container.monitor_pid)
                if container.status is Status.RUNNING:
                    self._containers.health.resume(container)
            else:
                await self._containers.ended(container.id)
            return
        async with live.lock:
            if container.status is Status.REMOVING:
                await self._containers.remove_now(container, live)
                return
            await self._containers.clear(container.id)
            if container.status is Status.STARTING_AGAIN:
                self._store.put(container.becomes(Status.RESTARTING))
            if container.status is Status.STARTING:
                rest = Status.EXITED if container.finished else Status.CREATED
                undone = container.becomes(rest, pid=0, monitor_pid=0)
                self._store.put(undone)
                if container.spec.auto_remove:
                    await self._containers.remove_now(undone, live)

    async def _revive(self, container_id: str) -> None:
        """Start again what the policy wants running: ``always`` even if it was stopped by hand, as Docker does."""
        container = self._store.get(Container, container_id)
        if container is None or container.is_running or not container.started:
            return
        policy = container.spec.restart
        if container.status is not Status.RESTARTING:
            wanted = policy.name == "always" or policy.wants(
                exit_code=container.exit_code, count=container.restart_count, stopped_by_user=container.stopped_by_user
            )
            if not wanted:
                return
            self._store.put(container.becomes(Status.RESTARTING))
        live = self._containers.live(container_id)
        if live.timer:
            live.timer.cancel()
        await self._containers.start_again(container_id)

    async def _clear_strangers(self) -> None:
        """Remove what belongs to no container: directories, mounts, runtime state, sandboxes."""
        paths = self._containers.paths
        known = {container.id for container in self._store.all(Container)}
        found: set[str] = set()
        for directory in (
            paths.container_run("x").parent,
            paths.container_state("x").parent,
            paths.subpaths,
            paths.run / "shm",
            Place(id="x", run=paths.run).runtime_root,
        ):
            with contextlib.suppress(FileNotFoundError):
                found |= set(os.listdir(directory))
        found |= {s.container for s in self._containers.engine.catalog.sandboxes() if s.container}
        for stranger in found - known:
            if self._containers.sharing.users(stranger):
                continue  # Its sandbox is kept by those that joined it.
            log.warning("removing what is left of container %s", stranger[:12])
            try:
                await self._containers.erase(stranger)
            except Exception:
                log.exception("removing what is left of container %s failed", stranger[:12])
