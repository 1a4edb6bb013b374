"""Where the log of a container goes, in a create request."""

from __future__ import annotations

from typing import Any

from fairlead.containers import log_details
from fairlead.containers.record import Log
from fairlead.errors import Invalid

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_GENERAL = ("max-size", "max-file", "compress", "mode", "max-buffer-size")
_ALLOWED: dict[str, tuple[str, ...]] = {
    "none": (),
    "local": _GENERAL,
    "json-file": (*_GENERAL, "labels", "labels-regex", "env", "env-regex", "tag"),
}
"""Options by driver."""

_LOCAL = {"max-size": "20m", "max-file": "5"}
"""What Docker's driver ``local`` does where nothing else is said."""


def log_config(host: dict[str, Any]) -> tuple[Log, list[str]]:
    """The log's driver and options, and the warnings; raises `Invalid` for what is not served."""
    config = host.get("LogConfig") or {}
    if not isinstance(config, dict):
        raise Invalid("LogConfig must be an object")
    driver, options = config.get("Type") or "json-file", config.get("Config") or {}
    if driver not in _ALLOWED:
        raise Invalid(f'error looking up logging plugin {driver}: plugin "{driver}" not found')  # clients compare it
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise Invalid("LogConfig.Config must be an object of strings")
    if driver == "none":
        return Log(driver=driver, options=options), []  # What would be done with a log does not matter without one.
    for name in options:
        if name not in _ALLOWED[driver]:
            words = ", ".join(_ALLOWED[driver])
            raise Invalid(f"unknown log opt '{name}' for {driver} log driver: allowed are {words}")
    _check_mode(options)
    log_details.check(options)
    said = {**(_LOCAL if driver == "local" else {}), **options}
    max_size, max_file = _size("max-size", said.get("max-size", "-1")), _count(said.get("max-file", "1"))
    warnings = []
    if "max-file" in options and max_file > 1 and not max_size:
        warnings.append("the log option max-file has no effect without max-size: no second file is begun")
    if options.get("compress", "false") == "true":
        warnings.append("the log option compress has no effect: rotated files stay as they are")
    return Log(driver=driver, options=options, max_size=max_size, max_file=max_file), warnings


def _check_mode(options: dict[str, str]) -> None:
    """A file keeps nobody waiting, so both modes are the same; what is wrong is refused all the same."""
    mode = options.get("mode", "blocking")
    if mode not in ("blocking", "non-blocking"):
        raise Invalid(f"logger: logging mode not supported: {mode}")
    if "max-buffer-size" in options:
        if mode != "non-blocking":
            raise Invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
        _size("max-buffer-size", options["max-buffer-size"])


def _size(option: str, text: str) -> int:
    """``10m`` in bytes; 0 for ``-1``, no limit."""
    if text == "-1":
        return 0
    digits = text.lower().removesuffix("b") if text[-2:-1].isalpha() else text.lower()
    number, unit = (digits[:-1], digits[-1:]) if digits[-1:].isalpha() else (digits, "")
    try:
        found = int(float(number) * _UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        found = 0
    if found <= 0:
        raise Invalid(f"invalid log option {option} {text!r}: a positive size such as 10m is needed")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise Invalid(f"invalid log option max-file {text!r}: max-file cannot be less than 1 (or more than 1000)")
    return int(text)
