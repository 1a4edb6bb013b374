"""Platforms: in which words they are told, and whose images run where."""

from __future__ import annotations

import pytest

from fairlead.errors import Invalid
from fairlead.images import platforms
from fairlead.images.platforms import Platform, parse_platform, runnable_on, runs_on


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platforms, "here", lambda: Platform("linux", "amd64", "v3"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux", "linux/amd64/v3"),
        ("{}", "linux/amd64/v3"),
        ('{"os":"linux"}', "linux/amd64/v3"),
        ("amd64", "linux/amd64"),
        ("Linux/AMD64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2"),
        ("linux/arm64/v8", "linux/arm64"),
        ("aarch64", "linux/arm64"),
        ("linux/arm", "linux/arm"),
        ("linux/arm/7", "linux/arm"),
        ("armel", "linux/arm/v6"),
        ("linux/nosuch", "linux/nosuch"),
        ("windows", "windows/amd64/v3"),
        ('{"os":"linux","architecture":"arm64","variant":"v8"}', "linux/arm64"),
    ],
)
def test_words(text: str, found: str) -> None:
    assert str(parse_platform(text)) == found


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("foo", '"foo": unknown operating system or architecture: invalid argument'),
        ("linux/", '"" is an invalid component of "linux/"'),
        ("linux/a/b/c", '"linux/a/b/c": cannot parse platform specifier: invalid argument'),
        ("{", "the parameter platform is invalid"),
    ],
)
def test_what_is_none(text: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        parse_platform(text)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("linux/amd64/v3", "linux/amd64/v3 linux/amd64/v2 linux/amd64 linux/386"),
        ("linux/amd64", "linux/amd64 linux/386"),
        ("linux/arm64", "linux/arm64 linux/arm/v8 linux/arm linux/arm/v6 linux/arm/v5"),
        ("linux/arm/v6", "linux/arm/v6 linux/arm/v5"),
        ("linux/riscv64", "linux/riscv64"),
    ],
)
def test_whose_images_run_where(target: str, found: str) -> None:
    assert " ".join(map(str, runnable_on(parse_platform(target)))) == found


def test_an_image_without_a_variant_may_be_for_any() -> None:
    assert runs_on(Platform("linux", "arm"), Platform("linux", "arm", "v6"))
    assert not runs_on(Platform("linux", "arm", "v8"), Platform("linux", "arm", "v6"))
    assert not runs_on(Platform("linux", "arm64"), Platform("linux", "amd64"))
