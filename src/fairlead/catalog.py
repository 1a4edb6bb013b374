"""Reading the store: find records by name, id or id prefix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from fairlead.errors import Conflict, NotFound
from fairlead.model import Endpoint, Link, Network, Record, Sandbox
from fairlead.store import Store

R = TypeVar("R", bound=Record)


class Catalog:
    """A `ref` is a name, a full id, or an unambiguous id prefix; `NotFound` otherwise."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def networks(self) -> list[Network]:
        """All networks, by name."""
        return sorted(self._store.all(Network), key=lambda network: network.name)

    def network(self, ref: str) -> Network:
        """One network."""
        if isinstance(found := self._store.owner(f"network:{ref}"), Network):
            return found
        try:
            return find(ref, self._store.get(Network, ref), self._store.all(Network), "network")
        except NotFound:
            raise NotFound(f"network {ref} not found") from None  # Docker's words, which clients know

    def sandboxes(self) -> list[Sandbox]:
        """All sandboxes, named ones and containers', by name."""
        return sorted(self._store.all(Sandbox), key=lambda sandbox: sandbox.name)

    def sandbox(self, ref: str) -> Sandbox:
        """One sandbox; a container's answers to the container's id."""
        if isinstance(found := self._store.owner(f"sandbox:{ref}"), Sandbox):
            return found
        return find(ref, self._store.get(Sandbox, ref), self._store.all(Sandbox), "network namespace")

    def endpoints(self, *, network: str = "", sandbox: str = "") -> list[Endpoint]:
        """The endpoints of a network, of a sandbox (full ids), or all."""
        if sandbox:
            # By their claims, one for each network: an attach is not to look at the endpoints of all other sandboxes.
            networks = [network] if network else [one.id for one in self._store.all(Network)]
            owners = (self._store.owner(f"endpoint:{id_}:{sandbox}") for id_ in networks)
            return [owner for owner in owners if isinstance(owner, Endpoint)]
        return [endpoint for endpoint in self._store.all(Endpoint) if not network or endpoint.network == network]

    def links(self, *, sandbox: str = "") -> list[Link]:
        """The links with an end in a sandbox (full id), or all."""
        return [
            link for link in self._store.all(Link) if not sandbox or any(end.sandbox == sandbox for end in link.ends)
        ]

    def link(self, ref: str) -> Link:
        """One link, by id prefix or ``SANDBOX/IFNAME`` of either end (no sandbox: the host's)."""
        name, slash, ifname = ref.rpartition("/")
        if slash:
            sandbox = self.sandbox(name).id if name else ""
            if isinstance(found := self._store.owner(f"link:{sandbox}:{ifname}"), Link):
                return found
            raise NotFound(f"No such link: {ref}")
        return find(ref, self._store.get(Link, ref), self._store.all(Link), "link")


def find(ref: str, exact: R | None, records: Iterable[R], what: str) -> R:
    """The record with this id, or the only one whose id begins so."""
    if exact:
        return exact
    matches = [record for record in records if ref and record.id.startswith(ref)]
    if len(matches) > 1:
        raise Conflict(f"{what} id prefix {ref} is ambiguous: it fits {len(matches)} of them")
    if not matches:
        raise NotFound(f"No such {what}: {ref}")
    return matches[0]
