"""Idempotency keys: a request that is repeated gives the run of the first one, and its job ran once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from quart import Quart

from quart_sched import current_run
from quart_sched.engine.idempotency import IdempotencyKeys
from quart_sched.errors import (
    IdempotencyKeyReused,
    InvalidDefinition,
    OverlapForbidden,
    RunCancelled,
    RunFailed,
    RunNotFound,
    StoreUnavailable,
)
from quart_sched.model.idempotency import RunRequest
from quart_sched.model.overrides import Overrides
from tests.conftest import START
from tests.stores.cluster import Cluster
from tests.stores.peers import answers_lost, at

seen: list[Any] = []
gates: list[asyncio.Event] = []
LATER = {"trigger": "interval", "days": 10, "start_date": at(864000)}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    seen.clear()
    gates.clear()


async def notes(what: Any = None) -> None:
    seen.append(what)


async def fails() -> None:
    seen.append(None)
    raise LookupError("not there")


async def waits() -> None:
    seen.append(current_run.run_id)
    gates.append(asyncio.Event())
    await gates[-1].wait()


async def test_a_repeated_call_returns_the_run_of_the_first(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, **LATER)
        first = await scheduler.aio.run_job("job", idempotency_key="key")
        record = await first
        again = await scheduler.aio.run_job("job", idempotency_key="key")
        assert (first.repeated, again.repeated, again.run_id) == (False, True, first.run_id)
        assert await again == record
        assert again.done()
        await (await scheduler.aio.run_job("job", idempotency_key="another"))
        assert seen == [None, None]


async def test_a_key_is_not_known_to_another_app(scheduler, serve):
    for name in ("one", "another"):
        async with serve(scheduler, Quart(name)):
            scheduler.add_job("job", notes, **LATER)
            run = await scheduler.aio.run_job("job", idempotency_key="key")
            assert not run.repeated
            assert (await run).outcome == "succeeded"
            assert [change.action for change in (await scheduler.aio.changes("job")).items] == ["add"]


async def test_while_the_run_is_under_way_the_repeated_call_waits_for_it(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **LATER)
        await scheduler.aio.run_job("job", idempotency_key="key")
        again = await scheduler.aio.run_job("job", idempotency_key="key")
        waiting = asyncio.create_task(again.wait())
        await clock.advance(seconds=3)
        assert (waiting.done(), again.done()) == (False, False)
        gates[0].set()
        await clock.advance(seconds=1)
        assert (await waiting).outcome == "succeeded"
        assert len(seen) == 1


async def test_a_failed_or_cancelled_run_stays_so(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, **LATER)
        scheduler.add_job("slow", waits, **LATER)
        with pytest.raises(LookupError):
            await (await scheduler.aio.run_job("job", idempotency_key="key"))
        again = await scheduler.aio.run_job("job", idempotency_key="key")
        with pytest.raises(RunFailed, match=f"Run {again.run_id} failed: not there"):
            await again
        run = await scheduler.aio.run_job("slow", idempotency_key="slow")
        await clock.advance(seconds=0)
        await scheduler.aio.cancel_run(run.run_id)
        await clock.advance(seconds=0)
        with pytest.raises(RunCancelled):
            await (await scheduler.aio.run_job("slow", idempotency_key="slow"))


@pytest.mark.parametrize("what", [{"id": "other"}, {"args": [2]}, {"kwargs": {"what": 1}, "args": []}, {}])
async def test_a_key_stands_for_one_job_and_its_arguments(scheduler, app, serve, what):
    async with serve(scheduler, app):
        for job_id in ("job", "other"):
            scheduler.add_job(job_id, notes, **LATER)
        await (await scheduler.aio.run_job("job", args=[1], idempotency_key="key"))
        with pytest.raises(IdempotencyKeyReused, match="expected a new key for a new request"):
            await scheduler.aio.run_job(**{"id": "job", "args": None} | what, idempotency_key="key")
        assert (await scheduler.aio.run_job("job", args=(1,), idempotency_key="key")).repeated


async def test_after_24_hours_it_is_a_new_request(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, **LATER)
        first = await scheduler.aio.run_job("job", idempotency_key="key")
        await first
        clock.suspend(seconds=24 * 3600 - 1)
        assert (await scheduler.aio.run_job("job", idempotency_key="key")).run_id == first.run_id
        clock.suspend(seconds=1)
        assert not (await scheduler.aio.run_job("job", args=[2], idempotency_key="key")).repeated


async def test_what_made_no_run_does_not_use_up_the_key(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", waits, **LATER)
        await scheduler.aio.run_job("job")
        await clock.advance(seconds=0)
        with pytest.raises(OverlapForbidden):
            await scheduler.aio.run_job("job", idempotency_key="key")
        with pytest.raises(InvalidDefinition):
            await scheduler.aio.run_job("job", args=[1], idempotency_key="key")
        gates[0].set()
        await clock.advance(seconds=0)
        run = await scheduler.aio.run_job("job", idempotency_key="key")
        assert not run.repeated
        await clock.advance(seconds=0)
        gates[1].set()


@pytest.mark.parametrize("key", ["", "x" * 256, "schlüssel", "a\nb", "a\x7fb", " a", "a ", 5])
async def test_a_key_of_the_wrong_form_is_refused(scheduler, app, serve, key):
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, **LATER)
        with pytest.raises(InvalidDefinition, match=r"Idempotency-Key: is .*; expected 1 to 255 printable ASCII"):
            await scheduler.aio.run_job("job", idempotency_key=key)
        await (await scheduler.aio.run_job("job", idempotency_key="x" * 255))


def test_of_very_many_keys_the_oldest_is_forgotten():
    keys = IdempotencyKeys()
    requests = [RunRequest.parse(f"key {number}", "job", Overrides()) for number in range(10_001)]
    for request in requests:
        keys.keep(request, request.key, START)
    assert keys.run_of(requests[0], START) is None
    assert keys.run_of(requests[1], START) == requests[1].key
    assert len(keys._keys) == 10_000


async def test_of_a_run_that_nobody_remembers_it_is_said_so(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_HISTORY_SIZE=1):
        scheduler.add_job("job", notes, **LATER)
        await (await scheduler.aio.run_job("job", idempotency_key="key"))
        await (await scheduler.aio.run_job("job"))
        again = await scheduler.aio.run_job("job", idempotency_key="key")
        with pytest.raises(RunNotFound):
            await again


# In a store that processes share


def declares(func: Any = notes) -> Any:
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", func, **LATER)
        scheduler.add_job("other", func, **LATER)

    return declare


async def test_another_process_knows_the_key(cluster: Cluster):
    first, second = [await cluster.start(declares()) for _ in range(2)]
    run = await first.aio.run_job("job", idempotency_key="key")
    await run
    await cluster.rest()
    again = await second.aio.run_job("job", idempotency_key="key")
    assert (again.run_id, again.repeated) == (run.run_id, True)
    assert (await again).outcome == "succeeded"
    for given in ({"id": "other"}, {"id": "job", "args": [1]}):
        with pytest.raises(IdempotencyKeyReused):
            await second.aio.run_job(**given, idempotency_key="key")
    assert seen == [None]


async def test_of_two_at_the_same_moment_one_makes_the_run(cluster: Cluster):
    processes = [await cluster.start(declares()) for _ in range(2)]
    handles = await asyncio.gather(
        *(process.aio.run_job("job", idempotency_key="key") for process in processes for _ in range(3))
    )
    assert len({handle.run_id for handle in handles}) == 1
    assert sorted(handle.repeated for handle in handles) == [False] + [True] * 5
    await cluster.rest()
    assert seen == [None]


async def test_two_jobs_at_the_same_moment_cannot_share_a_key(cluster: Cluster):
    processes = [await cluster.start(declares()) for _ in range(2)]
    answers = await asyncio.gather(
        *(
            process.aio.run_job(id, idempotency_key="key")
            for process, id in zip(processes, ["job", "other"], strict=True)
        ),
        return_exceptions=True,
    )
    assert sorted(isinstance(answer, IdempotencyKeyReused) for answer in answers) == [False, True]
    await cluster.rest()
    assert seen == [None]


async def test_an_answer_that_was_lost_is_asked_for_again(cluster: Cluster):
    process = await cluster.start(declares())
    with answers_lost(process.slot.store.database, "start_now", times=1), pytest.raises(StoreUnavailable):
        await process.aio.run_job("job", idempotency_key="key")
    again = await process.aio.run_job("job", idempotency_key="key")
    assert again.repeated
    await cluster.advance(6)
    assert seen == [None]
    assert (await again).outcome == "succeeded"


async def test_an_overlap_leaves_the_key_in_the_database_unused(cluster: Cluster):
    process = await cluster.start(declares(waits))
    await process.aio.run_job("job")
    with pytest.raises(OverlapForbidden):
        await process.aio.run_job("job", idempotency_key="key")
    await cluster.rest()
    gates[0].set()
    await cluster.rest()
    assert not (await process.aio.run_job("job", idempotency_key="key")).repeated
    await cluster.rest()
    gates[1].set()


async def test_old_keys_are_new_again_and_deleted(cluster: Cluster):
    process = await cluster.start(declares())
    count = "SELECT COUNT(*) FROM {p}meta WHERE k LIKE 'idem:%'"
    for key in ("key", "other"):
        await (await process.aio.run_job("job", idempotency_key=key))
    await cluster.rest()
    assert cluster.query(count) == [(2,)]
    cluster.clock.jump(24 * 3600 - 100)
    process.slot.store.house.clear_up(START)
    assert cluster.query(count) == [(2,)]
    await cluster.jump(101)
    assert not (await process.aio.run_job("job", idempotency_key="key")).repeated
    process.slot.store.house.clear_up(START)
    assert cluster.query(count) == [(1,)]
