"""What a trace asks, sees and says, as typed values that can be written down and read again.  No I/O here.

The verdict is made of an `Observation` alone, so that it can be tested with recorded ones.  Times are microseconds from
the moment at which the probe was sent; addresses and namespaces are text, as they are shown.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Protocol = Literal["tcp", "udp", "icmp"]
Direction = Literal["request", "reply", "error"]


class _Value(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    """Base of all values here."""


class Asked(_Value, frozen=True, kw_only=True):
    """The question."""

    source: str
    destination: str
    protocol: Protocol = "tcp"
    port: int = 0
    size: int = 0
    """Bytes that the probe carries beyond its headers, with "don't fragment"; 0: as few as it needs."""
    source_port: int = 0
    """0: the kernel's choice."""
    patience: float = 2.0
    """Seconds to wait for an answer."""


class Place(_Value, frozen=True, kw_only=True):
    """A network namespace."""

    inode: int
    name: str
    kind: Literal["host", "namespace", "container", "process"] = "namespace"
    path: str = ""
    """Empty: the host's own."""
    owner: str = ""
    """Whose container it is: ``fairlead``, ``docker``, ``podman``; empty where nobody's that we know."""
    networks: tuple[str, ...] = ()
    """Of another engine's container: the names of that engine's networks that it is in."""
    shell: str = ""
    """What a person types before ``ip …`` to have it done there; empty for the host."""


class Port(_Value, frozen=True, kw_only=True):
    """A link of a namespace."""

    namespace: int
    name: str
    index: int
    kind: str = ""
    up: bool = True
    carrier: bool = True
    mtu: int = 0
    mac: str = ""
    master: str = ""
    isolated: bool = False
    vlan: int = 0
    """Its tag, if it is a VLAN interface."""
    addresses: tuple[str, ...] = ()
    """With prefix lengths."""
    duplicates: tuple[str, ...] = ()
    """Those of them that do not work, as somebody else had them first (IPv6)."""
    tentative: tuple[str, ...] = ()
    """Those that do not work yet, as the kernel still asks whether somebody else has them (IPv6)."""
    forwards: bool = True
    """Passes on what came in here for others (the setting of the family in question)."""
    forwards_alone_not: bool = False
    """The namespace does pass on what comes in by others."""
    rp_filter: int = 0
    arp: bool = True
    arp_ignore: int = 0
    six: Literal["", "disabled", "small"] = ""
    """Why there is no IPv6 on it: a setting, or an MTU below IPv6's least (RFC 8200, 5)."""
    state: str = ""
    """Of a bridge's port that passes nothing on: why (``blocking``, ``listening``…)."""
    unflooded: tuple[str, ...] = ()
    """Of a bridge's port: what is not given to it, in the words of bridge(8): ``flood``, ``bcast_flood``…"""
    peer: tuple[int, str] | None = None
    """Namespace and name of the other end of a veth pair, or of the link that this one stands on, where known."""


class Route(_Value, frozen=True, kw_only=True):
    """What a namespace's routing table says."""

    error: str = ""
    """``ENETUNREACH``, ``EXDEV``…: a name of errno(3)."""
    kind: str = ""
    matched: str = ""
    table: str = ""
    rule: str = ""
    """The rule of the routing policy that refuses, as ``ip rule`` writes it; then no route matched."""
    gateway: str = ""
    interface: str = ""
    source: str = ""


class MissingVlan(_Value, frozen=True, kw_only=True):
    """A VLAN that a port of a bridge (or the bridge itself) should be in, or otherwise than it is."""

    bridge: tuple[int, str]
    vlan: int
    tagged: bool
    """Whether who is behind the port sends and expects a tag."""
    why: Literal["absent", "no-pvid", "with-tag", "without-tag"]
    present: tuple[int, ...] = ()
    """The VLANs that the port is in, the first few."""


class Leg(_Value, frozen=True, kw_only=True):
    """From one namespace to the next: its route look-up, and who is on the wire that it leads to."""

    direction: Direction
    namespace: int
    came_in: str = ""
    """The interface; empty where the packet is made here."""
    source: str = ""
    to: str = ""
    route: Route = Route()
    back: Route = Route()
    """How the namespace itself would send to `source`, where the packet came in."""
    next_hop: str = ""
    bridge: tuple[int, str] | None = None
    """The bridge that the interface is a port of, or is itself."""
    barrier: Literal[
        "",
        "down",
        "no-carrier",
        "peer-down",
        "no-master",
        "no-peer",
        "bridge-down",
        "parent-down",
        "isolated",
        "vlan",
        "blocked",
        "fixed",
        "unflooded",
        "parent",
        "private",
    ] = ""
    """What on the wire keeps frames from passing…"""
    barrier_at: tuple[int, str] | None = None
    """…and where."""
    missing_vlan: MissingVlan | None = None
    """What a port of a bridge that filters VLANs lacks."""
    outside: bool = False
    """The wire leads out of this machine, so that not all who are on it are known."""
    holders: tuple[tuple[int, str], ...] = ()
    """Who on the wire has the next hop's address."""
    elsewhere: tuple[tuple[int, str], ...] = ()
    """Who has it, but is not on this wire."""
    neighbour: str = ""
    """The hardware address that the sender holds for the next hop."""
    macs: tuple[str, ...] | None = None
    """Who answered when asked for the next hop's hardware address; None where nobody was asked."""
    own_macs: tuple[str, ...] = ()
    """Who else answers for the address of the sender."""


