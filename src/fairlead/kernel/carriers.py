"""Having the kernel see that links have a carrier.

Until it has, a link drops what it is given to send, and a bridge passes nothing on to it.  The kernel looks from a work
queue: in most cases within a millisecond, but when many links have come or gone, a hundred of them a second (linkwatch,
net/core/link_watch.c), so that who is attached meanwhile is reached after many seconds.  Who asks for a link by its
name must be told the truth, so the kernel sees to that one first (rtnl_getlink, net/core/rtnetlink.c, since Linux 6.8;
older ones take their time).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from fairlead.errors import FairleadError
from fairlead.kernel import rtnetlink
from fairlead.kernel.netlink import Socket

_PAUSE = 0.01
"""Seconds in which the kernel mostly gets to it by itself, and whoever had the link made is not slowed down by us."""


class Carriers:
    """Safe to use from several threads."""

    def __init__(self, socket: Callable[[str], AbstractContextManager[Socket]]) -> None:
        self._socket = socket
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="carriers")

    def see(self, namespace: str, links: Sequence[str]) -> None:
        """Have the kernel look at links soon, beside the caller; any that are gone by then do not matter."""
        self._thread.submit(self._look, namespace, links, time.monotonic() + _PAUSE)

    def close(self) -> None:
        """Look no more; wait for the look that is under way."""
        self._thread.shutdown(cancel_futures=True)

    def _look(self, namespace: str, links: Sequence[str], when: float) -> None:
        time.sleep(max(0.0, when - time.monotonic()))
        with contextlib.suppress(FairleadError, OSError), self._socket(namespace) as socket:
            socket.send([rtnetlink.look_at(name) for name in links])
