"""How much disk something takes."""

from __future__ import annotations

import os
from pathlib import Path


def tree_size(directory: Path) -> int:
    """Bytes in the files beneath, a file with several names counted once; what vanishes meanwhile counts nothing."""
    total, seen, todo = 0, set(), [os.fspath(directory)]
    while todo:
        try:
            entries = list(os.scandir(todo.pop()))
        except OSError:
            continue
        for entry in entries:
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
