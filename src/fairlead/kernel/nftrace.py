"""Follows chosen packets through nftables: tracing rules in a table of its own, and the kernel's report of each rule.

The table has the flag ``owner`` (Linux 5.12): the kernel takes it away when the socket that made it is closed, so also
when this process is killed.  The chains of iptables in its nft form are among those reported; legacy ones are not.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from secrets import token_hex

from fairlead.errors import FairleadError
from fairlead.kernel.netlink import NETLINK_NETFILTER, Socket, as_text, attributes
from fairlead.kernel.nftables import Nftables
from fairlead.kernel.packets import Mark
from fairlead.model import Address

TABLE = "fairlead_trace"
"""What our tables' names begin with."""

_GROUP = 9
_TRACE = (10 << 8) | 17
"""NFNLGRP_NFTRACE; NFNL_SUBSYS_NFTABLES with NFT_MSG_TRACE (linux/netfilter/nfnetlink.h, nf_tables.h)."""
_NFGENMSG = 4

(_ATTR_TABLE, _ATTR_CHAIN, _ATTR_HANDLE, _ATTR_TYPE, _ATTR_VERDICT, _ATTR_ID) = range(1, 7)
(_ATTR_NETWORK, _ATTR_TRANSPORT, _ATTR_IIF, _ATTR_OIF, _ATTR_POLICY) = 8, 9, 10, 12, 16
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_TYPES = {1: "policy", 2: "return", 3: "rule"}
_VERDICTS = {0: "drop", 1: "accept", 2: "stolen", 3: "queue", -1: "continue", -2: "break", -3: "jump", -4: "goto"}
_VERDICTS[-5] = "return"
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

_BASE = re.compile(r"type (\S+) hook (\S+) (?:devices? (.*?) )?priority ([^;]+);(?: policy (\w+);)?")
_DEVICE = re.compile(r'[^\s"={},]+')
_OPENS = re.compile(r"(table|chain|set|map|flowtable|ct \w+) (.+?) \{(?: #.*)?$")
_HANDLE = re.compile(r"^(.*?)\s*# handle (\d+)$")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule as nft writes it."""

    family: str
    table: str
    chain: str
    handle: int
    text: str


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain; `hook` is empty for one that is only jumped to."""

    family: str
    table: str
    name: str
    hook: str = ""
    priority: str = ""
    policy: str = ""
    devices: tuple[str, ...] = ()
    """The interfaces whose packets it gets, on the hooks ingress and egress."""


@dataclass(frozen=True, slots=True)
class Event:
    """What one rule, or a chain's policy, did with a packet."""

    identity: int
    """The same for all events of one packet in one passage."""
    family: str
    table: str
    chain: str
    kind: str
    """``rule``, ``policy``, or ``return`` (the end of a chain that was jumped to)."""
    handle: int
    verdict: str
    target: str
    """The chain that a jump or goto leads to."""
    index_in: int
    index_out: int
    headers: bytes
    """Network and transport header; only the first event of a passage through a hook has them."""


class Ruleset:
    """The rules and chains of a namespace, read from nft's own text, as users know it."""

    def __init__(self, text: str) -> None:
        self.rules: dict[tuple[str, str, str, int], Rule] = {}
        self.chains: dict[tuple[str, str, str], Chain] = {}
        family = table = chain = ""
        for line in map(str.strip, text.splitlines()):
            if opened := _OPENS.match(line):
                kind, name = opened.groups()
                if kind == "table":
                    family, _, table = name.partition(" ")
                elif kind != "chain":
                    chain = ""  # A set's or map's own lines are no rules.
                else:
                    chain = name.strip('"')
                    self.chains[family, table, chain] = Chain(family, table, chain)
            elif based := _BASE.match(line):
                _, hook, text, priority, policy = based.groups()
                devices = tuple(_DEVICE.findall(text or ""))
                self.chains[family, table, chain] = Chain(
                    family, table, chain, hook, priority.strip(), policy or "accept", devices
                )
            elif chain and (ruled := _HANDLE.match(line)):
                words, handle = ruled.groups()
                self.rules[family, table, chain, int(handle)] = Rule(family, table, chain, int(handle), words)

    @property
    def families(self) -> set[str]:
        """The families that have chains on hooks, our own aside."""
        return {chain.family for chain in self._others()}

    @property
    def devices(self) -> dict[str, set[str]]:
        """The interfaces that have chains of their own, our own aside, by the hook: ingress or egress."""
        found: dict[str, set[str]] = {}
        for chain in self._others():
            if chain.devices:
                found.setdefault(chain.hook, set()).update(chain.devices)
        return found

    def _others(self) -> Iterator[Chain]:
        return (chain for chain in self.chains.values() if chain.hook and not chain.table.startswith(TABLE))


def read_ruleset() -> Ruleset:
    """The rules of the namespace that this thread is in."""
    nft = Nftables(json=False)
    try:
        return Ruleset(nft.text("list ruleset"))
    finally:
        nft.close()


@dataclass(frozen=True, slots=True)
class Traced:
    """Which packets are to be followed: what matches them, in nft's words, by the family of chains that meet them."""

    name: str
    """Of the table of this one, as several may be followed at once."""
    matches: dict[str, tuple[str, ...]]


