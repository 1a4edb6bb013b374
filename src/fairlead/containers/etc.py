"""A running container's /etc/hosts and /etc/resolv.conf follow it into a network and out of it.

The files are bound into the container, so they are written in place.  Of what the user wrote there nothing is changed:
in hosts only whole lines of ours come and go; a resolv.conf that is no longer what we wrote is left alone, as Docker.
"""

from __future__ import annotations

from pathlib import Path

from fairlead.containers import files
from fairlead.containers.record import Container, ContainerSpec
from fairlead.dns import ADDRESS
from fairlead.model import Endpoint, Network
from fairlead.paths import Paths

MADE = "resolv.conf.made"
"""In the container's state directory: the resolv.conf that we wrote last."""


def joined(container: Container, paths: Paths, network: Network, endpoint: Endpoint) -> None:
    """The container is in one more network."""
    directory = paths.container_state(container.id)
    hosts = directory / "hosts"
    lines = read_lines(hosts)
    lines += [line for line in _own_lines(container.spec, endpoint) if line not in lines]
    write_lines(hosts, lines)
    if network.has_names:
        _lead_to_resolver(container.spec, directory)


def left(container: Container, paths: Paths, endpoint: Endpoint) -> None:
    """The container is in one network less; the resolver stays, and passes on."""
    hosts = paths.container_state(container.id) / "hosts"
    ours = _own_lines(container.spec, endpoint)
    write_lines(hosts, [line for line in read_lines(hosts) if line not in ours])


def _own_lines(spec: ContainerSpec, endpoint: Endpoint) -> list[str]:
    return files.own_hosts(spec, tuple(str(interface.ip) for interface in endpoint.addresses))


def _lead_to_resolver(spec: ContainerSpec, directory: Path) -> None:
    current, made = directory / "resolv.conf", directory / MADE
    if not made.exists() or current.read_bytes() != made.read_bytes():
        return
    text = files.resolv_conf(spec, files.host_resolv_conf(), host_network=False, resolver=ADDRESS)
    current.write_text(text)
    made.write_text(text)


def read_lines(hosts: Path) -> list[str]:
    """The lines of a container's file, which may hold any bytes: `write_lines` gives them back as they were."""
    return hosts.read_bytes().decode(errors="surrogateescape").removesuffix("\n").split("\n")


def write_lines(hosts: Path, lines: list[str]) -> None:
    hosts.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
