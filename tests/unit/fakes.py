"""Stand-ins for the kernel, for tests without root."""

from __future__ import annotations

from ipaddress import IPv6Network, ip_network

from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.model import Interface, IPNetwork


class FakeFacts:
    """A host of which a test can say what is there."""

    def __init__(self) -> None:
        self.links: set[str] = {"lo", "eth0"}
        self.kinds: set[str] = {"macvlan", "ipvlan", "vlan", "dummy"}
        self.routes: list[IPNetwork] = [ip_network("198.51.100.0/24")]
        self.chains: list[OtherChain] = []
        self.paths: set[str] = set()
        self.bridges: dict[str, LinkFact] = {}
        self.found: dict[str, tuple[Interface, ...]] = {}
        self.uplink = 1500
        self.ipv6 = True
        self.forwards = True
        self.listeners: list[str] = []

    def link(self, name: str) -> LinkFact | None:
        return LinkFact(index=1, name=name, up=True, mtu=1500) if name in self.links else self.bridges.get(name)

    def link_in(self, path: str, name: str) -> LinkFact | None:
        return None if path else self.link(name)

    def addresses(self, link: str) -> tuple[Interface, ...]:
        return self.found.get(link, ())

    def uplink_mtu(self) -> int:
        return self.uplink

    def has_ipv6(self) -> bool:
        return self.ipv6

    def forwards_ipv6(self) -> bool:
        return self.forwards

    def router_listeners(self) -> list[str]:
        return self.listeners

    def has_kind(self, kind: str) -> bool:
        return kind in self.kinds

    def networks(self) -> list[IPNetwork]:
        return self.routes

    def namespace_exists(self, path: str) -> bool:
        return path in self.paths

    def blocking_chains(self) -> list[OtherChain]:
        return self.chains

    def marked_chains(self, bridge: str) -> list[OtherChain]:
        return self.chains


UNIQUE_LOCAL = IPv6Network("fd00:1:2::/48")
