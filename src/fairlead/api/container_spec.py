"""Docker's body of ``POST /containers/create`` as a `ContainerSpec`.

Nothing is ignored silently: a field that would change what the container does, and that is not served, is refused in
one sentence; a limit that cannot be set becomes a warning.
"""

from __future__ import annotations

import os
from ipaddress import ip_address
from typing import Any, TypeVar, cast

import msgspec

from fairlead.api.block_spec import discard_unsupported
from fairlead.api.health_spec import health_check
from fairlead.api.isolation_spec import SHOWN_AGAIN, no_new_privileges, parse_isolation
from fairlead.api.limits import limits
from fairlead.api.log_spec import log_config
from fairlead.api.mount_spec import Lookup, parse_mounts
from fairlead.api.shapes import EndpointSettings, endpoint_spec
from fairlead.containers.bundle import capabilities
from fairlead.containers.links import divided
from fairlead.containers.links import parse as parse_link
from fairlead.containers.record import Container, ContainerSpec, Restart, RestartName
from fairlead.containers.service import signal_number
from fairlead.containers.sharing import PREFIX, check_options
from fairlead.engine import EndpointSpec, PortSpec
from fairlead.errors import Invalid, NotFound
from fairlead.images import Image

T = TypeVar("T")

UNSET_LIMITS = "KernelMemory KernelMemoryTCP"
"""Limits that we cannot set: the container runs without them, and the user is told."""

_SHOWN_AGAIN = ("Binds", "Init", "Mounts", "Tmpfs", "VolumeDriver", "VolumesFrom", *SHOWN_AGAIN)
"""Members of HostConfig that inspect shows as they came."""


def _nobody(ref: str) -> Container:
    raise NotFound(f"No such container: {ref}")


def parse(body: dict[str, Any], image: Image, lookup: Lookup = _nobody) -> tuple[ContainerSpec, list[str]]:
    """The spec and the warnings; raises `Invalid`.  `lookup` finds the containers that it refers to."""
    host = _get(body, "HostConfig", dict, {})
    from_image: dict[str, Any] = image.config.get("config") or {}
    warnings = _check(body, host)
    entrypoint, command = _command(body, from_image)
    mode, endpoints = _networks(body, host)
    mounts = parse_mounts(body, host, from_image, lookup)
    links, endpoints = divided(dict(map(parse_link, _strings(host, "Links"))), mode, endpoints)
    restart = restart_policy(host)
    log, log_warnings = log_config(host)
    warnings += log_warnings
    auto_remove = bool(host.get("AutoRemove"))
    if auto_remove and restart.name != "no":
        raise Invalid("can't create 'AutoRemove' container with restart policy")
    spec = ContainerSpec(
        image=_get(body, "Image", str, ""),
        entrypoint=entrypoint,
        command=command,
        env=_environment(_strings(body, "Env"), tuple(from_image.get("Env") or ())),
        workdir=_directory(_get(body, "WorkingDir", str, "") or from_image.get("WorkingDir") or ""),
        user=_get(body, "User", str, "") or from_image.get("User") or "",
        hostname=_get(body, "Hostname", str, "") or (os.uname().nodename if mode == "host" else ""),
        domainname=_get(body, "Domainname", str, ""),
        tty=bool(body.get("Tty")),
        open_stdin=bool(body.get("OpenStdin")),
        stdin_once=bool(body.get("StdinOnce")),
        attach_stdin=bool(body.get("AttachStdin")),
        attach_stdout=bool(body.get("AttachStdout")),
        attach_stderr=bool(body.get("AttachStderr")),
        binds=tuple(mounts.binds),
        volumes=tuple(mounts.volumes),
        tmpfs=mounts.tmpfs,
        asked={name: host[name] for name in _SHOWN_AGAIN if host.get(name) not in (None, "")},
        labels={**(from_image.get("Labels") or {}), **_get(body, "Labels", dict, {})},
        restart=restart,
        auto_remove=auto_remove,
        network_mode=mode,
        endpoints=endpoints,
        ports=_ports(host),
        publish_all=bool(host.get("PublishAllPorts")),
        exposed=_exposed(body, host, from_image),
        cap_add=_strings(host, "CapAdd"),
        cap_drop=_strings(host, "CapDrop"),
        privileged=bool(host.get("Privileged")),
        group_add=_strings(host, "GroupAdd"),
        no_new_privileges=no_new_privileges(host),
        stop_signal=_get(body, "StopSignal", str, "") or from_image.get("StopSignal") or "SIGTERM",
        stop_timeout=_get(body, "StopTimeout", int, None),
        dns=_strings(host, "Dns"),
        dns_search=_strings(host, "DnsSearch"),
        dns_options=_strings(host, "DnsOptions"),
        extra_hosts=_extra_hosts(host),
        links=links,
        sysctls=_sysctls(host, mode),
        read_only=bool(host.get("ReadonlyRootfs")),
        shm_size=_get(host, "ShmSize", int, 0) or 64 << 20,
        oom_score_adj=_get(host, "OomScoreAdj", int, 0),
        init=bool(host.get("Init")),
        limits=limits(host),
        isolation=parse_isolation(body, host, lookup),
        health=health_check(body, from_image),
        log=log,
    )
    signal_number(spec.stop_signal)
    capabilities(spec)
    if mode == "host" and host.get("PortBindings"):
        warnings.append("Published ports are discarded when using host network mode")
    return spec, warnings


