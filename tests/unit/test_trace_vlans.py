"""What a bridge that filters VLANs lets through, for ports in any combination of VLANs."""

from __future__ import annotations

import pytest

from fairlead.kernel.survey import LinkRow, VlanRow
from fairlead.see.trace.vlans import Plug, lacking


def plug(name: str, vlans: str, tag: int = 0) -> Plug:
    """A port whose VLANs are told in few words: ``10`` without tags, ``20t`` tagged, ``30u`` untagged, no pvid."""
    rows = []
    for text in vlans.split():
        first, _, last = text.rstrip("tup").partition("-")
        flags = text.lstrip("0123456789-") or "pu"
        rows.append(VlanRow(int(first), int(last or first), "p" in flags, "u" in flags))
    return Plug((1, "br0"), (1, name), LinkRow(len(name), name, vlans=tuple(rows)), tag)


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (("1", 0), ("1", 0), None),
        (("10", 0), ("10t", 10), None),
        (("10", 0), ("5-20t", 10), None),
        (("10t", 10), ("1 10t", 10), None),
        (("1", 0), ("10", 0), ("other", 1, "absent")),
        (("10", 0), ("1 10u", 0), ("one", 1, "absent")),  # the answer
        (("10", 0), ("10t", 0), ("other", 10, "with-tag")),
        (("10t", 10), ("10t", 0), ("other", 10, "with-tag")),
        (("10", 0), ("10", 10), ("other", 10, "without-tag")),
        (("1u", 0), ("1", 0), ("one", 1, "no-pvid")),
        (("", 0), ("10t", 10), ("one", 10, "no-pvid")),
        (("", 0), ("", 0), ("one", 1, "no-pvid")),
        (("1", 0), ("10t", 10), ("one", 10, "absent")),  # not 1 at the other: that one sends with the tag 10
        (("20t", 10), ("10", 0), ("one", 10, "absent")),
        (("10t", 10), ("20", 0), ("other", 10, "absent")),
    ],
)
def test_what_passes(one: tuple[str, int], other: tuple[str, int], found: tuple[str, int, str] | None) -> None:
    lack = lacking(plug("one", *one), plug("other", *other))
    assert (lack and (lack[0][1], lack[1].vlan, lack[1].why)) == found
    if lack:
        assert lack[1].tagged == bool({"one": one, "other": other}[lack[0][1]][1])


def test_what_a_port_is_in_is_told_in_part() -> None:
    lack = lacking(plug("one", "1"), plug("other", "100-200t"))
    assert lack
    assert lack[1].present == (100, 101, 102, 103)


def test_a_bridge_that_does_not_filter_and_two_bridges() -> None:
    plain = Plug((1, "br0"), (1, "v1"), LinkRow(1, "v1"))
    assert lacking(plain, plug("other", "10")) is None
    assert lacking(Plug((1, "br1"), (1, "v1"), LinkRow(1, "v1", vlans=())), plug("other", "10")) is None
