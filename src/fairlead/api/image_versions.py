"""Members of images' JSON that older clients read (Docker's “Engine API version history”)."""

from __future__ import annotations

from typing import Any

_EMPTY: dict[str, Any] = {
    "Hostname": "",
    "Domainname": "",
    "User": "",
    "AttachStdin": False,
    "AttachStdout": False,
    "AttachStderr": False,
    "Tty": False,
    "OpenStdin": False,
    "StdinOnce": False,
    "Env": None,
    "Cmd": None,
    "Image": "",
    "Volumes": None,
    "WorkingDir": "",
    "Entrypoint": None,
    "OnBuild": None,
    "Labels": None,
}
"""A container's configuration of which nothing is set: until 1.50 an image's was one of the kind."""


def with_virtual_size(image: dict[str, Any], version: tuple[int, ...]) -> dict[str, Any]:
    """Before 1.44 an image had a second size, in the end the same as the first."""
    return {**image, "VirtualSize": image["Size"]} if version < (1, 44) else image


def as_asked(image: dict[str, Any], version: tuple[int, ...]) -> dict[str, Any]:
    """The whole of ``docker image inspect`` in the shape of a version."""
    image = with_virtual_size(image, version)
    if version < (1, 50):
        image = {**image, "Config": {**_EMPTY, **image["Config"]}}
    if version < (1, 45):
        image = {**image, "Container": "", "ContainerConfig": dict(_EMPTY)}
    return image
