"""A real browser on a throwaway host: Chromium runs inside the host's network namespace, so 127.0.0.1 is the host's."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lab import FAIRLEAD, Host

CHROMIUM = shutil.which("chromium") or ""
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox") or ""
"""Not among the packages that the tests ask for: it is large.  What needs it is left out where it is missing."""

TRACE_DONE = "#result[data-state=ok], #result[data-state=failed], #result[data-state=refused]"


@contextlib.contextmanager
def chromium(host: Host) -> Iterator[Any]:
    """A browser of Playwright's; it speaks to it by pipes, which lead from one namespace to another."""
    from playwright.sync_api import sync_playwright

    program = host.directory / "chromium"
    program.write_text(f'#!/bin/sh\nexec {" ".join(host.enter(CHROMIUM))} "$@"\n')
    program.chmod(0o755)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield browser
        browser.close()


@contextlib.contextmanager
def ui(host: Host) -> Iterator[str]:
    """`fairlead ui`; yields the page's address."""
    server = host.popen(FAIRLEAD, "ui", stdout=subprocess.PIPE)
    assert server.stdout is not None
    line = server.stdout.readline()
    assert line.startswith("The page is at http://127.0.0.1:"), line
    yield line.split()[-1]
    server.terminate()
    assert server.wait(10) == 0


@contextlib.contextmanager
def opened(browser: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page, once it shows something.  At the end: no error was reported, and nothing was loaded from elsewhere."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 800}, **options})
    errors: list[str] = []

    def heard(message: Any) -> None:
        # A refusal that the page itself asked for and shows is no error of its own; nor is a connection that broke.
        passing = ("responded with a status of 4", "net::ERR_CONNECTION", "net::ERR_NETWORK", "net::ERR_INCOMPLETE")
        if message.type in ("error", "warning") and not any(words in message.text for words in passing):
            errors.append(message.text)

    page.on("console", heard)
    page.on("pageerror", lambda error: errors.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(20_000)
    page.goto(address)
    page.wait_for_selector("body[data-ready]")
    yield page
    page.close()
    assert errors == []
    assert [url for url in asked if not url.startswith(address)] == []


def in_firefox(host: Host, address: str, *scripts: str) -> list[Any]:
    """What scripts say that are run one after another in the page, in a Firefox on the host; see `marionette.py`."""
    profile = host.directory / "firefox"
    profile.mkdir()
    words = ("--headless", "--marionette", "--no-remote", "--profile", str(profile))
    quiet = subprocess.DEVNULL
    firefox = host.popen(
        FIREFOX, *words, env={**host.environment, "HOME": str(profile)}, stdin=quiet, stdout=quiet, stderr=quiet
    )
    try:
        client = (sys.executable, str(Path(__file__).parent / "marionette.py"), address)
        found: list[Any] = json.loads(host.run(*client, input=json.dumps(scripts), timeout=100).stdout)
        return found
    finally:
        firefox.kill()
        firefox.wait()
