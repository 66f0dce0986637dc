"""What becomes of a fire while as many instances of its job run as may: it is skipped, waits, or takes a place."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from quart_sched import current_run
from quart_sched.errors import InvalidDefinition
from tests.stores.cluster import Cluster
from tests.stores.peers import at

begun: list[float] = []
"""The fires that began, in seconds after the start."""
gates: list[asyncio.Event] = []
EVERY = {"trigger": "interval", "seconds": 10, "start_date": at(10), "misfire_grace_time": 60}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    begun.clear()
    gates.clear()


async def waits() -> None:
    begun.append((current_run.scheduled_at - at(0)).total_seconds())
    gates.append(asyncio.Event())
    await gates[-1].wait()


def plain() -> None:
    """A function that cannot be stopped from outside."""


async def outcomes(scheduler: Any) -> list[tuple[float, str]]:
    """By fire, what became of it."""
    records = (await scheduler.aio.runs("job")).items
    return sorted(((record.scheduled_at - at(0)).total_seconds(), record.outcome) for record in records)


async def test_a_fire_waits_for_its_place_and_the_queue_is_bounded(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, overlap="queue", max_queue=2, **EVERY)
        await clock.advance(seconds=41)
        assert begun == [10]
        assert await outcomes(scheduler) == [(10, "running"), (20, "queued"), (30, "queued"), (40, "skipped")]
        gates[0].set()
        await clock.run_due()
        assert begun == [10, 20]
        gates[1].set()
        await clock.run_due()
        gates[2].set()
        await clock.run_due()
        assert await outcomes(scheduler) == [(10, "succeeded"), (20, "succeeded"), (30, "succeeded"), (40, "skipped")]


async def test_what_waits_in_a_process_that_shuts_down_is_cancelled(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, overlap="queue", **EVERY)
        await clock.advance(seconds=21)
    assert await outcomes(scheduler) == [(10, "cancelled"), (20, "cancelled")]


async def test_a_fire_takes_the_place_of_the_run_before_it(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, overlap="replace", **EVERY)
        await clock.advance(seconds=31)
        assert begun == [10, 20, 30]
        assert await outcomes(scheduler) == [(10, "cancelled"), (20, "cancelled"), (30, "running")]
        first = (await scheduler.aio.runs("job")).items[-1]
        assert (first.error_type, first.error_message) == ("RunCancelled", "a later fire of its job took its place")


async def test_a_fire_takes_the_place_of_all_that_were_caught_up_on_together(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, overlap="replace", coalesce=False, **EVERY)
        clock.suspend(seconds=35)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=1)
        assert begun == [10]
        await clock.advance(seconds=5)
        assert begun == [10, 40]
        assert await outcomes(scheduler) == [(10, "cancelled"), (20, "cancelled"), (30, "cancelled"), (40, "running")]
        replaced = {record.error_message for record in (await scheduler.aio.runs("job", outcome="cancelled")).items}
        assert replaced == {"a later fire of its job took its place"}


async def test_of_several_instances_the_oldest_is_replaced(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", waits, overlap="replace", max_instances=2, **EVERY)
        await clock.advance(seconds=41)
        assert await outcomes(scheduler) == [(10, "cancelled"), (20, "cancelled"), (30, "running"), (40, "running")]


async def test_a_run_from_before_the_start_is_in_the_way_of_the_jobs_fires(scheduler, app, serve, clock):
    scheduler.add_job("job", waits, **EVERY)
    async with serve(scheduler, app, start=False, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        await scheduler.aio.run_job("job")
        scheduler.start()
        await clock.advance(seconds=11)
        assert await outcomes(scheduler) == [(0, "running"), (10, "skipped")]


OTHER = {"SCHEDULER_SHUTDOWN_TIMEOUT": 0, "SCHEDULER_JOBSTORES": {"other": {"type": "memory"}}}


@pytest.mark.parametrize("overlap", ["skip", "queue", "replace"])
async def test_a_run_is_not_in_the_way_of_the_job_that_has_its_id_in_another_store(
    scheduler, app, serve, clock, overlap
):
    async def quick() -> None: ...

    async with serve(scheduler, app, **OTHER):
        scheduler.add_job("job", waits, trigger="date", run_date=at(5))
        scheduler.add_job("job", quick, jobstore="other", overlap=overlap, **EVERY)
        await clock.advance(seconds=31)
        assert (await (await scheduler.aio.run_job("job", "other"))).outcome == "succeeded"
        done = [(fire, "succeeded") for fire in (10, 20, 30, 31)]
        assert await outcomes(scheduler) == [(5, "running"), *done]


async def test_jobs_that_have_one_id_in_two_stores_have_a_queue_each(scheduler, app, serve, clock):
    async with serve(scheduler, app, **OTHER):
        scheduler.add_job("job", waits, overlap="queue", max_queue=1, **EVERY)
        scheduler.add_job("job", waits, jobstore="other", overlap="queue", max_queue=1, **EVERY)
        await clock.advance(seconds=31)
        states = [(10, "running"), (20, "queued"), (30, "skipped")]
        assert await outcomes(scheduler) == [state for state in states for _ in range(2)]
        gates[0].set()
        await clock.run_due()
        assert begun == [10, 10, 20]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": "wait"}, "overlap: is 'wait'; expected 'skip', 'queue' or 'replace'"),
        ({"max_queue": 0}, "max_queue: is 0; expected a whole number from 1 to 10,000"),
        ({"overlap": "replace", "func": plain}, "overlap: is 'replace', but .*:plain is no coroutine function"),
    ],
)
async def test_wrong_ones_are_refused_where_they_are_given(scheduler, app, serve, options, message):
    with pytest.raises(InvalidDefinition, match=message):
        scheduler.add_job("job", **{"func": waits, "trigger": "interval", "hours": 1} | options)
    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", options.get("func", waits), trigger="interval", hours=1)
        with pytest.raises(InvalidDefinition, match=message):
            await scheduler.aio.modify_job("job", **options)


# In a store that processes share


def declares(**options: Any) -> Any:
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", waits, **EVERY, **options)

    return declare


async def test_a_queue_is_kept_in_the_database_and_bounded_over_all_processes(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    declare = declares(overlap="queue", max_queue=1)
    processes = [await cluster.start(declare), await cluster.start(declare)]
    await cluster.advance(31)
    assert begun == [10]
    assert await outcomes(processes[1]) == [(10, "running"), (20, "queued"), (30, "skipped")]
    gates[0].set()
    await cluster.advance(1.2)
    assert begun == [10, 20]
    gates[1].set()
    await cluster.rest()
    assert await outcomes(processes[0]) == [(10, "succeeded"), (20, "succeeded"), (30, "skipped")]
    assert cluster.query("SELECT run_id FROM {p}live") == []


async def test_what_waits_begins_as_soon_as_its_place_is_free(cluster: Cluster):
    slow = {"SCHEDULER_POLL_INTERVAL": 60.0, "SCHEDULER_HEARTBEAT": 60.0, "SCHEDULER_LEASE": 180.0}
    await cluster.start(declares(overlap="queue"), **slow)
    await cluster.advance(25)
    gates[0].set()
    await cluster.advance(0.1)
    assert begun == [10, 20]
    gates[1].set()


async def test_a_queue_survives_the_end_of_its_process(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    first = await cluster.start(declares(overlap="queue"))
    await cluster.advance(21)
    await cluster.stop(first)
    second = await cluster.start(declares(overlap="queue"))
    await cluster.advance(1.2)
    assert begun == [10, 20]
    assert await outcomes(second) == [(10, "cancelled"), (20, "running")]


async def test_a_fire_takes_the_place_of_a_run_of_its_own_process_at_once(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    slow = {"SCHEDULER_POLL_INTERVAL": 60.0, "SCHEDULER_HEARTBEAT": 60.0, "SCHEDULER_LEASE": 180.0}
    one = await cluster.start(declares(overlap="replace"), **slow)
    await cluster.advance(30.5)
    assert begun == [10, 20, 30]
    assert await outcomes(one) == [(10, "cancelled"), (20, "cancelled"), (30, "running")]
    first = (await one.aio.runs("job")).items[-1]
    assert (first.error_type, first.error_message) == ("RunCancelled", "a later fire of its job took its place")


async def test_a_fire_takes_the_place_of_a_run_in_another_process(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    await cluster.start(declares(overlap="replace"))
    await cluster.advance(11)
    second = await cluster.start(declares(overlap="replace"))
    await cluster.advance(12)
    assert begun == [10, 20]
    assert await outcomes(second) == [(10, "cancelled"), (20, "running")]
    await cluster.advance(20)
    assert begun == [10, 20, 30, 40]
    assert await outcomes(second) == [(10, "cancelled"), (20, "cancelled"), (30, "cancelled"), (40, "running")]
    assert len(cluster.query("SELECT run_id FROM {p}live")) == 1
