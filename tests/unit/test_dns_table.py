"""Who is known to whom."""

from __future__ import annotations

import random
from typing import Any

from fairlead.dns.table import Table, pack, reverse_name


def member(sandbox: str, network: str, *names: str, addresses: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    return {
        "sandbox": sandbox,
        "network": network,
        "network_name": f"Net.{network}",
        "names": list(names),
        "addresses": list(addresses),
        "links": {},
        "priority": 0,
        **more,
    }


def filled() -> Table:
    """`a` and `b` share network n1, `b` and `c` network n2."""
    table = Table()
    table.put("1", member("a", "n1", "A", addresses=("10.1.0.1",), links={"DB": "B"}))
    table.put("2", member("b", "n1", "b", "pool", addresses=("10.1.0.2", "fd00:1::2")))
    table.put("3", member("b", "n2", "b", addresses=("10.2.0.2",), priority=5))
    table.put("4", member("c", "n2", "c", "pool", addresses=("10.2.0.3",)))
    return table


def packed(*addresses: str) -> list[bytes]:
    return [pack(address) for address in addresses]


def test_names_belong_to_networks() -> None:
    table = filled()
    assert table.addresses("a", "b") == packed("10.1.0.2", "fd00:1::2")
    assert table.addresses("a", "a") == packed("10.1.0.1")
    assert table.addresses("a", "c") is None
    assert table.addresses("c", "a") is None
    assert table.addresses("nobody", "a") is None


def test_in_each_family_the_first_network_that_has_such_addresses_answers() -> None:
    table = filled()
    assert table.addresses("b", "b") == packed("10.2.0.2", "fd00:1::2")  # n2 has the higher priority, n1 has IPv6
    assert table.addresses("b", "pool") == packed("10.2.0.3", "fd00:1::2")
    assert table.addresses("b", "a") == packed("10.1.0.1")


def test_a_name_with_its_network() -> None:
    table = filled()
    assert table.addresses("b", "pool.net.n1") == packed("10.1.0.2", "fd00:1::2")
    assert table.addresses("b", "pool.net.n2") == packed("10.2.0.3")
    assert table.addresses("b", "pool.net") is None
    assert table.addresses("a", "pool.net.n2") is None
    assert table.addresses("b", ".net.n1") is None
    assert table.addresses("b", "") is None


def test_a_name_with_a_dot() -> None:
    table = filled()
    table.put("5", member("d", "n1", "x.y", addresses=("10.1.0.4",)))
    assert table.addresses("a", "x.y") == packed("10.1.0.4")
    assert table.addresses("a", "x.y.net.n1") == packed("10.1.0.4")


def test_links() -> None:
    table = filled()
    assert table.addresses("a", "db") == packed("10.1.0.2", "fd00:1::2")
    assert table.addresses("b", "db") is None


def test_pointers() -> None:
    table = filled()
    assert table.pointer("a", reverse_name(pack("10.1.0.2"))) == "b.net.n1"
    assert table.pointer("a", reverse_name(pack("fd00:1::2"))) == "b.net.n1"
    assert table.pointer("a", reverse_name(pack("10.2.0.3"))) is None
    assert reverse_name(pack("10.1.0.2")) == "2.0.1.10.in-addr.arpa"
    assert reverse_name(pack("fd00::1")).startswith("1.0.0.0.")


def test_whom_a_change_concerns() -> None:
    table = filled()
    assert table.put("5", member("d", "n1", "new")) == {"a", "b", "d"}
    assert table.put("5", member("d", "n2", "new")) == {"a", "b", "c", "d"}
    assert table.drop("5") == {"b", "c", "d"}
    assert table.drop("5") == set()


def test_an_address_that_went_to_another() -> None:
    """The new owner may be told of before the old one is dropped."""
    table = filled()
    table.put("5", member("d", "n1", "heir", addresses=("10.1.0.1",)))
    table.drop("1")
    assert table.pointer("b", reverse_name(pack("10.1.0.1"))) == "heir.net.n1"


def test_nothing_stays_of_what_is_dropped() -> None:
    """After any order of puts and drops the table is as if only what is there had ever been put."""
    chance = random.Random(1)
    table, there = Table(), {}
    for _ in range(2000):
        id_ = str(chance.randrange(12))
        if chance.random() < 0.4:
            table.drop(id_)
            there.pop(id_, None)
        else:
            names = chance.sample(["a", "b", "c"], 2)
            address = f"10.0.0.{chance.randrange(1, 250)}"
            there[id_] = member(chance.choice("xyz"), chance.choice("mn"), *names, addresses=(address,))
            table.put(id_, there[id_])
    fresh = Table()
    for id_, entry in there.items():
        fresh.put(id_, entry)
    for sandbox in "xyz":
        for name in ("a", "b", "c", "a.net.m", "c.net.n"):
            found, expected = table.addresses(sandbox, name), fresh.addresses(sandbox, name)
            assert (found is None) == (expected is None)
            assert name.count(".") == 0 or sorted(found or ()) == sorted(expected or ())
    for id_ in list(there):
        table.drop(id_)
    assert not table.members
    assert not table._networks
    assert not table._places
