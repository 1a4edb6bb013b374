"""From what was seen (packets at interfaces, rules that judged them) to the way that a probe went.  Pure.

Packets at interfaces carry the kernel's time; reports of rules do not, but come in order, and each tells its hook.  So
within a namespace a report finds its place: after the interface that the packet came in by, before the one that it
leaves by.
"""

from __future__ import annotations

import dataclasses
import re
import socket
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address

import msgspec

from fairlead.kernel.legacy import LegacyRule
from fairlead.kernel.nftrace import Event, Rule, Ruleset
from fairlead.kernel.packets import DROP, RECEIVE, SEND, Mark, Sight
from fairlead.see.trace.model import Direction, Hop, Leg

_ICMP_ERRORS = {4: (3, 4, 5, 11, 12), 6: (1, 2, 3, 4)}
_ECHO_REPLY = {4: 0, 6: 129}
_KINDS = {SEND: "send", RECEIVE: "receive", DROP: "drop"}
_HARMLESS = ("SKB_CONSUMED", "QUEUE_PURGE", "SOCKET_CLOSE")
"""Reasons of drops that are an end, not a fault: a socket was closed with the packet in its queue."""
_COUNTER = re.compile(r"counter packets \d+ bytes \d+ ")
_DOCKERS = re.compile(r'"(docker0|br-[0-9a-f]{12})"')
"""Bridges as Docker names them; Fairlead's rules for its own have a comment."""
_IPTABLES = {"filter", "nat", "mangle", "raw", "security"}


@dataclass(frozen=True, slots=True)
class Header:
    """What the start of a packet says."""

    version: int
    direction: Direction
    source: str
    destination: str
    icmp: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a probe: packets, and rules by namespace, with that namespace's rules."""

    sights: Sequence[Sight]
    events: Mapping[int, Sequence[Event]]
    rulesets: dict[int, Ruleset]
    mark: Mark
    began: int
    """When the probe was sent, in nanoseconds of CLOCK_MONOTONIC."""
    interface: Callable[[int, int], str]
    """The name of a link, by namespace and index."""
    function: Callable[[int], str] = lambda place: ""
    """The kernel's function at a place in its code."""
    legacy: Mapping[int, Sequence[LegacyRule]] = field(default_factory=dict)
    """The rules of iptables-legacy that met packets meanwhile, by namespace."""
    source: int = 0
    """The namespace of the probe: where what was dropped before it had an interface was."""


def way_of(seen: Seen, *, answered: bool) -> tuple[Hop, ...]:
    """The hops of a probe, its answer, and errors about it, in the order in which they happened."""
    sights = _first_attempt([(sight, header) for sight in seen.sights if (header := parse(sight.headers, seen.mark))])
    if not sights and not seen.events:
        return ()
    by_namespace: dict[tuple[Direction, int], list[tuple[float, Hop]]] = {}
    last = seen.source
    for sight, header in sights:
        if sight.kind == DROP and (answered or sight.reason in _HARMLESS):
            continue  # Copies that were not wanted, or the packet itself at the end of its life.
        namespace = sight.namespace or last
        last = namespace
        so_far = by_namespace.setdefault((header.direction, namespace), [])
        time, hop = _sighted(seen, sight, header)
        if hop.namespace != namespace:
            hop = msgspec.structs.replace(hop, namespace=namespace)
        answered_before = any(
            found and found[-1][0] > so_far[-1][0]
            for (direction, inode), found in by_namespace.items()
            if so_far and inode == namespace and direction != header.direction
        )
        if sight.kind == DROP and so_far and (sight.reason == "NO_SOCKET" or answered_before):
            # The kernel answers or refuses first, and throws the request away after that.
            time, hop = so_far[-1][0] + 1e-3, msgspec.structs.replace(hop, time=None)
        so_far.append((time, hop))
    _without_strangers(by_namespace)
    for namespace, events in seen.events.items():
        for direction, rules in _judged(seen, namespace, events).items():
            _weave(seen, by_namespace.setdefault((direction, namespace), []), rules)
    for found in by_namespace.values():
        _with_legacy(seen, found)
    hops = [timed for found in by_namespace.values() for timed in _with_nat(found)]
    hops.sort(key=lambda timed: timed[0])
    return tuple(hop for _, hop in hops)


