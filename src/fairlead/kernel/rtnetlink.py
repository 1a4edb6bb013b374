"""Links, addresses and routes as netlink messages (man 7 rtnetlink, linux/if_link.h, linux/if_addr.h)."""

from __future__ import annotations

import fcntl
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface, ip_network

from fairlead.kernel.netlink import (
    NLM_F_CREATE,
    NLM_F_EXCL,
    Message,
    Socket,
    as_number,
    as_text,
    attribute,
    attributes,
    nested,
    text,
    u8,
    u16,
    u32,
)
from fairlead.model import Address, Interface, IPNetwork

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_NEWADDR, _DELADDR, _GETADDR = 20, 21, 22
_NEWROUTE, _DELROUTE, _GETROUTE = 24, 25, 26

_DELNEIGH = 29

_LINK = struct.Struct("=BxHiII")
_ADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGH = struct.Struct("=BxxxiHBB")

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_MASTER = 1, 3, 4, 5, 10
_IFLA_LINKINFO, _IFLA_IFALIAS, _IFLA_AF_SPEC, _IFLA_NET_NS_FD = 18, 20, 26, 28
_IFLA_EXT_MASK, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES = 29, 31, 32
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_INFO_SLAVE_KIND, _IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
_IFLA_INET6_ADDR_GEN_MODE = 8
_IFLA_INET_CONF = 1
_IPV4_DEVCONF_ARP_NOTIFY = 22
_ADDR_GEN_MODE_NONE = 1
_VETH_INFO_PEER = 1
_IFLA_BR_MCAST_SNOOPING = 23
_IFLA_BRPORT_MODE, _IFLA_BRPORT_ISOLATED = 4, 33
_IFLA_MACVLAN_MODE = 1
_IFLA_IPVLAN_MODE, _IFLA_IPVLAN_FLAGS = 1, 2
_IFLA_VLAN_ID = 1
_RTEXT_FILTER_SKIP_STATS = 8

_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_IFA_F_NODAD = 2
_NDA_DST = 1
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_TABLE = 1, 4, 5, 15

_SIOCGIFINDEX = 0x8933
_IFREQ = struct.Struct("=16si20x")

IFF_UP = 1
_IFF_RUNNING = 0x40
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RTN_UNICAST = 1
_NEW = NLM_F_CREATE | NLM_F_EXCL


@dataclass(frozen=True, slots=True)
class LinkFact:
    """A link as the kernel has it."""

    index: int
    name: str
    kind: str = ""
    up: bool = False
    mac: str = ""
    mtu: int = 0
    master: int = 0
    alias: str = ""
    isolated: bool = False
    """As a port of a bridge: sends to no other isolated port."""


@dataclass(frozen=True, slots=True)
class AddressFact:
    """An address on a link."""

    index: int
    interface: Interface


@dataclass(frozen=True, slots=True)
class RouteFact:
    """A unicast route of the main table; `destination` with prefix length 0 is a default route."""

    destination: IPNetwork
    gateway: Address | None = None
    index: int = 0
    on_link: bool = False


def _link_body(*attributes: bytes, index: int = 0, up: bool | None = None) -> bytes:
    change = IFF_UP if up is not None else 0
    return _LINK.pack(socket.AF_UNSPEC, 0, index, IFF_UP if up else 0, change) + b"".join(attributes)


def _mac(mac: str) -> bytes:
    return attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b""


def _mtu(mtu: int) -> bytes:
    return u32(_IFLA_MTU, mtu) if mtu else b""


def add_bridge(name: str, *, mac: str, mtu: int = 0) -> Message:
    """`ip link add NAME type bridge mcast_snooping 0`."""
    data = nested(_IFLA_INFO_DATA, u8(_IFLA_BR_MCAST_SNOOPING, False))
    info = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "bridge"), data)
    return Message(_NEWLINK, _NEW, _link_body(text(_IFLA_IFNAME, name), _mac(mac), _mtu(mtu), info))


