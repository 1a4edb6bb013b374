"""``fairlead topology``: what is connected to what."""

from __future__ import annotations

from fairlead.cli.client import Client
from fairlead.cli.flags import Command, Failure, Flag, Options
from fairlead.cli.link import end_text
from fairlead.cli.listing import merge_ports
from fairlead.cli.output import print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _topology(options: Options, _: list[str]) -> None:
    form = options.text("format", "text")
    if form not in ("text", "json"):
        raise Failure(f"invalid format {form!r}: only text and json are allowed", 2)
    topology = Client().get("/fairlead/topology")
    if form == "json":
        print_json(topology)
    else:
        print("\n".join(lines(topology)))


def lines(topology: dict[str, Any]) -> list[str]:
    """The topology as a tree."""
    branches = [_network(network) for network in topology["Networks"]]
    branches += [_alone(namespace) for namespace in topology["Namespaces"] if not namespace["Endpoints"]]
    if topology["Links"]:
        branches.append(("links", [(_link(link), []) for link in topology["Links"]]))
    return ["host", *_tree(branches)]


def _tree(branches: list[Any], indent: str = "") -> list[str]:
    found = []
    for number, (text, below) in enumerate(branches, 1):
        last = number == len(branches)
        found.append(f"{indent}{'└── ' if last else '├── '}{text}")
        found += _tree(below, indent + ("    " if last else "│   "))
    return found


def _network(network: dict[str, Any]) -> tuple[str, list[Any]]:
    words = [f"network {network['Name']}", network["Driver"]]
    words += [
        pool["Subnet"] + (f" gateway {pool['Gateway']}" if pool.get("Gateway") else "")
        for pool in network["IPAM"]["Config"]
    ]
    if network["Interface"]:
        words.append(f"interface {network['Interface']}")
    if network["Internal"]:
        words.append("internal")
    return ", ".join(words), [_endpoint(endpoint) for endpoint in network["Endpoints"]]


def _endpoint(endpoint: dict[str, Any]) -> tuple[str, list[Any]]:
    container = endpoint["Owner"] != endpoint["Sandbox"]
    words = [f"{'container' if container else 'namespace'} {endpoint['OwnerName'] or endpoint['Owner'][:12]}"]
    if endpoint["Interface"]:
        words.append(" ".join([endpoint["Interface"], *endpoint["Addresses"]]))
    if endpoint["MacAddress"]:
        words.append(endpoint["MacAddress"])
    if endpoint["HostInterface"]:
        words.append(f"by {endpoint['HostInterface']}")
    ports = [
        {"IP": p["HostIp"], "PublicPort": p["HostPort"], "PrivatePort": p["Port"], "Type": p["Protocol"]}
        for p in endpoint["Ports"]
    ]
    return ", ".join(words), [(f"published {text}", []) for text in merge_ports(ports).split(", ") if text]


def _alone(namespace: dict[str, Any]) -> tuple[str, list[Any]]:
    kind, name = (
        ("container", namespace["ContainerName"]) if namespace["Container"] else ("namespace", namespace["Name"])
    )
    return f"{kind} {name or namespace['Container'][:12]}, in no network", []


def _link(link: dict[str, Any]) -> str:
    return " ── ".join(" ".join([end_text(end), *end["Addresses"]]) for end in link["Ends"])


TOPOLOGY = Command(
    "topology",
    "[OPTIONS]",
    "Show what is connected to what",
    _topology,
    (Flag("--format", "text (default) or json", "text"),),
)
