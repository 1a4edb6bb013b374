"""The image store: what can be done with images.

Everything long is done by programs or worker threads; what is here runs on the daemon's event loop and only puts it in
order: first all blobs, then all layers, then the record.  So a record in the store means that the image is whole, and
what no record names is rubbish.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
import re
import time
import weakref
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import msgspec

from fairlead.errors import Conflict, FairleadError, Invalid, NotFound
from fairlead.images import explain
from fairlead.images.archive import read_archive
from fairlead.images.changes import apply_changes
from fairlead.images.derive import derived, made_of_layer
from fairlead.images.layout import CHUNK, CONFIG, Layout, copy_hashed, digest_of, explained, remove_tree
from fairlead.images.manifest import (
    Blob,
    Content,
    created_at,
    parse_content,
    parse_manifest,
)
from fairlead.images.platforms import Platform, architecture, platform_of, runs_on
from fairlead.images.record import Image, Progress
from fairlead.images.reference import Reference
from fairlead.images.saving import Chosen, archive_command, choose, documents, read_manifest
from fairlead.images.skopeo import Credentials, open_registry, push, push_line
from fairlead.images.unpack import plain, settle, unpack_layer
from fairlead.images.words import bar, short
from fairlead.paths import Paths
from fairlead.store import Store

P = ParamSpec("P")
R = TypeVar("R")

ImageList = list[Image]
Lines = list[str]
PathList = list[Path]
Outcome = list[dict[str, str]]
"""Docker's ``[{"Untagged": …}, {"Deleted": …}]``."""
InUse = Callable[[str], list[str]]
"""Names the containers of an image id: ``running container ID``, ``stopped container ID``."""

_REPORT_EVERY = 0.1
"""Seconds between two progress messages of one layer."""

_PREFIX = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")


