"""The numbers as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.fairlead import Fairlead
from bench.measurements import TARGETS, Limit, Target
from bench.peer import Sample


@dataclass
class Results:
    """Row → contestant → what each round gave; and who could not take part, or failed, and why."""

    samples: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def add(self, contestant: str, sample: Sample) -> None:
        for row, value in sample.items():
            self.samples.setdefault(row, {}).setdefault(contestant, []).append(value)

    def median(self, row: str, contestant: str) -> float | None:
        values = self.samples.get(row, {}).get(contestant)
        return median(values) if values else None


def amount(row: str, value: float) -> str:
    """A value with its unit."""
    if row.startswith("memory"):
        return f"{value / 1e6:.1f} MB"
    return f"{value * 1e3:.2f} ms" if value < 10 else f"{value:.1f} s"


def ratio(value: float) -> str:
    """As a fraction where it is below one: ``1/20``."""
    return f"1/{1 / value:.1f}" if 0 < value < 1 else f"{value:.2f} x"


def judge(results: Results, target: Target | Limit) -> tuple[str, bool] | None:
    """What the target asks and what was found, and whether it is met; None if it was not measured."""
    own = results.median(target.row, Fairlead.name)
    if isinstance(target, Limit):
        if own is None:
            return None
        return (
            f"{target.row}: {amount(target.row, own)}, at most {amount(target.row, target.value)}",
            own <= target.value,
        )
    other_row = target.other_row or target.row
    other = results.median(other_row, target.other)
    if own is None or not other:
        return None
    against = target.other if not target.other_row else f"“{target.other_row}”"
    return (
        f"{target.row}: {ratio(own / other)} of {against}, at most {ratio(target.ratio)}",
        own / other <= target.ratio,
    )


def table(results: Results) -> str:
    """Row by row: each contestant's median, how far its rounds spread, and Fairlead's part of it."""
    lines = [f"{'':<20}{'median':>12}  {'lowest … highest':<26}{'rounds':>6}   Fairlead takes"]
    for row, contestants in results.samples.items():
        lines.append(f"\n{row}")
        own = results.median(row, Fairlead.name)
        for name, values in contestants.items():
            spread = f"{amount(row, min(values))} … {amount(row, max(values))}"
            middle = median(values)
            part = f"   {ratio(own / middle)}" if own is not None and middle and name != Fairlead.name else ""
            lines.append(f"  {name:<18}{amount(row, middle):>12}  {spread:<26}{len(values):>6}{part}")
    if results.absent:
        lines.append("\nnot measured")
        lines += [f"  {name}: {reason}" for name, reason in results.absent.items()]
    lines.append("\ntargets")
    for target in TARGETS:
        verdict = judge(results, target)
        lines.append(f"  {'not measured  ' + target.row}" if verdict is None else _verdict(*verdict))
    return "\n".join(lines)


def _verdict(text: str, met: bool) -> str:
    return f"  {'met' if met else 'MISSED':<12}  {text}"


def save(results: Results, file: Path) -> None:
    """All samples (seconds, bytes), the verdicts and the machine."""
    verdicts = [judge(results, target) for target in TARGETS]
    document = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"kernel": platform.release(), "cores": os.cpu_count(), "python": platform.python_version()},
        "samples": results.samples,
        "absent": results.absent,
        "targets": [{"text": verdict[0], "met": verdict[1]} for verdict in verdicts if verdict],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
