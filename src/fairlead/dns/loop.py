"""The event loop of the resolver: descriptors and timers, and nothing between a packet and its handler."""

from __future__ import annotations

import heapq
import json
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Handler = Callable[[], None]

READ, WRITE = select.EPOLLIN, select.EPOLLOUT


class Timer:
    """A call that is due once, unless it is cancelled."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Handler) -> None:
        self.due = due
        self.call: Handler | None = call

    def cancel(self) -> None:
        """Do not call."""
        self.call = None

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due


class Loop:
    """Level-triggered: a handler that leaves something unread is called again after all others had their turn."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self._running = True

    def watch(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call `handler` whenever `fd` is ready for `events`; replaces what was said of `fd` before."""
        if fd in self._handlers:
            self._epoll.modify(fd, events)
        else:
            self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """No more calls for `fd`; before it is closed."""
        if self._handlers.pop(fd, None):
            self._epoll.unregister(fd)

    def later(self, seconds: float, call: Handler) -> Timer:
        """Call once, `seconds` from now."""
        timer = Timer(time.monotonic() + seconds, call)
        heapq.heappush(self._timers, timer)
        return timer

    def stop(self) -> None:
        """Return from `run` after this round."""
        self._running = False

    def run(self) -> None:
        """Serve until `stop`.  What a handler fails with is written down, and costs no other its turn."""
        handlers, poll = self._handlers, self._epoll.poll
        while self._running:
            for fd, _ in poll(self._next()):
                handler = handlers.get(fd)
                if handler:  # an earlier one of this round may have closed it
                    _guarded(handler)
            while self._timers and self._timers[0].due <= time.monotonic():
                timer = heapq.heappop(self._timers)
                if timer.call:
                    _guarded(timer.call)

    def _next(self) -> float:
        while self._timers and self._timers[0].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0].due - time.monotonic()) if self._timers else -1


_complaints = 0
_MOST_COMPLAINTS = 100


def _guarded(call: Handler) -> None:
    """A line in the daemon's log, as the daemon writes its own."""
    global _complaints
    try:
        call()
    except Exception as error:
        if _complaints < _MOST_COMPLAINTS:
            _complaints += 1
            trace = error.__traceback__
            while trace and trace.tb_next:
                trace = trace.tb_next
            where = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
            entry = {"level": "error", "logger": "fairlead.dns", "message": repr(error), "where": where}
            print(json.dumps(entry), file=sys.stderr, flush=True)
