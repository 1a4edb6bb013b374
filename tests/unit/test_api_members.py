"""Names of JSON members, whatever their case, and what null stands for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from fairlead.api.create_body import CreateBody
from fairlead.api.members import named
from fairlead.api.networks import CreateNetwork

CASES: list[tuple[Any, Any]] = [
    ({"image": "a", "ENV": ["x=Y"]}, {"Image": "a", "Env": ["x=Y"]}),
    ({"image": "a", "Image": "b"}, {"Image": "b"}),
    ({"Image": "a", "image": "b"}, {"Image": "b"}),
    ({"labels": {"Image": "x", "image": "y"}}, {"Labels": {"Image": "x", "image": "y"}}),
    ({"hostconfig": {"DNS": ["x"], "utsmode": "host"}}, {"HostConfig": {"Dns": ["x"], "UTSMode": "host"}}),
    ({"HostConfig": {"sysctls": {"A.b": "c"}}}, {"HostConfig": {"Sysctls": {"A.b": "c"}}}),
    (
        {"HostConfig": {"portbindings": {"80/TCP": [{"HOSTPORT": "1"}]}}},
        {"HostConfig": {"PortBindings": {"80/TCP": [{"HostPort": "1"}]}}},
    ),
    (
        {"networkingconfig": {"endpointsconfig": {"MyNet": {"ipamconfig": {"ipv4address": "10.0.0.1"}}, "n": None}}},
        {"NetworkingConfig": {"EndpointsConfig": {"MyNet": {"IPAMConfig": {"IPv4Address": "10.0.0.1"}}, "n": None}}},
    ),
    ({"nope": {"image": 1}}, {"nope": {"image": 1}}),
    ({"Env": ["a=b", None], "Labels": {"x": None}}, {"Env": ["a=b", ""], "Labels": {"x": ""}}),
    ({"HostConfig": {"Mounts": [None], "Ulimits": None}}, {"HostConfig": {"Mounts": [{}], "Ulimits": None}}),
    ({"ExposedPorts": {"80/tcp": None}}, {"ExposedPorts": {"80/tcp": None}}),
    ({"hostconfig": [1], "MOUNTS": None}, {"HostConfig": [1], "MOUNTS": None}),
]


@pytest.mark.parametrize(("given", "expected"), CASES)
def test_members_get_the_names_of_their_fields(given: Any, expected: Any) -> None:
    assert named(given, CreateBody) == expected


def test_what_has_no_names_stays() -> None:
    assert named({"A": 1}, dict[str, int]) == {"A": 1}


def test_a_struct_is_made_of_it() -> None:
    wanted = msgspec.convert(
        named({"enableIPV6": True, "ipam": {"config": [{"iprange": "x"}]}}, CreateNetwork), CreateNetwork
    )
    assert wanted.enable_ipv6
    assert wanted.ipam is not None
    assert wanted.ipam.config is not None
    assert wanted.ipam.config[0].ip_range == "x"
