"""Checks of the host: kernel, programs, settings, other firewalls, addresses, what carries how much, names."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.dns.hosts import is_address
from fairlead.drivers import driver_of
from fairlead.kernel import sysctl
from fairlead.kernel.facts import KernelFacts
from fairlead.kernel.firewalls import OtherChain, drops_rest
from fairlead.model import HOST, Endpoint, Network, Sandbox
from fairlead.plan import State
from fairlead.plan.firewall import AcceptIn
from fairlead.plan.netlink import ip, word
from fairlead.see import firewalld
from fairlead.see.doctor import Finding, Patient, remedy

KINDS = (
    ("bridge", "the driver bridge", "CONFIG_BRIDGE", "bridge"),
    ("veth", "the driver bridge, and links", "CONFIG_VETH", "veth"),
    ("macvlan", "the driver macvlan", "CONFIG_MACVLAN", "macvlan"),
    ("ipvlan", "the driver ipvlan", "CONFIG_IPVLAN", "ipvlan"),
    ("vlan", "macvlan and ipvlan on a VLAN (parent=eth0.10)", "CONFIG_VLAN_8021Q", "8021q"),
    ("dummy", "macvlan and ipvlan without a parent", "CONFIG_DUMMY", "dummy"),
)
"""Kinds of links: who needs each, the kernel's option, its module."""

PROGRAMS = (
    ("crun", "it runs containers", (1, 8)),
    ("conmon", "it watches over containers", (2, 1)),
    ("skopeo", "it fetches images", (1, 9)),
)
"""Programs, what for, and the oldest version that Fairlead is tested with (Debian 12's)."""

_NFTABLES = (1, 0)
_VERSION = re.compile(r"(\d+)\.(\d+)(?:\.\d+)*")
_SECONDS = 10
_ETHERNET_MTU = 1500
_BRIDGE_NETFILTER = "net/bridge/bridge-nf-call-iptables"


def kernel(patient: Patient) -> Iterator[Finding]:
    """The features that drivers need."""
    facts = KernelFacts(patient.ground.kernel)
    used = {network.driver for network in patient.all(Network)}
    for kind, needed_by, option, module in KINDS:
        if not facts.has_kind(kind):
            vital = kind in ("bridge", "veth") or kind in used
            yield Finding(
                check="kernel",
                result="failed" if vital else "warning",
                sentence=f"this kernel has no {kind} ({option}): needed by {needed_by}",
                remedy=(f"modprobe {module}",),
            )
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        yield Finding(
            check="kernel",
            result="failed",
            sentence="this kernel has no overlayfs (CONFIG_OVERLAY_FS): containers need it",
            remedy=("modprobe overlay",),
        )
    if not facts.has_ipv6():
        yield Finding(
            check="kernel",
            result="warning",
            sentence="this kernel has no IPv6, or was started without (ipv6.disable=1): networks with --ipv6 need it",
        )


def programs(_: Patient) -> Iterator[Finding]:
    """Those that are started for containers."""
    for name, purpose, oldest in PROGRAMS:
        if shutil.which(name) is None:
            yield Finding(
                check="programs",
                result="failed",
                sentence=f"{name} is not installed: {purpose}",
                remedy=(f"apt-get install {name}",),
            )
        elif (version := _version_of(name)) < oldest:
            yield Finding(
                check="programs",
                result="warning",
                sentence=f"{name} has version {_dotted(version)}: Fairlead is tested with {_dotted(oldest)} and later",
                remedy=(f"apt-get install {name}",),
            )


def nftables(patient: Patient) -> Iterator[Finding]:
    """The library, and whether the kernel answers it."""
    version = patient.ground.kernel.nft.version()
    if not version:
        yield Finding(
            check="nftables",
            result="failed",
            sentence="nftables gives no answer: does this kernel have it (CONFIG_NF_TABLES, module nf_tables)?",
            remedy=("modprobe nf_tables",),
        )
    elif (found := _numbers(version)) < _NFTABLES:
        yield Finding(
            check="nftables",
            result="warning",
            sentence=f"libnftables has version {version}: Fairlead is tested with {_dotted(_NFTABLES)} and later",
            remedy=("apt-get install libnftables1",),
        )
    else:
        yield Finding(check="nftables", result="ok", sentence=f"libnftables {_dotted(found)} answers")


def _version_of(program: str) -> tuple[int, int]:
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    return _numbers(done.stdout)


