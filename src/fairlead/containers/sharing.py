"""Whose sandbox a container runs in: its own, the host, or another container's (``--network container:ID``).

A sandbox is kept for as long as a container runs in it, whether that is the one for which it was made or one that
joined it.  So neither loses its network by what happens to the other: not when the first is stopped, restarted or
removed, not by a restart of the daemon.  Nothing counts users: who runs where is in the containers' records, which
survive a crash.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.containers.plans import endpoint_specs
from fairlead.containers.record import Container, Status
from fairlead.engine import Engine
from fairlead.errors import Conflict, Invalid, NotFound
from fairlead.model import Endpoint, Phase, Sandbox, port_stem
from fairlead.spec import EndpointSpec
from fairlead.store import Store

if TYPE_CHECKING:
    from typing import Any

PREFIX = "container:"
"""Of a network mode: what follows names the container whose sandbox is joined."""

_LIVE = (Status.STARTING, Status.STARTING_AGAIN, Status.RUNNING, Status.PAUSED)

_LOCKS = 64


class Sharing:
    """The methods that open and close sandboxes wait for the kernel: call them in a thread."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        # That nobody is left in a sandbox, and closing it, must be one with regard to who comes meanwhile.
        self._locks = tuple(threading.Lock() for _ in range(_LOCKS))

    def _lock(self, owner: str) -> threading.Lock:
        return self._locks[hash(owner) % _LOCKS]

    def root(self, container: Container) -> str:
        """The id of the container in whose sandbox this one is to run, empty for its own.

        Raises where Docker does: the other must run.  Who joins one that has itself joined a third runs in the third's.
        """
        if not container.spec.network_mode.startswith(PREFIX):
            return ""
        ref = container.spec.network_mode.removeprefix(PREFIX)
        other = self._store.get(Container, ref)
        if other is None:
            raise NotFound(f"No such container: {ref}")
        other.check_not_restarting()
        if not other.is_running:
            raise Conflict(f"cannot join network of a non running container: {other.id}")
        root = other.joined or other.id
        if self._store.get(Container, root) is None:
            raise Conflict(
                f"cannot join the network of container {other.name}: it belonged to container {root[:12]}, "
                "which was removed, and with it the files of /etc that they share"
            )
        return root

    def on_host(self, container: Container) -> bool:
        """Whether it runs in the host's namespace."""
        root = self._store.get(Container, container.joined) if container.joined else container
        if root is None:
            return self._made_for(container.joined) is None
        return root.spec.network_mode == "host"

    def sandbox(self, container: Container) -> Sandbox | None:
        """The sandbox that it runs in, if there is one (none on the host's network)."""
        return self._made_for(container.joined if container.joined and container.is_running else container.id)

    def _made_for(self, container_id: str) -> Sandbox | None:
        found = self._store.owner(f"sandbox:{container_id}")
        return found if isinstance(found, Sandbox) else None

    def users(self, container_id: str, *, besides: str = "") -> list[Container]:
        """The containers that run in the sandbox made for a container, that one first."""
        own = self._store.get(Container, container_id)
        joined = [other for other in self._store.all(Container) if other.joined == container_id]
        everyone = [own, *sorted(joined, key=lambda other: other.created)] if own else joined
        return [user for user in everyone if user.status in _LIVE and user.id != besides]

    def all_users(self) -> dict[str, list[Container]]:
        """`users` of every sandbox that is in use, by the container for which it was made, gathered in one pass."""
        found: dict[str, list[Container]] = {}
        for container in sorted(self._store.all(Container), key=lambda one: (bool(one.joined), one.created)):
            if container.status in _LIVE:
                found.setdefault(container.joined or container.id, []).append(container)
        return found

    def shown_by(self, sandbox: Sandbox) -> str:
        """The id of the container with which a sandbox's networks and ports are shown: the first that runs in it."""
        own = self._store.get(Container, sandbox.container)
        if own and own.status in _LIVE:  # without looking at all others, as nearly always
            return own.id
        users = self.users(sandbox.container)
        return users[0].id if users else sandbox.container

    def open(self, container: Container) -> Sandbox | None:
        """The sandbox for a start: made, or still there because others run in it; None is the host's namespace."""
        if self.on_host(container):
            return None
        with self._lock(container.joined or container.id):
            found = self._made_for(container.joined or container.id)
            there = found if found and found.phase is Phase.READY else None
            if container.joined:
                if not there:
                    raise Conflict(f"cannot join network of a non running container: {container.joined}")
                return there
            specs = endpoint_specs(container, self._engine.catalog)
            self._make_way(specs)
            if there:
                self._return_to(there, specs)
                return there
            planner = self._engine.planner
            return self._engine.perform(planner.open_sandbox, container.id, container=container.id, endpoints=specs)

    def _return_to(self, sandbox: Sandbox, specs: Sequence[EndpointSpec]) -> None:
        """The first of a sandbox runs again, and gets back what it had to give up meanwhile."""
        catalog = self._engine.catalog
        joined = {endpoint.network for endpoint in catalog.endpoints(sandbox=sandbox.id)}
        for spec in specs:
            if catalog.network(spec.network).id not in joined:
                self._engine.perform(self._engine.planner.attach, sandbox.name, spec)

    def _make_way(self, specs: Sequence[EndpointSpec]) -> None:
        """Take out of its network whoever has an address or port that is asked for, and does not run.

        A container that was stopped or removed has given them up, and only others keep its sandbox; compose makes one
        anew while those that joined it go on.
        """
        for spec in specs:
            network = self._engine.catalog.network(spec.network)
            found = [self._store.owner(f"address:{network.id}:{address}") for address in spec.ips]
            if spec.mac:
                found.append(self._store.owner(f"mac:{network.id}:{spec.mac}"))
            for port in spec.ports:
                if port.host_port and port.host_port_end <= port.host_port:
                    found += [holder for _, holder in self._store.owners(port_stem(port.protocol, port.host_port))]
            for holder in {one.id: one for one in found if isinstance(one, Endpoint)}.values():
                if self._is_left(holder.sandbox):  # which the one that asks is not: it is starting
                    self._engine.perform(self._engine.planner.detach, holder.sandbox, holder.network)

    def _is_left(self, sandbox_id: str) -> bool:
        """Whether the container for which a sandbox was made runs no longer in it."""
        sandbox = self._store.get(Sandbox, sandbox_id)
        if sandbox is None or not sandbox.container:
            return False
        owner = self._store.get(Container, sandbox.container)
        return owner is None or owner.status in (Status.CREATED, Status.EXITED)

    def close(self, container_id: str) -> None:
        """A container's run has ended: close its sandbox, unless another runs in it."""
        owner = self.made_for(container_id)
        with self._lock(owner):
            if not self.users(owner, besides=container_id):
                with contextlib.suppress(NotFound):
                    self._engine.perform(self._engine.planner.close_sandbox, owner)

    def made_for(self, container_id: str) -> str:
        """The id of the container for which the sandbox was made that a container runs, or ran, in."""
        container = self._store.get(Container, container_id)
        return (container.joined if container else "") or container_id

    def removed(self, container_id: str) -> None:
        """A container is gone for good: its name is free again, even if others keep its sandbox."""
        if sandbox := self._made_for(container_id):
            self._engine.refresh(sandbox)


