"""The words of ``run``: ports, volumes, environment, networks, sizes, times."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli import parse
from fairlead.cli.flags import Usage


def short(text: str) -> list[str]:
    return [f"{binding['HostIp']}|{binding['HostPort']}>{port}" for port, binding in parse.publish(text)]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("80", ["|>80/tcp"]),
        ("80/udp", ["|>80/udp"]),
        ("80/TCP", ["|>80/tcp"]),
        ("8080:80", ["|8080>80/tcp"]),
        ("0:80", ["|0>80/tcp"]),
        (":80", ["|>80/tcp"]),
        ("127.0.0.1:8080:80/sctp", ["127.0.0.1|8080>80/sctp"]),
        ("127.0.0.1::80", ["127.0.0.1|>80/tcp"]),
        ("[::1]:8080:80", ["::1|8080>80/tcp"]),
        ("[::1]::80", ["::1|>80/tcp"]),
        ("[2001:DB8::0]:1:2", ["2001:db8::|1>2/tcp"]),
        ("8000-8001:80-81", ["|8000>80/tcp", "|8001>81/tcp"]),
        ("80-82", ["|>80/tcp", "|>81/tcp", "|>82/tcp"]),
        ("8000-9000:80", ["|8000-9000>80/tcp"]),
        ("8000-8000:80", ["|8000>80/tcp"]),
        ("1.2.3.4:7-8:9-10/udp", ["1.2.3.4|7>9/udp", "1.2.3.4|8>10/udp"]),
    ],
)
def test_publish(text: str, wanted: list[str]) -> None:
    assert short(text) == wanted


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the container's port is missing"),
        ("80:", "the container's port is missing"),
        ("/tcp", "the container's port is missing"),
        ("80/", "the protocol is one of"),
        ("80/icmp", "the protocol is one of"),
        ("80/tcp/udp", "the protocol is one of"),
        ("0", "the container port is a number"),
        ("65536", "the container port is a number"),
        ("a", "the container port is a number"),
        ("-1", "the container port is a number"),
        ("80-", "the container port is a number"),
        ("٨٠", "the container port is a number"),
        ("99999999999999999999:80", "the host port is a number"),
        ("81-80", "range ends before it starts"),
        ("8000-8002:80-81", "differ in length"),
        ("1.2.3:80:80", "no address of the host"),
        ("::1:80:80", "no address of the host"),
        ("[1.2.3.4]:80:80", "no address of the host"),
        ("[::1:80:80", "[ADDRESS]:HOST:CONTAINER"),
        ("[::1]:80", "[ADDRESS]:HOST:CONTAINER"),
        ("localhost:80:80", "no address of the host"),
    ],
)
def test_publish_refuses(text: str, why: str) -> None:
    with pytest.raises(Usage) as caught:
        parse.publish(text)
    assert f"invalid port {text!r}" in str(caught.value)
    assert why in str(caught.value)


port = st.integers(1, 65535)


@given(
    host=port, first=port, length=st.integers(0, 20), protocol=st.sampled_from(parse.PROTOCOLS), ip=st.ip_addresses()
)
def test_publish_reads_what_is_written(host: int, first: int, length: int, protocol: str, ip: object) -> None:
    if max(host, first) + length > 65535:
        return
    address = f"[{ip}]" if ":" in str(ip) else str(ip)
    found = parse.publish(f"{address}:{host}-{host + length}:{first}-{first + length}/{protocol}")
    assert found == [
        (f"{first + n}/{protocol}", {"HostIp": str(ip), "HostPort": str(host + n)}) for n in range(length + 1)
    ]


@given(st.text(max_size=30) | st.text("0123456789:-[]/.tcp", max_size=30))
def test_parsers_refuse_in_one_sentence_or_understand(text: str) -> None:
    for parser in (
        parse.publish,
        parse.exposed,
        parse.size,
        parse.cpus,
        parse.restart,
        parse.extra_host,
        parse.network,
        parse.detach_keys,
        lambda word: parse.volume(word, str),
        lambda word: parse.mount(word, str),
        lambda word: parse.moment(word, 0.0),
        lambda word: parse.tmpfs([word]),
        lambda word: parse.labels([word], []),
        lambda word: parse.environment([word], [], {}),
    ):
        with contextlib.suppress(Usage):
            parser(text)  # type: ignore[operator]


def test_environment(tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# a comment\n\nA=1\n  B=two words \nHOME\nABSENT\nC=\n")
    assert parse.environment(["X=9", "HOME", "ABSENT", "A=2"], [str(file)], {"HOME": "/root"}) == [
        "A=1",
        "B=two words ",
        "HOME=/root",
        "C=",
        "X=9",
        "HOME=/root",
        "A=2",
    ]


@pytest.mark.parametrize(("text", "why"), [("=x", "line 1"), ("A=1\nno name=1", "line 2")])
def test_environment_file_refuses(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "env"
    file.write_text(text)
    with pytest.raises(Usage, match=why):
        parse.environment([], [str(file)], {})
    with pytest.raises(Usage, match="No such file"):
        parse.environment([], [str(tmp_path / "absent")], {})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("/a:/b", "/a:/b"), ("./a:/b:ro", "/here/./a:/b:ro"), ("name:/b", "name:/b"), ("~/a:/b", "/here/~/a:/b")],
)
def test_volume(text: str, wanted: str) -> None:
    assert parse.volume(text, lambda path: f"/here/{path}") == wanted


@pytest.mark.parametrize("text", ["", "a", ":/b", "/a:", "/a:b", "/a:/b:ro:x"])
def test_volume_refuses(text: str) -> None:
    with pytest.raises(Usage, match="invalid volume"):
        parse.volume(text, str)


def test_mount() -> None:
    assert parse.mount("type=bind,src=a,dst=/b,readonly", lambda path: f"/here/{path}") == {
        "Type": "bind",
        "Source": "/here/a",
        "Target": "/b",
        "ReadOnly": True,
    }
    assert parse.mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", str) == {
        "Type": "tmpfs",
        "Target": "/t",
        "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700},
    }
    assert parse.mount("src=v,dst=/b,volume-nocopy,volume-label=a=b,volume-opt=o=ro,volume-subpath=x/y", str) == {
        "Type": "volume",
        "Source": "v",
        "Target": "/b",
        "VolumeOptions": {
            "NoCopy": True,
            "Labels": {"a": "b"},
            "DriverConfig": {"Options": {"o": "ro"}},
            "Subpath": "x/y",
        },
    }
    for bad in (
        "type=npipe,src=a,dst=/b",
        "type=bind,src=/a,dst=/b,readonly=perhaps",
        "type=tmpfs,dst=/b,tmpfs-mode=9",
        "type=bind,dst=/b",
        "type=bind,src=/a,dst=b",
        "type=bind,src=/a,dst=/b,x=y",
    ):
        with pytest.raises(Usage, match="invalid mount"):
            parse.mount(bad, str)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("1", 1), ("1b", 1), ("1k", 1024), ("64kb", 65536), ("64KiB", 65536), ("1.5g", 3 << 29), ("512M", 512 << 20)],
)
def test_size(text: str, wanted: int) -> None:
    assert parse.size(text) == wanted


@pytest.mark.parametrize("text", ["", "m", "1x", "-1m", "1.2.3m", "1 2", "1e3", "9" * 40])
def test_size_refuses(text: str) -> None:
    with pytest.raises(Usage, match="invalid size"):
        parse.size(text)


def test_cpus() -> None:
    assert parse.cpus("1.5") == 1_500_000_000
    assert parse.cpus(".25") == 250_000_000
    assert parse.cpus("2") == 2_000_000_000
    for bad in ("", ".", "-1", "1e9", "a", "1.1234567890"):
        with pytest.raises(Usage):
            parse.cpus(bad)


def test_restart() -> None:
    assert parse.restart("on-failure:3") == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert parse.restart("always") == {"Name": "always", "MaximumRetryCount": 0}
    for bad in ("never", "always:3", "on-failure:x", "on-failure:"):
        with pytest.raises(Usage, match="invalid restart policy"):
            parse.restart(bad)


def test_extra_host() -> None:
    assert parse.extra_host("db:10.0.0.1") == "db:10.0.0.1"
    assert parse.extra_host("db=::1") == "db:::1"
    assert parse.extra_host("db:[::1]") == "db:::1"
    assert parse.extra_host("me:host-gateway") == "me:host-gateway"
    for bad in ("db", "db:", ":10.0.0.1", "db:nowhere"):
        with pytest.raises(Usage, match="invalid host"):
            parse.extra_host(bad)


def test_network() -> None:
    assert parse.network("br0") == ("br0", {})
    assert parse.network("name=br0,ip=10.0.0.2,alias=a,alias=b,mac-address=02:00:00:00:00:01,driver-opt=k=v") == (
        "br0",
        {
            "IPAMConfig": {"IPv4Address": "10.0.0.2"},
            "Aliases": ["a", "b"],
            "MacAddress": "02:00:00:00:00:01",
            "DriverOpts": {"k": "v"},
        },
    )
    for bad in ("", "ip=10.0.0.1", "name=a,x=y"):
        with pytest.raises(Usage, match="invalid network"):
            parse.network(bad)


def test_detach_keys() -> None:
    assert parse.detach_keys("ctrl-p,ctrl-q") == b"\x10\x11"
    assert parse.detach_keys("ctrl-@,a,ctrl-[") == b"\x00a\x1b"
    for bad in ("", "ctrl-", "ctrl-pp", "a,,b", "ü"):
        with pytest.raises(Usage, match="invalid detach keys"):
            parse.detach_keys(bad)


def test_moment() -> None:
    assert parse.moment("1700000000.5", 0) == "1700000000.5"
    assert float(parse.moment("1h30m", 10000)) == 10000 - 5400
    assert float(parse.moment("1970-01-01T00:01:00+00:00", 0)) == 60
    with pytest.raises(Usage, match="invalid time"):
        parse.moment("yesterday", 0)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nginx", ("nginx", "latest")),
        ("nginx:1", ("nginx", "1")),
        ("localhost:5000/nginx", ("localhost:5000/nginx", "latest")),
        ("localhost:5000/nginx:1", ("localhost:5000/nginx", "1")),
        ("nginx@sha256:ab", ("nginx", "sha256:ab")),
    ],
)
def test_image_name(text: str, wanted: tuple[str, str]) -> None:
    assert parse.image_name(text) == wanted
