"""Two answers, made comparable: ids, times and other values that are each engine's own are replaced by their kind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from likeness.client import Answer

MISSING = "(missing)"

_TEXT = (
    (re.compile(r"/tmp/fairlead-lab-\w+/(docker|state)/volumes"), "<volumes>"),
    (re.compile(r"/tmp/fairlead-lab-\w+"), "<dir>"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "<digest>"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "<id>"),
    (re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{12}\b"), "<short id>"),
    (re.compile(r"\b[0-9a-f]{2}(:[0-9a-f]{2}){5}\b"), "<mac>"),
    (re.compile(r"\b(?!0001)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)? ?(Z|[+-]\d\d:?\d\d)?( UTC)?"), "<time>"),
    (re.compile(r"\b(Less than a second|About a minute|\d+ (second|minute)s?)\b"), "<duration>"),
)

OWN = frozenset(
    {
        *("Created", "CreatedAt", "time", "timeNano", "SystemTime", "BuildTime"),
        *("Pid", "ID", "EndpointID", "SandboxKey", "DockerRootDir", "GitCommit", "GoVersion", "Version"),
        *("ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "LowerDir", "MergedDir", "UpperDir", "WorkDir"),
        *("Size", "SizeRw", "SizeRootFs", "VirtualSize", "SharedSize", "LayersSize", "SpaceReclaimed", "MemTotal"),
        *("KernelVersion", "ServerVersion", "NFd", "NGoroutines", "NEventsListener"),
    }
)
"""Keys of numbers and texts that are each engine's own: only their type is compared, and whether there is one."""


@dataclass(frozen=True)
class Mismatch:
    """Where two answers differ; `path` is ``status``, or the keys down to the value, with dots."""

    path: str
    docker: Any
    fairlead: Any

    def __str__(self) -> str:
        return f"{self.path}: Docker {self.docker!r}, Fairlead {self.fairlead!r}"


@dataclass(frozen=True)
class Difference:
    """A deliberate difference: in the answers to which steps, at which paths (patterns of fnmatch), and why."""

    step: str
    path: str
    why: str

    def shown(self) -> str:
        """Where, for people: the step's pattern and the place in its answer."""
        place = self.path.removeprefix("*").removeprefix("body").removeprefix("*").removeprefix(".")
        return f"{self.step}: {place}" if place not in ("", "status", "message") else self.step

    def excuses(self, step: str, mismatch: Mismatch) -> bool:
        """Whether this mismatch is meant."""
        return fnmatchcase(step, self.step) and fnmatchcase(mismatch.path, self.path)


def compare(docker: Answer, fairlead: Answer) -> list[Mismatch]:
    """Every place in which the answers differ.  Of errors the status and the sentence count.

    A sentence is alike if it has Docker's in it, for clients look for words; it may say more.
    """
    found = []
    if docker.status != fairlead.status:
        found.append(Mismatch("status", docker.status, fairlead.status))
    if docker.status >= 400 or fairlead.status >= 400:
        one, other = (str(_message(answer)) for answer in (docker, fairlead))
        both = docker.status >= 400 and fairlead.status >= 400
        if not both or normal(one).strip().lower() not in normal(other).lower():
            mistake = fairlead.status == 400 and docker.status in (400, 500)
            found.append(Mismatch("message of a 400" if mistake else "message", one, other))
        return found
    if docker.kind.partition(";")[0] != fairlead.kind.partition(";")[0]:
        found.append(Mismatch("Content-Type", docker.kind, fairlead.kind))
    one, other = dict(_flat(docker.value, "body")), dict(_flat(fairlead.value, "body"))
    for path in dict.fromkeys((*one, *other)):
        mine, theirs = one.get(path, MISSING), other.get(path, MISSING)
        if mine == MISSING and not theirs:
            continue  # more fields, but nothing in them: what newer versions of the API added
        if mine != theirs or type(mine) is not type(theirs):
            found.append(Mismatch(path, mine, theirs))
    return found


def _message(answer: Answer) -> Any:
    """The sentence of an error; of an answer that is none, the answer."""
    return answer.value.get("message", answer.value) if isinstance(answer.value, dict) else answer.value


def normal(text: str) -> str:
    """A text without what is this run's own."""
    for pattern, word in _TEXT:
        text = pattern.sub(word, text)
    return text


def _name(value: dict[str, Any]) -> str:
    # A mount's destination is known beforehand, a volume's name not always.
    for key in ("Destination", "Path", "Name", "Names"):
        if found := value.get(key):
            return str(found)
    if "PrivatePort" in value:
        return f"{value['PrivatePort']}/{value.get('Type')} {value.get('IP')}"
    return f"{sorted(value.get('RepoTags') or ())} {bool(value.get('ParentId'))}"


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The leaves of a JSON value by path.  Lists of objects are sorted by name: their order is nobody's promise."""
    key = path.rpartition(".")[2]
    if value is None or value == [] or value == {}:
        yield path, None  # Go's clients see no difference, and Docker's own versions differ in this
    elif isinstance(value, dict):
        for name, inner in value.items():
            key = normal(name)
            yield from _flat(inner, f"{path}.{key}{'/' + str(inner.get('Name')) if key == '<id>' else ''}")
    elif isinstance(value, list):
        if key in ("RepoTags", "Tags", "VolumesDeleted"):
            value = sorted(value)
        if all(isinstance(inner, dict) for inner in value):
            value = sorted(value, key=_name)
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{path}.{number}")
    elif key in OWN and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        yield path, f"<{type(value).__name__}>" if value else value
    elif isinstance(value, str):
        # The command line pads its columns to what is in them.
        yield path, re.sub(r" {3,}", "   ", normal(value)).replace(" \n", "\n")
    else:
        yield path, value
