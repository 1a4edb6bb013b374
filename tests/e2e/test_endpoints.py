"""Endpoints by the command line, the API and docker: what was asked for is so in the kernel, and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from lab import FAIRLEAD, Host, images

SYSCTLS = "com.docker.network.endpoint.sysctls"
IFNAME = "com.docker.network.endpoint.ifname"


class Lab(Host):
    """A host with the image alpine and the networks ``u`` and ``v``; containers are removed by the fixture."""

    def __init__(self) -> None:
        super().__init__()
        self.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        self.fairlead("network", "create", "--subnet", "10.1.0.0/16", "--ipv6", "--subnet", "fd00:1::/64", "u")
        self.fairlead("network", "create", "--subnet", "10.2.0.0/16", "v")

    def start(self, name: str, *options: str) -> None:
        """Run a container that sleeps."""
        self.fairlead("run", "-d", "--name", name, *options, "alpine", "sleep", "1000")

    def docker(self, *words: str, check: bool = True) -> Any:
        """Docker's own command line."""
        return self.run("docker", "-H", self.environment["FAIRLEAD_HOST"], *words, check=check)

    def inside(self, name: str, *command: str) -> str:
        """What a program in a container prints."""
        return self.fairlead("exec", name, *command).stdout

    def links(self, name: str) -> dict[str, Any]:
        """The links of a container, with their addresses."""
        path = self.fairlead("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", name).stdout.strip()
        found = json.loads(self.run("nsenter", f"--net={path}", "ip", "-j", "addr").stdout)
        return {link["ifname"]: link for link in found}

    def addresses(self, name: str, link: str = "eth0") -> list[str]:
        """The addresses of one link, without the kernel's own."""
        return [a["local"] for a in self.links(name)[link]["addr_info"] if not a["local"].startswith("fe80::")]

    def route(self, name: str) -> str:
        """The default route."""
        lines = self.inside(name, "ip", "route").splitlines()
        return next((line.strip() for line in lines if line.startswith("default")), "")

    def shown(self, name: str, network: str) -> dict[str, Any]:
        """The endpoint in ``inspect``."""
        found: dict[str, Any] = self.json(FAIRLEAD, "inspect", name)[0]["NetworkSettings"]["Networks"][network]
        return found

    def refused(self, *words: str) -> str:
        """What a command that must fail says; it leaves no link."""
        links = "ip -br link | awk '{ print $1, $3 }'"  # Without the state: a bridge notes later that a port has gone.
        before = self.sh(links)
        done = self.fairlead(*words, check=False)
        assert done.returncode
        assert self.sh(links) == before
        return done.stderr


@pytest.fixture(scope="module")
def whole() -> Iterator[Lab]:
    with Lab() as one:
        yield one


@pytest.fixture
def lab(whole: Lab) -> Iterator[Lab]:
    yield whole
    whole.sh(f"{FAIRLEAD} ps -aq | xargs -r {FAIRLEAD} rm -f")


EVERYTHING = (
    "name=u,ip=10.1.7.7,ip6=fd00:1::77,mac-address=02:00:00:00:00:77,alias=one,alias=two,link-local-ip=169.254.7.7,"
    f'gw-priority=3,driver-opt={IFNAME}=lan7,"driver-opt={SYSCTLS}='
    'net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.conf.IFNAME.rp_filter=2"'
)


@pytest.mark.parametrize("by", ["fairlead", "docker"])
def test_all_that_a_network_flag_can_say(lab: Lab, by: str) -> None:
    run = lab.fairlead if by == "fairlead" else lab.docker
    run("run", "-d", "--name", "c", "--network", "v", "--network", EVERYTHING, "alpine", "sleep", "1000")
    link = lab.links("c")["lan7"]
    assert link["address"] == "02:00:00:00:00:77"
    assert {"10.1.7.7", "fd00:1::77", "169.254.7.7"} <= {address["local"] for address in link["addr_info"]}
    assert lab.addresses("c") == ["10.2.0.2"]
    assert lab.route("c").endswith("10.1.0.1 dev lan7")
    settings = ("log_martians", "rp_filter")
    assert [lab.inside("c", "cat", f"/proc/sys/net/ipv4/conf/lan7/{name}") for name in settings] == ["1\n", "2\n"]
    shown = lab.shown("c", "u")
    assert shown["GwPriority"] == 3
    assert shown["Aliases"] == ["one", "two"]
    assert shown["IPAMConfig"] == {
        "IPv4Address": "10.1.7.7",
        "IPv6Address": "fd00:1::77",
        "LinkLocalIPs": ["169.254.7.7"],
    }
    assert shown["DriverOpts"][IFNAME] == "lan7"
    assert "10.1.7.7" in lab.inside("c", "nslookup", "two")


