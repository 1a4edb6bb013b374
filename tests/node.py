"""Docker's clients for Node.js, where `make test-packages` could fetch them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from lab import ROOT, Host

MODULES = ROOT / "build" / "node" / "node_modules"

needs_node = [
    pytest.mark.skipif(not shutil.which("node"), reason="Node.js is not installed"),
    pytest.mark.skipif(
        not (MODULES.parent / "made").exists(), reason="scripts/fetch-node-clients build/node has fetched nothing"
    ),
]

_FRAME = """
(async () => {{
  const result = {{}};
  {lines}
  console.log(JSON.stringify(result));
  process.exit(0);  // Kept connections would keep it going for a while.
}})().catch(error => {{ console.error(error); process.exit(1); }});
"""


def node(host: Host, socket: Path, head: str, lines: str, *words: str) -> dict[str, Any]:
    """Run lines of an asynchronous function on a host, with an engine's socket; returns its `result`."""
    host.environment |= {
        "NODE_PATH": str(MODULES),
        "DOCKER_HOST": f"unix://{socket}",
        # Its helper that removes what is left is an image of a registry.
        "TESTCONTAINERS_RYUK_DISABLED": "true",
    }
    return json.loads(host.run("node", "-e", head + _FRAME.format(lines=lines), *words).stdout)  # type: ignore[no-any-return]
