"""Tables, ports, times, sizes and templates look as docker's do."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.ago import ago
from fairlead.cli import network, output
from fairlead.cli.flags import Failure, Usage
from fairlead.cli.listing import command_text, image_text, merge_ports
from fairlead.cli.template import render


def test_table_is_dockers() -> None:
    assert output.table(
        ["NETWORK ID", "NAME", "DRIVER", "SCOPE"],
        [["5e3f8d2a9b1c", "bridge", "bridge", "local"], ["0a1b2c3d4e5f", "a-long-name", "host", ""]],
    ).splitlines() == [
        "NETWORK ID     NAME          DRIVER    SCOPE",
        "5e3f8d2a9b1c   bridge        bridge    local",
        "0a1b2c3d4e5f   a-long-name   host",
    ]


def port(private: int, public: int = 0, ip: str = "", kind: str = "tcp") -> dict[str, Any]:
    return {"PrivatePort": private, "Type": kind} | ({"IP": ip, "PublicPort": public} if ip else {})


@pytest.mark.parametrize(
    ("ports", "wanted"),
    [
        ([], ""),
        ([port(80)], "80/tcp"),
        ([port(81), port(80)], "80-81/tcp"),
        ([port(80, 8081, "0.0.0.0"), port(80, 8081, "::")], "0.0.0.0:8081->80/tcp, [::]:8081->80/tcp"),
        ([port(n, n, "0.0.0.0") for n in (9002, 9000, 9001)], "0.0.0.0:9000-9002->9000-9002/tcp"),
        ([port(80, 80, "0.0.0.0"), port(82, 82, "0.0.0.0")], "0.0.0.0:80->80/tcp, 0.0.0.0:82->82/tcp"),
        ([port(80, 80, "0.0.0.0"), port(81, 81, "0.0.0.0", "udp")], "0.0.0.0:80->80/tcp, 0.0.0.0:81->81/udp"),
        ([port(443), port(80, 8080, "127.0.0.1")], "443/tcp, 127.0.0.1:8080->80/tcp"),
    ],
)
def test_ports(ports: list[dict[str, Any]], wanted: str) -> None:
    assert merge_ports(ports) == wanted


@given(st.sets(st.integers(1, 200), max_size=60))
def test_merged_ports_name_each_port_once(numbers: set[int]) -> None:
    named: list[int] = []
    for text in merge_ports([port(number) for number in numbers]).split(", "):
        if text:
            first, _, last = text.removesuffix("/tcp").partition("-")
            named += range(int(first), int(last or first) + 1)
    assert named == sorted(numbers)


def test_command_and_image() -> None:
    assert command_text("ash", False) == '"ash"'
    assert command_text("/docker-entrypoint.sh nginx", False) == '"/docker-entrypoint.…"'
    assert command_text('echo "a"', True) == '"echo \\"a\\""'
    assert image_text({"Image": "sha256:" + "ab" * 32}, False) == "ab" * 6
    assert image_text({"Image": "nginx:1"}, False) == "nginx:1"


@pytest.mark.parametrize(
    ("seconds", "wanted"),
    [
        (0.4, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (7200, "2 hours"),
        (3600 * 48, "2 days"),
        (86400 * 14, "2 weeks"),
        (86400 * 61, "2 months"),
        (86400 * 800, "2 years"),
    ],
)
def test_ago(seconds: float, wanted: str) -> None:
    assert ago(seconds) == wanted


def test_size() -> None:
    assert [output.size(n) for n in (0, 999, 1000, 1_980_000, 187_000_000, 2.5e12)] == [
        "0B",
        "999B",
        "1kB",
        "1.98MB",
        "187MB",
        "2.5TB",
    ]


def test_filters_and_pairs() -> None:
    assert output.filters([]) is None
    assert json.loads(output.filters(["name=a", "name=b", "label=x=y"]) or "") == {"name": ["a", "b"], "label": ["x=y"]}
    with pytest.raises(Failure, match="name=value"):
        output.filters(["name"])
    assert output.pairs(["a=1=2", "b"], "label") == {"a": "1=2", "b": ""}


ITEM = {
    "Name": "/a1",
    "State": {"Running": True, "Pid": 0},
    "NetworkSettings": {"Networks": {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.0.0.1"}}},
    "Config": {"Labels": {"x.y": "z"}, "Cmd": ["sh", "-c"], "Entrypoint": None},
}


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{{.Name}}", "/a1"),
        ("{{ .State.Running }}/{{.State.Pid}}", "true/0"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", "10.0.0.1 10.0.0.2 "),
        ("{{range $k, $v := .NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}};{{end}}", "a=10.0.0.1;b=10.0.0.2;"),
        ("{{json .Config.Cmd}}", '["sh","-c"]'),
        ('{{join .Config.Cmd ","}}', "sh,-c"),
        ('{{index .Config.Labels "x.y"}}', "z"),
        ('{{index .Config.Labels "absent"}}', ""),
        ("{{index .Config.Cmd 1}}", "-c"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Pid}}up{{else}}down{{end}}", "down"),
        ('{{if and .State.Running (eq .Name "/a1")}}yes{{end}}', "yes"),
        ("{{range .Config.Entrypoint}}x{{else}}none{{end}}", "none"),
        ("{{with .State}}{{.Pid}}{{end}}", "0"),
        ("{{.Config.Entrypoint}}", "<no value>"),
        ("{{.Config.Cmd}}", "[sh -c]"),
        ("{{len .Config.Cmd}}", "2"),
        ("{{.Config.Cmd | json}}", '["sh","-c"]'),
        ("a\\tb", "a\tb"),
        ("x {{- .State.Pid -}} y", "x0y"),
    ],
)
def test_template(template: str, wanted: str) -> None:
    assert render(template, ITEM) == wanted


@pytest.mark.parametrize(
    "template",
    [
        "{{.Nope}}",
        "{{.Name.Deep}}",
        "{{range .Config.Cmd}}",
        "{{end}}",
        "{{nope .Name}}",
        "{{}}",
        "{{index .Config.Cmd 9}}",
    ],
)
def test_template_refuses(template: str) -> None:
    with pytest.raises(Usage, match="invalid template"):
        render(template, ITEM)


@given(st.text('{}.$|()"`abe json range if end else with ', max_size=40))
def test_template_never_breaks(template: str) -> None:
    with contextlib.suppress(Usage):
        render(template, ITEM)


def ipam(line: str) -> list[dict[str, Any]]:
    return network.ipam_config(network.CREATE.parse([*line.split(), "n"])[0])


def test_ipam_config() -> None:
    assert ipam("") == []
    assert ipam("--gateway none") == [{"Gateway": "none"}]
    assert ipam("--subnet 10.0.0.0/24 --gateway none --aux-address a=10.0.0.9 --ip-range 10.0.0.128/25") == [
        {
            "Subnet": "10.0.0.0/24",
            "IPRange": "10.0.0.128/25",
            "Gateway": "none",
            "AuxiliaryAddresses": {"a": "10.0.0.9"},
        }
    ]
    assert ipam("--subnet 10.0.0.0/24 --subnet fd00::/64 --gateway fd00::1 --gateway 10.0.0.1") == [
        {"Subnet": "10.0.0.0/24", "Gateway": "10.0.0.1"},
        {"Subnet": "fd00::/64", "Gateway": "fd00::1"},
    ]
    for bad in (
        "--gateway 10.0.0.1",
        "--subnet a --subnet b --gateway c",
        "--subnet 10.0.0.0/24 --gateway a --gateway b",
    ):
        with pytest.raises(Failure):
            ipam(bad)
