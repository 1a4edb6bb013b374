"""The parts of a create request that matter while the container runs: the health check, and where its log goes."""

from __future__ import annotations

from typing import Any

from fairlead.containers.record import HealthCheck, Log
from fairlead.errors import Invalid

_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_LEAST = 1_000_000
"""Nanoseconds: Docker takes no shorter times."""

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}

_LOCAL = {"max-size": "20m", "max-file": "5"}
"""What Docker's driver ``local`` does where nothing else is said."""


def health_check(body: dict[str, Any], image: dict[str, Any]) -> HealthCheck | None:
    """The user's check, completed by the image's; raises `Invalid`."""
    wanted, given = (_checked(part.get("Healthcheck")) for part in (body, image))
    if wanted is None and given is None:
        return None
    wanted, given = wanted or {}, given or {}
    words = tuple(wanted.get("Test") or given.get("Test") or ())
    *times, retries = (wanted.get(name) or given.get(name) or 0 for name in (*_TIMES, "Retries"))
    if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
        raise Invalid(f"invalid health check {words[0]!r}: NONE, CMD and CMD-SHELL are allowed")
    if words in (("CMD",), ("CMD-SHELL",)):
        raise Invalid(f"invalid health check: {words[0]} needs a command")
    shell = tuple(image.get("Shell") or ("/bin/sh", "-c"))
    interval, timeout, start_period, start_interval = times
    return HealthCheck(
        test=words,
        interval=interval,
        timeout=timeout,
        start_period=start_period,
        start_interval=start_interval,
        retries=retries,
        shell=shell,
    )


def _checked(value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise Invalid("Healthcheck must be an object")
    test = value.get("Test")
    if test is not None and not (isinstance(test, list) and all(isinstance(word, str) for word in test)):
        raise Invalid("Healthcheck.Test must be a list of strings")
    for name in (*_TIMES, "Retries"):
        number = value.get(name) or 0
        if not isinstance(number, int) or isinstance(number, bool):
            raise Invalid(f"Healthcheck.{name} must be a number")
        if name != "Retries" and number and number < _LEAST:
            raise Invalid(f"{name} in Healthcheck cannot be less than 1ms")
        if number < 0 or number >= 1 << 63:
            raise Invalid(f"{name} in Healthcheck cannot be negative")
    return value


def log_config(host: dict[str, Any]) -> tuple[Log, list[str]]:
    """The log's driver and options, and the warnings; raises `Invalid` for what is not served."""
    config = host.get("LogConfig") or {}
    if not isinstance(config, dict):
        raise Invalid("LogConfig must be an object")
    driver, options = config.get("Type") or "json-file", config.get("Config") or {}
    if driver not in ("json-file", "local", "none"):
        raise Invalid(f'error looking up logging plugin {driver}: plugin "{driver}" not found')  # clients compare it
    if not isinstance(options, dict) or not all(isinstance(value, str) for value in options.values()):
        raise Invalid("LogConfig.Config must be an object of strings")
    allowed = {"none": (), "local": ("max-size", "max-file", "compress")}.get(
        driver, ("max-size", "max-file", "compress", "labels", "env")
    )
    for name in options:
        if name not in allowed:
            words = ", ".join(allowed) or "none"
            raise Invalid(f"unknown log opt '{name}' for {driver} log driver: allowed are {words}")
    said = {**(_LOCAL if driver == "local" else {}), **options}
    max_size, max_file = _size(said.get("max-size", "-1")), _count(said.get("max-file", "1"))
    warnings = []
    if "max-file" in options and max_file > 1 and not max_size:
        warnings.append("the log option max-file has no effect without max-size: no second file is begun")
    if options.get("compress", "false") == "true":
        warnings.append("the log option compress has no effect: rotated files stay as they are")
    return Log(driver=driver, options=options, max_size=max_size, max_file=max_file), warnings


def _size(text: str) -> int:
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
        raise Invalid(f"invalid log option max-size {text!r}: a positive size such as 10m is needed")
    return found


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise Invalid(f"invalid log option max-file {text!r}: max-file cannot be less than 1 (or more than 1000)")
    return int(text)
