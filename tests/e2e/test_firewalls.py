"""Beside real firewall programs, ufw and firewalld: what trace and doctor say of their rules, and that it helps.

Both are run on a throwaway host alone: in its namespaces, with copies of their directories mounted over the machine's.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from lab import BEHIND_THE_HOST, FAIRLEAD, Host, images

UFW, FIREWALLD = (shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("ufw", "firewalld"))
SERVE = "alpine httpd -f -h /etc -p"

ROUTED = BEHIND_THE_HOST + "ip netns exec r2 busybox httpd -p 80 -h /etc\n"
"""Somebody else's namespaces, with the host as their router."""


def with_ufw(host: Host, _: ExitStack) -> None:
    """ufw as Debian has it: nothing comes in that was not asked for, nothing is passed on."""
    host.sh(
        f"set -e; cp -r /etc/ufw {host.directory}/ufw; cp /etc/default/ufw {host.directory}/ufw.default\n"
        f"mount --bind {host.directory}/ufw /etc/ufw; mount --bind {host.directory}/ufw.default /etc/default/ufw\n"
        "ufw --force enable"
    )


def with_firewalld(host: Host, stack: ExitStack) -> None:
    """firewalld as Debian has it, with a message bus of its own."""
    host.sh(
        f"set -e; cp -r /etc/firewalld {host.directory}/firewalld; mkdir {host.directory}/firewalld-run\n"
        f"mount --bind {host.directory}/firewalld /etc/firewalld\n"
        # The last so that the bus starts no other services.
        "for place in /run/dbus /run/firewalld /usr/share/dbus-1/system-services; do\n"
        "    mkdir -p $place; mount -t tmpfs tmpfs $place\n"
        "done"
    )
    log = stack.enter_context((host.directory / "firewalld.log").open("w"))
    for words in (
        ("dbus-daemon", "--system", "--nofork", "--nopidfile"),
        ("firewalld", "--nofork", "--nopid", "--log-file", f"{host.directory}/firewalld.own.log"),
    ):
        process = host.popen(*words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(process.wait)
        stack.callback(process.terminate)
        time.sleep(0.3)
    for _ in range(100):
        if host.run("firewall-cmd", "--state", check=False, timeout=10).returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(Path(log.name).read_text())


@contextmanager
def guarded(firewall: Callable[[Host, ExitStack], None]) -> Iterator[Host]:
    """A host behind a firewall, with a published container and one on the host's own network."""
    with Host() as host, ExitStack() as stack:
        host.environment["PATH"] = f"{Path(FAIRLEAD).parent}:{os.environ['PATH']}"
        firewall(host, stack)
        host.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        host.sh(f"set -e; {ROUTED}\nip netns exec internet ip route add default via 198.51.100.2")
        host.sh(f"fairlead run -d --name web -p 8080:80 {SERVE} 80; fairlead run -d --network host {SERVE} 8081")
        yield host


@pytest.fixture(scope="module")
def ufw() -> Iterator[Host]:
    if not UFW:
        pytest.skip("ufw is not installed")
    with guarded(with_ufw) as host:
        yield host


@pytest.fixture(scope="module")
def firewalld() -> Iterator[Host]:
    if not FIREWALLD or not shutil.which("dbus-daemon"):
        pytest.skip("firewalld is not installed")
    with guarded(with_firewalld) as host:
        yield host


def trace(host: Host, words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        host.fairlead("trace", "--wait", "1", "--format", "json", *words.split(), check=False).stdout
    )
    return found


def mended(host: Host, words: str, cause: str, *says: str) -> list[str]:
    """The remedies of a trace that fails for this cause; after the first of them it succeeds."""
    found = trace(host, words)["Verdict"]
    assert found["Cause"] == cause, found
    for word in says:
        assert word in found["Sentence"]
    host.sh(found["Remedies"][0])
    assert trace(host, words)["Verdict"]["Ok"], found
    return list(found["Remedies"])


def refusals(host: Host) -> list[dict[str, Any]]:
    """What the doctor says of firewalls, beside that all is well."""
    found = json.loads(host.fairlead("doctor", "--format", "json", check=False).stdout)
    return [one for one in found if one["Check"] == "firewalls" and one["Result"] != "ok"]


def rules_of(found: dict[str, Any], owner: str) -> list[str]:
    """The chains whose rules let the packet and its answer pass."""
    accepted = [hop for hop in found["Hops"] if hop["Kind"] == "rule" and hop["Verdict"] == "accept"]
    return [hop["Chain"] for hop in accepted if hop["Owner"] == owner and hop.get("Handle")]


def test_ufw_keeps_from_the_host_and_its_own_line_lets_in(ufw: Host) -> None:
    asked = "internet 198.51.100.2:8081"
    remedies = mended(ufw, asked, "input-drop", "the chain ip filter INPUT", "it is of ufw")
    assert remedies[0] == "ufw allow 8081/tcp"
    assert "8081/tcp" in ufw.run("ufw", "status").stdout
    assert rules_of(trace(ufw, asked), "ufw") == ["ufw-user-input", "ufw-before-output"]


def test_ufw_passes_nothing_on_and_its_own_line_lets_pass(ufw: Host) -> None:
    remedies = mended(ufw, "r1 10.1.2.2:80", "forward-drop", "the chain ip filter FORWARD", "it is of ufw")
    assert remedies == ["ufw route allow from 10.1.1.2 to 10.1.2.2 port 80 proto tcp"]


def test_a_published_port_passes_ufw_also_after_its_reload(ufw: Host) -> None:
    assert trace(ufw, "internet 198.51.100.2:8080")["Verdict"]["Ok"]
    ufw.run("ufw", "reload")
    _eventually(lambda: trace(ufw, "internet 198.51.100.2:8080")["Verdict"]["Ok"])


def test_the_doctor_knows_how_ufw_lets_containers_reach_the_host(ufw: Host) -> None:
    found = refusals(ufw)
    assert {line for one in found for line in one["Remedy"]} == {"ufw allow in on fairlead0"}
    assert trace(ufw, "web 198.51.100.2:8082")["Verdict"]["Cause"] == "input-drop"
    ufw.sh(found[0]["Remedy"][0])
    assert not refusals(ufw)
    assert trace(ufw, "web 198.51.100.2:8082")["Verdict"]["Cause"] == "nothing-listening"


def test_firewalld_keeps_from_the_host_and_its_own_line_lets_in(firewalld: Host) -> None:
    asked = "internet 198.51.100.2:8081"
    found = trace(firewalld, asked)
    kinds = [(hop["Direction"], hop["Kind"]) for hop in found["Hops"] if hop["NamespaceName"] == "host"]
    # It is refused, thrown away, and then the sender is told.
    told = kinds.index(("error", "send"))
    assert kinds.index(("request", "rule")) < kinds.index(("request", "drop")) < told
    remedies = mended(firewalld, asked, "input-drop", "inet firewalld filter_IN_public", "rejects", "of firewalld")
    port = "--zone=public --add-port=8081/tcp"
    assert remedies == [f"firewall-cmd {port} && firewall-cmd --permanent {port}"]
    firewalld.run("firewall-cmd", "--reload")
    assert rules_of(trace(firewalld, asked), "firewalld") == ["filter_IN_public_allow", "filter_OUTPUT"]


def test_firewalld_passes_nothing_on_until_it_is_told_to_for_good(firewalld: Host) -> None:
    """By a line that a second reload leaves alone, and that can be typed for one thing after the other."""
    for asked in ("r1 10.1.2.2:80", "--udp r1 10.1.2.2:53", "r1 10.1.2.2", "r2 10.1.1.2"):
        found = trace(firewalld, asked)["Verdict"]
        assert (found["Cause"], "it is of firewalld" in found["Sentence"]) == ("forward-drop", True), found
        (remedy,) = found["Remedies"]
        assert remedy.endswith("firewall-cmd --reload")
        firewalld.sh(remedy)
        firewalld.run("firewall-cmd", "--reload")
        assert trace(firewalld, asked)["Verdict"]["Cause"] != "forward-drop", asked
    assert firewalld.sh("ip netns exec r1 curl -sm2 10.1.2.2/hostname") == Path("/etc/hostname").read_text()


def test_firewalld_lets_pass_within_a_bridge_for_good(firewalld: Host) -> None:
    firewalld.sh("sysctl -qw net.bridge.bridge-nf-call-iptables=1; ip link add brx type bridge; ip link set brx up")
    for n in (1, 2):
        firewalld.sh(
            f"set -e; ip netns add b{n}; ip link add bv{n} type veth peer name eth0 netns b{n}\n"
            f"ip link set bv{n} master brx up; ip -n b{n} addr add 10.7.7.{n}/24 dev eth0; ip -n b{n} link set eth0 up"
        )
    (said,) = [one for one in refusals(firewalld) if "brx" in one["Sentence"]]
    remedies = mended(firewalld, "b1 10.7.7.2", "bridge-netfilter", "it is of firewalld")
    assert said["Remedy"] == remedies[:1]
    assert remedies[1:] == ["sysctl -w net.bridge.bridge-nf-call-iptables=0"]
    firewalld.run("firewall-cmd", "--reload")
    assert trace(firewalld, "b1 10.7.7.2")["Verdict"]["Ok"]
    assert "brx" not in str(refusals(firewalld))


def test_a_published_port_passes_firewalld_also_after_its_reload(firewalld: Host) -> None:
    assert trace(firewalld, "internet 198.51.100.2:8080")["Verdict"]["Ok"]
    firewalld.run("firewall-cmd", "--reload")
    _eventually(lambda: trace(firewalld, "internet 198.51.100.2:8080")["Verdict"]["Ok"])


def test_the_doctor_knows_how_firewalld_lets_containers_reach_the_host(firewalld: Host) -> None:
    (found,) = refusals(firewalld)
    assert "inet firewalld filter_INPUT drops what is for this host" in found["Sentence"]
    trusted = "--zone=trusted --add-interface=fairlead0"
    assert found["Remedy"] == [f"firewall-cmd {trusted} && firewall-cmd --permanent {trusted}"]
    assert trace(firewalld, "web 198.51.100.2:8082")["Verdict"]["Cause"] == "input-drop"
    firewalld.sh(found["Remedy"][0])
    firewalld.run("firewall-cmd", "--reload")
    assert not refusals(firewalld)
    assert trace(firewalld, "web 198.51.100.2:8082")["Verdict"]["Cause"] == "nothing-listening"


OWNED = """
add table inet firewalld { flags owner; }
add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }
"""
"""As firewalld has it from 2.1 on (NftablesTableOwner=yes): nobody else can change the table."""


def test_a_table_that_its_program_keeps_to_itself() -> None:
    with Host() as host:
        owner = host.popen("nft", "-i", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        try:
            assert owner.stdin is not None
            owner.stdin.write(OWNED)
            owner.stdin.flush()
            _eventually(lambda: "filter_FORWARD" in host.run("nft", "list", "ruleset").stdout)
            host.sh(f"{FAIRLEAD} network create -o com.docker.network.bridge.name=br0 n; {FAIRLEAD} netns add a")
            host.fairlead("network", "connect", "n", "a")
            found = refusals(host)
            assert [one["Remedy"] for one in found if "br0 of network n" in one["Sentence"]] == [
                [
                    "firewall-cmd --zone=trusted --add-interface=br0"
                    " && firewall-cmd --permanent --zone=trusted --add-interface=br0"
                ]
            ]
            assert all(one["Result"] == "failed" and "flags owner" in one["Sentence"] for one in found)
            asked = trace(host, "a 8.8.8.8")["Verdict"]
            assert (asked["Cause"], asked["Ok"]) == ("forward-drop", False)
            assert asked["Remedies"] == next(one["Remedy"] for one in found if "br0 of network n" in one["Sentence"])
            assert "of firewalld" in asked["Sentence"]
            assert host.json(FAIRLEAD, "topology", "--format", "json")["Namespaces"]
        finally:
            owner.kill()
            owner.wait()


def _eventually(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)
