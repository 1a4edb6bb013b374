"""``/exec``: further processes in running containers (Docker Engine API v1.51)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from fairlead.api import streams
from fairlead.api.app import answer, body_as, flag
from fairlead.api.containers import parse_size
from fairlead.api.create_body import Flag, Text, Texts, Words
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


class ExecBody(msgspec.Struct, rename="pascal"):
    """The body of ``POST /containers/{id}/exec`` (ExecConfig)."""

    attach_stdin: Flag = None
    attach_stdout: Flag = None
    attach_stderr: Flag = None
    cmd: Words = None
    console_size: tuple[int, int] | None = None
    """Rows and columns."""
    detach_keys: Text = None
    env: Texts = None
    privileged: Flag = None
    tty: Flag = None
    user: Text = None
    working_dir: Text = None


class StartBody(msgspec.Struct, rename="pascal"):
    """The body of ``POST /exec/{id}/start`` (ExecStartConfig)."""

    console_size: tuple[int, int] | None = None
    """Rows and columns."""
    detach: Flag = None
    tty: Flag = None


class Door:
    """The handlers."""

    def __init__(self, daemon: Daemon) -> None:
        self._containers = daemon.containers
        self._execs = daemon.containers.execs
        self._explainer = Explainer(daemon.containers)

    async def create(self, request: web.Request) -> web.StreamResponse:
        spec = _spec(await body_as(request, ExecBody))
        ref = request.match_info["ref"]
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.exec(ref, spec)]})
        return answer({"Id": self._execs.create(ref, spec).id}, 201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        wanted = await body_as(request, StartBody)
        execution = self._execs.get(request.match_info["id"])
        if flag(request, "explain"):
            return answer({"Lines": [self._explainer.exec(execution.container, execution.spec)]})
        size = wanted.console_size if wanted.console_size and any(wanted.console_size) else None
        if wanted.detach:
            await self._execs.start(execution.id, detach=True, size=size)
            return answer()
        self._execs.check_startable(execution.id)
        spec = execution.spec
        # Whether output comes in frames is for the start to say, whatever terminal the process has (as Docker).
        tty = bool(wanted.tty)
        keys = streams.parse_keys(spec.detach_keys) if spec.tty and spec.attach_stdin else b""

        async def begin() -> Attachment:
            try:
                return await self._execs.start(execution.id, size=size)
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


def _spec(wanted: ExecBody) -> ExecSpec:
    command = [wanted.cmd] if isinstance(wanted.cmd, str) else wanted.cmd
    if not command:
        raise Invalid("No exec command specified")
    env = wanted.env or []
    for variable in env:  # a name without ``=`` takes the container's variable away
        if variable.startswith("=") or not variable:
            raise Invalid(f"invalid environment variable: {variable}")
    workdir = wanted.working_dir or ""
    if workdir and not os.path.isabs(workdir):
        raise Invalid(f"the working directory '{workdir}' is invalid, it needs to be an absolute path")
    keys = wanted.detach_keys or ""
    streams.parse_keys(keys)
    return ExecSpec(
        command=tuple(command),
        env=tuple(env),
        user=wanted.user or "",
        workdir=workdir,
        tty=bool(wanted.tty),
        privileged=bool(wanted.privileged),
        attach_stdin=bool(wanted.attach_stdin),
        attach_stdout=bool(wanted.attach_stdout),
        attach_stderr=bool(wanted.attach_stderr),
        detach_keys=keys,
    )
