"""Every endpoint of Docker's Engine API v1.51, and how far Fairlead goes: the table of docs/docker-compatibility.md."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fairlead.api.absent import FEATURES, LOOKUPS
from likeness.client import Call, Cli, Step

State = Literal["full", "partial", "refused"]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint; `note` says what is missing, or what is refused."""

    method: str
    path: str
    state: State = "full"
    note: str = ""


def _full(lines: str) -> list[Endpoint]:
    return [Endpoint(*line.split()) for line in lines.strip().splitlines()]


def _partial(line: str, missing: str) -> Endpoint:
    method, path = line.split()
    return Endpoint(method, path, "partial", missing)


def _refused() -> list[Endpoint]:
    found = [(line, f"501: {feature} is not supported") for feature, ls in FEATURES.items() for line in ls.split(",")]
    found += [(line, f"404: there is no {kind}") for kind, line in LOOKUPS.items()]
    return [Endpoint(line.split()[0], re.sub(r":\.\+", "", line.split()[1]), "refused", note) for line, note in found]


ENDPOINTS: list[Endpoint] = [
    *_full(
        """
        GET /_ping
        HEAD /_ping
        GET /events
        POST /auth
        GET /system/df
        GET /containers/json
        GET /networks
        GET /networks/{id}
        POST /networks/{id}/connect
        POST /networks/{id}/disconnect
        POST /networks/prune
        DELETE /networks/{id}
        GET /containers/{id}/json
        GET /containers/{id}/logs
        GET /containers/{id}/top
        GET /containers/{id}/stats
        GET /containers/{id}/attach/ws
        POST /containers/{id}/attach
        POST /containers/{id}/start
        POST /containers/{id}/stop
        POST /containers/{id}/restart
        POST /containers/{id}/kill
        POST /containers/{id}/pause
        POST /containers/{id}/unpause
        POST /containers/{id}/rename
        POST /containers/{id}/update
        POST /containers/{id}/resize
        POST /containers/{id}/wait
        POST /containers/prune
        DELETE /containers/{id}
        POST /containers/{id}/exec
        POST /exec/{id}/start
        POST /exec/{id}/resize
        GET /exec/{id}/json
        GET /images/json
        GET /distribution/{name}/json
        GET /images/search
        GET /images/{name}/json
        GET /images/{name}/history
        POST /images/{name}/tag
        DELETE /images/{name}
        POST /images/prune
        POST /images/load
        GET /images/get
        GET /images/{name}/get
        POST /images/{name}/push
        POST /commit
        GET /volumes
        POST /volumes/create
        POST /volumes/prune
        GET /volumes/{name}
        DELETE /volumes/{name}
        HEAD /containers/{id}/archive
        GET /containers/{id}/archive
        PUT /containers/{id}/archive
        GET /containers/{id}/export
        GET /containers/{id}/changes
        """
    ),
    _partial("GET /version", "containerd, runc and docker-init are no components: there are none"),
    _partial("GET /info", "fields of what Fairlead has not (swarm, plugins, containerd) are empty"),
    _partial("POST /networks/create", "scope is local, IPAM driver is default; see the differences for options"),
    _partial(
        "POST /containers/create",
        "`DeviceRequests`, `StorageOpt`, `Isolation` (but for `default`)",
    ),
    _partial("POST /images/create", "`fromSrc` is the body (`-`), no address"),
    _partial(
        "DELETE /containers/{id}/{alias}", "a link; a running container keeps what it has of it until it starts again"
    ),
    _partial("POST /build/prune", "there is never anything to prune"),
    _partial("POST /swarm/leave", "always 503: this is no part of a swarm, as a Docker without one answers"),
    *_refused(),
]


def patterns(endpoint: Endpoint) -> re.Pattern[str]:
    """Matches a request line of the endpoint."""
    path = re.sub(r"\\{\w+\\}", "[^?]+" if "name" in endpoint.path else "[^/?]+", re.escape(endpoint.path))
    return re.compile(rf"{endpoint.method} {path}(\?.*)?")


def called(steps: Iterable[Step]) -> set[Endpoint]:
    """The endpoints that these steps ask themselves (not by way of the docker command)."""
    lines = [f"{step.method} {step.path}" for step in steps if isinstance(step, Call)]
    # The most literal path first: /networks/prune is no network.
    ordered = sorted(ENDPOINTS, key=lambda endpoint: endpoint.path.count("{"))
    found = set()
    for line in lines:
        if match := next((endpoint for endpoint in ordered if patterns(endpoint).fullmatch(line)), None):
            found.add(match)
    return found


def commands(steps: Iterable[Step]) -> set[str]:
    """The docker sub-commands that these steps run."""
    return {step.words[0] for step in steps if isinstance(step, Cli)}
