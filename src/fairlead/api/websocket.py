"""``/containers/{id}/attach/ws``: a container's streams over a websocket (Docker Engine API v1.51).

Without frames of Docker's own: stdout and stderr come as they are, in binary messages, and input goes the same way.
"""

from __future__ import annotations

import asyncio
import contextlib

from aiohttp import WSMsgType, web

from fairlead.api import streams
from fairlead.api.app import Daemon, flag
from fairlead.containers.streams import Attachment
from fairlead.errors import Invalid

_MESSAGE = 1 << 20
"""Bytes of input in one message at most."""


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The route of this module."""
    containers = daemon.containers

    async def attach(request: web.Request) -> web.StreamResponse:
        keys = streams.parse_keys(request.query.get("detachKeys", ""))
        container = containers.get(request.match_info["ref"])
        wants_out, wants_err = flag(request, "stdout"), flag(request, "stderr")
        stdin = flag(request, "stdin") and container.spec.open_stdin
        keys = keys if container.spec.tty and stdin else b""
        socket = web.WebSocketResponse(max_msg_size=_MESSAGE)
        if not socket.can_prepare(request).ok:
            raise Invalid("a websocket handshake is needed here (RFC 6455)")
        before = []
        if flag(request, "logs"):
            frames = containers.logs(container.id, stdout=wants_out, stderr=wants_err)
            before = [frame.data async for frame in frames]
        attachment = containers.attach(container.id, stdout=wants_out, stderr=wants_err)
        try:
            await socket.prepare(request)
            for data in before:
                await socket.send_bytes(data)
            if flag(request, "stream"):
                await _carry(socket, attachment, stdin=stdin, keys=keys)
            await socket.close()
        finally:
            containers.detach(container.id, attachment)
        return socket

    return [web.get("/containers/{ref}/attach/ws", attach)]


async def _carry(socket: web.WebSocketResponse, attachment: Attachment, *, stdin: bool, keys: bytes) -> None:
    """Until the output ends, the client goes, or it types the detach keys."""
    tasks = {
        asyncio.ensure_future(_upward(socket, attachment, stdin, keys)),
        asyncio.ensure_future(_down(socket, attachment)),
    }
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _upward(socket: web.WebSocketResponse, attachment: Attachment, stdin: bool, keys: bytes) -> None:
    watch = streams.KeyWatch(keys)
    with contextlib.suppress(OSError):
        async for message in socket:
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                break
            if stdin:
                data = message.data.encode() if isinstance(message.data, str) else message.data
                onward, detached = watch.feed(data)
                await attachment.write(onward)
                if detached:
                    attachment.detached = True
                    return


async def _down(socket: web.WebSocketResponse, attachment: Attachment) -> None:
    with contextlib.suppress(ConnectionError):
        async for frame in attachment:
            await socket.send_bytes(frame.data)
