"""A port of loopback led to another one and back, in a namespace of its own rules (linux/netfilter/nf_tables.h).

The rules stand at the ingress of ``lo``, so that no packet of another interface ever meets them, and they only write
port numbers: no connection tracking is switched on in the namespace, and a flush of its ``nat`` table breaks nothing.
They are packed by hand, which takes 0.3 ms; libnftables, with a new context for each namespace, takes 0.85 ms.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

from fairlead.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, Message, Socket, attribute, nested, text

TABLE, CHAIN = "fairlead", "names"

_NEWTABLE, _GETTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE, _GETRULE = (10 << 8 | n for n in (0, 1, 2, 3, 6, 7))
"""NFNL_SUBSYS_NFTABLES and NFT_MSG_…."""
_NLM_F_APPEND = 0x800
_NETDEV = struct.pack("=BBH", 5, 0, 0)
"""struct nfgenmsg: NFPROTO_NETDEV."""

_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_TYPE = 1, 3, 4, 7
_HOOK_NUM, _HOOK_PRIORITY, _HOOK_DEV = 1, 2, 3
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_LIST_ELEM, _EXPR_NAME, _EXPR_DATA = 1, 1, 2
_DATA_VALUE = 1
_META_DREG, _META_KEY, _META_PROTOCOL, _META_L4PROTO = 1, 2, 1, 16
_CMP_SREG, _CMP_OP, _CMP_DATA = 1, 2, 3
_IMMEDIATE_DREG, _IMMEDIATE_DATA = 1, 2
_PAYLOAD_DREG, _PAYLOAD_BASE, _PAYLOAD_OFFSET, _PAYLOAD_LEN = 1, 2, 3, 4
_PAYLOAD_SREG, _PAYLOAD_CSUM_TYPE, _PAYLOAD_CSUM_OFFSET = 5, 6, 7
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_REGISTER = 1

_ETH_P_IP = 0x0800
_SOURCE, _DESTINATION = (12, 0), (16, 2)
"""Where the IPv4 header has the address, and the UDP and TCP headers the port."""
_CHECKSUM = {socket.IPPROTO_UDP: 6, socket.IPPROTO_TCP: 16}
"""Where the header has the checksum."""


def redirect(address: IPv4Address, port: int, to: int) -> list[Message]:
    """What makes `address`:`port` be answered, over UDP and TCP, by who listens on `address`:`to`.

    Refused with EEXIST where the table is already.  (To delete it in the same transaction would be simpler, but then
    the kernel makes us wait for a grace period, 13 ms, when the socket is closed.)
    """
    hook = nested(
        _CHAIN_HOOK,
        _number(_HOOK_NUM, 0),  # NF_NETDEV_INGRESS
        _number(_HOOK_PRIORITY, 0),
        text(_HOOK_DEV, "lo"),
    )
    chain = text(_CHAIN_TABLE, TABLE) + text(_CHAIN_NAME, CHAIN) + hook + text(_CHAIN_TYPE, "filter")
    messages = [
        Message(_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, _NETDEV + text(_TABLE_NAME, TABLE)),
        Message(_NEWCHAIN, NLM_F_CREATE, _NETDEV + chain),
    ]
    for protocol in _CHECKSUM:
        messages.append(_rule(protocol, _DESTINATION, address, port, to))
        messages.append(_rule(protocol, _SOURCE, address, to, port))
    return messages


RULES = 2 * len(_CHECKSUM)
"""How many rules `redirect` makes."""


def forget() -> list[Message]:
    """What takes it away."""
    return [Message(_DELTABLE, 0, _NETDEV + text(_TABLE_NAME, TABLE))]


def count_rules(netlink: Socket) -> int | None:
    """How many rules there are, None without the table."""
    if netlink.ask(Message(_GETTABLE, 0, _NETDEV + text(_TABLE_NAME, TABLE))) is None:
        return None
    return len(netlink.dump(Message(_GETRULE, 0, _NETDEV + text(_RULE_TABLE, TABLE))))


def _rule(protocol: int, where: tuple[int, int], address: IPv4Address, port: int, to: int) -> Message:
    address_at, port_at = where
    expressions = nested(
        _RULE_EXPRESSIONS,
        *_matches(_meta(_META_PROTOCOL), struct.pack("!H", _ETH_P_IP)),
        *_matches(_load(_NETWORK_HEADER, address_at, 4), address.packed),
        *_matches(_meta(_META_L4PROTO), bytes((protocol,))),
        *_matches(_load(_TRANSPORT_HEADER, port_at, 2), struct.pack("!H", port)),
        _expression(
            "immediate",
            _number(_IMMEDIATE_DREG, _REGISTER),
            nested(_IMMEDIATE_DATA, attribute(_DATA_VALUE, struct.pack("!H", to))),
        ),
        _expression(
            "payload",
            _number(_PAYLOAD_SREG, _REGISTER),
            *_place(_TRANSPORT_HEADER, port_at, 2),
            _number(_PAYLOAD_CSUM_TYPE, 1),  # NFT_PAYLOAD_CSUM_INET
            _number(_PAYLOAD_CSUM_OFFSET, _CHECKSUM[protocol]),
        ),
    )
    names = text(_RULE_TABLE, TABLE) + text(_RULE_CHAIN, CHAIN)
    return Message(_NEWRULE, NLM_F_CREATE | _NLM_F_APPEND, _NETDEV + names + expressions)


def _matches(load: bytes, value: bytes) -> tuple[bytes, bytes]:
    compare = _expression(
        "cmp",
        _number(_CMP_SREG, _REGISTER),
        _number(_CMP_OP, 0),  # NFT_CMP_EQ
        nested(_CMP_DATA, attribute(_DATA_VALUE, value)),
    )
    return load, compare


def _meta(key: int) -> bytes:
    return _expression("meta", _number(_META_KEY, key), _number(_META_DREG, _REGISTER))


def _load(base: int, offset: int, length: int) -> bytes:
    return _expression("payload", _number(_PAYLOAD_DREG, _REGISTER), *_place(base, offset, length))


def _place(base: int, offset: int, length: int) -> tuple[bytes, bytes, bytes]:
    return _number(_PAYLOAD_BASE, base), _number(_PAYLOAD_OFFSET, offset), _number(_PAYLOAD_LEN, length)


def _expression(name: str, *attributes: bytes) -> bytes:
    return nested(_LIST_ELEM, text(_EXPR_NAME, name), nested(_EXPR_DATA, *attributes))


def _number(kind: int, value: int) -> bytes:
    """nf_tables has its numbers in network order."""
    return attribute(kind, struct.pack("!I", value))
