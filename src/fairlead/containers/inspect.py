"""Containers in Docker's shapes (Engine API v1.51): ``GET /containers/{id}/json`` and ``GET /containers/json``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

from fairlead.ago import ago
from fairlead.containers import mounting
from fairlead.containers.bundle import MASKED, READ_ONLY
from fairlead.containers.health import Health
from fairlead.containers.plans import etc_files, log_path
from fairlead.containers.record import Container, HealthCheck, Limits, Status
from fairlead.endpoints import IFNAME
from fairlead.engine import EndpointSpec, PortSpec
from fairlead.model import Endpoint, Network
from fairlead.paths import Paths

_NEVER = "0001-01-01T00:00:00Z"

_NAMELESS: Mapping[str, str] = {}


def rfc3339(seconds: float) -> str:
    """Seconds since the epoch as Docker writes times, with nanoseconds; 0 is Go's zero time."""
    if not seconds:
        return _NEVER
    whole = int(seconds)
    nanoseconds = int((seconds - whole) * 1_000_000) * 1000
    return datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}Z"


def status_word(container: Container) -> str:
    """created, running, paused, restarting, removing or exited."""
    return _shown(container).value


def _shown(container: Container) -> Status:
    """The status as it is told: nobody hears of a start before it has succeeded."""
    match container.status:
        case Status.STARTING:
            return Status.EXITED if container.finished else Status.CREATED
        case Status.STARTING_AGAIN:
            return Status.RESTARTING
        case status:
            return status


def inspect(
    container: Container,
    *,
    paths: Paths,
    endpoints: list[Endpoint],
    networks: Mapping[str, Network],
    image_config: dict[str, Any],
    execs: list[str],
    health: Health | None = None,
    namespace: str = "",
    names: Mapping[str, str] = _NAMELESS,
) -> dict[str, Any]:
    """The whole of ``docker inspect``.

    `namespace`: the path of the sandbox it runs in, empty for none.  `networks`: all, by id.  `names`: of the
    containers that it is linked to, by id.
    """
    spec = container.spec
    state = paths.container_state(container.id)
    etc = etc_files(container, paths)
    arguments = spec.arguments
    return {
        "Id": container.id,
        "Created": rfc3339(container.created),
        "Path": arguments[0],
        "Args": list(arguments[1:]),
        "State": _state(container, health),
        "Image": f"sha256:{container.image_id}",
        # These files are made at the start.
        "ResolvConfPath": str(etc["/etc/resolv.conf"]) if container.started else "",
        "HostnamePath": str(etc["/etc/hostname"]) if container.started else "",
        "HostsPath": str(etc["/etc/hosts"]) if container.started else "",
        "LogPath": str(log_path(paths, container.id)) if container.started and spec.log.driver != "none" else "",
        "Name": f"/{container.name}",
        "RestartCount": container.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": execs or None,
        "HostConfig": _host_config(container, names),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {
                "UpperDir": str(state / "upper"),
                "WorkDir": str(state / "work"),
                "MergedDir": str(paths.container_run(container.id) / "rootfs"),
            },
        },
        "Mounts": mounting.shown(container, paths),
        "Config": _config(container, image_config),
        "NetworkSettings": _network_settings(container, namespace, endpoints, networks),
    }


def summary(
    container: Container,
    *,
    image: str,
    endpoints: list[Endpoint],
    networks: Mapping[str, Network],
    health: Health | None = None,
) -> dict[str, Any]:
    """One entry of ``docker ps``; `image` is the name that its image has now."""
    spec = container.spec
    return {
        "Id": container.id,
        "Names": [f"/{container.name}"],
        "Image": image,
        "ImageID": f"sha256:{container.image_id}",
        "Command": " ".join(f"'{word}'" if " " in word else word for word in spec.arguments),
        "Created": int(container.created),
        "Ports": _port_list(container, endpoints),
        "Labels": spec.labels,
        "State": status_word(container),
        "Status": status_text(container, time.time(), health),
        "HostConfig": {"NetworkMode": spec.network_mode},
        "NetworkSettings": {"Networks": _networks(container, endpoints, networks)},
        "Mounts": mounting.shown(container),
    }


