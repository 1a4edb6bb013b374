"""Causes at the ends: names, sockets, published ports, sizes, old flows; and the good outcomes.  Pure."""

from __future__ import annotations

import math
from ipaddress import ip_address

from fairlead.plan.netlink import word
from fairlead.see.trace.model import Asked, Hop, Observation, Outcome, Port, Published, Verdict
from fairlead.see.trace.words import asked_for, at, endpoint, ip, run, there


def name_not_resolving(seen: Observation) -> Verdict | None:
    """The name of the destination has no address in the source."""
    name = seen.name
    if seen.outcome.kind != "unresolved" or name is None:
        return None
    problem = {
        "NXDOMAIN": f"{name.server} knows no such name",
        "no resolver": "no name server is set there",
        "no answer": f"{name.server} does not answer",
        "no address": f"{name.server} knows the name, but no address for it",
        "no valid name": "that can be no name",
    }.get(name.problem, f"{name.server} answers {name.problem}")
    remedies = []
    mine = sorted({one.network for one in seen.memberships if one.namespace == seen.source.inode})
    if name.problem == "NXDOMAIN" and name.server == "127.0.0.11":
        remedies.append(f"fairlead network connect --alias {name.name} {mine[0] if mine else 'NETWORK'} CONTAINER")
        remedies.append("fairlead ps")
    elif name.problem in ("no answer", "SERVFAIL", "REFUSED") and name.server != "127.0.0.11":
        remedies.append(f"fairlead trace --udp {seen.source.name} {name.server}:53")
    elif name.problem == "no resolver" and seen.source.owner == "fairlead":
        remedies.append(f"fairlead network connect NETWORK {seen.source.name}")
    if seen.source.owner == "fairlead" and seen.source.kind == "container" and name.server != "127.0.0.11":
        remedies.append(f"fairlead exec {seen.source.name} cat /etc/resolv.conf")
    else:
        # Of the host: those are whom our resolver asks.
        remedies.append("cat /etc/resolv.conf")
    return Verdict(
        ok=False,
        cause="name-not-resolving",
        sentence=f"The name {name.name} does not resolve {there(seen.source)}: {problem}.",
        remedies=tuple(remedies),
    )


def stale_flow(seen: Observation) -> Verdict | None:
    """The kernel still sends packets of an older flow to where the destination was.

    A flow that leads elsewhere than new ones is no fault in itself (a balancer does so), only if nobody answers there.
    """
    source = next((endpoint(hop.source)[0] for hop in seen.hops if hop.direction == "request"), "")
    stale = [
        flow
        for flow in seen.flows
        if seen.fresh
        and flow.answers != seen.fresh
        and (flow.unreplied or not flow.held)
        and endpoint(flow.source)[0] == source
    ]
    if not stale:
        return None
    flow, many = stale[0], len(stale) > 1
    host, port = endpoint(flow.destination)
    protocol = seen.asked.protocol
    subject = f"{len(stale)} older flows" if many else "an older flow"
    sentence = (
        f"{subject} from {source} to {flow.destination}/{protocol} (source port {endpoint(flow.source)[1]}) still "
        f"{'lead' if many else 'leads'} to {flow.answers}, where nobody answers; new ones go to {seen.fresh}."
    )
    if seen.outcome.kind == "answered":
        sentence = f"New flows get through, but {sentence}"
    return Verdict(
        ok=False,
        cause="stale-conntrack",
        sentence=sentence[0].upper() + sentence[1:],
        remedies=(f"conntrack -D -p {protocol} --orig-src {source} --orig-dst {host} --dport {port}",),
    )


def too_big(seen: Observation) -> Verdict | None:
    """A packet with "don't fragment" does not fit through an interface on the way."""
    if seen.sized and seen.sized.outcome.kind != "answered":
        return _does_not_fit(seen, seen.sized.outcome, seen.sized.hops, seen.sized.bytes)
    size = seen.asked.size
    too_much = seen.outcome.error == "EMSGSIZE" or any(_is_too_big(hop) for hop in seen.hops)
    if seen.outcome.kind == "answered" or not (too_much or (size and _narrow(seen, seen.hops))):
        return None
    sent = next((hop.length for hop in seen.hops if hop.kind == "send"), 0)
    header = {"udp": 28, "icmp": 28}.get(seen.asked.protocol, 40) + (20 if ":" in seen.address else 0)
    return _does_not_fit(seen, seen.outcome, seen.hops, size + header if size else sent)


