"""The step that leads a sandbox's 127.0.0.11 to the resolver."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from fairlead.dns import ADDRESS, LISTEN_PORT
from fairlead.kernel import loopback
from fairlead.kernel.netlink import NETLINK_NETFILTER, Message, NetlinkError, Socket
from fairlead.plan.netlink import in_namespace
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel

_PORT = 53


@dataclass(frozen=True, slots=True)
class RedirectNames(Step):
    """Port 53 of 127.0.0.11 leads to the port on which the resolver listens in this namespace.

    The socket there is the resolver's, made while the sandbox is in a network that has names, so no line can be typed
    for it; without it a request is refused, as it is in any namespace.
    """

    namespace: str

    def apply(self, kernel: Kernel) -> None:
        with kernel.socket(self.namespace, NETLINK_NETFILTER) as socket:
            rules = loopback.redirect(IPv4Address(ADDRESS), _PORT, LISTEN_PORT)
            try:
                _replacing(socket, rules)
            except NetlinkError as error:
                raise NetlinkError(error.errno, f"cannot lead {ADDRESS} to the resolver: {error}") from None

    def revert(self, kernel: Kernel) -> None:
        if not kernel.namespaces.exists(self.namespace):
            return
        with kernel.socket(self.namespace, NETLINK_NETFILTER) as socket:
            try:
                socket.transact(loopback.forget())
            except NetlinkError as error:
                if error.errno != errno.ENOENT:
                    raise

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace, NETLINK_NETFILTER) as socket:
            rules = loopback.count_rules(socket)
        if rules is None:
            return State.MISSING
        return State.HOLDS if rules == loopback.RULES else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        lines = (
            f"table netdev {loopback.TABLE} {{",
            f"  chain {loopback.CHAIN} {{",
            '    type filter hook ingress device "lo" priority 0;',
            *(
                line
                for protocol in ("udp", "tcp")
                for line in (
                    f"    ip daddr {ADDRESS} {protocol} dport {_PORT} {protocol} dport set {LISTEN_PORT}",
                    f"    ip saddr {ADDRESS} {protocol} sport {LISTEN_PORT} {protocol} sport set {_PORT}",
                )
            ),
            "  }",
            "}",
        )
        return (in_namespace(self.namespace, "nft -f - <<'END'"), *lines, "END")

    def unshell(self) -> tuple[str, ...]:
        return (in_namespace(self.namespace, f"nft delete table netdev {loopback.TABLE}"),)

    def inside(self) -> tuple[str, ...]:
        return (f"netns:{self.namespace}",)


def _replacing(socket: Socket, rules: Sequence[Message]) -> None:
    """Make the rules; what is left of an attach that was undone after a crash gives way to them."""
    try:
        socket.transact(rules)
    except NetlinkError as error:
        if error.errno != errno.EEXIST:
            raise
        socket.transact(loopback.forget())
        socket.transact(rules)
