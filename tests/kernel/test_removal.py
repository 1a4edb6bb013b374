"""Deleting links: gone when the call returns, though the kernel has not freed them yet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_lab import links, sh

from fairlead.kernel import Kernel, NetlinkError


@pytest.fixture
def kernel(fresh_kernel: None, tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    yield one
    one.close()


def test_links_are_gone_at_once(kernel: Kernel) -> None:
    sh("ip netns add inner; ip link add br0 type bridge")
    for number in range(20):
        sh(f"ip link add v{number} master br0 up type veth peer name e{number} netns inner")
        with kernel.batch("") as batch:
            batch.delete_link(f"v{number}")
        assert f"v{number}" not in links()
        assert f"e{number}" not in links("inner")
        assert not sh("bridge link show")


def test_a_name_is_free_again(kernel: Kernel) -> None:
    for _ in range(20):
        sh("ip link add one type bridge")
        with kernel.batch("") as batch:
            batch.delete_link("one")


def test_in_another_namespace(kernel: Kernel) -> None:
    sh("ip netns add inner; ip -n inner link add one type bridge; ip link add one type bridge")
    with kernel.batch("/run/netns/inner") as batch:
        batch.delete_link("one")
    assert "one" not in links("inner")
    assert "one" in links()


def test_what_is_gone_already_is_no_error(kernel: Kernel) -> None:
    with kernel.batch("") as batch:
        batch.delete_link("absent")


def test_a_refusal_is_told(kernel: Kernel) -> None:
    with pytest.raises(NetlinkError, match="cannot delete the interface lo: "), kernel.batch("") as batch:
        batch.delete_link("lo")
