"""How long the dashboard's pages take with many jobs and runs in the store.

Run it by hand, from the top of the repository::

    python -m tests.benchmarks.dashboard [jobs] [runs] [url]

Fills an SQL store (a temporary SQLite file, unless a URL is given) with jobs and a week of runs, serves the dashboard
with Hypercorn, and prints for each page the median and the longest of ten answers, in milliseconds, and how much of the
processor's time one costs, for a machine that has more to do.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import tempfile
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from quart_sched.model.instants import micros
from quart_sched.model.runs import RunRecord, first_run_id
from tests.dashboard.site import Site
from tests.stores.cluster import drop_tables

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
    def copy(conn: Any) -> None:
        table = f"{store.database.prefix}jobs"
        model = dict(conn.execute(text(f"SELECT * FROM {table} WHERE id = 'model'")).first()._mapping)
        rows = []
        for number in range(jobs):
            definition = json.loads(model["definition"]) | {"name": f"Job {number}", "tags": [_TAGS[number % 4]]}
            row = model | {"id": f"job-{number:05d}", "incarnation": str(uuid.uuid4())}
            row |= {"definition": json.dumps(definition), "next_us": model["next_us"] + number * 1_000_000}
            rows.append(row)
        columns = ", ".join(model)
        values = ", ".join(f":{column}" for column in model)
        conn.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), rows)

    store.database.transact(copy)


def _run(chance: random.Random, at: datetime, jobs: int) -> RunRecord:
    run_id = f"{first_run_id(micros(at))[:24]}{chance.getrandbits(48):012x}"
    outcome: Any = chance.choices(["succeeded", "failed", "timed_out", "missed"], [95, 3, 1, 1])[0]
    started = None if outcome == "missed" else at + timedelta(milliseconds=3)
    finished = None if started is None else started + timedelta(seconds=chance.expovariate(0.5))
    error = ("ValueError", "a message of the usual length") if outcome == "failed" else (None, None)
    job_id = f"job-{chance.randrange(jobs):05d}"
    return RunRecord(run_id, run_id, job_id, at, outcome, "schedule", "web-1:4711", 1, started, finished, *error)


def measure(site: Site) -> None:
    """Print how long each page takes."""
    with httpx.Client(timeout=60) as client:
        print(f"{'page':24} {'median':>7} {'longest':>7} {'CPU':>7} {'kB':>6}")
        for name, path in PAGES.items():
            taken = []
            answer = client.get(site.ui + path)
            used = time.process_time()
            for _ in range(10):
                begin = time.perf_counter()
                answer = client.get(site.ui + path)
                taken.append(1000 * (time.perf_counter() - begin))
                assert answer.status_code == 200, answer.text
            used = 100 * (time.process_time() - used)
            size = len(answer.content) / 1000
            print(f"{name:24} {statistics.median(taken):7.0f} {max(taken):7.0f} {used:7.0f} {size:6.0f}")


def main() -> None:
    """Fill, serve and measure."""
    given = sys.argv[1:]
    jobs, runs = int(given[0]) if given else 10_000, int(given[1]) if len(given) > 1 else 100_000
    config: dict[str, Any] = {}
    url, prefix = given[2] if len(given) > 2 else "sqlite://", f"b{uuid.uuid4().hex[:8]}_"
    if len(given) > 2:
        config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": url, "table_prefix": prefix}}
    with tempfile.TemporaryDirectory() as folder:
        site = Site(Path(folder), **config)
        try:
            fill(site, jobs, runs)
            print(f"{jobs} jobs, {runs} runs")
            measure(site)
        finally:
            site.close()
            drop_tables(url, prefix)


if __name__ == "__main__":
    main()
