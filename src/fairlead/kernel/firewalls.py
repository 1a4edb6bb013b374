"""Other firewalls on the host: which of their chains would drop forwarded packets, and our accept rules in those.

nftables chains, which include those of `iptables` in its usual nft form, are edited through libnftables (iptables shows
such rules as its own); the legacy iptables, which nft cannot see, through its program.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import KernelError, MissingProgram
from fairlead.kernel.nftables import Nftables, tables

_LEGACY = {"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}
_LEGACY_TABLES = {"ip": "/proc/net/ip_tables_names", "ip6": "/proc/net/ip6_tables_names"}
OUR_TABLE = "fairlead"


def mark(bridge: str) -> str:
    """The comment on our accept rules for a bridge."""
    return f"fairlead:{bridge}"


@dataclass(frozen=True, slots=True)
class OtherChain:
    """Somebody else's base chain on the forward hook.  `legacy`: of iptables-legacy.

    For a bridge whose packets go nowhere else, `within`, one rule is enough: from the bridge back into it.
    """

    family: str
    table: str
    name: str
    legacy: bool = False

    def passes(self, versions: Collection[int]) -> bool:
        """Whether packets of any of these families come through the chain."""
        return {"ip": 4 in versions, "ip6": 6 in versions}.get(self.family, True)

    def accept_lines(self, bridge: str, *, within: bool = False) -> tuple[str, ...]:
        """The lines a person would type to let a bridge's packets pass."""
        if self.legacy:
            name = shlex.quote(bridge)
            ways = (f"-i {name} -o {name}",) if within else (f"-i {name}", f"-o {name}")
            comment = f"-m comment --comment {shlex.quote(mark(bridge))}"
            return tuple(f"{_LEGACY[self.family]} -I {self.name} {way} {comment} -j ACCEPT" for way in ways)
        return tuple(f"nft {shlex.quote(rule)}" for rule in self.insert(bridge, within=within))

    def withdraw_lines(self, bridge: str, *, within: bool = False) -> tuple[str, ...]:
        """The lines that take them away again."""
        if self.legacy:
            return tuple(line.replace(" -I ", " -D ", 1) for line in self.accept_lines(bridge, within=within))
        return (f"nft -a list chain {self}  # delete by handle the rules with comment {mark(bridge)}",)

    def insert(self, bridge: str, *, within: bool) -> tuple[str, ...]:
        """The same as commands of nft."""
        one, other = f'iifname "{bridge}"', f'oifname "{bridge}"'
        ways = (f"{one} {other}",) if within else (one, other)
        return tuple(f'insert rule {self} {way} counter accept comment "{mark(bridge)}"' for way in ways)

    def __str__(self) -> str:
        return f"{self.family} {self.table} {self.name}"


