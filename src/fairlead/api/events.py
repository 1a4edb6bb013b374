"""``/events``: what happens, as it happens (Docker Engine API v1.51)."""

from __future__ import annotations

import contextlib

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon
from fairlead.api.connection import connected
from fairlead.api.containers import parse_filters, parse_nanoseconds
from fairlead.errors import Invalid
from fairlead.events import matches


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""

    async def events(request: web.Request) -> web.StreamResponse:
        filters = parse_filters(request)
        since, until = (parse_nanoseconds(request.query.get(name) or "0") for name in ("since", "until"))
        if until and until < since:
            seconds = (moment // 1_000_000_000 for moment in (since, until))
            raise Invalid("`since` time ({}) cannot be after `until` time ({})".format(*seconds))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        async with daemon.events.listen(since, until) as (past, listener):
            # At once: clients take these headers for the sign that they miss nothing from here on.
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                for event in past:
                    if matches(event, filters):
                        await response.write(msgspec.json.encode(event.shape()) + b"\n")
            async with connected(request, until / 1e9):
                async for event in listener:
                    if matches(event, filters):
                        await response.write(msgspec.json.encode(event.shape()) + b"\n")
            with contextlib.suppress(ConnectionError):
                await response.write_eof()
        return response

    return [web.get("/events", events)]
