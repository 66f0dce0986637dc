"""The contract of a job store, the same for memory, SQLite, PostgreSQL and MariaDB, through the public API."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from apscheduler.events import EVENT_JOB_MODIFIED

from quart_sched import current_run
from quart_sched.errors import (
    DuplicateJob,
    InvalidDefinition,
    JobNotFound,
    OverlapForbidden,
    RunOver,
    StoreUnavailable,
)
from quart_sched.model.instants import micros
from quart_sched.stores.sql.failures import DatabaseFailure
from tests.stores.cluster import KINDS, Cluster, Tables

BERLIN = ZoneInfo("Europe/Berlin")
ran: list[tuple[Any, ...]] = []
gate = asyncio.Event()


async def job(*args: Any, **kwargs: Any) -> None:
    ran.append(args)


async def other(*args: Any, **kwargs: Any) -> None: ...


async def returns() -> int:
    return 42


async def fails() -> None:
    raise LookupError("not there")


async def waits() -> None:
    await gate.wait()


async def told() -> None:
    ran.append((current_run.scheduled_at.isoformat(),))


@pytest.fixture(autouse=True)
def _afresh() -> None:
    global gate
    ran.clear()
    gate = asyncio.Event()


@pytest.fixture(params=["memory", *KINDS])
async def store(request: pytest.FixtureRequest, clock: Any, tables: Tables) -> AsyncIterator[Cluster]:
    """A place for one process, with each kind of store in turn."""
    cluster = Cluster(clock, {"type": "memory"} if request.param == "memory" else tables.empty(request.param))
    yield cluster
    await cluster.close()


def at(clock: Any, seconds: float) -> datetime:
    moment: datetime = clock._origin + timedelta(seconds=seconds)
    return moment


# Adding


async def test_an_added_job_is_there_as_it_was_given(store, clock):
    one = await store.start()
    added = await one.aio.add_job(
        "id", job, args=(1, "two"), kwargs={"three": None}, trigger="interval", seconds=10, name="Name",
        misfire_grace_time=7, coalesce=False, max_instances=3,
    )  # fmt: skip
    found = await one.aio.get_job("id")
    for kept in (added, found):
        assert (kept.id, kept.name, kept.func) == ("id", "Name", job)
        assert (kept.args, kept.kwargs) == ((1, "two"), {"three": None})
        assert (kept.misfire_grace_time, kept.coalesce, kept.max_instances) == (7, False, 3)
        assert kept.next_run_time == at(clock, 10)
        assert kept.trigger.interval == timedelta(seconds=10)
    assert not found.pending
    await store.advance(10)
    assert ran == [(1, "two")]


async def test_a_job_that_is_added_over_rest_answers_with_what_get_shows(store):
    one = await store.start()
    body = {"id": "id", "func": f"{__name__}:job", "args": [1], "trigger": "interval", "seconds": 10}
    status, added = await one.rest("POST", "/jobs", json=body)
    assert (status, added) == (200, await one.job("id"))
    assert (added["state"], added["next_run_time"]) == ("scheduled", "2026-03-02T12:00:10+00:00")


async def test_an_id_that_is_taken_is_refused_and_the_job_left_alone(store):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    before = await one.job("id")
    with pytest.raises(DuplicateJob, match="Job id already exists"):
        await one.aio.add_job("id", other, trigger="interval", seconds=20)
    body = {"id": "id", "func": f"{__name__}:other", "trigger": "interval", "seconds": 20}
    status, answer = await one.rest("POST", "/jobs", json=body)
    assert (status, answer["error_message"][:22]) == (409, "Job id already exists.")
    assert await one.job("id") == before


async def test_of_many_that_add_the_same_id_at_once_one_succeeds(store):
    one = await store.start()
    results = await asyncio.gather(
        *(one.aio.add_job("id", job, args=(number,), trigger="interval", seconds=10) for number in range(8)),
        return_exceptions=True,
    )
    assert sorted(type(result).__name__ for result in results) == [*["DuplicateJob"] * 7, "ScheduledJob"]
    assert len(await one.aio.get_jobs()) == 1


async def test_all_of_many_that_add_or_replace_the_same_id_at_once_succeed(store):
    one = await store.start()
    add = [
        one.aio.add_job("id", job, args=(number,), trigger="interval", seconds=10, replace_existing=True)
        for number in range(8)
    ]
    assert {result.id for result in await asyncio.gather(*add)} == {"id"}
    assert len(await one.aio.get_jobs()) == 1


async def test_replacing_by_an_equal_declaration_changes_nothing(store):
    one = await store.start()
    options: dict[str, Any] = {"trigger": "interval", "seconds": 10, "args": (1,)}
    await one.aio.add_job("id", job, **options)
    await store.advance(4)
    before = await one.job("id")
    await one.aio.add_job("id", job, **options, replace_existing=True)
    assert await one.job("id") == before
    await one.aio.pause_job("id")
    before = await one.job("id")
    await one.aio.add_job("id", job, **options, replace_existing=True)
    assert await one.job("id") == before
    assert before["state"] == "paused"


async def test_replacing_by_another_declaration_keeps_the_next_fire_of_an_equal_trigger(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.advance(4)
    replaced = await one.aio.add_job("id", other, trigger="interval", seconds=10, name="New", replace_existing=True)
    assert (replaced.func, replaced.name, replaced.next_run_time) == (other, "New", at(clock, 10))
    replaced = await one.aio.add_job("id", other, trigger="interval", seconds=30, replace_existing=True)
    assert replaced.next_run_time == at(clock, 34)


async def test_a_paused_job_stays_paused_when_it_is_replaced(store):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.pause_job("id")
    await one.aio.add_job("id", other, trigger="interval", seconds=20, replace_existing=True)
    assert ((await one.job("id"))["state"], (await one.job("id"))["seconds"]) == ("paused", 20)


# Changing


async def test_a_change_is_made_as_a_whole(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    changed = await one.aio.modify_job("id", name="New", args=(1, 2), coalesce=False, trigger="interval", seconds=3)
    found = await one.aio.get_job("id")
    for kept in (changed, found):
        assert (kept.name, kept.args, kept.coalesce, kept.next_run_time) == ("New", (1, 2), False, at(clock, 3))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "New", "max_instances": 0},
        {"name": "New", "trigger": "interval", "seconds": "many"},
        {"name": "New", "executor": "nowhere"},
        {"name": "New", "args": [1], "trigger": "cron", "hour": 25},
        {"name": "New", "colour": "red"},
        {"name": "New", "next_run_time": "soon"},
    ],
    ids=str,
)
async def test_a_change_of_which_something_is_wrong_is_not_made_at_all(store, wrong):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    before = await one.job("id")
    with pytest.raises(InvalidDefinition):
        await one.aio.modify_job("id", **wrong)
    status, answer = await one.rest("PATCH", "/jobs/id", json=wrong)
    assert (status, bool(answer["error_message"])) == (400, True)
    assert await one.job("id") == before


async def test_another_trigger_moves_the_next_fire_and_an_equal_one_leaves_it(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.advance(4)
    same = await one.aio.modify_job("id", trigger="interval", seconds=10)
    assert same.next_run_time == at(clock, 10)
    status, shown = await one.rest("PATCH", "/jobs/id", json={"trigger": "interval", "seconds": 10})
    assert (status, shown["next_run_time"]) == (200, at(clock, 10).isoformat())
    moved = await one.aio.modify_job("id", trigger="interval", seconds=20)
    assert moved.next_run_time == at(clock, 24)


NO_FIRE_LEFT = [
    {"trigger": "cron", "day": 31, "month": 2},
    {"trigger": "interval", "seconds": 1, "start_date": "2020-01-01T00:00:00", "end_date": "2020-01-02T00:00:00"},
]


@pytest.mark.parametrize("over", NO_FIRE_LEFT, ids=["never", "no more"])
async def test_a_trigger_without_a_fire_is_refused_instead_of_taken_for_a_pause(store, over):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.add_job("paused", job, trigger="interval", seconds=10, next_run_time=None)
    for job_id in ("id", "paused"):
        before = await one.job(job_id)
        with pytest.raises(InvalidDefinition, match="no fire left"):
            await one.aio.modify_job(job_id, **over)
        status, answer = await one.rest("PATCH", f"/jobs/{job_id}", json=over)
        assert (status, "no fire left" in answer["error_message"]) == (400, True)
        assert await one.job(job_id) == before
    for replacing in ({}, {"id": "id", "replace_existing": True}):
        with pytest.raises(InvalidDefinition, match="no fire left"):
            await one.aio.add_job(**{"id": "new", "func": job, **over, **replacing})
    assert await one.ids() == ["id", "paused"]


@pytest.mark.parametrize("over", NO_FIRE_LEFT, ids=["never", "no more"])
async def test_a_trigger_without_a_fire_is_taken_where_the_next_fire_or_a_pause_is_given(store, clock, over):
    one = await store.start()
    await one.aio.add_job("added", job, next_run_time=None, **over)
    await one.aio.add_job("changed", job, trigger="interval", seconds=10)
    await one.aio.modify_job("changed", next_run_time=None, **over)
    assert [(await one.job(job_id))["state"] for job_id in ("added", "changed")] == ["paused", "paused"]
    await one.aio.add_job("once", job, trigger="interval", seconds=10)
    await one.aio.modify_job("once", next_run_time=at(clock, 1), **over)
    await store.advance(2)
    assert (len(ran), await one.ids()) == (1, ["added", "changed"])


async def test_a_trigger_that_is_changed_right_at_a_fire_does_not_repeat_it(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.advance(10)
    changed = await one.aio.modify_job("id", trigger="interval", seconds=5, start_date=at(clock, 0))
    assert (len(ran), changed.next_run_time) == (1, at(clock, 15))


async def test_a_consumed_fire_that_is_sent_back_does_not_come_again(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    shown = await one.job("id")
    await store.advance(12)
    status, answer = await one.rest("PATCH", "/jobs/id", json=shown | {"name": "New"})
    assert (status, answer["name"], answer["next_run_time"]) == (200, "New", at(clock, 20).isoformat())
    assert (await one.aio.modify_job("id", next_run_time=at(clock, 10))).next_run_time == at(clock, 20)
    await store.advance(5)
    assert len(ran) == 1


async def test_the_next_fire_can_be_moved(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.modify_job("id", next_run_time=at(clock, 3))
    await store.advance(4)
    assert (len(ran), (await one.aio.get_job("id")).next_run_time) == (1, at(clock, 13))


# Pausing


async def test_a_paused_job_does_not_fire_until_it_is_resumed(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    assert (await one.aio.pause_job("id")).next_run_time is None
    assert (await one.job("id"))["state"] == "paused"
    await store.advance(30)
    assert ran == []
    resumed = await one.aio.resume_job("id")
    assert resumed.next_run_time == at(clock, 30)
    await store.advance(5)
    assert len(ran) == 1
    assert await one.outcomes("id") == ["succeeded"]


async def test_pausing_twice_or_resuming_a_job_that_runs_changes_nothing_else(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    for _ in range(2):
        assert (await one.rest("POST", "/jobs/id/pause"))[1]["state"] == "paused"
    for _ in range(2):
        shown = (await one.rest("POST", "/jobs/id/resume"))[1]
        assert (shown["state"], shown["next_run_time"]) == ("scheduled", at(clock, 10).isoformat())


async def test_resuming_a_job_that_is_not_paused_passes_over_no_fire_that_is_due(store, clock):
    one = await store.start()
    options = {"trigger": "interval", "seconds": 10, "misfire_grace_time": None, "coalesce": False}
    await one.aio.add_job("id", job, **options)
    await store.rest()
    clock.jump(25)
    assert (await one.aio.resume_job("id")).next_run_time == at(clock, 10)
    await store.poll()
    assert [record.scheduled_at for record in await one.records("id")] == [at(clock, 10), at(clock, 20)]


async def test_a_job_that_is_paused_and_resumed_right_at_its_fire_goes_on_with_the_next(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.advance(10)
    await one.aio.pause_job("id")
    resumed = await one.aio.resume_job("id")
    assert (len(ran), resumed.next_run_time) == (1, at(clock, 20))


async def test_a_combination_of_which_a_date_is_over_is_resumed_with_what_is_left(store, clock):
    one = await store.start()
    parts = [
        {"trigger": "date", "run_date": at(clock, 5).isoformat()},
        {"trigger": "interval", "seconds": 10, "start_date": at(clock, 20).isoformat()},
    ]
    await one.aio.add_job("id", job, trigger="or", triggers=parts)
    await store.advance(6)
    assert len(ran) == 1
    await one.aio.pause_job("id")
    resumed = await one.aio.resume_job("id")
    assert resumed.next_run_time == at(clock, 20)
    await store.advance(15)
    assert len(ran) == 2


async def test_a_job_that_is_resumed_when_its_schedule_is_over_is_gone(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, end_date=at(clock, 15))
    await one.aio.pause_job("id")
    await store.advance(20)
    assert await one.aio.resume_job("id") is None
    assert await one.aio.get_job("id") is None


async def test_a_job_can_be_added_paused(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, next_run_time=None)
    assert (await one.job("id"))["state"] == "paused"
    await store.advance(10)
    assert ran == []
    await one.aio.resume_job("id")
    await store.advance(10)
    assert len(ran) > 0


async def test_the_trigger_of_a_paused_job_can_be_changed_and_it_stays_paused(store):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.pause_job("id")
    changed = await one.aio.modify_job("id", trigger="interval", seconds=20)
    assert (changed.next_run_time, changed.trigger.interval_length) == (None, 20)


async def test_the_scheduler_can_be_paused_and_resumed(store):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, misfire_grace_time=None)
    await one.aio.pause()
    await store.advance(15)
    assert ran == []
    await one.aio.resume()
    await store.advance(1)
    assert len(ran) == 1


# Removing


async def test_a_removed_job_is_gone_and_its_id_free(store):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.remove_job("id")
    assert await one.ids() == []
    await store.advance(10)
    assert ran == []
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    assert (await one.rest("DELETE", "/jobs/id"))[0] == 204
    assert (await one.rest("GET", "/jobs/id"))[0] == 404


async def test_all_jobs_can_be_removed_at_once(store):
    one = await store.start()
    for job_id in ("a", "b"):
        await one.aio.add_job(job_id, job, trigger="interval", seconds=10)
    await one.aio.remove_all_jobs()
    assert await one.ids() == []
    await store.advance(10)
    assert ran == []


async def test_a_job_that_is_removed_while_it_runs_runs_to_its_end(store):
    one = await store.start()
    await one.aio.add_job("id", waits, trigger="interval", seconds=10)
    await store.advance(10)
    await one.aio.remove_job("id")
    gate.set()
    await store.advance(1)
    assert await one.outcomes("id") == ["succeeded"]


# Asking


async def test_jobs_come_by_their_next_fire_and_paused_ones_last(store):
    one = await store.start()
    for job_id, seconds in (("late", 30), ("early", 10), ("paused", 5), ("middle", 20)):
        await one.aio.add_job(job_id, job, trigger="interval", seconds=seconds)
    await one.aio.pause_job("paused")
    assert await one.ids() == ["early", "middle", "late", "paused"]
    _, shown = await one.rest("GET", "/jobs")
    assert [item["id"] for item in shown] == ["early", "middle", "late", "paused"]
    await store.advance(15)
    await one.aio.modify_job("early", name="New")
    assert await one.ids() == ["early", "middle", "late", "paused"]
    await store.advance(9)
    await one.aio.modify_job("late", trigger="interval", seconds=1)
    assert await one.ids() == ["late", "early", "middle", "paused"]


@pytest.mark.parametrize("job_id", ["nothing", "no\0thing", "noth ", "x" * 300, "\ud800", "noth\u00edng"], ids=ascii)
async def test_what_is_not_there_is_not_found(store, job_id):
    one = await store.start()
    await one.aio.add_job("noth", job, trigger="interval", seconds=10)
    assert await one.aio.get_job(job_id) is None
    for verb in (one.aio.pause_job, one.aio.resume_job, one.aio.remove_job, one.aio.run_job, one.aio.modify_job):
        with pytest.raises(JobNotFound):
            await verb(job_id)
    path = quote(job_id, safe="", errors="surrogatepass")
    requests = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/run")]
    for method, rest in requests:
        options = {"json": {"name": "New"}} if method == "PATCH" else {}
        status, answer = await one.rest(method, f"/jobs/{path}{rest}", **options)
        assert (status, "not found" in answer["error_message"]) == (404, True)
    assert await one.ids() == ["noth"]


ODD = [
    "a/b", "a//b", "a/", "a/pause", "it's", 'say "x"', "100%", "%41", "a_b", "*", "?x=1", "a#b", "a\\b", "ü", "日本",
    "🙂", "a\tb", " a", "<b>", "'; DROP TABLE jobs; --", ":name", "{id}", "x" * 191, "🙂" * 191, "NULL", "1",
]  # fmt: skip


async def test_ids_of_odd_characters_work_with_every_verb(store):
    one = await store.start()
    for job_id in ODD:
        body = {"id": job_id, "func": f"{__name__}:job", "args": [job_id], "trigger": "interval", "seconds": 10}
        assert (await one.rest("POST", "/jobs", json=body))[0] == 200, job_id
    assert sorted(await one.ids()) == sorted(ODD)
    for job_id in ODD:
        path = f"/jobs/{quote(job_id, safe='')}"
        status, shown = await one.rest("GET", path)
        assert (status, shown and shown["id"]) == (200, job_id)
        assert (await one.rest("POST", f"{path}/pause"))[1]["state"] == "paused"
        assert (await one.rest("POST", f"{path}/resume"))[1]["state"] == "scheduled"
        assert (await one.rest("PATCH", path, json={"name": job_id}))[1]["name"] == job_id
        assert (await one.rest("POST", f"{path}/run"))[0] == 200
    assert sorted(ran) == sorted((job_id,) for job_id in ODD)
    ran.clear()
    await store.advance(10)
    assert sorted(ran) == sorted((job_id,) for job_id in ODD)
    for job_id in ODD:
        assert (await one.rest("DELETE", f"/jobs/{quote(job_id, safe='')}"))[0] == 204
    assert await one.ids() == []


async def test_ids_that_differ_in_case_or_accents_are_different(store):
    one = await store.start()
    ids = ["job", "JOB", "jób", "jo\u0301b", "Job"]
    for job_id in ids:
        await one.aio.add_job(job_id, job, args=(job_id,), trigger="interval", seconds=10)
    for job_id in ids:
        assert (await one.aio.get_job(job_id)).args == (job_id,)


# Running by hand


async def test_a_job_runs_by_hand_beside_its_schedule(store, clock):
    one = await store.start()
    await one.aio.add_job("id", returns, trigger="interval", seconds=10)
    record = await (await one.aio.run_job("id"))
    assert (record.outcome, record.cause, record.result) == ("succeeded", "manual", "42")
    assert record.scheduled_at == clock.now()
    await one.aio.pause_job("id")
    before = await one.job("id")
    status, shown = await one.rest("POST", "/jobs/id/run")
    assert (status, shown) == (200, before)
    await store.poll()
    assert await one.outcomes("id") == ["succeeded", "succeeded"]


async def test_a_run_that_was_awaited_has_ended_in_the_records(store):
    one = await store.start()
    await one.aio.add_job("id", returns, trigger="interval", hours=1)
    await one.aio.add_job("fails", fails, trigger="interval", hours=1)
    for job_id, outcome in (("id", "succeeded"), ("fails", "failed")):
        handle = await one.aio.run_job(job_id)
        await handle.wait()
        record = await one.aio.run(handle.run_id)
        assert (record.outcome, record.result) == (outcome, "42" if job_id == "id" else None)
        assert [(r.run_id, r.outcome) for r in (await one.aio.runs(job_id)).items] == [(handle.run_id, outcome)]
        assert [r.run_id for r in (await one.aio.runs(outcome=outcome)).items] == [handle.run_id]
        assert (await one.aio.runs(outcome="running")).items == ()
        assert [r.outcome for r in await one.aio.attempts(record)] == [outcome]
        with pytest.raises(RunOver):
            await one.aio.cancel_run(handle.run_id)
    assert (await one.rest("POST", "/jobs/id/run"))[0] == 200
    assert [item["outcome"] for item in (await one.rest("GET", "/jobs/id/runs"))[1]["items"]] == ["succeeded"] * 2


async def test_a_failing_run_by_hand_says_why(store):
    one = await store.start()
    await one.aio.add_job("id", fails, trigger="interval", seconds=10)
    with pytest.raises(LookupError, match="not there"):
        await (await one.aio.run_job("id"))
    status, answer = await one.rest("POST", "/jobs/id/run")
    assert (status, answer["error_message"]) == (500, "Job id failed: not there")


async def test_a_run_by_hand_counts_among_the_instances(store):
    one = await store.start()
    await one.aio.add_job("id", waits, trigger="interval", seconds=10)
    handle = await one.aio.run_job("id")
    with pytest.raises(OverlapForbidden, match=handle.run_id):
        await one.aio.run_job("id")
    status, answer = await one.rest("POST", "/jobs/id/run")
    assert (status, handle.run_id in answer["error_message"]) == (409, True)
    await store.advance(10)
    gate.set()
    assert (await handle).outcome == "succeeded"
    await store.advance(10)
    assert sorted(await one.outcomes("id")) == ["skipped", "succeeded", "succeeded"]


# What comes back


TRIGGERS: list[dict[str, Any]] = [
    {"trigger": "date", "run_date": "2026-03-02T13:00:00.123456+00:00"},
    {"trigger": "date", "run_date": "2026-03-02T14:00:00", "timezone": "Europe/Berlin"},
    {"trigger": "interval", "weeks": 1, "days": 2, "hours": 3, "minutes": 4, "seconds": 5, "jitter": 6},
    {"trigger": "interval", "seconds": 0.5, "start_date": "2026-03-02T13:00:01+01:00", "timezone": "Europe/Berlin"},
    {"trigger": "interval", "hours": 1, "end_date": "2027-03-02T13:00:00+00:00"},
    {"trigger": "cron", "minute": "*/5", "hour": "9-17", "day_of_week": "mon-fri", "timezone": "America/New_York"},
    {"trigger": "cron", "year": "2026-2030", "month": "1-12/2", "day": "last", "second": "0,30", "jitter": 3},
    {"trigger": "cron", "hour": 3, "start_date": "2026-03-03T00:00:00+00:00", "end_date": "2027-01-01T00:00:00+00:00"},
    {"trigger": "calendarinterval", "months": 1, "hour": 6, "minute": 30, "start_date": "2026-01-31", "jitter": 60},
    {"trigger": "calendarinterval", "years": 1, "weeks": 2, "end_date": "2036-01-31", "timezone": "Asia/Tokyo"},
    {
        "trigger": "or",
        "jitter": 5,
        "triggers": [{"trigger": "interval", "hours": 2}, {"trigger": "cron", "hour": 12, "timezone": "Europe/Berlin"}],
    },
    {
        "trigger": "and",
        "triggers": [
            {"trigger": "cron", "hour": 15},
            {"trigger": "or", "triggers": [{"trigger": "cron", "hour": "15-16", "timezone": "UTC"}]},
        ],
    },
]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: f"{trigger['trigger']}-{len(str(trigger))}")
async def test_a_trigger_that_was_shown_can_be_sent_back_and_changes_nothing(store, trigger):
    one = await store.start()
    status, added = await one.rest("POST", "/jobs", json={"id": "id", "func": f"{__name__}:job", **trigger})
    assert status == 200, added
    await store.advance(0.25)
    shown = await one.job("id")
    assert shown == added
    status, changed = await one.rest("PATCH", "/jobs/id", json=shown)
    assert (status, changed) == (200, shown)
    again = {key: value for key, value in shown.items() if key not in ("version", "id")} | {"id": "again"}
    status, copied = await one.rest("POST", "/jobs", json=again)
    assert status == 200, copied
    assert {**copied, "id": "id"} == shown


ARGUMENTS: list[Any] = [
    None, True, False, 0, -1, 2**70, 1.5, float("inf"), "", "ü🙂\x00\n", [], [1, [2, (3,)]], (), (1, (2, [3])),
    {}, {"a": {"b": [1]}}, {"$datetime": "no tag"}, {1: 2, "a": (None,)}, b"", b"\x00\xff",
    datetime(2026, 1, 2, 3, 4, 5, 678901), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), date(2026, 1, 2), time(3, 4, 5, 6),
    timedelta(days=-1, microseconds=1), Decimal("1.10"), UUID(int=7),
]  # fmt: skip


async def test_arguments_of_every_type_reach_the_job_and_come_back_over_rest(store):
    one = await store.start()
    kwargs = {f"k{number}": value for number, value in enumerate(ARGUMENTS)}
    added = await one.aio.add_job("id", job, args=ARGUMENTS, kwargs=kwargs, trigger="interval", seconds=10)
    found = await one.aio.get_job("id")
    for kept in (added, found):
        assert (repr(kept.args), repr(kept.kwargs)) == (repr(tuple(ARGUMENTS)), repr(kwargs))
    shown = await one.job("id")
    status, changed = await one.rest("PATCH", "/jobs/id", json=shown)
    assert (status, changed) == (200, shown)
    body = {key: shown[key] for key in ("func", "args", "kwargs", "trigger", "seconds")} | {"id": "copy"}
    status, copied = await one.rest("POST", "/jobs", json=body)
    assert (status, copied["args"], copied["kwargs"]) == (200, shown["args"], shown["kwargs"])
    await store.advance(10)
    assert [repr(args) for args in ran] == [repr(tuple(ARGUMENTS))] * 2


@pytest.mark.parametrize(
    "trigger",
    [
        {"trigger": "date", "run_date": "2026-03-02T13:00:05", "timezone": "Europe/Berlin"},
        {"trigger": "or", "triggers": [{"trigger": "cron", "hour": 13, "second": 5, "timezone": "Europe/Berlin"}]},
        {"trigger": "and", "triggers": [{"trigger": "cron", "hour": 13, "second": 5, "timezone": "Europe/Berlin"}]},
    ],
    ids=lambda trigger: trigger["trigger"],
)
async def test_fires_are_told_in_the_zone_of_the_trigger(store, trigger):
    one = await store.start()
    body = {"id": "id", "func": f"{__name__}:told", **trigger}
    assert (await one.rest("POST", "/jobs", json=body))[1]["next_run_time"] == "2026-03-02T13:00:05+01:00"
    assert (await one.job("id"))["next_run_time"] == "2026-03-02T13:00:05+01:00"
    await store.advance(5)
    assert ran == [("2026-03-02T13:00:05+01:00",)]


# Time


async def test_a_one_shot_job_fires_once_and_is_gone(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="date", run_date=at(clock, 5))
    await store.advance(4)
    assert ran == []
    await store.advance(10)
    assert len(ran) == 1
    assert await one.ids() == []
    assert (await one.rest("GET", "/jobs/id"))[0] == 404
    await one.aio.add_job("id", job, trigger="date", run_date=at(clock, 20))
    await store.advance(10)
    assert (len(ran), await one.ids()) == (2, [])


async def test_a_schedule_with_an_end_ends_there(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, end_date=at(clock, 25))
    await store.advance(60)
    assert (len(ran), await one.ids()) == (2, [])


async def test_fires_come_at_their_time_and_each_leaves_a_record(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.advance(35)
    records = await one.records("id")
    assert [(record.outcome, record.scheduled_at) for record in records] == [
        ("succeeded", at(clock, seconds)) for seconds in (10, 20, 30)
    ]
    assert [record.started_at for record in records] == [at(clock, seconds) for seconds in (10, 20, 30)]


async def test_a_fire_that_comes_too_late_is_missed(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="date", run_date=at(clock, 10), misfire_grace_time=5)
    await store.jump(16)
    [record] = await one.records("id")
    assert (record.outcome, record.scheduled_at, record.fires) == ("missed", at(clock, 10), 1)
    assert (ran, await one.ids()) == ([], [])


async def test_fires_that_came_while_nobody_looked_are_coalesced_into_the_last(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, misfire_grace_time=None)
    await store.jump(35)
    lapsed, run = sorted(await one.records("id"), key=lambda record: record.scheduled_at)
    assert (lapsed.outcome, lapsed.fires) == ("coalesced", 2)
    assert (lapsed.first_scheduled_at, lapsed.scheduled_at) == (at(clock, 10), at(clock, 20))
    assert (run.outcome, run.scheduled_at) == ("succeeded", at(clock, 30))
    assert len(ran) == 1


async def test_fires_that_are_all_too_late_are_missed_together_and_the_schedule_goes_on(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await store.jump(35)
    [record] = await one.records("id")
    assert (record.outcome, record.fires, record.scheduled_at) == ("missed", 3, at(clock, 30))
    assert (await one.aio.get_job("id")).next_run_time == at(clock, 40)


async def test_a_job_that_does_not_coalesce_runs_each_fire_that_is_in_time(store, clock):
    one = await store.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, misfire_grace_time=18, coalesce=False)
    await store.jump(45)
    found = sorted((r.scheduled_at, r.outcome, r.fires) for r in await one.records("id"))
    assert found == [
        (at(clock, 20), "missed", 2),
        (at(clock, 30), "succeeded", 1),
        (at(clock, 40), "succeeded", 1),
    ]


async def test_a_fire_that_meets_one_that_still_runs_is_skipped(store):
    one = await store.start()
    await one.aio.add_job("id", waits, trigger="interval", seconds=10)
    await store.advance(25)
    assert await one.outcomes("id") == ["running", "skipped"]
    gate.set()
    await store.advance(10)
    assert await one.outcomes("id") == ["succeeded", "skipped", "succeeded"]


# Over restarts, and between processes: SQL alone


REFUSED = [
    ("x" * 192, "at most 191 characters"),
    ("a\0b", "without NUL"),
    ("blank ", "no blanks at its end"),
    ("", "expected a non-empty string"),
]


@pytest.mark.parametrize(("job_id", "expected"), REFUSED, ids=[f"{job_id[:5]!a}" for job_id, _ in REFUSED])
async def test_an_id_that_not_every_database_could_keep_is_refused(cluster, job_id, expected):
    one = await cluster.start()
    with pytest.raises(InvalidDefinition, match=expected):
        await one.aio.add_job(job_id, job, trigger="interval", seconds=10)
    body = {"id": job_id, "func": f"{__name__}:job", "trigger": "interval", "seconds": 10}
    status, answer = await one.rest("POST", "/jobs", json=body)
    assert (status, expected in answer["error_message"]) == (400, True)
    assert await one.ids() == []


async def test_half_of_a_surrogate_pair_is_refused_as_an_id(cluster):
    one = await cluster.start()
    with pytest.raises(InvalidDefinition, match="halves of surrogate pairs"):
        await one.aio.add_job("\ud800", job, trigger="interval", seconds=10)
    content = f'{{"id": "\\ud800", "func": "{__name__}:job", "trigger": "interval", "seconds": 10}}'
    assert (await one.rest("POST", "/jobs", data=content))[0] == 400


async def test_jobs_and_pauses_survive_a_restart(cluster, clock):
    one = await cluster.start()
    await one.aio.add_job("kept", job, args=(1,), trigger="interval", seconds=10, name="Kept", max_instances=4)
    await one.aio.add_job("paused", job, trigger="interval", seconds=10)
    await cluster.advance(3)
    await one.aio.pause_job("paused")
    before = [await one.job("kept"), await one.job("paused")]
    two = await cluster.restart(one)
    assert [await two.job("kept"), await two.job("paused")] == before
    await cluster.advance(8)
    assert ran == [(1,)]
    await two.aio.resume_job("paused")
    assert (await two.aio.get_job("paused")).next_run_time == at(clock, 20)


async def test_a_pause_of_the_scheduler_survives_a_restart_and_start_does_not_lift_it(cluster):
    one = await cluster.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.pause()
    two = await cluster.restart(one)
    assert (await two.rest("GET", ""))[1]["state"] == "paused"
    await cluster.advance(15)
    assert ran == []
    await two.aio.resume()
    await cluster.advance(10)
    assert len(ran) == 1


async def test_what_came_due_while_no_process_ran_is_judged_by_the_misfire_rule(cluster, clock):
    one = await cluster.start()
    await one.aio.add_job("late", job, args=("late",), trigger="interval", seconds=10)
    await one.aio.add_job("patient", job, args=("patient",), trigger="interval", seconds=10, misfire_grace_time=None)
    await cluster.stop(one)
    clock.jump(25)
    two = await cluster.start()
    assert ran == [("patient",)]
    assert await two.outcomes("late") == ["missed"]
    assert sorted(await two.outcomes("patient")) == ["coalesced", "succeeded"]


async def test_two_processes_see_each_others_changes(cluster, clock):
    one, two = await cluster.start(), await cluster.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    assert await two.job("id") == await one.job("id")
    await two.aio.modify_job("id", name="New", trigger="interval", seconds=20)
    assert ((await one.job("id"))["name"], (await one.job("id"))["seconds"]) == ("New", 20)
    await two.aio.pause_job("id")
    assert (await one.job("id"))["state"] == "paused"
    await one.aio.resume_job("id")
    assert (await two.job("id"))["state"] == "scheduled"
    with pytest.raises(DuplicateJob):
        await two.aio.add_job("id", job, trigger="interval", seconds=10)
    await two.aio.remove_job("id")
    assert await one.ids() == []


async def test_a_change_through_one_process_holds_for_the_fires_of_the_other(cluster, clock):
    one, two = await cluster.start(), await cluster.start(paused=True)
    await two.aio.add_job("id", job, args=(1,), trigger="interval", seconds=10)
    await cluster.advance(10)
    await two.aio.modify_job("id", args=(2,))
    await cluster.advance(10)
    await two.aio.modify_job("id", next_run_time=at(clock, 23))
    await cluster.advance(5)
    await two.aio.pause_job("id")
    await cluster.advance(20)
    await two.aio.resume_job("id")
    await cluster.advance(10)
    await two.aio.remove_job("id")
    await cluster.advance(20)
    assert ran == [(1,), (2,), (2,), (2,)]
    assert {record.worker for record in await one.records("id")} == {one.scheduler.scheduler.runner.worker}


@pytest.mark.parametrize("verb", ["modify_job", "resume_job"])
async def test_the_pump_is_woken_for_a_change_once_that_can_be_seen(cluster, clock, monkeypatch, verb):
    one = await cluster.start()
    soon = at(clock, 10)
    await one.aio.add_job("id", job, trigger="date", run_date=soon, next_run_time=None)
    seen = []
    monkeypatch.setattr(
        one.scheduler.scheduler, "wakeup", lambda: seen.extend(cluster.query("SELECT next_us FROM {p}jobs"))
    )
    await getattr(one.aio, verb)("id", **({"next_run_time": soon} if verb == "modify_job" else {}))
    assert seen == [(micros(soon),)]


class Undone(Exception):
    """Ends a transaction."""


@pytest.mark.parametrize("fails", [False, True], ids=["repeated", "failed"])
async def test_a_change_is_told_as_often_as_it_was_made(cluster, monkeypatch, fails):
    one = await cluster.start()
    await one.aio.add_job("id", job, trigger="interval", hours=1)
    heard = []
    one.scheduler.add_listener(heard.append, EVENT_JOB_MODIFIED)
    database = one.slot.store.database
    transact = database.transact

    def interrupted(op, *, write=True):
        def undone(tx):
            op(tx)
            raise Undone

        if write and "perform" in op.__qualname__:
            with suppress(Undone):
                transact(undone)
            if fails:
                raise DatabaseFailure("the disk is full")
        return transact(op, write=write)

    monkeypatch.setattr(database, "transact", interrupted)
    with pytest.raises(StoreUnavailable) if fails else nullcontext():
        await one.aio.modify_job("id", name="New")
    monkeypatch.undo()
    await cluster.rest()
    assert (len(heard), (await one.job("id"))["name"]) == ((0, "id") if fails else (1, "New"))


async def test_a_job_that_gets_another_schedule_while_it_is_resumed_stays(cluster, clock, monkeypatch):
    one, two = await cluster.start(), await cluster.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10, end_date=at(clock, 15), next_run_time=None)
    await cluster.advance(20)
    perform, changed = one.slot.perform, []

    def then_changed(op, *, write=True):
        done = perform(op, write=write)
        if write:
            with suppress(JobNotFound):
                changed.append(two.scheduler.scheduler.modify_job("id", trigger="interval", seconds=5))
        return done

    monkeypatch.setattr(one.slot, "perform", then_changed)
    await one.aio.resume_job("id")
    assert await two.ids() == [job.id for job in changed]


async def test_each_fire_is_claimed_by_one_of_the_processes(cluster):
    processes = [await cluster.start() for _ in range(3)]
    for number in range(10):
        await processes[0].aio.add_job(f"job-{number}", job, args=(number,), trigger="interval", seconds=2)
    await cluster.advance(11)
    assert sorted(ran) == sorted((number,) for number in range(10) for _ in range(5))


async def test_the_instances_of_a_job_are_counted_over_all_processes(cluster):
    one, two = await cluster.start(), await cluster.start()
    await one.aio.add_job("id", waits, trigger="interval", seconds=10)
    handle = await one.aio.run_job("id")
    with pytest.raises(OverlapForbidden, match=handle.run_id):
        await two.aio.run_job("id")
    assert (await two.rest("POST", "/jobs/id/run"))[0] == 409
    gate.set()
    await handle
    await cluster.poll()
    assert (await (await two.aio.run_job("id"))).outcome == "succeeded"


async def test_a_run_that_has_ended_here_does_not_count_although_its_end_is_still_to_be_written_down(cluster):
    one = await cluster.start()
    await one.aio.add_job("id", returns, trigger="interval", seconds=10)
    written, round_ = threading.Event(), one.slot.store.round

    def late(*args: Any) -> Any:
        written.wait()
        return round_(*args)

    one.slot.store.round = late
    for _ in range(3):
        assert (await (await one.aio.run_job("id"))).outcome == "succeeded"
    written.set()
    await cluster.poll()
    assert await one.outcomes("id") == ["succeeded"] * 3


async def test_pausing_the_scheduler_through_one_process_holds_for_all(cluster):
    one, two = await cluster.start(), await cluster.start()
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.pause()
    await cluster.advance(15)
    assert ran == []
    assert (await two.rest("GET", ""))[1]["state"] == "paused"
    await two.aio.resume()
    await cluster.advance(10)
    assert (len(ran), (await one.rest("GET", ""))[1]["state"]) == (1, "running")
