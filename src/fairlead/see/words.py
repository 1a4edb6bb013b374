"""What every drawing of a topology says of its parts, in the same words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_interface

from fairlead.see.topology import Port, Published, Room, Topology, Vlans

_ETHERNET_MTU = 1500
_PLAIN_KINDS = frozenset({"veth", "device", "loopback"})

SIGNS = {"missing": "✗", "unowned": "?", "differs": "!"}
LEGEND = {
    "missing": "a record wants it, and it is not there",
    "unowned": "it is there, and no record knows it",
    "differs": "it is not as its record says",
}
"""The marks of `fairlead.see.topology`, as they are drawn and explained."""


def addresses(port: Port) -> list[str]:
    """Those worth showing: what the kernel gives every link by itself says nothing."""
    return [address for address in port.addresses if not address.startswith("fe80:")]


def qualities(topology: Topology, room: Room, port: Port) -> list[str]:
    """What an interface is, and what is unusual about it."""
    words = [kind(room, port)] if port.kind not in _PLAIN_KINDS else []
    words += networks(topology, room, port)
    if masquerades(topology, room, port):
        words.append("NAT")
    if port.mtu not in (0, _ETHERNET_MTU) and port.kind != "loopback":
        words.append(f"mtu {port.mtu}")
    words += vlans(port)
    if port.isolated:
        words.append("isolated")
    if port.mark != "missing" and not port.up:
        words.append("down")
    elif port.mark != "missing" and not port.carries:
        words.append("no carrier")
    return words


def kind(room: Room, port: Port) -> str:
    """``bridge``, ``vlan 10 on eth0``…: on what it stands, where that is in the same namespace and has a name."""
    below = port.parent
    on = ["on", below.interface] if below and below.namespace == room.id and below.interface else []
    return " ".join([port.kind, *_data(port), *on])


def _data(port: Port) -> Iterator[str]:
    for name, value in port.data.items():
        if name in ("id", "mode"):
            yield value
        elif name == "vlan_filtering":
            yield "that filters VLANs"
        elif name in ("group", "local"):
            yield f"{'to' if name == 'group' else 'from'} {value}"


def vlans(port: Port) -> list[str]:
    """Of a bridge that filters VLANs and of its ports: ``vlan 1``, ``tagged 10,20-22``; the first without tags."""
    if port.vlans is None:
        return []

    def those(word: str, rows: list[Vlans]) -> list[str]:
        spans = (str(row.first) if row.first == row.last else f"{row.first}-{row.last}" for row in rows)
        return [f"{word} {','.join(spans)}"] if rows else []

    words = those("vlan", [row for row in port.vlans if row.pvid and row.untagged])
    words += those("pvid", [row for row in port.vlans if row.pvid and not row.untagged])
    words += those("tagged", [row for row in port.vlans if not row.untagged])
    words += those("untagged", [row for row in port.vlans if row.untagged and not row.pvid])
    return words or ["no vlan"]


def networks(topology: Topology, room: Room, port: Port) -> list[str]:
    """The networks that an interface of the host carries."""
    if room.kind != "host":
        return []
    return [
        f"network {net.name}" + (" (internal)" if net.internal else "")
        for net in topology.nets
        if net.interface == port.name
    ]


def masquerades(topology: Topology, room: Room, port: Port) -> bool:
    """Whether what comes by this interface of the host leaves with another source."""
    if room.kind != "host" or port.kind != "bridge":
        return False
    sources = {one.source for one in topology.masquerading}
    return port.name in sources or any(str(ip_interface(one).network) in sources for one in port.addresses)


def defaults(room: Room, port: Port) -> list[tuple[str, str]]:
    """The default routes by way of an interface, as words and mark; of two families with the same words one."""
    found: dict[str, str] = {}
    for route in room.routes:
        if route.destination == "default" and route.interface == port.name:
            found.setdefault(f"default via {route.gateway}" if route.gateway else "default", route.mark)
    return list(found.items())


def role(room: Room) -> str:
    """What a namespace is, and whose."""
    if room.manager in ("fairlead", "host", "process"):
        return room.kind
    if room.manager == "ip netns":
        return "ip netns"
    return f"{room.manager} {room.kind}"


def ports_of(topology: Topology, room: Room) -> list[tuple[str, str]]:
    """The host's ports that lead to a namespace, as words and mark: ``8081 → 80/tcp``; neighbouring numbers as one."""
    return published([one for one in topology.published if one.namespace == room.id])


def published(ports: Iterable[Published]) -> list[tuple[str, str]]:
    """See `ports_of`.  A port on all addresses of either family is one."""
    single: dict[tuple[str, str, str, int], Published] = {}
    for one in ports:
        host_ip = "" if one.host_ip in ("0.0.0.0", "::") else one.host_ip
        single.setdefault((host_ip, one.protocol, one.mark, one.host_port), one)
    runs: list[tuple[tuple[str, str, str], int, int, int]] = []
    for (host_ip, protocol, mark, number), one in sorted(single.items()):
        if runs:
            key, first, there, count = runs[-1]
            if key == (host_ip, protocol, mark) and number == first + count and one.port == there + count:
                runs[-1] = (key, first, there, count + 1)
                continue
        runs.append(((host_ip, protocol, mark), number, one.port, 1))
    return [(_run(key, first, there, count), key[2]) for key, first, there, count in runs]


def _run(key: tuple[str, str, str], first: int, there: int, count: int) -> str:
    host_ip, protocol, _ = key

    def span(number: int) -> str:
        return f"{number}-{number + count - 1}" if count > 1 else str(number)

    host = f"[{host_ip}]:" if ":" in host_ip else f"{host_ip}:" if host_ip else ""
    return f"{host}{span(first)} → {span(there)}/{protocol}"


def notes(topology: Topology) -> list[tuple[str, str]]:
    """All that is wrong, as mark and sentence."""
    found: list[tuple[str, str]] = []
    for room in topology.rooms:
        if room.mark:
            found.append((room.mark, f"{room.name}: {room.note}"))
            continue
        found += [(port.mark, f"{room.name}/{port.name}: {port.note}") for port in room.ports if port.mark]
        found += [
            (
                route.mark,
                f"{room.name}: the route {route.destination} via {route.gateway or route.interface} is missing",
            )
            for route in room.routes
            if route.mark
        ]
    found += [
        (one.mark, f"port {one.host_port}/{one.protocol} to {one.address}:{one.port}: {LEGEND[one.mark]}")
        for one in topology.published
        if one.mark
    ]
    return found


def counted(count: int, one: str, many: str = "") -> str:
    """``1 namespace``, ``3 namespaces``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def wrapped(words: Sequence[str], width: int, separator: str = ", ") -> list[str]:
    """Words in lines of at most so many columns."""
    lines = [""]
    for number, word in enumerate(words):
        text = word + (separator if number + 1 < len(words) else "")
        if lines[-1] and len(lines[-1]) + len(text.rstrip()) > width:
            lines[-1] = lines[-1].rstrip()
            lines.append("")
        lines[-1] += text
    return lines