def status_text(container: Container, now: float, health: Health | None = None) -> str:
    """The sentence in the STATUS column."""
    match _shown(container):
        case Status.RUNNING:
            word = {"starting": " (health: starting)", "healthy": " (healthy)", "unhealthy": " (unhealthy)"}
            return f"Up {ago(now - container.started)}" + (word[health.status] if health else "")
        case Status.PAUSED:
            return f"Up {ago(now - container.started)} (Paused)"
        case Status.RESTARTING:
            return f"Restarting ({container.exit_code}) {ago(now - container.finished)} ago"
        case Status.EXITED:
            return f"Exited ({container.exit_code}) {ago(now - container.finished)} ago"
        case Status.REMOVING:
            return "Removal In Progress"
        case _:
            return "Created"


def _state(container: Container, health: Health | None) -> dict[str, Any]:
    state: dict[str, Any] = {
        "Status": status_word(container),
        "Running": container.is_running or container.is_restarting,
        "Paused": container.status is Status.PAUSED,
        "Restarting": container.is_restarting,
        "OOMKilled": container.oom_killed,
        "Dead": False,
        "Pid": container.pid if container.is_running else 0,
        "ExitCode": container.exit_code,
        "Error": container.error,
        "StartedAt": rfc3339(container.started),
        "FinishedAt": rfc3339(container.finished),
    }
    if health:
        state["Health"] = {
            "Status": health.status,
            "FailingStreak": health.streak,
            "Log": [
                {
                    "Start": rfc3339(result.start),
                    "End": rfc3339(result.end),
                    "ExitCode": result.exit_code,
                    "Output": result.output,
                }
                for result in health.results
            ],
        }
    return state


def _health_check(check: HealthCheck) -> dict[str, Any]:
    fields = {
        "Test": list(check.test),
        "Interval": check.interval,
        "Timeout": check.timeout,
        "StartPeriod": check.start_period,
        "StartInterval": check.start_interval,
        "Retries": check.retries,
    }
    return {name: value for name, value in fields.items() if value}


def _config(container: Container, image: dict[str, Any]) -> dict[str, Any]:
    spec = container.spec
    config: dict[str, Any] = {
        "Hostname": spec.hostname,
        "Domainname": spec.domainname,
        "User": spec.user,
        "AttachStdin": spec.attach_stdin,
        "AttachStdout": spec.attach_stdout,
        "AttachStderr": spec.attach_stderr,
        "Tty": spec.tty,
        "OpenStdin": spec.open_stdin,
        "StdinOnce": spec.stdin_once,
        "Env": list(spec.env),
        "Cmd": list(spec.command) or None,
        "Image": spec.image,
        "Volumes": {volume.target: {} for volume in spec.volumes if volume.anonymous} or None,
        "WorkingDir": spec.workdir,
        "Entrypoint": list(spec.entrypoint) or None,
        "OnBuild": None,
        "Labels": spec.labels,
    }
    if spec.stop_signal != "SIGTERM":
        config["StopSignal"] = spec.stop_signal
    if spec.health:
        config["Healthcheck"] = _health_check(spec.health)
    if spec.exposed:
        config["ExposedPorts"] = {port: {} for port in spec.exposed}
    if spec.stop_timeout is not None:
        config["StopTimeout"] = spec.stop_timeout
    return config


