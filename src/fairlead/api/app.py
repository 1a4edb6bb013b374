"""The HTTP API: Docker's Engine API shapes, and ``/fairlead/…`` for what Docker has no word for.

Every route answers with and without a ``/v1.NN`` prefix.  Each module of this package has a ``routes(daemon)`` function
that returns its routes; a handler turns JSON into a spec, calls the engine, and turns the record into JSON.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import msgspec
from aiohttp import web

from fairlead import __version__
from fairlead.api import versions
from fairlead.api.members import named
from fairlead.dns.feed import Feed
from fairlead.engine import Change, Engine
from fairlead.errors import FairleadError, Invalid
from fairlead.events import Events
from fairlead.images import Images
from fairlead.images.platforms import Platform, parse_platform
from fairlead.paths import Paths

if TYPE_CHECKING:
    from fairlead.containers import Containers

API_VERSION = "1.51"
"""The Docker Engine API version whose shapes are served (docs.docker.com/reference/api/engine/version/v1.51)."""

MIN_API_VERSION = "1.22"
"""The oldest version prefix that is answered: what Debian's skopeo asks for, whatever the engine says it has."""

MAX_BODY = 64 << 20
"""Bytes of a body that is read as a whole (JSON); archives are streams and have no limit."""

log = logging.getLogger("fairlead.api")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Daemon:
    """What the handlers work on."""

    paths: Paths
    engine: Engine
    images: Images
    containers: Containers
    names: Feed
    events: Events = field(default_factory=Events)
    stop: Callable[[], None] = lambda: None
    """Ends the daemon gracefully, once the request in hand is answered."""
    mending: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the firewall is mended; a reset keeps it, so that nothing comes back behind it."""


class Explained(Exception):
    """Not an error: the request asked for ``?explain=1``, and these lines are the whole answer."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines


_NOTHING = object()


def answer(value: Any = _NOTHING, status: int = 200) -> web.Response:
    """A JSON answer; without a value an empty one."""
    if value is _NOTHING:
        return web.Response(status=status)
    return web.Response(body=to_json(value), status=status, content_type="application/json")


def to_json(value: Any) -> bytes:
    """As JSON; for each byte of a name that is no UTF-8 stands U+FFFD, as in Docker's answers (Go, encoding/json)."""
    try:
        return msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:
        text = json.dumps(msgspec.to_builtins(value, enc_hook=str), ensure_ascii=False)
        return text.encode(errors="surrogateescape").decode(errors="replace").encode()


def flag(request: web.Request, name: str, default: bool = False) -> bool:
    """A boolean query parameter as Docker reads it: absent, empty, 0, no, false, none are false."""
    value = request.query.get(name)
    return default if value is None else value.lower() not in ("", "0", "no", "false", "none")


def parse_bool(request: web.Request, name: str) -> bool:
    """A boolean query parameter of the few that Docker reads strictly (Go's strconv.ParseBool); raises `Invalid`."""
    value = request.query.get(name, "")
    if value.lower() not in ("", "0", "1", "t", "f", "true", "false"):
        raise Invalid(f"invalid value for {name}: {value}: true or false is needed")
    return value.lower() in ("1", "t", "true")


def number(request: web.Request, name: str, default: int = 0) -> int:
    """A query parameter that is a whole number; raises `Invalid`."""
    value = request.query.get(name, "")
    try:
        return int(value) if value else default
    except ValueError:  # also of thousands of digits, which int() refuses
        raise Invalid(f"invalid value for {name}: {value[:40]}: a whole number is needed") from None


def platform(request: web.Request) -> Platform | None:
    """The query parameter ``platform``, for another system than Linux there is nothing here; raises `Invalid`."""
    found = parse_platform(text) if (text := request.query.get("platform", "")) else None
    if found and found.system != "linux":
        raise Invalid(f'image operating system "{found.system}" cannot be used on this platform')
    return found


