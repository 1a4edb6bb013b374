"""A connection to a client, where Docker's clients ask for more than aiohttp's server gives.

A client may end its half of the connection right behind its request and still gets the answer; aiohttp would close.
And what a client sends behind a request for a stream (attach, the start of an exec) is input for the process; aiohttp
would read it as the next request.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_STREAM = re.compile(rb"POST /\S*(?:/attach|exec/[^/\s?]+/start)(?:\?\S*)? HTTP/1\.[01]\r\n")
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,9})[ \t]*\r\n", re.IGNORECASE)

_EARLY = 1 << 16
"""Bytes of early input that are kept before the client has to wait."""


def stream_request(data: bytes) -> int | None:
    """The length in bytes, body included, of a request for a stream that `data` begins with; None if it does not.

    A head in several segments, or a body in chunks, is not made out; no client of Docker's sends such.
    """
    if not _STREAM.match(data) or (end := data.find(b"\r\n\r\n")) < 0:
        return None
    head = data[: end + 4]
    if b"transfer-encoding:" in head.lower():
        return None
    length = _LENGTH.search(head)
    return len(head) + (int(length[1]) if length else 0)


class Connection(web.RequestHandler):
    """aiohttp's connection, which answers a client that has ended its half, and keeps early input for its stream."""

    __slots__ = ("_answered", "_due", "_early", "half_closed")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, access_log=None)  # type: ignore[arg-type]  # None: no log
        self.half_closed = False
        """The client has said that it will send no more."""
        self._due: int | None = None
        """Bytes that are still to come of a request for a stream; None where it is another request, or none."""
        self._early = b""
        self._answered = 0
        """Requests, of those that aiohttp has counted."""

    @property
    def _is_idle(self) -> bool:
        return self._answered == self._request_count

    def data_received(self, data: bytes) -> None:
        """Pass a request on to aiohttp, and keep what comes behind a request for a stream."""
        if self._due is None and self._is_idle:
            self._due = stream_request(data)
        if self._due is None:
            super().data_received(data)
            return
        request, early = data[: self._due], data[self._due :]
        self._due -= len(request)
        if request:
            super().data_received(request)
        self._early += early
        if len(self._early) >= _EARLY and self.transport is not None:
            self.transport.pause_reading()

    def take_early(self) -> bytes:
        """What came behind the request, once: for the one who takes the connection over."""
        early, self._early = self._early, b""
        if len(early) >= _EARLY and self.transport is not None:
            self.transport.resume_reading()
        return early

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio asks, aiohttp always says no
        """Keep the connection while there is something to answer; a request that ended half way is none."""
        if self._is_idle or self._payload_parser is not None:
            return False
        try:
            if self._parser is not None:
                self._parser.feed_eof()
        except HttpProcessingError:
            return False
        self.half_closed = True
        return True

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send the answer; go on with the next request, or close where none can come."""
        done = await super().finish_response(request, resp, start_time)
        self._due = None
        self._answered += 1
        if early := self.take_early():  # there was no stream after all
            self.data_received(early)
        if self.half_closed and self._is_idle:
            self.close()
        return done

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is no HTTP is refused in one sentence, in the shape of every error."""
        if status != 400:
            return super().handle_error(request, status, exc, message)
        reason = (message or "").partition("\n")[0].rstrip(":")[:200]
        body: dict[str, Any] = {"message": f"the request is not HTTP: {reason}"}
        response = web.Response(body=msgspec.json.encode(body), status=400, content_type="application/json")
        response.force_close()
        return response
