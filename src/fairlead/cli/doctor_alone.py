"""The doctor when no daemon runs: this process looks by itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import msgspec

from fairlead.errors import FairleadError
from fairlead.paths import Paths
from fairlead.see import doctor, mend
from fairlead.see.checks import CHECKS
from fairlead.see.doctor import Finding, Patient
from fairlead.see.ground import Ground, alone


def examine(reason: str) -> list[dict[str, Any]]:
    """The findings, in the API's form; `reason`: why there is no daemon to ask."""
    ground, findings = _ground()
    away = Finding(
        check="daemon",
        result="warning",
        sentence=f"{reason} (containers and ports go on without it, but nothing can be changed)",
        remedy=("systemctl start fairlead  # or any other fairlead command, which starts it",),
    )
    found = [away, *findings, *doctor.examine(Patient(ground, daemon=False), CHECKS)]
    return [msgspec.to_builtins(finding) for finding in found]


def lines() -> list[str]:
    """What a repair would do."""
    ground, _ = _ground()
    patient = Patient(ground, daemon=False)
    return mend.lines(patient, doctor.examine(patient, CHECKS))


def _ground() -> tuple[Ground, list[Finding]]:
    paths = Paths.from_environment()
    try:
        return alone(paths), []
    except FairleadError as error:
        # The host can be looked at all the same; of the state there is none.
        ground = alone(dataclasses.replace(paths, state=Path("/nonexistent")))
        return ground, [Finding(check="store", result="failed", sentence=str(error))]
