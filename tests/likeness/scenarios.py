"""What both engines are asked: name of a scenario → its steps, from a clean engine with the images alpine and nginx."""

from __future__ import annotations

from likeness.client import Step
from likeness.commands import COMMANDS
from likeness.compose import COMPOSE
from likeness.containers import CONTAINERS
from likeness.images import IMAGES
from likeness.mistakes import MISTAKES
from likeness.networks import NETWORKS
from likeness.storage import STORAGE
from likeness.system import SYSTEM

SCENARIOS: dict[str, list[Step]] = {
    **NETWORKS, **MISTAKES, **CONTAINERS, **STORAGE, **IMAGES, **SYSTEM, **COMMANDS, **COMPOSE,
}  # fmt: skip
