"""What is in a network namespace, and which namespaces there are: read, never changed.

One dump of each kind per namespace, through a socket opened inside.  More of a link is read than
`fairlead.kernel.rtnetlink` needs for its work: counters, the other end, what kinds of links have of their own
(linux/if_link.h, linux/rtnetlink.h, linux/neighbour.h, linux/net_namespace.h).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from fairlead.kernel.netlink import Message, Socket, as_number, as_text, attributes, u32
from fairlead.model import Address, Interface, IPNetwork, interface_of

_GETLINK, _GETADDR, _GETROUTE, _GETNEIGH, _GETNSID = 18, 22, 26, 30, 90
_LINK = struct.Struct("=BxHiII")
_ADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGH = struct.Struct("=BxxxiHBB")
_FAMILY = b"\0\0\0\0"

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER, _IFLA_OPERSTATE = 1, 3, 4, 5, 10, 16
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_STATS64, _IFLA_EXT_MASK, _IFLA_CARRIER, _IFLA_LINK_NETNSID = 18, 20, 23, 29, 33, 37
_RTEXT_FILTER_SKIP_STATS = 8
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_DATA = 1, 2, 5
_IFLA_BRPORT_STATE, _IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 1, 4, 33
_FLOODS = {"flood": 9, "mcast_flood": 27, "bcast_flood": 30}
"""IFLA_BRPORT_UNICAST_FLOOD and so on, by bridge(8)'s words."""
_PORT_STATES = ("disabled", "listening", "learning", "forwarding", "blocking")
"""linux/if_bridge.h"""
_IFLA_BR_VLAN_FILTERING = 7
_IFLA_AF_SPEC, _RTEXT_FILTER_BRVLAN_COMPRESSED, _IFLA_BRIDGE_VLAN_INFO = 26, 4, 2
_VLAN_INFO = struct.Struct("=HH")
_VLAN_PVID, _VLAN_UNTAGGED, _VLAN_RANGE_BEGIN = 2, 4, 8
"""linux/if_bridge.h: flags of ``struct bridge_vlan_info``."""
_IFLA_VXLAN_LINK = 3
_IFF_UP, _IFF_LOOPBACK, _IFF_NOARP = 1, 8, 0x80
_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
"""RFC 2863, as linux/if.h numbers them; the words are ip's in small letters."""

_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_MULTIPATH, _RTA_TABLE = 1, 4, 5, 6, 7, 9, 15
_RTNEXTHOP = struct.Struct("=HBBi")
_RT_TABLE_MAIN = 254
_ROUTE_TYPES = {1: "unicast", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
_NDA_DST, _NDA_LLADDR, _NDA_MASTER = 1, 2, 9
_NUD_NOARP, _NUD_PERMANENT, _NTF_STICKY = 0x40, 0x80, 0x40
_NEIGHBOUR_STATES = {
    0x01: "incomplete",
    0x02: "reachable",
    0x04: "stale",
    0x08: "delay",
    0x10: "probe",
    0x20: "failed",
    0x40: "noarp",
    0x80: "permanent",
}
_NETNSA_NSID, _NETNSA_FD = 1, 3

_COUNTERS = struct.Struct("=8Q")

_MODES = {"macvlan": {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}}
_MODES["macvtap"] = _MODES["macvlan"]
_MODES["ipvlan"] = {0: "l2", 1: "l3", 2: "l3s"}


@dataclass(frozen=True, slots=True)
class Counters:
    """Since the link was made: whole packets and bytes, and those that were lost."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0


@dataclass(frozen=True, slots=True)
class VlanRow:
    """VLANs that a port of a bridge is in, from `first` to `last`.

    `pvid`: what comes in without a tag is of this VLAN.  `untagged`: its frames leave without their tag.
    """

    first: int
    last: int
    pvid: bool = False
    untagged: bool = False


@dataclass(frozen=True, slots=True)
class LinkRow:
    """One link.  `lower` is the link below or the veth peer, by index, in this namespace or (`nsid`) in another."""

    index: int
    name: str
    kind: str = ""
    loopback: bool = False
    up: bool = False
    carrier: bool = False
    state: str = "unknown"
    mac: str = ""
    mtu: int = 0
    master: int = 0
    lower: int = 0
    nsid: int = -1
    alias: str = ""
    isolated: bool = False
    hairpin: bool = False
    port_state: str = ""
    """Of a bridge's port: ``forwarding``, or why it passes nothing on."""
    unflooded: tuple[str, ...] = ()
    """Of a bridge's port: what it is not given, in the words of bridge(8)."""
    arp: bool = True
    data: dict[str, str] = field(default_factory=dict)
    counters: Counters = Counters()
    vlans: tuple[VlanRow, ...] | None = None
    """Of a bridge that filters VLANs, and of its ports; None: of no such."""


@dataclass(frozen=True, slots=True)
class AddressRow:
    """An address on a link; `broken` where another host had it already (duplicate address detection failed)."""

    index: int
    interface: Interface
    broken: bool = False
    tentative: bool = False


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route of the main table; of several next hops the first.

    Prefix length 0 is a default route.  `interface` is a link's number, 0: none.
    """

    destination: IPNetwork
    gateway: Address | None = None
    interface: int = 0
    source: Address | None = None
    metric: int = 0
    type: str = "unicast"


@dataclass(frozen=True, slots=True)
class NeighbourRow:
    """What is known of a neighbour's MAC."""

    index: int
    address: Address
    mac: str = ""
    state: str = ""


def links(sock: Socket, *, counters: bool = True) -> list[LinkRow]:
    """All links, with their counters if these are wanted."""
    body = _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    body += b"" if counters else u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)
    found = [_link(answer) for answer in sock.dump(Message(_GETLINK, 0, body))]
    filtering = {link.index for link in found if link.data.get("vlan_filtering")}
    if not filtering:
        return found
    vlans = _vlans(sock)
    return [
        replace(link, vlans=vlans.get(link.index, ())) if {link.index, link.master} & filtering else link
        for link in found
    ]