def parse(headers: bytes, mark: Mark) -> Header | None:
    """A packet of the probe `mark`; None where it cannot be one."""
    version = headers[0] >> 4 if headers else 0
    if version == 4 and len(headers) >= 28:
        length, protocol = (headers[0] & 0xF) * 4, headers[9]
        source, destination = ip_address(headers[12:16]), ip_address(headers[16:20])
    elif version == 6 and len(headers) >= 48:
        length, protocol = 40, headers[6]
        source, destination = ip_address(headers[8:24]), ip_address(headers[24:40])
    else:
        return None
    body = headers[length:]
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) and len(body) >= 8:
        if not _is_marked(protocol, body, mark):
            return None
        from_port, to_port, sequence = struct.unpack_from("!HHI", body)
        first = sequence == mark.cookie if protocol == socket.IPPROTO_TCP else to_port != mark.udp_port
        direction: Direction = "request" if first else "reply"
        brackets = "[{}]:{}" if version == 6 else "{}:{}"
        return Header(version, direction, brackets.format(source, from_port), brackets.format(destination, to_port))
    if protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) and len(body) >= 2:
        kind, code = body[0], body[1]
        direction = "reply" if kind == _ECHO_REPLY[version] else "request"
        if kind in _ICMP_ERRORS[version]:
            direction = "error"
        elif not _is_marked(protocol, body, mark):
            return None
        return Header(version, direction, str(source), str(destination), f"{kind}/{code}")
    return None


def _is_marked(protocol: int, body: bytes, mark: Mark) -> bool:
    """Whether a packet carries the mark: reports of rules come for everybody's traced packets.

    Of what an ICMP error quotes, those have too little to tell.
    """
    cookie = struct.pack("!I", mark.cookie)
    if protocol == socket.IPPROTO_TCP:
        return body[4:8] == cookie or body[8:12] == struct.pack("!I", (mark.cookie + 1) & 0xFFFFFFFF)
    if protocol == socket.IPPROTO_UDP and body[2:4] == struct.pack("!H", mark.udp_port):
        return True
    return body[8:12] == cookie


def _first_attempt(sights: list[tuple[Sight, Header]]) -> list[tuple[Sight, Header]]:
    """Without what came after a TCP connection was tried a second time."""
    first: tuple[int, int, int] | None = None
    for number, (sight, header) in enumerate(sights):
        if header.direction == "request" and sight.kind == SEND:
            here = (sight.namespace, sight.index, sight.length)
            if first == here and sight.time - sights[0][0].time > 150_000_000:
                return sights[:number]
            first = first or here
    return sights


def _sighted(seen: Seen, sight: Sight, header: Header) -> tuple[float, Hop]:
    microseconds = (sight.time - seen.began) / 1000
    hop = Hop(
        direction=header.direction,
        namespace=sight.namespace,
        kind=_KINDS[sight.kind],  # type: ignore[arg-type]
        interface=seen.interface(sight.namespace, sight.index),
        time=microseconds,
        source=header.source,
        destination=header.destination,
        length=sight.length,
        icmp=header.icmp,
        reason=sight.reason,
        function=seen.function(sight.place) if sight.kind == DROP and not sight.reason else "",
    )
    return microseconds, hop


def _without_strangers(found: dict[tuple[Direction, int], list[tuple[float, Hop]]]) -> None:
    """Leave out namespaces that a bridge flooded with a frame which was not for them."""
    for key, hops in list(found.items()):
        kinds = {hop.kind for _, hop in hops}
        if kinds == {"receive", "drop"} and all(hop.reason == "OTHERHOST" for _, hop in hops if hop.kind == "drop"):
            others = [hop for (direction, _), more in found.items() if direction == key[0] for _, hop in more]
            if len({hop.namespace for hop in others if hop.kind == "receive"}) > 2:
                del found[key]


