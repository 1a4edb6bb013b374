"""The pages in docs/ show what the commands print today."""

from __future__ import annotations

import subprocess
import sys

from lab import ROOT


def test_the_sessions_in_the_pages_are_up_to_date() -> None:
    command = [sys.executable, ROOT / "scripts" / "explain-docs", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_the_pictures_of_the_examples_are_up_to_date() -> None:
    command = [sys.executable, ROOT / "scripts" / "draw-examples", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
