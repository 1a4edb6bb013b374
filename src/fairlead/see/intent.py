"""What the records say should be in the kernel, in a form in which a snapshot can be set beside it.

Nothing here knows what a driver does: a record's plan says which links, addresses, routes and elements it wants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from fairlead.model import Endpoint, Interface, Link, Network, Phase, Record, Sandbox
from fairlead.plan import Plan
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.child import AddChild
from fairlead.plan.dummy import AddDummy
from fairlead.plan.firewall import AddElement
from fairlead.plan.links import AddBridge, AddVeth, SetLink
from fairlead.plan.vlan import AddVlan

Place = tuple[str, str]
"""A namespace's path (empty: the host's) and the name of an interface in it."""


@dataclass(slots=True)
class Wanted:
    """What should be at a place.  `kind` empty: the link was there before and is none of ours to make."""

    kind: str = ""
    record: Record | None = None
    master: str = ""
    up: bool = False
    addresses: set[Interface] = field(default_factory=set)
    routes: list[AddRoute] = field(default_factory=list)


@dataclass(slots=True)
class Intent:
    """`known` are all records, also those that are just being made or removed: of those nothing is missing, and
    nothing that is found of them is a stranger."""

    networks: dict[str, Network] = field(default_factory=dict)
    sandboxes: dict[str, Sandbox] = field(default_factory=dict)
    endpoints: list[Endpoint] = field(default_factory=list)
    wanted: dict[Place, Wanted] = field(default_factory=dict)
    passing: set[Place] = field(default_factory=set)
    """Places of records that are just being made or removed."""
    elements: dict[tuple[str, str], AddElement] = field(default_factory=dict)
    """Of our table's sets, by set and key."""
    known: set[str] = field(default_factory=set)
    """The marks of all records (`fairlead.plan.netlink.owner_mark`)."""
    owners: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """By sandbox: id and name of what users know it by, a container or itself."""


def gather(
    before: Iterable[Record],
    after: Iterable[Record],
    plan_of: Callable[[Record], Plan],
    owners: Mapping[str, tuple[str, str]],
) -> Intent:
    """The intent of the records (networks, sandboxes, endpoints, links) as they were before and after a snapshot.

    What changed meanwhile, or is just being made or removed, is in passing: nobody can say what the kernel has of it.
    """
    intent = Intent(owners=owners)
    earlier = {record.id: record for record in before}
    later = {record.id: record for record in after}
    for id_, record in {**earlier, **later}.items():
        assert isinstance(record, Network | Sandbox | Endpoint | Link)
        intent.known.add(f"fairlead:{id_}")
        if record.phase is not Phase.READY or earlier.get(id_) != later.get(id_):
            passing = Intent()
            _add(passing, record, plan_of(record))
            intent.passing |= passing.wanted.keys()
            continue
        _add(intent, record, plan_of(record))
        if isinstance(record, Network):
            intent.networks[id_] = record
            if record.parent:
                intent.known.add(f"fairlead:{record.parent}")
        elif isinstance(record, Sandbox):
            intent.sandboxes[id_] = record
        elif isinstance(record, Endpoint):
            intent.endpoints.append(record)
    return intent


def _add(intent: Intent, record: Record, plan: Plan) -> None:
    def at(namespace: str, name: str) -> Wanted:
        return intent.wanted.setdefault((namespace, name), Wanted(record=record))

    for step in plan:
        if isinstance(step, AddVeth):
            at(step.namespace, step.name).kind = at(step.peer_namespace, step.peer).kind = "veth"
        elif isinstance(step, AddChild):
            at(step.namespace, step.name).kind = step.kind
        elif isinstance(step, AddBridge | AddVlan | AddDummy):
            kinds = {AddBridge: "bridge", AddVlan: "vlan", AddDummy: "dummy"}
            at(step.namespace, step.name).kind = kinds[type(step)]
        elif isinstance(step, SetLink):
            wanted = at(step.namespace, step.name)
            wanted.master, wanted.up = step.master or wanted.master, step.up
        elif isinstance(step, AddAddress):
            at(step.namespace, step.link).addresses.add(step.interface)
        elif isinstance(step, AddRoute):
            at(step.namespace, step.link).routes.append(step)
        elif isinstance(step, AddElement):
            intent.elements[step.set, step.key] = step
