"""``fairlead daemon``, ``fairlead version``, ``fairlead system …``."""

from __future__ import annotations

from fairlead import __version__
from fairlead.cli.client import Client, Unreachable
from fairlead.cli.flags import EXPLAIN, Command, Flag, Options
from fairlead.cli.output import print_json, print_lines


def _daemon(options: Options, _: list[str]) -> int:
    if options.flag("explain"):
        print_lines(Client().get("/fairlead/base"))
        return 0
    from fairlead.daemon import main

    return main(options.text("log-level", "info"))


def _version(options: Options, _: list[str]) -> None:
    try:
        daemon = Client(start=False).get("/version")
    except Unreachable:
        daemon = None  # the client's own version is an answer too
    if options.text("format") == "json":
        print_json({"Client": {"Version": __version__}, "Server": daemon})
        return
    print(f"Client:  {__version__}")
    if daemon:
        print(f"Daemon:  {daemon['Version']} (API {daemon['ApiVersion']}, kernel {daemon['KernelVersion']})")
    else:
        print("Daemon:  not running")


def _reset(options: Options, _: list[str]) -> None:
    from fairlead.cli.prune import confirm

    explain, everything = options.flag("explain"), options.flag("all")
    if not explain and not options.flag("force"):
        what = "containers, namespaces, links and networks"
        what = f"{what}, images and volumes" if everything else what
        confirm(f"This will remove all {what}, and stop the daemon.")
    answer = Client().post("/fairlead/reset", explain=explain, all=everything)
    if explain:
        print_lines(answer)
    else:
        _await_end()
        counts = [f"{count} {kind.lower()}" for kind, count in answer.items()]
        print(f"Removed {', '.join(counts)}; the daemon stopped.")


def _await_end() -> None:
    """Wait until the daemon is gone: it holds this lock to its end."""
    import fcntl

    from fairlead.paths import Paths

    try:
        with open(Paths.from_environment().run / "daemon.pid", "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
    except OSError:
        return  # It is somebody else's daemon (FAIRLEAD_HOST), or its directory is gone already.


DAEMON = Command(
    "daemon",
    "[OPTIONS]",
    "Run the daemon",
    _daemon,
    (Flag("-l --log-level", "debug, info (default), warning or error", "text"), EXPLAIN),
)
VERSION = Command(
    "version", "[OPTIONS]", "Show the versions of client and daemon", _version, (Flag("--format", "json", "text"),)
)
RESET = Command(
    "system reset",
    "[OPTIONS]",
    "Remove everything that Fairlead made, and stop the daemon",
    _reset,
    (
        Flag("-a --all", "Also images and the volumes that have a name, which would stay"),
        Flag("-f --force", "Do not ask"),
        EXPLAIN,
    ),
)
