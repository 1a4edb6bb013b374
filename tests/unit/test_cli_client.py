"""The client's HTTP, and the streams between terminal and container, against sockets of the test's own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli import quick, stream
from fairlead.cli.client import ApiError, Client, Connection, Unreachable, segment, socket_path, target
from fairlead.cli.flags import Failure


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[bytes], tuple[Client, list[bytes]]]]:
    """A server that reads one request, gives one canned answer, and closes."""
    threads: list[threading.Thread] = []

    def start(answer: bytes, *, wait_for: bytes = b"\r\n\r\n", pieces: int = 0) -> tuple[Client, list[bytes]]:
        path = tmp_path / "sock"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen(1)
        seen: list[bytes] = []

        def run() -> None:
            sock, _ = listening.accept()
            with sock, listening:
                data = b""
                while wait_for not in data:
                    data += sock.recv(65536)
                seen.append(data)
                step = pieces or max(len(answer), 1)
                for at in range(0, len(answer), step):
                    sock.sendall(answer[at : at + step])

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        threads.append(thread)
        return Client(str(path), start=False), seen

    yield start
    for thread in threads:
        thread.join(5)


def test_content_length(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, seen = serve(b'HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{"a":1}extra')
    assert client.get("/x", all=True, name="a b/c", no=False, none=None, many=["1", "2"]) == {"a": 1}
    assert seen[0].startswith(b"GET /x?all=1&name=a%20b/c&many=1&many=2 HTTP/1.1\r\nHost: fairlead\r\n")


def test_what_only_asks_is_asked_again_when_the_daemon_was_just_killed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "sock"))
        listening.listen()

        def run() -> None:
            for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", b""):
                sock, _ = listening.accept()
                with sock:
                    sock.recv(65536)
                    sock.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        client = Client(str(tmp_path / "sock"), start=False)
        assert client.get("/x") == []
        with pytest.raises(Unreachable, match="closed the connection before it answered"):
            client.post("/x")
        thread.join(5)
        assert not thread.is_alive(), "what changes something is asked once"


@pytest.mark.parametrize("pieces", [1, 3, 1000])
def test_chunked_in_pieces_of_any_size(serve: Callable[..., tuple[Client, list[bytes]]], pieces: int) -> None:
    answer = (
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n3;x=y\r\n1}\n\r\n0\r\nTrailer: t\r\n\r\n'
    )
    client, _ = serve(answer, pieces=pieces)
    assert client.get("/x") == {"a": 1}


def test_messages_one_a_line(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, _ = serve(b'HTTP/1.1 200 OK\r\n\r\n{"status":"a"}\r\n{"status":"b"}\n{"error":"c"}', pieces=4)
    assert [*client.request("GET", "/x").messages()] == [{"status": "a"}, {"status": "b"}, {"error": "c"}]


def test_no_content(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, seen = serve(b"HTTP/1.1 204 No Content\r\n\r\n")
    assert client.post("/x") is None
    assert b"Content-Length: 0" in seen[0]


def test_body_in_chunks(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, seen = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", wait_for=b"0\r\n\r\n")
    client.request("POST", "/x", raw=iter([b"abc", b"", b"defgh"]))
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert body == b"3\r\nabc\r\n5\r\ndefgh\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b'{"message":"no such thing"}', "no such thing"),
        (b"plain", "plain"),
        (b"[]", "[]"),
        (b"", "the daemon answered 404"),
    ],
)
def test_refusal(serve: Callable[..., tuple[Client, list[bytes]]], body: bytes, sentence: str) -> None:
    client, _ = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    with pytest.raises(ApiError) as caught:
        client.get("/x")
    assert str(caught.value) == sentence
    assert caught.value.status == 404


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_daemon_dies_in_between(serve: Callable[..., tuple[Client, list[bytes]]], answer: bytes) -> None:
    client, _ = serve(answer)
    with pytest.raises(Unreachable, match="the daemon closed the connection before it"):
        client.post("/x")


def test_what_answers_is_no_http(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, _ = serve(b"SSH-2.0-OpenSSH\r\n")
    with pytest.raises(Unreachable, match="does not speak HTTP"):
        client.get("/x")


def test_upgrade_keeps_what_came_along(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, seen = serve(
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\n\r\nearly"
    )
    connection, multiplexed = client.upgrade("/attach", stream=True)
    assert multiplexed
    assert connection.buffer + b"".join(iter(connection.more, b"")) == b"early"
    assert b"Connection: Upgrade\r\nUpgrade: tcp\r\n" in seen[0]


def test_upgrade_refused(serve: Callable[..., tuple[Client, list[bytes]]]) -> None:
    client, _ = serve(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(Failure, match="answered 200 instead"):
        client.upgrade("/attach")


def test_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable) as caught:
        Client(str(tmp_path / "none"), start=False).get("/x")
    assert str(caught.value).startswith(f"cannot reach the Fairlead daemon at unix://{tmp_path}/none: ")


def test_where_the_daemon_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAIRLEAD_HOST", raising=False)
    monkeypatch.setenv("FAIRLEAD_RUN", "/x")
    assert socket_path() == "/x/fairlead.sock"
    monkeypatch.setenv("FAIRLEAD_HOST", "unix:///y/z.sock")
    assert socket_path() == "/y/z.sock"
    monkeypatch.setenv("FAIRLEAD_HOST", "tcp://localhost:2375")
    with pytest.raises(Failure, match="only unix:///PATH is allowed"):
        socket_path()


def test_quoting() -> None:
    assert segment("a/b:c") == "a%2Fb%3Ac"
    assert segment("ü") == "%C3%BC"
    assert target("/x", {}) == "/x"


# Streams


def test_multiplexed_output_in_pieces_of_any_size(capfd: pytest.CaptureFixture[str]) -> None:
    frames = b"\x01\0\0\0\0\0\0\x04out\n" + b"\x02\0\0\0\0\0\0\x04err\n" + b"\x01\0\0\0\0\0\0\0"
    for size in (1, 5, 100):
        output = stream.Output(True)
        for at in range(0, len(frames), size):
            output.feed(frames[at : at + size])
        assert capfd.readouterr() == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("typed", "sent", "detached"),
    [
        ([b"abc"], b"abc", False),
        ([b"a\x10\x11b"], b"a", True),
        ([b"a\x10", b"\x11"], b"a", True),
        ([b"\x10", b"x"], b"\x10x", False),
        ([b"\x10\x10\x11"], b"\x10", True),
    ],
)
def test_detach_keys(typed: list[bytes], sent: bytes, detached: bool) -> None:
    detacher, out, seen = stream.Detacher(b"\x10\x11"), b"", False
    for piece in typed:
        data, seen = detacher.feed(piece)
        out += data
    assert (out, seen) == (sent, detached)


def test_pump_carries_both_ways_without_waiting_for_itself(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """An echoing peer that reads nothing until its own output is taken; far more than any buffer holds."""
    ours, theirs = socket.socketpair()
    reader, writer = os.pipe()
    size = 1 << 20

    def feed() -> None:
        view = memoryview(b"x" * size)
        while view:
            view = view[os.write(writer, view) :]
        os.close(writer)

    def peer() -> None:
        theirs.sendall(b"y" * size)
        count = 0
        while data := theirs.recv(65536):
            count += len(data)
        theirs.sendall(f"\n{count}\n".encode())
        theirs.close()

    threads = [threading.Thread(target=feed, daemon=True), threading.Thread(target=peer, daemon=True)]
    saved = os.dup(0)
    os.dup2(reader, 0)
    try:
        for thread in threads:
            thread.start()
        connection = Connection.__new__(Connection)
        connection.sock, connection.buffer = ours, b"early "
        assert stream.pump(connection, multiplexed=False, stdin=True) is False
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    for thread in threads:
        thread.join(5)
    assert capfd.readouterr().out == "early " + "y" * size + f"\n{size}\n"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(), st.lists))
def test_quick_json_reads_what_json_writes(value: object) -> None:
    assert quick.loads(json.dumps(value)) == value
    assert quick.loads(f" {json.dumps([value], indent=2)}\n".encode()) == [value]


@pytest.mark.parametrize("text", ["", "{", "[1,]", "1 2", "nul", "{'a':1}"])
def test_quick_json_refuses_what_json_refuses(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        quick.loads(text)


def test_asking_commands_import_nothing_slow() -> None:
    """A ``ps`` should cost what starting Python costs; each of these modules costs milliseconds."""
    script = "import sys; from fairlead.cli import listing, main, output, client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", script], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True
    )
    assert done.returncode == 0, done.stderr
    slow = {
        "re",
        "enum",
        "typing",
        "dataclasses",
        "json",
        "socket",
        "msgspec",
        "aiohttp",
        "pathlib",
        "asyncio",
        "logging",
    }
    assert not slow & set(done.stdout.decode().split())
