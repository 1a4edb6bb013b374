"""A DNS server for tests: ``python upstream.py ADDRESS [answer|nxdomain|servfail|refused|silent]``.

It prints ``TRANSPORT CLIENT NAME TYPE`` for each request, whatever it then does.  Answering, it knows every name by its
own address, but for ``nx.test`` (not there, for 300 s), ``short.test`` (1 s), ``big.test`` (60 addresses, too many for
UDP).
"""

from __future__ import annotations

import socket
import sys
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

ADDRESS, MODE = sys.argv[1], (sys.argv[2:] or ["answer"])[0]


def respond(data: bytes, client: str, transport: str) -> bytes | None:
    """The answer, or None for silence."""
    query = dns.message.from_wire(data)
    question = query.question[0]
    name = question.name.to_text(omit_final_dot=True)
    print(transport, client, name, question.rdtype.name, flush=True)
    if MODE == "silent":
        return None
    response = dns.message.make_response(query, recursion_available=True)
    if MODE != "answer":
        response.set_rcode(dns.rcode.from_text(MODE))
    elif name.lower() == "nx.test":
        response.set_rcode(dns.rcode.NXDOMAIN)
        soa = "ns.test. admin.test. 1 3600 600 86400 300"
        response.authority.append(dns.rrset.from_text("test.", 300, "IN", "SOA", soa))
    elif question.rdtype.name == "A" and name.lower() == "big.test":
        if transport == "udp":
            response.flags |= dns.flags.TC
        else:
            addresses = [f"203.0.113.{i}" for i in range(1, 61)]
            response.answer.append(dns.rrset.from_text(question.name, 300, "IN", "A", *addresses))
    elif question.rdtype.name == "A" and ":" not in ADDRESS:
        life = 1 if name.lower() == "short.test" else 300
        response.answer.append(dns.rrset.from_text(question.name, life, "IN", "A", ADDRESS))
    return response.to_wire()


def serve_streams(listener: socket.socket) -> None:
    """One request a connection."""
    while True:
        client, peer = listener.accept()
        data = client.recv(65535)
        if len(data) > 2 and (answer := respond(data[2:], peer[0], "tcp")):
            client.sendall(len(answer).to_bytes(2, "big") + answer)
        client.close()


def main() -> None:
    family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET
    streams = socket.create_server((ADDRESS, 53), family=family)
    threading.Thread(target=serve_streams, args=(streams,), daemon=True).start()
    datagrams = socket.socket(family, socket.SOCK_DGRAM)
    datagrams.bind((ADDRESS, 53))
    print("ready", flush=True)
    while True:
        data, client = datagrams.recvfrom(65535)
        if answer := respond(data, client[0], "udp"):
            datagrams.sendto(answer, client)


main()
