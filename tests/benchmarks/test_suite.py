"""Every benchmark runs, with tiny sizes and from the command line; how fast is for `python -m tests.benchmarks`."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.benchmarks import dispatch, score, threads
from tests.benchmarks.__main__ import BENCHMARKS, run
from tests.benchmarks.contenders import CONTENDERS, Plan
from tests.benchmarks.harness import OURS, ROOT, Options, Report, Table, Target, installed, medians, take_turn
from tests.servers.databases import PostgreSQL

NEEDS = ("flask_apscheduler", "quart_tasks", "aiocron", "matplotlib")
PLOTTED = {"dispatch", "threads", "sql", "latency", "scale", "startup", "claims_at_scale"}
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(any(find_spec(name) is None for name in NEEDS), reason="the extra `bench` is not installed"),
]


def run_quickly(name: str, folder: Path) -> str | None:
    """Return what is wrong with a benchmark, or None."""
    command = [sys.executable, "-m", "tests.benchmarks", name, "--quick", "--out", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{name} ends with {done.returncode}:\n{done.stdout}{done.stderr}"
    report = (folder / "report.md").read_text(encoding="utf-8")
    plots = {plot.name for plot in folder.glob("*.png")}
    if f"## {name}\n" not in report or "| --- |" not in report or bool(plots) is not (name in PLOTTED):
        return f"{name} has written {plots} and\n{report}"
    return next((f"{name} does not show {plot}" for plot in plots if f"({plot})" not in report), None)


def test_every_benchmark_runs(tmp_path: Path) -> None:
    names = [name for name in BENCHMARKS if name != "claims_at_scale" or PostgreSQL.missing() is None]
    # They wait for most of the time.
    with ThreadPoolExecutor(len(names)) as pool:
        problems = list(pool.map(lambda name: run_quickly(name, tmp_path / name), names))
    assert [problem for problem in problems if problem] == []


def test_a_contender_is_measured_in_a_process_of_its_own(tmp_path: Path) -> None:
    figures = take_turn("dispatch", OURS, Options(tmp_path), jobs=10, set_up=0.0)
    assert figures["ran"] == 10
    assert figures["rate"] > 0


def test_what_was_found_before_a_failure_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(options: Options, report: Report) -> None:
        report.tables.append(Table("Found", ("what",), [("something",)]))
        raise RuntimeError("out of luck")

    monkeypatch.setattr(threads, "run", fail)
    assert run(["threads"], Options(tmp_path)) == ["threads"]
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| something |" in report
    assert "**Failed**: RuntimeError: out of luck" in report
    capsys.readouterr()


def test_a_round_in_which_jobs_were_lost_is_not_hidden_by_the_others() -> None:
    rounds = [{"ran": 10, "rate": 5.0}, {"ran": 9, "rate": math.nan}, {"ran": 10, "rate": 7.0}]
    found = medians(rounds)
    assert found["ran"] == 9
    assert Target("rate", found["rate"], 1.0, at_least=True).verdict == Target("rate", found["rate"], 1.0).verdict
    assert Target("rate", found["rate"], 1.0).verdict == "**missed**"


async def test_jobs_that_get_stuck_have_no_rate_and_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "STUCK", 0.05)
    work = score.Score(10)
    contender = CONTENDERS["none"](Plan())
    watching = asyncio.create_task(dispatch.watch(time.time() + 2, work, contender))
    await asyncio.sleep(1.99)
    for number in range(5):
        work.count(number)
    figures = await watching
    assert figures["ran"] == 5
    assert all(math.isnan(figures[key]) for key in ("rate", "recorded", "ms", "cpu"))


def test_a_database_that_is_not_installed_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostgreSQL, "missing", lambda: "there is no PostgreSQL")
    report = Report()
    assert installed(report, "sqlite", "postgresql") == ["sqlite"]
    assert report.notes == ["there is no PostgreSQL"]


def test_options_make_sizes_small() -> None:
    assert Options(Path("out"), quick=True).size(1000, 10) == 10
    assert Options(Path("out")).size(1000, 10) == 1000
