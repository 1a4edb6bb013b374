"""Command lines are read as docker reads them."""

from __future__ import annotations

import pytest

from fairlead.cli import _COMMANDS, _load, main
from fairlead.cli.flags import Command, Flag, Help, Options, Usage


def nothing(options: Options, words: list[str]) -> None:
    del options, words


COMMAND = Command(
    "thing",
    "[OPTIONS] IMAGE [ARG...]",
    "Do a thing",
    nothing,
    (
        Flag("-d --detach", "In the background"),
        Flag("-i --interactive", "With stdin"),
        Flag("-t --tty", "With a terminal"),
        Flag("-e --env", "Variables", "list"),
        Flag("-p --publish", "Ports", "list"),
        Flag("-h --hostname", "Name", "text"),
        Flag("--rm", "Remove"),
        Flag("--size", "Number", "number"),
    ),
    (1, None),
    stop=True,
)


def test_short_flags_combine_and_the_last_may_take_a_value() -> None:
    options, words = COMMAND.parse(["-dit", "-p80:80", "-p", "81:81", "-tp=82", "-eA=1", "image"])
    assert options.flag("detach")
    assert options.flag("interactive")
    assert options.flag("tty")
    assert options.many("publish") == ["80:80", "81:81", "82"]
    assert options.many("env") == ["A=1"]
    assert words == ["image"]


def test_options_stop_at_the_image() -> None:
    options, words = COMMAND.parse(["--rm", "image", "ls", "-d", "--rm=no", "--", "-x"])
    assert options.flag("rm")
    assert not options.flag("detach")
    assert words == ["image", "ls", "-d", "--rm=no", "--", "-x"]


def test_values_may_look_like_options_and_flags_may_be_false() -> None:
    options, words = COMMAND.parse(["-e", "-x", "--env=--y", "--rm=false", "-d=0", "-", "--"])
    assert options.many("env") == ["-x", "--y"]
    assert not options.flag("rm")
    assert options.has("rm")
    assert not options.flag("detach")
    assert words == ["-", "--"]


def test_options_come_anywhere_without_stop() -> None:
    command = Command("t", "", "", nothing, (Flag("-f --force", ""),), (2, 2))
    options, words = command.parse(["a", "-f", "b"])
    assert options.flag("force")
    assert words == ["a", "b"]
    assert command.parse(["a", "--", "-f"])[1] == ["a", "-f"]


def test_minus_h_is_help_unless_the_command_has_it() -> None:
    assert COMMAND.parse(["-h", "box", "image"])[0].text("hostname") == "box"
    with pytest.raises(Help):
        Command("t", "", "", nothing).parse(["-h"])
    with pytest.raises(Help):
        COMMAND.parse(["--help"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "'thing' needs at least 1 argument"),
        (["--nope", "image"], "unknown option: --nope"),
        (["-dxt", "image"], "unknown option: -x in -dxt"),
        (["-x", "image"], "unknown option: -x"),
        (["--rm=maybe", "image"], "option --rm is either true or false, not 'maybe'"),
        (["--size", "big", "image"], "option --size needs a whole number, not 'big'"),
        (["-e"], "option -e needs a value"),
        (["--env"], "option --env needs a value"),
    ],
)
def test_bad_usage(arguments: list[str], sentence: str) -> None:
    with pytest.raises(Usage) as caught:
        COMMAND.parse(arguments)
    assert str(caught.value) == f"{sentence} (usage: fairlead thing [OPTIONS] IMAGE [ARG...])"
    assert caught.value.code == 2


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    command = _load(_COMMANDS[name][0])
    assert command.name == name
    assert said.startswith(f"Usage:  fairlead {name}")
    for flag in command.flags:
        assert flag.text in said
    names = [word for flag in command.flags for word in flag.names]
    assert len(names) == len(set(names)), "two flags of one name"


CHANGING = [
    *("run", "create", "start", "stop", "restart", "kill", "rm"),
    *("network create", "network rm", "network connect", "network disconnect", "network prune"),
    *("netns add", "netns rm", "link add", "link rm", "image rm", "image tag", "image prune", "system reset", "doctor"),
]


@pytest.mark.parametrize("name", CHANGING)
def test_what_changes_can_be_explained(name: str) -> None:
    assert "explain" in [flag.name for flag in _load(_COMMANDS[name][0]).flags]


@pytest.mark.parametrize("name", ["ps", "network ls", "netns ls", "link ls", "image ls", "topology", "doctor"])
def test_every_listing_has_a_format(name: str) -> None:
    assert "format" in [flag.name for flag in _load(_COMMANDS[name][0]).flags]


@pytest.mark.parametrize(
    ("line", "code", "sentence"),
    [
        ("nonsense", 2, "fairlead: 'nonsense' is not a fairlead command: see 'fairlead --help'\n"),
        ("network nonsense", 2, "fairlead: 'network nonsense' is not a fairlead command: see 'fairlead --help'\n"),
        ("run --nope image", 125, "fairlead: unknown option: --nope"),
        ("run", 125, "fairlead: 'run' needs at least 1 argument"),
        ("run -p 99999 image", 125, "fairlead: invalid port '99999'"),
        ("rm", 2, "fairlead: 'rm' needs at least 1 argument"),
        ("ps extra", 2, "fairlead: 'ps' takes no arguments"),
        ("link add a b", 2, "fairlead: invalid end 'a'"),
    ],
)
def test_exit_codes_of_bad_usage(line: str, code: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == code
    said = capsys.readouterr()
    assert said.err.startswith(sentence)
    assert said.err.count("\n") == 1
    assert said.out == ""
