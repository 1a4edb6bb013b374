"""Stand-ins for the kernel, for tests without root."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import IPNetwork


class FakeFacts:
    """A host of which a test can say what is there."""

    def __init__(self) -> None:
        self.links: set[str] = {"lo", "eth0"}
        self.routes: list[IPNetwork] = [ip_network("198.51.100.0/24")]
        self.chains: list[OtherChain] = []
        self.paths: set[str] = set()

    def link(self, name: str) -> LinkFact | None:
        return LinkFact(index=1, name=name) if name in self.links else None

    def link_in(self, path: str, name: str) -> LinkFact | None:
        return None if path else self.link(name)

    def networks(self) -> list[IPNetwork]:
        return self.routes

    def namespace_exists(self, path: str) -> bool:
        return path in self.paths

    def blocking_chains(self) -> list[OtherChain]:
        return self.chains

    def marked_chains(self, bridge: str) -> list[OtherChain]:
        return self.chains


UNIQUE_LOCAL = IPv6Network("fd00:1:2::/48")
