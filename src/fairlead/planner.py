"""The planner: validates a request against intent (the store) and facts (the kernel), and returns the change.

It changes nothing.  Whatever a user can get wrong is found here, before anything happened.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv6Network
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from msgspec.structs import replace

from fairlead import configs, endpoints, gateways, ipam
from fairlead.announcing import Neighbours
from fairlead.catalog import Catalog
from fairlead.drivers import driver_named, driver_of
from fairlead.drivers.bridge import PREFIX, binding, divide_ports
from fairlead.errors import Conflict, FairleadError, Forbidden, Invalid
from fairlead.forwarding import ipv6_forwarding
from fairlead.gateways import Candidate
from fairlead.kernel.firewalls import OtherChain
from fairlead.kernel.namespaces import NAMED
from fairlead.kernel.rtnetlink import LinkFact
from fairlead.kernel.sysctl import IPV6_FORWARD
from fairlead.model import (
    HOST,
    Address,
    Endpoint,
    Interface,
    IPNetwork,
    Link,
    LinkEnd,
    Network,
    Phase,
    Pool,
    PublishedPort,
    Record,
    Sandbox,
    check_ifname,
    check_name,
    check_network_name,
    interface_of,
    new_id,
)
from fairlead.plan import Plan, Step
from fairlead.plan.addresses import AddAddress
from fairlead.plan.links import AddVeth, SeeCarrier, SetLink
from fairlead.plan.names import RedirectNames
from fairlead.plan.namespaces import AddNamespace
from fairlead.plan.netlink import owner_mark
from fairlead.publishing import Publisher
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec
from fairlead.store import Store
from fairlead.subnets import Subnets

R = TypeVar("R", covariant=True)

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


@dataclass(frozen=True)
class Change(Generic[R]):
    """What one operation will do.  `result` is what the operation returns once it has happened."""

    result: R
    add: tuple[Record, ...] = ()
    replace: tuple[Record, ...] = ()
    remove: tuple[Record, ...] = ()
    undo: Plan = field(default_factory=Plan)
    """Reverted first…"""
    plan: Plan = field(default_factory=Plan)
    """…then this is applied."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What to keep beside the records (`Store.keep`), from the moment in which the change begins."""

    def shell(self) -> list[str]:
        """The lines that a person would type for it."""
        return [*self.undo.unshell(), *self.plan.shell()]


_NOTHING: Change[None] = Change(result=None)


class Facts(Protocol):
    """What the planner asks of the kernel, always afresh."""

    def link(self, name: str) -> LinkFact | None:
        """A link of the host."""
        ...

    def addresses(self, link: str) -> tuple[Interface, ...]:
        """The addresses of a link of the host."""
        ...

    def uplink_mtu(self) -> int:
        """The least MTU of the links that the host's default routes lead through; 0 if there are none."""
        ...

    def has_ipv6(self) -> bool:
        """Whether this host speaks IPv6 at all."""
        ...

    def forwards_ipv6(self) -> bool:
        """Whether this host passes on IPv6 packets of others."""
        ...

    def router_listeners(self) -> list[str]:
        """The interfaces that take in router advertisements, but would stop if the host forwarded."""
        ...

    def has_kind(self, kind: str) -> bool:
        """Whether this kernel can make links of a kind."""
        ...

    def networks(self) -> list[IPNetwork]:
        """What the host has addresses in or routes to, default routes aside."""
        ...

    def namespace_exists(self, path: str) -> bool:
        """Whether there is a namespace, or anything else, at this path."""
        ...

    def link_in(self, path: str, name: str) -> LinkFact | None:
        """A link in the namespace at `path`."""
        ...

    def blocking_chains(self) -> list[OtherChain]:
        """Other firewalls' chains that would drop forwarded packets."""
        ...

    def marked_chains(self, bridge: str) -> list[OtherChain]:
        """Other firewalls' chains that hold accept rules of ours for a bridge."""
        ...


