"""The words of progress messages, as Docker draws them (moby's pkg/jsonmessage)."""

from __future__ import annotations


def bar(current: int, total: int) -> str:
    """The bar that clients without their own print."""
    done = min(50, 50 * current // total) if total else 50
    drawn = "=" * done + (">" if done < 50 else "")
    return f"[{drawn:<50}] {_human(current):>8}/{_human(total)}"


def _human(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.4g}{unit}"
        size /= 1000
    return f"{size:.4g}GB"


def short(digest: str) -> str:
    """The twelve digits by which Docker shows a layer."""
    return digest.removeprefix("sha256:")[:12]
