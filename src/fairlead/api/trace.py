"""``POST /fairlead/trace``: one probe, watched, and why it does or does not arrive."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, answer, body_as
from fairlead.api.connection import is_gone
from fairlead.containers.record import Container
from fairlead.see.trace.model import Asked, Hop, Observation, Trace

if TYPE_CHECKING:
    from fairlead.see.trace.probe import Interrupt

_LOOK_AFTER_CLIENT = 0.1
"""Seconds."""


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""
    one_at_a_time = asyncio.Semaphore(4)

    async def trace(request: web.Request) -> web.Response:
        asked = await body_as(request, Asked)
        async with one_at_a_time:
            found = await _while_wanted(request, daemon, asked)
        return answer(shape(found)) if found else web.Response(status=408)  # Which nobody reads.

    return [web.post("/fairlead/trace", trace)]


async def _while_wanted(request: web.Request, daemon: Daemon, asked: Asked) -> Trace | None:
    """The answer; None if the client went away (Ctrl-C), which ends the trace at once, tracing rules and all."""
    from fairlead.see.trace.probe import Abandoned, Interrupt  # Only those who trace need what it stands on.

    with Interrupt() as interrupt:
        tracing = asyncio.create_task(asyncio.to_thread(_trace, daemon, asked, interrupt))
        while not (await asyncio.wait({tracing}, timeout=_LOOK_AFTER_CLIENT))[0]:
            if is_gone(request):
                interrupt.set()
        try:
            return tracing.result()
        except Abandoned:
            return None


def _trace(daemon: Daemon, asked: Asked, interrupt: Interrupt) -> Trace:
    from fairlead.see.trace.run import Tracer

    engine = daemon.engine
    names = {container.id: container.name for container in engine.store.all(Container)}
    return Tracer(engine.kernel, engine.catalog, daemon.paths, names, interrupt).trace(asked)


def _bridge(seen: Observation, hop: Hop) -> str:
    """The bridge that an interface is a port of."""
    port = seen.port((hop.namespace, hop.interface)) if hop.kind in ("send", "receive") else None
    return port.master if port else ""


def shape(trace: Trace) -> dict[str, Any]:
    """The answer: the verdict, the hops with names in place of inodes, and the observation they are made of."""
    seen, verdict = trace.observation, trace.verdict

    def hops(found: Any) -> list[dict[str, Any]]:
        return [
            {
                "NamespaceName": seen.place(hop.namespace).name,
                "Bridge": _bridge(seen, hop),
                **msgspec.to_builtins(hop),
            }
            for hop in found
        ]

    return {
        "Source": seen.source.name,
        "Destination": seen.asked.destination,
        "Address": seen.address,
        "Name": msgspec.to_builtins(seen.name),
        "Outcome": msgspec.to_builtins(seen.outcome),
        "Hops": hops(seen.hops),
        "Verdict": {
            "Ok": verdict.ok,
            "Cause": verdict.cause,
            "Sentence": verdict.sentence,
            "Remedies": list(verdict.remedies),
        },
        "Notes": list(seen.notes),
        "Observation": msgspec.to_builtins(seen),
    }
