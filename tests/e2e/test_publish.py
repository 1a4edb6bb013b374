"""Published ports by the command line: every form of -p and -P, what is shown of them, and what outlives the daemon."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host, has_ended, images

SERVE = ("httpd", "-f", "-p", "80", "-h", "/etc")


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.environment["DOCKER_HOST"] = one.environment["FAIRLEAD_HOST"]
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        yield one


@pytest.fixture
def web(host: Host) -> Iterator[Host]:
    yield host
    host.fairlead("rm", "-f", "web", check=False)


R = r"(?:3[3-9]\d{3}|32[89]\d\d|327[7-9]\d|3276[89]|[45]\d{4}|60\d{3})"
"""A port of ip_local_port_range."""

FORMS: list[tuple[str, list[str]]] = [
    # options; the lines of `fairlead port`, as patterns
    ("-p 8081:80", ["80/tcp -> 0.0.0.0:8081", "80/tcp -> [::]:8081"]),
    ("-p 80", [f"80/tcp -> 0.0.0.0:({R})", r"80/tcp -> [::]:\1"]),
    ("-p 0:80/udp", [f"80/udp -> 0.0.0.0:({R})", r"80/udp -> [::]:\1"]),
    ("-p 127.0.0.1::80", [f"80/tcp -> 127.0.0.1:{R}"]),
    ("-p 127.0.0.1:8081:80", ["80/tcp -> 127.0.0.1:8081"]),
    ("-p 0.0.0.0:8081:80", ["80/tcp -> 0.0.0.0:8081"]),
    ("-p [::1]:8081:80", ["80/tcp -> [::1]:8081"]),
    ("-p [::1]::80", [f"80/tcp -> [::1]:{R}"]),
    ("-p [::]:8081:80", ["80/tcp -> [::]:8081"]),
    ("-p 8000-8010:80", ["80/tcp -> 0.0.0.0:8000", "80/tcp -> [::]:8000"]),
    (
        "-p 8000-8010:80 -p 8000-8010:81 -p 8001:81/udp",
        [
            "80/tcp -> 0.0.0.0:8000",
            "80/tcp -> [::]:8000",
            "81/tcp -> 0.0.0.0:8001",
            "81/tcp -> [::]:8001",
            "81/udp -> 0.0.0.0:8001",
            "81/udp -> [::]:8001",
        ],
    ),
    (
        "-p 127.0.0.1:8000-8002:9000-9002",
        ["9000/tcp -> 127.0.0.1:8000", "9001/tcp -> 127.0.0.1:8001", "9002/tcp -> 127.0.0.1:8002"],
    ),
    ("-p 127.0.0.1:8081:80 -p 127.0.0.1:8082:80", ["80/tcp -> 127.0.0.1:8081", "80/tcp -> 127.0.0.1:8082"]),
    (
        "-P --expose 7000-7001 --expose 53/udp -p 127.0.0.1:8053:53/tcp",
        [
            "53/tcp -> 127.0.0.1:8053",
            f"53/udp -> 0.0.0.0:({R})",
            r"53/udp -> [::]:\1",
            f"7000/tcp -> 0.0.0.0:({R})",
            r"7000/tcp -> [::]:\2",
            f"7001/tcp -> 0.0.0.0:({R})",
            r"7001/tcp -> [::]:\3",
        ],
    ),
    ("--expose 80", []),
]


@pytest.mark.parametrize(("options", "wanted"), FORMS, ids=[form for form, _ in FORMS])
def test_a_form(web: Host, options: str, wanted: list[str]) -> None:
    web.fairlead("run", "-d", "--name", "web", *options.split(), "alpine", *SERVE)
    said = web.fairlead("port", "web").stdout
    assert web.run("docker", "port", "web").stdout == said
    pattern = "".join(f"{line}\n".replace("[::", r"\[::").replace("]:", r"\]:") for line in wanted)
    assert re.fullmatch(pattern, said), said
    shown: list[str] = []
    for port, bindings in sorted(inspect(web)["NetworkSettings"]["Ports"].items(), key=_order):
        shown += [f"{port} -> {_host(one['HostIp'])}:{one['HostPort']}" for one in bindings or ()]
    assert shown == said.splitlines()
    listed = [entry for entry in container(web)["Ports"] if "PublicPort" in entry]
    words = {f"{e['PrivatePort']}/{e['Type']} -> {_host(e['IP'])}:{e['PublicPort']}" for e in listed}
    assert words == set(shown)
    assert held_ports(web) == {f"{line.split()[2]}/{line.split()[0].partition('/')[2]}" for line in shown}
    if "80/tcp" in said:
        where = said.splitlines()[0].split()[2].replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")
        assert web.run("curl", "-sSm3", f"http://{where}/hostname").stdout


def held_ports(host: Host) -> set[str]:
    """The ports of this host that a socket waits on; one of both families is written with a star by ss."""
    held = {f"{words[4]}/{words[0]}" for words in map(str.split, host.sh("ss -Hlntu").splitlines())}
    return {port.replace("*", family) for port in held for family in ("0.0.0.0", "[::]")}


def _order(pair: tuple[str, Any]) -> tuple[int, str]:
    return int(pair[0].partition("/")[0]), pair[0]


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def inspect(host: Host) -> dict[str, Any]:
    return host.json(FAIRLEAD, "inspect", "web")[0]  # type: ignore[no-any-return]


def container(host: Host) -> dict[str, Any]:
    """As GET /containers/json lists it."""
    found = host.run("curl", "-s", "--unix-socket", f"{host.run_dir}/fairlead.sock", "x/containers/json").stdout
    return next(one for one in json.loads(found) if one["Names"] == ["/web"])  # type: ignore[no-any-return]


def test_what_is_exposed_and_asked_for_is_shown(web: Host) -> None:
    web.fairlead("run", "-d", "--name", "web", "--expose", "81", "-p", "8000-8010:80", "alpine", *SERVE)
    shown = inspect(web)
    assert shown["NetworkSettings"]["Ports"] == {
        "80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8000"}, {"HostIp": "::", "HostPort": "8000"}],
        "81/tcp": None,
    }
    assert shown["HostConfig"]["PortBindings"] == {"80/tcp": [{"HostIp": "", "HostPort": "8000-8010"}]}
    assert shown["Config"]["ExposedPorts"] == {"80/tcp": {}, "81/tcp": {}}
    listed = web.run("docker", "ps", "--format", "{{.Ports}}").stdout
    assert listed.split(", ")[0] == "81/tcp"
    assert listed.strip() in web.fairlead("ps").stdout
    for number, names in (("8000", "web\n"), ("8000/udp", ""), ("8005", "")):
        only = web.fairlead("ps", "-f", f"publish={number}", "--format", "{{.Names}}").stdout
        assert only == names, "the port that it has counts, not the range that was asked for"
    assert web.fairlead("port", "web", "80").stdout == "0.0.0.0:8000\n[::]:8000\n"
    refused = web.fairlead("port", "web", "81", check=False)
    assert (refused.returncode, refused.stderr) == (1, "fairlead: no public port '81/tcp' published for web\n")
    web.fairlead("stop", "-t", "0", "web")
    assert inspect(web)["NetworkSettings"]["Ports"] == {}
    assert web.fairlead("port", "web").stdout == ""


def test_ports_stay_published_when_networks_change(web: Host) -> None:
    def answers(number: str) -> bool:
        return web.run("curl", "-sf", "-m", "5", f"127.0.0.1:{number}/hostname", check=False).returncode == 0

    for number, name in enumerate(("one", "two")):
        web.fairlead("network", "create", name, "--subnet", f"10.7{number}.0.0/24")
    web.fairlead("run", "-d", "--name", "web", "--network", "one", "-p", "8081:80", "-p", "82", "alpine", *SERVE)
    assert answers("8081")
    web.fairlead("network", "disconnect", "one", "web")
    assert web.fairlead("port", "web").stdout == ""
    assert not {port for port in held_ports(web) if ":8081/" in port}
    web.fairlead("network", "connect", "one", "web")
    assert answers("8081")
    web.fairlead("network", "connect", "two", "web")
    lines = web.fairlead("network", "disconnect", "--explain", "one", "web").stdout
    assert "nft add element inet fairlead ports4_any '{ tcp . 8081 : 10.71.0.2 . 80 }'" in lines
    web.fairlead("network", "disconnect", "one", "web")
    assert answers("8081")
    assert re.search(rf"82/tcp -> 0.0.0.0:{R}", web.fairlead("port", "web").stdout)
    shown = web.fairlead("port", "web").stdout
    web.fairlead("network", "connect", "one", "web")
    assert web.fairlead("port", "web").stdout == shown, "they are where they are"
    web.fairlead("restart", "-t", "0", "web")
    assert answers("8081")
    web.fairlead("network", "disconnect", "two", "web")
    web.fairlead("network", "disconnect", "one", "web")
    assert not {port for port in held_ports(web) if ":8081/" in port}
    web.fairlead("rm", "-f", "web")
    web.fairlead("network", "rm", "one", "two")


def test_an_images_expose_is_published_by_P(web: Host, tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    subprocess.run(["tar", "-C", root, "-cf", tmp_path / "box.tar", "."], check=True)
    web.fairlead("image", "import", "-c", "EXPOSE 80 7000-7001/udp", str(tmp_path / "box.tar"), "exposing")
    web.fairlead("run", "-d", "--name", "web", "-P", "exposing", "/bin/busybox", "sleep", "100")
    ports = inspect(web)["NetworkSettings"]["Ports"]
    assert set(ports) == {"80/tcp", "7000/udp", "7001/udp"}
    numbers = [{binding["HostPort"] for binding in bindings} for bindings in ports.values()]
    assert [len(both) for both in numbers] == [1, 1, 1], "IPv4 and IPv6 share a number"
    web.fairlead("restart", "-t", "0", "web")
    assert set(inspect(web)["NetworkSettings"]["Ports"]) == set(ports)


def daemon_pid(host: Host) -> int:
    return int((host.run_dir / "daemon.pid").read_text())


def keepers(host: Host) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"{host.run_dir}/keeper.sock" in (process / "cmdline").read_bytes().decode(errors="replace").split("\0"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_without_the_daemon_ports_answer_and_are_held(web: Host, number: signal.Signals) -> None:
    web.fairlead("run", "-d", "--name", "web", "-p", "8081:80", "alpine", *SERVE)
    keeper = keepers(web)
    assert len(keeper) == 1
    pid = daemon_pid(web)
    os.kill(pid, number)
    while not has_ended(pid):
        time.sleep(0.02)
    for address in ("127.0.0.1", "[::1]", "198.51.100.2"):
        assert web.run("curl", "-sSm3", f"http://{address}:8081/hostname").stdout
    bind = web.run("python3", "-c", "import socket; socket.create_server(('', 8081))", check=False)
    assert "Address already in use" in bind.stderr
    assert keepers(web) == keeper
    web.fairlead("ps")  # starts the daemon again
    assert daemon_pid(web) != pid
    assert keepers(web) == keeper
    assert web.run("curl", "-sSm3", "http://[::1]:8081/hostname").stdout
    web.fairlead("rm", "-f", "web")
    assert web.sh("ss -Hlntu") == ""


def test_the_keeper_is_small_and_ends_with_a_reset() -> None:
    with Host() as host, Host() as other:
        for one in (host, other):
            one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
            assert keepers(one) == [], "not before the first port is published"
            one.fairlead("run", "-d", "--name", "web", "-p", "8000-8499:8000-8499", "alpine", *SERVE)
            assert len(keepers(one)) == 1, "one for all ports of an instance, and none for two instances"
        lines = Path(f"/proc/{keepers(host)[0]}/smaps_rollup").read_text().splitlines()
        (private,) = [int(line.split()[1]) for line in lines if line.startswith("Private_Dirty:")]
        assert private < 8000, "kB"
        host.fairlead("system", "reset", "-f")
        assert keepers(host) == []
        assert len(keepers(other)) == 1
        assert other.run("curl", "-sSm3", "http://127.0.0.1:8000/", check=False).returncode == 7, "nobody listens there"
