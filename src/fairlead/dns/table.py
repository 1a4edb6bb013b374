"""Who is known to whom: the resolver's memory of endpoints, and the look-up in it.  No I/O.

A name belongs to a network: only sandboxes that are in the network know it.  Names are lower-case.
"""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Member:
    """A sandbox's place in a network: what the daemon says of an endpoint."""

    __slots__ = ("addresses", "links", "names", "network", "network_name", "rank", "sandbox")

    def __init__(self, entry: Mapping[str, Any]) -> None:
        self.sandbox: str = entry["sandbox"]
        self.network: str = entry["network"]
        self.network_name: str = entry["network_name"].lower()
        self.names: list[str] = [name.lower() for name in entry["names"]]
        self.addresses: list[bytes] = [pack(address) for address in entry["addresses"]]
        self.links: dict[str, str] = {alias.lower(): name.lower() for alias, name in entry["links"].items()}
        self.rank: tuple[int, str] = (-entry["priority"], self.network_name)
        """In which order a sandbox's networks are asked."""


class _Network:
    __slots__ = ("members", "names", "owners")

    def __init__(self) -> None:
        self.members: set[Member] = set()
        self.names: dict[str, list[Member]] = {}
        self.owners: dict[str, Member] = {}
        """Reverse name → who has the address."""


class Table:
    """All members, by id."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self._networks: dict[str, _Network] = {}
        self._places: dict[str, list[Member]] = {}

    def put(self, id_: str, entry: Mapping[str, Any]) -> set[str]:
        """Add or replace a member; returns the sandboxes for which this may change an answer."""
        touched = self.drop(id_)
        member = self.members[id_] = Member(entry)
        network = self._networks.setdefault(member.network, _Network())
        network.members.add(member)
        for name in member.names:
            network.names.setdefault(name, []).append(member)
        for address in member.addresses:
            network.owners[reverse_name(address)] = member
        places = self._places.setdefault(member.sandbox, [])
        places.append(member)
        places.sort(key=lambda place: place.rank)
        return touched | {other.sandbox for other in network.members}

    def drop(self, id_: str) -> set[str]:
        """Forget a member; one that is not there is no error."""
        member = self.members.pop(id_, None)
        if member is None:
            return set()
        network = self._networks[member.network]
        touched = {other.sandbox for other in network.members}
        network.members.remove(member)
        for name in member.names:
            network.names[name].remove(member)
            if not network.names[name]:
                del network.names[name]
        for address in member.addresses:
            if network.owners.get(reverse_name(address)) is member:
                del network.owners[reverse_name(address)]
        self._places[member.sandbox].remove(member)
        if not self._places[member.sandbox]:
            del self._places[member.sandbox]
        if not network.members:
            del self._networks[member.network]
        return touched

    def addresses(self, sandbox: str, name: str) -> list[bytes] | None:
        """The packed addresses that a sandbox knows by this name, of both families; None if it knows no such name.

        A name ``a.b.c`` is looked for in all its networks, then ``a.b`` in its network ``c``, then ``a`` in its network
        ``b.c``; the first network that knows the name answers, as in Docker.
        """
        places = self._places.get(sandbox)
        if not places:
            return None
        found = self._in_networks(places, name, "")
        dot = name.rfind(".")
        while found is None and dot > 0:
            found = self._in_networks(places, name[:dot], name[dot + 1 :])
            dot = name.rfind(".", 0, dot)
        return found

    def _in_networks(self, places: list[Member], name: str, network_name: str) -> list[bytes] | None:
        found: list[bytes] | None = None
        for place in places:
            if network_name and network_name != place.network_name:
                continue
            named = self._networks[place.network].names.get(place.links.get(name, name))
            if named:
                have = {len(address) for address in found or ()}
                more = [address for member in named for address in member.addresses if len(address) not in have]
                found = (found or []) + more
        return found

    def pointer(self, sandbox: str, name: str) -> str | None:
        """``NAME.NETWORK`` of who has the address in ``4.3.2.1.in-addr.arpa``, if the sandbox shares its network."""
        for place in self._places.get(sandbox, ()):
            if owner := self._networks[place.network].owners.get(name):
                return f"{owner.names[0]}.{owner.network_name}"
        return None


def pack(address: str) -> bytes:
    """An address as in a packet."""
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address)


def reverse_name(packed: bytes) -> str:
    """The name under which an address is asked for (RFC 1035, 3.5; RFC 3596, 2.5)."""
    if len(packed) == 4:
        return ".".join(str(byte) for byte in reversed(packed)) + ".in-addr.arpa"
    return ".".join(reversed(packed.hex())) + ".ip6.arpa"
