"""Writes the tables of docs/docker-compatibility.md: ``PYTHONPATH=tests .venv/bin/python -m likeness.page``.

What stands between the marks of a table is replaced; the rest of the page is written by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from likeness.differences import DIFFERENCES
from likeness.endpoints import ENDPOINTS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "docker-compatibility.md"


def endpoint_table() -> str:
    """Endpoint, how far, what is missing."""
    rows = [f"| `{e.method} {e.path}` | {e.state} | {e.note} |" for e in ENDPOINTS if e.state != "refused"]
    refused: dict[str, list[str]] = {}
    for endpoint in ENDPOINTS:
        if endpoint.state == "refused":
            refused.setdefault(endpoint.note, []).append(f"`{endpoint.method} {endpoint.path}`")
    rows += [f"| {', '.join(lines)} | refused | {note} |" for note, lines in refused.items()]
    return "\n".join(["| endpoint | served | what is missing |", "|---|---|---|", *rows])


def difference_table() -> str:
    """What differs, where, and why; once for each reason."""
    where: dict[str, list[str]] = {}
    for difference in DIFFERENCES:
        place = f"`{difference.shown()}`".replace("|", "\\|")
        if place not in (places := where.setdefault(difference.why, [])):
            places.append(place)
    rows = [f"| {why} | {', '.join(places)} |" for why, places in where.items()]
    return "\n".join(["| difference | where |", "|---|---|", *rows])


TABLES = {"endpoints": endpoint_table, "differences": difference_table}


def rendered(page: str) -> str:
    """The page with its tables anew."""
    for name, table in TABLES.items():
        before, opening, rest = page.partition(f"<!-- {name} -->\n")
        _, closing, after = rest.partition("<!-- end -->")
        page = before + opening + table() + "\n" + closing + after
    return page


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text()))
    sys.exit(0)
