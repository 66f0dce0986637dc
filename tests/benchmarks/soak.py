"""Whether a scheduler that works for a long time stays as it is: its memory, its tasks and threads, its lateness.

One soak is in real time, in which jobs can be late; beside those that are asked for as many as a tenth of them run in
threads, and a hundredth from SQLite. The other is in virtual time, so that hours pass quickly.
"""

from __future__ import annotations

import asyncio
import gc
import math
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quart_sched import APScheduler, Scheduler
from quart_sched.testing import VirtualEventLoop

from . import score
from .contenders import Ours, Plan, moment, serving
from .harness import OURS, Figures, Options, Report, Table, Target, percentile, short, take_turn
from .scale import resident

START = datetime(2026, 3, 2, tzinfo=UTC)
beside: list[int] = []
"""What ran beside the jobs whose lateness is measured."""


def measure(name: str, jobs: int, patience: float, minutes: float = 0, hours: float = 0) -> Figures:
    """Run `jobs` jobs a second for minutes of real time, or else for hours of virtual time."""
    threads = threading.active_count()
    if minutes:
        figures = asyncio.run(_real(jobs, minutes))
    else:
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            figures = runner.run(_virtual(jobs, hours))
    return figures | {"threads": threading.active_count() - threads}


async def in_database() -> None:
    """A job of the SQL store."""
    beside.append(1)


def in_thread() -> None:
    """A plain function."""
    beside.append(1)


class Soaked(Ours):
    """quart_sched with a store in SQLite beside that in memory."""

    def set_up(self) -> None:
        """Put the file where nobody else looks."""
        self.folder = tempfile.TemporaryDirectory()
        url = f"sqlite:///{Path(self.folder.name) / 'jobs.db'}"
        stores = {"default": {"type": "memory"}, "db": {"type": "sqlalchemy", "url": url}}
        self.app.config["SCHEDULER_JOBSTORES"] = stores
        super().set_up()

    def beside(self, name: str, func: Callable[[], Any], number: int, first: float, store: str) -> None:
        """Add jobs whose lateness is not asked for, so many a second."""
        for one in range(number):
            start = moment(first + one / number)
            self.scheduler.add_job(
                f"{name}-{one}", func, trigger="interval", seconds=1, start_date=start, jobstore=store
            )


async def _real(jobs: int, minutes: float) -> Figures:
    contender = Soaked(Plan())
    work = score.Score(sys.maxsize)
    score.begin(contender.app, work)
    minute = min(60.0, minutes * 60 / 3)
    first = time.time() + 2 + jobs / 2000
    work.due = {number: (first + number / jobs, 1.0) for number in range(jobs)}
    for number in range(jobs):
        contender.interval(number, first + number / jobs, 1.0)
    contender.beside("thread", in_thread, jobs // 10, first, "default")
    contender.beside("database", in_database, jobs // 100, first, "db")
    tasks = asyncio.all_tasks()
    late: list[float] = []
    sizes: list[int] = []
    ran = 0
    async with serving(contender):
        await asyncio.sleep(first - time.time())
        begin = time.perf_counter()
        while len(late) < max(2, round(minutes * 60 / minute)):
            await asyncio.sleep(minute)
            # The score is no part of what must not grow.
            late.append(percentile(work.late, 99))
            ran += len(work.runs) + len(beside)
            work.late.clear()
            work.runs.clear()
            beside.clear()
            sizes.append(_collected())
        due = (jobs + jobs // 10 + jobs // 100) * (time.perf_counter() - begin)
    contender.folder.cleanup()
    await asyncio.sleep(0.1)
    return _sizes(sizes) | {
        "ran": ran,
        "share": 100 * ran / due,
        "tasks": len(asyncio.all_tasks() - tasks),
        "first": late[0] * 1000,
        "last": late[-1] * 1000,
    }


async def _virtual(jobs: int, hours: float) -> Figures:
    scheduler = APScheduler(Scheduler(timezone="UTC"))
    ran = 0

    async def count() -> None:
        nonlocal ran
        ran += 1

    for number in range(jobs):
        first = datetime.fromtimestamp(START.timestamp() + 1 + number / jobs, UTC)
        scheduler.add_job(f"job{number}", count, trigger="interval", seconds=1, start_date=first)
    tasks, minutes = asyncio.all_tasks(), max(2, round(hours * 60))
    sizes = []
    async with scheduler.virtual_time(start=START) as clock:
        # The list that a test's clock keeps of all that ran would be what grows.
        clock._ended = deque(maxlen=0)
        for _ in range(minutes):
            await clock.advance(minutes=1 if hours >= 1 / 30 else hours * 30)
            sizes.append(_collected())
    await asyncio.sleep(0)
    share = 100 * ran / (jobs * ((clock.now() - START).total_seconds() - 1))
    return _sizes(sizes) | {"ran": ran, "share": share, "tasks": len(asyncio.all_tasks() - tasks)}


def _collected() -> int:
    gc.collect()
    return resident()


def _sizes(sizes: list[int]) -> Figures:
    return {"begin": sizes[0] / 2**20, "end": sizes[-1] / 2**20, "growth": sizes[-1] / sizes[0]}


def run(options: Options, report: Report) -> None:
    """Soak in virtual and in real time."""
    jobs = options.size(1000, 10)
    minutes, hours = (0.02, 0.01) if options.quick else (options.soak_minutes, options.soak_hours)
    columns = ("time", "ran", "of what was due, %", "MB at first", "MB at the end", "tasks left", "threads left",
               "p99 at first, ms", "last")  # fmt: skip
    keys = ("ran", "share", "begin", "end", "tasks", "threads", "first", "last")
    found = Table(f"{jobs:,} jobs a second; first and last are minutes", columns)
    report.tables.append(found)
    for what, given in ((f"{minutes:g} min, real", {"minutes": minutes}), (f"{hours:g} h, virtual", {"hours": hours})):
        figures = take_turn("soak", OURS, options, jobs=jobs, **given)
        found.rows.append((what, *(short(figures.get(key, math.nan)) for key in keys)))
        report.targets += [
            Target(f"{what}: memory at the end to that after a minute", figures["growth"], 1.02),
            Target(f"{what}: tasks and threads left", figures["tasks"] + figures["threads"], 0),
            Target(f"{what}: ran, %", figures["share"], 99.0, at_least=True),
        ]
        if "last" in figures:
            ratio = figures["last"] / figures["first"]
            report.targets.append(Target(f"{what}: lateness p99 of the last minute to the first's", ratio, 1.1))
