"""``/fairlead/topology`` and what else only looks."""

from __future__ import annotations

import asyncio

from aiohttp import web

from fairlead.api.app import Daemon, answer, flag
from fairlead.see.ground import Ground


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""

    async def topology(request: web.Request) -> web.Response:
        found = await asyncio.to_thread(ground(daemon).topology, everything=flag(request, "all"))
        return answer(found)

    return [web.get("/fairlead/topology", topology)]


def ground(daemon: Daemon) -> Ground:
    """What the daemon's lookers stand on."""
    engine = daemon.engine
    return Ground(paths=daemon.paths, kernel=engine.kernel, store=engine.store, planner=engine.planner)
