"""The checks, one function each; `fairlead.drivers.conformance.CHECKS` names them.  Each gets a lab of its own."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from msgspec.structs import replace

from fairlead.drivers.conformance import ISOLATED
from fairlead.drivers.conformance.lab import (
    HOST,
    NETWORK,
    OUTSIDE,
    OUTSIDE_NAMESPACE,
    PUBLISHED,
    Lab,
    differences,
    prepare,
    sh,
    snapshot,
    until,
)
from fairlead.errors import FairleadError
from fairlead.model import Endpoint, Network, Record, Sandbox, decode, encode, interface_of, new_id
from fairlead.plan import Plan, State
from fairlead.spec import EndpointSpec, PortSpec

MODULE = "fairlead.drivers.conformance"

_MEMBERS = {"options": frozenset, "endpoint_options": frozenset, "has_links": bool, "behind_host": bool}
_METHODS = ("home", "complete", "complete_endpoint", "gateways", "network_plan", "endpoint_plan")

_OF_IPV6_FORWARDING = re.compile(r"net\.ipv6\.conf\.\w+\.(forwarding|accept_ra|mc_forwarding)\b")
"""What stays until the last of Fairlead goes (`fairlead.forwarding`)."""

_NONSENSE = ("", "no such value", "-1", "ü", "a" * 300)


class Wrong(Exception):
    """What a check has found, as a sentence or a few lines."""


def expect(true: object, sentence: str) -> None:
    """Raise the sentence unless it is so."""
    if not true:
        raise Wrong(sentence)


def expect_same(
    before: dict[str, Any], after: dict[str, Any], what: str, *, but: re.Pattern[str] | None = None
) -> None:
    """Raise what is different between two snapshots, except for lines that match `but`."""
    found = [line for line in differences(before, after) if not (but and but.search(line))]
    expect(not found, f"{what}:\n  " + "\n  ".join(found[:20]))


def expect_settled(before: dict[str, Any], what: str, *, but: re.Pattern[str] | None = None) -> None:
    """The same with the kernel as it is in a moment."""
    until(lambda: not any(not (but and but.search(line)) for line in differences(before, snapshot())), patience=2)
    expect_same(before, snapshot(), what, but=but)


# The checks


def interface(lab: Lab) -> None:
    """The driver has every member of `fairlead.drivers.Driver`, of the right type."""
    driver = lab.driver
    for name, kind in _MEMBERS.items():
        expect(isinstance(getattr(driver, name, None), kind), f"{name} must be a {kind.__name__}")
    for name in _METHODS:
        expect(callable(getattr(driver, name, None)), f"there is no method {name}")
    words = [*driver.options, *driver.endpoint_options]
    expect(all(isinstance(word, str) and word for word in words), "options must be names")


def decisions(lab: Lab) -> None:
    """The same question gets the same answer, in every process, and asking changes nothing.

    Plans are asked for anew whenever they are needed: after a restart, by another process, the one that takes an
    endpoint away must be the one that made it.
    """
    before, driver = snapshot(), lab.driver
    network, sandbox, endpoint = _records(lab)
    completed = driver.complete(network, lab.host)
    expect(completed == driver.complete(network, lab.host), "complete answers differently when asked twice")
    for field in ("id", "name", "driver", "options", "labels", "predefined", "phase"):
        same = getattr(completed, field) == getattr(network, field)
        expect(same, f"complete changes the network's {field}, which is not its to decide")
    gateways = driver.gateways(completed)
    known = {pool.gateway for pool in completed.pools}
    strange = [str(one) for one in gateways if one not in known and not one.is_unspecified]
    expect(not strange, f"gateways has {', '.join(strange)}, which is no pool's gateway")
    endpoint = replace(endpoint, gateways=gateways)
    placed = driver.complete_endpoint(completed, endpoint)
    expect(placed == driver.complete_endpoint(completed, endpoint), "complete_endpoint answers differently")
    for field in ("id", "network", "sandbox", "ifname", "ports", "options", "phase"):
        same = getattr(placed, field) == getattr(endpoint, field)
        expect(same, f"complete_endpoint changes the endpoint's {field}, which is not its to decide")
    records = [completed, sandbox, placed]
    here = plans(lab.case.driver, *map(encode, records))
    expect(len(set(here)) == len(here), "a plan has the same step twice")
    for seed in ("1", "2"):
        there = _plans_elsewhere(lab.case.driver, seed, records)
        expect(here == there, f"another process makes another plan (sets have no order):\n  {here}\n  {there}")
    expect_settled(before, "asking the driver changed the kernel", but=_OF_IPV6_FORWARDING)


def life(lab: Lab) -> None:
    """A network and its endpoints are what their plans say, stay so over a restart, and go without a trace."""
    before = snapshot()
    network = lab.create()
    endpoints = [lab.join(name) for name in ("one", "two")]
    _expect_held(lab)
    marks = {f"fairlead:{record.id}" for record in _records_of(lab)} | {f"fairlead:{network.parent}"}
    links = snapshot()["the host"]["links"]
    bare = [name for name in links if name not in before["the host"]["links"] and links[name]["mark"] not in marks]
    expect(not bare, f"links without their owner's mark, which a crash would orphan: {', '.join(bare)}")
    there, indexes = snapshot(), _indexes()
    lab.restart()
    expect_settled(there, "a restart changed the kernel, though nothing was missing")
    expect(_indexes() == indexes, "a restart made links anew, though nothing was missing")
    for endpoint in endpoints[:1]:
        if endpoint:
            lab.engine.perform(lab.engine.planner.detach, "one", network.id)
            _expect_held(lab)
    lab.remove()
    expect_settled(before, "removing the network left something behind", but=_OF_IPV6_FORWARDING)
    lab.engine.reset()
    expect_settled(lab.bare, "a reset left something behind")


def halves(lab: Lab) -> None:
    """Half a plan can be taken back, and so can a plan that is gone already, or never was."""
    if not lab.driver.has_links:
        return
    _expect_reverts(lab, lab.network().plan, "the network's plan")
    lab.create()
    lab.engine.perform(lab.engine.planner.open_sandbox, "one")
    change = lab.engine.planner.attach("one", EndpointSpec(network=NETWORK))
    _expect_reverts(lab, change.plan, "an endpoint's plan")


def repair(lab: Lab) -> None:
    """Whatever single thing is taken away by hand, the next start puts back, and all works as before."""
    lab.create()
    lab.join("one")
    lab.join("two", *_ports(lab))
    steps = [(record, step) for record in _records_of(lab) for step in lab.engine.planner.plan_of(record)]
    for record, step in steps:
        if isinstance(record, Sandbox):
            continue
        step.revert(lab.kernel)
        lab.restart()
        _expect_held(lab, f"after {step} was taken away by hand")
    _expect_reach(lab, refused=False)


def lines(lab: Lab) -> None:
    """What ``--explain`` prints, typed on a host of its own, builds what the plan builds."""
    typed = lab.engine.explain_base()
    if lab.driver.has_links:
        typed += lab.perform(lab.network())
        for name in ("one", "two"):
            typed += lab.perform(lab.endpoint(name))
    text = "\n".join(typed)
    done = subprocess.run(
        [*ISOLATED, sys.executable, "-m", MODULE, "by-hand"],
        input=json.dumps([lab.case.setup, text]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    expect(done.returncode == 0, f"the explained lines cannot be typed: {done.stderr.strip()}")
    ours, theirs = settled(), json.loads(done.stdout)
    for state in (ours, theirs):
        for namespace in state.values():
            for link in namespace["links"].values():
                # Others are the kernel's choice.
                link["mac"] = link["mac"] if link["mac"] in text else None
    expect_same(json.loads(json.dumps(ours)), theirs, "the explained lines build something else")


def reach(lab: Lab) -> None:
    """Packets arrive where the case promises it, and nowhere else."""
    lab.create()
    lab.join("one")
    lab.join("two", *_ports(lab))
    _expect_reach(lab, refused=True)


def refusals(lab: Lab) -> None:
    """Bad options are refused with one sentence, or turn out to be good; nothing of a refused request stays."""
    if not lab.driver.has_links:
        return
    before = snapshot()
    for options in (*lab.case.refuses, {"no-such-option": "1"}):
        expect(not _made(lab, options), f"a network with {options} is made, though it should be refused")
    expect_settled(before, "a refused request left something behind", but=_OF_IPV6_FORWARDING)
    for option in sorted(lab.driver.options):
        for value in _NONSENSE:
            if _made(lab, {option: value}):
                lab.engine.perform(lab.engine.planner.remove_network, NETWORK)
        expect_settled(before, f"nonsense as {option} left something behind", but=_OF_IPV6_FORWARDING)


# What they have in common


def _records(lab: Lab) -> tuple[Network, Sandbox, Endpoint]:
    """A network as the planner gives it to the driver, before that decided anything, and an endpoint of it."""
    spec = lab.spec()
    pools = lab.create().pools
    lab.remove()
    network = Network(
        id=new_id(), name=spec.name, driver=spec.driver, pools=pools, internal=spec.internal, options=spec.options
    )
    sandbox = Sandbox(id=new_id(), name="one", path="/run/netns/one")
    first = {pool.subnet.version: pool for pool in reversed(pools)}.values()
    endpoint = Endpoint(
        id=new_id(),
        network=network.id,
        sandbox=sandbox.id,
        ifname="eth0" if pools else "",
        addresses=tuple(interface_of(pool.subnet[9], pool.subnet.prefixlen) for pool in first),
    )
    return network, sandbox, endpoint


def plans(driver: str, network: bytes, sandbox: bytes, endpoint: bytes) -> list[str]:
    """The steps of the network's and the endpoint's plan, from records as the store keeps them."""
    from fairlead.drivers import driver_named

    one, net = driver_named(driver), decode(Network, network)
    plan = one.network_plan(net, ()) + one.endpoint_plan(net, decode(Sandbox, sandbox), decode(Endpoint, endpoint))
    for step in plan:
        hash(step)  # Plans are compared by their steps.
    return list(map(repr, plan))


def _plans_elsewhere(driver: str, seed: str, records: list[Any]) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", MODULE, "plans"],
        input=json.dumps([driver, *(encode(record).decode() for record in records)]),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )
    expect(done.returncode == 0, f"another process cannot make the plans: {done.stderr.strip()}")
    found: list[str] = json.loads(done.stdout)
    return found


def _records_of(lab: Lab) -> list[Record]:
    return [record for kind in (Network, Sandbox, Endpoint) for record in lab.engine.store.all(kind)]


def _expect_held(lab: Lab, when: str = "after it was made") -> None:
    for record in _records_of(lab):
        for step, state in lab.executor.check(lab.engine.planner.plan_of(record)):
            expect(state is State.HOLDS, f"{when}: {step} {state.value}")


def _expect_reverts(lab: Lab, plan: Plan, what: str) -> None:
    before = snapshot()
    for count in range(len(plan) + 1):
        lab.executor.apply(Plan(plan.steps[:count]))
        lab.executor.revert(plan)
        lab.executor.revert(plan)
        expect_settled(before, f"{what}, taken back after {count} of {len(plan)} steps, left something behind")


def _indexes() -> list[str]:
    """Every link with its index: one that was made anew has another."""
    return re.findall(r"^(\d+: [^:]+):", sh("ip -o link; ip -all netns exec ip -o link"), re.MULTILINE)


def settled() -> dict[str, Any]:
    """The kernel's state, once it has stopped changing."""
    last: list[dict[str, Any]] = [{}]

    def still() -> bool:
        now = snapshot()
        same, last[0] = now == last[0], now
        return same

    until(still)
    return last[0]


