"""Platforms, such as ``linux/arm64/v8``: what is asked for, what an image is for, and whose images run where.

Docker goes by containerd/platforms (platforms.go, database.go, compare.go), and so does this.
"""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fairlead.errors import Invalid

_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "wasip1")
_ARCHITECTURES = (
    "386",
    "amd64",
    "arm",
    "arm64",
    "loong64",
    "mips64",
    "mips64le",
    "ppc64le",
    "riscv64",
    "s390x",
    "wasm",
)
_ALIASES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "i686": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
    "loongarch64": ("loong64", ""),
}
"""Other words for architectures, among them those of uname(2)."""
_USUAL = {"amd64": "v1", "arm": "v7", "arm64": "v8"}
"""The variant that is meant where none is told."""
_LEVELS = {
    "v2": "cx16 lahf_lm pni popcnt sse4_1 sse4_2 ssse3",
    "v3": "abm avx avx2 bmi1 bmi2 f16c fma movbe xsave",
    "v4": "avx512bw avx512cd avx512dq avx512f avx512vl",
}
"""What the levels of amd64 ask of a processor (x86-64 psABI), in the words of /proc/cpuinfo."""
_COMPONENT = "^[A-Za-z0-9_.-]+$"


class Platform(NamedTuple):
    """A platform in Go's words, without a variant that goes without saying."""

    system: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, self))


def normalized(system: str, architecture: str, variant: str = "") -> Platform:
    """The same platform, in the words that are compared."""
    architecture, meant = _ALIASES.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower() or meant
    if variant.isdigit():
        variant = f"v{variant}"
    return Platform(system.lower() or "linux", architecture, "" if variant == _USUAL.get(architecture) else variant)


@cache
def here() -> Platform:
    """This machine."""
    found = normalized("linux", platform.machine())
    if found.architecture != "amd64":
        return found
    flags = re.search(r"^flags\s*:(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    has = set(flags[1].split()) if flags else set()
    level = ""
    for name, needed in _LEVELS.items():
        if not has.issuperset(needed.split()):
            break
        level = name
    return found._replace(variant=level)


def architecture() -> str:
    """This machine's, in the words of image configurations (Go's GOARCH)."""
    return here().architecture


def parse_platform(text: str) -> Platform:
    """``linux/arm64/v8``, or a part of it, or, as newer clients send it, JSON (OCI image-spec, ``Platform``).

    Raises `Invalid` for what is none, in Docker's words.
    """
    if text.startswith("{"):
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise Invalid(f"the parameter platform is invalid: {error}") from None
        return platform_of(found)
    parts = text.split("/")
    for part in parts:
        if not re.fullmatch(_COMPONENT, part):
            raise Invalid(
                f'"{part}" is an invalid component of "{text}": platform specifier component must match '
                f'"{_COMPONENT}": invalid argument'
            )
    if len(parts) > 3:
        raise Invalid(f'"{text}": cannot parse platform specifier: invalid argument')
    if len(parts) > 1:
        return normalized(*parts)
    if text.lower() in _SYSTEMS:
        return here()._replace(system=text.lower())
    named = normalized("linux", text)
    if named.architecture not in _ARCHITECTURES:
        raise Invalid(f'"{text}": unknown operating system or architecture: invalid argument')
    return named


def platform_of(document: dict[str, Any]) -> Platform:
    """The platform that an image's configuration or an entry of a list names; what it leaves out is as here."""
    system, word, variant = (str(document.get(key) or "") for key in ("os", "architecture", "variant"))
    return normalized(system, word, variant) if word else here()._replace(system=system or "linux")


def runnable_on(target: Platform) -> list[Platform]:
    """The platforms whose images run on `target`, the best first."""
    system, word, variant = target
    if word == "arm64":
        return [
            target,
            *(Platform(system, word, v) for v in [""] if variant),
            *runnable_on(Platform(system, "arm", "v8")),
        ]
    if word in ("amd64", "arm"):
        newest = int((variant or _USUAL[word])[1:]) if re.fullmatch(r"(v\d+)?", variant) else 0
        oldest = 5 if word == "arm" else 1
        older = [normalized(system, word, f"v{number}") for number in range(newest, oldest - 1, -1)]
        return [*(older or [target]), *([Platform(system, "386")] if word == "amd64" else [])]
    return [target]


def runs_on(image: Platform, target: Platform) -> bool:
    """Whether an image for one platform runs on another; many images do not tell their variant."""
    return image in runnable_on(target) or (not image.variant and image[:2] == target[:2])
