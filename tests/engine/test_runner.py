"""How a job is run: where, in which context, how often at once, and what is recorded of it."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import logging
import threading
import weakref
from datetime import timedelta
from typing import Any

import pytest
from apscheduler import events as aps
from quart import Quart, current_app, g

from quart_sched import current_run
from quart_sched.errors import (
    Draining,
    InvalidDefinition,
    JobNotFound,
    NoEventLoop,
    OverlapForbidden,
    RunCancelled,
    RunFailed,
)
from tests.conftest import eventually
from tests.names import shown

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _forget():
    seen.clear()


async def coroutine(*args: Any) -> str:
    seen.append(threading.get_ident())
    return "done"


def function(*args: Any) -> str:
    seen.append(threading.get_ident())
    return "done"


class Callables:
    async def method(self) -> str:
        return await coroutine()

    def plain_method(self) -> str:
        return function()

    async def __call__(self) -> str:
        return await coroutine()


class Unhashable:
    __hash__ = None
    __slots__ = ()

    async def __call__(self) -> str:
        return await coroutine()


@functools.wraps(coroutine)
def wrapper(*args: Any) -> Any:
    return coroutine(*args)


def returns_awaitable() -> Any:
    return coroutine()


ON_LOOP = [coroutine, functools.partial(coroutine, 1), Callables().method, Callables(), Unhashable(), wrapper]
IN_THREAD = [function, functools.partial(function, 1), Callables().plain_method]
THREAD_THEN_LOOP = [lambda: coroutine(), returns_awaitable]


@pytest.mark.parametrize("func", ON_LOOP + THREAD_THEN_LOOP, ids=shown)
async def test_coroutines_of_every_kind_run_on_the_loop(scheduler, app, serve, func):
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job"))
    assert record.outcome == "succeeded"
    assert record.result == "'done'"
    assert seen == [threading.get_ident()]


@pytest.mark.parametrize("func", IN_THREAD, ids=shown)
async def test_plain_functions_of_every_kind_run_in_a_thread(scheduler, app, serve, func):
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job"))
    assert record.result == "'done'"
    assert len(seen) == 1
    assert seen != [threading.get_ident()]


class Large:
    """What a job is made of, or was given."""

    def method(self) -> None: ...

    def __call__(self) -> None: ...


def take(large: Large) -> None: ...


def enclose(large: Large) -> Any:
    @functools.wraps(take)
    def closure() -> None:
        take(large)

    return closure


@pytest.mark.parametrize(
    "make", [lambda large: functools.partial(take, large), lambda large: large.method, lambda large: large, enclose]
)
async def test_what_a_job_is_made_of_is_freed_with_it(scheduler, app, serve, clock, make):
    large = Large()
    kept = weakref.ref(large)
    async with serve(scheduler, app):
        scheduler.add_job("job", make(large), trigger="date")
        await eventually(lambda: scheduler.history.records("job"))
        del large
        await clock.run_due()
        gc.collect()
        assert kept() is None


async def generator():
    yield


@pytest.mark.parametrize("func", [generator, functools.partial(generator), (lambda: (yield))])
def test_generators_are_refused_when_registered(scheduler, func):
    with pytest.raises(InvalidDefinition, match="generator"):
        scheduler.add_job("job", func, trigger="interval", hours=1)


@pytest.mark.parametrize("func", [lambda: generator(), lambda: (x for x in ())])
async def test_a_job_that_returns_a_generator_has_failed_since_nothing_ran(scheduler, app, serve, func):
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        with pytest.raises(TypeError, match="none of its code ran"):
            await (await scheduler.aio.run_job("job"))


async def test_a_function_that_nothing_can_be_told_of_fails_its_runs_and_holds_no_place(scheduler, app, serve, clock):
    class Unhashable:
        def __call__(self) -> None:
            seen.append("ran")

        def __hash__(self) -> int:
            raise LookupError("it has no hash yet")

    async with serve(scheduler, app):
        scheduler.add_job("job", Unhashable(), trigger="interval", seconds=1)
        await clock.advance(seconds=2)
        records = (await scheduler.aio.runs("job")).items
        assert [(record.outcome, record.error_message) for record in records] == [("failed", "it has no hash yet")] * 2
        assert scheduler.scheduler.runner.under_way.runs() == []


# Context


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_a_job_runs_in_the_apps_context_with_current_run(scheduler, app, serve, clock, kind):
    def look() -> None:
        seen.append((current_app.name, current_run.job_id, current_run.attempt, current_run.cancelled))
        seen.append((current_run.scheduled_at, current_run.run_id, current_run.fire_id))
        g.mine = "own"

    async def look_async() -> None:
        look()

    async with serve(scheduler, app):
        due = clock.now() + timedelta(seconds=10)
        scheduler.add_job("job", look if kind == "function" else look_async, trigger="date", run_date=due)
        await clock.advance(seconds=10)
        while not scheduler.history.records():
            await asyncio.sleep(0.001)
    [record] = scheduler.history.records()
    assert record.outcome == "succeeded"
    assert seen[0] == (app.name, "job", 1, False)
    assert seen[1] == (due, record.run_id, record.fire_id)


async def test_outside_of_a_job_there_is_no_current_run():
    with pytest.raises(RuntimeError, match="Not within a job"):
        current_run.job_id  # noqa: B018  # looking it up is the test


async def test_a_job_added_within_a_request_does_not_inherit_its_context(scheduler, app, serve, clock):
    async def look() -> None:
        seen.append(variable.get("clean"))
        variable.set("spoilt by the run before")

    @app.route("/add")
    async def add() -> str:
        variable.set("of the request")
        await scheduler.aio.add_job("job", look, trigger="interval", seconds=1)
        return ""

    async with serve(scheduler, app) as client:
        await client.get("/add")
        await clock.advance(seconds=2)
    assert seen == ["clean", "clean"]


async def test_catch_up_runs_have_contexts_of_their_own(scheduler, app, serve, clock):
    async def look() -> None:
        seen.append(variable.get("clean"))
        variable.set("spoilt")

    async with serve(scheduler, app):
        scheduler.add_job("job", look, trigger="interval", seconds=1, coalesce=False, misfire_grace_time=None)
        scheduler.pause()
        clock.suspend(seconds=3)
        scheduler.resume()
        await clock.run_due()
    assert seen == ["clean"] * 3


# Hooks


@pytest.mark.parametrize("kind", ["coroutine", "function", "awaitable"])
@pytest.mark.parametrize("fails", [False, True])
async def test_hooks_surround_each_run_also_one_that_fails(scheduler, app, serve, kind, fails):
    @scheduler.before_run
    def first() -> None:
        seen.append(("before", 1, current_app.name, current_run.job_id))

    @scheduler.before_run
    async def second() -> None:
        seen.append(("before", 2, current_app.name, current_run.job_id))

    @scheduler.after_run
    async def third() -> None:
        seen.append(("after", 1, current_app.name, current_run.job_id))

    @scheduler.after_run
    def fourth() -> None:
        seen.append(("after", 2, current_app.name, current_run.job_id))

    def job() -> None:
        seen.append("job")
        if fails:
            raise ValueError("as asked")

    async def job_async() -> None:
        job()

    func = {"coroutine": job_async, "function": job, "awaitable": lambda: job_async()}[kind]
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job")).wait()
    assert record.outcome == ("failed" if fails else "succeeded")
    where = (app.name, "job")
    assert seen == [("before", 1, *where), ("before", 2, *where), "job", ("after", 2, *where), ("after", 1, *where)]


@pytest.mark.parametrize("kind", ["coroutine", "function", "awaitable"])
async def test_an_after_hook_that_raises_fails_the_run_and_the_other_hooks_are_called(scheduler, app, serve, kind):
    @scheduler.after_run
    async def close() -> None:
        seen.append("closed")

    @scheduler.after_run
    def push() -> None:
        seen.append("pushed")
        raise OSError("nobody is there")

    @scheduler.after_run
    def count() -> None:
        seen.append("counted")

    func = {"coroutine": coroutine, "function": function, "awaitable": returns_awaitable}[kind]
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        with pytest.raises(OSError, match="nobody is there"):
            await (await scheduler.aio.run_job("job"))
    assert seen[1:] == ["counted", "pushed", "closed"]


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_a_before_hook_that_raises_fails_the_run_and_the_job_is_not_called(scheduler, app, serve, kind):
    @scheduler.before_run
    def refuse() -> None:
        raise PermissionError("not now")

    @scheduler.after_run
    def clean() -> None:
        seen.append("cleaned")

    async with serve(scheduler, app):
        scheduler.add_job("job", coroutine if kind == "coroutine" else function, trigger="interval", hours=1)
        with pytest.raises(PermissionError, match="not now"):
            await (await scheduler.aio.run_job("job"))
    assert seen == ["cleaned"]


# Records and events


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_a_failure_is_recorded_logged_and_told_to_listeners(scheduler, app, serve, kind, caplog):
    def job() -> None:
        raise ValueError("broken thing")

    async def job_async() -> None:
        job()

    told = []
    scheduler.add_listener(told.append, aps.EVENT_JOB_ERROR)
    async with serve(scheduler, app):
        scheduler.add_job("job", job if kind == "function" else job_async, trigger="interval", hours=1)
        with pytest.raises(ValueError, match="broken thing"):
            await (await scheduler.aio.run_job("job"))
    [record] = scheduler.history.records()
    assert (record.outcome, record.error_type, record.error_message) == ("failed", "ValueError", "broken thing")
    assert "raise ValueError" in record.traceback
    assert record.cause == "manual"
    assert record.duration is not None
    assert "broken thing" in caplog.text
    [event] = told
    assert (event.job_id, str(event.exception)) == ("job", "broken thing")


@pytest.mark.parametrize("error", [SystemExit(3), StopIteration(), asyncio.CancelledError()], ids=shown)
async def test_a_plain_function_may_raise_anything_and_the_next_run_goes_on(scheduler, app, serve, error):
    def job() -> None:
        raise error

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        for _ in range(2):
            record = await (await scheduler.aio.run_job("job")).wait()
            assert record.outcome in ("failed", "cancelled")
        assert scheduler.running
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_a_coroutine_that_exits_does_not_end_the_server(scheduler, app, serve):
    async def job() -> None:
        raise SystemExit(3)

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        assert (record.outcome, record.error_type) == ("failed", "SystemExit")
        assert scheduler.running


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_the_exit_of_a_job_does_not_end_whoever_runs_it_by_hand(scheduler, app, serve, kind):
    def job() -> None:
        raise SystemExit(3)

    async def job_async() -> None:
        job()

    async with serve(scheduler, app):
        scheduler.add_job("job", job if kind == "function" else job_async, trigger="interval", hours=1)
        with pytest.raises(RunFailed, match="failed: SystemExit: 3") as raised:
            await (await scheduler.aio.run_job("job"))
        assert isinstance(raised.value.__cause__, SystemExit)
        with pytest.raises(RunFailed, match="failed: SystemExit: 3"):
            await asyncio.to_thread(scheduler.run_job, "job")


@pytest.mark.parametrize("kind", ["coroutine", "function", "awaitable"])
@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_hook_that_exits_fails_the_run_and_does_not_end_the_server(scheduler, app, serve, kind, place):
    async def leave() -> None:
        raise SystemExit(3)

    (scheduler.before_run if place == "before" else scheduler.after_run)(leave)
    func = {"coroutine": coroutine, "function": function, "awaitable": returns_awaitable}[kind]
    async with serve(scheduler, app):
        scheduler.add_job("job", func, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        assert (record.outcome, record.error_type) == ("failed", "SystemExit")


async def test_a_teardown_of_the_app_context_that_raises_fails_the_run(scheduler, app, serve):
    @app.teardown_appcontext
    async def teardown(error: Any) -> None:
        if current_app.config.get("FAIL"):
            raise OSError("commit failed")

    async with serve(scheduler, app):
        app.config["FAIL"] = True
        scheduler.add_job("job", coroutine, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        app.config["FAIL"] = False
    assert record.outcome == "failed"
    assert "commit failed" in record.traceback


@pytest.mark.parametrize("kind", ["coroutine", "function"])
async def test_a_listener_that_raises_what_a_cancelled_run_raised_does_not_keep_it_from_ending(
    scheduler, app, serve, kind
):
    def report(event: aps.JobExecutionEvent) -> None:
        raise event.exception

    def job() -> None:
        raise asyncio.CancelledError

    async def job_async() -> None:
        job()

    scheduler.add_listener(report, aps.EVENT_JOB_ERROR)
    async with serve(scheduler, app):
        scheduler.add_job("job", job if kind == "function" else job_async, trigger="interval", hours=1)
        for _ in range(2):
            assert (await (await scheduler.aio.run_job("job")).wait()).outcome == "cancelled"
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_listeners_hear_of_a_run_from_submission_to_end(scheduler, app, serve, clock):
    codes: list[int] = []

    async def listener(event: Any) -> None:
        codes.append(event.code)

    scheduler.add_listener(listener)
    async with serve(scheduler, app):
        scheduler.add_job("job", coroutine, trigger="date")
        await clock.run_due()
        scheduler.remove_listener(listener)
    assert codes == [
        aps.EVENT_SCHEDULER_STARTED,
        aps.EVENT_JOB_ADDED,
        aps.EVENT_JOB_SUBMITTED,
        aps.EVENT_JOB_REMOVED,
        aps.EVENT_JOB_EXECUTED,
    ]


@pytest.mark.parametrize(("result", "shown"), [(None, None), (5, "5"), ("x" * 5000, "'" + "x" * 998 + "…")])
async def test_the_result_is_recorded_as_a_bounded_text(scheduler, app, serve, result, shown):
    async def job() -> Any:
        return result

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        assert (await (await scheduler.aio.run_job("job"))).result == shown


# Overlap


async def test_max_instances_skips_what_overlaps_and_records_it(scheduler, app, serve, clock):
    gate = asyncio.Event()

    async def job() -> None:
        await gate.wait()

    events: list[Any] = []
    scheduler.add_listener(events.append, aps.EVENT_JOB_MAX_INSTANCES)
    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=1, max_instances=2)
        await clock.advance(seconds=4)
        assert len(scheduler.scheduler.runner.under_way.runs("job")) == 2
        assert [r.outcome for r in scheduler.history.records()] == ["skipped", "skipped"]
        gate.set()
        await clock.run_due()
    assert [event.job_id for event in events] == ["job", "job"]


async def test_a_slot_is_held_until_the_thread_truly_ends(scheduler, app, serve, clock):
    release, begun = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        release.wait(10)

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        await scheduler.aio.run_job("job")
        await asyncio.to_thread(begun.wait)
        await scheduler.aio.shutdown(timeout=0)
        assert [r.outcome for r in scheduler.history.records()] == ["cancelled"]
        await scheduler.aio.start()
        with pytest.raises(OverlapForbidden):
            await scheduler.aio.run_job("job")
        release.set()
        await eventually(lambda: not scheduler.scheduler.runner.under_way.runs("job"))
        record = await (await scheduler.aio.run_job("job"))
        assert record.outcome == "succeeded"


async def test_a_call_that_waits_for_a_thread_is_withdrawn_by_the_drain(scheduler, app, serve, clock):
    release, begun = threading.Event(), threading.Event()

    def blocker() -> None:
        begun.set()
        release.wait(10)

    def waiting() -> None:
        seen.append("ran")

    async with serve(scheduler, app, SCHEDULER_MAX_THREADS=1, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("blocker", blocker, trigger="interval", hours=1)
        scheduler.add_job("waiting", waiting, trigger="interval", hours=1)
        await scheduler.aio.run_job("blocker")
        await asyncio.to_thread(begun.wait)
        handle = await scheduler.aio.run_job("waiting")
        await scheduler.aio.shutdown(timeout=0)
        with pytest.raises(RunCancelled):
            await handle
        release.set()
        await eventually(lambda: not scheduler.scheduler.runner.under_way.runs())
    assert seen == []


async def test_a_function_that_the_drain_has_cancelled_does_not_begin_when_a_thread_is_free(scheduler, app, serve):
    release, begun, runner = threading.Event(), threading.Event(), scheduler.scheduler.runner

    def busy() -> None:
        begun.set()
        release.wait(10)

    async with serve(scheduler, app, SCHEDULER_MAX_THREADS=1):
        for job_id, func in (("busy", busy), ("waiting", lambda: seen.append("ran"))):
            scheduler.add_job(job_id, func, trigger="interval", hours=1)
        await scheduler.aio.run_job("busy")
        await asyncio.to_thread(begun.wait)
        await scheduler.aio.run_job("waiting")
        # A thread comes free in the time that jobs get to clean up.
        scheduler.add_listener(lambda event: release.set(), aps.EVENT_JOB_ERROR)
        await scheduler.aio.shutdown(timeout=0)
        await eventually(lambda: not runner.under_way.runs())
    assert seen == []
    records = {record.job_id: record for record in scheduler.history.records()}
    assert {record.outcome for record in records.values()} == {"cancelled"}
    assert records["waiting"].error_message == "it was cancelled before it began"


async def test_a_function_that_timed_out_holds_up_no_fire_that_the_drain_gave_up(scheduler, app, serve, clock):
    release, starts = threading.Event(), []

    def job() -> None:
        starts.append(1)
        while not release.wait(0.002):
            scheduler.scheduler.clock.block(0.1)

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        begin = clock.now() - timedelta(hours=2)
        options = {"misfire_grace_time": None, "coalesce": False, "timeout": 1}
        scheduler.add_job("job", job, trigger="interval", hours=1, start_date=begin, next_run_time=begin, **options)
        await eventually(lambda: starts)
        await clock.advance(seconds=1.1)
        await scheduler.aio.shutdown(timeout=0)
        assert len(scheduler.history.records()) == 3  # all of them by now: the process may end
        release.set()
        await eventually(lambda: not scheduler.scheduler.runner.under_way.runs())
    assert starts == [1]
    assert {record.outcome for record in scheduler.history.records()} == {"timed_out", "cancelled"}


async def test_a_function_for_which_no_thread_can_be_started_fails_and_is_called_by_none(
    scheduler, app, serve, monkeypatch
):
    def job() -> None:
        seen.append("ran")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            record = await (await scheduler.aio.run_job("job")).wait()
        assert (record.outcome, record.error_message) == ("failed", "can't start new thread")
        assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"
        assert seen == ["ran"]


class Odd(Exception):
    def __str__(self) -> str:
        raise LookupError


class Computes(Exception):
    """Its attributes are looked up in what it was given: also those that a traceback would show."""

    def __getattr__(self, name: str) -> Any:
        return {"code": 5}[name]


class Exits(Exception):
    """It ends the program wherever it is shown."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(3)


