"""Each check of the doctor: something is broken on a real kernel, that check says so and no other, its remedy mends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import FAIRLEAD, Host, has_ended, images

Findings = list[dict[str, Any]]

SIX = "ip -n ns1 -6 -o addr show dev eth1 scope global | awk '{print $4}'"
"""The IPv6 address of ns1, with its length."""


@pytest.fixture(scope="module")
def whole() -> Iterator[Host]:
    """A host with two namespaces, a straight link, three networks, a container with a published port."""
    with Host() as host:
        host.environment["PATH"] = f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"
        host.fairlead("image", "load", "-i", str(images() / "nginx.tar"))
        host.fairlead("netns", "add", "ns0", "ns1")
        host.fairlead("link", "add", "ns0/vth0", "ns1/vth1", "--ip", "172.0.0.2/24", "--peer-ip", "172.0.0.3/24")
        bridge = ("-o", "com.docker.network.bridge.name=br0")
        host.fairlead("network", "create", "br0", "--subnet", "10.0.0.0/24", *bridge)
        host.fairlead("network", "create", "six", "--ipv6", "-o", "com.docker.network.bridge.name=six0")
        host.fairlead("network", "create", "inner", "--internal", "-o", "com.docker.network.bridge.name=in0")
        host.fairlead("network", "connect", "br0", "ns0", "--ip", "10.0.0.2")
        host.fairlead("network", "connect", "br0", "ns1", "--ip", "10.0.0.3")
        host.fairlead("network", "connect", "six", "ns1")
        host.fairlead("network", "connect", "inner", "ns1")
        host.fairlead("run", "-d", "--name", "web", "--network", "br0", "-p", "8081:80", "nginx")
        yield host


def doctor(host: Host, *words: str) -> tuple[int, Findings]:
    done = host.fairlead("doctor", "--format", "json", *words, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def bad(findings: Findings) -> Findings:
    """What is wrong, without what this very machine lacks, and that no daemon runs."""
    return [
        finding
        for finding in findings
        if finding["Result"] != "ok" and not finding["Mended"] and finding["Check"] not in ("kernel", "daemon")
    ]


def stop_daemon(host: Host) -> None:
    pid = int((host.run_dir / "daemon.pid").read_text() or 0)
    if pid:
        os.kill(pid, signal.SIGTERM)
    for _ in range(300):
        # One that has said so still hears of its keeper's end, until it has ended itself.
        if has_ended(pid) and not (host.run_dir / "fairlead.sock").exists():
            return
        time.sleep(0.02)
    raise AssertionError("the daemon does not stop")


def end_process(host: Host, *words: str) -> None:
    """Kill the processes of this host with these words in their command line; by number, having looked at each."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(host.directory) in line and all(word in line for word in words):
            found.append(int(process.name))
    assert found, words
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    for pid in found:
        while not has_ended(pid):
            time.sleep(0.01)


@dataclass(frozen=True)
class Case:
    """What to break, which check notices, with what result and words; `undo` where the remedy is not a plain line."""

    check: str
    breaking: str
    says: str
    result: str = "failed"
    undo: str = ""
    stopped: bool = False
    """With no daemon running, which would mend it at once."""
    fix: bool = True
    """``--fix`` mends it as well."""


