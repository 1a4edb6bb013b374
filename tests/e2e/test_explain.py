"""What `--explain` prints, typed by hand on a fresh host, builds what the command builds."""

from __future__ import annotations

import contextlib
import importlib
import json
import re
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host, images
from registry import REGISTRY, Registry

from fairlead.cli import _COMMANDS as COMMANDS

NAMESPACES = [
    ["netns", "add", "ns0"],
    ["netns", "add", "ns1"],
    ["link", "add", "ns0/vth0", "ns1/vth1", "--ip", "172.0.0.2/24", "--peer-ip", "172.0.0.3/24"],
]
BRIDGE = [
    ["netns", "add", "ns0"],
    ["netns", "add", "ns1"],
    ["network", "create", "br0", "--subnet", "10.0.0.0/24", "-o", "com.docker.network.bridge.name=br0"],
    ["network", "connect", "br0", "ns0", "--ip", "10.0.0.2"],
    ["network", "connect", "br0", "ns1"],
]


_OPTION = "com.docker.network."
OPTIONS = {
    "nat-unprotected": ["-o", f"{_OPTION}bridge.gateway_mode_ipv4=nat-unprotected"],
    "routed": ["-o", f"{_OPTION}bridge.gateway_mode_ipv4=routed", "-o", f"{_OPTION}bridge.gateway_mode_ipv6=routed"],
    "isolated": [
        "--internal",
        "-o",
        f"{_OPTION}bridge.gateway_mode_ipv4=isolated",
        "-o",
        f"{_OPTION}bridge.gateway_mode_ipv6=isolated",
    ],
    "internal": ["--internal"],
    "icc": ["-o", f"{_OPTION}bridge.enable_icc=false"],
    "masquerade": ["-o", f"{_OPTION}bridge.enable_ip_masquerade=false"],
    "source": ["-o", f"{_OPTION}host_ipv4=198.51.100.2", "-o", f"{_OPTION}host_ipv6=2001:db8::2"],
    "trusted": ["-o", f"{_OPTION}bridge.trusted_host_interfaces=eth0:wg0"],
    "inhibit": ["-o", f"{_OPTION}bridge.inhibit_ipv4=true"],
    "mtu": ["-o", f"{_OPTION}driver.mtu=1400"],
    "prefix": ["-o", f"{_OPTION}container_iface_prefix=lan"],
    "odd names": ["-o", f"{_OPTION}bridge.name=b;id>x'", "-o", f"{_OPTION}container_iface_prefix=e$x#"],
    "fe80": ["--gateway", "fe80::1"],
    "no gateway": ["--gateway", "none"],
}


def with_option(words: list[str]) -> list[list[str]]:
    """A network of both families with these options, and two endpoints."""
    subnets = ["--ipv6", "--subnet", "10.0.0.0/24", "--subnet", "fd00:5::/64"]
    create = ["network", "create", "br0", *subnets, "-o", f"{_OPTION}bridge.name=br0", *words]
    return [BRIDGE[0], BRIDGE[1], create, *BRIDGE[3:]]


def kernel_state(host: Host) -> dict[str, Any]:
    """Links, addresses and routes of the host and its namespaces, and the rules; what the kernel chose left out."""
    found: dict[str, Any] = {}
    for name in ["", *sorted(host.sh("ip netns ls | cut -d' ' -f1").split())]:
        if name == "internet":
            continue
        where = ["-n", name] if name else []
        links = {}
        for link in host.json("ip", *where, "-d", "-j", "addr"):
            # These are the kernel's choice, or follow from an id that is new each time.
            random = link["ifname"] in ("vth0", "vth1", "br0") or (not name and link["ifname"] != "fairlead0")
            links[re.sub("^veth.*", "veth", link["ifname"])] = {
                "up": "UP" in link["flags"],
                "mac": "" if random else link["address"],
                "mtu": link["mtu"],
                "kind": link.get("linkinfo", {}).get("info_kind"),
                "hairpin": link.get("linkinfo", {}).get("info_slave_data", {}).get("hairpin"),
                "isolated": link.get("linkinfo", {}).get("info_slave_data", {}).get("isolated"),
                "master": link.get("master"),
                "marked": link.get("ifalias", "").startswith("fairlead:"),
                "addresses": sorted(
                    f"{a['local']}/{a['prefixlen']} {a.get('broadcast')}"
                    for a in link["addr_info"]
                    if not a["local"].startswith("fe80") or a.get("nodad")
                ),
            }
        routes = [
            json.dumps({word: route.get(word) for word in ("dst", "gateway", "dev", "protocol")}, sort_keys=True)
            for family in ("-4", "-6")
            for route in host.json("ip", *where, "-j", family, "route")
            if route["dst"] != "fe80::/64"
        ]
        found[name] = (links, sorted(route for route in routes if "veth" not in route))
    found["rules"] = host.sh("nft list ruleset")
    settings = "/proc/sys/net/ipv?/conf/*/{forwarding,accept_ra,disable_ipv6,route_localnet}"
    found["settings"] = [line for line in host.sh(f"bash -c 'grep . {settings}'").splitlines() if "/veth" not in line]
    return found


