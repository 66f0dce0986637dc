"""How much later an app is up: what importing costs on top of the framework, and bringing declared jobs into SQLite.

Reconciling is from `start` until the first job runs, one that is to run when the scheduler has started: with an empty
database, and then with one that has all the jobs already.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import score
from .contenders import Ours, Plan
from .harness import OURS, ROOT, Figures, Options, Report, Table, Target, bars, medians, short, take_turn

IMPORTS = {
    "quart_sched": ("quart", "quart_sched"),
    "AsyncIOScheduler": ("quart", "apscheduler.schedulers.asyncio"),
    "Flask-APScheduler": ("flask", "flask_apscheduler"),
    "quart-tasks": ("quart", "quart_tasks"),
}
_TIMED = "import sys, time, {0}; n = len(sys.modules); t = time.perf_counter(); import {1}; " + (
    "print((time.perf_counter() - t) * 1000, len(sys.modules) - n)"
)


def imports(rounds: int) -> dict[str, Figures]:
    """Return the milliseconds and the number of modules that an import adds, in fresh interpreters.

    As once they are installed: what is imported has been compiled by a round that does not count.
    """
    found: dict[str, list[Figures]] = {name: [] for name in IMPORTS}
    with tempfile.TemporaryDirectory() as compiled:
        env = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        env["PYTHONPYCACHEPREFIX"] = compiled
        for number in range(rounds + 1):
            for name, modules in IMPORTS.items():
                command = [sys.executable, "-c", _TIMED.format(*modules)]
                output = subprocess.run(
                    command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=True
                ).stdout
                ms, count = output.split()
                if number:
                    found[name].append({"ms": float(ms), "modules": float(count)})
    return {name: medians(figures) for name, figures in found.items()}


async def measure(name: str, jobs: int, url: str, patience: float) -> Figures:
    """Declare the jobs, and start."""
    contender = Ours(Plan(url=url))
    work = score.Score(1)
    score.begin(contender.app, work)
    first, begin = 4e9, time.perf_counter()
    for number in range(jobs):
        contender.interval(number, first, 3600.0)
    contender.scheduler.add_job(
        "last", score.in_context, args=(jobs,), trigger="interval", hours=1, run_on_start=True, start_date="2090-01-01"
    )
    declared = time.perf_counter()
    async with contender.app.test_app():
        # Not by the contender's own `start`, which lists all jobs until they are there.
        contender.scheduler.start()
        await asyncio.wait_for(work.done.wait(), 120)
        figures = {"declare": (declared - begin) * 1000, "start": (work.last - declared) * 1000}
        assert len(await contender.scheduler.aio.get_jobs()) == jobs + 1
        return figures


def run(options: Options, report: Report) -> None:
    """Measure imports and reconciling."""
    found = imports(options.size(11, 1))
    rows = [(name, IMPORTS[name][0], short(one["ms"]), short(one["modules"])) for name, one in found.items()]
    report.tables.append(Table("Importing", ("contender", "on top of", "ms", "modules"), rows))
    report.targets.append(Target("import quart_sched, ms", found[OURS]["ms"], 60.0))
    report.plots.append(bars("importing", "ms on top of the framework", {"import": found}, "ms"))
    jobs, times = options.size(10_000, 20), []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            url = f"sqlite:///{Path(folder) / 'jobs.db'}"
            times.append([take_turn("startup", OURS, options, jobs=jobs, url=url) for _ in range(2)])
    rows = []
    for number, what in enumerate(("an empty database", "one that has them")):
        declare, start = (statistics.median(pair[number][key] for pair in times) for key in ("declare", "start"))
        rows.append((what, short(declare), short(start)))
        report.targets.append(Target(f"reconciling {jobs:,} jobs with {what}, ms", start, 2000.0))
    report.tables.append(Table(f"{jobs:,} declared jobs and SQLite", ("with", "declaring, ms", "starting, ms"), rows))
