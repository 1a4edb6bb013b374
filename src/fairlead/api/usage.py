"""``/system/df``: what images, containers and volumes take on the disk (Docker Engine API v1.51)."""

from __future__ import annotations

import asyncio
import collections
from typing import Any

from aiohttp import web

from fairlead.api.app import Daemon, answer
from fairlead.api.images import summary as image_summary
from fairlead.api.versions import with_old_fields
from fairlead.api.volumes import usage_shapes
from fairlead.containers.inspect import summary
from fairlead.containers.usage import container_sizes
from fairlead.errors import Invalid

_TYPES = ("container", "image", "volume", "build-cache")


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The route of this module."""

    async def df(request: web.Request) -> web.StreamResponse:
        types = request.query.getall("type", list(_TYPES))
        for name in types:
            if name not in _TYPES:
                raise Invalid(f"unknown object type: {name}")
        found = await asyncio.to_thread(usage, daemon, types)
        with_old_fields(request, found["Images"] or ())
        return answer(found)

    return [web.get("/system/df", df)]


def usage(daemon: Daemon, types: list[str]) -> dict[str, Any]:
    """DiskUsage; what was not asked for is null.  In a thread: it looks at every file."""
    found: dict[str, Any] = {
        "LayersSize": daemon.images.disk_usage() if "image" in types else 0,
        "Images": _images(daemon) if "image" in types else None,
        "Containers": _containers(daemon) if "container" in types else None,
        "Volumes": usage_shapes(daemon) if "volume" in types else None,
        "BuildCache": [] if "build-cache" in types else None,
    }
    return found


def _images(daemon: Daemon) -> list[dict[str, Any]]:
    """With the bytes that an image shares with others, and how many containers use it."""
    images = daemon.images.list()
    users = collections.Counter(chain for image in images for chain in image.layers)
    used = collections.Counter(container.image_id for container in daemon.containers.list())
    found = []
    for image in images:
        sizes = zip(image.layers, image.layer_sizes, strict=True)
        shared = sum(size for chain, size in sizes if users[chain] > 1)
        found.append({**image_summary(image, list(image.tags)), "SharedSize": shared, "Containers": used[image.id]})
    return found


def _containers(daemon: Daemon) -> list[dict[str, Any]]:
    containers = daemon.containers
    networks = {network.id: network for network in daemon.engine.catalog.networks()}
    return [
        {
            **summary(
                container,
                image=daemon.images.shown_as(container.spec.image, container.image_id),
                endpoints=containers.endpoints(container),
                networks=networks,
                health=containers.health.of(container),
            ),
            **container_sizes(containers, container),
        }
        for container in containers.list()
    ]
