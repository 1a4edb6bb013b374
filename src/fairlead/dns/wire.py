"""DNS messages as bytes: what the resolver must understand of them, and the answers it makes (RFC 1035, 6891).

Nothing here raises on hostile input: what cannot be read is None.
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

A, PTR, SOA, AAAA, OPT, ANY = 1, 12, 6, 28, 41, 255
IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)

TTL = 600
"""Seconds that our own answers may be kept, as Docker's."""

LEAST_UDP = 512
"""What every client takes over UDP (RFC 1035, 4.2.1); more only if it says so (RFC 6891)."""

OWN_UDP = 4096
"""The greatest request that we take over UDP."""

_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
_QR, _OPCODE, _TC, _RD, _RA, _CD, _RCODE = 0x8000, 0x7800, 0x0200, 0x0100, 0x0080, 0x0010, 0x000F
_DO = 0x8000
"""In the time to live of an OPT record (RFC 3225)."""
_POINTER = 0xC0
_FIRST_NAME = b"\xc0\x0c"
"""A pointer to the name of the question, which is always at offset 12."""
_OWN_OPT = b"\0" + _RECORD.pack(OPT, OWN_UDP, 0, 0)


class Query:
    """A request with one question.  `name` is lower-case without the last dot; dots inside a label are escaped."""

    __slots__ = ("asked", "class_", "flags", "id", "kind", "limit", "name", "opt", "plain", "question")

    def __init__(self, id_: int, flags: int, name: str, kind: int, class_: int, question: bytes) -> None:
        self.id = id_
        self.flags = flags
        self.name = name
        self.kind = kind
        self.class_ = class_
        self.question = question
        """As it came, in the client's case, to be repeated in the answer."""
        self.limit = LEAST_UDP
        """Bytes that the client takes over UDP."""
        self.opt = False
        self.plain = True
        """Without EDNS options, such as a cookie, which differ from one request to the next."""
        self.asked = flags & (_RD | _CD)
        """What else an answer depends on: recursion, checking, and whether DNSSEC's records are wanted."""


def parse_query(data: bytes) -> Query | None:
    """A request that can be answered, or None; `refusal` then says what may be sent instead."""
    if len(data) < 12:
        return None
    id_, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if flags & (_QR | _OPCODE) or questions != 1 or answers or authorities or additionals > 2:
        return None
    labels = []
    offset = 12
    while True:
        if offset >= len(data):
            return None
        length = data[offset]
        if length == 0:
            break
        if length > 63 or offset + length - 12 > 253:
            return None  # a pointer has nothing to point to here
        labels.append(data[offset + 1 : offset + 1 + length].lower().replace(b".", b"\\."))
        offset += 1 + length
    end = offset + 5
    if end > len(data):
        return None
    kind, class_ = struct.unpack_from("!HH", data, offset + 1)
    query = Query(id_, flags, b".".join(labels).decode("latin-1"), kind, class_, data[12:end])
    for _ in range(additionals):
        record = _record(data, end)
        if record is None:
            return None
        kind, class_, extended, start, end = record
        if kind == OPT:
            query.opt = True
            query.plain = end == start
            query.asked |= extended & _DO
            query.limit = max(LEAST_UDP, class_)
    return query


def refusal(data: bytes) -> bytes | None:
    """The answer to a request that `parse_query` cannot read: an error without a question; None where none is due."""
    if len(data) < 12:
        return None
    id_, flags = struct.unpack_from("!HH", data)
    if flags & _QR:
        return None
    code = NOTIMP if flags & _OPCODE else FORMERR
    return _HEADER.pack(id_, _QR | flags & (_OPCODE | _RD) | _RA | code, 0, 0, 0, 0)