def _judged(seen: Seen, namespace: int, events: Iterable[Event]) -> dict[Direction, list[tuple[Event, Hop]]]:
    """The rules that decided something, by the direction of the packet."""
    ruleset = seen.rulesets.get(namespace, Ruleset(""))
    headers: dict[int, Header] = {}
    links: dict[int, tuple[int, int]] = {}
    hooks: dict[int, str] = {}
    found: dict[Direction, list[tuple[Event, Hop]]] = {}
    for event in events:
        if event.headers and (header := parse(event.headers, seen.mark)):
            headers[event.identity] = header
            links[event.identity] = (event.index_in, event.index_out)
        chain = ruleset.chains.get((event.family, event.table, event.chain))
        if chain and chain.hook:
            hooks[event.identity] = chain.hook
        known = headers.get(event.identity)
        decided = event.kind == "rule" and event.verdict not in ("continue", "return", "break")
        if not known or not (decided or (event.kind == "policy" and event.verdict == "drop")):
            continue
        index_in, index_out = links[event.identity]
        hop = judged_by(
            ruleset,
            event,
            direction=known.direction,
            namespace=namespace,
            interface=seen.interface(namespace, index_in) if index_in else "",
            source=known.source,
            destination=known.destination,
            hook=hooks.get(event.identity, ""),
        )
        placed = dataclasses.replace(event, index_in=index_in, index_out=index_out)
        found.setdefault(known.direction, []).append((placed, hop))
    return found


def judged_by(
    ruleset: Ruleset,
    event: Event,
    *,
    direction: Direction,
    namespace: int,
    interface: str,
    source: str,
    destination: str,
    hook: str,
) -> Hop:
    """The hop of a rule, or of a chain's policy, that decided over a packet."""
    rule = ruleset.rules.get((event.family, event.table, event.chain, event.handle))
    text = _COUNTER.sub("", rule.text) if rule else ""
    return Hop(
        direction=direction,
        namespace=namespace,
        kind="rule",
        interface=interface,
        source=source,
        destination=destination,
        family=event.family,
        table=event.table,
        chain=event.chain,
        hook=hook,
        handle=event.handle,
        text="policy drop" if event.kind == "policy" else text,
        verdict=event.verdict,
        owner=owner_of(ruleset, event.family, event.table, event.chain, rule),
    )


def owner_of(ruleset: Ruleset, family: str, table: str, chain: str, rule: Rule | None) -> str:
    """Whose a rule is, as far as its names tell."""
    text = rule.text if rule else ""
    names = {one.name for one in ruleset.chains.values() if (one.family, one.table) == (family, table)}
    if table == "fairlead" or '"fairlead:' in text:
        return "Fairlead"
    if chain == "DOCKER-USER":
        return "the administrator"  # Docker leaves it to users.
    if table == "firewalld":
        return "firewalld"
    if table.startswith("docker-") or chain.startswith("DOCKER") or "DOCKER" in text:
        return "Docker"
    if any(name.startswith("DOCKER") for name in names) and _DOCKERS.search(text):
        return "Docker"
    for prefix, owner in (
        ("ufw", "ufw"),
        ("KUBE-", "Kubernetes"),
        ("CNI-", "CNI"),
        ("NETAVARK", "podman"),
        ("LIBVIRT", "libvirt"),
        ("f2b-", "fail2ban"),
    ):
        if chain.startswith(prefix) or f"jump {prefix}" in text or table == prefix.lower().rstrip("-"):
            return owner
    if family in ("ip", "ip6") and table in _IPTABLES:
        if not rule and any(name.startswith("ufw-") for name in names):
            return "ufw"
        if not rule and chain == "FORWARD" and any(name.startswith("DOCKER") for name in names):
            return "iptables, set by Docker"
        return "iptables"
    return "the administrator"


def _weave(seen: Seen, sights: list[tuple[float, Hop]], rules: list[tuple[Event, Hop]]) -> None:
    """Put rules between the sights of one namespace and direction."""
    woven: list[tuple[float, Hop]] = []
    place = 0
    tiny = 0.0
    known: list[Hop] = []
    for event, rule in rules:
        if rule in known:
            continue  # The kernel tried a second time.
        known.append(rule)
        if rule.hook in ("prerouting", "ingress") or (not place and rule.hook in ("input", "forward")):
            place = _after_receipt(sights, place, rule.interface)
        elif rule.hook in ("postrouting", "egress"):
            out = seen.interface(rule.namespace, event.index_out)
            sent = [n for n, (_, hop) in enumerate(sights) if n >= place and hop.kind == "send"]
            place = next((n for n in sent if sights[n][1].interface == out), sent[0] if sent else place)
        before = sights[place - 1][0] if place else (sights[0][0] - 0.5 if sights else 0.0)
        tiny += 1e-6
        woven.append((before + tiny, rule))
    sights += woven
    sights.sort(key=lambda timed: timed[0])


