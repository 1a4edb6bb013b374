"""Command lines in the manner of the docker command: a table of flags per command, options that may stop at IMAGE.

Why not argparse or click: the first cannot end options at the first word nor take ``--rm=false`` or ``-e -x``, and
importing the second costs more time than a whole ``fairlead ps`` may take.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

USAGE = 2
"""Exit code of bad usage."""


class Failure(Exception):
    """Ends the command: the sentence goes to stderr after ``fairlead: ``, the code to the caller."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class Usage(Failure):
    """The command line itself is wrong."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message, code)


class Help(Exception):
    """``--help`` was among the options."""


class Flag:
    """One option.  `kind`: ``flag`` (true or false), ``text``, ``number``, or ``list`` (may be given several times)."""

    __slots__ = ("kind", "name", "names", "text", "what")

    def __init__(self, names: str, text: str, kind: str = "flag", what: str = "") -> None:
        self.names = names.split()
        self.name = self.names[-1].lstrip("-")
        self.text = text
        self.kind = kind
        self.what = what or {"flag": "", "text": "string", "number": "int", "list": "list"}[kind]


EXPLAIN = Flag("--explain", "Print what would be done as shell lines, and do nothing")
OUTPUT = Flag("-o --output", "Write to a file, instead of stdout", "text", "file")
FORMAT = Flag("--format", "'json', 'table', or a template such as '{{.Name}}'", "text")
QUIET = Flag("-q --quiet", "Only display IDs")
NO_TRUNC = Flag("--no-trunc", "Don't truncate output")
FILTER = Flag("-f --filter", "Filter output by a condition such as 'name=web'", "list", "filter")


class Options:
    """What was given, by the flag's long name."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}

    def has(self, name: str) -> bool:
        """Whether the option was given at all."""
        return name in self.values

    def flag(self, name: str, default: bool = False) -> bool:
        """A true-or-false option; the last one counts."""
        given = self.values.get(name)
        return given[-1] == "true" if given else default

    def text(self, name: str, default: str = "") -> str:
        """A text option; the last one counts."""
        given = self.values.get(name)
        return given[-1] if given else default

    def many(self, name: str) -> list[str]:
        """An option that may be given several times."""
        return self.values.get(name, [])

    def number(self, name: str) -> int | None:
        """A whole number, or None where it was not given."""
        given = self.values.get(name)
        return int(given[-1]) if given else None


class Command:
    """One command: its place in the command line, its flags, and the function that does it.

    `words` is the least and greatest number of words after the options (None: no limit).  With `stop`, options end at
    the first such word, because what follows belongs to another program.
    """

    def __init__(
        self,
        name: str,
        usage: str,
        text: str,
        run: Callable[[Options, list[str]], int | None],
        flags: Sequence[Flag] = (),
        words: tuple[int, int | None] = (0, 0),
        stop: bool = False,
        usage_code: int = USAGE,
    ) -> None:
        self.name = name
        self.usage = usage
        self.text = text
        self.run = run
        self.flags = flags
        self.words = words
        self.stop = stop
        self.usage_code = usage_code

    def help(self) -> str:
        """The text of ``--help``."""
        lines = [f"Usage:  fairlead {self.name} {self.usage}".rstrip(), "", self.text]
        rows = [(_left(flag), flag.text) for flag in sorted(self.flags, key=lambda flag: flag.name)]
        if rows:
            width = max(len(left) for left, _ in rows) + 3
            lines += ["", "Options:", *(f"  {left:{width}}{right}" for left, right in rows)]
        return "\n".join(lines)

    def parse(self, arguments: Sequence[str]) -> tuple[Options, list[str]]:
        """The options and the words; raises `Usage` or `Help`."""
        try:
            options, words = _parse(self, list(arguments))
            least, most = self.words
            if len(words) < least or (most is not None and len(words) > most):
                raise Usage(f"'{self.name}' {_needs(least, most)}")
        except Usage as error:
            hint = f"{error} (usage: fairlead {self.name} {self.usage}".rstrip() + ")"
            raise Usage(hint, self.usage_code) from None
        return options, words


def _left(flag: Flag) -> str:
    short = [name for name in flag.names if not name.startswith("--")]
    long = [name for name in flag.names if name.startswith("--")]
    return (", ".join([*(short or ["   "]), *long]) if short else "    " + ", ".join(long)) + " " + flag.what


def _needs(least: int, most: int | None) -> str:
    def count(number: int) -> str:
        return f"{number} argument{'s' if number != 1 else ''}"

    if most is None:
        return f"needs at least {count(least)}"
    if least == most:
        return f"needs {count(least)}" if least else "takes no arguments"
    return f"needs {least} to {count(most)}"


def _parse(command: Command, arguments: list[str]) -> tuple[Options, list[str]]:
    by_name = {name: flag for flag in command.flags for name in flag.names}
    options = Options()
    words: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--":
            words += rest
        elif argument == "-" or not argument.startswith("-"):
            words.append(argument)
            if command.stop:
                words += rest
        elif argument.startswith("--"):
            _long(by_name, options, argument, rest)
        else:
            _short(by_name, options, argument, rest)
    return options, words


def _long(by_name: dict[str, Flag], options: Options, argument: str, rest: Iterator[str]) -> None:
    name, equals, value = argument.partition("=")
    flag = by_name.get(name)
    if flag is None:
        if name == "--help":
            raise Help
        raise Usage(f"unknown option: {name}")
    if flag.kind == "flag":
        _keep(options, flag, name, _truth(name, value) if equals else "true")
    else:
        _keep(options, flag, name, value if equals else _next(name, rest))


def _short(by_name: dict[str, Flag], options: Options, argument: str, rest: Iterator[str]) -> None:
    """``-dit``, ``-p80``, ``-p 80``, ``-p=80``: the first letter that takes a value takes the rest."""
    letters = argument[1:]
    while letters:
        name, letters = "-" + letters[0], letters[1:]
        flag = by_name.get(name)
        if flag is None:
            if name == "-h":
                raise Help
            raise Usage(f"unknown option: {name} in {argument}" if len(argument) > 2 else f"unknown option: {name}")
        if flag.kind == "flag":
            if letters.startswith("="):
                _keep(options, flag, name, _truth(name, letters[1:]))
                return
            _keep(options, flag, name, "true")
        else:
            _keep(options, flag, name, letters.removeprefix("=") if letters else _next(name, rest))
            return


def _next(name: str, rest: Iterator[str]) -> str:
    for value in rest:
        return value
    raise Usage(f"option {name} needs a value")


def _truth(name: str, value: str) -> str:
    word = value.lower()
    if word in ("1", "t", "true"):
        return "true"
    if word in ("0", "f", "false"):
        return "false"
    raise Usage(f"option {name} is either true or false, not {value!r}")


def _keep(options: Options, flag: Flag, name: str, value: str) -> None:
    if flag.kind == "number":
        try:
            int(value)
        except ValueError:
            raise Usage(f"option {name} needs a whole number, not {value!r}") from None
    options.values.setdefault(flag.name, []).append(value)
