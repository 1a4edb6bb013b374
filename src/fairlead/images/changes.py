"""The Dockerfile words that ``docker import --change`` and ``commit --change`` take, applied to a configuration.

Source: docs.docker.com/reference/dockerfile and moby's `builder/dockerfile/dispatchers.go`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from fairlead.errors import Invalid

Config = dict[str, Any]

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)


def apply_changes(config: Config, changes: Iterable[str]) -> Config:
    """A copy of `config` (the ``config`` member of an OCI image configuration) with the changes; raises `Invalid`."""
    result = {key: value.copy() if isinstance(value, dict | list) else value for key, value in config.items()}
    given = set()
    for change in changes:
        for line in _lines(change):
            word, _, rest = line.partition(" ")
            handler = _WORDS.get(word.upper())
            if handler is None:
                raise Invalid(f"{word.lower()} is not a valid change command: {', '.join(_WORDS)} are allowed")
            if not rest.strip():
                raise Invalid(f"the change {word.upper()} needs a value")
            handler(result, rest.strip())
            given.add(word.upper())
    if "ENTRYPOINT" in given and "CMD" not in given:
        result.pop("Cmd", None)  # It was meant for the entry point that was there before.
    return result


def _lines(change: str) -> list[str]:
    joined = re.sub(r"\\[ \t]*\n", " ", change)
    lines = (re.sub(r"\s", " ", line.strip(), count=1) for line in joined.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _json_list(text: str) -> list[str] | None:
    """The JSON array of strings in `text`, or None where it is none: then Docker takes it as plain words."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _command(text: str) -> list[str]:
    words = _json_list(text)
    return ["/bin/sh", "-c", text] if words is None else words


_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:(:?[-+])([^{}]*))?\})", re.ASCII)
"""``$NAME``, ``${NAME}``, ``${NAME:-if it has no value}``, ``${NAME:+if it has one}``."""


def _words(config: Config, text: str, what: str, *, split: bool = True) -> list[str]:
    """The words of `text` without quotes, and with the values of the image's variables, but between single quotes.

    Without `split`, spaces do not end a word.
    """
    words, word, quote, at = list[str](), "", "", 0
    begun = not split
    while at < len(text):
        char, at = text[at], at + 1
        if char == quote or (not quote and char in "'\""):
            quote = "" if quote else char
        elif quote == "'":
            word += char
        elif char == "\\" and at < len(text):
            # Between double quotes a backslash is one, but before what would be special there.
            word += text[at] if not quote or text[at] in '"$\\' else char + text[at]
            at += 1
        elif char == "$" and (match := _VARIABLE.match(text, at - 1)):
            word += _value(config, match, what)
            at = match.end()
        elif split and not quote and char.isspace():
            words += [word] if begun else []
            word, begun = "", False
            continue
        else:
            word += char
        begun = True
    if quote:
        raise Invalid(f"the change {what} {text!r} cannot be read: no closing quotation")
    return [*words, word] if begun else words


def _value(config: Config, match: re.Match[str], what: str) -> str:
    plain, name, condition, other = match.groups()
    variables = dict(item.partition("=")[::2] for item in config.get("Env") or ())
    value = variables.get(plain or name)
    if condition:
        there = value is not None and (bool(value) or ":" not in condition)
        if there == condition.endswith("+"):
            return _words(config, other, what, split=False)[0]
    return value or ""


def _pairs(config: Config, text: str, what: str) -> dict[str, str]:
    """``A=1 B="two words"``, or the old form ``A the rest``."""
    if "=" not in text.split(maxsplit=1)[0]:
        name, _, value = text.partition(" ")
        if not value.strip():
            raise Invalid(f"the change {what} {text!r} must be NAME=VALUE")
        return {name: _words(config, value.strip(), what, split=False)[0]}
    pairs = {}
    for word in _words(config, text, what):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise Invalid(f"the change {what} has {word!r}, which must be NAME=VALUE")
        pairs[name] = value
    return pairs


