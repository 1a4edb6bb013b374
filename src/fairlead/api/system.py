"""``/_ping``, ``/version`` and ``/info``."""

from __future__ import annotations

import os
import platform
import socket
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from fairlead import __version__
from fairlead.api.app import API_VERSION, MIN_API_VERSION, Daemon, answer
from fairlead.containers.record import Container, Status

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "ppc64le": "ppc64le"}
"""Go's names (GOARCH), which Docker uses, by the kernel's."""


def routes(daemon: Daemon) -> list[web.RouteDef]:
    """The routes of this module."""

    async def ping(request: web.Request) -> web.Response:
        headers = {
            "Cache-Control": "no-cache, no-store, must-revalidate",
            "Pragma": "no-cache",
            "Builder-Version": "1",
            "Swarm": "inactive",
        }
        return web.Response(text="OK", headers=headers)

    async def version(_: web.Request) -> web.Response:
        return answer(version_shape())

    async def info(_: web.Request) -> web.Response:
        return answer(info_shape(daemon))

    return [web.get("/_ping", ping), web.get("/version", version), web.get("/info", info)]


@cache
def architecture() -> str:
    """The machine's architecture in Go's words."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def version_shape() -> dict[str, Any]:
    """What ``GET /version`` answers (SystemVersion)."""
    built = datetime.fromtimestamp(os.stat(__file__).st_mtime).astimezone().isoformat(timespec="seconds")
    common = {
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": platform.release(),
        "BuildTime": built,
    }
    return {
        "Platform": {"Name": "Fairlead"},
        "Version": __version__,
        "Components": [{"Name": "Engine", "Version": __version__, "Details": common}],
        "GitCommit": "",
        "GoVersion": "",
        "PythonVersion": platform.python_version(),
        **common,
    }


def info_shape(daemon: Daemon) -> dict[str, Any]:
    """What ``GET /info`` answers (SystemInfo), with counts of what is there now."""
    statuses = [container.status for container in daemon.engine.store.all(Container)]
    up, paused = statuses.count(Status.RUNNING), statuses.count(Status.PAUSED)
    return {
        "ID": _machine_id(),
        "Name": socket.gethostname(),
        "Containers": len(statuses),
        "ContainersRunning": up,
        "ContainersPaused": paused,
        "ContainersStopped": len(statuses) - up - paused,
        "Images": len(daemon.images.list()),
        "Driver": "overlay2",
        "DriverStatus": [["Backing Filesystem", "overlayfs"]],
        "DockerRootDir": str(daemon.paths.state),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "none"],
            "Authorization": None,
            "Log": ["json-file"],
        },
        "MemoryLimit": True,
        "SwapLimit": False,
        "CpuCfsPeriod": True,
        "CpuCfsQuota": True,
        "CPUShares": True,
        "CPUSet": True,
        "PidsLimit": True,
        "IPv4Forwarding": _sysctl("net/ipv4/ip_forward") == "1",
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": len(sys._current_frames()),
        "SystemTime": datetime.now().astimezone().isoformat(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": "2" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "1",
        "NEventsListener": daemon.events.listening,
        "KernelVersion": platform.release(),
        "OperatingSystem": _operating_system(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {"InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"], "IndexConfigs": {}, "Mirrors": []},
        "GenericResources": None,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {"crun": {"path": "crun"}},
        "DefaultRuntime": "crun",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "ControlAvailable": False, "Error": ""},
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "SecurityOptions": [],
        "Warnings": None,
    }


def _sysctl(path: str) -> str:
    try:
        return Path("/proc/sys", path).read_text().strip()
    except OSError:
        return ""


@cache
def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text().strip()
    except OSError:
        return ""


@cache
def _operating_system() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "Linux"
    return release.get("PRETTY_NAME", "Linux")
