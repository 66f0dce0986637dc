"""Cancelling a run: in this process, in another one, and one that waits."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quart_sched import APScheduler, current_run
from quart_sched.errors import RunCancelled, RunNotFound, RunOver
from quart_sched.model.runs import Run
from tests.conftest import eventually
from tests.stores.cluster import Cluster
from tests.stores.peers import at, outage

seen: list[str] = []
gate = threading.Event()
turns: list[asyncio.Event] = []
EVERY = {"trigger": "interval", "seconds": 10, "start_date": at(10)}


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    global gate
    seen.clear()
    gate = threading.Event()
    turns[:] = [asyncio.Event() for _ in range(6)]
    yield
    gate.set()


async def waits() -> None:
    seen.append(current_run.run_id)
    await asyncio.Event().wait()


def looks() -> str:
    seen.append(current_run.run_id)
    while not current_run.cancelled:
        if gate.wait(0.002):
            return "was not asked"
    return "returned early"


async def in_turn() -> None:
    seen.append(current_run.run_id)
    await turns[len(seen) - 1].wait()


async def fails() -> None:
    seen.append(current_run.run_id)
    raise ValueError("no")


async def outcomes(scheduler: Any, job_id: str = "job") -> list[str]:
    return [record.outcome for record in reversed((await scheduler.aio.runs(job_id)).items)]


async def test_a_coroutine_is_cancelled_and_its_job_goes_on_firing(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **EVERY)
        await clock.advance(seconds=11)
        await scheduler.aio.cancel_run(seen[0])
        await clock.run_due()
        assert await outcomes(scheduler) == ["cancelled"]
        await clock.advance(seconds=10)
        assert await outcomes(scheduler) == ["cancelled", "running"]


async def test_a_function_in_a_thread_sees_it_and_is_recorded_as_cancelled(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", looks, **EVERY)
        run = await scheduler.aio.run_job("job")
        await eventually(lambda: seen)
        await scheduler.aio.cancel_run(run.run_id)
        record = await run.wait()
        assert (record.outcome, record.result) == ("cancelled", "'returned early'")
        with pytest.raises(RunCancelled):
            await run


async def objects() -> None:
    seen.append(current_run.run_id)
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("in the middle of it")


def stops() -> None:
    looks()
    raise LookupError("stopped")


@pytest.mark.parametrize(("func", "kind"), [(objects, "ValueError"), (stops, "LookupError")])
async def test_one_that_raises_when_it_is_asked_to_stop_is_cancelled_and_not_tried_again(
    scheduler, app, serve, clock, func, kind
):
    async with serve(scheduler, app):
        scheduler.add_job("job", func, retry={"attempts": 3, "delay": 1}, trigger="interval", hours=1)
        run = await scheduler.aio.run_job("job")
        await eventually(lambda: seen)
        await scheduler.aio.cancel_run(run.run_id)
        record = await run.wait()
        assert (record.outcome, record.error_type, record.final) == ("cancelled", kind, True)
        await clock.advance(seconds=60)
        assert len(seen) == 1


async def test_a_function_that_waits_for_a_thread_is_never_called(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_MAX_THREADS=1):
        scheduler.add_job("busy", looks, **EVERY)
        scheduler.add_job("job", looks, **EVERY)
        first = await scheduler.aio.run_job("busy")
        await eventually(lambda: seen)
        second = await scheduler.aio.run_job("job")
        await asyncio.sleep(0)
        await scheduler.aio.cancel_run(second.run_id)
        assert (await second.wait()).outcome == "cancelled"
        gate.set()
        await first.wait()
        assert seen == [first.run_id]


async def test_one_that_has_only_just_been_submitted_never_begins(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **EVERY)
        run = await scheduler.aio.run_job("job")
        await scheduler.aio.cancel_run(run.run_id)
        assert (await run.wait()).outcome == "cancelled"
        assert seen == []
        assert scheduler.scheduler.runner.under_way.room == 1000


async def test_what_a_function_left_to_be_awaited_is_put_in_order_when_it_has_only_just_been_handed_over(
    scheduler, app, serve, monkeypatch
):
    runner = scheduler.scheduler.runner
    taken, torn_down = runner._thread_ended, []

    def cancelled_at_once(batch: Any, run: Any, *rest: Any) -> None:
        taken(batch, run, *rest)
        runner.cancel(run.run_id)

    async def teardown(error: Any) -> None:
        torn_down.append("torn down")

    def job() -> Any:
        app.teardown_appcontext_funcs.append(teardown)  # so late that the run needed no task until then
        return waits()

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        # In one turn of the loop with what cancels it, as a request that is there already.
        monkeypatch.setattr(runner, "_thread_ended", cancelled_at_once)
        run = await scheduler.aio.run_job("job")
        record = await run.wait()
        assert (record.outcome, record.error_message) == ("cancelled", "it was cancelled by hand")
        assert runner.under_way.runs() == []
        assert torn_down == ["torn down"]


async def test_one_that_the_others_have_taken_over_before_it_began_holds_no_place(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        job = scheduler.add_job("job", waits, **EVERY)
        runner, run = scheduler.scheduler.runner, Run(job, clock.now(), "schedule")
        runner.submit(job, [run], claimed=True)
        runner.disown({run.run_id})
        await clock.run_due()
        assert seen == []
        assert runner.under_way.room == 1000


async def test_the_other_fires_that_were_claimed_with_it_go_on(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **EVERY | {"misfire_grace_time": None, "coalesce": False})
        clock.suspend(seconds=35)
        scheduler.scheduler.wakeup()
        await clock.advance(seconds=1)
        [batch] = scheduler.scheduler.runner.under_way.of("job")
        await scheduler.aio.cancel_run(batch.runs[-1].run_id)
        await scheduler.aio.cancel_run(seen[0])
        await clock.run_due()
        assert await outcomes(scheduler) == ["cancelled", "running", "cancelled"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio knows no eager tasks")
async def test_runs_that_begin_as_soon_as_their_tasks_are_made_are_cancelled_too(app, serve):
    scheduler = APScheduler()  # in real time
    begun: list[int] = []

    async def job() -> None:
        begun.append(current_run.scheduled_at.hour)
        if len(begun) > 1:
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
            past = datetime.now(UTC) - timedelta(hours=4, minutes=30)
            late = {"start_date": past, "next_run_time": past, "misfire_grace_time": None, "coalesce": False}
            scheduler.add_job("job", job, trigger="interval", hours=1, **late)
            for number in (2, 3):  # The first fire ends before its task is there, and the second begins within it.
                await eventually(lambda number=number: len(begun) == number)
                [run] = scheduler.scheduler.runner.under_way.runs("job")
                await scheduler.aio.cancel_run(run.run_id)
            await eventually(lambda: len(begun) == 4)
        assert not scheduler.running
        records = sorted(scheduler.history.records("job"), key=lambda record: record.scheduled_at)
        assert [record.outcome for record in records] == ["succeeded", *["cancelled"] * 4]
    finally:
        loop.set_task_factory(before)


async def test_an_attempt_that_waits_is_not_made(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY)
        await clock.advance(seconds=11)
        [waiting] = (await scheduler.aio.runs("job", outcome="retry_wait")).items
        await scheduler.aio.cancel_run(waiting.run_id)
        await clock.advance(seconds=7)
        assert len(seen) == 1
        record = await scheduler.aio.run(waiting.run_id)
        assert (record.outcome, record.final, record.attempt) == ("cancelled", True, 2)


async def test_what_is_over_or_was_never_there_is_said_so(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_API_ENABLED=True) as client:
        scheduler.add_job("job", fails, trigger="date", run_date=at(10))
        await clock.advance(seconds=11)
        with pytest.raises(RunOver, match=f"Run {seen[0]} is over: failed"):
            await scheduler.aio.cancel_run(seen[0])
        with pytest.raises(RunNotFound, match="Run nothing not found"):
            await scheduler.aio.cancel_run("nothing")
        assert (await client.post(f"/scheduler/runs/{seen[0]}/cancel")).status_code == 409
        assert (await client.post("/scheduler/runs/nothing/cancel")).status_code == 404
        assert (await client.post("/scheduler/runs/nothing/cancel?now=1")).status_code == 400


# In a store that processes share


async def test_an_id_that_no_database_could_keep_is_that_of_no_run(cluster: Cluster):
    one = await cluster.start()
    for run_id in ("a%00b", "x" * 300, "%F0%9F%9A%80" * 20):
        status, answer = await one.rest("POST", f"/runs/{run_id}/cancel")
        assert (status, answer["error_message"].startswith("Run ")) == (404, True)


async def test_a_run_in_another_process_is_cancelled_within_a_poll(cluster: Cluster):
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", waits, **EVERY)

    first = await cluster.start(declare)
    await cluster.advance(10.5)
    second = await cluster.start(declare)
    [run_id] = seen
    status, _ = await second.rest("POST", f"/runs/{run_id}/cancel")
    assert status == 202
    await cluster.advance(1.1)
    assert await outcomes(second) == ["cancelled"]
    assert cluster.query("SELECT run_id FROM {p}live") == []
    status, answer = await second.rest("POST", f"/runs/{run_id}/cancel")
    assert (status, answer["error_message"]) == (409, f"Run {run_id} is over: cancelled")
    await cluster.stop(first)


CATCH_UP = {**EVERY, "coalesce": False, "misfire_grace_time": None}


@pytest.mark.parametrize("verb", ["remove_job", "remove_all_jobs"])
async def test_of_a_removed_job_no_process_begins_what_it_has_claimed(cluster: Cluster, verb: str):
    first, second = await cluster.start(), await cluster.start(paused=True)
    for job_id in ("job", "other"):
        await first.aio.add_job(job_id, in_turn, **CATCH_UP)
    await cluster.jump(30)
    assert len(seen) == 2
    await getattr(second.aio, verb)(*(["job"] if verb == "remove_job" else []))
    await cluster.poll()
    for turn in turns:
        turn.set()
    await cluster.advance(1)
    records = await first.records("job")
    assert [(record.outcome, record.error_message) for record in records] == [
        ("succeeded", None), ("cancelled", "the job was removed"), ("cancelled", "the job was removed"),
    ]  # fmt: skip
    rest = ["succeeded"] * 2 if verb == "remove_job" else ["cancelled"] * 2
    assert await outcomes(first, "other") == ["succeeded", *rest]
    assert cluster.query("SELECT run_id FROM {p}live") == []


async def removed_unseen(cluster: Cluster) -> tuple[Any, Any]:
    """Return two processes: the first is at a run of a job that the second has removed, unknown to their store."""
    first, second = await cluster.start(), await cluster.start(paused=True)
    await first.aio.add_job("job", in_turn, **CATCH_UP)
    await cluster.jump(30)
    with outage(first.slot.store.database):
        turns[0].set()
        await cluster.rest()
        assert len(seen) == 2
        await second.aio.remove_job("job")
    await cluster.advance(10)
    return first, second


async def test_what_has_begun_of_a_removed_job_goes_on_also_where_the_store_did_not_know(cluster: Cluster):
    first, _ = await removed_unseen(cluster)
    for turn in turns:
        turn.set()
    await cluster.advance(1)
    assert await outcomes(first) == ["succeeded", "succeeded", "cancelled"]


async def test_a_run_of_a_removed_job_that_goes_on_can_still_be_cancelled(cluster: Cluster):
    first, second = await removed_unseen(cluster)
    await second.aio.cancel_run(seen[1])
    await cluster.advance(2)
    assert await outcomes(first) == ["succeeded", "cancelled", "cancelled"]


async def test_a_retry_that_waits_in_the_database_is_ended_by_any_process(cluster: Cluster):
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", fails, retry={"attempts": 2, "delay": 5}, **EVERY | {"seconds": 3600})

    await cluster.start(declare)
    await cluster.advance(10.5)
    second = await cluster.start(declare)
    [waiting] = (await second.aio.runs("job", outcome="retry_wait")).items
    await second.aio.cancel_run(waiting.run_id)
    await cluster.advance(8)
    assert len(seen) == 1
    assert await outcomes(second) == ["failed", "cancelled"]
    assert cluster.query("SELECT run_id FROM {p}live") == []
