"""Asking upstream servers for what is not ours: one after the other until one knows, and keeping the answers."""

from __future__ import annotations

import os
import socket
import time

from fairlead.dns.hosts import only_on_host
from fairlead.dns.loop import WRITE
from fairlead.dns.sockets import open_in
from fairlead.dns.wire import REFUSED, SERVFAIL, Response, parse_response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fairlead.dns.loop import Loop, Timer
    from fairlead.dns.wire import Query

    Key = tuple[bytes, int, bool]

MOST_SERVERS = 3
"""As many as resolv.conf(5) and Docker use."""

PATIENCE = 2.0
"""Seconds for a server while there is another one to ask; clients by default give up after five (resolv.conf(5))."""

LAST_PATIENCE = 4.0
"""Seconds for the last one, as Docker."""

GRUDGE = 10.0
"""Seconds for which a server that did not answer is asked after the others."""

_MOST_KEPT = 1000
_LONGEST_KEPT = 3600


class Upstream:
    """A server, and where it is asked from."""

    __slots__ = ("address", "fallback", "namespace")

    def __init__(self, address: str, namespace: str, *, ours: bool) -> None:
        """`ours`: the host's own server.  One on its loopback is asked from there, where alone it can be reached."""
        self.address = address
        self.namespace = "" if ours and only_on_host(address) else namespace
        self.fallback = ours
        """Ask from the host's namespace when the sandbox has no route in this address family."""


class Grudges:
    """Which servers have just not answered."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def hold(self, upstream: Upstream) -> None:
        """It did not answer."""
        self._until[upstream.namespace, upstream.address] = time.monotonic() + GRUDGE

    def sort(self, upstreams: Sequence[Upstream]) -> list[Upstream]:
        """Those that answer first, otherwise in the order given."""
        now = time.monotonic()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]
        return sorted(upstreams, key=lambda upstream: (upstream.namespace, upstream.address) in self._until)


class Exchange:
    """One request to one upstream after the other; `done` is called once, with None if none could be asked.

    Each attempt has its own socket and id, so that an answer can only be forged by who guesses 32 random bits.
    """

    def __init__(
        self,
        loop: Loop,
        grudges: Grudges,
        upstreams: Sequence[Upstream],
        query: Query,
        request: bytes,
        done: Callable[[Exchange, Response | None], None],
        *,
        stream: bool,
    ) -> None:
        self._loop = loop
        self._grudges = grudges
        self._upstreams = grudges.sort(upstreams)[:MOST_SERVERS]
        self._question = query.question
        self._request = request
        self._done = done
        self._stream = stream
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._best: Response | None = None
        self._input = bytearray()
        self.is_over = False
        self._next()

    def close(self) -> None:
        """Stop; `done` is not called any more."""
        self._let_go()
        self._upstreams = []
        self._done = _nobody

    def _next(self) -> None:
        self._let_go()
        while self._upstreams:
            upstream = self._upstreams.pop(0)
            try:
                self._ask(upstream)
            except OSError:
                self._let_go()
            else:
                return
        self.is_over = True
        done, self._done = self._done, _nobody
        done(self, self._best)

    def _let_go(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._socket:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _ask(self, upstream: Upstream) -> None:
        self._id = int.from_bytes(os.urandom(2), "big")
        message = self._id.to_bytes(2, "big") + self._request[2:]
        try:
            self._connect(upstream, upstream.namespace)
        except OSError:
            if not upstream.fallback or not upstream.namespace:
                raise
            self._let_go()
            self._connect(upstream, "")
        assert self._socket is not None
        patience = PATIENCE if self._upstreams else LAST_PATIENCE
        self._timer = self._loop.later(patience, lambda: self._timed_out(upstream))
        if self._stream:
            self._output = len(message).to_bytes(2, "big") + message
            self._input.clear()
            self._loop.watch(self._socket.fileno(), self._write, WRITE)
        else:
            self._socket.send(message)
            self._loop.watch(self._socket.fileno(), self._receive)

    def _connect(self, upstream: Upstream, namespace: str) -> None:
        address, _, scope = upstream.address.partition("%")
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = open_in(namespace, family, socket.SOCK_STREAM if self._stream else socket.SOCK_DGRAM)
        try:
            self._socket.connect((address, 53, 0, socket.if_nametoindex(scope)) if scope else (address, 53))
        except BlockingIOError:
            return

    def _timed_out(self, upstream: Upstream) -> None:
        self._grudges.hold(upstream)
        self._next()

    def _receive(self) -> None:
        """A datagram; one that answers something else is left aside."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:  # nobody listens there, says ICMP
            self._next()
            return
        self._judge(data, final=False)

    def _write(self) -> None:
        assert self._socket is not None
        try:
            self._output = self._output[self._socket.send(self._output) :]
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._output:
            self._loop.watch(self._socket.fileno(), self._read)

    def _read(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._input += data
        size = 2 + int.from_bytes(self._input[:2], "big")
        if not data:
            self._next()
        elif len(self._input) >= 2 and len(self._input) >= size:
            self._judge(bytes(self._input[2:size]), final=True)

    def _judge(self, data: bytes, *, final: bool) -> None:
        response = parse_response(data, self._id, self._question)
        if response is None:
            if final:
                self._next()
            return
        self._best = response
        if response.code in (SERVFAIL, REFUSED):
            self._next()
        else:
            self._upstreams = []
            self._next()


def _nobody(exchange: Exchange, response: Response | None) -> None:
    return


class Kept:
    """Answers of upstreams within their time to live."""

    def __init__(self) -> None:
        self._kept: dict[Key, tuple[float, Response]] = {}

    def find(self, query: Query) -> bytes | None:
        """The answer without its id, its times to live counted down."""
        found = self._kept.get(_key(query))
        if found is None:
            return None
        since, response = found
        age = int(time.monotonic() - since)
        if age >= response.lifetime:
            del self._kept[_key(query)]
            return None
        aged = response.aged(age)
        # The client's own spelling of the name, by which some recognise a forgery.
        return aged[:10] + query.question + aged[10 + len(query.question) :]

    def keep(self, query: Query, response: Response) -> None:
        """Keep what may be kept; the oldest goes when there are too many."""
        if response.lifetime > 0:
            response.lifetime = min(response.lifetime, _LONGEST_KEPT)
            self._kept.pop(_key(query), None)
            while len(self._kept) >= _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[_key(query)] = (time.monotonic(), response)


def _key(query: Query) -> Key:
    return (query.question.lower(), query.asked, query.opt)
