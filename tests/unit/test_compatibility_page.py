"""The page about compatibility says what the daemon serves and what is compared with Docker."""

from __future__ import annotations

import re
from unittest.mock import MagicMock

from likeness.endpoints import ENDPOINTS, called
from likeness.page import PAGE, rendered
from likeness.scenarios import SCENARIOS

from fairlead.daemon import routes


def served() -> set[tuple[str, str]]:
    """Method and path of every route that Docker has a word for."""
    found = set()
    for route in routes(MagicMock()):
        path = re.sub(r"{\w+(:[^}]*)?}", "{}", route.path).rstrip("/")
        if not path.startswith("/fairlead"):
            found.add((route.method, path))
    return found


def test_the_page_is_made_from_the_lists() -> None:
    page = PAGE.read_text()
    assert page == rendered(page), "run PYTHONPATH=tests .venv/bin/python -m likeness.page"


def test_the_table_has_every_route_and_no_other() -> None:
    table = {(endpoint.method, re.sub(r"{\w+}", "{}", endpoint.path)) for endpoint in ENDPOINTS}
    routed = served()
    routed |= {("HEAD", path) for method, path in routed if method == "GET" and path == "/_ping"}
    assert table - routed == set(), "in the table, but not served"
    assert routed - table == set(), "served, but not in the table"


def test_every_endpoint_that_is_served_is_compared_with_docker() -> None:
    asked = called(step for steps in SCENARIOS.values() for step in steps)
    missing = {f"{e.method} {e.path}" for e in ENDPOINTS if e.state != "refused" and e not in asked}
    # Streams are compared by the docker command: attach, load and the like.
    assert missing <= BY_COMMAND


BY_COMMAND = {
    "POST /containers/{id}/attach",
    "GET /containers/{id}/attach/ws",
    "POST /images/load",
    "GET /images/get",
    "GET /images/{name}/get",
    "POST /images/{name}/push",
    "GET /containers/{id}/stats",
}