def _numbers(text: str) -> tuple[int, int]:
    match = _VERSION.search(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def forwarding(patient: Patient) -> Iterator[Finding]:
    """Whether the host passes on packets of others, in the families of which a network needs it."""
    networks: list[Network] = patient.all(Network)
    for version, setting in ((4, "net/ipv4/ip_forward"), (6, sysctl.IPV6_FORWARD)):
        needing = [network.name for network in networks if _leads_out(network, version)]
        if needing and sysctl.read(setting) == "0":
            name = setting.replace("/", ".")
            yield Finding(
                check="forwarding",
                result="failed",
                sentence=f"{name} is 0, so nothing leaves or enters the networks {_some(needing)} over IPv{version}",
                remedy=(f"sysctl -w {name}=1",),
                ours=True,
            )


def _leads_out(network: Network, version: int) -> bool:
    routed = any(pool.gateway and pool.subnet.version == version for pool in network.pools)
    return routed and not network.internal and driver_of(network).behind_host


def other_firewalls(patient: Patient) -> Iterator[Finding]:
    """Chains of others that drop what nobody let pass, and our accept rules in them."""
    bridges = set()
    for network in patient.all(Network):
        bridges.add(network.ifname)
        lost = [step for step, state in patient.check(network, (AcceptIn,)) if state is not State.HOLDS]
        for step in lost if patient.stays(network) else ():
            assert isinstance(step, AcceptIn)
            yield Finding(
                check="firewalls",
                result="failed",
                sentence=f"the chain {step.chain} drops what passes {step.bridge}: network {network.name} has no accept"
                " rules there",
                remedy=remedy(step.shell()),
                ours=True,
            )
    yield from _locked(patient)
    yield from _others_bridges(patient, bridges)
    yield from _input(patient)


def _locked(patient: Patient) -> Iterator[Finding]:
    """Chains in which no accept rules of ours can be: their tables are another program's alone."""
    for chain in patient.ground.kernel.firewalls.locked():
        rules = _rules_of(patient, f"{chain.family} {chain.table}")
        words = _words_from(rules, chain.name)
        for network in patient.all(Network):
            if network.ifname and not network.internal and network.ifname not in words:
                yield Finding(
                    check="firewalls",
                    result="failed",
                    sentence=f"the chain {chain} drops what passes {network.ifname} of network {network.name}, and only"
                    " the program that made it can change it (flags owner)",
                    remedy=(_let_in(f"{chain.family} {chain.table}", chain.name, set(rules), network.ifname),)
                    if chain.table == "firewalld"
                    else (f"nft list table {chain.family} {chain.table}  # see whose it is: comment, progname",),
                )


def _others_bridges(patient: Patient, ours: set[str]) -> Iterator[Finding]:
    """The riddle of every beginner: two namespaces on a bridge, all addresses right, and no answer."""
    host = patient.snapshot.host
    blocking = patient.ground.kernel.firewalls.blocking() if sysctl.read(_BRIDGE_NETFILTER) == "1" else []
    masters = {one.master for one in host.interfaces}
    for bridge in host.interfaces:
        if bridge.kind != "bridge" or bridge.name in ours or bridge.index not in masters:
            continue
        for chain in blocking:
            rules = {} if chain.legacy else _rules_of(patient, f"{chain.family} {chain.table}")
            if bridge.name not in _words_from(rules, chain.name):
                yield Finding(
                    check="firewalls",
                    result="warning",
                    sentence=f"the chain {chain} drops even frames between two ports of the bridge {bridge.name}, which"
                    f" Fairlead did not make, as {_BRIDGE_NETFILTER.replace('/', '.')} is 1",
                    remedy=(_accepting(chain, bridge.name),),
                )


def _accepting(chain: OtherChain, bridge: str) -> str:
    """The line that lets pass what stays within a bridge; without our mark, as the bridge is not ours."""
    if chain.table == "firewalld":
        return " && ".join(firewalld.trust(bridge))
    name = word(bridge)
    tables = {("ip", "filter", "FORWARD"): "iptables", ("ip6", "filter", "FORWARD"): "ip6tables"}
    program = tables.get((chain.family, chain.table, chain.name))
    if program:
        return f"{program}{'-legacy' if chain.legacy else ''} -I FORWARD -i {name} -o {name} -j ACCEPT"
    return f"nft insert rule {chain} iifname {name} oifname {name} accept"


def _words_in(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set().union(*map(_words_in, value.values())) if value else set()
    if isinstance(value, list):
        return set().union(*map(_words_in, value)) if value else set()
    return {value} if isinstance(value, str) else set()


def _input(patient: Patient) -> Iterator[Finding]:
    """Chains on the way to the host's own programs; published ports do not come this way, unless they are relayed."""
    nft = patient.ground.kernel.nft
    reached = [one.ifname for one in patient.all(Network) if one.ifname and any(pool.gateway for pool in one.pools)]
    for thing in nft.list("chains"):
        chain = thing.get("chain", {})
        if chain.get("hook") != "input" or chain.get("family") not in ("ip", "ip6", "inet"):
            continue
        table, name = f"{chain['family']} {chain['table']}", str(chain["name"])
        if chain["table"] == "fairlead" or not drops_rest(nft.list(f"chain {table} {name}")):
            continue
        rules = _rules_of(patient, table)
        shut = sorted(set(reached) - _words_from(rules, name))
        if shut:
            yield Finding(
                check="firewalls",
                result="warning",
                sentence=f"the chain {table} {name} drops what is for this host and no rule lets in: containers on"
                f" {_some(shut)} do not reach the host's own programs",
                remedy=tuple(_let_in(table, name, set(rules), bridge) for bridge in shut),
            )


def _rules_of(patient: Patient, table: str) -> dict[str, list[Any]]:
    """The rules of a table, by chain."""
    rules: dict[str, list[Any]] = {}
    for one in patient.ground.kernel.nft.table(table):
        if rule := one.get("rule"):
            rules.setdefault(rule["chain"], []).append(rule["expr"])
    return rules


def _words_from(rules: Mapping[str, list[Any]], start: str) -> set[str]:
    """The words in the rules of a chain and of all chains that it leads to: interfaces among them."""
    found: set[str] = set()
    ahead = [start]
    while ahead:
        words = _words_in(rules.get(ahead.pop(), []))
        ahead += (words - found) & set(rules)
        found |= words
    return found


def _let_in(table: str, chain: str, chains: set[str], bridge: str) -> str:
    """The line that lets a bridge's packets come to the host, in the words of the program whose chain it is."""
    if table.endswith(" firewalld"):
        return " && ".join(firewalld.trust(bridge))
    if any(name.startswith(("ufw-", "ufw6-")) for name in chains):
        return f"ufw allow in on {word(bridge)}"
    return f"nft insert rule {table} {chain} iifname {word(bridge)} accept"


def subnets(patient: Patient) -> Iterator[Finding]:
    """Networks' subnets against what the host reaches elsewhere: a VPN, an office's network."""
    host = patient.snapshot.host
    names = {one.index: one.name for one in host.interfaces}
    for network in patient.all(Network):
        if not driver_of(network).behind_host:
            continue
        for pool in network.pools:
            for route in host.routes:
                elsewhere = names.get(route.interface, "") != network.ifname and route.destination.prefixlen
                if not elsewhere or route.type != "unicast" or route.destination.version != pool.subnet.version:
                    continue
                if not route.destination.overlaps(pool.subnet):
                    continue
                by = names.get(route.interface, "?")
                narrower = route.destination.prefixlen >= pool.subnet.prefixlen
                effect = (
                    f"what is meant for containers in {route.destination} goes to {by}"
                    if narrower
                    else f"what the host reaches by {by} in {pool.subnet} is hidden behind the network"
                )
                line = f"{'-6 ' if route.destination.version == 6 else ''}route del {route.destination} dev {word(by)}"
                yield Finding(
                    check="subnets",
                    result="failed" if narrower else "warning",
                    sentence=f"the subnet {pool.subnet} of network {network.name} overlaps the host's route to"
                    f" {route.destination} dev {by}: {effect}",
                    remedy=(f"ip {line}",) if narrower else (),
                )


def mtu(patient: Patient) -> Iterator[Finding]:
    """Whether all on the way from a container to the world carry packets of one size."""
    host = patient.snapshot.host
    ways_out = {route.interface for route in host.routes if not route.destination.prefixlen}
    least = min((one.mtu for one in host.interfaces if one.index in ways_out), default=0)
    for network in patient.all(Network):
        carried = network.mtu or _ETHERNET_MTU
        if least and carried > least and network.ifname and not network.internal:
            yield Finding(
                check="mtu",
                result="warning",
                sentence=f"network {network.name} carries {carried} bytes, the host's way out only {least}: where"
                ' "fragmentation needed" gets lost, large packets stall',
                remedy=(f"fairlead network create -o com.docker.network.driver.mtu={least} NAME",),
            )
    for wrong in unequal(patient):
        yield Finding(
            check="mtu",
            result="failed",
            sentence=f"{wrong.name} of {wrong.title} carries {wrong.has} bytes, its network {wrong.wants}:"
            " larger packets vanish on the way",
            remedy=(ip(wrong.namespace, f"link set {word(wrong.name)} mtu {wrong.wants}"),),
            ours=True,
        )


@dataclass(frozen=True, slots=True)
class Unequal:
    """A link of ours that carries another size than its network does."""

    namespace: str
    name: str
    has: int
    wants: int
    title: str


def unequal(patient: Patient) -> list[Unequal]:
    """All of them.  A bridge follows the least of its ports, so it is only wrong by itself where they are right."""
    found: list[Unequal] = []
    networks: dict[str, Network] = {network.id: network for network in patient.all(Network) if network.ifname}
    spoilt = set()
    for endpoint in patient.all(Endpoint):
        network, sandbox = networks.get(endpoint.network), patient.ground.store.get(Sandbox, endpoint.sandbox)
        if network is None or sandbox is None:
            continue
        for path, name in ((HOST, endpoint.host_ifname), (sandbox.path, endpoint.ifname)):
            there = patient.snapshot.at(path)
            link, wants = there.named(name) if there else None, network.mtu or _ETHERNET_MTU
            if link and link.mtu != wants:
                spoilt.add(network.id)
                found.append(Unequal(path, name, link.mtu, wants, patient.title(endpoint)))
    for network in networks.values():
        bridge, wants = patient.snapshot.host.named(network.ifname), network.mtu or _ETHERNET_MTU
        if bridge and network.id not in spoilt and not network.adopted and bridge.mtu != wants:
            found.append(Unequal(HOST, network.ifname, bridge.mtu, wants, patient.title(network)))
    return found


def nameservers(_: Patient) -> Iterator[Finding]:
    """The host's nameservers, to which the resolver in the sandboxes passes on."""
    servers = []
    try:
        for line in Path("/etc/resolv.conf").read_text(errors="replace").splitlines():
            words = line.split()
            if words[:1] == ["nameserver"] and len(words) > 1:
                servers.append(words[1])
    except OSError as error:
        yield Finding(
            check="nameservers",
            result="warning",
            sentence=f"/etc/resolv.conf cannot be read ({error.strerror}): names outside are not found",
            remedy=("echo nameserver ADDRESS >> /etc/resolv.conf",),
        )
        return
    wrong = [server for server in servers if not is_address(server)]
    if not servers or wrong:
        what = f"has {_some(wrong)}, which is no address" if wrong else "names no nameserver"
        yield Finding(
            check="nameservers",
            result="warning",
            sentence=f"/etc/resolv.conf {what}: names outside are not found",
            remedy=("echo nameserver ADDRESS >> /etc/resolv.conf",),
        )


def control_groups(_: Patient) -> Iterator[Finding]:
    """How quickly a process gets into a control group; never more than advice."""
    yield favourable(Path("/proc/self/mounts").read_text(errors="replace"), os.uname().release)


def favourable(mounts: str, release: str) -> Finding:
    """Whether moving a process waits for all processors, some 10 ms, as long as none was moved shortly before.

    It need not where any hierarchy is mounted with favordynmods, since Linux 6.0.  One of version 1 cannot be mounted
    anew with other options (cgroup1_reconfigure, kernel/cgroup/cgroup-v1.c); there a word for the kernel at boot does
    it, since Linux 6.7.
    """
    groups = [words for line in mounts.splitlines() if (words := line.split())[2:3] in (["cgroup"], ["cgroup2"])]
    place = next((words[1] for words in groups if words[2] == "cgroup2"), "")
    sentence = f"control groups are mounted, of version {'2' if place == '/sys/fs/cgroup' else '1'}"
    sooner = "; containers start up to 10 ms sooner with favordynmods, while forking takes a little longer"
    lines: tuple[str, ...] = ()
    if any("favordynmods" in words[3].split(",") for words in groups):
        sentence += ", and let processes in without a wait (favordynmods)"
    elif place and _numbers(release) >= (6, 0):
        sentence += sooner
        lines = (f"mount -o remount,favordynmods {place}",)
    elif groups and _numbers(release) >= (6, 7):
        sentence += f"{sooner} (cgroup_favordynmods=true on the kernel's command line)"
    return Finding(check="cgroups", result="ok", sentence=sentence, remedy=lines)


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more
