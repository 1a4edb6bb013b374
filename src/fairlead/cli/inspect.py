"""``fairlead inspect``, and the inspecting of whatever kind."""

from __future__ import annotations

import sys

from fairlead.cli.client import ApiError, Client, segment
from fairlead.cli.flags import Command, Failure, Flag, Options
from fairlead.cli.quick import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_KINDS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
    "netns": "/fairlead/netns/{}",
}
"""Tried in this order, which is docker's."""


def show_all(options: Options, words: list[str], find: Callable[[str], Any]) -> int:
    """Print what is found as a JSON list (or each by the template); say what is not.  Returns the exit code."""
    found, code = [], 0
    errors = []
    for word in words:
        try:
            found.append(find(word))
        except ApiError as error:
            errors.append(str(error))
            code = 1
    form = options.text("format")
    if form in ("", "json"):
        print(dumps(found, indent=4 if not form else None, ensure_ascii=False))
    else:
        from fairlead.cli.template import render

        for item in found:
            print(render(form, item))
    sys.stdout.flush()
    for message in errors:
        print(f"fairlead: {message}", file=sys.stderr)
    return code


def _inspect(options: Options, words: list[str]) -> int:
    client, wanted = Client(), options.text("type")
    if wanted and wanted not in _KINDS:
        raise Failure(f"invalid type {wanted!r}: only {', '.join(_KINDS)} are allowed", 2)

    def find(word: str) -> Any:
        for kind, path in _KINDS.items():
            if wanted in ("", kind):
                try:
                    return client.get(path.format(segment(word)), size=options.flag("size") and kind == "container")
                except ApiError as error:
                    if error.status != 404:
                        raise
        raise ApiError(f"No such {wanted or 'object'}: {word}", 404)

    return show_all(options, words, find)


INSPECT = Command(
    "inspect",
    "[OPTIONS] NAME|ID [NAME|ID...]",
    "Show containers, images, networks, volumes or namespaces in full",
    _inspect,
    (
        Flag("-f --format", "'json' or a template such as '{{.Id}}'", "text"),
        Flag("--type", f"Only this kind: {', '.join(_KINDS)}", "text"),
        Flag("-s --size", "Show the sizes of containers"),
    ),
    (1, None),
)