VETH = "$(ip -o link show master br0 | head -1 | sed 's/^[0-9]*: \\([^@]*\\)@.*/\\1/')"
DROP = "add table ip other; add chain ip other {hook} {{ type filter hook {hook} priority 0; policy drop; }}"
CASES = {
    "ip_forward": Case("forwarding", "sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward is 0"),
    "ipv6 forwarding": Case("forwarding", "sysctl -qw net.ipv6.conf.all.forwarding=0", "networks six over IPv6"),
    "address": Case("objects", "ip -n ns0 addr del 10.0.0.2/24 dev eth0", "ns0 in network br0: 2 of"),
    "address of a link": Case("objects", "ip -n ns0 addr del 172.0.0.2/24 dev vth0", "the link ns0/vth0 ── ns1/vth1"),
    "route": Case("objects", "ip -n ns0 route del default", "ip -n ns0 route add default via 10.0.0.1"),
    "down inside": Case("objects", "ip -n ns1 link set eth1 down", "ns1 in network six"),
    "no master": Case("objects", f"ip link set {VETH} nomaster", "in network br0: 1 of"),
    "pair": Case("objects", f"ip link del {VETH}", "in network br0: "),
    "namespace": Case("objects", "ip netns del ns0", "namespace ns0"),
    "bridge down": Case("objects", "ip link set br0 down", "network br0: "),
    "bridge": Case("objects", "ip link del br0", "network br0: "),
    "bridge address": Case("objects", "ip addr del 10.0.0.1/24 dev br0", "network br0: 1 of"),
    "setting": Case("objects", "sysctl -qw net.ipv4.conf.br0.route_localnet=0", "route_localnet=1"),
    "mtu outside": Case("mtu", f"ip link set {VETH} mtu 1400", "carries 1400 bytes, its network 1500"),
    "mtu inside": Case("mtu", "ip -n ns0 link set eth0 mtu 1300", "eth0 of ns0 in network br0 carries 1300"),
    "mtu of the bridge": Case("mtu", "ip link set br0 mtu 1400", "br0 of network br0 carries 1400"),
    "mtu of the way out": Case(
        "mtu",
        "ip link set eth0 mtu 1400",
        "the host's way out only 1400",
        "warning",
        undo="ip link set eth0 mtu 1500",
        fix=False,
    ),
    "route into a subnet": Case(
        "subnets",
        "ip route add 10.0.0.128/25 dev eth0",
        "overlaps the host's route to 10.0.0.128/25 dev eth0: what is meant for containers",
        fix=False,
    ),
    "route around a subnet": Case(
        "subnets",
        "ip route add 10.0.0.0/16 via 198.51.100.1",
        "is hidden behind the network",
        "warning",
        undo="ip route del 10.0.0.0/16",
        fix=False,
    ),
    "input policy": Case(
        "firewalls",
        f"nft '{DROP.format(hook='input')}'",
        "the chain ip other input drops what is for this host",
        "warning",
        fix=False,
    ),
    "another's bridge": Case(
        "firewalls",
        "sysctl -qw net.bridge.bridge-nf-call-iptables=1; iptables -P FORWARD DROP;"
        "ip link add mine type bridge; ip link add va type veth peer name vb; ip link set va master mine; sleep 1",
        "drops even frames between two ports of the bridge mine, which Fairlead did not make",
        "warning",
        fix=False,
    ),
    "accept rules": Case(
        "firewalls",
        "iptables -P FORWARD DROP; iptables -F FORWARD",
        "network br0 has no accept rules there",
        stopped=True,
    ),
    "nameservers": Case(
        "nameservers",
        "mount --bind /dev/null /etc/resolv.conf",
        "names no nameserver",
        "warning",
        undo="umount /etc/resolv.conf",
        fix=False,
    ),
    "program": Case(
        "programs",
        "mount --bind /dev/null $(command -v crun)",
        "crun is not installed: it runs containers",
        undo="umount /usr/bin/crun",
        fix=False,
    ),
    "version of a program": Case(
        "programs",
        "printf '#!/bin/sh\\necho conmon version 1.0.3\\n' > $FAIRLEAD_RUN/old; chmod +x $FAIRLEAD_RUN/old;"
        "mount --bind $FAIRLEAD_RUN/old $(command -v conmon)",
        "conmon has version 1.0: Fairlead is tested with 2.1 and later",
        "warning",
        undo="umount /usr/bin/conmon",
        fix=False,
    ),
    "table": Case("table", "nft delete table inet fairlead", "the table inet fairlead is gone", stopped=True),
    "rules": Case("table", "nft flush chain inet fairlead enter", "the chain enter of the table", stopped=True),
    "element": Case(
        "table",
        "nft delete element inet fairlead ports4_any '{ tcp . 8081 }'",
        "lacks tcp . 8081 in ports4_any",
        stopped=True,
    ),
    "resolver's rules": Case(
        "resolver",
        "ip netns exec ns0 nft delete table netdev fairlead",
        "namespace ns0: 127.0.0.11 does not lead to the resolver",
    ),
    "duplicate": Case(
        "addresses",
        "ip -n ns0 addr add 10.0.0.3/24 dev eth0",
        "10.0.0.3 in network br0 is both on eth0 of ns1 and on eth0 of ns0",
        fix=False,
    ),
    "duplicate of IPv6": Case(
        "addresses",
        f"ip addr add $({SIX}) dev six0 nodad",
        "in network six is both on eth1 of ns1 and on six0 of the host",
        fix=False,
    ),
    "duplicate that the kernel refused": Case(
        "addresses",
        f"ip addr add $({SIX}) dev six0; for i in $(seq 100); do"
        " ip addr show dev six0 | grep -q dadfailed && break; sleep 0.1; done",
        "on six0 of the host does not work: eth1 of ns1 in network six had it already",
        fix=False,
    ),
    "leaked link": Case(
        "leaks",
        "ip link add lost type veth peer name lost2; ip link set lost alias fairlead:0123",
        "the interface lost in host carries Fairlead's mark",
    ),
    "leaked link inside": Case(
        "leaks",
        "ip -n ns1 link add lost type veth peer name lost2; ip -n ns1 link set lost alias fairlead:0123",
        "the interface lost in ns1 carries Fairlead's mark",
    ),
    "leaked namespace": Case(
        "leaks",
        "touch $FAIRLEAD_RUN/netns/left; unshare --net=$FAIRLEAD_RUN/netns/left true",
        "netns/left is of no container",
    ),
    "leaked element": Case(
        "leaks",
        "nft add element inet fairlead bridges '{ \"gone0\" }'",
        "has gone0 in bridges, which is of no record",
        stopped=True,
    ),
    "leaked accept rule": Case(
        "leaks",
        "nft add table ip o; nft add chain ip o f '{ type filter hook forward priority 0; }';"
        'nft add rule ip o f iifname gone0 accept comment \\"fairlead:gone0\\"',
        "the chain ip o f has accept rules for gone0, a bridge of no network",
    ),
}

