"""``fairlead network …``."""

from __future__ import annotations

import sys

from fairlead.cli import parse
from fairlead.cli.client import Client, segment
from fairlead.cli.flags import EXPLAIN, FILTER, FORMAT, NO_TRUNC, QUIET, Command, Failure, Flag, Options
from fairlead.cli.output import each, filters, pairs, print_lines, short, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _create(options: Options, words: list[str]) -> None:
    body: dict[str, Any] = {
        "Name": words[0],
        "Driver": options.text("driver", "bridge"),
        "Internal": options.flag("internal"),
        "Attachable": options.flag("attachable"),
        "Options": pairs(options.many("opt"), "option"),
        "Labels": pairs(options.many("label"), "label"),
        "IPAM": {"Driver": options.text("ipam-driver", "default"), "Config": ipam_config(options)},
    }
    if options.has("ipv6"):
        body["EnableIPv6"] = options.flag("ipv6")
    if options.has("ipv4"):
        body["EnableIPv4"] = options.flag("ipv4")
    answer = Client().post("/networks/create", body, explain=options.flag("explain"))
    if options.flag("explain"):
        print_lines(answer)
        return
    if answer.get("Warning"):
        print(f"WARNING: {answer['Warning']}", file=sys.stderr)
    print(answer["Id"])


def ipam_config(options: Options) -> list[dict[str, Any]]:
    """The subnets, each with the range, gateway and auxiliary addresses that lie in it."""
    subnets, ranges, gateways = options.many("subnet"), options.many("ip-range"), options.many("gateway")
    auxiliary = pairs(options.many("aux-address"), "auxiliary address")
    if not subnets and not ranges and not auxiliary and gateways in ([], ["none"]):
        return [{"Gateway": "none"}] if gateways else []
    if not subnets:
        raise Failure("--ip-range, --gateway and --aux-address need a --subnet", 2)
    if len(subnets) == 1:
        if len(ranges) > 1 or len(gateways) > 1:
            raise Failure("a subnet has at most one --ip-range and one --gateway", 2)
        config: dict[str, Any] = {"Subnet": subnets[0]}
        if ranges:
            config["IPRange"] = ranges[0]
        if gateways:
            config["Gateway"] = gateways[0]
        if auxiliary:
            config["AuxiliaryAddresses"] = auxiliary
        return [config]
    return _spread(subnets, ranges, gateways, auxiliary)


def _spread(
    subnets: list[str], ranges: list[str], gateways: list[str], auxiliary: dict[str, str]
) -> list[dict[str, Any]]:
    from ipaddress import ip_address, ip_network

    try:
        configs: list[dict[str, Any]] = [{"Subnet": subnet} for subnet in subnets]
        networks = [ip_network(subnet, strict=False) for subnet in subnets]

        def home(text: str) -> dict[str, Any]:
            address = ip_address(text.split("/")[0])
            for network, config in zip(networks, configs, strict=True):
                # fe80::1 is the gateway of whatever IPv6 subnet there is.
                if address in network or (address.version == network.version == 6 and address.is_link_local):
                    return config
            raise Failure(f"no --subnet contains {text}", 2)

        for range_ in ranges:
            home(range_)["IPRange"] = range_
        for gateway in gateways:
            if gateway == "none":
                configs[0]["Gateway"] = "none"
            else:
                home(gateway)["Gateway"] = gateway
        for name, address in auxiliary.items():
            home(address).setdefault("AuxiliaryAddresses", {})[name] = address
    except ValueError as error:
        raise Failure(f"invalid network option: {error}", 2) from None
    return configs


def _ls(options: Options, _: list[str]) -> None:
    networks = Client().get("/networks", filters=filters(options.many("filter")))

    def name_id(network: dict[str, Any]) -> str:
        return str(network["Id"]) if options.flag("no-trunc") else short(network["Id"])

    show(
        options,
        networks,
        {
            "NETWORK ID": name_id,
            "NAME": lambda network: network["Name"],
            "DRIVER": lambda network: network["Driver"],
            "SCOPE": lambda network: network["Scope"],
        },
        id_of=name_id,
    )


def _inspect(options: Options, words: list[str]) -> int:
    from fairlead.cli.inspect import show_all

    client = Client()
    return show_all(options, words, lambda word: client.get(f"/networks/{segment(word)}"))


