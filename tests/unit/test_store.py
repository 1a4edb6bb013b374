from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from fairlead.engine import KINDS
from fairlead.errors import Conflict, FairleadError
from fairlead.model import Endpoint, Network, Pool, PublishedPort, Sandbox, new_id
from fairlead.store import Store

_opened: list[Store] = []


def opened(path: Path) -> Store:
    _opened.append(Store(path / "store.db", KINDS))
    return _opened[-1]


@pytest.fixture(autouse=True)
def let_go() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def network(name: str) -> Network:
    return Network(id=new_id(), name=name, driver="bridge", pools=(Pool(subnet=ip_network("10.0.0.0/24")),))


def test_records_outlive_the_process_with_their_types(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one = network("one")
    endpoint = Endpoint(id=new_id(), network=one.id, sandbox="s", addresses=(ip_interface("10.0.0.2/24"),))
    store.put(one, endpoint)
    store.close()
    again = opened(tmp_path)
    assert again.get(Network, one.id) == one
    assert again.get(Endpoint, endpoint.id) == endpoint
    assert again.owner("network:one") == one
    assert again.owner(f"address:{one.id}:10.0.0.2") == endpoint


def test_nobody_gets_what_another_has_and_a_refused_transaction_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one, two = network("same"), network("same")
    store.put(one)
    other = network("other")
    with pytest.raises(Conflict, match="network:same is taken by network"):
        store.put(other, two)
    assert store.all(Network) == [one]
    assert store.owner("network:other") is None
    store.close()
    assert opened(tmp_path).all(Network) == [one]


def test_a_deleted_record_frees_its_claims(tmp_path: Path) -> None:
    store = opened(tmp_path)
    one = network("same")
    store.put(one)
    store.delete(one)
    store.put(network("same"))


def test_an_error_inside_a_transaction_rolls_everything_back(tmp_path: Path) -> None:
    store = opened(tmp_path)
    sandbox = Sandbox(id=new_id(), name="a", path="/x")

    def write() -> None:
        with store.transaction():
            store.put(sandbox)
            store.keep("key", "value")
            store.put(Sandbox(id=new_id(), name="a", path="/y"))

    with pytest.raises(Conflict):
        write()
    assert store.all(Sandbox) == []
    assert store.setting("key") is None
    assert store.owner("sandbox:a") is None


def test_a_file_that_is_no_store_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"not a database at all, and long enough to be read as one" * 100)
    with pytest.raises(FairleadError, match="cannot be used"):
        opened(tmp_path)


def test_readers_see_the_store_while_sqlite_is_open_elsewhere(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.put(network("one"))
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute("select count(*) from record").fetchone() == (1,)


def test_claims_are_found_by_their_stem(tmp_path: Path) -> None:
    store = opened(tmp_path)

    def endpoint(*addresses: str) -> Endpoint:
        ports = tuple(
            PublishedPort(host_ip=ip_address(address), host_port=80, protocol="tcp", port=80) for address in addresses
        )
        return Endpoint(id=new_id(), network="n", sandbox=new_id(), ports=ports)

    one, two = endpoint("192.0.2.1", "::1"), endpoint("192.0.2.2")
    store.put(one, two)
    everything = [("192.0.2.1", one), ("192.0.2.2", two), ("::1", one)]
    assert sorted(store.owners("port:tcp/80"), key=lambda pair: pair[0]) == everything
    assert store.owners("port:tcp/8") == store.owners("port:udp/80") == []

    def clash() -> None:
        with store.transaction():
            store.delete(one)
            store.put(endpoint("192.0.2.2"))

    with pytest.raises(Conflict):
        clash()
    assert sorted(store.owners("port:tcp/80"), key=lambda pair: pair[0]) == everything
    store.delete(one)
    store.close()
    assert opened(tmp_path).owners("port:tcp/80") == [("192.0.2.2", two)]
