"""Every test process lives in an outer network and mount namespace of its own, so nothing reaches the machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernel_lab import let_go
from lab import Host

_CLONE_NEWNS = 0x20000
_CLONE_NEWNET = 0x40000000
_NEEDS_ROOT = ("kernel", "e2e", "crash", "fuzz")

_libc = ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def pytest_configure() -> None:
    hypothesis.settings.register_profile("here", deadline=None, max_examples=60, database=None)
    hypothesis.settings.load_profile("here")
    if os.geteuid() == 0:
        _unshare(_CLONE_NEWNET | _CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if any(part in _NEEDS_ROOT for part in item.path.parts):
            item.add_marker(pytest.mark.skip(reason="needs root"))


def _end_keepers() -> None:
    """The keepers of engines that a test did not reset."""
    let_go()
    here = os.stat("/proc/self/ns/net").st_ino
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.stat(process / "ns/net").st_ino == here and (process / "comm").read_bytes() == b"fairlead-keeper\n":
                os.kill(int(process.name), signal.SIGKILL)


@pytest.fixture
def host() -> Iterator[Host]:
    """A fresh fake host with an internet."""
    with Host() as one:
        yield one


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    """This very process moves to a fresh network namespace, with an empty /run/netns of its own."""
    _unshare(_CLONE_NEWNET)
    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run/netns"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # A new namespace has it from the machine's own, where a daemon under test may run (devconf_inherit_init_net).
    Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
    yield
    _end_keepers()
    subprocess.run("umount -l /run/netns/* /run/netns 2>/dev/null", shell=True, check=False)
