"""``fairlead ui``: the page that shows the network as it is, for a browser on this machine."""

from __future__ import annotations

import os
import sys

from fairlead.cli.client import Client
from fairlead.cli.flags import Command, Failure, Flag, Options


def _ui(options: Options, _: list[str]) -> int:
    port = options.number("port") or 0
    if not 0 <= port <= 65535:
        raise Failure(f"invalid port {port}: a number from 1 to 65535 is needed, or 0 for a free one", 2)
    client = Client()
    client.get("/version")  # Starts the daemon, or says why there is none, before there is a page.
    # What serves is not imported by those who ask: this command alone is a server.
    import asyncio

    from fairlead.ui.server import serve

    try:
        asyncio.run(serve(client.path, port, _say))
    except OSError as error:
        raise Failure(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno or 0)}") from None
    return 0


def _say(address: str) -> None:
    sys.stdout.write(f"The page is at {address}\nWho has this address can look at the network; end with Ctrl-C.\n")
    sys.stdout.flush()


UI = Command(
    "ui",
    "[OPTIONS]",
    "Serve a page that shows the network as it is, live, to a browser on this machine (127.0.0.1)",
    _ui,
    (Flag("--port", "The port to listen on (default: a free one)", "number"),),
)
