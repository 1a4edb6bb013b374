"""What is left behind: what the doctor takes for it while others work, and what an engine keeps open."""

from __future__ import annotations

import contextlib
import gc
import os
from pathlib import Path

from kernel_lab import open_here, sh
from machine import eventually

from fairlead.paths import Paths
from fairlead.see.checks_ours import leaks
from fairlead.see.doctor import Patient
from fairlead.see.ground import Ground
from fairlead.spec import EndpointSpec, PortSpec


def test_what_comes_and_goes_while_it_looks_is_no_leak(fresh_kernel: None, tmp_path: Path) -> None:
    engine = open_here(tmp_path)
    ground = Ground(
        paths=Paths(state=tmp_path / "state", run=tmp_path / "run"),
        kernel=engine._executor.kernel,
        store=engine.store,
        planner=engine.planner,
    )
    engine.perform(engine.planner.open_sandbox, "one")
    patient = Patient(ground)
    endpoint = engine.perform(engine.planner.attach, "one", EndpointSpec(network="bridge"))
    assert endpoint.host_ifname in {one.name for space in patient.snapshot.namespaces for one in space.interfaces}
    engine.perform(engine.planner.detach, "one", "bridge")
    assert not list(leaks(patient))
    mark = f"fairlead:{endpoint.id}"
    sh(f"ip link add left type veth peer name right; ip link set left alias {mark}")
    assert ["left" in finding.sentence for finding in leaks(Patient(ground))] == [True]
    engine.reset()


def test_a_closed_engine_leaves_no_descriptor(fresh_kernel: None, tmp_path: Path) -> None:
    """More than once, as what the process keeps for good (libnftables, its small numbers) is opened the first time."""

    def live(directory: Path) -> None:
        engine = open_here(directory)
        engine.perform(engine.planner.open_sandbox, "one")
        port = PortSpec(port=80, host_port=8081)
        engine.perform(engine.planner.attach, "one", EndpointSpec(network="bridge", ports=(port,)))
        engine.reset()
        engine.close()

    live(tmp_path / "first")
    gc.collect()
    before = descriptors()
    live(tmp_path / "second")
    eventually(lambda: descriptors() == before)


def descriptors() -> list[str]:
    """What each of this process's descriptors is of; namespaces and sockets by kind alone."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # The one that lists them.
            found.append(os.readlink(f"/proc/self/fd/{number}").split("[")[0])
    return sorted(found)