async def body(request: web.Request, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The request's JSON object, an empty one where there is no body, its members named as in `kind`.

    Raises `Invalid`, which names the field that has the wrong type.
    """
    value = await _object(request, kind)
    _converted(value, kind)
    return value


async def body_as(request: web.Request, kind: type[S]) -> S:
    """The request's JSON object as a typed struct; raises `Invalid` as `body` does."""
    return _converted(await _object(request, kind), kind)


def _converted(value: dict[str, Any], kind: type[S]) -> S:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise Invalid(f"the request body is invalid: {error}") from None


async def _object(request: web.Request, kind: type[msgspec.Struct]) -> dict[str, Any]:
    raw = await request.read()
    if raw and request.content_type != "application/json":
        raise Invalid(f"Content-Type specified ({request.content_type}) must be 'application/json'")
    try:
        value = msgspec.json.decode(raw) if raw.strip() else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the request body is not JSON: {error}") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Invalid("the request body must be a JSON object")
    return cast(dict[str, Any], named(value, kind))


def filters(request: web.Request, allowed: Iterable[str]) -> dict[str, list[str]]:
    """The ``filters`` parameter: ``{"name": ["a"]}`` or, as older clients write it, ``{"name": {"a": true}}``."""
    raw = request.query.get("filters", "")
    if raw in ("", "null"):
        return {}
    try:
        value = msgspec.json.decode(raw, type=dict[str, list[str] | dict[str, bool]])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(f"invalid filters: {error}") from None
    known = sorted(allowed)
    for name in value:
        if name not in known:
            raise Invalid(f"invalid filter '{name}': only {', '.join(known)} are allowed")
    return {
        name: words if isinstance(words, list) else [word for word, wanted in words.items() if wanted]
        for name, words in value.items()
    }


async def perform(
    daemon: Daemon, request: web.Request, make: Callable[P, Change[R]], *args: P.args, **kwargs: P.kwargs
) -> R:
    """Carry out a change in a worker thread; with ``?explain=1`` raise `Explained` instead, changing nothing."""
    if flag(request, "explain"):
        raise Explained(await asyncio.to_thread(lambda: daemon.engine.explain(make, *args, **kwargs)))
    return await asyncio.to_thread(lambda: daemon.engine.perform(make, *args, **kwargs))


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Explained as explained:
        return answer({"Lines": explained.lines})
    except FairleadError as error:
        if error.status == 304:
            return answer(status=304)
        if versions.asked(request) < versions.ERRORS_AS_JSON:
            return web.Response(text=f"{error}\n", status=error.status)
        return answer({"message": str(error)}, error.status)
    except web.HTTPRequestEntityTooLarge:
        return answer({"message": f"the request body is too large: {MAX_BODY >> 20} MiB are allowed"}, 400)
    except web.HTTPException as error:
        if error.status not in (404, 405):
            raise
        return answer({"message": "page not found"}, 404)
    except Exception as error:
        if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
            raise asyncio.CancelledError from None  # the client has gone: there is nobody to tell
        log.exception("%s %s failed", request.method, request.path)
        return answer({"message": "internal error: the daemon's log has the details"}, 500)


@web.middleware
async def _version(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse versions that we do not serve, in Docker's words (clients parse them)."""
    version = request.match_info.get("version")
    if version is not None:
        asked, newest, oldest = (_number(text) for text in (version, API_VERSION, MIN_API_VERSION))
        if asked > newest:
            raise Invalid(f"client version {version} is too new. Maximum supported API version is {API_VERSION}")
        if asked < oldest:
            raise Invalid(
                f"client version {version} is too old. Minimum supported API version is {MIN_API_VERSION}, "
                "please upgrade your client to a newer version"
            )
    return await handler(request)


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


async def _name_server(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["Api-Version"] = API_VERSION
    response.headers["Ostype"] = "linux"
    response.headers["Docker-Experimental"] = "false"
    response.headers["Server"] = f"Fairlead/{__version__} (linux)"


class InFlight:
    """The requests being handled, so that a stop can let changes finish and end streams (logs, attach, wait)."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], web.Request] = {}
        self._streams: set[asyncio.Task[Any]] = set()

    @property
    def middleware(self) -> Any:
        """Notes each request while it is handled."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            task = asyncio.current_task()
            assert task is not None
            self._tasks[task] = request
            try:
                return await handler(request)
            finally:
                self._tasks.pop(task, None)
                self._streams.discard(task)

        return note

    async def prepared(self, _: web.Request, __: web.StreamResponse) -> None:
        """A handler that is still running after its headers went out is a stream."""
        task = asyncio.current_task()
        if task in self._tasks:
            self._streams.add(task)

    async def drain(self, seconds: float) -> None:
        """End the streams, and wait for everything else, at most `seconds`.

        A connection that was taken over (attach, exec) never had headers of aiohttp's, but has another protocol now.
        """
        for task, request in tuple(self._tasks.items()):
            transport = request.transport
            taken_over = transport is not None and transport.get_protocol() is not request.protocol
            if task in self._streams or taken_over:
                task.cancel()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)


IN_FLIGHT = web.AppKey("in_flight", InFlight)


def make_app(routes: Iterable[web.RouteDef]) -> web.Application:
    """The application with these routes, each with and without a version prefix."""
    in_flight = InFlight()
    app = web.Application(middlewares=[in_flight.middleware, _errors, _version], client_max_size=MAX_BODY)
    app[IN_FLIGHT] = in_flight
    for route in routes:
        for prefix in ("", r"/v{version:\d{1,9}(\.\d{1,9}){0,3}}"):
            web.RouteDef(route.method, prefix + route.path, route.handler, route.kwargs).register(app.router)
    app.on_response_prepare.append(_name_server)
    app.on_response_prepare.append(in_flight.prepared)
    return app
