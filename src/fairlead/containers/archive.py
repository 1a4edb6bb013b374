"""Containers' files in and out: copy, export, the list of changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from fairlead.containers import copying, layerdiff
from fairlead.containers.copying import Copy
from fairlead.containers.record import Container, Status
from fairlead.errors import Conflict
from fairlead.plan.users import resolve

if TYPE_CHECKING:
    from fairlead.containers.service import Containers


class Archives:
    """What can be done with the files of a container, running or not."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    @contextlib.asynccontextmanager
    async def read(self, ref: str, do: str, path: str = "") -> AsyncIterator[Copy]:
        """``stat`` or ``get`` a path, or ``export`` everything; the answer is read, the tar comes out of the copy."""
        container = self._alive(ref)
        job = {"do": do, "path": path, **self._view(container, writable=False)}
        if do == "export":
            job["mounts"] = []
        async with (
            self._mounted(container, job["mounts"]) as let_go,
            copying.running(job, self._containers.paths) as copy,
        ):
            # It has its own mounts from here on.
            await let_go()
            yield copy

    async def write(
        self, ref: str, path: str, body: AsyncIterator[bytes], *, no_overwrite: bool = False, as_user: bool = False
    ) -> None:
        """Unpack a tar into a directory of the container.  `as_user`: all belongs to the container's user."""
        container = self._alive(ref)
        live = self._containers.live(container.id)
        async with contextlib.AsyncExitStack() as stack:
            if not container.is_running:
                # Its layer is mounted for us, and a start would mount it a second time.
                await stack.enter_async_context(live.lock)
                container = self._alive(container.id)
            job = {"do": "put", "path": path, "no_overwrite": no_overwrite, **self._view(container, writable=True)}
            if as_user and (owner := await self.owner(container)):
                job["owner"] = owner
            await stack.enter_async_context(self._mounted(container, job["mounts"]))
            await stack.enter_async_context(copying.running(job, self._containers.paths, body))

    async def find(self, ref: str, path: str, *, into: bool) -> tuple[Container, dict[str, Any], dict[str, Any]]:
        """Where a path is: the container, the job that shows what it sees, and the answer to `copier.find`.

        With `into` it must be a directory in which one may write; raises what `read` or `write` would raise.
        """
        container = self._alive(ref)
        job = {"do": "find", "path": path, "into": into, **self._view(container, writable=False)}
        async with (
            self._mounted(container, job["mounts"]),
            copying.running(job, self._containers.paths) as copy,
        ):
            return container, job, copy.answer

    async def owner(self, container: Container) -> tuple[int, int] | None:
        """To whom belongs what is copied in as the container's user; None: to whom it belonged before."""
        return await self._owner(container) if container.spec.user else None

    async def changes(self, ref: str) -> list[layerdiff.Change]:
        """What differs from the image."""
        container = self._containers.get(ref)
        upper = self._containers.paths.container_state(container.id) / "upper"
        lower = self._containers.images.lower_directories(self._containers.image(container))
        return await asyncio.to_thread(layerdiff.changes, upper, lower)

    def _alive(self, ref: str) -> Container:
        container = self._containers.get(ref)
        if container.status is Status.REMOVING:
            raise Conflict(f"container {container.id} is marked for removal: its files cannot be copied")
        return container

    def _view(self, container: Container, *, writable: bool) -> dict[str, Any]:
        lower = self._containers.images.lower_directories(self._containers.image(container))
        return copying.view(container, self._containers.paths, lower, writable=writable)

    async def _owner(self, container: Container) -> tuple[int, int]:
        """The numbers of the container's user, by its own passwd file as the image has it."""
        if container.is_running:
            place = self._containers.place(container).rootfs
            user = await asyncio.to_thread(resolve, place, container.spec.user)
            return user.uid, user.gid
        upper = self._containers.paths.container_state(container.id) / "upper"
        lower = self._containers.images.lower_directories(self._containers.image(container))
        for layer in (upper, *lower):
            if (layer / "etc/passwd").is_file():
                user = await asyncio.to_thread(resolve, layer, container.spec.user)
                return user.uid, user.gid
        user = await asyncio.to_thread(resolve, lower[0], container.spec.user)
        return user.uid, user.gid

    @contextlib.asynccontextmanager
    async def _mounted(self, container: Container, mounts: list[Any]) -> AsyncIterator[Any]:
        """What volumes' options ask for is mounted, until the body lets go."""
        stack = contextlib.ExitStack()

        async def let_go() -> None:
            await asyncio.to_thread(stack.close)

        if mounts and container.spec.volumes:
            names = [volume.name for volume in container.spec.volumes]
            await asyncio.to_thread(stack.enter_context, self._containers.volumes.mounted(names))
        try:
            yield let_go
        finally:
            await asyncio.shield(let_go())
