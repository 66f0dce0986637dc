"""Overdue jobs: what counts as overdue, the event, the marks that all processes see, and the hooks."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pytest
from apscheduler.triggers.base import BaseTrigger
from hypothesis import given
from quart import current_app

from quart_sched import APScheduler, Overdue
from quart_sched.engine.expectations import Expectations
from quart_sched.errors import InvalidDefinition
from quart_sched.model.events import JobOverdue, RunEnded
from quart_sched.model.jobs import JobDefinition
from quart_sched.model.overdue import allowance
from quart_sched.model.policies import Policy
from quart_sched.model.runs import RunRecord
from tests.conftest import START, eventually, settle
from tests.stores.cluster import Cluster, Process
from tests.stores.peers import at, outage

works = True
gate = asyncio.Event()
called: list[tuple[str, Overdue]] = []
"""The app's name, and what the hook got."""


async def job() -> None:
    if not works:
        raise LookupError("not there")


async def waits() -> None:
    await gate.wait()


async def hook(overdue: Overdue) -> None:
    called.append((current_app.name, overdue))


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global works, gate
    works, gate = True, asyncio.Event()
    called.clear()


def every_10s(scheduler: APScheduler, id: str = "job", func: Any = job, **options: Any) -> None:
    trigger = {} if "trigger" in options else {"trigger": "interval", "seconds": 10, "start_date": at(10)}
    scheduler.add_job(id, func, **trigger, **options)


def ids(scheduler: APScheduler) -> list[str]:
    return [overdue.job_id for overdue in scheduler.scheduler.watch.overdue]


def spied(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> list[Any]:
    """Collect what a method is called with."""
    calls, method = list[Any](), getattr(owner, name)
    monkeypatch.setattr(owner, name, lambda *args: (calls.append(args), method(*args))[1])
    return calls


def heard(scheduler: APScheduler) -> list[Overdue]:
    """Collect the alarms of the event stream."""
    alarms: list[Overdue] = []

    def listen(event: Any) -> None:
        if isinstance(event, JobOverdue):
            alarms.append(event.overdue)

    scheduler.scheduler.stream.subscribe(listen)
    return alarms


# What is overdue


def test_its_sentence_has_times_to_the_second() -> None:
    moment = START.replace(microsecond=123456)
    told = 'Job "job" is overdue: its fire at 2026-03-02 12:00:00+00:00 has not led to a success; '
    assert str(Overdue("job", moment, moment)) == told + "no success is known"
    assert str(Overdue("job", moment, moment, moment)) == told + "last success at 2026-03-02 12:00:00+00:00"


def test_the_time_that_a_job_has_is_its_own_or_the_grace_beyond_what_a_run_takes():
    assert allowance(Policy(), 60, None) == timedelta(seconds=60)
    assert allowance(Policy(), 60, 5.0) == timedelta(seconds=65)
    assert allowance(Policy(timeout=30), 60, 5.0) == timedelta(seconds=90)
    assert allowance(Policy(overdue_after=20, timeout=30), 60, 5.0) == timedelta(seconds=20)


@pytest.mark.parametrize("value", [0, 0.5, -1, True, "60", float("inf"), float("nan")])
def test_overdue_after_is_a_number_of_seconds(value):
    with pytest.raises(InvalidDefinition, match=r"overdue_after: is .*; expected seconds from 1 to 31,622,400"):
        JobDefinition.parse({"id": "job", "func": job, "trigger": "interval", "hours": 1, "overdue_after": value})


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 20))))
def test_what_is_expected_is_a_fire_behind_the_last_success(story):
    expectations, fires, met = Expectations(), [], 0
    for succeeds, second in story:
        if succeeds:
            expectations.meet("job", "default", at(second), at(second), at(second))
            met = max(met, second)
        else:
            expectations.expect("job", "default", at(second))
            fires.append(second)
        open_ = [fire for fire in fires if fire > met]
        unmet = expectations.unmet("default")
        assert bool(unmet) == bool(open_)
        if open_:
            [entry] = unmet
            assert min(open_) <= (entry.earliest - START).total_seconds() <= max(open_)


