"""From a container's record to the plan that runs it, and to the one that clears it away."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from fairlead.catalog import Catalog
from fairlead.containers import files, mounting
from fairlead.containers.bundle import make_config
from fairlead.containers.etc import MADE
from fairlead.containers.isolation import NOTHING, Surroundings, shm_place
from fairlead.containers.links import NOT_LINKED, Linked
from fairlead.containers.record import Container
from fairlead.dns import ADDRESS
from fairlead.model import Endpoint
from fairlead.paths import Paths
from fairlead.plan import Plan
from fairlead.plan.containers import (
    BindSubpaths,
    MarkRoot,
    MountOverlay,
    MountShm,
    StartMonitor,
    StartProcess,
    WriteBundle,
)
from fairlead.plan.runtime import Place
from fairlead.spec import EndpointSpec, PortSpec


def log_path(paths: Paths, container_id: str) -> Path:
    """The log, which outlives each run."""
    return paths.container_state(container_id) / "container.log"


def preparing(
    container: Container,
    paths: Paths,
    lower: list[Path],
    *,
    namespace: str | None,
    endpoints: list[Endpoint],
    has_names: bool = False,
    linked: Linked = NOT_LINKED,
    around: Surroundings = NOTHING,
) -> Plan:
    """Everything up to the first process, which is then created but does not run yet.

    `has_names`: one of its networks has, so that the container asks the resolver.
    """
    spec = container.spec
    place = Place.of(paths, container.id, spec.isolation.cgroup_parent)
    log = log_path(paths, container.id) if spec.log.driver != "none" else None
    state = paths.container_state(container.id)
    resolver = ADDRESS if has_names else ""
    bound = etc_files(container, paths)
    config = make_config(
        replace(container, spec=linked.put_into(spec)),
        root=place.rootfs,
        namespace=namespace,
        files=bound,
        cgroup=place.cgroup,
        volumes=mounting.sources(container, paths),
        around=around,
    )
    # Whose network is shared, his are the files.
    etc = () if container.joined else _etc(container, bound, namespace, endpoints, resolver, linked)
    return Plan(
        (
            MountOverlay(place.rootfs, tuple(lower), state / "upper", state / "work"),
            MarkRoot(place.rootfs),
            WriteBundle(place, config, spec.user, spec.group_add, etc, (state / "upper", *lower)),
            *mounting.subpath_steps(container, paths),
            *([MountShm(shm_place(paths, container.id), spec.shm_size)] if spec.isolation.ipc == "shareable" else []),
            StartMonitor(
                place,
                log,
                spec.tty,
                spec.open_stdin,
                spec.keep_stdin,
                config["linux"]["rootfsPropagation"] == "shared",
            ),
        )
    )


def etc_files(container: Container, paths: Paths) -> dict[str, Path]:
    """The files that are bound into a container, by their paths inside: with a network, its files are shared too."""
    state = paths.container_state(container.joined or container.id)
    return {f"/etc/{name}": state / name for name in ("resolv.conf", "hostname", "hosts")}


def running(container: Container, paths: Paths) -> Plan:
    """The first process itself."""
    return Plan((StartProcess(Place.of(paths, container.id)),))


def remains(container_id: str, paths: Paths) -> Plan:
    """Whatever a run of this container may have left; only good for being reverted."""
    place = Place.of(paths, container_id)
    subpaths = BindSubpaths(paths.subpaths / container_id)
    shm = MountShm(shm_place(paths, container_id))
    return Plan((MountOverlay(place.rootfs), WriteBundle(place), subpaths, shm, StartMonitor(place)))


def endpoint_specs(container: Container, catalog: Catalog) -> tuple[EndpointSpec, ...]:
    """What the engine is asked for: the networks, the published ports on the first that leads outside."""
    spec = container.spec
    endpoints = [
        replace(endpoint, wished=container.addresses.get(catalog.network(endpoint.network).id, ()))
        for endpoint in spec.endpoints
    ]
    ports = published(container)
    if not ports or not endpoints:
        return tuple(endpoints)
    outward = (i for i, e in enumerate(endpoints) if not catalog.network(e.network).internal)
    carrier = next(outward, 0)
    chosen = endpoints[carrier]
    endpoints[carrier] = replace(chosen, ports=ports)
    return tuple(endpoints)


def published(container: Container) -> tuple[PortSpec, ...]:
    """The ports to publish: those named, and with ``-P`` every exposed one that is not."""
    spec = container.spec
    ports = list(spec.ports)
    if spec.publish_all:
        named = {(port.port, port.protocol) for port in ports}
        for exposed in spec.exposed:
            number, _, protocol = exposed.partition("/")
            if (int(number), protocol or "tcp") not in named:
                ports.append(PortSpec(port=int(number), protocol=protocol or "tcp"))  # type: ignore[arg-type]
    return tuple(ports)


def _etc(
    container: Container,
    bound: dict[str, Path],
    namespace: str | None,
    endpoints: list[Endpoint],
    resolver: str,
    linked: Linked,
) -> tuple[tuple[Path, str], ...]:
    spec = container.spec
    on_host = namespace is None
    addresses = tuple(str(interface.ip) for endpoint in endpoints for interface in endpoint.addresses)
    gateway = next((str(gateway) for endpoint in endpoints for gateway in endpoint.gateways), "")
    hosts = files.hosts(spec, addresses, "127.0.0.1" if on_host else gateway)
    hosts += "".join(f"{line}\n" for line in linked.hosts)
    if on_host:
        hosts = files.merge_host_names(hosts)
    resolv_conf = files.resolv_conf(spec, files.host_resolv_conf(), host_network=on_host, resolver=resolver)
    return (
        (bound["/etc/hosts"], hosts),
        (bound["/etc/hostname"], f"{spec.hostname}\n"),
        (bound["/etc/resolv.conf"], resolv_conf),
        (bound["/etc/resolv.conf"].with_name(MADE), resolv_conf),
    )
