"""``fairlead netns …``."""

from __future__ import annotations

import os
import sys

from fairlead.cli.client import Client, segment
from fairlead.cli.flags import EXPLAIN, FORMAT, QUIET, Command, Failure, Flag, Options
from fairlead.cli.output import each, print_lines, short, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000  # linux/sched.h
_RESOLV_CONF = "/etc/resolv.conf"
_MS_RDONLY, _MS_BIND, _MS_REC, _MS_SLAVE, _MNT_DETACH = 1, 4096, 16384, 1 << 19, 2  # sys/mount.h


def _add(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def add(word: str) -> str | None:
        answer = client.post("/fairlead/netns", {"Name": word}, explain=explain)
        print_lines(answer)
        return None if explain else word

    return each(words, add)


def _ls(options: Options, _: list[str]) -> None:
    namespaces = Client().get("/fairlead/netns", all=options.flag("all"))

    def inside(namespace: dict[str, Any]) -> str:
        """What is in it: ``eth0 10.0.0.1/24 (br0)``, ``vth0 172.0.0.2/24 (ns1)``."""
        found = [
            f"{endpoint['Interface']} {','.join(endpoint['Addresses'])} ({endpoint['NetworkName']})"
            for endpoint in namespace["Endpoints"]
            if endpoint["Interface"]
        ]
        for link in namespace["Links"]:
            for end, other in (link["Ends"], reversed(link["Ends"])):
                if end["Sandbox"] == namespace["Id"]:
                    peer = f"{other['SandboxName'] or 'host'}/{other['Interface']}"
                    found.append(f"{end['Interface']} {','.join(end['Addresses'])} ({peer})")
        return "; ".join(" ".join(text.split()) for text in found)

    show(
        options,
        namespaces,
        {
            "NAME": lambda namespace: name_of(namespace),
            "KIND": _kind,
            "PATH": lambda namespace: namespace["Path"],
            "INTERFACES": inside,
        },
        id_of=name_of,
    )


def _kind(namespace: dict[str, Any]) -> str:
    """What it was made for, and which other containers run in it."""
    if not namespace["Container"]:
        return "namespace"
    others = [name for name in namespace.get("Containers", ()) if name != namespace["ContainerName"]]
    return f"container, with {', '.join(others)}" if others else "container"


def name_of(namespace: dict[str, Any]) -> str:
    """The name that commands take: its own, or the container's."""
    if namespace["Container"]:
        return namespace["ContainerName"] or short(namespace["Container"])
    return str(namespace["Name"])


def _inspect(options: Options, words: list[str]) -> int:
    from fairlead.cli.inspect import show_all

    client = Client()
    return show_all(options, words, lambda word: client.get(f"/fairlead/netns/{segment(word)}"))


def _rm(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def remove(word: str) -> str | None:
        print_lines(client.delete(f"/fairlead/netns/{segment(word)}", explain=explain))
        return None if explain else word

    return each(words, remove)


def _exec(options: Options, words: list[str]) -> int:
    name, *command = words
    namespace = Client().get(f"/fairlead/netns/{segment(name)}")
    if options.flag("explain"):
        lines = enter_lines(namespace["Path"], namespace["Name"], namespace.get("Resolver", ""), command)
        print("\n".join(lines))
        return 0
    enter(namespace["Path"], namespace["Name"], namespace.get("Resolver", ""))
    sys.stdout.flush()
    try:
        os.execvp(command[0], command)
    except FileNotFoundError:
        raise Failure(f"{command[0]}: no such program", 127) from None
    except OSError as error:
        raise Failure(f"{command[0]}: {error.strerror}", 126) from None


def enter(path: str, name: str, resolver: str) -> None:
    """Move this process into a network namespace the way ip-netns(8) does.

    A mount namespace of its own follows, with a /sys that shows the namespace's devices and with the files of
    /etc/netns/NAME over those of /etc.  With a `resolver` /etc/resolv.conf leads to it, unless /etc/netns/NAME has one.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)

    def call(function: str, *arguments: object) -> None:
        if getattr(libc, function)(*arguments):
            number = ctypes.get_errno()
            raise Failure(f"namespace {name} cannot be entered: {function}: {os.strerror(number)}")

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    call("setns", fd, _CLONE_NEWNET)
    os.close(fd)
    call("unshare", _CLONE_NEWNS)
    call("mount", b"", b"/", b"none", ctypes.c_ulong(_MS_SLAVE | _MS_REC), None)
    read_only = os.statvfs("/sys").f_flag & os.ST_RDONLY
    libc.umount2(b"/sys", _MNT_DETACH)  # not mounted is no error
    call("mount", name.encode(), b"/sys", b"sysfs", ctypes.c_ulong(_MS_RDONLY if read_only else 0), None)
    directory = os.path.join("/etc/netns", name)
    for file in os.listdir(directory) if os.path.isdir(directory) else ():
        source, over = os.path.join(directory, file), os.path.join("/etc", file)
        if os.path.exists(over):
            call("mount", source.encode(), over.encode(), b"none", ctypes.c_ulong(_MS_BIND), None)
    if resolver and os.path.exists(_RESOLV_CONF) and not os.path.exists(os.path.join(directory, "resolv.conf")):
        file = _written(*_resolv_conf(resolver))
        call("mount", file.encode(), _RESOLV_CONF.encode(), b"none", ctypes.c_ulong(_MS_BIND), None)
        os.unlink(file)  # what is mounted stays


def enter_lines(path: str, name: str, resolver: str, command: Sequence[str]) -> list[str]:
    """What `enter` does and then the program, as shell lines."""
    import shlex

    directory = os.path.join("/etc/netns", name)
    own = [file for file in os.listdir(directory) if os.path.exists(f"/etc/{file}")] if os.path.isdir(directory) else []
    over = [(os.path.join(directory, file), f"/etc/{file}") for file in own]
    before, after = [], []
    if resolver and os.path.exists(_RESOLV_CONF) and "resolv.conf" not in own:
        file, text = _resolv_conf(resolver)
        before, after = [f"cat >{shlex.quote(file)} <<'END'", *text.splitlines(), "END"], [f"rm {shlex.quote(file)}"]
        over.append((file, _RESOLV_CONF))
    mounts = [f"mount -t sysfs {shlex.quote(name)} /sys", *(f"mount --bind {shlex.join(pair)}" for pair in over)]
    inside = "; ".join(["umount -l /sys", *mounts, 'exec "$@"'])
    enter = ["nsenter", f"--net={path}", "unshare", "--mount", "--propagation=slave", "sh", "-c", inside, "sh"]
    return [*before, shlex.join([*enter, *command]), *after]


def _resolv_conf(resolver: str) -> tuple[str, str]:
    """A file that leads to the resolver: where it is to be, and what is in it."""
    from fairlead.dns.hosts import led_to
    from fairlead.paths import Paths

    with open(_RESOLV_CONF, errors="replace") as host:
        text = led_to(resolver, host.read())
    return str(Paths.from_environment().run / f"resolv.conf.{os.getpid()}"), text


def _written(path: str, text: str) -> str:
    """A file for the time of a mount; returns its path."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644), "w") as file:
        file.write(text)
    return path


ADD = Command(
    "netns add", "[OPTIONS] NAME [NAME...]", "Add a network namespace, seen by 'ip netns'", _add, (EXPLAIN,), (1, None)
)
LS = Command(
    "netns ls",
    "[OPTIONS]",
    "List network namespaces",
    _ls,
    (Flag("-a --all", "Show containers' namespaces as well"), QUIET, FORMAT),
)
INSPECT = Command(
    "netns inspect",
    "[OPTIONS] NAME|CONTAINER [...]",
    "Show namespaces in full",
    _inspect,
    (Flag("-f --format", "'json' or a template such as '{{.Path}}'", "text"),),
    (1, None),
)
EXEC = Command(
    "netns exec",
    "[OPTIONS] NAME|CONTAINER PROGRAM [ARGUMENT...]",
    "Run a program of the host in a namespace",
    _exec,
    (EXPLAIN,),
    (2, None),
    stop=True,
)
RM = Command("netns rm", "[OPTIONS] NAME [NAME...]", "Remove one or more namespaces", _rm, (EXPLAIN,), (1, None))
