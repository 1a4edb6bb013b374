"""The resolver in one sandbox: its sockets, its ready-made answers, what it passes on.

The hot path is one look-up: the request as bytes, less its id, leads to the whole answer.  What is not there yet is
read, answered and put there; what is none of ours goes to an upstream, and nothing waits for that.
"""

from __future__ import annotations

import itertools
import socket

from fairlead.dns import wire
from fairlead.dns.forward import Exchange, Grudges, Kept, Upstream
from fairlead.dns.loop import READ, WRITE
from fairlead.dns.sockets import listen_in, namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from fairlead.dns.hosts import HostServers
    from fairlead.dns.loop import Loop
    from fairlead.dns.table import Table
    from fairlead.dns.wire import Query, Response

    Reply = Callable[[bytes], None]
    """Takes an answer without its id."""

_BURST = 64
"""Requests answered before another sandbox has its turn."""

_MOST_READY = 256
"""Ready-made answers of one sandbox.  Clients that vary the letters' case make many; then all are made anew."""

_MOST_TURNS = 8
"""In how many orders several addresses are given in turn."""

_MOST_EXCHANGES = 256
"""Requests of one sandbox that wait for upstreams; more are refused (SERVFAIL), for others are to be served too."""

_MOST_STREAMS = 64
_STREAM_IDLE = 10.0
"""Seconds after which a TCP connection without requests is closed."""
_MOST_OUTPUT = 1 << 20
"""Bytes that may wait for a client who does not read."""


