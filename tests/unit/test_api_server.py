"""Where a request for a stream ends and its input begins."""

from __future__ import annotations

import pytest

from fairlead.api.server import stream_request

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
