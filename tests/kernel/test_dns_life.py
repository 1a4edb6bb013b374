"""The resolver process by itself: how long it stays, and what it does with what it was told."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import has_ended

from fairlead.kernel import Kernel
from fairlead.plan import State
from fairlead.plan.links import SetLink
from fairlead.plan.names import RedirectNames

HASTY = (
    "import sys; from fairlead.dns import __main__, resolver; resolver.LOOK_ROUND = 0.1; resolver.LINGER = 0.5; "
    "sys.exit(__main__.main(sys.argv[1]))"
)
"""A resolver that looks round every 0.1 s and ends after 0.5 s with nobody to serve."""


class Feed:
    """What the daemon would be."""

    def __init__(self, run: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(str(run / "dns.sock"))
        self._lines = self.socket.makefile("rb")
        self.hello: dict[str, Any] = json.loads(self._lines.readline())

    def tell(self, sandboxes: dict[str, Any], *, whole: bool = True) -> dict[str, Any]:
        """Say whom to serve; the answer."""
        line = {"whole": whole, "members": {}, "sandboxes": sandboxes}
        self.socket.sendall(json.dumps(line).encode() + b"\n")
        answer: dict[str, Any] = json.loads(self._lines.readline())
        return answer

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


def start(run: Path) -> Feed:
    """A hasty resolver, and a connection to it."""
    subprocess.run([sys.executable, "-P", "-c", HASTY, str(run)], check=True, timeout=20)
    return Feed(run)


def ends(pid: int, seconds: float = 5) -> bool:
    """Whether a process ends within so many seconds."""
    deadline = time.monotonic() + seconds
    while not has_ended(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture
def kernel(fresh_kernel: None, tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    for name in ("a", "b"):
        one.namespaces.add(f"/run/netns/{name}")
        SetLink(f"/run/netns/{name}", "lo").apply(one)
        RedirectNames(f"/run/netns/{name}").apply(one)
    yield one
    for name in ("a", "b"):
        one.namespaces.remove(f"/run/netns/{name}")
    one.close()


def place(name: str) -> dict[str, Any]:
    return {"path": f"/run/netns/{name}", "upstreams": [], "outside": True}


def listens(name: str) -> bool:
    return inside(name, "ss", "-lnH").count("127.0.0.11:65353") == 2


def inside(name: str, *command: str) -> str:
    """What a program says in a namespace."""
    done = subprocess.run(["ip", "netns", "exec", name, *command], capture_output=True, text=True, check=True)
    return done.stdout


def test_it_goes_when_there_is_nobody_to_serve(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    feed.tell({"a": place("a")})
    assert not ends(feed.hello["pid"], 1)
    feed.tell({"a": None}, whole=False)
    assert ends(feed.hello["pid"])
    assert not (tmp_path / "dns.sock").exists()


def test_without_a_daemon_it_serves_on_until_the_last_namespace_goes(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    feed.tell({"a": place("a"), "b": place("b")})
    feed.close()
    kernel.namespaces.remove("/run/netns/a")
    assert not ends(feed.hello["pid"], 1)
    assert listens("b")
    kernel.namespaces.remove("/run/netns/b")
    assert ends(feed.hello["pid"])


def test_a_daemon_that_comes_back_tells_all_anew(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    feed.tell({"a": place("a")})
    feed.close()
    again = Feed(tmp_path)
    assert again.hello == feed.hello
    assert again.tell({"b": place("b")}) == {"failed": {}}
    assert not listens("a")
    assert listens("b")
    with contextlib.suppress(ProcessLookupError):
        os.kill(again.hello["pid"], signal.SIGTERM)


def test_a_namespace_made_anew_under_the_same_name(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    feed.tell({"a": place("a")})
    kernel.namespaces.remove("/run/netns/a")
    kernel.namespaces.add("/run/netns/a")
    SetLink("/run/netns/a", "lo").apply(kernel)
    feed.tell({"a": place("a")})
    assert listens("a")
    os.kill(feed.hello["pid"], signal.SIGTERM)


def test_a_sandbox_that_cannot_be_served_costs_no_other(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    answer = feed.tell({"x": place("x"), "a": place("a")})
    assert "No such file" in answer["failed"]["x"]
    assert listens("a")
    os.kill(feed.hello["pid"], signal.SIGTERM)


def test_there_is_one_resolver(kernel: Kernel, tmp_path: Path) -> None:
    feed = start(tmp_path)
    feed.tell({"a": place("a")})
    second = subprocess.run(
        [sys.executable, "-P", "-c", HASTY, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert second.returncode == 1
    assert "another resolver" in second.stderr
    os.kill(feed.hello["pid"], signal.SIGTERM)


def test_the_step(kernel: Kernel) -> None:
    step = RedirectNames("/run/netns/a")
    assert step.check(kernel) is State.HOLDS
    subprocess.run("ip netns exec a nft delete rule netdev fairlead names handle 3", shell=True, check=True)
    assert step.check(kernel) is State.DIFFERS
    step.apply(kernel)  # over what is left, as after a crash
    assert step.check(kernel) is State.HOLDS
    ours = inside("a", "nft", "list", "ruleset")
    step.revert(kernel)
    step.revert(kernel)
    assert step.check(kernel) is State.MISSING
    # What --explain prints makes the very same.
    subprocess.run("\n".join(step.shell()), shell=True, check=True)
    assert step.check(kernel) is State.HOLDS
    typed = inside("a", "nft", "list", "ruleset")
    assert typed == ours
    subprocess.run("\n".join(step.unshell()), shell=True, check=True)
    assert step.check(kernel) is State.MISSING
    RedirectNames("/run/netns/gone").revert(kernel)
