"""Checks of what is ours: every record against the kernel, and everything with our mark against the records."""

from __future__ import annotations

import functools
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from fairlead import keeper
from fairlead.containers.record import Container
from fairlead.dns import ADDRESS
from fairlead.dns.names import member
from fairlead.firewall import TABLE
from fairlead.kernel import sockets, survey
from fairlead.model import Address, Endpoint, Interface, Network, Phase, Record, Sandbox
from fairlead.plan import State, Step
from fairlead.plan.firewall import FAMILY_TABLE, AcceptIn, AddElement
from fairlead.plan.links import SeeCarrier
from fairlead.plan.names import RedirectNames
from fairlead.plan.netlink import ip, word
from fairlead.plan.ports import HoldPort
from fairlead.plan.runtime import is_monitor
from fairlead.see.doctor import FIX, Finding, Patient, lines_of, phase, remedy
from fairlead.see.facts import InterfaceFact, NamespaceFact

_ELSEWHERE = (AcceptIn, AddElement, HoldPort, RedirectNames, SeeCarrier)
"""Steps that have a check of their own, or leave nothing that could be missing."""

_ANSWER_SECONDS = 1.0
_SILENT = 3
"""Sandboxes without an answer after which no other is asked: it is the resolver, then, and each takes a second."""
_EVERYWHERE = ip_address("::")


def objects(patient: Patient) -> Iterator[Finding]:
    """Links, addresses, routes and settings of every record."""
    count = 0
    for record in patient.records:
        gone = _container_without_namespace(patient, record)
        if gone:
            if isinstance(record, Sandbox):
                yield gone
            continue
        states = patient.check(record, _ELSEWHERE, but=True)
        count += len(states)
        wrong = [(step, state) for step, state in states if state is not State.HOLDS]
        if wrong and patient.stays(record):
            lines = remedy(lines_of(patient.ground.kernel, wrong))
            yield Finding(
                check="objects",
                result="failed",
                sentence=f"{patient.title(record)}: {len(wrong)} of {len(states)} steps do not hold"
                + (f": {_what(wrong)}" if FIX in lines else ""),
                remedy=lines,
                ours=True,
            )
    if not patient.daemon:
        yield from _half_done(patient)


def _what(wrong: Sequence[tuple[Step, State]]) -> str:
    """The objects of steps that do not hold, by the words of the lines that make them."""
    words = [line for step, _ in wrong for line in step.shell()[:1]]
    more = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return "; ".join(f"`{line}`" for line in words[:3]) + more


def _container_without_namespace(patient: Patient, record: Any) -> Finding | None:
    """A container's namespace is made when it starts, and never again; without it there is nothing to look at."""
    sandbox = record if isinstance(record, Sandbox) else None
    if isinstance(record, Endpoint):
        sandbox = patient.ground.store.get(Sandbox, record.sandbox)
    if not sandbox or not sandbox.container or patient.ground.kernel.namespaces.exists(sandbox.path):
        return None
    return Finding(
        check="objects",
        result="failed",
        sentence=f"{patient.title(sandbox)}: its network namespace {sandbox.path} is gone",
        remedy=(f"fairlead restart {patient.name(sandbox.id)}",),
    )


def _half_done(patient: Patient) -> Iterator[Finding]:
    """Without a daemon nobody is at work on what is half made; the next start finishes it."""
    for record in patient.ground.records():
        if phase(record) is not Phase.READY:
            yield Finding(
                check="objects",
                result="warning",
                sentence=f"{patient.title(record)} is half {'made' if phase(record) is Phase.ADDING else 'removed'}:"
                " the daemon will take it away when it starts",
                remedy=(FIX,),
                ours=True,
            )


# Our table


def table(patient: Patient) -> Iterator[Finding]:
    """Our nftables table: its chains and rules, and the elements that records want."""
    wanted = _wanted_elements(patient, patient.records)
    if not patient.table:
        if wanted:
            yield _table_finding(f"the table {FAMILY_TABLE} is gone, and with it every rule of ours")
        return
    rules: dict[str, int] = {}
    for thing in patient.table:
        if rule := thing.get("rule"):
            rules[rule["chain"]] = rules.get(rule["chain"], 0) + 1
    for chain, count in expected_rules(TABLE.body).items():
        if rules.get(chain, 0) != count:
            yield _table_finding(
                f"the chain {chain} of the table {FAMILY_TABLE} has {rules.get(chain, 0)} rules, not {count}:"
                " another program changed it"
            )
    found = _elements(patient.table)
    lost = [
        step
        for key, (record, step) in wanted.items()
        if (key not in found or _flat(step.value) not in found[key]) and patient.stays(record)
    ]
    if lost:
        lines = [line for step in lost for line in step.shell()[:1]]
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        yield Finding(
            check="table",
            result="failed",
            sentence=f"the table {FAMILY_TABLE} lacks {lost[0].key} in {lost[0].set}{more}",
            remedy=remedy(lines),
            ours=True,
        )


