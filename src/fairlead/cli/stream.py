"""Bytes between the terminal and a container: raw mode, detach keys, window size, signals, multiplexed output.

A stream without a terminal carries stdout and stderr in frames: a type byte, three zeros, the length as four bytes,
big-endian (Docker Engine API, "Attach to a container").
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

from fairlead.cli.flags import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import Any

    from fairlead.cli.client import Client, Connection

DETACH_KEYS = "ctrl-p,ctrl-q"

_BLOCK = 1 << 16
_HEADER = 8
_STDERR = 2
_PROXIED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class Output:
    """Where a container's output goes; takes the stream as it comes, in pieces of any size."""

    def __init__(self, multiplexed: bool) -> None:
        self._multiplexed = multiplexed
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Write what is whole to stdout and stderr."""
        if not self._multiplexed:
            write_all(1, data)
            return
        data = self._rest + data
        at = 0
        while len(data) - at >= _HEADER:
            end = at + _HEADER + int.from_bytes(data[at + 4 : at + _HEADER], "big")
            if end > len(data):
                break
            write_all(2 if data[at] == _STDERR else 1, data[at + _HEADER : end])
            at = end
        self._rest = data[at:]


def write_all(fd: int, data: bytes) -> None:
    """Write everything, also where the descriptor does not block."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            waiter = select.poll()
            waiter.register(fd, select.POLLOUT)
            waiter.poll()


class Detacher:
    """Looks for the detach keys in what is typed.  A key that only began the sequence is sent after all."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to send on, and whether the keys were seen."""
        if not self._keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 1 if byte == self._keys[0] else 0
            if not self._matched:
                out.append(byte)
        return bytes(out), False


def pump(connection: Connection, *, multiplexed: bool, stdin: bool, keys: bytes = b"") -> bool:
    """Carry bytes both ways until the container's side ends; true when the user detached.

    Input is only read when the last of it was sent, and sent only as the socket takes it: so a container that waits
    for us to read its output cannot make both wait for ever.
    """
    output, detacher = Output(multiplexed), Detacher(keys)
    sock, pending, stdin_open = connection.sock, b"", stdin
    if connection.buffer:
        output.feed(connection.buffer)
        connection.buffer = b""
    while True:
        poll = select.poll()
        poll.register(sock, select.POLLIN | (select.POLLOUT if pending else 0))
        if stdin_open and not pending:
            poll.register(0, select.POLLIN)
        for fd, event in poll.poll():
            if fd == 0 and event:
                data = os.read(0, _BLOCK) if not event & select.POLLNVAL else b""
                pending, detached = detacher.feed(data)
                if detached:
                    return True
                if not data:
                    stdin_open = False
                    _half_close(sock)
            elif fd != 0:
                if event & select.POLLOUT and pending:
                    try:
                        pending = pending[sock.send(pending, socket.MSG_DONTWAIT) :]
                    except BlockingIOError:
                        pass
                    except (BrokenPipeError, ConnectionResetError):
                        pending, stdin_open = b"", False
                if event & (select.POLLIN | select.POLLHUP | select.POLLERR):
                    try:
                        data = sock.recv(_BLOCK)
                    except ConnectionResetError:
                        data = b""
                    if not data:
                        return False
                    output.feed(data)


def _half_close(sock: _socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def raw_terminal(active: bool) -> Iterator[None]:
    """Stdin's terminal in raw mode, and as it was afterwards, whatever happens meanwhile."""
    if not active or not os.isatty(0):
        yield
        return
    import termios
    import tty

    before = termios.tcgetattr(0)

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)  # unwinds through the restoring below

    with handlers({signal.SIGTERM: leave, signal.SIGHUP: leave}):
        try:
            tty.setraw(0, termios.TCSANOW)
            yield
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


@contextlib.contextmanager
def handlers(wanted: dict[signal.Signals, Callable[[int, FrameType | None], Any]]) -> Iterator[None]:
    """Signal handlers for a while."""
    before = {number: signal.signal(number, handler) for number, handler in wanted.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def window_size(client: Client, path: str, active: bool) -> Iterator[None]:
    """Tell the container (`path` ends in ``/resize``) how large the terminal is, now and at each change."""
    if not active or not os.isatty(1):
        yield
        return

    def tell(*_: object) -> None:
        columns, lines = os.get_terminal_size(1)
        with contextlib.suppress(Failure, OSError):  # the container may have ended already
            client.post(path, h=lines, w=columns)

    with handlers({signal.SIGWINCH: tell}):
        tell()
        yield


@contextlib.contextmanager
def proxied_signals(client: Client, container: str, active: bool) -> Iterator[None]:
    """Send the signals that we get on to the container instead of dying of them."""
    if not active:
        yield
        return

    def proxy(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(Failure, OSError):
            client.post(f"/containers/{container}/kill", signal=signal.Signals(number).name)

    with handlers(dict.fromkeys(_PROXIED, proxy)):
        yield


def require_terminal() -> None:
    """``-t`` with ``-i`` needs a terminal to type on."""
    if not os.isatty(0):
        raise Failure("the input device is not a TTY")


def error(text: str) -> None:
    """A sentence on stderr that does not end the command."""
    sys.stdout.flush()
    print(f"fairlead: {text}", file=sys.stderr, flush=True)
