from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import ipam
from fairlead.errors import Conflict, Invalid
from fairlead.model import Pool

subnets = st.builds(
    lambda number, length: IPv4Network((number, length), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(22, 30),
)


@given(subnets, st.data())
def test_addresses_are_unique_usable_and_run_out_exactly(subnet: IPv4Network, data: st.DataObject) -> None:
    hosts = list(subnet.hosts())
    gateway = data.draw(st.sampled_from(hosts))
    pool = Pool(subnet=subnet, gateway=gateway)
    hints = ipam.Hints()
    given_out: set[object] = set()
    for _ in range(len(hosts) - 1):
        address = hints.allocate("n", pool, given_out.__contains__)
        assert address in hosts
        assert address != gateway
        assert address not in given_out
        given_out.add(address)
    with pytest.raises(Conflict, match="no free address"):
        hints.allocate("n", pool, given_out.__contains__)
    back = data.draw(st.sampled_from(sorted(given_out)))
    given_out.remove(back)
    hints.released("n", pool, back)
    assert hints.allocate("n", pool, given_out.__contains__) == back


@given(st.lists(subnets, max_size=40))
def test_a_chosen_subnet_overlaps_nothing(used: list[IPv4Network]) -> None:
    chosen = ipam.choose_subnet(used)
    assert not any(chosen.overlaps(other) for other in used)


def test_default_pools_are_dockers_and_run_out_after_31() -> None:
    used = []
    while len(used) < 31:
        used.append(ipam.choose_subnet(used))
    assert used[0] == ip_network("172.17.0.0/16")
    assert used[14] == ip_network("172.31.0.0/16")
    assert used[15] == ip_network("192.168.0.0/20")
    with pytest.raises(Conflict, match="all predefined address pools"):
        ipam.choose_subnet(used)


def test_leases_stay_within_the_range() -> None:
    pool = Pool(subnet=ip_network("10.0.0.0/16"), ip_range=ip_network("10.0.5.0/30"), gateway=ip_address("10.0.5.0"))
    taken: set[object] = set()
    for _ in range(3):
        taken.add(ipam.first_free(pool, taken.__contains__))
    assert taken == {ip_address(f"10.0.5.{i}") for i in (1, 2, 3)}
    with pytest.raises(Conflict):
        ipam.first_free(pool, taken.__contains__)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("10.1.0.1", "is not in the subnet 10.0.0.0/24 of network n"),
        ("10.0.0.0", "is reserved: it is the network or broadcast address"),
        ("10.0.0.255", "is reserved: it is the network or broadcast address"),
        ("10.0.0.1", "is reserved: it is the gateway of network n"),
        ("10.0.0.9", "is reserved as auxiliary address router of network n"),
    ],
)
def test_addresses_that_may_not_be_asked_for(address: str, sentence: str) -> None:
    pool = Pool(
        subnet=ip_network("10.0.0.0/24"),
        gateway=ip_address("10.0.0.1"),
        auxiliary={"router": ip_address("10.0.0.9")},
    )
    with pytest.raises((Invalid, Conflict), match=sentence):
        ipam.check_address(pool, ip_address(address), "n")