def _with_legacy(seen: Seen, hops: list[tuple[float, Hop]]) -> None:
    """Before a drop that no rule has reported, the rule of iptables-legacy that made it."""
    if any(hop.kind == "rule" and hop.verdict == "drop" for _, hop in hops):
        return
    for number, (time, hop) in enumerate(hops):
        rules = seen.legacy.get(hop.namespace, ())
        if hop.kind == "drop" and hop.reason.startswith("NETFILTER") and rules:
            rule = rules[-1]
            judged = Hop(
                direction=hop.direction,
                namespace=hop.namespace,
                kind="rule",
                interface=hop.interface,
                source=hop.source,
                destination=hop.destination,
                family=rule.family,
                table=rule.table,
                chain=rule.chain,
                hook=rule.chain.lower() if rule.chain.isupper() else "",
                text=rule.text,
                verdict="drop",
                owner="iptables-legacy",
            )
            hops.insert(number, (time - 1e-5, judged))
            return


def _after_receipt(sights: list[tuple[float, Hop]], place: int, interface: str) -> int:
    receipts = [n for n, (_, hop) in enumerate(sights) if n >= place - 1 and hop.kind == "receive"]
    exact = [number for number in receipts if sights[number][1].interface == interface]
    # With br_netfilter the interface is the bridge, which never receives what it passes on.
    chosen = exact or receipts
    return chosen[0] + 1 if chosen else place


def _with_nat(hops: list[tuple[float, Hop]]) -> list[tuple[float, Hop]]:
    """With a line where addresses change: before the first sight of the changed packet."""
    found: list[tuple[float, Hop]] = []
    before: Hop | None = None
    for time, hop in hops:
        if before and hop.kind != "rule" and hop.direction != "error":
            for which, old, new in (
                ("source", before.source, hop.source),
                ("destination", before.destination, hop.destination),
            ):
                if old != new:
                    text = f"{which} {old} → {new}"
                    changed = Hop(
                        direction=hop.direction,
                        namespace=hop.namespace,
                        kind="nat",
                        source=hop.source,
                        destination=hop.destination,
                        text=text,
                    )
                    found.append((time - 1e-4, changed))
        if hop.kind != "rule":
            before = hop
        found.append((time, hop))
    return found


def with_routes(hops: tuple[Hop, ...], legs: Iterable[Leg]) -> tuple[Hop, ...]:
    """With the route that each namespace chose: after the packet came in, before it is passed on or sent.

    A namespace that nothing was seen in (the packet waited there for a neighbour, say) is added at the end.
    """
    found = list(hops)
    for leg in legs:
        here = [n for n, hop in enumerate(found) if hop.namespace == leg.namespace and hop.direction == leg.direction]
        if leg.route.kind == "local" or (leg.direction == "reply" and not here):
            continue
        decision = Hop(
            direction=leg.direction,
            namespace=leg.namespace,
            kind="route",
            interface=leg.route.interface,
            source=found[here[0]].source if here else leg.source,
            destination=found[here[0]].destination if here else leg.to,
            text=_decision(leg),
        )
        later = ("input", "forward", "output", "postrouting")
        place = next(
            (n for n in here if found[n].kind in ("send", "drop") or found[n].hook in later or _is_source(found[n])),
            here[-1] + 1 if here else len(found),
        )
        found.insert(place, decision)
    return tuple(found)


def _is_source(hop: Hop) -> bool:
    """Sources are rewritten after the routing, destinations before."""
    return hop.kind == "nat" and hop.text.startswith("source ")


def _decision(leg: Leg) -> str:
    route = leg.route
    if route.error:
        kind = f"{route.kind} {route.matched}".strip() or "none"
        return f"{leg.to}: {kind} ({route.error})"
    via = f" via {route.gateway}" if route.gateway else ""
    table = f" (table {route.table})" if route.table not in ("", "main") else ""
    return f"{leg.to}: {route.matched}{via} dev {route.interface}{table}"
