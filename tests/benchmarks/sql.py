"""How fast jobs that are all due at once are run from a database, and what a second process adds.

quart_sched enters each run in the database as it claims it, and writes down later how it ended: `recorded` is the rate
until that is done for all, and the processor's time is with that. Its contenders keep no history.
"""

from __future__ import annotations

import os

from tests.servers.databases import DATABASES, PostgreSQL

from .claims_at_scale import claim
from .dispatch import ASYNC, FIGURES, FLASK
from .harness import OURS, Figures, Options, Report, Table, Target, bars, compete, installed, medians, short, table
from .latency import fresh

SET_UP = 0.012
"""Seconds that are allowed for bringing one job into the store, before all are due."""
RATIOS = {"sqlite": 8.0, "postgresql": 3.0}
STORED = {"jobs/s": "rate", "recorded/s": "recorded"} | {name: key for name, key in FIGURES.items() if key != "rate"}


def run(options: Options, report: Report) -> None:
    """Measure on SQLite and PostgreSQL, and two processes on one PostgreSQL."""
    jobs = options.size(1000, 20)
    by_label = {}
    for kind in installed(report, *RATIOS):
        with DATABASES[kind]() as database:
            database.settle_in()
            results = compete(
                "dispatch", [OURS, ASYNC, FLASK], options, prepare=fresh(database), jobs=jobs, set_up=SET_UP
            )
        report.tables.append(table(f"{jobs:,} due in {database.label}", results, STORED, against=ASYNC))
        by_label[database.label] = results
        rate = results[OURS]["rate"] / results[ASYNC]["rate"]
        report.targets += [
            Target(f"{database.label}: jobs/s to AsyncIOScheduler's", rate, RATIOS[kind], at_least=True),
            Target(f"{database.label}: longest gap, ms", results[OURS]["gap"], 10.0),
        ]
        if options.quick:
            break
    report.plots += [bars("sql_rate", "jobs/s", by_label, "rate"), bars("sql_gap", "longest gap, ms", by_label, "gap")]
    if not options.quick and PostgreSQL.missing() is None:
        _add_pair(report, options, 10_000)


def _add_pair(report: Report, options: Options, jobs: int) -> None:
    """Compare two processes on one PostgreSQL with one."""
    with DATABASES["postgresql"]() as database:
        database.settle_in()
        found: dict[int, list[Figures]] = {1: [], 2: []}
        for number in range(options.rounds):
            for processes, figures in found.items():
                figures.append(claim(database, f"pair_{number}_{processes}", processes, jobs, times=3))
    rates = {processes: medians(figures)["rate"] for processes, figures in found.items()}
    rows = [(str(processes), short(rate), short(rate / rates[1])) for processes, rate in rates.items()]
    report.tables.append(Table(f"{jobs:,} due in one PostgreSQL", ("processes", "jobs/s", "ratio to one"), rows))
    cores = (os.cpu_count() or 1) >= 4
    report.targets.append(Target("two processes to one, of 4 cores", rates[2] / rates[1], 1.5, True, asked=cores))