def _vlans(sock: Socket) -> dict[int, tuple[VlanRow, ...]]:
    """The VLANs of bridges and their ports, by the link's index."""
    body = _LINK.pack(socket.AF_BRIDGE, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _RTEXT_FILTER_BRVLAN_COMPRESSED)
    found: dict[int, tuple[VlanRow, ...]] = {}
    for answer in sock.dump(Message(_GETLINK, 0, body)):
        index = _LINK.unpack_from(answer)[2]
        rows, first = [], 0
        for kind, value in attributes(dict(attributes(memoryview(answer)[_LINK.size :])).get(_IFLA_AF_SPEC, b"")):
            if kind != _IFLA_BRIDGE_VLAN_INFO:
                continue
            flags, number = _VLAN_INFO.unpack_from(value)
            if flags & _VLAN_RANGE_BEGIN:
                first = number
                continue
            rows.append(VlanRow(first or number, number, bool(flags & _VLAN_PVID), bool(flags & _VLAN_UNTAGGED)))
            first = 0
        found[index] = tuple(rows)
    return found


def _link(body: bytes) -> LinkRow:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(memoryview(body)[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    port = dict(attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")))
    kind = as_text(info.get(_IFLA_INFO_KIND))
    state = found.get(_IFLA_OPERSTATE, b"\0")[0]
    counters = found.get(_IFLA_STATS64, b"")
    data = dict(attributes(info.get(_IFLA_INFO_DATA, b"")))
    # A vxlan tells what it stands on in its own way.
    lower = found.get(_IFLA_LINK) or (data.get(_IFLA_VXLAN_LINK) if kind == "vxlan" else None)
    return LinkRow(
        index=index,
        name=as_text(found.get(_IFLA_IFNAME)),
        kind=kind,
        loopback=bool(flags & _IFF_LOOPBACK),
        up=bool(flags & _IFF_UP),
        carrier=found.get(_IFLA_CARRIER) == b"\1",
        state=_OPERSTATES[state] if state < len(_OPERSTATES) else "unknown",
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=as_number(found.get(_IFLA_MTU)),
        master=as_number(found.get(_IFLA_MASTER)),
        lower=as_number(lower),
        nsid=_signed(found.get(_IFLA_LINK_NETNSID), -1),
        alias=as_text(found.get(_IFLA_IFALIAS)),
        isolated=port.get(_IFLA_BRPORT_ISOLATED) == b"\1",
        hairpin=port.get(_IFLA_BRPORT_MODE) == b"\1",
        port_state=_PORT_STATES[port[_IFLA_BRPORT_STATE][0]] if _IFLA_BRPORT_STATE in port else "",
        unflooded=tuple(name for name, number in _FLOODS.items() if port.get(number) == b"\0"),
        arp=not flags & _IFF_NOARP,
        data=_DATA[kind](data) if kind in _DATA else {},
        counters=Counters(*_COUNTERS.unpack_from(counters)) if len(counters) >= _COUNTERS.size else Counters(),
    )


def _vlan(values: dict[int, bytes]) -> dict[str, str]:
    return {"id": str(int.from_bytes(values.get(1, b"\0\0"), sys.byteorder))}


def _bridge(values: dict[int, bytes]) -> dict[str, str]:
    return {"vlan_filtering": "1"} if values.get(_IFLA_BR_VLAN_FILTERING) == b"\1" else {}


def _vxlan(values: dict[int, bytes]) -> dict[str, str]:
    found = {"id": str(as_number(values.get(1)))}
    for word, kinds in (("group", (2, 16)), ("local", (4, 17))):
        for kind in kinds:
            if value := values.get(kind):
                found[word] = str(ip_address(value))
    if port := values.get(15):
        found["port"] = str(int.from_bytes(port, "big"))
    return found


def _mode(kind: str) -> Callable[[dict[int, bytes]], dict[str, str]]:
    def read(values: dict[int, bytes]) -> dict[str, str]:
        return {"mode": _MODES[kind].get(int.from_bytes(values.get(1, b"\0"), sys.byteorder), "unknown")}

    return read


_DATA: dict[str, Callable[[dict[int, bytes]], dict[str, str]]] = {
    "bridge": _bridge,
    "vlan": _vlan,
    "vxlan": _vxlan,
    **{kind: _mode(kind) for kind in _MODES},
}
"""What kinds of links have of their own."""


def addresses(sock: Socket) -> list[AddressRow]:
    """All addresses of both families."""
    found = []
    for body in sock.dump(Message(_GETADDR, 0, _ADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))):
        _, length, flags, _, index = _ADDR.unpack_from(body)
        values = dict(attributes(memoryview(body)[_ADDR.size :]))
        flags = as_number(values.get(_IFA_FLAGS), flags)
        if packed := values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS):
            interface = interface_of(_address(packed), length)
            found.append(AddressRow(index, interface, bool(flags & _IFA_F_DADFAILED), bool(flags & _IFA_F_TENTATIVE)))
    return found


def routes(sock: Socket) -> list[RouteRow]:
    """The routes of the main table, both families; without those that the kernel keeps for its own addresses."""
    found = []
    for body in sock.dump(Message(_GETROUTE, 0, _ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0))):
        version, length, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(body)
        if kind not in _ROUTE_TYPES or table not in (_RT_TABLE_MAIN, 0):
            continue
        values = dict(attributes(memoryview(body)[_ROUTE.size :]))
        if as_number(values.get(_RTA_TABLE), table) != _RT_TABLE_MAIN:
            continue
        if (several := values.get(_RTA_MULTIPATH)) and len(several) >= _RTNEXTHOP.size:
            size, _, _, index = _RTNEXTHOP.unpack_from(several)
            values = {**values, **dict(attributes(several[_RTNEXTHOP.size : size])), _RTA_OIF: _u32(index)}
        destination = values.get(_RTA_DST, bytes(4 if version == socket.AF_INET else 16))
        gateway, source = values.get(_RTA_GATEWAY), values.get(_RTA_PREFSRC)
        found.append(
            RouteRow(
                destination=_network(destination, length),
                gateway=_address(gateway) if gateway else None,
                interface=as_number(values.get(_RTA_OIF)),
                source=_address(source) if source else None,
                metric=as_number(values.get(_RTA_PRIORITY)),
                type=_ROUTE_TYPES[kind],
            )
        )
    return found


