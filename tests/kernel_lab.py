"""An engine on this process's own throwaway kernel namespace, and what must hold of engine and kernel together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fairlead.engine import KINDS, Engine
from fairlead.kernel import Kernel
from fairlead.model import Endpoint, Link, Network, Phase, Sandbox
from fairlead.paths import Paths
from fairlead.plan import State
from fairlead.plan.executor import Executor
from fairlead.plan.firewall import AddElement
from fairlead.store import Store


def sh(script: str, *, check: bool = True) -> str:
    """Run shell lines here; what they print."""
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, timeout=30)
    assert not check or done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
    return done.stdout


def works(script: str) -> bool:
    """Whether shell lines succeed."""
    return subprocess.run(["sh", "-ec", script], capture_output=True, timeout=30).returncode == 0


def assert_reached(address: str, namespace: str) -> None:
    """A ping from a namespace (its path) arrives.

    That one packet is lost does not mean that the way is broken: it is said in a warning, with what the kernel knows of
    the way, and a second one must arrive.
    """
    ping = f"nsenter --net={namespace} ping -c1 -W3 {address}"
    if works(ping):
        return
    looks = ("ip -s link", "ip address", "ip route show table all", "ip -s neighbour", "bridge -s fdb", "nstat -as")
    there = "\n".join(sh(f"nsenter --net={namespace} {look}", check=False) for look in looks)
    here = "\n".join(sh(look, check=False) for look in (*looks, "conntrack -L -p icmp", "nft list ruleset"))
    again = works(ping)
    message = f"{ping}: no answer; asked again: {again}\n== there ==\n{there}\n== here ==\n{here}"
    assert again, message
    warnings.warn(message, stacklevel=2)


def open_here(directory: Path, fault: Callable[[str], None] = lambda point: None) -> Engine:
    """A recovered engine with its state below `directory`."""
    paths = Paths(state=directory / "state", run=directory / "run")
    store = Store(paths.store, KINDS)
    store.fault = fault
    engine = Engine(store, Executor(Kernel(paths.run), fault), paths)
    _opened.append(engine)
    engine.recover()
    return engine


_opened: list[Engine] = []


def let_go() -> None:
    """Close every engine of this process, so that none starts its keeper anew when that is ended."""
    while _opened:
        _opened.pop().close()


def links(namespace: str = "") -> dict[str, Any]:
    """The links of the host, or of a namespace (its name or path), by name."""
    where = ["nsenter", f"--net={Path('/run/netns', namespace)}"] if namespace else []
    found = json.loads(subprocess.run([*where, "ip", "-d", "-j", "link"], capture_output=True, check=True).stdout)
    return {link["ifname"]: link for link in found}


def elements() -> dict[str, list[Any]]:
    """The elements of each set and map of our table."""
    output = subprocess.run(["nft", "-j", "list", "table", "inet", "fairlead"], capture_output=True).stdout
    found: dict[str, list[Any]] = {}
    for thing in json.loads(output or '{"nftables": []}')["nftables"]:
        for kind in ("set", "map"):
            if kind in thing:
                found[thing[kind]["name"]] = thing[kind].get("elem", [])
    return found


def assert_consistent(engine: Engine) -> None:
    """Everything recorded is in the kernel, and everything of ours in the kernel is recorded."""
    records = [record for kind in (Network, Sandbox, Link, Endpoint) for record in engine.store.all(kind)]
    for record in records:
        assert record.phase is Phase.READY
        for step, state in engine._executor.check(engine.planner.plan_of(record)):
            assert state is State.HOLDS, (record, step)
    known = {f"fairlead:{record.id}" for record in records}
    known |= {f"fairlead:{network.parent}" for network in engine.store.all(Network) if network.parent}
    for name, link in links().items():
        if name not in ("lo", "eth0"):
            assert link.get("ifalias") in known, f"{name} is orphaned"
    for sandbox in engine.store.all(Sandbox):
        for name, link in links(sandbox.path).items():
            made_here = link.get("linkinfo", {}).get("info_kind", "veth") != "veth"  # A pair's mark is on its host end.
            assert not made_here or link.get("ifalias") in known, f"{name} is orphaned"
    paths = {sandbox.path for sandbox in engine.store.all(Sandbox)}
    run = engine._namespaces
    on_disk = {str(path) for path in run.glob("*")} | {f"/run/netns/{name}" for name in namespaces()}
    assert on_disk - {"/run/netns/internet"} == paths
    plans = [engine.planner.plan_of(record) for record in records]
    recorded = [step for plan in plans for step in plan if isinstance(step, AddElement) and _of_ports(step.set)]
    assert sum(len(found) for name, found in elements().items() if _of_ports(name)) == len(recorded)
    assert recorded_ports(engine) <= held_ports()
    bridges = {network.ifname for network in engine.store.all(Network) if network.ifname}
    assert set(elements().get("bridges", ())) == bridges


def _of_ports(name: str) -> bool:
    return name.startswith(("ports", "relayed", "homeward", "direct"))


def recorded_ports(engine: Engine) -> set[str]:
    """The ports of this host that the store says are ours."""
    return {str(port) for endpoint in engine.store.all(Endpoint) for port in endpoint.ports if port.host_port}


def held_ports() -> set[str]:
    """The ports of this host that a socket waits on, as `PublishedPort` writes them."""
    lines = [line.split() for line in sh("ss -Hlntu").splitlines()]
    held = {f"{words[4]}/{words[0]}" for words in lines}
    # A socket of both families is written with a star.
    return {port.replace("*", family) for port in held for family in ("0.0.0.0", "[::]")}


def namespaces() -> list[str]:
    """The names in /run/netns."""
    return [path.name for path in Path("/run/netns").glob("*")]


def assert_nothing_left(engine: Engine) -> None:
    """After a reset the kernel is as before."""
    engine.reset()
    assert set(links()) <= {"lo", "eth0"}
    assert set(namespaces()) <= {"internet"}
    assert not list(engine._namespaces.glob("*"))
    assert "fairlead" not in sh("nft list ruleset")
    assert sh("cat /proc/sys/net/ipv4/ip_forward") == "0\n"


def die_at(directory: Path, setup: Callable[[Engine], object], act: Callable[[Engine], object], point: int) -> int:
    """Act in a process that dies at the given fault point; the number of points passed (or -1: it died)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        passed = -1
        armed = False

        def fault(name: str) -> None:
            nonlocal passed
            if armed:
                passed += 1
                if passed == point:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            engine = open_here(directory, fault)
            setup(engine)
            armed = True
            act(engine)
            os.write(writer, b"%d" % (passed + 1))
        finally:
            os._exit(0)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    said = os.read(reader, 20)
    os.close(reader)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return -1
    assert said, "the operation failed"
    return int(said)
