"""The body that ``run`` and ``create`` send."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.cli import run
from fairlead.cli.container import exit_code_of
from fairlead.cli.flags import Usage


def body(line: str, *, attach: bool = True) -> dict[str, Any]:
    options, words = run.RUN.parse(line.split())
    return run.body(options, words, attach=attach)


def test_plain() -> None:
    wanted = body("nginx")
    assert wanted["Image"] == "nginx"
    assert "Cmd" not in wanted
    assert "Entrypoint" not in wanted
    assert (wanted["AttachStdin"], wanted["AttachStdout"], wanted["AttachStderr"]) == (False, True, True)
    assert wanted["HostConfig"]["NetworkMode"] == "default"
    assert wanted["NetworkingConfig"] == {"EndpointsConfig": {}}


def test_detached_interactive_with_terminal() -> None:
    wanted = body("-dit --name a1 alpine ash -x", attach=False)
    assert wanted["Cmd"] == ["ash", "-x"]
    assert wanted["Tty"]
    assert wanted["OpenStdin"]
    assert not wanted["StdinOnce"]
    assert not wanted["AttachStdout"]


def test_attach_chooses_streams() -> None:
    wanted = body("-a stdout -i alpine")
    assert (wanted["AttachStdin"], wanted["AttachStdout"], wanted["AttachStderr"]) == (False, True, False)
    with pytest.raises(Usage, match="invalid --attach"):
        body("-a stdfoo alpine")


def test_ports_and_expose() -> None:
    wanted = body("-p 8081:80 -p 127.0.0.1:8082:80 --expose 90/udp -P nginx")
    assert wanted["ExposedPorts"] == {"80/tcp": {}, "90/udp": {}}
    assert wanted["HostConfig"]["PortBindings"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8081"}, {"HostIp": "127.0.0.1", "HostPort": "8082"}]
    }
    assert wanted["HostConfig"]["PublishAllPorts"]


def test_network_options_belong_to_the_first_network() -> None:
    wanted = body("--network a --ip 10.0.0.2 --network-alias x --network name=b,ip=10.1.0.2 alpine")
    assert wanted["HostConfig"]["NetworkMode"] == "a"
    assert wanted["NetworkingConfig"]["EndpointsConfig"] == {
        "a": {"IPAMConfig": {"IPv4Address": "10.0.0.2"}, "Aliases": ["x"]},
        "b": {"IPAMConfig": {"IPv4Address": "10.1.0.2"}},
    }
    assert body("--network host alpine")["NetworkingConfig"]["EndpointsConfig"] == {}
    with pytest.raises(Usage, match="given more than once"):
        body("--network a --network a alpine")
    with pytest.raises(Usage, match="given twice"):
        body("--network name=a,ip=10.0.0.3 --ip 10.0.0.2 alpine")


def test_host_config() -> None:
    config = body(
        "-v /a:/b:ro --mount type=tmpfs,dst=/t --tmpfs /run:size=1m --restart on-failure:2 --memory 64m --cpus 0.5 "
        "--cap-add NET_ADMIN --cap-drop ALL --read-only --dns 10.0.0.1 --add-host a:1.2.3.4 --pids-limit 10 --init "
        "--shm-size 1m --sysctl net.x=1 alpine"
    )["HostConfig"]
    assert config["Binds"] == ["/a:/b:ro"]
    assert config["Tmpfs"] == {"/run": "size=1m"}
    assert config["Mounts"] == [{"Type": "tmpfs", "Target": "/t"}]
    assert config["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 2}
    assert config["Memory"] == 64 << 20
    assert config["NanoCpus"] == 500_000_000
    assert config["CapAdd"] == ["NET_ADMIN"]
    assert config["CapDrop"] == ["ALL"]
    assert config["ReadonlyRootfs"]
    assert config["Init"]
    assert config["PidsLimit"] == 10
    assert config["ExtraHosts"] == ["a:1.2.3.4"]
    assert config["Sysctls"] == {"net.x": "1"}
    assert config["ShmSize"] == 1 << 20


def test_rm_and_restart_exclude_each_other() -> None:
    with pytest.raises(Usage, match="exclude each other"):
        body("--rm --restart always alpine")


def test_entrypoint_may_be_emptied() -> None:
    options, words = run.RUN.parse(["--entrypoint", "", "alpine"])
    assert run.body(options, words, attach=True)["Entrypoint"] == [""]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('exec: "x": executable file not found in $PATH', 127),
        ("exec: /x: no such file or directory", 127),
        ('exec: "/etc/passwd": permission denied', 126),
        ("exec: /etc: is a directory", 126),
        ("port is already allocated", 125),
    ],
)
def test_exit_codes(text: str, code: int) -> None:
    assert exit_code_of(text, 125) == code
