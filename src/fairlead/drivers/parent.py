"""Networks that stand on a parent link of the host: what macvlan and ipvlan have in common.

The parent is there, or is a VLAN sub-interface (``eth0.10``) that is made when missing and shared by the networks that
name it, or, where the user names none, a dummy of the network's own, so that its endpoints meet nobody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_network
from typing import TYPE_CHECKING

from msgspec.structs import replace

from fairlead.drivers.bridge_options import MTU, PREFIX, mtu
from fairlead.errors import Conflict, Invalid, MissingFeature
from fairlead.kernel.firewalls import OtherChain
from fairlead.model import HOST, Address, Endpoint, Interface, Network, Pool, Sandbox, check_ifname
from fairlead.plan import Plan, Step
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.dummy import AddDummy
from fairlead.plan.links import SetLink
from fairlead.plan.netlink import owner_mark
from fairlead.plan.vlan import AddVlan

if TYPE_CHECKING:
    from fairlead.drivers import Host
    from fairlead.plan.child import AddChild

PARENT = "parent"

_VLANS = range(1, 4095)
_FEATURES = {
    "macvlan": ("macvlan", "CONFIG_MACVLAN, module macvlan"),
    "ipvlan": ("ipvlan", "CONFIG_IPVLAN, module ipvlan"),
    "vlan": ("VLAN interfaces", "CONFIG_VLAN_8021Q, module 8021q"),
    "dummy": ("dummy interfaces", "CONFIG_DUMMY, module dummy"),
}
"""Kinds of links: how people call them, and the kernel's option and module (Kconfig of drivers/net and net/8021q)."""


class OnParent:
    """A driver whose endpoints are links on a parent link; subclasses say which."""

    kind: str
    """The kind of the endpoints' links."""
    dummy_prefix: str
    """What the names of dummies begin with, as with Docker."""
    options = frozenset({PARENT, MTU, PREFIX})
    endpoint_options: frozenset[str] = frozenset()
    has_links = True
    behind_host = False

    def home(self, options: Mapping[str, str], host: Host) -> tuple[Interface, ...]:
        """None: the parent's addresses are the host's own."""
        return ()

    def complete(self, network: Network, host: Host) -> Network:
        """Find the parent, and whether it was there before; raises `MissingFeature` where the kernel cannot do it."""
        _require(host, self.kind, "")
        name = network.options.get(PARENT, "")
        if name == "lo":
            raise Invalid(f"option {PARENT}=lo: the loopback interface cannot be a parent, as it has no neighbours")
        if not name:
            _require(host, "dummy", f"name a parent interface with -o {PARENT}=eth0")
            name = self._dummy(network)
            return self._fitting(replace(network, parent=name, internal=True), host)
        check_ifname(name)
        fact = host.link(name)
        if fact is None:
            _check_vlan(name, host)
            _require(host, "vlan", f"{name} cannot be made; an interface that exists can be the {PARENT}")
        # A sub-interface with our mark is shared with the networks for which it was made.
        adopted = fact is not None and fact.alias != owner_mark(name)
        pools = _without_own(network, host.addresses(name)) if fact else network.pools
        return self._fitting(replace(network, parent=name, adopted=adopted, pools=pools), host)

    def _fitting(self, network: Network, host: Host) -> Network:
        base = network.parent if host.link(network.parent) else network.parent.rpartition(".")[0]
        fact = host.link(base) if base else None
        wanted = mtu(network.options)
        if fact and wanted > fact.mtu:
            raise Invalid(f"option {MTU}={wanted}: the parent interface {base} carries {fact.mtu} bytes at most")
        return replace(network, mtu=wanted)

    def _dummy(self, network: Network) -> str:
        return f"{self.dummy_prefix}{network.id[:12]}"

    def gateways(self, network: Network) -> tuple[Address, ...]:
        """A machine of the parent's LAN; an internal network leads nowhere."""
        return () if network.internal else tuple(pool.gateway for pool in network.pools if pool.gateway)

    def network_plan(self, network: Network, others: Sequence[OtherChain]) -> Plan:
        """The parent, where it is ours to make."""
        name = network.parent
        if network.adopted:
            return Plan()
        if name == self._dummy(network):
            return Plan((AddDummy(name, _mac(network), owner_mark(network.id)), _up(name)))
        base, _, vlan = name.rpartition(".")
        return Plan((AddVlan(name, base, int(vlan), owner_mark(name)), _up(name)))

    def endpoint_plan(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
        """The link in the sandbox, its addresses and routes."""
        inside, name = sandbox.path, endpoint.ifname
        steps: list[Step] = [
            self.link(network, sandbox, endpoint),
            *(AddAddress(inside, name, interface) for interface in (*endpoint.addresses, *endpoint.link_local)),
            SetLink(inside, name, link_local=any(i.version == 6 for i in endpoint.addresses)),
        ]
        for gateway in endpoint.gateways:
            everywhere = ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0")
            steps.append(AddRoute(inside, name, everywhere, None if gateway.is_unspecified else gateway))
        return Plan(tuple(steps))

    def link(self, network: Network, sandbox: Sandbox, endpoint: Endpoint) -> AddChild:
        """The step that makes an endpoint's link."""
        raise NotImplementedError


def choice(network: Network, option: str, values: Sequence[str]) -> str:
    """The value of an option; the first of those allowed if it is not given."""
    value = network.options.get(option) or values[0]
    if value not in values:
        raise Invalid(f"option {option}={value}: it must be one of {', '.join(values)}")
    return value


def temporary(endpoint: Endpoint) -> str:
    """The name that an endpoint's link has until it is marked."""
    return f"fl{endpoint.id[:10]}"


def _without_own(network: Network, own: Sequence[Interface]) -> tuple[Pool, ...]:
    """The pools, in which the parent's own addresses are reserved: the LAN must not have them twice."""
    parent = network.options[PARENT]
    pools = []
    for pool in network.pools:
        there = [interface.ip for interface in own if interface.ip in pool.subnet and interface.ip != pool.gateway]
        names = (parent, *(f"{parent}-{number}" for number in range(2, len(there) + 1)))
        pools.append(replace(pool, auxiliary={**dict(zip(names, there, strict=False)), **pool.auxiliary}))
    return tuple(pools)


def _mac(network: Network) -> str:
    return "02:" + bytes.fromhex(network.id[:10]).hex(":")


def _up(name: str) -> SetLink:
    # Without a link-local address: the host takes no part in the networks on it.
    return SetLink(HOST, name, link_local=False)


def _check_vlan(name: str, host: Host) -> None:
    base, dot, vlan = name.rpartition(".")
    if not dot or not base:
        raise Invalid(f"option {PARENT}={name}: this host has no interface {name}")
    fact = host.link(base)
    if fact is None:
        raise Invalid(f"option {PARENT}={name}: this host has neither an interface {name} nor {base}")
    if not vlan.isdecimal() or int(vlan) not in _VLANS or vlan != str(int(vlan)):
        raise Invalid(
            f"option {PARENT}={name}: this host has no interface {name}, and it can be made only with a VLAN id from "
            f"{_VLANS[0]} to {_VLANS[-1]} after the dot, as in {base}.10"
        )
    if not fact.up:
        raise Conflict(f"the interface {base} is down, so {name} cannot be set up: `ip link set {base} up` first")


def _require(host: Host, kind: str, instead: str) -> None:
    if host.has_kind(kind):
        return
    what, option = _FEATURES[kind]
    raise MissingFeature(f"this kernel has no {what} ({option})" + (f": {instead}" if instead else ""))
