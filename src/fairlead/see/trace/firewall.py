"""Causes in firewalls: a rule, or a chain's policy, that dropped or rejected the probe or its answer.  Pure."""

from __future__ import annotations

from fairlead.plan.netlink import word
from fairlead.see import firewalld
from fairlead.see.trace import roads, wires
from fairlead.see.trace.model import Hop, Membership, Observation, Verdict
from fairlead.see.trace.words import asked_for, endpoint, ruling, run, there, version

_PROGRAMS = {"ip": "iptables", "ip6": "ip6tables"}
_TABLES = ("filter", "nat", "mangle", "raw", "security")
"""Of iptables; what nft alone makes there can be edited by iptables too."""


def dropped_by_rule(seen: Observation) -> Verdict | None:
    """The last rule that judged the packet dropped or rejected it."""
    for hop in seen.hops:
        if hop.kind == "rule" and hop.verdict == "drop":
            return _of_ours(seen, hop) if hop.table == "fairlead" else _of_others(seen, hop)
    return None


def _of_ours(seen: Observation, hop: Hop) -> Verdict:
    """Our rules keep networks apart; say what was wanted, not which rule."""
    source = _networks(seen, endpoint(hop.source)[0])
    target = _networks(seen, endpoint(hop.destination)[0])
    if hop.chain == "within" and source:
        end = next(((one.namespace, one.interface) for one in target), None)
        return wires.isolated_verdict(seen, source[0], end)
    inner = next((one for one in source if one.internal), None)
    if hop.chain == "forward" and inner:
        return roads.internal_verdict(seen, inner)
    closed = next((one for one in target if one.internal), None)
    to = closed or (target[0] if target else None)
    name = to.network if to else "that network"
    label = seen.place(target[0].namespace).name if target else seen.asked.destination
    if source:
        mine = source[0].network
        closed_too = " (internal)" if closed else ""
        return Verdict(
            ok=False,
            cause="networks-isolated",
            sentence=f"{seen.source.name} is in the network {mine}, {label} in {name}{closed_too}: networks are kept "
            f"apart (table inet fairlead, chain {hop.chain}, handle {hop.handle}: {hop.text}).",
            remedies=(f"fairlead network connect {name} {seen.source.name}",),
        )
    port = f" -p {seen.asked.port}:{seen.asked.port}" if seen.asked.port else ""
    return Verdict(
        ok=False,
        cause="not-published",
        sentence=f"{label} in the network {name} is asked from outside at its own address, which nothing opens "
        f"(table inet fairlead, chain {hop.chain}, handle {hop.handle}: {hop.text}).",
        remedies=(f"fairlead run{port} …  # publish the port, and ask the host for it",),
    )


def _networks(seen: Observation, address: str) -> list[Membership]:
    return [one for one in seen.memberships if any(text.partition("/")[0] == address for text in one.addresses)]


def _of_others(seen: Observation, hop: Hop) -> Verdict:
    place = seen.place(hop.namespace)
    rejects = "reject" in hop.text.lower()
    did = "rejects" if rejects else "drops"
    packet = {"request": "the request", "reply": "the answer", "error": "the ICMP error"}[hop.direction]
    bridged = seen.bridge_netfilter and hop.hook in ("forward", "prerouting") and _is_bridged(seen, hop)
    if bridged:
        whose = "the host's" if place.kind == "host" else f"{place.name}'s"
        why = (
            f" (within a bridge too, because br_netfilter makes frames pass {whose} IP firewall: "
            f"{_bridge_setting(seen)} = 1)"
        )
    else:
        why = ""
    if hop.chain.startswith("DOCKER-ISOLATION"):
        return _apart_by_docker(seen, hop)
    cause = {
        ("forward", True): "bridge-netfilter",
        ("forward", False): "forward-drop",
        ("input", False): "input-drop",
        ("output", False): "output-drop",
    }.get((hop.hook, bridged), "rule-drop")
    return Verdict(
        ok=False,
        cause=cause,
        sentence=f"The {ruling(hop)} {there(place)} {did} {packet} to {asked_for(seen)}{why}; it is of {hop.owner}.",
        remedies=_remedies(seen, hop, bridged),
    )


def _bridge_setting(seen: Observation) -> str:
    return f"net.bridge.bridge-nf-call-{_PROGRAMS['ip' if version(seen) == 4 else 'ip6']}"


def _apart_by_docker(seen: Observation, hop: Hop) -> Verdict:
    """Docker keeps its networks apart."""
    target = seen.target
    networks = [name for name in (target.networks if target else ()) if name not in seen.source.networks]
    remedies = list(_remedies(seen, hop, False))
    if networks and seen.source.owner == "docker":
        remedies.insert(0, f"docker network connect {networks[0]} {seen.source.name}")
    where = f" (it is in {', '.join(networks)})" if networks else ""
    return Verdict(
        ok=False,
        cause="networks-isolated",
        sentence=f"Docker keeps the networks of {seen.source.name} and {asked_for(seen)}{where} apart: chain "
        f"{hop.family} {hop.table} {hop.chain}, handle {hop.handle} ({hop.text}).",
        remedies=tuple(remedies),
    )


