"""The OCI configuration of a container, with Docker's defaults.  Pure: records in, a document out.

Source: opencontainers/runtime-spec 1.0 config.md, config-linux.md; the defaults are those that `docker run` gives.
What differs from them by the user's wish is in isolation.py.
"""

from __future__ import annotations

import functools
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fairlead.containers import isolation
from fairlead.containers.isolation import NOTHING, Surroundings
from fairlead.containers.record import Bind, Container, ContainerSpec, Limits
from fairlead.errors import Invalid, MissingProgram


def _words(text: str) -> list[str]:
    return text.split()


PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

DEFAULT_CAPABILITIES = _words(
    "CAP_AUDIT_WRITE CAP_CHOWN CAP_DAC_OVERRIDE CAP_FOWNER CAP_FSETID CAP_KILL CAP_MKNOD CAP_NET_BIND_SERVICE "
    "CAP_NET_RAW CAP_SETFCAP CAP_SETGID CAP_SETPCAP CAP_SETUID CAP_SYS_CHROOT"
)

ALL_CAPABILITIES = _words(
    "CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL CAP_SETGID CAP_SETUID CAP_SETPCAP "
    "CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER "
    "CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE "
    "CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE CAP_AUDIT_WRITE CAP_AUDIT_CONTROL "
    "CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM CAP_BLOCK_SUSPEND CAP_AUDIT_READ "
    "CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE"
)
"""linux/capability.h, in its order."""

MASKED = _words(
    "/proc/asound /proc/acpi /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list "
    "/proc/timer_stats /proc/sched_debug /proc/scsi /sys/firmware /sys/devices/virtual/powercap"
)
READ_ONLY = _words("/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger")

_DEVICES = ("c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2", "c 136:*")
"""null zero full random urandom tty console ptmx pts; any node may be made (``m``), only these may be used."""

_INITS = ("tini-static", "docker-init", "catatonit")
"""Programs that make a small first process which reaps zombies (``--init``); all take ``-- COMMAND``.

Only static ones: what ``tini`` is linked with is on the host, not in the image."""
_INIT_PATH = "/sbin/docker-init"


def available_capabilities() -> list[str]:
    """All that this process may pass on: a daemon that runs in a container itself may lack some."""
    try:
        status = Path("/proc/self/status").read_text()
        bound = int(next(line for line in status.splitlines() if line.startswith("CapBnd")).split()[1], 16)
    except (OSError, StopIteration, ValueError):
        return list(ALL_CAPABILITIES)
    return [name for number, name in enumerate(ALL_CAPABILITIES) if bound >> number & 1]


def capabilities(spec: ContainerSpec) -> list[str]:
    """What the container's root may do; raises `Invalid` for a capability that Linux does not have."""
    if spec.privileged:
        return available_capabilities()
    add, drop = (_names(names) for names in (spec.cap_add, spec.cap_drop))
    base = set(available_capabilities() if "ALL" in add else DEFAULT_CAPABILITIES)
    if "ALL" in drop:
        base = set()
    wanted = (base | (add - {"ALL"})) - drop
    return [name for name in ALL_CAPABILITIES if name in wanted]


def _names(names: tuple[str, ...]) -> set[str]:
    found = set()
    for given in names:
        name = given.upper()
        if name != "ALL":
            name = name if name.startswith("CAP_") else f"CAP_{name}"
            if name not in ALL_CAPABILITIES:
                raise Invalid(f"invalid capability {given!r}: capabilities(7) lists the allowed ones")
        found.add(name)
    return found


def make_config(
    container: Container,
    *,
    root: Path,
    namespace: str | None,
    files: dict[str, Path],
    cgroup: str,
    volumes: Mapping[str, Path] = {},
    around: Surroundings = NOTHING,
) -> dict[str, Any]:
    """The configuration document.

    `namespace`: the network namespace's path, or None for the host's.  `files`: what is bound over the container's
    /etc/hosts and the like, by its path inside.  `volumes`: where volumes' content is, by the path inside.
    The user is filled in later: the names are in the image.
    """
    spec = container.spec
    document: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "hostname": spec.hostname,
        "root": {"path": str(root), "readonly": spec.read_only},
        "process": _process(spec),
        "mounts": _mounts(spec, files, volumes, host_network=namespace is None),
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": _namespaces(namespace),
            "resources": _resources(spec),
            "sysctl": dict(spec.sysctls) if container.joined else _sysctls(spec, namespace),
            "maskedPaths": [] if spec.privileged else list(MASKED),
            "readonlyPaths": [] if spec.privileged else list(READ_ONLY),
            "rootfsPropagation": _root_propagation(spec),
        },
    }
    if spec.domainname:
        document["domainname"] = spec.domainname
    isolation.apply(document, container, around, capabilities(spec))
    return document


