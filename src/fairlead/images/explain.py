"""What getting, making and giving away images amounts to, as the lines that a person would type.  Touches nothing.

The lines bring to the disk what the operation brings there: blobs and unpacked layers.  Names are only in the store.
"""

from __future__ import annotations

import json
import secrets
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fairlead.images.archive import Loaded
from fairlead.images.derive import derived
from fairlead.images.layout import CONFIG, Layout
from fairlead.images.manifest import Blob, Content
from fairlead.images.saving import Chosen, archive_command, documents
from fairlead.images.unpack import OPAQUE_XATTR, TAR, unpacker

Lines = list[str]

_DIGEST = "sha256sum <{} | cut -c-64"

_WHITEOUTS = f"""\
whiteouts() {{
  find "$1" -name '.wh.*' -exec sh -ec 'for mark; do
    directory=${{mark%/*}} hidden=${{mark##*/.wh.}}
    place=$directory/$hidden
    rm "$mark"
    case $hidden in
    .wh..opq) setfattr -n {OPAQUE_XATTR} -v y "$directory" ;;
    .wh.*) ;;
    *) if [ -d "$place" ] && [ ! -L "$place" ]; then setfattr -n {OPAQUE_XATTR} -v y "$place"
      elif [ ! -e "$place" ] && [ ! -L "$place" ]; then mknod -m 0 "$place" c 0 0; fi ;;
    esac
  done' sh {{}} +
}}"""
"""The part of `unpack.settle` that changes something.  By ``-exec``, since a hostile name may have a newline."""


def pulled(layout: Layout, content: Content, fetching: Sequence[str]) -> Lines:
    """The lines of a pull; `fetching` are those that bring the blobs."""
    return _with_directories(layout, [*fetching, *_unpacked(layout, [content])])


def loaded(layout: Layout, source: str, found: Iterable[Loaded]) -> Lines:
    """The lines that load an archive: the file `source`, or where that is empty the standard input."""
    found = list(found)
    scratch = layout.temporary / "load"
    lines: Lines = []
    archive = source or str(scratch / "archive")
    bodies = {one.content.manifest.digest: one.content.manifest.body for one in found}
    members = {digest: member for one in found for digest, member in one.members.items()}
    for digest in dict.fromkeys(digest for one in found for digest in one.content.manifest.blobs):
        if layout.blob(digest).exists():
            continue
        if digest in members:
            command = ["tar", "--extract", "--to-stdout", f"--file={archive}", "--", members[digest]]
            lines.append(f"{shlex.join(command)} >{shlex.quote(str(layout.blob(digest)))}")
        else:
            lines.append(_written(layout.blob(digest), bodies[digest]))
    lines += _unpacked(layout, [one.content for one in found])
    if lines and not source:
        return _with_directories(layout, [f"cat >{shlex.quote(archive)}", *lines], scratch)
    return _with_directories(layout, lines)


def imported(layout: Layout, source: str, head: bytes, layer: Blob, content: Content, config: bytes) -> Lines:
    """The lines that make an image of a root file system's tar; `head` are its first bytes."""
    program = shlex.join([*command, "-dc"]) if (command := unpacker(head)) else "cat"
    taken = f" <{shlex.quote(source)}" if source else ""
    lines = [
        f"{program}{taken} >{shlex.quote(str(layout.blob(layer.digest)))}",
        _written(layout.blob(content.manifest.config.digest), config),
        _written(layout.blob(content.manifest.digest), content.manifest.body),
        *_unpacked(layout, [content]),
    ]
    return _with_directories(layout, lines)


def saved(layout: Layout, chosen: Chosen, target: str) -> Lines:
    """The lines that write an archive of images: the file `target`, or where that is empty the standard output."""
    scratch = layout.temporary / "save"
    files = documents(layout, chosen)
    command = shlex.join(archive_command(layout, scratch, files))
    lines = [
        *(_written(scratch / name, body) for name, body in files.items()),
        f"{command} >{shlex.quote(target)}" if target else command,
    ]
    return _with_directories(layout, lines, scratch)