def add_veth(
    name: str, peer: str, *, peer_fd: int = -1, mac: str = "", peer_mac: str = "", mtu: int = 0, queues: int = 0
) -> Message:
    """`ip link add NAME type veth peer name PEER`, the peer put in the namespace of a descriptor (-1: here)."""
    each = u32(_IFLA_NUM_TX_QUEUES, queues) + u32(_IFLA_NUM_RX_QUEUES, queues) if queues else b""

    def end(name: str, mac: str, fd: int) -> bytes:
        place = u32(_IFLA_NET_NS_FD, fd) if fd >= 0 else b""
        return text(_IFLA_IFNAME, name) + _mac(mac) + _mtu(mtu) + each + place

    other = attribute(_VETH_INFO_PEER, _link_body(end(peer, peer_mac, peer_fd)))
    info = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, "veth"), nested(_IFLA_INFO_DATA, other))
    return Message(_NEWLINK, _NEW, _link_body(end(name, mac, -1), info))


MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
IPVLAN_MODES = {"l2": 0, "l3": 1, "l3s": 2}
IPVLAN_FLAGS = {"bridge": 0, "private": 1, "vepa": 2}
"""The kernel's numbers of the words that ip-link(8) has (linux/if_link.h)."""


def add_macvlan(name: str, parent: int, *, mode: str, fd: int, mac: str = "", mtu: int = 0) -> Message:
    """`ip link add link PARENT name NAME netns FD type macvlan mode MODE`."""
    place = u32(_IFLA_LINK, parent) + u32(_IFLA_NET_NS_FD, fd)
    data = nested(_IFLA_INFO_DATA, u32(_IFLA_MACVLAN_MODE, MACVLAN_MODES[mode]))
    return _add(name, "macvlan", place + _mac(mac) + _mtu(mtu), data)


def add_ipvlan(name: str, parent: int, *, mode: str, flag: str, fd: int, mtu: int = 0) -> Message:
    """`ip link add link PARENT name NAME netns FD type ipvlan mode MODE FLAG`."""
    place = u32(_IFLA_LINK, parent) + u32(_IFLA_NET_NS_FD, fd)
    words = u16(_IFLA_IPVLAN_MODE, IPVLAN_MODES[mode]) + u16(_IFLA_IPVLAN_FLAGS, IPVLAN_FLAGS[flag])
    return _add(name, "ipvlan", place + _mtu(mtu), nested(_IFLA_INFO_DATA, words))


def add_vlan(name: str, parent: int, *, vlan: int) -> Message:
    """`ip link add link PARENT name NAME type vlan id VLAN`."""
    return _add(name, "vlan", u32(_IFLA_LINK, parent), nested(_IFLA_INFO_DATA, u16(_IFLA_VLAN_ID, vlan)))


def add_dummy(name: str, *, mac: str) -> Message:
    """`ip link add NAME address MAC type dummy`."""
    return _add(name, "dummy", _mac(mac))


def probe(name: str, kind: str) -> Message:
    """A wish for a link that no kind fulfils (a MAC of one byte, no parent): EOPNOTSUPP if the kernel lacks the kind.

    The kernel looks for the kind, and loads its module, before it looks at the rest (rtnl_newlink,
    net/core/rtnetlink.c).
    """
    return _add(name, kind, attribute(_IFLA_ADDRESS, b"\0"))


def _add(name: str, kind: str, attributes: bytes, data: bytes = b"") -> Message:
    info = nested(_IFLA_LINKINFO, text(_IFLA_INFO_KIND, kind), data)
    return Message(_NEWLINK, _NEW, _link_body(text(_IFLA_IFNAME, name), attributes, info))


def rename(index: int, name: str) -> Message:
    """`ip link set … name NAME`."""
    return Message(_NEWLINK, 0, _link_body(text(_IFLA_IFNAME, name), index=index))


def set_link(
    name: str, *, up: bool | None = None, master: int | None = None, alias: str | None = None, link_local: bool = True
) -> Message:
    """`ip link set NAME …`.  Without `link_local` the kernel gives it no IPv6 link-local address (addrgenmode none)."""
    parts = [text(_IFLA_IFNAME, name)]
    if master is not None:
        parts.append(u32(_IFLA_MASTER, master))
    if alias is not None:
        parts.append(attribute(_IFLA_IFALIAS, alias.encode()))
    if not link_local:
        mode = u8(_IFLA_INET6_ADDR_GEN_MODE, _ADDR_GEN_MODE_NONE)
        parts.append(nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, mode)))
    return Message(_NEWLINK, 0, _link_body(*parts, up=up))


def set_mtu(name: str, mtu: int) -> Message:
    """`ip link set NAME mtu MTU`."""
    return Message(_NEWLINK, 0, _link_body(text(_IFLA_IFNAME, name), u32(_IFLA_MTU, mtu)))


