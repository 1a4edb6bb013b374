"""What log options add to each line of ``docker logs --details``: labels, variables, a tag (``a=1,tag=web``)."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import quote_plus

from fairlead.containers.record import Container
from fairlead.errors import Invalid

_FIELDS: dict[str, Callable[[Container], str]] = {
    "ID": lambda c: c.id[:12],
    "FullID": lambda c: c.id,
    "Name": lambda c: c.name,
    "ImageID": lambda c: f"sha256:{c.image_id}"[:12],
    "ImageFullID": lambda c: f"sha256:{c.image_id}",
    "ImageName": lambda c: c.spec.image,
    "Command": lambda c: " ".join(c.spec.arguments),
    "DaemonName": lambda _: "fairlead",
}
"""What a tag may name, in braces, as docs.docker.com/engine/logging/log_tags has it."""

_ACTION = re.compile(r"\{\{\s*(.*?)\s*\}\}")


def check(options: dict[str, str]) -> None:
    """Raise `Invalid` for a pattern or a tag that cannot be."""
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise Invalid(f"invalid log option {name} {options[name]!r}: {error}") from None
    for action in _ACTION.findall(options.get("tag", "")):
        if action.removeprefix(".") not in _FIELDS or not action.startswith("."):
            known = ", ".join(f".{name}" for name in _FIELDS)
            raise Invalid(f"invalid log option tag {options['tag']!r}: in braces only {known} are allowed")


def log_details(container: Container) -> bytes:
    """Names and values sorted, in the encoding of a query, as Docker writes them."""
    spec = container.spec
    options = spec.log.options
    variables = dict(variable.split("=", 1) for variable in spec.env if "=" in variable)
    found: dict[str, str] = {}
    for option, values in (("labels", spec.labels), ("env", variables)):
        names = [name.strip() for name in options.get(option, "").split(",")]
        found |= {name: values[name] for name in names if name in values}
        if pattern := options.get(f"{option}-regex"):
            found |= {name: value for name, value in values.items() if re.search(pattern, name)}
    if tag := options.get("tag"):
        found["tag"] = _ACTION.sub(lambda action: _FIELDS[action[1].removeprefix(".")](container), tag)
    return ",".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in sorted(found.items())).encode()
