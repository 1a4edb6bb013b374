"""Where a request for a stream ends and its input begins, and when a connection ends."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from fairlead.api.server import Connection, stream_request

BODY = b"Content-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize(
    "line", [b"/exec/ab/start", b"/v1.51/exec/ab/start", b"/containers/a/attach?logs=1", b"/v1.24/containers/a/attach"]
)
def test_the_body_belongs_to_the_request(line: bytes) -> None:
    head = b"POST " + line + b" HTTP/1.1\r\nHost: d\r\n"
    assert stream_request(head + b"\r\ninput") == len(head) + 2
    assert stream_request(head + BODY + b"input") == len(head + BODY)
    assert stream_request(head + BODY.lower()[:-1]) == len(head + BODY)  # the rest is still to come


@pytest.mark.parametrize(
    "line", [b"POST /containers/a/start", b"POST /exec/ab/resize", b"GET /containers/a/attach/ws", b"POST /exec/start"]
)
def test_other_requests_are_none(line: bytes) -> None:
    assert stream_request(line + b" HTTP/1.1\r\n" + BODY) is None


def test_what_cannot_be_made_out_is_left_to_aiohttp() -> None:
    assert stream_request(b"POST /exec/ab/start HTTP/1.1\r\nHost: d\r\n") is None
    assert stream_request(b"POST /exec/ab/start HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n") is None


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = asyncio.Event()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.closed.set()

    def is_closing(self) -> bool:
        return self.closed.is_set()


@pytest.mark.parametrize("turns", range(6))
def test_an_end_behind_the_answer_ends_the_connection(turns: int) -> None:
    """Also where it comes before aiohttp has come round to waiting for the next request."""

    async def answer(_: web.BaseRequest) -> web.Response:
        return web.Response(text="OK")

    async def converse() -> None:
        connection = Connection(web.Server(answer), asyncio.get_running_loop())
        transport = _Transport()
        connection.connection_made(transport)
        connection.data_received(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
        while b"OK" not in transport.sent:
            await asyncio.sleep(0)
        for _ in range(turns):
            await asyncio.sleep(0)
        if not connection.eof_received():
            transport.close()  # as asyncio does
        await asyncio.wait_for(transport.closed.wait(), 2)
        connection.connection_lost(None)

    asyncio.run(converse())
