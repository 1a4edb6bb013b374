"""Sees chosen packets wherever they are: at each interface of each namespace, and where the kernel drops them, and why.

Three small BPF programs sit at tracepoints: `net_dev_queue` (a packet is given to an interface to be sent),
`netif_receive_skb` (an interface has received one) and `kfree_skb` (one is dropped).  They know a packet by a random
number that it carries: a TCP packet as its sequence number, others at the start of what they carry.  Addresses and
ports may be rewritten on the way, that number stays; an answer repeats it, and an ICMP error quotes it.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
from dataclasses import dataclass

from fairlead.kernel.bpf import Program, Queue
from fairlead.kernel.btf import Types

_NO_REASON = ("SKB_NOT_DROPPED_YET", "SKB_DROP_REASON_NOT_SPECIFIED")

HEADER_BYTES = 120
"""Enough for an IPv6 header, an ICMPv6 error, and what it quotes."""

_RECORD = struct.Struct("=QQQIIIII4x")
"""Time, buffer, place in the kernel's code, kind, interface, namespace, reason, length; then the headers."""
_SIZE = _RECORD.size + HEADER_BYTES
_STACK = -_SIZE
_SCRATCH = _STACK - 8
_RECORDS = 4096
"""A frame that a bridge sends to all of 1000 ports makes 3000."""

SEND, RECEIVE, DROP = range(3)


@dataclass(frozen=True, slots=True)
class Mark:
    """What packets are known by."""

    cookie: int
    """32 bits."""
    udp_port: int = 0
    """Also all UDP packets to this port: the answers to a probe from it, which need not repeat anything."""


@dataclass(frozen=True, slots=True)
class Sight:
    """A packet seen somewhere."""

    time: int
    """Nanoseconds of CLOCK_MONOTONIC."""
    kind: int
    """`SEND`, `RECEIVE` or `DROP`."""
    buffer: int
    """The kernel's address of it: the same as long as it is not copied."""
    index: int
    """Of the interface; 0 where it has none (yet)."""
    namespace: int
    """Inode of the network namespace; 0 where it is not known."""
    length: int
    """Bytes, on the interface with its link-layer header or without, as the case may be."""
    headers: bytes
    """From the IP header on."""
    reason: str = ""
    """Of a drop: a name of `enum skb_drop_reason` without its prefix; empty where the kernel gives none."""
    place: int = 0
    """Of a drop: where in the kernel's code."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the fields are in this kernel."""

    head: int
    data: int
    network: int
    device: int
    length: int
    index: int
    net: int
    inode: int
    reasons: dict[int, str]
    gives_reason: bool


@functools.cache
def _layout() -> _Layout:
    types = Types.of_this_kernel()
    reasons = types.enumeration("skb_drop_reason")
    return _Layout(
        head=types.offset("sk_buff", "head"),
        data=types.offset("sk_buff", "data"),
        network=types.offset("sk_buff", "network_header"),
        device=types.offset("sk_buff", "dev"),
        length=types.offset("sk_buff", "len"),
        index=types.offset("net_device", "ifindex"),
        net=types.offset("net_device", "nd_net"),
        inode=types.offset("net", "ns", "inum"),
        reasons={n: "" if name in _NO_REASON else name.removeprefix("SKB_DROP_REASON_") for n, name in reasons.items()},
        # Linux 5.17; before that the third argument is missing.
        gives_reason=bool(reasons) and types.parameters("btf_trace_kfree_skb") >= 4,
    )


class PacketWatch:
    """Watches from when it is made until `close`.  Raises `MissingFeature` where this kernel does not let it."""

    def __init__(self, mark: Mark) -> None:
        self._layout = _layout()
        self._queue = Queue(_SIZE, _RECORDS)
        self._attached: list[int] = []
        try:
            for kind, tracepoint in enumerate(("net_dev_queue", "netif_receive_skb", "kfree_skb")):
                program = _program(self._layout, self._queue, kind, mark)
                self._attached.append(program.attach(tracepoint))
        except BaseException:
            self.close()
            raise

    def take(self) -> list[Sight]:
        """What was seen since the last time."""
        return [self._sight(record) for record in self._queue.take()]

    def _sight(self, record: bytes) -> Sight:
        time, buffer, place, kind, index, namespace, reason, length = _RECORD.unpack_from(record)
        return Sight(
            time=time,
            kind=kind,
            buffer=buffer,
            index=index,
            namespace=namespace,
            length=length,
            headers=record[_RECORD.size : _SIZE],
            reason=self._layout.reasons.get(reason, "") if kind == DROP else "",
            place=place,
        )

    @property
    def missed(self) -> bool:
        """Whether there was more to see than was kept."""
        return self._queue.full

    def close(self) -> None:
        """Stop watching."""
        while self._attached:
            os.close(self._attached.pop())
        self._queue.close()