async def test_what_exits_when_it_is_shown_ends_its_run_and_no_more(scheduler, app, serve):
    async def returns() -> Exits:
        return Exits()

    async def raises() -> None:
        raise Exits

    async with serve(scheduler, app):
        for func, outcome in ((returns, "succeeded"), (raises, "failed")):
            scheduler.add_job(outcome, func, trigger="interval", hours=1)
            assert (await (await scheduler.aio.run_job(outcome)).wait()).outcome == outcome


async def test_an_exception_without_a_text_fails_its_run_and_no_more(scheduler, app, serve):
    async def job() -> None:
        raise Odd

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        for _ in range(2):
            record = await (await scheduler.aio.run_job("job")).wait()
            assert (record.outcome, record.error_type) == ("failed", "Odd")
            assert record.error_message == "its __str__ raised LookupError"


@pytest.mark.parametrize("kind", ["coroutine", "function"])
@pytest.mark.parametrize("error", [Computes("odd"), SyntaxError("odd", ("module.py", 1, 2, 5))], ids=shown)
async def test_an_exception_that_no_traceback_can_show_fails_its_run_and_no_more(scheduler, app, serve, kind, error):
    def job() -> None:
        raise error

    async def job_async() -> None:
        raise error

    async with serve(scheduler, app):
        scheduler.add_job("job", job if kind == "function" else job_async, trigger="interval", hours=1)
        for _ in range(2):
            record = await (await scheduler.aio.run_job("job")).wait()
            assert (record.outcome, record.error_type) == ("failed", type(error).__name__)
            assert "raise error" in record.traceback
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_a_log_handler_that_raises_does_not_keep_a_run_that_failed_from_ending(scheduler, app, serve):
    def refuse(record: logging.LogRecord) -> bool:
        raise OSError("the log is full")

    async def job() -> None:
        raise ValueError

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        logger = logging.getLogger("quart_sched")
        logger.addFilter(refuse)
        try:
            record = await (await scheduler.aio.run_job("job")).wait()
        finally:
            logger.removeFilter(refuse)
        assert record.outcome == "failed"