def by_hand(setup: str, script: str) -> dict[str, Any]:
    """The kernel's state after the lines of a script were typed on a fresh host."""
    prepare(setup)
    sh(script)
    return settled()


def _made(lab: Lab, options: dict[str, str]) -> bool:
    """Whether a network can be made with these options; a refusal must be one sentence."""
    spec = lab.spec(**options)
    try:
        lab.engine.perform(lab.engine.planner.create_network, spec)
    except FairleadError as error:
        sentence = str(error)
        expect(sentence and "\n" not in sentence, f"the refusal of {options} is not one sentence: {sentence!r}")
        return False
    except Exception as error:
        raise Wrong(f"options {options} are not refused with a FairleadError, but by {error!r}") from error
    return True


def _ports(lab: Lab) -> tuple[PortSpec, ...]:
    """A port to publish, where the network takes it."""
    ports = (PortSpec(port=80, host_port=PUBLISHED),)
    if not lab.driver.has_links:
        return ()
    try:
        lab.endpoint("two", *ports)
    except FairleadError as error:
        expect("published" not in lab.case.reaches, f"no port can be published: {error}")
        return ()
    return ports


_SERVER = """
import socket
server = socket.create_server(("::", 80), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, _ = server.accept()
    client.sendall(b"here")
    client.close()
"""

