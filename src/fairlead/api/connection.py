"""Long answers end when nobody listens any more.

aiohttp lets a handler run on when its client has gone, which is right for changes; a handler that waits for something
to say would wait for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import AsyncIterator

from aiohttp import web

from fairlead.api.server import Connection

_LOOK = 1.0
"""Seconds between two looks at the connection."""


@contextlib.asynccontextmanager
async def connected(request: web.Request, until: float = 0.0) -> AsyncIterator[None]:
    """Leave what is inside when the client has gone, or at the time `until` (seconds since the epoch, 0: never)."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + max(0.0, until - time.time()) if until else None
    timer: asyncio.TimerHandle | None = None
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout_at(deadline) as limit:

            def look() -> None:
                nonlocal timer
                if _has_gone(request):
                    limit.reschedule(loop.time())
                else:
                    timer = loop.call_later(_LOOK, look)

            timer = loop.call_later(_LOOK, look)
            try:
                yield
            finally:
                timer.cancel()


def is_gone(request: web.Request) -> bool:
    """Whether the client has closed its end, not just said that it will send no more."""
    if request.transport is None or request.transport.is_closing():
        return True
    poll = select.poll()
    poll.register(request.transport.get_extra_info("socket"), 0)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _has_gone(request: web.Request) -> bool:
    """Whether the client is no longer there; for a long answer the end of its half is the end, as for Docker."""
    return is_gone(request) or (isinstance(request.protocol, Connection) and request.protocol.half_closed)
