"""Where a request for a stream ends and its input begins, and when a connection ends."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from fairlead.api.server import OTHER, Connection, stream_request

BODY = b"Content-Length: 2\r\n\r\n{}"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"
CHUNKS = b"1;ext\r\n{\r\n1\r\n}\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    "line", [b"/exec/ab/start", b"/v1.51/exec/ab/start", b"/containers/a/attach?logs=1", b"/v1.24/containers/a/attach"]
)
def test_the_body_belongs_to_the_request(line: bytes) -> None:
    head = b"POST " + line + b" HTTP/1.1\r\nHost: d\r\n"
    assert stream_request(head + b"\r\ninput") == len(head) + 2
    assert stream_request(head + BODY + b"input") == len(head + BODY)
    assert stream_request(head + CHUNKED + CHUNKS + b"input") == len(head + CHUNKED + CHUNKS)


@pytest.mark.parametrize("behind", [BODY, CHUNKED + CHUNKS])
def test_a_request_that_is_not_all_there_is_waited_for(behind: bytes) -> None:
    whole = b"POST /exec/ab/start HTTP/1.1\r\nHost: d\r\n" + behind
    assert {stream_request(whole[:end]) for end in range(1, len(whole))} == {None}
    assert stream_request(whole) == len(whole)


@pytest.mark.parametrize(
    "line", [b"POST /containers/a/start", b"POST /exec/ab/resize", b"GET /containers/a/attach/ws", b"POST /exec/start"]
)
def test_other_requests_are_none(line: bytes) -> None:
    assert stream_request(line + b" HTTP/1.1\r\n" + BODY) == OTHER


def test_what_cannot_be_made_out_is_left_to_aiohttp() -> None:
    head = b"POST /exec/ab/start HTTP/1.1\r\n"
    assert stream_request(head + b"A: b\r\n" * (1 << 14)) == OTHER
    assert stream_request(b"POST /" + b"a" * (1 << 16)) == OTHER
    assert stream_request(head + b"Expect: 100-continue\r\n" + BODY) == OTHER
    assert stream_request(head + b"Transfer-Encoding: gzip, chunked\r\n\r\n") == OTHER
    for chunks in (b"x\r\n", b"0\r\nTrailer: 1\r\n\r\n"):
        assert stream_request(head + CHUNKED + chunks) == OTHER


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