async def test_a_job_that_fails_is_overdue_until_it_succeeds(scheduler, app, serve, clock):
    global works
    works = False
    alarms = heard(scheduler)
    scheduler.on_overdue(hook)
    every_10s(scheduler)
    async with serve(scheduler, app):
        await clock.advance(seconds=69)
        assert ids(scheduler) == []
        await clock.advance(seconds=2)
        assert ids(scheduler) == ["job"]
        expected = Overdue("job", at(10), at(70), None)
        assert alarms == [expected]
        await clock.advance(seconds=600)
        assert ids(scheduler) == ["job"]
        assert alarms == [expected]
        assert called == [("test_app", expected)]
        works = True
        await clock.advance(seconds=10)
        assert ids(scheduler) == []


async def test_the_hook_is_called_again_in_the_next_period(scheduler, app, serve, clock):
    global works
    scheduler.on_overdue(hook)
    every_10s(scheduler)
    async with serve(scheduler, app):
        await clock.advance(seconds=15)
        for period in (1, 2):
            works = False
            await clock.advance(seconds=100)
            assert len(called) == period
            works = True
            await clock.advance(seconds=10)
            assert ids(scheduler) == []
    first, second = (overdue for _, overdue in called)
    assert (first.expected_at, first.last_success) == (at(20), at(10))
    assert (second.expected_at, second.last_success) == (at(130), at(120))


async def test_a_job_that_hangs_is_overdue_and_one_that_takes_its_usual_time_is_not(scheduler, app, serve, clock):
    every_10s(scheduler, "hangs", waits)
    every_10s(scheduler, "slow", slow, trigger="interval", seconds=300, start_date=at(10))
    async with serve(scheduler, app, SCHEDULER_OVERDUE_GRACE=200):
        pace[0] = clock
        await clock.advance(seconds=209)
        assert ids(scheduler) == []
        await clock.advance(seconds=10)
        assert ids(scheduler) == ["hangs"]
        gate.set()
        await clock.advance(seconds=1)
        assert ids(scheduler) == []
        # From the first success on it is known to take 150 seconds.
        await clock.advance(seconds=1200)
        assert ids(scheduler) == []
        gate.clear()


pace: list[Any] = [None]


async def slow() -> None:
    await pace[0].sleep(150)


async def test_a_job_with_a_deadline_of_its_own(scheduler, app, serve, clock):
    every_10s(scheduler, "strict", waits, overdue_after=5)
    every_10s(scheduler, "patient", waits, overdue_after=3600)
    async with serve(scheduler, app, SCHEDULER_OVERDUE_GRACE=10):
        await clock.advance(seconds=14)
        assert ids(scheduler) == []
        await clock.advance(seconds=1)
        assert ids(scheduler) == ["strict"]
        await clock.advance(seconds=3000)
        assert ids(scheduler) == ["strict"]
        gate.set()


async def test_missed_fires_make_a_job_overdue(scheduler, app, serve, clock):
    every_10s(scheduler, trigger="interval", hours=1, start_date=at(100))
    async with serve(scheduler, app):
        await clock.advance(seconds=65)
        clock.suspend(seconds=60)
        await clock.advance(seconds=60)
        assert [record.outcome for record in scheduler.history.records()] == ["missed"]
        assert ids(scheduler) == ["job"]
        await scheduler.aio.run_job("job")
        await clock.advance(seconds=0)
        assert ids(scheduler) == []


async def test_one_that_failed_by_hand_is_not_overdue(scheduler, app, serve, clock):
    global works
    works = False
    every_10s(scheduler, trigger="interval", hours=1)
    async with serve(scheduler, app):
        await (await scheduler.aio.run_job("job")).wait()
        await clock.advance(seconds=600)
        assert ids(scheduler) == []


async def test_neither_the_retry_of_a_run_by_hand_nor_a_backfill_is_expected(scheduler, app, serve, clock):
    global works
    works = False
    every_10s(scheduler, trigger="interval", hours=1, retry={"attempts": 3, "delay": 10})
    async with serve(scheduler, app):
        await scheduler.aio.run_job("job")
        await clock.advance(seconds=600)
        await scheduler.aio.backfill("job", clock.now() - timedelta(hours=3))
        await clock.advance(seconds=600)
        assert ids(scheduler) == []


