from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import FairleadError, Invalid, NotFound
from fairlead.images.layout import chain_ids, digest_of
from fairlead.images.manifest import (
    Blob,
    choose_platform,
    created_at,
    make_manifest,
    parse_content,
    parse_manifest,
)
from fairlead.images.platforms import architecture
from fairlead.images.record import Image
from fairlead.images.reference import Reference
from fairlead.images.skopeo import bar, explain
from fairlead.model import decode, encode

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def config_of(**fields: Any) -> bytes:
    return json.dumps({"os": "linux", "rootfs": {"type": "layers", "diff_ids": [A]}, **fields}).encode()


def content_of(body: bytes) -> Any:
    manifest = parse_manifest(json.dumps(make_manifest(body, [Blob(B, 3)])).encode(), "x")
    return parse_content(manifest, body, "x")


def test_chain_ids() -> None:
    """The second one by hand: sha256 of "sha256:aa… sha256:bb…" (image-spec config.md)."""
    second = digest_of(f"{A} {B}".encode())
    assert chain_ids([A, B, A]) == ("a" * 64, second[7:], digest_of(f"{second} {A}".encode())[7:])
    assert chain_ids([]) == ()


def test_an_image_is_named_by_its_configuration() -> None:
    body = config_of(config={"Env": ["A=1"], "Cmd": None, "Entrypoint": "one"}, history=None)
    content = content_of(body)
    assert content.id == digest_of(body).removeprefix("sha256:")
    assert content.chains == ("a" * 64,)
    assert content.config["config"] == {"Env": ["A=1"], "Entrypoint": ["one"]}
    assert content.manifest.blobs == (content.manifest.digest, digest_of(body), B)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"os": "windows"}, "only linux"),
        ({"rootfs": None}, "does not list its layers"),
        ({"rootfs": {"diff_ids": ["../../x"]}}, "does not list its layers"),
        ({"rootfs": {"diff_ids": [A, A]}}, "lists 2 layers, its manifest 1"),
        ({"config": []}, "JSON object"),
        ({"config": {"Env": "A=1"}}, "Env"),
        ({"config": {"Cmd": [1]}}, "Cmd"),
        ({"config": {"User": 0}}, "User"),
        ({"config": {"Labels": {"a": 1}}}, "label"),
        ({"config": {"ExposedPorts": ["80/tcp"]}}, "ExposedPorts"),
        ({"history": 7}, "history"),
    ],
)
def test_damaged_configurations(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(Invalid) as caught:
        content_of(config_of(**fields))
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"schemaVersion": 1}, "schema 1"),
        ({"config": None}, "no container image"),
        ({"config": {"mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "artifact"),
        ({"layers": None}, "no list"),
        ({"layers": [1]}, "no list"),
        ({"layers": [{"digest": "md5:1", "size": 1}]}, "digest"),
        ({"layers": [{"digest": A, "size": -1}]}, "size"),
        ({"layers": [{"digest": A, "size": 1}] * 501}, "at most 500"),
        ({"layers": [{"digest": A, "size": 1, "mediaType": "docker.image.rootfs.foreign.diff.tar"}]}, "foreign"),
    ],
)  # fmt: skip
def test_damaged_manifests(change: dict[str, Any], word: str) -> None:
    document = make_manifest(config_of(), [Blob(A, 1)])
    with pytest.raises(Invalid) as caught:
        parse_manifest(json.dumps(document | change).encode(), "x")
    assert word in str(caught.value)


def entry(digest: str, **platform: str) -> dict[str, Any]:
    return {"digest": digest, "size": 1, "platform": platform}


def test_the_platform_of_this_machine_is_chosen() -> None:
    ours = entry(A, os="linux", architecture=architecture())
    others = [entry(B, os="linux", architecture="vax"), entry(B, os="plan9", architecture=architecture())]
    attestation = entry(B, os="unknown", architecture="unknown")
    assert choose_platform({"manifests": [attestation, *others, ours]}, "x") == A
    with pytest.raises(NotFound, match=rf"for linux/{architecture()}.* of x: it has linux/vax, plan9/"):
        choose_platform({"manifests": [attestation, *others]}, "x")


def test_created() -> None:
    assert created_at({"created": "1970-01-01T00:00:01.123456789Z"}) == pytest.approx(1.123456)
    assert created_at({"created": "1970-01-01T01:00:00+01:00"}) == 0
    for nonsense in (None, 5, "", "yesterday", "0001-01-01T00:00:00Z", "9999-99-99T00:00:00Z"):
        assert created_at({"created": nonsense}) == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([A, "linux"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["config", "rootfs", "diff_ids", "layers", "digest", "size", "mediaType", "manifests", "platform", "os",
         "architecture", "history", "Env", "Labels", "created", "schemaVersion"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(JSON)
def test_any_configuration_is_read_or_refused(value: Any) -> None:
    """And what is read, the store can keep."""
    body = json.dumps({"rootfs": {"diff_ids": [A]}, **(value if isinstance(value, dict) else {"x": value})}).encode()
    try:
        content = content_of(body)
    except FairleadError as error:
        assert str(error)  # noqa: PT017
        return
    image = Image(id=content.id, config=content.config, created=created_at(content.config))
    assert decode(Image, encode(image)).config == content.config


@given(JSON | st.binary(max_size=30))
def test_any_manifest_is_read_or_refused(value: Any) -> None:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    for read in (lambda: parse_manifest(body, "x"), lambda: choose_platform(json.loads(body), "x")):
        try:
            read()
        except FairleadError as error:
            assert str(error)  # noqa: PT017
        except (ValueError, AttributeError):
            assert not isinstance(value, dict)


@pytest.mark.parametrize(
    ("reason", "status", "sentence"),
    [
        (
            "Error reading manifest 1 in docker.io/library/x: manifest unknown: manifest unknown",
            404,
            "manifest for x:1 not found: manifest unknown",
        ),
        (
            "Error reading manifest 1 in x: errors:\\ndenied: requested access to the resource is denied",
            404,
            "pull access denied for x, repository does not exist or may require 'docker login'",
        ),
        (
            "pinging container registry r: Get \\\"https://r/v2/\\\": dial tcp: lookup r on 192.0.2.1:53: no such host",
            500,
            "the registry docker.io cannot be reached: no such host",
        ),
        (
            "pinging container registry r: Get \\\"https://r/v2/\\\": x509: certificate signed by unknown authority",
            500,
            "the registry docker.io is not trusted: x509: certificate signed by unknown authority",
        ),
        ("writing blob: write /x: no space left on device", 507, "no space left for images in /i: "),
        ("something new", 500, "x:1 cannot be pulled: something new"),
    ],
)  # fmt: skip
def test_what_skopeo_says_in_one_sentence(reason: str, status: int, sentence: str) -> None:
    line = f'time="2026-01-01T00:00:00Z" level=fatal msg="{reason}"\n'
    error = explain(line, Reference.parse("x:1"), Path("/i"))
    assert error.status == status
    assert str(error).startswith(sentence)
    assert len(str(error).splitlines()) == 1


def test_the_bar() -> None:
    assert bar(0, 2_000_000) == "[>" + " " * 49 + "]       0B/2MB"
    assert bar(1_048_576, 2_150_400) == "[" + "=" * 24 + ">" + " " * 25 + "]  1.049MB/2.15MB"
    assert bar(7, 7) == "[" + "=" * 50 + "]       7B/7B"
