"""What the doctor finds while others work."""

from __future__ import annotations

from pathlib import Path

from kernel_lab import open_here, sh

from fairlead.paths import Paths
from fairlead.see.checks_ours import leaks
from fairlead.see.doctor import Patient
from fairlead.see.ground import Ground
from fairlead.spec import EndpointSpec


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