class Images:
    """The image store.  A `ref` is a tag (``:latest`` if absent), a digest, an id, or an unambiguous id prefix."""

    def __init__(self, store: Store, paths: Paths) -> None:
        self._store = store
        self._layout = Layout(paths.images)
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="images")
        """Threads of our own, so that ten pulls do not keep the rest of the daemon waiting for one."""
        self._busy = 0
        """Pulls, loads and imports under way: while there are any, what no record names is not yet rubbish."""

    # Reading

    def list(self) -> ImageList:
        """All images, newest first."""
        return sorted(self._all(), key=lambda image: (-image.created, image.id))

    def _all(self) -> ImageList:
        return [image for image in self._store.all(Image) if not image.removed]

    def of(self, image_id: str) -> Image:
        """The image that a container was made from, also one that was removed by force meanwhile."""
        if image := self._store.get(Image, image_id):
            return image
        raise NotFound(f"No such image: {image_id[:12]}")

    def get(self, ref: str, platform: Platform | None = None) -> Image:
        """Raises `NotFound`: ``No such image: REF``, or `Invalid` for a prefix that fits several.

        With a `platform` an image that is not for it is none: a name has one image here, whatever its registry has.
        """
        image = self._get(ref)
        if platform and (complaint := _unlike(ref, image, platform)):
            raise NotFound(complaint)
        return image

    def _get(self, ref: str) -> Image:
        prefix = match[1] if (match := _PREFIX.fullmatch(ref)) else ""
        if (image := self._store.get(Image, prefix)) and not image.removed:
            return image
        shown = ref
        if not ref.startswith("sha256:"):
            with contextlib.suppress(Invalid):
                reference = Reference.parse(ref).tagged()
                shown = str(reference)
                if image := self._find(reference):
                    return image
        found = [image for image in self._all() if prefix and image.id.startswith(prefix)]
        if len(found) > 1:
            raise Invalid(f"the image id prefix {prefix!r} fits {len(found)} images: give more digits")
        if not found:
            raise NotFound(f"No such image: {shown}")
        return found[0]

    def shown_as(self, ref: str, image_id: str) -> str:
        """How ``docker ps`` names the image that was `ref` once: by its id, where `ref` is another's name now."""
        with contextlib.suppress(FairleadError):
            if self.get(ref).id == image_id:
                return ref
        return f"sha256:{image_id}"

    def _find(self, reference: Reference) -> Image | None:
        if reference.digest:
            wanted = f"{reference.name}@{reference.digest}"
            return next((image for image in self._store.all(Image) if wanted in image.digests), None)
        owner = self._store.owner(f"image:{reference}")
        return owner if isinstance(owner, Image) else None

    def parent(self, image: Image) -> Image | None:
        """The image that this one was committed from, while there is one."""
        parent = self._store.get(Image, str(image.config.get("parent", "")).removeprefix("sha256:"))
        return parent if parent and not parent.removed else None

    def parents(self) -> set[str]:
        """The ids of the images that others were committed from; they cannot be removed before those."""
        return {parent.id for image in self._all() if (parent := self.parent(image))}

    def lower_directories(self, image: Image) -> PathList:
        """The unpacked layers, topmost first, as overlayfs wants its ``lowerdir``."""
        layers = [self._layout.layer(chain) for chain in reversed(image.layers)]
        if missing := [layer for layer in layers if not layer.is_dir()]:
            raise FairleadError(f"image {image.id[:12]} lost its layer {missing[0]}: pull or load the image again")
        return layers

    def disk_usage(self) -> int:
        """Bytes of all unpacked layers, each counted once however many images share it."""
        sizes = {c: s for image in self._store.all(Image) for c, s in zip(image.layers, image.layer_sizes, strict=True)}
        return sum(sizes.values())

    def shared_sizes(self) -> dict[str, int]:
        """Bytes of each image's layers that other images have as well, by image id."""
        images = self._store.all(Image)
        owners = Counter(chain for image in images for chain in set(image.layers))
        return {
            image.id: sum(s for c, s in zip(image.layers, image.layer_sizes, strict=True) if owners[c] > 1)
            for image in images
        }

    # Getting images

    async def pull(
        self,
        ref: str,
        progress: Progress,
        *,
        platform: Platform | None = None,
        insecure: bool | None = None,
        credentials: Credentials | None = None,
    ) -> Image:
        """Fetch an image from its registry.  `insecure` None: plain HTTP on loopback only, as Docker has it.

        What exists for one platform alone is fetched whatever `platform` says, with a warning, as by Docker.
        """
        reference = _pulled_as(ref)
        async with (
            self._working(),
            self._lock(f"pull {reference}"),
            open_registry(self._layout, reference, insecure=insecure, credentials=credentials) as registry,
        ):
            manifest = await registry.manifest(platform)
            progress({"status": f"Pulling from {reference.path}", "id": reference.tag or reference.digest})
            digests = (f"{reference.name}@{registry.digest}",)
            tags = (str(reference),) if reference.tag else ()
            known = self._store.get(Image, manifest.config.digest.removeprefix("sha256:"))
            news = known is None or known.removed or not set(tags) <= set(known.tags)
            if known is not None and self._whole(known):
                image = self._record(msgspec.structs.replace(known, tags=tags, digests=digests))
            else:
                content = await registry.fetch(manifest, progress)
                image = await self._adopt(content, tags, digests, progress)
            progress({"status": f"Digest: {registry.digest}"})
            done = "Downloaded newer image" if news else "Image is up to date"
            progress({"status": f"Status: {done} for {reference}"})
            if platform and (complaint := _unlike(str(reference), image, platform)):
                progress({"status": f"WARNING: {complaint}"})
            return image

    async def explain_pull(
        self, ref: str, *, platform: Platform | None = None, credentials: Credentials | None = None
    ) -> Lines:
        """What `pull` would do, as shell lines.  Asks the registry what there is, and fetches no layer."""
        async with open_registry(self._layout, _pulled_as(ref), credentials=credentials) as registry:
            manifest = await registry.manifest(platform)
            known = self._store.get(Image, manifest.config.digest.removeprefix("sha256:"))
            if known is not None and self._whole(known):
                return []  # At most it gets a name, which is only in the store.
            content = await registry.described_content(manifest)
            return explain.pulled(self._layout, content, registry.fetch_lines(manifest))

    async def tags_of(self, reference: Reference, *, credentials: Credentials | None = None) -> Sequence[str]:
        """Every tag that the registry has of a repository, as full references."""
        async with open_registry(self._layout, reference, credentials=credentials) as registry:
            return [f"{reference.name}:{tag}" for tag in await registry.tags()]

    async def described(self, reference: Reference, *, credentials: Credentials | None = None) -> dict[str, Any]:
        """What a registry has under a reference: digest, size and platforms, in Docker's shape."""
        async with open_registry(self._layout, reference.tagged(), credentials=credentials) as registry:
            return await registry.described()

    async def load(
        self, archive: AsyncIterator[bytes], progress: Progress, platform: Platform | None = None
    ) -> ImageList:
        """All images of a docker or OCI archive, packed or not, or those for a platform; on an error none is added."""
        async with self._working(), self._layout.workspace("load") as scratch:
            await _receive(archive, scratch / "upload")
            found = await self._aside(read_archive, scratch / "upload", scratch, self._layout, platform)
            unpacked = [await self._unpacked(loaded.content, progress) for loaded in found]
            await self._aside(self._layout.sync)
            with self._store.transaction():
                for image, loaded in zip(unpacked, found, strict=True):
                    self._put(msgspec.structs.replace(image, tags=tuple(map(str, loaded.tags))))
            self._layout.write_index(self._store.all(Image))
        for image, loaded in zip(unpacked, found, strict=True):
            for tag in loaded.tags:
                progress({"stream": f"Loaded image: {tag}\n"})
            if not loaded.tags:
                progress({"stream": f"Loaded image ID: sha256:{image.id}\n"})
        return [self.get(image.id) for image in unpacked]

    async def explain_load(self, archive: AsyncIterator[bytes], source: str, platform: Platform | None = None) -> Lines:
        """What `load` would do with an archive, as shell lines; `source` is its file, empty for the standard input."""
        async with self._layout.workspace("load") as scratch:
            await _receive(archive, scratch / "upload")
            aside = Layout(scratch / "images")
            aside.prepare()
            found = await self._aside(read_archive, scratch / "upload", scratch, aside, platform)
            return explain.loaded(self._layout, source, found)

    async def import_(
        self,
        tar: AsyncIterator[bytes],
        ref: str,
        *,
        changes: Sequence[str] | None = None,
        message: str = "",
        platform: Platform | None = None,
    ) -> Image:
        """An image of one layer out of a root file system's tar, packed or not.  `ref` may be empty: no tag."""
        tags = _chosen_tag("import", ref)
        settings = apply_changes({}, changes or [])
        async with self._working(), self._layout.workspace("import") as scratch:
            await _receive(tar, scratch / "upload")
            layer = await self._aside(self._unpacked_upload, scratch / "upload", scratch / "layer")
            self._layout.add_blob(scratch / "layer", layer.digest)
            content, body = made_of_layer(layer, settings, message, platform or Platform("linux", architecture()))
            self._layout.add_document(body)
            self._layout.add_document(content.manifest.body)
            return await self._adopt(content, tags, (), lambda message: None)

    async def explain_import(
        self,
        tar: AsyncIterator[bytes],
        ref: str,
        source: str,
        *,
        changes: Sequence[str] | None = None,
        message: str = "",
        platform: Platform | None = None,
    ) -> Lines:
        """What `import_` would do, as shell lines; `source` is the tar's file, empty for the standard input."""
        _chosen_tag("import", ref)
        settings = apply_changes({}, changes or [])
        async with self._layout.workspace("import") as scratch:
            await _receive(tar, scratch / "upload")
            layer = await self._aside(self._unpacked_upload, scratch / "upload", scratch / "layer")
            with (scratch / "upload").open("rb") as file:
                head = file.read(8)
            content, body = made_of_layer(layer, settings, message, platform or Platform("linux", architecture()))
            return explain.imported(self._layout, source, head, layer, content, body)

    def _unpacked_upload(self, packed: Path, target: Path) -> Blob:
        """Unpack an upload into a file whose digest is the layer's diff id."""
        with explained(self._layout.root):
            with packed.open("rb") as file, plain(file) as stream, target.open("wb") as out:
                digest = copy_hashed(stream, out)
            return Blob(digest, target.stat().st_size)

    async def _adopt(
        self, content: Content, tags: tuple[str, ...], digests: tuple[str, ...], progress: Progress
    ) -> Image:
        """Unpack an image whose blobs are at hand, and record it."""
        image = await self._unpacked(content, progress)
        await self._aside(self._layout.sync)
        return self._record(msgspec.structs.replace(image, tags=tags, digests=digests))

    async def _unpacked(self, content: Content, progress: Progress) -> Image:
        sizes = tuple([await self._unpack(content, index, progress) for index in range(len(content.chains))])
        return Image(
            id=content.id,
            config=content.config,
            layers=content.chains,
            layer_sizes=sizes,
            size=sum(sizes),
            created=created_at(content.config),
            manifest=content.manifest.digest,
            blobs=content.manifest.blobs,
        )

    async def _unpack(self, content: Content, index: int, progress: Progress) -> int:
        """Unpack one layer, unless it is there; returns the bytes of its files."""
        chain, blob = content.chains[index], content.manifest.layers[index]
        place = self._layout.layer(chain)
        async with self._lock(f"layer {chain}"):
            if place.exists():
                size = self._known_size(chain)
                return await self._aside(settle, place) if size is None else size
            below = self._layout.layer(content.chains[index - 1]) if index else None
            loop = asyncio.get_running_loop()
            last = 0.0

            def report(current: int) -> None:
                nonlocal last
                if (now := time.monotonic()) - last >= _REPORT_EVERY:
                    last = now
                    loop.call_soon_threadsafe(progress, _extracting(blob, current))

            size = await self._aside(self._unpack_now, blob, content.diff_ids[index], place, below, report)
            progress({"status": "Pull complete", "progressDetail": {}, "id": short(blob.digest)})
            return size

    def _unpack_now(
        self, blob: Blob, diff_id: str, place: Path, below: Path | None, report: Callable[[int], None]
    ) -> int:
        with self._layout.scratch("layer") as scratch, explained(self._layout.root):
            root = scratch / "root"
            root.mkdir()
            # The topmost layer's own directory is the container's "/": unless the tar says otherwise, as it was below.
            if below is not None:
                status = below.stat()
                os.chown(root, status.st_uid, status.st_gid)
            root.chmod(below.stat().st_mode & 0o7777 if below is not None else 0o755)
            unpack_layer(self._layout.blob(blob.digest), root, diff_id, report)
            size = settle(root)
            try:
                root.rename(place)
            except OSError as error:
                # Unpacked meanwhile by an operation whose caller had gone away.
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            return size

    def _known_size(self, chain: str) -> int | None:
        for image in self._store.all(Image):
            if chain in image.layers:
                return image.layer_sizes[image.layers.index(chain)]
        return None

    def _whole(self, image: Image) -> bool:
        """All of a recorded image is on the disk (somebody may have cleaned up by hand)."""
        places = [*map(self._layout.layer, image.layers), *map(self._layout.blob, image.blobs)]
        return all(place.exists() for place in places)

    # Making images of our own, and giving images away

    async def derive(
        self,
        parent: Image,
        settings: dict[str, Any],
        ref: str,
        *,
        write: Callable[[BinaryIO], bool],
        entry: dict[str, str],
        source: dict[str, Any],
    ) -> Image:
        """An image of `parent` and one more layer, which `write` writes as a tar; it returns False if it is empty.

        `settings` is the new image's ``config``, `entry` its line in the history, `source` what it
        came from, in Docker's words (`parent`, `container`, `container_config`); `ref` may be empty: no tag.
        """
        tags = _chosen_tag("commit", ref)
        async with self._working(), self._layout.workspace("commit") as scratch:
            layer = await self._aside(self._written, scratch / "layer", write)
            manifest = read_manifest(self._layout, parent)
            body, document = derived(parent.config, manifest, layer, settings, entry, source)
            document["config"] = {"mediaType": CONFIG, "digest": digest_of(body), "size": len(body)}
            made = parse_manifest(msgspec.json.encode(document), "the commit")
            self._layout.add_document(body)
            self._layout.add_document(made.body)
            return await self._adopt(parse_content(made, body, "the commit"), tags, (), lambda message: None)

    def explain_derive(
        self,
        parent: Image,
        settings: dict[str, Any],
        ref: str,
        *,
        packing: Callable[[Path], Sequence[str]],
        entry: dict[str, str],
        source: dict[str, Any],
    ) -> Lines:
        """What `derive` would do, as shell lines; `packing` gives those that write the layer's tar, none if empty."""
        _chosen_tag("commit", ref)
        return explain.committed(
            self._layout,
            parent.layers,
            parent.config,
            read_manifest(self._layout, parent),
            settings,
            entry,
            source,
            packing(explain.commit_layer(self._layout)),
        )

    def _written(self, target: Path, write: Callable[[BinaryIO], bool]) -> Blob | None:
        with explained(self._layout.root):
            with target.open("wb") as out:
                changed = write(out)
            if not changed:
                return None
            with target.open("rb") as file, open(os.devnull, "wb") as nowhere:
                digest = copy_hashed(file, nowhere)
            size = target.stat().st_size
            self._layout.add_blob(target, digest)
        return Blob(digest, size)

    @contextlib.asynccontextmanager
    async def saved(
        self, refs: Sequence[str], platform: Platform | None = None
    ) -> AsyncIterator[tuple[ImageList, AsyncIterator[bytes]]]:
        """Images, and an archive of them in pieces, which Docker loads as well; raises before anything is written."""
        async with self._working(), self._layout.workspace("save") as scratch:
            chosen = self._chosen(refs, platform)
            files = await self._aside(documents, self._layout, chosen)
            for name, text in files.items():
                (scratch / name).write_bytes(text)
            command = archive_command(self._layout, scratch, files)
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                yield [image for image, _ in chosen.values()], _output(process)
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                await process.wait()

    def explain_save(self, refs: Sequence[str], target: str, platform: Platform | None = None) -> Lines:
        """What writing the archive takes, as shell lines; `target` is its file, empty for the standard output."""
        return explain.saved(self._layout, self._chosen(refs, platform), target)

    def _chosen(self, refs: Sequence[str], platform: Platform | None) -> Chosen:
        chosen = choose(refs, self.list(), self.get)
        for image, _ in chosen.values() if platform else ():
            self.get(image.id, platform)
        return chosen

    async def push(
        self,
        ref: str,
        progress: Progress,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> Sequence[tuple[Image, str]]:
        """Send an image to its registry; a `ref` without a tag sends all tags of the repository.

        With a `platform` one that is not for it is refused.  Returns what was sent, each with its tag.
        """
        reference = _pushed_as(ref)
        progress({"status": f"The push refers to repository [{reference.domain}/{reference.path}]"})
        sent = []
        for tag in self._to_push(reference):
            async with self._working():
                image = self.get(tag, platform)
                await push(self._layout, image, Reference.parse(tag), progress, credentials=credentials)
                sent.append((image, tag))
        return sent

    def explain_push(self, ref: str, platform: Platform | None = None) -> Lines:
        """What `push` would do, as shell lines."""
        return [
            push_line(self._layout, self.get(tag, platform), Reference.parse(tag))
            for tag in self._to_push(_pushed_as(ref))
        ]

    def _to_push(self, reference: Reference) -> Lines:
        """The tags that a reference means; raises where there are none."""
        tags = [tag for image in self.list() for tag in image.tags if tag.rpartition(":")[0] == reference.name]
        if reference.tag:
            tags = [tag for tag in tags if tag == str(reference)]
        if not tags:
            raise NotFound(f"An image does not exist locally with the tag: {reference.name}")
        return sorted(tags)

    # Records

    def _record(self, image: Image) -> Image:
        image = self._put(image)
        self._layout.write_index(self._store.all(Image))
        return image

    def _put(self, image: Image) -> Image:
        """Add an image, or its tags and digests to the same image; they are taken from whoever had them."""
        with self._store.transaction():
            for owner in self._store.all(Image):
                if owner.id != image.id and {*owner.names} & {*image.names}:
                    tags = tuple(tag for tag in owner.tags if tag not in image.tags)
                    digests = tuple(digest for digest in owner.digests if digest not in image.digests)
                    self._store.put(msgspec.structs.replace(owner, tags=tags, digests=digests))
            if old := self._store.get(Image, image.id):
                tags = tuple(dict.fromkeys(old.tags + image.tags))
                digests = tuple(dict.fromkeys(old.digests + image.digests))
                image = msgspec.structs.replace(image, tags=tags, digests=digests, removed=False)
            self._store.put(image)
        return image

    def tag(self, ref: str, new: str, *, explain: bool = False) -> None:
        """Give an image one more tag; another image that has it loses it.  With `explain` only look whether it can."""
        image = self.get(ref)
        reference = Reference.parse(new).tagged()
        if reference.digest:
            raise Invalid(f"cannot tag as {new!r}: a digest is given by the content, only a tag can be chosen")
        if explain:
            return
        self._record(msgspec.structs.replace(image, tags=(str(reference),)))

    # Removing

    async def remove(self, ref: str, *, force: bool = False, alone: bool = False, in_use: InUse) -> Outcome:
        """Docker's rules: a tag is taken away, and with the last one goes the image; an id takes all its tags along.

        The images that it was committed from go along, as far as they have no names and no other use, unless `alone`.
        `force` removes an image from which stopped containers were made, too; they can still be started.
        """
        image, left = self._removal(ref, force, in_use)
        if left is None:
            return await self._delete([image] if alone else self._line(image, in_use), in_use)
        self._store.put(left)
        self._layout.write_index(self._store.all(Image))
        return [{"Untagged": name} for name in image.names if name not in left.names]

    def explain_remove(self, ref: str, *, force: bool = False, alone: bool = False, in_use: InUse) -> Lines:
        """What `remove` would do, as shell lines; refuses what it would refuse."""
        image, left = self._removal(ref, force, in_use)
        if left is not None or in_use(image.id):
            return []  # Names are only in the store.
        return self._explain_delete([image] if alone else self._line(image, in_use))

    def _line(self, image: Image, in_use: InUse) -> ImageList:
        """An image, and those that it was committed from as far as only it keeps them."""
        line = [image]
        while (parent := self.parent(line[-1])) and not parent.names and not in_use(parent.id):
            if [other for other in self._all() if other.id != line[-1].id and self.parent(other) == parent]:
                break
            line.append(parent)
        return line

    def _removal(self, ref: str, force: bool, in_use: InUse) -> tuple[Image, Image | None]:
        """An image, and what is to be left of it: None, or with fewer names."""
        image = self.get(ref)
        is_parent = image.id in self.parents()
        by_id = image.id.startswith(ref.removeprefix("sha256:")) and not self._is_reference(ref)
        users = in_use(image.id)
        is_running = bool(users) and users[0].startswith("running")
        names = {tag.rpartition(":")[0] for tag in image.tags} | {digest.partition("@")[0] for digest in image.digests}
        if by_id:
            what = f"conflict: unable to delete {image.id[:12]}"
            if is_parent:
                raise Conflict(f"{what} (cannot be forced) - image has dependent child images")
            if is_running:
                raise Conflict(f"{what} (cannot be forced) - image is being used by {users[0]}")
            if (len(image.tags) > 1 or len(names) > 1) and not force:
                raise Conflict(f"{what} (must be forced) - image is referenced in multiple repositories")
            if users and not force:
                raise Conflict(f"{what} (must be forced) - image is being used by {users[0]}")
            return image, None
        reference = Reference.parse(ref).tagged()
        gone = {f"{reference.name}@{reference.digest}" if reference.digest else str(reference)}
        tags = tuple(tag for tag in image.tags if tag not in gone)
        if not any(tag.rpartition(":")[0] == reference.name for tag in tags) and not reference.digest:
            # The last tag of a repository takes the digests of that repository along.
            gone |= {digest for digest in image.digests if digest.partition("@")[0] == reference.name}
        digests = tuple(digest for digest in image.digests if digest not in gone)
        if users and not tags and not force:
            raise Conflict(
                f'conflict: unable to remove repository reference "{ref}" (must force) - container '
                f"{users[0].split()[-1]} is using its referenced image {image.id[:12]}"
            )
        if not tags and not digests and not is_running and not is_parent:
            return image, None
        return image, msgspec.structs.replace(image, tags=tags, digests=digests)

    def _is_reference(self, ref: str) -> bool:
        with contextlib.suppress(Invalid):
            return self._find(Reference.parse(ref).tagged()) is not None
        return False

    async def prune(
        self, *, all_unused: bool, in_use: InUse, fits: Callable[[Image], bool] = lambda image: True
    ) -> Outcome:
        """Remove the images without a tag, or with `all_unused` all, that no container uses and that fit.

        An image that others were committed from loses its names, and goes with the last of those.
        """
        outcome: Outcome = []
        for image in self.unused(all_unused=all_unused, in_use=in_use, fits=fits):
            if image.id in self.parents():
                self._store.put(msgspec.structs.replace(image, tags=(), digests=()))
                outcome += [{"Untagged": name} for name in image.names]
            else:
                outcome += await self._delete(self._line(image, in_use), in_use)
        self._layout.write_index(self._store.all(Image))
        return outcome

    def unused(
        self, *, all_unused: bool, in_use: InUse, fits: Callable[[Image], bool] = lambda image: True
    ) -> ImageList:
        """The images that `prune` would remove or take the names of."""
        dangling = {image.id for image in self.dangling()}
        return [
            image
            for image in self.list()
            if (image.id in dangling or (all_unused and image.names)) and fits(image) and not in_use(image.id)
        ]

    def dangling(self) -> ImageList:
        """The images without a tag from which no other was committed."""
        parents = self.parents()
        return [image for image in self.list() if not image.tags and image.id not in parents]

    def explain_prune(self, doomed: Sequence[Image], in_use: InUse) -> Lines:
        """What it takes to remove these images, as shell lines."""
        return self._explain_delete([one for image in doomed for one in self._line(image, in_use)])

    def _explain_delete(self, doomed: Sequence[Image]) -> Lines:
        gone = {image.id for image in doomed}
        needed = {chain for other in self._store.all(Image) if other.id not in gone for chain in other.layers}
        places = {
            place: None
            for image in doomed
            for chain, place in zip(image.layers, reversed(self.lower_directories(image)), strict=True)
            if chain not in needed
        }
        return [f"rm -r {place}" for place in places]

    async def _delete(self, doomed: Sequence[Image], in_use: InUse) -> Outcome:
        """Remove images; one that containers were made from stays on the disk for them, until `let_go`."""
        outcome: Outcome = []
        for image in doomed:
            if in_use(image.id):
                self._store.put(msgspec.structs.replace(image, tags=(), digests=(), removed=True))
            else:
                self._store.delete(image)
            left = {chain for other in self._store.all(Image) for chain in other.layers}
            outcome += [{"Untagged": name} for name in image.names]
            outcome.append({"Deleted": f"sha256:{image.id}"})
            outcome += [{"Deleted": f"sha256:{chain}"} for chain in reversed(image.layers) if chain not in left]
        self._layout.write_index(self._store.all(Image))
        await self._collect()
        return outcome

    async def let_go(self, in_use: InUse) -> None:
        """Take from the disk what was removed and stayed for containers that are now gone, too."""
        for image in self._store.all(Image):
            if image.removed and not in_use(image.id):
                await self._delete([image], in_use)

    # Order

    def _lock(self, name: str) -> asyncio.Lock:
        """The lock of this name; it lives as long as somebody holds or awaits it."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _aside(self, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run something that blocks in one of our threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, functools.partial(work, *args, **kwargs))

    @contextlib.asynccontextmanager
    async def _working(self) -> AsyncIterator[None]:
        self._layout.prepare()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            await asyncio.shield(self._collect())

    async def _collect(self) -> None:
        """Remove what no record names.  Taken out of its place before anything else can run, deleted at leisure."""
        if not self._busy:
            for path in self._layout.bury(self._layout.strangers(self._store.all(Image))):
                await self._aside(remove_tree, path)

    def recover(self) -> None:
        """After a start: remove half-unpacked layers, unreferenced blobs and temporary files."""
        self._layout.prepare()
        images = self._store.all(Image)
        for path in (*self._layout.leftovers(), *self._layout.bury(self._layout.strangers(images))):
            remove_tree(path)
        self._layout.write_index(images)


def _pulled_as(ref: str) -> Reference:
    """A reference with a tag, or with a digest alone."""
    reference = Reference.parse(ref).tagged()
    return reference.at(reference.digest) if reference.digest else reference


def _unlike(ref: str, image: Image, platform: Platform) -> str:
    """What is to be said, in Docker's words, of an image that is not for a platform; else nothing."""
    found = platform_of(image.config)
    if runs_on(found, platform):
        return ""
    return (
        f"image with reference {ref} was found but its platform ({found}) does not match the specified "
        f"platform ({platform})"
    )


def _pushed_as(ref: str) -> Reference:
    reference = Reference.parse(ref)
    if reference.digest:
        raise Invalid("cannot push a digest reference")
    return reference


def _chosen_tag(verb: str, ref: str) -> tuple[str, ...]:
    """The tag that a new image is to have, none where `ref` is empty."""
    if not ref:
        return ()
    reference = Reference.parse(ref).tagged()
    if reference.digest:
        raise Invalid(f"cannot {verb} to {ref!r}: a digest is given by the content, only a tag can be chosen")
    return (str(reference),)


async def _output(process: asyncio.subprocess.Process) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    while data := await process.stdout.read(CHUNK):
        yield data
    if await process.wait():
        raise FairleadError(f"saving failed: {(await process.stderr.read()).decode(errors='replace').strip()[-300:]}")


def _extracting(blob: Blob, current: int) -> dict[str, object]:
    return {
        "status": "Extracting",
        "progressDetail": {"current": current, "total": blob.size},
        "progress": bar(current, blob.size),
        "id": short(blob.digest),
    }


async def _receive(stream: AsyncIterator[bytes], target: Path) -> None:
    """Write an upload to a file, in pieces worth a worker thread each."""
    with explained(target.parent), target.open("wb", buffering=0) as file:
        pending = bytearray()
        async for chunk in stream:
            pending += chunk
            if len(pending) >= CHUNK:
                await asyncio.to_thread(_write_all, file, pending)
                pending = bytearray()
        _write_all(file, pending)
        if not file.tell():
            raise Invalid("the request has no body: a tar archive was expected")


def _write_all(file: BinaryIO, data: bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
