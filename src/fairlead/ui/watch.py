"""Following the topology for as long as pages are open, and not a moment longer.

The daemon is asked at most once a second, and so seldom that looking takes a quarter of the time at most: with hundreds
of containers a look takes a large part of a second.  Fairlead's events bring the next look forward; what others change
(``ip``, Docker) is seen at the next look.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fairlead.errors import FairleadError
from fairlead.ui import changes
from fairlead.ui.daemon import Api

PERIOD = 1.0
"""Seconds from one look to the next, at least."""
SHARE = 4
"""A look is followed by a pause of so many times its own length, at least; after an event, of once its length."""

State = tuple[dict[str, Any], changes.Traffic]
Message = tuple[str, dict[str, Any]]


class Watch:
    """One for all pages.  The newest look is `state`; None while none succeeded."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._listeners = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._moved = asyncio.Condition()
        self._event = asyncio.Event()
        self._number = 0
        self.state: State | None = None
        self.time = 0.0
        """When `state` was read, in seconds of a clock that only runs forward."""
        self.trouble = ""
        """Why there is no newer state."""

    async def follow(self) -> AsyncIterator[Message]:
        """``topology`` first, then ``change``s; ``trouble`` while the daemon does not answer, then all again."""
        seen = self._join()
        sent: State | None = None
        try:
            while True:
                async with self._moved:
                    while self._number == seen:
                        await self._moved.wait()
                    seen, state, time, trouble = self._number, self.state, self.time, self.trouble
                if trouble or state is None:
                    sent = None
                    yield "trouble", {"Message": trouble}
                    continue
                if sent is None:
                    yield "topology", {"Time": time, "Topology": state[0], "Traffic": state[1]}
                else:
                    yield "change", {"Time": time, **changes.between(sent, state)}
                sent = state
        finally:
            await self._leave()

    async def room(self, id_: str) -> dict[str, Any]:
        """A namespace of the newest look; raises `FairleadError`."""
        if self.state is None:
            await self._look()
        rooms = self.state[0]["Namespaces"] if self.state else []
        for room in rooms:
            if room["Id"] == id_:
                return dict(room)
        raise Gone(f"there is no namespace {id_} any more")

    async def close(self) -> None:
        """Stop looking."""
        # Taken first: while we wait for their end, another page may come and have tasks of its own.
        tasks, self._tasks, self.state = self._tasks, [], None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _join(self) -> int:
        """Count one listener more; returns the number of the look that is of no use to it."""
        self._listeners += 1
        if self._listeners > 1 and self.state:
            return -1
        if self._listeners == 1:
            self._tasks = [asyncio.create_task(self._looking()), asyncio.create_task(self._hearing())]
        return self._number

    async def _leave(self) -> None:
        self._listeners -= 1
        if not self._listeners:
            await self.close()

    async def _looking(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._event.clear()
            began = loop.time()
            await self._look()
            took = loop.time() - began
            await asyncio.sleep(max(PERIOD - took, took))
            longer = took * (SHARE - 1) if took > PERIOD / (SHARE + 1) else 0.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._event.wait(), longer)

    async def _look(self) -> None:
        try:
            found = await self._api.get("/fairlead/topology")
            self.state, self.trouble = changes.split(found), ""
            self.time = asyncio.get_running_loop().time()
        except FairleadError as error:
            self.trouble = str(error)
        async with self._moved:
            self._number += 1
            self._moved.notify_all()

    async def _hearing(self) -> None:
        while True:
            with contextlib.suppress(FairleadError):
                async with self._api.stream("GET", "/events", {}) as answer:
                    async for _ in answer.content:
                        self._event.set()
            await asyncio.sleep(PERIOD)


class Gone(FairleadError):
    """What the page asks for is no longer there."""

    status = 404
