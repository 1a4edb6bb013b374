"""Docker's create body as a spec, and records in Docker's words."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from fairlead.ago import ago
from fairlead.api.container_spec import parse
from fairlead.api.streams import KeyWatch, frame_bytes, parse_keys
from fairlead.containers.inspect import inspect, rfc3339, status_text, summary
from fairlead.containers.plans import published
from fairlead.containers.record import Bind, Container, ContainerSpec, Restart, Status
from fairlead.containers.service import signal_number
from fairlead.containers.streams import Frame
from fairlead.errors import Invalid
from fairlead.images import Image
from fairlead.model import Endpoint, Network, Pool, PublishedPort
from fairlead.paths import Paths

IMAGE = Image(
    id="ab" * 32,
    config={
        "config": {
            "Entrypoint": ["/entry"],
            "Cmd": ["serve"],
            "Env": ["A=1", "B=2"],
            "ExposedPorts": {"80/tcp": {}},
            "User": "web",
            "WorkingDir": "/srv",
            "StopSignal": "SIGQUIT",
            "Labels": {"from": "image"},
        }
    },
)


def spec(**body: Any) -> ContainerSpec:
    return parse({"Image": "box", **body}, IMAGE)[0]


def test_what_the_image_decides() -> None:
    one = spec()
    assert one.arguments == ("/entry", "serve")
    assert one.env == ("A=1", "B=2")
    assert (one.user, one.workdir, one.stop_signal, one.exposed) == ("web", "/srv", "SIGQUIT", ("80/tcp",))
    assert one.network_mode == "bridge"
    assert [e.network for e in one.endpoints] == ["bridge"]


def joining(ref: str, **fields: Any) -> dict[str, Any]:
    """A body that joins another's network."""
    host = {"NetworkMode": f"container:{ref}", **fields.pop("HostConfig", {})}
    return {"HostConfig": host, **fields}


@pytest.mark.parametrize(
    ("body", "arguments"),
    [
        ({"Cmd": ["x"]}, ("/entry", "x")),
        ({"Entrypoint": ["e"]}, ("e",)),  # the image's command belongs to the image's entrypoint
        ({"Entrypoint": "e", "Cmd": ["x"]}, ("e", "x")),
        ({"Entrypoint": [""], "Cmd": ["x"]}, ("x",)),
        ({"Entrypoint": [], "Cmd": ["x"]}, ("x",)),
        ({"Cmd": []}, ("/entry", "serve")),
    ],
)
def test_commands(body: dict[str, Any], arguments: tuple[str, ...]) -> None:
    assert spec(**body).arguments == arguments


def test_environment_and_labels_add_up() -> None:
    one = spec(Env=["A=9", "B", "C=3"], Labels={"mine": "x"})
    assert one.env == ("A=9", "B", "C=3")
    assert one.labels == {"from": "image", "mine": "x"}


def test_ports() -> None:
    one = spec(
        HostConfig={
            "PortBindings": {
                "80/tcp": [{"HostPort": "8081"}, {"HostIp": "127.0.0.1", "HostPort": "9000-9002"}],
                "53/udp": None,
            }
        }
    )
    assert one.exposed == ("53/udp", "80/tcp")
    first, second, third = one.ports
    assert (first.port, first.host_ip, first.host_port) == (80, None, 8081)
    assert (str(second.host_ip), second.host_port, second.host_port_end) == ("127.0.0.1", 9000, 9002)
    assert (third.port, third.protocol, third.host_port) == (53, "udp", 0)


