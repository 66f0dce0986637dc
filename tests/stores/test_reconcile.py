"""Deploys: what the code declares is brought into the shared store, by many processes and from two versions at once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from quart import Quart
from sqlalchemy.exc import OperationalError

from quart_sched import APScheduler, Scheduler
from quart_sched.engine import deployment
from quart_sched.engine.declarations import Declared
from quart_sched.errors import DeclaredJob, DuplicateJob
from quart_sched.model import state
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.reconcile import Declaration, Reconciled

pytestmark = pytest.mark.integration  # there is a database in each

ran: list[tuple[Any, ...]] = []
JOBS = ("jobs", "changes", "decls", "runs", "live")
"""The tables that a reconcile writes to beside its own session."""


async def job(*args: Any) -> None:
    ran.append(args)


async def other(*args: Any) -> None: ...


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def declares(**jobs: dict[str, Any]) -> Callable[[APScheduler], None]:
    """Return code that declares jobs: the options of each by its id, a trigger of 10 s where there is none."""

    def declare(scheduler: APScheduler) -> None:
        for job_id, options in jobs.items():
            trigger = {} if "trigger" in options else {"trigger": "interval", "seconds": 10}
            scheduler.add_job(job_id, **{"func": job, **trigger, **options})

    return declare


def at(clock: Any, seconds: float) -> datetime:
    moment: datetime = clock._origin + timedelta(seconds=seconds)
    return moment


# One process after the other


async def test_what_is_declared_is_added_at_the_start(cluster, clock):
    one = await cluster.start(declares(a={"args": (1,)}, b={"next_run_time": None}))
    shown = await one.job("a")
    assert (shown["source"], shown["modified"], shown["paused_by"], shown["state"]) == (
        "declared", False, None, "scheduled",
    )  # fmt: skip
    assert shown["next_run_time"] == at(clock, 10).isoformat()
    assert (await one.job("b"))["state"] == "paused"
    await cluster.advance(10)
    assert ran == [(1,)]


async def test_decorated_and_configured_jobs_are_declared_like_the_others(cluster):
    def declare(scheduler: APScheduler) -> None:
        scheduler.task("interval", seconds=10, id="decorated")(job)

    configured = {"id": "configured", "func": f"{__name__}:job", "trigger": "interval", "seconds": 10}
    one = await cluster.start(declare, JOBS=[configured])
    await cluster.advance(4)
    before = [await one.job("decorated"), await one.job("configured")]
    assert [shown["source"] for shown in before] == ["declared", "declared"]
    one = await cluster.restart(one, declare, JOBS=[configured])
    assert [await one.job("decorated"), await one.job("configured")] == before
    one = await cluster.restart(one, JOBS=[])
    assert [(await one.job(job_id))["paused_by"] for job_id in ("decorated", "configured")] == ["prune", "prune"]


async def test_an_unchanged_declaration_keeps_its_next_fire_and_pause(cluster, clock):
    code = declares(a={"args": (1,)}, paused={})
    one = await cluster.start(code)
    await cluster.advance(13)
    await one.aio.pause_job("paused")
    before = cluster.contents("jobs", "changes")
    one = await cluster.restart(one, code)
    assert cluster.contents("jobs", "changes") == before
    assert (await one.aio.get_job("a")).next_run_time == at(clock, 20)
    assert (await one.job("paused"))["state"] == "paused"
    await cluster.advance(7)
    assert ran == [(1,), (), (1,)]


async def test_changed_options_leave_the_next_fire_and_a_changed_trigger_moves_it(cluster, clock):
    one = await cluster.start(declares(options={"args": (1,)}, trigger={}))
    await cluster.advance(4)
    one = await cluster.restart(
        one,
        declares(options={"args": (2,), "name": "New", "func": other}, trigger={"trigger": "interval", "seconds": 20}),
    )
    options, trigger = await one.aio.get_job("options"), await one.aio.get_job("trigger")
    assert (options.args, options.name, options.func, options.next_run_time) == ((2,), "New", other, at(clock, 10))
    assert (trigger.trigger.interval_length, trigger.next_run_time) == (20, at(clock, 24))


async def test_a_humans_pause_stays_when_the_declaration_changes(cluster, clock):
    one = await cluster.start(declares(options={}, trigger={}))
    for job_id in ("options", "trigger"):
        await one.aio.pause_job(job_id)
    one = await cluster.restart(one, declares(options={"args": (2,)}, trigger={"trigger": "interval", "seconds": 20}))
    options, trigger = await one.aio.get_job("options"), await one.aio.get_job("trigger")
    assert (options.args, options.next_run_time) == ((2,), None)
    assert (trigger.trigger.interval_length, trigger.next_run_time) == (20, None)
    await cluster.advance(30)
    assert ran == []
    await one.aio.resume_job("trigger")
    await cluster.advance(20)
    assert len(ran) == 1


async def test_a_changed_trigger_does_not_repeat_the_fire_of_this_moment(cluster, clock):
    one = await cluster.start(declares(a={}))
    await cluster.advance(10)
    start = {"start_date": at(clock, 0)}
    one = await cluster.restart(one, declares(a={"trigger": "interval", "seconds": 5, **start}))
    assert (len(ran), (await one.aio.get_job("a")).next_run_time) == (1, at(clock, 15))


async def test_a_next_fire_that_is_declared_anew_counts(cluster, clock):
    one = await cluster.start(declares(moved={}, paused={}))
    code = declares(moved={"next_run_time": at(clock, 3)}, paused={"next_run_time": None})
    one = await cluster.restart(one, code)
    assert (await one.aio.get_job("moved")).next_run_time == at(clock, 3)
    assert (await one.job("paused"))["state"] == "paused"
    await cluster.advance(5)
    one = await cluster.restart(one, code)
    assert (await one.aio.get_job("moved")).next_run_time == at(clock, 13)
    assert len(ran) == 1


async def test_a_job_that_is_declared_to_fire_at_once_does_so_once_when_it_is_new_or_changed(cluster, clock):
    def code(*args: int) -> Callable[[APScheduler], None]:
        def declare(scheduler: APScheduler) -> None:
            now = {"next_run_time": clock.now(), "args": args}
            scheduler.add_job("a", job, trigger="interval", hours=1, **now)
            clock.jump(5)  # an app that takes its time to start

        return declare

    one = await cluster.start(code(1))
    two = await cluster.start(code(1))
    await cluster.advance(5)
    assert ran == [(1,)]
    await cluster.stop(two)
    one = await cluster.restart(one, code(1))
    await load(one, "late", trigger="interval", hours=1, next_run_time=clock.now(), args=(2,))
    await cluster.advance(5)
    one = await cluster.restart(one, code(1))
    await load(one, "late", trigger="interval", hours=1, next_run_time=clock.now(), args=(2,))
    await cluster.advance(5)
    assert ran == [(1,), (2,)]
    assert len(cluster.query("SELECT hash FROM {p}decls")) == 1
    await cluster.restart(one, code(3))
    await cluster.advance(5)
    assert ran == [(1,), (2,), (3,)]


@pytest.mark.parametrize(
    "changed",
    [{"SCHEDULER_TIMEZONE": "Europe/Berlin"}, {"SCHEDULER_JOB_DEFAULTS": {"max_instances": 3}}],
    ids=["timezone", "defaults"],
)
async def test_another_default_zone_or_other_job_defaults_change_a_declaration(cluster, changed):
    code = declares(a={"trigger": "cron", "hour": 15})
    one = await cluster.start(code)
    before = await one.job("a")
    one = await cluster.restart(one, code, **changed)
    after = await one.job("a")
    assert after["version"] == before["version"] + 1
    different = {key for key in before if before[key] != after[key]} - {"version"}
    zoned = {"timezone", "next_run_time", "trigger_description"}
    expected = {"max_instances"} if "SCHEDULER_JOB_DEFAULTS" in changed else zoned
    assert different == expected


async def test_a_default_that_the_job_overrides_changes_nothing(cluster):
    code = declares(a={"max_instances": 2})
    one = await cluster.start(code)
    before = await one.job("a")
    one = await cluster.restart(one, code, SCHEDULER_JOB_DEFAULTS={"max_instances": 3})
    assert await one.job("a") == before


async def test_the_order_in_which_jobs_are_declared_does_not_matter(cluster):
    one = await cluster.start(declares(a={}, b={}))
    before = cluster.contents(*JOBS)
    await cluster.restart(one, declares(b={}, a={}))
    after = cluster.contents(*JOBS)
    del before["decls"], after["decls"]
    assert after == before


# What is declared no longer


async def test_a_job_that_is_declared_no_longer_is_paused_and_lifted_when_it_is_declared_again(cluster, clock, caplog):
    one = await cluster.start(declares(kept={}, gone={}))
    one = await cluster.restart(one, declares(kept={}))
    shown = await one.job("gone")
    assert (shown["state"], shown["paused_by"], shown["next_run_time"]) == ("paused", "prune", None)
    assert "No longer declared (SCHEDULER_PRUNE is 'pause'): gone" in caplog.text
    await cluster.advance(20)
    assert len(ran) == 2
    one = await cluster.restart(one, declares(kept={}, gone={}))
    shown = await one.job("gone")
    assert (shown["state"], shown["paused_by"], shown["next_run_time"]) == (
        "scheduled",
        None,
        at(clock, 30).isoformat(),
    )


async def test_declaring_again_lifts_the_prune_alone(cluster):
    one = await cluster.start(declares(gone={}))
    await one.aio.pause_job("gone")
    one = await cluster.restart(one)
    one = await cluster.restart(one, declares(gone={}))
    shown = await one.job("gone")
    assert (shown["state"], shown["paused_by"]) == ("paused", "code")
    await cluster.advance(20)
    assert ran == []


async def test_a_change_by_hand_of_a_pruned_job_is_no_pause(cluster):
    code = declares(gone={})
    one = await cluster.start(code)
    one = await cluster.restart(one)
    status, shown = await one.rest("PATCH", "/jobs/gone", json={"name": "New"})
    assert (status, shown["name"], shown["state"], shown["paused_by"]) == (200, "New", "paused", "prune")
    one = await cluster.restart(one, code)
    assert (await one.job("gone"))["state"] == "scheduled"


async def test_a_trigger_that_was_changed_by_hand_stays_over_prune_and_return(cluster, clock):
    code = declares(gone={})
    one = await cluster.start(code)
    await one.aio.modify_job("gone", trigger="interval", seconds=25)
    one = await cluster.restart(one)
    one = await cluster.restart(one, code)
    shown = await one.job("gone")
    assert (shown["seconds"], shown["modified"]) == (25, True)
    assert shown["next_run_time"] == at(clock, 25).isoformat()


async def test_a_pruned_job_that_was_resumed_by_hand_goes_on(cluster):
    one = await cluster.start(declares(gone={}))
    one = await cluster.restart(one)
    await one.aio.resume_job("gone")
    assert ((await one.job("gone"))["state"], (await one.job("gone"))["paused_by"]) == ("scheduled", None)
    two = await cluster.start()
    await cluster.stop(one)
    await cluster.advance(10)
    assert (len(ran), (await two.job("gone"))["state"]) == (1, "scheduled")
    assert (await two.rest("DELETE", "/jobs/gone"))[0] == 204


async def test_with_remove_a_job_that_is_declared_no_longer_is_removed(cluster, caplog):
    one = await cluster.start(declares(kept={}, gone={}))
    one = await cluster.restart(one, declares(kept={}), SCHEDULER_PRUNE="remove")
    assert await one.ids() == ["kept"]
    assert "No longer declared (SCHEDULER_PRUNE is 'remove'): gone" in caplog.text
    one = await cluster.restart(one, declares(kept={}, gone={}), SCHEDULER_PRUNE="remove")
    assert (await one.job("gone"))["state"] == "scheduled"


async def test_with_remove_what_was_paused_before_is_removed_too(cluster):
    one = await cluster.start(declares(gone={}))
    one = await cluster.restart(one)
    one = await cluster.restart(one, SCHEDULER_PRUNE="remove")
    assert await one.ids() == []


async def test_with_keep_a_job_that_is_declared_no_longer_runs_on(cluster, caplog):
    one = await cluster.start(declares(kept={}, gone={}))
    before = cluster.contents("jobs", "changes")
    one = await cluster.restart(one, declares(kept={}), SCHEDULER_PRUNE="keep")
    assert cluster.contents("jobs", "changes") == before
    assert "No longer declared" not in caplog.text


# By hand


async def test_jobs_that_were_added_at_run_time_are_never_touched(cluster):
    one = await cluster.start(declares(declared={}))
    await one.aio.add_job("aio", job, trigger="interval", seconds=10)
    body = {"id": "rest", "func": f"{__name__}:job", "trigger": "interval", "seconds": 10}
    assert (await one.rest("POST", "/jobs", json=body))[0] == 200
    before = [await one.job("aio"), await one.job("rest")]
    assert [shown["source"] for shown in before] == ["added", "added"]
    for prune in ("pause", "remove", "keep"):
        one = await cluster.restart(one, SCHEDULER_PRUNE=prune)
        assert [await one.job("aio"), await one.job("rest")] == before


async def test_a_job_whose_arguments_are_too_large_is_refused_and_the_others_come_in(cluster, caplog):
    one = await cluster.start(declares(small={}))
    too_large = {"args": ["x" * state.MAX_DEFINITION]}
    one = await cluster.restart(one, declares(small=too_large, new=too_large, other={}))
    for job_id in ("small", "new"):
        assert f'Job "{job_id}" cannot be scheduled: job: comes to 3,000,' in caplog.text
    assert sorted(await one.ids()) == ["other", "small"]
    await cluster.advance(15)
    assert ran == [(), ()]


async def test_a_change_by_hand_survives_restarts_until_the_declaration_changes(cluster):
    code = declares(a={"args": (1,)})
    one = await cluster.start(code)
    status, shown = await one.rest("PATCH", "/jobs/a", json={"args": [9], "trigger": "interval", "seconds": 25})
    assert (status, shown["modified"], shown["source"]) == (200, True, "declared")
    one = await cluster.restart(one, code)
    assert await one.job("a") == shown
    one = await cluster.restart(one, declares(a={"args": (2,)}))
    shown = await one.job("a")
    assert (shown["args"], shown["seconds"], shown["modified"]) == ([2], 10, False)


async def test_the_pause_and_resume_of_a_declared_job_do_not_modify_it(cluster):
    one = await cluster.start(declares(a={}))
    assert (await one.rest("POST", "/jobs/a/pause"))[1]["modified"] is False
    assert (await one.rest("POST", "/jobs/a/resume"))[1]["modified"] is False


async def test_a_declared_job_that_is_resumed_when_its_schedule_is_over_is_over(cluster, clock):
    a = {"seconds": 10, "end_date": at(clock, 15)}
    one = await cluster.start(declares(a=a))
    await one.aio.pause_job("a")
    await cluster.advance(20)
    status, shown = await one.rest("POST", "/jobs/a/resume")
    assert (status, shown["state"], await one.ids()) == (200, "ended", [])
    assert [(change.action, change.detail) for change in (await one.aio.changes("a")).items] == [
        ("resume", "its schedule is over"), ("pause", None), ("add", None),
    ]  # fmt: skip
    one = await cluster.restart(one, declares(a=a))
    assert await one.ids() == []


async def test_a_declared_job_cannot_be_deleted_and_an_orphaned_one_can(cluster):
    one = await cluster.start(declares(a={}))
    status, answer = await one.rest("DELETE", "/jobs/a")
    assert (status, "declared in the code" in answer["error_message"]) == (409, True)
    with pytest.raises(DeclaredJob):
        await one.aio.remove_job("a")
    await one.aio.remove_all_jobs()
    assert await one.ids() == ["a"]
    one = await cluster.restart(one)
    assert (await one.rest("DELETE", "/jobs/a"))[0] == 204
    assert await one.ids() == []


async def test_an_id_that_an_added_job_has_is_refused_to_a_declaration(cluster, caplog):
    one = await cluster.start()
    await one.aio.add_job("a", job, args=(1,), trigger="interval", seconds=10)
    before = await one.job("a")
    one = await cluster.restart(one, declares(a={"args": (2,)}, b={}))
    assert await one.job("a") == before
    assert 'Job "a" is declared, but its id is that of a job that was added at run time' in caplog.text
    assert (await one.job("b"))["source"] == "declared"
    await one.aio.remove_job("a")
    one = await cluster.restart(one, declares(a={"args": (2,)}, b={}))
    assert ((await one.job("a"))["source"], (await one.job("a"))["args"]) == ("declared", [2])


async def test_the_id_of_a_declared_job_is_refused_to_one_that_is_added(cluster):
    one = await cluster.start(declares(a={}))
    with pytest.raises(DuplicateJob):
        await one.aio.add_job("a", job, trigger="interval", seconds=20)
    one = await cluster.restart(one)
    with pytest.raises(DuplicateJob):
        await one.aio.add_job("a", job, trigger="interval", seconds=20)


# One-shot jobs


@pytest.mark.parametrize("options", [{}, {"run_date": "2026-03-02T12:00:05+00:00"}], ids=["now", "later"])
async def test_a_declared_one_shot_job_runs_once_ever(cluster, options):
    code = declares(once={"trigger": "date", "misfire_grace_time": None, **options}, steady={"func": other})
    one = await cluster.start(code)
    await cluster.advance(6)
    assert len(ran) == 1
    assert await one.ids() == ["steady"]
    for declare in (code, declares(steady={"func": other}), code):
        one = await cluster.restart(one, declare)
        two = await cluster.start(declare)
        await cluster.advance(6)
        await cluster.stop(two)
    assert (len(ran), await one.ids()) == (1, ["steady"])


async def test_a_one_shot_job_that_is_over_runs_no_more_when_it_was_removed_in_between(cluster):
    code = declares(once={"trigger": "date"})
    one = await cluster.start(code, SCHEDULER_PRUNE="remove")
    await cluster.advance(1)
    one = await cluster.restart(one, SCHEDULER_PRUNE="remove")
    one = await cluster.restart(one, code, SCHEDULER_PRUNE="remove")
    await cluster.advance(1)
    assert (len(ran), await one.ids()) == (1, [])


async def test_another_date_makes_a_one_shot_job_run_again(cluster, clock):
    one = await cluster.start(declares(once={"trigger": "date", "run_date": at(clock, 5)}))
    await cluster.advance(6)
    one = await cluster.restart(one, declares(once={"trigger": "date", "run_date": at(clock, 15)}))
    await cluster.advance(10)
    assert (len(ran), await one.ids()) == (2, [])


async def test_the_id_of_a_one_shot_job_that_is_over_stays_its_own_as_long_as_it_is_declared(cluster):
    code = declares(once={"trigger": "date"})
    one = await cluster.start(code)
    await cluster.advance(1)
    for replacing in (False, True):
        with pytest.raises(DuplicateJob, match="its schedule is over"):
            await one.aio.add_job("once", other, trigger="interval", seconds=10, replace_existing=replacing)
    one = await cluster.restart(one)
    await one.aio.add_job("once", other, trigger="interval", seconds=10)
    assert (await one.job("once"))["source"] == "added"


# Schedules that are over


NEVER = {"trigger": "cron", "day": 31, "month": 2}
NO_MORE = {"trigger": "cron", "hour": 3, "end_date": "2026-03-01"}


@pytest.mark.parametrize("over", [NEVER, NO_MORE], ids=["never", "no more"])
@pytest.mark.parametrize("first", [{}, None], ids=["changed", "new"])
async def test_a_declared_schedule_that_is_over_is_no_pause_and_goes_on_when_it_is_corrected(
    cluster, clock, over, first, caplog
):
    one = await cluster.start(declares() if first is None else declares(a=first))
    one = await cluster.restart(one, declares(a=over), SCHEDULER_PRUNE="keep")
    assert (await one.ids(), 'Job "a" is declared, but its trigger has no fire left' in caplog.text) == ([], True)
    assert "pause" not in [change.action for change in (await one.aio.changes(job_id="a")).items]
    caplog.clear()
    one = await cluster.restart(one, declares(a=over))
    assert (await one.ids(), caplog.text) == ([], "")
    one = await cluster.restart(one, declares(a={"args": (1,)}))
    assert (await one.aio.get_job("a")).next_run_time == at(clock, 10)
    await cluster.advance(10)
    assert ran == [(1,)]


async def test_a_declared_pause_of_a_schedule_that_is_over_is_one(cluster):
    paused = {**NEVER, "next_run_time": None}
    one = await cluster.start(declares(new=paused, changed={}, by_hand={}))
    await one.aio.pause_job("by_hand")
    one = await cluster.restart(one, declares(new=paused, changed=paused, by_hand=NEVER))
    states = {job_id: (await one.job(job_id))["state"] for job_id in ("new", "changed", "by_hand")}
    assert states == dict.fromkeys(states, "paused")


# Tasks that are declared while the scheduler runs


async def load(process: Any, job_id: str = "late", func: Any = job, **options: Any) -> None:
    """Let a process come to the code of a task only now."""
    options = {"trigger": "interval", "seconds": 10} | options
    decorate = process.scheduler.task(options.pop("trigger"), id=job_id, **options)
    await process.scheduler.scheduler.call(partial(decorate, func))


async def test_a_task_that_is_declared_after_the_start_is_so_after_each_start(cluster, clock):
    one = await cluster.start()
    await load(one, args=[1])
    assert (await one.job("late"))["source"] == "added"
    await cluster.advance(4)
    before = cluster.contents("jobs", "changes")
    two = await cluster.start()
    await load(two, args=[1])
    one = await cluster.restart(one)
    await cluster.advance(4)
    await load(one, args=[1])
    assert cluster.contents("jobs", "changes") == before
    await cluster.advance(3)
    assert ran == [(1,)]


async def test_a_change_by_hand_of_such_a_task_holds_until_it_is_written_anew(cluster, clock):
    one = await cluster.start()
    await load(one)
    await one.aio.modify_job("late", trigger="interval", seconds=30, args=[7])
    await one.aio.pause_job("late")
    before = await one.job("late")
    one = await cluster.restart(one)
    await load(one)
    assert await one.job("late") == before
    one = await cluster.restart(one)
    await load(one, args=[8])
    changed = await one.job("late")
    assert (changed["args"], changed["seconds"], changed["state"]) == ([8], 10, "paused")


async def test_such_a_task_fires_what_came_due_before_its_code_was_there(cluster):
    one = await cluster.start()
    await load(one, misfire_grace_time=None)
    await cluster.stop(one)
    await cluster.jump(15)
    one = await cluster.start(SCHEDULER_PRUNE="remove")
    await cluster.advance(1)
    await load(one, misfire_grace_time=None)
    assert len(ran) == 1


@pytest.mark.parametrize("running", [False, True])
async def test_a_second_task_of_one_id_is_refused_in_one_process(cluster, running):
    one = await cluster.start(lambda scheduler: scheduler.task("interval", id="early", seconds=10)(job))
    if running:
        await load(one)
    for job_id in ("early", *(["late"] if running else [])):
        before = await one.job(job_id)
        with pytest.raises(DuplicateJob):
            await load(one, job_id, other, seconds=20)
        assert await one.job(job_id) == before


async def test_a_task_takes_the_place_of_a_job_that_was_added_or_imported(cluster, clock):
    one = await cluster.start()
    await one.aio.add_job("late", other, args=[1], trigger="interval", seconds=10)
    await cluster.advance(4)
    one = await cluster.restart(one)
    await load(one, args=[2])
    assert (await one.aio.get_job("late")).next_run_time == at(clock, 10)
    await cluster.advance(7)
    assert ran == [(2,)]


async def test_a_task_may_be_moved_behind_the_start_and_back(cluster, clock):
    early = declares(late={"args": (1,), "name": "job"}, paused={})
    one = await cluster.start(early)
    await one.aio.pause_job("paused")
    one = await cluster.restart(one)
    assert (await one.job("late"))["paused_by"] == "prune"
    await load(one, args=[1])
    await load(one, "paused")
    for _ in range(2):
        shown = await one.job("late")
        assert (shown["source"], shown["state"], shown["next_run_time"]) == (
            "added", "scheduled", at(clock, 10).isoformat(),
        )  # fmt: skip
        assert (await one.job("paused"))["state"] == "paused"
        one = await cluster.restart(one)
        assert [(await one.job(job_id))["paused_by"] for job_id in ("late", "paused")] == [None, "code"]
    one = await cluster.restart(one, early)
    shown = await one.job("late")
    assert (shown["source"], shown["next_run_time"]) == ("declared", at(clock, 10).isoformat())
    assert ((await one.job("paused"))["source"], (await one.job("paused"))["state"]) == ("declared", "paused")
    await cluster.advance(11)
    assert ran == [(1,)]


# Two versions of the code at once


def old(**options: Any) -> Callable[[APScheduler], None]:
    return declares(changed={"args": ("old",)}, old={}, **options)


def new(**options: Any) -> Callable[[APScheduler], None]:
    return declares(changed={"args": ("new",)}, new={}, **options)


async def declared_args(process: Any) -> Any:
    return (await process.aio.get_job("changed")).args


async def test_a_declaration_that_live_newer_code_has_superseded_is_not_put_back(cluster):
    first = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    assert await declared_args(newer) == ("new",)
    await cluster.advance(1)
    late = await cluster.start(old())  # another process of the old code, as a server starts one for one that ended
    assert await declared_args(late) == ("new",)
    await cluster.stop(first)
    await cluster.advance(10)
    assert await declared_args(newer) == ("new",)


async def test_what_living_code_declares_is_not_pruned(cluster):
    first = await cluster.start(old(), SCHEDULER_PRUNE="remove")
    await cluster.advance(1)
    newer = await cluster.start(new(), SCHEDULER_PRUNE="remove")
    assert sorted(await newer.ids()) == ["changed", "new", "old"]
    assert (await newer.job("old"))["state"] == "scheduled"
    await cluster.stop(first)
    assert sorted(await newer.ids()) == ["changed", "new"]


async def test_old_and_new_code_do_not_alternate(cluster):
    first = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    await cluster.advance(1)
    before = cluster.contents(*JOBS, "meta")
    for process in (first, newer, first, newer):
        await process.scheduler.scheduler.call(
            lambda process=process: deployment.reconcile(process.scheduler.scheduler, process.slot), blocking=True
        )
    assert cluster.contents(*JOBS, "meta") == before
    assert await declared_args(first) == ("new",)


async def test_when_the_newer_code_has_left_the_older_comes_back_into_force(cluster, clock):
    first = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    await cluster.advance(1)
    await cluster.stop(newer)
    await cluster.advance(2)
    assert await declared_args(first) == ("old",)
    shown = await first.job("new")
    assert (shown["state"], shown["paused_by"]) == ("paused", "prune")


async def test_when_the_newer_code_has_died_the_older_comes_back_into_force(cluster):
    first = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    cluster.kill(newer)
    await cluster.advance(40)
    assert await declared_args(first) == ("old",)


async def test_a_rollback_brings_the_older_declarations_back(cluster):
    one = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    await cluster.stop(one)
    assert (await newer.job("old"))["paused_by"] == "prune"
    await cluster.advance(1)
    back = await cluster.start(old())
    assert await declared_args(back) == ("old",)
    assert (await back.job("old"))["state"] == "scheduled"
    assert (await back.job("new"))["state"] == "scheduled"
    await cluster.stop(newer)
    assert (await back.job("new"))["paused_by"] == "prune"
    assert await declared_args(back) == ("old",)


async def test_old_code_that_was_taken_for_dead_does_not_come_back_into_force(cluster):
    first = await cluster.start(old())
    await cluster.advance(1)
    newer = await cluster.start(new())
    await cluster.advance(1)
    before = first.slot.session.id
    [beat] = cluster.query("SELECT beat FROM {p}workers WHERE id = :id", id=before)[0]
    newer.slot.store.reap(before, beat, newer.slot.session)
    await cluster.advance(6)
    assert first.slot.session.id != before
    assert await declared_args(first) == ("new",)


async def test_a_process_that_leaves_just_before_another_looks_for_the_first_time_is_noticed(cluster, monkeypatch):
    newer = await cluster.start(new())
    await cluster.advance(1)
    cluster.kill(newer)
    reconcile = deployment.reconcile
    left = []

    def sees_it_leave(scheduler: Scheduler, slot: Any, **options: Any) -> None:
        reconcile(scheduler, slot, **options)
        if slot is not newer.slot and not left:
            left.append(newer.slot.store.sign_off(newer.slot.session))

    monkeypatch.setattr(deployment, "reconcile", sees_it_leave)
    first = await cluster.start(old())
    assert left
    assert (await first.job("new"))["paused_by"] == "prune"


async def test_a_reconcile_that_has_to_be_repeated_comes_into_force_all_the_same(cluster, monkeypatch):
    first = await cluster.start(old())
    await cluster.advance(1)
    once, failures = Database._once, []

    def fails_first(database: Database, op: Any, write: bool) -> Any:
        def fail(conn: Any) -> Any:
            result = op(conn)
            if isinstance(result, tuple) and isinstance(result[0], Reconciled) and not failures:
                failures.append(result)
                raise OperationalError("", {}, Exception("in the way of others"))
            return result

        return once(database, fail, write)

    monkeypatch.setattr(Database, "_once", fails_first)
    monkeypatch.setattr(type(first.slot.store.database.dialect), "is_retryable", lambda self, error: True)
    newer = await cluster.start(new())
    assert failures
    assert await declared_args(newer) == ("new",)
    [(decl,)] = cluster.query("SELECT decl FROM {p}workers WHERE id = :id", id=newer.slot.session.id)
    assert decl == newer.slot.session.decl


# Many at once


class Gate:
    """Lets threads go on when all of them have come."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.errors: list[BaseException] = []

    def run(self, work: list[Callable[[], Any]]) -> None:
        def enter(call: Callable[[], Any]) -> None:
            self.barrier.wait()
            try:
                call()
            except BaseException as error:
                self.errors.append(error)

        threads = [threading.Thread(target=enter, args=(call,)) for call in work]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert self.errors == []


