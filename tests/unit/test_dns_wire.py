"""DNS messages, checked with dnspython, which knows nothing of ours."""

from __future__ import annotations

import struct

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.dns import wire


def ask(name: str = "web", kind: str = "A", **options: object) -> bytes:
    return dns.message.make_query(name, kind, id=0x1234, **options).to_wire()  # type: ignore[arg-type]


def read(data: bytes, answer: bytes) -> dns.message.Message:
    """An answer as a client reads it; raises if it does not belong to the request."""
    message = dns.message.from_wire(data[:2] + answer)
    assert dns.message.from_wire(data).is_response(message)
    return message


def test_a_request() -> None:
    query = wire.parse_query(ask("WeB.Net1.", "AAAA"))
    assert query
    assert (query.name, query.kind, query.class_) == ("web.net1", wire.AAAA, wire.IN)
    assert (query.opt, query.limit) == (False, 512)
    assert query.question == b"\x03WeB\x04Net1\0\0\x1c\0\x01"


def test_a_request_with_edns() -> None:
    query = wire.parse_query(ask(use_edns=0, payload=1232))
    assert query
    assert (query.opt, query.limit, query.plain) == (True, 1232, True)
    small = wire.parse_query(ask(use_edns=0, payload=100))
    assert small
    assert small.limit == 512
    cookie = wire.parse_query(ask(use_edns=0, options=[dns.edns.GenericOption(10, b"12345678")]))
    assert cookie
    assert not cookie.plain
    wants, plain = (wire.parse_query(ask(use_edns=0, want_dnssec=wanted)) for wanted in (True, False))
    assert wants
    assert plain
    assert wants.asked != plain.asked


def test_a_dot_in_a_label_is_none_between_labels() -> None:
    data = ask()[:12] + b"\x05a.net\0\0\x01\0\x01"
    query = wire.parse_query(data)
    assert query
    assert query.name == "a\\.net"