async def test_a_message_is_kept_up_to_a_length(scheduler, app, serve):
    async def job() -> None:
        raise ValueError("x" * 1_000_000)

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        assert record.error_message == "x" * 10_000


# Runs by hand


async def test_running_by_hand_leaves_the_schedule_alone_also_of_a_paused_job(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", coroutine, trigger="interval", hours=1)
        before = scheduler.get_job("job").next_run_time
        await (await scheduler.aio.run_job("job"))
        assert scheduler.get_job("job").next_run_time == before
        scheduler.pause_job("job")
        await (await scheduler.aio.run_job("job"))
        assert scheduler.get_job("job").next_run_time is None


async def test_on_the_loop_run_job_returns_a_handle_in_a_thread_it_waits(scheduler, app, serve):
    async with serve(scheduler, app):
        scheduler.add_job("job", coroutine, trigger="interval", hours=1)
        handle = scheduler.run_job("job")
        assert not handle.done()
        assert (await handle).run_id == handle.run_id
        assert handle.done()
        record = await asyncio.to_thread(scheduler.run_job, "job")
        assert record.outcome == "succeeded"


async def test_a_failure_is_raised_where_a_thread_runs_the_job(scheduler, app, serve):
    async def job() -> None:
        raise ValueError("as asked")

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        with pytest.raises(ValueError, match="as asked"):
            await asyncio.to_thread(scheduler.run_job, "job")


async def test_leaving_a_handle_does_not_disturb_the_run(scheduler, app, serve):
    gate = asyncio.Event()

    async def job() -> None:
        await gate.wait()

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        handle = await scheduler.aio.run_job("job")
        waiting = asyncio.ensure_future(handle.wait())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.sleep(0)
        gate.set()
        assert (await handle).outcome == "succeeded"


async def test_overlap_of_runs_by_hand_is_refused_naming_the_one_in_the_way(scheduler, app, serve):
    gate = asyncio.Event()

    async def job() -> None:
        await gate.wait()

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", hours=1)
        handle = await scheduler.aio.run_job("job")
        with pytest.raises(OverlapForbidden, match=handle.run_id):
            await scheduler.aio.run_job("job")
        gate.set()
        await handle


async def test_a_stopped_scheduler_still_runs_jobs_by_hand(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    async with serve(scheduler, app, start=False):
        assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"


async def test_without_a_server_a_job_can_be_run_by_hand_in_the_running_loop(scheduler):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"
    await scheduler.aio.start()
    await scheduler.aio.shutdown()


def test_without_a_loop_a_job_cannot_be_run(scheduler):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    with pytest.raises(NoEventLoop, match=r"aio\.run_job"):
        scheduler.run_job("job")


async def test_an_unknown_job_cannot_be_run(scheduler, app, serve):
    async with serve(scheduler, app):
        with pytest.raises(JobNotFound, match="nobody"):
            await scheduler.aio.run_job("nobody")


async def test_no_run_begins_once_the_process_is_ending(scheduler, app, serve):
    scheduler.add_job("job", coroutine, trigger="interval", hours=1)
    async with serve(scheduler, app):
        app.shutdown_event.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        with pytest.raises(Draining):
            await scheduler.aio.run_job("job")


async def test_jobs_of_another_app_run_in_its_context(scheduler, serve):
    async def look() -> None:
        seen.append(current_app.name)

    scheduler.add_job("job", look, trigger="interval", hours=1)
    for name in ("first_app", "second_app"):
        async with serve(scheduler, Quart(name)):
            await (await scheduler.aio.run_job("job"))
    assert seen == ["first_app", "second_app"]