def neighbours(sock: Socket) -> list[NeighbourRow]:
    """The neighbours that the namespace has asked for; without multicast and broadcast, which nobody asks for."""
    found = []
    for body in sock.dump(Message(_GETNEIGH, 0, _NEIGH.pack(socket.AF_UNSPEC, 0, 0, 0, 0))):
        _, index, state, _, _ = _NEIGH.unpack_from(body)
        values = dict(attributes(memoryview(body)[_NEIGH.size :]))
        packed = values.get(_NDA_DST)
        if packed and len(packed) in (4, 16) and state != 0x40:
            mac = values.get(_NDA_LLADDR, b"").hex(":")
            found.append(NeighbourRow(index, _address(packed), mac, _NEIGHBOUR_STATES.get(state, "none")))
    return found


@dataclass(frozen=True, slots=True)
class ForwardingRow:
    """Behind which port a bridge looks for a MAC; `fixed`: whatever it learns.

    The bridge itself, where the MAC is held for one of its own (linux/neighbour.h: permanent).
    """

    port: int
    fixed: bool


def forwarding(sock: Socket) -> dict[tuple[int, str], ForwardingRow]:
    """The forwarding tables of all bridges; by the bridge's index and the MAC."""
    found = {}
    for body in sock.dump(Message(_GETNEIGH, 0, _NEIGH.pack(socket.AF_BRIDGE, 0, 0, 0, 0))):
        _, index, state, flags, _ = _NEIGH.unpack_from(body)
        values = dict(attributes(memoryview(body)[_NEIGH.size :]))
        bridge = as_number(values.get(_NDA_MASTER), index)
        permanent = bool(state & _NUD_PERMANENT)
        fixed = permanent or bool(state & _NUD_NOARP and flags & _NTF_STICKY)
        row = ForwardingRow(bridge if permanent else index, fixed)
        key = bridge, values.get(_NDA_LLADDR, b"").hex(":")
        # The port itself keeps addresses of its own, too; where there are several entries, the fixed one tells.
        if fixed or key not in found:
            found[key] = row
    return found