@pytest.mark.parametrize("by", ["fairlead", "docker"])
def test_connect_says_the_same(lab: Lab, by: str) -> None:
    lab.start("web", "--network", "u")
    lab.start("c", "--network", "v")
    command = ["network", "connect", "--ip", "10.1.7.8", "--ip6", "fd00:1::78", "--alias", "three"]
    command += ["--link", "web:db", "--link-local-ip", "169.254.7.8", "--gw-priority", "5"]
    command += ["--driver-opt", f"{IFNAME}=lan8", "--driver-opt", f"{SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1"]
    (lab.fairlead if by == "fairlead" else lab.docker)(*command, "u", "c")
    assert lab.addresses("c", "lan8") == ["10.1.7.8", "169.254.7.8", "fd00:1::78"]
    assert lab.route("c").endswith("10.1.0.1 dev lan8")
    assert lab.inside("c", "cat", "/proc/sys/net/ipv4/conf/lan8/log_martians") == "1\n"
    assert "10.1.0.2" in lab.inside("c", "nslookup", "db")
    assert "10.1.7.8\t" in lab.inside("c", "cat", "/etc/hosts")
    lab.fairlead("network", "disconnect", "u", "c")
    assert lab.route("c").endswith("10.2.0.1 dev eth0")
    assert "10.1.7.8" not in lab.inside("c", "cat", "/etc/hosts")
    assert "lan8" not in lab.links("c")


def test_options_for_the_first_network(lab: Lab) -> None:
    options = ("--ip", "10.1.9.9", "--ip6", "fd00:1::99", "--link-local-ip", "169.254.9.9")
    mac = "02:00:00:00:00:99"
    lab.start("c", "--network", "u", *options, "--mac-address", mac, "--network-alias", "nine")
    assert lab.addresses("c") == ["10.1.9.9", "169.254.9.9", "fd00:1::99"]
    assert lab.links("c")["eth0"]["address"] == mac
    assert "10.1.9.9" in lab.inside("c", "nslookup", "nine")


def test_the_steps_are_shown_before(lab: Lab) -> None:
    option = f"driver-opt={SYSCTLS}=net.ipv4.conf.IFNAME.log_martians=1"
    lines = lab.fairlead("run", "--explain", "--network", f"name=u,{option}", "alpine", "true").stdout
    assert "sysctl -qw net/ipv4/conf/eth0/log_martians=1" in lines
    assert "sysctl -qw net/ipv4/conf/eth0/arp_notify=1" in lines
    assert "sysctl -eqw net/ipv6/conf/eth0/ndisc_notify=1" in lines


def test_what_is_not_allowed(lab: Lab) -> None:
    lab.start("c", "--network", "u", "--mac-address", "02:00:00:00:00:01")
    lab.fairlead("create", "--name", "d", "alpine", "true")
    connect = ("network", "connect")
    cases = {
        (*connect, "--mac-address", "02:00:00:00:00:01", "u", "d"): "",
        ("run", "--network", "name=u,speed=9", "alpine", "true"): "'speed' is not understood",
        ("run", "--network", "name=u,gw-priority=high", "alpine", "true"): "a whole number is needed",
        ("run", "--network", "u", "--ip", "10.9.9.9", "alpine", "true"): "is not in the subnet",
        ("run", "--network", "u", "--link-local-ip", "10.1.1.1", "alpine", "true"): "is not link-local",
        ("run", "--network", "u", "--mac-address", "02:00:00:00:00:01", "alpine", "true"): "is already in use by",
        ("run", "--network-alias", "x", "alpine", "true"): "supported only for containers in user defined networks",
        ("run", "--network", "nowhere", "alpine", "true"): "network nowhere not found",
        (*connect, "--link", "a:b:c", "v", "c"): "bad format for links",
        (*connect, "--driver-opt", f"{SYSCTLS}=net.ipv4.ip_forward=1", "v", "c"): "is not allowed",
        (*connect, "--driver-opt", f"{IFNAME}=eth0", "v", "c"): "already has an interface eth0",
        (*connect, "--driver-opt", "com.docker.network.speed=9", "v", "c"): "'com.docker.network.speed' is unknown",
    }
    for command, sentence in cases.items():
        if sentence:
            assert sentence in lab.refused(*command), command
        else:
            lab.fairlead(*command)  # A container that does not run is told when it starts…
    assert "MAC address 02:00:00:00:00:01 is already in use by" in lab.refused("start", "d")


