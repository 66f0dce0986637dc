"""The pump: what is due runs, in time, whatever stores, triggers and users do meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.jobstores.base import JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.triggers.base import BaseTrigger

from quart_sched import APScheduler
from quart_sched.engine import pump
from quart_sched.engine.claims import claim
from quart_sched.engine.failures import Failures
from quart_sched.stores.memory import MemoryStore
from quart_sched.stores.slot import Slot
from tests.conftest import eventually


class BlockingStore(MemoryJobStore):
    """One of APScheduler's own stores, as far as the scheduler can tell; fails on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: set[str] = set()
        self.threads: set[int] = set()
        self.answers = threading.Event()
        self.answers.set()
        self.asked = False

    def _use(self, name: str) -> None:
        self.threads.add(threading.get_ident())
        self.asked = not self.answers.is_set()
        self.answers.wait()  # a database that takes its time, in the store thread
        if name in self.failing:
            raise ConnectionError(f"{name} failed")

    def start(self, scheduler: Any, alias: str) -> None:
        self._use("start")
        super().start(scheduler, alias)

    def get_due_jobs(self, now: Any) -> Any:
        self._use("get_due_jobs")
        return super().get_due_jobs(now)

    def get_next_run_time(self) -> Any:
        self._use("get_next_run_time")
        return super().get_next_run_time()

    def update_job(self, job: Any) -> None:
        self._use("update_job")
        super().update_job(job)

    def add_job(self, job: Any) -> None:
        self._use("add_job")
        super().add_job(job)

    def shutdown(self) -> None:
        self._use("shutdown")


class RaisingTrigger(BaseTrigger):
    """Fires once, and raises when asked what comes next."""

    def __init__(self, first: Any) -> None:
        self.first = first

    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        if previous is None:
            return self.first
        raise ZeroDivisionError("bad trigger")


@pytest.fixture
def ran() -> list[str]:
    return []


@pytest.fixture
def job(ran):
    async def job(name: str = "job") -> None:
        ran.append(name)

    return job


