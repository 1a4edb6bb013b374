"""``fairlead run`` and ``fairlead create``: docker's flags, as the body of ``POST /containers/create``."""

from __future__ import annotations

import os
import sys

from fairlead.cli import isolation, parse
from fairlead.cli.client import ApiError, Client
from fairlead.cli.container import exit_code_of, run_attached
from fairlead.cli.flags import EXPLAIN, Command, Failure, Flag, Options, Usage
from fairlead.cli.limits import LIMITS, ONCE, limits
from fairlead.cli.output import print_lines
from fairlead.cli.stream import DETACH_KEYS, require_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FAILED = 125
"""Exit code of docker run when the daemon, not the container, failed."""

_PULL = ("always", "missing", "never")


def body(options: Options, words: list[str], *, attach: bool) -> dict[str, Any]:
    """The container as the API wants it; `attach`: its streams will be attached at the start."""
    image, *command = words
    stdin = options.flag("interactive")
    chosen = {stream.lower() for stream in options.many("attach")}
    if unknown := chosen - {"stdin", "stdout", "stderr"}:
        raise Usage(f"invalid --attach {unknown.pop()!r}: only stdin, stdout and stderr are allowed")
    wanted: dict[str, Any] = {
        "Image": image,
        "Tty": options.flag("tty"),
        "OpenStdin": stdin,
        "StdinOnce": stdin and attach,
        "AttachStdin": attach and (("stdin" in chosen) if chosen else stdin),
        "AttachStdout": attach and (not chosen or "stdout" in chosen),
        "AttachStderr": attach and (not chosen or "stderr" in chosen),
        "Env": parse.environment(options.many("env"), options.many("env-file"), os.environ),
        "Labels": parse.labels(options.many("label"), options.many("label-file")),
        "Hostname": options.text("hostname"),
        "Domainname": options.text("domainname"),
        "User": options.text("user"),
        "WorkingDir": options.text("workdir"),
    }
    if command:
        wanted["Cmd"] = command
    if options.has("entrypoint"):
        wanted["Entrypoint"] = [options.text("entrypoint")]
    if options.has("stop-signal"):
        wanted["StopSignal"] = options.text("stop-signal")
    if options.has("stop-timeout"):
        wanted["StopTimeout"] = options.number("stop-timeout")
    if check := parse.health(options):
        wanted["Healthcheck"] = check
    ports, exposed = _ports(options)
    wanted["ExposedPorts"] = {port: {} for port in exposed}
    mode, endpoints = _networks(options)
    # A path alone is a volume without a name.
    alone = [text for text in options.many("volume") if text.startswith("/") and ":" not in text]
    wanted["Volumes"] = {path: {} for path in alone}
    wanted["HostConfig"] = _host_config(options, mode, ports)
    wanted["NetworkingConfig"] = {"EndpointsConfig": endpoints}
    return wanted


