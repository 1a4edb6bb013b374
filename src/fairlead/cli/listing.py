"""``fairlead ps`` and ``fairlead port``."""

from __future__ import annotations

from fairlead.cli.client import Client, segment
from fairlead.cli.flags import FILTER, FORMAT, NO_TRUNC, QUIET, Command, Failure, Flag, Options
from fairlead.cli.output import filters, short, show, since, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _ps(options: Options, _: list[str]) -> None:
    limit = 1 if options.flag("latest") else options.number("last")
    containers = Client().get(
        "/containers/json",
        all=options.flag("all") or limit is not None,
        limit=limit,
        filters=filters(options.many("filter")),
        size=options.flag("size"),
    )
    whole = options.flag("no-trunc")

    def id_of(container: dict[str, Any]) -> str:
        return str(container["Id"]) if whole else short(container["Id"])

    columns = {
        "CONTAINER ID": id_of,
        "IMAGE": lambda container: image_text(container, whole),
        "COMMAND": lambda container: command_text(container["Command"], whole),
        "CREATED": lambda container: since(container["Created"]),
        "STATUS": lambda container: container["Status"],
        "PORTS": lambda container: merge_ports(container.get("Ports") or []),
        "NAMES": lambda container: ",".join(name.lstrip("/") for name in container["Names"]),
    }
    if options.flag("size"):
        columns["SIZE"] = lambda container: (
            f"{size(container.get('SizeRw') or 0)} (virtual {size(container.get('SizeRootFs') or 0)})"
        )
    show(options, containers, columns, id_of=id_of)


def image_text(container: dict[str, Any], whole: bool) -> str:
    """The image's name, or the head of its id where it has none."""
    image = str(container["Image"] or "<no image>")
    bare = image.removeprefix("sha256:")
    return bare[:12] if not whole and len(bare) == 64 and all(digit in "0123456789abcdef" for digit in bare) else image


def command_text(command: str, whole: bool) -> str:
    """The command in quotes, at most twenty characters of it."""
    if not whole and len(command) > 20:
        command = command[:19] + "…"
    return '"' + command.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def merge_ports(ports: list[dict[str, Any]]) -> str:
    """Ports as docker writes them: runs of neighbours that are published on their own number become one range."""
    runs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    single = []
    for port in sorted(ports, key=_port_order):
        address, public, private = port.get("IP") or "", port.get("PublicPort") or 0, port["PrivatePort"]
        if address and public != private:
            single.append(f"{_host(address)}:{public}->{private}/{port['Type']}")
            continue
        spans = runs.setdefault((address, port["Type"]), [])
        if spans and private == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], private)
        elif not spans or private != spans[-1][1]:
            spans.append((private, private))
    merged = []
    for (address, protocol), spans in runs.items():
        for first, last in spans:
            span = str(first) if first == last else f"{first}-{last}"
            merged.append((first, f"{_host(address)}:{span}->{span}/{protocol}" if address else f"{span}/{protocol}"))
    return ", ".join([text for _, text in sorted(merged, key=lambda pair: pair[0])] + single)


def _port_order(port: dict[str, Any]) -> tuple[int, str, int, str]:
    return port["PrivatePort"], port.get("IP") or "", port.get("PublicPort") or 0, port["Type"]


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _port(options: Options, words: list[str]) -> None:
    del options
    container = Client().get(f"/containers/{segment(words[0])}/json")
    ports: dict[str, Any] = container["NetworkSettings"].get("Ports") or {}
    if len(words) == 1:
        for name in sorted(ports, key=lambda name: (int(name.split("/")[0]), name)):
            for binding in ports[name] or []:
                print(f"{name} -> {_host(binding['HostIp'])}:{binding['HostPort']}")
        return
    wanted = words[1] if "/" in words[1] else f"{words[1]}/tcp"
    if not ports.get(wanted):
        raise Failure(f"no public port '{wanted}' published for {words[0]}")
    for binding in ports[wanted]:
        print(f"{_host(binding['HostIp'])}:{binding['HostPort']}")


PS = Command(
    "ps",
    "[OPTIONS]",
    "List containers",
    _ps,
    (
        Flag("-a --all", "Show all containers, not just the running ones"),
        Flag("-l --latest", "Show the latest created container (of all states)"),
        Flag("-n --last", "Show this many of the last created containers (of all states)", "number"),
        Flag("-s --size", "Show the sizes of containers"),
        QUIET,
        NO_TRUNC,
        FILTER,
        FORMAT,
    ),
)
PORT = Command("port", "CONTAINER [PORT[/PROTOCOL]]", "List the published ports of a container", _port, (), (1, 2))
