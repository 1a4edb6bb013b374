"""Which of a sandbox's endpoints gives its default routes: one choice per address family, made anew at each change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fairlead.model import Address, Endpoint, Network


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint with its network, and the default routes that it could give (`Driver.gateways`)."""

    endpoint: Endpoint
    network: Network
    gateways: tuple[Address, ...]

    def order(self) -> tuple[object, ...]:
        """The first in this order wins, as with Docker: the highest priority, one with both families, the name."""
        return (-self.endpoint.priority, len({gateway.version for gateway in self.gateways}) < 2, self.network.name)


def choose(candidates: Iterable[Candidate]) -> Mapping[str, tuple[Address, ...]]:
    """The default routes by endpoint id; endpoints that give none are not in it."""
    found: dict[str, tuple[Address, ...]] = {}
    ordered = sorted(candidates, key=Candidate.order)
    for version in (4, 6):
        for candidate in ordered:
            routes = tuple(gateway for gateway in candidate.gateways if gateway.version == version)
            if routes:
                found[candidate.endpoint.id] = found.get(candidate.endpoint.id, ()) + routes[:1]
                break
    return found