def nsid_of(sock: Socket, fd: int) -> int:
    """By which number the socket's namespace knows the one behind a descriptor; -1: by none."""
    answer = sock.ask(Message(_GETNSID, 0, _FAMILY + u32(_NETNSA_FD, fd)))
    return _signed(dict(attributes(answer[4:])).get(_NETNSA_NSID), -1) if answer else -1


# Which namespaces there are


_NSFS = re.compile(r"net:\[(\d+)\]")


def mounted() -> dict[int, list[str]]:
    """Where namespaces are kept by a mount, whoever made it (`ip netns`, Docker, podman, we), by inode.

    As this process's mount namespace has it (proc(5), mountinfo: the fourth field is the root within the file system,
    for nsfs the namespace).
    """
    found: dict[int, list[str]] = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            words = line.split(" ", 5)
            if match := _NSFS.fullmatch(words[3]):
                paths = found.setdefault(int(match[1]), [])
                path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), words[4])
                if path not in paths:
                    paths.append(path)
    return found


def inhabited() -> dict[int, list[int]]:
    """The processes by the inode of their network namespace, lowest number first; those that end meanwhile left out."""
    found: dict[int, list[int]] = {}
    for pid in sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        with contextlib.suppress(OSError):
            if match := _NSFS.fullmatch(os.readlink(f"/proc/{pid}/ns/net")):
                found.setdefault(int(match[1]), []).append(pid)
    return found


def cgroup(pid: int) -> str:
    """The path of a process's cgroup, of all hierarchies the longest; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return max((line.rstrip("\n").split(":", 2)[2] for line in file), key=len, default="")
    except (OSError, IndexError):
        return ""


def has_own_users(pid: int) -> bool:
    """Whether a process is in a user namespace other than ours: a container that an ordinary user started, say."""
    try:
        return os.readlink(f"/proc/{pid}/ns/user") != os.readlink("/proc/self/ns/user")
    except OSError:
        return False


def command_line(pid: int) -> list[str]:
    """The words that a process was started with; none when it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []


def parent(pid: int) -> int:
    """A process's parent, 0 when it has ended (proc(5), stat: the second word may hold anything, so from the end)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def inode_of(path: str) -> int:
    """The inode of the namespace at a path, 0 if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0


def _address(packed: bytes) -> Address:
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(packed)


def _network(packed: bytes, length: int) -> IPNetwork:
    return IPv4Network((packed, length)) if len(packed) == 4 else IPv6Network((packed, length))


def _signed(value: bytes | None, default: int) -> int:
    return int(struct.unpack("=i", value)[0]) if value else default


def _u32(value: int) -> bytes:
    return struct.pack("=I", value)
