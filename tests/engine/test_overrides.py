"""Overrides: one run with other arguments than its job's own, wherever it runs and however often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from quart_sched import current_run
from quart_sched.errors import InvalidDefinition
from quart_sched.model.ids import new_id
from quart_sched.model.overrides import Overrides
from tests.stores.cluster import Cluster
from tests.stores.peers import Peer, at

seen: list[Any] = []
LATER = {"trigger": "interval", "hours": 1, "start_date": at(3600)}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    seen.clear()


async def notes(first: Any = None, *, second: Any = None) -> None:
    seen.append((first, second))


def notes_in_a_thread(first: Any = None, *, second: Any = None) -> None:
    seen.append((first, second))


def gives_back(first: Any = None, *, second: Any = None) -> Any:
    return first, second


async def fails(first: Any = None) -> None:
    seen.append((first, current_run.attempt))
    raise ValueError("no")


async def waits(first: Any = None) -> None:
    seen.append((first, current_run.attempt))
    if current_run.attempt == 1:
        await asyncio.Event().wait()


@pytest.mark.parametrize("func", [notes, notes_in_a_thread])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (1, 2)),
        ({"args": [5]}, (5, 2)),
        ({"args": []}, (None, 2)),
        ({"kwargs": {}}, (1, None)),
        ({"kwargs": {"second": Decimal("1.5")}}, (1, Decimal("1.5"))),
        ({"args": (3,), "kwargs": {"second": 4}}, (3, 4)),
    ],
)
async def test_each_takes_the_place_of_the_jobs_own(scheduler, app, serve, func, given, expected):
    async with serve(scheduler, app):
        scheduler.add_job("job", func, args=(1,), kwargs={"second": 2}, **LATER)
        await (await scheduler.aio.run_job("job", **given))
        await (await scheduler.aio.run_job("job"))
        assert seen == [expected, (1, 2)]
        job = await scheduler.aio.get_job("job")
        assert (job.args, job.kwargs) == ((1,), {"second": 2})


async def test_they_reach_a_process_pool(scheduler, app, serve):
    executors = {"pool": {"type": "processpool", "max_workers": 1}}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors):
        scheduler.add_job("job", gives_back, args=(1,), executor="pool", misfire_grace_time=None, **LATER)
        record = await (await scheduler.aio.run_job("job", args=[7], kwargs={"second": 8}))
        assert record.result == "(7, 8)"


async def test_a_retry_has_them_too(scheduler, app, serve, clock):
    async with serve(scheduler, app):
        scheduler.add_job("job", fails, args=(1,), retry={"attempts": 2, "delay": 5}, **LATER)
        await scheduler.aio.run_job("job", args=["other"])
        await clock.advance(seconds=6)
        assert seen == [("other", 1), ("other", 2)]


async def test_what_does_not_fit_is_refused_and_nothing_runs(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, **LATER)
        for given, message in (
            ({"args": [1, 2]}, "args: do not fit"),
            ({"kwargs": {"third": 3}}, "args: do not fit"),
            ({"args": "text"}, "args: is 'text'"),
            ({"kwargs": [1]}, r"kwargs: is \[1\]"),
        ):
            with pytest.raises(InvalidDefinition, match=message):
                await scheduler.aio.run_job("job", **given)
        assert seen == []
        assert (await scheduler.aio.runs("job")).items == ()


async def test_a_store_in_memory_takes_any_object(scheduler, app, serve):
    something = object()
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, **LATER)
        await (await scheduler.aio.run_job("job", args=[something]))
        assert seen == [(something, None)]
        with pytest.raises(InvalidDefinition, match=r"args\[0\]: is <object"):  # which cannot be compared
            await scheduler.aio.run_job("job", args=[something], idempotency_key="key")


def test_what_was_dumped_is_loaded_again():
    for given in (
        Overrides(),
        Overrides((), None),
        Overrides(None, {}),
        Overrides((1, (2, b"x")), {"$datetime": datetime(2026, 1, 1, tzinfo=UTC)}),
    ):
        assert Overrides.load(given.dump()) == given
    with pytest.raises(InvalidDefinition, match=r"kwargs.x: is \{1\}, a set"):
        Overrides(None, {"x": {1}}).dump()


# In a store that processes share


def declares(func: Any, **options: Any) -> Any:
    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", func, **LATER | options)

    return declare


async def test_the_database_keeps_what_json_and_its_tags_can_hold(cluster: Cluster):
    process = await cluster.start(declares(notes, args=(1,)))
    moment = datetime(2026, 1, 31, 12, tzinfo=UTC)
    await (await process.aio.run_job("job", args=[moment], kwargs={"second": (b"x", Decimal(1))}))
    assert seen == [(moment, (b"x", Decimal(1)))]
    with pytest.raises(InvalidDefinition, match=r"args\[0\]: is <object"):
        await process.aio.run_job("job", args=[object()])
    with pytest.raises(InvalidDefinition, match="args: do not fit"):
        await process.aio.run_job("job", args=[1, 2, 3])
    assert len(seen) == 1
    assert (await process.job("job"))["args"] == [1]
    await cluster.rest()
    assert cluster.query("SELECT run_id FROM {p}live") == []


async def test_retries_have_them_in_whichever_process(cluster: Cluster):
    first = await cluster.start(declares(fails, retry={"attempts": 2, "delay": 5}))
    await first.aio.run_job("job", args=["other"])
    await cluster.rest()
    await cluster.stop(first)
    await cluster.start(declares(fails, retry={"attempts": 2, "delay": 5}))
    await cluster.advance(6)
    assert seen == [("other", 1), ("other", 2)]


async def test_a_run_that_its_process_did_not_survive_begins_again_with_them(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    first = await cluster.start(declares(waits, on_crash="rerun"))
    await first.aio.run_job("job", args=["other"])
    await cluster.rest()
    await cluster.start(declares(waits, on_crash="rerun"))
    cluster.kill(first)
    await cluster.advance(30)
    assert seen == [("other", 1), ("other", 2)]


async def test_what_was_handed_back_has_them_whatever_runs_it(cluster: Cluster):
    peers = [Peer(cluster.entry["url"], cluster.entry["table_prefix"], cluster.clock) for _ in range(2)]
    peers[0].add("job", notes, args=(1,))
    given = Overrides.parse(["other"], {"second": 2})
    run = peers[0].store.start_now(peers[0].me, "job", new_id(), "api", overrides=given)
    peers[0].round(returned=(run.run_id,), limit=0)
    [claim] = peers[1].round().claimed
    assert (claim.job.args, claim.job.kwargs) == (("other",), {"second": 2})
    assert (claim.runs[0].job.args, claim.runs[0].run_id) == (("other",), run.run_id)
    assert peers[1].store.lookup_job("job").args == (1,)
    for peer in peers:
        peer.close()


# On record


GIVEN = '{"args":["other"],"kwargs":{"second":{"$decimal":"1.5"}}}'


async def test_the_record_of_a_run_tells_them(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", notes, args=(1,), **LATER)
        with_others = await (await scheduler.aio.run_job("job", args=["other"], kwargs={"second": Decimal("1.5")}))
        without = await (await scheduler.aio.run_job("job"))
        assert (with_others.overrides, without.overrides) == (GIVEN, None)
        assert (await scheduler.aio.run(with_others.run_id)).overrides == GIVEN


async def test_the_database_has_them_on_record_while_a_run_lasts_and_thereafter(cluster: Cluster):
    process = await cluster.start(declares(waits, retry={"attempts": 2, "delay": 5}, timeout=3))
    run = await process.aio.run_job("job", args=["other"])
    await cluster.rest()
    assert (await process.aio.run(run.run_id)).overrides == '{"args":["other"]}'
    await cluster.advance(10)
    attempts = await process.aio.attempts(await process.aio.run(run.run_id))
    records = [await process.aio.run(attempt.run_id) for attempt in attempts]
    assert [(record.outcome, record.overrides) for record in records] == [
        ("timed_out", '{"args":["other"]}'),
        ("succeeded", '{"args":["other"]}'),
    ]


async def test_a_lost_run_has_them_on_record(cluster: Cluster):
    cluster.config["SCHEDULER_SHUTDOWN_TIMEOUT"] = 0
    first = await cluster.start(declares(waits))
    run = await first.aio.run_job("job", args=["other"])
    await cluster.rest()
    second = await cluster.start(declares(waits))
    cluster.kill(first)
    await cluster.advance(30)
    record = await second.aio.run(run.run_id)
    assert (record.outcome, record.overrides) == ("lost", '{"args":["other"]}')


async def test_a_run_that_was_cancelled_while_it_waited_has_them_on_record(cluster: Cluster):
    peer = Peer(cluster.entry["url"], cluster.entry["table_prefix"], cluster.clock)
    peer.add("job", notes)
    run = peer.store.start_now(peer.me, "job", new_id(), "api", overrides=Overrides.parse(["other"]))
    peer.round(returned=(run.run_id,), limit=0)
    assert peer.store.cancel(run.run_id, "web-1:1").overrides == '{"args":["other"]}'
    assert peer.query("SELECT overrides FROM {p}run_output") == [('{"args":["other"]}',)]
    peer.close()
