"""The shell scripts of examples/ do on a throwaway host what they say, and leave nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import FAIRLEAD, Host

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with alpine.tar and nginx.tar."""
    directory = tmp_path_factory.mktemp("images")
    subprocess.run([ROOT / "scripts/build-images", directory], check=True, capture_output=True, timeout=120)
    return directory


@pytest.fixture
def host() -> Iterator[Host]:
    with Host() as host:
        host.environment["PATH"] = f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"
        yield host


def links(host: Host) -> set[str]:
    return {link["ifname"] for link in host.json("ip", "-json", "link")}


def run(host: Host, script: str) -> str:
    return host.run("sh", str(ROOT / "examples" / script)).stdout


def test_two_namespaces(host: Host) -> None:
    output = run(host, "1-two-namespaces.sh")
    assert output.count("1 packets transmitted, 1 received") == 2
    assert "172.0.0.2/24" in output
    assert set(host.sh("ip netns ls").split()) & {"ns0", "ns1"} == set()


def test_three_on_a_bridge(host: Host) -> None:
    output = run(host, "2-three-on-a-bridge.sh")
    assert output.count("1 packets transmitted, 1 received") == 9
    assert "br0" not in links(host)


def test_three_on_a_bridge_behind_a_firewall_that_drops(host: Host) -> None:
    """The puzzle of the example: iptables drops what passes the bridge; afterwards its rules are as before."""
    host.sh("iptables -P FORWARD DROP && sysctl -qw net.bridge.bridge-nf-call-iptables=1")
    host.fairlead("network", "ls")  # starts the daemon, whose default network has accept rules of its own
    before = host.sh("iptables-save | grep -v '^#'")
    output = run(host, "2-three-on-a-bridge.sh")
    assert output.count("1 packets transmitted, 1 received") == 9
    assert "-P FORWARD DROP" in output
    without_counters = re.compile(r"\[\d+:\d+\]")
    assert without_counters.sub("", host.sh("iptables-save | grep -v '^#'")) == without_counters.sub("", before)


def test_published_port(host: Host, images: Path) -> None:
    host.fairlead("image", "load", "-i", str(images / "nginx.tar"))
    output = run(host, "3-published-port.sh")
    for address in ("localhost", "[::1]", "198.51.100.2"):
        assert re.search(rf"^http://{re.escape(address)}:8081/? answered 200$", output, re.MULTILINE), output
    assert '"IPAddress": "172.17.0.2"' in output
    assert host.fairlead("ps", "-aq").stdout == ""


def test_two_containers(host: Host, images: Path) -> None:
    host.fairlead("image", "load", "-i", str(images / "alpine.tar"))
    output = run(host, "4-two-containers.sh")
    assert len(re.findall(r"\b1 packets received", output)) == 2, output
    assert re.search(r"^veth\S*@if\d+", output, re.MULTILINE)
    assert host.fairlead("ps", "-aq").stdout == ""
