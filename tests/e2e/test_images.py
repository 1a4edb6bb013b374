"""Images against a real registry, real archives and the real docker command.

The test process lives in a network namespace of its own (conftest.py), so 127.0.0.1 here is nobody else's.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import docker
import docker.errors
import pytest
from aiohttp import web

from fairlead.api.app import Daemon, make_app
from fairlead.api.images import routes
from fairlead.errors import Conflict, DiskFull, FairleadError, Invalid, MissingProgram, NotFound
from fairlead.events import Events
from fairlead.images import Credentials, Image, Images
from fairlead.paths import Paths
from fairlead.store import Store

ROOT = Path(__file__).parent.parent.parent
REGISTRY = "127.0.0.1:5000"
POLICY = ["--insecure-policy"]


def unused(_: str) -> list[str]:
    return []


def quiet(_: dict[str, Any]) -> None:
    return None


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 300_000):
        yield body[start : start + 300_000]


class Place:
    """A store of images in a directory, and what lies there."""

    def __init__(self, directory: Path) -> None:
        self.paths = Paths(directory / "state", directory / "run")
        self.directory = self.paths.images
        self.open()

    def open(self) -> None:
        self.store = Store(self.paths.store, [Image])
        self.images = Images(self.store, self.paths)

    def reopen(self) -> None:
        """As after the death of the daemon."""
        self.store.close()
        self.open()
        self.images.recover()

    def load(self, archive: bytes) -> list[Image]:
        return asyncio.run(self.images.load(pieces(archive), quiet))

    def pull(self, ref: str, **options: Any) -> tuple[Image, list[dict[str, Any]]]:
        messages: list[dict[str, Any]] = []
        return asyncio.run(self.images.pull(ref, messages.append, **options)), messages

    def remove(self, ref: str, **options: Any) -> list[dict[str, str]]:
        return asyncio.run(self.images.remove(ref, in_use=options.pop("in_use", unused), **options))

    def layers(self) -> dict[str, int]:
        """Unpacked layers and their inode numbers."""
        return {path.name: path.stat().st_ino for path in (self.directory / "layers").iterdir()}

    def check(self) -> None:
        """On the disk is what the records name, no more and no less."""
        images = self.images.list()
        assert os.listdir(self.directory / "tmp") == []
        assert set(self.layers()) == {chain[:32] for image in images for chain in image.layers}
        blobs = {path.name for path in (self.directory / "blobs/sha256").iterdir()}
        assert blobs == {digest.removeprefix("sha256:") for image in images for digest in image.blobs}
        index = json.loads((self.directory / "index.json").read_text())
        named = {
            item["annotations"]["org.opencontainers.image.ref.name"]
            for item in index["manifests"]
            if "annotations" in item
        }
        assert named == {tag for image in images for tag in image.tags}

    def read(self, image: Image, name: str) -> str | None:
        """A file of an image, looked up as overlayfs does: the topmost layer that has it."""
        for layer in self.images.lower_directories(image):
            if (layer / name).is_file():
                return (layer / name).read_text()
        return None


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archives that scripts/build-images makes."""
    directory = tmp_path_factory.mktemp("archives")
    subprocess.run([ROOT / "scripts/build-images", directory], check=True, stdout=subprocess.DEVNULL)
    return directory


def tar_of(**files: bytes | str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            body = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return out.getvalue()


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def docker_archive(*images: tuple[list[str], list[bytes]], **more: bytes) -> bytes:
    """A docker archive; `images`: (tags, layers)."""
    members: dict[str, bytes] = {}
    manifest = []
    for tags, layers in images:
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "created": "2024-01-02T03:04:05.123456789Z",
                "config": {"Env": ["A=1"], "Labels": {"made": "here"}, "Healthcheck": {"Test": ["NONE"]}},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest(layer)}" for layer in layers]},
            }
        ).encode()
        members[f"{digest(config)}.json"] = config
        members |= {f"{digest(layer)}.tar": layer for layer in layers}
        paths = [f"{digest(layer)}.tar" for layer in layers]
        manifest.append({"Config": f"{digest(config)}.json", "RepoTags": tags, "Layers": paths})
    members["manifest.json"] = json.dumps(manifest).encode()
    return tar_of(**(members | more))


BASE = tar_of(base="base", shared="1")
OVER = tar_of(over="over", shared="2")


# Registry


class Registry:
    """docker-registry on loopback."""

    def __init__(self, directory: Path, *, auth: str = "") -> None:
        self.directory = directory
        config = directory / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
            f"storage: {{filesystem: {{rootdirectory: {directory}/data}}}}\nhttp: {{addr: '{REGISTRY}'}}\n{auth}"
        )
        self._process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        host, _, port = REGISTRY.rpartition(":")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("docker-registry did not start")

    def push(self, archive: Path, name: str, *options: str) -> None:
        command = ["skopeo", *POLICY, "copy", "--quiet", "--dest-tls-verify=false", *options]
        subprocess.run([*command, f"docker-archive:{archive}", f"docker://{REGISTRY}/{name}"], check=True)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    (tmp_path / "registry").mkdir()
    one = Registry(tmp_path / "registry")
    yield one
    one.close()


