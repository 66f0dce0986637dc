"""Virtual time on an event loop whose own time is real: it warns once, and jobs are waited for however they sleep."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import pytest

from quart_sched.testing import VirtualTimeError, VirtualTimeWarning
from tests.testing.conftest import START, told

pytestmark = pytest.mark.filterwarnings("ignore::quart_sched.testing.VirtualTimeWarning")


async def test_it_warns_once_and_points_at_the_test(scheduler):
    async def use() -> None:
        async with scheduler.virtual_time() as clock:
            await clock.advance(hours=1)
            await clock.advance(hours=1)

    with pytest.warns(VirtualTimeWarning, match=r"run the test on a quart_sched\.testing\.VirtualEventLoop") as caught:
        await use()
    (warning,) = caught
    assert warning.filename == __file__


async def test_what_comes_due_runs_in_the_order_of_due_times(scheduler):
    async def naps() -> None:
        await asyncio.sleep(0.01)

    async def sleeps() -> None:
        await scheduler.clock.sleep(20)

    def blocks() -> None:
        time.sleep(0.005)

    scheduler.add_job("naps", naps, trigger="interval", minutes=1)
    scheduler.add_job("sleeps", sleeps, trigger="interval", minutes=2)
    scheduler.add_job("blocks", blocks, trigger="interval", minutes=2)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=4, seconds=30)
    assert told(clock.fires) == [
        ("naps", 60, 60, 60, "succeeded"),
        ("naps", 120, 120, 120, "succeeded"),
        ("blocks", 120, 120, 120, "succeeded"),
        ("sleeps", 120, 120, 140, "succeeded"),
        ("naps", 180, 180, 180, "succeeded"),
        ("naps", 240, 240, 240, "succeeded"),
        ("blocks", 240, 240, 240, "succeeded"),
        ("sleeps", 240, 240, 260, "succeeded"),
    ]


async def test_the_schedulers_own_timeouts_are_virtual(scheduler):
    async def job() -> None:
        await scheduler.clock.sleep(60)

    scheduler.add_job("job", job, trigger="date", run_date=START, timeout=5)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=2)
    assert told(clock.fires) == [("job", 0, 0, 5, "timed_out")]


async def test_time_waits_for_what_children_of_a_job_do(scheduler):
    async def job() -> None:
        await asyncio.gather(asyncio.to_thread(time.sleep, 0.02), asyncio.create_task(asyncio.sleep(0.02)))

    scheduler.add_job("job", job, trigger="date", run_date=START + timedelta(seconds=1))
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=2)
    assert told(clock.fires) == [("job", 1, 1, 1, "succeeded")]


async def test_a_long_sleep_is_named_with_what_to_do(scheduler):
    async def job() -> None:
        await asyncio.sleep(60)

    scheduler.add_job("job", job, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START, patience=0.1) as clock:
        with pytest.raises(VirtualTimeError, match=r"job \(.*py:\d+\).*asyncio\.sleep is real on this event loop"):
            await clock.advance(minutes=2)


async def test_jobs_that_still_run_at_the_end_are_cancelled(scheduler):
    async def job() -> None:
        await scheduler.clock.sleep(60)

    scheduler.add_job("job", job, trigger="date", run_date=START)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.run_due()
    assert told(clock.fires) == [("job", 0, 0, 0, "cancelled")]
    assert scheduler.clock.real
