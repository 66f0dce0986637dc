"""Every benchmark runs, with tiny sizes and from the command line; how fast is for `python -m tests.benchmarks`."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import BENCHMARKS
from tests.benchmarks.harness import OURS, ROOT, Options, call
from tests.servers.databases import PostgreSQL

NEEDS = ("flask_apscheduler", "quart_tasks", "aiocron", "matplotlib")
PLOTTED = {"dispatch", "threads", "sql", "latency", "scale", "startup", "claims_at_scale"}
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(any(find_spec(name) is None for name in NEEDS), reason="the extra `bench` is not installed"),
]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_runs(name: str, tmp_path: Path) -> None:
    if name == "claims_at_scale" and (missing := PostgreSQL.missing()):
        pytest.skip(missing)
    command = [sys.executable, "-m", "tests.benchmarks", name, "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert f"## {name}\n" in report
    assert "| --- |" in report
    plots = list(tmp_path.glob("*.png"))
    assert bool(plots) is (name in PLOTTED)
    assert all(f"({plot.name})" in report for plot in plots)


def test_a_contender_is_measured_in_a_process_of_its_own() -> None:
    figures = call("dispatch", OURS, jobs=10, set_up=0.0)
    assert figures["ran"] == 10
    assert figures["rate"] > 0


def test_options_make_sizes_small() -> None:
    assert Options(Path("out"), quick=True).size(1000, 10) == 10
    assert Options(Path("out")).size(1000, 10) == 1000