@pytest.mark.parametrize(
    ("what", "data"),
    [
        ("no header", b"12345678901"),
        ("no question", ask()[:12]),
        ("a name that does not end", ask()[:12] + b"\x03web"),
        ("a label that is too long", ask()[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1"),
        ("a name that is too long", ask()[:12] + b"\x3f" + (b"a" * 63 + b"\x3f") * 4 + b"a" * 63 + b"\0\0\1\0\1"),
        ("a pointer to itself", ask()[:12] + b"\xc0\x0c\0\1\0\1"),
        ("no type", ask()[:12] + b"\x03web\0\0"),
        ("two questions", ask()[:4] + b"\0\2" + ask()[6:]),
        ("an answer already", ask()[:6] + b"\0\1" + ask()[8:]),
        ("additional records that are not there", ask()[:10] + b"\0\2" + ask()[12:]),
        ("many additional records", ask()[:10] + b"\xff\xff" + ask()[12:]),
        ("an update", ask()[:2] + b"\x28\0" + ask()[4:]),
        ("a response", ask()[:2] + b"\x81\x80" + ask()[4:]),
    ],
)
def test_no_request(what: str, data: bytes) -> None:
    assert wire.parse_query(data) is None, what
    refusal = wire.refusal(data)
    if what in ("no header", "a response"):
        assert refusal is None
    else:
        assert refusal
        message = dns.message.from_wire(refusal)
        assert message.id == int.from_bytes(data[:2], "big")
        assert message.rcode() == (dns.rcode.NOTIMP if what == "an update" else dns.rcode.FORMERR)


def test_an_answer() -> None:
    data = ask("WEB")
    query = wire.parse_query(data)
    assert query
    records = [wire.address_record(bytes((10, 0, 0, number))) for number in (1, 2)]
    message = read(data, wire.answer(query, records))
    assert message.flags == dns.flags.QR | dns.flags.RD | dns.flags.RA
    assert [rrset.to_text() for rrset in message.answer] == ["WEB. 600 IN A 10.0.0.1\nWEB. 600 IN A 10.0.0.2"]
    assert message.edns == -1


def test_an_answer_of_the_other_kinds() -> None:
    data = ask("web", "AAAA", use_edns=0)
    query = wire.parse_query(data)
    assert query
    message = read(data, wire.answer(query, [wire.address_record(b"\xfd" + b"\0" * 14 + b"\x01")]))
    assert message.answer[0].to_text() == "web. 600 IN AAAA fd00::1"
    assert (message.edns, message.payload) == (0, 4096)
    data = ask("2.0.0.10.in-addr.arpa", "PTR")
    query = wire.parse_query(data)
    assert query
    message = read(data, wire.answer(query, [wire.pointer_record("web.net1")]))
    assert message.answer[0].to_text() == "2.0.0.10.in-addr.arpa. 600 IN PTR web.net1."


def test_a_refusal_of_the_question() -> None:
    data = ask()
    query = wire.parse_query(data)
    assert query
    assert read(data, wire.answer(query, code=wire.SERVFAIL)).rcode() == dns.rcode.SERVFAIL


@pytest.mark.parametrize(("limit", "records", "kept"), [(512, 30, 30), (512, 31, 30), (512, 500, 30), (60, 9, 2)])
def test_what_does_not_fit_is_left_out(limit: int, records: int, kept: int) -> None:
    data = ask()
    query = wire.parse_query(data)
    assert query
    answer = wire.answer(
        query, [wire.address_record(number.to_bytes(4, "big")) for number in range(records)], limit=limit
    )
    assert 2 + len(answer) <= limit
    message = read(data, answer)
    assert len(message.answer[0]) == kept
    assert bool(message.flags & dns.flags.TC) == (records > kept)


def response(*, name: str = "far.test.", code: str = "NOERROR", **options: object) -> tuple[bytes, bytes]:
    """A request, and what a server says to it."""
    query = dns.message.make_query(name, "A", **options)  # type: ignore[arg-type]
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.from_text(code))
    if code == "NOERROR":
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1", "192.0.2.2"))
        answer.answer.append(dns.rrset.from_text("other.test.", 305, "IN", "A", "192.0.2.3"))
    else:
        answer.authority.append(dns.rrset.from_text("test.", 900, "IN", "SOA", "a. b. 1 2 3 4 60"))
    return query.to_wire(), answer.to_wire()


def parsed(request: bytes, answer: bytes) -> wire.Response | None:
    query = wire.parse_query(request)
    assert query
    return wire.parse_response(answer, query.id, query.question)


def test_a_response_grows_old() -> None:
    request, answer = response(use_edns=0)
    found = parsed(request, answer)
    assert found
    assert (found.code, found.lifetime) == (wire.NOERROR, 300)
    aged = dns.message.from_wire(answer[:2] + found.aged(100))
    assert sorted(rrset.ttl for rrset in aged.answer) == [200, 205]
    assert aged.edns == 0  # an OPT's time to live is none, and stays


def test_that_there_is_nothing_is_kept_as_long_as_its_zone_says() -> None:
    found = parsed(*response(code="NXDOMAIN"))
    assert found
    assert (found.code, found.lifetime) == (wire.NXDOMAIN, 60)


@pytest.mark.parametrize("code", ["SERVFAIL", "REFUSED"])
def test_a_failure_is_not_kept(code: str) -> None:
    found = parsed(*response(code=code))
    assert found
    assert found.lifetime == 0


def test_what_is_cut_is_not_kept() -> None:
    request, answer = response()
    found = parsed(request, answer[:2] + struct.pack("!H", 0x8380) + answer[4:])
    assert found
    assert (found.truncated, found.lifetime) == (True, 0)


def test_forgeries() -> None:
    request, answer = response()
    other, _ = response(name="other.test.")
    assert parsed(request, bytes((answer[0] ^ 1,)) + answer[1:]) is None
    assert parsed(request, request) is None
    assert parsed(other[:2] + request[2:], answer) is None or other[:2] == request[:2]
    query = wire.parse_query(other)
    assert query
    assert wire.parse_response(answer, int.from_bytes(answer[:2], "big"), query.question) is None


def test_a_refusal_without_a_question() -> None:
    request, _ = response()
    found = parsed(request, request[:2] + struct.pack("!HHHHH", 0x8185, 0, 0, 0, 0))
    assert found
    assert found.code == wire.REFUSED


@given(st.binary(max_size=600))
def test_any_bytes_are_read_or_not_but_never_raise(data: bytes) -> None:
    wire.parse_query(data)
    wire.refusal(data)
    wire.parse_response(data, 0, b"\0\0\1\0\1")


@given(st.data())
def test_any_change_to_a_message_is_read_or_not(data: st.DataObject) -> None:
    request, answer = response(use_edns=0)
    for original in (request, answer):
        changed = bytearray(original)
        for _ in range(data.draw(st.integers(1, 4))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        message = bytes(changed[: data.draw(st.integers(0, len(changed)))])
        if query := wire.parse_query(message):
            dns.message.from_wire(message[:2] + wire.answer(query, [wire.address_record(b"\1\2\3\4")], limit=512))
        wire.refusal(message)
        found = wire.parse_response(message, int.from_bytes(request[:2], "big"), wire.parse_query(request).question)  # type: ignore[union-attr]
        if found:
            assert len(found.aged(1000)) == len(message) - 2
