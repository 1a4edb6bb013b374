"""The daemon's API, for the page's server: an asynchronous client of its unix socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec

from fairlead.errors import FairleadError

_BASE = "http://fairlead"
_PATIENCE = aiohttp.ClientTimeout(total=60)
"""Seconds for an answer that has an end; events and logs are followed as long as somebody looks."""
_FOREVER = aiohttp.ClientTimeout(total=None, sock_connect=5)


class Unreachable(FairleadError):
    """The daemon does not answer."""

    status = 502


class Refused(FairleadError):
    """The daemon answered with an error of its own, whose status this is."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Api:
    """To be made in a running event loop, and closed there."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket, limit=0))

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, **query: str) -> Any:
        """The JSON answer of a GET; raises `Refused`, `Unreachable`."""
        async with self.stream("GET", path, query, timeout=_PATIENCE) as answer:
            return msgspec.json.decode(await answer.read())

    async def post(self, path: str, body: Any) -> Any:
        """The JSON answer of a POST; raises `Refused`, `Unreachable`."""
        async with self.stream("POST", path, {}, body, timeout=_PATIENCE) as answer:
            return msgspec.json.decode(await answer.read())

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any = None,
        timeout: aiohttp.ClientTimeout = _FOREVER,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer whose body is still to be read; raises `Refused`, and `Unreachable` also while it is read."""
        try:
            async with self._session.request(method, _BASE + path, params=query, json=body, timeout=timeout) as answer:
                if answer.status >= 400:
                    raise Refused(_message(await answer.read(), answer.status), answer.status)
                yield answer
        except (aiohttp.ClientError, TimeoutError, msgspec.DecodeError) as error:
            why = str(error) or type(error).__name__
            raise Unreachable(f"the daemon at {self._socket} does not answer: {why}") from None


def _message(data: bytes, status: int) -> str:
    try:
        return str(msgspec.json.decode(data)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return f"the daemon answered {status}"
