"""How fast jobs that are all due at once are run, and how long the event loop is held up meanwhile.

Run it by hand, from the top of the repository::

    python tests/benchmarks/dispatch.py [jobs] [rounds]

The contenders take turns (A B A B ...) in this one process: quart_sched, and APScheduler's own AsyncIOScheduler with
its memory store. Both run the same coroutine inside the Quart app's context. Printed are medians: jobs per second from
the moment at which they are due until the last has run, and the longest gap of a 1 ms heartbeat on the loop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import apscheduler
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from quart import Quart, current_app

from quart_sched import APScheduler

LEAD = 3.0
"""Seconds between the start and the moment at which all jobs are due."""


class Heartbeat:
    """Measures the longest time for which the loop did not get round to it."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest = max(self.longest, now - last)
            last = now


class Work:
    """The job body: counts, and notes when the last one has run."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.done = asyncio.Event()
        self.finished = 0.0

    def count(self) -> None:
        assert current_app.name
        self.left -= 1
        if not self.left:
            self.finished = time.perf_counter()
            self.done.set()


async def measure(due: float, work: Work) -> tuple[float, float]:
    """Return jobs per second and the longest gap in seconds."""
    jobs = work.left
    # What the set-up left behind is collected before, for either contender, not in the middle of the measurement.
    gc.collect()
    await asyncio.sleep(max(0.0, due - time.time() - 0.2))
    heartbeat = Heartbeat()
    beating = asyncio.create_task(heartbeat.beat())
    begin = time.perf_counter() + (due - time.time())
    await asyncio.wait_for(work.done.wait(), 120)
    await asyncio.sleep(0.05)
    beating.cancel()
    return jobs / (work.finished - begin), heartbeat.longest


async def run_quart_sched(jobs: int) -> tuple[float, float]:
    app = Quart("bench")
    app.config.update(SCHEDULER_JOB_DEFAULTS={"misfire_grace_time": None}, SCHEDULER_TIMEZONE="UTC")
    scheduler = APScheduler(app=app)
    work = Work(jobs)

    async def job() -> None:
        work.count()

    moment = datetime.now(UTC) + timedelta(seconds=LEAD + jobs / 10_000)
    for number in range(jobs):
        scheduler.add_job(str(number), job, trigger="interval", seconds=3600, start_date=moment)
    scheduler.start()
    async with app.test_app():
        return await measure(moment.timestamp(), work)


async def run_asyncio_scheduler(jobs: int) -> tuple[float, float]:
    app = Quart("bench")
    scheduler = AsyncIOScheduler(timezone="UTC", job_defaults={"misfire_grace_time": None})
    work = Work(jobs)

    async def job() -> None:
        async with app.app_context():
            work.count()

    moment = datetime.now(UTC) + timedelta(seconds=LEAD + jobs / 10_000)
    for number in range(jobs):
        scheduler.add_job(job, "interval", id=str(number), seconds=3600, start_date=moment)
    scheduler.start()
    result = await measure(moment.timestamp(), work)
    scheduler.shutdown()
    await asyncio.sleep(0)
    return result


CONTENDERS: dict[str, Callable[[int], Any]] = {
    "quart_sched": run_quart_sched,
    "AsyncIOScheduler": run_asyncio_scheduler,
}


def main() -> None:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    # Neither contender pays for a log that nobody reads.
    logging.disable(logging.WARNING)
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, run in CONTENDERS.items():
            results[name].append(asyncio.run(run(jobs)))
    print(
        f"{jobs:,} jobs due at once, {rounds} rounds; {platform.python_implementation()} {platform.python_version()}, "
    )
    print(f"APScheduler {apscheduler.version}, {platform.machine()}\n")
    print("| contender | jobs/s | longest gap, ms |\n|---|---|---|")
    medians = {}
    for name, values in results.items():
        rate, gap = (statistics.median(column) for column in zip(*values, strict=True))
        medians[name] = rate
        print(f"| {name} | {rate:,.0f} | {gap * 1000:.1f} |")
    print(f"\nratio {medians['quart_sched'] / medians['AsyncIOScheduler']:.2f}")


if __name__ == "__main__":
    main()
