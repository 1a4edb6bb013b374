"""A container's output as plain text, out of the frames that the API sends it in.

A frame is a stream's number (1: stdout, 2: stderr), three zero bytes, and the length of what follows as four bytes, the
highest first (Docker Engine API v1.51, ContainerAttach).  A container with a terminal has no frames.
"""

from __future__ import annotations

FRAMED = "application/vnd.docker.multiplexed-stream"
_HEAD = 8


class Unframed:
    """Takes bytes as they come, returns what is text in them."""

    def __init__(self, content_type: str) -> None:
        self._framed = content_type == FRAMED
        self._head = b""
        self._left = 0

    def feed(self, data: bytes) -> bytes:
        """The content of the frames, or parts of frames, in these bytes."""
        if not self._framed:
            return data
        found = bytearray()
        while data:
            if not self._left:
                wanted = _HEAD - len(self._head)
                self._head, data = self._head + data[:wanted], data[wanted:]
                if len(self._head) == _HEAD:
                    self._left, self._head = int.from_bytes(self._head[4:], "big"), b""
                continue
            part, data = data[: self._left], data[self._left :]
            self._left -= len(part)
            found += part
        return bytes(found)