def bound(cluster: Any, declare: Callable[[APScheduler], None]) -> Any:
    """Return the catalogue of a process whose engine has started and whose pump has not."""
    front = APScheduler(Scheduler(clock=cluster.clock))
    app = Quart("bound")
    app.config.update(SCHEDULER_TIMEZONE="UTC", SCHEDULER_JOBSTORES={"default": cluster.entry})
    front.init_app(app)
    declare(front)
    front.scheduler.catalogue.started = True
    return front.scheduler.catalogue


async def test_many_processes_reconcile_at_once_without_error_or_duplicates(cluster):
    code = [declares(**{f"job-{number}": {} for number in range(50)}) for _ in range(4)]
    code += [declares(**{f"job-{number}": {"args": (1,)} for number in range(25, 75)}) for _ in range(4)]
    for _ in range(3):
        catalogues = [bound(cluster, declare) for declare in code]
        Gate(8).run([lambda one=one: deployment.reconcile(one._scheduler, one.slots["default"]) for one in catalogues])
        assert cluster.query("SELECT COUNT(*) FROM {p}jobs") == [(75,)]
        for catalogue in catalogues:
            slot = catalogue.slots["default"]
            slot.store.sign_off(slot.session)
            catalogue.close_stores()
    added = cluster.query("SELECT job_id, COUNT(*) FROM {p}changes WHERE action = 'add' GROUP BY job_id")
    assert (len(added), {count for _, count in added}) == (75, {1})


