"""The host on which a driver is looked at: this process's own network namespace, with an engine; and its whole state.

`eth0` has 198.51.100.2/24 and 2001:db8:1::2/64; its router has the first address of each and, behind it, the machine
`OUTSIDE`.  The router knows the way to the network's subnets.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fairlead.drivers import Host, driver_named
from fairlead.drivers.conformance import Case
from fairlead.engine import KINDS, Engine
from fairlead.kernel import Kernel
from fairlead.kernel.facts import KernelFacts
from fairlead.model import Endpoint, Network, Sandbox
from fairlead.paths import Paths
from fairlead.plan.executor import Executor
from fairlead.planner import Change, HostView
from fairlead.spec import EndpointSpec, NetworkSpec, PortSpec
from fairlead.store import Store

HOST = {4: "198.51.100.2", 6: "2001:db8:1::2"}
ROUTER = {4: "198.51.100.1", 6: "2001:db8:1::1"}
OUTSIDE = {4: "203.0.113.9", 6: "2001:db8:9::9"}
OUTSIDE_NAMESPACE = "router"

NETWORK = "net"
PUBLISHED = 8081
"""The port of the host that leads to port 80 of the sandbox `two`."""

_HOST = f"""
mount -t tmpfs tmpfs /run/netns 2>/dev/null || {{ mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns; }}
ip link set lo up
ip netns add {OUTSIDE_NAMESPACE}
ip link add eth0 type veth peer name eth0 netns {OUTSIDE_NAMESPACE}
sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip netns exec {OUTSIDE_NAMESPACE} sysctl -qw net.ipv6.conf.eth0.accept_dad=0
ip addr add {HOST[4]}/24 dev eth0
ip addr add {HOST[6]}/64 dev eth0 nodad
ip link set eth0 up
ip -n {OUTSIDE_NAMESPACE} addr add {ROUTER[4]}/24 dev eth0
ip -n {OUTSIDE_NAMESPACE} addr add {ROUTER[6]}/64 dev eth0 nodad
ip -n {OUTSIDE_NAMESPACE} addr add {OUTSIDE[4]}/32 dev lo
ip -n {OUTSIDE_NAMESPACE} addr add {OUTSIDE[6]}/128 dev lo
ip -n {OUTSIDE_NAMESPACE} link set lo up
ip -n {OUTSIDE_NAMESPACE} link set eth0 up
ip route add default via {ROUTER[4]}
ip -6 route add default via {ROUTER[6]}
"""
_IPV6_ROUTES = ("ip -6 route", f"ip -n {OUTSIDE_NAMESPACE} -6 route")


class TypingError(Exception):
    """Shell lines that did not go through, and what they said."""


def sh(script: str) -> str:
    """What shell lines print; raises `TypingError`."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise TypingError(f"{done.stderr.strip()} (exit code {done.returncode} of: {script.strip()})")
    return done.stdout


def until(true: Callable[[], object], patience: float = 5) -> bool:
    """Whether something comes true in so many seconds: links go, and carriers come, a moment later."""
    end = time.monotonic() + patience
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def prepare(setup: str) -> None:
    """Make this process's network namespace, which must be a fresh one, the host."""
    sh(_HOST + setup)
    # Until then the kernel does not ask for IPv6 neighbours there.
    until(lambda: all("multicast ff00::/8" in sh(f"{routes} show table local dev eth0") for routes in _IPV6_ROUTES))


class Lab:
    """The host with an engine on it, for one case."""

    def __init__(self, case: Case, directory: Path) -> None:
        self.case = case
        self.driver = driver_named(case.driver)
        self._paths = Paths(state=directory / "state", run=directory / "run")
        prepare(case.setup)
        self.bare = snapshot()
        """The kernel before the engine began."""
        self.engine = self._open()

    def _open(self) -> Engine:
        self.kernel = Kernel(self._paths.run)
        self.executor = Executor(self.kernel)
        engine = Engine(Store(self._paths.store, KINDS), self.executor, self._paths)
        engine.recover()
        self.host: Host = HostView(KernelFacts(self.kernel), engine.catalog)
        return engine

    def restart(self) -> None:
        """As after the daemon's end, sudden or not: a new engine goes through the records."""
        self.engine.close()
        self.engine = self._open()

    def spec(self, **options: str) -> NetworkSpec:
        """The network of the case, with further options."""
        case = self.case
        versions = {pool.subnet.version for pool in case.pools}
        return NetworkSpec(
            name=NETWORK,
            driver=case.driver,
            ipv4=4 in versions,
            ipv6=6 in versions,
            pools=case.pools,
            internal=case.internal,
            options={**case.options, **options},
        )

    def network(self) -> Change[Network]:
        """The change that makes the network."""
        return self.engine.planner.create_network(self.spec())

    def endpoint(self, sandbox: str, *ports: PortSpec) -> Change[Sandbox]:
        """The change that makes a sandbox with an endpoint in the network."""
        return self.engine.planner.open_sandbox(sandbox, endpoints=(EndpointSpec(network=NETWORK, ports=ports),))

    def perform(self, change: Change[Any]) -> list[str]:
        """Carry it out; the lines that explain it."""
        self.engine.perform(lambda: change)
        return [*change.undo.unshell(), *change.plan.shell()]

    def create(self) -> Network:
        """The network, unless it is a predefined one of a driver without links; the router knows the way to it."""
        if not self.driver.has_links:
            return next(one for one in self.engine.catalog.networks() if one.driver == self.case.driver)
        network = self.engine.perform(self.network)
        for pool in network.pools:
            version = pool.subnet.version
            # Where the router has an address in the subnet, it and the endpoints are neighbours.
            if not sh(f"ip -n {OUTSIDE_NAMESPACE} -{version} -o addr show to {pool.subnet}"):
                sh(f"ip -n {OUTSIDE_NAMESPACE} -{version} route add {pool.subnet} via {HOST[version]}")
        return network

    def join(self, sandbox: str, *ports: PortSpec) -> Endpoint | None:
        """An endpoint of a new sandbox, if the driver has any."""
        if not self.driver.has_links:
            return None
        made = self.engine.perform(self.endpoint, sandbox, *ports)
        (endpoint,) = self.engine.catalog.endpoints(sandbox=made.id)
        return endpoint

    def remove(self) -> None:
        """All sandboxes, then the network."""
        for sandbox in self.engine.catalog.sandboxes():
            self.engine.perform(self.engine.planner.close_sandbox, sandbox.id)
        if self.driver.has_links:
            self.engine.perform(self.engine.planner.remove_network, NETWORK)