@pytest.mark.parametrize(
    ("name", "binding", "wanted"),
    [
        # the port's name, its binding, (host address, first, last, port, protocol)
        ("80/tcp", {"HostPort": "8081"}, ("", 8081, 0, 80, "tcp")),
        ("80", {"HostPort": "8081"}, ("", 8081, 0, 80, "tcp")),
        ("80/UDP", {"HostPort": ""}, ("", 0, 0, 80, "udp")),
        ("80/sctp", {}, ("", 0, 0, 80, "sctp")),
        ("80/tcp", {"HostIp": "", "HostPort": "0"}, ("", 0, 0, 80, "tcp")),
        ("80/tcp", {"HostIp": "0.0.0.0", "HostPort": "8081"}, ("0.0.0.0", 8081, 0, 80, "tcp")),
        ("80/tcp", {"HostIp": "::", "HostPort": "8081"}, ("::", 8081, 0, 80, "tcp")),
        ("80/tcp", {"HostIp": "::1", "HostPort": "8081"}, ("::1", 8081, 0, 80, "tcp")),
        ("80/tcp", {"HostIp": "127.0.0.1", "HostPort": ""}, ("127.0.0.1", 0, 0, 80, "tcp")),
        ("80/tcp", {"HostPort": "8000-8010"}, ("", 8000, 8010, 80, "tcp")),
    ],
)
def test_a_binding(name: str, binding: dict[str, str], wanted: tuple[str, int, int, int, str]) -> None:
    (port,) = spec(HostConfig={"PortBindings": {name: [binding]}}).ports
    address = str(port.host_ip) if port.host_ip else ""
    assert (address, port.host_port, port.host_port_end, port.port, port.protocol) == wanted


def test_publish_all_leaves_out_what_is_named() -> None:
    one = spec(
        ExposedPorts={"81/udp": {}, "82/tcp": {}},
        HostConfig={"PublishAllPorts": True, "PortBindings": {"82/tcp": [{"HostPort": "8082"}]}},
    )
    container = Container(id="c" * 64, name="web", image_id=IMAGE.id, created=0.0, spec=one)
    found = [(port.port, port.protocol, port.host_port) for port in published(container)]
    assert found == [(82, "tcp", 8082), (80, "tcp", 0), (81, "udp", 0)]