def _table_finding(sentence: str) -> Finding:
    return Finding(check="table", result="failed", sentence=sentence, remedy=(FIX,), ours=True)


def expected_rules(body: str) -> dict[str, int]:
    """How many rules each chain has in the text of our table, whose chains have one in a line."""
    found: dict[str, int] = {}
    chain = ""
    for line in (line.strip() for line in body.splitlines()):
        if match := re.fullmatch(r"chain (\w+) \{", line):
            chain = match[1]
            found[chain] = 0
        elif line == "}":
            chain = ""
        elif chain and line and not line.startswith(("#", "type ")):
            found[chain] += 1
    return found


def _wanted_elements(patient: Patient, records: Iterable[Record]) -> dict[tuple[str, str], tuple[Record, AddElement]]:
    """The elements that records want, by set and key."""
    plans = ((record, patient.ground.planner.plan_of(record)) for record in records)
    return {
        (step.set, _flat(step.key)): (record, step)
        for record, plan in plans
        for step in plan
        if isinstance(step, AddElement)
    }


def _elements(listing: list[dict[str, Any]]) -> dict[tuple[str, str], str]:
    """The elements of all sets and maps, as set and key, with their values."""
    found: dict[tuple[str, str], str] = {}
    for thing in listing:
        for kind in ("set", "map"):
            if one := thing.get(kind):
                for element in one.get("elem", ()):
                    key, value = element if kind == "map" else (element, "")
                    found[one["name"], _spelt(key)] = _spelt(value)
    return found


