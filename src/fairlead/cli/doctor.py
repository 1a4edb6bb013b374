"""``fairlead doctor``: what is wrong with the host and with what is ours, and what mends it."""

from __future__ import annotations

import os
import sys

from fairlead import __version__
from fairlead.cli.client import Client, Unreachable, own_socket
from fairlead.cli.flags import Command, Failure, Flag, Options
from fairlead.cli.output import print_json, print_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COLOURS = {"ok": "32", "warning": "33", "failed": "1;31", "mended": "36"}
_WORD, _NAME = 8, 12
"""Columns for the result and the check's name."""


def _doctor(options: Options, _: list[str]) -> int:
    form = options.text("format")
    if form not in ("", "text", "json"):
        raise Failure(f"invalid format {form!r}: only text and json are allowed", 2)
    fix, explain = options.flag("fix"), options.flag("explain")
    if explain:
        if not fix:
            raise Failure("--explain is about --fix: what it would do", 2)
        print_lines({"Lines": _lines()})
        return 0
    findings = _examine()
    if fix:
        findings = _mended(findings, _with_version(Client().post("/fairlead/doctor")))
    if form == "json":
        print_json(findings)
    else:
        for finding in findings:
            _show(finding)
        _summary(findings)
    return int(any(finding["Result"] == "failed" and not finding["Mended"] for finding in findings))


def _examine() -> list[dict[str, Any]]:
    try:
        return _with_version(Client(start=False).get("/fairlead/doctor"))
    except Unreachable as error:
        from fairlead.cli import doctor_alone

        return doctor_alone.examine(_may_be_alone(error))


def _lines() -> list[str]:
    try:
        lines: list[str] = Client(start=False).post("/fairlead/doctor", explain=True)["Lines"]
    except Unreachable as error:
        from fairlead.cli import doctor_alone

        _may_be_alone(error)
        lines = doctor_alone.lines()
    return lines


def _may_be_alone(error: Unreachable) -> str:
    """Without a daemon we look ourselves: as root, and only where the daemon would be ours.  Returns why it is so."""
    if Client(start=False).path != own_socket() or os.geteuid() != 0:
        raise error
    return str(error)


def _with_version(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    running = Client(start=False).get("/version")["Version"]
    for finding in findings:
        if finding["Check"] == "daemon" and running != __version__:
            finding["Result"] = "warning"
            finding["Sentence"] = f"it runs in version {running}, this program has {__version__}"
            finding["Remedy"] = ["systemctl restart fairlead"]
    return findings


def _mended(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings after a repair, and of those before it the ones that it did away with."""
    left = {(finding["Check"], finding["Sentence"]) for finding in after}
    mended = [
        {**finding, "Mended": True, "Remedy": []}
        for finding in before
        if finding["Ours"] and finding["Result"] != "ok" and (finding["Check"], finding["Sentence"]) not in left
    ]
    return [*mended, *after]


def _show(finding: dict[str, Any]) -> None:
    word = "mended" if finding["Mended"] else finding["Result"]
    lead = f"{_paint(word, _COLOURS[word])}{' ' * (_WORD - len(word))} {finding['Check']:{_NAME}} "
    indent = " " * (_WORD + _NAME + 2)
    width = (os.get_terminal_size().columns if sys.stdout.isatty() else 100) - len(indent)
    print(lead + f"\n{indent}".join(_filled(finding["Sentence"], max(width, 40))))
    for line in finding["Remedy"]:
        # Not filled: it is to be copied.
        print(f"{indent}{_paint('→', '2')} {line}")


def _filled(text: str, width: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


def _summary(findings: list[dict[str, Any]]) -> None:
    words = ["mended" if finding["Mended"] else finding["Result"] for finding in findings]
    parts = [f"{words.count(word)} {word}" for word in _COLOURS if word in words]
    if any(finding["Ours"] and finding["Result"] != "ok" and not finding["Mended"] for finding in findings):
        parts[-1] += "; `fairlead doctor --fix` mends what is Fairlead's, with --explain it only says how"
    print(", ".join(parts))


def _paint(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else text


DOCTOR = Command(
    "doctor",
    "[OPTIONS]",
    "Look for what is wrong with the host and with what is Fairlead's, and say what mends it",
    _doctor,
    (
        Flag("--fix", "Mend what is Fairlead's; the host and other programs are left alone"),
        Flag("--explain", "With --fix: print the lines that would be run, and do nothing"),
        Flag("--format", "text (default) or json", "text"),
    ),
)
