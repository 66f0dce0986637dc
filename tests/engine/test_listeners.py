"""Users' listeners: who is called with what, and that none of them harms anything."""

from __future__ import annotations

import asyncio
import contextvars
from datetime import UTC, datetime
from typing import Any

import pytest
from apscheduler import events as aps
from apscheduler.triggers.date import DateTrigger

from quart_sched import Scheduler
from quart_sched.engine.listeners import Listeners
from quart_sched.model.events import JobChanged, RunEnded, RunReturned, RunSubmitted, SchedulerChanged
from quart_sched.model.runs import Run, RunRecord
from tests.names import shown

NOW = datetime(2026, 3, 2, tzinfo=UTC)
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")


def changed(code: int = aps.EVENT_SCHEDULER_PAUSED) -> SchedulerChanged:
    return SchedulerChanged(code)


async def test_listeners_are_called_by_their_mask_plain_or_async():
    got: list[str] = []

    async def coroutine(event: Any) -> None:
        got.append("async")

    listeners = Listeners()
    listeners.add(lambda event: got.append("plain"), aps.EVENT_ALL)
    listeners.add(lambda event: got.append("other"), aps.EVENT_JOB_ADDED)
    listeners.add(coroutine, aps.EVENT_SCHEDULER_PAUSED)
    listeners(changed())
    await listeners.drain(1)
    assert got == ["plain", "async"]


async def test_a_listener_that_fails_is_logged_and_harms_nothing(caplog):
    got: list[int] = []

    def fail(event: Any) -> None:
        raise ValueError("plain trouble")

    async def fail_async(event: Any) -> None:
        raise ValueError("async trouble")

    listeners = Listeners()
    for callback in (fail, fail_async, lambda event: got.append(1)):
        listeners.add(callback, aps.EVENT_ALL)
    listeners(changed())
    await listeners.drain(1)
    assert got == [1]
    assert "plain trouble" in caplog.text
    assert "async trouble" in caplog.text


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3)], ids=shown)
@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_a_listener_that_lets_more_than_an_exception_through_harms_nothing_either(kind, error):
    def fail(event: Any) -> None:
        raise error

    async def fail_async(event: Any) -> None:
        raise error

    got: list[int] = []
    listeners = Listeners()
    for callback in (fail if kind == "plain" else fail_async, lambda event: got.append(1)):
        listeners.add(callback, aps.EVENT_ALL)
    listeners(changed())
    await listeners.drain(1)
    assert got == [1]


def test_ctrl_c_in_a_listener_ends_the_program():
    def fail(event: Any) -> None:
        raise KeyboardInterrupt

    listeners = Listeners()
    listeners.add(fail, aps.EVENT_ALL)
    with pytest.raises(KeyboardInterrupt):
        listeners(changed())


async def test_listeners_do_not_see_the_context_of_the_event():
    got: list[str] = []

    async def coroutine(event: Any) -> None:
        got.append(variable.get())

    listeners = Listeners()
    listeners.add(lambda event: got.append(variable.get()), aps.EVENT_ALL)
    listeners.add(coroutine, aps.EVENT_ALL)
    variable.set("of a request")
    listeners(changed())
    await listeners.drain(1)
    assert got == ["clean", "clean"]


async def test_a_removed_listener_is_not_called_and_an_unknown_one_is_no_error():
    got: list[Any] = []
    listeners = Listeners()
    listeners.add(got.append, aps.EVENT_ALL)
    listeners.remove(got.append)
    listeners.remove(print)
    listeners(changed())
    assert got == []


async def test_listeners_that_take_too_long_are_cancelled_by_the_drain():
    ended: list[str] = []

    async def slow(event: Any) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    listeners = Listeners()
    listeners.add(slow, aps.EVENT_ALL)
    listeners(changed())
    await asyncio.sleep(0)
    await listeners.drain(0)
    await asyncio.sleep(0)
    assert ended == ["cancelled"]


def test_a_coroutine_listener_without_a_loop_is_reported(caplog):
    async def coroutine(event: Any) -> None: ...

    listeners = Listeners()
    listeners.add(coroutine, aps.EVENT_ALL)
    listeners(changed())
    assert "no event loop runs yet" in caplog.text


def test_another_awaitable_without_a_loop_is_reported_too(caplog):
    class Awaitable:
        def __await__(self) -> Any:
            yield

    listeners = Listeners()
    listeners.add(lambda event: Awaitable(), aps.EVENT_ALL)
    listeners(changed())
    assert "no event loop runs yet" in caplog.text


async def test_without_listeners_there_is_nothing_to_drain():
    listeners = Listeners()
    listeners(changed())
    await listeners.drain(0)