class Sandbox:
    """Opens the sockets when it is made (raises `OSError`); `close` gives everything back."""

    def __init__(
        self, loop: Loop, table: Table, hosts: HostServers, grudges: Grudges, id_: str, entry: Mapping[str, Any]
    ) -> None:
        self.id = id_
        self.path: str = entry["path"]
        self.take(entry)
        self._loop = loop
        self._table = table
        self._hosts = hosts
        self._grudges = grudges
        self._ready: dict[bytes, Iterator[bytes]] = {}
        self._turn = itertools.count()
        self._kept = Kept()
        self._kept_from: Sequence[str] = ()
        """The servers whose answers are kept: others may know other things."""
        self._exchanges: set[Exchange] = set()
        self._streams: set[Stream] = set()
        self.inode = namespace_of(self.path)
        self._datagrams, self._listener = listen_in(self.path)
        loop.watch(self._datagrams.fileno(), self._serve)
        loop.watch(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """A socket keeps its namespace alive, so all are closed at once."""
        for stream in list(self._streams):
            stream.close()
        for exchange in self._exchanges:
            exchange.close()
        self._exchanges.clear()
        for listening in (self._datagrams, self._listener):
            self._loop.forget(listening.fileno())
            listening.close()

    def take(self, entry: Mapping[str, Any]) -> None:
        """What may change while the sandbox stays."""
        self.upstreams: list[str] = entry["upstreams"]
        """The user's own servers; empty: the host's."""
        self.outside: bool = entry["outside"]
        """Whether anything may be passed on."""

    def renew(self) -> None:
        """Names have changed: make the answers anew."""
        self._ready.clear()

    def _serve(self) -> None:
        ready = self._ready.get
        receive, send = self._datagrams.recvfrom, self._datagrams.sendto
        try:
            for _ in range(_BURST):
                data, client = receive(wire.OWN_UDP)
                answers = ready(data[2:])
                if answers is None:
                    self._first_time(data, client)
                    return  # That took as long as a burst: the others' turn.
                send(data[:2] + next(answers), client)
        except OSError:
            return  # Nothing more there; or an answer that cannot be sent, and its client asks again.

    def _first_time(self, data: bytes, client: tuple[str, int]) -> None:
        query = wire.parse_query(data)
        if query is None:
            refusal = wire.refusal(data)
            if refusal:
                self._datagrams.sendto(refusal, client)
            return
        answers = self._own_answers(query, query.limit)
        if answers:
            turns = itertools.cycle(answers)
            self._datagrams.sendto(data[:2] + next(turns), client)
            if query.plain:
                if len(self._ready) >= _MOST_READY:
                    self._ready.clear()
                self._ready[data[2:]] = turns
            return

        def reply(answer: bytes) -> None:
            if 2 + len(answer) > query.limit:
                answer = wire.answer(query, cut=True)
            try:
                self._datagrams.sendto(data[:2] + answer, client)
            except OSError:
                return  # lost, as datagrams may be: its client asks again

        self._forward(query, data, reply, stream=False)

    def _own_answers(self, query: Query, limit: int) -> list[bytes]:
        """Whole answers, to be given in turn; empty when the question is none of ours."""
        records = self._own_records(query)
        if records is None:
            return []
        count = len(records)
        first = next(self._turn) % count if count else 0
        turns = [(first + turn) % count for turn in range(min(count, _MOST_TURNS))] or [0]
        return [wire.answer(query, records[turn:] + records[:turn], limit=limit) for turn in turns]

    def _own_records(self, query: Query) -> list[bytes] | None:
        if query.class_ != wire.IN:
            return None
        if query.kind == wire.PTR:
            name = self._table.pointer(self.id, query.name)
            return None if name is None else [wire.pointer_record(name)]
        addresses = self._table.addresses(self.id, query.name)
        if addresses is None:
            return None
        # A name that has nothing of the type asked for exists all the same: an answer without records.
        sizes = {wire.A: (4,), wire.AAAA: (16,), wire.ANY: (4, 16)}.get(query.kind, ())
        return [wire.address_record(address) for address in addresses if len(address) in sizes]

    def answer(self, data: bytes, reply: Reply) -> None:
        """A request that came by TCP."""
        query = wire.parse_query(data)
        if query is None:
            refusal = wire.refusal(data)
            if refusal:
                reply(refusal[2:])
            return
        answers = self._own_answers(query, 65535)
        if answers:
            reply(answers[0])
        else:
            self._forward(query, data, reply, stream=True)

    def _forward(self, query: Query, data: bytes, reply: Reply, *, stream: bool) -> None:
        if not self.outside or len(self._exchanges) >= _MOST_EXCHANGES:
            reply(wire.answer(query, code=wire.SERVFAIL))
            return
        addresses = self.upstreams or self._hosts()
        if addresses != self._kept_from:
            self._kept, self._kept_from = Kept(), addresses
        kept = self._kept.find(query)
        if kept is not None:
            reply(kept)
            return

        def done(exchange: Exchange, response: Response | None) -> None:
            self._exchanges.discard(exchange)
            if response is None:
                reply(wire.answer(query, code=wire.SERVFAIL))
            else:
                self._kept.keep(query, response)
                reply(response.data[2:])

        servers = [Upstream(address, self.path, ours=not self.upstreams) for address in addresses]
        exchange = Exchange(self._loop, self._grudges, servers, query, data, done, stream=stream)
        if not exchange.is_over:
            self._exchanges.add(exchange)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return
        if len(self._streams) >= _MOST_STREAMS:
            client.close()
            return
        client.setblocking(False)
        self._streams.add(Stream(self._loop, client, self, self._streams.discard))


class Stream:
    """A client's TCP connection: requests with their length in front, answered as they become known (RFC 7766)."""

    def __init__(self, loop: Loop, client: socket.socket, sandbox: Sandbox, closed: Callable[[Stream], None]) -> None:
        self._loop = loop
        self._client = client
        self._sandbox = sandbox
        self._closed = closed
        self._input = bytearray()
        self._output = bytearray()
        self._open = True
        self._timer = loop.later(_STREAM_IDLE, self.close)
        loop.watch(client.fileno(), self._ready)

    def close(self) -> None:
        """Close; answers that come later are dropped."""
        if self._open:
            self._open = False
            self._timer.cancel()
            self._loop.forget(self._client.fileno())
            self._client.close()
            self._closed(self)

    def _ready(self) -> None:
        if self._output:
            self._send()
        try:
            data = self._client.recv(65535)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._timer.cancel()
        self._timer = self._loop.later(_STREAM_IDLE, self.close)
        self._input += data
        while self._open and len(self._input) >= 2:
            size = 2 + int.from_bytes(self._input[:2], "big")
            if len(self._input) < size:
                break
            request = bytes(self._input[2:size])
            del self._input[:size]
            self._sandbox.answer(request, self._reply_to(request[:2]))

    def _reply_to(self, id_: bytes) -> Reply:
        def reply(answer: bytes) -> None:
            if self._open:
                self._output += (2 + len(answer)).to_bytes(2, "big") + id_ + answer
                self._send()

        return reply

    def _send(self) -> None:
        try:
            del self._output[: self._client.send(self._output)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if len(self._output) > _MOST_OUTPUT:
            self.close()
            return
        self._loop.watch(self._client.fileno(), self._ready, READ | WRITE if self._output else READ)
