"""The standard streams of a running container: one connection to conmon, shared by all who are attached.

conmon closes the container's input when *any* connection goes away, so there is only one, and it is half-closed
exactly when the user who feeds the input says so.  conmon writes to each connection until it took all, so a reader
that stops reading stops the container; the same holds for Docker.

The protocol (containers/conmon, src/conn_sock.c): a unix socket of type SEQPACKET; a packet from conmon is a byte
(2 stdout, 3 stderr) and output, a packet to conmon is input.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple, Protocol

STDOUT = 1
STDERR = 2
"""Stream numbers as in Docker's frames."""

_PACKET = 8192
"""Bytes of input in one packet; conmon takes up to 32 kB."""

_QUEUE = 64
"""Frames that wait for a slow reader before the hub stops reading for all."""


class Frame(NamedTuple):
    """Some output: which stream, and the bytes."""

    stream: int
    data: bytes


class Sink(Protocol):
    """What takes input."""

    async def write(self, data: bytes) -> None: ...
    def end_input(self) -> None: ...


class Attachment:
    """One user's view of the streams.  Iterate over it for output; it ends with the container or with `close`."""

    def __init__(self, *, stdout: bool, stderr: bool) -> None:
        self._wanted = {n for n, wanted in ((STDOUT, stdout), (STDERR, stderr)) if wanted}
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue(_QUEUE)
        self._closed = False
        self.detached = False
        """Whether the user typed the detach keys."""
        self._hub: asyncio.Future[Sink | None] = asyncio.get_running_loop().create_future()

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (frame := await self._frames.get()) is not None:
            yield frame

    @property
    def is_full(self) -> bool:
        """Whether output waits for its reader."""
        return self._frames.full()

    async def write(self, data: bytes) -> None:
        """Send input; waits until the container is there, raises `BrokenPipeError` when it is gone."""
        hub = await self._hub
        if hub is None:
            raise BrokenPipeError
        await hub.write(data)

    async def end_input(self) -> None:
        """The user has no more input."""
        hub = await self._hub
        if hub is not None:
            hub.end_input()

    def close(self) -> None:
        """The user went away."""
        self._closed = True
        while not self._frames.empty():
            self._frames.get_nowait()
        self._frames.put_nowait(None)
        self.connect(None)

    # For the hub

    def connect(self, hub: Sink | None) -> None:
        if not self._hub.done():
            self._hub.set_result(hub)

    async def put(self, frame: Frame) -> None:
        if not self._closed and frame.stream in self._wanted:
            await self._frames.put(frame)

    async def finish(self) -> None:
        self.connect(None)
        if not self._closed:
            await self._frames.put(None)


class Hub:
    """The one connection to a container's conmon."""

    def __init__(self, connection: socket.socket, *, keep_stdin: bool) -> None:
        self._socket = connection
        self._keep_stdin = keep_stdin
        self._attached: set[Attachment] = set()
        self._write_lock = asyncio.Lock()
        self._input_ended = False
        self.ended = asyncio.get_running_loop().create_task(self._pump())
        """Done when the container's output is at its end."""

    @classmethod
    def connect(cls, bundle: Path, *, keep_stdin: bool) -> Hub:
        """Connect to the conmon of this bundle; raises OSError when it is gone."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        # The path may be longer than a socket address takes (108 bytes), so go by an open directory.
        directory = os.open(bundle, os.O_PATH | os.O_DIRECTORY)
        try:
            connection.connect(f"/proc/self/fd/{directory}/attach")
        except OSError:
            connection.close()
            raise
        finally:
            os.close(directory)
        return cls(connection, keep_stdin=keep_stdin)

    def add(self, attachment: Attachment) -> None:
        self._attached.add(attachment)
        attachment.connect(self)
        if self.ended.done():
            attachment.close()

    def remove(self, attachment: Attachment) -> None:
        """Forget a user who went away.  The connection stays: closing it could end the container's input."""
        self._attached.discard(attachment)
        attachment.close()

    async def write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        async with self._write_lock:
            for start in range(0, len(data), _PACKET):
                if self._input_ended:
                    raise BrokenPipeError
                await loop.sock_sendall(self._socket, data[start : start + _PACKET])

    def end_input(self) -> None:
        """Close the container's standard input, unless it was asked to stay open for the next user."""
        if not self._keep_stdin and not self._input_ended:
            self._input_ended = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    async def _pump(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while packet := await loop.sock_recv(self._socket, 1 << 16):
                    frame = Frame(packet[0] - 1, packet[1:])
                    for attachment in tuple(self._attached):
                        await attachment.put(frame)
        finally:
            self._socket.close()
            for attachment in tuple(self._attached):
                await attachment.finish()
            self._attached.clear()