def _is_too_big(hop: Hop) -> bool:
    if hop.kind == "drop":
        return hop.reason == "PKT_TOO_BIG"
    return hop.direction == "error" and hop.icmp in ("3/4", "2/0")


def _narrow(seen: Observation, hops: tuple[Hop, ...]) -> Port | None:
    """The narrowest interface next to where the request was seen last, if it carries less than the first."""
    request = [hop for hop in hops if hop.direction == "request" and hop.interface]
    ends = [(hop.namespace, hop.interface) for hop in request]
    ports = [port for end in ends if (port := seen.port(end))]
    if not ports:
        return None
    near = [port for one in ports for port in (one, seen.port(one.peer) if one.peer else None) if port]
    last = ports[-1]
    near += [
        port
        for leg in seen.legs
        if leg.namespace == last.namespace and (port := seen.port((leg.namespace, leg.route.interface)))
    ]
    near += [port for leg in seen.legs for end in leg.holders if (port := seen.port(end))]
    near += [far for port in tuple(near) if port.peer and (far := seen.port(port.peer))]
    # A bridge takes the least MTU of its ports: the port is the cause.
    narrowest = min(near, key=lambda port: (port.mtu, port.kind == "bridge"))
    return narrowest if narrowest.mtu < ports[0].mtu else None


def _does_not_fit(seen: Observation, outcome: Outcome, hops: tuple[Hop, ...], size: int) -> Verdict:
    first = seen.port((seen.source.inode, next((leg.route.interface for leg in seen.legs), "")))
    narrow = _narrow(seen, hops) or (first if first and first.mtu < size else None)
    told = any(hop.direction == "error" and hop.icmp in ("3/4", "2/0") for hop in hops)
    where = at(seen, (narrow.namespace, narrow.name)) if narrow else "an interface on the way"
    mtu = narrow.mtu if narrow else 0
    whole = f" of {size} bytes" if size else ""
    if narrow and first and (narrow.namespace, narrow.name) == (first.namespace, first.name):
        return Verdict(
            ok=False,
            cause="mtu",
            sentence=f"A packet{whole} that must not be fragmented does not fit into {where}, which carries {mtu} "
            "bytes.",
            remedies=(
                f"fairlead trace --{seen.asked.protocol} --size {mtu - (size - seen.asked.size)} {seen.asked.source} "
                f"{seen.asked.destination}" + (f":{seen.asked.port}" if seen.asked.port else ""),
            ),
        )
    silent = "" if told else ", and the sender is not told"
    remedies = []
    if first and mtu:
        remedies.append(ip(seen.place(first.namespace), f"link set {word(first.name)} mtu {mtu}"))
        mine = next((one for one in seen.memberships if one.namespace == first.namespace), None)
        if mine:
            remedies.append(f"fairlead network create -o com.docker.network.driver.mtu={mtu} NAME")
    small = "Small packets get through, but one" if seen.sized else "A packet"
    return Verdict(
        ok=False,
        cause="mtu",
        sentence=f"{small}{whole} that must not be fragmented does not fit through {where}"
        + (f", which carries {mtu} bytes" if mtu else "")
        + f"{silent}.",
        remedies=tuple(remedies),
    )


def answered(seen: Observation) -> Verdict | None:
    """It works."""
    if seen.outcome.kind != "answered":
        return None
    through = " → ".join(path_of(seen))
    took = f"{seen.outcome.milliseconds:.2f} ms"
    did = {"tcp": "accepts the connection", "udp": "answers", "icmp": "answers"}[seen.asked.protocol]
    return Verdict(
        ok=True,
        cause="answered",
        sentence=f"{asked_for(seen)} {did} after {took}" + (f", by {through}." if through else "."),
    )


def path_of(seen: Observation) -> list[str]:
    """The interfaces that the request was seen at, each once: ``eth0 of a``, ``vethx on the host``…

    And where it came in at last: of what stands on another link the kernel does not show the receipt.
    """
    found: list[str] = []
    for hop in seen.hops:
        if hop.direction == "request" and hop.kind in ("send", "receive") and hop.interface:
            text = at(seen, (hop.namespace, hop.interface))
            if not found or found[-1] != text:
                found.append(text)
    last = next((leg for leg in reversed(seen.legs) if leg.direction == "request"), None)
    if found and last and last.came_in and last.route.kind == "local":
        end = at(seen, (last.namespace, last.came_in))
        found += [end] if end not in found else []
    return found