def _ports(options: Options) -> tuple[dict[str, list[dict[str, str]]], list[str]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for text in options.many("publish"):
        for port, binding in parse.publish(text):
            bindings.setdefault(port, []).append(binding)
    exposed = [port for text in options.many("expose") for port in parse.exposed(text)]
    return bindings, [*bindings, *exposed]


def _networks(options: Options) -> tuple[str, dict[str, Any]]:
    """The network mode and the endpoints; ``--ip`` and its like belong to the first network, as docker has it."""
    given = [parse.network(text) for text in options.many("network")]
    first: dict[str, Any] = {}
    if options.has("ip"):
        first["IPAMConfig"] = {"IPv4Address": options.text("ip")}
    if options.has("ip6"):
        first.setdefault("IPAMConfig", {})["IPv6Address"] = options.text("ip6")
    parse.link_local(options.many("link-local-ip"), first)
    if options.many("network-alias"):
        first["Aliases"] = options.many("network-alias")
    if options.has("mac-address"):
        first["MacAddress"] = options.text("mac-address")
    if not given:
        return "default", {"default": first} if first else {}
    if twice := {name for name, _ in given if [other for other, _ in given].count(name) > 1}:
        raise Usage(f"network {twice.pop()!r} is given more than once")
    name, settings = given[0]
    if clash := settings.keys() & first.keys():
        raise Usage(f"{clash.pop()} of network {name!r} is given twice: by an option and in --network")
    endpoints = dict(given)
    endpoints[name] = {**settings, **first}
    if name in ("host", "none", "default", "bridge") and not endpoints[name]:
        del endpoints[name]  # these need no entry; docker sends none either
    return name, endpoints


def _host_config(options: Options, mode: str, ports: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    binds = [parse.volume(text, _absolute) for text in options.many("volume")]
    restart = parse.restart(options.text("restart", "no"))
    if options.flag("rm") and restart["Name"] != "no":
        raise Usage("--rm and --restart exclude each other: a container that is removed cannot start again")
    config: dict[str, Any] = {
        "Binds": [bind for bind in binds if ":" in bind],
        "Mounts": [parse.mount(text, _absolute) for text in options.many("mount")],
        "VolumesFrom": options.many("volumes-from"),
        "NetworkMode": mode,
        "PortBindings": ports,
        "PublishAllPorts": options.flag("publish-all"),
        "RestartPolicy": restart,
        "AutoRemove": options.flag("rm"),
        "CapAdd": options.many("cap-add"),
        "CapDrop": options.many("cap-drop"),
        "GroupAdd": options.many("group-add"),
        "Dns": options.many("dns"),
        "DnsSearch": options.many("dns-search"),
        "DnsOptions": options.many("dns-option"),
        "ExtraHosts": [parse.extra_host(text) for text in options.many("add-host")],
        "Links": options.many("link"),
        "Privileged": options.flag("privileged"),
        "ReadonlyRootfs": options.flag("read-only"),
        "Tmpfs": parse.tmpfs(options.many("tmpfs")),
        "Sysctls": parse.labels(options.many("sysctl"), ()),
    }
    if options.has("log-driver") or options.has("log-opt"):
        options_of_log = parse.labels(options.many("log-opt"), ())
        config["LogConfig"] = {"Type": options.text("log-driver"), "Config": options_of_log}
    config |= isolation.host_config(options)
    if options.has("init"):
        config["Init"] = options.flag("init")
    config |= limits(options)
    if options.has("shm-size"):
        config["ShmSize"] = parse.size(options.text("shm-size"))
    if options.has("oom-score-adj"):
        config["OomScoreAdj"] = options.number("oom-score-adj")
    return config


def _absolute(path: str) -> str:
    return os.path.abspath(os.path.expanduser(path))


def create(client: Client, options: Options, wanted: dict[str, Any]) -> str:
    """Create the container and return its id; an image that is not here is pulled first, as ``--pull`` says."""
    pull = options.text("pull", "missing")
    if pull not in _PULL:
        raise Usage(f"invalid --pull {pull!r}: only {', '.join(_PULL)} are allowed")
    file = options.text("cidfile")
    if file and os.path.exists(file):
        raise Failure(f"the container ID file {file} exists: remove it or choose another")
    platform = options.text("platform")
    if pull == "always":
        _pull(client, wanted["Image"], platform)
    query = {"name": options.text("name") or None, "platform": platform or None}
    try:
        answer = client.post("/containers/create", wanted, **query)
    except ApiError as error:
        if error.status != 404 or pull != "missing" or "image" not in str(error).lower():
            raise
        print(f"Unable to find image '{_tagged(wanted['Image'])}' locally", file=sys.stderr)
        _pull(client, wanted["Image"], platform)
        answer = client.post("/containers/create", wanted, **query)
    for warning in answer.get("Warnings") or []:
        print(f"WARNING: {warning}", file=sys.stderr)
    if file:
        with open(file, "x") as stream:
            stream.write(answer["Id"])
    return str(answer["Id"])


def _pull(client: Client, image: str, platform: str) -> None:
    from fairlead.cli.image import pull

    pull(client, image, sys.stderr, platform=platform)


def _tagged(image: str) -> str:
    name, tag = parse.image_name(image)
    return f"{name}@{tag}" if "@" in image else f"{name}:{tag}"


def _create(options: Options, words: list[str]) -> None:
    wanted = body(options, words, attach=not options.flag("detach"))
    client = Client()
    if options.flag("explain"):
        query = {"name": options.text("name") or None, "platform": options.text("platform") or None}
        print_lines(client.post("/containers/create", wanted, **query, explain=True))
    else:
        print(create(client, options, wanted))


def _run(options: Options, words: list[str]) -> int:
    """Whatever fails before the container's program runs ends in 125, 126 or 127."""
    try:
        detach = options.flag("detach")
        if detach and options.flag("rm") and options.many("attach"):
            raise Usage("--detach and --attach exclude each other")
        wanted = body(options, words, attach=not detach)
        client = Client()
        if options.flag("explain"):
            _create(options, words)
            return 0
        tty = options.flag("tty")
        if tty and wanted["AttachStdin"]:
            require_terminal()
        keys = parse.detach_keys(options.text("detach-keys", DETACH_KEYS))
        container = create(client, options, wanted)
    except Failure as failure:
        failure.code = _FAILED
        raise
    try:
        if detach:
            client.post(f"/containers/{container}/start")
            print(container)
            return 0
        return run_attached(
            client,
            container,
            tty=tty,
            stdin=wanted["AttachStdin"],
            stdout=wanted["AttachStdout"],
            stderr=wanted["AttachStderr"],
            keys=keys,
            removed=options.flag("rm"),
            sig_proxy=options.flag("sig-proxy", True),
        )
    except ApiError as error:
        error.code = exit_code_of(str(error), _FAILED)
        raise


_FLAGS = (
    *LIMITS,
    *ONCE,
    Flag("-a --attach", "Attach to stdin, stdout or stderr", "list"),
    Flag("-e --env", "Set environment variables", "list"),
    Flag("-h --hostname", "Host name of the container", "text"),
    Flag("-i --interactive", "Keep stdin open even if not attached"),
    Flag("-l --label", "Set metadata", "list", "KEY=VALUE"),
    Flag("-P --publish-all", "Publish all exposed ports to random ports"),
    Flag("-p --publish", "Publish a port: [ADDRESS:][HOST[-END]:]PORT[-END][/PROTOCOL]", "list", "port"),
    Flag("-t --tty", "Give it a terminal"),
    Flag("-u --user", "User name or number (name|uid[:group|gid])", "text"),
    Flag("-v --volume", "Volume or bind mount: [NAME|PATH:]TARGET[:OPTIONS]", "list"),
    Flag("--volumes-from", "Mount the volumes and binds of another container", "list", "CONTAINER[:ro]"),
    Flag("-w --workdir", "Working directory inside the container", "text"),
    Flag("--add-host", "A line for /etc/hosts", "list", "NAME:IP"),
    Flag("--cap-add", "Add a capability", "list"),
    Flag("--cap-drop", "Drop a capability", "list"),
    Flag("--cidfile", "Write the container's ID to this file", "text", "file"),
    Flag("--dns", "Name server", "list", "IP"),
    Flag("--dns-opt --dns-option", "Option of resolv.conf", "list"),
    Flag("--dns-search", "Search domain", "list"),
    Flag("--domainname", "Domain name of the container", "text"),
    Flag("--entrypoint", "Program to run instead of the image's", "text"),
    Flag("--env-file", "Read environment variables from a file", "list", "file"),
    Flag("--expose", "Expose a port or a range of ports", "list", "port"),
    Flag("--group-add", "Additional group", "list"),
    Flag("--health-cmd", "Command that tells whether the container is well", "text", "command"),
    Flag("--health-interval", "Time between two checks (default 30s)", "text", "duration"),
    Flag("--health-retries", "Failures in a row that make it unhealthy (default 3)", "number"),
    Flag("--health-start-interval", "Time between two checks in the start period (default 5s)", "text", "duration"),
    Flag("--health-start-period", "Time in which failures do not count (default 0s)", "text", "duration"),
    Flag("--health-timeout", "Time that a check may take (default 30s)", "text", "duration"),
    Flag("--init", "Run an init that forwards signals and reaps processes"),
    Flag("--ip", "IPv4 address, such as 172.30.100.104", "text", "IP"),
    Flag("--ip6", "IPv6 address", "text", "IP"),
    Flag("--label-file", "Read metadata from a file", "list", "file"),
    Flag("--link", "Know another container by a name of its own: CONTAINER[:ALIAS]", "list"),
    Flag("--link-local-ip", "Further address, of a link-local block", "list", "IP"),
    Flag("--log-driver", "Where the log goes: json-file (default), local, none", "text"),
    Flag("--log-opt", "Option of the log: max-size=10m, max-file=3", "list"),
    Flag("--mac-address", "MAC address", "text", "MAC"),
    Flag("--mount", "Mount: type=bind|volume|tmpfs,source=…,target=…[,readonly]", "list", "mount"),
    Flag("--name", "Name of the container", "text"),
    Flag("--net --network", "Network: NAME, or name=NAME,ip=…,alias=…", "list", "network"),
    Flag("--net-alias --network-alias", "Another name for it in the network", "list"),
    Flag("--no-healthcheck", "Do not check, whatever the image says"),
    Flag("--oom-score-adj", "Preference of the out-of-memory killer (-1000 to 1000)", "number"),
    Flag("--platform", "The image for another platform, such as linux/arm64", "text"),
    Flag("--privileged", "All capabilities and devices"),
    Flag("--pull", "Pull the image before: always, missing (default) or never", "text"),
    Flag("--read-only", "Root file system read-only"),
    Flag("--restart", "Restart policy: no (default), always, unless-stopped, on-failure[:MAX]", "text"),
    Flag("--rm", "Remove the container when it exits"),
    Flag("--shm-size", "Size of /dev/shm", "text", "bytes"),
    Flag("--stop-signal", "Signal that stops the container", "text"),
    Flag("--stop-timeout", "Seconds to wait before killing it", "number"),
    Flag("--sysctl", "Kernel setting of its namespaces", "list", "KEY=VALUE"),
    Flag("--tmpfs", "Mount a tmpfs: TARGET[:OPTIONS]", "list"),
    *isolation.FLAGS,
    EXPLAIN,
)

RUN = Command(
    "run",
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    _run,
    (
        *_FLAGS,
        Flag("-d --detach", "Run in the background and print the container's ID"),
        Flag("--detach-keys", f'Keys that detach (default "{DETACH_KEYS}")', "text"),
        Flag("--sig-proxy", "Send received signals to the container (default true)"),
    ),
    (1, None),
    stop=True,
    usage_code=_FAILED,
)
CREATE = Command(
    "create", "[OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container", _create, _FLAGS, (1, None), stop=True
)