CLEAN = """
nft delete table ip other 2>/dev/null; nft delete table ip o 2>/dev/null; ip link del mine 2>/dev/null
ip link del va 2>/dev/null; iptables -P FORWARD ACCEPT; sysctl -qw net.bridge.bridge-nf-call-iptables=0; true
"""


def break_it(host: Host, case: Case) -> dict[str, Any]:
    """The one finding that says so."""
    if case.stopped:
        stop_daemon(host)
    code, findings = doctor(host)
    assert bad(findings) == [], "whole before"
    assert code == 0
    host.sh(f"set -e\n{case.breaking}")
    code, findings = doctor(host)
    wrong = bad(findings)
    assert {finding["Check"] for finding in wrong} == {case.check}, wrong
    assert {finding["Result"] for finding in wrong} == {case.result}
    assert code == (case.result == "failed")
    assert any(case.says in " ".join([finding["Sentence"], *finding["Remedy"]]) for finding in wrong), wrong
    return {"wrong": wrong}


@pytest.mark.parametrize("name", CASES)
def test_a_check_fails_and_its_remedy_mends(whole: Host, name: str) -> None:
    case = CASES[name]
    wrong = break_it(whole, case)["wrong"]
    lines = [line for finding in wrong for line in finding["Remedy"]]
    whole.sh("set -e\n" + (case.undo or "\n".join(dict.fromkeys(lines))), timeout=60)
    code, findings = doctor(whole)
    assert bad(findings) == []
    assert code == 0
    whole.sh(CLEAN)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.fix])
def test_what_is_ours_is_mended_by_fix(whole: Host, name: str) -> None:
    case = CASES[name]
    wrong = break_it(whole, case)["wrong"]
    assert all(finding["Ours"] for finding in wrong)
    before = whole.sh("ip -o link; ip -o addr; nft list ruleset | grep -v counter")
    explained = whole.fairlead("doctor", "--fix", "--explain").stdout
    assert any(line.startswith("+ ") for line in explained.splitlines()), explained
    assert whole.sh("ip -o link; ip -o addr; nft list ruleset | grep -v counter") == before
    code, findings = doctor(whole, "--fix")
    assert code == 0
    assert bad(findings) == []
    mended = [finding for finding in findings if finding["Mended"]]
    assert {finding["Sentence"] for finding in mended} >= {finding["Sentence"] for finding in wrong}
    whole.fairlead("netns", "exec", "ns0", "ping", "-c1", "-w5", "10.0.0.3")
    whole.sh(CLEAN)


BY_LINES = ["address", "route", "no master", "pair", "bridge", "table", "element", "leaked link"]


@pytest.mark.parametrize("name", BY_LINES)
def test_the_lines_of_a_repair_typed_by_hand_mend_as_well(whole: Host, name: str) -> None:
    break_it(whole, CASES[name])
    explained = whole.fairlead("doctor", "--fix", "--explain").stdout
    lines = [line[2:] for line in explained.splitlines() if line.startswith("+ ")]
    whole.sh("set -e\n" + "\n".join(lines))
    assert bad(doctor(whole)[1]) == [], explained
    whole.sh(CLEAN)
    whole.fairlead("network", "ls")  # a daemon again


def test_a_keeper_that_died_while_no_daemon_ran(whole: Host) -> None:
    stop_daemon(whole)
    end_process(whole, "keeper.py")
    code, findings = doctor(whole)
    (wrong,) = bad(findings)
    assert (code, wrong["Check"]) == (1, "ports")
    assert "the port 8081/tcp of web in network br0 is not held by Fairlead: nobody holds it" in wrong["Sentence"]
    whole.sh("\n".join(wrong["Remedy"]))
    assert bad(doctor(whole)[1]) == []
    assert whole.run("curl", "-sf", "http://127.0.0.1:8081").returncode == 0


