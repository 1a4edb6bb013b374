"""Docker's many ways to ask for a mount, and what wins where two ask for the same place."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.api.mount_spec import parse_mounts
from fairlead.containers.bundle import tmpfs_options
from fairlead.containers.record import Bind, Container, ContainerSpec, VolumeMount
from fairlead.containers.volumes import check_options
from fairlead.errors import Invalid, NotFound

OTHER = Container(
    id="b" * 64,
    name="other",
    image_id="a" * 64,
    created=0.0,
    spec=ContainerSpec(
        image="box",
        binds=(Bind(source="/src", target="/bound"),),
        volumes=(VolumeMount(name="theirs", target="/data", anonymous=True),),
    ),
)


def lookup(ref: str) -> Container:
    if ref != "other":
        raise NotFound(f"No such container: {ref}")
    return OTHER


def mounts(body: dict[str, Any] | None = None, image: dict[str, Any] | None = None, **host: Any) -> Any:
    return parse_mounts(body or {}, host, image or {}, lookup)


def test_a_bind_and_a_named_volume() -> None:
    found = mounts(Binds=["/tmp/:/data/:ro,z", "cache:/cache", "more:/more:ro,nocopy", "mac:/mac:cached"])
    assert found.binds == [Bind(source="/tmp", target="/data", options=("ro", "z"))]
    cache, more, mac = found.volumes
    assert (cache.name, cache.target, cache.mode, cache.read_only, cache.copy) == ("cache", "/cache", "z", False, True)
    assert (more.name, more.mode, more.read_only, more.copy) == ("more", "ro,nocopy", True, False)
    assert (mac.name, mac.mode, mac.read_only, mac.copy) == ("mac", "cached", False, True)


def test_anonymous_volumes_of_image_and_request_give_way_to_what_is_named() -> None:
    found = mounts({"Volumes": {"/b": {}, "/c/": {}}}, {"Volumes": {"/a": {}, "/b": {}}}, Binds=["vol:/a"])
    assert [(v.name, v.target, v.anonymous) for v in found.volumes] == [
        ("vol", "/a", False),
        ("", "/b", True),
        ("", "/c", True),
    ]


def test_volumes_from_another_container() -> None:
    found = mounts(VolumesFrom=["other:ro"], Binds=["/mine:/bound"])
    assert found.binds == [Bind(source="/mine", target="/bound")]
    assert [(v.name, v.read_only, v.anonymous, v.copy) for v in found.volumes] == [("theirs", True, False, False)]
    with pytest.raises(NotFound, match="No such container: x"):
        mounts(VolumesFrom=["x"])


def test_mounts_of_every_type() -> None:
    found = mounts(
        Mounts=[
            {"Type": "bind", "Source": "/tmp", "Target": "/b", "ReadOnly": True, "BindOptions": {"NonRecursive": True}},
            {"Type": "volume", "Source": "vol", "Target": "/v", "VolumeOptions": {"Subpath": "a/b", "NoCopy": True}},
            {"Type": "volume", "Target": "/w", "VolumeOptions": {"Labels": {"x": "y"}}},
            {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 64, "Mode": 0o700, "Options": [["exec"]]}},
        ]
    )
    assert found.binds == [Bind(source="/tmp", target="/b", options=("ro",), recursive=False, strict=True)]
    assert (found.volumes[0].subpath, found.volumes[0].copy, found.volumes[0].anonymous) == ("a/b", False, False)
    assert found.volumes[1].anonymous
    assert found.volumes[1].labels["x"] == "y"
    assert found.tmpfs == {"/t": "size=64,mode=700,exec"}


@pytest.mark.parametrize(
    ("host", "sentence"),
    [
        ({"Binds": ["/a:b"]}, "invalid mount path: 'b' mount path must be absolute"),
        ({"Binds": ["/a:/b:c:d"]}, "invalid volume specification: '/a:/b:c:d'"),
        ({"Binds": [":/b"]}, "invalid volume specification: ':/b'"),
        ({"Binds": ["/a:/"]}, "invalid volume specification: '/a:/': invalid specification: destination can't be '/'"),
        ({"Binds": ["/a:/b:fast"]}, "invalid mode: fast"),
        ({"Binds": ["/a:/b:ro,rw"]}, "invalid mode: ro,rw"),
        ({"Binds": ["/a:/b:cached,delegated"]}, "invalid mode: cached,delegated"),
        ({"Binds": ["/a:/b:z,z"]}, "invalid mode: z,z"),
        (
            {"Binds": ["/a:/b:nocopy"]},
            "invalid volume specification: '/a:/b:nocopy': "
            'invalid mount config for type "bind": field VolumeOptions must not be specified',
        ),
        (
            {"Binds": ["vv:/b:rshared"]},
            "invalid volume specification: 'vv:/b:rshared': "
            'invalid mount config for type "volume": field BindOptions must not be specified',
        ),
        ({"Binds": ["a/b:/v"]}, 'create a/b: "a/b" includes invalid characters for a local volume name'),
        ({"Binds": ["x:/v"]}, "create x: volume name is too short"),
        ({"Binds": ["/a:/x", "/b:/x/"]}, "Duplicate mount point: /x"),
        ({"Tmpfs": {"/x": ""}, "Binds": ["/b:/x"]}, "Duplicate mount point: /x"),
        ({"Tmpfs": {"/x": "fast"}}, r'invalid tmpfs option \["fast"\]'),
        (
            {"Mounts": [{"Type": "bind", "Source": "/no/such", "Target": "/v"}]},
            'invalid mount config for type "bind": bind source path does not exist: /no/such',
        ),
        ({"Mounts": [{"Type": "npipe", "Target": "/v"}]}, 'invalid mount config for type "npipe": mount type unknown'),
        ({"Mounts": [{"Type": "bind", "Source": "/tmp"}]}, "field Target must not be empty"),
        ({"Mounts": [{"Type": "bind", "Target": "/v"}]}, "field Source must not be empty"),
        ({"Mounts": [{"Type": "tmpfs", "Source": "x", "Target": "/v"}]}, "field Source must not be specified"),
        (
            {"Mounts": [{"Type": "tmpfs", "Target": "/v", "VolumeOptions": {"NoCopy": True}}]},
            "field VolumeOptions must not be specified",
        ),
        (
            {"Mounts": [{"Type": "volume", "Target": "/v", "VolumeOptions": {"Subpath": "../x"}}]},
            "subpath must be a relative path within the volume",
        ),
        ({"Binds": ["/a\0:/b"]}, "zero byte"),
        ({"Mounts": [{"Type": "bind", "Source": "/a\0", "Target": "/b"}]}, "zero byte"),
        ({"Tmpfs": {"/a\0": ""}}, "zero byte"),
        ({"Mounts": ["x"]}, "Mounts must be a list of objects"),
        ({"VolumesFrom": [":ro"]}, "malformed volumes-from specification: :ro"),
        ({"VolumesFrom": ["other:fast"]}, "invalid mode: fast"),
        ({"VolumesFrom": ["other:nocopy"]}, "invalid mode: nocopy"),
    ],
)
def test_refusals_are_dockers(host: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        mounts(**host)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"colour": "red"}, 'invalid option: "colour"'),
        ({"type": "tmpfs"}, 'missing required option: "device"'),
        ({"o": "bind", "device": "/x"}, 'missing required option: "type"'),
        ({"size": "1g"}, "quota size requested but no quota support"),
    ],
)
def test_options_of_the_local_driver(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        check_options("v", options)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["noexec", "nosuid", "nodev"]),
        ("exec,size=64m", ["nosuid", "nodev", "exec", "size=64m"]),
        ("ro,rw", ["noexec", "nosuid", "nodev", "rw"]),
    ],
)
def test_tmpfs_options(text: str, words: list[str]) -> None:
    assert tmpfs_options(text) == words
