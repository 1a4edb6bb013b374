"""``fairlead explain``: the shell lines that would rebuild what exists now."""

from __future__ import annotations

from fairlead.cli.client import Client, segment
from fairlead.cli.flags import Command, Options
from fairlead.cli.output import print_lines


def _explain(_: Options, words: list[str]) -> None:
    for word in words:
        print_lines(Client().get(f"/fairlead/explain/{segment(word)}"))


EXPLAIN = Command(
    "explain",
    "NETWORK|CONTAINER|NAMESPACE...",
    "Print the shell lines that would rebuild what exists now, Fairlead's or anybody's",
    _explain,
    (),
    (1, None),
)