def check_can_connect(mode: str) -> None:
    """Raise unless a container of this network mode may be connected to networks; Docker's words."""
    if mode == "host" or mode.startswith(PREFIX):
        raise Invalid(
            "container sharing network namespace with another container or host "
            "cannot be connected to any other network"
        )
    if mode == "none":
        raise Invalid(
            "container cannot be connected to multiple networks with one of the networks in private (none) mode"
        )


def check_options(body: dict[str, Any], host: dict[str, Any]) -> None:
    """Raise where a wish (a body of ``POST /containers/create``) contradicts joining another's network; Docker's words.

    Source of the sentences: moby, daemon/pkg/opts and runconfig (v28).
    """
    conflicts = {
        "hostname and the network mode": body.get("Hostname"),
        "container type network can't be used with links. This would result in undefined behavior": host.get("Links"),
        "dns and the network mode": host.get("Dns"),
        "custom host-to-IP mapping and the network mode": host.get("ExtraHosts"),
        "mac-address and the network mode": body.get("MacAddress"),
        "port publishing and the container type network mode": host.get("PortBindings") or host.get("PublishAllPorts"),
        "port exposing and the container type network mode": body.get("ExposedPorts"),
    }
    for what, given in conflicts.items():
        if given:
            raise Invalid(f"conflicting options: {what}")


def resolve(mode: str, store: Store, own: str = "") -> str:
    """A network mode as the record keeps it: ``container:`` with the full id, so that a rename changes nothing."""
    if not mode.startswith(PREFIX):
        return mode
    ref = mode.removeprefix(PREFIX).removeprefix("/")
    if not ref:
        raise Invalid("invalid network mode: invalid container format container:<name|id>")
    if own and own == ref:
        raise Invalid("cannot join own network")
    found = store.get(Container, ref) or store.owner(f"container:{ref}")
    if found is None:
        matches = [container.id for container in store.all(Container) if container.id.startswith(ref)]
        # Not 404: of that status the answer to a create would mean "pull the image".
        if not matches:
            raise Invalid(f"No such container: {ref}")
        if len(matches) > 1:
            raise Invalid(f"Multiple IDs found with provided prefix: {ref}")
        return PREFIX + matches[0]
    return PREFIX + found.id
