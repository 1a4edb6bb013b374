"""The health check of a create request."""

from __future__ import annotations

from typing import Any

from fairlead.containers.record import HealthCheck
from fairlead.errors import Invalid

_TIMES = ("Interval", "Timeout", "StartPeriod", "StartInterval")
_LEAST = 1_000_000
"""Nanoseconds: Docker takes no shorter times."""


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
