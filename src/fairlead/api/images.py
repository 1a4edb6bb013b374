"""Images over HTTP, as the Docker Engine API v1.51 has them under "Image"."""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, Explained, answer, body, flag, number, platform
from fairlead.api.archive import send
from fairlead.api.create_body import CreateBody
from fairlead.api.login import AuthConfig
from fairlead.api.members import named
from fairlead.api.networks import parse_until, prune_until
from fairlead.api.versions import with_old_fields
from fairlead.containers.commit import Wanted, commit, explain_commit
from fairlead.errors import FairleadError, Invalid
from fairlead.images import Credentials, Image, Images, Progress, Reference
from fairlead.images.manifest import created_at
from fairlead.images.search import search

log = logging.getLogger("fairlead.api")

_UPLOAD_CHUNK = 1 << 20
"""Bytes per read of a request's body."""

_NEVER = "0001-01-01T00:00:00Z"
"""What Docker writes for a time that is not known: Go's zero time."""

Filters = dict[str, list[str]]


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The image routes; those with a name come last, since a name may hold slashes."""
    handlers = _Handlers(daemon)
    return [
        web.get("/images/json", handlers.list),
        web.post("/images/create", handlers.create),
        web.get("/images/search", handlers.search),
        web.get("/distribution/{name:.+}/json", handlers.distribution),
        web.post("/images/load", handlers.load),
        web.post("/images/prune", handlers.prune),
        web.get("/images/get", handlers.save),
        web.post("/commit", handlers.commit),
        web.get("/images/{name:.*}/get", handlers.save),
        web.post("/images/{name:.*}/push", handlers.push),
        web.get("/images/{name:.*}/json", handlers.inspect),
        web.get("/images/{name:.*}/history", handlers.history),
        web.post("/images/{name:.*}/tag", handlers.tag),
        web.delete("/images/{name:.*}", handlers.remove),
    ]


class _Handlers:
    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._images: Images = daemon.images

    def _tell(self, action: str, image: Image, name: str = "", id_: str = "") -> None:
        """An event.  Docker names most by the image's id; a pull by its reference."""
        id_ = id_ or f"sha256:{image.id}"
        labels = _settings(image).get("Labels") or {}
        self._daemon.events.publish("image", action, id_, {**labels, "name": name or id_})

    def _tell_tag(self, image: Image, name: str) -> str:
        """An image has a new name; returns it in full."""
        tag = str(Reference.parse(name).tagged())
        self._tell("tag", image, tag)
        return tag

    def _tell_gone(self, known: Iterable[Image], gone: Iterable[dict[str, str]]) -> None:
        """Of the images that were `known` before, these names and these ids are gone."""
        owners = {name: image for image in known for name in (*image.names, f"sha256:{image.id}")}
        for item in gone:
            for word, action in (("Untagged", "untag"), ("Deleted", "delete")):
                if image := owners.get(item.get(word, "")):  # a layer is none
                    self._tell(action, image)

    async def list(self, request: web.Request) -> web.Response:
        filters = read_filters(request, ("before", "dangling", "label", "reference", "since", "until"))
        images = self._images.list()
        for ref in filters.get("before", ()):
            limit = self._images.get(ref).created
            images = [image for image in images if image.created < limit]
        for ref in filters.get("since", ()):
            limit = self._images.get(ref).created
            images = [image for image in images if image.created > limit]
        for text in filters.get("until", ()):
            limit = parse_until(text)
            images = [image for image in images if image.created < limit]
        dangling = {image.id for image in self._images.dangling()}
        if not flag(request, "all"):
            # What others were committed from, and has no name, is theirs.
            images = [image for image in images if image.names or image.id in dangling]
        if "dangling" in filters:
            wanted = _truth(filters["dangling"], "dangling")
            images = [image for image in images if (image.id in dangling if wanted else image.names)]
        if labels := filters.get("label"):
            images = [image for image in images if all(_has_label(image, label) for label in labels)]
        patterns = filters.get("reference", [])
        shown = [(image, [t for t in image.tags if _matches(t, patterns)]) for image in images]
        shared = self._images.shared_sizes() if flag(request, "shared-size") else {}
        listed = [(image, tags) for image, tags in shown if tags or not patterns]
        found = [
            {**summary(image, tags, self._images.parent(image)), "SharedSize": shared.get(image.id, -1)}
            for image, tags in listed
        ]
        with_old_fields(request, found)
        return answer(found)

    async def inspect(self, request: web.Request) -> web.Response:
        image = self._images.get(request.match_info["name"], platform(request))
        parent = self._images.parent(image)
        details = _details(image, parent, [str(path) for path in self._images.lower_directories(image)])
        with_old_fields(request, [details])
        return answer(details)

    async def history(self, request: web.Request) -> web.Response:
        line = [self._images.get(request.match_info["name"], platform(request))]
        while parent := self._images.parent(line[-1]):
            line.append(parent)
        return answer(_history(line))

    async def search(self, request: web.Request) -> web.Response:
        """What a registry's index knows by a term; of the filters, none finds what was built automatically any more."""
        wanted = read_filters(request, ("stars", "is-official", "is-automated"))
        stars = max((_stars(word) for word in wanted.get("stars", [])), default=0)
        official = [_boolean("is-official", word) for word in wanted.get("is-official", [])]
        automated = [_boolean("is-automated", word) for word in wanted.get("is-automated", [])]
        credentials = _credentials(request.headers.get("X-Registry-Auth", ""))
        found = await search(request.query.get("term", ""), number(request, "limit", 25), credentials)
        return answer(
            [
                one
                for one in found
                if one.star_count >= stars
                and all(one.is_official is word for word in official)
                and all(one.is_automated is word for word in automated)
            ]
        )

    async def distribution(self, request: web.Request) -> web.StreamResponse:
        """What the registry has, without fetching it."""
        credentials = _credentials(request.headers.get("X-Registry-Auth", ""))
        reference = Reference.parse(request.match_info["name"])
        return answer(await self._images.described(reference, credentials=credentials))

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Pull (``fromImage``) or import (``fromSrc=-``)."""
        wanted_platform = platform(request)
        explain = flag(request, "explain")
        if name := request.query.get("fromImage", ""):
            ref = _join(name, request.query.get("tag", ""))
            credentials = _credentials(request.headers.get("X-Registry-Auth", ""))

            async def wanted_refs(wanted: Reference) -> Sequence[str]:
                # Without a tag all are meant (`docker pull -a`); clients that mean latest say so.
                whole = not wanted.tag and not wanted.digest
                return await self._images.tags_of(wanted, credentials=credentials) if whole else [ref]

            if explain:
                refs = await wanted_refs(Reference.parse(ref))
                several = [
                    await self._images.explain_pull(one, platform=wanted_platform, credentials=credentials)
                    for one in refs
                ]
                raise Explained([line for lines in several for line in lines])

            async def pull(progress: Progress) -> None:
                wanted = Reference.parse(ref)
                for one in await wanted_refs(wanted):
                    image = await self._images.pull(one, progress, platform=wanted_platform, credentials=credentials)
                    self._tell("pull", image, wanted.name, str(Reference.parse(one)))

            return await stream(request, pull)
        if (source := request.query.get("fromSrc", "")) != "-":
            raise Invalid(f"fromSrc is {source!r}: only '-', the request's own body, is allowed; or give fromImage")
        repository = request.query.get("repo", "")
        ref = _join(repository, request.query.get("tag", "")) if repository else ""

        changes, message = request.query.getall("changes", []), request.query.get("message", "")
        if explain:
            file = request.query.get("source", "")
            lines = await self._images.explain_import(
                _upload(request), ref, file, changes=changes, message=message, platform=wanted_platform
            )
            raise Explained(lines)

        async def load(progress: Progress) -> None:
            image = await self._images.import_(
                _upload(request), ref, changes=changes, message=message, platform=wanted_platform
            )
            if ref:
                self._tell_tag(image, ref)
            self._tell("import", image)
            progress({"status": f"sha256:{image.id}"})

        return await stream(request, load)

    async def load(self, request: web.Request) -> web.StreamResponse:
        quiet, wanted = flag(request, "quiet"), platform(request)
        if flag(request, "explain"):
            source = request.query.get("source", "")
            raise Explained(await self._images.explain_load(_upload(request), source, wanted))

        async def load(progress: Progress) -> None:
            def report(message: dict[str, Any]) -> None:
                if "stream" in message or not quiet:
                    progress(message)

            for image in await self._images.load(_upload(request), report, wanted):
                self._tell("load", image)

        # Docker has no status for an archive that is none; its clients look at the lines.
        return await stream(request, load, at_once=True)

    async def save(self, request: web.Request) -> web.StreamResponse:
        """One image by the path, or several by ``names``."""
        names = [request.match_info["name"]] if "name" in request.match_info else request.query.getall("names", [])
        # Old clients put a comma between them; no reference has one.
        names = [name for text in names for name in text.split(",") if name]
        if not names:
            raise Invalid("no image given: names must name at least one")
        wanted = platform(request)
        if flag(request, "explain"):
            raise Explained(self._images.explain_save(names, request.query.get("target", ""), wanted))
        async with self._images.saved(names, wanted) as (images, archive):
            for image in images:
                self._tell("save", image)
            return await send(request, archive, {})

    async def push(self, request: web.Request) -> web.StreamResponse:
        ref = _join(request.match_info["name"], request.query.get("tag", ""))
        credentials = _credentials(request.headers.get("X-Registry-Auth", ""))
        wanted = platform(request)
        if flag(request, "explain"):
            raise Explained(self._images.explain_push(ref, wanted))

        async def push(progress: Progress) -> None:
            for image, tag in await self._images.push(ref, progress, platform=wanted, credentials=credentials):
                self._tell("push", image, tag.rpartition(":")[0], tag)

        return await stream(request, push)

    async def commit(self, request: web.Request) -> web.Response:
        query = request.query
        if not (ref := query.get("container", "")):
            raise Invalid("the parameter container is missing: the container to commit")
        containers, comment = self._daemon.containers, query.get("comment", "")
        container = containers.get(ref)
        name = _join(query["repo"], query.get("tag", "")) if query.get("repo") else ""
        wanted = Wanted(
            name=name,
            comment=comment,
            author=query.get("author", ""),
            changes=query.getall("changes", []),
            body=await body(request, CreateBody),
            pause=flag(request, "pause", default=True),
        )
        if flag(request, "explain"):
            raise Explained(await asyncio.to_thread(explain_commit, containers, container.id, wanted))
        image = await commit(containers, container.id, wanted)
        if name:
            name = self._tell_tag(image, name)
        told = {"comment": comment, "imageID": f"sha256:{image.id}", "imageRef": name}
        containers.tell("commit", container, told)
        return answer({"Id": f"sha256:{image.id}"}, 201)

    async def tag(self, request: web.Request) -> web.Response:
        if not (repository := request.query.get("repo", "")):
            raise Invalid("the parameter repo is missing: the repository to tag the image into")
        name = _join(repository, request.query.get("tag", ""))
        explain = flag(request, "explain")
        self._images.tag(request.match_info["name"], name, explain=explain)
        if explain:
            raise Explained([])  # A name is only in the store.
        self._tell_tag(self._images.get(name), name)
        return web.Response(status=201)

    async def remove(self, request: web.Request) -> web.Response:
        in_use, ref = self._daemon.containers.using_image, request.match_info["name"]
        force, alone = flag(request, "force"), flag(request, "noprune")
        if flag(request, "explain"):
            raise Explained(self._images.explain_remove(ref, force=force, alone=alone, in_use=in_use))
        known = self._images.list()
        gone = await self._images.remove(ref, force=force, alone=alone, in_use=in_use)
        self._tell_gone(known, gone)
        return answer(gone)

    async def prune(self, request: web.Request) -> web.Response:
        filters = read_filters(request, ("dangling", "label", "label!", "until"))
        dangling = _truth(filters.get("dangling", ["true"]), "dangling")
        until = prune_until(filters)

        def fits(image: Image) -> bool:
            return (
                (until is None or image.created < until)
                and all(_has_label(image, label) for label in filters.get("label", []))
                and not any(_has_label(image, label) for label in filters.get("label!", []))
            )

        in_use = self._daemon.containers.using_image
        if flag(request, "explain"):
            doomed = self._images.unused(all_unused=not dangling, in_use=in_use, fits=fits)
            raise Explained(self._images.explain_prune(doomed, in_use))
        before, known = self._images.disk_usage(), self._images.list()
        gone = await self._images.prune(all_unused=not dangling, in_use=in_use, fits=fits)
        reclaimed = max(0, before - self._images.disk_usage())
        self._tell_gone(known, gone)
        self._daemon.events.publish("image", "prune", "", {"reclaimed": str(reclaimed)})
        return answer({"ImagesDeleted": gone or None, "SpaceReclaimed": reclaimed})


async def stream(
    request: web.Request, work: Callable[[Progress], Awaitable[None]], *, at_once: bool = False
) -> web.StreamResponse:
    """Answer with the progress of `work`, one JSON object per line.

    The first message sends the status 200; what fails before it gets a status of its own, what fails later becomes the
    last line (`at_once`: always).  A client that goes away cancels the work.
    """
    messages: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(messages.put_nowait))
    task.add_done_callback(lambda _: messages.put_nowait(None))
    response: web.StreamResponse | None = None
    try:
        while (message := await messages.get()) is not None:
            if response is None:
                response = web.StreamResponse(headers={"Content-Type": "application/json"})
                await response.prepare(request)
            await response.write(msgspec.json.encode(message) + b"\r\n")
        error = task.exception()
        if response is None and error is not None and at_once and isinstance(error, FairleadError):
            return answer(_last_line(error, request))
        if response is None:
            if error is not None:
                raise error
            return answer([])
        if error is not None:
            await response.write(msgspec.json.encode(_last_line(error, request)) + b"\r\n")
        await response.write_eof()
    except ConnectionResetError:
        if response is None:
            raise
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    return response


def _last_line(error: BaseException, request: web.Request) -> dict[str, Any]:
    text = str(error)
    if not isinstance(error, FairleadError):
        log.error("%s %s failed", request.method, request.path, exc_info=error)
        text = "internal error: the daemon's log has the details"
    return {"errorDetail": {"message": text}, "error": text}


async def _upload(request: web.Request) -> AsyncIterator[bytes]:
    async for chunk in request.content.iter_chunked(_UPLOAD_CHUNK):
        yield chunk


def _join(name: str, tag: str) -> str:
    """Docker's clients send name and tag apart; the tag may be a digest."""
    if not tag:
        return name
    return f"{name}@{tag}" if ":" in tag else f"{name}:{tag}"


