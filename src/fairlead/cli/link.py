"""``fairlead link …``."""

from __future__ import annotations

from fairlead.cli.client import Client, quote
from fairlead.cli.flags import EXPLAIN, FORMAT, QUIET, Command, Failure, Flag, Options
from fairlead.cli.output import each, print_lines, short, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def parse_end(text: str, addresses: list[str]) -> dict[str, Any]:
    """``NAMESPACE/INTERFACE``; without a namespace (``/veth0`` or ``host:/veth0``) the host."""
    sandbox, slash, interface = text.rpartition("/")
    if not slash or not interface:
        raise Failure(f"invalid end {text!r}: NAMESPACE/INTERFACE is needed, or /INTERFACE for the host", 2)
    return {"Sandbox": sandbox, "Interface": interface, "Addresses": addresses}


def _add(options: Options, words: list[str]) -> None:
    ends = [parse_end(words[0], options.many("ip")), parse_end(words[1], options.many("peer-ip"))]
    explain = options.flag("explain")
    answer = Client().post("/fairlead/links", {"Ends": ends}, explain=explain)
    if explain:
        print_lines(answer)
    else:
        print(answer["Id"])


def end_text(end: dict[str, Any]) -> str:
    """``ns0/vth0``, or ``host/vth0``."""
    return f"{end['SandboxName'] or ('host' if not end['Sandbox'] else short(end['Sandbox']))}/{end['Interface']}"


def _ls(options: Options, _: list[str]) -> None:
    show(
        options,
        Client().get("/fairlead/links"),
        {
            "LINK ID": lambda link: short(link["Id"]),
            "END": lambda link: end_text(link["Ends"][0]),
            "ADDRESSES": lambda link: ",".join(link["Ends"][0]["Addresses"]),
            "PEER": lambda link: end_text(link["Ends"][1]),
            "PEER ADDRESSES": lambda link: ",".join(link["Ends"][1]["Addresses"]),
        },
        id_of=lambda link: short(link["Id"]),
    )


def _rm(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def remove(word: str) -> str | None:
        print_lines(client.delete(f"/fairlead/links/{quote(word)}", explain=explain))
        return None if explain else word

    return each(words, remove)


ADD = Command(
    "link add",
    "[OPTIONS] NAMESPACE/INTERFACE NAMESPACE/INTERFACE",
    "Join two namespaces by a veth pair (no namespace before the slash: the host)",
    _add,
    (
        Flag("--ip", "Address of the first end, such as 172.0.0.2/24", "list", "CIDR"),
        Flag("--peer-ip", "Address of the second end", "list", "CIDR"),
        EXPLAIN,
    ),
    (2, 2),
)
LS = Command("link ls", "[OPTIONS]", "List links", _ls, (QUIET, FORMAT))
RM = Command(
    "link rm", "[OPTIONS] LINK|NAMESPACE/INTERFACE [...]", "Remove one or more links", _rm, (EXPLAIN,), (1, None)
)
