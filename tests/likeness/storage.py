"""Scenarios: volumes and files."""

from __future__ import annotations

from likeness.client import Call, Step
from likeness.steps import container, delete, filtered, get, post

STORAGE: dict[str, list[Step]] = {
    "volumes": [
        post("/volumes/create", {"Name": "vv", "Labels": {"a": "b"}}),
        post("/volumes/create", {"Name": "vv"}),
        post("/volumes/create", {"Name": "ww", "Driver": "local", "DriverOpts": {}}),
        post("/volumes/create", {"Name": "bad", "Driver": "nope"}),
        post("/volumes/create", {"Name": "bad name"}),
        post("/volumes/create", {"Name": "bad", "DriverOpts": {"nope": "1"}}),
        get("/volumes/vv"),
        get("/volumes"),
        filtered("/volumes", '{"name":["vv"]}'),
        filtered("/volumes", '{"label":["a"]}'),
        filtered("/volumes", '{"dangling":["true"]}'),
        container(
            "cc",
            HostConfig={
                "Binds": ["vv:/data", "/tmp:/host:ro"],
                "Mounts": [{"Type": "volume", "Source": "ww", "Target": "/w"}, {"Type": "tmpfs", "Target": "/t"}],
            },
            Volumes={"/anonymous": {}},
        ),
        get("/containers/cc/json"),
        delete("/volumes/vv"),
        filtered("/volumes", '{"dangling":["true"],"name":["vv"]}'),
        delete("/containers/cc?v=1"),
        post("/volumes/prune"),
        delete("/volumes/vv"),
        get("/volumes"),
    ],
    "files": [
        container("cc"),
        Call("HEAD", "/containers/cc/archive?path=/etc/passwd"),
        get("/containers/cc/archive?path=/nope"),
        get("/containers/cc/archive"),
        Call("PUT", "/containers/cc/archive?path=/nope", b""),
        Call("PUT", "/containers/cc/archive?path=/tmp", b"no tar at all, but long enough to be taken for one" * 30),
        get("/containers/nope/archive?path=/"),
        get("/containers/cc/changes"),
        get("/containers/nope/export"),
    ],
}
