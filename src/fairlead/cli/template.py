"""The part of Go's templates that people use with ``--format``: fields, range, if, index, json, join, len.

``{{.NetworkSettings.IPAddress}}``, ``{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}``, ``{{json .Mounts}}``.
What is not understood is refused, never guessed at.  Source: pkg.go.dev/text/template.
"""

from __future__ import annotations

import json
import re

from fairlead.cli.flags import Usage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

_WORDS = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`|:=|[()|,]|[^\s()|,"`]+')
_ACTION = re.compile(r"\{\{(-?)\s*(.*?)\s*(-?)\}\}", re.DOTALL)


def render(template: str, item: Any) -> str:
    """The template filled with one item; raises `Usage` for what is not understood."""
    template = template.replace("\\t", "\t").replace("\\n", "\n")
    pieces = list(_split(template))
    text, at = _block(pieces, 0, item, {"$": item}, template)
    if at != len(pieces):
        raise _bad(template, "an {{end}} or {{else}} without its beginning")
    return text


def _bad(template: str, why: str) -> Usage:
    return Usage(f"invalid template {template!r}: {why}")


def _split(template: str) -> Iterator[tuple[str, str]]:
    """Pairs of kind and text: ``text`` or ``action``."""
    at = 0
    trim = False
    for match in _ACTION.finditer(template):
        text = template[at : match.start()]
        text = text.lstrip() if trim else text
        yield "text", text.rstrip() if match[1] else text
        yield "action", match[2]
        at, trim = match.end(), bool(match[3])
    yield "text", template[at:].lstrip() if trim else template[at:]


def _block(pieces: list[tuple[str, str]], at: int, dot: Any, names: dict[str, Any], template: str) -> tuple[str, int]:
    """Render until an end or else; returns the text and where it stopped."""
    out = []
    while at < len(pieces):
        kind, text = pieces[at]
        if kind == "text":
            out.append(text)
            at += 1
            continue
        word, _, rest = text.partition(" ")
        if word in ("end", "else"):
            return "".join(out), at
        if word in ("range", "if", "with"):
            said, at = _control(word, rest.strip(), pieces, at + 1, dot, names, template)
            out.append(said)
        else:
            if not text.startswith("/*"):
                out.append(_text(_value(text, dot, names, template)))
            at += 1
    return "".join(out), at


def _control(
    word: str, rest: str, pieces: list[tuple[str, str]], at: int, dot: Any, names: dict[str, Any], template: str
) -> tuple[str, int]:
    given, expression = _variables(rest)
    value = _value(expression, dot, names, template)
    other = _extent(pieces, at, template)
    end = _extent(pieces, other + 1, template) if pieces[other][1] == "else" else other
    out = []
    if word == "range":
        entries = list(value.items() if isinstance(value, dict) else enumerate(value or []))
        if isinstance(value, dict):
            entries.sort()
        for key, entry in entries:
            inner = dict(names)
            inner.update(zip(given, [key, entry] if len(given) == 2 else [entry], strict=False))
            out.append(_block(pieces, at, entry, inner, template)[0])
        taken = bool(entries)
    else:
        taken = bool(value)
        if taken:
            inner = {**names, **dict.fromkeys(given, value)}
            out.append(_block(pieces, at, value if word == "with" else dot, inner, template)[0])
    if not taken and other != end:
        out.append(_block(pieces, other + 1, dot, names, template)[0])
    return "".join(out), end + 1


def _extent(pieces: list[tuple[str, str]], at: int, template: str) -> int:
    """Where the block that begins at `at` ends: its end or its else."""
    depth = 0
    for number in range(at, len(pieces)):
        kind, text = pieces[number]
        if kind != "action":
            continue
        word = text.partition(" ")[0]
        if word in ("range", "if", "with"):
            depth += 1
        elif word in ("end", "else"):
            if depth == 0:
                if text not in ("end", "else"):
                    raise _bad(template, f"{{{{{text}}}}} is not understood")
                return number
            if word == "end":
                depth -= 1
    raise _bad(template, "an {{end}} is missing")


def _variables(rest: str) -> tuple[list[str], str]:
    head, assigned, expression = rest.partition(":=")
    if assigned and head.lstrip().startswith("$"):
        return [name.strip() for name in head.split(",")], expression.strip()
    return [], rest


def _value(expression: str, dot: Any, names: dict[str, Any], template: str) -> Any:
    """A pipeline: each stage's value is the next one's last argument."""
    words = _WORDS.findall(expression)
    if not words:
        raise _bad(template, "{{}} is empty")
    value, words = _stage(words, dot, names, template, [])
    while words:
        if words[0] != "|":
            raise _bad(template, f"{words[0]!r} is not understood")
        value, words = _stage(words[1:], dot, names, template, [value])
    return value


def _stage(words: list[str], dot: Any, names: dict[str, Any], template: str, piped: list[Any]) -> tuple[Any, list[str]]:
    if not words:
        raise _bad(template, "something is missing after |")
    function, rest = words[0], words[1:]
    if function not in _FUNCTIONS:
        return _operand(words, dot, names, template)
    arguments = []
    while rest and rest[0] not in ("|", ")"):
        value, rest = _operand(rest, dot, names, template)
        arguments.append(value)
    try:
        return _FUNCTIONS[function](*arguments, *piped), rest
    except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise _bad(template, f"{function} cannot take that ({error})") from None


def _operand(words: list[str], dot: Any, names: dict[str, Any], template: str) -> tuple[Any, list[str]]:
    word, rest = words[0], words[1:]
    if word == "(":
        value, rest = _stage(rest, dot, names, template, [])
        if not rest or rest[0] != ")":
            raise _bad(template, "a ) is missing")
        return value, rest[1:]
    if word[0] == '"':
        return json.loads(word), rest
    if word[0] == "`":
        return word[1:-1], rest
    if word.lstrip("-").isdecimal():
        return int(word), rest
    if word in ("true", "false"):
        return word == "true", rest
    if word.startswith("."):
        return _fields(dot, word[1:], template), rest
    if word.startswith("$"):
        name, _, path = word.partition(".")
        if name in names:
            return _fields(names[name], path, template), rest
    raise _bad(template, f"{word!r} is not understood")


def _fields(value: Any, path: str, template: str) -> Any:
    for name in path.split(".") if path else []:
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif value is None or isinstance(value, dict):
            known = ", ".join(sorted(value)[:40]) if value else "nothing"
            raise _bad(template, f"there is no field {name!r} (only {known})")
        else:
            raise _bad(template, f"{name!r} is asked of something that has no fields")
    return value


def _text(value: Any) -> str:
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{_text(entry)}" for key, entry in sorted(value.items())) + "]"
    if isinstance(value, list):
        return "[" + " ".join(_text(entry) for entry in value) + "]"
    return str(value)


def _index(value: Any, *keys: Any) -> Any:
    """A missing key of a map gives nothing, as Go's zero value prints; a missing place of a list is an error."""
    for key in keys:
        value = (value or {}).get(key, "") if not isinstance(value, list) else value[key]
    return value


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "len": len,
    "index": _index,
    "join": lambda values, between: between.join(str(value) for value in values),
    "split": lambda text, between: text.split(between),
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "println": lambda *values: " ".join(_text(value) for value in values) + "\n",
    "print": lambda *values: "".join(_text(value) for value in values),
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "lt": lambda value, other: value < other,
    "gt": lambda value, other: value > other,
    "slice": lambda value, start, end=None: value[start:end],
}
