"""``POST /auth``: whether a registry takes a user's name and password, as ``docker login`` asks (Engine API v1.51).

skopeo asks the registry; nothing is kept, since clients keep credentials themselves and send them with each pull.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from typing import Any

import msgspec
from aiohttp import web

from fairlead.api.app import Daemon, answer, body_as
from fairlead.errors import Invalid, MissingProgram, Unauthorized, Unavailable

SECONDS = 30
"""How long a registry may take."""

_DOCKER_HUB = "docker.io"
_SERVER = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?|\[[0-9a-fA-F:]+\](?::\d{1,5})?")


class AuthConfig(msgspec.Struct):
    """The body; the names of its fields are in lower case (AuthConfig)."""

    username: str | None = None
    password: str | None = None
    serveraddress: str | None = None
    identitytoken: str | None = None


def routes(_: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""
    return [web.post("/auth", login)]


async def login(request: web.Request) -> web.StreamResponse:
    """Ask the registry."""
    wanted = await body_as(request, AuthConfig)
    server = server_of(wanted.serveraddress or "")
    if wanted.identitytoken:
        raise Invalid("identity tokens are not supported: give a user name and a password")
    if not wanted.username or not wanted.password:
        raise Invalid("a login needs a username and a password")
    complaint = await _ask(server, wanted.username, wanted.password)
    if complaint:
        if re.search(
            r"invalid username/password|unauthorized|authentication required|denied", complaint, re.IGNORECASE
        ):
            raise Unauthorized(f"login attempt to https://{server}/v2/ failed with status: 401 Unauthorized")
        raise Unavailable(f"the registry {server} cannot be asked: {complaint}")
    return answer({"Status": "Login Succeeded", "IdentityToken": ""})


def server_of(address: str) -> str:
    """The host and port of a registry's address, which may have a scheme and a path; raises `Invalid`."""
    server = address.partition("://")[2] or address
    server = server.partition("/")[0]
    if server in ("", "index.docker.io", "registry-1.docker.io"):
        return _DOCKER_HUB
    if not _SERVER.fullmatch(server):
        raise Invalid(f"invalid registry address {address[:80]!r}: HOST or HOST:PORT is needed")
    return server


async def _ask(server: str, username: str, password: str) -> str:
    """What skopeo complains about; empty when the registry said yes."""
    if any(ord(character) < 32 for character in username + password):
        raise Invalid("a username and a password have no control characters")
    host = server.rpartition(":")[0] or server
    plain = ["--tls-verify=false"] if host == "localhost" or host.startswith("127.") or host == "[::1]" else []
    with tempfile.TemporaryDirectory(prefix="fairlead-login-") as directory:
        words: list[Any] = ["login", f"--authfile={directory}/auth.json", f"--username={username}", "--password-stdin"]
        try:
            process = await asyncio.create_subprocess_exec(
                "skopeo",
                *words,
                *plain,
                server,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError:
            raise MissingProgram("skopeo is not installed: it asks registries") from None
        try:
            _, said = await asyncio.wait_for(process.communicate(password.encode()), SECONDS)
        except (TimeoutError, asyncio.CancelledError) as error:
            process.kill()
            await process.wait()
            if isinstance(error, TimeoutError):
                return f"no answer within {SECONDS} s"
            raise
    text = said.decode(errors="replace").strip()
    reason = re.search(r'msg="(.*)"$', text, re.MULTILINE)
    return "" if process.returncode == 0 else (reason[1] if reason else text or "skopeo gave no reason")
