"""``fairlead image …``."""

from __future__ import annotations

import os
import sys

from fairlead.cli.client import Client, segment
from fairlead.cli.flags import EXPLAIN, FILTER, FORMAT, NO_TRUNC, OUTPUT, QUIET, Command, Failure, Flag, Options
from fairlead.cli.output import each, explained, filters, print_json, print_lines, short, show, since, size
from fairlead.cli.parse import image_name
from fairlead.cli.quick import loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, BinaryIO, TextIO

_BLOCK = 1 << 18
_BAR = 30


class Progress:
    """Docker's progress messages: one line an object, redrawn in place on a terminal, nothing elsewhere."""

    def __init__(self, out: TextIO, quiet: bool = False) -> None:
        self._out = out
        self.live = out.isatty() and not quiet
        """Whether all that is said is shown as it comes."""
        self._lines: dict[str, str] = {}

    def follow(self, messages: Iterable[dict[str, Any]]) -> list[str]:
        """Show the messages as they come; returns what was said about the whole; raises the error among them."""
        said = []
        for message in messages:
            if "error" in message:
                raise Failure(str(message["error"]))
            if "stream" in message:
                said.append(str(message["stream"]).strip())
            elif message.get("id"):
                self._draw(str(message["id"]), message)
            elif message.get("status"):
                said.append(str(message["status"]))
                if self.live:
                    print(message["status"], file=self._out, flush=True)
                    self._lines.clear()
        return said

    def _draw(self, id_: str, message: dict[str, Any]) -> None:
        if not self.live:
            return
        detail = message.get("progressDetail") or {}
        text = f"{id_}: {message.get('status', '')}"
        if current := detail.get("current"):
            if total := detail.get("total"):
                filled = min(_BAR, _BAR * current // total)
                text += f" [{'=' * filled}{' ' * (_BAR - filled)}] {size(current)}/{size(total)}"
            else:
                text += f" {size(current)}"
        known = list(self._lines)
        self._lines[id_] = text
        if id_ in known:
            up = len(known) - known.index(id_)
            self._out.write(f"\033[{up}A\r\033[K{text}\r\033[{up}B")
        else:
            self._out.write(f"\r\033[K{text}\n")
        self._out.flush()


def pull(client: Client, ref: str, out: TextIO, *, quiet: bool = False, platform: str = "") -> None:
    """Pull an image, with progress on `out` where that is a terminal, and warnings in any case."""
    name, tag = image_name(ref)
    query = {"fromImage": name, "tag": tag, "platform": platform or None}
    progress = Progress(out, quiet)
    for line in progress.follow(client.request("POST", "/images/create", query=query).messages()):
        if line.startswith("WARNING") and not progress.live:
            print(line, file=out)


def _pull(options: Options, words: list[str]) -> None:
    platform = options.text("platform")
    if options.flag("explain"):
        name, tag = image_name(words[0])
        query = {"fromImage": name, "tag": tag, "platform": platform or None}
        print_lines(Client().post("/images/create", **query, explain=True))
        return
    pull(Client(), words[0], sys.stderr, quiet=options.flag("quiet"), platform=platform)
    name, tag = image_name(words[0])
    print(f"{name}@{tag}" if "@" in words[0] else f"{name}:{tag}")


def _open(path: str) -> BinaryIO:
    if path in ("", "-"):
        if sys.stdin.isatty():
            raise Failure("an archive is expected on stdin or by --input, not a terminal", 2)
        return sys.stdin.buffer
    return open(path, "rb")


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while data := os.read(file.fileno(), _BLOCK):
        yield data


def _load(options: Options, _: list[str]) -> None:
    name = options.text("input")
    with _open(name) as file:
        query = {
            "quiet": options.flag("quiet"),
            "platform": options.text("platform") or None,
            **explained(options, "source", name),
        }
        response = Client().request("POST", "/images/load", raw=_blocks(file), query=query)
        if options.flag("explain"):
            print_lines(loads(response.read()))
            return
        for line in Progress(sys.stderr, options.flag("quiet")).follow(response.messages()):
            print(line)


def _import(options: Options, words: list[str]) -> None:
    name, tag = image_name(words[1]) if len(words) > 1 else ("", "")
    with _open(words[0]) as file:
        response = Client().request(
            "POST",
            "/images/create",
            raw=_blocks(file),
            query={
                "fromSrc": "-",
                "repo": name or None,
                "tag": tag or None,
                "message": options.text("message") or None,
                "platform": options.text("platform") or None,
                "changes": options.many("change"),
                **explained(options, "source", words[0]),
            },
        )
        if options.flag("explain"):
            print_lines(loads(response.read()))
            return
        for line in Progress(sys.stderr, quiet=True).follow(response.messages()):
            print(line)


def _ls(options: Options, words: list[str]) -> None:
    wanted = options.many("filter") + [f"reference={word}" for word in words]
    images = Client().get("/images/json", all=options.flag("all"), filters=filters(wanted))
    if options.text("format") == "json":
        print_json(images)
        return
    rows: list[dict[str, Any]] = []
    for image in images:
        for tag in image.get("RepoTags") or ["<none>:<none>"]:
            name, _, version = tag.rpartition(":")
            rows.append({**image, "Repository": name, "Tag": version})

    def id_of(image: dict[str, Any]) -> str:
        return str(image["Id"]) if options.flag("no-trunc") else short(image["Id"])

    if options.flag("quiet"):
        rows = list({row["Id"]: row for row in rows}.values())
    show(
        options,
        rows,
        {
            "REPOSITORY": lambda image: image["Repository"],
            "TAG": lambda image: image["Tag"],
            "IMAGE ID": id_of,
            "CREATED": lambda image: since(image["Created"]),
            "SIZE": lambda image: size(image["Size"]),
        },
        id_of=id_of,
    )


def _inspect(options: Options, words: list[str]) -> int:
    from fairlead.cli.inspect import show_all

    client = Client()
    return show_all(options, words, lambda word: client.get(f"/images/{segment(word)}/json"))


def _tag(options: Options, words: list[str]) -> None:
    name, tag = image_name(words[1])
    answer = Client().post(f"/images/{segment(words[0])}/tag", repo=name, tag=tag, explain=options.flag("explain"))
    print_lines(answer)


def _rm(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def remove(word: str) -> str | None:
        answer = client.delete(
            f"/images/{segment(word)}", force=options.flag("force"), noprune=options.flag("no-prune"), explain=explain
        )
        if explain:
            print_lines(answer)
            return None
        return _removed(answer)

    return each(words, remove)


def _removed(answer: list[dict[str, str]]) -> str:
    return "\n".join(f"{what}: {name}" for entry in answer for what, name in entry.items())


def _prune(options: Options, _: list[str]) -> None:
    from fairlead.cli.prune import print_freed, print_removed, prune

    def show_names(answer: dict[str, Any]) -> None:
        removed = answer.get("ImagesDeleted")
        print_removed("Deleted Images:", [_removed(removed)] if removed else None)
        print_freed(answer)

    everything = options.flag("all")
    warning = f"This will remove all {'images no container uses' if everything else 'dangling images'}."
    wanted = [*options.many("filter"), f"dangling={'false' if everything else 'true'}"]
    prune(options, "/images/prune", warning, wanted, show_names)


def _save(options: Options, words: list[str]) -> None:
    from fairlead.cli.copy import save

    save("/images/get", options, names=words, platform=options.text("platform") or None)


def _history(options: Options, words: list[str]) -> None:
    entries = Client().get(f"/images/{segment(words[0])}/history")
    whole = options.flag("no-trunc")

    def id_of(entry: dict[str, Any]) -> str:
        return str(entry["Id"]) if whole else short(entry["Id"])

    def made_by(entry: dict[str, Any]) -> str:
        text = " ".join(entry["CreatedBy"].split())
        return text if whole or len(text) <= 45 else text[:44] + "…"

    show(
        options,
        entries,
        {
            "IMAGE": id_of,
            "CREATED": lambda entry: since(entry["Created"]),
            "CREATED BY": made_by,
            "SIZE": lambda entry: size(entry["Size"]),
            "COMMENT": lambda entry: entry["Comment"],
        },
        id_of=id_of,
    )


def _search(options: Options, words: list[str]) -> None:
    limit = options.text("limit") or None
    found = Client().get("/images/search", term=words[0], limit=limit, filters=filters(options.many("filter")))
    whole = options.flag("no-trunc")

    def description(image: dict[str, Any]) -> str:
        text = " ".join((image["description"] or "").split())
        return text if whole or len(text) <= 45 else text[:44] + "…"

    show(
        options,
        found,
        {
            "NAME": lambda image: image["name"],
            "DESCRIPTION": description,
            "STARS": lambda image: str(image["star_count"]),
            "OFFICIAL": lambda image: "[OK]" if image["is_official"] else "",
        },
        id_of=lambda image: str(image["name"]),
    )


def _push(options: Options, words: list[str]) -> None:
    name, tag = image_name(words[0])
    if "@" in words[0]:
        raise Failure("cannot push a digest reference: give a tag", 2)
    query = {"tag": None if options.flag("all-tags") else tag, "platform": options.text("platform") or None}
    if options.flag("explain"):
        print_lines(Client().post(f"/images/{name}/push", **query, explain=True))
        return
    response = Client().request("POST", f"/images/{name}/push", headers={"X-Registry-Auth": "e30="}, query=query)
    for line in Progress(sys.stderr, options.flag("quiet")).follow(response.messages()):
        if ": digest: " in line or not options.flag("quiet"):
            print(line)


def _commit(options: Options, words: list[str]) -> None:
    name, tag = image_name(words[1]) if len(words) > 1 else ("", "")
    answer = Client().post(
        "/commit",
        {},
        container=words[0],
        repo=name or None,
        tag=tag or None,
        comment=options.text("message") or None,
        author=options.text("author") or None,
        changes=options.many("change"),
        pause="1" if options.flag("pause", True) else "0",
        explain=options.flag("explain"),
    )
    if options.flag("explain"):
        print_lines(answer)
    else:
        print(answer["Id"])


_QUIET = Flag("-q --quiet", "No progress")
_ONLY_FOR = Flag("--platform", "Refuse images that are for another platform", "text")
PULL = Command(
    "image pull",
    "[OPTIONS] NAME[:TAG|@DIGEST]",
    "Pull an image from a registry",
    _pull,
    (Flag("--platform", "The image for another platform, such as linux/arm64", "text"), _QUIET, EXPLAIN),
    (1, 1),
)
LOAD = Command(
    "image load",
    "[OPTIONS]",
    "Load images from an archive that docker save or skopeo wrote",
    _load,
    (
        Flag("-i --input", "The archive, instead of stdin", "text", "file"),
        Flag("--platform", "Only the images for a platform, such as linux/arm64", "text"),
        _QUIET,
        EXPLAIN,
    ),
)
IMPORT = Command(
    "image import",
    "[OPTIONS] FILE|- [NAME[:TAG]]",
    "Make an image of a root file system's tar archive",
    _import,
    (
        Flag("-c --change", "Dockerfile instruction, such as 'CMD [\"sh\"]'", "list"),
        Flag("-m --message", "Note for the image's history", "text"),
        Flag("--platform", "The platform that it is for, if not this one", "text"),
        EXPLAIN,
    ),
    (1, 2),
)
SAVE = Command(
    "image save",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Write images to an archive that docker load and image load read",
    _save,
    (OUTPUT, _ONLY_FOR, EXPLAIN),
    (1, None),
)
HISTORY = Command(
    "image history",
    "[OPTIONS] IMAGE",
    "Show how an image was made, layer by layer",
    _history,
    (QUIET, NO_TRUNC, FORMAT),
    (1, 1),
)
SEARCH = Command(
    "search",
    "[OPTIONS] TERM",
    "Search a registry for images: TERM or HOST[:PORT]/TERM",
    _search,
    (
        Flag("--limit", "How many results at most, 1 to 100", "text"),
        Flag("-f --filter", "Only those that fit, such as 'stars=3' or 'is-official=true'", "list", "filter"),
        NO_TRUNC,
        FORMAT,
    ),
    (1, 1),
)
PUSH = Command(
    "image push",
    "[OPTIONS] NAME[:TAG]",
    "Push an image to a registry",
    _push,
    (Flag("-a --all-tags", "All tags of the repository"), _ONLY_FOR, _QUIET, EXPLAIN),
    (1, 1),
)
COMMIT = Command(
    "commit",
    "[OPTIONS] CONTAINER [NAME[:TAG]]",
    "Make an image of a container's changes",
    _commit,
    (
        Flag("-a --author", "Author, such as 'Ann <ann@example.org>'", "text"),
        Flag("-c --change", "Dockerfile instruction, such as 'CMD [\"sh\"]'", "list"),
        Flag("-m --message", "Note for the image's history", "text"),
        Flag("-p --pause", "Freeze the container meanwhile (default true)"),
        EXPLAIN,
    ),
    (1, 2),
)
LS = Command(
    "image ls",
    "[OPTIONS] [NAME[:TAG]]",
    "List images",
    _ls,
    (Flag("-a --all", "No effect: there are no intermediate images"), QUIET, NO_TRUNC, FILTER, FORMAT),
    (0, 1),
)
INSPECT = Command(
    "image inspect",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Show images in full",
    _inspect,
    (Flag("-f --format", "'json' or a template such as '{{.Id}}'", "text"),),
    (1, None),
)
TAG = Command("image tag", "IMAGE NEW_NAME[:TAG]", "Give an image another name", _tag, (EXPLAIN,), (2, 2))
RM = Command(
    "image rm",
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    _rm,
    (Flag("-f --force", "Also if a stopped container uses it"), Flag("--no-prune", "Keep untagged parents"), EXPLAIN),
    (1, None),
)
PRUNE = Command(
    "image prune",
    "[OPTIONS]",
    "Remove unused images",
    _prune,
    (
        Flag("-a --all", "All images that no container uses, not just dangling ones"),
        Flag("-f --force", "Do not ask"),
        Flag("--filter", "Only those that fit, such as 'until=24h'", "list", "filter"),
        FORMAT,
        EXPLAIN,
    ),
)
