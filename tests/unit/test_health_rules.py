"""Health checks: what the user and the image say, and how results are judged."""

from __future__ import annotations

from typing import Any

import pytest

from fairlead.api.health_spec import health_check
from fairlead.api.log_spec import log_config
from fairlead.cli.flags import Usage
from fairlead.cli.parse import duration as parse_duration
from fairlead.containers.health import Health, Result, duration, wait_before
from fairlead.containers.record import HealthCheck
from fairlead.errors import Invalid
from fairlead.images.changes import apply_changes

S = 10**9


def result(code: int, start: float = 100.0) -> Result:
    return Result(start=start, end=start + 1, exit_code=code, output="")


def judged(codes: list[int], check: HealthCheck | None = None, *, start: float = 100.0) -> Health:
    health = Health()
    for code in codes:
        health.judge(result(code, start), check or HealthCheck(retries=2), started=90.0)
    return health


@pytest.mark.parametrize(
    ("codes", "status", "streak"),
    [
        ([], "starting", 0),
        ([0], "healthy", 0),
        ([1], "starting", 1),
        ([1, 1], "unhealthy", 2),
        ([1, 0, 1], "healthy", 1),
        ([1, 1, 0], "healthy", 0),
        ([0, -1, 137], "unhealthy", 2),
    ],
)
def test_results_add_up(codes: list[int], status: str, streak: int) -> None:
    health = judged(codes)
    assert (health.status, health.streak, len(health.results)) == (status, streak, len(codes))


def test_the_start_period() -> None:
    check = HealthCheck(retries=1, start_period=20 * S, start_interval=2 * S, interval=7 * S)
    assert judged([1, 1, 1], check).status == "starting"
    assert judged([0, 1], check).status == "unhealthy"  # Once it was healthy, failures count.
    assert judged([1], check, start=111.0).status == "unhealthy"
    assert wait_before(Health(), check, 90.0, 100.0) == 2
    assert wait_before(Health(), check, 90.0, 111.0) == 7
    assert wait_before(Health(status="healthy"), check, 90.0, 100.0) == 7
    assert wait_before(Health(), HealthCheck(), 90.0, 100.0) == 30


def test_five_results_are_kept() -> None:
    health = Health()
    for number in range(8):
        health.judge(result(number), HealthCheck(), 90.0)
    assert [one.exit_code for one in health.results] == [3, 4, 5, 6, 7]


def test_the_image_completes_the_user() -> None:
    image = {"Healthcheck": {"Test": ["CMD", "a"], "Interval": 5 * S, "Retries": 4}, "Shell": ["/bin/ash", "-c"]}
    assert health_check({}, {}) is None
    assert health_check({}, image) == HealthCheck(
        test=("CMD", "a"), interval=5 * S, retries=4, shell=("/bin/ash", "-c")
    )
    mine = health_check({"Healthcheck": {"Test": ["CMD-SHELL", "b c"], "Retries": 1}}, image)
    assert mine is not None
    assert (mine.command, mine.interval, mine.retries) == (("/bin/ash", "-c", "b c"), 5 * S, 1)
    nothing = health_check({"Healthcheck": {"Test": ["NONE"]}}, image)
    assert nothing is not None
    assert nothing.command == ()


@pytest.mark.parametrize(
    "check",
    [
        [],
        {"Test": "x"},
        {"Test": ["CMD"]},
        {"Test": ["RUN", "x"]},
        {"Test": ["CMD", 1]},
        {"Interval": 1},
        {"Timeout": "1s"},
        {"Retries": -1},
        {"StartPeriod": 1 << 63},
    ],
)
def test_wrong_checks(check: Any) -> None:
    with pytest.raises(Invalid):
        health_check({"Healthcheck": check}, {})


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [(S, "1s"), (90 * S, "1m30s"), (3600 * S, "1h0m0s"), (S // 2, "500ms"), (2_500_000_000, "2.5s")],
)
def test_durations(nanoseconds: int, text: str) -> None:
    assert duration(nanoseconds) == text
    assert parse_duration(text, "--x") == nanoseconds


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s2", "-1s"])
def test_wrong_durations(text: str) -> None:
    if text:
        with pytest.raises(Usage):
            parse_duration(text, "--x")


def test_healthcheck_in_a_change_of_an_image() -> None:
    change = 'HEALTHCHECK --interval=1m30s --retries=2 --start-period=500ms CMD ["a", "b"]'
    check = apply_changes({}, [change])["Healthcheck"]
    assert check == {"Interval": 90 * S, "Retries": 2, "StartPeriod": S // 2, "Test": ["CMD", "a", "b"]}
    assert apply_changes({}, ["HEALTHCHECK CMD a | b"])["Healthcheck"]["Test"] == ["CMD-SHELL", "a | b"]
    assert apply_changes({}, ["HEALTHCHECK NONE"])["Healthcheck"]["Test"] == ["NONE"]
    for wrong in ("HEALTHCHECK RUN x", "HEALTHCHECK --speed=1 CMD x", "HEALTHCHECK --interval=1 CMD x"):
        with pytest.raises(Invalid):
            apply_changes({}, [wrong])


def test_log_options() -> None:
    log, warnings = log_config({"LogConfig": {"Type": "", "Config": {"max-size": "10m", "max-file": "3"}}})
    assert (log.driver, log.max_size, log.max_file, warnings) == ("json-file", 10 << 20, 3, [])
    log, _ = log_config({"LogConfig": {"Type": "local", "Config": {}}})
    assert (log.max_size, log.max_file) == (20 << 20, 5)
    for size in ("0", "-5", "m", "1x", "ten", "1e999999"):
        with pytest.raises(Invalid):
            log_config({"LogConfig": {"Config": {"max-size": size}}})
    for wrong in (
        {"mode": "slow"},
        {"max-buffer-size": "1m"},
        {"mode": "non-blocking", "max-buffer-size": "much"},
        {"labels-regex": "("},
        {"tag": "{{.Nope}}"},
        {"tag": "{{lower .Name}}"},
    ):
        with pytest.raises(Invalid):
            log_config({"LogConfig": {"Config": wrong}})
    log, warnings = log_config({"LogConfig": {"Type": "none", "Config": {"max-size": "nope", "a": "b"}}})
    assert (log.options, warnings) == ({"max-size": "nope", "a": "b"}, [])
    _, warnings = log_config({"LogConfig": {"Config": {"max-file": "2"}}})
    assert warnings == ["the log option max-file has no effect without max-size: no second file is begun"]