def test_a_run_whose_job_was_removed_meanwhile_says_nothing_of_a_namesake():
    here = Expectations()
    here.ignore(["run"])
    record = RunRecord(
        "run", "run", "job", START, "succeeded", "schedule", "host:1", started_at=START, finished_at=START
    )
    here.hear_ended(RunEnded(record, "default"), "default")
    overdue = here.overdue("job", "default", 60.0, Policy(), START + timedelta(hours=1))
    assert overdue is not None
    assert overdue.last_success is None


def test_in_the_hour_that_comes_twice_a_later_fire_is_expected_and_has_its_time():
    here = Expectations()
    first = datetime(2026, 10, 25, 2, 50, tzinfo=ZoneInfo("Europe/Berlin"))
    second, third = first.replace(minute=10, fold=1), first.replace(minute=40, fold=1)
    here.meet("job", "default", first, None, None)
    assert here.expect("job", "default", second) is not None
    here.expect("job", "default", third)
    overdue = here.overdue("job", "default", 60.0, Policy())
    assert overdue is not None
    assert (overdue.expected_at.isoformat(), overdue.since) == (
        "2026-10-25T02:10:00+01:00",
        second.astimezone(UTC) + timedelta(seconds=60),
    )
    here.meet("job", "default", first, None, None)
    assert here.is_open("job", "default")
    here.meet("job", "default", third, None, None)
    assert not here.is_open("job", "default")


@pytest.mark.filterwarnings("ignore:asyncio.sleep and asyncio.timeout are real")
async def test_in_the_hour_that_comes_twice_the_alarm_comes_after_the_grace(app, serve):
    global works
    scheduler = APScheduler()
    every_10s(scheduler, trigger="cron", minute=30, timezone="Europe/Berlin")
    async with serve(scheduler, app, start=False), scheduler.virtual_time("2026-10-25T00:00:00") as clock:
        await clock.advance(minutes=45)
        works = False
        await clock.advance(minutes=45, seconds=50)
        assert ids(scheduler) == []
        await clock.advance(seconds=20)
        assert ids(scheduler) == ["job"]


@pytest.mark.parametrize("everything", [False, True])
async def test_what_was_under_way_of_jobs_that_were_removed_is_not_expected_of_their_namesakes(
    scheduler, app, serve, clock, everything
):
    async def slow() -> None:
        await asyncio.sleep(200)
        raise ValueError("no")

    late = {"next_run_time": at(-7200), "misfire_grace_time": None, "coalesce": False}
    async with serve(scheduler, app):
        every_10s(scheduler, func=slow, trigger="interval", hours=1, **late)
        await clock.advance(seconds=1)
        await (scheduler.aio.remove_all_jobs() if everything else scheduler.aio.remove_job("job"))
        every_10s(scheduler, trigger="interval", hours=1)
        await clock.advance(seconds=600)
        assert ids(scheduler) == []


async def test_neither_a_paused_job_nor_a_paused_scheduler_is_overdue(scheduler, app, serve, clock):
    global works
    works = False
    scheduler.on_overdue(hook)
    every_10s(scheduler, "one")
    every_10s(scheduler, "two")
    async with serve(scheduler, app):
        await clock.advance(seconds=60)
        scheduler.pause_job("one")
        await clock.advance(seconds=600)
        assert ids(scheduler) == ["two"]
        scheduler.pause_job("two")
        await clock.advance(seconds=1)
        assert ids(scheduler) == []
        scheduler.resume_job("two")
        await clock.advance(seconds=100)
        assert ids(scheduler) == ["two"]
        scheduler.pause()
        await clock.advance(seconds=100)
        assert ids(scheduler) == []
        assert len(called) == 2
        works = True
        scheduler.resume()
        await clock.advance(seconds=100)
        assert ids(scheduler) == []
    assert len(called) == 2


