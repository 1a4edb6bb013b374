"""``fairlead cp``, ``export`` and ``diff``: containers' files in and out."""

from __future__ import annotations

import os
import stat
import sys

from fairlead.cli.client import ApiError, Client, segment
from fairlead.cli.flags import EXPLAIN, OUTPUT, Command, Failure, Flag, Options, Usage
from fairlead.cli.output import explained, print_json, print_lines
from fairlead.cli.quick import loads
from fairlead.cli.stream import write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    import tarfile
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from fairlead.cli.client import Value

_BLOCK = 1 << 18
_GO_DIRECTORY = 1 << 31
_KINDS = {0: "C", 1: "A", 2: "D"}


def split(text: str) -> tuple[str, str]:
    """``CONTAINER:PATH`` as both; a local path has no container, and may have a colon after a slash or a dot."""
    head, colon, path = text.partition(":")
    if not colon or "/" in head or head.startswith("."):
        return "", text
    return head, path


def _cp(options: Options, words: list[str]) -> None:
    source, target = map(split, words)
    if bool(source[0]) == bool(target[0]):
        raise Usage("one of SOURCE and TARGET must be CONTAINER:PATH, the other a path of this machine or -")
    if source[0]:
        _out(Client(), *source, target[1], options)
    else:
        _in(Client(), source[1], *target, options)


def _look(client: Client, container: str, path: str) -> dict[str, Any] | None:
    """What is at a path in the container, None where nothing is."""
    try:
        response = client.request("HEAD", f"/containers/{segment(container)}/archive", query={"path": path})
    except ApiError as error:
        if error.status == 404:
            client.get(f"/containers/{segment(container)}/json")  # says so where it is the container that is missing
            return None
        raise Failure(f"{container}:{path}: {'not a directory' if error.status == 400 else error}") from None
    found = _status(response.headers)
    if found["linkTarget"]:
        return _look(client, container, found["linkTarget"]) or found
    return found


def _status(headers: dict[str, str]) -> dict[str, Any]:
    import base64

    found: dict[str, Any] = loads(base64.b64decode(headers["x-docker-container-path-stat"]))
    return found


# Into a container


def _in(client: Client, source: str, container: str, target: str, options: Options) -> None:
    archive = f"/containers/{segment(container)}/archive"
    query: dict[str, Any] = {"noOverwriteDirNonDir": True, "copyUIDGID": options.flag("archive")}
    query |= explained(options, "source", source)
    if source == "-":
        query["path"] = target or "/"
        if options.flag("explain"):
            print_lines(loads(client.request("PUT", archive, query=query).read()))
        else:
            client.request("PUT", archive, raw=_stdin(), query=query).read()
        return
    path = os.path.realpath(source) if options.flag("follow-link") else source
    try:
        status = os.lstat(path)
    except OSError as error:
        raise Failure(f"{source}: {error.strerror}") from None
    is_directory = stat.S_ISDIR(status.st_mode)
    inside = target if target.startswith("/") else f"/{target}"
    found = _look(client, container, inside)
    place, name = _destination(inside, found, os.path.basename(source.rstrip("/")), is_directory, path.endswith("/."))
    query["path"] = place
    if options.flag("explain"):
        # What is in a directory is copied, and not the directory as such: to where it may be already.
        query |= {"source": os.path.abspath(path) + ("/." if is_directory else ""), "name": name}
        print_lines(loads(client.request("PUT", archive, query=query).read()))
        return
    client.request("PUT", archive, raw=_pack(path, name), query=query).read()


def _destination(
    target: str, found: dict[str, Any] | None, base: str, is_directory: bool, contents: bool
) -> tuple[str, str]:
    """The directory to unpack in, and the name to have there (``.``: what is copied is merged into it)."""
    if found is not None and found["mode"] & _GO_DIRECTORY:
        return target, "." if contents else base
    if found is not None and is_directory:
        raise Failure(f"cannot copy a directory to {target}, which is a file")
    if target.endswith("/") and not is_directory:
        raise Failure(f"{target} is no directory that exists")
    parent, _, name = target.rstrip("/").rpartition("/")
    return parent or "/", name


def _stdin() -> Iterator[bytes]:
    if sys.stdin.isatty():
        raise Failure("a tar archive is expected on stdin, not a terminal", 2)
    while data := os.read(0, _BLOCK):
        yield data


