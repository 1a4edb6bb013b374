"""What the doctor advises on control groups, by the table of mounts and the kernel's release."""

from __future__ import annotations

import pytest

from fairlead.see.checks_host import favourable

TWO = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate{} 0 0\n"
ONE = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu{} 0 0\n"
HYBRID = ONE + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "release", "version", "remedy"),
    [
        (TWO, "6.1.0-56-amd64", "2", "mount -o remount,favordynmods /sys/fs/cgroup"),
        (TWO, "5.10.0", "2", ""),
        (HYBRID, "6.1.0", "1", "mount -o remount,favordynmods /sys/fs/cgroup/unified"),
        (ONE, "6.1.0", "1", ""),
        (ONE, "6.18.44", "1", ""),
    ],
)
def test_advice(mounts: str, release: str, version: str, remedy: str) -> None:
    found = favourable(mounts.format(""), release)
    assert (found.result, "".join(found.remedy)) == ("ok", remedy)
    assert f"of version {version}" in found.sentence
    assert ("10 ms sooner" in found.sentence) == bool(remedy or release == "6.18.44")
    assert ("kernel's command line" in found.sentence) == (release == "6.18.44")
    done = favourable(mounts.format(",favordynmods"), release)
    assert done.remedy == ()
    assert "without a wait" in done.sentence