def test_networks() -> None:
    one = spec(
        HostConfig={"NetworkMode": "front"},
        NetworkingConfig={
            "EndpointsConfig": {"back": {}, "front": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}, "Aliases": ["web"]}}
        },
    )
    assert [e.network for e in one.endpoints] == ["front", "back"]
    assert (one.endpoints[0].ips, one.endpoints[0].aliases) == ((ip_address("10.0.0.9"),), ("web",))
    assert spec(HostConfig={"NetworkMode": "host"}).endpoints == ()
    _, warnings = parse({"HostConfig": {"NetworkMode": "host", "PortBindings": {"1/tcp": []}}}, IMAGE)
    assert warnings == ["Published ports are discarded when using host network mode"]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"Cmd": 3}, "Cmd must be a list"),
        ({"Env": ["=x"]}, "invalid environment variable: =x"),
        ({"WorkingDir": "rel"}, "needs to be an absolute path"),
        ({"StopSignal": "SIGFOO"}, "Invalid signal: SIGFOO"),
        ({"HostConfig": {"Binds": ["/a:b"]}}, "mount path must be absolute"),
        ({"HostConfig": {"Binds": ["/a:/b:fast"]}}, "invalid mode: fast"),
        ({"HostConfig": {"Binds": ["/a:/x", "/b:/x/"]}}, "Duplicate mount point: /x"),
        ({"HostConfig": {"PortBindings": {"0/tcp": []}}}, "1 to 65535"),
        ({"HostConfig": {"PortBindings": {"80/icmp": []}}}, "tcp, udp and sctp"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "70000"}]}}}, "0 to 65535"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "9-8"}]}}}, "invalid host port"),
        ({"HostConfig": {"PortBindings": {"80/tcp": [{"HostIp": "localhost"}]}}}, "invalid host address"),
        ({"HostConfig": {"RestartPolicy": {"Name": "often"}}}, "unknown policy 'often'"),
        ({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 2}}}, "only be used with"),
        ({"HostConfig": {"AutoRemove": True, "RestartPolicy": {"Name": "always"}}}, "can't create 'AutoRemove'"),
        (
            joining("x", HostConfig={"PortBindings": {"80/tcp": []}}),
            "port publishing and the container type network mode",
        ),
        (joining("x", HostConfig={"PublishAllPorts": True}), "port publishing and the container type network mode"),
        (joining("x", ExposedPorts={"80/tcp": {}}), "port exposing and the container type network mode"),
        (joining("x", Hostname="h"), "hostname and the network mode"),
        (joining("x", HostConfig={"Dns": ["1.1.1.1"]}), "dns and the network mode"),
        (joining("x", HostConfig={"ExtraHosts": ["a:1.1.1.1"]}), "custom host-to-IP mapping and the network mode"),
        (joining("x", HostConfig={"Links": ["a:b"]}), "container type network can't be used with links"),
        (joining("x", MacAddress="02:00:00:00:00:01"), "mac-address and the network mode"),
        (joining("x", NetworkingConfig={"EndpointsConfig": {"u": {}}}), "has no place in a network"),
        ({"HostConfig": {"PidMode": "some"}}, "invalid PID mode: some"),
        ({"HostConfig": {"Devices": [{"PathOnHost": "x"}]}}, "invalid device"),
        ({"HostConfig": {"DeviceRequests": [{}]}}, "could not select device driver"),
        ({"HostConfig": {"CapAdd": ["FLY"]}}, "invalid capability"),
        ({"HostConfig": {"Memory": 5}}, "Minimum memory limit"),
        ({"HostConfig": {"ExtraHosts": ["x"]}}, "bad format for add-host"),
        ({"HostConfig": {"Sysctls": {"kernel.panic": "1"}}}, "not separate per container"),
        ({"HostConfig": {"SecurityOpt": ["seccomp=x"]}}, "Decoding seccomp profile failed"),
        ({"HostConfig": []}, "HostConfig must be an object"),
    ],
)
def test_bad_bodies_get_one_sentence(body: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        spec(**body)


def test_what_cannot_be_served_is_said() -> None:
    _, warnings = parse({"HostConfig": {"KernelMemory": 5, "KernelMemoryTCP": 5}}, IMAGE)
    assert len(warnings) == 2


def test_binds() -> None:
    (bind,) = spec(HostConfig={"Binds": ["/tmp/:/data/:ro,z"]}).binds
    assert bind == Bind(source="/tmp", target="/data", options=("ro", "z"))


@pytest.mark.parametrize(("name", "number"), [("SIGTERM", 15), ("term", 15), ("9", 9), ("SIGRTMIN+3", 37), ("HUP", 1)])
def test_signals(name: str, number: int) -> None:
    assert signal_number(name) == number


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (120, "2 minutes"),
        (3599, "59 minutes"),
        (3600, "About an hour"),
        (2 * 3600, "2 hours"),
        (47 * 3600, "47 hours"),
        (48 * 3600, "2 days"),
        (14 * 86400, "2 weeks"),
        (60 * 86400, "2 months"),
        (800 * 86400, "2 years"),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert ago(seconds) == words


def test_times() -> None:
    assert rfc3339(0) == "0001-01-01T00:00:00Z"
    assert rfc3339(1.25) == "1970-01-01T00:00:01.250000000Z"


def running() -> tuple[Container, list[Endpoint], dict[str, Network]]:
    from ipaddress import ip_address, ip_interface, ip_network

    one = Container(
        id="a" * 64,
        name="web",
        image_id="ab" * 32,
        spec=spec(HostConfig={"PortBindings": {"80/tcp": [{"HostPort": "8081"}]}}),
        created=1.0,
        started=100.0,
        status=Status.RUNNING,
        pid=4711,
    )
    pool = Pool(subnet=ip_network("172.17.0.0/16"), gateway=ip_address("172.17.0.1"))
    network = Network(id="n" * 64, name="bridge", driver="bridge", pools=(pool,), predefined=True)
    endpoint = Endpoint(
        id="e" * 64,
        network=network.id,
        sandbox="s",
        ifname="eth0",
        addresses=(ip_interface("172.17.0.2/16"),),
        mac="02:42:ac:11:00:02",
        ports=tuple(
            PublishedPort(host_ip=ip_address(h), host_port=8081, protocol="tcp", port=80) for h in ("0.0.0.0", "::")
        ),
    )
    return one, [endpoint], {network.id: network}


def test_the_containers_mac_is_that_of_its_first_network() -> None:
    given = spec(
        MacAddress="02:00:00:00:00:01",
        HostConfig={"NetworkMode": "b"},
        NetworkingConfig={"EndpointsConfig": {"a": {}, "b": {}}},
    )
    assert [(one.network, one.mac) for one in given.endpoints] == [("b", "02:00:00:00:00:01"), ("a", "")]


def test_inspect() -> None:
    one, endpoints, networks = running()
    document = inspect(one, paths=Paths(), endpoints=endpoints, networks=networks, image_config={}, execs=[])
    assert document["Name"] == "/web"
    assert (document["Path"], document["Args"]) == ("/entry", ["serve"])
    assert document["State"]["Pid"] == 4711
    settings = document["NetworkSettings"]
    assert settings["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8081"}, {"HostIp": "::", "HostPort": "8081"}]
    }
    assert (settings["IPAddress"], settings["Gateway"]) == ("172.17.0.2", "172.17.0.1")
    assert settings["Networks"]["bridge"]["IPPrefixLen"] == 16
    assert settings["Networks"]["bridge"]["MacAddress"] == "02:42:ac:11:00:02"
    assert document["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8081"}]}


