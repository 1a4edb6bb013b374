"""Mending what is ours: by the engine, in the way of a start; and the same as the lines that a person would type."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from fairlead.dns.feed import Feed
from fairlead.engine import Engine
from fairlead.firewall import TABLE
from fairlead.kernel import rtnetlink
from fairlead.model import Endpoint, Link, Network, Sandbox
from fairlead.plan import State
from fairlead.plan.firewall import AddElement
from fairlead.plan.netlink import GONE
from fairlead.see import checks_host, checks_ours
from fairlead.see.doctor import Finding, Patient

ROUNDS = 5
PAUSE = 0.2
"""Seconds.  Of a namespace that somebody deleted the kernel takes a moment to remove the links, once the resolver has
let go of it; until then their other ends are in the way of new ones."""


def mend(engine: Engine, names: Feed, look: Callable[[], Patient]) -> None:
    """Make everything of ours what the records say; what cannot be mended is left, for a new look to find."""
    for _ in range(ROUNDS):
        engine.mend_all()
        _mend_mtu(engine, look())
        names.renew()
        if not any(finding.ours for finding in checks_ours.objects(look())):
            return
        time.sleep(PAUSE)


def _mend_mtu(engine: Engine, patient: Patient) -> None:
    for wrong in checks_host.unequal(patient):
        if not wrong.namespace or engine.kernel.namespaces.exists(wrong.namespace):
            with engine.kernel.batch(wrong.namespace) as batch:
                message = rtnetlink.set_mtu(wrong.name, wrong.wants)
                batch.add(message, f"cannot set the MTU of {wrong.name}", GONE)


def lines(patient: Patient, findings: list[Finding]) -> list[str]:
    """What `mend` would do, as a diff: of each record that is not whole the lines that make it, those to be typed
    marked with ``+``, those that hold already with a space."""
    return list(_lines(patient, findings))


def _lines(patient: Patient, findings: list[Finding]) -> Iterator[str]:
    mine = [finding for finding in findings if finding.ours and finding.result != "ok"]
    wrong = {finding.check for finding in mine}
    if "forwarding" in wrong:
        yield "# the host"
        yield from (f"+ {line}" for finding in mine if finding.check == "forwarding" for line in finding.remedy)
    whole = "table" in wrong and _table_is_broken(patient)
    if whole:
        yield "# the table inet fairlead"
        yield from (f"+ {line}" for line in TABLE.shell())
    for kind in (Network, Sandbox, Link, Endpoint):
        for record in patient.all(kind):
            yield from _record(patient, record, whole)
    for finding in mine:
        if finding.check in ("leaks", "mtu"):
            yield f"# {finding.sentence}"
            yield from (f"+ {line}" for line in finding.remedy)


def _table_is_broken(patient: Patient) -> bool:
    """Whether the table itself is exchanged, and not only elements added."""
    return any("lacks" not in finding.sentence for finding in checks_ours.table(patient))


def _record(patient: Patient, record: Network | Sandbox | Link | Endpoint, new_table: bool) -> Iterator[str]:
    states = [
        # In a table made anew there is no element.
        (step, State.MISSING if new_table and isinstance(step, AddElement) else state)
        for step, state in patient.check(record, (), but=True)
    ]
    if all(state is State.HOLDS for _, state in states):
        return
    yield f"# {patient.title(record)}"
    for step, state in states:
        sign = " " if state is State.HOLDS else "+"
        undo = step.clearing(patient.ground.kernel) if state is State.DIFFERS else ()
        yield from (f"{sign} {line}" for text in (*undo, *step.shell()) for line in text.splitlines())
