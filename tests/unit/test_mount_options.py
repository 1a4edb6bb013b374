"""Options of mount(8) as flags of mount(2)."""

from __future__ import annotations

import pytest

from fairlead.kernel.mounts import parse_options


@pytest.mark.parametrize(
    ("text", "flags", "data"),
    [
        ("", 0, ""),
        ("bind", 4096, ""),
        ("rbind,ro", 4096 | 16384 | 1, ""),
        ("size=1m,noexec,uid=7", 8, "size=1m,uid=7"),
        ("ro,rw,defaults", 0, ""),
        ("addr=10.0.0.1,rw,nolock,soft,nosuid,nodev", 6, "addr=10.0.0.1,nolock,soft"),
        ("bind,rshared", 4096 | 16384 | 1 << 20, ""),
    ],
)
def test_options(text: str, flags: int, data: str) -> None:
    assert parse_options(text) == (flags, data)
