"""Containers' files over HTTP: ``/containers/{id}/archive``, ``export``, ``changes`` (Docker Engine API v1.51)."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

from aiohttp import web

from fairlead.api.app import Daemon, Explained, answer, flag, to_json
from fairlead.containers.archive import Archives
from fairlead.containers.explain_files import FileExplainer
from fairlead.errors import Invalid

_STAT_HEADER = "X-Docker-Container-Path-Stat"
_CHUNK = 1 << 18


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """Every route of this module."""
    door = Door(daemon)
    one = "/containers/{ref}"
    return [
        web.head(f"{one}/archive", door.look),
        web.get(f"{one}/archive", door.get, allow_head=False),
        web.put(f"{one}/archive", door.put),
        web.get(f"{one}/export", door.export),
        web.get(f"{one}/changes", door.changes),
    ]


class Door:
    """The handlers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._archives = Archives(daemon.containers)
        self._explainer = FileExplainer(daemon.containers)

    async def look(self, request: web.Request) -> web.StreamResponse:
        async with self._archives.read(request.match_info["ref"], "stat", _path(request)) as copy:
            return web.Response(headers={_STAT_HEADER: _header(copy.answer["stat"])})

    async def get(self, request: web.Request) -> web.StreamResponse:
        if flag(request, "explain"):
            raise Explained(await self._explainer.get(*_place(request), _target(request), owner=flag(request, "owner")))
        async with self._archives.read(request.match_info["ref"], "get", _path(request)) as copy:
            self._tell("archive-path", request)
            return await send(request, copy.chunks(), {_STAT_HEADER: _header(copy.answer["stat"])})

    async def put(self, request: web.Request) -> web.StreamResponse:
        as_user = flag(request, "copyUIDGID")
        if flag(request, "explain"):
            source, name = request.query.get("source", ""), request.query.get("name", ".")
            raise Explained(await self._explainer.put(*_place(request), source, name, as_user=as_user))
        await self._archives.write(
            request.match_info["ref"],
            _path(request),
            request.content.iter_chunked(_CHUNK),
            no_overwrite=flag(request, "noOverwriteDirNonDir"),
            as_user=as_user,
        )
        self._tell("extract-to-dir", request)
        return web.Response()

    async def export(self, request: web.Request) -> web.StreamResponse:
        if flag(request, "explain"):
            raise Explained(await self._explainer.export(request.match_info["ref"], _target(request)))
        async with self._archives.read(request.match_info["ref"], "export") as copy:
            self._tell("export", request)
            return await send(request, copy.chunks(), {"Content-Type": "application/octet-stream"})

    def _tell(self, action: str, request: web.Request) -> None:
        containers = self._daemon.containers
        containers.tell(action, containers.get(request.match_info["ref"]))

    async def changes(self, request: web.Request) -> web.StreamResponse:
        found = await self._archives.changes(request.match_info["ref"])
        return answer([{"Path": change.path, "Kind": change.kind} for change in found] or None)


def _path(request: web.Request) -> str:
    # Of a file's name every byte counts, also where it is no UTF-8.
    found = parse_qs(request.rel_url.raw_query_string, errors="surrogateescape")
    path = found.get("path", [""])[0]
    if not path:
        raise Invalid("bad parameter: path cannot be empty")
    if "\0" in path:
        raise Invalid("bad parameter: path must not have a zero byte")
    return path


def _place(request: web.Request) -> tuple[str, str]:
    return request.match_info["ref"], _path(request)


def _target(request: web.Request) -> str:
    """For the lines: the file of the client's into which all goes; empty: the standard output."""
    return request.query.get("target", "")


def _header(status: dict[str, Any]) -> str:
    return base64.b64encode(to_json(status)).decode()


async def send(request: web.Request, chunks: AsyncIterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """A stream as the answer.  One that breaks off is cut, so that the client does not take it for whole."""
    response = web.StreamResponse(headers={"Content-Type": "application/x-tar", **headers})
    await response.prepare(request)
    try:
        async for chunk in chunks:
            await response.write(chunk)
    except Exception:
        with contextlib.suppress(Exception):
            if request.transport is not None:
                request.transport.abort()
        raise
    await response.write_eof()
    return response
