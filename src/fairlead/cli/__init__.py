"""The command line: a client of the API.

Only the module of the command asked for is imported, and nothing heavy (aiohttp, msgspec, typing, dataclasses) on the
way: `fairlead ps` should cost what starting Python costs.  So type-only imports stand behind ``TYPE_CHECKING`` here.
"""

from __future__ import annotations

import os
import sys

from fairlead.cli.flags import Command, Failure, Help, Usage

_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("run:RUN", "Create and run a new container from an image"),
    "create": ("run:CREATE", "Create a new container"),
    "start": ("container:START", "Start one or more stopped containers"),
    "stop": ("container:STOP", "Stop one or more running containers"),
    "restart": ("container:RESTART", "Restart one or more containers"),
    "kill": ("container:KILL", "Kill one or more running containers"),
    "pause": ("change:PAUSE", "Freeze all processes of containers"),
    "unpause": ("change:UNPAUSE", "Let frozen containers go on"),
    "rename": ("change:RENAME", "Give a container another name"),
    "update": ("change:UPDATE", "Change the limits and the restart policy of containers"),
    "rm": ("container:RM", "Remove one or more containers"),
    "ps": ("listing:PS", "List containers"),
    "inspect": ("inspect:INSPECT", "Show containers, images, networks, volumes or namespaces in full"),
    "exec": ("container:EXEC", "Run a command in a running container"),
    "logs": ("container:LOGS", "Fetch the logs of a container"),
    "wait": ("container:WAIT", "Wait until containers stop, then print their exit codes"),
    "port": ("listing:PORT", "List the published ports of a container"),
    "attach": ("container:ATTACH", "Attach the terminal to a running container"),
    "search": ("image:SEARCH", "Search a registry for images"),
    "commit": ("image:COMMIT", "Make an image of a container's changes"),
    "cp": ("copy:CP", "Copy files between a container and this machine"),
    "diff": ("copy:DIFF", "List the files that a container changed"),
    "export": ("copy:EXPORT", "Write a container's files as a tar archive"),
    "network create": ("network:CREATE", "Create a network"),
    "network ls": ("network:LS", "List networks"),
    "network inspect": ("network:INSPECT", "Show networks in full"),
    "network rm": ("network:RM", "Remove one or more networks"),
    "network connect": ("network:CONNECT", "Connect a container or namespace to a network"),
    "network disconnect": ("network:DISCONNECT", "Disconnect a container or namespace from a network"),
    "network prune": ("network:PRUNE", "Remove all unused networks"),
    "netns add": ("netns:ADD", "Add a network namespace"),
    "netns ls": ("netns:LS", "List network namespaces"),
    "netns inspect": ("netns:INSPECT", "Show namespaces in full"),
    "netns exec": ("netns:EXEC", "Run a program of the host in a namespace"),
    "netns rm": ("netns:RM", "Remove one or more namespaces"),
    "link add": ("link:ADD", "Join two namespaces by a veth pair"),
    "link ls": ("link:LS", "List links"),
    "link rm": ("link:RM", "Remove one or more links"),
    "image pull": ("image:PULL", "Pull an image from a registry"),
    "image load": ("image:LOAD", "Load images from an archive"),
    "image import": ("image:IMPORT", "Make an image of a root file system's tar archive"),
    "image ls": ("image:LS", "List images"),
    "image history": ("image:HISTORY", "Show how an image was made"),
    "image save": ("image:SAVE", "Write images to an archive"),
    "image push": ("image:PUSH", "Push an image to a registry"),
    "image inspect": ("image:INSPECT", "Show images in full"),
    "image tag": ("image:TAG", "Give an image another name"),
    "image rm": ("image:RM", "Remove one or more images"),
    "image prune": ("image:PRUNE", "Remove unused images"),
    "volume create": ("volume:CREATE", "Create a volume"),
    "volume ls": ("volume:LS", "List volumes"),
    "volume inspect": ("volume:INSPECT", "Show volumes in full"),
    "volume rm": ("volume:RM", "Remove one or more volumes"),
    "volume prune": ("volume:PRUNE", "Remove unused volumes"),
    "stats": ("stats:STATS", "Show what containers use, second by second"),
    "top": ("stats:TOP", "Show the processes that run in a container"),
    "events": ("events:EVENTS", "Show what happens, as it happens"),
    "topology": ("topology:TOPOLOGY", "Show what is connected to what"),
    "doctor": ("doctor:DOCTOR", "Look for what is wrong, and say what mends it"),
    "explain": ("explain:EXPLAIN", "Print the shell lines that would rebuild what exists now"),
    "trace": ("trace:TRACE", "Show the way from one place to another, or why there is none"),
    "ui": ("ui:UI", "Serve a page that shows the network, live"),
    "container prune": ("usage:CONTAINER_PRUNE", "Remove all stopped containers"),
    "system df": ("usage:DF", "Show what images, containers and volumes take on the disk"),
    "system info": ("usage:INFO", "Show what the daemon runs on"),
    "system prune": ("usage:PRUNE", "Remove stopped containers, unused networks and images"),
    "system reset": ("system:RESET", "Remove everything that Fairlead made, and stop the daemon"),
    "version": ("system:VERSION", "Show the versions of client and daemon"),
    "daemon": ("system:DAEMON", "Run the daemon (the other commands start it on demand)"),
}
"""Every command: where it is (module and object), and what help says of it."""

