"""The firewall's rules of one namespace, as nft writes them.

Sets stand there without their elements: of those that matter (published ports, masquerading) the topology tells, and in
a large set they would hide the rules.  Rules of iptables-legacy are unknown to nftables and not among them.
"""

from __future__ import annotations

import msgspec

from fairlead.kernel.namespaces import Namespaces
from fairlead.kernel.nftables import Nftables


class Table(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A table: its family and name, and its text with handles, without the frame around it."""

    family: str
    name: str
    lines: tuple[str, ...]


def read(namespaces: Namespaces, path: str) -> list[Table]:
    """The tables in the namespace at `path` (empty: the host's); raises `KernelError`."""
    nft = Nftables(json=False)
    try:
        # A context belongs to the namespace in which it is first used, hence one of its own.
        with namespaces.entered(path):
            return parse(nft.text("list ruleset"))
    finally:
        nft.close()


def parse(text: str) -> list[Table]:
    """Tables out of the text of ``nft -a list ruleset``: each begins and ends at the left edge."""
    found: list[Table] = []
    lines: list[str] = []
    head: list[str] = []
    for line in text.splitlines():
        if line.startswith("table "):
            head, lines = line.split(), []
        elif line == "}" and head:
            found.append(Table(family=head[1], name=head[2], lines=tuple(lines)))
            head = []
        elif head:
            lines.append(line.removeprefix("\t"))
    return found
