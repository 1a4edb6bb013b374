"""The engine performs changes: commit the intent, execute the plans, commit the outcome; and recovers after a crash."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

import msgspec

from fairlead.model import Address, Endpoint, Link, LinkEnd, Network, Pool, Protocol, Record, Sandbox
from fairlead.plan import Plan
from fairlead.store import Store

P = ParamSpec("P")
R = TypeVar("R")


class NetworkSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``network create``."""

    name: str
    driver: str = "bridge"
    pools: tuple[Pool, ...] = ()
    """Empty: one from the default pools.  A pool without a gateway gets the first free address as one…"""
    no_gateway: bool = False
    """…unless this is set (``--gateway none``): the bridge gets no address, the sandboxes no default route."""
    internal: bool = False
    attachable: bool = False
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class PortSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One wanted published port.  `host_ip` None: every address, both families.

    `host_port` 0: any free one; `host_port_end` > `host_port`: any free one of that range.
    """

    port: int
    protocol: Protocol = "tcp"
    host_ip: Address | None = None
    host_port: int = 0
    host_port_end: int = 0


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``network connect`` or of a container's place in a network.  `network`: name or id prefix."""

    network: str
    ip: Address | None = None
    mac: str = ""
    ifname: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    options: dict[str, str] = {}


@dataclass(frozen=True)
class Change(Generic[R]):
    """What one operation will do.  `result` is what the operation returns once it has happened."""

    result: R
    add: tuple[Record, ...] = ()
    replace: tuple[Record, ...] = ()
    remove: tuple[Record, ...] = ()
    undo: Plan = Plan()
    """Reverted first…"""
    plan: Plan = Plan()
    """…then this is applied."""


class Catalog:
    """Reading: find records.  A `ref` is a name, a full id, or an unambiguous id prefix; `NotFound` otherwise."""

    def networks(self) -> list[Network]: ...
    def network(self, ref: str) -> Network: ...
    def sandboxes(self) -> list[Sandbox]: ...
    def sandbox(self, ref: str) -> Sandbox: ...
    def endpoints(self, *, network: str = "", sandbox: str = "") -> list[Endpoint]: ...
    def links(self) -> list[Link]: ...
    def link(self, ref: str) -> Link: ...


class Planner:
    """Each method validates a request against store and kernel facts and returns the change; it changes nothing."""

    def create_network(self, spec: NetworkSpec) -> Change[Network]: ...
    def remove_network(self, ref: str) -> Change[Network]: ...
    def open_sandbox(
        self, name: str, *, container: str = "", endpoints: tuple[EndpointSpec, ...] = ()
    ) -> Change[Sandbox]:
        """A namespace and its endpoints, all or nothing: by name in /run/netns, or a container's (`container` is its
        full id, also given as `name`) in our own directory."""
        ...

    def close_sandbox(self, ref: str) -> Change[Sandbox]: ...
    def attach(self, sandbox: str, spec: EndpointSpec) -> Change[Endpoint]: ...
    def detach(self, sandbox: str, network: str) -> Change[Endpoint]: ...
    def add_link(self, one: LinkEnd, other: LinkEnd) -> Change[Link]:
        """A veth pair; `LinkEnd.sandbox` is a name or id prefix, or empty for the host."""
        ...

    def remove_link(self, ref: str) -> Change[Link]:
        """`ref`: id prefix, or ``SANDBOX/IFNAME`` of either end."""
        ...


class Engine:
    """All methods are synchronous and safe to call from several threads (the daemon calls them in worker threads)."""

    store: Store
    catalog: Catalog
    planner: Planner

    def perform(self, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Make the change and carry it out: ``engine.perform(engine.planner.attach, "ns0", spec)``."""
        ...

    def explain(self, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs) -> list[str]:
        """The shell lines that the same call to `perform` would amount to; nothing is changed."""
        ...

    def recover(self) -> None:
        """After a start: finish or undo what was half done, repair what differs, remove what is orphaned."""
        ...
