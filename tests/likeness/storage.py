"""Scenarios: volumes, files, and the devices beneath."""

from __future__ import annotations

import os

from likeness.client import Call, Step, cli
from likeness.steps import container, delete, filtered, get, post

BLOCK = next(f"/dev/{name}" for name in sorted(os.listdir("/sys/block")) if os.path.exists(f"/dev/{name}"))
"""A block device of this machine; it is only named, not read."""

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
    "volumes with options": [
        cli("volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=1m,uid=1000,mode=700,noexec tt"),
        cli("run --rm -v tt:/tt alpine sh -c stat·-c·%u:%a·/tt;grep·/tt·/proc/mounts"),
        cli("volume create base"),
        cli("volume inspect --format {{.Mountpoint}} base", output=False, keep="place"),
        cli("run --rm -v base:/b alpine sh -c echo·kept·>/b/f"),
        cli("volume create --opt type=none --opt device={place} --opt o=bind bound", output=False),
        cli("run --rm -v bound:/b alpine cat /b/f"),
        cli("volume create --opt type=none --opt device={place} --opt o=bind,ro,nosuid fixed", output=False),
        cli("run --rm -v fixed:/b alpine touch /b/g"),
        cli("run --rm -v {place}:/b:ro alpine touch /b/g"),
        cli("volume create --opt type=none --opt device={place}/nope --opt o=bind none", output=False),
        cli("run --rm -v none:/b alpine true"),
        cli("volume create --opt type=nfs --opt device=:/export --opt o=addr=127.0.0.1,soft,rw,vers=3 net"),
        get("/volumes/net"),
        cli("run --rm -v net:/b alpine true"),
        container("cc", HostConfig={"Binds": ["net:/n"], "NetworkMode": "none"}),
        post("/containers/cc/start"),
        cli("inspect --format {{.State.Status}}·{{.State.ExitCode}}·{{.State.Error}} cc"),
        delete("/volumes/net"),
        delete("/containers/cc"),
        delete("/volumes/net"),
        cli("volume create --opt type=cifs --opt device=//127.0.0.1/x --opt o=addr=127.0.0.1,username=a cifs"),
        cli("run --rm -v cifs:/b alpine true"),
        cli("run --rm --mount type=volume,src=inl,dst=/m,volume-opt=type=tmpfs,volume-opt=device=tmpfs alpine ls /m"),
        cli("volume inspect --format {{json·.Options}} inl"),
    ],
    "limits of block I/O": [
        container(
            "cc",
            HostConfig={
                "NetworkMode": "none",
                "BlkioWeight": 300,
                "BlkioWeightDevice": [{"Path": BLOCK, "Weight": 200}],
                "BlkioDeviceReadBps": [{"Path": BLOCK, "Rate": 1 << 20}],
                "BlkioDeviceWriteBps": [{"Path": BLOCK, "Rate": 2 << 20}],
                "BlkioDeviceReadIOps": [{"Path": BLOCK, "Rate": 30}],
                "BlkioDeviceWriteIOps": [{"Path": BLOCK, "Rate": 40}],
            },
        ),
        get("/containers/cc/json"),
        post("/containers/cc/start"),
        cli("exec cc sh -c grep·.·/sys/fs/cgroup/blkio/blkio.throttle.*_device·/sys/fs/cgroup/io.max·2>&1"),
        post("/containers/cc/update", {"BlkioWeight": 400}),
        get("/containers/cc/json"),
        container("dd", HostConfig={"BlkioDeviceReadBps": [{"Path": "/dev/nope", "Rate": 1}], "NetworkMode": "none"}),
        post("/containers/dd/start"),
        container("ee", HostConfig={"BlkioDeviceReadBps": [{"Path": BLOCK, "Rate": -1}], "NetworkMode": "none"}),
        container("ff", HostConfig={"BlkioDeviceReadBps": [{"Path": "/dev/null", "Rate": 1}], "NetworkMode": "none"}),
        post("/containers/ff/start"),
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
