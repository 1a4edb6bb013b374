"""Fetching from registries, by the program skopeo.

skopeo does what changes with the outside world: registries' protocols, tokens, certificates, mirrors, proxies
(containers-registries.conf(5), containers-certs.d(5), containers-auth.json(5)).  It copies into an OCI layout, and
rewrites Docker's manifests and configurations on the way, which would give an image another id than Docker shows.  So
only the layers are taken from its copy; manifest and configuration are asked for raw.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fairlead.errors import FairleadError, Invalid, MissingProgram, NotFound
from fairlead.images.layout import (
    DOCUMENT_MAX,
    INDEX,
    MANIFEST,
    Layout,
    digest_of,
    disk_full,
    free_copy,
    parse_document,
)
from fairlead.images.manifest import Content, Manifest, choose_platform, is_list, parse_content, parse_manifest
from fairlead.images.platforms import Platform
from fairlead.images.pushing import POLL, Sending
from fairlead.images.record import Image, Progress
from fairlead.images.reference import Reference
from fairlead.images.saving import push_layout, read_manifest
from fairlead.images.words import bar, short


@dataclass(frozen=True, slots=True)
class Credentials:
    """Name and password for a registry."""

    username: str
    password: str


class Registry:
    """One reference's registry.  Use `open_registry`, which makes and removes its scratch directory."""

    def __init__(self, layout: Layout, scratch: Path, reference: Reference, options: list[str]) -> None:
        self._layout = layout
        self._scratch = scratch
        self._options = options
        self.reference = reference
        self.digest = ""
        """The digest of what the registry serves under the reference: of the list, where it is one."""

    async def manifest(self, platform: Platform | None = None) -> Manifest:
        """The manifest for a platform, by default this machine's; of a list only, what is none is for all.

        From here on the reference is held to what was found now.
        """
        body = await self._inspect(self.reference)
        self.digest = digest_of(body)
        self.reference = self.reference.at(self.digest)
        document = parse_document(body, "manifest")
        if is_list(document):
            self.reference = self.reference.at(choose_platform(document, self.reference.name, platform))
            body = await self._inspect(self.reference)
        return parse_manifest(body, self.reference.name)

    async def described(self) -> dict[str, Any]:
        """What the registry has under the reference, and for which platforms, as Docker's DistributionInspect."""
        body = await self._inspect(self.reference)
        document = parse_document(body, "manifest")
        if is_list(document):
            found = [entry.get("platform") or {} for entry in document.get("manifests") or ()]
        else:
            found = [parse_document(await self._inspect(self.reference, "--config"), "configuration")]
        names = ("architecture", "os", "os.version", "variant")
        return {
            "Descriptor": {
                "mediaType": document.get("mediaType") or (INDEX if is_list(document) else MANIFEST),
                "digest": digest_of(body),
                "size": len(body),
            },
            "Platforms": [{name: platform[name] for name in names if platform.get(name)} for platform in found],
        }

    async def tags(self) -> list[str]:
        """The names of all tags of the repository."""
        body = await self._run("list-tags", *self._options, f"docker://{self.reference.domain}/{self.reference.path}")
        return [str(tag) for tag in parse_document(body, "list of tags").get("Tags") or ()]

    async def fetch(self, manifest: Manifest, progress: Progress) -> Content:
        """Bring the blobs of `manifest` into the layout."""
        copy = self._scratch / "copy"
        blobs = copy / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        present = {digest for digest in manifest.blobs if self._layout.blob(digest).exists()}
        for digest in present:
            # skopeo does not fetch what it finds.
            free_copy(self._layout.blob(digest), blobs / digest.removeprefix("sha256:"))
        watch = _Watch(copy, manifest, present, progress)
        copying = asyncio.ensure_future(self._run(*_copy([*self._options, "--quiet"], self.reference.source, copy)))
        try:
            while not copying.done():
                await asyncio.wait([copying], timeout=POLL)
                watch.look()
            copying.result()
        finally:
            if not copying.done():
                copying.cancel()
                await asyncio.wait([copying])
        config = blobs / manifest.config.digest.removeprefix("sha256:")
        body = config.read_bytes() if config.exists() else await self._inspect(self.reference, "--config")
        content = parse_content(manifest, body, self.reference.name)
        for layer in manifest.layers:
            source = blobs / layer.digest.removeprefix("sha256:")
            if layer.digest not in present and source.exists():
                self._layout.add_blob(source, layer.digest)
            if not self._layout.blob(layer.digest).exists():
                raise FairleadError(f"skopeo did not fetch layer {layer.digest} of {self.reference.name}")
        self._layout.add_document(body)
        self._layout.add_document(manifest.body)
        return content

    async def described_content(self, manifest: Manifest) -> Content:
        """The image of `manifest` as far as its configuration tells, without its layers."""
        return parse_content(manifest, await self._inspect(self.reference, "--config"), self.reference.name)

    def fetch_lines(self, manifest: Manifest) -> list[str]:
        """What `fetch` does, as shell lines; whoever types them has logged in by himself, if that is needed."""
        layout, scratch = self._layout, self._layout.temporary / "pull"
        options = [option for option in self._options if not option.startswith("--authfile")]
        skopeo, source = ["skopeo", *_policy()], self.reference.source
        layers = dict.fromkeys(layer.digest for layer in manifest.layers)
        copied = scratch / layout.blob("").relative_to(layout.root)
        lines = []
        if missing := [digest for digest in layers if not layout.blob(digest).exists()]:
            lines.append(f"mkdir -p {shlex.quote(str(copied))}")
            if present := [str(layout.blob(digest)) for digest in layers if digest not in missing]:
                lines.append(f"ln {shlex.join(present)} {shlex.quote(str(copied))}/")
            lines.append(shlex.join([*skopeo, *_copy(options, source, scratch)]))
            fetched = [str(copied / layout.blob(digest).name) for digest in missing]
            lines.append(f"mv {shlex.join(fetched)} {shlex.quote(str(layout.blob('')))}/")
            lines.append(f"rm -r {shlex.quote(str(scratch))}")
        for blob, more in ((manifest.config.digest, ["--config"]), (manifest.digest, [])):
            if not layout.blob(blob).exists():
                inspect = [*skopeo, "inspect", "--raw", *more, *options, source]
                lines.append(f"{shlex.join(inspect)} >{shlex.quote(str(layout.blob(blob)))}")
        return lines

    async def push(self, image: Image, progress: Progress) -> None:
        """Send an image's blobs and manifest; layers that are not packed are packed on the way."""
        source = push_layout(self._layout, self._scratch, image)
        layers = read_manifest(self._layout, image)["layers"]
        diff_ids = image.config["rootfs"]["diff_ids"]
        sending = Sending(
            ((one["digest"], one["size"], diff_id) for one, diff_id in zip(layers, diff_ids, strict=True)), progress
        )
        options = _push_options(self._options)
        file = self._scratch / "digest"
        await self._run(
            "copy", *options, f"--digestfile={file}", "--quiet", source, self.reference.source, sending=sending
        )
        sending.end()
        digest = file.read_text().strip()
        size = len(await self._inspect(self.reference))
        progress({"status": f"{self.reference.tag}: digest: {digest} size: {size}"})
        progress({"progressDetail": {}, "aux": {"Tag": self.reference.tag, "Digest": digest, "Size": size}})

    async def _inspect(self, reference: Reference, *options: str) -> bytes:
        body = await self._run("inspect", "--raw", *options, *self._options, reference.source)
        if reference.digest and not options and digest_of(body) != reference.digest:
            raise Invalid(f"{reference} is damaged: the registry sent another manifest than was asked for")
        return body

    async def _run(self, verb: str, *arguments: str, sending: Sending | None = None) -> bytes:
        """Run skopeo; returns what it prints.  `sending` is told what it does."""
        for program, package in (("skopeo", "skopeo"), ("setpriv", "util-linux")):
            if not shutil.which(program):
                raise MissingProgram(
                    f"images are pulled with {program}, which is not installed: apt-get install {package}"
                )
        options = ["--debug"] if sending else []
        options += _policy()
        # setpriv: a daemon that is killed takes its downloads along.
        command = ["setpriv", "--pdeathsig", "KILL", "skopeo", f"--tmpdir={self._scratch}", *options, verb, *arguments]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
        try:
            output, complaint = await (sending.follow(process) if sending else process.communicate())
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            text = complaint.decode(errors="replace")
            raise explain(text, self.reference, self._layout.root, pushing=sending is not None)
        if verb == "inspect" and len(output) > DOCUMENT_MAX:
            raise Invalid(f"{self.reference} has a manifest or configuration of more than {DOCUMENT_MAX >> 20} MiB")
        return output


