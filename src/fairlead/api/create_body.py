"""The types of all fields of ``POST /containers/create`` (Engine API v1.51, ContainerCreateRequest).

A whole body is held against them once, so that a wrong type is refused wherever it is, also in fields that nothing
reads; fields that Docker does not know are ignored, as there.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from fairlead.api.shapes import EndpointSettings
from fairlead.errors import Invalid

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)] | None
"""Go's int64."""
Flag = bool | None
Text = str | None
Texts = list[str] | None
Words = str | list[str] | None
"""A command: Docker takes one string as well as a list."""
Map = dict[str, str] | None
Set = dict[str, dict[str, Any] | None] | None
"""Go's ``map[string]struct{}``."""


class _Pascal(msgspec.Struct, rename="pascal"):
    pass


class PortBinding(_Pascal):
    """A host address and port."""

    host_ip: Text = None
    host_port: Text = None


class RestartPolicy(_Pascal):
    """When to start again."""

    name: Text = None
    maximum_retry_count: Int = None


class LogConfig(_Pascal):
    """The log driver and its options."""

    type: Text = None
    config: Map = None


class Ulimit(_Pascal):
    """A limit of setrlimit(2)."""

    name: Text = None
    soft: Int = None
    hard: Int = None


class Device(_Pascal):
    """A device of the host."""

    path_on_host: Text = None
    path_in_container: Text = None
    cgroup_permissions: Text = None


class DeviceRequest(_Pascal):
    """Devices by capability."""

    driver: Text = None
    count: Int = None
    device_ids: Texts = msgspec.field(default=None, name="DeviceIDs")
    capabilities: list[list[str]] | None = None
    options: Map = None


class Throttle(_Pascal):
    """A limit of block I/O on one device."""

    path: Text = None
    rate: Int = None
    weight: Int = None


class BindOptions(_Pascal):
    """Options of a bind mount."""

    propagation: Text = None
    non_recursive: Flag = None
    create_mountpoint: Flag = None
    read_only_non_recursive: Flag = None
    read_only_force_recursive: Flag = None


class DriverConfig(_Pascal):
    """A volume driver and its options."""

    name: Text = None
    options: Map = None


class VolumeOptions(_Pascal):
    """Options of a volume mount."""

    no_copy: Flag = None
    labels: Map = None
    driver_config: DriverConfig | None = None
    subpath: Text = None


class TmpfsOptions(_Pascal):
    """Options of a tmpfs mount."""

    size_bytes: Int = None
    mode: Int = None
    options: list[list[str]] | None = None


class Mount(_Pascal):
    """One of ``Mounts``."""

    type: Text = None
    source: Text = None
    target: Text = None
    read_only: Flag = None
    consistency: Text = None
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class Healthcheck(_Pascal):
    """How to see whether the container is well; times in nanoseconds."""

    test: Texts = None
    interval: Int = None
    timeout: Int = None
    retries: Int = None
    start_period: Int = None
    start_interval: Int = None


class Resources(_Pascal):
    """Limits, and devices."""

    cpu_shares: Int = None
    memory: Int = None
    nano_cpus: Int = None
    cgroup_parent: Text = None
    blkio_weight: Int = None
    blkio_weight_device: list[Throttle] | None = None
    blkio_device_read_bps: list[Throttle] | None = None
    blkio_device_write_bps: list[Throttle] | None = None
    blkio_device_read_iops: list[Throttle] | None = msgspec.field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[Throttle] | None = msgspec.field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: Int = None
    cpu_quota: Int = None
    cpu_realtime_period: Int = None
    cpu_realtime_runtime: Int = None
    cpuset_cpus: Text = None
    cpuset_mems: Text = None
    devices: list[Device] | None = None
    device_cgroup_rules: Texts = None
    device_requests: list[DeviceRequest] | None = None
    kernel_memory: Int = None
    kernel_memory_tcp: Int = msgspec.field(default=None, name="KernelMemoryTCP")
    memory_reservation: Int = None
    memory_swap: Int = None
    memory_swappiness: Int = None
    oom_kill_disable: Flag = None
    pids_limit: Int = None
    ulimits: list[Ulimit] | None = None


class UpdateBody(Resources):
    """The body of ``POST /containers/{id}/update``."""

    restart_policy: RestartPolicy | None = None


class HostConfig(Resources):
    """What the container takes of the host."""

    binds: Texts = None
    container_id_file: Text = msgspec.field(default=None, name="ContainerIDFile")
    log_config: LogConfig | None = None
    network_mode: Text = None
    port_bindings: dict[str, list[PortBinding] | None] | None = None
    restart_policy: RestartPolicy | None = None
    auto_remove: Flag = None
    volume_driver: Text = None
    volumes_from: Texts = None
    console_size: list[Int] | None = None
    annotations: Map = None
    cap_add: Words = None
    cap_drop: Words = None
    cgroupns_mode: Text = None
    dns: Texts = None
    dns_options: Texts = None
    dns_search: Texts = None
    extra_hosts: Texts = None
    group_add: Texts = None
    ipc_mode: Text = None
    cgroup: Text = None
    links: Texts = None
    oom_score_adj: Int = None
    pid_mode: Text = None
    privileged: Flag = None
    publish_all_ports: Flag = None
    readonly_rootfs: Flag = None
    security_opt: Texts = None
    storage_opt: Map = None
    tmpfs: Map = None
    uts_mode: Text = msgspec.field(default=None, name="UTSMode")
    userns_mode: Text = None
    shm_size: Int = None
    sysctls: Map = None
    runtime: Text = None
    isolation: Text = None
    mounts: list[Mount] | None = None
    masked_paths: Texts = None
    readonly_paths: Texts = None
    init: Flag = None


class NetworkingConfig(_Pascal):
    """The networks to be in from the start on."""

    endpoints_config: dict[str, EndpointSettings | None] | None = None


class CreateBody(_Pascal):
    """The body."""

    hostname: Text = None
    domainname: Text = None
    user: Text = None
    attach_stdin: Flag = None
    attach_stdout: Flag = None
    attach_stderr: Flag = None
    exposed_ports: Set = None
    tty: Flag = None
    open_stdin: Flag = None
    stdin_once: Flag = None
    env: Texts = None
    cmd: Words = None
    healthcheck: Healthcheck | None = None
    args_escaped: Flag = None
    image: Text = None
    volumes: Set = None
    working_dir: Text = None
    entrypoint: Words = None
    network_disabled: Flag = None
    mac_address: Text = None
    on_build: Texts = None
    labels: Map = None
    stop_signal: Text = None
    stop_timeout: Int = None
    shell: Texts = None
    host_config: HostConfig | None = None
    networking_config: NetworkingConfig | None = None


def check(body: dict[str, Any]) -> None:
    """Raise `Invalid` for a value that cannot be, in a body whose types are right."""
    host = body.get("HostConfig") or {}
    if (host.get("ShmSize") or 0) < 0:
        raise Invalid("SHM size can not be less than 0")
    score = host.get("OomScoreAdj") or 0
    if abs(score) > 1000:
        raise Invalid(f"Invalid value {score}, range for oom score adj is [-1000, 1000]")
