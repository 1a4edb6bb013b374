"""Commands that change containers that exist: pause, unpause, rename, update."""

from __future__ import annotations

import sys

from fairlead.cli import parse
from fairlead.cli.client import Client, segment
from fairlead.cli.container import act
from fairlead.cli.flags import EXPLAIN, Command, Flag, Options, Usage
from fairlead.cli.limits import LIMITS, limits
from fairlead.cli.output import each, print_lines

_MANY = "CONTAINER [CONTAINER...]"


def _pause(options: Options, words: list[str]) -> int:
    client, one = Client(), act("POST", "/containers/{}/pause", explain=options.flag("explain"))
    return each(words, lambda word: one(client, word))


def _unpause(options: Options, words: list[str]) -> int:
    client, one = Client(), act("POST", "/containers/{}/unpause", explain=options.flag("explain"))
    return each(words, lambda word: one(client, word))


def _rename(options: Options, words: list[str]) -> None:
    old, new = words
    explain = options.flag("explain")
    answer = Client().post(f"/containers/{segment(old)}/rename", name=new, explain=explain)
    if explain:
        print_lines(answer)


def _update(options: Options, words: list[str]) -> int:
    wanted = limits(options)
    if options.has("restart"):
        wanted["RestartPolicy"] = parse.restart(options.text("restart"))
    if not wanted:
        raise Usage("you must provide one or more flags when using this command")
    client = Client()

    def one(word: str) -> str | None:
        answer = client.post(f"/containers/{segment(word)}/update", wanted, explain=options.flag("explain"))
        if options.flag("explain"):
            print_lines(answer)
            return None
        for warning in answer.get("Warnings") or []:
            print(f"WARNING: {warning}", file=sys.stderr)
        return word

    return each(words, one)


PAUSE = Command("pause", _MANY, "Freeze all processes of containers", _pause, (EXPLAIN,), (1, None))
UNPAUSE = Command("unpause", _MANY, "Let frozen containers go on", _unpause, (EXPLAIN,), (1, None))
RENAME = Command("rename", "CONTAINER NEW_NAME", "Give a container another name", _rename, (EXPLAIN,), (2, 2))
UPDATE = Command(
    "update",
    f"[OPTIONS] {_MANY}",
    "Change the limits and the restart policy of containers",
    _update,
    (*LIMITS, Flag("--restart", "Restart policy: no, always, unless-stopped, on-failure[:MAX]", "text"), EXPLAIN),
    (1, None),
)