def committed(
    layout: Layout,
    image_layers: Sequence[str],
    parent: Mapping[str, Any],
    manifest: Mapping[str, Any],
    settings: dict[str, Any],
    entry: dict[str, str],
    source: dict[str, Any],
    packing: Sequence[str],
) -> Lines:
    """The lines that make an image of another and one more layer, which `packing` write to `commit_layer`.

    Digests and sizes are known when the layer is written: the documents have variables in their places.
    """
    scratch, blobs = commit_layer(layout).parent, shlex.quote(str(layout.blob("")))
    made = {name: shlex.quote(str(scratch / name)) for name in ("layer", "config", "manifest")}
    # What stands for a digest or a size until then: nothing that a document has by chance.
    layer = Blob(f"sha256:{secrets.token_hex(32)}", secrets.randbits(62)) if packing else None
    body, document = derived(dict(parent), dict(manifest), layer, settings, entry, source)
    config = Blob(f"sha256:{secrets.token_hex(32)}", secrets.randbits(62))
    document["config"] = {"mediaType": CONFIG, "digest": config.digest, "size": config.size}
    variables = {
        config.digest.removeprefix("sha256:"): "$config",
        str(config.size): f"$(stat -c %s {blobs}/$config)",
    }
    lines = [*packing]
    if layer:
        variables[layer.digest.removeprefix("sha256:")] = "$layer"
        variables[str(layer.size)] = f"$(stat -c %s {blobs}/$layer)"
        lines += [f"layer=$({_DIGEST.format(made['layer'])})", f"mv {made['layer']} {blobs}/$layer"]
    lines += [
        _written(scratch / "config", body, variables),
        f"config=$({_DIGEST.format(made['config'])})",
        f"mv {made['config']} {blobs}/$config",
        _written(scratch / "manifest", json.dumps(document).encode(), variables),
        f"mv {made['manifest']} {blobs}/$({_DIGEST.format(made['manifest'])})",
    ]
    if layer:
        top = f"sha256:{image_layers[-1]} sha256:" if image_layers else ""
        name = f'$(printf %s "{top}$layer" | sha256sum | cut -c-32)' if top else "$(echo $layer | cut -c-32)"
        below = layout.layer(image_layers[-1]) if image_layers else None
        place = f"{shlex.quote(str(layout.layers))}/$chain"
        lines += [_WHITEOUTS, f"chain={name}", *_layer(place, f"{blobs}/$layer", below), _synced(layout)]
    return _with_directories(layout, lines, scratch)


def commit_layer(layout: Layout) -> Path:
    """Where the lines of a commit put the layer's tar."""
    return layout.temporary / "commit" / "layer"


def _with_directories(layout: Layout, lines: Lines, *scratch: Path) -> Lines:
    """Before the lines, if there are any, where all of it goes; layers of other systems are for root alone."""
    if not lines:
        return []
    places = shlex.join(map(str, [layout.blob(""), layout.layers, *scratch]))
    before = [f"mkdir -p -m 700 {shlex.quote(str(layout.root))}", f"mkdir -p {places}"]
    return [*before, *lines, *(f"rm -r {shlex.quote(str(place))}" for place in scratch)]


def _unpacked(layout: Layout, contents: Iterable[Content]) -> Lines:
    """The lines that unpack the layers that are not unpacked yet; their blobs are there."""
    lines: Lines = []
    known: set[str] = set()
    for content in contents:
        below: Path | None = None
        for chain, blob in zip(content.chains, content.manifest.layers, strict=True):
            place = layout.layer(chain)
            if chain not in known and not place.exists():
                lines += _layer(shlex.quote(str(place)), shlex.quote(str(layout.blob(blob.digest))), below)
            known.add(chain)
            below = place
    return [_WHITEOUTS, *lines, _synced(layout)] if lines else []


def _layer(place: str, blob: str, below: Path | None) -> Lines:
    """The lines that unpack one layer; `place` and `blob` are quoted."""
    command = [word for word in TAR if word != "--file=-"]
    lines = [f"mkdir -m 755 {place}"]
    if below:
        # The topmost layer's own directory is the container's "/": unless the tar says otherwise, as it was below.
        lines += [f"{program} --reference={shlex.quote(str(below))} {place}" for program in ("chown", "chmod")]
    return [*lines, f"{shlex.join(command)} --file={blob} --directory={place}", f"whiteouts {place}"]


def _written(path: Path, body: bytes, variables: Mapping[str, str] | None = None) -> str:
    """The line that writes a file; of `variables` the keys, where the text has them, become what the shell finds."""
    word = shlex.quote(body.decode())
    for key, value in (variables or {}).items():
        word = word.replace(key, f"'\"{value}\"'")
    return f"printf %s {word} >{shlex.quote(str(path))}"


def _synced(layout: Layout) -> str:
    return f"sync --file-system {shlex.quote(str(layout.root))}"
