"""Taking a connection over for raw streams: attach and exec (Docker's "hijacking").

The client asks with ``Connection: Upgrade, Upgrade: tcp`` and gets 101, or without and gets 200; from then on bytes go
both ways, and each side may end its own half.  Without a terminal output comes in frames: a byte for the stream, three
zeros, the length as four bytes in network order (Engine API v1.51, "Attach to a container").
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import sys
import termios
import time
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from fairlead import __version__
from fairlead.api.app import API_VERSION
from fairlead.api.server import Connection
from fairlead.containers.streams import Attachment, Frame
from fairlead.errors import Invalid

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"

_CHUNK = 1 << 15

_MOMENT = 0.5
"""Seconds that a client gets to read the head of an answer."""


def frame_bytes(frame: Frame, *, tty: bool) -> bytes:
    """A frame as it goes over the wire."""
    if tty:
        return frame.data
    return bytes((frame.stream, 0, 0, 0)) + len(frame.data).to_bytes(4, "big") + frame.data


def content_type(request: web.Request, *, tty: bool) -> str:
    """The type of a stream; before API 1.42 all were called raw."""
    version = request.match_info.get("version", API_VERSION)
    is_old = tuple(int(part) for part in version.split(".")) < (1, 42)
    return RAW if tty or is_old else MULTIPLEXED


class _TakenOver(web.StreamResponse):
    """Tells aiohttp that the connection is no longer its own."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class _Protocol(asyncio.StreamReaderProtocol):
    """Feeds a reader, and passes the end of the connection on to aiohttp, which has its books to keep."""

    def __init__(self, reader: asyncio.StreamReader, former: Any) -> None:
        super().__init__(reader)
        self._former = former

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._former.connection_lost(exc)


def _take_over(request: web.Request, *, tty: bool) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Answer 101 or 200, and return the two halves of the connection."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError
    former = request.protocol
    reader = asyncio.StreamReader(_CHUNK)
    protocol = _Protocol(reader, former)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    if isinstance(former, Connection):  # of the daemon; a test's server may have aiohttp's own
        reader.feed_data(former.take_early())
        if former.half_closed:
            reader.feed_eof()
    kind = content_type(request, tty=tty)
    if "upgrade" in request.headers.get("Connection", "").lower():
        head = f"HTTP/1.1 101 UPGRADED\r\nContent-Type: {kind}\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    else:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n"
    head += f"Api-Version: {API_VERSION}\r\nOstype: linux\r\nServer: Fairlead/{__version__} (linux)\r\n\r\n"
    writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
    writer.write(head.encode())
    return reader, writer


async def serve(
    request: web.Request,
    begin: Callable[[], Awaitable[Attachment]],
    *,
    tty: bool,
    stdin: bool,
    before: list[Frame] | None = None,
    detach_keys: bytes = b"",
) -> web.StreamResponse:
    """Carry bytes between the client and an attachment until the output ends or the client is gone.

    `begin` makes the attachment once the client has been told that its stream begins: docker-py loses what comes in one
    packet with the headers.  `before`: frames to send first.  `detach_keys`: typing these ends the stream and leaves
    the container alone.
    """
    reader, writer = _take_over(request, tty=tty)
    try:
        attachment = await begin()
    except BaseException:
        writer.close()
        raise
    upward = asyncio.ensure_future(_upward(reader, attachment, stdin=stdin, keys=detach_keys))
    gone = asyncio.ensure_future(_closed(writer))
    downward = asyncio.ensure_future(_downward(attachment, writer, tty=tty, before=before or []))
    try:
        await asyncio.wait({downward, gone}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (upward, gone, downward):
            task.cancel()
        await asyncio.gather(upward, gone, downward, return_exceptions=True)
        attachment.close()
        # Sends the rest and closes; aiohttp must not wait for another request on this connection.
        writer.close()
        request.protocol.force_close()
    return _TakenOver()


async def _closed(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class KeyWatch:
    """Finds the detach keys in what is typed; keys that turn out to be something else go on to the container."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = b""

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the keys were typed."""
        if not self._keys:
            return data, False
        data = self._held + data
        before, found, _ = data.partition(self._keys)
        if found:
            return before, True
        held = next((n for n in range(len(self._keys) - 1, 0, -1) if data.endswith(self._keys[:n])), 0)
        self._held = data[len(data) - held :]
        return data[: len(data) - held], False


def parse_keys(text: str) -> bytes:
    """``ctrl-p,ctrl-q`` (the default) or ``a,ctrl-x`` as bytes; raises `Invalid`."""
    keys = b""
    for word in (text or "ctrl-p,ctrl-q").split(","):
        control = word[5:]
        if len(word) == 1:
            keys += word.encode()
        elif word.startswith("ctrl-") and len(control) == 1 and "@" <= control.upper() <= "_":
            keys += bytes((ord(control.upper()) & 0x1F,))
        else:
            raise Invalid(f"invalid detach keys {text!r}: letters and ctrl-X, separated by commas, are allowed")
    return keys


async def _upward(reader: asyncio.StreamReader, attachment: Attachment, *, stdin: bool, keys: bytes) -> None:
    """Input, until the client ends its half."""
    watch = KeyWatch(keys)
    with contextlib.suppress(OSError):
        while data := await reader.read(_CHUNK):
            if stdin:
                onward, detached = watch.feed(data)
                await attachment.write(onward)
                if detached:
                    attachment.detached = True
                    attachment.close()
                    return
        if stdin:
            await attachment.end_input()


async def _read_by_client(writer: asyncio.StreamWriter) -> None:
    """Wait until the client has taken all that was sent, the head of the answer: at most a moment.

    docker-py reads the head through a buffer and the stream beneath it, so what comes along with the head is lost.
    Docker itself is never so quick.  On a unix socket SIOCOUTQ is what the other side has not read yet
    (net/unix/af_unix.c).
    """
    sock = writer.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return
    deadline = time.monotonic() + _MOMENT
    while time.monotonic() < deadline:
        unread = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
        if not int.from_bytes(unread, sys.byteorder):
            return
        await asyncio.sleep(0.0002)


async def _downward(attachment: Attachment, writer: asyncio.StreamWriter, *, tty: bool, before: list[Frame]) -> None:
    """Output, until there is no more."""
    with contextlib.suppress(OSError):
        await _read_by_client(writer)
        for frame in before:
            writer.write(frame_bytes(frame, tty=tty))
        await writer.drain()
        async for frame in attachment:
            writer.write(frame_bytes(frame, tty=tty))
            await writer.drain()