def _host_config(container: Container, names: Mapping[str, str]) -> dict[str, Any]:
    spec = container.spec
    return {
        "Binds": None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": spec.log.driver, "Config": spec.log.options},
        "NetworkMode": spec.network_mode,
        "PortBindings": _bindings(spec.ports),
        "RestartPolicy": {"Name": spec.restart.name, "MaximumRetryCount": spec.restart.maximum},
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "ConsoleSize": [0, 0],
        "CapAdd": list(spec.cap_add) or None,
        "CapDrop": list(spec.cap_drop) or None,
        "CgroupnsMode": "private",
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": list(spec.extra_hosts) or None,
        "GroupAdd": list(spec.group_add) or None,
        "IpcMode": "private",
        "Cgroup": "",
        "Links": [f"/{names.get(id_, id_)}:/{container.name}/{alias}" for alias, id_ in spec.links.items()] or None,
        "OomScoreAdj": spec.oom_score_adj,
        "PidMode": "",
        "Privileged": spec.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": ["no-new-privileges"] if spec.no_new_privileges else None,
        "UTSMode": "",
        "UsernsMode": "",
        "ShmSize": spec.shm_size,
        **({"Sysctls": spec.sysctls} if spec.sysctls else {}),
        "Runtime": "crun",
        "Isolation": "",
        **_resources(spec.limits),
        "MaskedPaths": None if spec.privileged else MASKED,
        "ReadonlyPaths": None if spec.privileged else READ_ONLY,
        **spec.asked,
    }


