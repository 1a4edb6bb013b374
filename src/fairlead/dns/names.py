"""What the resolver is told of the records: which names an endpoint has, which sandboxes to serve.  Pure."""

from __future__ import annotations

from typing import Any

from fairlead.containers.record import Container
from fairlead.model import Endpoint, Network, Phase, Sandbox

Entry = dict[str, Any]


def member(endpoint: Endpoint, network: Network, sandbox: Sandbox, container: Container | None) -> Entry | None:
    """An endpoint as the resolver's table has it, None where it is not to be known by name.

    The first name is the one that its addresses lead back to.  A full id has 64 digits, one too many for a DNS label;
    it is there for links, which name a container in any way.
    """
    if endpoint.phase is not Phase.READY or not network.has_names:
        return None
    if sandbox.container and not container:
        return None  # It was removed: others keep its sandbox, but its names may be another's by now.
    if container:
        names = (container.name, *endpoint.aliases, container.id[:12], container.spec.hostname, container.id)
    else:
        names = (sandbox.name, *endpoint.aliases, sandbox.id[:12], sandbox.id)
    return {
        "sandbox": sandbox.id,
        "network": network.id,
        "network_name": network.name,
        "names": list(dict.fromkeys(name for name in names if name)),
        "addresses": [str(interface.ip) for interface in endpoint.addresses],
        "links": endpoint.links,
        "priority": endpoint.priority,
    }


def served(sandbox: Sandbox, networks: list[Network], container: Container | None) -> Entry | None:
    """A sandbox that the resolver is to be in, None if it was never in a network that has names.

    One that has left them all keeps the resolver, which passes on: its resolv.conf leads there, as in Docker.
    `outside` is whether anything may be passed on, which from internal networks alone it may not.
    """
    if sandbox.phase is not Phase.READY or not sandbox.names:
        return None
    return {
        "path": sandbox.path,
        "upstreams": list(container.spec.dns) if container else [],
        "outside": any(not network.internal and network.driver != "null" for network in networks),
    }