@pytest.mark.parametrize(
    "commands",
    [NAMESPACES, BRIDGE, *map(with_option, OPTIONS.values())],
    ids=["link", "bridge", *OPTIONS],
)
def test_the_explained_lines_build_the_same(host: Host, commands: list[list[str]]) -> None:
    lines = host.fairlead("daemon", "--explain").stdout
    for command in commands:
        before = kernel_state(host)
        lines += host.fairlead(*command, "--explain").stdout
        assert kernel_state(host) == before, "--explain changes nothing"
        host.fairlead(*command)
    with Host() as other:
        other.sh("set -e\n" + lines)
        by_hand = kernel_state(other)
        # The default bridge's MAC follows from a random id; it is in the lines, so it is the same.
        by_command = kernel_state(host)
        for part, state in by_command.items():
            assert by_hand[part] == state, part
        if commands is NAMESPACES:
            other.sh("ip netns exec ns0 ping -c1 -w5 172.0.0.3")
        elif commands is BRIDGE:
            other.sh("ip netns exec ns0 ping -c1 -w5 10.0.0.3")
            other.sh("ip netns exec ns0 ping -c1 -w5 8.8.8.8")


def test_the_lines_of_a_link_are_those_a_person_would_type(host: Host) -> None:
    for command in NAMESPACES[:2]:
        host.fairlead(*command)
    lines = host.fairlead(*NAMESPACES[2], "--explain").stdout
    assert re.sub("fairlead:[0-9a-f]{64}", "fairlead:<id>", lines).splitlines() == [
        "ip -n ns0 link add vth0 type veth peer name vth1 netns ns1",
        "ip -n ns0 link set vth0 alias fairlead:<id>",
        "ip -n ns0 addr add 172.0.0.2/24 brd + dev vth0",
        "ip -n ns0 link set vth0 up",
        "ip -n ns1 addr add 172.0.0.3/24 brd + dev vth1",
        "ip -n ns1 link set vth1 up",
    ]


def test_explaining_a_removal(host: Host) -> None:
    for command in BRIDGE:
        host.fairlead(*command)
    assert host.fairlead("netns", "rm", "ns0", "--explain").stdout.splitlines()[-1] == "ip netns del ns0"
    for name in ("ns0", "ns1"):
        host.fairlead("netns", "rm", name)
    assert host.fairlead("network", "rm", "br0", "--explain").stdout.splitlines()[-1] == "ip link del br0"
    assert "br0" in host.sh("ip link")


@pytest.mark.parametrize("ends", [("ns0/vth0", "/vth1"), ("/vth1", "ns0/vth0")])
def test_a_link_between_a_namespace_and_the_host_in_either_order(host: Host, ends: tuple[str, str]) -> None:
    ips = ("172.31.0.1/30", "172.31.0.2/30")
    commands = [["netns", "add", "ns0"], ["link", "add", *ends, "--ip", ips[0], "--peer-ip", ips[1]]]
    lines = host.fairlead("daemon", "--explain").stdout
    for command in commands:
        lines += host.fairlead(*command, "--explain").stdout
        host.fairlead(*command)
    host.sh(f"ping -c1 -w5 {ips[ends.index('ns0/vth0')].partition('/')[0]}")
    with Host() as other:
        other.sh("set -e\n" + lines)
        assert kernel_state(other) == kernel_state(host)
    host.fairlead("link", "rm", "ns0/vth0")
    assert "vth1" not in host.sh("ip -o link show type veth | cut -d: -f2")


def test_the_explained_repair_of_a_deleted_namespace_works_by_hand(host: Host) -> None:
    """Also where the resolver still holds what was deleted, so that the other ends of its cables are in the way."""
    for command in (*BRIDGE, NAMESPACES[2]):
        host.fairlead(*command)
    before = kernel_state(host)
    host.sh("ip netns del ns0; ip -n ns1 route del default; ip link set br0 down")
    lines = host.fairlead("doctor", "--fix", "--explain").stdout.splitlines()
    assert "+ ip netns add ns0" in lines
    host.sh("set -e\n" + "\n".join(line.removeprefix("+ ") for line in lines if line.startswith("+ ")))
    assert kernel_state(host) == before
    host.sh("ip netns exec ns0 ping -c1 -w5 10.0.0.3 && ip netns exec ns0 ping -c1 -w5 172.0.0.3")
    host.fairlead("doctor", "--fix")
    assert kernel_state(host) == before


