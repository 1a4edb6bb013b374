"""Drives a Firefox that was started with --marionette: opens a page, runs scripts in it, prints what they say.

usage: python marionette.py ADDRESS < SCRIPTS (a JSON list); prints a JSON list.  A script that answers null is asked
again, for 30 seconds at most.

The protocol is that of Firefox's remote/marionette: ``LENGTH:JSON``, [0, number, command, parameters] answered by
[1, number, error, result].  Playwright has no protocol that an unpatched Firefox knows, and Debian no geckodriver.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Any

PORT = 2828


class Marionette:
    """One session."""

    def __init__(self) -> None:
        for _ in range(300):
            try:
                self._socket = socket.create_connection(("127.0.0.1", PORT))
                break
            except OSError:
                time.sleep(0.1)
        self._file = self._socket.makefile("rb")
        self._number = 0
        self._read()  # It says who it is.
        self.call("WebDriver:NewSession")

    def _read(self) -> Any:
        length = b""
        while not length.endswith(b":"):
            length += self._file.read(1)
        return json.loads(self._file.read(int(length[:-1])))

    def call(self, command: str, **parameters: Any) -> Any:
        """One command; raises what the browser says is wrong."""
        self._number += 1
        message = json.dumps([0, self._number, command, parameters]).encode()
        self._socket.sendall(b"%d:%b" % (len(message), message))
        _, _, error, result = self._read()
        if error:
            raise RuntimeError(f"{command}: {error['message']}")
        return result

    def script(self, text: str) -> Any:
        """What a script says, as soon as that is not null."""
        until = time.monotonic() + 30
        while (found := self.call("WebDriver:ExecuteScript", script=text, args=[])["value"]) is None:
            if time.monotonic() > until:
                raise RuntimeError(f"null for ever: {text}")
            time.sleep(0.05)
        return found


if __name__ == "__main__":
    firefox = Marionette()
    firefox.call("WebDriver:Navigate", url=sys.argv[1])
    print(json.dumps([firefox.script(text) for text in json.load(sys.stdin)]))
