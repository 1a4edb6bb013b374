"""``json`` and ``socket`` without what they import: regular expressions, enumerations, selectors.

Together those take 15 ms of the 30 that a ``fairlead ps`` would take.  What is used here is the part of both modules
that is written in C; CPython has had both since 3.1.
"""

from __future__ import annotations

import _socket
from _json import make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Context:
    """What `json.decoder.JSONDecoder` tells the scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = make_scanner(_Context())  # type: ignore[arg-type]  # any object with these attributes will do


def unix_socket(path: str) -> _socket.socket:
    """A socket connected to `path`; raises OSError."""
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def loads(text: str | bytes) -> Any:
    """The value of a JSON text; raises `ValueError` for what is none, as `json.loads` does."""
    text = (text.decode() if isinstance(text, bytes) else text).strip()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    if end != len(text):
        raise ValueError("not JSON")
    return value


def dumps(value: Any, **options: Any) -> str:
    """`json.dumps`, whose module is imported only by those who write."""
    import json

    return json.dumps(value, **options)
