"""Steps in few words, for scenarios."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from likeness.client import Call


def get(path: str, **more: Any) -> Call:
    return Call("GET", path, **more)


def post(path: str, body: Any = None, **more: Any) -> Call:
    return Call("POST", path, body, **more)


def delete(path: str) -> Call:
    return Call("DELETE", path)


def filtered(path: str, filters: str) -> Call:
    """A listing with filters, given as JSON."""
    return get(f"{path}?filters={quote(filters)}")


def network(name: str, subnet: str = "", **more: Any) -> Call:
    """Create a network; the id is kept under its name."""
    ipam = {"IPAM": {"Config": [{"Subnet": subnet}]}} if subnet else {}
    return post("/networks/create", {"Name": name, **ipam, **more}, keep={name: "Id"})


def container(name: str, *command: str, **more: Any) -> Call:
    """Create a container; the id is kept under its name."""
    host = {"HostConfig": {"NetworkMode": "none"}} if "HostConfig" not in more else {}
    body = {"Image": "alpine", "Cmd": list(command) or ["sleep", "600"], **host, **more}
    return post(f"/containers/create?name={name}", body, keep={name: "Id"})


def in_network(name: str, net: str, settings: dict[str, Any] | None = None) -> Call:
    """Create a container with one endpoint."""
    more: dict[str, Any] = {"HostConfig": {"NetworkMode": net}}
    if settings is not None:
        more["NetworkingConfig"] = {"EndpointsConfig": {net: settings}}
    return container(name, **more)
