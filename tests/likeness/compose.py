"""What docker-compose 2 asks for a project of two services: up, ps, logs, scale, recreate, down.

The requests are those of its package pkg/compose (github.com/docker/compose), bodies as Go's client writes them: with
every member, most of them empty.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from likeness.client import Call, Pause, Step

PROJECT = "com.docker.compose.project"
_NETWORK = "shop_default"
_VOLUME = "shop_data"
_HEALTH = {"Test": ["CMD", "true"], "Interval": 1000000000, "StartPeriod": 1000000000}


def _call(method: str, path: str, body: Any = None, *, keep: dict[str, str] | None = None, **query: Any) -> Call:
    words = "&".join(
        f"{name}={quote(value if isinstance(value, str) else json.dumps(value))}" for name, value in query.items()
    )
    return Call(method, f"{path}?{words}" if words else path, body, keep=keep or {})


def _labels(service: str, number: int, **more: str) -> dict[str, str]:
    return {
        PROJECT: "shop",
        "com.docker.compose.service": service,
        "com.docker.compose.oneoff": "False",
        "com.docker.compose.container-number": str(number),
        "com.docker.compose.config-hash": f"hash-{service}",
        "com.docker.compose.image": "sha256:0",
        "com.docker.compose.depends_on": "",
        "com.docker.compose.version": "2.40.0",
        **{f"com.docker.compose.{name}": value for name, value in more.items()},
    }


def _create(service: str, number: int, name: str, keep: str, labels: dict[str, str], **host: Any) -> Call:
    config = {
        "Hostname": "", "Domainname": "", "User": "", "AttachStdin": False, "AttachStdout": True, "AttachStderr": True,
        "ExposedPorts": {port: {} for port in host.get("PortBindings", {})}, "Tty": False,
        "OpenStdin": False, "StdinOnce": False,
        "Env": None, "Cmd": ["sh", "-c", f"echo {service}; exec sleep 600"], "Image": "alpine", "Volumes": None,
        "WorkingDir": "", "Entrypoint": None, "OnBuild": None, "Labels": labels,
        "Healthcheck": _HEALTH if service == "db" else None,
        "StopTimeout": 1,
    }  # fmt: skip
    host_config = {
        "Binds": None, "ContainerIDFile": "", "LogConfig": {"Type": "", "Config": None}, "NetworkMode": _NETWORK,
        "PortBindings": {}, "RestartPolicy": {"Name": "", "MaximumRetryCount": 0}, "AutoRemove": False,
        "VolumeDriver": "", "VolumesFrom": None, "ConsoleSize": [0, 0], "CapAdd": None, "CapDrop": None,
        "CgroupnsMode": "", "Dns": None, "DnsOptions": None, "DnsSearch": None, "ExtraHosts": [], "GroupAdd": None,
        "IpcMode": "", "Cgroup": "", "Links": None, "OomScoreAdj": 0, "PidMode": "", "Privileged": False,
        "PublishAllPorts": False, "ReadonlyRootfs": False, "SecurityOpt": None, "UTSMode": "", "UsernsMode": "",
        "ShmSize": 0, "Isolation": "", "CpuShares": 0, "Memory": 0, "NanoCpus": 0, "CgroupParent": "",
        "BlkioWeight": 0, "BlkioWeightDevice": None, "BlkioDeviceReadBps": None, "BlkioDeviceWriteBps": None,
        "BlkioDeviceReadIOps": None, "BlkioDeviceWriteIOps": None, "CpuPeriod": 0, "CpuQuota": 0,
        "CpuRealtimePeriod": 0, "CpuRealtimeRuntime": 0, "CpusetCpus": "", "CpusetMems": "", "Devices": None,
        "DeviceCgroupRules": None, "DeviceRequests": None, "MemoryReservation": 0, "MemorySwap": 0,
        "MemorySwappiness": None, "OomKillDisable": False, "PidsLimit": None, "Ulimits": None, "MaskedPaths": None,
        "ReadonlyPaths": None, **host,
    }  # fmt: skip
    endpoint = {
        "IPAMConfig": None, "Links": None, "Aliases": [name, service], "MacAddress": "", "NetworkID": "",
        "EndpointID": "", "Gateway": "", "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "",
        "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "DriverOpts": None, "DNSNames": None,
    }  # fmt: skip
    body = {
        **config,
        "HostConfig": host_config,
        "NetworkingConfig": {"EndpointsConfig": {_NETWORK: endpoint}},
    }
    return _call("POST", "/containers/create", body, keep={keep: "Id"}, name=name)


_OF_PROJECT = {"label": {f"{PROJECT}=shop": True, "com.docker.compose.config-hash": True}}
_NO_ONE_OFFS = {"label": {**_OF_PROJECT["label"], "com.docker.compose.oneoff=False": True}}


def _of_service(name: str) -> dict[str, Any]:
    return {"label": {f"{PROJECT}=shop": True, f"com.docker.compose.service={name}": True}}


_DATA = [{"Type": "volume", "Source": _VOLUME, "Target": "/data", "VolumeOptions": {}}]
_PORTS = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8099"}]}

_UP: list[Step] = [
    _call("GET", "/images/alpine/json"),
    _call("GET", "/images/nope/json"),
    _call("GET", "/networks", filters={"name": {_NETWORK: True}}),
    _call(
        "POST",
        "/networks/create",
        {
            "Name": _NETWORK, "CheckDuplicate": True, "Driver": "", "Scope": "", "EnableIPv6": None,
            "IPAM": {"Driver": "", "Options": None, "Config": [{"Subnet": "10.61.0.0/24"}]}, "Internal": False,
            "Attachable": False, "Ingress": False, "ConfigOnly": False, "ConfigFrom": None, "Options": None,
            "Labels": {PROJECT: "shop", "com.docker.compose.network": "default"},
        },
        keep={"net": "Id"},
    ),
    _call("GET", f"/networks/{_NETWORK}"),
    _call("GET", f"/volumes/{_VOLUME}"),
    _call(
        "POST",
        "/volumes/create",
        {"Driver": "", "DriverOpts": None, "Labels": {PROJECT: "shop"}, "Name": _VOLUME},
    ),
    _call("GET", f"/volumes/{_VOLUME}"),
    _call("GET", "/containers/json", all="1", filters=_OF_PROJECT),
    _create("db", 1, "shop-db-1", "db", _labels("db", 1), Mounts=_DATA),
    _call("GET", "/containers/{db}/json"),
    _create("web", 1, "shop-web-1", "web", _labels("web", 1, depends_on="db"), PortBindings=_PORTS),
    _call("POST", "/containers/{db}/start"),
    Pause("shop-db-1", "healthy"),
    _call("POST", "/containers/{web}/start"),
    Pause("shop-web-1", "running"),
    _call("GET", "/containers/{web}/json"),
]  # fmt: skip

_LOOK: list[Step] = [
    _call("GET", "/containers/json", all="1", filters=_NO_ONE_OFFS),
    _call("GET", "/containers/json", filters=_of_service("web")),
    _call("GET", "/containers/json", filters={"label": {f"{PROJECT}=other": True}}),
    _call("GET", "/containers/{db}/logs", follow="0", stdout="1", stderr="1", tail="all", timestamps="0"),
    _call("GET", "/containers/{db}/top"),
    _call("GET", "/images/json", filters={"reference": {"alpine": True}}),
    _call("GET", "/images/json", filters={"label": {f"{PROJECT}=shop": True}}),
    _call("GET", "/volumes", filters={"label": {f"{PROJECT}=shop": True}}),
    _call("GET", "/networks", filters={"label": {f"{PROJECT}=shop": True, "com.docker.compose.network=default": True}}),
    _call(
        "POST",
        "/containers/{db}/exec",
        {
            "User": "", "Privileged": False, "Tty": False, "AttachStdin": False, "AttachStderr": True,
            "AttachStdout": True, "Detach": False, "DetachKeys": "", "Env": None, "WorkingDir": "",
            "Cmd": ["echo", "said"],
        },
        keep={"exec": "Id"},
    ),
    _call("POST", "/exec/{exec}/start", {"Detach": False, "Tty": False, "ConsoleSize": None}),
    _call("GET", "/exec/{exec}/json"),
]  # fmt: skip

_SCALE: list[Step] = [
    _create("db", 2, "shop-db-2", "db2", _labels("db", 2), Mounts=_DATA),
    _call("POST", "/containers/{db2}/start"),
    Pause("shop-db-2", "healthy"),
    _call("GET", "/containers/json", filters=_of_service("db")),
    _call("POST", "/containers/{db2}/stop", t="1"),
    _call("DELETE", "/containers/{db2}", force="1"),
]

_RECREATE: list[Step] = [
    _call("POST", "/containers/{web}/stop", t="0"),
    _create("web", 1, "0123456789ab_shop-web-1", "web2", _labels("web", 1, replace="{web}"), PortBindings=_PORTS),
    _call("DELETE", "/containers/{web}", force="1"),
    _call("POST", "/containers/{web2}/rename", name="shop-web-1"),
    _call("POST", "/containers/{web2}/start"),
    Pause("shop-web-1", "running"),
    _call("GET", "/containers/{web2}/json"),
]

_DOWN: list[Step] = [
    _call("GET", "/containers/json", all="1", filters=_NO_ONE_OFFS),
    _call("POST", "/containers/{web2}/stop"),
    _call("DELETE", "/containers/{web2}", force="1"),
    _call("POST", "/containers/{db}/stop"),
    _call("DELETE", "/containers/{db}", force="1", v="1"),
    _call("GET", "/networks/{net}"),
    _call("DELETE", "/networks/{net}"),
    _call("DELETE", f"/volumes/{_VOLUME}", force="1"),
    _call("DELETE", f"/volumes/{_VOLUME}", force="1"),
    _call("GET", "/containers/json", all="1", filters=_OF_PROJECT),
]

COMPOSE: dict[str, list[Step]] = {"docker-compose 2": [*_UP, *_LOOK, *_SCALE, *_RECREATE, *_DOWN]}
