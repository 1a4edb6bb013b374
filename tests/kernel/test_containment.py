"""Every kind of network, every direction, both families, three kinds of host: is what answers what should answer?"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from containment import HOST, NEIGHBOUR, OUTSIDE, Lab, reaches, sources
from kernel_lab import assert_nothing_left, open_here, sh
from lab import INTERNET, ipv6_ready

INTERNET6 = f"""
sysctl -qw net.ipv6.conf.all.forwarding=0
ip addr add {HOST[6]}/64 dev eth0 nodad
ip -6 route add default via {NEIGHBOUR[6]}
ip -n internet addr add {NEIGHBOUR[6]}/64 dev eth0 nodad
ip -n internet addr add {OUTSIDE[6]}/128 dev lo
ip netns exec internet sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
"""


@pytest.fixture(params=["bare", "drops", "docker"])
def lab(request: pytest.FixtureRequest, fresh_kernel: None, tmp_path: Path) -> Iterator[Lab]:
    """The lab on a bare host, on one whose firewall drops what is forwarded, and beside a running Docker."""
    sh(INTERNET + INTERNET6 + ipv6_ready())
    docker = None
    if request.param == "drops":
        for setting in ("iptables", "ip6tables"):
            Path(f"/proc/sys/net/bridge/bridge-nf-call-{setting}").write_text("1")
            sh(f"{setting} -P FORWARD DROP")
    elif request.param == "docker":
        docker = _start_docker(tmp_path)
    engine = open_here(tmp_path)
    one = Lab(engine)
    try:
        yield one
    finally:
        one.close()
        if docker:
            docker.terminate()
            docker.wait(30)
    if request.param != "docker":  # Docker leaves its own bridge and rules behind.
        assert_nothing_left(engine)


def _start_docker(directory: Path) -> subprocess.Popen[bytes]:
    if not shutil.which("dockerd"):
        pytest.skip("docker.io is not installed")
    sock = directory / "docker.sock"
    log = (directory / "dockerd.log").open("wb")
    # It loads kernel modules on its own, and this is to change nothing but its own namespaces.
    command = f"""mount --bind /bin/true "$(readlink -f /sbin/modprobe)" 2>/dev/null
    mkdir -p /run/docker && mount -t tmpfs tmpfs /run/docker
    exec dockerd --host=unix://{sock} --data-root={directory}/docker --exec-root=/run/docker \
        --pidfile={directory}/docker.pid --bip=172.30.0.1/16 --exec-opt native.cgroupdriver=cgroupfs"""
    docker = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
    )
    for _ in range(300):
        if sock.exists() and "DOCKER" in sh("iptables -S FORWARD"):
            return docker
        assert docker.poll() is None, (directory / "dockerd.log").read_text()[-2000:]
        time.sleep(0.1)
    raise AssertionError("dockerd did not start")


def test_who_reaches_whom(lab: Lab) -> None:
    cells = [(source, version) for source in sources() for version in (4, 6)]
    with ThreadPoolExecutor(4) as pool:
        found = dict(zip(cells, pool.map(lambda cell: lab.probe(*cell), cells), strict=True))
    wrong = [
        f"IPv{version} {source} → {target}: {'answers' if answered else 'does not answer'}"
        for (source, version), row in found.items()
        for target, answered in row.items()
        if answered is not reaches(source, target)
    ]
    assert not wrong, "\n".join(wrong)
