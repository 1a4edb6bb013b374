"""``fairlead system df``, ``info`` and ``prune``, and ``container prune``: what there is, and what can go."""

from __future__ import annotations

from fairlead.cli.client import Client
from fairlead.cli.flags import EXPLAIN, FORMAT, Command, Flag, Options
from fairlead.cli.output import filters, print_json, print_lines, size, table
from fairlead.cli.prune import confirm, print_freed, print_removed, prune

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_RUNNING = ("running", "paused", "restarting")


def _df(options: Options, _: list[str]) -> None:
    usage = Client().get("/system/df")
    form = options.text("format")
    if form == "json":
        print_json(usage)
        return
    rows = [_images(usage), _containers(usage), _volumes(usage)]
    if form in ("", "table"):
        heads = ("TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE")
        print(table(heads, [(r["Type"], r["TotalCount"], r["Active"], r["Size"], r["Reclaimable"]) for r in rows]))
        return
    from fairlead.cli.template import render

    for row in rows:
        print(render(form, row))


def _row(kind: str, total: int, active: int, all_bytes: int, free: int) -> dict[str, str]:
    share = f" ({free * 100 // all_bytes}%)" if all_bytes else ""
    return {
        "Type": kind,
        "TotalCount": str(total),
        "Active": str(active),
        "Size": size(all_bytes),
        "Reclaimable": size(free) + share,
    }


def _images(usage: dict[str, Any]) -> dict[str, str]:
    images = usage["Images"] or []
    idle = sum(image["Size"] - max(0, image["SharedSize"]) for image in images if not image["Containers"])
    active = sum(1 for image in images if image["Containers"])
    return _row("Images", len(images), active, usage["LayersSize"], idle)


def _containers(usage: dict[str, Any]) -> dict[str, str]:
    containers = usage["Containers"] or []
    total = sum(container.get("SizeRw") or 0 for container in containers)
    idle = sum(container.get("SizeRw") or 0 for container in containers if container["State"] not in _RUNNING)
    active = sum(1 for container in containers if container["State"] in _RUNNING)
    return _row("Containers", len(containers), active, total, idle)


def _volumes(usage: dict[str, Any]) -> dict[str, str]:
    data = [volume.get("UsageData") or {} for volume in usage["Volumes"] or []]
    total = sum(max(0, one.get("Size", 0)) for one in data)
    idle = sum(max(0, one.get("Size", 0)) for one in data if not one.get("RefCount"))
    return _row("Local Volumes", len(data), sum(1 for one in data if one.get("RefCount")), total, idle)


def _info(options: Options, _: list[str]) -> None:
    info = Client().get("/info")
    form = options.text("format")
    if form == "json":
        print_json(info)
        return
    if form:
        from fairlead.cli.template import render

        print(render(form, info))
        return
    lines = {
        "Containers": info["Containers"],
        " Running": info["ContainersRunning"],
        " Paused": info["ContainersPaused"],
        " Stopped": info["ContainersStopped"],
        "Images": info["Images"],
        "Server Version": info["ServerVersion"],
        "Storage Driver": info["Driver"],
        "Logging Drivers": " ".join(info["Plugins"]["Log"]),
        "Network Drivers": " ".join(info["Plugins"]["Network"]),
        "Cgroup Version": info["CgroupVersion"],
        "Runtime": info["DefaultRuntime"],
        "Kernel Version": info["KernelVersion"],
        "Operating System": info["OperatingSystem"],
        "Architecture": info["Architecture"],
        "CPUs": info["NCPU"],
        "Total Memory": size(info["MemTotal"]),
        "Name": info["Name"],
        "State Directory": info["DockerRootDir"],
    }
    for name, value in lines.items():
        print(f"{name}: {value}")


def _container_prune(options: Options, _: list[str]) -> None:
    def show_names(answer: dict[str, Any]) -> None:
        print_removed("Deleted Containers:", answer["ContainersDeleted"])
        print_freed(answer)

    warning = "This will remove all stopped containers."
    prune(options, "/containers/prune", warning, options.many("filter"), show_names)


def _prune(options: Options, _: list[str]) -> None:
    explain, everything, volumes = (options.flag(name) for name in ("explain", "all", "volumes"))
    images = "images that no container uses" if everything else "dangling images"
    if not explain and not options.flag("force"):
        also = ", all unused anonymous volumes" if volumes else ""
        confirm(f"This will remove all stopped containers, all unused networks{also} and all {images}.")
    client = Client()
    words = options.many("filter")
    wanted = filters(words)
    of_images = filters([*words, f"dangling={'false' if everything else 'true'}"])
    # Containers first: what they hold is unused only then.
    steps = [
        ("/containers/prune", wanted, "Deleted Containers:", "ContainersDeleted"),
        ("/networks/prune", wanted, "Deleted Networks:", "NetworksDeleted"),
        *([("/volumes/prune", wanted, "Deleted Volumes:", "VolumesDeleted")] if volumes else []),
        ("/images/prune", of_images, "Deleted Images:", "ImagesDeleted"),
    ]
    freed = 0
    for path, chosen, title, key in steps:
        answer = client.post(path, filters=chosen, explain=explain)
        if explain:
            print_lines(answer)
            continue
        names = answer.get(key) or []
        print_removed(title, [_image(name) if isinstance(name, dict) else name for name in names])
        freed += answer.get("SpaceReclaimed") or 0
    if not explain:
        print(f"Total reclaimed space: {size(freed)}")


def _image(entry: dict[str, str]) -> str:
    return next(f"{word.lower()}: {name}" for word, name in entry.items())


_FORCE = Flag("-f --force", "Do not ask")
_FILTER = Flag("--filter", "Only what fits, such as 'until=24h' or 'label=a=b'", "list", "filter")

DF = Command(
    "system df", "[OPTIONS]", "Show what images, containers and volumes take on the disk", _df, (FORMAT,), (0, 0)
)
INFO = Command(
    "system info",
    "[OPTIONS]",
    "Show what the daemon runs on",
    _info,
    (Flag("--format", "'json', or a template such as '{{.NCPU}}'", "text"),),
)
CONTAINER_PRUNE = Command(
    "container prune",
    "[OPTIONS]",
    "Remove all stopped containers",
    _container_prune,
    (_FORCE, _FILTER, FORMAT, EXPLAIN),
)
PRUNE = Command(
    "system prune",
    "[OPTIONS]",
    "Remove stopped containers, unused networks and images",
    _prune,
    (
        Flag("-a --all", "All images that no container uses, not just dangling ones"),
        Flag("--volumes", "Unused anonymous volumes, too"),
        _FORCE,
        _FILTER,
        EXPLAIN,
    ),
)
