"""Hears of changes to nftables by other programs: a firewall that is reloaded may take our rules away."""

from __future__ import annotations

import os
import struct

from fairlead.kernel.netlink import NETLINK_NETFILTER, Socket, attributes

_GROUP_NFTABLES = 7
_NEWGEN = (10 << 8) | 15
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN: sent once after each transaction (linux/netfilter/nf_tables.h)."""
_NFTA_GEN_PROC_PID = 2
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
                (task,) = struct.unpack(">I", values.get(_NFTA_GEN_PROC_PID, bytes(4)))
                found |= not os.path.exists(f"/proc/self/task/{task}")  # The kernel tells the thread, not the process.
        return found

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()
