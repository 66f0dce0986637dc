"""How long a day of 2,000 fires takes in virtual time, and whether it is the same day every time.

Run it by hand, from the top of the repository::

    python tests/benchmarks/virtual_time.py [rounds]

Of the 20 jobs half sleep, time out by asyncio.timeout or by their own `timeout`, or fail and are retried. Printed are
the seconds of each round, and in how many of them the sequence of fires was that of the first.
"""

from __future__ import annotations

import asyncio
import logging
import platform
import statistics
import sys
import time
from datetime import UTC, datetime
from typing import Any

from quart_sched import APScheduler, Scheduler, current_run
from quart_sched.testing import VirtualEventLoop

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


def main() -> None:
    logging.disable(logging.CRITICAL)  # of failures, which are meant here
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    times, days = [], []
    for _ in range(rounds):
        with asyncio.Runner(loop_factory=VirtualEventLoop) as runner:
            seconds, day = runner.run(live_a_day())
        times.append(seconds)
        days.append(day)
    outcomes = {outcome: sum(fire[2] == outcome for fire in days[0]) for outcome in sorted({f[2] for f in days[0]})}
    print(f"Python {platform.python_version()}, {rounds} rounds of {len(days[0])} fires: {outcomes}")
    print(f"seconds: median {statistics.median(times):.2f}, longest {max(times):.2f}")
    print(f"the same sequence in {sum(day == days[0] for day in days)} of {rounds} rounds")


if __name__ == "__main__":
    main()