async def test_jobs_run_at_their_times_in_order(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("b", job, args=["b"], trigger="interval", seconds=3)
        scheduler.add_job("a", job, args=["a"], trigger="interval", seconds=2)
        await clock.advance(seconds=7)
    assert ran == ["a", "b", "a", "b", "a"]


async def test_a_job_added_while_the_pump_waits_for_another_runs_in_time(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("late", job, args=["late"], trigger="interval", hours=1)
        await clock.advance(seconds=1)
        await asyncio.to_thread(scheduler.add_job, "early", job, args=["early"], trigger="interval", seconds=1)
        await clock.advance(seconds=1)
    assert ran == ["early"]


async def test_a_date_job_runs_once_and_is_gone(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("once", job, trigger="date", run_date=clock.now() + timedelta(seconds=5))
        await clock.advance(seconds=10)
        assert scheduler.get_job("once") is None
    assert ran == ["job"]


async def test_a_long_claim_lets_the_loop_go_on_in_between(monkeypatch, scheduler, app, serve, clock, ran, job):
    monkeypatch.setattr(pump, "SLICE", 0.0)
    monkeypatch.setattr("quart_sched.engine.slices.SLICE", 0.0)
    async with serve(scheduler, app):
        scheduler.pause()
        for name in "abc":
            scheduler.add_job(name, job, args=[name], trigger="cron", second="*", misfire_grace_time=None)
        await clock.advance(seconds=3600)
        claims, turns = [], []
        monkeypatch.setattr(pump, "claim", lambda *args, **rest: claims.append(len(turns)) or claim(*args, **rest))

        async def go_on() -> None:
            while len(claims) < 3:
                turns.append(len(claims))
                await asyncio.sleep(0)

        others = asyncio.create_task(go_on())
        scheduler.resume()
        await clock.run_due()
        await others
    assert ran == ["a", "b", "c"]
    first, second, third, *_ = claims
    assert first < second < third


async def test_a_paused_scheduler_fires_nothing_and_catches_up_by_the_grace(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("strict", job, args=["strict"], trigger="interval", seconds=10)
        scheduler.add_job("lenient", job, args=["lenient"], trigger="interval", seconds=10, misfire_grace_time=None)
        scheduler.pause()
        await clock.advance(seconds=25)
        assert ran == []
        scheduler.resume()
        await clock.run_due()
        assert ran == ["lenient"]
        outcomes = [(r.outcome, r.fires) for r in scheduler.history.records("strict")]
        assert outcomes == [("missed", 2)]
        outcomes = [(r.outcome, r.fires) for r in scheduler.history.records("lenient")]
        assert outcomes == [("coalesced", 1), ("succeeded", 1)]


async def test_a_paused_job_does_not_fire_until_it_is_resumed(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=10)
        scheduler.pause_job("job")
        await clock.advance(seconds=25)
        assert ran == []
        scheduler.resume_job("job")
        await clock.advance(seconds=10)
    assert ran == ["job"]


async def test_resuming_a_job_whose_schedule_is_over_removes_it(scheduler, app, serve, clock, job):
    async with serve(scheduler, app):
        end = clock.now() + timedelta(seconds=15)
        scheduler.add_job("job", job, trigger="interval", seconds=10, end_date=end)
        scheduler.pause_job("job")
        await clock.advance(seconds=60)
        assert scheduler.resume_job("job") is None
        assert scheduler.get_job("job") is None


async def test_a_stepped_clock_is_noticed_within_a_minute(scheduler, app, serve, clock, ran, job):
    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=5, misfire_grace_time=None)
        await clock.run_due()
        clock.suspend(seconds=6 * 3600)
        assert ran == []
        await clock.advance(seconds=60)
    assert ran == ["job"]


async def test_a_trigger_that_raises_breaks_its_own_job_only(scheduler, app, serve, clock, ran, job, caplog):
    async with serve(scheduler, app):
        scheduler.add_job("good", job, trigger="interval", seconds=1)
        trigger = RaisingTrigger(clock.now() + timedelta(seconds=1))
        scheduler.add_job("bad", job, args=["bad"], trigger=trigger)
        await clock.advance(seconds=3)
        bad = scheduler.get_job("bad")
        assert bad.next_run_time is None
        reason = scheduler.scheduler.catalogue.broken_reason(bad)
        assert "ZeroDivisionError: bad trigger" in reason
        assert "bad trigger" in caplog.text
        assert ran == ["job"] * 3
        scheduler.modify_job("bad", trigger="interval", seconds=1)
        assert scheduler.scheduler.catalogue.broken_reason(bad) is None
        await clock.advance(seconds=1)
    assert "bad" in ran


async def test_a_job_removed_under_the_pumps_feet_harms_nothing(scheduler, app, serve, clock):
    store = BlockingStore()
    update = store.update_job

    def vanish(job: Any) -> None:
        if job.id == "gone":
            store.remove_job("gone")
            raise JobLookupError("gone")
        update(job)

    record.calls.clear()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        await scheduler.aio.add_job("gone", record, trigger="interval", seconds=1)
        await scheduler.aio.add_job("stays", record, trigger="interval", seconds=1)
        store.update_job = vanish
        # The clock wakes only those who wait: not a pump that is still in the round after the jobs were added.
        await clock.advance()
        await clock.advance(seconds=1)
        await clock.advance()
        assert [r.job_id for r in scheduler.history.records()] == ["stays"]
        assert [job.id for job in await scheduler.aio.get_jobs()] == ["stays"]


@pytest.mark.parametrize("method", ["get_due_jobs", "get_next_run_time", "update_job"])
async def test_the_pump_survives_a_store_that_raises(scheduler, app, serve, clock, ran, method, caplog):
    store = BlockingStore()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        await scheduler.aio.add_job("job", record, trigger="interval", seconds=10, misfire_grace_time=None)
        store.failing = {method}
        record.calls.clear()
        for _ in range(10):
            await clock.advance(seconds=1.5)
            await clock.advance()
        started = len(record.calls)
        assert started <= 1
        assert "trying again in" in caplog.text
        store.failing = set()
        for _ in range(40):
            await clock.advance(seconds=1.5)
            await clock.advance()
        assert len(record.calls) > started
        assert len(record.calls) == len([r for r in scheduler.history.records() if r.outcome == "succeeded"])


async def record() -> None:
    record.calls.append(1)


record.calls = []


async def test_a_store_that_is_down_at_start_is_opened_as_soon_as_it_is_up(scheduler, app, serve, clock, caplog):
    store = BlockingStore()
    store.failing = {"start"}
    record.calls.clear()
    scheduler.add_job("declared", record, trigger="interval", seconds=10)
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        await clock.advance()
        assert scheduler.running
        assert "start failed" in scheduler.scheduler.catalogue.slots["default"].error
        store.failing = set()
        for _ in range(4):
            await clock.advance(seconds=20)
            await clock.advance()
        assert [job.id for job in await scheduler.aio.get_jobs()] == ["declared"]
        for _ in range(10):
            await clock.advance(seconds=2)
            await clock.advance()
    assert record.calls


async def test_an_outage_logs_few_lines_and_that_it_is_over(scheduler, app, serve, clock, caplog):
    caplog.set_level(logging.INFO, "quart_sched")
    store = BlockingStore()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        await clock.advance()
        store.failing = {"get_due_jobs"}
        caplog.clear()
        for _ in range(120):
            await clock.advance(seconds=1)
            await clock.advance()
        attempts = [record.message.split("; ")[1] for record in caplog.records]
        assert attempts == [f"trying again in {s} s (failure {n})" for n, s in ((1, 1), (2, 2), (4, 8))]
        assert all("\n" not in record.message and not record.exc_info for record in caplog.records)
        store.failing = set()
        await clock.advance(seconds=30)
        assert caplog.records[-1].message == 'The pump of job store "default" goes on after 6 failures'


async def test_an_outage_that_is_over_at_the_next_start_is_no_trouble_any_more(scheduler, app, serve, clock):
    store = BlockingStore()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        store.failing = {"get_due_jobs"}
        await scheduler.aio.add_job("job", record, trigger="interval", seconds=10)
        await clock.advance(seconds=1)
        [slot] = scheduler.scheduler.catalogue.slots.values()
        assert "get_due_jobs failed" in slot.trouble
        await scheduler.aio.shutdown()
        store.failing = set()
        await scheduler.aio.start()
        await clock.advance(seconds=1)
        assert slot.trouble is None


async def test_a_slow_store_holds_up_neither_the_loop_nor_the_jobs_of_another(scheduler, app, serve, clock, ran, job):
    store = BlockingStore()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"slow": store}):
        await scheduler.aio.add_job("held", record, trigger="interval", seconds=10, jobstore="slow")
        await scheduler.aio.add_job("fast", job, trigger="interval", seconds=10)
        await clock.advance()
        store.answers.clear()
        advancing = asyncio.create_task(clock.advance(seconds=10))
        await eventually(lambda: store.asked and ran == ["job"])
        store.answers.set()
        await advancing


async def test_a_blocking_store_is_used_in_one_thread_that_is_not_the_loops(scheduler, app, serve, clock, job):
    store = BlockingStore()
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": store}):
        await scheduler.aio.add_job("job", record, trigger="interval", seconds=1)
        await clock.advance(seconds=1)
        await clock.advance()
        await asyncio.to_thread(scheduler.modify_job, "job", name="renamed")
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads


async def test_a_sync_verb_on_the_loop_with_a_blocking_store_warns_once(scheduler, app, serve, caplog):
    async with serve(scheduler, app, SCHEDULER_JOBSTORES={"default": BlockingStore()}):
        caplog.set_level(logging.WARNING)
        assert scheduler.get_jobs() == []
        assert scheduler.get_jobs() == []
    assert len([r for r in caplog.records if "scheduler.aio" in r.message]) == 1


async def test_no_more_runs_at_once_than_max_runs(scheduler, app, serve, clock):
    running: list[int] = [0, 0]
    gate = asyncio.Event()

    async def job() -> None:
        running[0] += 1
        running[1] = max(running)
        await gate.wait()
        running[0] -= 1

    async with serve(scheduler, app, SCHEDULER_MAX_RUNS=3):
        for number in range(10):
            scheduler.add_job(str(number), job, misfire_grace_time=None)
        await clock.run_due()
        assert running[0] == 3
        gate.set()
        await clock.run_due()
        await clock.run_due()
        assert running[1] == 3
        assert len(scheduler.history.records()) == 10


async def test_a_thousand_jobs_due_at_once_all_run_once_and_the_loop_gets_its_turns(
    scheduler, app, serve, clock, virtual_loop
):
    ran: dict[str, int] = {}

    async def job(name: str) -> None:
        assert name not in ran
        ran[name] = virtual_loop.watch.turns

    async with serve(scheduler, app):
        for number in range(1000):
            scheduler.add_job(str(number), job, args=[str(number)], trigger="interval", seconds=10)
        await clock.advance(seconds=10)
    assert len(ran) == 1000
    assert len(set(ran.values())) >= 1000 / pump.BATCH


async def test_a_job_with_an_executor_that_is_gone_is_broken_not_removed(scheduler, app, serve, clock, job):
    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=1)
        del scheduler.scheduler.runner.executors["default"]
        await clock.advance(seconds=2)
        broken = scheduler.get_job("job")
        assert "no executor" in scheduler.scheduler.catalogue.broken_reason(broken)