def _program(layout: _Layout, queue: Queue, kind: int, mark: Mark) -> Program:
    """r6: the tracepoint's arguments; r7: the packet; r8: its IP header, then its interface."""
    program = Program()
    headers = _STACK + _RECORD.size
    program.move(6, 1)
    program.load(7, 6, 0, 8)
    if kind == RECEIVE:
        # The header's place is set just after this tracepoint; the data begins with it.
        program.read(_SCRATCH, 8, 7, layout.data)
        program.load(8, 10, _SCRATCH, 8)
    else:
        program.read(_SCRATCH, 8, 7, layout.head)
        program.load(8, 10, _SCRATCH, 8)
        program.read(_SCRATCH, 2, 7, layout.network)
        program.load(9, 10, _SCRATCH, 2)
        program.add_register(8, 9)
    program.read(headers, HEADER_BYTES, 8, 0)
    _match(program, headers, mark)
    program.time()
    program.store(10, _STACK, 0, 8)
    program.store(10, _STACK + 8, 7, 8)
    place, reason = (1, 2) if kind == DROP else (0, 0)
    program.set(1, 0)
    if place:
        program.load(1, 6, 8 * place, 8)
    program.store(10, _STACK + 16, 1, 8)
    program.set(1, kind)
    program.store(10, _STACK + 24, 1, 4)
    program.set(1, 0)
    if reason and layout.gives_reason:
        program.load(1, 6, 8 * reason, 8)
    program.store(10, _STACK + 36, 1, 4)
    program.set(1, 0)
    program.store(10, _STACK + 44, 1, 4)
    program.read(_STACK + 40, 4, 7, layout.length)
    program.read(_SCRATCH, 8, 7, layout.device)
    program.load(8, 10, _SCRATCH, 8)
    program.read(_STACK + 28, 4, 8, layout.index)
    program.read(_SCRATCH, 8, 8, layout.net)
    program.load(8, 10, _SCRATCH, 8)
    program.read(_STACK + 32, 4, 8, layout.inode)
    program.push(queue, _STACK)
    program.label("other")
    program.end()
    return program


def _match(program: Program, headers: int, mark: Mark) -> None:
    """Go on with packets that carry the mark, to the end with others.

    IP options and extension headers are not looked for: a probe has none.
    """
    cookie = _stored(mark.cookie)
    next_one = _stored((mark.cookie + 1) & 0xFFFFFFFF)
    program.load(1, 10, headers, 1)
    program.mask(1, 0xF0)
    program.jump_equal(1, 0x60, "six")
    program.jump_unequal(1, 0x40, "other")
    for length, protocol in ((20, 9), (40, 6)):
        if length == 40:
            program.label("six")
        quoted = 8 + length  # An ICMP error has a header of eight bytes, then the IP header of what it is about.
        places = ((4, cookie), (8, next_one), (8, cookie), (quoted + 4, cookie), (quoted + 8, cookie))
        for place, value in (*places, (quoted + 8, next_one)):
            program.load(1, 10, headers + length + place, 4)
            program.jump_equal(1, value, "ours")
        if mark.udp_port:
            program.load(1, 10, headers + protocol, 1)
            program.jump_unequal(1, socket.IPPROTO_UDP, "other")
            program.load(1, 10, headers + length + 2, 2)
            program.jump_equal(1, socket.htons(mark.udp_port), "ours")
        program.jump("other")
    program.label("ours")


def _stored(value: int) -> int:
    """A number in network order, as a load of four bytes finds it here."""
    return int(struct.unpack("=I", struct.pack("!I", value))[0])
