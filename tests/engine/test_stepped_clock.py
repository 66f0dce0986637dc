"""A clock that is set, and a machine that was suspended: what is due is noticed within a minute, and once.

With the memory store that is the pump's own doing, with the SQL store that of the cluster's pump.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from quart import Quart

from quart_sched import APScheduler, RunRecord
from quart_sched.engine.clock import LONGEST_TIMER, Clock
from quart_sched.errors import RunTimedOut
from quart_sched.testing import VirtualTimeError
from tests.stores.cluster import SQLITE
from tests.testing.conftest import START, told

pytestmark = pytest.mark.usefixtures("virtual_loop")

HOUR = 3600


@pytest.fixture(params=["memory", SQLITE])
def scheduler(request: pytest.FixtureRequest, tmp_path: Path) -> APScheduler:
    app = Quart("app")
    stores = {"memory": {"type": "memory"}, "sqlite": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.db"}}
    app.config.update(SCHEDULER_JOBSTORES={"default": stores[request.param]}, SCHEDULER_TIMEZONE="UTC")
    # Each look at the database is real, and hours are full of them.
    app.config.update(SCHEDULER_POLL_INTERVAL=20, SCHEDULER_HEARTBEAT=30, SCHEDULER_LEASE=120)
    return APScheduler(app=app)


def memory() -> APScheduler:
    app = Quart("app")
    app.config.update(SCHEDULER_TIMEZONE="UTC")
    return APScheduler(app=app)


async def nothing() -> None: ...


async def sleeps() -> None:
    await asyncio.sleep(100)


async def fails() -> None:
    raise ZeroDivisionError


def ran(records: list[RunRecord]) -> list[tuple[float, float]]:
    """When each run was due, and when it began, in seconds after START by the clock on the wall."""
    return [(due, begun) for _, due, begun, _, outcome in told(records) if outcome == "succeeded"]  # type: ignore[misc]


async def test_what_a_clock_set_forward_makes_due_runs_within_a_minute(scheduler):
    scheduler.add_job("job", nothing, trigger="interval", hours=1, misfire_grace_time=None)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=7)
        clock.step(hours=1)
        assert clock.now() == START + timedelta(hours=1, seconds=7)
        await clock.advance(seconds=60)
        ((due, begun),) = ran(clock.fires)
        assert due == HOUR
        assert HOUR + 7 <= begun <= HOUR + 67
        await clock.advance(hours=1)
        assert ran(clock.fires)[1:] == [(2 * HOUR, 2 * HOUR)]


async def test_fires_that_a_clock_set_forward_skips_are_accounted_for(scheduler):
    scheduler.add_job("job", nothing, trigger="interval", minutes=10, misfire_grace_time=120)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=1)
        clock.step(minutes=61)
        await clock.advance(seconds=60)
        assert [(record.outcome, record.fires) for record in clock.fires] == [("coalesced", 5), ("succeeded", 1)]


async def test_a_clock_set_back_fires_nothing_again_and_stops_the_jobs_for_no_longer(scheduler):
    scheduler.add_job("job", nothing, trigger="interval", minutes=10)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=25)
        assert ran(clock.fires) == [(600, 600), (1200, 1200)]
        clock.step(minutes=-20)
        await clock.advance(minutes=24)
        assert len(clock.fires) == 2
        await clock.advance(minutes=12)
        assert ran(clock.fires)[2:] == [(1800, 1800), (2400, 2400)]


async def test_a_job_that_is_changed_after_the_clock_was_set_back_fires_nothing_again(scheduler):
    scheduler.add_job("job", nothing, trigger="cron", minute="*/10")
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(minutes=25)
        clock.step(minutes=-20)
        await scheduler.aio.pause_job("job")
        await scheduler.aio.resume_job("job")
        await scheduler.aio.modify_job("job", trigger="cron", minute="*/5")
        await clock.advance(minutes=21)
        assert [due for due, _ in ran(clock.fires)] == [0, 600, 1200, 1500]


async def test_a_machine_that_was_suspended_catches_up_within_a_minute(scheduler):
    scheduler.add_job("job", nothing, trigger="interval", hours=1, misfire_grace_time=None)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=7)
        before = clock.monotonic()
        clock.suspend(hours=8)
        assert clock.monotonic() - before == pytest.approx(8 * HOUR)
        assert clock.fires == []
        await clock.advance(seconds=60)
        lapse, run = clock.fires
        assert (lapse.outcome, lapse.fires) == ("coalesced", 7)
        ((due, begun),) = ran([run])
        assert due == 8 * HOUR
        assert begun <= 8 * HOUR + 67
        await clock.advance(hours=1)
        assert ran(clock.fires)[1:] == [(9 * HOUR, 9 * HOUR)]


@pytest.mark.parametrize("how", ["step", "suspend"])
async def test_a_retry_is_begun_within_a_minute_of_a_suspension_and_once(scheduler, how):
    retry = {"attempts": 2, "delay": 900}
    scheduler.add_job("job", fails, trigger="date", run_date=START + timedelta(seconds=5), retry=retry)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=10)
        getattr(clock, how)(minutes=20)
        await clock.advance(seconds=60)
        # Where no database keeps the time of a retry it is a delay: a clock that was set does not change it.
        in_memory = not scheduler.scheduler.blocking
        assert len(clock.runs) == (1 if how == "step" and in_memory else 2)
        await clock.advance(minutes=15)
        assert [run.attempt for run in clock.runs] == [1, 2]


async def test_a_timeout_counts_the_time_of_a_suspension_and_not_a_step(scheduler):
    scheduler.add_job("job", sleeps, trigger="date", run_date=START + timedelta(seconds=5), timeout=90)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=10)
        clock.step(hours=1)
        await clock.advance(seconds=10)
        clock.step(hours=-3)
        await clock.advance(seconds=10)
        assert clock.runs == []
        clock.suspend(hours=1)
        await clock.advance(seconds=60)
        (run,) = clock.runs
        assert (run.outcome, run.error_type) == ("timed_out", RunTimedOut.__name__)
        assert run.duration == 0  # by the clock that was set back it ended before it began


async def test_a_run_that_waits_for_its_place_gets_it_whatever_the_clock_does(scheduler):
    options: dict[str, Any] = {"overlap": "queue", "max_queue": 1}
    scheduler.add_job("job", sleeps, trigger="interval", seconds=60, end_date=START + timedelta(seconds=125), **options)
    async with scheduler.virtual_time(start=START) as clock:
        await clock.advance(seconds=130)
        clock.step(minutes=-1)
        await clock.advance(seconds=60)
        clock.step(hours=1)
        await clock.advance(seconds=180)
        assert [run.outcome for run in clock.fires] == ["succeeded", "succeeded"]


# The virtual clock itself


async def test_a_step_takes_no_time_and_a_suspension_runs_no_timer():
    async with memory().virtual_time(start=START) as clock:
        loop = asyncio.get_running_loop()
        before, monotonic = loop.time(), clock.monotonic()
        woken: list[float] = []

        async def wait(seconds: float) -> None:
            await clock.sleep(seconds)
            woken.append(seconds)

        tasks = [asyncio.create_task(wait(seconds)) for seconds in (30, 100, 5000)]
        await clock.advance(seconds=10)
        clock.step(days=1)
        clock.step(timedelta(days=-2))
        assert clock.now() == START - timedelta(days=1) + timedelta(seconds=10)
        assert (loop.time() - before, clock.monotonic() - monotonic) == pytest.approx((10, 10))
        clock.suspend(minutes=60)
        await clock.run_due()
        assert woken == []
        assert clock.now() == START - timedelta(hours=23) + timedelta(seconds=10)
        assert (loop.time() - before, clock.monotonic() - monotonic) == pytest.approx((10, 3610))
        # A timer of the loop goes on where it was; one of more than a minute is looked at each minute.
        await clock.advance(seconds=49)
        assert woken == [30]
        await clock.advance(seconds=1)
        assert woken == [30, 100]
        await clock.advance(seconds=1330)
        assert len(woken) == 2
        await clock.advance(seconds=60)
        assert woken == [30, 100, 5000]
        await asyncio.gather(*tasks)


async def test_advance_goes_to_a_moment_by_the_clock_that_was_set():
    async with memory().virtual_time(start=START) as clock:
        clock.step(hours=2)
        await clock.advance(to=START + timedelta(hours=3))
        assert clock.now() == START + timedelta(hours=3)
        with pytest.raises(VirtualTimeError, match="leads back"):
            await clock.advance(to=START + timedelta(hours=1))
        clock.step(hours=-3)
        await clock.advance(to=START + timedelta(hours=1))


async def test_what_cannot_be_is_refused_and_changes_nothing():
    async with memory().virtual_time(start=START) as clock:
        verbs: list[Any] = [clock.step, clock.suspend]
        for verb in verbs:
            with pytest.raises(VirtualTimeError, match=rf"{verb.__name__}\(\) got 5; expected a timedelta, such as"):
                verb(5)
            with pytest.raises(VirtualTimeError, match="several distances; expected a timedelta or its parts"):
                verb(timedelta(hours=1), seconds=1)
            with pytest.raises(VirtualTimeError, match="leads out of the calendar"):
                verb(days=9_000_000)
        with pytest.raises(VirtualTimeError, match="expected a time that is not negative"):
            clock.suspend(hours=-1)
        assert clock.now() == START
    with pytest.raises(VirtualTimeError, match="after the end of its virtual_time block"):
        clock.step(hours=1)


# The real clock


class Suspended(Clock):
    """A clock of a machine that sleeps: its monotonic time is ahead of the loop's timers."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_who_waits_in_real_time_looks_at_it_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, loop = Suspended(), asyncio.get_running_loop()
    delays: list[float] = []
    call_later = loop.call_later

    def soon(delay: float, callback: Any, *args: Any) -> Any:
        delays.append(delay)
        clock.ahead += delay
        return call_later(0, callback, *args)

    monkeypatch.setattr(loop, "call_later", soon)
    await clock.wait(asyncio.Event(), 150)
    assert delays == [LONGEST_TIMER, LONGEST_TIMER, pytest.approx(30, abs=5)]
    delays.clear()
    await clock.wait(asyncio.Event(), 60)
    assert delays == [60]
    monkeypatch.setattr(clock, "ahead", 0.0)
    delays.clear()
    waiting = asyncio.create_task(clock.sleep(8 * HOUR))
    await asyncio.sleep(0)
    clock.ahead += 8 * HOUR
    await waiting
    assert delays == [LONGEST_TIMER]
