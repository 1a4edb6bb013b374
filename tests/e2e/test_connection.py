"""Clients that end their half of the connection, and clients that do not wait for an answer."""

from __future__ import annotations

import http.client
import io
import json
import socket
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import pytest
from lab import Host
from machine import Machine

PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: tcp\r\n"


@pytest.fixture(scope="module")
def shared(layer: Path) -> Iterator[Machine]:
    with Host() as host:
        one = Machine(host, layer)
        one.docker("run", "-d", "--name", "busy", "box", "sh", "-c", "echo said; exec sleep 9999")
        try:
            yield one
        finally:
            one.docker("rm", "-f", *one.out("ps", "-aq").split(), check=False)
            one.stop()


def connect(machine: Machine, *segments: bytes, pause: float = 0.0) -> socket.socket:
    """Send these segments."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(5)
    sock.connect(str(machine.host.run_dir / "fairlead.sock"))
    for segment in segments:
        sock.sendall(segment)
        time.sleep(pause)
    return sock


def exchange(machine: Machine, *segments: bytes, pause: float = 0.0) -> bytes:
    """Send these segments and end our half; everything that comes back until the end."""
    with connect(machine, *segments, pause=pause) as sock:
        sock.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: sock.recv(1 << 16), b""))


class _Recorded:
    """What http.client reads an answer from."""

    def __init__(self, raw: bytes) -> None:
        self._file = io.BytesIO(raw)

    def makefile(self, *_: object) -> io.BytesIO:
        return self._file


def parse(raw: bytes) -> tuple[int, bytes]:
    """Status and body of one answer."""
    response = http.client.HTTPResponse(cast(socket.socket, _Recorded(raw)))
    response.begin()
    return response.status, response.read()


def request(method: str, path: str, body: Any = None, head: bytes = b"") -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    kind = b"Content-Type: application/json\r\n" if content else b""
    length = f"Content-Length: {len(content)}\r\n\r\n".encode()
    return f"{method} {path} HTTP/1.1\r\nHost: d\r\n".encode() + kind + head + length + content


def make_exec(machine: Machine, *command: str) -> str:
    body = {"AttachStdin": True, "AttachStdout": True, "Cmd": command}
    _, answer = parse(exchange(machine, request("POST", "/containers/busy/exec", body)))
    return str(json.loads(answer)["Id"])


def frames(stream: bytes) -> bytes:
    """The output in a stream of frames."""
    out = b""
    while stream:
        length = int.from_bytes(stream[4:8], "big")
        out += stream[8 : 8 + length]
        stream = stream[8 + length :]
    return out


def test_a_client_that_ends_its_half_is_answered(shared: Machine) -> None:
    assert parse(exchange(shared, PING)) == (200, b"OK")
    assert parse(exchange(shared, request("GET", "/containers/busy/json")))[0] == 200
    status, body = parse(exchange(shared, request("POST", "/volumes/create", {"Name": "half"})))
    assert (status, json.loads(body)["Name"]) == (201, "half")


def test_every_request_before_the_end_is_answered(shared: Machine) -> None:
    assert exchange(shared, PING + PING + PING).count(b"\r\n\r\nOK") == 3


def test_a_slow_answer_is_waited_for(shared: Machine) -> None:
    assert parse(exchange(shared, request("POST", "/containers/busy/restart?t=1")))[0] == 204


@pytest.mark.parametrize("sent", [b"", b"GET /_pi", request("POST", "/volumes/create", {"Name": "part"})[:-3]])
def test_half_a_request_is_none(shared: Machine, sent: bytes) -> None:
    assert exchange(shared, sent) == b""
    assert "part" not in shared.out("volume", "ls", "-q").split()


@pytest.mark.parametrize(
    "path", ["/events", "/containers/busy/logs?stdout=1&follow=1", "/containers/busy/stats", "/containers/busy/wait"]
)
def test_an_answer_without_end_ends_with_the_half(shared: Machine, path: str) -> None:
    """As in Docker; nobody could tell later whether the client is still there."""
    method = "POST" if path.endswith("wait") else "GET"
    assert exchange(shared, request(method, path)).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("pause", [0.0, 0.05])
@pytest.mark.parametrize("head", [UPGRADE, b""])
@pytest.mark.parametrize("size", [10, 400_000])
def test_input_right_behind_the_start_of_an_exec_arrives(shared: Machine, head: bytes, size: int, pause: float) -> None:
    """Together with the request, and before it is answered; also input that looks like requests."""
    data = (PING * (size // len(PING) + 1))[:size]
    start = request("POST", f"/exec/{make_exec(shared, 'cat')}/start", {"Detach": False, "Tty": False}, head)
    raw = exchange(shared, start + data[:5], data[5:], pause=pause)
    assert raw.startswith(b"HTTP/1.1 101 UPGRADED" if head else b"HTTP/1.1 200 OK")
    assert frames(raw.partition(b"\r\n\r\n")[2]) == data


@pytest.mark.parametrize("head", [UPGRADE, b""])
@pytest.mark.parametrize(
    "length", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("cut", [3, 20, 60, -12, -1])
def test_a_start_that_comes_in_pieces_loses_no_input(shared: Machine, head: bytes, length: bytes, cut: int) -> None:
    """Its head in two segments, its body in two, its body in chunks."""
    line = f"POST /exec/{make_exec(shared, 'cat')}/start HTTP/1.1\r\nHost: d\r\n".encode()
    start = line + head + b"Content-Type: application/json\r\n" + length
    raw = exchange(shared, start[:cut], start[cut:] + PING, b"more", pause=0.02)
    assert frames(raw.partition(b"\r\n\r\n")[2]) == PING + b"more"


def test_input_right_behind_an_attach_arrives(shared: Machine) -> None:
    shared.docker("create", "-i", "--name", "reader", "box", "cat")
    attach = request("POST", "/v1.51/containers/reader/attach?stream=1&stdin=1&stdout=1", head=UPGRADE)
    with connect(shared, attach + b"early\n") as sock:
        sock.shutdown(socket.SHUT_WR)
        shared.docker("start", "reader")
        raw = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert frames(raw.partition(b"\r\n\r\n")[2]) == b"early\n"


def test_behind_a_start_that_is_refused_comes_the_next_request(shared: Machine) -> None:
    raw = exchange(shared, request("POST", "/exec/nope/start", {}) + PING)
    assert raw.startswith(b"HTTP/1.1 404")
    assert raw.endswith(b"\r\n\r\nOK")


@pytest.mark.parametrize(
    "path",
    [
        *("/_ping", "/containers/json", "/containers/busy/logs?stdout=1", "/containers/busy/archive?path=/bin"),
        *("/containers/busy/export", "/containers/busy/stats?stream=0", "/events?since=1&until=2", "/images/box/get"),
    ],
)
def test_old_http_is_answered(shared: Machine, path: str) -> None:
    """nginx speaks HTTP/1.0 to what it is a proxy for, unless it is told otherwise."""
    with connect(shared, f"GET {path} HTTP/1.0\r\n\r\n".encode()) as sock:
        raw = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b" 200 OK\r\n" in head
    assert b"chunked" not in head.lower()
    assert body or path.startswith("/events")


def test_lines_as_long_as_clients_make_them(shared: Machine) -> None:
    filters = quote(json.dumps({"id": [f"{number:064x}" for number in range(5000)]}))
    assert parse(exchange(shared, request("GET", f"/containers/json?filters={filters}"))) == (200, b"[]")
    credentials = b"X-Registry-Auth: " + b"a" * 100_000 + b"\r\n"
    assert parse(exchange(shared, request("GET", "/_ping", head=credentials))) == (200, b"OK")


def test_a_body_is_read_as_it_is_whatever_is_said_of_its_encoding(shared: Machine) -> None:
    """As Docker does: of archives the first bytes tell."""
    head = b"Content-Encoding: gzip\r\n"
    assert parse(exchange(shared, request("POST", "/volumes/create", {"Name": "plain"}, head)))[0] == 201
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("from-gzip"))
    sent = packed.getvalue()
    line = b"PUT /containers/busy/archive?path=/tmp HTTP/1.1\r\nHost: d\r\n"
    raw = exchange(shared, line + head + f"Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
    assert parse(raw)[0] == 200
    assert "from-gzip" in shared.out("exec", "busy", "ls", "/tmp")


@pytest.mark.parametrize("filters", ["null", "{}", '{"status":null}', '{"status":[]}'])
def test_filters_that_say_nothing(shared: Machine, filters: str) -> None:
    status, body = parse(exchange(shared, request("GET", f"/containers/json?filters={quote(filters)}")))
    assert status == 200
    assert "/busy" in str(json.loads(body))


def test_what_is_no_http_is_refused_in_one_sentence(shared: Machine) -> None:
    status, body = parse(exchange(shared, b"nonsense " * 9000 + b"\r\n\r\n"))
    assert status == 400
    message = json.loads(body)["message"]
    assert message.startswith("the request is not HTTP: ")
    assert len(message) < 300
    assert "\n" not in message
