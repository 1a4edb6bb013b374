"""A driver in a package of its own, as docs/drivers.md describes it: installed, used by the commands, conforming."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from lab import FAIRLEAD, ROOT, Host, images

from fairlead.drivers.conformance import Case, Pool, check

EXAMPLE = ROOT / "examples" / "driver"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which pip has installed the example."""
    directory = tmp_path_factory.mktemp("example")
    source = shutil.copytree(EXAMPLE, directory / "source")  # As setuptools builds in the source's directory.
    pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-index", "--no-deps"]
    command = [*pip, "--no-build-isolation", "--target", directory / "site", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return directory / "site"


@pytest.fixture
def host(site: Path) -> Iterator[Host]:
    with Host() as one:
        one.environment["PYTHONPATH"] = str(site)
        yield one


REACHES = ("host", "outside", "published")
CASES = {
    "plain": Case(driver="ptp", reaches=REACHES, refuses=({"open": "maybe"}, {"open": ""}, {"parent": "eth0"})),
    "open": Case(driver="ptp", options={"open": "true"}, reaches=(*REACHES, "neighbour")),
    "internal": Case(driver="ptp", internal=True, reaches=("host",)),
    "IPv6 alone": Case(driver="ptp", pools=(Pool(subnet=ip_network("fd98::/64")),), reaches=REACHES),
}


@pytest.mark.parametrize("name", CASES)
def test_it_conforms(name: str, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    check(CASES[name])


def test_the_commands_know_it(host: Host) -> None:
    host.fairlead("image", "load", "-i", str(images() / "nginx.tar"))
    host.fairlead("network", "create", "-d", "ptp", "--ipv6", "--subnet", "10.9.0.0/24", "wires")
    (shown,) = host.json(FAIRLEAD, "network", "inspect", "wires")
    assert (shown["Driver"], shown["IPAM"]["Config"][0]["Gateway"]) == ("ptp", "10.9.0.1")
    lines = host.fairlead("run", "--explain", "--network", "wires", "nginx").stdout
    assert "ip route add 10.9.0.2/32 dev ptp" in lines
    host.fairlead("run", "-d", "--name", "web", "--network", "wires", "-p", "8081:80", "nginx")
    host.sh("ping -c1 -w5 10.9.0.2")
    curl = "curl -sf -o /dev/null --retry 20 --retry-connrefused --retry-delay 1 -m 20"
    for address in ("127.0.0.1", "198.51.100.2", "[::1]"):
        host.sh(f"{curl} {address}:8081")
    host.sh(f"ip netns exec internet {curl} 198.51.100.2:8081")
    host.fairlead("netns", "add", "ns0")
    host.fairlead("network", "connect", "wires", "ns0")
    host.sh("ip netns exec ns0 ping -c1 -w5 8.8.8.8")
    host.sh(f"ip netns exec ns0 {curl} 198.51.100.2:8081")
    assert host.run("ip", "netns", "exec", "ns0", "ping", "-c1", "-W1", "10.9.0.2", check=False).returncode
    assert "web" in host.sh("ip netns exec ns0 dig +short +tries=1 -x 10.9.0.2 @127.0.0.11"), "names work as anywhere"
    refused = host.fairlead("network", "create", "-d", "ptp", "-o", "open=maybe", "other", check=False)
    assert (refused.returncode, refused.stderr) == (1, "fairlead: option open=maybe: it must be true or false\n")
    host.fairlead("rm", "-f", "web")
    host.fairlead("netns", "rm", "ns0")
    host.fairlead("network", "rm", "wires")
    assert "ptp" not in host.sh("for i in $(seq 50); do ip -br link | grep -q ptp || break; sleep 0.1; done; ip link")
    assert "ptp" not in host.sh("nft list ruleset")


def test_without_the_package_its_networks_can_still_be_removed(host: Host) -> None:
    host.fairlead("network", "create", "-d", "ptp", "wires")
    host.fairlead("netns", "add", "ns0")
    host.fairlead("network", "connect", "wires", "ns0")
    assert "ptp" in host.sh("ip -br link")
    host.sh(
        f"kill $(cat {host.run_dir}/daemon.pid); while kill -0 $(cat {host.run_dir}/daemon.pid); do sleep 0.1; done"
    )
    del host.environment["PYTHONPATH"]
    refused = host.fairlead("network", "create", "-d", "ptp", "more", check=False)
    assert 'plugin "ptp" not found: the network drivers here are bridge, host, ipvlan, macvlan, null' in refused.stderr
    host.fairlead("netns", "add", "ns1")
    refused = host.fairlead("network", "connect", "wires", "ns1", check=False)
    assert 'network wires cannot be joined: plugin "ptp" not found' in refused.stderr
    host.fairlead("netns", "rm", "ns0")
    host.fairlead("network", "rm", "wires")
    assert "ptp" not in host.sh("for i in $(seq 50); do ip -br link | grep -q ptp || break; sleep 0.1; done; ip link")