def set_mac(name: str, mac: str) -> Message:
    """`ip link set NAME address MAC`; the kernel tells its notifiers even where that changes nothing."""
    return Message(_NEWLINK, 0, _link_body(text(_IFLA_IFNAME, name), _mac(mac)))


def notify_by_arp(name: str) -> Message:
    """`sysctl net.ipv4.conf.NAME.arp_notify=1`, without entering its namespace."""
    setting = nested(_IFLA_INET_CONF, u32(_IPV4_DEVCONF_ARP_NOTIFY, 1))
    return Message(
        _NEWLINK, 0, _link_body(text(_IFLA_IFNAME, name), nested(_IFLA_AF_SPEC, nested(socket.AF_INET, setting)))
    )


def notifies_by_arp(sock: Socket, name: str) -> bool:
    """Whether `notify_by_arp` holds."""
    found = sock.ask(look_at(name))
    inner = found[_LINK.size :] if found else b""
    for kind in (_IFLA_AF_SPEC, socket.AF_INET, _IFLA_INET_CONF):
        inner = dict(attributes(inner)).get(kind, b"")
    # An array of numbers in which setting N is the one at N - 1 (inet_fill_link_af, net/ipv4/devinet.c).
    place = 4 * (_IPV4_DEVCONF_ARP_NOTIFY - 1)
    return as_number(inner[place : place + 4]) != 0


def is_running(sock: Socket, name: str) -> bool:
    """Whether a link is up and can send: the kernel has seen that its other end is up, too (netdevice(7))."""
    found = sock.ask(look_at(name))
    return bool(found and _LINK.unpack_from(found)[3] & _IFF_RUNNING)


def set_port(name: str, *, hairpin: bool, isolated: bool, up: bool | None = None) -> Message:
    """`ip link set NAME up type bridge_slave hairpin on isolated on`.

    Hairpin: frames may leave by the port they came in by.  Isolated: none go from here to another isolated port.
    The kernel sets these first and the link up last (rtnl_changelink, net/core/rtnetlink.c).
    """
    data = nested(_IFLA_INFO_SLAVE_DATA, u8(_IFLA_BRPORT_MODE, hairpin), u8(_IFLA_BRPORT_ISOLATED, isolated))
    info = nested(_IFLA_LINKINFO, text(_IFLA_INFO_SLAVE_KIND, "bridge"), data)
    return Message(_NEWLINK, 0, _link_body(text(_IFLA_IFNAME, name), info, up=up))


def delete_link(name: str) -> Message:
    """`ip link del NAME`."""
    return Message(_DELLINK, 0, _link_body(text(_IFLA_IFNAME, name)))


