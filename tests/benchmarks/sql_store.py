"""How fast jobs that are all due at once are run from a database, and how long the event loop is held up meanwhile.

Run it by hand, from the top of the repository::

    python tests/benchmarks/sql_store.py [jobs] [rounds] [sqlite|postgresql|mariadb ...]

The contenders take turns (A B A B ...) in this one process, each with tables of its own in the same database:
quart_sched with its SQL store, and APScheduler's own AsyncIOScheduler with its SQLAlchemyJobStore. Both run the same
coroutine inside the Quart app's context. Printed are medians: jobs per second from the moment at which they are due
until the last has run, and the longest gap of a 1 ms heartbeat on the loop.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import apscheduler
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from quart import Quart

from quart_sched import APScheduler
from tests.benchmarks.dispatch import Work, measure
from tests.servers.databases import DATABASES

SET_UP = 0.012
"""Seconds that are allowed for bringing one job into the store, before all are due."""

app = Quart("bench")
work = Work(0)


async def job() -> None:
    work.count()


async def job_in_context() -> None:
    async with app.app_context():
        work.count()


def begin(jobs: int) -> datetime:
    """Set the work up; return when it is to be due."""
    global app, work
    app, work = Quart("bench"), Work(jobs)
    return datetime.now(UTC) + timedelta(seconds=2 + jobs * SET_UP)


async def run_quart_sched(jobs: int, url: str) -> tuple[float, float]:
    due = begin(jobs)
    app.config.update(
        SCHEDULER_JOBSTORES={"default": {"type": "sqlalchemy", "url": url}},
        SCHEDULER_JOB_DEFAULTS={"misfire_grace_time": None},
        SCHEDULER_TIMEZONE="UTC",
    )
    scheduler = APScheduler(app=app)
    for number in range(jobs):
        scheduler.add_job(str(number), job, trigger="interval", seconds=3600, start_date=due)
    scheduler.start()
    async with app.test_app():
        while len(await scheduler.aio.get_jobs()) < jobs:
            await asyncio.sleep(0.1)
        return await ready(due)


async def run_asyncio_scheduler(jobs: int, url: str) -> tuple[float, float]:
    due = begin(jobs)
    scheduler = AsyncIOScheduler(
        timezone="UTC", job_defaults={"misfire_grace_time": None}, jobstores={"default": SQLAlchemyJobStore(url)}
    )
    for number in range(jobs):
        scheduler.add_job(job_in_context, "interval", id=str(number), seconds=3600, start_date=due)
    scheduler.start()
    result = await ready(due)
    scheduler.shutdown()
    await asyncio.sleep(0)
    return result


async def ready(due: datetime) -> tuple[float, float]:
    """Measure, if the jobs have got into the store in time."""
    if time.time() > due.timestamp() - 0.5:
        raise RuntimeError("setting the jobs up took too long here: raise SET_UP")
    return await measure(due.timestamp(), work)


CONTENDERS: dict[str, Callable[[int, str], Any]] = {
    "quart_sched": run_quart_sched,
    "AsyncIOScheduler": run_asyncio_scheduler,
}


def main() -> None:
    numbers = [int(argument) for argument in sys.argv[1:] if argument.isdecimal()]
    jobs, rounds = (*numbers, *(1000, 3)[len(numbers) :])
    kinds = [argument for argument in sys.argv[1:] if argument in DATABASES] or ["sqlite", "postgresql"]
    # Neither contender pays for a log that nobody reads.
    logging.disable(logging.WARNING)
    print(
        f"{jobs:,} jobs due at once, {rounds} rounds; {platform.python_implementation()} {platform.python_version()},"
    )
    print(f"APScheduler {apscheduler.version}, {platform.machine()}\n")
    print("| database | contender | jobs/s | longest gap, ms |\n|---|---|---|---|")
    ratios = []
    for kind in kinds:
        results: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
        with DATABASES[kind]() as database:
            for number in range(rounds):
                url = database.create(f"round_{number}")
                for name, run in CONTENDERS.items():
                    results[name].append(asyncio.run(run(jobs, url)))
        rates = {}
        for name, values in results.items():
            rates[name], gap = (statistics.median(column) for column in zip(*values, strict=True))
            print(f"| {database.label} | {name} | {rates[name]:,.0f} | {gap * 1000:.1f} |")
        ratios.append(f"{database.label} {rates['quart_sched'] / rates['AsyncIOScheduler']:.1f}")
    print(f"\nratio: {', '.join(ratios)}")


if __name__ == "__main__":
    # The jobs' functions are found by name, in the module and not in the script that runs it.
    from tests.benchmarks import sql_store

    sql_store.main()
