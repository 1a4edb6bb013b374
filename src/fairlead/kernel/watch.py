"""Hears of changes to the firewall by other programs: one that is reloaded may take our rules away."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

from fairlead.kernel.firewalls import OUR_TABLE
from fairlead.kernel.netlink import NETLINK_NETFILTER, Socket, attributes
from fairlead.kernel.nftables import THREAD_NAME

_GROUP_NFTABLES = 7
_NEWGEN = (10 << 8) | 15
"""NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWGEN: sent once after each transaction (linux/netfilter/nf_tables.h)."""
_NFTA_GEN_PROC_NAME = 3
_NFGENMSG = 4
_ROOM = 16 << 20
"""The kernel tells of each element of a transaction in some 150 bytes.  Memory is taken by what waits alone."""
_INET = 1
"""NFPROTO_INET, the family of our table; the first byte of each message (nfnetlink(7), struct nfgenmsg)."""
_OUR_TABLE = struct.pack("=HH9s", 13, 1, OUR_TABLE.encode())
"""The attribute that comes first in every message but NEWGEN: the table's name (NFTA_TABLE_NAME, NFTA_SET_TABLE…)."""


class FirewallWatch:
    """Readable (see `fileno`) when something was changed; must be opened in the host's namespace."""

    def __init__(self) -> None:
        self._socket = Socket(NETLINK_NETFILTER)
        self._socket.join(_GROUP_NFTABLES, _ROOM)
        self._in_transaction = False
        self._table_touched = False

    def fileno(self) -> int:
        """For event loops."""
        return self._socket.fileno()

    def changed_by_others(self) -> bool:
        """Take in what has arrived; True if any of it was not our own doing."""
        found = False
        for kind, body in self._socket.drain():
            if kind != _NEWGEN:
                self._in_transaction |= body[0] == _INET and body.startswith(_OUR_TABLE, _NFGENMSG)
                continue
            values = dict(attributes(body[_NFGENMSG:]))
            if values.get(_NFTA_GEN_PROC_NAME, b"").rstrip(b"\0") != THREAD_NAME:
                found = True
                self._table_touched |= self._in_transaction
            self._in_transaction = False
        if self._socket.overrun:
            # Who made the changes that were lost, nobody knows.
            self._socket.overrun = False
            found = self._table_touched = True
        return found

    def table_touched(self) -> bool:
        """Whether any of what others have changed since the last such question was in our own table."""
        touched, self._table_touched = self._table_touched, False
        return touched

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()


_XTABLES_LOCK = Path("/run/xtables.lock")
"""Held by every iptables-legacy and iptables-legacy-restore while it works (iptables(8), ``--wait``), by the nft forms
and iptables-legacy-save never."""
_IN_CLOSE = 0x08 | 0x10
_EVENT = struct.Struct("iIII")
"""linux/inotify.h, struct inotify_event; the name follows."""

_libc = ctypes.CDLL(None, use_errno=True)


class LegacyWatch:
    """Readable (see `fileno`) when iptables-legacy may have been at work.

    The kernel tells nobody of such changes, but the programs let go of their lock afterwards, which inotify(7) tells.
    The directory is watched, as the file is made by the first who needs it.
    """

    def __init__(self, lock: Path = _XTABLES_LOCK) -> None:
        self._name = lock.name.encode()
        self._fd = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0 or _libc.inotify_add_watch(self._fd, os.fsencode(lock.parent), _IN_CLOSE) < 0:
            error = ctypes.get_errno()
            self.close()
            raise OSError(error, os.strerror(error), str(lock.parent))

    def fileno(self) -> int:
        """For event loops."""
        return int(self._fd)

    def changed_by_others(self) -> bool:
        """Take in what has arrived; True if the lock was let go, also where we or a mere reader held it."""
        found = False
        try:
            events = os.read(self._fd, 65536)
        except BlockingIOError:
            return False
        while events:
            *_, length = _EVENT.unpack_from(events)
            end = _EVENT.size + length
            found |= events[_EVENT.size : end].rstrip(b"\0") == self._name
            events = events[end:]
        return found

    def close(self) -> None:
        """Stop listening."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