def marked(mark: Mark) -> Traced:
    """The packets of a probe, and the ICMP errors about it.  The numbers are the places of `kernel.packets`."""
    cookie, answered = f"{mark.cookie:#x}", f"{(mark.cookie + 1) & 0xFFFFFFFF:#x}"
    tcp, others = "meta l4proto tcp", "meta l4proto { udp, icmp, ipv6-icmp }"
    icmp4, icmp6 = "meta l4proto icmp", "meta l4proto ipv6-icmp"
    places = [f"{tcp} @th,32,32 {cookie}", f"{tcp} @th,64,32 {answered}", f"{others} @th,64,32 {cookie}"]
    for icmp, header in ((icmp4, 20), (icmp6, 40)):
        quoted = 8 * (8 + header)
        places.append(f"{icmp} @th,{quoted + 32},32 {cookie}")
        places += [f"{icmp} @th,{quoted + 64},32 {value}" for value in (cookie, answered)]
    if mark.udp_port:
        places.append(f"udp dport {mark.udp_port}")
    return Traced(f"{mark.cookie:08x}", dict.fromkeys(("inet", "bridge", "netdev"), tuple(places)))


def questions(address: Address) -> Traced:
    """Who asks for the hardware address of this one, and what it answers: ARP, or Neighbour Discovery (RFC 4861)."""
    if address.version == 4:
        matches = (f"arp daddr ip {address}", f"arp saddr ip {address}")
        return Traced(token_hex(4), dict.fromkeys(("arp", "bridge", "netdev"), matches))
    target = f"icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} @th,64,128 {int(address):#x}"
    return Traced(token_hex(4), dict.fromkeys(("inet", "bridge", "netdev"), (target,)))


_BEGIN = {"inet": ("prerouting", "output"), "bridge": ("prerouting", "output"), "arp": ("input", "output")}
"""The hooks at which a packet begins its way, by family."""
_MET = {"ip": "inet", "ip6": "inet"}
"""The family of our own chains before those of another."""


class RuleWatch:
    """Reports what rules do with chosen packets in the namespace in which it was made, until `close`."""

    def __init__(self, traced: Traced, there: Ruleset) -> None:
        self._nft = Nftables(json=False)
        self._socket = Socket(NETLINK_NETFILTER)
        own = {_MET.get(family, family) for family in there.families} & traced.matches.keys() & _BEGIN.keys()
        try:
            self._socket.join(_GROUP)
            self._nft.run("".join(_table(family, traced, dict.fromkeys(_BEGIN[family], "")) for family in sorted(own)))
        except BaseException:
            self.close()
            raise
        names = {hook: ", ".join(f'"{name}"' for name in sorted(found)) for hook, found in there.devices.items()}
        if names:
            places = {hook: f"devices = {{ {text} }} " for hook, text in names.items()}
            with contextlib.suppress(FairleadError):  # One of them has gone meanwhile; the rest is to be seen still.
                self._nft.run(_table("netdev", traced, places))

    def take(self) -> list[Event]:
        """The events since the last time."""
        found = [_event(body) for kind, body in self._socket.drain() if kind == _TRACE]
        return [event for event in found if event and not event.table.startswith(TABLE)]

    @property
    def missed(self) -> bool:
        """Whether the kernel reported more than could be kept."""
        return self._socket.overrun

    def close(self) -> None:
        """Take the tracing rules away."""
        self._socket.close()
        self._nft.close()


def _table(family: str, traced: Traced, hooks: dict[str, str]) -> str:
    """Tracing rules that come before all others on these hooks, of the devices given for each if any."""
    rules = "".join(f"\t\t{match} meta nftrace set 1\n" for match in traced.matches[family])
    chains = "".join(
        f"\tchain {hook} {{\n\t\ttype filter hook {hook} {devices}priority -2000000000; policy accept;\n{rules}\t}}\n"
        for hook, devices in hooks.items()
    )
    return f"table {family} {TABLE}_{os.getpid()}_{traced.name} {{\n\tflags owner\n{chains}}}\n"


def _event(body: bytes) -> Event | None:
    values = dict(attributes(body[_NFGENMSG:]))
    verdict = dict(attributes(values.get(_ATTR_VERDICT, b"")))
    kind = _TYPES.get(_number(values.get(_ATTR_TYPE)), "")
    if not kind:
        return None
    if kind == "rule" and _ATTR_HANDLE not in values:
        kind = "return"  # Linux 6.18 says so of the end of a chain.
    code = values.get(_ATTR_POLICY) if kind == "policy" else verdict.get(_VERDICT_CODE)
    (signed,) = struct.unpack("!i", code) if code else (-1,)
    return Event(
        identity=_number(values.get(_ATTR_ID)),
        family=_FAMILIES.get(body[0], str(body[0])),
        table=as_text(values.get(_ATTR_TABLE)),
        chain=as_text(values.get(_ATTR_CHAIN)),
        kind=kind,
        handle=struct.unpack("!Q", values[_ATTR_HANDLE])[0] if _ATTR_HANDLE in values else 0,
        # An error number may stand in the upper half of a drop.
        verdict=_VERDICTS.get(signed if signed < 0 else signed & 0xFF, str(signed)),
        target=as_text(verdict.get(_VERDICT_CHAIN)),
        index_in=_number(values.get(_ATTR_IIF)),
        index_out=_number(values.get(_ATTR_OIF)),
        headers=values.get(_ATTR_NETWORK, b"") + values.get(_ATTR_TRANSPORT, b""),
    )


def _number(value: bytes | None) -> int:
    return int(struct.unpack("!I", value)[0]) if value else 0