async def test_a_one_shot_job_that_failed_is_overdue_though_it_is_gone(scheduler, app, serve, clock):
    global works
    works = False
    every_10s(scheduler, trigger="date", run_date=at(10))
    every_10s(scheduler, "removed", trigger="interval", hours=1, start_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=20)
        assert [job.id for job in scheduler.get_jobs()] == ["removed"]
        scheduler.remove_job("removed")
        await clock.advance(seconds=60)
        assert ids(scheduler) == ["job"]
        # It can never succeed any more.
        await clock.advance(seconds=3600)
        assert ids(scheduler) == []
        assert scheduler.scheduler.watch._here.unmet("default") == []


async def test_failed_one_shot_jobs_cost_the_others_nothing(scheduler, app, serve, clock, monkeypatch):
    global works
    works = False
    watch = scheduler.scheduler.watch
    every_10s(scheduler, trigger="date", run_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=80)
        assert ids(scheduler) == ["job"]
        looks, judged = spied(monkeypatch, watch, "_look_here"), spied(monkeypatch, watch, "_job")
        for number in range(5):
            every_10s(scheduler, f"other {number}", trigger="interval", hours=1)
            await settle()
        assert looks == []
        await clock.advance(seconds=600)
        assert len(looks) == 10
        assert judged == []
        assert ids(scheduler) == ["job"]


async def test_runs_that_fail_cost_the_others_nothing(scheduler, app, serve, clock, monkeypatch):
    global works
    works = False
    every_10s(scheduler, trigger="interval", seconds=1, start_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=80)
        assert ids(scheduler) == ["job"]
        looks = spied(monkeypatch, scheduler.scheduler.watch, "_look_here")
        await clock.advance(seconds=60)
        assert len(looks) <= 2
        works = True
        await clock.advance(seconds=1)
        assert ids(scheduler) == []


async def test_one_that_is_added_again_is_judged_anew(scheduler, app, serve, clock):
    global works
    works = False
    every_10s(scheduler, trigger="date", run_date=at(10))
    async with serve(scheduler, app):
        await clock.advance(seconds=80)
        assert ids(scheduler) == ["job"]
        every_10s(scheduler, next_run_time=None)  # a paused one
        await settle()
        assert ids(scheduler) == []


async def test_a_look_at_very_many_jobs_leaves_the_loop_to_others(scheduler, app, serve, clock, monkeypatch):
    monkeypatch.setattr("quart_sched.engine.slices.SLICE", 0)
    async with serve(scheduler, app):
        engine = scheduler.scheduler
        for number in range(20):
            engine.watch._here.expect(f"job {number}", "default", at(0))
        look = asyncio.create_task(engine.watch._look_here(engine.catalogue.slots["default"], 60.0))
        turns = 0
        while not look.done():
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 20


async def test_very_many_alarms_at_once_leave_the_loop_to_others(scheduler, app, serve, clock, monkeypatch):
    monkeypatch.setattr("quart_sched.engine.slices.SLICE", 0)
    turns = 0
    alarms: list[int] = []
    calls: list[int] = []
    async with serve(scheduler, app):
        engine = scheduler.scheduler
        engine.stream.subscribe(lambda event: alarms.append(turns), JobOverdue)
        call_hooks = engine.watch._call_hooks
        monkeypatch.setattr(
            engine.watch, "_call_hooks", lambda *args, **rest: (calls.append(turns), call_hooks(*args, **rest))
        )
        for number in range(20):
            engine.watch._here.expect(f"job {number}", "default", at(-3600)).ended = True
        look = asyncio.create_task(engine.watch._look_here(engine.catalogue.slots["default"], 60.0))
        while not look.done():
            await asyncio.sleep(0)
            turns += 1
    assert len(set(alarms)) == len(set(calls)) == 20


async def test_an_alarm_without_hooks_takes_no_task(scheduler, app, serve, clock, monkeypatch):
    global works
    works = False
    every_10s(scheduler)
    async with serve(scheduler, app):
        tasks = spied(monkeypatch, scheduler.scheduler.watch, "_call")
        await clock.advance(seconds=80)
        assert ids(scheduler) == ["job"]
        assert tasks == []