def _rm(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def remove(word: str) -> str | None:
        answer = client.delete(f"/networks/{segment(word)}", explain=explain)
        if explain:
            print_lines(answer)
            return None
        return word

    return each(words, remove)


def _connect(options: Options, words: list[str]) -> None:
    network, container = words
    driver_options = pairs(options.many("driver-opt"), "driver option")
    config: dict[str, Any] = {}
    address: dict[str, str] = {}
    if options.has("ip"):
        address["IPv4Address"] = options.text("ip")
    if options.has("ip6"):
        address["IPv6Address"] = options.text("ip6")
    if address:
        config["IPAMConfig"] = address
    parse.link_local(options.many("link-local-ip"), config)
    if options.has("gw-priority"):
        config["GwPriority"] = options.number("gw-priority")
    if options.many("link"):
        config["Links"] = options.many("link")
    if options.many("alias"):
        config["Aliases"] = options.many("alias")
    if options.has("mac-address"):
        config["MacAddress"] = options.text("mac-address")
    if driver_options:
        config["DriverOpts"] = driver_options
    answer = Client().post(
        f"/networks/{segment(network)}/connect",
        {"Container": container, "EndpointConfig": config},
        explain=options.flag("explain"),
    )
    print_lines(answer)


def _disconnect(options: Options, words: list[str]) -> None:
    network, container = words
    body = {"Container": container, "Force": options.flag("force")}
    print_lines(Client().post(f"/networks/{segment(network)}/disconnect", body, explain=options.flag("explain")))


def _prune(options: Options, _: list[str]) -> None:
    from fairlead.cli.prune import prune

    def show_names(answer: dict[str, Any]) -> None:
        if answer["NetworksDeleted"]:
            print("\n".join(("Deleted Networks:", *answer["NetworksDeleted"])))

    warning = "This will remove all networks not used by at least one container or namespace."
    prune(options, "/networks/prune", warning, options.many("filter"), show_names)


CREATE = Command(
    "network create",
    "[OPTIONS] NETWORK",
    "Create a network",
    _create,
    (
        Flag("-d --driver", 'Driver of the network (default "bridge")', "text"),
        Flag("--subnet", "Subnet in CIDR notation, such as 10.0.0.0/24", "list", "CIDR"),
        Flag("--ip-range", "Give addresses from this part of the subnet only", "list", "CIDR"),
        Flag("--gateway", "Address of the host in the subnet, or 'none'", "list", "IP"),
        Flag("--aux-address", "Reserve an address of the subnet", "list", "NAME=IP"),
        Flag("--ipam-driver", 'Address management (default "default")', "text"),
        Flag("-o --opt", "Driver option", "list", "KEY=VALUE"),
        Flag("--label", "Metadata of the network", "list", "KEY=VALUE"),
        Flag("--internal", "Restrict external access to the network"),
        Flag("--attachable", "Kept for docker's sake: every network is attachable"),
        Flag("--ipv4", "Enable IPv4 (default true)"),
        Flag("--ipv6", "Enable IPv6"),
        EXPLAIN,
    ),
    (1, 1),
)
LS = Command("network ls", "[OPTIONS]", "List networks", _ls, (QUIET, NO_TRUNC, FORMAT, FILTER))
INSPECT = Command(
    "network inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    "Show networks in full",
    _inspect,
    (Flag("-f --format", "'json' or a template such as '{{.Name}}'", "text"), Flag("-v --verbose", "No effect here")),
    (1, None),
)
RM = Command("network rm", "[OPTIONS] NETWORK [NETWORK...]", "Remove one or more networks", _rm, (EXPLAIN,), (1, None))
CONNECT = Command(
    "network connect",
    "[OPTIONS] NETWORK CONTAINER|NAMESPACE",
    "Connect a container or namespace to a network",
    _connect,
    (
        Flag("--ip", "IPv4 address, such as 10.0.0.2", "text", "IP"),
        Flag("--ip6", "IPv6 address", "text", "IP"),
        Flag("--alias", "Another name for it in this network", "list"),
        Flag("--gw-priority", "The network with the highest number gives the default route", "number"),
        Flag("--link", "Know another container by a name of its own: CONTAINER[:ALIAS]", "list"),
        Flag("--link-local-ip", "Further address, of a link-local block", "list", "IP"),
        Flag("--mac --mac-address", "MAC address", "text", "MAC"),
        Flag("--driver-opt", "Driver option for the endpoint", "list", "KEY=VALUE"),
        EXPLAIN,
    ),
    (2, 2),
)
DISCONNECT = Command(
    "network disconnect",
    "[OPTIONS] NETWORK CONTAINER|NAMESPACE",
    "Disconnect a container or namespace from a network",
    _disconnect,
    (Flag("-f --force", "Disconnect a container even if it is half gone"), EXPLAIN),
    (2, 2),
)
PRUNE = Command(
    "network prune",
    "[OPTIONS]",
    "Remove all unused networks",
    _prune,
    (
        Flag("-f --force", "Do not ask"),
        Flag("--filter", "Only those that fit, such as 'until=24h'", "list", "filter"),
        FORMAT,
        EXPLAIN,
    ),
)
