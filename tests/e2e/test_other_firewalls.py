"""While the daemon runs, other programs change the host's firewall: what of ours they take away is put back at once."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import pytest
from lab import ROOT, Host
from machine import eventually
from packets import PING

QUIET = """
import time
from fairlead.kernel.watch import LegacyWatch
watch = LegacyWatch()
time.sleep(1)
print(watch.changed_by_others())
"""


@pytest.fixture
def bridged() -> Iterator[Host]:
    """A host with two namespaces on a bridge, and a lock of iptables-legacy that nobody else uses."""
    with Host() as host:
        host.sh("mount -t tmpfs tmpfs /run && mkdir /run/netns && sysctl -qw net.bridge.bridge-nf-call-iptables=1")
        host.environment["PYTHONPATH"] = str(ROOT / "src")
        host.fairlead("network", "create", "n", "-o", "com.docker.network.bridge.name=br9", "--subnet", "10.9.0.0/24")
        for name, address in (("a", "10.9.0.2"), ("b", "10.9.0.3")):
            host.fairlead("netns", "add", name)
            host.fairlead("network", "connect", "n", name, "--ip", address)
        yield host


def pings(host: Host) -> bool:
    done = host.run("ip", "netns", "exec", "a", *PING.split(), "10.9.0.3", check=False)
    return done.returncode == 0


def accepts(host: Host) -> int:
    return host.sh("iptables-legacy-save -t filter").count('"fairlead:br9" -j ACCEPT')


@pytest.mark.parametrize(
    "change",
    ["iptables-legacy -P FORWARD DROP", "iptables-legacy -P FORWARD DROP; sleep 0.5; iptables-legacy -F"],
)
def test_changes_of_iptables_legacy_are_seen_at_once(bridged: Host, change: str) -> None:
    assert pings(bridged)
    bridged.sh(change)
    eventually(lambda: accepts(bridged) == 2, 5)
    assert pings(bridged)
    eventually(lambda: bridged.run(sys.executable, "-c", QUIET).stdout == "False\n", 5)  # The mending wakes no mending.
    bridged.fairlead("network", "disconnect", "n", "a")
    bridged.fairlead("network", "disconnect", "n", "b")
    bridged.fairlead("network", "rm", "n")
    assert accepts(bridged) == 0


def test_changes_of_nftables_are_seen_at_once(bridged: Host) -> None:
    bridged.sh("nft flush ruleset; iptables -P FORWARD DROP")
    eventually(lambda: "fairlead:br9" in bridged.sh("nft list chain ip filter FORWARD"), 5)
    tables = json.loads(bridged.sh("nft -j list tables"))["nftables"]
    assert any(thing.get("table", {}).get("name") == "fairlead" for thing in tables)
    assert pings(bridged)