async def test_what_two_threads_would_bring_in_is_brought_in_once(cluster, monkeypatch):
    catalogue, looked = bound(cluster, declares(a={})), threading.Event()
    slot, waiting, calls = catalogue.slots["default"], catalogue.declarations.of, []
    original = deployment.reconcile

    def of(alias: str) -> list[Declared]:
        found = waiting(alias)
        looked.set()
        return found

    def reconcile(*args: Any) -> None:
        calls.append(args)
        original(*args)

    monkeypatch.setattr(catalogue.declarations, "of", of)
    monkeypatch.setattr(deployment, "reconcile", reconcile)
    thread = threading.Thread(target=catalogue.apply, args=(slot,))
    with slot.lock:
        thread.start()
        looked.wait(5)
        catalogue.apply(slot)
    thread.join()
    assert len(calls) == 1
    slot.store.sign_off(slot.session)
    catalogue.close_stores()


async def test_ten_thousand_declared_jobs_are_reconciled(cluster):
    catalogue = bound(cluster, declares(a={}))
    slot = catalogue.slots["default"]
    me = deployment.join(catalogue._scheduler, slot)
    [entry] = catalogue.declarations.of("default")

    def declared(options_hash: str) -> list[Declaration]:
        definitions = [replace(entry.definition, id=f"job-{number:05}") for number in range(10_000)]
        entries = [Declared(each, catalogue.declarations.pending(each), "app") for each in definitions]
        return [
            Declaration(
                each.definition.id, "trigger", options_hash, partial(deployment._made, catalogue._scheduler, each)
            )
            for each in entries
        ]

    done = slot.store.reconcile(me, declared("one"), "pause")
    assert (len(done.added), len(done.changed)) == (10_000, 0)
    before = cluster.contents("jobs")
    done = slot.store.reconcile(me, declared("one"), "pause")
    assert (done.added, done.changed, cluster.contents("jobs") == before) == ([], [], True)
    done = slot.store.reconcile(me, declared("two"), "pause")
    assert (len(done.added), len(done.changed)) == (0, 10_000)
    done = slot.store.reconcile(me, declared("two")[:-1], "remove")
    assert done.pruned == ["job-09999"]
    assert cluster.query("SELECT COUNT(*), MIN(version), MAX(version) FROM {p}jobs") == [(9_999, 2, 2)]
    slot.store.sign_off(me)
    catalogue.close_stores()
