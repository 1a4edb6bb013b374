"""How much disk something takes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Set
from pathlib import Path
from typing import TYPE_CHECKING

from fairlead.containers.layerdiff import NOT_ITS_OWN
from fairlead.containers.record import Container
from fairlead.errors import NotFound

if TYPE_CHECKING:
    from fairlead.containers.service import Containers


def tree_size(directory: Path, without: Set[str] = frozenset()) -> int:
    """Bytes in the files beneath, a file with several names counted once; what vanishes meanwhile counts nothing.

    `without`: paths that do not count, nor what is beneath them.
    """
    total, seen, todo = 0, set(), [os.fspath(directory)]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.path in without:
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
            except OSError:
                continue
            if status.st_nlink > 1:
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
            total += status.st_size if not entry.is_dir(follow_symlinks=False) else 0
    return total


def container_sizes(containers: Containers, container: Container) -> dict[str, int]:
    """Docker's SizeRw, the container's own layer (left out when it is empty), and SizeRootFs, with the image's."""
    upper = containers.paths.container_state(container.id) / "upper"
    written = tree_size(upper, {f"{upper}{path}" for path in NOT_ITS_OWN})
    below = 0
    with contextlib.suppress(NotFound):
        below = containers.image(container).size
    sizes = {"SizeRootFs": written + below}
    return {"SizeRw": written, **sizes} if written else sizes
