"""The deliberate differences from Docker 20.10, each with its reason."""

from __future__ import annotations

from likeness.compare import Difference, Mismatch


def _many(why: str, *places: tuple[str, str]) -> list[Difference]:
    return [Difference(step, path, why) for step, path in places]


_INSPECT = "GET /containers/*json*"

DIFFERENCES: list[Difference] = [
    # Networks
    *_many(
        "A field of API 1.44 to 1.48, given to older clients as well, which ignore it.",
        ("GET /networks*", "*.EnableIPv4"),
        ("GET /containers/*", "*.DNSNames.*"),
        ("GET /containers/*", "*.GwPriority"),
    ),
    *_many(
        "The gateway is told even where its choice was left to us.",
        ("GET /networks*", "*IPAM.Config.*.Gateway"),
        ("docker network inspect *", "body"),
    ),
    *_many(
        "Our default bridge is an interface of our own, beside Docker's on the same host.",
        ("GET /networks*", "*.Options.com.docker.network.bridge.name"),
    ),
    *_many("`IPAM.Options` are not kept: the default IPAM driver has none.", ("GET /networks/full", "*IPAM.Options")),
    *_many(
        "A network's name may have spaces, as in Docker, but no `/` and no `-` in front: it could not be told from a "
        "path or an option.",
        ("POST /networks/create*-bad*", "*"),
    ),
    *_many(
        "A subnet with host bits set is a mistake, as it is for Docker 28; Docker 20.10 takes it.",
        ("POST /networks/create*hostbits*", "*"),
    ),
    *_many("The overlay driver is not there, with or without a swarm.", ("POST /networks/create*overlay*", "*")),
    *_many(
        "JSON with something behind it is refused, as by Docker 28; Docker 20.10 reads the first value.",
        ('POST /networks/create b\'{"Name":"x"}{"Name":"y"}\'', "*"),
    ),
    *_many(
        "The text says with which network a subnet overlaps, or what keeps a network from being removed.",
        ("POST /networks/create*overlapping*", "message"),
        ("docker network create --subnet 10.61.0.0/25 overlapping", "body"),
        ("docker network create --driver nope x", "body"),
        ("DELETE /networks/*", "message"),
        ("docker network rm n", "body"),
    ),
    *_many(
        "An image is its layers' directories; nothing is mounted of it, and when it was tagged last is not kept.",
        ("GET /images/*/json", "*GraphDriver.Data.*"),
        ("GET /images/*/json", "*.LastTagTime"),
    ),
    *_many(
        "Why a registry cannot be reached is told without the words of Go's network library.",
        ("POST /images/create?fromImage=127.0.0.1:1*", "message"),
        ("GET /distribution/127.0.0.1:1*", "message"),
        ("docker pull 127.0.0.1:1/x", "body"),
    ),
    *_many(
        "Volumes are in Fairlead's own directory.",
        ("* /volumes*", "*Mountpoint"),
        ("GET /containers/*json*", "*Mounts.*.Source"),
    ),
    *_many(
        "A bind of what lies above the engine's own directory is as private as any other.",
        ("GET /containers/*json*", "*Mounts.*.Propagation"),
    ),
    *_many(
        "An address of the default bridge may be chosen, too.",
        ('POST /networks/bridge/connect {"Container": "ff", "EndpointConfig": {"IPAMConfig"*', "*"),
    ),
    *_many(
        "Who is in no network (`none`) is not connected to it, so there is nothing to disconnect.",
        ("POST /networks/none/disconnect*", "*"),
    ),
    *_many(
        "Nothing can be in a configuration network, and the text says so.",
        ("POST /networks/settings/connect*", "*"),
    ),
    *_many(
        "An address that somebody has is a conflict (409), as everything is that is taken; Docker says 403.",
        ("POST /networks/m/connect*10.62.0.2*", "*"),
    ),
    *_many(
        "What a stopped container asked last of a network counts; Docker keeps what it asked first.",
        ("GET /containers/ff/json", "*.Networks.m.Aliases.0"),
    ),
    *_many(
        "Force of a disconnect is for containers that are there; one that is not is not found by Docker either.",
        ('POST /networks/m/disconnect {"Container": "nope", "Force": true}', "message"),
    ),
    # Containers
    *_many(
        "What is known before the start is told before the start: the network's id, paths of files, the short id among "
        "the aliases.",
        (_INSPECT, "*.NetworkID"),
        ("GET /system/df", "*.NetworkID"),
        (_INSPECT, "body.*Path"),
        (_INSPECT, "*.Aliases*"),
    ),
    *_many(
        "The namespace of a stopped container is gone, and so is its id; the network modes `none` and `host` have no "
        "endpoint.",
        (_INSPECT, "*.SandboxID"),
        (_INSPECT, "*.SandboxKey"),
        (_INSPECT, "*.Networks.none.EndpointID"),
        (_INSPECT, "*.Networks.host.EndpointID"),
    ),
    *_many(
        "The listing tells who is in a network, too; Docker's only the inspection.",
        ("GET /networks", "*.Containers*"),
        ("GET /networks[?]*", "*.Containers*"),
    ),
    *_many(
        "Kernel memory was never limited; Docker 23 dropped the fields.",
        (_INSPECT, "*.KernelMemory*"),
        ("GET /info", "*.KernelMemory*"),
    ),
    *_many(
        "A mistake in a container is refused when it is created; Docker 20.10 creates it and refuses the start.",
        *(
            (f"POST /containers/create?name=c*{field}*", "*")
            for field in (
                *("ExposedPorts", "CpuShares", 'NetworkMode": "nope', "container:nope", 'HostIp": "nope'),
                *("Sysctls", "Ulimits", "Devices", "PidMode", "IpcMode", "NetworkingConfig"),
            )
        ),
    ),
    *_many(
        "The content type of logs is told to every client, as Docker 28 does.",
        ("GET /containers/*logs*", "Content-Type"),
        ("GET /containers/*logs*", "Content-Type"),
    ),
    *_many("The check of health has begun as soon as there is one.", (_INSPECT, "*.State.Health.*")),
    *_many("Removed layers, caches and logs are counted as well.", ("POST /*/prune*", "*.SpaceReclaimed")),
    *_many("The text names the image as Docker 28 does.", ("GET /images/nope/json", "message")),
    *_many(
        "What is of this engine: drivers, plugins, versions of programs, limits of the kernel that are not asked for.",
        ("GET /info", "*.DriverStatus.*"),
        ("GET /info", "*.Plugins.*"),
        ("GET /info", "*.RegistryConfig.*"),
        ("GET /info", "*.LiveRestoreEnabled"),
        ("GET /info", "*.InitBinary"),
        ("GET /info", "*Commit.*"),
        ("GET /info", "*.SecurityOptions.*"),
        ("GET /info", "*.FirewallBackend.*"),
        ("GET /info", "*.OSVersion"),
        ("GET /info", "*.*Id"),
    ),
    *_many(
        "A body that is empty is taken for `{}`.",
        ("POST /containers/cc/update b''", "*"),
        ("POST /volumes/create b''", "*"),
    ),
    *_many(
        "Fields of images that newer versions of the API dropped, or that Fairlead does not know: the container that "
        "an image was made from and Docker's version then, when a tag was set, where it would be mounted.",
        ("GET /images/*", "*.Container"),
        ("GET /images/*", "*.ContainerConfig.*"),
        ("GET /images/*", "*.DockerVersion"),
        ("GET /images/*", "*.GraphDriver.*"),
        ("GET /images/*", "*.LastTagTime"),
        ("GET /system/df", "*.BuilderSize"),
    ),
    *_many(
        "A registry that cannot be reached: the text is our own, and a login's status 503.",
        ("POST /images/create*", "message"),
        ("POST /auth*", "*"),
    ),
    *_many("The runtime is crun.", (_INSPECT, "*.Runtime"), ("GET /info", "*.*untime*")),
    *_many(
        "Every container has a cgroup namespace of its own; Docker gives none on hosts with cgroups of version 1.",
        (_INSPECT, "*.CgroupnsMode"),
    ),
    *_many(
        "A value that was not given is shown by its name (`no`, `bridge`), as by Docker 28.",
        (_INSPECT, "*.RestartPolicy.Name"),
        (_INSPECT, "*.HostConfig.NetworkMode"),
        ("docker inspect web *", "body"),
    ),
    *_many(
        "Who has the host's processes keeps no SELinux label, as nobody has one here.",
        (_INSPECT, "*.HostConfig.SecurityOpt*"),
    ),
    *_many(
        "More of /proc and /sys is hidden, as by Docker 28.",
        (_INSPECT, "*.MaskedPaths.*"),
    ),
    *_many(
        "A port that is bound is published, also where it is not among `ExposedPorts`.",
        ("*/containers/dd/*", "*"),
    ),
    *_many(
        "The runtime's reason is told in the words of Docker 28, and that of an exec goes to the standard error; "
        "Docker 20.10 sends it to the standard output.",
        ("POST /containers/*/start", "message"),
        (_INSPECT, "*.State.Error"),
        ("POST /exec/{x}/start {}", "body"),
        ("docker exec web nope", "*"),
        ("docker run --rm alpine nope", "*"),
    ),
    *_many(
        "An exec that has run cannot run again: 409 and no stream, as in Docker 28.", ("POST /exec/{y}/start {}", "*")
    ),
    *_many("An exec that has ended has no pid.", ("GET /exec/*/json", "*.Pid")),
    *_many(
        "Containers are called by name in texts, and the texts are those of Docker 28.",
        ("POST /containers/*pause", "message"),
        ("DELETE /containers/*", "message"),
        ("docker rm *", "body"),
    ),
    *_many("Nothing went wrong, so `Error` is left out, as by Docker 28.", ("POST /containers/*/wait*", "*.Error")),
    *_many("A wrong `tail` is a mistake; Docker 20.10 takes it for `all`.", ("GET /containers/*tail=nope", "*")),
    *_many("The processes are others.", ("GET /containers/*/top*", "*.Processes.*")),
    # Versions, errors, what is not there
    *_many(
        "API 1.22 to 1.51 is served, whatever Docker's version.",
        ("GET /_ping", "message*"),
        ("GET /version", "*"),
    ),
    *_many("A name with a slash is no network's, so its path is none.", ("GET /networks/a/b", "message")),
    *_many(
        "Not supported by Fairlead, which says so (501; 404 for looking up something by name).",
        *(
            (f"{words}*", "*")
            for words in (
                *("POST /build", "GET /swarm", "POST /swarm", "GET /node", "GET /services", "POST /services"),
                *("GET /task", "GET /secret", "POST /secret", "GET /config", "GET /plugins", "POST /plugins"),
                *("POST /session", "GET /containers/cc/checkpoints"),
            )
        ),
    ),
]

SERVER_ERRORS = "Docker 20.10 answers some mistakes in a request with 500; Fairlead with 400, 403, 404 or 409."
OWN_WORDS = (
    "A mistake in a request (400) is told in our own words: what is wrong, where, and what is allowed.  Docker's are "
    "often those of Go's parsers.  The words of 403, 404 and 409, which programs look for, are Docker's."
)


def excused(step: str, mismatch: Mismatch) -> bool:
    """Whether a mismatch is meant."""
    if mismatch.path == "status" and mismatch.docker == 500 and 400 <= mismatch.fairlead < 500:
        return True
    if mismatch.path == "message of a 400":
        return True
    return any(difference.excuses(step, mismatch) for difference in DIFFERENCES)
