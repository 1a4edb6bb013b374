"""``/exec``: further processes in running containers (Docker Engine API v1.51)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aiohttp import web

from fairlead.api import streams
from fairlead.api.app import answer, body, flag
from fairlead.api.containers import parse_size
from fairlead.containers.execs import ExecSpec
from fairlead.containers.explain import Explainer
from fairlead.containers.streams import STDOUT, Attachment, Frame
from fairlead.errors import FairleadError, Invalid

if TYPE_CHECKING:
    from fairlead.api.app import Daemon


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """Every route of this module."""
    door = Door(daemon)
    return [
        web.post("/containers/{ref}/exec", door.create),
        web.post("/exec/{id}/start", door.start),
        web.post("/exec/{id}/resize", door.resize),
        web.get("/exec/{id}/json", door.inspect),
    ]


class Door:
    """The handlers."""

    def __init__(self, daemon: Daemon) -> None:
        self._containers = daemon.containers
        self._execs = daemon.containers.execs
        self._explainer = Explainer(daemon.containers)

    async def create(self, request: web.Request) -> web.StreamResponse:
        spec = _spec(await body(request))
        ref = request.match_info["ref"]
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.exec(ref, spec)]})
        return answer({"Id": self._execs.create(ref, spec).id}, 201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        document = await body(request)
        execution = self._execs.get(request.match_info["id"])
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.exec(execution.container, execution.spec)]})
        size = document.get("ConsoleSize")
        if size is not None and not (isinstance(size, list) and [type(n) for n in size] == [int, int]):
            raise Invalid("ConsoleSize must be a list of two numbers: rows and columns")
        wanted = (size[0], size[1]) if size and any(size) else None
        if document.get("Detach"):
            await self._execs.start(execution.id, detach=True, size=wanted)
            return answer()
        self._execs.check_startable(execution.id)
        spec = execution.spec
        # Whether output comes in frames is for the start to say, whatever terminal the process has (as Docker).
        tty = bool(document.get("Tty"))
        keys = streams.parse_keys(spec.detach_keys) if spec.tty and spec.attach_stdin else b""

        async def begin() -> Attachment:
            try:
                return await self._execs.start(execution.id, size=wanted)
            except FairleadError as error:
                # The client has asked for a stream and gets one; the exit code tells the rest (as Docker does).
                attachment = Attachment(stdout=True, stderr=True)
                await attachment.put(Frame(STDOUT, f"{error}\r\n".encode()))
                await attachment.finish()
                return attachment

        return await streams.serve(request, begin, tty=tty, stdin=spec.attach_stdin, detach_keys=keys)

    async def resize(self, request: web.Request) -> web.StreamResponse:
        self._execs.resize(request.match_info["id"], *parse_size(request))
        return answer()

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        execution = self._execs.get(request.match_info["id"])
        spec = execution.spec
        return answer(
            {
                "ID": execution.id,
                "ContainerID": execution.container,
                "Running": execution.running,
                "ExitCode": execution.exit_code,
                "CanRemove": False,
                "Pid": execution.pid,
                "OpenStdin": spec.attach_stdin,
                "OpenStdout": spec.attach_stdout,
                "OpenStderr": spec.attach_stderr,
                "DetachKeys": spec.detach_keys,
                "ProcessConfig": {
                    "tty": spec.tty,
                    "entrypoint": spec.command[0],
                    "arguments": list(spec.command[1:]),
                    "privileged": spec.privileged,
                    "user": spec.user,
                },
            }
        )


def _spec(document: dict[str, Any]) -> ExecSpec:
    command = document.get("Cmd")
    if isinstance(command, str):
        command = [command]
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        raise Invalid("No exec command specified")
    env = document.get("Env") or []
    if not isinstance(env, list) or not all(isinstance(word, str) and "=" in word for word in env):
        raise Invalid("Env must be a list of NAME=VALUE strings")
    workdir = document.get("WorkingDir") or ""
    if workdir and not os.path.isabs(workdir):
        raise Invalid(f"the working directory '{workdir}' is invalid, it needs to be an absolute path")
    return ExecSpec(
        command=tuple(command),
        env=tuple(env),
        user=str(document.get("User") or ""),
        workdir=workdir,
        tty=bool(document.get("Tty")),
        privileged=bool(document.get("Privileged")),
        attach_stdin=bool(document.get("AttachStdin")),
        attach_stdout=bool(document.get("AttachStdout")),
        attach_stderr=bool(document.get("AttachStderr")),
        detach_keys=_detach_keys(
            document.get("DetachKeys", document.get("detachKeys"))
        ),  # docker-py writes the latter,
    )


def _detach_keys(keys: object) -> str:
    if not isinstance(keys, str | None):
        raise Invalid("DetachKeys must be a string")
    streams.parse_keys(keys or "")
    return keys or ""
