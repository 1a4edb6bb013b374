"""The steps of a published port: hold it on the host, and redirect it to an endpoint."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fairlead.kernel import conntrack, rtnetlink
from fairlead.kernel.netlink import NETLINK_NETFILTER
from fairlead.kernel.ports import Key, Target
from fairlead.model import HOST, Address, Protocol, PublishedPort
from fairlead.plan.firewall import AddElement
from fairlead.plan.step import State, Step

if TYPE_CHECKING:
    from fairlead.kernel import Kernel


@dataclass(frozen=True, slots=True)
class HoldPort(Step):
    """A socket in the keeper that keeps a port from other programs; see `fairlead.kernel.ports`.

    No line can be typed for it: a shell holds no sockets.
    """

    protocol: Protocol
    host_ip: Address | None
    """None: every address of both families."""
    host_port: int
    relay_to: Target | None = None
    """Where to relay what the kernel does not redirect, as it comes over the other family."""

    @staticmethod
    def steps(ports: Sequence[PublishedPort], relays: Mapping[PublishedPort, Target]) -> list[HoldPort]:
        """One step for each socket that holds ports: one on all addresses of both families is one socket."""
        wild = Counter((port.protocol, port.host_port) for port in ports if port.host_ip.is_unspecified)
        sockets: dict[Key, Target | None] = {}
        for port in ports:
            both = port.host_ip.is_unspecified and wild[port.protocol, port.host_port] == 2
            key = (port.protocol, None if both else port.host_ip, port.host_port)
            sockets[key] = sockets.get(key) or relays.get(port)
        return [HoldPort(*key, target) for key, target in sockets.items()]

    def channel(self) -> object:
        return "ports"

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        kernel.ports.hold({step.key(): step.relay_to for step in steps if isinstance(step, HoldPort)})

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        kernel.ports.release([step.key() for step in steps if isinstance(step, HoldPort)])

    def key(self) -> Key:
        """What names the port among those held."""
        return (self.protocol, self.host_ip, self.host_port)

    def check(self, kernel: Kernel) -> State:
        if not kernel.ports.holds(self.key()):
            return State.MISSING
        return State.HOLDS if kernel.ports.target(self.key()) == self.relay_to else State.DIFFERS

    def shell(self) -> tuple[str, ...]:
        return ()

    def unshell(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class RedirectFlows(AddElement):
    """The map element of a published port whose flows do not end by themselves: UDP and SCTP.

    The kernel asks the map at a flow's first packet only.  A client that goes on sending from one port would for ever
    be answered by whom it found at first: a container that is gone, or, before the port was published, nobody.  So
    with the element its old flows go: those to the published address and port whose answers come from elsewhere.
    """

    port: PublishedPort | None = None
    target: Address | None = None

    def channel(self) -> object:
        return "nft and flows"

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        AddElement.apply_together(kernel, steps)
        RedirectFlows.forget_stale(kernel, steps)

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        AddElement.revert_together(kernel, steps)
        RedirectFlows.forget_stale(kernel, steps, redirected=False)

    @staticmethod
    def forget_stale(kernel: Kernel, steps: Sequence[Step], *, redirected: bool = True) -> None:
        """Delete the flows that lead elsewhere than these steps say, or than (if not `redirected`) without them."""
        wanted: dict[tuple[int, Protocol], dict[int, list[RedirectFlows]]] = {}
        for step in steps:
            if isinstance(step, RedirectFlows) and step.port:
                ports = wanted.setdefault((step.port.host_ip.version, step.port.protocol), {})
                ports.setdefault(step.port.host_port, []).append(step)
        if not wanted:
            return
        with kernel.socket(HOST, NETLINK_NETFILTER) as netfilter, kernel.socket(HOST) as route:
            for (version, protocol), ports in wanted.items():
                # The kernel goes through all flows for each question, so many ports are one question.
                only = next(iter(ports)) if len(ports) == 1 else 0
                found = conntrack.flows(netfilter, version, protocol, only)
                found = [flow for flow in found if flow.destination[1] in ports]
                local = {address.interface.ip for address in rtnetlink.addresses(route)} if found else set()
                conntrack.forget(
                    netfilter,
                    [
                        flow
                        for flow in found
                        for step in ports[flow.destination[1]]
                        if step._is_for(flow, local) and flow.answers != step._answers(flow, redirected)
                    ],
                )

    def _is_for(self, flow: conntrack.Flow, local: set[Address]) -> bool:
        assert self.port is not None
        address = flow.destination[0]
        if self.port.host_ip.is_unspecified:
            return address in local or address.is_loopback
        return address == self.port.host_ip

    def _answers(self, flow: conntrack.Flow, redirected: bool) -> Target:
        assert self.port is not None
        assert self.target is not None
        return (self.target, self.port.port) if redirected else flow.destination

    def shell(self) -> tuple[str, ...]:
        return (*AddElement.shell(self), f"{self._forget_line()} || true")

    def unshell(self) -> tuple[str, ...]:
        return (*AddElement.unshell(self), f"{self._forget_line()} --dst-nat {self.target} || true")

    def _forget_line(self) -> str:
        """Without a match the program fails, which is no error here."""
        assert self.port is not None
        family = "" if self.port.host_ip.version == 4 else " -f ipv6"
        where = "" if self.port.host_ip.is_unspecified else f" --orig-dst {self.port.host_ip}"
        return f"conntrack -D{family} -p {self.port.protocol}{where} --orig-port-dst {self.port.host_port}"
