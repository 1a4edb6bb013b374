"""``fairlead topology``: what is connected to what, as text, picture or data."""

from __future__ import annotations

import sys

from fairlead.cli.client import Client
from fairlead.cli.flags import Command, Failure, Flag, Options
from fairlead.cli.output import print_json

FORMATS = ("text", "svg", "mermaid", "dot", "json")


def _topology(options: Options, words: list[str]) -> None:
    form = options.text("format", "text")
    if form not in FORMATS:
        raise Failure(f"invalid format {form!r}: only {', '.join(FORMATS)} are allowed", 2)
    answer = Client().get("/fairlead/topology", all=options.flag("all"))
    if form == "json" and not words:
        print_json(answer)
        return
    # Not before it is needed: reading JSON into types costs an import.
    import msgspec

    from fairlead.errors import FairleadError
    from fairlead.see import select
    from fairlead.see.topology import Topology

    try:
        topology = select.only(msgspec.convert(answer, Topology), words)
        if form == "json":
            print_json(msgspec.to_builtins(topology))
        else:
            sys.stdout.write(_drawn(topology, form))
    except FairleadError as error:
        raise Failure(str(error)) from None


def _drawn(topology: Topology, form: str) -> str:
    if form == "text":
        import os

        from fairlead.see import text

        tty = sys.stdout.isatty()
        colour = tty and not os.environ.get("NO_COLOR")
        return text.render(topology, width=os.get_terminal_size().columns if tty else 80, colour=colour)
    from fairlead.see import graph

    return {"dot": graph.dot, "mermaid": graph.mermaid, "svg": graph.svg}[form](topology)


TYPE_CHECKING = False
if TYPE_CHECKING:
    from fairlead.see.topology import Topology

TOPOLOGY = Command(
    "topology",
    "[OPTIONS] [NETWORK|CONTAINER|NAMESPACE...]",
    "Show what is connected to what: all, or only these",
    _topology,
    (
        Flag("--format", "text (default), svg, mermaid, dot or json", "text"),
        Flag("-a --all", "Also the namespaces of programs that lead nowhere"),
    ),
    (0, None),
)