def _refused_by_end(seen: Observation) -> bool:
    """Refused by the kernel of the namespace that it was meant for, not by a firewall on the way."""
    return seen.outcome.kind == "refused"


def bound_elsewhere(seen: Observation) -> Verdict | None:
    """A program listens at the port, or it is published, but only on another address (127.0.0.1)."""
    if not _refused_by_end(seen) and not _unheard(seen):
        return None
    asked, place = seen.asked, seen.place(seen.reached)
    for one in seen.published:
        if one.protocol == asked.protocol and not _covers(one, seen.address) and place.kind == "host":
            return Verdict(
                ok=False,
                cause="bound-elsewhere",
                sentence=f"Port {asked.port}/{asked.protocol} of the host is published by {one.container}, but only on "
                f"{one.address}, not on {seen.address}.",
                remedies=(
                    f"fairlead run -p {asked.port}:{one.target_port} …  # instead of "
                    f"-p {one.address}:{asked.port}:{one.target_port}",
                    f"fairlead trace host {one.address}:{asked.port}",
                ),
            )
    mine = [one for one in seen.sockets or () if one.protocol == asked.protocol]
    # What takes all, and yet not this, is for IPv6 alone (IPV6_V6ONLY).
    alone = bool(mine) and all(one.address == "::" for one in mine) and ":" not in _final(seen)
    if mine and ((alone and _no_socket_in(seen, seen.reached)) or not any(one.takes for one in mine)):
        every = "::" if ":" in _final(seen) else "0.0.0.0"
        on = " and ".join(sorted({one.address for one in mine}))
        return Verdict(
            ok=False,
            cause="bound-elsewhere",
            sentence=f"A program {there(place)} listens at port {_port(seen)}/{asked.protocol}, but only on {on}, not "
            f"on {_final(seen)}.",
            remedies=(
                f"# have the program {there(place)} listen on {every} instead of {on}",
                run(place, f"ss -lnp sport = :{_port(seen)}"),
            ),
        )
    entry = next((leg.came_in for leg in seen.legs if leg.direction == "request" and leg.namespace == seen.reached), "")
    if mine and entry and _no_socket_in(seen, seen.reached):
        on = " and ".join(sorted({one.address for one in mine if one.takes}))
        return Verdict(
            ok=False,
            cause="bound-elsewhere",
            sentence=f"A program {there(place)} listens at port {_port(seen)}/{asked.protocol} on {on}, but not to "
            f"what comes in by {entry}: its socket is bound to another interface (SO_BINDTODEVICE).",
            remedies=(run(place, f"ss -lnp sport = :{_port(seen)}"),),
        )
    return None


def _covers(one: Published, address: str) -> bool:
    bound = ip_address(one.address)
    return one.address == address or (bound.is_unspecified and bound.version == ip_address(address).version)


def _unheard(seen: Observation) -> bool:
    """Silent, and dropped by the kernel for want of a socket, or for a loopback address from outside."""
    return any(hop.kind == "drop" and hop.reason in ("NO_SOCKET", "IP_LOCALNET") for hop in seen.hops)


def _port(seen: Observation) -> int:
    """The port that the request has at its end."""
    return _end(seen)[1] or seen.asked.port


def _final(seen: Observation) -> str:
    """The address that the request has at its end."""
    return _end(seen)[0] or seen.address


def _end(seen: Observation) -> tuple[str, int]:
    last = [hop.destination for hop in seen.hops if hop.direction == "request" and hop.kind in ("receive", "nat")]
    return endpoint(last[-1]) if last else ("", 0)