_ASK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])) as s:
    sys.exit(s.recv(10) != b"here")
"""


@contextlib.contextmanager
def _server(namespace: str) -> Iterator[None]:
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", _SERVER]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        expect(server.stdout.readline(), "no server can be started in an endpoint's namespace")
        yield
    finally:
        server.kill()
        server.wait()


def _answers(namespace: str, *command: str) -> bool:
    where = ["ip", "netns", "exec", namespace] if namespace else []
    return subprocess.run([*where, *command], capture_output=True, timeout=30).returncode == 0


def _expect_reach(lab: Lab, *, refused: bool) -> None:
    """What is promised works; with `refused`, what is not promised does not."""
    if not lab.driver.has_links:
        return
    one, two = (lab.engine.catalog.endpoints(sandbox=lab.engine.catalog.sandbox(name).id)[0] for name in ("one", "two"))
    promised = lab.case.reaches
    with _server("two"):
        for version in sorted({interface.version for interface in one.addresses}):
            near, far = (_address(endpoint, version) for endpoint in (one, two))
            ping = ("ping", "-c1", "-W1")
            questions: dict[str, tuple[str, ...]] = {
                "neighbour": ("one", *ping, far),
                "host": ("", *ping, near),
                "outside": ("one", *ping, OUTSIDE[version]),
                "published": (OUTSIDE_NAMESPACE, sys.executable, "-c", _ASK, HOST[version], str(PUBLISHED), "1"),
            }
            for word, (where, *command) in questions.items():
                asked = f"over IPv{version} (to {command[-1] if 'ping' in command else ' port '.join(command[-3:-1])})"
                if word in promised:
                    # A carrier that came up a moment ago is no reason to fail.
                    works = until(functools.partial(_answers, where, *command))
                    expect(works, f"{word} is promised, but does not work {asked}")
                elif refused:
                    works = _answers(where, *command)
                    expect(not works, f"{word} is not promised, but works {asked}")


def _address(endpoint: Endpoint, version: int) -> str:
    return next(str(interface.ip) for interface in endpoint.addresses if interface.version == version)