def test_docker_does_not_pull_for_a_network(lab: Lab) -> None:
    done = lab.docker("run", "--rm", "--network", "nowhere", "alpine", "true", check=False)
    assert done.returncode == 125
    assert "network nowhere not found" in done.stderr
    assert "Unable to find image" not in done.stderr


def test_the_same_again_after_a_stop(lab: Lab) -> None:
    lab.start("other", "--network", "u")
    lab.start("c", "--network", "u")
    before = lab.links("c")["eth0"]["address"], lab.addresses("c")
    lab.fairlead("rm", "-f", "other")
    lab.fairlead("restart", "-t0", "c")
    assert (lab.links("c")["eth0"]["address"], lab.addresses("c")) == before
    lab.fairlead("stop", "-t0", "c")
    lab.start("other", "--network", "u", "--ip", before[1][0])
    lab.fairlead("start", "c")
    assert lab.links("c")["eth0"]["address"] == before[0]
    assert before[1][0] not in lab.addresses("c")


# Links


def test_a_link_on_the_default_bridge(lab: Lab) -> None:
    lab.start("web", "--hostname", "webhost", "--expose", "80")
    lab.start("c", "--link", "web:db")
    (address,) = lab.addresses("web")
    assert f"{address}\tdb webhost web\n" in lab.inside("c", "cat", "/etc/hosts")
    assert f"DB_PORT_80_TCP_ADDR={address}\n" in lab.inside("c", "env")
    assert lab.json(FAIRLEAD, "inspect", "c")[0]["HostConfig"]["Links"] == ["/web:/c/db"]
    lab.fairlead("stop", "-t0", "web")
    lab.start("thief")
    assert lab.addresses("thief") == [address]
    lab.fairlead("start", "web")
    (moved,) = lab.addresses("web")
    assert moved != address
    hosts = lab.inside("c", "cat", "/etc/hosts")
    assert f"{moved}\tdb webhost web\n" in hosts
    assert address not in hosts
    assert lab.fairlead("exec", "c", "ping", "-c1", "-W1", "db").returncode == 0
    lab.fairlead("stop", "-t0", "web", "c")
    assert "Cannot link to a non running container: /web AS /c/db" in lab.refused("start", "c")


def test_a_link_by_docker_and_in_a_network(lab: Lab) -> None:
    lab.start("web", "--network", "u")
    said = lab.docker("run", "--rm", "--network", "u", "--link", "web:db", "alpine", "nslookup", "db").stdout
    assert lab.addresses("web")[0] in said
    lab.start("c", "--network", "u", "--link", "later:db")
    assert lab.fairlead("exec", "c", "nslookup", "db", check=False).returncode, "nobody, until somebody comes"
    lab.start("later", "--network", "u")
    assert lab.addresses("later")[0] in lab.inside("c", "nslookup", "db")


def test_links_that_cannot_be(lab: Lab) -> None:
    lab.start("web", "--network", "u")
    lab.start("local", "--network", "host")
    cases = {
        ("--link", "nobody"): "could not get container for nobody: No such container: nobody",
        ("--link", "a:b:c"): "bad format for links: a:b:c",
        ("--link", "web:db"): "Cannot link to /web, as it does not belong to the default network",
        ("--link", "local:db"): "host type networking can't be used with links",
        ("--network", "host", "--link", "web:db"): "host type networking can't be used with links",
    }
    for options, sentence in cases.items():
        assert sentence in lab.refused("run", "--rm", *options, "alpine", "true"), options
