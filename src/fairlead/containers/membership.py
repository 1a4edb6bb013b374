"""A container is put into networks and taken out of them, at once if it runs; and its links are taken away."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from fairlead.containers import etc
from fairlead.containers.links import known, without
from fairlead.containers.plans import published
from fairlead.containers.record import Container
from fairlead.containers.sharing import check_can_connect
from fairlead.endpoints import check_spec
from fairlead.engine import EndpointSpec
from fairlead.errors import Forbidden, NotFound
from fairlead.planner import publishes

if TYPE_CHECKING:
    from fairlead.containers.service import Containers


class Membership:
    """Which networks a container is in.  A `ref` is a name, an id, or a unique id prefix."""

    def __init__(self, containers: Containers) -> None:
        self._containers = containers

    async def connect(self, ref: str, spec: EndpointSpec) -> None:
        """Put a container into one more network, at once if it runs."""
        engine = self._containers.engine
        container = self._containers.get(ref)
        async with self._containers.live(container.id).lock:
            container = self._containers.get(container.id)
            network = engine.catalog.network(spec.network)
            check_can_connect(container.spec.network_mode)
            check_spec(spec, network)
            spec = msgspec.structs.replace(spec, links=known(spec.links, self._containers.get))
            networks = [engine.catalog.network(e.network).id for e in container.spec.endpoints]
            running = self._containers.sharing.sandbox(container)
            if running and network.id in networks:
                raise Forbidden(f"endpoint with name {container.name} already exists in network {network.name}")
            if running:  # also while another keeps it
                wanted = self.with_ports(container, spec)
                made = await asyncio.to_thread(engine.perform, engine.planner.attach, container.id, wanted)
                etc.joined(container, self._containers.paths, network, made)
            endpoints = list(container.spec.endpoints)
            place = networks.index(network.id) if network.id in networks else len(networks)  # in it already: asked anew
            endpoints[place : place + 1] = [msgspec.structs.replace(spec, network=network.name)]
            self._containers.store.put(_with_endpoints(container, tuple(endpoints)))

    def with_ports(self, container: Container, spec: EndpointSpec) -> EndpointSpec:
        """The same wish with the container's published ports, if it runs and none of its networks has them: it has left
        the one that did, or began in none that can."""
        catalog = self._containers.engine.catalog
        running = self._containers.sharing.sandbox(container)
        if not running or not publishes(catalog.network(spec.network)):
            return spec
        if any(endpoint.ports for endpoint in catalog.endpoints(sandbox=running.id)):
            return spec
        return msgspec.structs.replace(spec, ports=published(container))

    async def disconnect(self, ref: str, network: str) -> None:
        """Take a container out of a network, at once if it runs."""
        engine = self._containers.engine
        container = self._containers.get(ref)
        async with self._containers.live(container.id).lock:
            container = self._containers.get(container.id)
            left = engine.catalog.network(network)
            kept = tuple(e for e in container.spec.endpoints if engine.catalog.network(e.network).id != left.id)
            if len(kept) == len(container.spec.endpoints):
                raise NotFound(f"container {container.id} is not connected to network {left.name}")
            if self._containers.sharing.sandbox(container):
                ports = published(container)
                gone = await asyncio.to_thread(engine.perform, engine.planner.detach, container.id, left.id, ports)
                etc.left(container, self._containers.paths, gone)
            self._containers.store.put(_with_endpoints(container, kept))

    async def unlink(self, ref: str, alias: str) -> None:
        """Take one link away; a running container keeps what it has of it until it starts again."""
        container = self._containers.get(ref)
        async with self._containers.live(container.id).lock:
            container = self._containers.get(container.id)
            self._containers.store.put(msgspec.structs.replace(container, spec=without(container.spec, alias)))


def _with_endpoints(container: Container, endpoints: tuple[EndpointSpec, ...]) -> Container:
    return msgspec.structs.replace(container, spec=msgspec.structs.replace(container.spec, endpoints=endpoints))
