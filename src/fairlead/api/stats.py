"""``/containers/{id}/stats`` and ``/containers/{id}/top``: what a container uses, and what runs in it."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, answer, flag
from fairlead.api.connection import connected
from fairlead.containers.stats import sample
from fairlead.errors import Invalid, NotFound

_INTERVAL = 1.0
"""Seconds between two samples, as Docker has it."""


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""
    containers = daemon.containers

    def now(ref: str, before: dict[str, Any] | None) -> dict[str, Any]:
        container = containers.get(ref)
        return sample(container, containers.place(container).cgroup, containers.execs.runtimes(container.id), before)

    async def stats(request: web.Request) -> web.StreamResponse:
        container = containers.get(request.match_info["ref"])
        if not flag(request, "stream", True):
            first = now(container.id, None)
            if flag(request, "one-shot") or not container.is_running:
                return answer(first)
            await asyncio.sleep(_INTERVAL)
            return answer(now(container.id, first))
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        before: dict[str, Any] | None = None
        async with connected(request):
            while True:
                try:
                    before = now(container.id, before)
                except NotFound:
                    break  # Removed meanwhile.
                await response.write(msgspec.json.encode(before) + b"\n")
                await asyncio.sleep(_INTERVAL)
        return response

    async def top(request: web.Request) -> web.StreamResponse:
        container = containers.get(request.match_info["ref"])
        pids = containers.processes(container.id)
        titles, rows = await asyncio.to_thread(ps, pids, request.query.get("ps_args") or "-ef")
        containers.tell("top", container)
        return answer({"Titles": titles, "Processes": rows})

    return [web.get("/containers/{ref}/stats", stats), web.get("/containers/{ref}/top", top)]


def ps(pids: list[int], arguments: str) -> tuple[list[str], list[list[str]]]:
    """The host's ps(1), its rows reduced to these processes."""
    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise Invalid(f"invalid ps_args {arguments!r}: {error}") from None
    done = subprocess.run(["ps", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode or not done.stdout:
        raise Invalid(f"ps: {(done.stderr.strip() or 'no output').splitlines()[0]}")
    header, *lines = done.stdout.splitlines()
    titles = header.split()
    if "PID" not in titles:
        raise Invalid("Couldn't find PID field in ps output")
    column = titles.index("PID")
    wanted = {str(pid) for pid in pids}
    rows = [line.split(None, len(titles) - 1) for line in lines]
    return titles, [row for row in rows if len(row) > column and row[column] in wanted]