def _check(body: dict[str, Any], host: dict[str, Any]) -> list[str]:
    for request in host.get("DeviceRequests") or ():
        wanted = " ".join(f"[{' '.join(words)}]" for words in request.get("Capabilities") or ())
        driver = request.get("Driver") or ""
        raise Invalid(f'could not select device driver "{driver}" with capabilities: [{wanted}]')
    if (isolation := host.get("Isolation") or "default") != "default":
        raise Invalid(f"Invalid isolation: \"{isolation}\" - linux only supports 'default'")
    if host.get("StorageOpt"):
        raise Invalid("--storage-opt is not supported: layers have no quota")
    return discard_unsupported(host) + [
        f"HostConfig.{name} is not supported: the container runs without that limit"
        for name in UNSET_LIMITS.split()
        if host.get(name)
    ]


def _get(body: dict[str, Any], name: str, kind: type[T], default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "a string", int: "a number", dict: "an object", list: "a list"}
        raise Invalid(f"{name} must be {words[kind]}")
    return value


def _strings(body: dict[str, Any], name: str) -> tuple[str, ...]:
    value = _get(body, name, list, [])
    if not all(isinstance(word, str) for word in value):
        raise Invalid(f"{name} must be a list of strings")
    return tuple(value)


def _words(body: dict[str, Any], name: str) -> tuple[str, ...] | None:
    """A command: a list, or (as old clients send it) one string."""
    value = body.get(name)
    return None if value is None else (value,) if isinstance(value, str) else _strings(body, name)


