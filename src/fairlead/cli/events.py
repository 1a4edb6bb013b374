"""``fairlead events``: what happens, as it happens."""

from __future__ import annotations

import sys
import time

from fairlead.cli.client import Client
from fairlead.cli.flags import Command, Flag, Options
from fairlead.cli.output import filters
from fairlead.cli.parse import moment
from fairlead.cli.quick import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _events(options: Options, _: list[str]) -> None:
    now = time.time()
    response = Client().request(
        "GET",
        "/events",
        query={
            "since": moment(options.text("since"), now) if options.has("since") else None,
            "until": moment(options.text("until"), now) if options.has("until") else None,
            "filters": filters(options.many("filter")),
        },
    )
    form = options.text("format")
    for event in response.messages():
        if form in ("", "table"):
            line = event_text(event)
        elif form == "json":
            line = dumps(event, ensure_ascii=False)
        else:
            from fairlead.cli.template import render

            line = render(form, event)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def event_text(event: dict[str, Any]) -> str:
    """One line: local time, what, who, and the attributes in order (docker/cli, cli/command/system/events.go)."""
    seconds, nanoseconds = divmod(event["timeNano"], 10**9)
    when = time.localtime(seconds)
    zone = time.strftime("%z", when)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", when) + f".{nanoseconds:09d}{zone[:3]}:{zone[3:]}"
    attributes = ", ".join(f"{name}={value}" for name, value in sorted(event["Actor"]["Attributes"].items()))
    words = [stamp, event["Type"], event["Action"], event["Actor"]["ID"]]
    return " ".join(words) + (f" ({attributes})" if attributes else "")


EVENTS = Command(
    "events",
    "[OPTIONS]",
    "Show what happens, as it happens",
    _events,
    (
        Flag(
            "-f --filter", "Only what this says, such as 'container=web', 'event=die', 'type=network'", "list", "filter"
        ),
        Flag("--since", "Begin with what happened after a time or duration, such as 10m", "text"),
        Flag("--until", "End at this time", "text"),
        Flag("--format", "'json', or a template such as '{{.Action}}'", "text"),
    ),
)
