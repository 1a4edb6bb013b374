"""Streams under load, by Docker's own client: no byte lost, none twice, none out of order, memory flat.

The sizes are small; with FAIRLEAD_STREAMS=full they are those of the promise: 100 MB, 1 GB, 200 at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import docker
import pytest
from lab import Host
from machine import Machine, eventually

FULL = os.environ.get("FAIRLEAD_STREAMS") == "full"
LOG_BYTES = 100_000_000 if FULL else 4_000_000
PIPE_BYTES = 1 << 30 if FULL else 16 << 20
AT_ONCE = 200 if FULL else 20

pytestmark = pytest.mark.timeout(900 if FULL else 120)


@pytest.fixture(scope="module")
def shared(layer: Path) -> Iterator[Machine]:
    with Host() as host:
        one = Machine(host, layer)
        one.docker("run", "-d", "--name", "busy", "box", "sleep", "9999")
        one.docker("exec", "busy", "true")
        try:
            yield one
        finally:
            one.docker("rm", "-f", *one.out("ps", "-aq").split(), check=False)
            one.stop()


class Memory:
    """The greatest memory that the daemon took in the time of a block, over what it had before."""

    def __init__(self, machine: Machine) -> None:
        daemon = int((machine.host.run_dir / "daemon.pid").read_text())
        self._file = Path(f"/proc/{daemon}/statm")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.before = self.most = self._now()

    def _now(self) -> int:
        return int(self._file.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self._now())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def grown(self) -> int:
        return self.most - self.before


def lines(count: int) -> bytes:
    return "".join(f"{number:07d} {'x' * 91}\n" for number in range(count)).encode()


WRITER = (
    'awk \'BEGIN {{ t = sprintf("%91s", ""); gsub(/ /, "x", t); for (i = 0; i < {}; i++) printf "%07d %s\\n", i, t }}\''
)


def test_logs_of_one_who_writes_much(shared: Machine) -> None:
    count = LOG_BYTES // 100
    shared.docker("run", "-d", "--name", "writer", "box", "sh", "-c", "sleep 1; " + WRITER.format(count))
    with Memory(shared) as memory:
        reader = shared.host.popen("docker", "logs", "-f", "writer", stdout=subprocess.PIPE)
        assert reader.stdout is not None
        found = hashlib.sha256()
        size = 0
        while data := reader.stdout.buffer.read1(1 << 16):
            found.update(data)
            size += len(data)
        reader.wait(10)
    assert size == count * 100
    assert found.digest() == hashlib.sha256(lines(count)).digest()
    assert memory.grown < 16 << 20
    shared.docker("rm", "-f", "writer")


def test_attached_to_one_who_writes_much(shared: Machine) -> None:
    count = LOG_BYTES // 400
    with Memory(shared) as memory:
        out = shared.docker("run", "--rm", "box", "sh", "-c", WRITER.format(count), timeout=600).stdout
    assert hashlib.sha256(out.encode()).digest() == hashlib.sha256(lines(count)).digest()
    assert memory.grown < 16 << 20


def feed(process: subprocess.Popen[str], size: int, digest: hashlib._Hash) -> None:
    assert process.stdin is not None
    block = os.urandom(1 << 20)
    for _ in range(size >> 20):
        block = block[1:] + block[:1]
        digest.update(block)
        process.stdin.buffer.write(block)
    process.stdin.close()


def test_exec_pipes_much_through(shared: Machine) -> None:
    """Input ends before output does: the half-close has to arrive, or `cat` would never end."""
    sent, got = hashlib.sha256(), hashlib.sha256()
    with Memory(shared) as memory:
        process = shared.host.popen(
            "docker", "exec", "-i", "busy", "cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        writer = threading.Thread(target=feed, args=(process, PIPE_BYTES, sent))
        writer.start()
        assert process.stdout is not None
        size = 0
        while data := process.stdout.buffer.read1(1 << 16):
            got.update(data)
            size += len(data)
        writer.join()
        assert process.wait(10) == 0
    assert size == PIPE_BYTES
    assert got.digest() == sent.digest()
    assert memory.grown < 16 << 20


def test_a_slow_reader_gets_all_of_what_an_ended_process_said(shared: Machine) -> None:
    """More than all buffers hold, read long after the process has ended."""
    process = shared.host.popen("docker", "exec", "busy", "sh", "-c", "seq 1 300000", stdout=subprocess.PIPE)
    time.sleep(3.5)
    assert process.stdout is not None
    found = process.stdout.read().split()
    assert found == [str(number) for number in range(1, 300001)]
    assert process.wait(10) == 0


def test_output_ends_although_a_process_in_the_background_holds_it(shared: Machine) -> None:
    started = time.monotonic()
    assert shared.out("exec", "busy", "sh", "-c", "sleep 30 & echo said") == "said"
    assert time.monotonic() - started < 10


def test_many_at_once(shared: Machine) -> None:
    def one(number: int) -> bool:
        text = f"{number} " * 2000
        done = shared.host.run(
            "docker", "exec", "-i", "busy", "sh", "-c", "cat; exit 3", input=text, check=False, timeout=600
        )
        return (done.stdout, done.returncode) == (text, 3)

    one(0)
    with Memory(shared) as memory, ThreadPoolExecutor(AT_ONCE) as pool:
        assert list(pool.map(one, range(AT_ONCE))) == [True] * AT_ONCE
    assert memory.grown < 64 << 20
    # The daemon has no children left, and the container no processes but its own.
    daemon = int((shared.host.run_dir / "daemon.pid").read_text())
    eventually(lambda: Path(f"/proc/{daemon}/task/{daemon}/children").read_text() == "")
    left = shared.host.run_dir / "containers" / shared.inspect("busy")["Id"] / "exec"
    eventually(lambda: list(left.iterdir()) == [])
    eventually(lambda: "cat" not in shared.out("top", "busy", "-eo", "pid,args"))


def test_input_half_closed_by_hand(shared: Machine) -> None:
    """Raw HTTP: the client shuts its half; what comes after that still arrives, then the end."""
    id_ = shared.api(
        "POST",
        "/containers/busy/exec",
        {"Cmd": ["sh", "-c", "wc -c; sleep 0.5; echo late"], "AttachStdin": True, "AttachStdout": True, "Tty": False},
    )["Id"]
    body = b'{"Detach": false, "Tty": false}'
    head = (
        f"POST /v1.41/exec/{id_}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(f"{shared.host.run_dir}/fairlead.sock")
        sock.sendall(head.encode() + body)
        answer = sock.recv(1 << 16)
        assert answer.startswith(b"HTTP/1.1 101 ")
        sock.sendall(b"x" * 100)
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(1 << 16):
            answer += data
    assert answer.partition(b"\r\n\r\n")[2] == b"\x01\0\0\0\0\0\0\x04100\n\x01\0\0\0\0\0\0\x05late\n"


def test_detach_keys(shared: Machine) -> None:
    """Typed on a real terminal, docker ends and the container goes on."""
    shared.docker("run", "-dit", "--name", "terminal", "box", "sh")
    script = "(sleep 1; printf 'echo $((40+2))\\n'; sleep 0.5; printf 'a\\021'; sleep 1) | "
    script += "script -qec 'docker attach --detach-keys a,ctrl-q terminal' /dev/null; echo code $?"
    out = shared.host.sh(script)
    assert "42" in out
    assert "code 0" in out or "read escape sequence" in out
    assert shared.inspect("terminal")["State"]["Running"]
    shared.docker("rm", "-f", "terminal")


def test_detach_keys_at_the_daemon(shared: Machine) -> None:
    """Docker's own client finds the keys itself; others leave it to the daemon."""
    before = time.time()
    shared.docker("run", "-dit", "--name", "terminal", "box", "sh")
    path = "/containers/terminal/attach/ws?stream=1&stdin=1&stdout=1&detachKeys=a,ctrl-q"

    async def talk() -> bytes:
        connector = aiohttp.UnixConnector(f"{shared.host.run_dir}/fairlead.sock")
        said = b""
        async with aiohttp.ClientSession(connector=connector) as session, session.ws_connect(f"http://x{path}") as ws:
            await ws.send_bytes(b"echo $((40+2))a\n")
            while b"42" not in said:
                said += (await ws.receive()).data
            await ws.send_bytes(b"a")
            await ws.send_bytes(b"\x11")
            async for message in ws:
                said += message.data
        return said

    assert b"42a" in asyncio.run(asyncio.wait_for(talk(), 20))
    assert shared.inspect("terminal")["State"]["Running"]
    until = f"{time.time():.6f}"
    said = shared.out("events", "--since", f"{before:.6f}", "--until", until, "--format", "{{.Action}}").split()
    assert said[-2:] == ["attach", "detach"]
    shared.docker("rm", "-f", "terminal")


def test_nothing_comes_along_with_the_head_of_the_answer(shared: Machine) -> None:
    """docker-py reads the head through a buffer and then the socket beneath it: what the buffer took would be lost."""
    client = docker.DockerClient(base_url=f"unix://{shared.host.run_dir}/fairlead.sock")
    with contextlib.closing(client):
        said = client.containers.run("box", ["echo", "hello"], detach=True)
        said.wait()
        for _ in range(20):
            assert client.api.attach(said.id, stream=False, logs=True) == b"hello\n"
        said.remove()


def test_a_client_that_never_reads_the_head_gets_its_output_all_the_same(shared: Machine) -> None:
    shared.docker("run", "--name", "unread", "box", "echo", "hello")
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as sock:
        sock.connect(f"{shared.host.run_dir}/fairlead.sock")
        sock.sendall(b"POST /containers/unread/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        time.sleep(1)
        answer = b""
        while data := sock.recv(1 << 16):
            answer += data
    assert answer.endswith(b"\r\n\r\n\x01\0\0\0\0\0\0\x06hello\n")
    shared.docker("rm", "unread")
