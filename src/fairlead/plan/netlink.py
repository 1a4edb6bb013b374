"""Steps on links, addresses and routes: what they share."""

from __future__ import annotations

import shlex
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fairlead.errors import KernelError
from fairlead.model import HOST
from fairlead.plan.step import Step

if TYPE_CHECKING:
    from fairlead.kernel import Batch, Kernel

GONE = (2, 3, 19, 99)
"""ENOENT, ESRCH, ENODEV, EADDRNOTAVAIL: what reverting may meet when the object is gone already."""


class NetlinkStep(Step):
    """A step that is requests to the namespace at `namespace`; neighbours in one namespace are sent together."""

    __slots__ = ()
    namespace: str

    @abstractmethod
    def make(self, batch: Batch) -> None:
        """Queue the requests that apply the step."""

    @abstractmethod
    def unmake(self, batch: Batch) -> None:
        """Queue the requests that revert it."""

    def channel(self) -> object:
        return ("netlink", self.namespace)

    @staticmethod
    def apply_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        made: list[object] = []
        try:
            with kernel.batch(_namespace(steps)) as batch:
                made = batch.made
                for step in steps:
                    assert isinstance(step, NetlinkStep)
                    batch.owner = step
                    step.make(batch)
        except KernelError:
            # Only what we made: another's link of the same name is why the kernel refused, and must stay.
            if undo := [step for step in reversed(steps) if step in made]:
                NetlinkStep.revert_together(kernel, undo)
            raise

    @staticmethod
    def revert_together(kernel: Kernel, steps: Sequence[Step]) -> None:
        namespace = _namespace(steps)
        if namespace and not kernel.namespaces.exists(namespace):
            return
        with kernel.batch(namespace) as batch:
            for step in steps:
                assert isinstance(step, NetlinkStep)
                step.unmake(batch)


def _namespace(steps: Sequence[Step]) -> str:
    step = steps[0]
    assert isinstance(step, NetlinkStep)
    return step.namespace


def owner_mark(record_id: str) -> str:
    """The alias that a link of this record carries, so that what is ours can be read off the kernel alone."""
    return f"fairlead:{record_id}"


def link_name(namespace: str, ifname: str) -> str:
    """How `Step.makes` and `Step.inside` name a link."""
    return f"link:{namespace}:{ifname}"


word = shlex.quote
"""A name as a word of a line to type: the kernel lets interfaces have almost any."""


def ip(namespace: str, words: str) -> str:
    """The ``ip`` line for a namespace: ``ip -n NAME …`` for one that `ip netns` knows, nsenter for any other."""
    if namespace == HOST:
        return f"ip {words}"
    if namespace.startswith("/run/netns/"):
        return f"ip -n {netns_word(namespace)} {words}"
    return f"nsenter --net={netns_word(namespace)} ip {words}"


def in_namespace(namespace: str, words: str) -> str:
    """A command's line for a namespace."""
    if namespace == HOST:
        return words
    if namespace.startswith("/run/netns/"):
        return f"ip netns exec {netns_word(namespace)} {words}"
    return f"nsenter --net={netns_word(namespace)} {words}"


def netns_word(namespace: str) -> str:
    """A namespace as a word of ``ip link … netns WORD`` (iproute2 takes a path with a slash as such)."""
    return word(namespace.removeprefix("/run/netns/"))
