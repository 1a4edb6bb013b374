"""What this host redirects and masquerades, by whomever's rules: ours, iptables', other nftables tables.

Of our own table the elements say it.  Of other programs' rules those are understood that say it in the usual way: a
port, perhaps an address, and where it leads.  A rule that is more cunning is left out rather than guessed at.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

from fairlead.kernel.firewalls import OUR_TABLE
from fairlead.kernel.nftables import Nftables, tables

OURS = "fairlead"

_LEGACY = (
    ("/proc/net/ip_tables_names", "iptables-legacy-save"),
    ("/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
)
_SAVE = {"ip": "iptables-save", "ip6": "ip6tables-save"}
_FIELDS = {"--dport": "port", "--destination-port": "port", "-p": "protocol", "-d": "address", "-s": "source"}


@dataclass(frozen=True, slots=True)
class Redirect:
    """A port of this host that leads elsewhere (destination NAT).  `host_ip` empty: on all addresses.

    `manager` is ``fairlead``, ``iptables`` or ``nftables``; `rule` says where it stands, such as ``ip nat DOCKER``.
    """

    protocol: str
    host_ip: str
    host_port: int
    address: str
    port: int
    version: int
    manager: str
    rule: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """Packets from here (a subnet, or an interface by name) leave with another source: `to`, or (empty) the host's."""

    source: str
    to: str
    version: int
    manager: str
    rule: str


@dataclass(frozen=True, slots=True)
class Nat:
    """All of it."""

    redirects: tuple[Redirect, ...] = ()
    masquerades: tuple[Masquerade, ...] = ()


def read(nft: Nftables) -> Nat:
    """What the rules of this host say now."""
    redirects: dict[Redirect, None] = {}
    masquerades: dict[Masquerade, None] = {}
    for found in _all(nft):
        if isinstance(found, Redirect):
            redirects[found] = None
        else:
            masquerades[found] = None
    return Nat(tuple(redirects), tuple(masquerades))


def _all(nft: Nftables) -> Iterator[Redirect | Masquerade]:
    for table in tables():
        family, name = table.family, table.name
        if family not in ("ip", "ip6", "inet"):
            continue
        listing = nft.table(str(table))
        if (family, name) == ("inet", OUR_TABLE):
            yield from _ours(listing)
        elif family in _SAVE and name == "nat" and _is_of_iptables(listing):
            yield from _saved(_SAVE[family], family)
        else:
            yield from _foreign(listing, f"{family} {name}")
    for names, program in _LEGACY:
        with contextlib.suppress(OSError):
            if "nat" in Path(names).read_text().split():
                yield from _saved(program, "ip6" if "ip6" in program else "ip")


# Ours


def _ours(listing: list[dict[str, Any]]) -> Iterator[Redirect | Masquerade]:
    sets = {one["name"]: one.get("elem", []) for thing in listing for one in thing.values() if "name" in one}
    for version in (4, 6):
        for name in (f"ports{version}", f"ports{version}_any"):
            for key, value in sets.get(name, ()):
                protocol, *address, port = _words(key)
                target, target_port = _words(value)
                host_ip = str(address[0]) if address else ""
                yield Redirect(
                    str(protocol), host_ip, int(port), str(target), int(target_port), version, OURS, f"map {name}"
                )
        name = f"masqueraded{version}"
        yield from (Masquerade(str(one), "", version, OURS, f"set {name}") for one in sets.get(name, ()))
        name = f"source{version}"
        yield from (Masquerade(str(key), str(to), version, OURS, f"map {name}") for key, to in sets.get(name, ()))


def _words(value: Any) -> list[Any]:
    found = value.get("elem", value) if isinstance(value, dict) else value
    if isinstance(found, dict) and "val" in found:
        found = found["val"]
    return list(found["concat"]) if isinstance(found, dict) and "concat" in found else [found]


# iptables


def _is_of_iptables(listing: list[dict[str, Any]]) -> bool:
    """Whether iptables writes the table: then its program reads it best, as nft has no words for its extensions."""
    chains = {one["name"] for thing in listing if (one := thing.get("chain"))}
    return bool(chains & {"PREROUTING", "POSTROUTING", "OUTPUT"}) and shutil.which("iptables-save") is not None


