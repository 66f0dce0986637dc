"""How soon plain functions that wait for something are done in a given number of threads."""

from __future__ import annotations

from .contenders import THREADS
from .harness import OURS, Options, Report, Target, bars, compete, table

FIGURES = {"all done, ms": "ms", "longest gap, ms": "gap", "ran": "ran"}


def run(options: Options, report: Report) -> None:
    """Measure. quart-tasks, whose threads are those of the loop's default executor, is left out."""
    jobs = options.size(1000, 40)
    contenders = [OURS, "AsyncIOScheduler", "Flask-APScheduler", "raw asyncio"]
    results = compete("dispatch", contenders, options, jobs=jobs, body="sleep")
    peers = [results[name]["ms"] for name in contenders[1:3]]
    title = f"{jobs:,} sync jobs that sleep for 1 ms, {THREADS} threads"
    report.tables.append(table(title, results, FIGURES, against="AsyncIOScheduler"))
    report.targets.append(Target("all done, to the best scheduler's time", results[OURS]["ms"] / min(peers), 0.8))
    report.plots.append(bars("threads", "ms until all are done", {title: results}, "ms"))
