"""Hears of changes to nftables by other programs: a firewall that is reloaded may take our rules away."""

from __future__ import annotations

from fairlead.kernel.netlink import NETLINK_NETFILTER, Socket, attributes
from fairlead.kernel.nftables import THREAD_NAME

_GROUP_NFTABLES = 7
_NEWGEN = (10 << 8) | 15
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN: sent once after each transaction (linux/netfilter/nf_tables.h)."""
_NFTA_GEN_PROC_NAME = 3
_NFGENMSG = 4


class FirewallWatch:
    """Readable (see `fileno`) when something was changed; must be opened in the host's namespace."""

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_NETFILTER)
        self._socket.join(_GROUP_NFTABLES)

    def fileno(self) -> int:
        """For event loops."""
        return self._socket.fileno()

    def changed_by_others(self) -> bool:
        """Take in what has arrived; True if any of it was not our own doing."""
        found = False
        for kind, body in self._socket.drain():
            if kind == _NEWGEN:
                values = dict(attributes(body[_NFGENMSG:]))
                found |= values.get(_NFTA_GEN_PROC_NAME, b"").rstrip(b"\0") != THREAD_NAME
        return found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