def test_the_default_store_is_ours(scheduler):
    assert isinstance(scheduler.scheduler.catalogue.slots["default"].store, MemoryStore)


def test_however_long_an_outage_lasts_there_is_another_attempt():
    failures = Failures(Slot("default", MemoryStore()))
    assert {failures.add(ConnectionError("away"), 1.0) for _ in range(5000)} == {1, 2, 4, 8, 16, 30}


async def test_in_the_hour_that_comes_twice_the_next_fire_is_moved_to_any_time_behind_the_last(
    virtual_loop, app, serve
):
    async def tick() -> None: ...

    scheduler, berlin = APScheduler(), ZoneInfo("Europe/Berlin")
    scheduler.add_job("job", tick, trigger="cron", minute=50, timezone=berlin)
    async with serve(scheduler, app, start=False), scheduler.virtual_time("2026-10-25T00:45:00") as clock:
        await clock.advance(minutes=10)
        await scheduler.aio.modify_job("job", next_run_time=datetime(2026, 10, 25, 2, 10, fold=1, tzinfo=berlin))
        await clock.advance(minutes=20)
        fires = [record.scheduled_at.isoformat() for record in clock.fires]
    assert fires == ["2026-10-25T02:50:00+02:00", "2026-10-25T02:10:00+01:00"]
