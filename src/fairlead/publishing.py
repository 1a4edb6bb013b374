"""Which host ports a container gets: checks wanted ones against those of other containers, and picks free ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from fairlead.errors import Conflict, Invalid
from fairlead.model import Address, Endpoint, Protocol, PublishedPort, Sandbox, port_stem
from fairlead.spec import PortSpec
from fairlead.store import Store

PickPort = Callable[[Protocol, Sequence[Address], int], int | None]
"""Asks the host for a port, or (0) for any, that nobody uses on any of the addresses; None: there is none."""

_EVERYWHERE: tuple[Address, ...] = (IPv4Address("0.0.0.0"), IPv6Address("::"))
_TRIES = 100
"""How often the host may pick a port that is ours already: one of a change that has not bound it yet."""


class Publisher:
    """Chooses; the holding of ports is a step of its own (`fairlead.plan.ports`)."""

    def __init__(self, store: Store, *, pick: PickPort, ipv6: bool) -> None:
        self._store = store
        self._pick = pick
        self._everywhere = _EVERYWHERE if ipv6 else _EVERYWHERE[:1]

    def choose(
        self, specs: Sequence[PortSpec], host_binding: str = "", besides: Endpoint | None = None
    ) -> tuple[PublishedPort, ...]:
        """The ports to publish; `host_binding` is the network's default host address, `besides` whose ports count as
        free.  Raises `Conflict`, `Invalid`.

        What it costs depends on `specs` alone, however many ports are published already.
        """
        default = (_address(host_binding),) if host_binding else self._everywhere
        chosen: list[PublishedPort] = []
        own: dict[tuple[Protocol, int], list[Address]] = {}
        for spec in specs:
            addresses = (spec.host_ip,) if spec.host_ip else default
            number = self._number(spec, addresses, own, besides)
            own.setdefault((spec.protocol, number), []).extend(addresses)
            for address in addresses:
                chosen.append(PublishedPort(host_ip=address, host_port=number, protocol=spec.protocol, port=spec.port))
        return tuple(chosen)

    def _number(
        self,
        spec: PortSpec,
        addresses: Sequence[Address],
        own: dict[tuple[Protocol, int], list[Address]],
        besides: Endpoint | None,
    ) -> int:
        def holder(number: int) -> str:
            """Who has it: another container, or this request; empty if nobody."""
            if _collide(addresses, own.get((spec.protocol, number), ())):
                return "this request"
            for address, endpoint in self._store.owners(port_stem(spec.protocol, number)):
                if not isinstance(endpoint, Endpoint) or (besides and endpoint.id == besides.id):
                    continue
                if _collide(addresses, [ip_address(address)]):
                    return self._name(endpoint)
            return ""

        last = max(spec.host_port, spec.host_port_end)
        if spec.host_port and last == spec.host_port:
            if found := holder(last):
                where = f"{addresses[0]}:{last}/{spec.protocol}"
                raise Conflict(f"Bind for {where} failed: port is already allocated (to {found})")
            return last
        wanted: Iterable[int] = itertools.repeat(0, _TRIES)
        if spec.host_port:
            wanted = (number for number in range(spec.host_port, last + 1) if not holder(number))
        for number in wanted:
            picked = self._pick(spec.protocol, addresses, number)
            if picked and not holder(picked):
                return picked
        if not spec.host_port:
            raise Conflict(f"no free {spec.protocol} port is left on this host")
        raise Conflict(f"all {spec.protocol} ports from {spec.host_port} to {last} are already allocated or in use")

    def _name(self, endpoint: Endpoint) -> str:
        sandbox = self._store.get(Sandbox, endpoint.sandbox)
        if sandbox is None:
            return f"endpoint {endpoint.id[:12]}"
        return f"container {sandbox.container[:12]}" if sandbox.container else sandbox.name


def _collide(some: Iterable[Address], others: Iterable[Address]) -> bool:
    return any(
        one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)
        for one in some
        for other in others
    )


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(f"the network's host binding {text!r} is not an IP address") from None
