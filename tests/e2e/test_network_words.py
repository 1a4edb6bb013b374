"""Words of `network create` that are no driver's, and how the pre-defined network differs from those of users."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from lab import FAIRLEAD, Host, images

ENABLE = "com.docker.network.enable_ipv"


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as one:
        one.fairlead("image", "load", "-i", str(images() / "alpine.tar"))
        yield one


@pytest.mark.parametrize(
    ("words", "families"),
    [
        ([], {4}),
        (["-o", f"{ENABLE}6=true"], {4, 6}),
        (["-o", f"{ENABLE}6=1", "-o", f"{ENABLE}4=false"], {6}),
        (["--ipv6", "-o", f"{ENABLE}6=false"], {4, 6}),
        (["--ipv6", "--ipv4=false"], {6}),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_the_families_of_a_network(host: Host, words: list[str], families: set[int]) -> None:
    host.fairlead("network", "create", "-o", "com.docker.network.bridge.name=br9", *words, "n")
    (shown,) = host.json(FAIRLEAD, "network", "inspect", "n")
    assert {4: shown["EnableIPv4"], 6: shown["EnableIPv6"]} == {4: 4 in families, 6: 6 in families}
    (link,) = host.json("ip", "-j", "addr", "show", "dev", "br9")
    assert {4 if one["family"] == "inet" else 6 for one in link["addr_info"]} == families
    inside = host.fairlead("run", "--rm", "--network", "n", "alpine", "ip", "addr", "show", "dev", "eth0").stdout
    assert {version for version, word in ((4, "inet "), (6, "inet6 f")) if word in inside} == families
    host.fairlead("network", "rm", "n")


def test_a_family_is_switched_on_or_off(host: Host) -> None:
    done = host.fairlead("network", "create", "-o", f"{ENABLE}6=maybe", "n", check=False)
    assert done.returncode == 1
    assert f"option {ENABLE}6=maybe: it must be true or false" in done.stderr
    done = host.fairlead("network", "create", "--ipv4=false", "n", check=False)
    assert done.returncode == 1
    assert "a network needs IPv4 or IPv6: both are switched off" in done.stderr


@pytest.mark.parametrize("words", [[], ["--attachable"]])
def test_every_network_is_attachable(host: Host, words: list[str]) -> None:
    host.fairlead("network", "create", *words, "n")
    (shown,) = host.json(FAIRLEAD, "network", "inspect", "n")
    assert shown["Attachable"] is bool(words)
    host.fairlead("run", "-d", "--name", "one", "alpine", "sleep", "100")
    host.fairlead("network", "connect", "n", "one")
    assert "eth1" in host.fairlead("exec", "one", "ip", "link").stdout
    host.fairlead("rm", "-f", "one")
    host.fairlead("network", "rm", "n")


def test_the_predefined_network_has_no_names_and_stays(host: Host) -> None:
    host.fairlead("network", "create", "n")
    seen = {}
    for network in ("bridge", "n"):
        host.fairlead("run", "-d", "--name", f"in-{network}", "--network", network, "alpine", "sleep", "100")
        run = ["run", "--rm", "--network", network, "alpine"]
        found = host.fairlead(*run, "ping", "-c1", "-W2", f"in-{network}", check=False).returncode == 0
        seen[network] = (found, "127.0.0.11" in host.fairlead(*run, "cat", "/etc/resolv.conf").stdout)
    assert seen == {"bridge": (False, False), "n": (True, True)}
    assert list(json.loads(host.run(FAIRLEAD, "inspect", "in-bridge").stdout)[0]["NetworkSettings"]["Networks"]) == [
        "bridge"
    ]
    host.fairlead("rm", "-f", "in-bridge", "in-n")
    refused = host.fairlead("network", "rm", "bridge", check=False)
    assert "bridge is a pre-defined network and cannot be removed" in refused.stderr
    host.fairlead("network", "rm", "n")
    taken = host.fairlead("network", "create", "-o", "com.docker.network.bridge.default_bridge=true", "m", check=False)
    assert "only the pre-defined network bridge may have it" in taken.stderr