async def test_a_listener_may_remove_itself_while_it_is_called():
    got: list[str] = []
    listeners = Listeners()

    def leave(event: Any) -> None:
        got.append("once")
        listeners.remove(leave)

    listeners.add(leave, aps.EVENT_ALL)
    listeners.add(lambda event: got.append("each"), aps.EVENT_ALL)
    listeners(changed())
    listeners(changed())
    assert got == ["once", "each", "each"]


# What they are told


def hear(event: Any) -> Any:
    """Return what a listener is told of an event; None where it is not called."""
    told: list[Any] = [None]
    listeners = Listeners()
    listeners.add(told.append, aps.EVENT_ALL)
    listeners(event)
    return told[-1]


def record(outcome: Any) -> RunRecord:
    return RunRecord("r", "f", "job", NOW, outcome, "schedule", "host:1", traceback="trace")


def ended(outcome: Any) -> Any:
    return hear(RunEnded(record(outcome), "default", "result", ValueError("error")))


@pytest.mark.parametrize(
    ("outcome", "code"),
    [
        ("succeeded", aps.EVENT_JOB_EXECUTED),
        ("failed", aps.EVENT_JOB_ERROR),
        ("cancelled", aps.EVENT_JOB_ERROR),
        ("missed", aps.EVENT_JOB_MISSED),
    ],
)
def test_an_end_becomes_apschedulers_execution_event(outcome, code):
    event = ended(outcome)
    assert type(event) is aps.JobExecutionEvent
    assert (event.code, event.job_id, event.jobstore, event.scheduled_run_time) == (code, "job", "default", NOW)
    assert (event.retval, str(event.exception), event.traceback) == ("result", "error", "trace")


def test_a_skip_becomes_a_max_instances_event_and_a_coalesced_fire_none():
    event = ended("skipped")
    assert (event.code, event.scheduled_run_times) == (aps.EVENT_JOB_MAX_INSTANCES, [NOW])
    assert ended("coalesced") is None


def test_the_other_events_are_apschedulers_own():
    job = Scheduler(timezone="UTC").add_job(print, DateTrigger(NOW), id="job")
    submitted: Any = hear(RunSubmitted(Run(job, NOW, "schedule"), "default"))
    assert (submitted.code, submitted.job_id, submitted.scheduled_run_times) == (aps.EVENT_JOB_SUBMITTED, "job", [NOW])
    added: Any = hear(JobChanged(aps.EVENT_JOB_ADDED, "job", "default"))
    assert (type(added), added.code, added.job_id) == (aps.JobEvent, aps.EVENT_JOB_ADDED, "job")
    gone: Any = hear(SchedulerChanged(aps.EVENT_ALL_JOBS_REMOVED, "second"))
    assert (type(gone), gone.code, gone.alias) == (aps.SchedulerEvent, aps.EVENT_ALL_JOBS_REMOVED, "second")


def test_of_what_apscheduler_does_not_know_no_listener_is_told():
    run = Run(Scheduler(timezone="UTC").add_job(print, DateTrigger(NOW)), NOW, "schedule")
    assert hear(RunReturned(run, "default")) is None


@pytest.mark.parametrize(
    ("mask", "kinds"),
    [
        (aps.EVENT_JOB_ERROR, [RunEnded]),
        (aps.EVENT_JOB_SUBMITTED | aps.EVENT_JOB_MAX_INSTANCES, [RunSubmitted, RunEnded]),
        (aps.EVENT_JOB_REMOVED, [JobChanged]),
        (aps.EVENT_ALL_JOBS_REMOVED, [SchedulerChanged]),
        (aps.EVENT_ALL, [RunSubmitted, RunEnded, JobChanged, SchedulerChanged]),
        (0, []),
    ],
)
def test_listeners_say_which_events_they_want(mask, kinds):
    listeners = Listeners()
    listeners.add(print, mask)
    assert listeners.kinds == kinds
    listeners.add(repr, aps.EVENT_ALL)
    assert len(listeners.kinds) == 4
    listeners.remove(repr)
    assert listeners.kinds == kinds
    listeners.remove(print)
    assert listeners.kinds == []


def test_no_event_is_made_that_no_listener_wants():
    scheduler = Scheduler()
    assert not scheduler.stream.is_read(RunSubmitted)
    scheduler.add_listener(print, aps.EVENT_JOB_ERROR)
    assert not scheduler.stream.is_read(RunSubmitted)
    scheduler.add_listener(repr, aps.EVENT_JOB_SUBMITTED)
    assert scheduler.stream.is_read(RunSubmitted)
    scheduler.remove_listener(repr)
    assert not scheduler.stream.is_read(RunSubmitted)
