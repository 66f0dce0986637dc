"""Backfills: past fires of a job run beside its schedule, in order, each once, and so many at a time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from quart import current_app

from quart_sched import current_run
from quart_sched.errors import Draining, InvalidDefinition, JobNotFound, StoreUnavailable
from tests.conftest import eventually
from tests.stores.cluster import Cluster
from tests.stores.peers import at, outage

begun: list[float] = []
"""The fires that began, in seconds after the start."""
runs: list[Any] = []
gates: list[asyncio.Event] = []
gate = threading.Event()
MINUTELY = {"trigger": "interval", "minutes": 1, "start_date": at(-610)}
"""Past fires at -70 and -10, and the schedule's first at 50."""


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    global gate
    begun.clear()
    runs.clear()
    gates.clear()
    gate = threading.Event()
    yield
    gate.set()


def offset(moment: datetime) -> float:
    return (moment - at(0)).total_seconds()


def note() -> None:
    begun.append(offset(current_run.scheduled_at))
    runs.append((current_run.run_id, current_run.scheduled_at))


async def tick() -> None:
    note()


async def waits() -> None:
    note()
    gates.append(asyncio.Event())
    await gates[-1].wait()


async def fails() -> None:
    note()
    raise ValueError("no")


async def fails_once() -> None:
    note()
    if current_run.attempt == 1:
        raise ValueError("no")


def blocks() -> None:
    note()
    while not gate.is_set():
        current_app.extensions["apscheduler"].clock.block(0.5)


def _cron(**fields: Any) -> CronTrigger:
    return CronTrigger(timezone="UTC", **fields)


async def outcomes(scheduler: Any, job_id: str = "job") -> list[tuple[float, str]]:
    """By fire, what became of its attempts."""
    records = (await scheduler.aio.runs(job_id, limit=500)).items
    return sorted((offset(record.scheduled_at), record.outcome) for record in records if record.cause == "backfill")


def fires(found: Any) -> list[float]:
    return [offset(fire) for fire, _ in found.items]


async def test_past_fires_run_in_order_with_the_times_that_they_were_due_at(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        found = await scheduler.aio.backfill("job", at(-250), at(-10))
        assert fires(found) == [-250, -190, -130, -70]
        assert (found.job_id, found.left_out, found.dry_run) == ("job", 0, False)
        await clock.advance(seconds=0)
        assert begun == [-250, -190, -130, -70]
        assert runs == [(run_id, fire) for fire, run_id in found.items]
        records = (await scheduler.aio.runs("job")).items
        assert {(record.cause, record.outcome, record.final) for record in records} == {("backfill", "succeeded", True)}
        assert [record.run_id for record in reversed(records)] == [run_id for _, run_id in found.items]


async def test_one_at_a_time_unless_told_otherwise(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, max_instances=5, **MINUTELY)
        await scheduler.aio.backfill("job", at(-190))
        for count, fire in enumerate([-190, -130, -70, -10], 1):
            await clock.advance(seconds=0)
            assert (len(begun), begun[-1]) == (count, fire)
            gates[-1].set()


@pytest.mark.parametrize(("concurrency", "max_instances"), [(2, 5), (5, 2), (3, 3)])
async def test_so_many_at_once_and_never_more_than_instances_may_run(
    scheduler, app, serve, clock, concurrency, max_instances
):
    most = min(concurrency, max_instances)
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, max_instances=max_instances, **MINUTELY)
        await scheduler.aio.backfill("job", at(-490), concurrency=concurrency)
        for ended in range(9):
            await clock.advance(seconds=1)
            assert len(begun) == min(9, ended + most)
            gates[ended].set()
        assert begun == [-490 + 60 * number for number in range(9)]


async def test_the_schedule_and_a_backfill_share_the_instances_of_the_job(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, trigger="interval", minutes=1, start_date=at(-120.5))
        run = await scheduler.aio.run_job("job")
        await clock.advance(seconds=0)
        await scheduler.aio.backfill("job", at(-100))
        await clock.advance(seconds=3)
        assert len(begun) == 1
        gates[0].set()
        await run
        await clock.advance(seconds=0)
        assert begun[1:] == [-60.5]
        await clock.advance(seconds=60)
        assert begun[1:] == [-60.5]  # the scheduled one was skipped
        assert "skipped" in [record.outcome for record in (await scheduler.aio.runs("job")).items]


