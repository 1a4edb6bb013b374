"""Whatever comes to the API's socket: an answer below 500 with one sentence, soon, and a daemon that goes on.

501 is an answer too: it names the feature that Fairlead has not.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lab import Host, images

from fairlead.api.absent import FEATURES, LOOKUPS

ROUTES = [
    *(f"GET {path}" for path in ("/_ping", "/version", "/info", "/events?until=1", "/system/df", "/networks")),
    *(f"GET {path}" for path in ("/networks/{}", "/containers/json", "/containers/{}/json", "/containers/{}/logs")),
    *(f"GET {path}" for path in ("/containers/{}/top", "/containers/{}/stats?stream=0", "/containers/{}/changes")),
    *(f"GET {path}" for path in ("/containers/{}/archive", "/containers/{}/export", "/exec/{}/json", "/images/json")),
    *(f"GET {path}" for path in ("/images/{}/json", "/images/{}/history", "/images/get", "/images/search", "/volumes")),
    *(f"GET {path}" for path in ("/volumes/{}", "/fairlead/netns", "/fairlead/links", "/fairlead/topology")),
    *(f"GET {path}" for path in ("/images/{}/get", "/containers/{}/attach/ws")),
    *("HEAD /_ping", "HEAD /containers/{}/archive", "PUT /containers/{}/archive"),
    *(f"POST /networks/{rest}" for rest in ("create", "prune", "{}/connect", "{}/disconnect")),
    *(f"POST /containers/{rest}" for rest in ("create", "prune", "{}/start", "{}/stop", "{}/restart", "{}/kill")),
    *(f"POST /containers/{rest}" for rest in ("{}/pause", "{}/unpause", "{}/rename", "{}/resize", "{}/update")),
    *(f"POST /containers/{rest}" for rest in ("{}/exec", "{}/attach", "{}/wait")),
    *(f"POST /{rest}" for rest in ("exec/{}/start", "exec/{}/resize", "images/{}/tag", "images/prune", "images/load")),
    *(f"POST /{rest}" for rest in ("images/create", "images/{}/push", "volumes/create", "volumes/prune", "commit")),
    *(f"POST /{rest}" for rest in ("auth", "fairlead/netns", "fairlead/links")),
    *(f"DELETE /{kind}/{{}}" for kind in ("networks", "containers", "images", "volumes")),
    *("DELETE /fairlead/netns/{}", "DELETE /fairlead/links/{}"),
    *(
        re.sub(r"{.*?}", "{}", line.strip())
        for lines in (*FEATURES.values(), *LOOKUPS.values())
        for line in lines.split(",")
    ),
]
"""Every request of the API, ``{}`` for a name.  Left out is ``POST /fairlead/reset`` and its like, which end it all."""

FIELDS = [
    "Name",
    "Image",
    "Cmd",
    "Env",
    "Labels",
    "Driver",
    "Internal",
    "IPAM",
    "Options",
    "Container",
    "Force",
    "EndpointConfig",
    "IPAMConfig",
    "IPv4Address",
    "Config",
    "Subnet",
    "Gateway",
    "HostConfig",
    "NetworkMode",
    "PortBindings",
    "80/tcp",
    "HostPort",
    "HostIp",
    "Binds",
    "Mounts",
    "Type",
    "Source",
    "Target",
    "Memory",
    "NetworkingConfig",
    "EndpointsConfig",
    "bridge",
    "Aliases",
    "RestartPolicy",
    "MaximumRetryCount",
    "Tty",
    "User",
    "ExposedPorts",
    "Healthcheck",
    "Test",
    "Interval",
    "Detach",
    "ConsoleSize",
    "WorkingDir",
    "Sysctls",
    "Tmpfs",
    "Ulimits",
    "LogConfig",
    "Devices",
    "StopTimeout",
    "CapAdd",
    "ExtraHosts",
    "EnableIPv6",
    "ConfigOnly",
    "ConfigFrom",
    "Network",
    "Ends",
    "Sandbox",
    "Interface",
    "DriverOpts",
    "VolumeOptions",
]
NAMES = [
    "box",
    "net",
    "bridge",
    "host",
    "none",
    "alpine",
    "x",
    "box:x",
    "a b",
    "ü",
    "%",
    "..",
    "0" * 64,
    "-",
    "a" * 300,
]
PARAMETERS = [
    "all",
    "limit",
    "size",
    "filters",
    "signal",
    "condition",
    "name",
    "force",
    "v",
    "link",
    "stdout",
    "stderr",
    "tail",
    "since",
    "until",
    "timestamps",
    "follow",
    "h",
    "w",
    "path",
    "ps_args",
    "repo",
    "tag",
    "fromImage",
    "fromSrc",
    "platform",
    "verbose",
    "scope",
    "detachKeys",
    "stream",
    "one-shot",
    "noOverwriteDirNonDir",
    "digests",
    "names",
    "type",
    "explain",
    "logs",
    "stdin",
]
VALUES = [
    *(
        "",
        "0",
        "1",
        "true",
        "nope",
        "-1",
        "9" * 30,
        "1e400",
        "\0",
        "/",
        "../..",
        "(",
        "[",
        "ctrl-",
        "\ud7ff",
        "a" * 5000,
    ),
    *('{"name":["("]}', '{"label":[""]}', '{"until":["-1"]}', '{"status":[1]}', "{}", "[]", "null", "[" * 2000),
    *('{"id":{"a":true}}', '{"exited":["x"]}', '{"before":["x"]}', '{"network":[""]}', '{"publish":["x/y/z"]}'),
]

BOX = b"""{"Image": "alpine", "Cmd": ["sh", "-c", "trap 'exit 0' HUP INT TERM; sleep 99 & wait"]}"""
"""A container that ends at once when it is asked to."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.sampled_from([*NAMES, "10.9.0.0/24", "10.9.0.9", "fd00::/64", "80", "70000", "sleep", "/tmp", "", "\0"]),
    st.text(max_size=12),
)
documents = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(FIELDS), st.text(max_size=6)), inner, max_size=5),
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.none(),
    documents.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(st.sampled_from(FIELDS), documents, max_size=6).map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"{", b"[" * 100000, b"\xff\xfe", b'{"Name":"a"}{}', b'{"a":1e999}', b'"' + b"a" * 100000 + b'"']),
    st.binary(max_size=60),
)
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "X-Registry-Auth", "Expect", "Accept", "Range", "Host", "X-Forwarded-For"]),
    st.sampled_from(["application/json", "text/plain", "nope", "e30=", "100-continue", "bytes=0-1", "a" * 2000, "é"]),
    max_size=2,
)
queries = st.dictionaries(st.sampled_from(PARAMETERS), st.sampled_from(VALUES), max_size=3)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host with a container that sleeps, and a network."""
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.fairlead("network", "create", "net")
        yield one


def keep_stocked(host: Host) -> None:
    """Whatever a request removed is there again."""
    ask(
        host.run_dir / "fairlead.sock",
        "POST",
        "/containers/create?name=box",
        BOX,
    )
    ask(host.run_dir / "fairlead.sock", "POST", "/containers/box/start", None)
    ask(host.run_dir / "fairlead.sock", "POST", "/networks/create", b'{"Name":"net"}')


def ask(
    path: Path, method: str, target: str, body: bytes | None, more: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Status and what came within 10 s after the request; raises `TimeoutError` where nothing did."""
    lines = {"Host": "fairlead", "Connection": "close", **(more or {})}
    if body is not None:
        lines = {"Content-Type": "application/json", **lines, "Content-Length": str(len(body))}
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(str(path))
        with contextlib.suppress(BrokenPipeError):
            one.sendall(head.encode() + b"\r\n" + (body or b""))
        said = b""
        while b"\r\n\r\n" not in (said := said.removeprefix(CONTINUE)):
            if not (part := one.recv(65536)):
                break
            said += part
        status = int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.") else 0
        while status >= 400:  # streams that are no errors have no end to wait for
            if not (part := one.recv(65536)):
                break
            said += part
    return status, said


