"""What all ``prune`` commands do: ask, have it done, and say what went."""

from __future__ import annotations

import sys

from fairlead.cli.client import Client
from fairlead.cli.flags import Failure, Options
from fairlead.cli.output import filters, print_json, print_lines, size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def prune(
    options: Options, path: str, warning: str, wanted: Sequence[str], show: Callable[[dict[str, Any]], None]
) -> None:
    """Post to `path` with the filters `wanted`; `show` prints the answer where neither JSON nor a plan is wanted."""
    explain = options.flag("explain")
    if not explain and not options.flag("force"):
        confirm(warning)
    answer = Client().post(path, filters=filters(list(wanted)), explain=explain)
    if explain:
        print_lines(answer)
    elif options.text("format") == "json":
        print_json(answer)
    else:
        show(answer)


def confirm(warning: str) -> None:
    """Ask on a terminal; without one, ``--force`` is needed."""
    if not sys.stdin.isatty():
        raise Failure(f"{warning} There is no terminal to ask on: give --force")
    print(f"WARNING! {warning}")
    try:
        said = input("Are you sure you want to continue? [y/N] ")
    except EOFError:
        said = ""
    if said.strip().lower() not in ("y", "yes"):
        raise Failure("nothing was done")


def print_removed(title: str, names: Sequence[str] | None) -> None:
    """A title and the names below it, if there are any."""
    if names:
        print("\n".join((title, *names)) + "\n")


def print_freed(answer: dict[str, Any]) -> None:
    """How much room there is now."""
    print(f"Total reclaimed space: {size(answer.get('SpaceReclaimed') or 0)}")
