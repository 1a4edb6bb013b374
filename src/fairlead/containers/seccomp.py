"""Which system calls a container may make: profiles in Docker's form, as the runtime takes them.

A profile names calls with conditions on top: the machine's architecture, the container's capabilities, the kernel's
version (docs.docker.com/engine/security/seccomp; opencontainers/runtime-spec config-linux.md, "Seccomp").  The default
is the one that the package golang-github-containers-common ships for all engines of its family.
"""

from __future__ import annotations

import functools
import os
import platform
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import Invalid

DEFAULTS = (Path("/etc/containers/seccomp.json"), Path("/usr/share/containers/seccomp.json"))
"""Where the default profile is looked for."""

UNCONFINED = "unconfined"

_ARCHITECTURES = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "i686": ("386", "SCMP_ARCH_X86"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
}
"""The kernel's name of a machine: Go's, and libseccomp's."""


def profile(wish: str, capabilities: list[str]) -> dict[str, Any] | None:
    """The runtime's form of what was asked for; None where nothing is to be filtered."""
    if wish == UNCONFINED:
        return None
    document = parse(wish) if wish else default()
    return None if document is None else translate(document, capabilities)


@functools.cache
def default() -> dict[str, Any] | None:
    """The default profile of this host, None where it has none."""
    for place in DEFAULTS:
        try:
            return parse(place.read_text())
        except OSError:
            continue
    return None


def parse(text: str) -> dict[str, Any]:
    """A profile as it was written; raises `Invalid`."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"Decoding seccomp profile failed: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("defaultAction"), str):
        raise Invalid("Decoding seccomp profile failed: it is no JSON object with a defaultAction")
    calls = document.get("syscalls") or []
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise Invalid("Decoding seccomp profile failed: its syscalls are no list of objects")
    if document.get("archMap") and document.get("architectures"):
        raise Invalid("both 'architectures' and 'archMap' are specified in the seccomp profile, use either")
    for call in calls:
        if call.get("name") and call.get("names"):
            raise Invalid("both 'name' and 'names' are specified in the seccomp profile, use either")
        names = call.get("names") or ([call["name"]] if call.get("name") else [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Invalid("Decoding seccomp profile failed: the names of its syscalls are no list of words")
    return document


def translate(document: dict[str, Any], capabilities: list[str]) -> dict[str, Any]:
    """What holds of a profile on this machine for a container with these capabilities."""
    word, own = _ARCHITECTURES.get(platform.machine(), (platform.machine(), ""))
    found: dict[str, Any] = {"defaultAction": document["defaultAction"]}
    if document.get("defaultErrnoRet") is not None:
        found["defaultErrnoRet"] = document["defaultErrnoRet"]
    if document.get("architectures"):
        found["architectures"] = document["architectures"]
    for entry in document.get("archMap") or []:
        if entry.get("architecture") == own:
            found["architectures"] = [own, *(entry.get("subArchitectures") or [])]
    for name in ("flags", "listenerPath", "listenerMetadata"):
        if document.get(name):
            found[name] = document[name]
    found["syscalls"] = [
        _call(call) for call in document.get("syscalls") or [] if _holds(call, word, set(capabilities))
    ]
    return found


def _holds(call: dict[str, Any], architecture: str, capabilities: set[str]) -> bool:
    wanted, unwanted = call.get("includes") or {}, call.get("excludes") or {}
    if (names := wanted.get("arches")) and architecture not in names:
        return False
    if (names := unwanted.get("arches")) and architecture in names:
        return False
    # All of the included capabilities are needed; any of the excluded ones is one too many.
    if (names := wanted.get("caps")) and not set(names) <= capabilities:
        return False
    if (names := unwanted.get("caps")) and set(names) & capabilities:
        return False
    if (least := wanted.get("minKernel")) and _kernel() < _version(least):
        return False
    return not ((least := unwanted.get("minKernel")) and _kernel() >= _version(least))


def _call(call: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"names": call.get("names") or [call.get("name")], "action": call.get("action")}
    if call.get("args"):
        found["args"] = [{key: value for key, value in argument.items() if value is not None}
                         for argument in call["args"]]  # fmt: skip
    if call.get("errnoRet") is not None:
        found["errnoRet"] = call["errnoRet"]
    return found


def _version(text: str) -> tuple[int, int]:
    major, _, rest = text.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major) if major.isdigit() else 0, int(minor) if minor.isdigit() else 0)


@functools.cache
def _kernel() -> tuple[int, int]:
    return _version(os.uname().release)