CHANGES_NOTHING = {
    "run": "-d -v new:/data -p 8099:80 alpine sleep 9",
    "create": "--name other alpine sleep 9",
    "start": "stopped",
    "stop": "running",
    "restart": "running",
    "kill": "running",
    "pause": "running",
    "unpause": "paused",
    "rename": "running another",
    "update": "--restart always running",
    "rm": "-f running",
    "exec": "running touch /x",
    "cp": "/etc/passwd running:/x",
    "commit": "running more:2",
    "export": "-o /tmp/never running",
    "container prune": "",
    "network create": "more",
    "network rm": "empty",
    "network connect": "empty ns0",
    "network disconnect": "full ns0",
    "network prune": "",
    "netns add": "ns7",
    "netns rm": "ns1",
    "netns exec": "ns0 touch /tmp/never",
    "link add": "ns0/a ns1/b",
    "link rm": "ns0/vth0",
    "image tag": "alpine more:1",
    "image pull": f"{REGISTRY}/far",
    "image load": "-i DIRECTORY/other.tar",
    "image import": "DIRECTORY/other.tar",
    "image save": "-o /tmp/never alpine",
    "image push": f"{REGISTRY}/near",
    "image rm": "spare",
    "image prune": "-a",
    "volume create": "vol7",
    "volume rm": "vol0",
    "volume prune": "-a",
    "system prune": "",
    "system reset": "",
    "doctor": "--fix",
    "daemon": "",
}
"""For each command that changes something, words with which it would."""

ONLY_LOOK = {
    *("ps", "inspect", "logs", "wait", "port", "attach", "search", "diff", "stats", "top", "events", "version"),
    *("network ls", "network inspect", "netns ls", "netns inspect", "link ls", "volume ls", "volume inspect"),
    *("image ls", "image history", "image inspect", "system df", "system info"),
    *("topology", "explain", "trace", "ui"),
}
"""The commands that change nothing: they tell of what there is, or connect to what runs."""


def test_every_command_that_changes_something_can_be_explained() -> None:
    explainable = set()
    for name, (place, _) in COMMANDS.items():
        module, _, member = place.partition(":")
        command = getattr(importlib.import_module(f"fairlead.cli.{module}"), member)
        if any(flag.name == "explain" for flag in command.flags):
            explainable.add(name)
    assert explainable == set(COMMANDS) - ONLY_LOOK
    assert set(CHANGES_NOTHING) == explainable


def test_no_explained_command_changes_anything() -> None:
    with Host() as host, contextlib.closing(Registry(host, auth=False)):
        host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        host.fairlead("run", "--name", "maker", "alpine", "touch", "/made")
        host.fairlead("commit", "maker", f"{REGISTRY}/far")
        host.fairlead("image", "push", f"{REGISTRY}/far")
        host.fairlead("image", "save", "-o", f"{host.directory}/other.tar", f"{REGISTRY}/far")
        host.fairlead("rm", "maker")
        host.fairlead("image", "rm", f"{REGISTRY}/far")
        host.fairlead("image", "tag", "alpine", f"{REGISTRY}/near")
        host.fairlead("image", "load", "-i", str(images() / "nginx.tar"))
        host.fairlead("image", "tag", "nginx", "spare")
        for name in ("running", "paused"):
            host.fairlead("run", "-d", "--name", name, "alpine", "sleep", "1000")
        host.fairlead("pause", "paused")
        host.fairlead("create", "--name", "stopped", "alpine", "sleep", "1000")
        host.fairlead("volume", "create", "vol0")
        for command in (*NAMESPACES, ["network", "create", "empty"], ["network", "create", "full"]):
            host.fairlead(*command)
        host.fairlead("network", "connect", "full", "ns0")
        host.sh("ip -n ns0 addr flush dev eth0")  # Something for the doctor.
        before = (kernel_state(host), recorded(host), elsewhere(host))
        for name, words in CHANGES_NOTHING.items():
            words = words.replace("DIRECTORY", str(host.directory))
            done = host.fairlead(*name.split(), "--explain", *words.split(), check=False)
            assert (done.returncode, done.stderr) == (0, ""), name
            if name == "exec":
                # The line is one that runs the same.
                host.sh(done.stdout.replace("touch /x", "true"))
            for had, has in zip(before, (kernel_state(host), recorded(host), elsewhere(host)), strict=True):
                for part, state in had.items():
                    assert has[part] == state, (name, part)