def find_init() -> str:
    """The host's init program for containers; raises `MissingProgram`."""
    for name in _INITS:
        if path := shutil.which(name):
            return path
    raise MissingProgram(f"--init needs one of the programs {', '.join(_INITS)}: install the package tini")


def environment(spec: ContainerSpec) -> list[str]:
    """The process's environment before HOME, which needs the image's passwd file."""
    defaults = [PATH, f"HOSTNAME={spec.hostname}", *(["TERM=xterm"] if spec.tty else [])]
    return merged(defaults, spec.env)


def merged(variables: Iterable[str], more: Iterable[str]) -> list[str]:
    """Variables with others, which win; a name without ``=`` takes a variable away (moby, ReplaceOrAppendEnvVars)."""
    found = {variable.partition("=")[0]: variable for variable in variables}
    for variable in more:
        name, equals, _ = variable.partition("=")
        if equals:
            found[name] = variable
        else:
            found.pop(name, None)
    return list(found.values())


def _process(spec: ContainerSpec) -> dict[str, Any]:
    allowed = capabilities(spec)
    arguments = list(spec.arguments)
    return {
        "terminal": spec.tty,
        "user": {"uid": 0, "gid": 0},
        "args": [_INIT_PATH, "--", *arguments] if spec.init else arguments,
        "env": environment(spec),
        "cwd": spec.workdir or "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), allowed),
        "noNewPrivileges": spec.no_new_privileges,
        "oomScoreAdj": spec.oom_score_adj,
        "rlimits": [
            {
                "type": f"RLIMIT_{limit.name.upper()}",
                "soft": limit.soft % (1 << 64),
                "hard": limit.hard % (1 << 64),
            }
            for limit in spec.limits.ulimits
        ],
    }


def _namespaces(network: str | None) -> list[dict[str, str]]:
    kinds = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    return kinds if network is None else [*kinds, {"type": "network", "path": network}]


