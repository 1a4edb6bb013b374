"""The platform that a request names."""

from __future__ import annotations

import pytest

from fairlead.api import platforms
from fairlead.api.platforms import check_platform
from fairlead.errors import Invalid


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "architecture", lambda: "amd64")


@pytest.mark.parametrize(
    "text",
    ["", "linux", "amd64", "linux/amd64", "Linux/AMD64", "linux/x86_64", "linux/amd64/v2", "{}", '{"os":"linux"}'],
)
def test_this_machine(text: str) -> None:
    check_platform(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foo", '"foo": unknown operating system or architecture: invalid argument'),
        ("arm64", "the platform arm64 cannot run here: only linux/amd64 can"),
        ("windows", "cannot run here"),
        ("linux/arm64/v8", "cannot run here"),
        ('{"os":"linux","architecture":"arm64"}', "cannot run here"),
        ("{", "the parameter platform is invalid"),
    ],
)
def test_others(text: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        check_platform(text)
