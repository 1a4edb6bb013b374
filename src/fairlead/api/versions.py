"""What clients of older API versions read, and newer ones do not (Docker's “Engine API version history”)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web

ALIASES_WITHOUT_ID = (1, 45)
"""From this version on a container's short id is no more among its aliases, but in DNSNames alone."""


ERRORS_AS_JSON = (1, 24)
"""Before this version an error was its bare sentence."""


def asked(request: web.Request) -> tuple[int, ...]:
    """The version in the path; a path without one means the newest."""
    version = request.match_info.get("version")
    return tuple(int(part) for part in version.split(".")) if version else (1 << 30,)


def with_short_ids(request: web.Request, containers: Iterable[dict[str, Any]]) -> None:
    """Put the short id into the aliases for those who look for it there: docker-compose 1.29 joins networks again
    where it is not."""
    if asked(request) >= ALIASES_WITHOUT_ID:
        return
    for container in containers:
        for endpoint in container["NetworkSettings"]["Networks"].values():
            if endpoint.get("DNSNames"):  # in a network with names
                endpoint["Aliases"] = [*(endpoint["Aliases"] or ()), container["Id"][:12]]


_SETTINGS: dict[str, Any] = {
    **dict.fromkeys(("Hostname", "Domainname", "User", "Image", "WorkingDir"), ""),
    **dict.fromkeys(("AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"), False),
    **dict.fromkeys(("Env", "Cmd", "Volumes", "Entrypoint", "OnBuild", "Labels"), None),
}
"""What the configuration of an image shows up to version 1.49, set or not."""


def with_old_fields(request: web.Request, images: Iterable[dict[str, Any]]) -> None:
    """Images as older clients know them: with a size under a second name, empty settings, and names that say none."""
    version = asked(request)
    for image in images:
        if version < (1, 43) and "Config" not in image and not image["RepoTags"] and not image["RepoDigests"]:
            image |= {"RepoTags": ["<none>:<none>"], "RepoDigests": ["<none>@<none>"]}
        if version < (1, 44):
            image["VirtualSize"] = image["Size"]
        if version < (1, 50) and "Config" in image:
            image["Config"] = {**_SETTINGS, **(image["Config"] or {})}
        if "Config" in image:
            # Gone with 1.45; but docker-compose 1.29, which speaks the newest version that there is, looks here for the
            # image's volumes when it makes a container anew, and fails without.
            image["ContainerConfig"] = {**(image["Config"] or {}), **image.get("ContainerConfig", {})}
