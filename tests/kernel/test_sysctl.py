"""Settings of links, of the host's and of many namespaces', each written where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_lab import sh

from fairlead.errors import KernelError
from fairlead.kernel import Kernel
from fairlead.model import HOST
from fairlead.plan.netlink import link_name
from fairlead.plan.sysctl import SetSysctl


def setting(value: str, namespace: str = HOST, name: str = "net/ipv6/conf/lo/hop_limit") -> SetSysctl:
    return SetSysctl(name, value, link=link_name(namespace, "lo"), namespace=namespace)


def read(namespace: str = "") -> str:
    where = f"ip netns exec {namespace} " if namespace else ""
    return sh(f"{where}cat /proc/sys/net/ipv6/conf/lo/hop_limit").strip()


@pytest.fixture
def kernel(fresh_kernel: None, tmp_path: Path) -> Iterator[Kernel]:
    one = Kernel(tmp_path)
    yield one
    one.close()


def test_each_namespace_has_its_own(kernel: Kernel) -> None:
    """Of more namespaces than are looked at in one mount of /proc."""
    names = [f"n{number}" for number in range(70)]
    for number, name in enumerate(names):
        sh(f"ip netns add {name}")
        setting(str(100 + number), f"/run/netns/{name}").apply(kernel)
        if not number % 9:
            setting(str(50 + number)).apply(kernel)
    assert [read(name) for name in names] == [str(100 + number) for number in range(70)]
    assert read() == "113"
    setting("99", "/run/netns/n0").apply(kernel)
    assert (read("n0"), read("n1"), read()) == ("99", "101", "113")


def test_a_setting_that_is_not_there(kernel: Kernel) -> None:
    absent = "net/ipv6/conf/absent/hop_limit"
    with pytest.raises(KernelError, match=r"cannot set net\.ipv6\.conf\.absent\.hop_limit to 1: No such file"):
        setting("1", name=absent).apply(kernel)
    SetSysctl(absent, "1", link="link::absent", optional=True).apply(kernel)