class Breaks(BaseTrigger):
    """Gives one fire, and then raises."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:
        if now > START:
            raise ValueError("no such time")
        return at(10)


async def test_a_broken_job_is_overdue(scheduler, app, serve, clock):
    every_10s(scheduler, trigger=Breaks())
    async with serve(scheduler, app):
        await clock.advance(seconds=15)
        assert "job" in scheduler.scheduler.catalogue.slots["default"].broken
        await clock.advance(seconds=120)
        assert ids(scheduler) == ["job"]


async def test_without_a_grace_nothing_is_watched(scheduler, app, serve, clock):
    global works
    works = False
    every_10s(scheduler)
    async with serve(scheduler, app, SCHEDULER_OVERDUE_GRACE=None):
        await clock.advance(seconds=600)
        assert ids(scheduler) == []
        assert "quart-sched-overdue" not in {task.get_name() for task in asyncio.all_tasks()}


# The hooks


async def test_hooks_of_every_kind_are_called_and_one_that_fails_harms_nothing(scheduler, app, serve, clock, caplog):
    global works
    works = False
    threads: list[Any] = []

    @scheduler.on_overdue
    def plain(overdue: Overdue) -> None:
        threads.append((current_app.name, threading.current_thread() is threading.main_thread()))

    @scheduler.on_overdue
    def breaks(overdue: Overdue) -> None:
        raise RuntimeError("no mail today")

    @scheduler.on_overdue
    def exits(overdue: Overdue) -> None:
        raise SystemExit(3)

    @scheduler.on_overdue
    async def exits_on_the_loop(overdue: Overdue) -> None:
        raise SystemExit(4)

    scheduler.on_overdue(hook)
    every_10s(scheduler)
    async with serve(scheduler, app):
        await clock.advance(seconds=100)
        await eventually(lambda: called)
    assert threads == [("test_app", False)]
    for reason in ("no mail today", "SystemExit: 3", "SystemExit: 4"):
        assert reason in caplog.text
    [record] = [record for record in caplog.records if record.message.startswith('Job "job" is overdue')]
    assert record.levelname == "WARNING"
    assert record.job_id == "job"


@pytest.mark.filterwarnings("ignore:asyncio.sleep and asyncio.timeout are real")
async def test_virtual_time_waits_for_the_hook(app, serve):
    seen: list[Overdue] = []
    scheduler = APScheduler()

    @scheduler.on_overdue
    def mails(overdue: Overdue) -> None:
        seen.append(overdue)

    scheduler.add_job("job", fails, trigger="interval", minutes=1)
    async with serve(scheduler, app, start=False), scheduler.virtual_time("2030-01-01T00:00:00") as clock:
        await clock.advance(minutes=10)
        assert [one.job_id for one in seen] == ["job"]
        assert seen[0].expected_at.isoformat() == "2030-01-01T00:01:00+00:00"


async def fails() -> None:
    raise LookupError("not there")


# Over all processes


async def look(cluster: Cluster) -> None:
    """Let every process look at the store again."""
    for process in cluster.processes:
        watch = process.scheduler.scheduler.watch
        # Not while it looks by itself: then it is not this one's turn, which finds what is known before that.
        while watch._task is not None and not cluster.clock.is_waited_for(watch._wake):
            await asyncio.sleep(0.001)
        await watch._look()
    while calls := {call for process in cluster.processes for call in process.scheduler.scheduler.watch._calls}:
        await asyncio.wait(calls)


def declared(*, with_hook: bool = True, **options: Any) -> Any:
    def declare(scheduler: APScheduler) -> None:
        every_10s(scheduler, **options)
        if with_hook:
            scheduler.on_overdue(hook)

    return declare


def overdue(process: Process) -> list[str]:
    return ids(process.scheduler)


async def test_all_processes_see_it_and_one_calls_the_hook(cluster):
    global works
    works = False
    for _ in range(3):
        await cluster.start(declared())
    alarms = [heard(process.scheduler) for process in cluster.processes]
    await cluster.advance(69)
    await look(cluster)
    assert [overdue(process) for process in cluster.processes] == [[], [], []]
    await cluster.advance(31)
    await look(cluster)
    await cluster.advance(600)
    await look(cluster)
    assert [overdue(process) for process in cluster.processes] == [["job"]] * 3
    assert [[(one.job_id, one.expected_at) for one in some] for some in alarms] == [[("job", at(10))]] * 3
    assert [one for _, one in called] == [Overdue("job", at(10), at(70), None)]
    assert cluster.query("SELECT n FROM {p}meta WHERE k LIKE 'overdue:%'") == [(1,)]
    works = True
    await cluster.advance(60)
    await look(cluster)
    assert [overdue(process) for process in cluster.processes] == [[], [], []]
    assert cluster.query("SELECT n FROM {p}meta WHERE k LIKE 'overdue:%'") == []
    works = False
    await cluster.advance(150)
    await look(cluster)
    assert len(called) == 2
    assert called[1][1].last_success is not None


async def test_the_others_notice_when_the_one_that_ran_it_died(cluster):
    options = {"func": waits, "trigger": "date", "run_date": at(200)}
    first = await cluster.start(declared(**options))
    await cluster.advance(195)
    await cluster.start(declared(**options))
    first_claims = await cluster.start(declared(**options), paused=True)
    await cluster.advance(10)
    [(owner,)] = cluster.query("SELECT owner FROM {p}live")
    [runs_it] = [process for process in cluster.processes if process.slot.session.id == owner]
    cluster.kill(runs_it)
    runs_it.scheduler.scheduler.watch.stop()
    assert first in (*cluster.processes, runs_it)
    assert first_claims in cluster.processes
    await cluster.advance(120)
    await look(cluster)
    [alarm] = [one for _, one in called]
    assert (alarm.job_id, alarm.expected_at) == ("job", at(200))
    gate.set()


async def test_a_process_that_fires_nothing_watches_those_that_should(cluster):
    await cluster.start(declared(with_hook=False), paused=True)
    worker = await cluster.start(declared(with_hook=False))
    await cluster.advance(65)
    await look(cluster)
    cluster.kill(worker)
    worker.scheduler.scheduler.watch.stop()
    await cluster.advance(150)
    await look(cluster)
    assert [overdue(process) for process in cluster.processes] == [["job"]]


async def test_a_process_that_fires_nothing_watches_on_after_a_pause_of_all(cluster):
    looks_on = await cluster.start(declared(with_hook=False), paused=True)
    worker = await cluster.start(declared(with_hook=False))
    await cluster.advance(65)
    await worker.aio.pause()
    await cluster.advance(300)
    await worker.aio.resume()
    await cluster.advance(50)
    assert (overdue(looks_on), looks_on.scheduler.state) == ([], 2), "what was held back is not overdue"
    cluster.kill(worker)
    worker.scheduler.scheduler.watch.stop()
    await cluster.advance(200)
    await eventually(lambda: overdue(looks_on) == ["job"])


async def test_a_one_shot_job_of_a_shared_store_that_failed_is_told_of(cluster):
    global works
    works = False
    process = await cluster.start(lambda scheduler: scheduler.on_overdue(hook))
    await process.aio.add_job("failed", job, trigger="date", run_date=at(30))
    await cluster.advance(40)
    works = True
    await process.aio.add_job("done", job, trigger="date", run_date=at(50))
    await cluster.advance(200)
    await look(cluster)
    assert [one.job_id for _, one in called] == ["failed"]
    assert overdue(process) == ["failed"]
    assert cluster.query("SELECT id FROM {p}jobs") == [("failed",)]
    assert await process.ids() == []
    cluster.clock.jump(3600)
    await cluster.advance(40)
    await look(cluster)
    assert overdue(process) == []
    cluster.clock.jump(24 * 3600)
    await cluster.advance(70)
    await eventually(lambda: cluster.query("SELECT id FROM {p}jobs") == [])


async def test_a_process_that_has_just_begun_does_not_cry_wolf(cluster):
    process = await cluster.start(declared(misfire_grace_time=None, trigger="interval", hours=1, start_date=at(10)))
    await cluster.stop(process)
    cluster.clock.jump(1800)
    process = await cluster.start(declared(misfire_grace_time=None, trigger="interval", hours=1, start_date=at(10)))
    await cluster.advance(300)
    await look(cluster)
    assert called == []
    assert await process.outcomes("job") == ["succeeded"]


async def test_a_job_added_anew_does_not_answer_for_its_namesake(cluster):
    global works
    works = False
    process = await cluster.start()
    await process.aio.add_job("job", job, trigger="interval", seconds=10, start_date=at(10))
    await cluster.advance(105)
    await look(cluster)
    assert overdue(process) == ["job"]
    await process.aio.remove_job("job")
    await process.aio.add_job("job", waits, trigger="interval", hours=1, start_date=at(200))
    await cluster.advance(110)
    await look(cluster)
    assert overdue(process) == []
    gate.set()


async def test_a_paused_job_of_a_shared_store_is_not_overdue_and_a_broken_one_is(cluster):
    global works
    works = False
    process = await cluster.start(declared())
    await process.aio.add_job("broken", job, trigger="interval", seconds=10, start_date=at(10))
    cluster.query("UPDATE {p}jobs SET func = 'gone:away', version = version + 1 WHERE id = 'broken'")
    await process.aio.pause_job("job")
    await cluster.advance(200)
    await look(cluster)
    assert overdue(process) == ["broken"]


async def test_a_damaged_job_is_overdue_and_hides_no_other(cluster):
    global works
    works = False
    process = await cluster.start(declared())
    await process.aio.add_job("damaged", job, trigger="interval", seconds=10, start_date=at(10))
    cluster.query("UPDATE {p}jobs SET definition = 'no json', version = version + 1 WHERE id = 'damaged'")
    await cluster.advance(200)
    await look(cluster)
    assert sorted(overdue(process)) == ["damaged", "job"]


async def test_a_hook_whose_process_died_on_the_way_is_called_by_another(cluster):
    global works
    works = False
    first = await cluster.start(declared(with_hook=False))
    await cluster.advance(65)
    watch = first.scheduler.scheduler.watch
    watch._call_hooks = lambda *_, **__: None  # it dies before it calls any
    await cluster.advance(40)
    await look(cluster)
    assert overdue(first) == ["job"]
    cluster.kill(first)
    watch.stop()
    await cluster.start(declared())
    await cluster.advance(200)
    await look(cluster)
    assert [one.job_id for _, one in called] == ["job"]


async def test_a_hook_that_takes_long_is_called_once(cluster):
    global works
    works = False

    async def slow(overdue: Overdue) -> None:
        await hook(overdue)
        await gate.wait()

    def declare(scheduler: APScheduler) -> None:
        every_10s(scheduler)
        scheduler.on_overdue(slow)

    for _ in range(2):
        await cluster.start(declare)
    await cluster.advance(65)
    for _ in range(6):
        await cluster.advance(20)
        for process in cluster.processes:
            await process.scheduler.scheduler.watch._look()
    assert len(called) == 1
    gate.set()
    await eventually(lambda: cluster.query("SELECT n FROM {p}meta WHERE k LIKE 'overdue:%'") == [(1,)])


async def test_a_turn_of_a_clock_that_was_put_back_holds_nobody_up(cluster):
    global works
    works = False
    process = await cluster.start(declared())
    await cluster.advance(65)
    await look(cluster)
    cluster.query("UPDATE {p}meta SET n = n + 86400000000, v = 'somebody' WHERE k = 'overdue'")
    await cluster.advance(40)
    await look(cluster)
    assert overdue(process) == ["job"]


async def test_an_outage_of_the_database_leaves_what_is_known(cluster):
    global works
    works = False
    process = await cluster.start(declared())
    await cluster.advance(120)
    await look(cluster)
    assert overdue(process) == ["job"]
    with outage(process.slot.store.database):
        await look(cluster)
        assert overdue(process) == ["job"]
    assert called[0][1].since == at(70)