def _spelt(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("elem", value)
    if isinstance(value, dict) and "val" in value:
        value = value["val"]
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(map(str, value["concat"]))
    return str(value)


def _flat(words: str) -> str:
    return words.replace('"', "")


# What no record knows


def leaks(patient: Patient) -> Iterator[Finding]:
    """What carries our mark and belongs to no record, at two looks: at one, it may just have come and gone."""
    if found := list(_leaks(patient)):
        again = list(_leaks(replace(patient)))
        yield from (finding for finding in found if finding in again)


def _leaks(patient: Patient) -> Iterator[Finding]:
    # Of the kernel first: what it has of a record that is new by then has come with that record.
    marked = [
        (namespace, one)
        for namespace in patient.snapshot.namespaces
        for one in namespace.interfaces
        if one.alias.startswith("fairlead:")
    ]
    held = _elements(patient.table)
    place = patient.ground.paths.namespaces
    kept = sorted(place.glob("*")) if place.exists() else []
    accepted = patient.ground.kernel.firewalls.bridges()
    records = patient.known
    networks = [record for record in records if isinstance(record, Network)]
    paths = {record.path for record in records if isinstance(record, Sandbox)}
    known = {record.id for record in records} | {network.parent for network in networks if network.parent}

    hosts = {namespace.inode for namespace, one in marked if namespace.place and one.kind == "bridge"}
    for namespace, one in marked:
        # Elsewhere the mark may be that of another instance, whose host that namespace is: it has a bridge there.
        ours = not paths.isdisjoint(namespace.paths) and namespace.inode not in hosts
        here = not namespace.place or ours
        if here and one.alias.removeprefix("fairlead:") not in known:
            where = namespace.owner.name or namespace.place
            yield _leak(
                f"the interface {one.name} in {where} carries Fairlead's mark, but no record knows it",
                (ip(namespace.place, f"link del {word(one.name)}"),),
            )
    for path in kept:
        if str(path) not in paths:
            yield _leak(f"the network namespace {path} is of no container", (f"umount {path}; rm {path}",))
    for bridge in sorted(accepted - {network.ifname for network in networks}):
        for chain in patient.ground.kernel.firewalls.marked(bridge):
            yield _leak(f"the chain {chain} has accept rules for {bridge}, a bridge of no network", (FIX,))
    wanted = _wanted_elements(patient, records)
    if extra := [key for key in held if key not in wanted]:
        lines = [f"nft delete element {FAMILY_TABLE} {set_} '{{ {_quoted(key)} }}'" for set_, key in extra]
        more = f", and {len(extra) - 1} more" if len(extra) > 1 else ""
        sentence = f"the table {FAMILY_TABLE} has {extra[0][1]} in {extra[0][0]}, which is of no record{more}"
        yield _leak(sentence, remedy(lines))


def _leak(sentence: str, lines: tuple[str, ...]) -> Finding:
    return Finding(check="leaks", result="failed", sentence=sentence, remedy=lines, ours=True)


def _quoted(key: str) -> str:
    """A key as nft takes it: names of interfaces in quotation marks."""
    words = key.split(" . ")
    named = {word for word in words if not re.fullmatch(r"[0-9a-f.:]+|tcp|udp|sctp|ipv4|ipv6", word)}
    return " . ".join(f'"{word}"' if word in named else word for word in words)


# Published ports


def ports(patient: Patient) -> Iterator[Finding]:
    """Whether the keeper holds every published port, or who else does."""
    wanted = [(endpoint, step.key()) for endpoint in patient.all(Endpoint) for step in _holds(patient, endpoint)]
    if not wanted:
        return
    bound = sockets.bound()
    ours = {inode for pid in _keepers(patient) for inode in sockets.of_process(pid)}
    for endpoint, key in wanted:
        protocol, address, number = key
        # One socket for all addresses of both families shows as one of IPv6.
        inodes = bound.get((protocol, address or _EVERYWHERE, number), set())
        if inodes & ours or not patient.stays(endpoint):
            continue
        where = f"{number}/{protocol}" if address is None else f"{address}:{number}/{protocol}"
        pid, name = sockets.holder(inodes) if inodes else (0, "")
        who = f"{name} (pid {pid}) has it" if pid else "nobody holds it"
        yield Finding(
            check="ports",
            result="failed",
            sentence=f"the port {where} of {patient.title(endpoint)} is not held by Fairlead: {who}",
            remedy=(f"kill {pid}; {FIX}",) if pid else (FIX,),
            ours=True,
        )


def _holds(patient: Patient, endpoint: Endpoint) -> list[HoldPort]:
    return [step for step in patient.ground.planner.plan_of(endpoint) if isinstance(step, HoldPort)]


def _keepers(patient: Patient) -> list[int]:
    """The keepers of this instance: its path is on their command line."""
    path = str(patient.ground.paths.run / "keeper.sock")
    return [pid for pid in _processes() if survey.command_line(pid)[-2:] == [keeper.__file__, path]]


def _processes() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


# Names


def names(patient: Patient) -> Iterator[Finding]:
    """Whether the resolver answers in every sandbox that has it, by asking for one of its own names there."""
    silent = 0
    networks = {network.id: network for network in patient.all(Network)}
    for sandbox in patient.all(Sandbox):
        if not sandbox.names or not patient.ground.kernel.namespaces.exists(sandbox.path):
            continue
        wrong = [(step, state) for step, state in patient.check(sandbox, (RedirectNames,)) if state is not State.HOLDS]
        if wrong and patient.stays(sandbox):
            yield Finding(
                check="resolver",
                result="failed",
                sentence=f"{patient.title(sandbox)}: {ADDRESS} does not lead to the resolver",
                remedy=(FIX,),
                ours=True,
            )
            continue
        endpoint, name = _a_name_in(patient, sandbox, networks)
        if endpoint is None or silent == _SILENT:
            continue
        reason = _asked(patient, sandbox, name)
        if reason and patient.stays(sandbox) and patient.stays(endpoint):
            silent += 1
            yield Finding(
                check="resolver",
                result="failed",
                sentence=f"{patient.title(sandbox)}: the resolver at {ADDRESS} {reason}",
                remedy=(FIX,),
                ours=True,
            )


def _a_name_in(patient: Patient, sandbox: Sandbox, networks: dict[str, Network]) -> tuple[Endpoint | None, str]:
    """A name that the sandbox's own endpoint gives to an IPv4 address."""
    container = patient.ground.store.get(Container, sandbox.container) if sandbox.container else None
    for endpoint in patient.all(Endpoint):
        network = networks.get(endpoint.network)
        if endpoint.sandbox == sandbox.id and network:
            entry = member(endpoint, network, sandbox, container)
            if entry and any(ip_address(address).version == 4 for address in entry["addresses"]):
                return endpoint, str(entry["names"][0])
    return None, ""


def _asked(patient: Patient, sandbox: Sandbox, name: str) -> str:
    """What is wrong with the answer to a question for the name's IPv4 address; empty: nothing."""
    labels = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    query = struct.pack(">HHHHHH", 0x5EED, 0, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)
    try:
        with patient.ground.kernel.namespaces.entered(sandbox.path):
            asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        with asking:
            asking.settimeout(_ANSWER_SECONDS)
            asking.connect((ADDRESS, 53))
            asking.send(query)
            answer = asking.recv(4096)
    except OSError as error:
        return f"gives no answer ({error.strerror or 'within a second'})"
    if len(answer) < struct.calcsize(">HHHH"):
        return "gives half an answer"
    _, flags, _, answers = struct.unpack_from(">HHHH", answer)
    return "" if not flags & 0xF and answers else f"does not know its own name {name}"


# Containers


def containers(patient: Patient) -> Iterator[Finding]:
    """Whether those that are said to run have their monitor."""
    for container in patient.ground.store.all(Container):
        if container.is_running and not is_monitor(container.monitor_pid, container.id):
            yield Finding(
                check="containers",
                result="failed",
                sentence=f"container {container.name} is recorded as running, but its monitor (conmon) has ended",
                remedy=(f"fairlead restart {container.name}",),
                ours=not patient.daemon,
            )


def addresses(patient: Patient) -> Iterator[Finding]:
    """Whether an address is on two interfaces of one network; the one that no record knows is the one too many.

    One that the kernel itself refused to use (IPv6) is not always seen twice: the other may be on another machine.
    """
    recorded = {
        (endpoint.network, interface.ip, endpoint.sandbox)
        for endpoint in patient.all(Endpoint)
        for interface in endpoint.addresses
    }
    by_path = {sandbox.path: sandbox for sandbox in patient.all(Sandbox)}

    def sandbox_of(fact: NamespaceFact) -> Sandbox | None:
        return next((by_path[path] for path in fact.paths if path in by_path), None)

    def called(fact: NamespaceFact) -> str:
        if sandbox := sandbox_of(fact):
            return patient.name(sandbox.id)
        return fact.owner.name or fact.owner.id[:12] if fact.place else "the host"

    def suspicion(network: Network, entry: tuple[Interface, InterfaceFact, NamespaceFact]) -> tuple[bool, bool]:
        interface, one, fact = entry
        sandbox = sandbox_of(fact)
        ours = (network.id, interface.ip, sandbox.id) in recorded if sandbox else False
        gateway = not fact.place and interface.ip in {pool.gateway for pool in network.pools}
        return interface in one.duplicates, not (ours or gateway)

    for network in patient.all(Network):
        seen: dict[Address, str] = {}
        found = [
            (interface, one, fact)
            for fact, one in _on_bridge(patient, network)
            for interface in one.addresses
            if not interface.is_link_local
        ]
        for interface, one, fact in sorted(found, key=functools.partial(suspicion, network)):
            here, other = f"{one.name} of {called(fact)}", seen.get(interface.ip)
            sentence = ""
            if interface in one.duplicates:
                who = f"{other} in network {network.name}" if other else f"another host in network {network.name}"
                sentence = f"{interface.ip} on {here} does not work: {who} had it already"
            elif other:
                sentence = f"{interface.ip} in network {network.name} is both on {other} and on {here}: answers come"
                sentence += " now from one, now from the other"
            if sentence:
                remedy = (ip(fact.place, f"addr del {interface} dev {word(one.name)}"),)
                yield Finding(check="addresses", result="failed", sentence=sentence, remedy=remedy)
            seen.setdefault(interface.ip, here)


def _on_bridge(patient: Patient, network: Network) -> Iterator[tuple[NamespaceFact, InterfaceFact]]:
    """The network's bridge, and what is at the other ends of its ports: where, and which interface."""
    host = patient.snapshot.host
    bridge = host.named(network.ifname) if network.ifname else None
    if bridge is None:
        return
    yield host, bridge
    for port in host.interfaces:
        there = patient.snapshot.namespace(port.peer.namespace) if port.peer else None
        inner = there.interface(port.peer.index) if there and port.peer else None
        if port.master == bridge.index and there and inner:
            yield there, inner
