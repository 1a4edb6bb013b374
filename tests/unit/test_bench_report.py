"""The bench's verdicts: what counts as met, and what cannot be said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.measurements import Limit, Target
from bench.report import Results, amount, judge, ratio, save, table


@pytest.fixture
def results() -> Results:
    found = Results()
    for own, other in ((0.010, 0.100), (0.002, 0.040), (0.004, 0.060)):
        found.add("fairlead", {"attach": own, "memory, daemon idle": 50e6})
        found.add("netavark", {"attach": other})
    return found


@pytest.mark.parametrize(("limit", "met"), [(1 / 15, True), (1 / 16, False), (3, True)])
def test_a_target_compares_medians(results: Results, limit: float, met: bool) -> None:
    verdict = judge(results, Target("attach", limit, "netavark"))
    assert verdict is not None
    assert verdict[1] is met
    assert "1/15.0 of netavark" in verdict[0]


@pytest.mark.parametrize(("limit", "met"), [(60e6, True), (49e6, False)])
def test_a_limit_is_absolute(results: Results, limit: float, met: bool) -> None:
    verdict = judge(results, Limit("memory, daemon idle", limit))
    assert verdict is not None
    assert verdict[1] is met


@pytest.mark.parametrize(
    "target",
    [Target("attach", 1, "docker"), Target("ps", 2, "netavark"), Limit("ps", 1), Target("attach", 1, "netavark", "ps")],
)
def test_what_was_not_measured_is_not_judged(results: Results, target: Target | Limit) -> None:
    assert judge(results, target) is None


def test_numbers_for_people() -> None:
    assert [amount("attach", 0.00123), amount("start, 500 ports", 11.44), amount("memory, 1 port", 45.4e6)] == [
        "1.23 ms",
        "11.4 s",
        "45.4 MB",
    ]
    assert [ratio(0.05), ratio(1.5), ratio(1)] == ["1/20.0", "1.50 x", "1.00 x"]


def test_absent_contestants_and_missed_targets_are_told(results: Results, tmp_path: Path) -> None:
    results.absent["docker"] = "it is not installed"
    text = table(results)
    assert "docker: it is not installed" in text
    assert "MISSED        attach: 1/15.0 of netavark, at most 1/20.0" in text
    assert "not measured  ps" in text
    save(results, tmp_path / "deep/file.json")
    saved = json.loads((tmp_path / "deep/file.json").read_text())
    assert saved["samples"]["attach"]["netavark"] == [0.1, 0.04, 0.06]
    assert {"text": "attach: 1/15.0 of netavark, at most 1/20.0", "met": False} in saved["targets"]
