"""How late jobs start in a fleet, how little a slow database holds up HTTP, and how little an idle process asks for.

- Start: 4 processes share 200 jobs that are due each second; the time from when a job is due until it runs.
- HTTP: requests to a hello route, one each 10 ms, of a process without a scheduler and of one with 20 jobs each second
  whose database answers each statement 200 ms late, both at once, so that what else the machine does falls on both.
- Idle: the statements of one process that has nothing to do, by how often they come in each poll interval.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from quart import Quart

from quart_sched import APScheduler
from tests.faults.fleet import Process, Size
from tests.faults.trials import FAULTS, attempt
from tests.servers.databases import DATABASES, PostgreSQL
from tests.servers.proxy import Proxy

from .harness import Options, Report, Table, installed, medians, percentile, short, table
from .requests import request_for_a_while

KINDS = [kind for kind, cls in DATABASES.items() if cls.missing() is None]
LATE = 0.2
"""Seconds by which the database answers late."""
JOBS = 20
"""Jobs that the process with the slow database has, each due once a second."""
PACE = 0.01
"""Seconds from one request to the next."""
INTERVALS = 20
"""Poll intervals for which an idle process is watched."""


def start(options: Options, report: Report) -> None:
    """Measure the lateness in a fleet."""
    rows = []
    processes, jobs = options.size(4, 1), options.size(200, 10)
    size = Size(seconds=options.size(15, 1), processes=processes, jobs=jobs, heartbeat=5, lease=20)
    for kind in KINDS[: 1 if options.quick else None]:
        trials = []
        for _ in range(options.rounds):
            with DATABASES[kind]() as database, tempfile.TemporaryDirectory() as folder:
                database.settle_in()
                trials.append(asyncio.run(attempt(FAULTS[0], database, size, Path(folder))))
        lags = (1000 * statistics.median(getattr(trial, name) for trial in trials) for name in ("p50", "p99"))
        rows.append((DATABASES[kind].label, str(sum(trial.started for trial in trials)), *map(short, lags)))
        report.notes += [f"Wrong: {problem}" for trial in trials for problem in trial.problems]
    title = f"{processes} processes, {jobs} jobs a second"
    report.tables.append(Table(title, ("database", "runs", "start p50, ms", "start p99, ms"), rows))


def http(options: Options, report: Report) -> None:
    """Measure how long a hello route takes beside a scheduler whose database is slow."""
    count = options.size(2000, 20)
    found: dict[str, list[list[float]]] = {"no scheduler": [], "database 200 ms late": []}
    with PostgreSQL() as database, Proxy(database.port, late=LATE) as proxy, tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            url = proxy.through(database.create(f"slow_{number}"))
            place = Path(folder) / str(number)
            for lags, all_lags in zip(asyncio.run(_measure_http(place, url, count)), found.values(), strict=True):
                all_lags.append(lags)
    results = {
        name: medians([{f"p{of}": 1000 * percentile(lags, of) for of in (50, 99, 100)} for lags in all_lags])
        for name, all_lags in found.items()
    }
    columns = {"HTTP p99, ms": "p99", "p50, ms": "p50", "longest, ms": "p100"}
    title = f"{count} requests, {JOBS} jobs a second, a slow database"
    report.tables.append(table(title, results, columns, against="no scheduler"))


async def _measure_http(folder: Path, url: str, count: int) -> list[list[float]]:
    """Return the seconds that each request took, without and with a scheduler."""
    folder.mkdir()
    async with _server(folder / "without", None) as without, _server(folder / "with", url) as with_:
        begin, ran = time.perf_counter(), _starts(with_)
        asked = (
            request_for_a_while(server.port, begin + half, PACE, count)
            for server, half in ((without, 0), (with_, PACE / 2))
        )
        lags = list(await asyncio.gather(*asked))
        ran, due = _starts(with_) - ran, JOBS * (time.perf_counter() - begin)
        # With such a database they begin in bursts, some seconds apart, of which the last may lie behind the end.
        if ran < 0.5 * due:
            raise RuntimeError(f"of {due:.0f} fires beside the requests {ran} ran")
        return lags


def _starts(process: Process) -> int:
    return process.notes.read_text().count("start ")


@asynccontextmanager
async def _server(folder: Path, url: str | None) -> AsyncIterator[Process]:
    folder.mkdir()
    plan: dict[str, Any] = {"url": url, "jobs": JOBS, "seconds": 3600, "grace": 60, "on_crash": "lost", "settings": {}}
    process = Process(folder, "server", plan)
    try:
        if url is not None:
            await process.until("loaded")
            process.begin(float(int(time.time()) + 2))
        await process.until("serving")
        if url is not None:
            # With a slow database that takes many seconds.
            await process.until("start")
        await asyncio.sleep(4)
        yield process
    finally:
        process.kill()


def idle(options: Options, report: Report) -> None:
    """See what one process with nothing to do asks of its database."""
    intervals = options.size(INTERVALS, 1)
    for kind in KINDS[: 1 if options.quick else None]:
        with DATABASES[kind]() as database:
            seen = asyncio.run(_watch(database.create("idle"), intervals))
        rows = [
            (statement, short(len(times) / intervals), short(1000 * statistics.mean(times)))
            for statement, times in sorted(seen.items(), key=lambda item: -len(item[1]))
        ]
        rows.append(("all", short(sum(map(len, seen.values())) / intervals), ""))
        title = f"Idle: statements of one process, {DATABASES[kind].label}"
        report.tables.append(Table(title, ("statement", "per poll interval", "mean, ms"), rows))


async def tick() -> None:
    """Do nothing, once in an hour."""


async def _watch(url: str, intervals: int) -> dict[str, list[float]]:
    """Return the seconds that each statement took, by its beginning."""
    seen: dict[str, list[float]] = defaultdict(list)

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def before(conn: sa.Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        conn.info["begin"] = time.perf_counter()

    @sa.event.listens_for(sa.Engine, "after_cursor_execute")
    def after(conn: sa.Connection, cursor: Any, statement: str, values: Any, context: Any, many: bool) -> None:
        seen[" ".join(statement.split())[:90].replace("|", "\\|")].append(time.perf_counter() - conn.info["begin"])

    try:
        app = Quart("idle")
        app.config.update(SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": url}}, SCHEDULER_TIMEZONE="UTC")
        scheduler = APScheduler(app=app)
        scheduler.add_job("tick", "tests.benchmarks.fleet:tick", trigger="interval", hours=1)
        scheduler.start()
        async with app.test_app():
            await asyncio.sleep(3)
            seen.clear()
            await asyncio.sleep(intervals * 1.0)
            return dict(seen)
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", before)
        sa.event.remove(sa.Engine, "after_cursor_execute", after)


def run(options: Options, report: Report) -> None:
    """Measure all three."""
    start(options, report)
    if not options.quick and installed(report, "postgresql"):
        http(options, report)
    idle(options, report)