class Hop(_Value, frozen=True, kw_only=True):
    """One thing that happened to a packet of ours."""

    direction: Direction
    namespace: int
    kind: Literal["send", "receive", "route", "rule", "nat", "drop"]
    interface: str = ""
    time: float | None = None
    """Microseconds since the first; None for what the kernel does not time."""
    source: str = ""
    destination: str = ""
    length: int = 0
    icmp: str = ""
    """Of an error or echo: type and code, such as ``3/4``."""
    # A rule:
    family: str = ""
    table: str = ""
    chain: str = ""
    hook: str = ""
    handle: int = 0
    text: str = ""
    verdict: str = ""
    owner: str = ""
    # A drop:
    reason: str = ""
    function: str = ""
    """Of the kernel, where no reason is given."""


class Outcome(_Value, frozen=True, kw_only=True):
    """What the sender learns."""

    kind: Literal["answered", "refused", "error", "silence", "unresolved", "unsent"]
    error: str = ""
    """A name of errno(3)."""
    milliseconds: float = 0.0
    said: str = ""
    """In a person's words, where there is more to say."""


OK_KINDS = ("answered", "refused")
"""The kinds of outcomes of a probe that came to the end of its way, and its answer back."""


class Name(_Value, frozen=True, kw_only=True):
    """A name looked up in the source."""

    name: str
    server: str = ""
    """``127.0.0.11``, or ``/etc/hosts``."""
    addresses: tuple[str, ...] = ()
    problem: str = ""
    """``NXDOMAIN``, ``SERVFAIL``, ``no answer``, ``no resolver``."""


class Socket(_Value, frozen=True, kw_only=True):
    """A socket that waits in the namespace that the probe reached, at the port that it asked for."""

    protocol: str
    address: str
    takes: bool
    """It would take the probe, were the protocol the same."""
    waiting: int = 0
    """TCP connections that the program has not taken yet."""


class Flow(_Value, frozen=True, kw_only=True):
    """A tracked flow from the source to the destination that the host knows from before."""

    source: str
    destination: str
    answers: str
    """Where the answers come from."""
    unreplied: bool = False
    held: bool = True
    """Somebody has that address, as far as is known."""


class Membership(_Value, frozen=True, kw_only=True):
    """A place of a namespace in a network of ours: intent."""

    namespace: int
    network: str
    driver: str = "bridge"
    bridge: str = ""
    interface: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()
    internal: bool = False
    silent: bool = False
    """Its containers may not talk to each other (icc off)."""
    mtu: int = 0


class Published(_Value, frozen=True, kw_only=True):
    """A published port of ours."""

    address: str
    port: int
    protocol: str
    container: str
    target: str
    target_port: int


class Sized(_Value, frozen=True, kw_only=True):
    """A second probe, as large as the first interface allows, with "don't fragment"."""

    bytes: int
    outcome: Outcome
    hops: tuple[Hop, ...] = ()


class Observation(_Value, frozen=True, kw_only=True):
    """All that the verdict may know."""

    asked: Asked
    source: Place
    outcome: Outcome
    address: str = ""
    """Where the probe went to."""
    target: Place | None = None
    """The namespace that was asked for, where it is one of this machine."""
    name: Name | None = None
    places: tuple[Place, ...] = ()
    ports: tuple[Port, ...] = ()
    legs: tuple[Leg, ...] = ()
    hops: tuple[Hop, ...] = ()
    reached: int = 0
    """The namespace that the request was delivered in, or should be."""
    sockets: tuple[Socket, ...] | None = None
    mute: bool = False
    """That namespace answers no ICMP echo, by a setting."""
    flows: tuple[Flow, ...] = ()
    fresh: str = ""
    """Where a new flow leads to: address and port."""
    memberships: tuple[Membership, ...] = ()
    published: tuple[Published, ...] = ()
    unheard: Hop | None = None
    """The rule that drops the question for the hardware address of its `destination`, or the answer."""
    covering: Route | None = None
    """The host's route for an address that the source looks for on its own wire, where that is another."""
    bridge_netfilter: bool = False
    """Frames within a bridge pass the host's IP firewall."""
    sized: Sized | None = None
    notes: tuple[str, ...] = ()
    """What this kernel did not let us see."""

    def place(self, inode: int) -> Place:
        """A namespace; one that nobody knows is called by its inode."""
        for place in self.places:
            if place.inode == inode:
                return place
        return Place(inode=inode, name=f"net:[{inode}]")

    def port(self, end: tuple[int, str]) -> Port | None:
        """A link, where known."""
        return next((port for port in self.ports if (port.namespace, port.name) == end), None)


class Verdict(_Value, frozen=True, kw_only=True):
    """The end of a trace.  `cause` is a word for programs; `remedies` are lines to type, the first the most likely."""

    ok: bool
    cause: str
    sentence: str
    remedies: tuple[str, ...] = ()


class Trace(_Value, frozen=True, kw_only=True):
    """The whole answer."""

    observation: Observation
    verdict: Verdict
