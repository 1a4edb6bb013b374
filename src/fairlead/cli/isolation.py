"""The options of ``run`` and ``create`` that say how far a container is cut off from the host."""

from __future__ import annotations

from fairlead.cli.flags import Flag, Options, Usage
from fairlead.cli.parse import labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FLAGS = (
    Flag("--annotation", "Annotation for the runtime", "list", "KEY=VALUE"),
    Flag("--cgroup-parent", "Control group to put its own into", "text"),
    Flag("--cgroupns", "Control group namespace: host or private (default)", "text"),
    Flag("--device", "A device of the host: PATH[:INSIDE[:rwm]]", "list", "device"),
    Flag("--device-cgroup-rule", "Rule for devices, such as 'c 42:* rwm'", "list"),
    Flag("--ipc", "IPC: private (default), shareable, host, none or container:NAME", "text"),
    Flag("--pid", "Processes: its own (default), host or container:NAME", "text"),
    Flag("--runtime", "Kept for docker's sake: crun is what runs", "text"),
    Flag("--security-opt", "no-new-privileges, seccomp=FILE|unconfined, systempaths=unconfined", "list"),
    Flag("--userns", "Kept for docker's sake: host is what there is", "text"),
    Flag("--uts", "Host name: its own (default) or host", "text"),
)


def host_config(options: Options) -> dict[str, Any]:
    """The members of HostConfig for what was given."""
    found: dict[str, Any] = {"SecurityOpt": [_security(text) for text in options.many("security-opt")]}
    for name, member in (
        ("cgroup-parent", "CgroupParent"),
        ("cgroupns", "CgroupnsMode"),
        ("ipc", "IpcMode"),
        ("pid", "PidMode"),
        ("runtime", "Runtime"),
        ("userns", "UsernsMode"),
        ("uts", "UTSMode"),
    ):
        if options.has(name):
            found[member] = options.text(name)
    if rules := options.many("device-cgroup-rule"):
        found["DeviceCgroupRules"] = rules
    if devices := options.many("device"):
        found["Devices"] = [device(text) for text in devices]
    if annotations := labels(options.many("annotation"), ()):
        found["Annotations"] = annotations
    return found


def device(text: str) -> dict[str, str]:
    """``--device /dev/a[:/dev/b[:rwm]]``; what is no path is the access."""
    parts = text.split(":")
    host, rest = parts[0], parts[1:]
    inside = rest.pop(0) if rest and rest[0].startswith("/") else host
    access = rest.pop(0) if rest else "rwm"
    if rest or not host or not access or set(access) - set("rwm"):
        raise Usage(f"invalid device {text!r}: PATH[:INSIDE[:rwm]] is needed")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": access}


def _security(text: str) -> str:
    """A seccomp profile is sent as what is in its file."""
    word, _, file = text.partition("=")
    if word != "seccomp" or file in ("unconfined", "builtin", ""):
        return text
    try:
        with open(file) as stream:
            return f"seccomp={stream.read()}"
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
