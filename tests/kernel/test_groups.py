"""Control groups that a runtime left behind."""

from __future__ import annotations

import os
import subprocess
import threading
from pathlib import Path

from fairlead.kernel import Kernel
from fairlead.kernel.cgroups import ROOT, Cgroup
from fairlead.model import new_id
from fairlead.plan.containers import StartMonitor
from fairlead.plan.runtime import Place, usual_parent


def trees() -> list[Path]:
    """Where the control groups of a process are, in every version."""
    return [ROOT] if Cgroup("/").version == 2 else [path for path in ROOT.iterdir() if (path / "cgroup.procs").exists()]


def test_a_creation_that_was_interrupted_leaves_no_group(tmp_path: Path) -> None:
    """crun makes the groups before it notes what it has made; it may be killed between, and its child be ending."""
    place = Place(new_id(), tmp_path)
    ending = subprocess.Popen(["sleep", "0.1"])
    groups = [tree / place.cgroup.lstrip("/") for tree in trees() if tree.name != "unified"]
    for group in groups:
        group.mkdir(parents=True)
    (groups[0] / "cgroup.procs").write_text(str(ending.pid))
    reaper = threading.Thread(target=ending.wait)  # Nobody is gone before that.
    reaper.start()
    try:
        place.runtime_state.mkdir(parents=True)
        StartMonitor(place).revert(Kernel(tmp_path))
        assert not place.runtime_state.exists()
        assert [group for group in groups if group.exists()] == []
    finally:
        reaper.join()
        for group in groups:
            if group.exists():
                os.rmdir(group)
        Cgroup(usual_parent() or place.cgroup).remove_empty()
