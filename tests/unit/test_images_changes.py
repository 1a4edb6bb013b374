from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import Invalid
from fairlead.images.changes import apply_changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (['CMD ["nginx", "-g", "daemon off;"]'], {"Cmd": ["nginx", "-g", "daemon off;"]}),
        (["cmd nginx -t"], {"Cmd": ["/bin/sh", "-c", "nginx -t"]}),
        (["CMD [not json"], {"Cmd": ["/bin/sh", "-c", "[not json"]}),
        (["CMD [1]"], {"Cmd": ["/bin/sh", "-c", "[1]"]}),
        (['ENTRYPOINT ["a"]'], {"Entrypoint": ["a"]}),
        (["ENV A=1", "ENV B=2 C='x y'", "ENV A=3"], {"Env": ["B=2", "C=x y", "A=3"]}),
        (["ENV A the rest of it"], {"Env": ["A=the rest of it"]}),
        (
            ["EXPOSE 80 53/UDP 8000-8001/tcp"],
            {"ExposedPorts": {key: {} for key in ("80/tcp", "53/udp", "8000/tcp", "8001/tcp")}},
        ),
        (['LABEL a=1 "b c"="d e"'], {"Labels": {"a": "1", "b c": "d e"}}),
        (["USER 1000:1000"], {"User": "1000:1000"}),
        (["VOLUME /a /b"], {"Volumes": {"/a": {}, "/b": {}}}),
        (['VOLUME ["/a b"]'], {"Volumes": {"/a b": {}}}),
        (["WORKDIR /a/b", "WORKDIR ../c/./d"], {"WorkingDir": "/a/c/d"}),
        (["WORKDIR rel"], {"WorkingDir": "/rel"}),
        (["STOPSIGNAL SIGQUIT"], {"StopSignal": "SIGQUIT"}),
        (["USER a\n# a note\nWORKDIR /x\n"], {"User": "a", "WorkingDir": "/x"}),
        (["LABEL a=1 \\\n b=2"], {"Labels": {"a": "1", "b": "2"}}),
        (["CMD\tls"], {"Cmd": ["/bin/sh", "-c", "ls"]}),
        (["CMD a", 'ENTRYPOINT ["b"]'], {"Cmd": ["/bin/sh", "-c", "a"], "Entrypoint": ["b"]}),
        (["ENV A 'b  c' d"], {"Env": ["A=b  c d"]}),
    ],
)
def test_words(changes: list[str], expected: dict[str, Any]) -> None:
    assert apply_changes({}, changes) == expected


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("RUN ls", "run is not a valid change command"),
        ("nonsense", "nonsense"),
        ("CMD", "needs a value"),
        ("ENV A", "NAME=VALUE"),
        ("ENV A=1 B", "NAME=VALUE"),
        ("ENV A='1", "quotation"),
        ("EXPOSE http", "PORT"),
        ("EXPOSE 0", "65535"),
        ("EXPOSE 65536", "65535"),
        ("EXPOSE 9-8", "PORT"),
        ("EXPOSE 80/icmp", "tcp|udp|sctp"),
        ("USER a b", "one word"),
        ("STOPSIGNAL a b", "signal"),
    ],
)
def test_bad_changes_say_why(change: str, word: str) -> None:
    with pytest.raises(Invalid) as caught:
        apply_changes({}, [change])
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("ENV PATH=/mine:$PATH", {"Env": ["A=1", "E=", "PATH=/mine:/bin"]}),
        ("ENV A=2 B=$A", {"Env": ["E=", "PATH=/bin", "A=2", "B=1"]}),
        ("ENV B '$A' and $A", {"Env": ["A=1", "E=", "PATH=/bin", "B=$A and 1"]}),
        (
            r"""LABEL a='$A "' b="$A '" c=\$A d="\$A \"\x" e=a\ b""",
            {"Labels": {"a": '$A "', "b": "1 '", "c": "$A", "d": '$A "\\x', "e": "a b"}},
        ),
        (
            "LABEL a=${A}s b=${E:-x}${E-x} c=${N:-a b}${N:-$A} d=${A:+y}${E:+y}${E+y} e=$N f=$ g=${A",
            {"Labels": {"a": "1s", "b": "x", "c": "a b1", "d": "yy", "e": "", "f": "$", "g": "${A"}},
        ),
        ("EXPOSE 8$A", {"ExposedPorts": {"81/tcp": {}}}),
        ('VOLUME ["/v$A"]', {"Volumes": {"/v1": {}}}),
        ("WORKDIR /w/$A", {"WorkingDir": "/w/1"}),
        ("USER u$A", {"User": "u1"}),
        ("CMD echo $A", {"Cmd": ["/bin/sh", "-c", "echo $A"]}),
    ],
)
def test_variables_of_the_image(change: str, expected: dict[str, Any]) -> None:
    given = {"Env": ["A=1", "E=", "PATH=/bin"]}
    assert apply_changes(given, [change]) == given | expected


def test_an_entry_point_takes_no_command_that_was_there_before() -> None:
    assert apply_changes({"Cmd": ["a"], "Entrypoint": ["b"]}, ["ENTRYPOINT c"])["Entrypoint"] == ["/bin/sh", "-c", "c"]
    assert "Cmd" not in apply_changes({"Cmd": ["a"]}, ["ENTRYPOINT c"])
    assert apply_changes({"Cmd": ["a"]}, ["USER c"])["Cmd"] == ["a"]


def test_the_given_configuration_stays_as_it_was() -> None:
    before = {"Env": ["A=1"], "Labels": {"x": "y"}}
    after = apply_changes(before, ["ENV B=2", "LABEL z=1"])
    assert before == {"Env": ["A=1"], "Labels": {"x": "y"}}
    assert after == {"Env": ["A=1", "B=2"], "Labels": {"x": "y", "z": "1"}}


WORDS = st.sampled_from(["CMD", "ENTRYPOINT", "ENV", "EXPOSE", "LABEL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"])


@given(word=WORDS, rest=st.text(max_size=30))
def test_any_change_is_taken_or_refused(word: str, rest: str) -> None:
    try:
        apply_changes({}, [f"{word} {rest}"])
    except Invalid as error:
        assert str(error)  # noqa: PT017
