"""libnftables in a process that has many descriptors open."""

from __future__ import annotations

import subprocess
import sys

import pytest

CHANGE = """
import os, resource
from fairlead.kernel.nftables import Nftables, tables
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
first = Nftables()
first.run("add table inet one")
others = [os.dup(0) for _ in range({count})]
for round_ in range(20):
    second = Nftables()
    second.run(f"add table inet two {{{{ flags owner; }}}}; add chain inet two c{{round_}}")
    assert [str(table) for table in tables()] == ["inet one", "inet two"], tables()
    second.close()
    assert [str(table) for table in tables()] == ["inet one"], tables()
first.run("delete table inet one")
print("changed")
"""


@pytest.mark.parametrize("count", [10, 700, 2000])
def test_rules_are_changed_however_many_descriptors_are_open(fresh_kernel: None, count: int) -> None:
    """libnftables waits with select(2), which ends the process where a number is too great."""
    done = subprocess.run(
        [sys.executable, "-c", CHANGE.format(count=count)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "changed\n"), done.stderr


def test_where_no_small_number_is_left_it_is_said(fresh_kernel: None) -> None:
    program = """
import os, resource
from fairlead.errors import KernelError
from fairlead.kernel.nftables import Nftables
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
others = [os.dup(0) for _ in range(2000)]
try:
    Nftables().run("add table inet one")
except KernelError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stdout == "too many open files: libnftables needs a descriptor below 1024, and all are in use\n", done
