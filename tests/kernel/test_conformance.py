"""The built-in drivers conform to what Fairlead relies on; and drivers that do not are found out."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from fairlead.drivers.conformance import Case, Nonconforming, Pool, check
from fairlead.errors import MissingFeature

BRIDGE = "com.docker.network.bridge."
MODES = (f"{BRIDGE}gateway_mode_ipv4", f"{BRIDGE}gateway_mode_ipv6")
ALL = ("neighbour", "host", "outside", "published")
LAN = (
    Pool(
        subnet=ip_network("198.51.100.0/24"),
        gateway=ip_address("198.51.100.1"),
        ip_range=ip_network("198.51.100.128/25"),
    ),
    Pool(
        subnet=ip_network("2001:db8:1::/64"),
        gateway=ip_address("2001:db8:1::1"),
        ip_range=ip_network("2001:db8:1::8000/113"),
    ),
)
TAGGED = (Pool(subnet=ip_network("192.168.50.0/24"), gateway=ip_address("192.168.50.1")),)
TAG = """
ip -n router link add link eth0 name eth0.10 type vlan id 10; ip -n router link set eth0.10 up
ip -n router addr add 192.168.50.1/24 dev eth0.10
"""
WORKING = ("interface", "decisions", "life", "lines", "reach")
"""The checks that tell one network from another; what refusals and half plans are like is the driver's, once."""

CASES = {
    "bridge": Case(
        driver="bridge", reaches=ALL, refuses=({f"{BRIDGE}enable_icc": "x"}, {f"{BRIDGE}name": "eth0"}, {MODES[0]: "x"})
    ),
    "macvlan": Case(
        driver="macvlan",
        options={"parent": "eth0"},
        pools=LAN,
        reaches=("neighbour", "outside"),
        refuses=({"macvlan_mode": "l2"}, {"parent": "lo"}, {"parent": "nope"}, {"ipvlan_mode": "l2"}),
    ),
    "host": Case(driver="host", pools=()),
    "null": Case(driver="null", pools=()),
}
VARIANTS = {
    "bridge, internal": Case(driver="bridge", internal=True, reaches=("neighbour", "host")),
    "bridge, isolated": Case(
        driver="bridge", internal=True, options=dict.fromkeys(MODES, "isolated"), reaches=("neighbour",)
    ),
    "bridge, no talk": Case(
        driver="bridge", options={f"{BRIDGE}enable_icc": "false"}, reaches=("host", "outside", "published")
    ),
    "bridge, routed": Case(
        driver="bridge", options=dict.fromkeys(MODES, "routed"), reaches=("neighbour", "host", "outside")
    ),
    "bridge, adopted": Case(
        driver="bridge",
        options={f"{BRIDGE}name": "br7"},
        setup="ip link add br7 address 02:00:00:00:00:07 type bridge; ip link set br7 up",
        reaches=ALL,
    ),
    "macvlan, private": Case(
        driver="macvlan", options={"parent": "eth0", "macvlan_mode": "private"}, pools=LAN, reaches=("outside",)
    ),
}
ELSEWHERE = {
    "ipvlan": Case(
        driver="ipvlan",
        options={"parent": "eth0"},
        pools=LAN,
        reaches=("neighbour", "outside"),
        refuses=({"ipvlan_mode": "bridge"}, {"ipvlan_flag": "l2"}, {"macvlan_mode": "bridge"}),
    ),
    "ipvlan, l3": Case(
        driver="ipvlan", options={"parent": "eth0", "ipvlan_mode": "l3"}, reaches=("neighbour", "outside")
    ),
    "macvlan, no parent": Case(driver="macvlan", reaches=("neighbour",)),
    "macvlan, tagged": Case(
        driver="macvlan", options={"parent": "eth0.10"}, setup=TAG, pools=TAGGED, reaches=("neighbour", "outside")
    ),
}
"""What most kernels can do, but not every one that tests run on."""