def _pack(path: str, name: str) -> Iterator[bytes]:
    """A tar of the tree, named `name`, piece by piece."""
    import io
    import tarfile

    # It notes which files were met before, under other names.
    numbers = tarfile.TarFile(fileobj=io.BytesIO(), mode="w")
    for place, label in _tree(path, name):
        member = numbers.gettarinfo(place, label)
        if member is None:
            continue  # a socket
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if member.isreg():
            left = member.size
            with open(place, "rb") as file:
                while left:
                    # As many bytes as were announced, whatever happens to the file meanwhile.
                    data = file.read(min(_BLOCK, left)) or bytes(min(_BLOCK, left))
                    left -= len(data)
                    yield data
            yield bytes(-member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _tree(path: str, name: str) -> Iterator[tuple[str, str]]:
    yield path, name
    if os.path.islink(path.rstrip("/")) and not path.endswith(("/", "/.")):
        return
    if not os.path.isdir(path):
        return
    for directory, directories, files in os.walk(path):
        below = os.path.relpath(directory, path)
        for entry in sorted(directories + files):
            yield os.path.join(directory, entry), os.path.normpath(os.path.join(name, below, entry))


# Out of a container


class _Stream:
    """A body as a file to read from."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size:
            part = next(self._parts, b"")
            if not part:
                break
            self._rest += part
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def _out(client: Client, container: str, path: str, target: str, options: Options) -> None:
    inside = path if path.startswith("/") else f"/{path}"
    archive = f"/containers/{segment(container)}/archive"
    if options.flag("follow-link"):
        found = _look(client, container, inside)
        if found is not None and found["name"] != os.path.basename(inside.rstrip("/")):
            inside = _status(client.request("HEAD", archive, query={"path": inside}).headers)["linkTarget"] or inside
    explain = options.flag("explain")
    query: dict[str, Value] = {"path": inside, "explain": explain, "owner": options.flag("archive")}
    response = client.request("GET", archive, query=query)
    if explain and target == "-":
        print_lines(loads(response.read()))
        return
    if explain:
        response.read()
        response = client.request("HEAD", archive, query=query)
    if target == "-":
        for data in response.stream():
            write_all(1, data)
        return
    is_directory = bool(_status(response.headers)["mode"] & _GO_DIRECTORY)
    base = os.path.basename(inside.rstrip("/"))
    if os.path.isdir(target):
        place = target if inside.endswith("/.") else os.path.join(target, base)
    elif is_directory and os.path.lexists(target):
        raise Failure(f"cannot copy a directory to {target}, which is a file")
    elif not is_directory and target.endswith("/"):
        raise Failure(f"{target} is no directory that exists")
    else:
        place = target
    if explain:
        query |= explained(options, "target", place)
        print_lines(loads(client.request("GET", archive, query=query).read()))
        return
    _unpack(_Stream(response.stream()), place, keep_owner=options.flag("archive"))  # type: ignore[arg-type]


def _unpack(source: BinaryIO, target: str, *, keep_owner: bool) -> None:
    """Unpack so that the archive's first member is `target`.  No member is written through a link."""
    import tarfile

    times: list[tuple[str, float]] = []
    with tarfile.open(fileobj=source, mode="r|") as tar:
        for member in tar:
            rest = member.name.strip("/").partition("/")[2] if member.name != "." else ""
            if member.name.startswith(("/", "./")):
                rest = member.name.lstrip("./") if member.name.startswith("./") else member.name.strip("/")
            words = [word for word in rest.split("/") if word]
            if ".." in words:
                raise Failure(f"the archive has the member {member.name!r}, which leads out of it")
            place = os.path.join(target, *words)
            above = target
            for word in words[:-1]:
                above = os.path.join(above, word)
                if os.path.islink(above):
                    raise Failure(f"the archive has a member beneath {above}, which is a link")
            if member.islnk():
                inner = member.linkname.strip("/").partition("/")[2]
                member.linkname = os.path.join(target, inner)
            _write(tar, member, place, keep_owner)
            if member.isdir():
                times.append((place, member.mtime))
    for place, moment in reversed(times):
        os.utime(place, (moment, moment))


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, place: str, keep_owner: bool) -> None:
    if not keep_owner:
        member.uid, member.gid = os.getuid(), os.getgid()
    if member.isdir() and os.path.isdir(place):
        return
    if os.path.lexists(place):
        if os.path.isdir(place) and not os.path.islink(place):
            raise Failure(f"cannot overwrite the directory {place} with a file")
        if member.isdir():
            raise Failure(f"cannot overwrite the file {place} with a directory")
        if not os.path.islink(place) or not member.isreg():
            os.unlink(place)
        else:
            place = os.path.realpath(place)
    if member.islnk():
        os.link(member.linkname, place, follow_symlinks=False)
        return
    directory, name = os.path.split(place)
    member.name = name
    tar.extract(member, directory or ".", numeric_owner=True)


def _export(options: Options, words: list[str]) -> None:
    save(f"/containers/{segment(words[0])}/export", options)


def save(path: str, options: Options, **query: Value) -> None:
    """Write an archive of the API's to stdout, or to a file that only takes its name when it is whole."""
    file = options.text("output")
    if options.flag("explain"):
        print_lines(Client().get(path, **query, **explained(options, "target", file)))
        return
    if not file and sys.stdout.isatty():
        raise Failure("an archive is no text for a terminal: use --output or redirect", 2)
    _save(Client().request("GET", path, query=query).stream(), file)


def _save(parts: Iterator[bytes], file: str) -> None:
    if not file:
        for data in parts:
            write_all(1, data)
        return
    partial = f"{file}.partial-{os.getpid()}"
    try:
        with open(partial, "xb") as out:
            for data in parts:
                out.write(data)
        os.rename(partial, file)
    except BaseException:
        if os.path.exists(partial):
            os.unlink(partial)
        raise


def _diff(options: Options, words: list[str]) -> None:
    changes = Client().get(f"/containers/{segment(words[0])}/changes") or []
    if options.text("format") == "json":
        print_json(changes)
        return
    for change in changes:
        print(_KINDS[change["Kind"]], change["Path"])


CP = Command(
    "cp",
    "[OPTIONS] CONTAINER:PATH PATH|- | PATH|- CONTAINER:PATH",
    "Copy files between a container and this machine",
    _cp,
    (
        Flag("-a --archive", "Keep owners; into a container: all belongs to its user"),
        Flag("-L --follow-link", "Copy what a link leads to"),
        Flag("-q --quiet", "No effect: there is no progress to suppress"),
        EXPLAIN,
    ),
    (2, 2),
)
EXPORT = Command(
    "export",
    "[OPTIONS] CONTAINER",
    "Write a container's files as a tar archive",
    _export,
    (OUTPUT, EXPLAIN),
    (1, 1),
)
DIFF = Command(
    "diff",
    "CONTAINER",
    "List the files that a container added (A), changed (C) and deleted (D)",
    _diff,
    (Flag("--format", "'json'", "text"),),
    (1, 1),
)
