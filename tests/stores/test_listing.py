"""The list of jobs, from each kind of store: light, and never out of date."""

from __future__ import annotations

from typing import Any

import pytest
from quart import Quart

from quart_sched import APScheduler, Scheduler
from tests.stores.manual_clock import ManualClock


async def work() -> None: ...


async def other() -> None: ...


@pytest.fixture
async def scheduler(database_url: str, table_prefix: str, clock: ManualClock) -> Any:
    return make(database_url, table_prefix, clock)


def make(url: str, prefix: str, clock: ManualClock) -> APScheduler:
    app = Quart("listing")
    store = {"type": "sqlalchemy", "url": url, "table_prefix": prefix}
    app.config.update(SCHEDULER_JOBSTORES={"default": store, "memory": {"type": "memory"}}, SCHEDULER_TIMEZONE="UTC")
    return APScheduler(Scheduler(clock=clock), app)


async def listed(scheduler: APScheduler, **query: Any) -> list[tuple[str, str, str]]:
    page = await scheduler.aio.job_page(**query)
    assert [entry.id for entry, _ in page.items] == [job.id for _, job in page.items]
    return [(entry.id, entry.name, entry.state) for entry, _ in page.items]


async def test_what_changes_is_seen_at_once(scheduler: APScheduler) -> None:
    aio = scheduler.aio
    await aio.start(paused=True)
    await aio.add_job("a", work, trigger="cron", hour=3, name="First", tags=["x"])
    await aio.add_job("b", work, trigger="cron", hour=4, jobstore="memory")
    assert await listed(scheduler) == [("a", "First", "scheduled"), ("b", "b", "scheduled")]
    await aio.modify_job("a", name="Renamed", tags=["y"], hour=5, trigger="cron")
    await aio.pause_job("b")
    assert await listed(scheduler) == [("a", "Renamed", "scheduled"), ("b", "b", "paused")]
    page = await aio.job_page(tag="y")
    assert (page.total, page.tags) == (1, ("y",))
    assert page.items[0][0].next_run_time == page.items[0][1].next_run_time
    await aio.remove_job("a")
    await aio.add_job("a", other, trigger="cron", hour=6, name="Another")
    assert await listed(scheduler, search="other") == [("a", "Another", "scheduled")]
    await aio.remove_job("a")
    assert await listed(scheduler) == [("b", "b", "paused")]
    await aio.shutdown()


async def test_what_another_process_changes_is_seen(
    scheduler: APScheduler, database_url: str, table_prefix: str, clock: ManualClock
) -> None:
    peer = make(database_url, table_prefix, clock)
    await scheduler.aio.start(paused=True)
    await peer.aio.start(paused=True)
    await scheduler.aio.add_job("a", work, trigger="cron", hour=3)
    assert await listed(peer) == [("a", "a", "scheduled")]
    await scheduler.aio.modify_job("a", name="Renamed")
    assert await listed(peer) == [("a", "Renamed", "scheduled")]
    await peer.aio.pause_job("a")
    assert await listed(scheduler) == [("a", "Renamed", "paused")]
    await scheduler.aio.shutdown()
    await peer.aio.shutdown()


async def test_a_job_that_cannot_be_loaded_is_listed_as_broken(
    scheduler: APScheduler, database_url: str, table_prefix: str, clock: ManualClock
) -> None:
    await scheduler.aio.start(paused=True)
    await scheduler.aio.add_job("a", work, trigger="cron", hour=3)
    await scheduler.aio.add_job("b", work, trigger="cron", hour=4)
    await scheduler.aio.shutdown()
    # One that only looks: nothing tries in the background to mend what it cannot load.
    looker = make(database_url, table_prefix, clock)
    assert await listed(looker) == [("a", "a", "scheduled"), ("b", "b", "scheduled")]
    store = looker.scheduler.catalogue.slots["default"].store
    statement = f"UPDATE {store.database.prefix}jobs SET func = 'no.such:function', version = 9, definition = '[' "
    store.database.transact(lambda tx: tx.execute(f"{statement} WHERE id = 'a'"))
    store.loader.learn(["no.such:function"])
    assert await listed(looker) == [("a", "a", "broken"), ("b", "b", "scheduled")]
    statement = f"UPDATE {store.database.prefix}jobs SET broken_us = 1, broken_reason = 'why', next_us = NULL"
    store.database.transact(lambda tx: tx.execute(statement))
    assert await listed(looker) == [("a", "a", "broken"), ("b", "b", "broken")]
    await looker.scheduler.call(looker.scheduler.catalogue.close_stores, blocking=True)


async def test_jobs_are_paged(scheduler: APScheduler) -> None:
    await scheduler.aio.start(paused=True)
    for number in range(7):
        await scheduler.aio.add_job(f"j{number}", work, trigger="interval", hours=number + 1)
    first = await scheduler.aio.job_page(limit=3)
    assert ([entry.id for entry, _ in first.items], first.total, first.next) == (["j0", "j1", "j2"], 7, 3)
    last = await scheduler.aio.job_page(limit=3, offset=6)
    assert ([entry.id for entry, _ in last.items], last.next) == (["j6"], None)
    beyond = await scheduler.aio.job_page(limit=3, offset=60)
    assert (beyond.items, beyond.total, beyond.next) == ((), 7, None)
    await scheduler.aio.shutdown()


async def test_jobs_that_wait_for_the_start_are_listed(clock: ManualClock) -> None:
    scheduler = APScheduler(Scheduler(clock=clock))
    scheduler.add_job("early", work, trigger="interval", hours=1)
    scheduler.init_app(Quart("waiting"))
    assert await listed(scheduler) == [("early", "early", "pending")]
