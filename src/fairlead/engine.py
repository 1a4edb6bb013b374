"""Operations on networks, sandboxes, endpoints and links.

Each operation validates everything first, which yields new records and a plan; commits the records as *adding*; applies
the plan; commits them as *ready*.  Removing goes the same way backwards.  Synchronous and safe to call from several
threads; nothing in here waits for anything but the kernel and the store.
"""

from __future__ import annotations

from fairlead.model import Address, Endpoint, Link, LinkEnd, Network, Pool, Protocol, Sandbox
import msgspec


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
    """One wanted published port.  `host_ip` None: every address, both families.  `host_port` 0: any free one."""

    port: int
    protocol: Protocol = "tcp"
    host_ip: Address | None = None
    host_port: int = 0


class EndpointSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a user asks of ``network connect`` or of a container's place in a network.  `network`: name or id prefix."""

    network: str
    ip: Address | None = None
    mac: str = ""
    ifname: str = ""
    aliases: tuple[str, ...] = ()
    ports: tuple[PortSpec, ...] = ()
    options: dict[str, str] = {}


class Engine:
    """See the module's text.  A `ref` is a name, an id, or an unambiguous id prefix."""

    # networks
    def networks(self) -> list[Network]: ...
    def network(self, ref: str) -> Network: ...
    def create_network(self, spec: NetworkSpec) -> Network: ...
    def remove_network(self, ref: str) -> None: ...
    def prune_networks(self) -> list[Network]: ...
    def explain_create_network(self, spec: NetworkSpec) -> list[str]: ...
    def explain_remove_network(self, ref: str) -> list[str]: ...

    # sandboxes
    def sandboxes(self) -> list[Sandbox]: ...
    def sandbox(self, ref: str) -> Sandbox: ...
    def open_sandbox(self, name: str, *, container: str = "", endpoints: tuple[EndpointSpec, ...] = ()) -> Sandbox:
        """Make a namespace and attach it, all or nothing: by name in /run/netns, a container's in our own directory.
        For a container, `name` is the container's id."""
        ...
    def close_sandbox(self, ref: str) -> None: ...

    # endpoints
    def endpoints(self, *, network: str = "", sandbox: str = "") -> list[Endpoint]: ...
    def attach(self, sandbox: str, spec: EndpointSpec) -> Endpoint: ...
    def detach(self, sandbox: str, network: str) -> None: ...

    # links
    def links(self) -> list[Link]: ...
    def add_link(self, one: LinkEnd, other: LinkEnd) -> Link: ...
    def remove_link(self, ref: str) -> None: ...

    # everything
    def recover(self) -> None:
        """After a start: finish or undo what was half done, repair what differs, remove what is orphaned."""
        ...