def test_another_program_on_a_published_port(whole: Host) -> None:
    stop_daemon(whole)
    end_process(whole, "keeper.py")
    listen = "s = socket.create_server(('::', 8081), family=socket.AF_INET6, dualstack_ipv6=True)"
    script = f"import socket; {listen}; print(flush=True); s.accept()"
    thief = whole.popen("python3", "-c", script, stdout=subprocess.PIPE)
    assert thief.stdout
    thief.stdout.readline()
    (wrong,) = bad(doctor(whole)[1])
    assert wrong["Check"] == "ports"
    assert f"python3 (pid {thief.pid}) has it" in wrong["Sentence"]
    whole.sh("\n".join(wrong["Remedy"]))
    thief.wait(10)
    assert bad(doctor(whole)[1]) == []


def test_a_resolver_that_died_while_no_daemon_ran(whole: Host) -> None:
    stop_daemon(whole)
    end_process(whole, "fairlead.dns")
    findings = bad(doctor(whole)[1])
    assert {finding["Check"] for finding in findings} == {"resolver"}
    whole.sh(findings[0]["Remedy"][0])
    assert bad(doctor(whole)[1]) == []


def test_a_container_whose_monitor_died(whole: Host) -> None:
    stop_daemon(whole)
    end_process(whole, "conmon", "--cid")
    (wrong,) = bad(doctor(whole)[1])
    assert wrong["Check"] == "containers"
    assert "container web is recorded as running, but its monitor (conmon) has ended" in wrong["Sentence"]
    whole.sh(wrong["Remedy"][0])
    assert bad(doctor(whole)[1]) == []


def test_a_container_whose_namespace_is_gone(whole: Host) -> None:
    id_ = whole.fairlead("inspect", "-f", "{{.Id}}", "web").stdout.strip()
    whole.sh(f"umount {whole.run_dir}/netns/{id_}; rm {whole.run_dir}/netns/{id_}")
    found = bad(doctor(whole)[1])
    assert [finding["Check"] for finding in found] == ["objects"], found
    assert found[0]["Remedy"] == ["fairlead restart web"]
    whole.sh(found[0]["Remedy"][0])
    assert bad(doctor(whole)[1]) == []


def test_without_a_daemon_it_looks_by_itself_and_starts_none(whole: Host) -> None:
    stop_daemon(whole)
    done = whole.fairlead("doctor")
    assert "warning  daemon       cannot reach the Fairlead daemon" in done.stdout
    assert not (whole.run_dir / "fairlead.sock").exists()
    whole.fairlead("network", "ls")


def test_another_instances_marks_are_none_of_ours(host: Host) -> None:
    """In a namespace that is another Fairlead's host, links with its marks are no leaks of this one."""
    host.fairlead("network", "ls")
    host.sh("ip -n internet link add theirs type bridge; ip -n internet link set theirs alias fairlead:0123")
    assert bad(doctor(host)[1]) == []
    assert "?" not in host.fairlead("topology").stdout
    host.fairlead("netns", "add", "inner")  # and one that runs in a sandbox of ours
    host.sh("ip -n inner link add theirs type bridge; ip -n inner link set theirs alias fairlead:4567")
    assert bad(doctor(host)[1]) == []


def test_a_state_that_cannot_be_read_is_a_finding(host: Host) -> None:
    host.state.mkdir()
    (host.state / "fairlead.db").write_bytes(b"this is no database" * 100)
    code, findings = doctor(host)
    assert code == 1
    assert [finding["Check"] for finding in bad(findings)] == ["store"]
    assert "cannot be used: file is not a database" in bad(findings)[0]["Sentence"]
    assert len(findings) > 10, "the host is looked at all the same"


def test_on_a_fresh_host_nothing_is_made(host: Host) -> None:
    code, findings = doctor(host)
    assert (code, bad(findings)) == (0, [])
    assert not host.state.exists()
    assert not (host.run_dir / "fairlead.db").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--explain",), "fairlead: --explain is about --fix: what it would do\n"),
        (("--format", "xml"), "fairlead: invalid format 'xml': only text and json are allowed\n"),
        (("ns0",), "fairlead: 'doctor' takes no arguments"),
    ],
)
def test_bad_usage(host: Host, words: tuple[str, ...], sentence: str) -> None:
    done = host.fairlead("doctor", *words, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)


def test_while_things_come_and_go_nothing_is_wrong(host: Host) -> None:
    host.fairlead("netns", "add", "ns0", "ns1")
    host.fairlead("network", "create", "n", "--subnet", "10.0.0.0/24")
    again = f"{FAIRLEAD} network connect n ns0; {FAIRLEAD} network connect n ns1; {FAIRLEAD} network disconnect n ns0"
    make = f"{FAIRLEAD} network create m; {FAIRLEAD} network disconnect n ns1; {FAIRLEAD} network rm m"
    work = host.popen("sh", "-c", f"for i in 1 2 3 4 5 6; do {again}; {make}; done >/dev/null")
    looks = 0
    try:
        while work.poll() is None:
            assert bad(doctor(host)[1]) == []
            looks += 1
    finally:
        work.wait(60)
    assert looks > 3