@pytest.mark.parametrize("form", ["v2s2", "oci"])
def test_pull(place: Place, registry: Registry, archives: Path, form: str) -> None:
    registry.push(archives / "nginx.tar", "web/nginx:1", f"--format={form}")
    image, messages = place.pull(f"{REGISTRY}/web/nginx:1")
    raw = subprocess.run(
        ["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{REGISTRY}/web/nginx:1"],
        capture_output=True,
        check=True,
    ).stdout
    # The id is the digest of the configuration that the registry holds, the digest that of its manifest: as in Docker.
    assert f"sha256:{image.id}" == json.loads(raw)["config"]["digest"]
    assert image.digests == (f"{REGISTRY}/web/nginx@sha256:{digest(raw)}",)
    assert image.tags == (f"{REGISTRY}/web/nginx:1",)
    assert image.config["config"]["Cmd"] == ["nginx", "-g", "daemon off;"]
    assert "user www-data" in (place.read(image, "etc/nginx/nginx.conf") or "")
    place.check()

    statuses = [message["status"] for message in messages]
    assert statuses[0] == "Pulling from web/nginx"
    assert statuses[-2:] == [f"Digest: sha256:{digest(raw)}", f"Status: Downloaded newer image for {image.tags[0]}"]
    for layer in json.loads(raw)["layers"]:
        name = layer["digest"].removeprefix("sha256:")[:12]
        of_layer = [m for m in messages if m.get("id") == name]
        counts = [m["progressDetail"]["current"] for m in of_layer if m["status"] == "Downloading"]
        assert counts == sorted(counts)
        assert counts[-1] == layer["size"]
        assert of_layer[0]["status"] == "Pulling fs layer"
        assert of_layer[-1]["status"] == "Pull complete"

    again, messages = place.pull(f"{REGISTRY}/web/nginx:1")
    assert again == image
    assert messages[-1]["status"] == f"Status: Image is up to date for {image.tags[0]}"