_ALIASES = {
    "pull": "image pull",
    "images": "image ls",
    "load": "image load",
    "save": "image save",
    "push": "image push",
    "history": "image history",
    "import": "image import",
    "rmi": "image rm",
    "tag": "image tag",
    "network list": "network ls",
    "network remove": "network rm",
    "netns list": "netns ls",
    "netns del": "netns rm",
    "netns delete": "netns rm",
    "netns remove": "netns rm",
    "link list": "link ls",
    "link del": "link rm",
    "link delete": "link rm",
    "link remove": "link rm",
    "volume list": "volume ls",
    "volume remove": "volume rm",
    "system events": "events",
    "info": "system info",
    "image list": "image ls",
    "image remove": "image rm",
}
"""Other words for the same: docker's short forms, and ip's."""

_GROUPS = {
    "network": "Manage networks",
    "netns": "Manage network namespaces",
    "link": "Manage links between namespaces",
    "image": "Manage images",
    "volume": "Manage volumes",
    "system": "Manage Fairlead itself",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        code = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except Failure as failure:
        _say(f"fairlead: {failure}")
        return failure.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone (`fairlead ps | head -1`); keep Python from complaining at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:
        _say(f"fairlead: {error.filename + ': ' if error.filename else ''}{error.strerror or error}")
        return 1
    except Exception as error:
        # The few commands that use the engine's own modules raise its errors; the others do without that import.
        engine = sys.modules.get("fairlead.errors")
        if engine is None or not isinstance(error, engine.FairleadError):
            raise
        _say(f"fairlead: {error}")
        return 1
    return code


def _say(text: str) -> None:
    try:
        sys.stdout.flush()
        print(text, file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody listens; the exit code still tells


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_help())
        return 0
    if arguments[0] in ("--version", "-v"):
        arguments = ["version", *arguments[1:]]
    if arguments[0] == "container" and len(arguments) > 1:
        others = {"ls": "ps", "list": "ps", "remove": "rm", "prune": "container prune"}
        arguments = [others.get(arguments[1], arguments[1]), *arguments[2:]]
    name, rest = arguments[0], arguments[1:]
    if name in _GROUPS:
        if not rest or rest[0] in ("--help", "-h", "help"):
            print(_group_help(name))
            return 0
        name, rest = f"{name} {rest[0]}", rest[1:]
    name = _ALIASES.get(name, name)
    if name not in _COMMANDS:
        raise Usage(f"'{name}' is not a fairlead command: see 'fairlead --help'")
    command = _load(_COMMANDS[name][0])
    try:
        options, words = command.parse(rest)
    except Help:
        print(command.help())
        return 0
    return command.run(options, words) or 0


def _load(place: str) -> Command:
    import importlib

    module, _, name = place.partition(":")
    command: Command = getattr(importlib.import_module(f"fairlead.cli.{module}"), name)
    return command


def _help() -> str:
    plain = {name: text for name, (_, text) in _COMMANDS.items() if " " not in name}
    return "\n".join(
        [
            "Usage:  fairlead COMMAND",
            "",
            "A container network engine that shows what it does",
            "",
            "Commands:",
            *(f"  {name:12}{text}" for name, text in plain.items()),
            "",
            "Groups:",
            *(f"  {name:12}{text}" for name, text in _GROUPS.items()),
            "",
            "Every command that changes something takes --explain, every listing takes --format json.",
            "The environment: FAIRLEAD_HOST (unix:///PATH), FAIRLEAD_RUN, FAIRLEAD_STATE.",
            "Run 'fairlead COMMAND --help' for more on a command.",
        ]
    )


def _group_help(group: str) -> str:
    rows = [(name.split()[1], text) for name, (_, text) in _COMMANDS.items() if name.startswith(group + " ")]
    return "\n".join(
        [
            f"Usage:  fairlead {group} COMMAND",
            "",
            _GROUPS[group],
            "",
            "Commands:",
            *(f"  {name:12}{text}" for name, text in rows),
        ]
    )