def _command(body: dict[str, Any], image: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Entrypoint and command: the image's command goes with the image's entrypoint only."""
    entrypoint, command = _words(body, "Entrypoint"), _words(body, "Cmd")
    if not entrypoint and entrypoint is not None:
        # `docker run --entrypoint ""` sends [""] or []: no entrypoint at all.
        return (), command or ()
    if entrypoint == ("",):
        return (), command or ()
    if entrypoint is None:
        entrypoint = tuple(image.get("Entrypoint") or ())
        command = command or tuple(image.get("Cmd") or ())
    return entrypoint, command or ()


def _environment(wanted: tuple[str, ...], image: tuple[str, ...]) -> tuple[str, ...]:
    """The user's variables win over the image's; a name without ``=`` takes the variable away (when it is run: the name
    stays here, as in Docker)."""
    names = {variable.partition("=")[0] for variable in wanted}
    for variable in wanted:
        if variable.startswith("=") or not variable:
            raise Invalid(f"invalid environment variable: {variable}")
    kept = [variable for variable in image if variable.partition("=")[0] not in names]
    return wanted + tuple(kept)


def _directory(path: str) -> str:
    if path and not path.startswith("/"):
        raise Invalid(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return os.path.normpath(path) if path else ""


def restart_policy(host: dict[str, Any]) -> Restart:
    """When to start again by itself; raises `Invalid`."""
    policy = _get(host, "RestartPolicy", dict, {})
    name = policy.get("Name") or "no"
    maximum = policy.get("MaximumRetryCount") or 0
    if name not in ("no", "always", "unless-stopped", "on-failure"):
        raise Invalid(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or "
            "'unless-stopped'"
        )
    if maximum and name != "on-failure":
        raise Invalid("invalid restart policy: maximum retry count can only be used with 'on-failure'")
    if not isinstance(maximum, int) or maximum < 0:
        raise Invalid("invalid restart policy: maximum retry count cannot be negative")
    return Restart(name=cast(RestartName, name), maximum=maximum)


def _networks(body: dict[str, Any], host: dict[str, Any]) -> tuple[str, tuple[EndpointSpec, ...]]:
    mode = _get(host, "NetworkMode", str, "") or "bridge"
    if mode == "default":
        mode = "bridge"
    wanted = _get(_get(body, "NetworkingConfig", dict, {}), "EndpointsConfig", dict, {}) or {}
    if mode.startswith(PREFIX):
        check_options(body, host)
        for name, settings in wanted.items():
            if name != mode or any((settings or {}).values()):
                raise Invalid(f"conflicting options: a container in network mode {mode} has no place in a network")
        return mode, ()
    if mode in ("host", "none"):
        if body.get("MacAddress"):
            raise Invalid("conflicting options: mac-address and the network mode")
        for name, settings in wanted.items():
            if name != mode or (settings or {}).get("IPAMConfig"):
                raise Invalid(f"conflicting options: a container in network mode {mode} cannot be in network {name}")
        return mode, ()
    # The network of the mode comes first: it is the one with the default route and the published ports.
    settings = {name: value or {} for name, value in wanted.items()}
    first = settings.pop(mode, None)
    if first is None and mode == "bridge" and "default" in settings:
        first = settings.pop("default")
    names = [(mode, first or {}), *settings.items()]
    mac = _get(body, "MacAddress", str, "")
    return mode, tuple(_endpoint(name, value, "" if i else mac) for i, (name, value) in enumerate(names))


def _endpoint(network: str, settings: dict[str, Any], mac: str) -> EndpointSpec:
    """Docker's EndpointSettings; `mac` is the container's, for where they name none."""
    try:
        spec = endpoint_spec(network, msgspec.convert(settings, EndpointSettings))
    except msgspec.ValidationError as error:
        raise Invalid(f"the settings of network {network} are wrong: {error}") from None
    return spec if spec.mac else msgspec.structs.replace(spec, mac=mac)


def _ports(host: dict[str, Any]) -> tuple[PortSpec, ...]:
    found: list[PortSpec] = []
    for name, bindings in _get(host, "PortBindings", dict, {}).items():
        port, protocol = _port(name)
        for binding in bindings or [{}]:
            try:
                address = ip_address(binding["HostIp"]) if binding.get("HostIp") else None
            except ValueError:
                raise Invalid(f"invalid host address {binding['HostIp']!r} of port {name}") from None
            first, last = _range(str(binding.get("HostPort") or "0"), name)
            found.append(
                PortSpec(port=port, protocol=protocol, host_ip=address, host_port=first, host_port_end=last)  # type: ignore[arg-type]
            )
    return tuple(found)


def _port(name: str) -> tuple[int, str]:
    number, _, protocol = name.partition("/")
    protocol = protocol.lower() or "tcp"
    if not number.isdigit() or not 0 < int(number) < 65536:
        raise Invalid(f"invalid port specification: {name!r}: 1 to 65535 are allowed")
    if protocol not in ("tcp", "udp", "sctp"):
        raise Invalid(f"invalid protocol in {name!r}: tcp, udp and sctp are allowed")
    return int(number), protocol


def _range(text: str, name: str) -> tuple[int, int]:
    first, dash, last = text.partition("-")
    if not first.isdigit() or (dash and not last.isdigit()):
        raise Invalid(f"invalid host port {text!r} of port {name}")
    low, high = int(first), int(last) if dash else 0
    if low > 65535 or high > 65535 or (dash and high < low):
        raise Invalid(f"invalid host port {text!r} of port {name}: 0 to 65535 are allowed")
    return low, high


def _exposed(body: dict[str, Any], host: dict[str, Any], image: dict[str, Any]) -> tuple[str, ...]:
    names = [*(image.get("ExposedPorts") or {}), *_get(body, "ExposedPorts", dict, {})]
    names += _get(host, "PortBindings", dict, {})
    found = dict.fromkeys(_port(name) for name in names)
    return tuple(f"{port}/{protocol}" for port, protocol in sorted(found))


def _extra_hosts(host: dict[str, Any]) -> tuple[str, ...]:
    found = _strings(host, "ExtraHosts")
    for extra in found:
        name, colon, address = extra.partition(":")
        try:
            if address != "host-gateway":
                ip_address(address)
            if not name or not colon:
                raise ValueError
        except ValueError:
            raise Invalid(f"bad format for add-host: {extra!r}: NAME:ADDRESS is needed") from None
    return found


def _sysctls(host: dict[str, Any], mode: str) -> dict[str, str]:
    found: dict[str, str] = {name: str(value) for name, value in _get(host, "Sysctls", dict, {}).items()}
    for name in found:
        if name.startswith("net.") and mode == "host":
            raise Invalid(f"sysctl {name!r} is not allowed in network mode host: it would change the host's own")
        if not name.startswith(("net.", "fs.mqueue.", "kernel.msg", "kernel.sem", "kernel.shm")):
            raise Invalid(f"sysctl {name!r} is not separate per container: only net.*, IPC and mqueue ones are")
    return found
