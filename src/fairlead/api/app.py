"""The HTTP API: Docker's Engine API shapes, and ``/fairlead/…`` for what Docker has no word for.

Every route answers with and without a ``/v1.NN`` prefix.  Each module of this package has a ``routes(daemon)`` function
that returns its routes; a handler turns JSON into a spec, calls the engine, and turns the record into JSON.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from fairlead import __version__
from fairlead.engine import Engine
from fairlead.errors import FairleadError, Invalid
from fairlead.images import Images
from fairlead.paths import Paths

if TYPE_CHECKING:
    from fairlead.containers import Containers

API_VERSION = "1.51"
"""The Docker Engine API version whose shapes are served (docs.docker.com/reference/api/engine/version/v1.51)."""

log = logging.getLogger("fairlead.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Daemon:
    """What the handlers work on."""

    paths: Paths
    engine: Engine
    images: Images
    containers: Containers


def answer(value: Any = None, status: int = 200) -> web.Response:
    """A JSON answer; without a value and with status 204 an empty one."""
    if value is None and status in (204, 304):
        return web.Response(status=status)
    return web.Response(body=msgspec.json.encode(value, enc_hook=str), status=status, content_type="application/json")


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A boolean query parameter as Docker reads it: absent, empty, 0, no, false, none are false."""
    value = request.query.get(name)
    return default if value is None else value.lower() not in ("", "0", "no", "false", "none")


async def body(request: web.Request) -> dict[str, Any]:
    """The request's JSON object; raises `Invalid`."""
    raw = await request.read()
    try:
        value = msgspec.json.decode(raw) if raw.strip() else {}
    except msgspec.DecodeError as error:
        raise Invalid(f"the request body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid("the request body must be a JSON object")
    return value


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FairleadError as error:
        return answer({"message": str(error)} if error.status != 304 else None, error.status)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return answer({"message": f"page not found: {request.method} {request.path}"}, error.status)
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return answer({"message": "internal error: the daemon's log has the details"}, 500)


async def _name_server(_: web.Request, response: web.StreamResponse) -> None:
    response.headers["Api-Version"] = API_VERSION
    response.headers["Ostype"] = "linux"
    response.headers["Server"] = f"Fairlead/{__version__} (linux)"


def make_app(routes: Iterable[web.RouteDef]) -> web.Application:
    """The application with these routes, each with and without a version prefix."""
    app = web.Application(middlewares=[_errors], client_max_size=64 << 20)
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler, **route.kwargs)
        app.router.add_route(route.method, r"/v{version:\d+\.\d+}" + route.path, route.handler, **route.kwargs)
    app.on_response_prepare.append(_name_server)
    return app