class HostView:
    """What `fairlead.drivers.Host` promises to drivers, from facts and intent."""

    def __init__(self, facts: Facts, catalog: Catalog) -> None:
        self.link = facts.link
        self.has_kind = facts.has_kind
        self.addresses = facts.addresses
        self.uplink_mtu = facts.uplink_mtu
        self._catalog = catalog

    def networks_on(self, parent: str) -> list[Network]:
        """The networks that stand on this parent link."""
        return [network for network in self._catalog.networks() if parent and network.parent == parent]


class Planner:
    """Each method returns the change that a request amounts to, or raises the one sentence that says why not."""

    def __init__(
        self,
        store: Store,
        catalog: Catalog,
        facts: Facts,
        publisher: Publisher,
        namespaces: Path,
        unique_local: IPv6Network,
    ) -> None:
        self._store = store
        self._catalog = catalog
        self._facts = facts
        self._host = HostView(facts, catalog)
        self._publisher = publisher
        self._namespaces = namespaces
        self._subnets = Subnets(catalog, facts, unique_local)
        self._hints = ipam.Hints()
        self._neighbours = Neighbours()

    # Plans of records: the same for making, removing, repairing and explaining

    def plan_of(self, record: Record) -> Plan:
        """Everything in the kernel that belongs to a record."""
        if isinstance(record, Network):
            return driver_of(record).network_plan(record, self._facts.blocking_chains() if record.ifname else ())
        if isinstance(record, Sandbox):
            names = (RedirectNames(record.path),) if record.names else ()
            return Plan((AddNamespace(record.path), SetLink(record.path, "lo"), *names))
        if isinstance(record, Link):
            return self._link_plan(record)
        if isinstance(record, Endpoint):
            network = self._store.get(Network, record.network)
            sandbox = self._store.get(Sandbox, record.sandbox)
            if network and sandbox:
                return _endpoint_plan(network, sandbox, record)
        return Plan()

    def _path(self, sandbox_id: str) -> str:
        sandbox = self._store.get(Sandbox, sandbox_id)
        return sandbox.path if sandbox else HOST

    def _link_plan(self, link: Link) -> Plan:
        one, other = link.ends
        paths = [self._path(end.sandbox) for end in link.ends]
        steps: list[Step] = [AddVeth(paths[0], one.ifname, paths[1], other.ifname, owner_mark(link.id))]
        for path, end in zip(paths, link.ends, strict=True):
            steps += [AddAddress(path, end.ifname, interface) for interface in end.addresses]
            steps.append(SetLink(path, end.ifname))
        steps += [SeeCarrier(path, (end.ifname,)) for path, end in zip(paths, link.ends, strict=True)]
        return Plan(tuple(steps))

    # Networks

    def create_network(self, spec: NetworkSpec, *, predefined: bool = False) -> Change[Network]:
        """A new network with its bridge."""
        check_network_name(spec.name)
        holder = self._store.owner(f"network:{spec.name}")
        if isinstance(holder, Network) and holder.predefined:
            raise Forbidden(f"operation is not permitted on predefined {spec.name} network")
        if holder:
            raise Conflict(f"network with name {spec.name} already exists")
        if spec.config_only:
            template = configs.configuration(spec)
            return Change(result=template, add=(template,))
        spec = configs.configured(spec, self._catalog)
        driver = driver_named(spec.driver)
        if not driver.has_links and not predefined:
            raise Forbidden(f'only one instance of "{spec.driver}" network is allowed, and it exists already')
        _check_options(spec.options, driver.options, f"the driver {spec.driver}")
        network = driver.complete(
            Network(
                id=new_id(),
                name=spec.name,
                driver=spec.driver,
                pools=self._subnets.choose(spec, driver, driver.home(spec.options, self._host))
                if driver.has_links
                else (),
                internal=spec.internal,
                attachable=spec.attachable,
                options=spec.options,
                labels=spec.labels,
                created=time.time(),
                predefined=predefined,
                config_from=spec.config_from,
            ),
            self._host,
        )
        if network.ifname and not network.adopted:
            self._check_host_link_is_free(network.ifname, "bridge name")
        if network.parent and not network.adopted:
            for other in self._host.networks_on(network.parent):
                if other.phase is not Phase.READY:
                    raise Conflict(f"network {other.name} on {network.parent} is being changed: try again")
        forwarding = self.ipv6_forwarding([network])
        return Change(
            result=network,
            add=(network,),
            plan=forwarding.plan + self._own(network, self.plan_of(network)),
            settings=forwarding.settings,
        )

    def ipv6_forwarding(self, networks: Iterable[Network]) -> Change[None]:
        """What makes the host forward IPv6, if one of the networks needs it and it does not yet.

        The setting names the interfaces that this is about.
        """
        if not any(_leads_out(network, 6) for network in networks) or self._facts.forwards_ipv6():
            return _NOTHING
        listeners = self._facts.router_listeners()
        return Change(result=None, plan=ipv6_forwarding(listeners), settings={IPV6_FORWARD: " ".join(listeners)})

    def _own(self, network: Network, plan: Plan) -> Plan:
        """What of a network's plan no other network needs too, such as the VLAN sub-interface that both stand on."""
        shared = {
            step
            for other in self._host.networks_on(network.parent)
            if other.id != network.id and other.phase is not Phase.REMOVING
            for step in driver_of(other).network_plan(other, ())
        }
        return Plan(tuple(step for step in plan if step not in shared))

    def _check_host_link_is_free(self, name: str, what: str) -> None:
        if owner := self._store.owner(f"link::{name}"):
            holder = owner.name if isinstance(owner, Network) else owner.id[:12]
            raise Conflict(f"{what} {name} is taken by {type(owner).__name__.lower()} {holder}")
        if self._facts.link(name):
            raise Conflict(f"{what} {name} is taken by an interface of this host that Fairlead did not make")

    def remove_network(self, ref: str, *, predefined: bool = False) -> Change[Network]:
        """A network goes only when its endpoints are gone; a predefined one only if `predefined`."""
        network = self._catalog.network(ref)
        if network.predefined and not predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        configs.check_unused(network, self._catalog)
        if endpoints := self._catalog.endpoints(network=network.id):
            names = ", ".join(sorted(self._owner_name(endpoint) for endpoint in endpoints)[:5])
            more = f" and {len(endpoints) - 5} more" if len(endpoints) > 5 else ""
            raise Forbidden(
                f"error while removing network: network {network.name} has active endpoints: "
                f"disconnect {names}{more} first"
            )
        others = self._facts.marked_chains(network.ifname) if network.ifname else ()
        undo = self._own(network, driver_of(network).network_plan(network, others))
        return Change(result=network, remove=(network,), undo=undo)

    def _owner_name(self, endpoint: Endpoint) -> str:
        sandbox = self._store.get(Sandbox, endpoint.sandbox)
        if sandbox is None:
            return endpoint.sandbox[:12]
        return f"container {sandbox.container[:12]}" if sandbox.container else sandbox.name

    # Sandboxes

    def open_sandbox(
        self, name: str, *, container: str = "", endpoints: tuple[EndpointSpec, ...] = ()
    ) -> Change[Sandbox]:
        """A namespace and its endpoints, all or nothing: by name in /run/netns, or a container's (`container` is its
        full id, also given as `name`) in our own directory."""
        check_name(name, "network namespace")
        path = str(self._namespaces / container) if container else str(NAMED / name)
        if self._store.owner(f"sandbox:{name}"):
            raise Conflict(f"network namespace {name} already exists")
        if not container and self._facts.namespace_exists(path):
            raise Conflict(f"network namespace {name} already exists at {path}; Fairlead did not make it")
        joined = [self._network_to_join(spec.network) for spec in endpoints]
        sandbox = Sandbox(
            id=new_id(),
            name=name,
            path=path,
            container=container,
            created=time.time(),
            names=any(network.has_names for network in joined),
        )
        plan = self.plan_of(sandbox)
        made: list[Endpoint] = []
        networks = {network.id: network for network in joined}
        for spec, network in zip(endpoints, joined, strict=True):
            made.append(self._endpoint(sandbox, network, spec, made))
        made = self._routed(made)
        for endpoint in made:
            plan += _endpoint_plan(networks[endpoint.network], sandbox, endpoint)
        for endpoint in made:
            plan += self._neighbours.announcement(networks[endpoint.network], sandbox, endpoint)
        return Change(result=sandbox, add=(sandbox, *made), plan=plan)

    def close_sandbox(self, ref: str) -> Change[Sandbox]:
        """The namespace with everything in it: endpoints, links."""
        sandbox = self._catalog.sandbox(ref)
        endpoints = self._catalog.endpoints(sandbox=sandbox.id)
        links = self._catalog.links(sandbox=sandbox.id)
        undo = self.plan_of(sandbox)
        for record in (*endpoints, *links):
            undo += self.plan_of(record)
        return Change(result=sandbox, remove=(*links, *endpoints, sandbox), undo=undo)

    # Endpoints

    def attach(self, sandbox: str, spec: EndpointSpec) -> Change[Endpoint]:
        """A new endpoint in an existing sandbox."""
        owner = self._catalog.sandbox(sandbox)
        if owner.phase is not Phase.READY:
            raise Conflict(f"network namespace {owner.name} is being changed: try again")
        network = self._network_to_join(spec.network)
        siblings = self._catalog.endpoints(sandbox=owner.id)
        endpoint = self._endpoint(owner, network, spec, siblings)
        *others, endpoint = self._routed([*siblings, endpoint])
        moved = self._moved(owner, siblings, others)
        plan = _endpoint_plan(network, owner, endpoint) + moved.plan
        replaced: tuple[Record, ...] = moved.replace
        if network.has_names and not owner.names:
            plan += Plan((RedirectNames(owner.path),))
            replaced += (replace(owner, names=True),)
        plan += self._neighbours.announcement(network, owner, endpoint)
        return Change(result=endpoint, add=(endpoint,), replace=replaced, undo=moved.undo, plan=plan)

    def _routed(self, endpoints: Sequence[Endpoint]) -> list[Endpoint]:
        """All endpoints of one sandbox, each with the default routes that it is to give."""
        candidates = [
            Candidate(endpoint, network, _gateways(network, endpoint))
            for endpoint in endpoints
            if endpoint.phase is Phase.READY and (network := self._store.get(Network, endpoint.network))
        ]
        chosen = gateways.choose(candidates)
        return [replace(endpoint, gateways=chosen.get(endpoint.id, ())) for endpoint in endpoints]

    def _moved(self, sandbox: Sandbox, before: Sequence[Endpoint], after: Sequence[Endpoint]) -> Change[None]:
        """What changes for endpoints that gain or lose a default route."""
        pairs = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
        undo, plan = Plan(), Plan()
        for old, new in pairs:
            old_steps, new_steps = (dict.fromkeys(self.plan_of(record)) for record in (old, new))
            undo += Plan(tuple(step for step in old_steps if step not in new_steps))
            plan += Plan(tuple(step for step in new_steps if step not in old_steps))
        return Change(result=None, replace=tuple(new for _, new in pairs), undo=undo, plan=plan)

    def _network_to_join(self, ref: str) -> Network:
        network = self._catalog.network(ref)
        if network.phase is not Phase.READY:
            raise Conflict(f"network {network.name} is being changed: try again")
        configs.check_joinable(network)
        if network.driver == "host":
            raise Forbidden("the host network has no endpoints: only a container may share it, from its start on")
        try:
            driver_named(network.driver)
        except FairleadError as error:
            raise Invalid(f"network {network.name} cannot be joined: {error}") from error
        return network

    def _endpoint(
        self, sandbox: Sandbox, network: Network, spec: EndpointSpec, siblings: Sequence[Endpoint]
    ) -> Endpoint:
        driver = driver_of(network)
        if any(sibling.network == network.id for sibling in siblings):
            raise Forbidden(f"{sandbox.name} is already connected to network {network.name}")
        if network.single and (others := self._catalog.endpoints(network=network.id)):
            raise Forbidden(f"network {network.name} takes one endpoint, and {self._owner_name(others[0])} is it")
        endpoints.check_spec(spec, network)
        known = driver.endpoint_options | (endpoints.OPTIONS if driver.has_links else frozenset())
        # Docker gives an endpoint's options to the driver, which looks at its own; those of others have no effect.
        own = {name: value for name, value in spec.options.items() if name.startswith("com.docker.network.")}
        _check_options(own, known, f"endpoints of the driver {network.driver}")
        if not driver.has_links:
            return Endpoint(id=new_id(), network=network.id, sandbox=sandbox.id)
        endpoint = Endpoint(
            id=new_id(),
            network=network.id,
            sandbox=sandbox.id,
            ifname=self._ifname(sandbox, network, spec, siblings),
            addresses=self._addresses(network, spec),
            link_local=self._link_local(network, spec),
            priority=spec.priority,
            mac=_mac(spec.mac),
            owner=sandbox.container or sandbox.name,
            aliases=spec.aliases,
            links=spec.links,
            ports=self._ports(network, spec.ports),
            options=spec.options,
        )
        list(endpoints.sysctls(endpoint))  # raises where one is not allowed
        return self._completed(network, endpoint)

    def _completed(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """With what the driver decides; a MAC that another has is refused, or, if it was not asked for, replaced."""
        driver = driver_of(network)
        completed = driver.complete_endpoint(network, endpoint)
        while isinstance(holder := self._store.owner(f"mac:{network.id}:{completed.mac}"), Endpoint):
            before = completed.mac
            endpoint = replace(endpoint, owner=f"{endpoint.owner}+")
            completed = driver.complete_endpoint(network, endpoint)
            if completed.mac == before:
                raise Conflict(f"MAC address {before} is already in use by {self._owner_name(holder)}")
        return completed

    def _ports(
        self, network: Network, ports: Sequence[PortSpec], besides: Endpoint | None = None
    ) -> tuple[PublishedPort, ...]:
        """The ports to publish in a network; those that the endpoint `besides` has are free, as it is leaving."""
        if not ports:
            return ()
        if network.internal:
            raise Invalid(f"network {network.name} is internal: ports cannot be published in it")
        if not driver_of(network).behind_host:
            raise Invalid(
                f"network {network.name}: endpoints of the driver {network.driver} are machines of the parent's LAN "
                "themselves; ports cannot be published"
            )
        if not driver_of(network).gateways(network):
            raise Invalid(f"network {network.name} has no gateway: ports cannot be published in it")
        held, direct = divide_ports(network, ports)
        return (*self._publisher.choose(held, binding(network), besides), *direct)

    def _addresses(self, network: Network, spec: EndpointSpec) -> tuple[Interface, ...]:
        found: list[Interface] = []
        wanted = {address.version: address for address in spec.ips}
        for version in sorted({pool.subnet.version for pool in network.pools}):
            pools = [pool for pool in network.pools if pool.subnet.version == version]
            if address := wanted.get(version):
                pool = next(pool for pool in pools if address in pool.subnet)
                self._check_address_is_free(network, address)
            elif not (lease := self._wished_address(network, pools, spec.wished)):
                pool, address = self._free_address(network, pools)
            else:
                pool, address = lease
            found.append(interface_of(address, pool.subnet.prefixlen))
        return tuple(found)

    def _wished_address(
        self, network: Network, pools: Sequence[Pool], wished: Sequence[Address]
    ) -> tuple[Pool, Address] | None:
        """The first of the wished addresses that can be given, if any can."""
        for pool in pools:
            for address in wished:
                if address in (pool.ip_range or pool.subnet):
                    with contextlib.suppress(Conflict, Invalid):
                        ipam.check_address(pool, address, network.name)
                        self._check_address_is_free(network, address)
                        return pool, address
        return None

    def _free_address(self, network: Network, pools: Sequence[Pool]) -> tuple[Pool, Address]:
        """An address of the first of these pools that has one."""

        def taken(address: Address) -> bool:
            return self._store.owner(f"address:{network.id}:{address}") is not None

        for pool in pools[:-1]:
            with contextlib.suppress(Conflict):
                return pool, self._hints.allocate(network.id, pool, taken)
        return pools[-1], self._hints.allocate(network.id, pools[-1], taken)

    def _link_local(self, network: Network, spec: EndpointSpec) -> tuple[Interface, ...]:
        for address in spec.link_local_ips:
            if not address.is_link_local:
                raise Invalid(f"address {address} is not link-local: 169.254.0.0/16 and fe80::/64 are")
            self._check_address_is_free(network, address)
        return tuple(interface_of(address, 16 if address.version == 4 else 64) for address in spec.link_local_ips)

    def _check_address_is_free(self, network: Network, address: Address) -> None:
        if isinstance(holder := self._store.owner(f"address:{network.id}:{address}"), Endpoint):
            raise Conflict(f"address {address} is already in use by {self._owner_name(holder)}")

    def _ifname(self, sandbox: Sandbox, network: Network, spec: EndpointSpec, siblings: Sequence[Endpoint]) -> str:
        names = {sibling.ifname for sibling in siblings}
        names |= {end.ifname for link in self._catalog.links(sandbox=sandbox.id) for end in link.ends}
        if spec.ifname:
            if spec.ifname in names:
                raise Conflict(f"{sandbox.name} already has an interface {spec.ifname}")
            return check_ifname(spec.ifname)
        prefix = network.options.get(PREFIX, "eth")
        return check_ifname(next(name for i in range(len(names) + 1) if (name := f"{prefix}{i}") not in names))

    def detach(self, sandbox: str, network: str, ports: Sequence[PortSpec] = ()) -> Change[Endpoint]:
        """Remove an endpoint; if it had the default route, another endpoint with a gateway takes that over.

        And if it had published ports, another takes these: what its owner has published (`ports`) stays so.
        """
        owner = self._catalog.sandbox(sandbox)
        joined = self._catalog.network(network)
        siblings = self._catalog.endpoints(sandbox=owner.id)
        endpoint = next((sibling for sibling in siblings if sibling.network == joined.id), None)
        if endpoint is None:
            raise Forbidden(f"{owner.name} is not connected to network {joined.name}")
        left = [sibling for sibling in siblings if sibling is not endpoint]
        heirs = self._routed(left)
        if endpoint.ports and ports:
            heirs = self._inheriting(heirs, ports, endpoint)
        moved = self._moved(owner, left, heirs)
        # A port that stays published is held all the time: nobody else can take it meanwhile.
        staying = set(moved.plan)
        undo = Plan(tuple(step for step in self.plan_of(endpoint) if step not in staying)) + moved.undo
        return Change(result=endpoint, remove=(endpoint,), replace=moved.replace, undo=undo, plan=moved.plan)

    def _inheriting(
        self, endpoints: Sequence[Endpoint], ports: Sequence[PortSpec], leaving: Endpoint
    ) -> list[Endpoint]:
        """The endpoints, one of which publishes these ports in place of the leaving one: that of the default route, as
        in Docker, where it can."""
        for heir in sorted(endpoints, key=lambda endpoint: not endpoint.gateways):
            network = self._store.get(Network, heir.network)
            if network and heir.phase is Phase.READY and publishes(network):
                chosen = self._ports(network, ports, besides=leaving)
                return [replace(one, ports=chosen) if one is heir else one for one in endpoints]
        return list(endpoints)

    def released(self, record: Record) -> None:
        """Told by the engine that a record is gone: its addresses are free again."""
        if isinstance(record, Network):
            self._neighbours.gone(record)
        if isinstance(record, Endpoint) and (network := self._store.get(Network, record.network)):
            self._neighbours.left(record)
            for pool in network.pools:
                for interface in record.addresses:
                    if interface.ip in pool.subnet:
                        self._hints.released(network.id, pool, interface.ip)

    # Links

    def add_link(self, one: LinkEnd, other: LinkEnd) -> Change[Link]:
        """A veth pair; `LinkEnd.sandbox` is a name or id prefix, or empty for the host."""
        ends = tuple(
            replace(end, sandbox=self._catalog.sandbox(end.sandbox).id if end.sandbox else "") for end in (one, other)
        )
        if ends[0].sandbox == ends[1].sandbox and ends[0].ifname == ends[1].ifname:
            raise Invalid(f"both ends of the link are {one.sandbox}/{one.ifname}: name two interfaces")
        for end in ends:
            check_ifname(end.ifname)
            sandbox = self._store.get(Sandbox, end.sandbox)
            if self._store.owner(f"link:{end.sandbox}:{end.ifname}") or self._facts.link_in(
                sandbox.path if sandbox else HOST, end.ifname
            ):
                raise Conflict(f"{sandbox.name if sandbox else 'the host'} already has an interface {end.ifname}")
        link = Link(id=new_id(), ends=(ends[0], ends[1]))
        return Change(result=link, add=(link,), plan=self._link_plan(link))

    def remove_link(self, ref: str) -> Change[Link]:
        """`ref`: id prefix, or ``SANDBOX/IFNAME`` of either end."""
        link = self._catalog.link(ref)
        return Change(result=link, remove=(link,), undo=self._link_plan(link))


def _endpoint_plan(network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
    """What makes an endpoint and is taken away with it."""
    return endpoints.dressed(driver_of(network).endpoint_plan(network, sandbox, endpoint), sandbox, endpoint)


def publishes(network: Network) -> bool:
    """Whether ports can be published in a network."""
    driver = driver_of(network)
    return not network.internal and driver.behind_host and bool(driver.gateways(network))


def _leads_out(network: Network, version: int) -> bool:
    """Whether the host passes on packets of the network's."""
    routed = any(pool.gateway and pool.subnet.version == version for pool in network.pools)
    return routed and not network.internal and driver_of(network).behind_host


def _gateways(network: Network, endpoint: Endpoint) -> tuple[Address, ...]:
    """The default routes that the endpoint may give: of several gateways of a family the one in its own subnet."""
    networks = {interface.network for interface in endpoint.addresses}
    elsewhere = [pool.subnet for pool in network.pools if pool.subnet not in networks]
    return tuple(
        gateway
        for gateway in driver_of(network).gateways(network)
        if not any(gateway in subnet for subnet in elsewhere)
    )


def _check_options(options: Mapping[str, str], known: Iterable[str], owner: str) -> None:
    for option in options:
        foreign = "." in option and not option.startswith("com.docker.network.")  # another program's; Docker keeps them
        if option not in known and not foreign:
            words = ", ".join(sorted(known)) or "there are none"
            raise Invalid(f"option {option!r} is unknown to {owner}; known are: {words}")


def _mac(mac: str) -> str:
    mac = mac.lower().replace("-", ":")
    if not mac:
        return ""
    if not _MAC.fullmatch(mac):
        raise Invalid(f"MAC address {mac!r} is not of the form 02:42:ac:11:00:02")
    if int(mac[:2], 16) & 1 or mac == "00:00:00:00:00:00":
        raise Invalid(f"MAC address {mac} is a multicast or zero address: an interface cannot have it")
    return mac
