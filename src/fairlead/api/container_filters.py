"""Which containers ``docker ps`` shows: the filters of ``GET /containers/json`` (moby, daemon/list.go)."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fairlead.containers.inspect import status_word
from fairlead.containers.record import Container
from fairlead.errors import FairleadError, Invalid
from fairlead.model import Endpoint, Network

if TYPE_CHECKING:
    from fairlead.api.app import Daemon

_CHOICES = {
    "status": ("created", "running", "paused", "restarting", "removing", "exited", "dead"),
    "health": ("none", "starting", "healthy", "unhealthy"),
    "is-task": ("true", "false", "1", "0"),
    "isolation": ("default", "process", "hyperv"),
}
"""Filters with a fixed set of words."""

_NAMES = {
    *_CHOICES,
    *(
        "ancestor",
        "before",
        "exited",
        "expose",
        "id",
        "label",
        "label!",
        "name",
        "network",
        "publish",
        "since",
        "volume",
    ),
}

_MOST_REPEATS = 3
"""Of ``*``, ``+`` and ``{…}`` in an expression: with more, Python's matcher could take for ever."""


class ContainerFilter:
    """One set of filters, checked; raises `Invalid` for what Docker refuses, `NotFound` for unknown containers."""

    def __init__(self, daemon: Daemon, filters: Mapping[str, list[str]], networks: Mapping[str, Network]) -> None:
        self._daemon = daemon
        self._networks = networks
        for name, words in filters.items():
            if name not in _NAMES:
                raise Invalid(f"invalid filter '{name}'")
            for word in words:
                if word not in _CHOICES.get(name, (word,)) or (name == "exited" and not word.lstrip("-").isdecimal()):
                    raise Invalid(f"invalid filter '{name}={word}'")
        self._filters = {name: words for name, words in filters.items() if words}
        self._expressions = {word: expression("name", word) for word in filters.get("name", [])}
        self._ports = {word: _ports(word) for key in ("publish", "expose") for word in filters.get(key, [])}
        created = {
            word: daemon.containers.get(word).created for key in ("before", "since") for word in filters.get(key, [])
        }
        self._created = created
        self._images: dict[str, str] = {}
        for word in filters.get("ancestor", []):
            with contextlib.suppress(FairleadError):
                self._images[word] = daemon.images.get(word).id

    @property
    def wants_all(self) -> bool:
        """Whether containers that do not run are asked for, although ``all`` is not."""
        return "status" in self._filters

    def passes(self, container: Container, endpoints: list[Endpoint], mounts: list[dict[str, Any]]) -> bool:
        """Whether it is to be shown.  Each filter by any of its words, labels by all of them."""
        labels = container.spec.labels
        tests: dict[str, Callable[[str], bool]] = {
            "name": lambda word: bool(
                self._expressions[word].search(container.name) or self._expressions[word].search(f"/{container.name}")
            ),
            "id": container.id.startswith,
            "status": lambda word: status_word(container) == word,
            "exited": lambda word: status_word(container) == "exited" and container.exit_code == int(word),
            "health": lambda word: self._health(container) == word,
            "is-task": lambda word: word in ("false", "0"),
            "isolation": lambda word: word == "default",
            "ancestor": lambda word: self._images.get(word) == container.image_id,
            "before": lambda word: container.created < self._created[word],
            "since": lambda word: container.created > self._created[word],
            "network": lambda word: self._in_network(container, endpoints, word),
            "publish": lambda word: any(
                port.protocol == protocol and first <= port.host_port <= last
                for first, last, protocol in (self._ports[word],)
                for endpoint in endpoints
                for port in endpoint.ports
            ),
            "expose": lambda word: any(
                protocol == exposed.partition("/")[2] and first <= int(exposed.partition("/")[0]) <= last
                for first, last, protocol in (self._ports[word],)
                for exposed in container.spec.exposed
            ),
            "volume": lambda word: any(
                word in (mount.get("Name") or mount.get("Source"), mount.get("Destination")) for mount in mounts
            ),
        }
        return (
            all(has_label(labels, word) for word in self._filters.get("label", []))
            and not any(has_label(labels, word) for word in self._filters.get("label!", []))
            and all(any(map(tests[name], words)) for name, words in self._filters.items() if name in tests)
        )

    def _health(self, container: Container) -> str:
        health = self._daemon.containers.health.of(container)
        return health.status if health else "none"

    def _in_network(self, container: Container, endpoints: list[Endpoint], word: str) -> bool:
        spec = container.spec
        wanted = {endpoint.network for endpoint in spec.endpoints} | {endpoint.network for endpoint in endpoints}
        if not spec.endpoints:
            wanted.add(spec.network_mode)
        return any(
            network.name == word or network.id.startswith(word)
            for network in self._networks.values()
            if network.id in wanted or network.name in wanted
        )


def expression(name: str, text: str) -> re.Pattern[str]:
    """A filter's regular expression; raises `Invalid` for a wrong one, and for one that could take for ever."""
    repeats = len(re.findall(r"(?<!\\)[*+{]", text))
    if repeats > _MOST_REPEATS or re.search(r"(?<!\\)\)[*+{]", text) or len(text) > 1000:
        raise Invalid(f"invalid filter '{name}={text[:100]}': the expression is too complex")
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Invalid(f"invalid filter '{name}={text}': {error}") from None


def has_label(labels: Mapping[str, str], wanted: str) -> bool:
    """``KEY`` or ``KEY=VALUE``."""
    name, equals, value = wanted.partition("=")
    return name in labels and (not equals or labels[name] == value)


def _ports(text: str) -> tuple[int, int, str]:
    """``80``, ``80/tcp``, ``80-90/udp``: first, last and protocol."""
    numbers, _, protocol = text.partition("/")
    first, dash, last = numbers.partition("-")
    last = last if dash else first
    if not (first.isdecimal() and last.isdecimal()) or (protocol or "tcp") not in ("tcp", "udp", "sctp"):
        raise Invalid(f"invalid filter: {text!r} is no port: 80, 80/tcp or 80-90/udp is needed")
    if int(first) > int(last):
        raise Invalid(f"invalid filter: {text!r} ends before it begins")
    return int(first), int(last), protocol or "tcp"