class Firewalls:
    """Looks at, and mends, other firewalls."""

    def __init__(self, nft: Nftables) -> None:
        self._nft = nft

    def blocking(self) -> list[OtherChain]:
        """The chains that drop what nobody let pass: by policy, or by a rule of their own that drops or rejects all.

        A rule that drops some packets is meant for those: it does not count.  Nor do chains that we cannot change.
        """
        chains = self._nft_chains()
        locked = _owned() if chains else set()
        found = [chain for chain in chains if (chain.family, chain.table) not in locked]
        found = [chain for chain in found if drops_rest(self._rules(chain))]
        return found + [chain for chain, lines in self._legacy() if any(map(_legacy_drops_all, lines))]

    def locked(self) -> list[OtherChain]:
        """Chains that drop likewise, in tables that another process keeps to itself (``flags owner``)."""
        locked = _owned()
        found = [chain for chain in self._nft_chains() if (chain.family, chain.table) in locked]
        return [chain for chain in found if drops_rest(self._rules(chain))]

    def marked(self, bridge: str) -> list[OtherChain]:
        """The chains that hold accept rules of ours for this bridge, whether they still drop or not."""
        return [
            chain
            for chain in [*self._nft_chains(), *(chain for chain, _ in self._legacy())]
            if self._marks(chain, bridge)
        ]

    def bridges(self) -> set[str]:
        """All bridges for which some chain has accept rules of ours."""
        comments = [
            str(thing["rule"].get("comment", ""))
            for chain in self._nft_chains()
            for thing in self._rules(chain)
            if "rule" in thing
        ]
        comments += [word for _, lines in self._legacy() for line in lines for word in line.replace('"', "").split()]
        return {comment.removeprefix("fairlead:") for comment in comments if comment.startswith("fairlead:")}

    def accept(self, chain: OtherChain, bridge: str, *, within: bool) -> None:
        """Put the accept rules first in the chain; rules of ours that are there are put again, not twice."""
        self.withdraw(chain, bridge)
        if chain.legacy:
            for line in chain.accept_lines(bridge, within=within):
                _run(line)
        else:
            self._nft.run("\n".join(chain.insert(bridge, within=within)) + "\n")

    def withdraw(self, chain: OtherChain, bridge: str) -> None:
        """Delete our accept rules from the chain; none there, or no such chain, is no error."""
        if chain.legacy:
            for within in (False, True):
                for line in chain.withdraw_lines(bridge, within=within):
                    _run(line, check=False)
            return
        handles = [
            thing["rule"]["handle"]
            for thing in self._rules(chain)
            if "rule" in thing and thing["rule"].get("comment") == mark(bridge)
        ]
        if handles:
            self._nft.run("".join(f"delete rule {chain} handle {handle}\n" for handle in handles))

    def accepts(self, chain: OtherChain, bridge: str, *, within: bool) -> bool:
        """Whether the accept rules are there."""
        return self._marks(chain, bridge) == (1 if within else 2)

    def _marks(self, chain: OtherChain, bridge: str) -> int:
        if chain.legacy:
            lines = [line for other, lines in self._legacy() if other == chain for line in lines]
            return sum(mark(bridge) in line.replace('"', "").split() for line in lines)
        rules = [thing["rule"] for thing in self._rules(chain) if "rule" in thing]
        return sum(bool(rule.get("comment") == mark(bridge)) for rule in rules)

    def _nft_chains(self) -> list[OtherChain]:
        return [
            OtherChain(chain["family"], chain["table"], chain["name"])
            for thing in self._nft.list("chains")
            if (chain := thing.get("chain")) and _is_other(chain)
        ]

    def _rules(self, chain: OtherChain) -> list[dict[str, Any]]:
        return self._nft.list(f"chain {chain}")

    def _legacy(self) -> list[tuple[OtherChain, list[str]]]:
        found = []
        for family, program in _LEGACY.items():
            try:
                tables = Path(_LEGACY_TABLES[family]).read_text().split()
            except OSError:
                continue
            if "filter" in tables and shutil.which(program):
                chain = OtherChain(family, "filter", "FORWARD", legacy=True)
                # Not -S, which takes the lock that tells `LegacyWatch` of a change.
                found.append((chain, _run(f"{program}-save -t filter", check=False).splitlines()))
        return found


def _owned() -> set[tuple[str, str]]:
    return {(table.family, table.name) for table in tables() if table.owned}


def _is_other(chain: dict[str, Any]) -> bool:
    ours: bool = chain["table"] == OUR_TABLE and chain["family"] == "inet"
    return not ours and bool(chain.get("hook") == "forward" and chain["family"] in ("ip", "ip6", "inet"))


def drops_rest(listing: list[dict[str, Any]]) -> bool:
    """Whether a chain, by its listing, drops what none of its rules let pass: by its policy, or by a rule for all."""
    policies = [thing["chain"].get("policy") for thing in listing if "chain" in thing]
    return "drop" in policies or any(map(_drops_all, listing))


def _drops_all(thing: dict[str, Any]) -> bool:
    """Whether a rule in a listing ends the way of every packet that comes to it."""
    statements = [
        (name, value)
        for statement in thing.get("rule", {}).get("expr", [])
        for name, value in statement.items()
        if name not in ("counter", "log")
    ]
    if len(statements) != 1:
        return False
    name, value = statements[0]
    # iptables in its nft form writes -j REJECT as an extension.
    return name in ("drop", "reject") or (name == "xt" and value == {"type": "target", "name": "REJECT"})


def _legacy_drops_all(line: str) -> bool:
    return line == "-A FORWARD -j DROP" or line.startswith((":FORWARD DROP ", "-A FORWARD -j REJECT"))


def _run(line: str, *, check: bool = True) -> str:
    try:
        done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MissingProgram(f"{line.split()[0]} is not installed") from None
    if check and done.returncode:
        raise KernelError(f"{line}: {done.stderr.strip()}")
    return done.stdout
