"""Which rule keeps a question for a hardware address, or its answer, from arriving: it is asked again, and watched.

Only for a way that is broken there: on a bridge with hundreds of ports each question is a packet at every one of them.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

from fairlead.kernel import Kernel
from fairlead.kernel.nftrace import Event, Ruleset, RuleWatch, questions, read_ruleset
from fairlead.kernel.rtnetlink import forget_neighbour
from fairlead.model import Address
from fairlead.see.trace.model import Hop, Leg, Place
from fairlead.see.trace.survey import Survey
from fairlead.see.trace.way import judged_by

_PATIENCE = 0.3
"""Seconds for the question and its answer."""
_PAUSE = 0.02
_DISCARD = 9
"""RFC 863."""

_ETHERNET = b"\0\1"
"""With which ARP begins (RFC 826)."""

_Watched = tuple[Place, Ruleset, RuleWatch]


def dropped(kernel: Kernel, survey: Survey, leg: Leg) -> Hop | None:
    """The rule that drops the question of a leg for its next hop, or the answer; None if no rule does.

    Raises `FairleadError` or `OSError` where it cannot be watched.
    """
    asked = ip_address(leg.next_hop)
    ends = (leg.namespace, *((leg.bridge[0],) if leg.bridge else ()), leg.holders[0][0])
    watched: list[_Watched] = []
    with contextlib.ExitStack() as stack:
        for inode in dict.fromkeys(ends):
            place = survey.snapshot(inode).place
            with kernel.namespaces.entered(place.path):
                ruleset = read_ruleset()
                if ruleset.families:
                    watch = RuleWatch(questions(asked), ruleset)
                    stack.callback(watch.close)
                    watched.append((place, ruleset, watch))
        if not watched:
            return None
        with _asking(kernel, survey, leg, asked):
            deadline = time.monotonic() + _PATIENCE
            while time.monotonic() < deadline:
                time.sleep(_PAUSE)
                if found := next(filter(None, (_drop(one, asked) for one in watched)), None):
                    place, ruleset, event, hook = found
                    return judged_by(
                        ruleset,
                        event,
                        direction=leg.direction,
                        namespace=place.inode,
                        hook=hook,
                        interface=survey.name(place.inode, event.index_in),
                        source=leg.source,
                        destination=leg.next_hop,
                    )
    return None


@contextlib.contextmanager
def _asking(kernel: Kernel, survey: Survey, leg: Leg, asked: Address) -> Iterator[None]:
    """The kernel asks, at once: by a datagram that nobody wants, with what it asked before forgotten, and after."""
    asker = survey.snapshot(leg.namespace)
    link = asker.named(leg.route.interface)
    if link is None:
        yield
        return
    with kernel.socket(asker.place.path) as netlink:
        forget = [forget_neighbour(link.index, asked)]
        netlink.send(forget)
        with kernel.namespaces.entered(asker.place.path):
            sender = socket.socket(socket.AF_INET if asked.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with sender, contextlib.suppress(OSError):
            sender.setblocking(False)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode())
            sender.sendto(b"", (str(asked), _DISCARD))
        try:
            yield
        finally:
            netlink.send(forget)


def _drop(watched: _Watched, asked: Address) -> tuple[Place, Ruleset, Event, str] | None:
    """The first event since the last look that is the end of a question or answer, and the hook at which it was."""
    place, ruleset, watch = watched
    hooks: dict[int, str] = {}
    for event in watch.take():
        if event.headers and is_question(event.headers, asked):
            hooks[event.identity] = ""
        if event.identity not in hooks:
            continue  # Somebody else follows packets, too.
        chain = ruleset.chains.get((event.family, event.table, event.chain))
        hooks[event.identity] = chain.hook if chain and chain.hook else hooks[event.identity]
        if event.kind in ("rule", "policy") and event.verdict == "drop":
            return place, ruleset, event, hooks[event.identity]
    return None


def is_question(headers: bytes, asked: Address) -> bool:
    """Whether a packet asks for the hardware address of this one, or tells it.

    Of IPv6 the kernel reports less than the whole: that it is Neighbour Discovery must do.
    """
    if asked.version == 4:
        return headers[:2] == _ETHERNET and asked.packed in (headers[14:18], headers[24:28])
    return headers[6:7] == b"\x3a" and headers[40:41] in (b"\x87", b"\x88")