def answer(
    query: Query, records: Sequence[bytes] = (), *, code: int = NOERROR, limit: int = 65535, cut: bool = False
) -> bytes:
    """The answer without its first two bytes, the id.

    Records beyond `limit` bytes are left out, with a note (TC) that there are more; `cut` says so in any case.
    """
    opt = _OWN_OPT if query.opt else b""
    room = limit - 12 - len(query.question) - len(opt)
    kept = list(records)
    while kept and sum(map(len, kept)) > room:
        kept.pop()
        cut = True
    flags = _QR | query.flags & (_RD | _CD) | _RA | (_TC if cut else 0) | code
    header = _HEADER.pack(0, flags, 1, len(kept), 0, 1 if opt else 0)
    return header[2:] + query.question + b"".join(kept) + opt


def address_record(packed: bytes) -> bytes:
    """An address of the question's name."""
    return _FIRST_NAME + _RECORD.pack(A if len(packed) == 4 else AAAA, IN, TTL, len(packed)) + packed


def pointer_record(name: str) -> bytes:
    """The name that belongs to the question's address."""
    labels = [label[:63].encode("latin-1", "replace") for label in name.split(".") if label]
    encoded = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    return _FIRST_NAME + _RECORD.pack(PTR, IN, TTL, len(encoded)) + encoded


class Response:
    """What an upstream said, as far as it must be understood to be passed on and kept."""

    __slots__ = ("code", "data", "lifetime", "times", "truncated")

    def __init__(self, data: bytes, code: int, truncated: bool, times: list[int], lifetime: int) -> None:
        self.data = data
        self.code = code
        self.truncated = truncated
        self.times = times
        """Where in `data` the records' times to live are."""
        self.lifetime = lifetime
        """Seconds that the whole may be kept; 0: not at all."""

    def aged(self, seconds: int) -> bytes:
        """The message without its id, `seconds` later."""
        data = bytearray(self.data)
        for offset in self.times:
            (left,) = struct.unpack_from("!I", data, offset)
            struct.pack_into("!I", data, offset, max(0, left - seconds))
        return bytes(data[2:])


def parse_response(data: bytes, id_: int, question: bytes) -> Response | None:
    """The answer to a question of ours; None if this is something else, such as a forgery that guesses."""
    if len(data) < 12 or data[:2] != id_.to_bytes(2, "big"):
        return None
    _, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(data)
    if not flags & _QR or questions > 1:
        return None
    code = flags & _RCODE
    if questions == 0:
        # Some servers refuse with the header alone.
        return Response(data, code, False, [], 0) if code not in (NOERROR, NXDOMAIN) else None
    if data[12 : 12 + len(question)].lower() != question.lower():
        return None
    truncated = bool(flags & _TC)
    times: list[int] = []
    lives: list[int] = []
    negative = 0
    end = 12 + len(question)
    for number in range(answers + authorities + additionals):
        record = _record(data, end)
        if record is None:
            return Response(data, code, truncated, [], 0)  # for the client to judge; not for us to keep
        kind, _, life, start, end = record
        if kind == OPT:
            continue
        times.append(start - 6)
        lives.append(life)
        if kind == SOA and number >= answers and end - start >= 20:
            # How long it may be known that there is nothing (RFC 2308, 5).
            negative = min(life, int.from_bytes(data[end - 4 : end], "big"))
    lifetime = min(lives, default=0) if answers and code == NOERROR else negative
    if truncated or code not in (NOERROR, NXDOMAIN):
        lifetime = 0
    return Response(data, code, truncated, times, lifetime)


def _record(data: bytes, offset: int) -> tuple[int, int, int, int, int] | None:
    """Type, class, time to live, start and end of the data of the record at `offset`."""
    while True:
        if offset >= len(data):
            return None
        length = data[offset]
        if length == 0:
            offset += 1
            break
        if length >= _POINTER:
            offset += 2  # it ends a name, and is never followed: there is no loop to be caught in
            break
        if length > 63:
            return None
        offset += 1 + length
    if offset + 10 > len(data):
        return None
    kind, class_, life, size = _RECORD.unpack_from(data, offset)
    if offset + 10 + size > len(data):
        return None
    return kind, class_, life & 0x7FFFFFFF, offset + 10, offset + 10 + size