def test_summary() -> None:
    one, endpoints, networks = running()
    shown = summary(one, image=one.spec.image, endpoints=endpoints, networks=networks)
    assert shown["Ports"] == [
        {"IP": "0.0.0.0", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8081},
        {"IP": "::", "PrivatePort": 80, "Type": "tcp", "PublicPort": 8081},
    ]
    assert shown["Command"] == "/entry serve"
    assert status_text(one, 105.0) == "Up 5 seconds"
    ended = one.becomes(Status.EXITED, exit_code=3, finished=100.0)
    assert status_text(ended, 220.0) == "Exited (3) 2 minutes ago"
    assert summary(ended, image="web", endpoints=[], networks=networks)["Ports"] == []
    again = one.becomes(Status.RESTARTING, exit_code=1, finished=100.0)
    assert status_text(again, 101.0) == "Restarting (1) 1 second ago"
    assert Restart().name == "no"


def test_frames() -> None:
    assert frame_bytes(Frame(2, b"abc"), tty=False) == b"\x02\0\0\0\0\0\0\x03abc"
    assert frame_bytes(Frame(1, b"abc"), tty=True) == b"abc"


def test_detach_keys() -> None:
    assert parse_keys("") == b"\x10\x11"
    assert parse_keys("a,ctrl-x,ctrl-[") == b"a\x18\x1b"
    with pytest.raises(Invalid, match="invalid detach keys"):
        parse_keys("ctrl-1")


@given(st.lists(st.binary(max_size=6), max_size=8))
def test_typed_bytes_go_on_in_order_up_to_the_keys(chunks: list[bytes]) -> None:
    watch, passed, detached = KeyWatch(b"pq"), b"", False
    for chunk in chunks:
        onward, detached = watch.feed(chunk)
        passed += onward
        if detached:
            break
    typed = b"".join(chunks)
    assert detached == (b"pq" in typed)
    if detached:
        assert passed == typed.partition(b"pq")[0]
    else:
        assert typed.startswith(passed)
        assert typed[len(passed) :] in (b"", b"p")


def test_paths_are_absolute() -> None:
    assert Paths().container_state("x") == Path("/var/lib/fairlead/containers/x")
