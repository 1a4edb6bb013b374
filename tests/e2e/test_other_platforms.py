"""Images for several platforms, with the docker command and a registry: pulled, shown, and made containers of."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from machine import Machine
from registry import REGISTRY, Registry

from fairlead.images.platforms import here

pytestmark = pytest.mark.skipif(here().architecture != "amd64", reason="the other platform here is arm64")

NAME = f"{REGISTRY}/several"
LIST = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
UNLIKE = "was found but its platform ({}) does not match the specified platform ({})"


def foreign_program() -> bytes:
    """An ELF file of 64-bit Arm that has a header and nothing behind it (elf(5); EM_AARCH64 is 183)."""
    return (
        b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, 0, 64, 0, 0, 64, 56, 0, 64, 0, 0)
    )


def put(machine: Machine, kind: str, tag: str, body: object) -> None:
    url = f"http://{REGISTRY}/v2/several/manifests/{tag}"
    words = ["curl", "-sf", "-X", "PUT", "-H", f"Content-Type: {kind}", "--data-binary", "@-", url]
    machine.host.run(*words, input=json.dumps(body))


@pytest.fixture(scope="module")
def several(shared: Machine) -> Iterator[Machine]:
    """A registry with an image for amd64 and arm64 under one name, and with each alone; none of them is here."""
    with tarfile.open(shared.host.directory / "foreign.tar", "w") as tar:
        member = tarfile.TarInfo("foreign")
        member.mode, member.size = 0o755, len(foreign_program())
        tar.addfile(member, io.BytesIO(foreign_program()))
    registry = Registry(shared.host, auth=False)
    try:
        shared.docker("tag", "box", f"{NAME}:amd64")
        arm = ("--change", 'CMD ["/foreign"]', "--platform", "linux/arm64/v8")
        shared.docker("import", *arm, f"{shared.host.directory}/foreign.tar", f"{NAME}:arm64")
        entries = []
        for word in ("amd64", "arm64"):
            shared.docker("push", f"{NAME}:{word}")
            found = shared.api("GET", f"/distribution/{NAME}:{word}/json")["Descriptor"]
            entries.append({**found, "platform": {"os": "linux", "architecture": word}})
        put(shared, LIST, "latest", {"schemaVersion": 2, "mediaType": LIST, "manifests": entries})
        shared.docker("rmi", f"{NAME}:amd64", f"{NAME}:arm64")
        yield shared
    finally:
        registry.close()


@pytest.fixture(autouse=True)
def none_here(several: Machine) -> Iterator[None]:
    yield
    several.docker("rmi", "-f", *{*several.out("images", "-q", NAME).split()}, check=False)
    several.docker("image", "prune", "-f")


def shown(machine: Machine, name: str = NAME) -> str:
    return machine.out("image", "inspect", "--format", "{{.Os}}/{{.Architecture}} {{.Variant}}", name)


def test_pull(several: Machine) -> None:
    several.docker("pull", "--platform", "linux/arm64", NAME)
    assert shown(several) == "linux/arm64"
    (listed,) = several.api("GET", "/distribution/" + NAME + "/json")["Descriptor"]["digest"].split()
    assert several.inspect(NAME)["RepoDigests"] == [f"{NAME}@{listed}"]

    # Under one name there is one image at a time, the one pulled last.
    assert "Downloaded newer image" in several.out("pull", NAME)
    assert shown(several) == "linux/amd64"
    assert "newer" in several.out("pull", "--platform", "arm64", NAME)
    assert shown(several, f"{NAME}@{listed}") == "linux/arm64", "and a digest is a name"
    assert "up to date" in several.out("pull", "--platform", "linux/arm64/v8", NAME)

    refused = several.docker("pull", "--platform", "linux/s390x", NAME, check=False).stderr
    assert (
        f"no matching manifest for linux/s390x in the manifest list of {NAME}: it has linux/amd64, linux/arm64"
        in refused
    )
    refused = several.docker("pull", "--platform", "nosuch", NAME, check=False).stderr
    assert '"nosuch": unknown operating system or architecture: invalid argument' in refused
    assert (
        "cannot be used on this platform" in several.docker("pull", "--platform", "windows", NAME, check=False).stderr
    )


def test_an_image_for_one_platform_is_pulled_with_a_warning(several: Machine) -> None:
    warning = f"WARNING: image with reference {NAME}:amd64 " + UNLIKE.format("linux/amd64", "linux/arm64")
    assert warning in several.out("pull", "--platform", "linux/arm64", f"{NAME}:amd64").splitlines()
    assert several.host.fairlead("image", "pull", "--platform", "linux/arm64", f"{NAME}:amd64").stderr == warning + "\n"
    assert "WARNING" not in several.out("pull", f"{NAME}:arm64")
    assert shown(several, f"{NAME}:arm64") == "linux/arm64"
    several.docker("import", "--platform", "linux/arm/v6", f"{several.host.directory}/foreign.tar", f"{NAME}:v6")
    assert shown(several, f"{NAME}:v6") == "linux/arm v6"


def test_containers(several: Machine) -> None:
    several.docker("pull", "--platform", "linux/arm64", NAME)
    done = several.docker("create", "--name", "other", NAME)
    assert (
        f"The requested image's platform (linux/arm64) does not match the detected host platform ({here()}) "
        "and no specific platform was requested" in done.stderr
    )
    started = several.docker("start", "--attach", "other", check=False)
    assert ("exec format error" in started.stderr.lower(), started.returncode) == (True, 1)
    several.docker("rm", "other")

    done = several.docker("create", "--name", "other", "--platform", "linux/arm64", NAME)
    assert "WARNING" not in done.stderr
    several.docker("rm", "other")

    refused = several.docker("create", "--platform", "linux/amd64", "--pull", "never", NAME, check=False).stderr
    assert f"image with reference {NAME} " + UNLIKE.format("linux/arm64", "linux/amd64") in refused
    assert several.out("run", "--rm", "--platform", "linux/amd64", NAME, "echo", "hello") == "hello", "is pulled first"
    assert shown(several) == "linux/amd64"
    several.docker("rmi", NAME)
    words = ("run", "--rm", "--platform", "linux/amd64", NAME, "echo", "hello")
    assert several.host.fairlead(*words).stdout == "hello\n"
    created = several.host.fairlead("create", "--platform", "linux/arm64", NAME).stdout.strip()
    assert several.api("GET", f"/images/{several.inspect(created)['Image']}/json")["Architecture"] == "arm64"
    several.docker("rm", created)
    refused = several.host.fairlead("run", "--platform", "nosuch", NAME, check=False)
    assert (refused.returncode, "unknown operating system or architecture" in refused.stderr) == (125, True)


def test_show_and_save(several: Machine) -> None:
    several.docker("pull", NAME)
    asked = '{"os":"linux","architecture":"arm64"}'.replace('"', "%22").replace("{", "%7B").replace("}", "%7D")
    for path in (f"/images/{NAME}/json", f"/images/{NAME}/history", f"/images/{NAME}/get"):
        assert UNLIKE.format("linux/amd64", "linux/arm64") in several.api("GET", f"{path}?platform={asked}")["message"]
    assert several.api("GET", f"/images/{NAME}/json?platform=linux/amd64")["Architecture"] == "amd64"


@pytest.mark.parametrize("kind", ["docker", "oci"])
def test_load_takes_the_images_for_a_platform(several: Machine, tmp_path: Path, kind: str) -> None:
    """Out of an archive of two images, and out of one of an image for two platforms."""
    archive = str(tmp_path / "archive.tar")
    if kind == "docker":
        several.docker("pull", f"{NAME}:amd64")
        several.docker("pull", f"{NAME}:arm64")
        several.docker("save", "-o", archive, f"{NAME}:amd64", f"{NAME}:arm64")
        several.docker("rmi", f"{NAME}:amd64", f"{NAME}:arm64")
        names = {"amd64": f"{NAME}:amd64", "arm64": f"{NAME}:arm64"}
    else:
        words = ["skopeo", "copy", "--quiet", "--all", "--src-tls-verify=false", f"docker://{NAME}"]
        several.host.run(*words, f"oci-archive:{archive}:{NAME}:loaded")
        names = {"amd64": f"{NAME}:loaded", "arm64": f"{NAME}:loaded"}
    for architecture, name in names.items():
        load = ("--platform", f"linux/{architecture}", "-i", archive)
        assert several.out("load", *load) == f"Loaded image: {name}"
        assert shown(several, name) == f"linux/{architecture}"
        assert several.out("images", "-q", NAME).count("\n") == 0, "the other is left out"
        several.docker("rmi", name)
        assert several.host.fairlead("image", "load", *load).stdout == f"Loaded image: {name}\n"
        assert shown(several, name) == f"linux/{architecture}"
        several.docker("rmi", name)
    refused = several.docker("load", "--platform", "linux/s390x", "-i", archive, check=False)
    assert (refused.returncode, "linux/s390x" in refused.stderr, "linux/amd64, linux/arm64" in refused.stderr) == (
        1,
        True,
        True,
    )
    assert not several.out("images", "-q", NAME)


def test_what_is_for_another_platform_is_neither_saved_nor_pushed(several: Machine, tmp_path: Path) -> None:
    several.docker("pull", f"{NAME}:amd64")
    several.docker("tag", f"{NAME}:amd64", f"{NAME}:again")
    words = ("push", "--platform", "linux/arm64", f"{NAME}:again")
    archive = tmp_path / "archive.tar"
    for refused in (
        several.docker(*words, check=False),
        several.host.fairlead("image", *words, check=False),
        several.host.fairlead("image", *words, "--explain", check=False),
        several.host.fairlead(
            "image", "save", "--platform", "linux/arm64", "-o", str(archive), f"{NAME}:again", check=False
        ),
    ):
        assert UNLIKE.format("linux/amd64", "linux/arm64") in refused.stderr, refused
        assert refused.returncode
    assert not archive.exists()
    assert "again: digest: sha256:" in several.out("push", "--platform", "linux/amd64", f"{NAME}:again")
