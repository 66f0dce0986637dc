"""How claims on PostgreSQL scale with processes and jobs, and what the churn leaves in its tables. See SCALE.md.

All jobs are due at one moment, and each process claims, runs and records what it can. Claims per second are from that
moment until the last run began, when the ends of the last of them are yet to be written down; transactions, dead rows
and sizes are those that PostgreSQL counts. Making all jobs due leaves dead rows too, which are vacuumed before the
moment; what the processes leave is left to the autovacuum.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import Any

import sqlalchemy as sa

from tests.servers.databases import DATABASES, Database

from .claimer import extension
from .harness import ROOT, Figures, Options, Plot, Report, Table, installed, medians, short

LEAD = 3.0
"""Seconds from when all is set up until the jobs are due."""
GIVEN_UP = 600.0
JOB = "tests.benchmarks.claimer:job"
_COPY = """INSERT INTO quart_sched_jobs
SELECT (jsonb_populate_record(jobs, jsonb_build_object(
    'id', 'job-' || n, 'incarnation', gen_random_uuid()::text))).*
FROM quart_sched_jobs AS jobs, generate_series(1, :jobs) AS n WHERE jobs.id = 'model'"""
_LEFT = "SELECT count(*) FROM quart_sched_jobs WHERE next_us <= :due"
_RECORDED = "SELECT count(*), max(started_us) - :due FROM quart_sched_runs WHERE sched_us = :due"
_COUNTERS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_TABLES = """SELECT relname, n_dead_tup, n_live_tup, pg_table_size(relid) AS size, pg_indexes_size(relid) AS indexes
FROM pg_stat_user_tables"""


def fill(url: str, jobs: int) -> None:
    """Put copies of one job into a new database, none of them due."""

    async def add_model() -> None:
        scheduler = extension(url)
        async with scheduler.app.test_app():
            scheduler.start()
            await scheduler.aio.add_job("model", JOB, trigger="interval", hours=1)

    asyncio.run(add_model())
    _execute(url, _COPY, jobs=jobs)
    _execute(url, "DELETE FROM quart_sched_jobs WHERE id = 'model'")
    tidy(url)


def tidy(url: str) -> None:
    """Let PostgreSQL clear up, as its autovacuum does in time."""
    _execute(url, "VACUUM ANALYZE")


def drive(url: str, processes: int, jobs: int, rounds: int = 1, lead: float = LEAD) -> list[Figures]:
    """Let the processes run all jobs, several times over; return the figures of each time."""
    command = [sys.executable, "-m", "tests.benchmarks.claimer", url]
    pipe = subprocess.PIPE
    claimers = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(processes)]
    try:
        for claimer in claimers:
            assert claimer.stdout is not None
            assert claimer.stdout.readline() == "joined\n", "a process did not join the others"
        figures = [_round(url, jobs, lead) for _ in range(rounds)]
        ran = [int(claimer.communicate(timeout=GIVEN_UP)[0]) for claimer in claimers]
        if sum(ran) != jobs * rounds or any(claimer.returncode for claimer in claimers):
            raise RuntimeError(f"the processes ran {ran} of {rounds} times {jobs} jobs")
        return figures
    except BaseException:
        for claimer in claimers:
            claimer.kill()
            claimer.communicate()
        raise


def _round(url: str, jobs: int, lead: float) -> Figures:
    due = int((time.time() + lead + jobs / 20_000) * 1e6)
    _execute(url, "UPDATE quart_sched_jobs SET next_us = :due", due=due)
    _execute(url, "VACUUM quart_sched_jobs")
    if time.time() * 1e6 > due:
        raise RuntimeError("making the jobs due took too long here: raise LEAD")
    begin = _execute(url, _COUNTERS)[0].xact_commit
    time.sleep(max(0.0, due / 1e6 - time.time()))
    deadline = time.monotonic() + GIVEN_UP
    while _execute(url, _LEFT, due=due)[0].count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {GIVEN_UP:g} s there are jobs that nobody has claimed")
        time.sleep(0.2)
    while (found := _execute(url, _RECORDED, due=due)[0]).count < jobs:
        if time.monotonic() > deadline:
            raise RuntimeError(f"of {jobs} runs {found.count} are on record after {GIVEN_UP:g} s")
        time.sleep(0.2)
    time.sleep(1.2)  # the counters are a second late
    after = _execute(url, _COUNTERS)[0].xact_commit
    figures = {"rate": jobs * 1e6 / found[1], "transactions": (after - begin) / jobs * 1000}
    for row in _execute(url, _TABLES):
        name = row.relname.removeprefix("quart_sched_")
        figures |= {f"{name}_dead": row.n_dead_tup, f"{name}_size": row.size, f"{name}_indexes": row.indexes}
    return figures


def claim(database: Database, name: str, processes: int, jobs: int, *, times: int, lead: float = LEAD) -> Figures:
    """Return the medians for so many processes and jobs, in a database of their own where all are due several times."""
    url = database.create(name)
    fill(url, jobs)
    return medians(drive(url, processes, jobs, times, lead))


def _execute(url: str, statement: str, **values: Any) -> list[Any]:
    engine = sa.create_engine(url, poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(sa.text(statement), values)
        return list(result) if result.returns_rows else []


def run(options: Options, report: Report) -> None:
    """Measure all combinations, and then what is left after a lot of churn."""
    fleets = (2,) if options.quick else (1, 2, 4, 8)
    sizes = (20,) if options.quick else (1000, 10_000, 100_000)
    lead = 2.0 if options.quick else LEAD
    rates: dict[int, dict[int, Figures]] = {processes: {} for processes in fleets}
    if not installed(report, "postgresql"):
        return
    with DATABASES["postgresql"]() as database:
        database.settle_in()
        for jobs in sizes:
            for processes in fleets:
                rates[processes][jobs] = claim(
                    database, f"scale_{processes}_{jobs}", processes, jobs, times=options.rounds, lead=lead
                )
        churned = sizes[len(sizes) // 2]
        times = options.size(20, 2)
        url = database.create("churn")
        fill(url, churned)
        churn = drive(url, options.size(2, 1), churned, times, lead)
    report.tables += [_rate_table(rates, sizes), _transaction_table(rates, sizes), _churn_table(churn, churned)]
    series = {f"{processes} processes": [rates[processes][jobs]["rate"] for jobs in sizes] for processes in fleets}
    report.plots.append(Plot("claims_at_scale", "claims/s", [f"{jobs:,} jobs" for jobs in sizes], series))


def _rate_table(rates: dict[int, dict[int, Figures]], sizes: tuple[int, ...]) -> Table:
    rows = [(str(processes), *(short(found[jobs]["rate"]) for jobs in sizes)) for processes, found in rates.items()]
    return Table(
        "Claims per second, until the last run began", ("processes", *(f"{jobs:,} jobs" for jobs in sizes)), rows
    )


def _transaction_table(rates: dict[int, dict[int, Figures]], sizes: tuple[int, ...]) -> Table:
    rows = [
        (str(processes), *(short(found[jobs]["transactions"]) for jobs in sizes)) for processes, found in rates.items()
    ]
    return Table("Transactions per 1,000 claims", ("processes", *(f"{jobs:,} jobs" for jobs in sizes)), rows)


def _churn_table(churn: list[Figures], jobs: int) -> Table:
    """Show the tables as they are after the first, the middle and the last time."""
    columns = ("fires of each job", "claims/s", "jobs: dead rows", "jobs, MB", "its indexes, MB", "live, MB",
               "its indexes, MB", "runs, MB", "its indexes, MB")  # fmt: skip
    rows = []
    for number in sorted({0, len(churn) // 2, len(churn) - 1}):
        found = churn[number]
        sizes = [f"{name}_{part}" for name in ("jobs", "live", "runs") for part in ("size", "indexes")]
        mb = [short(found[key] / 2**20) for key in sizes]
        rows.append((str(number + 1), short(found["rate"]), short(found["jobs_dead"]), *mb))
    return Table(f"{jobs:,} jobs, again and again", columns, rows)
