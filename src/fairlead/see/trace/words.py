"""How verdicts name things, and write lines to type."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface

from fairlead.plan.netlink import word
from fairlead.see.trace.model import Hop, Leg, Observation, Place, Port


def ruling(hop: Hop) -> str:
    """``rule 5 of the chain ip filter FORWARD (…) on the forward hook``, or the chain's policy."""
    policy = hop.text.lower() == "policy drop"
    which = "policy" if policy else f"rule {hop.handle}" if hop.handle else "rule"
    text = "" if policy else f" ({hop.text})"
    hook = f" on the {hop.hook} hook" if hop.hook else ""
    return f"{which} of the chain {hop.family} {hop.table} {hop.chain}{text}{hook}"


def endpoint(text: str) -> tuple[str, int]:
    """Address and port of ``ADDRESS:PORT``, ``[ADDRESS]:PORT`` or ``ADDRESS`` (port 0)."""
    if text.startswith("["):
        host, _, port = text[1:].partition("]:")
        return host, int(port or 0)
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, int(port)
    return text, 0


def asked_for(seen: Observation) -> str:
    """The destination as a person would say it: ``web (172.18.0.2) port 80/tcp``."""
    asked = seen.asked
    name = asked.destination
    if name != seen.address and seen.address:
        name = f"{name} ({seen.address})"
    return f"{name} port {asked.port}/{asked.protocol}" if asked.port else name


def at(seen: Observation, end: tuple[int, str]) -> str:
    """``eth0 of web``, or ``br0 on the host``."""
    place = seen.place(end[0])
    return f"{end[1]} on the host" if place.kind == "host" else f"{end[1]} of {place.name}"


def there(place: Place) -> str:
    """``on the host``, or ``in web``."""
    return "on the host" if place.kind == "host" else f"in {place.name}"


def setting(interface: str) -> str:
    """An interface's name within that of a setting, as sysctl(8) has it: a dot in it (a VLAN's) is a slash there."""
    return word(interface.replace(".", "/"))


def ip(place: Place, words: str) -> str:
    """A line of ip(8) for a namespace."""
    if place.shell.startswith("ip netns exec "):
        return f"ip -n {place.shell.removeprefix('ip netns exec ')} {words}"
    return f"{place.shell} ip {words}".strip()


def run(place: Place, words: str) -> str:
    """A line to be run in a namespace."""
    return f"{place.shell} {words}".strip()


def version(seen: Observation) -> int:
    """The family of the trace."""
    return ip_address(seen.address).version if seen.address else 4


def first(seen: Observation) -> Leg | None:
    """The leg from the source."""
    return next((leg for leg in seen.legs if leg.direction == "request"), None)


def broken(seen: Observation) -> Leg | None:
    """The first leg, of the way there or, if that is whole, of the way back, that leads nowhere."""
    for direction in ("request", "reply"):
        for leg in seen.legs:
            if leg.direction == direction and (leg.route.error or leg.barrier or is_lost(leg)):
                return leg
    return None


def is_lost(leg: Leg) -> bool:
    """Whether the next hop is nobody that is known or answers."""
    if leg.route.kind == "local" or leg.route.error or leg.holders:
        return False
    return not leg.macs and not (leg.outside and leg.macs is None)


def subject(leg: Leg) -> str:
    """Which way a leg is of, where it matters."""
    return " on the way back" if leg.direction == "reply" else ""


def subnet(address: str) -> str:
    """The network of an address with its prefix length."""
    return str(ip_interface(address).network)


def is_address(text: str, address: str) -> bool:
    """Whether an address with its prefix length is this one."""
    return ip_interface(text).ip == ip_address(address)


def within(address: str, interfaces: tuple[str, ...]) -> bool:
    """Whether an address lies in the network of one of these."""
    one = ip_address(address)
    return any(one in ip_interface(other).network for other in interfaces)


def outer(seen: Observation, port: Port) -> Port | None:
    """The other end of a link's wire."""
    return seen.port(port.peer) if port.peer else None


def on_one_wire(seen: Observation, one: Port, other: Port) -> bool:
    """Whether two links are joined, by a bridge or directly; a bridge is on its own wire."""
    bridge = _bridge(seen, one)
    return one.peer == (other.namespace, other.name) or (bridge is not None and bridge == _bridge(seen, other))


def _bridge(seen: Observation, port: Port) -> tuple[int, str] | None:
    if port.kind == "bridge":
        return port.namespace, port.name
    far = outer(seen, port)
    plug = port if port.master else far if far and far.master else None
    return (plug.namespace, plug.master) if plug else None