def _saved(program: str, family: str) -> Iterator[Redirect | Masquerade]:
    try:
        done = subprocess.run([program, "-t", "nat"], capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return
    yield from parse_saved(done.stdout, family)


def parse_saved(text: str, family: str) -> Iterator[Redirect | Masquerade]:
    """What lines of ``iptables-save -t nat`` amount to; a chain's own source is that of the jump to it."""
    version = 4 if family == "ip" else 6
    rules = [shlex.split(line) for line in text.splitlines() if line.startswith("-A ")]
    sources: dict[str, str] = {}
    for words in rules:
        found = _options(words)
        if "source" in found and found.get("-j"):
            sources.setdefault(found["-j"], found["source"])
    for words in rules:
        found = _options(words)
        rule = f"{family} nat {words[1]}"
        target = found.get("-j")
        if target == "DNAT" and found.get("port", "").isdecimal() and "--to-destination" in found:
            address, port = _split(found["--to-destination"])
            host_ip = _plain(found.get("address", ""))
            where = int(found["port"])
            yield Redirect(
                found.get("protocol", "tcp"), host_ip, where, address, port or where, version, "iptables", rule
            )
        elif target in ("MASQUERADE", "SNAT"):
            source = found.get("source") or sources.get(words[1], "")
            # With a port it is about what comes back to where it came from (hairpin), not about the world.
            if source and "port" not in found:
                to = found.get("--to-source", "") if target == "SNAT" else ""
                yield Masquerade(source, to, version, "iptables", rule)


def _options(words: list[str]) -> dict[str, str]:
    """The words after each flag; a negated one says nothing that we could use."""
    found: dict[str, str] = {}
    for before, flag, value in zip(["", *words], words, [*words[1:], ""], strict=False):
        if flag.startswith("-") and before != "!":
            found[_FIELDS.get(flag, flag)] = value
    return found


def _split(target: str) -> tuple[str, int]:
    """``10.0.0.2:80``, ``[fd00::2]:80``, ``10.0.0.2``."""
    if target.startswith("["):
        address, _, port = target[1:].partition("]")
        port = port.removeprefix(":")
    elif target.count(":") == 1:
        address, _, port = target.partition(":")
    else:
        address, port = target, ""
    return address, int(port) if port.isdecimal() else 0


def _plain(address: str) -> str:
    """An address without the length that iptables-save adds to it; a subnet is left as it is."""
    with contextlib.suppress(ValueError):
        network = ip_network(address)
        return str(network[0]) if network.prefixlen == network.max_prefixlen else address
    return address


# Other tables of nftables


def _foreign(listing: list[dict[str, Any]], table: str) -> Iterator[Redirect | Masquerade]:
    for thing in listing:
        rule = thing.get("rule")
        if not rule:
            continue
        where = f"{table} {rule['chain']}"
        matches = dict(_matches(rule.get("expr", [])))
        for statement in rule.get("expr", []):
            if isinstance(target := statement.get("dnat"), dict):
                yield from _dnat(target, matches, where)
            elif "masquerade" in statement or "snat" in statement:
                source = matches.get("saddr") or matches.get("iifname")
                to = (statement.get("snat") or {}).get("addr", "")
                if isinstance(source, str) and isinstance(to, str):
                    yield Masquerade(source, to, _version(source, to), "nftables", where)


def _dnat(target: dict[str, Any], matches: dict[str, Any], where: str) -> Iterator[Redirect]:
    address, port = target.get("addr"), matches.get("dport")
    to, host_ip = target.get("port", port), matches.get("daddr", "")
    if isinstance(address, str) and isinstance(port, int) and isinstance(to, int) and isinstance(host_ip, str):
        protocol = str(matches.get("protocol", "tcp"))
        yield Redirect(protocol, host_ip, port, address, to, _version(address), "nftables", where)


def _matches(expressions: list[dict[str, Any]]) -> Iterator[tuple[str, Any]]:
    for expression in expressions:
        match = expression.get("match")
        if not match or match.get("op") not in ("==", "in"):
            continue
        left, right = match["left"], match["right"]
        if isinstance(right, dict) and "prefix" in right:
            right = f"{right['prefix']['addr']}/{right['prefix']['len']}"
        if payload := left.get("payload"):
            yield payload.get("field", ""), right
            if payload.get("protocol") in ("tcp", "udp", "sctp"):
                yield "protocol", payload["protocol"]
        elif meta := left.get("meta"):
            yield ("protocol" if meta.get("key") == "l4proto" else meta.get("key", "")), right


def _version(*words: str) -> int:
    for word in words:
        with contextlib.suppress(ValueError):
            return ip_address(word.partition("/")[0]).version
    return 4
