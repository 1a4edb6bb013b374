"""Containers' files from outside: what `fairlead.copier` is asked to do, and how it is run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

from fairlead import copier
from fairlead.containers.record import Container
from fairlead.errors import Conflict, DiskFull, FairleadError, Forbidden, Invalid, NotFound
from fairlead.paths import Paths

_ERRORS: dict[int, type[FairleadError]] = {
    400: Invalid,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    507: DiskFull,
}
_LINE_MAX = 1 << 20


def command(job: dict[str, Any]) -> list[str]:
    """The command line of one job."""
    return [sys.executable, "-I", "-S", copier.__file__, json.dumps(job)]


def image_has(lower: Iterable[Path], path: str) -> bool:
    """Whether an image may have something at a path: where a link on the way leads to is not looked for."""
    layers, inside = list(lower), Path()
    for part in Path(path).parts[1:]:
        inside /= part
        found = [layer / inside for layer in layers if os.path.lexists(layer / inside)]
        if not found or any(place.is_symlink() for place in found):
            return bool(found)
    return True


def fill(paths: Paths, lower: Iterable[Path], places: Sequence[tuple[str, Path]]) -> None:
    """Copy what an image has at each path into the directory beside it, where that is empty; blocks."""
    paths.view.mkdir(parents=True, exist_ok=True)
    wanted = [[inside, str(outside)] for inside, outside in places]
    job = {"do": "fill", "view": str(paths.view), "lower": [str(layer) for layer in lower], "places": wanted}
    done = subprocess.run(command(job), stdin=subprocess.DEVNULL, capture_output=True, close_fds=True)
    _answer(done.stdout.partition(b"\n")[0], done.stderr)


def _answer(line: bytes, complaint: bytes) -> dict[str, Any]:
    """The first line of what the program says; raises what it met with."""
    try:
        answer: dict[str, Any] = json.loads(line)
    except ValueError:
        last = (complaint.decode(errors="replace").strip().splitlines() or ["it gave no reason"])[-1]
        raise FairleadError(f"the container's files cannot be reached: {last}") from None
    if "error" in answer:
        status, sentence = answer["error"]
        raise _ERRORS.get(status, FairleadError)(sentence)
    return answer


def view(container: Container, paths: Paths, lower: Iterable[Path], *, writable: bool) -> dict[str, Any]:
    """The part of a job that says what the container sees.

    Of one that runs it is the mounted root itself.  Of one at rest its own layer is the topmost of the lower ones, so
    that looking does not disturb a start; for writing it is mounted as at a start, and no start may come between.
    """
    spec, state = container.spec, paths.container_state(container.id)
    job: dict[str, Any] = {"view": str(paths.view), "container": container.name, "read_only": spec.read_only}
    layers = [str(layer) for layer in lower]
    if container.is_running:
        job["root"] = str(paths.container_run(container.id) / "rootfs")
    elif writable:
        job |= {"lower": layers, "upper": str(state / "upper"), "work": str(state / "work")}
    else:
        upper = [str(state / "upper")] if (state / "upper").is_dir() else []
        job["lower"] = [*upper, *layers]
    mounts = [(bind.source, "", bind.target, "ro" in bind.options) for bind in spec.binds]
    mounts += [(str(paths.volume(v.name)), v.subpath, v.target, v.read_only) for v in spec.volumes]
    job["mounts"] = sorted(mounts, key=lambda mount: mount[2].count("/"))
    return job


class Copy:
    """A job under way: its answer is read, its streams are the caller's."""

    def __init__(self, process: asyncio.subprocess.Process, answer: dict[str, Any]) -> None:
        self.process = process
        self.answer = answer

    async def chunks(self) -> AsyncIterator[bytes]:
        """What the program writes after its answer."""
        assert self.process.stdout is not None
        while data := await self.process.stdout.read(1 << 18):
            yield data
        if await self.process.wait():
            assert self.process.stderr is not None
            last = (await self.process.stderr.read()).decode(errors="replace").strip()[-500:]
            raise FairleadError(f"reading the container's files failed: {last or 'it gave no reason'}")


@contextlib.asynccontextmanager
async def running(job: dict[str, Any], paths: Paths, body: AsyncIterator[bytes] | None = None) -> AsyncIterator[Copy]:
    """Run a job, feed it `body`, and read its answer; raises what it refuses.  It ends with the context."""
    paths.view.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        *command(job),
        stdin=asyncio.subprocess.DEVNULL if body is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_MAX,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if body is not None:
            await _feed(process, body)
        line = await process.stdout.readline()
        complaint = b"" if line.strip() else await process.stderr.read()
        yield Copy(process, _answer(line, complaint))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        await process.wait()


async def _feed(process: asyncio.subprocess.Process, body: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None
    # What refuses early reads no more: its answer says why.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        async for chunk in body:
            process.stdin.write(chunk)
            await process.stdin.drain()
        process.stdin.write_eof()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        process.stdin.close()
