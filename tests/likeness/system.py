"""Scenarios: the engine itself, and what is not in scope."""

from __future__ import annotations

from likeness.client import Step
from likeness.steps import container, get, post

SYSTEM: dict[str, list[Step]] = {
    "system": [
        get("/info"),
        get("/version"),
        container("cc"),
        get("/system/df"),
        get("/events?since=1&until=2"),
        post("/auth", {"username": "x", "password": "y", "serveraddress": "127.0.0.1:1"}),
    ],
    "not in scope": [
        post("/build", b""),
        post("/build/prune"),
        post("/commit?container=nope"),
        get("/swarm"),
        post("/swarm/init", {}),
        post("/swarm/join", {}),
        post("/swarm/leave"),
        get("/nodes"),
        get("/nodes/x"),
        get("/services"),
        post("/services/create", {}),
        get("/services/x"),
        get("/tasks"),
        get("/tasks/x"),
        get("/secrets"),
        post("/secrets/create", {}),
        get("/secrets/x"),
        get("/configs"),
        get("/configs/x"),
        get("/plugins"),
        get("/plugins/x/json"),
        post("/plugins/pull?remote=x"),
        post("/session"),
        get("/containers/cc/checkpoints"),
    ],
}
