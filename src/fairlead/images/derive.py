"""New images: of one layer (``docker import``), or another with one more layer and other words (``docker commit``)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from fairlead.images.layout import LAYER, MANIFEST
from fairlead.images.manifest import (
    Blob,
    Content,
    make_manifest,
    parse_content,
    parse_manifest,
)
from fairlead.images.platforms import Platform, architecture


def made_of_layer(layer: Blob, settings: dict[str, Any], message: str, platform: Platform) -> tuple[Content, bytes]:
    """An image of one layer, which is not packed, and its configuration's own bytes (``docker import``)."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    body = msgspec.json.encode(
        {
            "created": now,
            "architecture": platform.architecture,
            **({"variant": platform.variant} if platform.variant else {}),
            "os": platform.system,
            "config": settings,
            "rootfs": {"type": "layers", "diff_ids": [layer.digest]},
            "history": [{"created": now, "comment": message or "Imported from -"}],
        }
    )
    manifest = parse_manifest(msgspec.json.encode(make_manifest(body, [layer])), "the import")
    return parse_content(manifest, body, "the import"), body


_OCI = {
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
}
"""Docker's media types of layers, in OCI's words."""


def derived(
    parent: dict[str, Any],
    manifest: dict[str, Any],
    layer: Blob | None,
    settings: dict[str, Any],
    entry: dict[str, str],
    source: dict[str, Any],
) -> tuple[bytes, dict[str, Any]]:
    """Configuration and manifest of the new image; the manifest's own entry for the configuration is still to be made.

    `parent` and `manifest` are those of the image it comes from; `layer` is None where nothing was changed; `entry` is
    the line in the history, `source` what Docker adds: the container and the image that it was made from.
    """
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line: dict[str, Any] = {"created": now, **{key: value for key, value in entry.items() if value}}
    diff_ids = list((parent.get("rootfs") or {}).get("diff_ids") or [])
    if layer is None:
        line["empty_layer"] = True
    else:
        diff_ids.append(layer.digest)
    config = {
        **{key: value for key, value in parent.items() if key in ("architecture", "os", "os.version", "variant")},
        "created": now,
        **source,
        "config": {key: value for key, value in settings.items() if value not in (None, "", [], {})},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [*_history(parent), line],
    }
    config.setdefault("architecture", architecture())
    config.setdefault("os", "linux")
    if entry.get("author"):
        config["author"] = entry["author"]
    layers = [{**one, "mediaType": _OCI.get(one.get("mediaType", ""), one.get("mediaType") or LAYER)}
              for one in manifest.get("layers") or []]  # fmt: skip
    if layer is not None:
        layers.append({"mediaType": LAYER, "digest": layer.digest, "size": layer.size})
    return msgspec.json.encode(config), {"schemaVersion": 2, "mediaType": MANIFEST, "layers": layers}


def _history(parent: dict[str, Any]) -> list[Any]:
    """The parent's lines; where it has none, one for each layer, so that lines and layers go on matching."""
    if lines := parent.get("history"):
        return list(lines)
    return [{"created": parent.get("created")} for _ in (parent.get("rootfs") or {}).get("diff_ids") or []]
