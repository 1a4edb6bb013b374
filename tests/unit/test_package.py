"""What is installed: the wheel has the page's files, so that it works without a network and without a build."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_wheel_has_the_page(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            tmp_path,
            tree,
        ],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    assets = ROOT / "src" / "fairlead" / "ui" / "assets"
    wanted = {f"fairlead/ui/assets/{path.relative_to(assets)}" for path in assets.rglob("*") if path.is_file()}
    assert len(wanted) > 10
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())