def _mounts(
    spec: ContainerSpec, files: dict[str, Path], volumes: Mapping[str, Path], *, host_network: bool
) -> list[dict[str, Any]]:
    quiet = ["nosuid", "noexec", "nodev"]
    system = "rw" if spec.privileged else "ro"
    # A sysfs can only be mounted by the owner of the network namespace; the host's is bound instead.
    sysfs: dict[str, Any] = {"type": "sysfs", "source": "sysfs", "options": [*quiet, system]}
    if host_network:
        sysfs = {"type": "bind", "source": "/sys", "options": ["rbind", *quiet, system]}
    mounts: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": list(quiet)},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", **sysfs},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*quiet, system]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": list(quiet)},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*quiet, "mode=1777", f"size={spec.shm_size}"],
        },
    ]
    taken = {bind.target for bind in spec.binds} | {volume.target for volume in spec.volumes} | set(spec.tmpfs)
    mounts = [mount for mount in mounts if mount["destination"] not in taken]
    mounts += [
        {"destination": inside, "type": "bind", "source": str(outside), "options": ["rbind", "rprivate"]}
        for inside, outside in files.items()
        if inside not in taken
    ]
    mounts += [
        {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": tmpfs_options(options)}
        for target, options in spec.tmpfs.items()
    ]
    mounts += [_bind_mount(bind) for bind in spec.binds]
    mounts += [
        {
            "destination": volume.target,
            "type": "bind",
            "source": str(volumes.get(volume.target, "")),
            "options": [
                *("rbind", "rprivate", *kept_flags(str(volumes.get(volume.target, "")))),
                *([_read_only(str(volumes.get(volume.target, "")))] if volume.read_only else []),
            ],
        }
        for volume in spec.volumes
    ]
    if spec.init:
        mounts.append({"destination": _INIT_PATH, "type": "bind", "source": find_init(), "options": ["bind", "ro"]})
    # A mount hides what was mounted beneath it before, so parents come first.
    return sorted(mounts, key=lambda entry: entry["destination"].rstrip("/").count("/"))


def tmpfs_options(text: str) -> list[str]:
    """Docker's defaults and the user's words, of which the last of each pair counts."""
    words = ["noexec", "nosuid", "nodev"]
    for word in filter(None, text.split(",")):
        opposite = word[2:] if word.startswith("no") else f"no{word}"
        opposite = {"ro": "rw", "rw": "ro"}.get(word, opposite)
        words = [old for old in words if old not in (opposite, word)] + [word]
    return words


def _bind_mount(bind: Bind) -> dict[str, Any]:
    propagation = [] if any("shared" in o or "slave" in o or "private" in o for o in bind.options) else ["rprivate"]
    words = [*propagation, *(o for o in bind.options if o not in _NOT_FOR_MOUNT)]
    if not bind.recursive:
        # crun takes the r of any word for an r of the bind itself; and with nothing beneath, the words say the same.
        words = [word.removeprefix("r") if word in _PROPAGATED else word for word in words]
    if not bind.flat:
        words = [_read_only(bind.source) if word == "ro" else word for word in words]
    options = ["rbind" if bind.recursive else "bind", *kept_flags(bind.source), *words]
    return {"destination": bind.target, "type": "bind", "source": bind.source, "options": options}


_PROPAGATED = ("rprivate", "rshared", "rslave")

_KEPT = {
    os.ST_RDONLY: "ro",
    os.ST_NOSUID: "nosuid",
    os.ST_NODEV: "nodev",
    os.ST_NOEXEC: "noexec",
}


def kept_flags(source: str) -> list[str]:
    """What the mount that has the source does not allow, as options: it is not allowed in the container either.

    A bind has the flags of its source (mount(2)); but crun sets those of each bind anew, and drops what is not said.
    """
    try:
        flags = os.statvfs(source).f_flag
    except OSError:  # not there yet: the plan of a container that is being created
        return []
    return [word for flag, word in _KEPT.items() if flags & flag]


_NOT_FOR_MOUNT = ("z", "Z", "nocopy", "copy", "consistent", "cached", "delegated", "rw")
"""Words of ``-v`` that concern other systems, or the volume's filling."""


def _root_propagation(spec: ContainerSpec) -> str:
    """The root must let through what any bind lets through."""
    words = {option.removeprefix("r") for bind in spec.binds for option in bind.options}
    return "shared" if "shared" in words else "rslave" if "slave" in words else "private"


def _read_only(source: str) -> str:
    """Read-only with all that is mounted beneath, where the kernel can (mount_setattr(2), Linux 5.12), as Docker 25.

    Beneath a file or a socket is nothing, and there crun fails ("Not a directory").
    """
    return "rro" if _can_read_only_beneath() and os.path.isdir(source) else "ro"


@functools.cache
def _can_read_only_beneath() -> bool:
    release = os.uname().release.split(".")
    return (int(release[0]), int(release[1].partition("-")[0])) >= (5, 12)


def _resources(spec: ContainerSpec) -> dict[str, Any]:
    if spec.privileged:
        devices: list[dict[str, Any]] = [{"allow": True, "access": "rwm"}]
    else:
        devices = [{"allow": False, "access": "rwm"}]
        devices += [{"allow": True, "type": kind, "access": "m"} for kind in "cb"]
        for device in _DEVICES:
            kind, _, numbers = device.partition(" ")
            major, _, minor = numbers.partition(":")
            entry = {"allow": True, "type": kind, "major": int(major), "access": "rwm"}
            devices.append(entry if minor == "*" else {**entry, "minor": int(minor)})
    return {"devices": devices, **resources(spec.limits)}


def resources(limits: Limits) -> dict[str, Any]:
    """The limits as the runtime takes them (config-linux.md, "Control groups")."""
    memory: dict[str, Any] = {}
    if limits.memory:
        memory |= {"limit": limits.memory, "swap": limits.memory_swap or 2 * limits.memory}
    if limits.memory_reservation:
        memory["reservation"] = limits.memory_reservation
    if limits.memory_swappiness is not None:
        memory["swappiness"] = limits.memory_swappiness
    if limits.oom_kill_disable:
        memory["disableOOMKiller"] = True
    cpu: dict[str, Any] = {}
    if limits.nano_cpus:
        cpu |= {"period": 100_000, "quota": limits.nano_cpus // 10_000}
    if limits.cpu_period:
        cpu["period"] = limits.cpu_period
    if limits.cpu_quota:
        cpu["quota"] = limits.cpu_quota
    if limits.realtime_period:
        cpu["realtimePeriod"] = limits.realtime_period
    if limits.realtime_runtime:
        cpu["realtimeRuntime"] = limits.realtime_runtime
    if limits.cpu_shares:
        cpu["shares"] = limits.cpu_shares
    if limits.cpuset:
        cpu["cpus"] = limits.cpuset
    if limits.cpuset_mems:
        cpu["mems"] = limits.cpuset_mems
    pids = {"limit": limits.pids} if limits.pids > 0 else {}
    block = {"weight": limits.block_weight} if limits.block_weight else {}
    parts = {"memory": memory, "pids": pids, "cpu": cpu, "blockIO": block}
    return {name: part for name, part in parts.items() if part}


def _sysctls(spec: ContainerSpec, namespace: str | None) -> dict[str, str]:
    if namespace is None:
        return dict(spec.sysctls)
    # As Docker: any user inside may bind low ports and send pings.
    return {
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net.ipv4.ping_group_range": "0 2147483647",
        **spec.sysctls,
    }
