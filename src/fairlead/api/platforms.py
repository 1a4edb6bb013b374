"""The parameter ``platform`` of requests about images and containers: one platform runs here, that of the machine."""

from __future__ import annotations

import msgspec

from fairlead.errors import Invalid
from fairlead.images.manifest import architecture

_SYSTEMS = ("linux", "windows", "darwin", "freebsd", "wasip1")
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm", "armel": "arm"}
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


def check_platform(text: str) -> None:
    """Raises `Invalid` for a platform that cannot run here; for what is none, in Docker's words (containerd/platforms).

    As ``linux/arm64``, or one of its halves, or, as newer clients send it, as JSON (OCI image-spec, ``Platform``).
    """
    if not text:
        return
    if text.startswith("{"):
        try:
            found = msgspec.json.decode(text, type=dict[str, object])
        except msgspec.DecodeError as error:
            raise Invalid(f"the parameter platform is invalid: {error}") from None
        parts = [str(found.get("os") or "linux"), str(found.get("architecture") or architecture())]
    else:
        parts = text.lower().split("/")
        if len(parts) == 1:
            if parts[0] not in (*_SYSTEMS, *_ARCHITECTURES, *_ALIASES):
                raise Invalid(f'"{text}": unknown operating system or architecture: invalid argument')
            parts = [parts[0], architecture()] if parts[0] in _SYSTEMS else ["linux", parts[0]]
    if parts[0] != "linux" or _ALIASES.get(parts[1], parts[1]) != architecture():
        raise Invalid(f"the platform {text} cannot run here: only linux/{architecture()} can")