def recorded(host: Host) -> dict[str, Any]:
    """All records, the files of the state directory, and who runs."""
    with contextlib.closing(sqlite3.connect(host.state / "fairlead.db")) as database:
        records = list(database.iterdump())
    files = host.sh(f"find {host.state} -not -name '*.db*' -not -path '*/rootfs/*' | sort")
    running = [(one["Names"], one["State"]) for one in host.json(FAIRLEAD, "ps", "-a", "--format", "json")]
    return {"records": records, "files": files, "running": running}


def elsewhere(host: Host) -> dict[str, Any]:
    """What the registry has, what is mounted, and whether a file was written."""
    return {
        "registry": host.sh(f"curl -s http://{REGISTRY}/v2/_catalog"),
        "mounts": host.sh("cat /proc/mounts"),
        "file": Path("/tmp/never").exists(),
    }


RUNS = {
    "published": ["-p", "8081:80", "alpine", "httpd", "-f", "-p", "80", "-h", "/etc"],
    "much": [
        *("--network", "named", "--ip", "172.30.0.9", "-u", "www-data", "-v", "data:/etc/network", "-m", "64m"),
        *("-e", 'A=it\'s "B"\nEND', "--hostname", "h", "--tmpfs", "/t", "alpine", "sleep", "999"),
    ],
    "host": ["--network", "host", "alpine", "sleep", "999"],
    "none": ["--network", "none", "--cap-drop", "ALL", "--read-only", "-t", "alpine", "ash"],
}
"""Words after ``run -d --name x``."""


def container_state(host: Host, run: Path, id_: str) -> dict[str, Any]:
    """What runs in a container, as crun, the kernel and the files tell it, with its id written as ID."""
    state = host.json("crun", f"--root={run}/crun", "state", id_)
    pid = state["pid"]
    inside = ["nsenter", "-t", str(pid), "-n"]
    found = {
        "status": state["status"],
        "command": host.sh(f"tr '\\0' ' ' </proc/{pid}/cmdline"),
        "ids": host.sh(f"grep -E '^(Uid|Gid|Groups|CapEff|CapBnd|Seccomp|NoNewPrivs):' /proc/{pid}/status"),
        "environment": host.sh(f"tr '\\0' '\\n' </proc/{pid}/environ"),
        "mounts": sorted(line.split()[4] for line in host.sh(f"cat /proc/{pid}/mountinfo").splitlines()),
        "config": json.loads((run / "containers" / id_ / "config.json").read_text()),
        "files": [host.sh(f"cat /proc/{pid}/root/etc/{name}") for name in ("hosts", "hostname", "resolv.conf")],
        "volume": host.sh(f"ls -l /proc/{pid}/root/etc/network 2>/dev/null || true"),
        "addresses": sorted(
            address["local"]
            for link in host.json(*inside, "ip", "-j", "addr")
            if link["ifname"] != "fairlead0"
            for address in link["addr_info"]
            if not address["local"].startswith("fe80")
        ),
        "routes": [route for route in host.json(*inside, "ip", "-j", "route") if route["dev"] == "eth0"],
        "cgroup": host.sh(f"cat /proc/{pid}/cgroup"),
    }
    text = json.dumps(found).replace(id_, "ID").replace(id_[:12], "SHORT")
    return json.loads(text)  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", RUNS)
def test_the_lines_of_a_run_make_the_container(host: Host, name: str) -> None:
    host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
    lines = ["set -e\n", host.fairlead("daemon", "--explain").stdout]
    network = ["network", "create", "named", "--subnet", "172.30.0.0/16", "-o", f"{_OPTION}bridge.name=named"]
    lines.append(host.fairlead(*network, "--explain").stdout)
    host.fairlead(*network)
    before = kernel_state(host)
    run = ["run", "-d", "--name", "x", *RUNS[name]]
    lines.append(host.fairlead("run", "--explain", *run[1:]).stdout)
    assert kernel_state(host) == before, "--explain changes nothing"
    found = re.search(r"--cid=([0-9a-f]{64})", lines[-1])
    assert found
    with Host() as other:
        other.sh("".join(lines))
        try:
            by_hand = container_state(other, host.run_dir, found[1])
            rules = other.sh("nft list ruleset")
            served = other.run("curl", "-sSm3", "localhost:8081/hostname", check=False).stdout
        finally:
            other.sh(f"crun --root={host.run_dir}/crun delete -f {found[1]}")
    if name == "much":
        host.fairlead("volume", "rm", "-f", "data")
        shutil.rmtree(host.state / "volumes/data", ignore_errors=True)
    id_ = host.fairlead(*run).stdout.strip()
    by_command = container_state(host, host.run_dir, id_)
    for part, state in by_command.items():
        assert by_hand[part] == state, part
    assert rules == host.sh("nft list ruleset")
    assert served == (f"{found[1][:12]}\n" if name == "published" else "")
