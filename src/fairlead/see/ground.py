"""What those who look stand on: the kernel, and the records, of the daemon or read by ourselves when none runs."""

from __future__ import annotations

from dataclasses import dataclass

from fairlead import ipam
from fairlead.catalog import Catalog
from fairlead.containers.record import Container
from fairlead.kernel import Kernel
from fairlead.kernel.facts import KernelFacts
from fairlead.model import Endpoint, Link, Network, Record, Sandbox
from fairlead.paths import Paths
from fairlead.planner import Planner
from fairlead.publishing import Publisher
from fairlead.see import facts, intent, nat
from fairlead.see import topology as topologies
from fairlead.see.topology import Topology
from fairlead.store import Store

KINDS: tuple[type[Record], ...] = (Network, Sandbox, Endpoint, Link)
"""The records that say something of the kernel's network, each after those that it refers to."""


@dataclass(frozen=True)
class Ground:
    """Looking changes nothing."""

    paths: Paths
    kernel: Kernel
    store: Store
    planner: Planner

    def records(self) -> list[Record]:
        """All records that want something of the kernel's network."""
        return [record for kind in KINDS for record in self.store.all(kind)]

    def owners(self) -> dict[str, tuple[str, str]]:
        """See `owners`."""
        return owners(self.store)

    def snapshot(self, *, everything: bool = False) -> facts.Snapshot:
        """The network as the kernel has it."""
        return facts.read(self.kernel.namespaces, self.paths.namespaces, everything=everything)

    def topology(self, *, everything: bool = False) -> Topology:
        """Facts and intent in one picture."""
        before = self.records()
        snapshot = self.snapshot(everything=everything)
        rules = nat.read(self.kernel.nft)
        found = intent.gather(before, self.records(), self.planner.plan_of, self.owners())
        return topologies.build(snapshot, found, rules)


def alone(paths: Paths) -> Ground:
    """The ground when no daemon runs: the store is read as it lies on the disk.  Raises `FairleadError`."""
    store = Store(paths.store, (*KINDS, Container), look_only=True)
    kernel = Kernel(paths.run)
    facts_ = KernelFacts(kernel)
    catalog = Catalog(store)
    publisher = Publisher(store, pick=facts_.pick_port, ipv6=facts_.has_ipv6())
    # The block is for new networks alone, and here none is made.
    block = ipam.unique_local()
    planner = Planner(store, catalog, facts_, publisher, paths.namespaces, block)
    return Ground(paths=paths, kernel=kernel, store=store, planner=planner)


def owners(store: Store) -> dict[str, tuple[str, str]]:
    """By sandbox: the id and name that users know it by, a container's or its own."""
    names = {container.id: container.name for container in store.all(Container)}
    return {
        sandbox.id: (
            (sandbox.container, names.get(sandbox.container, "")) if sandbox.container else (sandbox.id, sandbox.name)
        )
        for sandbox in store.all(Sandbox)
    }