@pytest.mark.timeout(600)
@settings(max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    route=st.sampled_from(ROUTES),
    version=st.sampled_from(["", "/v1.22", "/v1.41", "/v1.51", "/v9", "/v0", "/v1.41.1", "/v"]),
    names=st.lists(st.sampled_from(NAMES), min_size=2, max_size=2),
    query=queries,
    body=bodies,
    more=headers,
)
def test_no_request_gets_the_daemon_out_of_step(
    host: Host,
    route: str,
    version: str,
    names: list[str],
    query: dict[str, str],
    body: bytes | None,
    more: dict[str, str],
) -> None:
    keep_stocked(host)
    method, path = route.split(" ", 1)
    for name in names:
        path = path.replace("{}", quote(name, safe=":"), 1)
    words = "&".join(f"{quote(name)}={quote(value, errors='replace')}" for name, value in query.items())
    target = version + path + (("&" if "?" in path else "?") + words if words else "")
    status, said = ask(host.run_dir / "fairlead.sock", method, target, body, more)
    assert 100 < status < 500 or status in (501, 503), f"{method} {target} {body!r} → {said!r}"
    assert b"Traceback" not in said
    head, _, answer = said.partition(b"\r\n\r\n")
    if status >= 400 and method != "HEAD" and b"Content-Type: application/json" in head:
        message = json.loads(answer)["message"]
        assert message
        assert "internal error" not in message


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\0" * 100,
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nContent-Length: nope\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /networks/create HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n" + b"A: b\r\n" * 50000 + b"\r\n",
        b"GET /_ping HTTP/1.1\r\nA: " + b"b" * 200000 + b"\r\n\r\n",
        b"GET /_ping HTTP/1.1\r\n: b\r\n\r\n",
        b"POST /containers/create HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 999999999999\r\n\r\n{}",
    ],
)
def test_broken_http_ends_its_connection_alone(host: Host, raw: bytes) -> None:
    path = host.run_dir / "fairlead.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.settimeout(10)
        one.connect(str(path))
        with contextlib.suppress(OSError):
            one.sendall(raw)
            one.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := one.recv(65536):
                said += part
    assert not said or said.split(b" ", 2)[1].startswith(b"4"), said[:200]
    assert b"Traceback" not in said
    assert ask(path, "GET", "/_ping", None)[0] == 200
