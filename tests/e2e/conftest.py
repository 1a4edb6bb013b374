"""The machines on which the tests with real clients run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Host
from machine import BUSYBOX, Machine


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system of busybox alone, as a tar file."""
    base = tmp_path_factory.mktemp("image")
    root = base / "root"
    root.mkdir(mode=0o755)
    for name in ("bin", "etc", "tmp", "root", "proc", "sys", "dev"):
        (root / name).mkdir()
    (root / "bin/busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    subprocess.run(["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"], check=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nu1:x:1000:1000::/tmp:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nu1:x:1000:\nextra:x:2000:u1\n")
    subprocess.run(["tar", "-C", str(root), "-cf", str(base / "image.tar"), "."], check=True)
    return base / "image.tar"


@pytest.fixture
def machine(layer: Path) -> Iterator[Machine]:
    with Host() as host:
        one = Machine(host, layer)
        try:
            yield one
            for id_ in one.out("ps", "-aq").split():
                one.docker("rm", "-f", id_)
            assert one.leftovers() == ""
        finally:
            if one.daemon.poll() is None:
                one.stop()


@pytest.fixture(scope="module")
def shared(layer: Path) -> Iterator[Machine]:
    """One for all tests of a module, for those that mind only their own containers."""
    with Host() as host:
        one = Machine(host, layer)
        try:
            yield one
        finally:
            one.docker("rm", "-f", *one.out("ps", "-aq").split(), check=False)
            one.stop()
