"""How long the dashboard's pages take with many jobs and a week of their runs in the store, behind Hypercorn.

The processor's time of one answer is for a machine that has more to do.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import RunRecord
from tests.dashboard.site import Site
from tests.servers.databases import DATABASES

from .harness import Options, Report, Table, installed, short

PAGES = {
    "overview, 24 hours": "/",
    "overview, 7 days": "/?span=7d",
    "jobs": "/jobs",
    "jobs, page 100": "/jobs?offset=4950",
    "jobs, searched": "/jobs?search=999",
    "jobs, tag and order": "/jobs?tag=mail&sort=name",
    "jobs, last outcome": "/jobs?outcome=failed",
    "one job": "/job?id=job-00042",
    "runs": "/runs",
    "failed runs": "/runs?outcome=failed",
    "add a job": "/add?func=tests.dashboard.site:report",
    "edit a job": "/job/edit?id=job-00042",
}
_TAGS = ("billing", "mail", "etl", "report")


def fill(site: Site, jobs: int, runs: int) -> None:
    """Write copies of one job, and runs of all of them over the last week, straight into the tables."""
    site.add("model", trigger="interval", hours=1)
    store = site.scheduler.scheduler.catalogue.slots["default"].store
    site.ask(site.scheduler.scheduler.call(lambda: _copy_jobs(store, jobs), blocking=True))
    chance, now = random.Random(1), datetime.now(UTC)
    moments = sorted(now - timedelta(seconds=chance.random() * 7 * 86400) for _ in range(runs))
    records = [_run(chance, at, jobs) for at in moments]
    for first in range(0, runs, 2000):
        site.write(records[first : first + 2000])


def _copy_jobs(store: Any, jobs: int) -> None:
    def copy(tx: Any) -> None:
        table = f"{tx.prefix}jobs"
        model = dict(tx.connection.execute(text(f"SELECT * FROM {table} WHERE id = 'model'")).first()._mapping)
        rows = []
        for number in range(jobs):
            definition = json.loads(model["definition"]) | {"name": f"Job {number}", "tags": [_TAGS[number % 4]]}
            row = model | {"id": f"job-{number:05d}", "incarnation": str(uuid.uuid4())}
            row |= {"definition": json.dumps(definition), "next_us": model["next_us"] + number * 1_000_000}
            rows.append(tuple(row.values()))
        tx.insert("jobs", tuple(model), rows)

    store.database.transact(copy)


def _run(chance: random.Random, at: datetime, jobs: int) -> RunRecord:
    run_id = f"{first_id(micros(at))[:24]}{chance.getrandbits(48):012x}"
    outcome: Any = chance.choices(["succeeded", "failed", "timed_out", "missed"], [95, 3, 1, 1])[0]
    started = None if outcome == "missed" else at + timedelta(milliseconds=3)
    finished = None if started is None else started + timedelta(seconds=chance.expovariate(0.5))
    error = ("ValueError", "a message of the usual length") if outcome == "failed" else (None, None)
    job_id = f"job-{chance.randrange(jobs):05d}"
    return RunRecord(run_id, run_id, job_id, at, outcome, "schedule", "web-1:4711", 1, started, finished, *error)


def measure(site: Site, times: int, title: str) -> Table:
    """Return how long each page takes."""
    rows = []
    with httpx.Client(timeout=60) as client:
        for name, path in PAGES.items():
            taken = []
            answer = client.get(site.ui + path)
            used = time.process_time()
            for _ in range(times):
                begin = time.perf_counter()
                answer = client.get(site.ui + path)
                taken.append(1000 * (time.perf_counter() - begin))
                if answer.status_code != 200:
                    raise RuntimeError(f"{path} answers {answer.status_code}: {answer.text}")
            used = 1000 * (time.process_time() - used) / times
            figures = (statistics.median(taken), max(taken), used, len(answer.content) / 1000)
            rows.append((name, *map(short, figures)))
    return Table(title, ("page", "median, ms", "longest, ms", "CPU, ms", "kB"), rows)


def run(options: Options, report: Report) -> None:
    """Fill, serve and measure, on SQLite and PostgreSQL."""
    jobs, runs = options.size(10_000, 50), options.size(100_000, 100)
    for kind in installed(report, "sqlite", *([] if options.quick else ["postgresql"])):
        with DATABASES[kind]() as database, tempfile.TemporaryDirectory() as folder:
            database.settle_in()
            url = database.create("dashboard")
            site = Site(Path(folder), SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": url}})
            try:
                fill(site, jobs, runs)
                report.tables.append(measure(site, options.size(10, 1), f"{jobs:,} jobs, {runs:,} runs, {kind}"))
            finally:
                site.close()
