"""What every endpoint has, whatever its driver: settings that users ask for, and those by which it can be announced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fairlead.errors import Invalid
from fairlead.ipam import check_address
from fairlead.model import Endpoint, Network, Sandbox
from fairlead.plan import Plan, Step
from fairlead.plan.announce import NotifyByArp
from fairlead.plan.links import SetLink
from fairlead.plan.netlink import link_name
from fairlead.plan.sysctl import SetSysctl
from fairlead.spec import EndpointSpec

SYSCTLS = "com.docker.network.endpoint.sysctls"
"""The endpoint option: ``net.ipv4.conf.IFNAME.log_martians=1,…``, with the very word IFNAME (Docker 28)."""

IFNAME = "com.docker.network.endpoint.ifname"
"""The endpoint option that names the interface (Docker 28); the API turns it into `EndpointSpec.ifname`."""

OPTIONS = frozenset({SYSCTLS})
"""The endpoint options that all drivers with links have."""

_SYSCTL = re.compile(r"net\.(ipv4|ipv6|mpls)\.(conf|neigh)\.(?:IFNAME|ifname)\.([a-z0-9_]+)=(.*)", re.DOTALL)


def sysctls(endpoint: Endpoint) -> Iterator[tuple[str, str]]:
    """The settings asked for, with slashes, as name and value; raises `Invalid`."""
    text = endpoint.options.get(SYSCTLS, "")
    for word in text.split(",") if text else ():
        match = _SYSCTL.fullmatch(word.strip())
        if not match or not match[4]:
            raise Invalid(
                f"option {SYSCTLS}: {word!r} is not allowed: "
                "net.{ipv4,ipv6,mpls}.{conf,neigh}.IFNAME.SETTING=VALUE is, with the word IFNAME as it stands"
            )
        yield f"net/{match[1]}/{match[2]}/{endpoint.ifname}/{match[3]}", match[4]


def check_spec(spec: EndpointSpec, network: Network) -> None:
    """Raise for what a place in this network cannot have."""
    if spec.aliases and not network.has_names:
        raise Invalid("network-scoped alias is supported only for containers in user defined networks")
    if spec.links and not network.has_names:
        raise Invalid(f"links in network {network.name} can only be had by a container, with --link when it is created")
    if len({address.version for address in spec.ips}) < len(spec.ips):
        raise Invalid("an endpoint takes one address per family")
    for address in spec.ips:
        pools = [pool for pool in network.pools if pool.subnet.version == address.version]
        if not pools:
            raise Invalid(f"address {address}: network {network.name} has no IPv{address.version} subnet")
        check_address(next((pool for pool in pools if address in pool.subnet), pools[0]), address, network.name)


def dressed(plan: Plan, sandbox: Sandbox, endpoint: Endpoint) -> Plan:
    """A driver's plan of an endpoint with the settings of its interface, made before that comes up."""
    inside, name = sandbox.path, endpoint.ifname
    place = next((i for i, step in enumerate(plan) if _sets_up(step, inside, name)), None)
    if place is None:
        return plan
    link = link_name(inside, name)
    settings: list[Step] = []
    if any(interface.version == 4 for interface in endpoint.addresses):
        settings.append(NotifyByArp(inside, name))
    if any(interface.version == 6 for interface in endpoint.addresses):
        setting = f"net/ipv6/conf/{name}/ndisc_notify"
        settings.append(SetSysctl(setting, "1", link=link, optional=True, namespace=inside))
    # The user's last: they are what is to hold.
    settings += [SetSysctl(name_, value, link=link, namespace=inside) for name_, value in sysctls(endpoint)]
    asked = {step.name for step in settings if isinstance(step, SetSysctl)}

    def kept(steps: Sequence[Step]) -> list[Step]:
        return [s for s in steps if not (isinstance(s, SetSysctl) and s.namespace == inside and s.name in asked)]

    return Plan((*kept(plan.steps[:place]), *settings, *kept(plan.steps[place:])))


def _sets_up(step: Step, namespace: str, name: str) -> bool:
    return isinstance(step, SetLink) and (step.namespace, step.name) == (namespace, name) and step.up
