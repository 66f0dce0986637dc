"""The wheel: it holds what the dashboard needs, with the licences of what is not ours, and none of the tests."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "quart_sched" / "web" / "dashboard"


@pytest.mark.integration
def test_the_wheel_holds_templates_files_and_licences(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        str(path.relative_to(ROOT))
        for kind in ("templates", "static", "words")
        for path in (FOLDER / kind).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert needed <= names
    for library in ("htmx", "uplot"):
        assert f"quart_sched/web/dashboard/static/vendor/{library}/LICENSE" in names
    assert not [name for name in names if "axe" in name or name.startswith("tests")]


def test_what_is_not_ours_says_its_version_and_licence() -> None:
    notes = (FOLDER / "static" / "vendor" / "README.md").read_text(encoding="utf-8")
    for library in (FOLDER / "static" / "vendor").iterdir():
        if library.is_dir():
            assert (library / "LICENSE").stat().st_size > 100
            assert f"{library.name}/" in notes
    assert 'version:"2.0.11"' in (FOLDER / "static/vendor/htmx/htmx.min.js").read_text(encoding="utf-8")
    assert "htmx.org 2.0.11" in notes
    assert "(v1.6.32)" in (FOLDER / "static/vendor/uplot/uPlot.iife.min.js").read_text(encoding="utf-8")
    assert "uplot 1.6.32" in notes
