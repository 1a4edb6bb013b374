"""Names of images, as Docker reads and shows them (distribution/reference, reference.go and normalize.go).

A short name such as ``nginx`` means ``docker.io/library/nginx`` when it is pulled, and is shown short again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from fairlead.errors import Invalid

DEFAULT_DOMAIN: Final = "docker.io"
NAME_MAX: Final = 255
"""Characters in domain and path together."""

_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?")
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")


@dataclass(frozen=True, slots=True)
class Reference:
    """An image's name: registry, repository, and a tag or a digest.  ``str()`` is the form that Docker shows."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""
    """``sha256:…``"""

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Raises `Invalid`.  The tag stays empty where `text` has none; see `tagged`."""
        if _HEX_ID.fullmatch(text):
            raise Invalid(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
        name, at, digest = text.partition("@")
        if at and not _DIGEST.fullmatch(digest):
            raise Invalid(f"invalid reference {text!r}: after '@' only sha256: and 64 hexadecimal digits are allowed")
        # A colon after the last slash begins a tag, one before it a port: "localhost:5000/nginx:1".
        head, colon, last = name.rpartition(":")
        tag = ""
        if colon and "/" not in last:
            name, tag = head, last
            if not _TAG.fullmatch(tag):
                raise Invalid(f"invalid tag {tag!r} in {text!r}: only 1 to 128 of [A-Za-z0-9_.-] are allowed")
        domain, path = _split_domain(name)
        if not path:
            raise Invalid(f"invalid reference {text!r}: the repository name is missing")
        if not _DOMAIN.fullmatch(domain):
            raise Invalid(f"invalid registry {domain!r} in {text!r}: HOST or HOST:PORT is allowed")
        if not _PATH.fullmatch(path):
            hint = "lower case" if path.lower() != path else "[a-z0-9], separated by '/', '.', '_', '__' or '-'"
            raise Invalid(f"invalid reference {text!r}: the repository name must be {hint}")
        if len(domain) + 1 + len(path) > NAME_MAX:
            raise Invalid(f"invalid reference {text[:40]!r}…: the name may have at most {NAME_MAX} characters")
        return cls(domain, path, tag, digest)

    @property
    def name(self) -> str:
        """The repository as Docker shows it: without ``docker.io/`` and ``library/``, where it means the same so."""
        for short in (self.path.removeprefix("library/"), self.path):
            if _split_domain(short) == (self.domain, self.path):
                return short
        return f"{self.domain}/{self.path}"

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def tagged(self) -> Reference:
        """With the tag ``latest`` where there is neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")

    def at(self, digest: str) -> Reference:
        """The same repository at a digest."""
        return Reference(self.domain, self.path, digest=digest)

    def matches(self, pattern: str) -> bool:
        """Whether a ``reference=`` filter lets this through: a shell pattern for the name, or for name and tag."""
        expression = re.compile(_glob(pattern))
        return any(expression.fullmatch(form) for form in (str(self), self.name))

    @property
    def source(self) -> str:
        """What skopeo calls it; a digest goes before a tag, since skopeo refuses both together."""
        end = f"@{self.digest}" if self.digest else f":{self.tag}"
        return f"docker://{self.domain}/{self.path}{end}"

    @property
    def on_loopback(self) -> bool:
        """The registry is on this machine; plain HTTP is allowed there, as Docker allows it."""
        return _LOOPBACK.fullmatch(self.domain) is not None


def _glob(pattern: str) -> str:
    """A shell pattern as a regular expression; as in Go's path.Match, no wildcard stands for a slash."""
    parts: list[str] = []
    rest = pattern
    while rest:
        if match := re.match(r"\[(\^?)([^\]\\]+)\]", rest):
            members = match[2].replace("[", r"\[").replace("&&", r"&\&").replace("--", r"-\-")
            parts.append(f"(?!/)[{match[1]}{members}]")
            rest = rest[match.end() :]
            continue
        parts.append({"*": "[^/]*", "?": "[^/]"}.get(rest[0]) or re.escape(rest[0]))
        rest = rest[1:]
    expression = "".join(parts)
    try:
        re.compile(expression)
    except re.error:
        raise Invalid(f"invalid pattern {pattern!r}: a shell pattern such as 'nginx:1.*' is allowed") from None
    return expression


def _split_domain(name: str) -> tuple[str, str]:
    """The first component is a registry if it looks like one: a dot, a port, ``localhost``, or an upper-case letter."""
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:[") & set(first) or first == "localhost" or first.lower() != first):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and path and "/" not in path:
        path = f"library/{path}"
    return domain, path
