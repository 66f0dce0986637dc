"""Whether a scheduler that works for a long time stays as it is: its memory, its tasks and threads, its lateness.

One soak is in virtual time, so that hours pass quickly; the other in real time, in which jobs can be late.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
from collections import deque
from datetime import UTC, datetime

from quart_sched import APScheduler, Scheduler
from quart_sched.testing import VirtualEventLoop

from . import score
from .contenders import Ours, Plan, serving
from .harness import OURS, Figures, Options, Report, Table, Target, percentile, short, take_turn
from .scale import resident

START = datetime(2026, 3, 2, tzinfo=UTC)


def measure(name: str, jobs: int, patience: float, minutes: float = 0, hours: float = 0) -> Figures:
    """Run `jobs` jobs a second for minutes of real time, or else for hours of virtual time."""
    threads = threading.active_count()
    if minutes:
        figures = asyncio.run(_real(jobs, minutes))
    else:
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            figures = runner.run(_virtual(jobs, hours))
    return figures | {"threads": threading.active_count() - threads}


async def _real(jobs: int, minutes: float) -> Figures:
    contender = Ours(Plan())
    work = score.Score(sys.maxsize)
    score.begin(contender.app, work)
    minute = min(60.0, minutes * 60 / 3)
    first = time.time() + 1 + jobs / 2000
    work.due = {number: (first + number / jobs, 1.0) for number in range(jobs)}
    for number in range(jobs):
        contender.interval(number, first + number / jobs, 1.0)
    tasks = asyncio.all_tasks()
    late: list[float] = []
    sizes: list[int] = []
    ran = 0
    async with serving(contender):
        await asyncio.sleep(first - time.time())
        while len(late) < max(2, round(minutes * 60 / minute)):
            await asyncio.sleep(minute)
            # The score is no part of what must not grow.
            late.append(percentile(work.late, 99))
            ran += len(work.runs)
            work.late.clear()
            work.runs.clear()
            sizes.append(_collected())
    await asyncio.sleep(0.1)
    return _sizes(sizes) | {
        "ran": ran,
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
    return _sizes(sizes) | {"ran": ran, "tasks": len(asyncio.all_tasks() - tasks)}


def _collected() -> int:
    gc.collect()
    return resident()


def _sizes(sizes: list[int]) -> Figures:
    return {"begin": sizes[0] / 2**20, "end": sizes[-1] / 2**20, "growth": sizes[-1] / sizes[0]}


def run(options: Options) -> Report:
    """Soak in virtual and in real time."""
    jobs = options.size(1000, 10)
    minutes, hours = (0.02, 0.01) if options.quick else (options.soak_minutes, options.soak_hours)
    virtual = take_turn("soak", OURS, options, jobs=jobs, hours=hours)
    real = take_turn("soak", OURS, options, jobs=jobs, minutes=minutes)
    columns = ("time", "ran", "MB at first", "MB at the end", "tasks left", "threads left", "p99 at first, ms", "last")
    keys = ("ran", "begin", "end", "tasks", "threads", "first", "last")
    nothing = float("nan")
    rows = [
        (what, *(short(figures.get(key, nothing)) for key in keys))
        for what, figures in ((f"{hours:g} h, virtual", virtual), (f"{minutes:g} min, real", real))
    ]
    left = sum(figures[key] for figures in (virtual, real) for key in ("tasks", "threads"))
    return Report(
        [Table(f"{jobs:,} jobs a second; first and last are minutes", columns, rows)],
        [
            Target("virtual: memory at the end to that after a minute", virtual["growth"], 1.02),
            Target("real: memory at the end to that after a minute", real["growth"], 1.02),
            Target("tasks and threads left", left, 0),
            Target("lateness p99 of the last minute to the first's", real["last"] / real["first"], 1.1),
        ],
    )
