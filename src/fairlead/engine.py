"""The engine performs changes: commit the intent, execute the plans, commit the outcome; and recovers after a crash."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv6Network
from typing import ParamSpec, TypeVar

from msgspec.structs import replace

from fairlead import ipam
from fairlead.catalog import Catalog
from fairlead.errors import Conflict, FairleadError
from fairlead.firewall import IP_FORWARD, TABLE
from fairlead.forwarding import ipv6_forwarding
from fairlead.kernel import Kernel, rtnetlink, sysctl
from fairlead.kernel.facts import KernelFacts
from fairlead.kernel.sysctl import IPV6_FORWARD
from fairlead.model import HOST, Endpoint, Link, Network, Phase, Record, Sandbox
from fairlead.paths import Paths
from fairlead.plan import Plan
from fairlead.plan.executor import Executor
from fairlead.plan.firewall import AcceptIn, AddElement
from fairlead.plan.ports import HoldPort, RedirectFlows
from fairlead.plan.sysctl import SetSysctl
from fairlead.planner import Change, Planner
from fairlead.publishing import Publisher
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec
from fairlead.store import Store

__all__ = ["KINDS", "Change", "EndpointSpec", "Engine", "NetworkSpec", "PortSpec"]

P = ParamSpec("P")
R = TypeVar("R")

KINDS: tuple[type[Record], ...] = (Network, Sandbox, Endpoint, Link)
"""The records that the engine owns."""

UNIQUE_LOCAL = "ipv6-unique-local"
"""The setting that keeps the instance's IPv6 block."""

DEFAULT_BRIDGE = "fairlead0"
_PREDEFINED = (
    NetworkSpec(
        name="bridge",
        options={
            "com.docker.network.bridge.name": DEFAULT_BRIDGE,
            "com.docker.network.bridge.default_bridge": "true",
        },
    ),
    NetworkSpec(name="host", driver="host"),
    NetworkSpec(name="none", driver="null"),
)

log = logging.getLogger("fairlead.engine")


