"""What Fairlead relies on in a driver, as checks that any driver can be put through.

    from ipaddress import ip_network
    from fairlead.drivers.conformance import Case, Pool, check

    def test_my_driver() -> None:
        check(Case(driver="mine", reaches=("host", "outside", "published")))

`check` says nothing, or raises one `Nonconforming` with everything that is wrong.  It needs no test framework, but root
and the programs ip, nft, sysctl, nsenter, unshare and ping; the driver must be installed, as it is found by its entry
point.  Each check (`fairlead.drivers.conformance.checks`) runs in a process of its own, in network, mount and process
namespaces of its own: nothing reaches the machine's network, and nothing is left.

The host that a check sees is in `fairlead.drivers.conformance.lab`: `eth0` leads to a router.

This is a front door, as the daemon is one, and so imports the engine; no driver imports it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_network
from typing import Final, Literal

import msgspec

from fairlead.errors import MissingFeature
from fairlead.model import Pool, encode

__all__ = ["CHECKS", "Case", "Nonconforming", "Pool", "Reach", "check"]

Reach = Literal["neighbour", "host", "outside", "published"]

CHECKS: Final = ("interface", "decisions", "life", "halves", "repair", "lines", "reach", "refusals")
"""The functions of `fairlead.drivers.conformance.checks`, whose texts say what each asks for."""

UNSUPPORTED: Final = 3
"""The exit code of a check that met a kernel without what the driver needs."""

ISOLATED: Final = ("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
"""Before the command of a check: whatever it leaves in the kernel, or running, ends with it."""

_PATIENCE = 300
"""Seconds for one check."""


class Nonconforming(AssertionError):
    """The driver breaks what Fairlead relies on: one line, or a few, for each check that found something."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of network that the driver makes, and what it promises."""

    driver: str
    options: dict[str, str] = {}
    pools: tuple[Pool, ...] = (Pool(subnet=ip_network("10.98.0.0/24")), Pool(subnet=ip_network("fd98::/64")))
    internal: bool = False
    setup: str = ""
    """Shell lines that are typed on the host first, such as those that make an interface which an option names."""
    reaches: tuple[Reach, ...] = ()
    """What works, in each family of the pools; what is not in it must not work.

    ``neighbour``: one endpoint of the network pings another; ``host``: the host pings an endpoint; ``outside``: an
    endpoint pings a machine behind the host's router; ``published``: that machine reaches a port of an endpoint, at
    the port of the host on which it is published.
    """
    refuses: tuple[dict[str, str], ...] = ()
    """Options, besides those of the case, with which no network can be made."""


def check(case: Case, *, only: tuple[str, ...] = CHECKS) -> None:
    """Put the driver through the checks; raises `Nonconforming`, or `MissingFeature` where this kernel cannot."""
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda name: _run(case, name), only))
    if lacking := next((said.stderr.strip() for said in done if said.returncode == UNSUPPORTED), ""):
        raise MissingFeature(lacking)
    failures = [f"{name}: {said.stderr.strip()}" for name, said in zip(only, done, strict=True) if said.returncode]
    if failures:
        raise Nonconforming(f"the driver {case.driver} does not conform:\n" + "\n".join(failures))


def _run(case: Case, name: str) -> subprocess.CompletedProcess[str]:
    # The same modules as here, wherever this process got its path from.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with tempfile.TemporaryDirectory(prefix="fairlead-conformance-") as directory:
        command = [*ISOLATED, sys.executable, "-m", __name__, name, directory]
        try:
            return subprocess.run(
                command,
                input=encode(case).decode(),
                capture_output=True,
                text=True,
                timeout=_PATIENCE,
                env=environment,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"not done after {_PATIENCE} s")
