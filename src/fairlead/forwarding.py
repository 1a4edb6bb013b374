"""The host forwards IPv6: what that takes, so that it goes on hearing from its own routers.

A host that forwards takes no default route and no address from router advertisements, unless `accept_ra` is 2
(kernel.org/doc/Documentation/networking/ip-sysctl, accept_ra).  So the interfaces that listened to routers before get
2, and so does the template of those to come (``default``).
"""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.kernel.sysctl import IPV6_FORWARD
from fairlead.plan import Plan
from fairlead.plan.sysctl import SetSysctl


def ipv6_forwarding(listeners: Iterable[str]) -> Plan:
    """Switch it on; `listeners`: the interfaces whose `accept_ra` is 1.

    They come first: when forwarding is switched on, the kernel throws away the default routes that it got from routers
    on interfaces where `accept_ra` is not 2 yet (net/ipv6/route.c, rt6_purge_dflt_routers).
    """
    listen = [SetSysctl(f"net/ipv6/conf/{name}/accept_ra", "2", before="1") for name in listeners]
    return Plan((*listen, SetSysctl(IPV6_FORWARD, "1", before="0")))
