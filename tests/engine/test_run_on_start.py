"""run_on_start: once for each start of a scheduler, or of the whole cluster."""

from __future__ import annotations

from typing import Any

import pytest

from quart_sched import current_run
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.store import SqlStore
from tests.conftest import settle
from tests.stores.cluster import Cluster

ran: list[str] = []
HOURLY = {"trigger": "interval", "hours": 1}


@pytest.fixture(autouse=True)
def _afresh() -> None:
    ran.clear()


async def notes(*args: Any) -> None:
    ran.append(current_run.job_id)


def declare(scheduler: Any) -> None:
    scheduler.add_job("job", notes, run_on_start=True, **HOURLY)
    scheduler.add_job("other", notes, args=['"run_on_start":true'], kwargs={}, **HOURLY)


async def test_a_job_runs_once_when_the_scheduler_starts(scheduler, app, serve):
    declare(scheduler)
    async with serve(scheduler, app):
        await settle()
        assert ran == ["job"]
        [record] = (await scheduler.aio.runs("job")).items
        assert (record.outcome, record.cause) == ("succeeded", "start")
        job = await scheduler.aio.get_job("job")
        assert job.next_run_time is not None
        await scheduler.aio.shutdown()
        await scheduler.aio.start()
        await settle()
        assert ran == ["job", "job"]


async def test_a_paused_job_and_a_scheduler_that_starts_paused_do_not(scheduler, app, serve):
    scheduler.add_job("paused", notes, run_on_start=True, next_run_time=None, **HOURLY)
    async with serve(scheduler, app):
        await settle()
        assert ran == []
        await scheduler.aio.shutdown()
        await scheduler.aio.resume_job("paused")
        await scheduler.aio.start(paused=True)
        await settle()
        assert ran == []


async def test_it_runs_once_for_all_processes_that_start_and_not_for_those_that_join(cluster: Cluster):
    first = await cluster.start(declare)
    await cluster.start(declare)
    await cluster.advance(2)
    assert ran == ["job"]
    await cluster.start(declare)
    await cluster.advance(2)
    await cluster.restart(first, declare)
    await cluster.advance(2)
    assert ran == ["job"]
    records = (await cluster.processes[0].aio.runs("job")).items
    assert [(record.cause, record.outcome) for record in records] == [("start", "succeeded")]


async def test_it_runs_once_though_the_answer_to_the_first_attempt_was_lost(cluster: Cluster, monkeypatch):
    original = SqlStore.reconcile
    answers: list[Any] = []

    def reconcile(*args: Any, **options: Any) -> Any:
        answers.append(original(*args, **options))
        if len(answers) == 1:
            raise DatabaseFailure("the connection was closed in the middle of a commit", unknown=True)
        return answers[-1]

    monkeypatch.setattr(SqlStore, "reconcile", reconcile)
    await cluster.start(declare)
    await cluster.advance(10)
    assert (ran, len(answers)) == (["job"], 2)
    await cluster.processes[0].aio.shutdown()
    await cluster.processes[0].aio.start()
    await cluster.advance(2)
    assert ran == ["job", "job"]


async def test_a_damaged_job_that_wants_it_keeps_no_other_from_running(cluster: Cluster):
    first = await cluster.start(declare)
    damaged = ['{"run_on_start":true', '[{"run_on_start":true}]', '{"run_on_start":true,"on_crash":5}']
    for number, definition in enumerate(damaged):
        await first.aio.add_job(f"bad{number}", notes, **HOURLY)
        change = "UPDATE {p}jobs SET definition = :definition, version = 9 WHERE id = :id"
        cluster.query(change, definition=definition, id=f"bad{number}")
    await cluster.stop(first)
    ran.clear()
    await cluster.start(declare)
    await cluster.advance(2)
    assert ran == ["job"]


async def test_it_runs_again_when_all_have_ended_and_one_starts(cluster: Cluster):
    first = await cluster.start(declare)
    await cluster.advance(2)
    await cluster.stop(first)
    second = await cluster.start(declare)
    await cluster.advance(2)
    assert ran == ["job", "job"]
    await cluster.stop(second)


async def test_it_does_not_run_while_a_dead_process_may_be_alive_but_after_its_lease(cluster: Cluster):
    first = await cluster.start(declare)
    await cluster.advance(2)
    cluster.kill(first)
    second = await cluster.start(declare)
    await cluster.advance(2)
    assert ran == ["job"]
    cluster.kill(second)
    cluster.clock.jump(60)
    await cluster.start(declare)
    await cluster.advance(2)
    assert ran == ["job", "job"]
