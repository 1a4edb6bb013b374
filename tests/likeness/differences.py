"""The deliberate differences from Docker, each with its reason."""

from __future__ import annotations

from likeness.compare import Difference

DIFFERENCES: list[Difference] = []