class Engine:
    """All methods are synchronous and safe to call from several threads (the daemon calls them in worker threads).

    Planning and committing exclude each other; the kernel's work, which may wait, does not.
    """

    def __init__(self, store: Store, executor: Executor, paths: Paths) -> None:
        facts = KernelFacts(executor.kernel)
        self.store = store
        self.catalog = Catalog(store)
        publisher = Publisher(store, pick=facts.pick_port, ipv6=facts.has_ipv6())
        self.planner = Planner(store, self.catalog, facts, publisher, paths.namespaces, self._unique_local())
        self._executor = executor
        self._namespaces = paths.namespaces
        self._lock = threading.Condition(threading.RLock())
        self._busy: set[str] = set()
        self.listeners: list[Callable[[Iterable[Record]], None]] = []
        """Are told of records after each commit; what has become of them is in the store."""
        self.heralds: list[Callable[[Sequence[Record]], None]] = []
        """Are told of records as they will be, before the kernel's work for them begins."""

    @property
    def kernel(self) -> Kernel:
        """For those who only look."""
        return self._executor.kernel

    def perform(self, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """Make the change and carry it out: ``engine.perform(engine.planner.attach, "ns0", spec)``."""
        with self._executor.kernel.ports.picks():
            return self._perform(lambda: make(*args, **kwargs))

    def _perform(self, make: Callable[[], Change[R]]) -> R:
        with self._lock:
            change = make()
            busy = {record.id for record in (*change.add, *change.replace, *change.remove)}
            if busy & self._busy:
                raise Conflict("another request is changing the same object right now: try again")
            with self.store.transaction():
                self.store.put(*(_in_phase(record, Phase.ADDING) for record in change.add))
                self.store.put(*(_in_phase(record, Phase.REMOVING) for record in change.remove))
                for name, value in change.settings.items():
                    self.store.keep(name, value)
            self._busy |= busy
        self._tell(change.remove)
        for herald in self.heralds:
            herald((*change.add, *change.replace))
        try:
            self._execute(change)
        finally:
            with self._lock:
                self._busy -= busy
                self._lock.notify_all()
        return change.result

    def _execute(self, change: Change[R]) -> None:
        self._executor.revert(change.undo)
        try:
            self._executor.apply(change.plan)
        except Exception:
            self._put_back(change)
            self._commit(remove=change.add)
            raise
        self._commit(put=(*change.add, *change.replace), remove=change.remove)

    def _put_back(self, change: Change[R]) -> None:
        """Make again what was undone of records that stay, such as a default route that was to move."""
        for record in change.replace:
            if kept := self.store.get(type(record), record.id):
                self._repair(kept, self.planner.plan_of(kept))

    def _commit(self, *, put: Sequence[Record] = (), remove: Sequence[Record] = ()) -> None:
        with self._lock:
            with self.store.transaction():
                self.store.delete(*remove)
                self.store.put(*put)
            for record in remove:
                self.planner.released(record)
        self._tell((*put, *remove))

    def _tell(self, records: Sequence[Record]) -> None:
        if records:
            for listener in self.listeners:
                listener(records)

    def refresh(self, sandbox: Sandbox) -> None:
        """Something of a sandbox's owner has changed, such as its name: tell those who listen."""
        self._tell((sandbox, *self.catalog.endpoints(sandbox=sandbox.id)))

    def explain(self, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs) -> list[str]:
        """The shell lines that the same call to `perform` would amount to; nothing is changed."""
        return self.draft(make, *args, **kwargs).shell()

    def draft(self, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs) -> Change[R]:
        """The change that the same call to `perform` would make; nothing is changed."""
        with self._executor.kernel.ports.picks(), self._lock:
            return make(*args, **kwargs)

    # Starting, and leaving nothing

    def recover(self) -> None:
        """After a start: finish or undo what was half done, repair what differs, remove what is orphaned.

        What cannot be repaired is logged and does not keep the daemon from starting.
        """
        self._executor.kernel.ports.find()
        self._finish_half_done()
        self._executor.apply(self.base())
        self._close_dead_sandboxes()
        self._mend_firewall()
        for record in self._all(Network, Sandbox, Link, Endpoint):
            self._repair(record, self._beside_firewall(record))
        self._remove_orphans()
        self._make_predefined()

    def close(self) -> None:
        """Let go of the store and of the kernel; the keeper of the ports goes on holding them."""
        self.store.close()
        self._executor.kernel.close()

    def base(self) -> Plan:
        """What all networks stand on: forwarding, and the firewall's table."""
        before = self.store.setting(IP_FORWARD)
        if before is None:
            before = sysctl.read(IP_FORWARD) or "0"
            self.store.keep(IP_FORWARD, before)
        ipv6 = self.planner.ipv6_forwarding(self._all(Network))  # A reboot has switched it off.
        for name, value in ipv6.settings.items():
            self.store.keep(name, value)
        return ipv6.plan + Plan((SetSysctl(IP_FORWARD, "1", before=before),))

    def _ipv6_forwarding_of_ours(self) -> Plan:
        """What we did to the host for IPv6 forwarding, to be taken back; nothing if it forwarded before."""
        listeners = self.store.setting(IPV6_FORWARD)
        return Plan() if listeners is None else ipv6_forwarding(listeners.split())

    def explain_base(self) -> list[str]:
        """The lines that make what the daemon makes at its start: forwarding, the table, the predefined networks."""
        plan = Plan((SetSysctl(IP_FORWARD, "1"), TABLE))
        for network in self._all(Network):
            if network.predefined:
                plan += self.planner.plan_of(network)
        return plan.shell()

    def reset(self) -> None:
        """Remove everything of ours from the kernel, and all records: networks last, then table and settings."""
        for link in self._all(Link):
            self.perform(self.planner.remove_link, link.id)
        for sandbox in self._all(Sandbox):
            self.perform(self.planner.close_sandbox, sandbox.id)
        for network in self._all(Network):
            self.perform(self.planner.remove_network, network.id, predefined=True)
        self._executor.revert(self._ipv6_forwarding_of_ours() + self.base() + Plan((TABLE,)))
        self._executor.kernel.ports.end()
        self.store.keep(IP_FORWARD, None)
        self.store.keep(IPV6_FORWARD, None)

    def explain_reset(self) -> list[str]:
        """The lines that take away what `reset` does."""
        plan = self._ipv6_forwarding_of_ours()
        plan += Plan((SetSysctl(IP_FORWARD, "1", before=self.store.setting(IP_FORWARD) or ""), TABLE))
        for record in self._all(Network, Sandbox, Endpoint, Link):
            plan += self.planner.plan_of(record)
        return plan.unshell()

    def mend(self, *, table: bool = True) -> None:
        """Somebody else changed the host's firewall: put back what of ours that took away.

        `table`: our own table may be other than it should; to make it anew takes the longer the more ports there are.
        Waits for the changes under way, and keeps others waiting: half of one must be neither missed nor revived.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._busy)
            if not self._all(Network):
                return  # After a reset nothing is ours to put back.
            if table:
                self._mend_firewall()
            for network in self._all(Network):
                self._repair(network, self._beside_firewall(network))

    def mend_other_firewalls(self) -> None:
        """Somebody else changed iptables-legacy: put back our accept rules, or put them where it drops from now on."""
        with self._lock:
            self._lock.wait_for(lambda: not self._busy)
            for network in self._all(Network):
                self._repair(network, Plan(tuple(s for s in self.planner.plan_of(network) if isinstance(s, AcceptIn))))

    def mend_all(self) -> None:
        """Make everything what the records say, as after a start, and remove what is orphaned.

        A container's namespace that is gone stays so: only a new start of the container gives it another.
        """
        with self._lock:
            self._lock.wait_for(lambda: not self._busy)
            if not self._all(Network):
                return
            self._executor.apply(self.base())
            self._mend_firewall()
            gone = {one.id for one in self._all(Sandbox) if one.container and not self._exists(one)}
            for record in self._all(Network, Sandbox, Link, Endpoint):
                ends = [end.sandbox for end in record.ends] if isinstance(record, Link) else []
                if gone.isdisjoint((record.id, getattr(record, "sandbox", ""), *ends)):
                    self._repair(record, self._beside_firewall(record))
            self._remove_orphans()

    def _exists(self, sandbox: Sandbox) -> bool:
        return self.kernel.namespaces.exists(sandbox.path)

    def _unique_local(self) -> IPv6Network:
        """This instance's own block, from which networks without an IPv6 subnet of their own get one."""
        block = self.store.setting(UNIQUE_LOCAL)
        if block is None:
            block = str(ipam.unique_local())
            self.store.keep(UNIQUE_LOCAL, block)
        return IPv6Network(block)

    def _all(self, *kinds: type[R]) -> list[R]:
        return [record for kind in kinds for record in self.store.all(kind)]  # type: ignore[type-var]

    def _finish_half_done(self) -> None:
        for record in self._all(Endpoint, Link, Sandbox, Network):
            phase = _phase(record)
            if phase is Phase.READY:
                continue
            log.info("%s %s was %s when we stopped: removing it", type(record).__name__, record.id[:12], phase.value)
            try:
                change = self._to_finish(record)
                self._executor.revert(change.undo)
                self._executor.repair(change.plan)
                self._commit(put=change.replace, remove=change.remove)
            except FairleadError:
                log.exception("cannot finish removing %s %s", type(record).__name__, record.id[:12])

    def _to_finish(self, record: Record) -> Change[Record]:
        """The removal of a record that was half added or half removed; some of it may have been done before."""
        if isinstance(record, Endpoint):
            sandbox = self.store.get(Sandbox, record.sandbox)
            if sandbox is not None and sandbox.phase is Phase.READY:
                return self.planner.detach(sandbox.id, record.network)
        if isinstance(record, Network):
            return self.planner.remove_network(record.id, predefined=True)
        return Change(result=record, remove=(record,), undo=self.planner.plan_of(record))

    def _close_dead_sandboxes(self) -> None:
        """After a reboot containers' namespaces are gone; they get new ones when they start."""
        for sandbox in self._all(Sandbox):
            if sandbox.container and not self._exists(sandbox):
                self.perform(self.planner.close_sandbox, sandbox.id)

    def _mend_firewall(self) -> None:
        """Exchange our table for one that holds exactly what the records say, in one transaction."""
        elements = [
            step
            for record in self._all(Network, Endpoint)
            for step in self.planner.plan_of(record)
            if isinstance(step, AddElement)
        ]
        self._executor.kernel.nft.run(TABLE.transaction(elements))
        RedirectFlows.forget_stale(self._executor.kernel, elements)

    def _beside_firewall(self, record: Record) -> Plan:
        """A record's plan without what `_mend_firewall` has just made, whole and new."""
        return Plan(tuple(step for step in self.planner.plan_of(record) if not isinstance(step, AddElement)))

    def _repair(self, record: Record, plan: Plan) -> None:
        try:
            repaired = self._executor.repair(plan)
        except FairleadError as error:
            log.error("cannot repair %s %s: %s", type(record).__name__, record.id[:12], error)
            return
        if repaired:
            log.info("repaired %s %s: %s", type(record).__name__, record.id[:12], ", ".join(map(str, repaired)))

    def _remove_orphans(self) -> None:
        kernel = self._executor.kernel
        paths = {sandbox.path for sandbox in self._all(Sandbox)}
        known = {record.id for record in self._all(Network, Endpoint, Link)}
        known |= {network.parent for network in self._all(Network)}  # What networks share has its own name for a mark.
        for namespace in (HOST, *filter(kernel.namespaces.exists, paths)):
            with kernel.batch(namespace) as batch:
                marked = [link for link in rtnetlink.links(batch.socket) if link.alias.startswith("fairlead:")]
                if namespace != HOST and any(link.kind == "bridge" for link in marked):
                    continue  # No network of ours has its bridge there: another Fairlead runs in this sandbox.
                for link in marked:
                    if link.alias.removeprefix("fairlead:") not in known:
                        log.warning("removing the orphaned interface %s %s", link.name, namespace)
                        batch.delete_link(link.name)
        for path in self._namespaces.glob("*"):
            if str(path) not in paths:
                log.warning("removing the orphaned network namespace %s", path)
                kernel.namespaces.remove(str(path))
        plans = map(self.planner.plan_of, self._all(Endpoint))
        kernel.ports.keep_only(step.key() for plan in plans for step in plan if isinstance(step, HoldPort))
        bridges = {network.ifname for network in self._all(Network)}
        for bridge in kernel.firewalls.bridges() - bridges:
            for chain in kernel.firewalls.marked(bridge):
                kernel.firewalls.withdraw(chain, bridge)

    def _make_predefined(self) -> None:
        for spec in _PREDEFINED:
            if self.store.owner(f"network:{spec.name}") is None:
                try:
                    self.perform(self.planner.create_network, spec, predefined=True)
                except FairleadError as error:
                    log.error("cannot make the network %s: %s", spec.name, error)


def _phase(record: Record) -> Phase:
    assert isinstance(record, Network | Sandbox | Endpoint | Link)
    return record.phase


def _in_phase(record: Record, phase: Phase) -> Record:
    assert isinstance(record, Network | Sandbox | Endpoint | Link)
    return replace(record, phase=phase)
