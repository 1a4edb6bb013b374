"""The life of a container, its names, and when it is started again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fairlead.containers.names import random_name
from fairlead.containers.record import NEXT, Container, ContainerSpec, Restart, Status
from fairlead.errors import FairleadError
from fairlead.model import decode, encode
from fairlead.spec import EndpointSpec, PortSpec


def container(**fields: object) -> Container:
    spec = ContainerSpec(image="box", command=("true",), hostname="h")
    return Container(**{"id": "a" * 64, "name": "one", "image_id": "b" * 64, "spec": spec, "created": 1.0, **fields})


def test_every_status_has_a_row_and_an_end() -> None:
    assert set(NEXT) == set(Status)
    for status in Status:
        reachable, todo = set(), [status]
        while todo:
            for after in NEXT[todo.pop()] - reachable:
                reachable.add(after)
                todo.append(after)
        assert Status.REMOVING in reachable, f"a container that is {status.value} can never be removed"


def test_a_status_that_may_not_follow_is_refused() -> None:
    assert container().becomes(Status.STARTING).status is Status.STARTING
    with pytest.raises(FairleadError, match="cannot go from created to running"):
        container().becomes(Status.RUNNING)
    with pytest.raises(FairleadError, match="cannot go from removing to starting"):
        container(status=Status.REMOVING).becomes(Status.STARTING)


@pytest.mark.parametrize(
    ("policy", "code", "count", "by_user", "again"),
    [
        (Restart(), 1, 0, False, False),
        (Restart(name="always"), 0, 99, False, True),
        (Restart(name="always"), 0, 0, True, False),
        (Restart(name="unless-stopped"), 1, 5, False, True),
        (Restart(name="unless-stopped"), 1, 5, True, False),
        (Restart(name="on-failure"), 0, 0, False, False),
        (Restart(name="on-failure"), 1, 1000, False, True),
        (Restart(name="on-failure", maximum=2), 1, 1, False, True),
        (Restart(name="on-failure", maximum=2), 1, 2, False, False),
    ],
)
def test_restart_policies(policy: Restart, code: int, count: int, by_user: bool, again: bool) -> None:
    assert policy.wants(exit_code=code, count=count, stopped_by_user=by_user) is again


def test_a_record_survives_the_store() -> None:
    spec = ContainerSpec(
        image="box",
        command=("true",),
        endpoints=(EndpointSpec(network="bridge", aliases=("a",)),),
        ports=(PortSpec(port=80, host_port=8080),),
        restart=Restart(name="on-failure", maximum=3),
    )
    one = container(spec=spec, status=Status.EXITED, exit_code=3, finished=12.5)
    assert decode(Container, encode(one)) == one
    assert one.claims() == ("container:one",)


def test_random_names_are_docker_names_and_free() -> None:
    name = random_name(lambda _: False)
    assert re.fullmatch(r"[a-z]+_[a-z]+", name)
    asked: list[str] = []

    def taken(word: str) -> bool:
        asked.append(word)
        return len(asked) < 8

    assert re.fullmatch(r"[a-z]+_[a-z]+\d+", random_name(taken))


def test_the_table_in_the_docs_is_the_table_in_the_code() -> None:
    text = (Path(__file__).parents[2] / "docs/containers.md").read_text().partition("| status | may become |")[2]
    rows = [line.strip("|").split("|") for line in text.splitlines()[2:] if line.startswith("|")]
    written = {row[0].strip(): [word.strip() for word in row[1].split(",")] for row in rows}
    assert written == {status.value: sorted(s.value for s in after) for status, after in NEXT.items()}