def test_layers_are_shared_between_pulls(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    registry.push(archives / "nginx.tar", "nginx")
    alpine, _ = place.pull(f"{REGISTRY}/alpine")
    before = place.layers()
    nginx, messages = place.pull(f"{REGISTRY}/nginx")
    assert nginx.layers[0] == alpine.layers[0]
    assert len(nginx.layers) == 2
    assert before.items() < place.layers().items()
    assert any(message["status"] == "Already exists" for message in messages)
    assert place.images.disk_usage() == nginx.size

    place.remove(f"{REGISTRY}/nginx")
    assert place.layers() == before
    place.check()
    place.remove(f"{REGISTRY}/alpine")
    assert place.layers() == {}
    place.check()


def test_pull_by_digest_has_no_tag(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    tagged, _ = place.pull(f"{REGISTRY}/alpine")
    place.remove(tagged.id)
    image, _ = place.pull(tagged.digests[0])
    assert (image.id, image.tags, image.digests) == (tagged.id, (), tagged.digests)
    assert place.images.get(tagged.digests[0]) == image
    assert place.remove(tagged.digests[0])[-1] == {"Deleted": f"sha256:{image.layers[0]}"}
    place.check()


def test_pull_from_a_list_takes_this_machine(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine:one")
    one, _ = place.pull(f"{REGISTRY}/alpine:one")
    manifest = one.digests[0].partition("@")[2]
    body = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",
            "manifests": [
                {
                    "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
                    "size": (registry_blob(registry, manifest)).stat().st_size,
                    "digest": manifest,
                    "platform": {"os": "linux", "architecture": one.config["architecture"]},
                }
            ],
        }
    ).encode()
    put_manifest("alpine", "all", body, "application/vnd.docker.distribution.manifest.list.v2+json")
    image, _ = place.pull(f"{REGISTRY}/alpine:all")
    assert image.id == one.id
    assert f"{REGISTRY}/alpine@sha256:{digest(body)}" in image.digests

    put_manifest(
        "alpine",
        "other",
        body.replace(b'"linux"', b'"plan9"'),
        "application/vnd.docker.distribution.manifest.list.v2+json",
    )
    with pytest.raises(NotFound, match=r"no matching manifest for linux/.* it has plan9/"):
        place.pull(f"{REGISTRY}/alpine:other")
    place.check()


def registry_blob(registry: Registry, digest: str) -> Path:
    hexadecimal = digest.removeprefix("sha256:")
    return registry.directory / "data/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data"


def put_manifest(name: str, tag: str, body: bytes, media: str) -> None:
    url = f"http://{REGISTRY}/v2/{name}/manifests/{tag}"
    command = ["curl", "-sf", "-X", "PUT", "-H", f"Content-Type: {media}", "--data-binary", "@-", url]
    subprocess.run(command, input=body, check=True)


def test_a_tag_moves_to_the_newer_image(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "x")
    old, _ = place.pull(f"{REGISTRY}/x")
    registry.push(archives / "nginx.tar", "x")
    new, messages = place.pull(f"{REGISTRY}/x")
    assert place.images.get(f"{REGISTRY}/x").id == new.id != old.id
    assert place.images.get(old.id).tags == ()
    assert "Downloaded newer" in messages[-1]["status"]
    gone = asyncio.run(place.images.prune(all_unused=False, in_use=unused))
    assert {"Deleted": f"sha256:{old.id}"} in gone
    assert [image.id for image in place.images.list()] == [new.id]
    place.check()


def test_two_pulls_at_once(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    registry.push(archives / "nginx.tar", "nginx")

    async def all_at_once() -> list[Image]:
        names = ["alpine", "nginx", "nginx", "alpine"]
        return await asyncio.gather(*(place.images.pull(f"{REGISTRY}/{name}", quiet) for name in names))

    found = asyncio.run(all_at_once())
    assert found[0].id == found[3].id
    assert found[1].id == found[2].id
    assert len(place.images.list()) == 2
    place.check()


def test_what_a_registry_does_not_have(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    with pytest.raises(NotFound) as caught:
        place.pull(f"{REGISTRY}/alpine:nosuch")
    assert str(caught.value) == f"manifest for {REGISTRY}/alpine:nosuch not found: manifest unknown"
    with pytest.raises(NotFound) as caught:
        place.pull(f"{REGISTRY}/nosuch")
    assert "nosuch" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert place.images.list() == []
    assert os.listdir(place.directory / "tmp") == []


def test_a_registry_that_is_not_there(place: Place) -> None:
    with pytest.raises(FairleadError) as caught:
        place.pull("127.0.0.1:1/x")
    assert str(caught.value) == "the registry 127.0.0.1:1 cannot be reached: connection refused"
    assert os.listdir(place.directory / "tmp") == []


def test_a_registry_that_wants_a_password(place: Place, tmp_path: Path, archives: Path) -> None:
    (tmp_path / "registry").mkdir()
    # What htpasswd(1) writes: the password "secret" by bcrypt.
    command = ["perl", "-e", 'print "me:", crypt("secret", q($2b$04$abcdefghijklmnopqrstuu)), "\\n"']
    line = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (tmp_path / "registry/htpasswd").write_text(line)
    auth = f"auth: {{htpasswd: {{realm: here, path: {tmp_path}/registry/htpasswd}}}}\n"
    registry = Registry(tmp_path / "registry", auth=auth)
    try:
        registry.push(archives / "alpine.tar", "alpine", "--dest-creds=me:secret")
        with pytest.raises(NotFound, match=r"pull access denied for .*/alpine, repository does not exist or may"):
            place.pull(f"{REGISTRY}/alpine")
        with pytest.raises(NotFound, match="pull access denied"):
            place.pull(f"{REGISTRY}/alpine", credentials=Credentials("me", "wrong"))
        image, _ = place.pull(f"{REGISTRY}/alpine", credentials=Credentials("me", "secret"))
        assert image.tags == (f"{REGISTRY}/alpine:latest",)
        place.check()
    finally:
        registry.close()


def test_a_layer_that_the_registry_damaged(place: Place, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    layer = max((registry.directory / "data").rglob("data"), key=lambda path: path.stat().st_size)
    body = bytearray(layer.read_bytes())
    body[len(body) // 2] ^= 1
    layer.write_bytes(body)
    with pytest.raises(FairleadError) as caught:
        place.pull(f"{REGISTRY}/alpine")
    assert len(str(caught.value).splitlines()) == 1
    assert place.images.list() == []
    assert place.layers() == {}
    assert list((place.directory / "blobs/sha256").iterdir()) == []


def test_no_skopeo(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/rm").symlink_to("/bin/rm")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin")
    with pytest.raises(MissingProgram, match="skopeo, which is not installed"):
        place.pull(f"{REGISTRY}/alpine")


def test_a_cancelled_pull_leaves_no_program(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "bin/skopeo"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")

    async def pull_and_give_up() -> None:
        task = asyncio.ensure_future(place.images.pull(f"{REGISTRY}/alpine", quiet))
        for _ in range(100):
            await asyncio.sleep(0.02)
            if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip():
                break
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(pull_and_give_up())
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()
    assert os.listdir(place.directory / "tmp") == []


_PULLER = """
import asyncio, sys
from pathlib import Path
from fairlead.images import Image, Images
from fairlead.paths import Paths
from fairlead.store import Store
paths = Paths(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run")
asyncio.run(Images(Store(paths.store, [Image]), paths).pull("127.0.0.1:5000/alpine", lambda message: None))
"""


def test_kill_in_the_middle_of_a_pull(place: Place, tmp_path: Path) -> None:
    """The download dies with the daemon, and the next start removes what it wrote."""
    fake = tmp_path / "bin/skopeo"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 1000\n")
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}"}
    daemon = subprocess.Popen([sys.executable, "-c", _PULLER, str(tmp_path)], env=environment)
    wait_for((tmp_path / "pid").exists)
    assert len(os.listdir(place.directory / "tmp")) == 1
    daemon.kill()
    daemon.wait()
    wait_for(lambda: not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists())
    place.reopen()
    place.check()


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(500):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("waited ten seconds in vain")


# Archives


def test_load_what_build_images_makes(place: Place, archives: Path) -> None:
    (alpine,) = place.load((archives / "alpine.tar").read_bytes())
    (nginx,) = place.load((archives / "nginx.tar").read_bytes())
    assert (alpine.tags, nginx.tags) == (("alpine:latest",), ("nginx:latest",))
    assert nginx.layers[0] == alpine.layers[0]
    assert place.images.get("nginx").id == place.images.get(nginx.id[:10]).id == nginx.id
    place.check()


def test_the_built_images_work(place: Place, archives: Path, tmp_path: Path) -> None:
    """Their programs run in a root of their own, put together by the real overlayfs."""
    for name in ("alpine", "nginx"):
        place.load((archives / f"{name}.tar").read_bytes())
    root = tmp_path / "root"
    for path in (root, tmp_path / "upper", tmp_path / "work"):
        path.mkdir()
    lower = ":".join(map(str, place.images.lower_directories(place.images.get("nginx"))))
    options = f"lowerdir={lower},upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)], check=True)
    try:
        (root / "dev/null").touch()
        script = (
            "id -un; stat -c '%a %U' /tmp /root /usr/bin/busybox; nginx -t -g 'error_log stderr;' 2>&1; "
            "ls -l /var/log/nginx"
        )
        shown = subprocess.run(
            ["chroot", root, "/bin/ash", "-c", script], capture_output=True, text=True, check=True
        ).stdout
    finally:
        subprocess.run(["umount", str(root)], check=True)
    assert shown.startswith("root\n1777 root\n700 root\n755 root\n")
    assert "test is successful" in shown
    assert "access.log -> /dev/stdout" in shown


def test_load_several_images_packed_with_gzip(place: Place) -> None:
    archive = docker_archive((["a:1", "b"], [BASE]), (["quay.io/x/c:2"], [BASE, OVER]))
    a, c = place.load(gzip.compress(archive))
    assert a.tags == ("a:1", "b:latest")
    assert c.tags == ("quay.io/x/c:2",)
    assert a.layers[0] == c.layers[0]
    assert [place.read(c, name) for name in ("base", "over", "shared")] == ["base", "over", "2"]
    assert a.created == pytest.approx(1704164645.123456)
    assert c.size == c.layer_sizes[0] + c.layer_sizes[1] == 4 + 1 + 4 + 1
    # Docker's own fields survive, and the id is the digest of the configuration as it was in the archive.
    assert a.config["config"]["Healthcheck"] == {"Test": ["NONE"]}
    assert digest((place.directory / "blobs/sha256" / a.id).read_bytes()) == a.id
    place.check()


@pytest.mark.parametrize("pack", [False, True])
def test_load_an_oci_archive_of_skopeo(place: Place, archives: Path, tmp_path: Path, pack: bool) -> None:
    target = f"oci-archive:{tmp_path}/oci.tar:localhost:5000/web:3"
    subprocess.run(["skopeo", *POLICY, "copy", "-q", f"docker-archive:{archives}/nginx.tar", target], check=True)
    body = (tmp_path / "oci.tar").read_bytes()
    (image,) = place.load(gzip.compress(body, 1) if pack else body)
    assert image.tags == ("localhost:5000/web:3",)
    assert "user www-data" in (place.read(image, "etc/nginx/nginx.conf") or "")
    place.check()


def test_the_store_is_an_oci_layout(place: Place, tmp_path: Path) -> None:
    """skopeo reads an image out of it, and what it wrote loads as the same image."""
    (image,) = place.load(docker_archive((["a:1"], [BASE, OVER])))
    archive = tmp_path / "saved.tar"
    subprocess.run(
        ["skopeo", *POLICY, "copy", "-q", f"oci:{place.directory}:a:1", f"docker-archive:{archive}:b:2"], check=True
    )
    (again,) = place.load(archive.read_bytes())
    assert (again.id, again.layers) == (image.id, image.layers)
    assert again.tags == ("a:1", "b:2")


def test_links_in_old_docker_archives(place: Place) -> None:
    """docker save before version 25 wrote a layer once and linked to it from every image that has it."""
    archive = io.BytesIO(docker_archive((["a"], [BASE])))
    out = io.BytesIO()
    with tarfile.open(fileobj=archive) as source, tarfile.open(fileobj=out, mode="w") as target:
        for member in source:
            body = source.extractfile(member)
            assert body is not None
            if member.name == f"{digest(BASE)}.tar":
                member.name = "real/layer.tar"
                link = tarfile.TarInfo(f"{digest(BASE)}.tar")
                link.type, link.linkname = tarfile.SYMTYPE, "./real/../real/layer.tar"
                target.addfile(link)
            target.addfile(member, body)
    (image,) = place.load(out.getvalue())
    assert place.read(image, "base") == "base"


def link_archive(target: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("manifest.json")
        member.type, member.linkname = tarfile.SYMTYPE, target
        tar.addfile(member)
    return out.getvalue()


BAD_ARCHIVES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no body"),
    "text": (b"hello" * 500, "not a tar file"),
    "a short text": (b"hello", "not a tar file"),
    "a root file system": (tar_of(etc__passwd="root"), "holds no image"),
    "a cut archive": (docker_archive((["a"], [os.urandom(100_000)]))[:50_000], "damaged"),
    "a cut packed archive": (gzip.compress(docker_archive((["a"], [os.urandom(100_000)])))[:50_000], "damaged"),
    "no JSON": (tar_of(**{"manifest.json": "{"}), "not JSON"),
    "a wrong shape": (tar_of(**{"manifest.json": "[1]"}), "does not name"),
    "deep JSON": (tar_of(**{"manifest.json": "[" * 100_000}), "not JSON"),
    "a missing layer": (tar_of(**{"manifest.json": '[{"Config": "c", "Layers": ["l"]}]', "c": "{}"}), "it has no 'l'"),
    "a bad tag": (docker_archive((["UPPER"], [BASE])), "lower case"),
    "a layer that is no tar": (docker_archive((["a"], [b"hello" * 1000])), "not a tar file"),
    "a layer that climbs out": (docker_archive((["a"], [tar_of(**{"..__..__evil": "x"})])), "Member name contains"),
    "a link out of the archive": (link_archive("/etc/passwd"), "has no"),
    "a link in a circle": (link_archive("manifest.json"), "not a file"),
    "an empty index": (tar_of(**{"index.json": '{"manifests": []}'}), "holds no image"),
    "an index of nothing": (tar_of(**{"index.json": f'{{"manifests": [{{"digest": "sha256:{0:064}"}}]}}'}), "has no"),
    "an index with a path": (tar_of(**{"index.json": '{"manifests": [{"digest": "../../etc/passwd"}]}'}), "digest"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archives(place: Place, name: str) -> None:
    body, word = BAD_ARCHIVES[name]
    with pytest.raises(Invalid) as caught:
        place.load(body)
    assert word in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert place.images.list() == []
    assert place.layers() == {}
    for directory in ("tmp", "blobs/sha256"):
        assert os.listdir(place.directory / directory) == []


def test_a_full_disk(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(state)], check=True)
    try:
        place = Place(tmp_path)
        place.load(docker_archive((["small"], [BASE])))
        big = tar_of(big=os.urandom(2_500_000))
        for archive in (docker_archive((["big"], [big])), docker_archive((["huge"], [big, big]))):
            with pytest.raises(DiskFull, match="no space left for images"):
                place.load(archive)
            assert [image.tags for image in place.images.list()] == [("small:latest",)]
            place.check()
        place.store.close()
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


# Import


@pytest.mark.parametrize("program", ["cat", "gzip", "xz", "zstd"])
def test_import(place: Place, program: str) -> None:
    body = subprocess.run([program], input=tar_of(etc__motd="hello"), capture_output=True, check=True).stdout
    made = place.images.import_(pieces(body), "mine:1", changes=['CMD ["sh"]', "ENV A=b"], message="by hand")
    image = asyncio.run(made)
    assert place.read(image, "etc/motd") == "hello"
    assert image.tags == ("mine:1",)
    assert image.config["config"] == {"Cmd": ["sh"], "Env": ["A=b"]}
    assert image.config["history"][0]["comment"] == "by hand"
    assert image.size == 5
    assert abs(image.created - time.time()) < 60
    place.check()


@pytest.mark.parametrize(
    ("body", "ref", "changes", "word"),
    [
        (b"hello" * 300, "x", [], "not a tar file"),
        (b"", "x", [], "no body"),
        (tar_of(a="b"), "UPPER", [], "lower case"),
        (tar_of(a="b"), "x@sha256:" + "0" * 64, [], "only a tag"),
        (tar_of(a="b"), "x", ["RUN ls"], "run is not"),
    ],
)
def test_bad_imports(place: Place, body: bytes, ref: str, changes: list[str], word: str) -> None:
    with pytest.raises(Invalid, match=word):
        asyncio.run(place.images.import_(pieces(body), ref, changes=changes))
    assert place.images.list() == []
    if place.directory.exists():
        assert place.layers() == {}
        assert os.listdir(place.directory / "tmp") == []


def test_an_import_without_a_name(place: Place) -> None:
    image = asyncio.run(place.images.import_(pieces(tar_of(a="b")), ""))
    assert place.images.get(image.id[:8]) == image
    assert image.tags == ()


# Tags, removing


def test_tag_and_remove(place: Place) -> None:
    (image,) = place.load(docker_archive((["a:1"], [BASE])))
    place.images.tag("a:1", "b")
    place.images.tag(image.id[:6], "quay.io/c/d:e")
    assert place.images.get("b").tags == ("a:1", "b:latest", "quay.io/c/d:e")
    place.check()
    with pytest.raises(Conflict, match="must be forced"):
        place.remove(image.id)
    assert place.remove("b") == [{"Untagged": "b:latest"}]
    with pytest.raises(NotFound, match="No such image: b:latest"):
        place.images.get("b")
    assert place.remove("a:1") == [{"Untagged": "a:1"}]
    assert place.remove("quay.io/c/d:e") == [
        {"Untagged": "quay.io/c/d:e"},
        {"Deleted": f"sha256:{image.id}"},
        {"Deleted": f"sha256:{image.layers[0]}"},
    ]
    place.check()


def test_remove_by_id_takes_all_tags_along_when_forced(place: Place) -> None:
    (image,) = place.load(docker_archive((["a:1", "b:1"], [BASE])))
    gone = place.remove(f"sha256:{image.id}", force=True)
    assert gone[:3] == [{"Untagged": "a:1"}, {"Untagged": "b:1"}, {"Deleted": f"sha256:{image.id}"}]
    place.check()


class Users:
    """Containers of an image."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)

    def __call__(self, image_id: str) -> list[str]:
        return self.names


def test_an_image_in_use_stays(place: Place) -> None:
    (image,) = place.load(docker_archive((["a:1"], [BASE])))
    used = Users("running container web1")
    with pytest.raises(Conflict, match=r'unable to remove repository reference "a:1" \(must force\).*web1'):
        place.remove("a:1", in_use=used)
    for force in (False, True):
        with pytest.raises(Conflict, match=r"cannot be forced.*web1"):
            place.remove(image.id, force=force, in_use=used)
    assert asyncio.run(place.images.prune(all_unused=True, in_use=used)) == []
    assert place.images.get("a:1") == image
    assert place.remove("a:1", force=True, in_use=used) == [{"Untagged": "a:1"}]
    assert place.images.get(image.id).tags == ()
    assert place.images.lower_directories(image)
    place.check()


def test_an_image_of_stopped_containers_is_removed_by_force_and_stays_for_them(place: Place) -> None:
    (image,) = place.load(docker_archive((["a:1"], [BASE])))
    used = Users("stopped container web1")
    with pytest.raises(Conflict, match=r"must be forced.*web1"):
        place.remove(image.id, in_use=used)
    gone = place.remove("a:1", force=True, in_use=used)
    assert gone == [{"Untagged": "a:1"}, {"Deleted": f"sha256:{image.id}"}]
    for ref in ("a:1", image.id, image.id[:8]):
        with pytest.raises(NotFound):
            place.images.get(ref)
    assert place.images.list() == []
    assert place.images.lower_directories(place.images.of(image.id))
    assert place.images.shown_as("a:1", image.id) == f"sha256:{image.id}"
    asyncio.run(place.images.let_go(used))
    assert place.images.of(image.id)
    assert place.layers()
    used.names.clear()
    asyncio.run(place.images.let_go(used))
    with pytest.raises(NotFound):
        place.images.of(image.id)
    place.check()


def test_an_image_that_was_removed_by_force_comes_back(place: Place) -> None:
    archive = docker_archive((["a:1"], [BASE]))
    (image,) = place.load(archive)
    place.remove(image.id, force=True, in_use=Users("stopped container web1"))
    assert place.load(archive) == [image]
    assert place.images.get("a:1") == image
    asyncio.run(place.images.let_go(Users()))
    assert place.images.get("a:1") == image


def test_prune(place: Place) -> None:
    place.load(docker_archive((["a"], [BASE]), (["b"], [OVER])))
    place.load(docker_archive((["a"], [BASE, OVER])))
    assert len(place.images.list()) == 3
    asyncio.run(place.images.prune(all_unused=False, in_use=unused))
    assert sorted(image.tags for image in place.images.list()) == [("a:latest",), ("b:latest",)]
    place.check()
    asyncio.run(place.images.prune(all_unused=True, in_use=unused))
    assert place.images.list() == []
    place.check()


def test_an_ambiguous_prefix(place: Place) -> None:
    bodies = [tar_of(a=str(number)) for number in range(20)]
    images = place.load(docker_archive(*(([], [body]) for body in bodies)))
    firsts = [image.id[0] for image in images]
    double = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(Invalid, match="fits"):
        place.images.get(double)


# Death of the daemon

_LOADER = """
import asyncio, sys, fairlead.images.images as module
from pathlib import Path
from fairlead.images import Image, Images
from fairlead.paths import Paths
from fairlead.store import Store
def die(*_, **__): import os; os.kill(os.getpid(), 9)
point = sys.argv[3]
if point == "commit": Images._put = die
elif point == "sync": module.Layout.sync = die
else: setattr(module, point, die)
async def pieces():
    yield Path(sys.argv[2]).read_bytes()
paths = Paths(Path(sys.argv[1]) / "state", Path(sys.argv[1]) / "run")
asyncio.run(Images(Store(paths.store, [Image]), paths).load(pieces(), lambda message: None))
"""


@pytest.mark.parametrize("point", ["read_archive", "unpack_layer", "settle", "sync", "commit"])
def test_kill_in_the_middle_of_a_load(place: Place, tmp_path: Path, point: str) -> None:
    (kept,) = place.load(docker_archive((["kept"], [BASE])))
    archive = tmp_path / "archive.tar"
    archive.write_bytes(docker_archive((["new"], [BASE, OVER])))
    place.store.close()
    done = subprocess.run([sys.executable, "-c", _LOADER, str(tmp_path), str(archive), point], check=False)
    assert done.returncode == -signal.SIGKILL
    place.open()
    place.images.recover()
    assert place.images.list() == [kept]
    place.check()
    place.load(archive.read_bytes())
    assert place.images.get("new").layers[0] == kept.layers[0]
    place.check()


def test_recover_removes_rubbish_and_nothing_else(place: Place) -> None:
    (image,) = place.load(docker_archive((["a"], [BASE, OVER])))
    assert place.directory.stat().st_mode & 0o777 == 0o700  # layers hold other systems' set-uid programs and devices
    (place.directory / "tmp/layer-abc/root/etc").mkdir(parents=True)
    (place.directory / "tmp/pull-abc").mkdir()
    (place.directory / "layers/0123").mkdir()
    (place.directory / "blobs/sha256/4567").write_text("x")
    place.reopen()
    place.check()
    assert place.images.list() == [image]
    assert place.read(image, "shared") == "2"


def test_a_lost_layer_is_said_and_mended_by_loading_again(place: Place) -> None:
    archive = docker_archive((["a"], [BASE, OVER]))
    (image,) = place.load(archive)
    subprocess.run(["rm", "-rf", str(place.images.lower_directories(image)[0])], check=True)
    with pytest.raises(FairleadError, match="lost its layer"):
        place.images.lower_directories(image)
    place.load(archive)
    assert place.read(image, "over") == "over"


# HTTP


def serve(place: Place, tmp_path: Path, client: Callable[[list[str]], Any]) -> Any:
    """Run `client` in a thread against the image routes on a unix socket; it is given docker's leading words."""

    async def ping(_: web.Request) -> web.Response:
        return web.Response(text="OK", headers={"Api-Version": "1.51", "Ostype": "linux"})

    async def main() -> Any:
        containers = SimpleNamespace(using_image=unused)
        daemon = SimpleNamespace(
            paths=place.paths, images=place.images, containers=containers, engine=None, events=Events()
        )
        pings = [web.get("/_ping", ping)]
        runner = web.AppRunner(make_app([*pings, *routes(cast(Daemon, daemon))]))
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "socket")).start()
        try:
            return await asyncio.to_thread(client, ["docker", "-H", f"unix://{tmp_path}/socket"])
        finally:
            await runner.cleanup()

    return asyncio.run(main())


def run(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode == 0, f"{command} → {done.stdout}{done.stderr}"
    return done.stdout


def refused(*command: str, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)
    assert done.returncode != 0, done.stdout
    return done.stdout + done.stderr


def test_the_docker_command(place: Place, tmp_path: Path, registry: Registry, archives: Path) -> None:
    registry.push(archives / "alpine.tar", "alpine")

    def client(docker: list[str]) -> None:
        assert "Loaded image: nginx:latest" in run(*docker, "load", "-i", f"{archives}/nginx.tar")
        assert f"Downloaded newer image for {REGISTRY}/alpine:latest" in run(*docker, "pull", f"{REGISTRY}/alpine")
        listed = run(*docker, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
        assert sorted(listed) == [f"{REGISTRY}/alpine:latest", "nginx:latest"]
        assert run(*docker, "images", "-q", "nginx").strip() == place.images.get("nginx").id[:12]
        assert run(*docker, "images", "-q", "--filter", "reference=ng*x:lat*").strip()
        assert not run(*docker, "images", "-q", "--filter", "dangling=true").strip()
        assert "invalid filter" in refused(*docker, "images", "--filter", "colour=red")
        assert not run(*docker, "images", "-q", "--filter", "until=876000h").strip()
        run(*docker, "tag", "nginx", "web:2")
        (details,) = json.loads(run(*docker, "image", "inspect", "web:2"))
        assert details["RepoTags"] == ["nginx:latest", "web:2"]
        assert details["Config"]["ExposedPorts"] == {"80/tcp": {}}
        assert len(details["RootFS"]["Layers"]) == 2
        assert "busybox-static" in run(*docker, "history", "--no-trunc", "web:2")
        (archives / "root.tar").write_bytes(tar_of(etc__motd="hi"))
        imported = run(*docker, "import", "--change", "CMD /bin/x", "--message", "m", f"{archives}/root.tar", "mine:1")
        assert imported.strip() == f"sha256:{place.images.get('mine:1').id}"
        assert "Untagged: web:2" in run(*docker, "rmi", "web:2")
        assert "Deleted: sha256:" in run(*docker, "rmi", "nginx")
        assert "No such image: nginx:latest" in refused(*docker, "rmi", "nginx")
        assert "No such image: nginx:latest" in refused(*docker, "image", "inspect", "nginx")
        assert "Total reclaimed space" in run(*docker, "image", "prune", "-af")
        assert run(*docker, "images", "-q") == ""
        assert "manifest unknown" in refused(*docker, "pull", f"{REGISTRY}/alpine:nosuch")
        assert "not a tar file" in refused(*docker, "import", "-", "x", input="hello" * 500)

    serve(place, tmp_path, client)
    place.check()


def test_docker_py(place: Place, tmp_path: Path, archives: Path) -> None:
    def client(_: list[str]) -> None:
        api = docker.DockerClient(base_url=f"unix://{tmp_path}/socket", version="1.51")
        (nginx,) = api.images.load((archives / "nginx.tar").read_bytes())
        assert nginx.tags == ["nginx:latest"]
        assert nginx.tag("web", "1")
        assert api.images.get("web:1").id == nginx.id
        assert api.images.list(name="web") == [nginx]
        assert api.images.list(name="we") == []
        assert nginx.history()[0]["CreatedBy"] == "nginx-light"
        with pytest.raises(docker.errors.ImageNotFound):
            api.images.get("nosuch")
        api.images.remove("web:1")
        api.images.prune(filters={"dangling": False})
        assert api.images.list() == []

    serve(place, tmp_path, client)


def test_statuses(place: Place, tmp_path: Path) -> None:
    (image,) = place.load(docker_archive((["a:1", "b:1"], [BASE])))

    def client(_: list[str]) -> None:
        def call(method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
            command = ["curl", "-s", "-X", method, "--unix-socket", f"{tmp_path}/socket", "-w", "\n%{http_code}"]
            if body:
                command += ["--data-binary", "@-"]
            done = subprocess.run([*command, f"http://d{path}"], input=body, capture_output=True, check=True).stdout
            text, _, status = done.decode().rpartition("\n")
            return int(status), json.loads(text) if text.strip() else None

        for path in ("/images/nosuch/json", "/v1.51/images/a/b/c:d/json", "/images/nosuch/history", "/images//json"):
            assert call("GET", path)[0] == 404, path
        assert call("GET", "/v1.40/images/a:1/json")[1]["Id"] == f"sha256:{image.id}"
        assert call("POST", "/images/a:1/tag?repo=quay.io/x/y&tag=z")[0] == 201
        assert call("POST", "/images/a:1/tag?repo=UPPER")[0] == 400
        assert call("POST", "/images/a:1/tag")[0] == 400
        assert call("DELETE", f"/images/{image.id}")[0] == 409
        assert call("DELETE", "/images/quay.io/x/y:z")[1] == [{"Untagged": "quay.io/x/y:z"}]
        assert call("GET", "/images/json?filters=nonsense")[0] == 400
        assert call("GET", "/images/json?filters=%7B%22label%22%3A%5B%22made=here%22%5D%7D")[1][0]["RepoTags"] == [
            "a:1",
            "b:1",
        ]
        assert call("GET", "/images/json?filters=%7B%22label%22%3A%7B%22made=there%22%3Atrue%7D%7D")[1] == []
        # What is no archive is told in a line, as Docker does: docker-py looks there.
        status, line = call("POST", "/images/load", b"x" * 2000)
        assert (status, "not a tar file" in line["error"]) == (200, True)
        assert "error" in call("POST", "/images/load")[1]
        assert call("POST", "/images/create?fromImage=127.0.0.1:1/x&tag=y")[0] == 500
        assert call("POST", "/images/create?fromImage=UPPER")[0] == 400
        assert call("POST", "/images/create?fromSrc=http://x")[0] == 400
        assert call("POST", "/images/create")[0] == 400
        assert call("POST", "/images/create?fromImage=a&platform=windows/amd64")[0] == 400
        assert call("POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22maybe%22%5D%7D")[0] == 400
        status, answer = call("POST", "/images/prune?filters=%7B%22dangling%22%3A%5B%22false%22%5D%7D")
        assert (status, answer["SpaceReclaimed"]) == (200, 5)
        assert call("GET", "/images/json") == (200, [])

    serve(place, tmp_path, client)


def test_an_error_after_the_first_line_is_the_last_line(
    place: Place, tmp_path: Path, registry: Registry, archives: Path
) -> None:
    registry.push(archives / "alpine.tar", "alpine")
    layer = max((registry.directory / "data").rglob("data"), key=lambda path: path.stat().st_size)
    layer.write_bytes(b"damaged" * 100)

    def client(docker: list[str]) -> None:
        url = f"http://d/images/create?fromImage={REGISTRY}/alpine&tag=latest"
        lines = run("curl", "-sf", "-X", "POST", "--unix-socket", f"{tmp_path}/socket", url).splitlines()
        last = json.loads(lines[-1])
        assert last["error"] == last["errorDetail"]["message"]
        assert last["error"] in refused(*docker, "pull", f"{REGISTRY}/alpine")

    serve(place, tmp_path, client)
    assert place.images.list() == []


def test_a_client_that_goes_away_cancels_the_pull(place: Place, tmp_path: Path) -> None:
    seen: list[str] = []

    async def slow(ref: str, progress: Callable[[dict[str, Any]], None], **_: Any) -> None:
        try:
            while True:
                progress({"status": "going on"})
                await asyncio.sleep(0.02)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    place.images.pull = cast(Callable[..., Awaitable[Any]], slow)  # type: ignore[method-assign,assignment]

    def client(_: list[str]) -> None:
        url = "http://d/images/create?fromImage=x&tag=1"
        subprocess.run(
            ["curl", "-s", "-m", "0.5", "-X", "POST", "--unix-socket", f"{tmp_path}/socket", url], check=False
        )
        for _ in range(100):
            if seen:
                return
            time.sleep(0.02)

    serve(place, tmp_path, client)
    assert seen == ["cancelled"]
