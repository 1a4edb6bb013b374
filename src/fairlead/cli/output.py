"""What is printed: tables in docker's form, JSON, explained lines, times and sizes."""

from __future__ import annotations

import os
import sys
import time

from fairlead.ago import ago
from fairlead.cli.client import as_json
from fairlead.cli.flags import Failure
from fairlead.cli.quick import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from fairlead.cli.client import Value
    from fairlead.cli.flags import Options

_LEAST = 10
_GAP = 3


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as docker sets them: at least ten wide, three spaces between, none after the last."""
    lines = [tuple(heads), *(tuple(row) for row in rows)]
    widths = [max(_LEAST, *(len(line[column]) + _GAP for line in lines)) for column in range(len(heads) - 1)]
    return "\n".join(
        ("".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=False)) + line[-1]).rstrip()
        for line in lines
    )


def show(
    options: Options,
    items: list[dict[str, Any]],
    columns: dict[str, Callable[[dict[str, Any]], str]],
    *,
    id_of: Callable[[dict[str, Any]], str] | None = None,
) -> None:
    """A listing in the form asked for: table, ``--quiet`` ids, ``--format json`` or a template.

    A template sees the answer's own fields, and docker's names for the columns where the answer has none of that name.
    """
    form = options.text("format")
    if form == "json":
        print_json(items)
    elif options.flag("quiet") and id_of:
        for item in items:
            print(id_of(item))
    elif form in ("", "table"):
        print(table(list(columns), [[cell(item) for cell in columns.values()] for item in items]))
    else:
        from fairlead.cli.template import render

        form = form.removeprefix("table ")
        names = {head: _DOCKER_NAMES.get(head, head.title().replace(" ", "")) for head in columns}
        for item in items:
            print(render(form, {**item, **{names[head]: cell(item) for head, cell in columns.items()}}))


_DOCKER_NAMES = {
    "NETWORK ID": "ID",
    "CONTAINER ID": "ID",
    "IMAGE ID": "ID",
    "LINK ID": "ID",
    "CREATED": "RunningFor",
    "CPU %": "CPUPerc",
    "MEM USAGE / LIMIT": "MemUsage",
    "MEM %": "MemPerc",
    "NET I/O": "NetIO",
    "BLOCK I/O": "BlockIO",
    "PIDS": "PIDs",
}


def print_json(value: Any) -> None:
    """One JSON value, for programs."""
    sys.stdout.write(dumps(value, ensure_ascii=False, indent=None if isinstance(value, str) else 4) + "\n")


def print_lines(value: dict[str, Any] | None) -> None:
    """The answer to ``?explain=1``."""
    for line in (value or {}).get("Lines") or []:
        print(line)


def explained(options: Options, which: str, file: str) -> dict[str, Value]:
    """The query for ``--explain``; the lines name the file by its whole path, or the standard streams."""
    if not options.flag("explain"):
        return {}
    return {"explain": True, which: "" if file in ("", "-") else os.path.abspath(file)}


def short(id_: str) -> str:
    """The first twelve digits of an id."""
    return id_.removeprefix("sha256:")[:12]


def since(moment: float) -> str:
    """How long ago a moment was; seconds since the epoch."""
    return ago(max(0.0, time.time() - moment)) + " ago"


def size(count: float) -> str:
    """Bytes as docker writes them: decimal units, three significant digits."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g}TB"


def parse_time(text: str) -> float:
    """An RFC 3339 time of the API, in seconds since the epoch."""
    import calendar

    try:
        head = text.rstrip("Z")[:19]
        return float(calendar.timegm(time.strptime(head, "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return 0.0


def filters(words: Sequence[str]) -> str | None:
    """``--filter name=a`` as the API takes it."""
    if not words:
        return None
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Failure(f"invalid filter {word!r}: name=value is needed", 2)
        found.setdefault(name, []).append(value)
    return as_json(found)


def pairs(words: Sequence[str], what: str) -> dict[str, str]:
    """``key=value`` words as a mapping; a word without ``=`` has an empty value, as labels may."""
    found = {}
    for word in words:
        key, _, value = word.partition("=")
        if not key:
            raise Failure(f"invalid {what} {word!r}: key=value is needed", 2)
        found[key] = value
    return found


def each(words: Sequence[str], act: Callable[[str], str | None]) -> int:
    """Do something for each word and go on after a failure; print what `act` returns.  Returns the exit code."""
    code = 0
    for word in words:
        try:
            said = act(word)
        except Failure as failure:
            from fairlead.cli.client import Unreachable

            if isinstance(failure, Unreachable):
                raise
            sys.stdout.flush()
            print(f"fairlead: {failure}", file=sys.stderr)
            code = failure.code
        else:
            if said is not None:
                print(said)
    return code
