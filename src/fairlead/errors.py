"""Every failure that a user can cause or meet, as one sentence with its HTTP status.

The sentence says what is wrong, where, and what is allowed.  The front doors turn the class into a status or an
exit code; nothing below them knows about either beyond the class it raises.
"""

from __future__ import annotations


class FairleadError(Exception):
    """Base of all errors shown to a user; ``str(error)`` is the sentence shown."""

    status = 500


class Invalid(FairleadError):
    """The request itself is wrong: bad name, address, option or type."""

    status = 400


class Unauthorized(FairleadError):
    """Somebody else (a registry) does not take the credentials."""

    status = 401


class Forbidden(FairleadError):
    """The request is well formed, but this object may not be treated so (a predefined network, say)."""

    status = 403


class NotFound(FairleadError):
    """The named object does not exist."""

    status = 404


class Conflict(FairleadError):
    """The request collides with what exists: a name, address, port or state."""

    status = 409


class NotModified(FairleadError):
    """The object is already in the state asked for (starting a started container)."""

    status = 304


class KernelError(FairleadError):
    """The kernel refused a step; the sentence names the step and the kernel's reason."""


class MissingFeature(FairleadError):
    """This kernel lacks a feature that the request needs; the sentence names its option and module."""

    status = 501


class Unavailable(FairleadError):
    """It cannot be done now; Docker's answer where something takes a swarm and there is none."""

    status = 503


class MissingProgram(FairleadError):
    """A program that Fairlead needs (crun, conmon, skopeo) is not installed."""


class DiskFull(FairleadError):
    """The file system that holds the state is full."""

    status = 507
