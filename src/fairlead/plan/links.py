"""Steps that make bridges and veth pairs, and set links up."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import rtnetlink
from fairlead.model import HOST
from fairlead.plan.netlink import GONE, NetlinkStep, ip, link_name, netns_word, word
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel


@dataclass(frozen=True, slots=True)
class AddBridge(NetlinkStep):
    """A bridge on the host.  Its MAC is given, because a bridge without one takes its ports' and changes with them.

    It does not snoop on multicast memberships.  Without a querier, which our bridges never are, snooping sends
    multicast to every port all the same, yet it makes the kernel start two timers on every port whenever one port
    changes (br_port_state_selection, net/bridge/br_stp.c): with 900 ports a fifth of an attach.
    """

    name: str
    mac: str
    alias: str
    mtu: int = 0
    namespace: str = HOST

    def make(self, batch: Batch) -> None:
        message = rtnetlink.add_bridge(self.name, mac=self.mac, mtu=self.mtu)
        batch.add(message, f"cannot make the bridge {self.name}")
        batch.flush()  # If the name is taken, the mark must not go to the link that has it.
        batch.add(rtnetlink.set_link(self.name, alias=self.alias), f"cannot mark the bridge {self.name}")

    def unmake(self, batch: Batch) -> None:
        delete_ours(batch, self.name, self.alias, mac=self.mac)

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.name)
        if fact is None:
            return State.MISSING
        same = fact.kind == "bridge" and fact.mac == self.mac and fact.alias == self.alias
        return State.HOLDS if same else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        mtu = f" mtu {self.mtu}" if self.mtu else ""
        return (
            ip(self.namespace, f"link add {word(self.name)} address {self.mac}{mtu} type bridge mcast_snooping 0"),
            ip(self.namespace, f"link set {word(self.name)} alias {self.alias}"),
        )

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link del {word(self.name)}"),)

    def makes(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name),)


@dataclass(frozen=True, slots=True)
class AddVeth(NetlinkStep):
    """A veth pair with its ends in two namespaces.  An empty MAC is left to the kernel.

    So is a number of queues of 0: then it makes one queue for each processor and uses the first, but for turning off
    the others it waits until every processor has passed through its scheduler (veth_init_queues, drivers/net/veth.c),
    twice.  On a busy machine those are milliseconds.
    """

    namespace: str
    name: str
    peer_namespace: str
    peer: str
    alias: str
    mac: str = ""
    peer_mac: str = ""
    mtu: int = 0
    queues: int = 0

    def make(self, batch: Batch) -> None:
        message = rtnetlink.add_veth(
            self.name,
            self.peer,
            peer_fd=batch.namespace(self.peer_namespace) if self.peer_namespace != self.namespace else -1,
            mac=self.mac,
            peer_mac=self.peer_mac,
            mtu=self.mtu,
            queues=self.queues,
        )
        batch.add(message, f"cannot make the veth pair {self.name}, {self.peer}")
        batch.flush()
        batch.add(rtnetlink.set_link(self.name, alias=self.alias), f"cannot mark the interface {self.name}")

    def unmake(self, batch: Batch) -> None:
        delete_ours(batch, self.name, self.alias)

    def check(self, kernel: Kernel) -> State:
        ends = ((self.namespace, self.name), (self.peer_namespace, self.peer))
        kinds = {self._kind(kernel, namespace, name) for namespace, name in ends}
        if kinds == {"veth"}:
            return State.HOLDS
        # One end alone: its namespace was deleted, and the kernel has not come to the other end yet.
        return State.MISSING if kinds == {""} else State.DIFFERS

    @staticmethod
    def _kind(kernel: Kernel, namespace: str, name: str) -> str:
        if namespace and not kernel.namespaces.exists(namespace):
            return ""
        with kernel.socket(namespace) as socket:
            fact = rtnetlink.get_link(socket, name)
        return fact.kind if fact else ""

    def shell(self) -> tuple[str, ...]:
        more = f" mtu {self.mtu}" if self.mtu else ""
        more += f" numtxqueues {self.queues} numrxqueues {self.queues}" if self.queues else ""

        def end(name: str, mac: str) -> str:
            return word(name) + (f" address {mac}" if mac else "") + more

        near, far = (self.namespace, end(self.name, self.mac)), (self.peer_namespace, end(self.peer, self.peer_mac))
        if self.peer_namespace == HOST:
            near, far = far, near  # There is no word for the host's namespace, so the line is typed there.
        netns = f" netns {netns_word(far[0])}" if self.peer_namespace != self.namespace else ""
        return (
            ip(near[0], f"link add {near[1]} type veth peer name {far[1]}{netns}"),
            ip(self.namespace, f"link set {word(self.name)} alias {self.alias}"),
        )

    def unshell(self) -> tuple[str, ...]:
        return (ip(self.namespace, f"link del {word(self.name)}"),)

    def clearing(self, kernel: Kernel) -> tuple[str, ...]:
        """The end that is left; the kernel may come to it any moment."""
        ends = ((self.namespace, self.name), (self.peer_namespace, self.peer))
        left = [(namespace, name) for namespace, name in ends if self._kind(kernel, namespace, name)]
        return tuple(ip(namespace, f"link del {word(name)} || true") for namespace, name in left)

    def makes(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name), link_name(self.peer_namespace, self.peer))


@dataclass(frozen=True, slots=True)
class SeeCarrier(Step):
    """The kernel has seen that links have a carrier: soon, beside what follows (see `fairlead.kernel.carriers`)."""

    namespace: str
    links: tuple[str, ...]

    def apply(self, kernel: Kernel) -> None:
        kernel.carriers.see(self.namespace, self.links)

    def revert(self, kernel: Kernel) -> None:
        """Nothing was changed."""

    def check(self, kernel: Kernel) -> State:
        return State.HOLDS

    def shell(self) -> tuple[str, ...]:
        """A person who types is slower than the kernel."""
        return ()

    def unshell(self) -> tuple[str, ...]:
        return ()


def delete_ours(batch: Batch, name: str, alias: str, *, mac: str = "") -> None:
    """Delete a link that carries our mark; anybody else's of that name stays.

    If we died right after making it, it has no mark yet; then our MAC, or a veth of that name, will do.
    """
    fact = batch.link(name)
    if fact is None:
        return
    unmarked = not fact.alias and (fact.mac == mac if mac else fact.kind == "veth")
    if fact.alias == alias or unmarked:
        batch.delete_link(name)


@dataclass(frozen=True, slots=True)
class SetLink(NetlinkStep):
    """A link is up and has a master, as given (empty: left alone).

    A port of a bridge is in hairpin mode: where br_netfilter is on, a container's packet to its own published port is
    redirected inside the bridge and has to leave by the port that it came in by.  An isolated port reaches the bridge
    itself, but no other isolated port.
    """

    namespace: str
    name: str
    master: str = ""
    up: bool = True
    link_local: bool = True
    isolated: bool = False

    def make(self, batch: Batch) -> None:
        what = f"cannot set up the interface {self.name}"
        master = batch.index(self.master) if self.master else None
        if not self.link_local:
            # Its own request, before the one that sets the link up, which is when the kernel makes the address.
            batch.add(rtnetlink.set_link(self.name, link_local=False), what)
        up = True if self.up else None
        if self.master:
            # Up last: each change to a link that is up makes the kernel go through all IPv6 routes of the host.
            batch.add(rtnetlink.set_link(self.name, master=master), what)
            batch.add(rtnetlink.set_port(self.name, hairpin=True, isolated=self.isolated, up=up), what)
        else:
            batch.add(rtnetlink.set_link(self.name, up=up), what)

    def unmake(self, batch: Batch) -> None:
        message = rtnetlink.set_link(self.name, up=False if self.up else None, master=0 if self.master else None)
        batch.add(message, f"cannot set down the interface {self.name}", (*GONE, errno.EINVAL))

    def check(self, kernel: Kernel) -> State:
        with kernel.socket(self.namespace) as socket:
            fact = rtnetlink.get_link(socket, self.name)
            if fact is None:
                return State.MISSING
            master = rtnetlink.get_link(socket, self.master) if self.master else None
        if self.master and (master is None or fact.master != master.index or fact.isolated != self.isolated):
            return State.MISSING
        return State.HOLDS if fact.up or not self.up else State.MISSING

    def shell(self) -> tuple[str, ...]:
        lines = []
        if not self.link_local:
            lines.append(ip(self.namespace, f"link set {word(self.name)} addrgenmode none"))
        up = " up" if self.up else ""
        if self.master:
            isolated = " isolated on" if self.isolated else ""
            lines.append(ip(self.namespace, f"link set {word(self.name)} master {word(self.master)}"))
            lines.append(ip(self.namespace, f"link set {word(self.name)}{up} type bridge_slave hairpin on{isolated}"))
        elif up:
            lines.append(ip(self.namespace, f"link set {word(self.name)}{up}"))
        return tuple(lines)

    def unshell(self) -> tuple[str, ...]:
        words = ["down"] if self.up else []
        words += ["nomaster"] if self.master else []
        return (ip(self.namespace, f"link set {word(self.name)} {' '.join(words)}"),) if words else ()

    def inside(self) -> tuple[str, ...]:
        return (link_name(self.namespace, self.name), f"netns:{self.namespace}")
