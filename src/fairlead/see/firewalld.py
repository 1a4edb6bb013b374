"""What firewalld is told so that it lets packets pass: lines of firewall-cmd(1) that outlive its reload and a restart.

A rule put into its chains by nft is gone with the next reload.  One of its "direct rules" would not do either: it is
iptables', and a packet that iptables accepts still meets firewalld's own table (firewalld.direct(5), "Caveats").
"""

from __future__ import annotations

import re
import shlex

_ZONE = re.compile(r"filter_IN_(?!policy_)(.+?)(?:_(?:pre|log|deny|allow|post))?")
_POLICY = "forwarding"
"""The name of the policy that the lines make; firewalld has none of this name."""


def open_port(chain: str, port: int, protocol: str) -> list[str]:
    """To the host itself; `chain` is the one that refused, which tells the zone, if it is a zone's."""
    zone = f"--zone={match[1]} " if (match := _ZONE.fullmatch(chain)) else ""
    return _now_and_later(f"{zone}--add-port={port}/{protocol}")


def trust(interface: str) -> list[str]:
    """Whatever comes in by an interface."""
    return _now_and_later(f"--zone=trusted --add-interface={interface}")


def forward(source: str, destination: str, port: int, protocol: str) -> list[str]:
    """From one address to another through the host (firewalld.policies(5)); `port` 0: all, whatever the protocol.

    A policy comes to be at a reload only.  The first line fails where the policy is there already, which is no matter.
    """
    family = "ipv6" if ":" in destination else "ipv4"
    what = f" port port={port} protocol={protocol}" if port else ""
    rule = f"rule family={family} source address={source} destination address={destination}{what} accept"
    told = f"firewall-cmd --permanent --policy={_POLICY}"
    return [
        f"firewall-cmd --permanent --new-policy={_POLICY} || true",
        *(f"{told} --add-{way}-zone=ANY" for way in ("ingress", "egress")),
        f"{told} --add-rich-rule={shlex.quote(rule)}",
        "firewall-cmd --reload",
    ]


def _now_and_later(words: str) -> list[str]:
    return [f"firewall-cmd {words}", f"firewall-cmd --permanent {words}"]