async def push(
    layout: Layout, image: Image, reference: Reference, progress: Progress, *, credentials: Credentials | None = None
) -> None:
    """Send an image; `reference` has a tag.  Plain HTTP on loopback only, as Docker has it."""
    async with open_registry(layout, reference, credentials=credentials) as registry:
        await registry.push(image, progress)


def push_line(layout: Layout, image: Image, reference: Reference) -> str:
    """What `push` does, as a shell line; whoever types it has logged in by himself, if that is needed."""
    read_manifest(layout, image)
    options = _push_options(_verifying(reference))
    source = f"oci:{layout.root}:{reference}"
    return shlex.join(["skopeo", *_policy(), "copy", *options, source, reference.source])


def _copy(options: Iterable[str], source: str, target: Path) -> list[str]:
    """skopeo's words that fetch an image into a layout."""
    options = [option.replace("--tls-verify", "--src-tls-verify") for option in options]
    return ["copy", *options, "--dest-oci-accept-uncompressed-layers", source, f"oci:{target}:image"]


def _push_options(options: Iterable[str]) -> list[str]:
    return [option.replace("--tls-verify", "--dest-tls-verify") for option in options]


def _policy() -> list[str]:
    """Without a policy file skopeo refuses everything, but if it is told not to."""
    return [] if Path("/etc/containers/policy.json").exists() else ["--insecure-policy"]