# The kernel's state, to be compared


def snapshot() -> dict[str, Any]:
    """Links, addresses, routes, rules of routing and of the firewall, and settings: of the host and its namespaces."""
    names = sorted(path.name for path in Path("/run/netns").glob("*") if path.name != OUTSIDE_NAMESPACE)
    return {name or "the host": _namespace(name) for name in ("", *names)}


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Where two snapshots differ, a line for each place: ``place: what the first has → what the second has``."""
    left, right = dict(_flat(first)), dict(_flat(second))
    places = sorted(left.keys() | right.keys())
    return [
        f"{place}: {left.get(place)} → {right.get(place)}" for place in places if left.get(place) != right.get(place)
    ]


def _flat(tree: Mapping[str, Any], path: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        place = f"{path}, {key}" if path else key
        found += _flat(value, place) if isinstance(value, dict) else [(place, value)]
    return found


def _namespace(name: str) -> dict[str, Any]:
    where = f"ip netns exec {name} " if name else ""
    routes = (
        route
        for family in (4, 6)
        for route in json.loads(sh(f"{where}ip -{family} -j route show table all type unicast") or "[]")
        # What the kernel makes of link-local addresses comes and goes with carriers.
        if not route["dst"].startswith("fe80::") or route.get("protocol") != "kernel"
    )
    return {
        "links": {link["ifname"]: _link(link) for link in json.loads(sh(f"{where}ip -d -j addr"))},
        "routes": _sorted(_picked(route, "dst", "gateway", "dev", "table", "scope", "prefsrc") for route in routes),
        "routing rules": sh(f"{where}ip -4 rule; {where}ip -6 rule").splitlines(),
        "neighbours": sh(f"{where}ip neigh show nud permanent; {where}ip neigh show proxy").splitlines(),
        "firewall": _sorted(_plain(thing) for thing in json.loads(sh(f"{where}nft -j list ruleset"))["nftables"]),
        "settings": dict(
            line.split(" = ", 1)
            for line in sh(f"{where}sysctl -a -r '^net.ipv[46].(conf|ip_forward)' 2>/dev/null").splitlines()
            if "stable_secret" not in line
        ),
    }


_DETAILS = {
    "bridge": ("mcast_snooping", "vlan_filtering", "stp_state"),
    "vxlan": ("id", "local", "group", "remote", "port", "learning"),
}
"""What counts of a kind of link; of others, all that is no number that the kernel chose."""


def _link(link: Mapping[str, Any]) -> dict[str, Any]:
    info = link.get("linkinfo", {})
    kind, data = info.get("info_kind", ""), info.get("info_data", {})
    addresses = (
        f"{one['local']}/{one['prefixlen']}" + (f" peer {one['address']}" if "address" in one else "")
        for one in link["addr_info"]
        # Those that the kernel makes itself follow from MACs, which may be random.
        if not one["local"].startswith("fe80") or one.get("nodad")
    )
    return {
        "kind": kind,
        "details": _picked(data, *_DETAILS.get(kind, tuple(data))),
        "port": _picked(info.get("info_slave_data", {}), "hairpin", "isolated", "learning", "flood"),
        "up": "UP" in link["flags"],
        "mac": link.get("address"),
        "mtu": link["mtu"],
        "master": link.get("master"),
        "parent": link.get("link"),
        "mark": link.get("ifalias"),
        "IPv6 addresses of its own": link.get("inet6_addr_gen_mode"),
        "addresses": sorted(addresses),
    }


def _picked(data: Mapping[str, Any], *words: str) -> dict[str, Any]:
    return {word: data[word] for word in words if word in data}


def _plain(thing: Any) -> Any:
    """A thing of nftables without its handle, what it counted, and the order of a set's elements."""
    if isinstance(thing, list):
        return [_plain(one) for one in thing]
    if not isinstance(thing, dict):
        return thing
    return {
        key: _sorted(map(_plain, value)) if key == "elem" and isinstance(value, list) else _plain(value)
        for key, value in thing.items()
        if key not in ("handle", "index", "packets", "bytes")
    }


def _sorted(things: Any) -> list[Any]:
    return sorted(things, key=lambda thing: json.dumps(thing, sort_keys=True))