def other_protocol(seen: Observation) -> Verdict | None:
    """The port is published, or listened at, with the other protocol."""
    if not _refused_by_end(seen) and not _unheard(seen):
        return None
    asked, place = seen.asked, seen.place(seen.reached)
    others = [one for one in seen.published if one.protocol != asked.protocol]
    same = [one for one in seen.published if one.protocol == asked.protocol]
    if others and not same and place.kind == "host":
        one = others[0]
        return Verdict(
            ok=False,
            cause="other-protocol",
            sentence=f"Port {asked.port} of the host is published by {one.container} for {one.protocol.upper()}, not "
            f"for {asked.protocol.upper()}.",
            remedies=(
                f"fairlead run -p {asked.port}:{one.target_port}/{asked.protocol} …",
                f"fairlead trace --{one.protocol} {asked.source} {asked.destination}:{asked.port}"
                if one.protocol != "tcp"
                else f"fairlead trace {asked.source} {asked.destination}:{asked.port}",
            ),
        )
    wrong = [one for one in seen.sockets or () if one.protocol != asked.protocol and one.takes]
    if wrong and not any(one.protocol == asked.protocol for one in seen.sockets or ()):
        flag = "" if wrong[0].protocol == "tcp" else f"--{wrong[0].protocol} "
        return Verdict(
            ok=False,
            cause="other-protocol",
            sentence=f"A program {there(place)} listens at port {_port(seen)} with {wrong[0].protocol.upper()}, not "
            f"with {asked.protocol.upper()}.",
            remedies=(f"fairlead trace {flag}{asked.source} {asked.destination}:{asked.port}",),
        )
    return None


def nothing_listens(seen: Observation) -> Verdict | None:
    """Refused by the kernel of the destination: the way is good, but no program is there."""
    untold = not _refused_by_end(seen) and seen.reached and _no_socket_in(seen, seen.reached)
    if not _refused_by_end(seen) and not untold:
        return None
    asked, place = seen.asked, seen.place(seen.reached)
    how = "refuses with a reset" if asked.protocol == "tcp" else "refuses with ICMP port unreachable"
    if untold:
        # Of port unreachables a kernel sends six at once, then one a second (net.ipv4.icmp_ratelimit).
        how = "throws the request away and does not say so" + (
            ": of ICMP port unreachables it sends only some (icmp_ratelimit)" if asked.protocol == "udp" else ""
        )
    said = f"The way is good, but nothing listens at port {_port(seen)}/{asked.protocol} {there(place)}"
    if not seen.reached:
        said = f"{asked_for(seen)} was reached, but refuses: nothing listens there, or a firewall there rejects"
    return Verdict(
        ok=False,
        cause="nothing-listening",
        sentence=f"{said}: the kernel there {how}." if seen.reached else f"{said} ({how.removeprefix('refuses ')}).",
        remedies=(run(place, f"ss -ln{'u' if asked.protocol == 'udp' else 't'}"),) if seen.reached else (),
    )


def _no_socket_in(seen: Observation, inode: int) -> bool:
    drops = (hop for hop in seen.hops if hop.kind == "drop" and hop.direction == "request")
    return any(hop.reason == "NO_SOCKET" and hop.namespace == inode for hop in drops)


def delivered(seen: Observation) -> Verdict | None:
    """The request came to the end of its way, and nobody there said anything."""
    if seen.outcome.kind != "silence" or not seen.reached:
        return None
    came = any(
        hop.direction == "request" and hop.kind == "receive" and hop.namespace == seen.reached for hop in seen.hops
    )
    if not came or any(hop.kind == "drop" and hop.direction == "request" for hop in seen.hops):
        return None
    asked, place = seen.asked, seen.place(seen.reached)
    answer = next((hop for hop in seen.hops if hop.direction == "reply"), None)
    if answer:
        if late := next((hop for hop in seen.hops if _came_late(seen, hop)), None):
            took = (late.time or 0) / 1000
            return Verdict(
                ok=False,
                cause="late-answer",
                sentence=f"{asked_for(seen)} answers, but only after {took:.0f} ms: longer than the trace waited "
                f"({asked.patience:g} s).",
                remedies=(_again(asked, math.ceil(took / 1000) + 1),),
            )
        last = [hop for hop in seen.hops if hop.direction == "reply"][-1]
        return Verdict(
            ok=False,
            cause="reply-lost",
            sentence=f"{asked_for(seen)} answers, but the answer is lost: it was seen last at "
            f"{at(seen, (last.namespace, last.interface))}.",
            remedies=(ip(place, f"route get {endpoint(answer.destination)[0]}"),),
        )
    if asked.protocol == "udp" and any(one.takes and one.protocol == "udp" for one in seen.sockets or ()):
        return Verdict(
            ok=True,
            cause="delivered",
            sentence=f"The datagram was delivered to the program at port {_port(seen)}/udp {there(place)}; it did not "
            "answer, which UDP allows.",
        )
    if seen.mute:
        name = "net.ipv6.icmp.echo_ignore_all" if ":" in seen.address else "net.ipv4.icmp_echo_ignore_all"
        return Verdict(
            ok=False,
            cause="no-answer",
            sentence=f"The request reached {place.name}, which answers no ICMP echo: {name} = 1 there.",
            remedies=(run(place, f"sysctl -w {name}=0"),),
        )
    same = (one for one in seen.sockets or () if one.protocol == asked.protocol and one.takes)
    full = next((one for one in same if one.waiting), None)
    if full:
        return Verdict(
            ok=False,
            cause="no-answer",
            sentence=f"The request reached {place.name}, but the program that listens at port {_port(seen)} there does "
            f"not take connections: its queue is full, with {full.waiting} waiting.",
            remedies=(run(place, f"ss -lntp sport = :{_port(seen)}"),),
        )
    return Verdict(
        ok=False,
        cause="no-answer",
        sentence=f"The request reached {place.name}, where no rule and no drop was seen; but nothing answered within "
        f"{asked.patience:g} s.",
        remedies=(run(place, "ss -lnt"), run(place, "nft list ruleset")),
    )


