"""``/containers``: the Docker Engine API's container endpoints (v1.51)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, get_args

import msgspec
from aiohttp import web

from fairlead.api import create_body, streams
from fairlead.api.app import answer, body, flag, number, platform
from fairlead.api.connection import connected
from fairlead.api.container_filters import ContainerFilter, has_label
from fairlead.api.container_spec import parse
from fairlead.api.networks import prune_until
from fairlead.api.versions import with_short_ids
from fairlead.containers.explain import Explainer
from fairlead.containers.inspect import inspect, status_word, summary
from fairlead.containers.logs import nanoseconds
from fairlead.containers.mounting import make_bind_sources, shown
from fairlead.containers.record import Container
from fairlead.containers.service import Condition, signal_number
from fairlead.containers.streams import Attachment
from fairlead.containers.usage import container_sizes, tree_size
from fairlead.errors import FairleadError, Invalid, NotFound
from fairlead.images import Image
from fairlead.images.platforms import Platform, here, platform_of, runs_on
from fairlead.images.reference import Reference
from fairlead.model import Network

if TYPE_CHECKING:
    from fairlead.api.app import Daemon

_CONDITIONS: tuple[str, ...] = get_args(Condition)


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """Every route of this module."""
    door = Door(daemon)
    one = "/containers/{ref}"
    return [
        web.get("/containers/json", door.index),
        web.post("/containers/create", door.create),
        web.post("/containers/prune", door.prune),
        web.get(f"{one}/json", door.inspect),
        web.post(f"{one}/start", door.start),
        web.post(f"{one}/stop", door.stop),
        web.post(f"{one}/restart", door.restart),
        web.post(f"{one}/kill", door.kill),
        web.post(f"{one}/pause", door.pause),
        web.post(f"{one}/unpause", door.unpause),
        web.post(f"{one}/rename", door.rename),
        web.post(f"{one}/resize", door.resize),
        web.post(f"{one}/wait", door.wait),
        web.post(f"{one}/attach", door.attach),
        web.get(f"{one}/logs", door.logs),
        web.delete(one, door.remove),
        web.delete("/containers/{ref}/{alias}", door.remove_link),
    ]


class Door:
    """The handlers."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._containers = daemon.containers
        self._explainer = Explainer(daemon.containers)

    def _networks(self) -> dict[str, Network]:
        return {network.id: network for network in self._daemon.engine.catalog.networks()}

    async def index(self, request: web.Request) -> web.StreamResponse:
        networks = self._networks()
        wanted = ContainerFilter(self._daemon, parse_filters(request), networks)
        limit = number(request, "limit")
        everything = flag(request, "all") or limit > 0 or wanted.wants_all
        all_endpoints = self._containers.all_endpoints()
        endpoints = {c.id: all_endpoints.get(c.id, []) if c.is_running else [] for c in self._containers.list()}
        found = [
            c
            for c in self._containers.list()
            if (everything or c.is_running or c.is_restarting) and wanted.passes(c, endpoints[c.id], shown(c))
        ]
        found = found[:limit] if limit > 0 else found
        health = self._containers.health.of
        name = self._daemon.images.shown_as
        entries = [
            summary(
                c, image=name(c.spec.image, c.image_id), endpoints=endpoints[c.id], networks=networks, health=health(c)
            )
            for c in found
        ]
        with_short_ids(request, entries)
        if flag(request, "size"):
            for container, entry in zip(found, entries, strict=True):
                entry |= await asyncio.to_thread(container_sizes, self._containers, container)
        return answer(entries)

    async def create(self, request: web.Request) -> web.StreamResponse:
        document = await body(request, create_body.CreateBody)
        create_body.check(document)
        if runtime := document.get("Runtime"):  # docker-py's create_container has it here
            document["HostConfig"] = {"Runtime": runtime, **(document.get("HostConfig") or {})}
        wanted = platform(request)
        reference = document.get("Image")
        if not isinstance(reference, str) or not reference:
            raise Invalid("no image given: Image must name one")
        image = self._image(reference, wanted)
        try:
            spec, warnings = parse(document, image, self._containers.get)
        except NotFound as error:
            # Not 404: of that status the answer to a create would mean "pull the image".
            raise Invalid(str(error)) from None
        name = request.query.get("name", "")
        if flag(request, "explain"):
            return answer({"Lines": await asyncio.to_thread(self._explainer.create, name, spec)})
        if not wanted and not runs_on(found := platform_of(image.config), here()):
            warnings.append(
                f"The requested image's platform ({found}) does not match the detected host platform ({here()}) "
                "and no specific platform was requested"
            )
        await asyncio.to_thread(make_bind_sources, spec.binds)
        container = await self._containers.create(name, spec)
        return answer({"Id": container.id, "Warnings": warnings}, 201)

    def _image(self, reference: str, wanted: Platform | None) -> Image:
        try:
            return self._daemon.images.get(reference, wanted)
        except NotFound:
            if len(reference) != 64:  # no id
                Reference.parse(reference)  # what can be no name is a mistake, and nothing to pull
            raise

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        image_config: dict[str, Any] = {}
        with contextlib.suppress(NotFound):
            image_config = self._containers.image(container).config.get("config") or {}
        sharing = self._containers.sharing
        sandbox = sharing.sandbox(container) if container.is_running else None
        if sandbox and sharing.shown_by(sandbox) != container.id:
            sandbox = None  # As in Docker, a shared one is that of one container.
        document = inspect(
            container,
            paths=self._daemon.paths,
            namespace=sandbox.path if sandbox else "",
            names={one.id: one.name for one in self._containers.list()} if container.spec.links else {},
            endpoints=self._containers.endpoints(container),
            networks=self._networks(),
            image_config=image_config,
            execs=[execution.id for execution in self._containers.execs.of(container.id)],
            health=self._containers.health.of(container),
        )
        with contextlib.suppress(NotFound):
            lower = self._daemon.images.lower_directories(self._containers.image(container))
            document["GraphDriver"]["Data"]["LowerDir"] = ":".join(map(str, lower))
        with_short_ids(request, [document])
        if flag(request, "size"):
            document |= {"SizeRw": 0, **await asyncio.to_thread(container_sizes, self._containers, container)}
        return answer(document)

    def _get(self, request: web.Request) -> Container:
        return self._containers.get(request.match_info["ref"])

    async def start(self, request: web.Request) -> web.StreamResponse:
        ref = request.match_info["ref"]
        if flag(request, "explain"):
            return answer({"Lines": await asyncio.to_thread(self._explainer.start, ref)})
        length = request.content_length
        if request.body_exists and (length is None or length > len("null") + 3):  # Docker's own limit
            raise Invalid(
                "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"
            )
        # Not cut short by a client that goes away: the start is either done or taken back.
        await asyncio.shield(self._containers.start(ref))
        return answer(status=204)

    async def stop(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        if flag(request, "explain"):
            return answer({"Lines": self._explainer.end(container.id)})
        await self._containers.stop(container.id, _seconds(request), request.query.get("signal", ""))
        return answer(status=204)

    async def restart(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        if flag(request, "explain"):
            return answer({"Lines": self._explain_restart(container)})
        await asyncio.shield(self._containers.restart(container.id, _seconds(request), request.query.get("signal", "")))
        return answer(status=204)

    def _explain_restart(self, container: Container) -> list[str]:
        if container.is_running:
            return [*self._explainer.end(container.id), f"# then what `start {container.name}` does"]
        return self._explainer.start(container.id)

    async def kill(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        number = signal_number(request.query.get("signal") or "SIGKILL")
        if flag(request, "explain"):
            name = signal.Signals(number).name.removeprefix("SIG")
            return answer({"Lines": [self._explainer.kill(container.id, name)]})
        await self._containers.kill(request.match_info["ref"], number)
        return answer(status=204)

    async def pause(self, request: web.Request) -> web.StreamResponse:
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.verb(self._get(request).id, "pause")]})
        await self._containers.pause(request.match_info["ref"])
        return answer(status=204)

    async def unpause(self, request: web.Request) -> web.StreamResponse:
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.verb(self._get(request).id, "resume")]})
        await self._containers.unpause(request.match_info["ref"])
        return answer(status=204)

    async def rename(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        name = request.query.get("name", "")
        if flag(request, "explain"):
            return answer({"Lines": []})  # a name is only in the store
        await self._containers.rename(container.id, name)
        return answer(status=204)

    async def remove_link(self, request: web.Request) -> web.StreamResponse:
        """``docker rm --link NAME/ALIAS``."""
        if not flag(request, "link"):
            raise NotFound(f"No such container: {request.match_info['ref']}/{request.match_info['alias']}")
        await self._containers.membership.unlink(self._get(request).id, request.match_info["alias"])
        return answer(status=204)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        if flag(request, "link"):
            raise Invalid(f"{request.match_info['ref']} is no link: CONTAINER/ALIAS is needed")
        if flag(request, "explain"):
            lines = self._explainer.end(container.id) if flag(request, "force") else []
            return answer({"Lines": [*lines, f"rm -r {self._daemon.paths.container_state(container.id)}"]})
        await asyncio.shield(
            self._containers.remove(container.id, force=flag(request, "force"), volumes=flag(request, "v"))
        )
        return answer(status=204)

    async def prune(self, request: web.Request) -> web.StreamResponse:
        filters = parse_filters(request)
        if unknown := set(filters) - {"label", "label!", "until"}:
            raise Invalid(f"invalid filter '{unknown.pop()}'")
        until = prune_until(filters)
        doomed = [
            c
            for c in self._containers.list()
            if status_word(c) in ("created", "exited")
            and (until is None or c.created < until)
            and all(has_label(c.spec.labels, value) for value in filters.get("label", []))
            and not any(has_label(c.spec.labels, value) for value in filters.get("label!", []))
        ]
        if flag(request, "explain"):
            return answer({"Lines": [f"rm -r {self._daemon.paths.container_state(c.id)}" for c in doomed]})
        freed, removed = 0, []
        for container in doomed:
            size = await asyncio.to_thread(tree_size, self._daemon.paths.container_state(container.id))
            with contextlib.suppress(FairleadError):
                await self._containers.remove(container.id)
                removed.append(container.id)
                freed += size
        self._daemon.events.publish("container", "prune", "", {"reclaimed": str(freed)})
        return answer({"ContainersDeleted": removed or None, "SpaceReclaimed": freed})

    async def wait(self, request: web.Request) -> web.StreamResponse:
        condition = request.query.get("condition") or "not-running"
        if condition not in _CONDITIONS:
            raise Invalid(f'invalid condition: "{condition}"')
        waiting = self._containers.subscribe(request.match_info["ref"], condition)  # type: ignore[arg-type]
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        # `docker run` starts the container only when it has these headers.
        await response.prepare(request)
        async with connected(request):
            code = await waiting
            await response.write(msgspec.json.encode({"StatusCode": code}) + b"\n")
            await response.write_eof()
        waiting.cancel()
        return response

    async def resize(self, request: web.Request) -> web.StreamResponse:
        await self._containers.resize(request.match_info["ref"], *parse_size(request))
        return answer()

    async def attach(self, request: web.Request) -> web.StreamResponse:
        keys = streams.parse_keys(request.query.get("detachKeys", ""))
        container = self._get(request)
        if not any(flag(request, name) for name in ("stream", "logs")):
            raise Invalid("attach does nothing without stream or logs: set one of them")
        wants_out, wants_err = flag(request, "stdout"), flag(request, "stderr")
        tty = container.spec.tty
        before = []
        if flag(request, "logs"):
            before = [f async for f in self._containers.logs(container.id, stdout=wants_out, stderr=wants_err)]
        attachment = self._containers.attach(container.id, stdout=wants_out, stderr=wants_err)
        if not flag(request, "stream"):
            self._containers.detach(container.id, attachment)
        stdin = flag(request, "stdin") and container.spec.open_stdin
        keys = keys if tty and stdin else b""

        async def begin() -> Attachment:
            return attachment

        try:
            return await streams.serve(request, begin, tty=tty, stdin=stdin, before=before, detach_keys=keys)
        finally:
            self._containers.detach(container.id, attachment)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        container = self._get(request)
        wants_out, wants_err = flag(request, "stdout"), flag(request, "stderr")
        if not wants_out and not wants_err:
            raise Invalid("Bad parameters: you must choose at least one stream")
        tail = request.query.get("tail") or "all"
        if tail != "all" and not tail.removeprefix("-").isdecimal():
            raise Invalid(f"invalid tail {tail!r}: a number or all is needed")
        frames = self._containers.logs(
            container.id,
            stdout=wants_out,
            stderr=wants_err,
            since=parse_nanoseconds(request.query.get("since") or "0"),
            until=parse_nanoseconds(request.query.get("until") or "0"),
            tail=None if tail == "all" or tail.startswith("-") else int(tail),
            timestamps=flag(request, "timestamps"),
            follow=flag(request, "follow"),
            details=flag(request, "details"),
        )
        tty = container.spec.tty
        kind = streams.content_type(request, tty=tty)
        response = web.StreamResponse(headers={"Content-Type": kind})
        await response.prepare(request)
        async with connected(request), contextlib.aclosing(frames):
            async for frame in frames:
                await response.write(streams.frame_bytes(frame, tty=tty))
            await response.write_eof()
        return response


def parse_filters(request: web.Request) -> dict[str, list[str]]:
    """The ``filters`` parameter: ``{"name": ["a"]}``, or as old clients send it ``{"name": {"a": true}}``."""
    text = request.query.get("filters")
    if not text:
        return {}
    try:
        value = msgspec.json.decode(text) or {}
        return {
            name: [str(v).lower() if isinstance(v, bool) else str(v) for v in values or ()]
            for name, values in value.items()
        }
    except (msgspec.DecodeError, AttributeError, TypeError):
        raise Invalid("invalid filters: a JSON object of lists is needed") from None


def parse_size(request: web.Request) -> tuple[int, int]:
    """Rows and columns of a terminal."""
    try:
        height, width = int(request.query["h"]), int(request.query["w"])
    except (KeyError, ValueError):
        raise Invalid("a terminal's size needs the numbers h (rows) and w (columns)") from None
    if not (0 <= height < 65536 and 0 <= width < 65536):
        raise Invalid("a terminal's size must be 0 to 65535 rows and columns")
    return height, width


def parse_nanoseconds(text: str) -> int:
    """A moment in nanoseconds since the epoch: seconds with up to nine decimals, or RFC 3339."""
    whole, point, fraction = text.partition(".")
    if whole.removeprefix("-").isdecimal() and (not point or fraction.isdecimal()):
        return int(whole) * 1_000_000_000 + int(fraction[:9].ljust(9, "0"))
    try:
        return nanoseconds(text)
    except (ValueError, OverflowError):
        raise Invalid(f"invalid time {text[:100]!r}: seconds since the epoch or RFC 3339 are allowed") from None


def _seconds(request: web.Request) -> int | None:
    text = request.query.get("t") or request.query.get("timeout")
    if not text:
        return None
    try:
        return int(text)
    except ValueError:
        raise Invalid(f"invalid timeout {text!r}: a number of seconds is needed") from None