@pytest.mark.parametrize("name", CASES)
def test_a_built_in_driver_conforms(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_each_kind_of_network_conforms(name: str) -> None:
    check(VARIANTS[name], only=WORKING)


@pytest.mark.vm
@pytest.mark.parametrize("name", ELSEWHERE)
def test_what_needs_a_kernel_with_more_conforms(name: str) -> None:
    if "tagged" in name and not _can_tag():
        pytest.skip("this kernel has no VLAN interfaces")
    try:
        # Two checks alone: in an emulated machine each takes ten seconds.
        check(ELSEWHERE[name], only=("life", "reach"))
    except MissingFeature as error:
        pytest.skip(str(error))


def _can_tag() -> bool:
    """Whether the setup of the case can be typed here."""
    from kernel_lab import works

    pair, tagged = "type veth peer name probe9", "name probe0 type vlan id 1"
    return works(f"unshare -n sh -ec 'ip link add probe8 {pair}; ip link add link probe8 {tagged}'")


# Drivers that break one thing each: every check finds what it is for

BROKEN = {
    "interface": ("behind_host = 'yes'", "behind_host must be a bool"),
    "decisions": (
        """
    def complete_endpoint(self, network, endpoint):
        import os
        return replace(super().complete_endpoint(network, endpoint), mac="02:42:" + os.urandom(4).hex(":"))
""",
        "complete_endpoint answers differently",
    ),
    "order": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        plan = super().endpoint_plan(network, sandbox, endpoint)
        more = {AddElement("trusted", f'"{name}" . "x"') for name in ("a1", "b2", "c3", "d4", "e5", "f6")}
        return Plan((*plan, *more))
""",
        "another process makes another plan",
    ),
    "I/O": (
        """
    def network_plan(self, network, others):
        import subprocess
        subprocess.run(["ip", "link", "add", "early", "type", "bridge"])
        return super().network_plan(network, others)
""",
        "asking the driver changed the kernel",
    ),
    "mark": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        steps = super().endpoint_plan(network, sandbox, endpoint)
        return Plan(tuple(replace_step(s, alias="mine") if isinstance(s, AddVeth) else s for s in steps))
""",
        "links without their owner's mark",
    ),
    "life": (
        """
    def network_plan(self, network, others):
        return super().network_plan(network, others) + Plan((Leaves("net/ipv4/conf/eth0/rp_filter", "2"),))
""",
        "left something behind:\n  the host, settings, net.ipv4.conf.eth0.rp_filter: 0 → 2",
    ),
    "halves": (
        """
    def network_plan(self, network, others):
        return super().network_plan(network, others) + Plan((Fussy("net/ipv4/conf/eth0/rp_filter", "2"),))
""",
        "halves: it was not there",
    ),
    "repair": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        steps = super().endpoint_plan(network, sandbox, endpoint)
        blind = (Blind(s.namespace, s.link, s.destination, s.gateway) if isinstance(s, AddRoute) else s for s in steps)
        return Plan(tuple(blind))
""",
        "repair: outside is promised, but does not work over IPv4",
    ),
    "lines": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        steps = super().endpoint_plan(network, sandbox, endpoint)
        quiet = (Silent(s.name, s.value, namespace=s.namespace) if "accept_ra" in str(s) else s for s in steps)
        return Plan(tuple(quiet))
""",
        "the explained lines build something else:\n  one, settings, net.ipv6.conf.eth0.accept_ra: 0 → 1",
    ),
    "unsaid": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        steps = super().endpoint_plan(network, sandbox, endpoint)
        return Plan(tuple(Unsaid(s.namespace, s.link, s.interface) if type(s) is AddAddress else s for s in steps))
""",
        "the explained lines cannot be typed: ",
    ),
    "reach": (
        """
    def endpoint_plan(self, network, sandbox, endpoint):
        return super().endpoint_plan(network, sandbox, replace(endpoint, ports=()))
""",
        "reach: published is promised, but does not work over IPv4",
    ),
    "refusals": (
        """
    def complete(self, network, host):
        int(network.options.get("com.docker.network.driver.mtu") or 0)
        return super().complete(network, host)
""",
        "are not refused with a FairleadError, but by ValueError",
    ),
}
_MODULE = '''
from msgspec.structs import replace
from dataclasses import dataclass, replace as replace_step
from fairlead.drivers.bridge import Bridge
from fairlead.errors import KernelError
from fairlead.plan import Plan
from fairlead.plan.addresses import AddAddress, AddRoute
from fairlead.plan.firewall import AddElement
from fairlead.plan.links import AddVeth
from fairlead.plan.step import State
from fairlead.plan.sysctl import SetSysctl

class Leaves(SetSysctl):
    """Cannot be taken back."""

class Fussy(SetSysctl):
    def revert(self, kernel):
        if self.check(kernel) is not State.HOLDS:
            raise KernelError("it was not there")
        from fairlead.kernel import sysctl
        sysctl.write(self.name, "0")

class Silent(SetSysctl):
    def shell(self):
        return ()

class Unsaid(AddAddress):
    def shell(self):
        return ()

class Blind(AddRoute):
    """Always says that all is well."""
    def check(self, kernel):
        return State.HOLDS

class Broken(Bridge):
    %s
'''


@pytest.mark.parametrize("what", BROKEN)
def test_a_driver_that_breaks_a_rule_is_found_out(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, sentence = BROKEN[what]
    about = tmp_path / "broken-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fairlead.drivers]\nbroken = broken_driver:Broken\n")
    (tmp_path / "broken_driver.py").write_text(_MODULE % code)
    monkeypatch.syspath_prepend(str(tmp_path))
    by = {"order": "decisions", "I/O": "decisions", "mark": "life", "unsaid": "lines"}.get(what, what)
    with pytest.raises(Nonconforming) as found:
        check(Case(driver="broken", reaches=ALL), only=(by,))
    assert sentence in str(found.value)


def test_more_than_was_promised_is_found_out() -> None:
    with pytest.raises(Nonconforming, match="reach: neighbour is not promised, but works over IPv4"):
        check(Case(driver="bridge", reaches=("host", "outside", "published")), only=("reach",))


def test_an_option_that_is_wrongly_taken_is_found_out() -> None:
    option = {f"{BRIDGE}enable_icc": "false"}
    with pytest.raises(Nonconforming, match="is made, though it should be refused"):
        check(Case(driver="bridge", refuses=(option,)), only=("refusals",))
