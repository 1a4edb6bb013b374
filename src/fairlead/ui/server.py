"""``fairlead ui``: what the page is made of, and the few things it may ask, all of them below a secret path."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from importlib import resources
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from fairlead.errors import FairleadError, Invalid
from fairlead.ui.daemon import Api
from fairlead.ui.guard import guard, headers, new_token
from fairlead.ui.logs import Unframed
from fairlead.ui.watch import Watch

ADDRESS = "127.0.0.1"
TAIL = "200"
"""Lines of a log that are shown to begin with."""
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MAX_BODY = 64 << 10
_RETRY = 500
"""Milliseconds after which a browser whose connection broke comes again."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def assets() -> dict[str, tuple[bytes, str]]:
    """Every file that the page is made of, by its path: content and media type."""
    found: dict[str, tuple[bytes, str]] = {}

    def walk(directory: Any, prefix: str) -> None:
        for entry in directory.iterdir():
            if entry.is_dir():
                walk(entry, f"{prefix}{entry.name}/")
            elif (suffix := "." + entry.name.rpartition(".")[2]) in _TYPES:
                found[prefix + entry.name] = (entry.read_bytes(), _TYPES[suffix])

    walk(resources.files("fairlead.ui") / "assets", "")
    return found


def make_app(api: Api, token: str, port: Callable[[], int]) -> web.Application:
    """The application; everything in it is below ``/TOKEN/``."""
    app = web.Application(middlewares=[guard(token, port), _errors], client_max_size=_MAX_BODY)
    page = Page(api)
    safe = headers(page.index)

    async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(safe)

    app.on_response_prepare.append(add_headers)
    app.router.add_get("/{token}/", page.asset)
    app.router.add_get("/{token}/live", page.live)
    app.router.add_post("/{token}/trace", page.trace)
    app.router.add_get("/{token}/rules/{id}", page.rules)
    app.router.add_get("/{token}/logs/{id:[A-Za-z0-9][A-Za-z0-9_.-]*}", page.logs)
    app.router.add_get("/{token}/{path:.+}", page.asset)

    async def close(_: web.Application) -> None:
        await page.watch.close()

    app.on_cleanup.append(close)
    return app


class Page:
    """What the page may ask."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._assets = assets()
        self.watch = Watch(api)

    @property
    def index(self) -> bytes:
        """The document itself."""
        return self._assets["index.html"][0]

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """A file of the page."""
        found = self._assets.get(request.match_info.get("path", "index.html"))
        if found is None:
            raise web.HTTPNotFound(text="fairlead ui: there is no such thing\n")
        return web.Response(body=found[0], content_type=found[1], charset="utf-8")

    async def live(self, request: web.Request) -> web.StreamResponse:
        """The topology and its changes, as they come (server-sent events, HTML standard, section 9.2)."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        async with aclosing(self.watch.follow()) as messages:  # type: ignore[type-var]
            await response.write(b"retry: %d\n\n" % _RETRY)
            async for name, data in messages:
                await response.write(b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data)))
        return response

    async def trace(self, request: web.Request) -> web.StreamResponse:
        """One probe, as ``POST /fairlead/trace`` sends it; what the page does not show is left out of the answer."""
        try:
            asked = msgspec.json.decode(await request.read(), type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Invalid(f"the request is no JSON object: {error}") from None
        return _json(shown(await self._api.post("/fairlead/trace", asked)))

    async def rules(self, request: web.Request) -> web.StreamResponse:
        """The firewall's rules in a namespace."""
        room = await self.watch.room(request.match_info["id"])
        return _json(await self._api.get("/fairlead/rules", namespace=room["Path"]))

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """A container's output as text: its last lines, and what follows as long as somebody reads."""
        query = {"stdout": "1", "stderr": "1", "follow": "1", "tail": TAIL}
        async with self._api.stream("GET", f"/containers/{request.match_info['id']}/logs", query) as answer:
            unframed = Unframed(answer.content_type)
            response = web.StreamResponse(headers={"Content-Type": "text/plain; charset=utf-8"})
            await response.prepare(request)
            async for data in answer.content.iter_any():
                await response.write(unframed.feed(data))
        return response


def shown(found: dict[str, Any]) -> dict[str, Any]:
    """Of a trace's answer what a page shows, with each hop's namespace as the topology calls it (``Room``)."""
    seen = found["Observation"]
    host = {place["Inode"] for place in seen.get("Places", ()) if place.get("Kind") == "host"}

    def room(inode: int) -> str:
        return "host" if inode in host else str(inode)

    hops = [{**hop, "Room": room(hop["Namespace"])} for hop in found["Hops"]]
    rest = {name: value for name, value in found.items() if name != "Observation"}
    legs = seen.get("Legs", ())
    barriers = [leg["BarrierAt"] for leg in legs if leg.get("BarrierAt")]
    return {
        **rest,
        "Hops": hops,
        "Asked": seen["Asked"],
        "SourceRoom": room(seen["Source"]["Inode"]),
        "Barriers": [{"Room": room(inode), "Interface": name} for inode, name in barriers],
    }


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FairleadError as error:
        return _json({"message": str(error)}, error.status)
    except web.HTTPRequestEntityTooLarge:
        return _json({"message": f"the request is too large: {_MAX_BODY >> 10} KiB are allowed"}, 413)
    except (ConnectionError, aiohttp.ClientConnectionError):
        raise asyncio.CancelledError from None  # The page has gone: there is nobody to answer.


async def serve(socket: str, port: int, say: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `say` is told the page's address once it can be opened.  Raises `OSError`."""
    token, api = new_token(), Api(socket)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    bound = [port]
    # Streams to pages end with us; nothing waits for them.
    runner = web.AppRunner(make_app(api, token, lambda: bound[0]), access_log=None, shutdown_timeout=0.1)
    try:
        await runner.setup()
        site = web.TCPSite(runner, ADDRESS, port)
        await site.start()
        bound[0] = runner.addresses[0][1]
        say(f"http://{ADDRESS}:{bound[0]}/{token}/")
        await stop.wait()
    finally:
        await runner.cleanup()
        await api.close()
