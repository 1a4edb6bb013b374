from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import Invalid
from fairlead.images import Reference

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "shown", "source"),
    [
        ("nginx", "nginx:latest", "docker://docker.io/library/nginx:latest"),
        ("nginx:1.25", "nginx:1.25", "docker://docker.io/library/nginx:1.25"),
        ("docker.io/nginx", "nginx:latest", "docker://docker.io/library/nginx:latest"),
        ("index.docker.io/library/nginx", "nginx:latest", "docker://docker.io/library/nginx:latest"),
        ("docker.io/library/a/b", "library/a/b:latest", "docker://docker.io/library/a/b:latest"),
        ("docker.io/a.b/c", "docker.io/a.b/c:latest", "docker://docker.io/a.b/c:latest"),
        ("docker.io/localhost/x", "docker.io/localhost/x:latest", "docker://docker.io/localhost/x:latest"),
        ("grafana/grafana:9", "grafana/grafana:9", "docker://docker.io/grafana/grafana:9"),
        ("localhost/x", "localhost/x:latest", "docker://localhost/x:latest"),
        ("localhost:5000/x", "localhost:5000/x:latest", "docker://localhost:5000/x:latest"),
        ("localhost:5000", "localhost:5000", "docker://docker.io/library/localhost:5000"),
        ("[::1]:5000/x:y", "[::1]:5000/x:y", "docker://[::1]:5000/x:y"),
        ("quay.io/a/b/c:t", "quay.io/a/b/c:t", "docker://quay.io/a/b/c:t"),
        ("Host/x", "Host/x:latest", "docker://Host/x:latest"),
        ("a__b/c--d", "a__b/c--d:latest", "docker://docker.io/a__b/c--d:latest"),
        (f"nginx@{DIGEST}", f"nginx@{DIGEST}", f"docker://docker.io/library/nginx@{DIGEST}"),
        (f"nginx:1@{DIGEST}", f"nginx:1@{DIGEST}", f"docker://docker.io/library/nginx@{DIGEST}"),
    ],
)
def test_what_is_shown_and_what_is_pulled(text: str, shown: str, source: str) -> None:
    reference = Reference.parse(text).tagged()
    assert (str(reference), reference.source) == (shown, source)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "missing"),
        (":tag", "missing"),
        ("UPPER", "lower case"),
        ("a/B", "lower case"),
        ("a//b", "repository name"),
        ("/a", "repository name"),
        ("a/", "repository name"),
        ("a:", "tag"),
        ("a:-b", "tag"),
        ("a:" + "t" * 129, "tag"),
        ("a b", "repository name"),
        ("a@sha256:12", "after '@'"),
        ("a@", "after '@'"),
        ("-a.b/c", "registry"),
        ("a.b:x/c", "registry"),
        ("../../etc/passwd", "registry"),
        ("a/../b", "repository name"),
        ("a\n", "repository name"),
        ("x" * 256, "255"),
        ("f" * 64, "64-byte hexadecimal"),
    ],
)
def test_bad_references_say_why(text: str, word: str) -> None:
    with pytest.raises(Invalid) as caught:
        Reference.parse(text)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


COMPONENT = st.from_regex(r"[a-z0-9]{1,5}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
DOMAIN = st.sampled_from(["", "docker.io", "localhost", "localhost:5000", "r.example:443", "127.0.0.1:5000", "[::1]:1"])
TAG = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)


@given(domain=DOMAIN, path=st.lists(COMPONENT, min_size=1, max_size=3), tag=TAG)
def test_what_is_shown_means_the_same_when_read_again(domain: str, path: list[str], tag: str) -> None:
    if not domain and len(path) > 1 and "." in path[0]:
        path[0] = path[0].replace(".", "")  # a first component with a dot is a registry
    text = (f"{domain}/" if domain else "") + "/".join(path) + f":{tag}"
    try:
        reference = Reference.parse(text)
    except Invalid as error:
        assert "64-byte" in str(error)  # noqa: PT017
        return
    assert Reference.parse(str(reference)) == reference
    assert reference.tag == tag
    assert reference.path.endswith("/".join(path))


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_in_one_sentence(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except Invalid as error:
        assert str(error)  # noqa: PT017
    else:
        assert Reference.parse(str(reference)) == reference


@pytest.mark.parametrize(
    ("domain", "loopback"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:5000", True),
        ("127.8.9.1", True),
        ("[::1]:5000", True),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("r.example.com", False),
        ("[2001:db8::1]:5000", False),
    ],
)
def test_plain_http_is_for_this_machine_only(domain: str, loopback: bool) -> None:
    assert Reference.parse(f"{domain}/x").on_loopback is loopback


@pytest.mark.parametrize(
    ("pattern", "fits"),
    [
        ("nginx", True),
        ("nginx:1.25", True),
        ("ngin?", True),
        ("n*", True),
        ("nginx:1.*", True),
        ("ng[a-i]nx", True),
        ("ng[^a]nx", True),
        ("nginx:2*", False),
        ("*/nginx", False),
        ("ngi", False),
        ("[", False),
        ("n.inx", False),
    ],
)
def test_filter_patterns(pattern: str, fits: bool) -> None:
    assert Reference.parse("nginx:1.25").matches(pattern) is fits


def test_a_star_does_not_stand_for_a_slash() -> None:
    assert not Reference.parse("quay.io/a/b:1").matches("quay*")
    assert Reference.parse("quay.io/a/b:1").matches("quay.io/*/*")


@given(st.text("[]a-z^\\*?&|~!", max_size=12))
def test_any_pattern_matches_or_is_refused(pattern: str) -> None:
    try:
        assert Reference.parse("nginx:1").matches(pattern) in (True, False)
    except Invalid as error:
        assert "pattern" in str(error)  # noqa: PT017
