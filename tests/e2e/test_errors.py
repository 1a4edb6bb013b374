"""Every mistake a user can make gets one clear sentence and the right exit code, and leaves nothing behind."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_lab import works
from lab import FAIRLEAD, Host, images

NETWORK = "network create n --subnet"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        one.sh(f"""
            {FAIRLEAD} network create net --subnet 10.0.0.0/24 --aux-address router=10.0.0.9
            {FAIRLEAD} network create inner --subnet 10.1.0.0/24 --internal
            {FAIRLEAD} netns add ns0
            {FAIRLEAD} network connect net ns0 --ip 10.0.0.5
            {FAIRLEAD} run -d --name web -p 8081:80 alpine sleep 600
            ip link add br7 type bridge
            ip netns add theirs
        """)
        server = one.popen("python3", "-m", "http.server", "9000", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        one.sh("for i in $(seq 100); do curl -sf -o /dev/null localhost:9000 && exit; sleep 0.05; done; exit 1")
        yield one
        server.kill()
        server.wait()


CASES = [
    # command, exit code, what the sentence says
    ("run --rm nosuch", 125, "nosuch"),
    ("run --rm alpine nosuch", 127, 'exec: "nosuch": executable file not found in $PATH'),
    ("run --rm alpine /etc/passwd", 126, "permission denied"),
    ("run --name web alpine", 125, 'The container name "/web" is already in use by container'),
    ("run --name -x alpine", 125, "-x"),
    ("run --network nosuch alpine", 125, "nosuch"),
    ("run -p 8081:80 --rm alpine true", 125, "Bind for 0.0.0.0:8081/tcp failed: port is already allocated"),
    ("run -p 9000:80 --rm alpine true", 125, "port 0.0.0.0:9000/tcp is in use by another program on this host"),
    ("run -p 203.0.113.1:1:80 --rm alpine true", 125, "this host has no address 203.0.113.1"),
    ("run -p 70000:80 alpine", 125, "the host port is a number from 1 to 65535"),
    ("run -p 8000-8001:80-82 alpine", 125, "the host range and the container range differ in length"),
    ("run -p 8081-8081:80 --rm alpine true", 125, "port is already allocated (to container"),
    ("run -p 8081-8082:80 -p 8082:81 --rm alpine true", 125, "port is already allocated (to this request)"),
    ("run -p 9000-9001:80 -p 9000-9001:81 --rm alpine true", 125, "all tcp ports from 9000 to 9001 are already"),
    ("run -p 203.0.113.1:8000-8005:80 --rm alpine true", 125, "this host has no address 203.0.113.1"),
    ("run -p 203.0.113.1::80 --rm alpine true", 125, "this host has no address 203.0.113.1"),
    ("run -p [2001:db8::5]:1:80 --rm alpine true", 125, "this host has no address 2001:db8::5"),
    ("run -p localhost:8000:80 alpine", 125, "'localhost' is no address of the host"),
    ("run -p 80/icmp alpine", 125, "the protocol is one of tcp, udp, sctp"),
    ("port web 81", 1, "no public port '81/tcp' published for web"),
    ("run --no-such-option alpine", 125, "--no-such-option"),
    ("run", 125, "needs at least 1 argument"),
    (
        "run --network net --ip 10.9.9.9 --rm alpine true",
        125,
        "10.9.9.9 is not in the subnet 10.0.0.0/24 of network net",
    ),
    (
        "run --network-alias x --rm alpine true",
        125,
        "network-scoped alias is supported only for containers in user defined networks",
    ),
    (
        "network connect --alias x bridge ns0",
        1,
        "network-scoped alias is supported only for containers in user defined networks",
    ),
    ("run -v /x:relative alpine", 125, "the target must be an absolute path"),
    ("exec nosuch true", 1, "No such container: nosuch"),
    ("start nosuch", 1, "No such container: nosuch"),
    ("stop nosuch", 1, "No such container: nosuch"),
    ("rm web", 1, "web"),
    ("logs nosuch", 1, "No such container: nosuch"),
    ("inspect nosuch", 1, "nosuch"),
    ("kill -s NOSUCH web", 1, "NOSUCH"),
    ("nosuch", 2, "nosuch"),
    ("network create net", 1, "network with name net already exists"),
    (
        "network create n --driver nosuch",
        1,
        'plugin "nosuch" not found: the network drivers here are bridge, host, ipvlan, macvlan, null',
    ),
    ("network create n -o nosuch=1", 1, "option 'nosuch' is unknown to the driver bridge; known are:"),
    (f"{NETWORK} 10.0.0.128/25", 1, "subnet 10.0.0.128/25 overlaps with 10.0.0.0/24 of network net"),
    (f"{NETWORK} 198.51.100.0/25", 1, "which this host has a route to"),
    (f"{NETWORK} 10.5.0.1/24", 1, "10.5.0.1/24"),
    (f"{NETWORK} nonsense", 1, "nonsense"),
    (f"{NETWORK} 10.5.0.0/24 --gateway 10.6.0.1", 1, "gateway 10.6.0.1 is not in the subnet 10.5.0.0/24"),
    (f"{NETWORK} 10.5.0.0/24 --ip-range 10.6.0.0/28", 1, "range 10.6.0.0/28 is not within the subnet 10.5.0.0/24"),
    ("network create n -o com.docker.network.bridge.name=abcdefghijklmnop", 1, "16 bytes: 1 to 15 are allowed"),
    ("network create n -o com.docker.network.bridge.name=br7", 1, "bridge br7 is there already, but down"),
    ("network create n -o com.docker.network.bridge.name=eth0", 1, "bridge name eth0 is taken by an interface"),
    ("network rm bridge", 1, "bridge is a pre-defined network and cannot be removed"),
    ("network rm net", 1, "network net has active endpoints: disconnect ns0 first"),
    ("network rm nosuch", 1, "network nosuch not found"),
    ("network inspect nosuch", 1, "nosuch"),
    ("network connect net nosuch", 1, "nosuch"),
    ("network connect nosuch ns0", 1, "network nosuch not found"),
    ("network connect net ns0", 1, "ns0 is already connected to network net"),
    ("network connect host ns0", 1, "the host network has no endpoints"),
    ("network connect net web --ip 10.0.0.5", 1, "address 10.0.0.5 is already in use by ns0"),
    ("network connect net web --ip 10.0.0.1", 1, "address 10.0.0.1 is reserved: it is the gateway of network net"),
    ("network connect net web --ip 10.0.0.9", 1, "address 10.0.0.9 is reserved as auxiliary address router"),
    ("network connect net web --ip nonsense", 1, "nonsense"),
    ("network disconnect inner ns0", 1, "ns0 is not connected to network inner"),
    ("netns add ns0", 1, "network namespace ns0 already exists"),
    ("netns add theirs", 1, "Fairlead did not make it"),
    ("netns add ../x", 1, "../x"),
    ("netns rm nosuch", 1, "nosuch"),
    ("netns exec nosuch true", 1, "nosuch"),
    ("netns exec ns0 nosuch", 127, "nosuch"),
    ("link add ns0/much-too-long-name nosuch/b", 1, "nosuch"),
    ("link add ns0/much-too-long-name ns0/b", 1, "has 18 bytes: 1 to 15 are allowed"),
    ("link add ns0/eth0 ns0/b", 1, "ns0 already has an interface eth0"),
    ("link rm nosuch", 1, "nosuch"),
    ("image rm nosuch", 1, "nosuch"),
    ("image inspect nosuch", 1, "nosuch"),
    ("image load -i /nosuch.tar", 1, "/nosuch.tar"),
    ("image pull 127.0.0.1:1/x", 1, "127.0.0.1:1"),
]


if not works("python3 -c 'import socket; socket.socket(2, 1, 132)'"):
    CASES.append(
        ("run -p 5000:80/sctp --rm alpine true", 125, "5000/sctp cannot be published: this host's kernel has no")
    )


def everything(host: Host) -> str:
    """What there is of links (by name and MAC: a carrier comes and goes by itself), namespaces, containers, rules."""
    return host.sh(
        f"""ip -br link | awk '{{ print $1, $3 }}' | sort
        ls /run/netns {host.run_dir}/netns {host.state}/containers {host.run_dir}/containers
        nft list table inet fairlead; grep -c overlay /proc/self/mounts; {FAIRLEAD} network ls; {FAIRLEAD} ps -aq"""
    )


@pytest.mark.parametrize(("line", "code", "sentence"), CASES, ids=[case[0] for case in CASES])
def test_one_sentence(host: Host, line: str, code: int, sentence: str) -> None:
    before = everything(host)
    done = host.fairlead(*line.split(), check=False)
    assert sentence in done.stderr, done.stderr
    assert done.returncode == code, done.stderr
    said = [one for one in done.stderr.splitlines() if one.startswith("fairlead: ")]
    assert len(said) == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert everything(host) == before


def test_exec_of_what_the_container_does_not_have(host: Host) -> None:
    done = host.fairlead("exec", "web", "nosuch", check=False)
    assert done.returncode == 126
    assert done.stderr.endswith('exec: "nosuch": executable file not found in $PATH\n')


def test_a_missing_program_is_named(host: Host, tmp_path: Path) -> None:
    with Host() as other:
        other.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        other.sh("for p in crun conmon; do mount --bind /dev/null $(command -v $p); done")
        done = other.fairlead("run", "--rm", "alpine", "true", check=False)
        assert done.returncode in (125, 126)
        assert "conmon" in done.stderr or "crun" in done.stderr
        assert other.fairlead("ps", "-aq").stdout == ""


def test_without_root(host: Host) -> None:
    command = ["setpriv", "--reuid=65534", "--clear-groups", FAIRLEAD, "daemon"]
    done = host.run(*command, check=False)
    if not done.stderr.startswith("fairlead: "):
        pytest.skip("another user cannot read this checkout")
    assert done.returncode == 1
    assert (
        done.stderr == "fairlead: the daemon must run as root: it makes network namespaces, links and firewall rules\n"
    )


def test_an_unreachable_daemon(host: Host) -> None:
    done = host.sh(f"FAIRLEAD_HOST=unix:///nowhere/x.sock {FAIRLEAD} ps 2>&1; echo $?").splitlines()
    assert done[0].startswith("fairlead: ")
    assert "/nowhere/x.sock" in done[0]
    assert done[-1] == "1"


def test_a_full_disk(tmp_path: Path) -> None:
    with Host() as host:
        host.sh(f"mkdir -p {host.state}; mount -t tmpfs -o size=4m tmpfs {host.state}")
        host.fairlead("network", "ls")
        host.sh(f"dd if=/dev/zero of={host.state}/filler bs=4k 2>/dev/null || true")
        done = host.fairlead("image", "load", "-i", str(images() / "nginx.tar"), check=False)
        assert done.returncode == 1
        assert "no space left" in done.stderr.lower()
        codes = {host.fairlead("netns", "add", f"n{i}", check=False).returncode for i in range(400)}
        assert codes <= {0, 1}
        if 1 in codes:
            refused = host.fairlead("netns", "add", "last", check=False)
            assert "no space left for the state" in refused.stderr
            assert "last" not in host.sh("ip netns ls")
        host.sh(f"rm {host.state}/filler")
        host.fairlead("netns", "add", "after")
        assert "after" in host.sh("ip netns ls")


def test_on_a_full_disk_things_can_be_stopped_and_removed(tmp_path: Path) -> None:
    with Host() as host:
        host.sh(f"mkdir -p {host.state}; mount -t tmpfs -o size=30m tmpfs {host.state}")
        host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        for name in ("one", "two", "three"):
            host.fairlead("run", "-d", "--name", name, "alpine", "sleep", "600")
        host.fairlead("network", "create", "net")
        host.sh(f"cp /dev/zero {host.state}/filler 2>/dev/null || true")
        refused = host.fairlead("network", "create", "more", check=False)
        assert (refused.returncode, refused.stderr) == (
            1,
            f"fairlead: no space left for the state in {host.state}: free some and try again\n",
        )
        host.fairlead("stop", "-t", "0", "one")
        host.fairlead("rm", "one")
        host.fairlead("kill", "two")
        host.fairlead("rm", "-f", "two", "three")
        host.fairlead("network", "rm", "net")
        host.fairlead("image", "rm", "alpine")
        assert host.fairlead("ps", "-aq").stdout == host.fairlead("image", "ls", "-q").stdout == ""
        host.fairlead("network", "create", "more")  # The image has made room.
        host.sh(f"rm {host.state}/filler; kill -9 $(cat {host.run_dir}/daemon.pid)")
        assert "more" in host.fairlead("network", "ls").stdout
        assert host.sh(f"stat -c %s {host.state}/fairlead.reserve") == f"{1 << 20}\n"
