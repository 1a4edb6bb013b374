"""Compiled seccomp filters, kept for the containers that come after.

To turn a profile into the kernel's program takes crun some 10 ms, at every start, and nearly all containers have the
same profile.  crun leaves the program with its state, and takes one that was made before from an annotation
(crun(1), run.oci.seccomp_bpf_data); a runtime that does not know the annotation compiles the profile as ever.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from fairlead.plan.runtime import Place

_ANNOTATION = "run.oci.seccomp_bpf_data"


def with_filter(config: dict[str, Any], place: Place) -> dict[str, Any]:
    """The configuration of a container, with the filter of its profile if that was kept."""
    kept = _kept(config, place)
    if kept is None:
        return config
    try:
        program = base64.b64encode(kept.read_bytes()).decode()
    except FileNotFoundError:
        return config
    return {**config, "annotations": {**config.get("annotations", {}), _ANNOTATION: program}}


def keep_filter(place: Place) -> None:
    """Keep the filter that crun has made for this container."""
    config = json.loads(place.config.read_text())
    if _ANNOTATION in config.get("annotations", {}):
        return  # It was made before.
    kept = _kept(config, place)
    if kept is None:
        return
    with contextlib.suppress(OSError):  # Then it is compiled again.
        program = (place.runtime_state / "seccomp.bpf").read_bytes()
        kept.parent.mkdir(mode=0o700, exist_ok=True)
        new = kept.with_suffix(f".{place.id}")
        new.write_bytes(program)
        new.rename(kept)


def _kept(config: dict[str, Any], place: Place) -> Path | None:
    """Where the filter of this configuration's profile is kept; None where there is none, or one that asks others."""
    profile = config["linux"].get("seccomp")
    if not profile or profile.get("listenerPath"):
        return None
    return place.run / "seccomp" / hashlib.sha256(json.dumps(profile, sort_keys=True).encode()).hexdigest()
