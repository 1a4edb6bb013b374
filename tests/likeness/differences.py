"""The deliberate differences from Docker, each with its reason."""

from __future__ import annotations

from likeness.compare import Difference, Mismatch

DIFFERENCES: list[Difference] = [
    Difference("*", "*.EnableIPv4", "A field of API 1.47 and later, given to older clients as well: they ignore it."),
    Difference("*", "*IPAM.Config.*.Gateway", "The gateway is told even where the user left its choice to us."),
]


def excused(step: str, mismatch: Mismatch) -> bool:
    """Whether a mismatch is meant."""
    if mismatch.path == "status" and mismatch.docker == 500 and 400 <= mismatch.fairlead < 500:
        return True
    return any(difference.excuses(step, mismatch) for difference in DIFFERENCES)