def forget_neighbour(index: int, address: Address) -> Message:
    """`ip neigh del ADDRESS dev LINK`: what is known of it, or that it is being asked for."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return Message(_DELNEIGH, 0, _NEIGH.pack(family, index, 0, 0, 0) + attribute(_NDA_DST, address.packed))


def _address(kind: int, flags: int, index: int, interface: Interface) -> Message:
    family = socket.AF_INET if interface.version == 4 else socket.AF_INET6
    packed = interface.ip.packed
    # Nobody else may have an address that we give, so it works at once, without duplicate address detection.
    body = _ADDR.pack(family, interface.network.prefixlen, _IFA_F_NODAD if interface.version == 6 else 0, 0, index)
    body += attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed)
    if interface.version == 4 and interface.network.prefixlen < 31:
        body += attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Message(kind, flags, body)


def add_address(index: int, interface: Interface) -> Message:
    """`ip addr add ADDRESS/LENGTH brd + dev …`; for IPv6 `nodad` instead of `brd +`."""
    return _address(_NEWADDR, _NEW, index, interface)


def delete_address(index: int, interface: Interface) -> Message:
    """`ip addr del ADDRESS/LENGTH dev …`."""
    return _address(_DELADDR, 0, index, interface)


def _route(kind: int, flags: int, index: int, destination: IPNetwork, gateway: Address | None) -> Message:
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    scope = _RT_SCOPE_UNIVERSE if gateway else _RT_SCOPE_LINK
    body = _ROUTE.pack(family, destination.prefixlen, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, scope, _RTN_UNICAST, 0) + u32(
        _RTA_OIF, index
    )
    if destination.prefixlen:
        body += attribute(_RTA_DST, destination.network_address.packed)
    if gateway:
        body += attribute(_RTA_GATEWAY, gateway.packed)
    return Message(kind, flags, body)


def add_route(index: int, destination: IPNetwork, gateway: Address | None) -> Message:
    """`ip route add DESTINATION via GATEWAY dev …`."""
    return _route(_NEWROUTE, _NEW, index, destination, gateway)


def delete_route(index: int, destination: IPNetwork, gateway: Address | None) -> Message:
    """`ip route del DESTINATION via GATEWAY dev …`."""
    return _route(_DELROUTE, 0, index, destination, gateway)


def link_index(sock: Socket, name: str) -> int | None:
    """The number of a link, or None: a fifth of the cost of `get_link` (netdevice(7))."""
    try:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFINDEX, _IFREQ.pack(name.encode(), 0))
    except OSError:
        return None
    return int(_IFREQ.unpack(answer)[1])


def look_at(name: str) -> Message:
    """A request for a link by its name; even without an answer it has an effect (see `fairlead.kernel.carriers`)."""
    return Message(_GETLINK, 0, _link_body(text(_IFLA_IFNAME, name), _SKIP_STATS))


def get_link(sock: Socket, name: str) -> LinkFact | None:
    """One link by name, or None."""
    found = sock.ask(look_at(name))
    return _link_fact(found) if found else None


def get_link_at(sock: Socket, index: int) -> LinkFact | None:
    """One link by index, or None."""
    found = sock.ask(Message(_GETLINK, 0, _link_body(_SKIP_STATS, index=index)))
    return _link_fact(found) if found else None


def links(sock: Socket) -> list[LinkFact]:
    """All links."""
    return [_link_fact(body) for body in sock.dump(Message(_GETLINK, 0, _link_body(_SKIP_STATS)))]


_SKIP_STATS = u32(_IFLA_EXT_MASK, _RTEXT_FILTER_SKIP_STATS)


def _link_fact(body: bytes) -> LinkFact:
    _, _, index, flags, _ = _LINK.unpack_from(body)
    found = dict(attributes(body[_LINK.size :]))
    info = dict(attributes(found.get(_IFLA_LINKINFO, b"")))
    port = dict(attributes(info.get(_IFLA_INFO_SLAVE_DATA, b"")))
    return LinkFact(
        index=index,
        name=as_text(found.get(_IFLA_IFNAME)),
        kind=as_text(info.get(_IFLA_INFO_KIND)),
        up=bool(flags & IFF_UP),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=as_number(found.get(_IFLA_MTU)),
        master=as_number(found.get(_IFLA_MASTER)),
        alias=as_text(found.get(_IFLA_IFALIAS)),
        isolated=port.get(_IFLA_BRPORT_ISOLATED) == b"\1",
    )


def addresses(sock: Socket) -> list[AddressFact]:
    """All addresses of both families."""
    found: list[AddressFact] = []
    for body in sock.dump(Message(_GETADDR, 0, _ADDR.pack(socket.AF_UNSPEC, 0, 0, 0, 0))):
        _, length, _, _, index = _ADDR.unpack_from(body)
        values = dict(attributes(body[_ADDR.size :]))
        if packed := values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS):
            found.append(AddressFact(index, ip_interface(f"{ip_address(packed)}/{length}")))
    return found


def routes(sock: Socket, family: int = socket.AF_UNSPEC) -> list[RouteFact]:
    """Unicast routes of the main table."""
    found: list[RouteFact] = []
    for body in sock.dump(Message(_GETROUTE, 0, _ROUTE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))):
        version, length, _, _, table, _, scope, kind, _ = _ROUTE.unpack_from(body)
        values = dict(attributes(body[_ROUTE.size :]))
        if kind != _RTN_UNICAST or as_number(values.get(_RTA_TABLE), table) != _RT_TABLE_MAIN:
            continue
        default = b"\0" * (4 if version == socket.AF_INET else 16)
        destination = ip_address(values.get(_RTA_DST, default))
        gateway = values.get(_RTA_GATEWAY)
        found.append(
            RouteFact(
                destination=ip_network(f"{destination}/{length}"),
                gateway=ip_address(gateway) if gateway else None,
                index=as_number(values.get(_RTA_OIF)),
                on_link=scope == _RT_SCOPE_LINK or gateway is None,
            )
        )
    return found