def _again(asked: Asked, seconds: int) -> str:
    """The command line of the same question, with more time."""
    flags = {"udp": "--udp ", "icmp": "--icmp " if asked.size else "", "tcp": ""}[asked.protocol]
    flags += f"--size {asked.size} " if asked.size else ""
    host = f"[{asked.destination}]" if asked.port and ":" in asked.destination else asked.destination
    return f"fairlead trace --wait {seconds} {flags}{asked.source} {host}{f':{asked.port}' if asked.port else ''}"


def _came_late(seen: Observation, hop: Hop) -> bool:
    """Whether this is the answer's arrival, after nobody waited for it any more."""
    back = hop.direction == "reply" and hop.kind == "receive" and hop.namespace == seen.source.inode
    return back and hop.time is not None and hop.time / 1000 >= seen.outcome.milliseconds


_ROUTERS = ("ip_error", "dst_discard", "dst_discard_out", "ip6_pkt_discard", "ip6_pkt_prohibit")
"""The functions that a route to nowhere hands packets to."""


def unexplained(seen: Observation) -> Verdict | None:
    """What was seen does not say why; at least where."""
    outcome = seen.outcome
    said = f" ({outcome.error}: {outcome.said})" if outcome.error else ""
    dropped = next((hop for hop in seen.hops if hop.kind == "drop"), None)
    sights = [hop for hop in seen.hops if hop.interface and hop.direction == "request"]
    if dropped:
        reason = dropped.reason or dropped.function or "no reason given"
        where = (
            at(seen, (dropped.namespace, dropped.interface))
            if dropped.interface
            else seen.place(dropped.namespace).name
        )
        if dropped.function in _ROUTERS:
            four = ":" not in seen.address
            place = seen.place(dropped.namespace)
            return Verdict(
                ok=False,
                cause="no-route",
                sentence=f"The routing {there(place)} refuses the packet that came in by {dropped.interface}, though a "
                "look-up by its addresses finds a route: a rule for marked packets, for one, leads elsewhere.",
                remedies=tuple(
                    ip(place, words if four else f"-6 {words}") for words in ("rule", "route show table all")
                ),
            )
        return Verdict(
            ok=False,
            cause="dropped-by-kernel",
            sentence=f"The kernel drops the packet at {where}: {reason}{said}.",
            remedies=("fairlead topology",),
        )
    error = next((hop for hop in seen.hops if hop.direction == "error"), None)
    if error:
        return Verdict(
            ok=False,
            cause="icmp-error",
            sentence=f"{error.source} answers with an ICMP error ({error.icmp}){said}.",
            remedies=(),
        )
    if not sights:
        blind = " (packets could not be watched on this kernel)" if seen.notes else ""
        return Verdict(
            ok=False,
            cause="unsent" if not seen.notes else "unknown",
            sentence=f"The probe to {asked_for(seen)} was not seen at any interface{blind}{said}.",
            remedies=(ip(seen.source, f"route get {seen.address}"),),
        )
    last = sights[-1]
    leg = seen.legs[-1] if seen.legs else None
    beyond = ""
    if leg and leg.outside:
        beyond = ", which leads out of this machine; what happens there cannot be seen from here"
    return Verdict(
        ok=False,
        cause="lost-outside" if beyond else "unknown",
        sentence=f"{asked_for(seen)} does not answer{said}: the request was seen last at "
        f"{at(seen, (last.namespace, last.interface))}{beyond}.",
        remedies=(ip(seen.place(last.namespace), f"-s link show {word(last.interface)}"),),
    )