def _cmd(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _env(config: Config, text: str) -> None:
    pairs = _pairs(config, text, "ENV")
    kept = [item for item in config.get("Env", []) if item.partition("=")[0] not in pairs]
    config["Env"] = [*kept, *(f"{name}={value}" for name, value in pairs.items())]


def _expose(config: Config, text: str) -> None:
    ports = config.setdefault("ExposedPorts", {})
    for word in _words(config, text, "EXPOSE"):
        match = _PORT.fullmatch(word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if match is None or not 1 <= first <= last <= 65535:
            raise Invalid(f"the change EXPOSE has {word!r}: PORT[-PORT][/tcp|udp|sctp] from 1 to 65535 is allowed")
        for port in range(first, last + 1):
            ports[f"{port}/{(match[3] or 'tcp').lower()}"] = {}


def _label(config: Config, text: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(config, text, "LABEL"))


def _onbuild(config: Config, text: str) -> None:
    """Kept for whoever builds upon the image."""
    word = text.split()[0].upper()
    if word == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if word in ("FROM", "MAINTAINER"):
        raise Invalid(f"{word} isn't allowed as an ONBUILD trigger")
    config.setdefault("OnBuild", []).append(text)


def _user(config: Config, text: str) -> None:
    if len(text.split()) != 1:
        raise Invalid(f"the change USER {text!r} must be one word: USER[:GROUP]")
    config["User"] = _words(config, text, "USER")[0]


def _volume(config: Config, text: str) -> None:
    words = _json_list(text)
    for word in text.split() if words is None else words:
        path = _words(config, word, "VOLUME", split=False)[0].strip()
        if not path:
            raise Invalid("the change VOLUME must not have an empty path")
        config.setdefault("Volumes", {})[path] = {}


def _workdir(config: Config, text: str) -> None:
    path = _words(config, text, "WORKDIR", split=False)[0]
    base = "/" if path.startswith("/") else config.get("WorkingDir") or "/"
    parts: list[str] = []
    for part in f"{base}/{path}".split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    config["WorkingDir"] = "/" + "/".join(parts)


def _stopsignal(config: Config, text: str) -> None:
    text = _words(config, text, "STOPSIGNAL", split=False)[0]
    if not re.fullmatch(r"(SIG)?[A-Za-z][A-Za-z0-9+-]*|\d+", text):
        raise Invalid(f"the change STOPSIGNAL {text!r} must be a signal's name or number")
    config["StopSignal"] = text


_HEALTH_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start-period": "StartPeriod",
    "start-interval": "StartInterval",
}


def _healthcheck(config: Config, text: str) -> None:
    """``NONE``, or options and ``CMD`` with a command (Dockerfile reference, HEALTHCHECK)."""
    check: dict[str, Any] = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", text):
        name, value = match.groups()
        if name in _HEALTH_TIMES:
            check[_HEALTH_TIMES[name]] = _nanoseconds(value)
        elif name == "retries" and value.isdecimal():
            check["Retries"] = int(value)
        else:
            raise Invalid(f"the change HEALTHCHECK has the wrong option --{name}={value}")
        text = text[match.end() :]
    kind, _, command = text.partition(" ")
    if kind.upper() == "NONE" and not command:
        check["Test"] = ["NONE"]
    elif kind.upper() == "CMD" and command.strip():
        words = _json_list(command.strip())
        check["Test"] = ["CMD-SHELL", command.strip()] if words is None else ["CMD", *words]
    else:
        raise Invalid(f"the change HEALTHCHECK {text!r} must be NONE, or CMD with a command")
    config["Healthcheck"] = check


def _nanoseconds(text: str) -> int:
    """A duration as Go writes it, such as ``1m30s``."""
    units = {"h": 3600e9, "m": 60e9, "s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1}
    parts = re.findall(r"([\d.]+)(h|ms|us|ns|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise Invalid(f"the change HEALTHCHECK has the wrong time {text!r}: a duration such as 1m30s is needed")
    return int(sum(float(number) * units[unit] for number, unit in parts))


_WORDS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "ONBUILD": _onbuild,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
