"""Which host ports a container gets: checks wanted ones against those of other containers, and picks free ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from fairlead.errors import Conflict, Invalid
from fairlead.model import Address, Endpoint, Protocol, PublishedPort
from fairlead.spec import PortSpec
from fairlead.store import Store

FreePort = Callable[[Protocol, Sequence[Address]], int]
"""Asks the host for a port that nobody uses on any of the addresses."""

_EVERYWHERE: tuple[Address, ...] = (IPv4Address("0.0.0.0"), IPv6Address("::"))


class Publisher:
    """Chooses; the holding of ports is a step of its own (`fairlead.plan.ports`)."""

    def __init__(
        self, store: Store, *, free_port: FreePort, is_free: Callable[[PublishedPort], bool], ipv6: bool
    ) -> None:
        self._store = store
        self._free_port = free_port
        self._is_free = is_free
        self._everywhere = _EVERYWHERE if ipv6 else _EVERYWHERE[:1]

    def choose(self, specs: Sequence[PortSpec], host_binding: str = "") -> tuple[PublishedPort, ...]:
        """The ports to publish; `host_binding` is the network's default host address.  Raises `Conflict`, `Invalid`."""
        default = (_address(host_binding),) if host_binding else self._everywhere
        taken: defaultdict[tuple[Protocol, int], list[tuple[Address, str]]] = defaultdict(list)
        for endpoint in self._store.all(Endpoint):
            for port in endpoint.ports:
                taken[port.protocol, port.host_port].append((port.host_ip, endpoint.sandbox))
        chosen: list[PublishedPort] = []
        for spec in specs:
            addresses = (spec.host_ip,) if spec.host_ip else default
            number = self._number(spec, addresses, taken)
            for address in addresses:
                chosen.append(PublishedPort(host_ip=address, host_port=number, protocol=spec.protocol, port=spec.port))
                taken[spec.protocol, number].append((address, ""))
        return tuple(chosen)

    def _number(
        self,
        spec: PortSpec,
        addresses: Sequence[Address],
        taken: dict[tuple[Protocol, int], list[tuple[Address, str]]],
    ) -> int:
        def collision(number: int) -> tuple[Address, str] | None:
            held = taken.get((spec.protocol, number), ())
            return next((one for one in held if any(_collide(one[0], address) for address in addresses)), None)

        if not spec.host_port:
            for _ in range(100):
                number = self._free_port(spec.protocol, addresses)
                if not collision(number):
                    return number
            raise Conflict(f"no free {spec.protocol} port is left on this host")
        last = max(spec.host_port, spec.host_port_end)
        for number in range(spec.host_port, last + 1):
            found = collision(number)
            if found and last == spec.host_port:
                where = f"{addresses[0]}:{number}/{spec.protocol}"
                by = f"container {found[1][:12]}" if found[1] else "this request"
                raise Conflict(f"Bind for {where} failed: port is already allocated (to {by})")
            if not found and (
                last == spec.host_port
                or all(
                    self._is_free(
                        PublishedPort(host_ip=address, host_port=number, protocol=spec.protocol, port=spec.port)
                    )
                    for address in addresses
                )
            ):
                return number
        raise Conflict(f"all {spec.protocol} ports from {spec.host_port} to {last} are already allocated")


def _collide(one: Address, other: Address) -> bool:
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)


def _address(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(f"the network's host binding {text!r} is not an IP address") from None
