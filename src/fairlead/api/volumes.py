"""``/volumes``: the Docker Engine API's volume endpoints (v1.51)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, answer, body_as, filters, flag
from fairlead.containers.volumes import ANONYMOUS, DRIVER, Volume, check_driver, check_options, check_volume_name
from fairlead.errors import Invalid


class CreateBody(msgspec.Struct, rename="pascal"):
    """The body of ``POST /volumes/create``."""

    name: str | None = None
    driver: str | None = None
    driver_opts: dict[str, str] | None = None
    labels: dict[str, str] | None = None
    cluster_volume_spec: dict[str, Any] | None = None


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """Every route of this module."""
    door = Door(daemon)
    return [
        web.get("/volumes", door.index),
        web.post("/volumes/create", door.create),
        web.post("/volumes/prune", door.prune),
        web.get("/volumes/{name}", door.inspect),
        web.delete("/volumes/{name}", door.remove),
    ]


class Door:
    """The handlers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._volumes = daemon.containers.volumes

    async def index(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request, ("dangling", "driver", "label", "name"))
        dangling = truth(wanted["dangling"], "dangling") if "dangling" in wanted else None
        users = self._volumes.users()
        names = [_pattern(text) for text in wanted.get("name", [])]
        found = [
            volume
            for volume in self._volumes.list()
            if (dangling is None or dangling == (volume.id not in users))
            and DRIVER in wanted.get("driver", [DRIVER])
            and all(has_label(volume.labels, label) for label in wanted.get("label", []))
            and (not names or any(name.search(volume.id) for name in names))
        ]
        return answer({"Volumes": [self.shape(volume) for volume in found], "Warnings": None})

    async def create(self, request: web.Request) -> web.StreamResponse:
        wanted = await body_as(request, CreateBody)
        if wanted.cluster_volume_spec:
            raise Invalid("cluster volumes need swarm, which Fairlead does not have")
        name, driver, options = wanted.name or "", wanted.driver or "", wanted.driver_opts or {}
        if flag(request, "explain"):
            check_driver(name, driver)
            check_options(name, options)
            place = self._volumes.path(check_volume_name(name) if name else "NAME")
            return answer({"Lines": [f"mkdir -p {place}"]})
        made = await self._volumes.create(name, driver, options, wanted.labels or {})
        return answer(self.shape(made), 201)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        return answer(self.shape(self._volumes.get(request.match_info["name"])))

    async def remove(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if flag(request, "explain"):
            return answer({"Lines": [f"rm -r {self._volumes.path(self._volumes.get(name).id).parent}"]})
        await self._volumes.remove(name, force=flag(request, "force"))
        return answer(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        wanted = filters(request, ("all", "label", "label!"))
        # From API 1.42 on, volumes that a user gave a name are kept, unless all are asked for.
        version = request.match_info.get("version") or "1.51"
        old = tuple(map(int, version.split("."))) < (1, 42)
        everything = old or ("all" in wanted and truth(wanted["all"], "all"))

        def fits(volume: Volume) -> bool:
            return (
                (everything or volume.anonymous)
                and all(has_label(volume.labels, label) for label in wanted.get("label", []))
                and not any(has_label(volume.labels, label) for label in wanted.get("label!", []))
            )

        if flag(request, "explain"):
            users = self._volumes.users()
            doomed = [volume for volume in self._volumes.list() if volume.id not in users and fits(volume)]
            return answer({"Lines": [f"rm -r {self._volumes.path(volume.id).parent}" for volume in doomed]})
        names, freed = await self._volumes.prune(fits)
        return answer({"VolumesDeleted": names, "SpaceReclaimed": freed})

    def shape(self, volume: Volume) -> dict[str, Any]:
        """Docker's Volume."""
        moment = datetime.fromtimestamp(int(volume.created), UTC)
        return {
            "CreatedAt": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "Driver": DRIVER,
            "Labels": volume.labels or None,
            "Mountpoint": str(self._volumes.path(volume.id)),
            "Name": volume.id,
            "Options": volume.options or None,
            "Scope": "local",
        }


def usage_shapes(daemon: Daemon) -> list[dict[str, Any]]:
    """All volumes with their ``UsageData``, for ``GET /system/df``; blocks while sizes are counted."""
    door = Door(daemon)
    users = daemon.containers.volumes.users()
    return [
        {
            **door.shape(volume),
            "UsageData": {
                "Size": daemon.containers.volumes.size(volume.id),
                "RefCount": len(users.get(volume.id, ())),
            },
        }
        for volume in daemon.containers.volumes.list()
    ]


def truth(words: list[str], name: str) -> bool:
    """A filter that is true or false; raises `Invalid` in Docker's words."""
    values = {{"1": True, "true": True, "0": False, "false": False}.get(word.lower()) for word in words}
    if len(values) != 1 or None in values:
        raise Invalid(f"invalid filter '{name}={words}'")
    return bool(values.pop())


def has_label(labels: dict[str, str], wanted: str) -> bool:
    """``KEY`` or ``KEY=VALUE``."""
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error:
        return re.compile(re.escape(text))


__all__ = ["ANONYMOUS", "has_label", "routes", "truth", "usage_shapes"]
