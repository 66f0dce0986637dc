"""Who changed what, in memory and in a database, and read as one list."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from quart_sched.engine.ledger import MOST, ChangeLog
from quart_sched.errors import InvalidDefinition
from quart_sched.model.actor import current_actor
from tests.conftest import START


async def tick() -> None:
    pass


async def tock() -> None:
    pass


HOURLY = {"trigger": "interval", "hours": 1}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture
def by_alice() -> Iterator[None]:
    token = current_actor.set("alice")
    yield
    current_actor.reset(token)


def told(page: Any) -> list[tuple[Any, ...]]:
    """Action, job, actor and detail of each change, the first one first."""
    return [(each.action, each.job_id, each.actor, each.detail) for each in reversed(page.items)]


VERBS = [
    ("add", "one", "alice", None),
    ("add", "two", "alice", None),
    ("pause", "two", "alice", None),
    ("modify", "one", "alice", "max_instances"),
    ("modify", "one", "alice", "next_run_time"),
    ("pause", "one", "alice", None),
    ("modify", "one", "alice", "trigger"),
    ("resume", "one", "alice", None),
    ("pause", None, "alice", None),
    ("resume", None, "alice", None),
    ("remove", "one", "alice", None),
    ("remove", "two", "alice", None),
]


async def carry_out(aio: Any) -> None:
    await aio.add_job("one", tick, **HOURLY)
    await aio.add_job("two", tick, **HOURLY, next_run_time=None)
    await aio.modify_job("one", max_instances=5)
    await aio.modify_job("one", max_instances=5)
    await aio.modify_job("one", next_run_time=at(7200))
    await aio.pause_job("one")
    await aio.modify_job("one", trigger="interval", hours=2)
    await aio.resume_job("one")
    await aio.pause()
    await aio.resume()
    await aio.remove_job("one")
    await aio.remove_all_jobs()


@pytest.mark.usefixtures("by_alice")
async def test_every_verb_is_on_the_list_of_a_process(scheduler, app, serve, clock):
    scheduler.add_job("declared", tick, **HOURLY)
    async with serve(scheduler, app):
        first = told(await scheduler.aio.changes())
        assert first == [("start", None, "alice", None), ("declare", "declared", "deploy", None)]
        await scheduler.aio.remove_job("declared")
        await carry_out(scheduler.aio)
        assert told(await scheduler.aio.changes())[3:] == VERBS
        await scheduler.aio.shutdown()
        assert told(await scheduler.aio.changes())[-1] == ("stop", None, "alice", None)


async def test_every_verb_is_on_the_list_of_a_database_for_all_processes(cluster):
    one = await cluster.start(lambda scheduler: scheduler.add_job("declared", tick, **HOURLY))
    two = await cluster.start(lambda scheduler: scheduler.add_job("declared", tick, **HOURLY))
    token = current_actor.set("alice")
    await carry_out(one.aio)
    current_actor.reset(token)
    expected = [("add", "declared", "deploy", None), *VERBS]
    for process in (one, two):
        assert told(await process.aio.changes()) == expected
    versions = [each.version for each in (await two.aio.changes("one")).items]
    assert versions == [6, 6, 5, 4, 3, 2, 1]
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = await two.aio.changes(limit=5, cursor=cursor)
        seen += page.items
        cursor = page.next
    assert [(each.action, each.job_id) for each in reversed(seen)] == [entry[:2] for entry in expected]


async def test_what_a_deploy_changes_is_on_the_list(cluster):
    one = await cluster.start(lambda scheduler: [scheduler.add_job(id, tick, **HOURLY) for id in ("a", "b")])
    two = await cluster.restart(one, lambda scheduler: scheduler.add_job("a", tock, trigger="interval", hours=2))
    assert told(await two.aio.changes()) == [
        ("add", "a", "deploy", None),
        ("add", "b", "deploy", None),
        ("declare", "a", "deploy", "func, trigger"),
        ("prune", "b", "deploy", "the code does not declare it any more"),
    ]
    options = {"trigger": "interval", "hours": 2, "next_run_time": None}
    three = await cluster.restart(
        two, lambda scheduler: scheduler.add_job("a", tock, **options), SCHEDULER_PRUNE="remove"
    )
    assert told(await three.aio.changes())[4:] == [
        ("declare", "a", "deploy", None),
        ("pause", "a", "deploy", None),
        ("remove", "b", "deploy", "the code does not declare it any more"),
    ]


async def test_the_lists_of_the_stores_and_of_the_process_are_read_as_one(cluster):
    stores = {"default": cluster.entry, "here": {"type": "memory"}}
    one = await cluster.start(SCHEDULER_JOBSTORES=stores)
    for number, store in enumerate(("default", "here", "default", "here")):
        await cluster.advance(1)
        await one.aio.add_job(f"job-{number}", tick, trigger="interval", seconds=10, jobstore=store)
    await one.aio.pause()
    expected = [("add", f"job-{number}") for number in range(4)] + [("pause", None)]
    assert [entry[:2] for entry in told(await one.aio.changes())] == expected
    seen, cursor = [], None
    while cursor is not None or not seen:
        page = await one.aio.changes(limit=1, cursor=cursor)
        seen += page.items
        cursor = page.next
    assert [(each.action, each.job_id) for each in reversed(seen)] == expected
    await cluster.advance(15)
    assert (await one.aio.explain("job-1", at(12))).verdict == "scheduler_paused"
    assert (await one.aio.explain("job-2", at(13))).verdict == "scheduler_paused"


async def test_what_is_changed_before_the_start_is_on_the_list(scheduler, app, serve):
    scheduler.add_job("one", tick, **HOURLY)
    async with serve(scheduler, app, start=False):
        await scheduler.aio.modify_job("one", max_instances=2)
        await scheduler.aio.pause_job("one")
        await scheduler.aio.remove_job("one")
        assert [(each[0], each[3]) for each in told(await scheduler.aio.changes("one"))] == [
            ("modify", "max_instances"),
            ("pause", None),
            ("remove", None),
        ]


async def test_a_start_that_is_paused_is_a_pause_and_before_it_no_process_ran(scheduler, app, serve, clock):
    async with serve(scheduler, app, start=False):
        scheduler.add_job("one", tick, trigger="cron", minute=0)
        found = await scheduler.aio.explain("one", at(-3600))
        assert (found.verdict, found.down.since, found.down.until) == ("process_down", None, None)
        assert found.description.endswith("because no process was running then.")
        await scheduler.aio.start(paused=True)
        assert [each[0] for each in told(await scheduler.aio.changes())] == ["start", "pause", "declare"]
        await clock.advance(seconds=3600)
        assert (await scheduler.aio.explain("one", at(3600))).verdict == "scheduler_paused"


async def test_wrong_queries_are_refused(scheduler, app, serve):
    async with serve(scheduler, app):
        with pytest.raises(InvalidDefinition, match=r"^limit: is 0; expected"):
            await scheduler.aio.changes(limit=0)


def test_a_process_remembers_so_many_changes_and_no_more(clock):
    log = ChangeLog(clock)
    for number in range(MOST + 5):
        log.note("add", f"job-{number}")
    assert (log.knows("job-4"), log.knows("job-5")) == (False, True)
    assert log.circumstances(None, "job-5", at(-1)).down is None, "what was before is forgotten"
