"""``/_ping``, ``/version`` and ``/info``."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import subprocess
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from aiohttp import web

from fairlead import __version__
from fairlead.api.app import API_VERSION, MIN_API_VERSION, Daemon, answer
from fairlead.containers.record import Container, Status
from fairlead.drivers import driver_names
from fairlead.images.platforms import architecture


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
        return answer(await asyncio.to_thread(version_shape))

    async def info(_: web.Request) -> web.Response:
        return answer(await asyncio.to_thread(info_shape, daemon))

    return [web.get("/_ping", ping), web.get("/version", version), web.get("/info", info)]


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
        "GitCommit": "",
        "GoVersion": "",
    }
    parts = [{"Name": name, "Version": version, "Details": {}} for name in _PROGRAMS if (version := program(name))]
    return {
        "Platform": {"Name": "Fairlead"},
        "Version": __version__,
        "Components": [
            {"Name": "Engine", "Version": __version__, "Details": {**common, "Experimental": "false"}},
            *parts,
        ],
        "PythonVersion": platform.python_version(),
        **common,
    }


_PROGRAMS = ("crun", "conmon", "skopeo")


@cache
def program(name: str) -> str:
    """The version of a program that we run; empty where it is not installed."""
    try:
        done = subprocess.run([name, "--version"], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return next((word for word in done.stdout.split() if word[:1].isdigit()), "")


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
        "DriverStatus": [
            ["Backing Filesystem", _file_system(str(daemon.paths.state))],
            ["Supports d_type", "true"],
            ["Native Overlay Diff", "true"],
            ["userxattr", "false"],
        ],
        "DockerRootDir": str(daemon.paths.state),
        "Plugins": {
            "Volume": ["local"],
            "Network": sorted(driver_names()),
            "Authorization": None,
            "Log": ["json-file", "local", "none"],
        },
        **_limits(),
        "IPv4Forwarding": _sysctl("net/ipv4/ip_forward") == "1",
        "BridgeNfIptables": _sysctl("net/bridge/bridge-nf-call-iptables") == "1",
        "BridgeNfIp6tables": _sysctl("net/bridge/bridge-nf-call-ip6tables") == "1",
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": len(sys._current_frames()),
        "SystemTime": datetime.now().astimezone().isoformat(),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "NEventsListener": daemon.events.listening,
        "KernelVersion": platform.release(),
        "OperatingSystem": _operating_system("PRETTY_NAME", "Linux"),
        "OSVersion": _operating_system("VERSION_ID", ""),
        "OSType": "linux",
        "Architecture": platform.machine(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["127.0.0.0/8", "::1/128"],
            "IndexConfigs": {"docker.io": {"Name": "docker.io", "Mirrors": [], "Secure": True, "Official": True}},
            "Mirrors": [],
        },
        "GenericResources": None,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "ServerVersion": __version__,
        "Runtimes": {"crun": {"path": "crun"}},
        "DefaultRuntime": "crun",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": False,
            "Error": "",
            "RemoteManagers": None,
        },
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": program("crun")},
        "InitCommit": {"ID": ""},
        "SecurityOptions": [f"name={name}" for name in ("cgroupns",)],
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": [],
        "Warnings": None,
    }


def _limits() -> dict[str, Any]:
    """Which limits this kernel can set, in whichever version of control groups it has."""
    root = Path("/sys/fs/cgroup")
    try:
        controllers = (root / "cgroup.controllers").read_text().split()
        version = "2"
    except OSError:
        controllers, version = [path.name for path in root.glob("*") if path.is_dir()], "1"
    swap = version == "2" or (root / "memory/memory.memsw.limit_in_bytes").exists()
    return {
        "CgroupVersion": version,
        "MemoryLimit": "memory" in controllers,
        "SwapLimit": "memory" in controllers and swap,
        "CpuCfsPeriod": "cpu" in controllers,
        "CpuCfsQuota": "cpu" in controllers,
        "CPUShares": "cpu" in controllers,
        "CPUSet": "cpuset" in controllers,
        "PidsLimit": "pids" in controllers,
        "OomKillDisable": version == "1" and "memory" in controllers,
    }


@cache
def _file_system(path: str) -> str:
    """The type of the file system that holds a directory (proc(5), mounts), by Docker's name for it."""
    found, longest = "", -1
    for line in Path("/proc/self/mounts").read_text(errors="replace").split("\n")[:-1]:
        _, where, kind, *_ = line.split()
        if (path == where or path.startswith(where.rstrip("/") + "/")) and len(where) >= longest:
            found, longest = kind, len(where)
    return {"ext2": "extfs", "ext3": "extfs", "ext4": "extfs", "overlay": "overlayfs"}.get(found, found)


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
def _operating_system(field: str, default: str) -> str:
    """A field of os-release(5)."""
    try:
        return platform.freedesktop_os_release().get(field, default)
    except OSError:
        return default
