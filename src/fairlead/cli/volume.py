"""``fairlead volume …``."""

from __future__ import annotations

from fairlead.cli.client import Client, segment
from fairlead.cli.flags import EXPLAIN, FILTER, FORMAT, QUIET, Command, Flag, Options
from fairlead.cli.output import each, filters, pairs, print_lines, show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _create(options: Options, words: list[str]) -> None:
    body: dict[str, Any] = {
        "Name": words[0] if words else "",
        "Driver": options.text("driver", "local"),
        "DriverOpts": pairs(options.many("opt"), "driver option"),
        "Labels": pairs(options.many("label"), "label"),
    }
    answer = Client().post("/volumes/create", body, explain=options.flag("explain"))
    if options.flag("explain"):
        print_lines(answer)
    else:
        print(answer["Name"])


def _ls(options: Options, _: list[str]) -> None:
    volumes = Client().get("/volumes", filters=filters(options.many("filter")))["Volumes"] or []
    show(
        options,
        volumes,
        {"DRIVER": lambda volume: volume["Driver"], "VOLUME NAME": lambda volume: volume["Name"]},
        id_of=lambda volume: str(volume["Name"]),
    )


def _inspect(options: Options, words: list[str]) -> int:
    from fairlead.cli.inspect import show_all

    client = Client()
    return show_all(options, words, lambda word: client.get(f"/volumes/{segment(word)}"))


def _rm(options: Options, words: list[str]) -> int:
    client, explain = Client(), options.flag("explain")

    def remove(word: str) -> str | None:
        answer = client.delete(f"/volumes/{segment(word)}", force=options.flag("force"), explain=explain)
        if explain:
            print_lines(answer)
            return None
        return word

    return each(words, remove)


def _prune(options: Options, _: list[str]) -> None:
    from fairlead.cli.prune import print_freed, print_removed, prune

    def show_names(answer: dict[str, Any]) -> None:
        print_removed("Deleted Volumes:", answer.get("VolumesDeleted"))
        print_freed(answer)

    everything = options.flag("all")
    warning = (
        f"This will remove all {'' if everything else 'anonymous '}local volumes not used by at least one container."
    )
    wanted = [*options.many("filter"), *(["all=true"] if everything else [])]
    prune(options, "/volumes/prune", warning, wanted, show_names)


CREATE = Command(
    "volume create",
    "[OPTIONS] [VOLUME]",
    "Create a volume",
    _create,
    (
        Flag("-d --driver", 'Driver of the volume (only "local")', "text"),
        Flag("-o --opt", "Driver option: type, device, o", "list", "KEY=VALUE"),
        Flag("--label", "Metadata of the volume", "list", "KEY=VALUE"),
        EXPLAIN,
    ),
    (0, 1),
)
LS = Command("volume ls", "[OPTIONS]", "List volumes", _ls, (QUIET, FORMAT, FILTER))
INSPECT = Command(
    "volume inspect",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Show volumes in full",
    _inspect,
    (Flag("-f --format", "'json' or a template such as '{{.Name}}'", "text"),),
    (1, None),
)
RM = Command(
    "volume rm",
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    _rm,
    (Flag("-f --force", "One that is not there is no error"), EXPLAIN),
    (1, None),
)
PRUNE = Command(
    "volume prune",
    "[OPTIONS]",
    "Remove unused volumes",
    _prune,
    (
        Flag("-a --all", "Those with a name of their own, too"),
        Flag("-f --force", "Do not ask"),
        Flag("--filter", "Only those that fit, such as 'label=a'", "list", "filter"),
        FORMAT,
        EXPLAIN,
    ),
)
