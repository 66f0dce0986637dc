"""How long a day of 2,000 fires takes in virtual time, and whether it is the same day every time.

Of the 20 jobs half sleep, time out by asyncio.timeout or by their own `timeout`, or fail and are retried.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from quart_sched import APScheduler, Scheduler, current_run
from quart_sched.testing import VirtualEventLoop

from .harness import Options, Report, Table, short

START = datetime(2026, 3, 2, tzinfo=UTC)
JOBS, FIRES = 20, 2000


async def quick() -> None: ...


async def sleeps() -> None:
    await asyncio.sleep(20)


async def times_out() -> None:
    async with asyncio.timeout(5):
        await asyncio.sleep(20)


async def fails_at_first() -> None:
    if current_run.attempt == 1:
        raise ValueError("not yet")


def busy_day() -> APScheduler:
    """20 jobs, each with 100 fires a day, no two of them at once."""
    scheduler = APScheduler(Scheduler(timezone="UTC"))
    kinds: list[tuple[Any, dict[str, Any]]] = [
        (sleeps, {}),
        (times_out, {}),
        (sleeps, {"timeout": 5}),
        (fails_at_first, {"retry": {"attempts": 2, "delay": 30, "jitter": 0}}),
        (sleeps, {}),
    ]
    period = 86400 * JOBS // FIRES
    for number in range(JOBS):
        func, options = (quick, {}) if number % 2 else kinds[number // 2 % len(kinds)]
        first = datetime.fromtimestamp(START.timestamp() + 1 + number * period / JOBS, UTC)
        scheduler.add_job(f"job{number}", func, trigger="interval", seconds=period, start_date=first, **options)
    return scheduler


async def live_a_day() -> tuple[float, list[tuple[Any, ...]]]:
    begin = time.perf_counter()
    async with busy_day().virtual_time(start=START) as clock:
        await clock.advance(hours=24)
        seconds = time.perf_counter() - begin
    return seconds, [
        (fire.job_id, fire.scheduled_at, fire.outcome, fire.attempt, fire.started_at, fire.finished_at)
        for fire in clock.fires
    ]


def run(options: Options, report: Report) -> None:
    """Live the day over and over."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # of failures, which are meant here
    rounds = options.size(20, 2)
    times, days = [], []
    for _ in range(rounds):
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            seconds, day = runner.run(live_a_day())
        times.append(seconds)
        days.append(day)
    logging.disable(before)
    outcomes = Counter(fire[2] for fire in days[0])
    same = sum(day == days[0] for day in days)
    row = (str(rounds), short(statistics.median(times)), short(max(times)), str(same))
    title = f"{len(days[0]):,} fires: {', '.join(f'{count} {outcome}' for outcome, count in sorted(outcomes.items()))}"
    columns = ("rounds", "median, s", "longest, s", "with the sequence of the first")
    report.tables.append(Table(title, columns, [row]))
