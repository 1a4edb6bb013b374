"""The least HTTP client that can speak to a daemon on a unix socket, so that the client's own time stays small."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

IDLE = 10.0
"""Seconds after which the connection is made anew: daemons close one that was idle for minutes."""


class HttpError(Exception):
    """The daemon answered with a status of 400 or more."""


class Http:
    """One connection, kept open.  RFC 9112; bodies by Content-Length or chunked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(300)
        self._socket.connect(str(self._path))
        self._file = self._socket.makefile("rb")
        self._used = time.monotonic()

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request (`body`: JSON, or bytes as they are) and decode the JSON answer; raises `HttpError`."""
        content, kind = b"", "application/json"
        if isinstance(body, bytes):
            content, kind = body, "application/x-tar"
        elif body is not None:
            content = json.dumps(body).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        if time.monotonic() - self._used > IDLE:
            self.close()
            self._connect()
        self._socket.sendall(head.encode() + content)
        status, answer = self._receive()
        self._used = time.monotonic()
        if status >= 400:
            raise HttpError(f"{method} {path}: {status} {answer.decode(errors='replace').strip()}")
        try:
            return json.loads(answer) if answer.strip() else None
        except json.JSONDecodeError:
            return answer.decode(errors="replace")

    def _receive(self) -> tuple[int, bytes]:
        first = self._file.readline().split()
        if len(first) < 2:
            raise HttpError("the daemon closed the connection")
        headers: dict[str, str] = {}
        while line := self._file.readline().strip():
            name, _, value = line.decode().partition(":")
            headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._file.readline().split(b";")[0], 16):
                body += self._file.read(size)
                self._file.readline()
            self._file.readline()
            return int(first[1]), body
        return int(first[1]), self._file.read(int(headers.get("content-length", 0)))