async def test_left_out_is_what_succeeded_or_is_under_way(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, **MINUTELY)
        await scheduler.aio.backfill("job", at(-190), at(-70))
        await clock.advance(seconds=0)
        gates[0].set()
        await clock.advance(seconds=0)
        found = await scheduler.aio.backfill("job", at(-250), dry_run=True)
        assert (fires(found), found.left_out) == ([-250, -70, -10], 2)
        found = await scheduler.aio.backfill("job", at(-250), dry_run=True, rerun=True)
        assert (fires(found), found.left_out) == ([-250, -190, -70, -10], 1)


CLOCK_CHANGES = [
    ({}, "2025-10-25T22:00Z", "2025-10-26T02:00Z"),  # the last fire lies in the hour that comes twice
    ({"jitter": 600}, "2025-03-30T01:00Z", "2025-03-30T03:00Z"),  # the first fire lies right behind the one skipped
]
TEN = {"trigger": "cron", "minute": "5-55/10", "timezone": "Europe/Berlin"}


@pytest.mark.parametrize(("options", "start", "end"), CLOCK_CHANGES)
async def test_at_a_clock_change_what_succeeded_is_left_out(scheduler, app, serve, clock, options, start, end):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **TEN, **options)
        found = await scheduler.aio.backfill("job", start, end)
        await clock.advance(seconds=0)
        assert len(begun) == len(found.items) > 0
        again = await scheduler.aio.backfill("job", start, end, dry_run=True)
        assert (again.items, again.left_out) == ((), len(begun))


async def test_what_failed_or_was_missed_runs_again(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, trigger="interval", seconds=10, start_date=at(10), misfire_grace_time=5)
        await clock.advance(seconds=11)
        clock.suspend(seconds=17)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=0)
        assert [record.outcome for record in (await scheduler.aio.runs("job")).items] == ["missed", "failed"]
        found = await scheduler.aio.backfill("job", at(0))
        assert fires(found) == [10, 20]
        await clock.advance(seconds=0)
        assert await outcomes(scheduler) == [(10, "failed"), (20, "failed")]