def _verifying(reference: Reference, insecure: bool | None = None) -> list[str]:
    return ["--tls-verify=false"] if (reference.on_loopback if insecure is None else insecure) else []


@contextlib.asynccontextmanager
async def open_registry(
    layout: Layout, reference: Reference, *, insecure: bool | None = None, credentials: Credentials | None = None
) -> AsyncIterator[Registry]:
    """`insecure`: plain HTTP or an unknown certificate will do; None: only on loopback, as Docker has it."""
    async with layout.workspace("pull") as scratch:
        options = _verifying(reference, insecure)
        if credentials is not None:
            options.append(f"--authfile={_write_authfile(scratch, reference, credentials)}")
        yield Registry(layout, scratch, reference, options)


def _write_authfile(scratch: Path, reference: Reference, credentials: Credentials) -> Path:
    """In a file of mode 0600, since a command line is seen by everyone (containers-auth.json(5))."""
    word = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
    handle, name = tempfile.mkstemp(prefix="auth-", dir=scratch)
    with os.fdopen(handle, "w") as file:
        json.dump({"auths": {reference.domain: {"auth": word}}}, file)
    return Path(name)


class _Watch:
    """Tells how much of each layer has come, by the size of the files that skopeo writes.

    A finished blob has its digest for a name.  One under way has a name that does not tell which layer it is; it counts
    for the first layer that is not finished and not smaller, and when it is finished the inode number tells the truth.
    """

    def __init__(self, directory: Path, manifest: Manifest, present: Iterable[str], progress: Progress) -> None:
        self._directory = directory
        self._progress = progress
        self._missing: dict[str, int] = {}
        self._shown: dict[str, int] = {}
        self._guess: dict[int, str] = {}
        for layer in manifest.layers:
            if layer.digest in present:
                progress({"status": "Already exists", "progressDetail": {}, "id": short(layer.digest)})
            elif layer.digest not in self._missing:
                self._missing[layer.digest] = layer.size
                progress({"status": "Pulling fs layer", "progressDetail": {}, "id": short(layer.digest)})

    def look(self) -> None:
        """Report what has changed since the last look."""
        for digest, total in list(self._missing.items()):
            if (self._directory / "blobs" / "sha256" / digest.removeprefix("sha256:")).exists():
                del self._missing[digest]
                self._progress(downloading(digest, total, total))
                self._progress({"status": "Download complete", "progressDetail": {}, "id": short(digest)})
        growing = dict(sorted(self._growing()))
        self._guess = {inode: digest for inode, digest in self._guess.items() if inode in growing}
        for inode, size in growing.items():
            digest = self._guess.get(inode, "")
            if digest not in self._missing or size > self._missing[digest]:
                taken = set(self._guess.values())
                free = (d for d, total in self._missing.items() if d not in taken and total >= size)
                digest = self._guess[inode] = next(free, "")
            if digest and size > self._shown.get(digest, 0):
                self._shown[digest] = size
                self._progress(downloading(digest, size, self._missing[digest]))

    def _growing(self) -> Iterator[tuple[int, int]]:
        with os.scandir(self._directory) as entries:
            for entry in entries:
                if entry.name.startswith("oci-put-blob"):
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat()
                        yield status.st_ino, status.st_size


def downloading(digest: str, current: int, total: int) -> dict[str, object]:
    """Docker's message for a layer under way."""
    return {
        "status": "Downloading",
        "progressDetail": {"current": current, "total": total},
        "progress": bar(current, total),
        "id": short(digest),
    }


_LEVELS = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')


def explain(complaint: str, reference: Reference, root: Path, *, pushing: bool = False) -> FairleadError:
    """skopeo's last words as one sentence, in Docker's wording where Docker has one."""
    found = _LEVELS.findall(complaint)
    reason = (
        str(found[-1]).replace('\\"', '"') if found else (complaint.strip().splitlines() or ["no reason given"])[-1]
    )
    words = reason.lower()
    name, registry = reference.name, reference.domain
    if "no space left" in words or "quota exceeded" in words:
        return disk_full(root)
    if "manifest unknown" in words or "manifest_unknown" in words:
        return NotFound(f"manifest for {reference} not found: manifest unknown")
    if any(
        sign in words
        for sign in ("name unknown", "denied", "unauthorized", "authentication required", "invalid username")
    ):
        if pushing:
            return FairleadError("denied: requested access to the resource is denied")
        return NotFound(f"pull access denied for {name}, repository does not exist or may require 'docker login'")
    network = re.search(
        r"connection refused|no such host|server misbehaving|i/o timeout|no route to host|network is unreachable|"
        r"connection reset by peer|tls handshake timeout|temporary failure in name resolution",
        words,
    )
    if network:
        return FairleadError(f"the registry {registry} cannot be reached: {network[0]}")
    if "x509" in words or "certificate" in words or "gave http response to https" in words:
        detail = reason[reason.rfind("x509") :] if "x509" in words else reason.rpartition(": ")[2]
        return FairleadError(f"the registry {registry} is not trusted: {detail}")
    return FairleadError(f"{reference} cannot be {'pushed' if pushing else 'pulled'}: {reason}")
