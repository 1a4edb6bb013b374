"""The rules of iptables-legacy, which nothing reports on: a counter that has risen tells which one met a packet."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_TABLES = {"ip": "/proc/thread-self/net/ip_tables_names", "ip6": "/proc/thread-self/net/ip6_tables_names"}
PROGRAMS = {"ip": "iptables-legacy", "ip6": "ip6tables-legacy"}

_POLICY = re.compile(r":(\S+) (\S+) \[(\d+):\d+\]")
_RULE = re.compile(r"\[(\d+):\d+\] -A (\S+) (.*)")
_ENDS = re.compile(r"-j (DROP|REJECT)\b")


@dataclass(frozen=True, slots=True)
class LegacyRule:
    """A rule, or a chain's policy, that drops or rejects."""

    family: str
    table: str
    chain: str
    text: str
    """As iptables writes it, or ``policy DROP``."""


def read_counters() -> dict[tuple[LegacyRule, int], int]:
    """How many packets each dropping rule has met, of this thread's namespace; by the rule and its place."""
    found: dict[tuple[LegacyRule, int], int] = {}
    for family, names in _TABLES.items():
        program = PROGRAMS[family] + "-save"
        try:
            used = Path(names).read_text().strip()
        except OSError:
            used = ""
        if used and shutil.which(program):
            done = subprocess.run([program, "-c"], capture_output=True, text=True, check=False, timeout=10)
            found |= _parse(family, done.stdout)
    return found


def risen(before: dict[tuple[LegacyRule, int], int], after: dict[tuple[LegacyRule, int], int]) -> list[LegacyRule]:
    """The rules that have met packets meanwhile."""
    return [rule for (rule, place), count in after.items() if count > before.get((rule, place), count)]


def _parse(family: str, text: str) -> dict[tuple[LegacyRule, int], int]:
    found = {}
    table = ""
    for number, line in enumerate(text.splitlines()):
        if line.startswith("*"):
            table = line[1:]
        elif (policy := _POLICY.match(line)) and policy[2] == "DROP":
            found[LegacyRule(family, table, policy[1], "policy DROP"), number] = int(policy[3])
        elif (rule := _RULE.match(line)) and _ENDS.search(rule[3]):
            found[LegacyRule(family, table, rule[2], rule[3]), number] = int(rule[1])
    return found