def _credentials(header: str) -> Credentials | None:
    """``X-Registry-Auth``: URL-safe base64 of ``{"username": …, "password": …}``.

    For nobody clients send ``{}``, or anything (aiodocker: ``FOOBAR``); what cannot be read is nobody, as for Docker.
    """
    if not header:
        return None
    try:
        value = msgspec.json.decode(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4)))
    except (binascii.Error, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    value = named(value, AuthConfig)
    if not value.get("username"):
        return None
    return Credentials(str(value["username"]), str(value.get("password", "")))


def _stars(word: str) -> int:
    if not word.isdigit():
        raise Invalid(f"invalid filter 'stars={word}': a whole number is needed")
    return int(word)


def _boolean(name: str, word: str) -> bool:
    if word.lower() not in ("true", "false", "1", "0"):
        raise Invalid(f"invalid filter '{name}={word}': true or false is needed")
    return word.lower() in ("true", "1")


def read_filters(request: web.Request, allowed: Iterable[str]) -> Filters:
    """The ``filters`` parameter: JSON ``{"label": ["a"]}`` or, from older clients, ``{"label": {"a": true}}``."""
    try:
        value = msgspec.json.decode(request.query.get("filters") or "{}")
    except msgspec.DecodeError as error:
        raise Invalid(f"the parameter filters is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid("the parameter filters must be a JSON object of lists")
    allowed = tuple(allowed)
    filters: Filters = {}
    for name, words in value.items():
        if name not in allowed:
            raise Invalid(f"invalid filter '{name}': {', '.join(allowed)} are allowed")
        if isinstance(words, dict):
            words = [word for word, wanted in words.items() if wanted]
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise Invalid(f"invalid filter '{name}': a list of words is allowed")
        filters[name] = words
    return filters


def _truth(words: list[str], name: str) -> bool:
    values = {{"1": True, "true": True, "0": False, "false": False}.get(word.lower()) for word in words}
    if len(values) != 1 or None in values:
        raise Invalid(f"invalid filter '{name}={','.join(words)}': true or false is allowed")
    return bool(values.pop())


def _matches(tag: str, patterns: list[str]) -> bool:
    reference = Reference.parse(tag)
    return not patterns or any(reference.matches(pattern) for pattern in patterns)


def _settings(image: Image) -> dict[str, Any]:
    return image.config.get("config") or {}


def _has_label(image: Image, wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    labels = _settings(image).get("Labels") or {}
    return key in labels and (not equals or labels[key] == value)


def summary(image: Image, tags: list[str], parent: Image | None = None) -> dict[str, Any]:
    """One entry of ``docker images``."""
    return {
        "Id": f"sha256:{image.id}",
        "ParentId": f"sha256:{parent.id}" if parent else "",
        "RepoTags": sorted(tags),
        "RepoDigests": sorted(image.digests),
        "Created": int(image.created),
        "Size": image.size,
        "SharedSize": -1,
        "Labels": _settings(image).get("Labels"),
        "Containers": -1,
    }


def _details(image: Image, parent: Image | None, directories: list[str]) -> dict[str, Any]:
    """`directories`: the unpacked layers, topmost first."""
    config = image.config
    history = [item for item in config.get("history") or [] if isinstance(item, dict)]
    places = {"UpperDir": directories[0], "LowerDir": ":".join(directories[1:])} if directories else {}
    return {
        "Id": f"sha256:{image.id}",
        "RepoTags": sorted(image.tags),
        "RepoDigests": sorted(image.digests),
        "Parent": f"sha256:{parent.id}" if parent else "",
        **({"Container": config["container"]} if "container" in config else {}),
        **({"ContainerConfig": config["container_config"]} if "container_config" in config else {}),
        "Comment": str(history[-1].get("comment", "")) if history else "",
        "Created": config.get("created") or _NEVER,
        "DockerVersion": "",
        "Author": config.get("author", ""),
        "Config": _settings(image),
        "Architecture": config.get("architecture", ""),
        **({"Variant": config["variant"]} if "variant" in config else {}),
        "Os": config.get("os", "linux"),
        "Size": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": {name: place for name, place in places.items() if place}},
        "RootFS": {"Type": "layers", "Layers": (config.get("rootfs") or {}).get("diff_ids", [])},
        "Metadata": {"LastTagTime": _NEVER},
    }


def _history(line: Sequence[Image]) -> list[dict[str, Any]]:
    """Newest first, of an image; behind it in `line` those that it was committed from, each by one more entry.

    Entries of the configuration that made no layer have the size 0.
    """
    image = line[0]
    sizes = iter(image.layer_sizes)
    items = [item for item in image.config.get("history") or [] if isinstance(item, dict)]
    if not items:
        items = [{"created": image.config.get("created")} for _ in image.layers]
    entries = [
        {
            "Id": "<missing>",
            "Created": int(created_at(item)),
            "CreatedBy": item.get("created_by", ""),
            "Tags": None,
            "Size": 0 if item.get("empty_layer") else next(sizes, 0),
            "Comment": item.get("comment", ""),
        }
        for item in items
    ]
    entries.reverse()
    for entry, one in zip(entries, line, strict=False):
        entry.update(Id=f"sha256:{one.id}", Tags=one.tags or None)
    return entries
