"""Carries a trace out: find the ends, watch, send the probe, look round, and hand everything to the verdict."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import msgspec

from fairlead.catalog import Catalog
from fairlead.errors import FairleadError, Invalid, MissingFeature, NotFound
from fairlead.kernel import Kernel, conntrack, legacy, listeners, sysctl
from fairlead.kernel.netlink import NETLINK_NETFILTER
from fairlead.kernel.nftrace import Ruleset, RuleWatch, marked, read_ruleset
from fairlead.kernel.packets import PacketWatch, Sight
from fairlead.model import Address
from fairlead.paths import Paths
from fairlead.see.reader import Reader
from fairlead.see.trace import names, questions
from fairlead.see.trace.intent import Intent
from fairlead.see.trace.model import (
    OK_KINDS,
    Asked,
    Flow,
    Hop,
    Leg,
    Name,
    Observation,
    Outcome,
    Place,
    Route,
    Sized,
    Socket,
    Trace,
)
from fairlead.see.trace.places import Places
from fairlead.see.trace.probe import Interrupt, Probe
from fairlead.see.trace.survey import Survey
from fairlead.see.trace.verdict import judge
from fairlead.see.trace.way import Seen, way_of, with_routes
from fairlead.see.trace.words import endpoint

log = logging.getLogger("fairlead.trace")

LINGER = 0.03
"""Seconds after the outcome for what the kernel still does with the packets."""

NEIGHBOUR_MS = 900
"""A question for a neighbour fails after three tries of a second each (arp(7)).  A probe that fails sooner waited for
one that somebody else had asked, perhaps before things were mended: so it is sent again."""

MORE_PROBES = 2
"""How often a probe is sent again whose fate says nothing of the way."""

MOST_FLOWS = 1000

_PROTOCOLS = {"tcp": 6, "udp": 17, "icmp": 1}


@dataclass(frozen=True)
class Goal:
    """Where the probe is to go."""

    address: Address | None
    target: Place | None = None
    name: Name | None = None


class Tracer:
    """One trace.  `names` are our containers' names by id; when `interrupt` is set, it raises `Abandoned`."""

    def __init__(
        self, kernel: Kernel, catalog: Catalog, paths: Paths, names: dict[str, str], interrupt: Interrupt
    ) -> None:
        self._kernel, self._interrupt = kernel, interrupt
        self._reader = Reader(kernel.namespaces, counters=False)
        self._places = Places(kernel, self._reader, catalog, paths, names)
        self._intent = Intent(catalog, names)
        self._notes: list[str] = []

    def trace(self, asked: Asked) -> Trace:
        """Answer a question.  Raises `FairleadError` where the question is wrong."""
        check(asked)
        with self._reader:
            return self._trace(asked)

    def _trace(self, asked: Asked) -> Trace:
        source = self._places.find(asked.source)
        goal = self._goal(source, asked)
        if goal.address is None:
            return self._conclude(
                Observation(
                    asked=asked,
                    source=source,
                    target=goal.target,
                    name=goal.name,
                    outcome=Outcome(kind="unresolved"),
                    places=(self._places.host, source),
                    memberships=self._intent.memberships([source, goal.target]),
                )
            )
        survey = Survey(self._kernel, self._reader, self._places, goal.address.version)
        flows = self._flows(survey, goal.address, asked)
        outcome, hops = self._probe(survey, source, goal, asked)
        for _ in range(MORE_PROBES):
            if not _fails_by_chance(outcome, hops) and not self._is_unseen(outcome, hops):
                break
            outcome, hops = self._probe(survey, source, goal, asked)
        if self._is_unseen(outcome, hops):
            self._notes.append(f"the packets of {1 + MORE_PROBES} probes that were answered were not seen anywhere")
        observation = self._look_round(survey, asked, source, goal, outcome, hops, flows)
        sized = self._full_size(survey, observation, source, goal) if outcome.kind == "answered" else None
        if sized:
            observation = msgspec.structs.replace(observation, sized=sized)
        return self._conclude(observation)

    def _is_unseen(self, outcome: Outcome, hops: tuple[Hop, ...]) -> bool:
        """What was answered has been somewhere: the watching failed, not the probe."""
        return outcome.kind in ("answered", "refused") and not hops and not self._notes

    def _conclude(self, observation: Observation) -> Trace:
        return Trace(observation=observation, verdict=judge(observation))

    # The ends

    def _goal(self, source: Place, asked: Asked) -> Goal:
        word = asked.destination
        with contextlib.suppress(ValueError):
            address = ip_address(word.strip("[]").partition("%")[0])
            return Goal(address, self._places.at_path(self._intent.holder_of(address)))
        target: Place | None = None
        missing: FairleadError | None = None
        try:
            target = self._places.find(word)
        except NotFound as error:
            missing = error
        if target and (target.kind == "host" or "/" in word):
            return Goal(self._address_of(source, target), target)
        if target and source.kind != "container" and not self._intent.resolver_of(source):
            return Goal(self._address_of(source, target), target)  # Nothing there knows such names.
        found = self._look_up(source, word)
        if found.addresses:
            return Goal(ip_address(found.addresses[0]), target, found)
        if target is None:
            if missing and "/" in word:
                raise missing
            return Goal(None, None, found)
        # Namespaces without a container need no names: not to have one is no fault, so it is not told.
        wanted = found if source.kind == "container" and target.kind == "container" else None
        return Goal(self._address_of(source, target), target, wanted)

    def _look_up(self, source: Place, word: str) -> Name:
        processes = self._reader.pids.get(source.inode, []) if source.kind != "host" else []
        sandbox = self._intent.resolver_of(source)
        resolv, hosts = names.files_of(source, processes)
        text = {path: path.read_text(errors="replace") if path.exists() else "" for path in (resolv, hosts)}
        resolver = f"nameserver {sandbox}" if sandbox and not processes else text[resolv]
        found = names.look_up(self._kernel, source, word, resolver, text[hosts])
        if found.problem not in ("no address", "no resolver"):
            return found
        # It may be one of IPv6 alone.
        six = names.look_up(self._kernel, source, word, resolver, text[hosts], version=6)
        return six if six.addresses else found

    def _address_of(self, source: Place, target: Place) -> Address:
        """The target's address that the source should use: one on a wire with it, or in a network of both."""
        for version in (4, 6):
            survey = Survey(self._kernel, self._reader, self._places, version)
            theirs = survey.snapshot(target.inode)
            ours = survey.snapshot(source.inode)
            found = [
                row.interface
                for index, several in sorted(theirs.addresses.items(), key=lambda item: item[0] == 1)
                for row in several  # The loopback's last.
                if not row.interface.ip.is_loopback and not row.interface.ip.is_link_local and index in theirs.links
            ]
            if source.inode == target.inode and found:
                return found[0].ip
            near = [
                row.interface for rows in ours.addresses.values() for row in rows if not row.interface.ip.is_loopback
            ]
            shared = [address for address in found if any(address.ip in one.network for one in near)]
            if shared or found:
                return (shared or found)[0].ip
        if intended := self._intent.addresses_of(target):
            return ip_address(intended[0].partition("/")[0])
        raise Invalid(f"{target.name} has no address but its own loopback: give the address that should be reached")

    # The probe

    def _probe(self, survey: Survey, source: Place, goal: Goal, asked: Asked) -> tuple[Outcome, tuple[Hop, ...]]:
        assert goal.address is not None
        probe = Probe(self._kernel, source.path, asked, goal.address, self._interrupt)
        with contextlib.ExitStack() as stack:
            stack.callback(probe.close)
            packets = self._watch_packets(stack, probe)
            rules: dict[int, RuleWatch] = {}
            rulesets: dict[int, Ruleset] = {}
            counted: dict[int, tuple[Place, dict[tuple[legacy.LegacyRule, int], int]]] = {}
            for place in self._watched(survey, source, goal, asked):
                with self._noted("rules"), self._kernel.namespaces.entered(place.path):
                    if counters := legacy.read_counters():
                        counted[place.inode] = place, counters
                    rulesets[place.inode] = read_ruleset()
                    if rulesets[place.inode].families:
                        rules[place.inode] = watch = RuleWatch(marked(probe.mark), rulesets[place.inode])
                        stack.callback(watch.close)
            outcome, began = probe.run()
            time.sleep(LINGER)
            sights: list[Sight] = packets.take() if packets else []
            events = {inode: watch.take() for inode, watch in rules.items()}
            if packets and packets.missed:
                self._notes.append("there were more packets of the probe than could be kept: some hops may be missing")
            if any(watch.missed for watch in rules.values()):
                self._notes.append("the kernel reported more rules than could be kept: some may be missing")
        met: dict[int, list[legacy.LegacyRule]] = {}
        for inode, (place, counters) in counted.items():
            with self._noted("rules of iptables-legacy"), self._kernel.namespaces.entered(place.path):
                met[inode] = legacy.risen(counters, legacy.read_counters())
        symbols = Symbols()
        seen = Seen(sights, events, rulesets, probe.mark, began, survey.name, symbols.name, met, source.inode)
        return outcome, way_of(seen, answered=outcome.kind == "answered")

    def _watch_packets(self, stack: contextlib.ExitStack, probe: Probe) -> PacketWatch | None:
        with self._noted("packets"):
            watch = PacketWatch(probe.mark)
            stack.callback(watch.close)
            return watch
        return None

    @contextlib.contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """What cannot be watched is told, and the rest is done without."""
        try:
            yield
        except MissingFeature as error:
            self._notes.append(f"{what} were not watched: {error}")
        except (FairleadError, OSError, LookupError) as error:
            log.warning("%s could not be watched: %s", what, error)
            self._notes.append(f"{what} were not watched: {error}")

    def _watched(self, survey: Survey, source: Place, goal: Goal, asked: Asked) -> list[Place]:
        """The namespaces whose rules may matter: the ends, the host, and those on the way there."""
        assert goal.address is not None
        for leg in survey.walk("request", source.inode, None, goal.address, rewritten={}, thorough=False, ask=False):
            if leg.bridge:
                survey.used.setdefault(leg.bridge[0], survey.snapshot(leg.bridge[0]).place)
        found = {place.inode: place for place in (self._places.host, source, goal.target) if place} | survey.used
        published = {one.container for one in self._intent.published(asked.port)}
        for place in self._places.all().values() if published else ():
            if place.owner == "fairlead" and place.name in published:
                found[place.inode] = place
        return list(found.values())

    # Looking round

    def _look_round(
        self,
        survey: Survey,
        asked: Asked,
        source: Place,
        goal: Goal,
        outcome: Outcome,
        hops: tuple[Hop, ...],
        flows: tuple[Flow, ...],
    ) -> Observation:
        assert goal.address is not None
        thorough = outcome.kind != "answered"
        if thorough:
            survey.keep_neighbours()
        led = self._led(survey, goal.address, asked, hops) if thorough else ""
        rewritten = {(self._places.host.inode, str(goal.address)): endpoint(led)[0]} if led else {}
        rewritten |= self._rewritten(hops)
        legs = list(survey.walk("request", source.inode, None, goal.address, rewritten=rewritten, thorough=thorough))
        reached = legs[-1].namespace if legs and legs[-1].route.kind == "local" else 0
        final = legs[-1].to if legs and (reached or not thorough) else ""
        back = next((endpoint(hop.source)[0] for hop in reversed(hops) if hop.direction == "request"), "")
        back = back or (legs[0].source if legs else "")
        if thorough and reached and reached != source.inode and back:
            there = ip_address(legs[-1].to)
            undo = {(hop.namespace, endpoint(hop.destination)[0]): "" for hop in hops if hop.kind == "nat"}
            for hop in hops:
                if hop.kind == "nat" and hop.direction == "request" and hop.text.startswith("source "):
                    old, new = hop.text.removeprefix("source ").split(" → ")
                    undo[hop.namespace, endpoint(new)[0]] = endpoint(old)[0]
            legs += survey.walk("reply", reached, there, ip_address(back), rewritten=undo, thorough=True)
        places = {place.inode: place for place in (self._places.host, source, goal.target) if place}
        places |= survey.used
        for hop in hops:
            if hop.namespace and (known := self._places.known(hop.namespace)):
                places.setdefault(hop.namespace, known)
        ends = {(leg.namespace, leg.route.interface) for leg in legs if leg.route.interface}
        ends |= {(leg.namespace, leg.came_in) for leg in legs if leg.came_in}
        ends |= {end for leg in legs for end in (*leg.holders, *leg.elsewhere, leg.bridge, leg.barrier_at) if end}
        ends |= {(hop.namespace, hop.interface) for hop in hops if hop.interface}
        for place in (source, goal.target):
            if place and place.kind != "host":
                shot = survey.snapshot(place.inode)
                ends |= {(place.inode, link.name) for link in shot.links.values() if link.name != "lo"}
        macs = {mac for leg in legs for mac in leg.own_macs}
        macs |= {mac for leg in legs if leg.macs and len(leg.macs) > 1 for mac in leg.macs}
        ends |= {end for mac in macs if (end := survey.with_mac(mac))}
        ports = [port for end in sorted(ends) if (port := survey.port(end))]
        # With the other ends of their wires, and the bridges that those are ports of.
        for step in (lambda port: port.peer, lambda port: (port.namespace, port.master) if port.master else None):
            had = {(port.namespace, port.name) for port in ports}
            more = {end for port in ports if (end := step(port)) and end not in had}
            ports += [port for end in sorted(more) if (port := survey.port(end))]
        for port in ports:
            if known := self._places.known(port.namespace):
                places.setdefault(port.namespace, known)
        return Observation(
            asked=asked,
            source=source,
            outcome=outcome,
            address=str(goal.address),
            target=goal.target,
            name=goal.name,
            places=tuple(places.values()),
            ports=tuple(ports),
            legs=tuple(legs),
            hops=with_routes(hops, legs),
            reached=reached,
            sockets=self._sockets(places.get(reached), final, hops, asked),
            mute=thorough and asked.protocol == "icmp" and self._is_mute(places.get(reached), goal.address),
            flows=flows,
            fresh=self._fresh(survey, source, goal, asked, flows, hops, led),
            memberships=self._intent.memberships(places.values()),
            published=self._intent.published(asked.port),
            unheard=self._unheard(survey, legs) if outcome.kind not in OK_KINDS else None,
            covering=self._covering(survey, source, legs),
            bridge_netfilter=any(self._filters(survey, leg.bridge[0], goal.address) for leg in legs if leg.bridge),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    def _unheard(self, survey: Survey, legs: list[Leg]) -> Hop | None:
        """The rule that keeps the first neighbour whose hardware address is not known from being asked for it."""
        leg = next((leg for leg in legs if leg.holders and not leg.neighbour and leg.route.kind == "unicast"), None)
        if leg and not leg.barrier:
            with self._noted("questions for hardware addresses"):
                return questions.dropped(self._kernel, survey, leg)
        return None

    def _covering(self, survey: Survey, source: Place, legs: list[Leg]) -> Route | None:
        """The host's own route for an address that the source looks for on its wire in vain, if it leads elsewhere."""
        leg = legs[0] if legs else None
        if not leg or source.kind == "host" or leg.route.gateway or leg.route.error or leg.holders or not leg.next_hop:
            return None
        route = survey.route(self._places.host.inode, ip_address(leg.to))
        if route.error or route.kind != "unicast" or route.matched in ("", "default"):
            return None
        return route if leg.bridge != (self._places.host.inode, route.interface) else None

    def _rewritten(self, hops: tuple[Hop, ...]) -> dict[tuple[int, str], str]:
        """Where the request's destination was replaced, as far as it was seen."""
        found: dict[tuple[int, str], str] = {}
        for hop in hops:
            if hop.kind == "nat" and hop.direction == "request" and hop.text.startswith("destination "):
                old, new = hop.text.removeprefix("destination ").split(" → ")
                found[hop.namespace, endpoint(old)[0]] = endpoint(new)[0]
        return found

    def _sockets(self, place: Place | None, to: str, hops: tuple[Hop, ...], asked: Asked) -> tuple[Socket, ...] | None:
        if place is None or asked.protocol == "icmp" or not to:
            return None
        port = asked.port
        for hop in hops:
            if hop.kind == "nat" and hop.direction == "request" and hop.text.startswith("destination "):
                port = int(hop.destination.rpartition(":")[2])
        try:
            with self._kernel.namespaces.entered(place.path):
                found = listeners.listeners(port)
        except (FairleadError, OSError):
            return None
        address = ip_address(to)
        return tuple(
            Socket(protocol=one.protocol, address=str(one.address), takes=one.takes(address), waiting=one.waiting)
            for one in found
        )

    def _filters(self, survey: Survey, inode: int, address: Address) -> bool:
        """Whether the bridges of a namespace show their frames to its IP firewall."""
        name = "net/bridge/bridge-nf-call-" + ("iptables" if address.version == 4 else "ip6tables")
        path = survey.snapshot(inode).place.path
        with contextlib.suppress(FairleadError, OSError), self._kernel.namespaces.entered(path):
            return sysctl.read(name) == "1"
        return False

    def _is_mute(self, place: Place | None, address: Address) -> bool:
        setting = "net/ipv4/icmp_echo_ignore_all" if address.version == 4 else "net/ipv6/icmp/echo_ignore_all"
        with contextlib.suppress(FairleadError, OSError), self._kernel.namespaces.entered(place.path if place else ""):
            return place is not None and sysctl.read(setting) == "1"
        return False

    def _flows(self, survey: Survey, address: Address, asked: Asked) -> tuple[Flow, ...]:
        """What the host tracks, before the probe, that was sent to the same address and port."""
        if asked.protocol == "icmp":
            return ()
        with self._noted("tracked flows"), self._kernel.socket("", NETLINK_NETFILTER) as netfilter:
            tracked = conntrack.tracked(netfilter, asked.protocol, (address, asked.port))
            return tuple(
                Flow(
                    source=written(*one.source),
                    destination=written(address, asked.port),
                    answers=written(*one.answers),
                    unreplied=one.unreplied,
                    held=survey.is_held(self._places.host.inode, one.answers[0]),
                )
                for one in tracked[:MOST_FLOWS]
            )
        return ()

    def _led(self, survey: Survey, address: Address, asked: Asked, hops: tuple[Hop, ...]) -> str:
        """Where the host led the probe to, by its tracked flow: what is rewritten may never be seen again."""
        source = next((hop.source for hop in hops if hop.direction == "request" and hop.kind == "send"), "")
        ours = (flow for flow in self._flows(survey, address, asked) if flow.source == source)
        return next((flow.answers for flow in ours if flow.answers != flow.destination), "")

    def _fresh(
        self,
        survey: Survey,
        source: Place,
        goal: Goal,
        asked: Asked,
        flows: tuple[Flow, ...],
        hops: tuple[Hop, ...],
        led: str,
    ) -> str:
        """Where a new flow leads to; asked by one more probe, where the first one went with an older flow."""
        if not flows:
            return ""
        if asked.source_port and any(endpoint(flow.source)[1] == asked.source_port for flow in flows):
            again = msgspec.structs.replace(asked, source_port=0, patience=min(0.5, asked.patience))
            _, hops = self._probe(survey, source, goal, again)
            assert goal.address is not None
            led = self._led(survey, goal.address, again, hops)
        if led:
            return led
        went = [hop.destination for hop in hops if hop.direction == "request" and hop.kind in ("send", "receive")]
        return went[-1] if went else ""

    def _full_size(self, survey: Survey, observation: Observation, source: Place, goal: Goal) -> Sized | None:
        """A second probe of full size, where some interface on the way carries less than the first."""
        if observation.asked.size or goal.address is None:
            return None
        way = [observation.port((hop.namespace, hop.interface)) for hop in observation.hops if hop.interface]
        limits = [port.mtu for port in way if port and port.mtu]
        if not limits or min(limits) >= limits[0]:
            return None
        whole = limits[0] - (28 if goal.address.version == 4 else 48)
        asked = Asked(
            source=observation.asked.source,
            destination=observation.asked.destination,
            protocol="icmp",
            size=whole,
            patience=min(1.0, observation.asked.patience),
        )
        outcome, hops = self._probe(survey, source, goal, asked)
        return Sized(bytes=limits[0], outcome=outcome, hops=hops)


def _fails_by_chance(outcome: Outcome, hops: tuple[Hop, ...]) -> bool:
    return outcome.milliseconds < NEIGHBOUR_MS and any(hop.reason == "NEIGH_FAILED" for hop in hops)


class Symbols:
    """The kernel's functions by address; read only if one is asked for."""

    def __init__(self) -> None:
        self._table: list[tuple[int, str]] | None = None

    def name(self, place: int) -> str:
        """The function that an address lies in, empty where the kernel does not tell."""
        if self._table is None:
            self._table = []
            with contextlib.suppress(OSError), open("/proc/kallsyms") as lines:
                words = (line.split(None, 3) for line in lines)
                self._table = sorted((int(word[0], 16), word[2]) for word in words if word[1] in "tT")
        below = [name for start, name in self._table if start <= place][-1:] if place else []
        return below[0] if below and self._table[0][0] else ""


def check(asked: Asked) -> None:
    """Raise `Invalid` for a question that cannot be asked."""
    if asked.protocol not in _PROTOCOLS:
        raise Invalid(f"invalid protocol {asked.protocol!r}: only tcp, udp and icmp are allowed")
    if asked.protocol == "icmp":
        if asked.port or asked.source_port:
            raise Invalid("an ICMP echo has no port: leave the port out, or ask with TCP or UDP")
    elif not 1 <= asked.port <= 65535:
        raise Invalid(f"{asked.protocol.upper()} needs a port from 1 to 65535: DST:PORT")
    if not 0 <= asked.source_port <= 65535:
        raise Invalid(f"invalid source port {asked.source_port}: 1 to 65535 are allowed")
    if asked.size and asked.protocol == "tcp":
        raise Invalid("a TCP connection has no size: ask with UDP or ICMP")
    if not 0 <= asked.size <= 65000:
        raise Invalid(f"invalid size {asked.size}: 0 to 65000 bytes are allowed")
    if not 0.1 <= asked.patience <= 30:
        raise Invalid(f"invalid patience {asked.patience}: 0.1 to 30 seconds are allowed")
    if not asked.source or not asked.destination:
        raise Invalid("a trace needs a source and a destination")


def written(address: Address, port: int) -> str:
    """As hops have it."""
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
