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
_IN_CHUNKS = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9a-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n", re.IGNORECASE)

_KEPT = 1 << 16
"""Bytes of a request that are waited for, and of early input that are kept before the client has to wait."""

_LINE = 1 << 20
"""Bytes that a line of a request's head may have, as for Docker: filters by many ids, credentials with many claims."""

OTHER = -1
"""`stream_request`: it is no request for a stream, or one that aiohttp is to judge."""


def stream_request(data: bytes) -> int | None:
    """The length in bytes, body included, of the request for a stream that `data` begins with; None: more must come.

    `OTHER` for what is none, and for requests whose end only aiohttp may tell: malformed, or very long.
    """
    length = _length(data)
    return OTHER if length is None and len(data) >= _KEPT else length


def _length(data: bytes) -> int | None:
    if b"\r\n" not in data:
        return None if data[:6] == b"POST /"[: len(data)] else OTHER
    if not _STREAM.match(data):
        return OTHER
    if (end := data.find(b"\r\n\r\n") + 4) < 4:
        return None
    head = data[:end]
    if b"\r\nexpect:" in head.lower():  # waits for an answer before it sends its body
        return OTHER
    if b"\r\ntransfer-encoding:" in head.lower():
        return _after_chunks(data, end) if _IN_CHUNKS.search(head) else OTHER
    if length := _LENGTH.search(head):
        end += int(length[1])
    return end if end <= len(data) else None


def _after_chunks(data: bytes, at: int) -> int | None:
    """Where the body in chunks (RFC 9112, 7.1) that begins at `at` ends; one with trailers is for aiohttp."""
    while chunk := _CHUNK.match(data, at):
        size = int(chunk[1], 16)
        at = chunk.end() + size + 2
        if not size and at <= len(data):
            return at if data[at - 2 : at] == b"\r\n" else OTHER
    return OTHER if b"\r\n" in data[at:] else None


class Connection(web.RequestHandler):
    """aiohttp's connection, which answers a client that has ended its half, and keeps early input for its stream."""

    __slots__ = ("_answered", "_begun", "_early", "_is_stream", "half_closed")

    def __init__(self, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=None,  # type: ignore[arg-type]  # None: no log
            max_line_size=_LINE,
            max_field_size=_LINE,
            # What a body is packed with is told by its first bytes, where it may be packed, whatever its headers say.
            auto_decompress=False,
        )
        self.half_closed = False
        """The client has said that it will send no more."""
        self._begun = b""
        """A request that may be for a stream, of which more must come."""
        self._is_stream = False
        """The request that is being answered is for a stream."""
        self._early = b""
        self._answered = 0
        """Requests, of those that aiohttp has counted."""

    @property
    def _is_idle(self) -> bool:
        return self._answered == self._request_count

    def data_received(self, data: bytes) -> None:
        """Pass a request on to aiohttp, and keep what comes behind a request for a stream."""
        if self._is_idle and not self._is_stream:
            self._begun, data = b"", self._begun + data
            length = stream_request(data)
            if length is None:
                self._begun = data
                return
            if length != OTHER:
                self._is_stream = True
                super().data_received(data[:length])
                data = data[length:]
        if not self._is_stream:
            super().data_received(data)
            return
        self._early += data
        if len(self._early) >= _KEPT and self.transport is not None:
            self.transport.pause_reading()

    def take_early(self) -> bytes:
        """What came behind the request, once: for the one who takes the connection over."""
        early, self._early = self._early, b""
        if len(early) >= _KEPT and self.transport is not None:
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
        self._is_stream = False
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