async def test_a_dry_run_shows_what_would_run_and_does_nothing(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        found = await scheduler.aio.backfill("job", at(-70), dry_run=True)
        await clock.advance(seconds=0)
        assert [(offset(fire), run_id) for fire, run_id in found.items] == [(-70, None), (-10, None)]
        assert (found.dry_run, begun) == (True, [])
        assert (await scheduler.aio.runs("job")).items == ()


async def test_what_the_schedule_has_yet_to_come_to_is_left_to_it(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, misfire_grace_time=None, coalesce=False, max_instances=2, **MINUTELY)
        await scheduler.aio.pause()
        clock.suspend(seconds=130)
        found = await scheduler.aio.backfill("job", at(-10))
        assert (fires(found), found.left_out) == ([-10], 2)
        await scheduler.aio.resume()
        await clock.advance(seconds=1)
        assert sorted(begun) == [-10, 50, 110]


async def test_a_paused_job_has_its_past_fires(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        await scheduler.aio.pause_job("job")
        clock.suspend(seconds=61)
        found = await scheduler.aio.backfill("job", at(-10))
        assert fires(found) == [-10, 50]
        await clock.advance(seconds=0)
        assert begun == [-10, 50]
        assert (await scheduler.aio.get_job("job")).next_run_time is None


async def test_it_waits_while_the_scheduler_is_paused(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        await scheduler.aio.pause()
        await scheduler.aio.backfill("job", at(-70))
        await clock.advance(seconds=5)
        assert begun == []
        assert await outcomes(scheduler) == [(-70, "queued"), (-10, "queued")]
        await scheduler.aio.resume()
        await clock.advance(seconds=1)
        assert begun == [-70, -10]


async def test_a_fire_is_attempted_to_the_last_before_the_next_one_begins(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails_once, retry={"attempts": 2, "delay": 5}, **MINUTELY)
        await scheduler.aio.backfill("job", at(-70))
        await clock.advance(seconds=4)
        assert begun == [-70]
        await clock.advance(seconds=1)
        assert begun == [-70, -70, -10]
        await clock.advance(seconds=5)
        assert begun == [-70, -70, -10, -10]
        found = await scheduler.aio.backfill("job", at(-70), dry_run=True)
        assert fires(found) == []  # the attempt that succeeded counts


async def test_one_that_waits_is_cancelled_and_the_others_go_on(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **MINUTELY)
        found = await scheduler.aio.backfill("job", at(-190))
        await clock.advance(seconds=0)
        run_ids = [run_id for _, run_id in found.items]
        await scheduler.aio.cancel_run(run_ids[1])  # waits
        await scheduler.aio.cancel_run(run_ids[0])  # runs
        await clock.advance(seconds=0)
        assert begun == [-190, -70]
        gates[1].set()
        await clock.advance(seconds=0)
        gates[2].set()
        await clock.advance(seconds=0)
        assert await outcomes(scheduler) == [
            (-190, "cancelled"), (-130, "cancelled"), (-70, "succeeded"), (-10, "succeeded"),
        ]  # fmt: skip


@pytest.mark.parametrize("verb", ["remove_job", "remove_all_jobs"])
async def test_what_waits_of_a_removed_job_is_cancelled(scheduler, app, serve, clock, verb):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **MINUTELY)
        await scheduler.aio.backfill("job", at(-130))
        await clock.advance(seconds=0)
        await (scheduler.aio.remove_job("job") if verb == "remove_job" else scheduler.aio.remove_all_jobs())
        gates[0].set()
        await clock.advance(seconds=2)
        assert begun == [-130]
        assert await outcomes(scheduler) == [(-130, "succeeded"), (-70, "cancelled"), (-10, "cancelled")]


async def test_what_waits_in_a_process_that_shuts_down_is_cancelled(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, max_instances=2, **MINUTELY)
        await scheduler.aio.backfill("job", at(-190), concurrency=2)
        await clock.advance(seconds=0)
    assert await outcomes(scheduler) == [(second, "cancelled") for second in (-190, -130, -70, -10)]
    assert begun == [-190, -130]


async def test_a_process_that_shuts_down_takes_none(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        scheduler.scheduler.runner.draining = True
        with pytest.raises(Draining, match="Job job cannot be run: this process is shutting down"):
            await scheduler.aio.backfill("job", at(-10))
        assert fires(await scheduler.aio.backfill("job", at(-10), dry_run=True)) == [-10]


async def test_a_function_that_outlives_its_timeout_keeps_its_place_but_not_the_others(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", blocks, timeout=5, max_instances=2, **MINUTELY)
        await scheduler.aio.backfill("job", at(-70))
        await clock.advance(seconds=5.2)
        assert await outcomes(scheduler) == [(-70, "timed_out"), (-10, "running")]
        gate.set()
        await clock.advance(seconds=1)
        assert not scheduler.scheduler.runner.under_way.runs()


def in_another_process() -> int:
    return os.getpid()


async def test_a_process_pool_does_not_take_them_for_too_late(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"pool": {"type": "processpool", "max_workers": 1}}):
        scheduler.add_job("job", in_another_process, executor="pool", misfire_grace_time=1, **MINUTELY)
        await scheduler.aio.backfill("job", at(-70))
        runner = scheduler.scheduler.runner
        await eventually(lambda: not runner.waiting.runs() and not runner.under_way.runs(), timeout=30)
        assert await outcomes(scheduler) == [(-70, "succeeded"), (-10, "succeeded")]


async def test_with_jitter_a_run_near_a_fire_stands_for_it(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        jittered = OrTrigger([_cron(minute="*", jitter=20), _cron(hour=11, minute=58, second=30)])
        scheduler.add_job("job", tick, trigger=jittered)
        await clock.advance(seconds=200)
        succeeded = len(begun)
        assert begun != [60.0, 120.0, 180.0][:succeeded]
        found = await scheduler.aio.backfill("job", at(1), at(179), dry_run=True)
        assert (fires(found), found.left_out) == ([], 2)
        found = await scheduler.aio.backfill("job", at(-130), at(0), dry_run=True)
        assert fires(found) == [-120, -90, -60]


async def test_a_run_by_hand_is_no_fire_of_the_schedule(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, **MINUTELY)
        await scheduler.aio.pause_job("job")
        await clock.advance(seconds=50)
        await (await scheduler.aio.run_job("job"))
        await clock.advance(seconds=1)
        assert begun == [50]
        assert fires(await scheduler.aio.backfill("job", at(0), dry_run=True)) == [50]


async def test_what_cannot_be_is_refused(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", tick, trigger="interval", seconds=1, start_date=at(-3600))
        with pytest.raises(JobNotFound):
            await scheduler.aio.backfill("nothing", at(-10))
        with pytest.raises(InvalidDefinition, match="end: leaves more than 1,000 fires; expected a shorter span"):
            await scheduler.aio.backfill("job", at(-1001))
        assert len((await scheduler.aio.backfill("job", at(-1000), dry_run=True)).items) == 1000
        with pytest.raises(InvalidDefinition, match=r"end: is 2026-03-02T12:00:01\+00:00; expected a time that is not"):
            await scheduler.aio.backfill("job", at(-10), at(1))
        with pytest.raises(InvalidDefinition, match="concurrency: is 0; expected a whole number from 1 to 100"):
            await scheduler.aio.backfill("job", at(-10), concurrency=0)


# In a store that processes share


def declares(func: Any = tick, **options: Any) -> Any:
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", func, **MINUTELY | {"misfire_grace_time": None} | options)

    return declare


async def test_any_process_runs_what_one_was_asked_for(cluster: Cluster):
    asked = await cluster.start(declares(), paused=True)
    await cluster.start(declares())
    found = await asked.aio.backfill("job", at(-190))
    await cluster.advance(1.1)
    assert begun == [-190, -130, -70, -10]
    assert await outcomes(asked) == [(second, "succeeded") for second in (-190, -130, -70, -10)]
    assert runs == [(run_id, fire) for fire, run_id in found.items]
    again = await asked.aio.backfill("job", at(-190))
    assert (again.items, again.left_out) == ((), 4)


async def test_they_follow_each_other_without_a_poll_in_between(cluster: Cluster):
    slow = {"SCHEDULER_POLL_INTERVAL": 60.0, "SCHEDULER_HEARTBEAT": 60.0, "SCHEDULER_LEASE": 180.0}
    process = await cluster.start(declares(max_instances=3, start_date=at(-6010)), **slow)
    await process.aio.backfill("job", at(-1800), concurrency=3)
    await cluster.rest()
    assert begun == [-1750 + 60 * number for number in range(30)]


@pytest.mark.parametrize(("concurrency", "max_instances"), [(2, 5), (5, 2)])
async def test_so_many_at_once_over_all_processes(cluster: Cluster, concurrency, max_instances):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    processes = [await cluster.start(declares(waits, max_instances=max_instances)) for _ in range(2)]
    await processes[0].aio.backfill("job", at(-300), concurrency=concurrency)
    for ended in range(4):
        await cluster.advance(1.1)
        assert len(begun) == ended + 2
        gates[ended].set()
    assert sorted(begun[:5]) == [-250, -190, -130, -70, -10]


async def test_it_outlives_the_process_that_was_asked(cluster: Cluster):
    asked = await cluster.start(declares(), paused=True)
    await asked.aio.backfill("job", at(-70))
    await cluster.stop(asked)
    other = await cluster.start(declares())
    await cluster.advance(1.1)
    assert await outcomes(other) == [(-70, "succeeded"), (-10, "succeeded")]


async def test_a_shutdown_ends_what_runs_and_leaves_the_rest_to_others(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    first = await cluster.start(declares(waits))
    await first.aio.backfill("job", at(-130), at(-5))
    await cluster.rest()
    await cluster.stop(first)
    second = await cluster.start(declares(waits))
    await cluster.advance(1.1)
    assert await outcomes(second) == [(-130, "cancelled"), (-70, "running"), (-10, "queued")]


@pytest.mark.parametrize("on_crash", ["lost", "rerun"])
async def test_the_death_of_a_process_does_not_end_the_backfill(cluster: Cluster, on_crash):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    declare = declares(waits, on_crash=on_crash, minutes=5)
    first = await cluster.start(declare)
    await first.aio.backfill("job", at(-610), at(-11))
    await cluster.rest()
    assert begun == [-610]
    second = await cluster.start(declare)
    cluster.kill(first)
    await cluster.advance(30)
    assert begun == [-610, -610 if on_crash == "rerun" else -310]
    if on_crash == "rerun":
        gates[1].set()
        await cluster.advance(1.1)
    gates[-1].set()
    await cluster.advance(1.1)
    records = [record for record in await second.records("job") if offset(record.scheduled_at) < 0]
    expected = [(-610, "lost", "backfill"), (-610, "succeeded", "rerun"), (-310, "succeeded", "backfill")]
    if on_crash == "lost":
        del expected[1]
    found = [(offset(record.scheduled_at), record.outcome, record.cause) for record in records]
    assert sorted(found) == sorted(expected)
    assert cluster.query("SELECT run_id FROM {p}live WHERE lane IS NOT NULL") == []


async def test_a_retry_keeps_the_order_in_whichever_process(cluster: Cluster):
    processes = [await cluster.start(declares(fails_once, retry={"attempts": 2, "delay": 2})) for _ in range(2)]
    await processes[0].aio.backfill("job", at(-130))
    await cluster.advance(8)
    assert begun == [-130, -130, -70, -70, -10, -10]


async def test_one_that_waits_in_the_database_is_cancelled_and_the_others_go_on(cluster: Cluster):
    process = await cluster.start(declares(waits))
    found = await process.aio.backfill("job", at(-190))
    await cluster.rest()
    run_ids = [run_id for _, run_id in found.items]
    await process.aio.cancel_run(run_ids[1])
    await process.aio.cancel_run(run_ids[0])
    await cluster.advance(1.1)
    assert begun == [-190, -70]
    for number in (1, 2):
        gates[number].set()
        await cluster.advance(1.1)
    assert [outcome for _, outcome in await outcomes(process)] == ["cancelled"] * 2 + ["succeeded"] * 2


async def test_a_pause_of_the_scheduler_holds_it_up_everywhere(cluster: Cluster):
    process = await cluster.start(declares())
    await process.aio.pause()
    await process.aio.backfill("job", at(-130))
    await cluster.advance(3)
    assert begun == []
    await process.aio.resume()
    await cluster.advance(1.1)
    assert begun == [-130, -70, -10]


async def test_of_a_paused_job_what_the_schedule_has_yet_to_come_to_runs_as_well(cluster: Cluster):
    process = await cluster.start(declares(coalesce=False))
    await process.aio.pause_job("job")
    await cluster.advance(60)
    await process.aio.backfill("job", at(-10))
    await cluster.advance(1.1)
    assert begun == [-10, 50]
    await process.aio.resume_job("job")
    await process.aio.pause()
    await cluster.jump(120)
    assert fires(await process.aio.backfill("job", at(-10), dry_run=True)) == []
    await process.aio.resume()
    await cluster.advance(1.1)
    assert begun == [-10, 50, 110, 170]


async def test_a_removed_job_has_no_fires_any_more(cluster: Cluster):
    process = await cluster.start()
    await process.aio.add_job("job", waits, **MINUTELY)
    await process.aio.backfill("job", at(-130))
    await cluster.rest()
    await process.aio.remove_job("job")
    gates[0].set()
    await cluster.advance(1.1)
    assert [outcome for _, outcome in await outcomes(process)] == ["succeeded", "cancelled", "cancelled"]
    assert cluster.query("SELECT run_id FROM {p}live") == []


async def test_a_dry_run_writes_nothing(cluster: Cluster):
    process = await cluster.start(declares())
    before = cluster.contents("live", "runs", "jobs")
    found = await process.aio.backfill("job", at(-130), dry_run=True)
    assert [(offset(fire), run_id) for fire, run_id in found.items] == [(-130, None), (-70, None), (-10, None)]
    assert cluster.contents("live", "runs", "jobs") == before


@pytest.mark.parametrize(("options", "start", "end"), CLOCK_CHANGES)
async def test_in_a_shared_store_what_succeeded_at_a_clock_change_is_left_out(cluster: Cluster, options, start, end):
    process = await cluster.start(lambda scheduler: scheduler.add_job("job", tick, **TEN, **options))
    found = await process.aio.backfill("job", start, end, concurrency=100)
    await cluster.advance(5)
    assert len(begun) == len(found.items) > 0
    again = await process.aio.backfill("job", start, end, dry_run=True)
    assert (again.items, again.left_out) == ((), len(begun))


async def test_two_equal_ones_at_once_run_nothing_twice(cluster: Cluster):
    processes = [await cluster.start(declares()) for _ in range(2)]
    found = await asyncio.gather(*(process.aio.backfill("job", at(-130)) for process in processes))
    assert sorted(len(each.items) for each in found) == [0, 3]
    await cluster.advance(1.1)
    assert begun == [-130, -70, -10]


async def test_a_store_that_is_away_says_so(cluster: Cluster):
    process = await cluster.start(declares())
    with outage(process.slot.store.database):
        with pytest.raises(StoreUnavailable):
            await process.aio.backfill("job", at(-130))
        status, _ = await process.rest("POST", "/jobs/job/backfill", json={"start": at(-130).isoformat()})
        assert status == 503