def _is_bridged(seen: Observation, hop: Hop) -> bool:
    """Whether the packet came from a bridge's port and would leave by another: the host was not asked to route."""
    return any(
        leg.bridge
        and leg.bridge[0] == hop.namespace != leg.namespace
        and not leg.route.gateway
        and not any(end[0] == hop.namespace for end in leg.holders)
        for leg in seen.legs
    )


def _remedies(seen: Observation, hop: Hop, bridged: bool) -> tuple[str, ...]:
    """A line that lets exactly these packets pass, first in the chain that dropped them."""
    place = seen.place(hop.namespace)
    source, _ = endpoint(hop.source)
    destination, port = endpoint(hop.destination)
    protocol = seen.asked.protocol
    found = []
    chain = hop.chain
    if hop.family in _PROGRAMS and hop.table in _TABLES:
        program = _PROGRAMS[hop.family] + ("-legacy" if hop.owner == "iptables-legacy" else "")
        if hop.owner == "Docker" and hop.hook == "forward":
            chain = "DOCKER-USER"
        program += "" if hop.table == "filter" else f" -t {hop.table}"
        base = f"{program} -I {chain}"
        if bridged:
            bridge = word(next(leg.bridge[1] for leg in seen.legs if leg.bridge))
            found.append(run(place, f"{base} -i {bridge} -o {bridge} -j ACCEPT"))
            found.append(run(place, f"sysctl -w {_bridge_setting(seen)}=0"))
        elif hop.direction == "request" and port:
            if hop.owner == "ufw" and hop.hook == "input":
                found.append(run(place, f"ufw allow {port}/{protocol}"))
            found.append(run(place, f"{base} -p {protocol} -d {destination} --dport {port} -j ACCEPT"))
        else:
            found.append(run(place, f"{base} -s {source} -d {destination} -j ACCEPT"))
        if hop.owner == "ufw" and hop.hook == "forward" and hop.direction == "request" and not bridged:
            # ufw lets answers pass by itself.
            to = f"to {destination} port {port} proto {protocol}" if port else f"to {destination}"
            return (run(place, f"ufw route allow from {source} {to}"),)
        if hop.hook == "forward" and not bridged:
            found.append(run(place, f"{program} -I {chain} -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"))
            found[-2:] = [f"{found[-2]} && {found[-1]}"]
        return tuple(found)
    if hop.owner == "firewalld" and (lines := _for_firewalld(seen, hop, bridged)):
        found.append(" && ".join(run(place, line) for line in lines))
        if bridged:
            found.append(run(place, f"sysctl -w {_bridge_setting(seen)}=0"))
        return tuple(found)
    family = "ip6" if ":" in destination else "ip"
    if bridged:
        bridge = word(next(leg.bridge[1] for leg in seen.legs if leg.bridge))
        words = f"iifname {bridge} oifname {bridge} accept"
    elif hop.direction == "request" and port:
        words = f"{family} daddr {destination} {protocol} dport {port} accept"
    else:
        words = f"{family} saddr {source} {family} daddr {destination} accept"
    insert = run(place, f"nft insert rule {hop.family} {hop.table} {chain} {words}")
    if hop.hook == "forward" and not bridged:
        # Frames that only pass a bridge are not tracked.
        back = f"{family} saddr {destination} {family} daddr {source}"
        back = back if hop.family == "bridge" else "ct state established,related"
        insert += " && " + run(place, f"nft insert rule {hop.family} {hop.table} {chain} {back} accept")
    found.append(insert)
    if bridged:
        found.append(run(place, f"sysctl -w {_bridge_setting(seen)}=0"))
    return tuple(found)


def _for_firewalld(seen: Observation, hop: Hop, bridged: bool) -> list[str]:
    """The lines for firewalld; none where it has no word for it."""
    source, _ = endpoint(hop.source)
    destination, port = endpoint(hop.destination)
    if bridged:
        return firewalld.trust(next(leg.bridge[1] for leg in seen.legs if leg.bridge))
    if hop.hook == "input" and port:
        return firewalld.open_port(hop.chain, port, seen.asked.protocol)
    if hop.hook == "forward" and any(one.bridge == hop.interface for one in seen.memberships if one.bridge):
        return firewalld.trust(hop.interface)  # A network of ours should pass as a whole.
    if hop.hook == "forward":
        asked = port if hop.direction == "request" else 0
        return firewalld.forward(source, destination, asked, seen.asked.protocol)
    return []


def dropped_unseen(seen: Observation) -> Verdict | None:
    """Dropped by netfilter, but no nftables rule reported it: iptables-legacy, or a namespace that was not watched."""
    hop = next((one for one in seen.hops if one.kind == "drop" and one.reason.startswith("NETFILTER")), None)
    if hop is None:
        return None
    place = seen.place(hop.namespace)
    return Verdict(
        ok=False,
        cause="dropped-by-netfilter",
        sentence=f"A firewall {there(place)} drops the packet to {asked_for(seen)}, by a rule that nftables does not "
        "report (of iptables-legacy, for one).",
        remedies=(run(place, "iptables-legacy -L -v -n"), run(place, "nft list ruleset")),
    )
