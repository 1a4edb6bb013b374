"""The files in /etc that Fairlead writes for a container: hosts, hostname, resolv.conf.  Pure but for one read."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

from fairlead.containers.record import ContainerSpec

HOST_RESOLV = Path("/etc/resolv.conf")
_SYSTEMD_RESOLV = Path("/run/systemd/resolve/resolv.conf")
"""The true upstreams where /etc/resolv.conf names only systemd-resolved's own 127.0.0.53."""

_FALLBACK = ("8.8.8.8", "8.8.4.4")
"""What Docker falls back to when the host names no server that a container could reach."""

HOST_GATEWAY = "host-gateway"
"""In ``--add-host NAME:host-gateway``: the address at which the container reaches the host."""


def hosts(spec: ContainerSpec, addresses: tuple[str, ...], gateway: str) -> str:
    """/etc/hosts: loopback, the user's extra hosts, the container's own addresses with its hostname."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::\tip6-localnet",
        "ff00::\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    for extra in spec.extra_hosts:
        name, _, address = extra.partition(":")
        lines.append(f"{gateway if address == HOST_GATEWAY and gateway else address}\t{name}")
    return "\n".join((*lines, *own_hosts(spec, addresses))) + "\n"


def own_hosts(spec: ContainerSpec, addresses: tuple[str, ...]) -> list[str]:
    """The lines of /etc/hosts for the container's own addresses."""
    whole = f"{spec.hostname}.{spec.domainname}".rstrip(".")
    bare = whole.partition(".")[0]
    names = f"{whole} {bare}" if bare != whole else whole
    return [f"{address}\t{names}" for address in addresses]


def resolv_conf(spec: ContainerSpec, host: str, *, host_network: bool, resolver: str = "") -> str:
    """/etc/resolv.conf: the host's without servers that only the host itself can reach, or what the user asked for.

    With a `resolver` that one alone is asked, and passes on to the others; names without a dot are given to it first
    (``ndots:0``), as in Docker, unless the user or the host has another number.
    """
    if host_network and not (spec.dns or spec.dns_search or spec.dns_options):
        return host
    servers: list[str] = []
    search: list[str] = []
    options: list[str] = []
    for line in host.splitlines():
        word, *rest = line.split() or [""]
        if word == "nameserver" and rest:
            servers += rest[:1]
        elif word in ("search", "domain"):
            search = rest
        elif word == "options":
            options += rest
    servers = list(spec.dns) or [s for s in servers if host_network or not _is_loopback(s)] or list(_FALLBACK)
    search = list(spec.dns_search) or search
    options = list(spec.dns_options) or options
    if resolver:
        servers = [resolver]
        if not any(option.startswith("ndots:") for option in options):
            options.append("ndots:0")
    lines = [f"nameserver {server}" for server in servers]
    if search and search != ["."]:
        lines.append(f"search {' '.join(search)}")
    if options:
        lines.append(f"options {' '.join(options)}")
    return "\n".join(lines) + "\n"


def host_resolv_conf() -> str:
    """The host's resolver file, read anew at each start, as networks come and go."""
    for path in (HOST_RESOLV, _SYSTEMD_RESOLV):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path == HOST_RESOLV and _only_stub(text) and _SYSTEMD_RESOLV.exists():
            continue
        return text
    return ""


def _only_stub(text: str) -> bool:
    return [line.split()[1:] for line in text.splitlines() if line.startswith("nameserver")] == [["127.0.0.53"]]


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True


def merge_host_names(own: str) -> str:
    """With the host's network a container also knows the names in the host's /etc/hosts."""
    try:
        return Path("/etc/hosts").read_text(errors="replace").rstrip("\n") + "\n" + own
    except OSError:
        return own