def _resources(limits: Limits) -> dict[str, Any]:
    """Docker's Resources, with what is not served at its zero value."""
    return {
        "CpuShares": limits.cpu_shares,
        "Memory": limits.memory,
        "NanoCpus": limits.nano_cpus,
        "CgroupParent": "",
        "BlkioWeight": limits.block_weight,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": limits.cpu_period,
        "CpuQuota": limits.cpu_quota,
        "CpuRealtimePeriod": limits.realtime_period,
        "CpuRealtimeRuntime": limits.realtime_runtime,
        "CpusetCpus": limits.cpuset,
        "CpusetMems": limits.cpuset_mems,
        "Devices": [],
        "DeviceCgroupRules": None,
        "DeviceRequests": None,
        "MemoryReservation": limits.memory_reservation,
        "MemorySwap": limits.memory_swap or 2 * limits.memory,
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids or None,
        "Ulimits": [{"Name": one.name, "Hard": one.hard, "Soft": one.soft} for one in limits.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


def _bindings(ports: tuple[PortSpec, ...]) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = {}
    for port in ports:
        host = str(port.host_port) if port.host_port else ""
        if port.host_port_end > port.host_port:
            host = f"{port.host_port}-{port.host_port_end}"
        binding = {"HostIp": str(port.host_ip) if port.host_ip else "", "HostPort": host}
        found.setdefault(f"{port.port}/{port.protocol}", []).append(binding)
    return found


def _network_settings(
    container: Container, namespace: str, endpoints: list[Endpoint], networks: Mapping[str, Network]
) -> dict[str, Any]:
    running = container.is_running
    shown = _networks(container, endpoints, networks)
    first = shown.get("bridge", {})
    return {
        "Bridge": "",
        "SandboxID": container.joined or container.id if namespace else "",
        "SandboxKey": namespace,
        "Ports": _port_map(container, endpoints) if running else {},
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        # The fields below are the default bridge's, for readers older than networks (gone in API 1.52).
        "EndpointID": first.get("EndpointID", ""),
        "Gateway": first.get("Gateway", ""),
        "GlobalIPv6Address": first.get("GlobalIPv6Address", ""),
        "GlobalIPv6PrefixLen": first.get("GlobalIPv6PrefixLen", 0),
        "IPAddress": first.get("IPAddress", ""),
        "IPPrefixLen": first.get("IPPrefixLen", 0),
        "IPv6Gateway": first.get("IPv6Gateway", ""),
        "MacAddress": first.get("MacAddress", ""),
        "Networks": shown,
    }


def _networks(
    container: Container, endpoints: list[Endpoint], networks: Mapping[str, Network]
) -> dict[str, dict[str, Any]]:
    """The container's networks by name: as they are while it runs, as they will be before and after."""
    by_network = {endpoint.network: endpoint for endpoint in endpoints}
    by_name = {network.name: network for network in networks.values()}
    found: dict[str, dict[str, Any]] = {}
    for spec in container.spec.endpoints:
        network = by_name.get(spec.network) or networks.get(spec.network)
        if network:
            found[network.name] = _endpoint(
                container,
                network,
                by_network.pop(network.id, None),
                spec,
            )
    for endpoint in by_network.values():
        if network := networks.get(endpoint.network):
            spec = EndpointSpec(network=network.id, aliases=endpoint.aliases, links=endpoint.links)
            found[network.name] = _endpoint(container, network, endpoint, spec)
    mode = container.spec.network_mode
    if not found and mode in ("host", "none") and mode in by_name:
        found[mode] = _endpoint(container, by_name[mode], None, EndpointSpec(network=mode))
    return found


def _endpoint(
    container: Container,
    network: Network,
    endpoint: Endpoint | None,
    spec: EndpointSpec,
) -> dict[str, Any]:
    addresses = {interface.version: interface for interface in endpoint.addresses} if endpoint else {}
    gateways = {p.gateway.version: str(p.gateway) for p in network.pools if p.gateway} if endpoint else {}
    v4, v6 = addresses.get(4), addresses.get(6)
    names = [container.name, *spec.aliases, container.id[:12]]
    ipam: dict[str, Any] = {f"IPv{address.version}Address": str(address) for address in spec.ips}
    if spec.link_local_ips:
        ipam["LinkLocalIPs"] = [str(address) for address in spec.link_local_ips]
    if container.spec.hostname not in names:
        names.append(container.spec.hostname)
    user_network = not network.predefined
    return {
        "IPAMConfig": ipam or None,
        "Links": [f"{target}:{alias}" for alias, target in spec.links.items()] or None,
        "Aliases": list(spec.aliases) or None,
        "MacAddress": endpoint.mac if endpoint else spec.mac,
        "DriverOpts": {**({IFNAME: spec.ifname} if spec.ifname else {}), **spec.options} or None,
        "GwPriority": spec.priority,
        "NetworkID": network.id,
        "EndpointID": endpoint.id if endpoint else "",
        "Gateway": gateways.get(4, "") if v4 else "",
        "IPAddress": str(v4.ip) if v4 else "",
        "IPPrefixLen": v4.network.prefixlen if v4 else 0,
        "IPv6Gateway": gateways.get(6, "") if v6 else "",
        "GlobalIPv6Address": str(v6.ip) if v6 else "",
        "GlobalIPv6PrefixLen": v6.network.prefixlen if v6 else 0,
        "DNSNames": list(dict.fromkeys(names)) if user_network else None,
    }


def _port_map(container: Container, endpoints: list[Endpoint]) -> dict[str, list[dict[str, str]] | None]:
    found: dict[str, list[dict[str, str]] | None] = {}
    if container.spec.network_mode in ("host", "none"):
        return found  # It has no ports of its own, or nobody reaches them.
    for exposed in container.spec.exposed:
        found[exposed] = None
    for endpoint in endpoints:
        for port in endpoint.ports:
            bindings = found.get(f"{port.port}/{port.protocol}") or []
            bindings.append({"HostIp": str(port.host_ip), "HostPort": str(port.host_port)})
            found[f"{port.port}/{port.protocol}"] = bindings
    return found


def _port_list(container: Container, endpoints: list[Endpoint]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name, bindings in sorted(_port_map(container, endpoints).items() if container.is_running else ()):
        number, _, protocol = name.partition("/")
        entry: dict[str, Any] = {"PrivatePort": int(number), "Type": protocol or "tcp"}
        if not bindings:
            found.append(entry)
        for binding in sorted(bindings or (), key=lambda b: ip_address(b["HostIp"]).version):
            found.append({"IP": binding["HostIp"], **entry, "PublicPort": int(binding["HostPort"])})
    return found
