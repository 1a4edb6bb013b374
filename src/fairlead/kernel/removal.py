"""Deleting links without waiting for what the kernel does afterwards.

A deleted link is gone within a millisecond: nobody can find it, and no packet takes it.  Yet the request returns some
15 ms later, when the kernel has freed it, for which it waits until every processor has let go of it (netdev_run_todo
and rcu_barrier, net/core/dev.c).  So the request is made in a thread, and the caller goes on when the link is gone.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from fairlead.kernel import rtnetlink
from fairlead.kernel.netlink import NetlinkError, Socket

_AT_ONCE = 16
"""Deletions under way; each waits for the kernel most of the time."""

_PAUSE = 0.0002
"""Seconds between two looks.  While the kernel is at it, a look waits for its lock, and so for the end."""


class Removals:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="removal")

    def delete(self, name: str, look: Socket, own: Socket) -> NetlinkError | None:
        """Delete a link; returns the refusal, or None once it is gone.

        `look` and `own` are sockets of the link's namespace; `own` is closed when the kernel is done with it.
        """

        def delete() -> NetlinkError | None:
            try:
                (outcome,) = own.send([rtnetlink.delete_link(name)])
                return outcome
            finally:
                own.close()

        deletion = self._threads.submit(delete)
        while not deletion.done():
            if rtnetlink.get_link(look, name) is None:
                return None
            time.sleep(_PAUSE)
        return deletion.result()

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown()
