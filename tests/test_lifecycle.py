"""When the scheduler starts and stops, and what becomes of its jobs over that."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger
from quart import Quart

import quart_sched
from quart_sched import STATE_PAUSED, STATE_RUNNING, STATE_STOPPED, APScheduler
from quart_sched.errors import (
    AlreadyRunning,
    ConfigError,
    Draining,
    DuplicateJob,
    InvalidDefinition,
    JobNotFound,
    NoEventLoop,
    NotRunning,
    SchedulerError,
)
from quart_sched.stores.memory import MemoryStore
from tests.conftest import eventually, settle


def noop() -> None: ...


async def tick() -> None: ...


# Start


async def test_start_before_serving_is_remembered_and_carried_out_by_the_server(scheduler, app, serve):
    scheduler.add_job("job", tick, trigger="interval", seconds=60)
    async with serve(scheduler, app):
        assert scheduler.state == STATE_RUNNING
        assert scheduler.running
        assert scheduler.get_job("job").next_run_time is not None
    assert scheduler.state == STATE_STOPPED


async def test_start_is_remembered_paused(scheduler, app):
    scheduler.init_app(app)
    scheduler.start(paused=True)
    async with app.test_app():
        assert scheduler.state == STATE_PAUSED


async def test_pause_and_resume_before_serving_change_the_remembered_start(scheduler, app):
    scheduler.init_app(app)
    scheduler.start()
    scheduler.pause()
    async with app.test_app():
        assert scheduler.state == STATE_PAUSED
    scheduler.start()
    scheduler.pause()
    scheduler.resume()
    async with app.test_app():
        assert scheduler.state == STATE_RUNNING


async def test_shutdown_before_serving_takes_the_remembered_start_back(scheduler, app):
    scheduler.init_app(app)
    scheduler.start()
    scheduler.shutdown()
    async with app.test_app():
        assert scheduler.state == STATE_STOPPED
    with pytest.raises(NotRunning):
        scheduler.shutdown()


async def test_start_may_come_before_init_app(scheduler, app):
    scheduler.start()
    scheduler.init_app(app)
    async with app.test_app():
        assert scheduler.running


async def test_start_while_serving_starts_at_once_from_the_loop_and_from_a_thread(scheduler, app, serve):
    async with serve(scheduler, app, start=False):
        assert not scheduler.running
        scheduler.start()
        assert scheduler.running
        with pytest.raises(AlreadyRunning):
            scheduler.start()
        await asyncio.to_thread(scheduler.shutdown)
        assert not scheduler.running
        await asyncio.to_thread(scheduler.start)
        assert scheduler.running


async def test_a_test_client_alone_does_not_start_it(scheduler, app):
    app.config["SCHEDULER_AUTOSTART"] = True
    scheduler.init_app(app)
    scheduler.start()
    await app.test_client().get("/")
    assert not scheduler.running


async def test_autostart_starts_without_the_call(scheduler, app, serve):
    async with serve(scheduler, app, start=False, SCHEDULER_AUTOSTART=True):
        assert scheduler.running


async def test_an_app_with_jobs_that_was_never_started_warns_once_how_to(scheduler, app, serve, caplog):
    scheduler.add_job("job", tick, trigger="interval", seconds=60)
    async with serve(scheduler, app, start=False):
        pass
    warnings = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "scheduler.start()" in warnings[0]
    assert "SCHEDULER_AUTOSTART" in warnings[0]


async def test_an_app_without_jobs_does_not_warn(scheduler, app, serve, caplog):
    async with serve(scheduler, app, start=False):
        pass
    assert not caplog.records


async def test_a_host_that_is_not_allowed_does_not_start(scheduler, app, serve, caplog):
    caplog.set_level(logging.INFO)
    scheduler.add_job("job", tick, trigger="interval", seconds=60)
    async with serve(scheduler, app, SCHEDULER_ALLOWED_HOSTS=["elsewhere"], SCHEDULER_AUTOSTART=True):
        assert not scheduler.running
        await scheduler.aio.start()
        assert not scheduler.running
    assert "elsewhere" in caplog.text


async def test_an_allowed_host_starts_whatever_the_case_of_its_name(scheduler, app, serve):
    async with serve(scheduler, app, SCHEDULER_ALLOWED_HOSTS=[scheduler.host_name.upper()]):
        assert scheduler.running


async def test_jobs_begin_after_the_apps_own_startup_and_end_before_its_teardown(scheduler, app, clock):
    order: list[str] = []
    scheduler.init_app(app)
    scheduler.start()

    @app.before_serving
    async def connect() -> None:
        await asyncio.sleep(0)
        assert not scheduler.running
        order.append("before_serving")

    @app.while_serving
    async def pool() -> Any:
        assert not scheduler.running
        order.append("pool opened")
        yield
        assert not scheduler.running
        order.append("pool closed")

    @scheduler.task("date", id="job")
    async def job() -> None:
        order.append("job begins")
        await app.shutdown_event.wait()
        await asyncio.sleep(0)
        order.append("job ends")

    @app.after_serving
    async def disconnect() -> None:
        order.append("after_serving")

    async with app.test_app():
        await clock.run_due()
    assert order == ["before_serving", "pool opened", "job begins", "job ends", "pool closed", "after_serving"]


async def test_aio_start_runs_without_a_server(scheduler, clock):
    ran: list[int] = []
    scheduler.add_job("job", lambda: ran.append(1), trigger="interval", seconds=5)
    await scheduler.aio.start()
    await clock.advance(seconds=5)
    await scheduler.aio.shutdown()
    assert ran == [1]
    with pytest.raises(NotRunning):
        await scheduler.aio.shutdown()


async def test_the_engine_itself_needs_a_running_loop(scheduler):
    with pytest.raises(NoEventLoop, match="event loop"):
        await asyncio.to_thread(scheduler.scheduler.start)


def test_without_asyncio_the_worker_class_is_refused_by_name(scheduler, app):
    scheduler.init_app(app)
    [hook] = app.before_serving_funcs
    with pytest.raises(SchedulerError, match="a trio worker cannot run it; use asyncio or uvloop"):
        hook().send(None)  # as another event loop would


async def test_a_startup_that_fails_behind_ours_can_be_repeated(scheduler, app, serve):
    scheduler.init_app(app)
    scheduler.start()
    failures = [RuntimeError("not yet")]

    @app.before_serving
    async def flaky() -> None:
        if failures:
            raise failures.pop()

    with pytest.raises(Exception, match="not yet"):
        async with app.test_app():
            pass
    async with app.test_app():
        assert scheduler.running
    assert len(app.while_serving_gens) == 0


# Stop and start again


async def test_two_test_apps_on_one_app_each_start_it(scheduler, app, serve):
    async with serve(scheduler, app):
        assert scheduler.running
    async with app.test_app():
        assert scheduler.running


async def test_jobs_of_the_memory_store_survive_stop_and_start(scheduler, app, serve, clock):
    runs: list[str] = []
    async with serve(scheduler, app):
        await scheduler.aio.add_job("added", lambda: runs.append("added"), trigger="interval", seconds=10)
        before = scheduler.get_job("added").next_run_time
        await scheduler.aio.shutdown()
        assert scheduler.get_job("added").next_run_time == before
        await scheduler.aio.start()
        assert scheduler.get_job("added").next_run_time == before
    async with app.test_app():
        await clock.advance(seconds=10)
        await asyncio.to_thread(lambda: None)
        assert scheduler.history.records("added")


async def test_restarting_right_after_shutdown_works(scheduler, app, serve, clock):
    runs: list[int] = []

    async def job() -> None:
        runs.append(1)

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=10)
        for _ in range(3):
            scheduler.shutdown()
            assert not scheduler.running
            scheduler.start()
            assert scheduler.running
        await clock.advance(seconds=10)
    assert runs == [1]


async def test_nothing_fires_after_shutdown(scheduler, app, serve, clock):
    runs: list[int] = []

    async def job() -> None:
        runs.append(1)

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=10)
        await scheduler.aio.shutdown()
        await clock.advance(seconds=60)
    assert runs == []


async def test_firing_stops_as_soon_as_shutdown_is_known(scheduler, app, serve, clock):
    runs: list[int] = []

    async def job() -> None:
        runs.append(1)

    async with serve(scheduler, app):
        scheduler.add_job("job", job, trigger="interval", seconds=10)
        app.shutdown_event.set()
        await asyncio.sleep(0)
        await clock.advance(seconds=60)
        assert runs == []


# The drain


async def test_shutdown_waits_for_running_jobs(scheduler, app, serve, clock):
    go = asyncio.Event()

    async def job() -> str:
        await go.wait()
        return "whole"

    async with serve(scheduler, app):
        scheduler.add_job("job", job)
        await clock.run_due()
        stopping = asyncio.create_task(scheduler.aio.shutdown())
        await asyncio.sleep(0.01)
        assert not stopping.done()
        go.set()
        await stopping
    assert [r.outcome for r in scheduler.history.records()] == ["succeeded"]


async def test_a_job_that_outlasts_the_deadline_is_cancelled_and_recorded_so(scheduler, app, serve, clock):
    seen: list[str] = []

    async def job() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            seen.append("cancelled" if quart_sched.current_run.cancelled else "not told")
            raise

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", job)
        await clock.run_due()
    assert seen == ["cancelled"]
    assert [r.outcome for r in scheduler.history.records()] == ["cancelled"]


async def test_a_job_that_ignores_its_cancellation_does_not_hold_the_shutdown(scheduler, app, serve, clock):
    end = asyncio.Event()

    async def stubborn() -> None:
        while not end.is_set():
            try:
                await end.wait()
            except asyncio.CancelledError:
                continue

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", stubborn)
        await clock.run_due()
    records = scheduler.history.records()
    assert [r.outcome for r in records] == ["cancelled"]
    assert "did not end" in records[0].error_message
    end.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(scheduler.history.records()) == 1


async def test_a_function_stuck_in_its_thread_does_not_hold_the_shutdown(app, serve):
    scheduler = APScheduler()
    release, stuck = threading.Event(), threading.Event()

    def job() -> None:
        stuck.set()
        release.wait(30)

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", job)
        await asyncio.to_thread(stuck.wait)
    assert [r.outcome for r in scheduler.history.records()] == ["cancelled"]
    release.set()


async def test_a_function_that_looks_at_current_run_cancelled_ends_by_itself(app, serve):
    scheduler = APScheduler()
    looked, begun = [], threading.Event()

    def job() -> None:
        begun.set()
        while not quart_sched.current_run.cancelled:
            threading.Event().wait(0.005)
        looked.append(True)

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("job", job)
        await asyncio.to_thread(begun.wait)
    assert looked == [True]
    assert [r.outcome for r in scheduler.history.records()] == ["cancelled"]


async def test_shutdown_without_waiting_leaves_the_jobs_running(scheduler, app, serve, clock):
    go = asyncio.Event()

    async def job() -> None:
        await go.wait()

    async with serve(scheduler, app):
        scheduler.add_job("job", job)
        await clock.run_due()
        await scheduler.aio.shutdown(wait=False)
        assert not scheduler.history.records()
        go.set()
        await clock.run_due()
        assert [r.outcome for r in scheduler.history.records()] == ["succeeded"]


async def test_a_shutdown_goes_on_without_its_caller_and_can_be_waited_for_again(scheduler, clock):
    go = asyncio.Event()

    async def job() -> None:
        await go.wait()

    scheduler.add_job("job", job)
    await scheduler.aio.start()
    await clock.run_due()
    leaving = asyncio.create_task(scheduler.aio.shutdown())
    await settle()
    leaving.cancel()
    await settle()
    with pytest.raises(Draining):
        await scheduler.aio.start()
    stopping = asyncio.create_task(scheduler.aio.shutdown())
    await settle()
    assert not stopping.done()
    go.set()
    await stopping
    assert [r.outcome for r in scheduler.history.records()] == ["succeeded"]
    with pytest.raises(NotRunning):
        await scheduler.aio.shutdown()
    await scheduler.aio.start()
    await scheduler.aio.shutdown()


@pytest.mark.parametrize("served", [True, False])
async def test_a_coroutine_that_shuts_the_scheduler_down_waits_for_all_but_itself(scheduler, app, serve, clock, served):
    async def waits() -> None:
        await asyncio.Event().wait()

    async def last() -> str:
        await scheduler.aio.shutdown(timeout=0)
        return f"after {[record.job_id for record in scheduler.history.records()]}"

    scheduler.add_job("waits", waits)
    scheduler.add_job("last", last)
    async with AsyncExitStack() as stack:
        if served:
            await stack.enter_async_context(serve(scheduler, app))
        else:
            await scheduler.aio.start()
        await clock.run_due()
        await settle()
        outcomes = {record.job_id: (record.outcome, record.result) for record in scheduler.history.records()}
        assert outcomes == {"waits": ("cancelled", None), "last": ("succeeded", repr("after ['waits']"))}
        await scheduler.aio.start()
        await scheduler.aio.shutdown()


async def test_a_function_that_shuts_the_scheduler_down_waits_for_all_but_itself(scheduler, app, serve, clock):
    async def waits() -> None:
        await asyncio.Event().wait()

    def last() -> None:
        scheduler.shutdown()

    async with serve(scheduler, app, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("waits", waits)
        scheduler.add_job("last", last)
        await eventually(lambda: len(scheduler.history.records()) == 2)
        outcomes = {record.job_id: record.outcome for record in scheduler.history.records()}
        assert outcomes == {"waits": "cancelled", "last": "succeeded"}


async def test_serving_leaves_no_thread_and_no_task_behind(scheduler, app, serve, clock):
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with serve(scheduler, app):
        scheduler.add_job("job", noop)
        await clock.run_due()
    for thread in set(threading.enumerate()) - threads:
        await asyncio.to_thread(thread.join, 5)
        assert not thread.is_alive()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == tasks


# One extension, several apps


def test_a_plain_asyncioscheduler_is_taken_over_with_its_jobs_and_options():
    underneath = AsyncIOScheduler(timezone="Asia/Tokyo", job_defaults={"misfire_grace_time": 7})
    underneath.add_job(noop, "interval", id="early", seconds=60)
    scheduler = APScheduler(underneath)
    assert scheduler.scheduler is underneath
    assert [job.id for job in scheduler.get_jobs()] == ["early"]
    assert str(underneath.timezone) == "Asia/Tokyo"


def test_what_the_scheduler_itself_was_given_stands_under_every_apps_configuration():
    scheduler = APScheduler(AsyncIOScheduler(timezone="Asia/Tokyo", job_defaults={"misfire_grace_time": 7}))
    first, second, third = (Quart(f"app_{number}") for number in range(3))
    second.config["SCHEDULER_TIMEZONE"] = "Europe/Berlin"
    zones = []
    for app in (first, second, third):
        scheduler.init_app(app)
        zones.append(str(scheduler.scheduler.timezone))
    assert zones == ["Asia/Tokyo", "Europe/Berlin", "Asia/Tokyo"]
    assert scheduler.settings.job_defaults["misfire_grace_time"] == 7


async def test_stores_and_executors_can_be_added_as_with_apscheduler(scheduler, app, serve):
    underneath = scheduler.scheduler
    underneath.configure(timezone="Asia/Tokyo", executors={"small": {"type": "threadpool", "max_workers": 1}})
    underneath.add_jobstore("memory", "second")
    underneath.add_jobstore(MemoryStore(), "third")
    underneath.add_executor("threadpool", "pool", max_workers=2)
    underneath.add_executor(ThreadPoolExecutor(3), "instance")
    underneath.add_jobstore("memory", "gone")
    underneath.remove_jobstore("gone")
    underneath.add_executor("asyncio", "gone")
    underneath.remove_executor("gone")
    assert str(underneath.timezone) == "Asia/Tokyo"
    async with serve(scheduler, app):
        assert list(underneath.catalogue.slots) == ["default", "second", "third"]
        assert set(underneath.runner.executors) == {"default", "small", "pool", "instance"}
        scheduler.add_job("job", tick, trigger="interval", hours=1, jobstore="second", executor="pool")
        assert [job.id for job in await scheduler.aio.get_jobs("second")] == ["job"]
        assert await scheduler.aio.get_jobs("third") == []
        with pytest.raises(AlreadyRunning):
            underneath.add_jobstore("memory", "late")


async def test_it_does_not_start_while_the_process_is_ending(scheduler, app, serve):
    async with serve(scheduler, app):
        app.shutdown_event.set()
        for _ in range(3):
            await asyncio.sleep(0)
        with pytest.raises(Draining):
            await scheduler.aio.start()


async def test_nothing_begins_between_the_drain_and_the_end_of_the_app(scheduler, app, serve):
    refused = []

    async def try_all(where: str) -> None:
        assert scheduler.scheduler._eventloop is None  # closed by now
        for verb in (scheduler.aio.start, partial(scheduler.aio.run_job, "job")):
            with pytest.raises(Draining, match="this process is shutting down"):
                await verb()
            refused.append(where)
        stream = scheduler.scheduler.live.open()
        assert stream.closed
        scheduler.scheduler.live.leave(stream)

    async def background() -> None:
        await app.shutdown_event.wait()
        await settle()
        await try_all("background task")

    app.after_serving(partial(try_all, "after_serving"))
    scheduler.add_job("job", tick, trigger="interval", hours=1)
    for _ in range(2):
        async with serve(scheduler, app):
            app.add_background_task(background)
            assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"
        assert refused == ["background task"] * 2 + ["after_serving"] * 2
        refused.clear()
    await scheduler.aio.start()
    assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"
    await scheduler.aio.shutdown()


async def test_every_verb_has_its_coroutine(scheduler, app, serve):
    async with serve(scheduler, app):
        aio = scheduler.aio
        await aio.pause()
        assert scheduler.state == STATE_PAUSED
        await aio.resume()
        assert scheduler.state == STATE_RUNNING
        await aio.add_job("job", tick, trigger="interval", hours=1)
        assert (await aio.modify_job("job", name="renamed")).name == "renamed"
        assert (await aio.pause_job("job")).next_run_time is None
        assert (await aio.resume_job("job")).next_run_time is not None
        assert (await aio.get_job("job")).id == "job"
        await aio.remove_all_jobs()
        assert await aio.get_jobs() == []
        with pytest.raises(JobNotFound):
            await aio.remove_job("job")


def test_apschedulers_own_verbs_work_on_the_scheduler_underneath(scheduler):
    underneath = scheduler.scheduler

    @underneath.scheduled_job("interval", id="decorated", hours=1)
    def decorated() -> None: ...

    job = underneath.add_job(noop, "interval", [], {}, "added", "a name", hours=1)
    assert (job.id, job.name) == ("added", "a name")
    underneath.add_job("json:dumps", "interval", args=[1], hours=1)
    assert [job.id for job in underneath.get_jobs()] == ["decorated", "added", "json:dumps"]
    job.modify(name="renamed")
    job.reschedule("interval", hours=2)
    assert (job.name, job.trigger.interval_length) == ("renamed", 7200)
    job.pause()
    assert job.next_run_time is None
    job.resume()
    job.remove()
    assert underneath.get_job("added") is None


@pytest.mark.parametrize("wrong", [BackgroundScheduler(), "scheduler", type("Mine", (AsyncIOScheduler,), {})()])
def test_another_scheduler_class_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=type(wrong).__qualname__):
        APScheduler(wrong)


def test_an_app_may_be_given_first_or_by_name():
    for make in (lambda app: APScheduler(app), lambda app: APScheduler(app=app), lambda app: APScheduler(None, app)):
        app = Quart("test_app")
        scheduler = make(app)
        assert scheduler.app is app
        assert app.apscheduler is scheduler
        assert app.extensions["apscheduler"] is scheduler


def test_what_is_no_quart_app_is_refused(scheduler):
    with pytest.raises(ConfigError, match="Quart app"):
        scheduler.init_app(object())


def test_a_second_scheduler_on_one_app_is_refused(scheduler, app):
    scheduler.init_app(app)
    with pytest.raises(ConfigError, match="has a scheduler already"):
        APScheduler().init_app(app)


async def test_create_app_for_each_test_with_one_module_level_scheduler(scheduler):
    @scheduler.task("interval", id="module", seconds=10)
    async def module_level() -> None: ...

    scheduler.add_job("unbound", noop, trigger="interval", seconds=10)

    def create_app() -> Quart:
        app = Quart("test_app")
        app.config["JOBS"] = [{"id": "config", "func": noop, "trigger": "interval", "seconds": 10}]
        scheduler.init_app(app)

        @scheduler.task("interval", id="inner", seconds=10)
        async def inner() -> None: ...

        scheduler.add_job("app", noop, trigger="interval", seconds=10)
        scheduler.start()
        return app

    for _ in range(3):
        async with create_app().test_app():
            await scheduler.aio.add_job("dynamic", tick, trigger="interval", seconds=10)
            jobs = await scheduler.aio.get_jobs()
            assert {job.id for job in jobs} == {"module", "unbound", "config", "inner", "app", "dynamic"}
            assert not any(job.pending for job in jobs)


def test_another_app_does_not_see_the_jobs_of_the_one_before(scheduler):
    first, second = Quart("first"), Quart("second")
    scheduler.init_app(first)
    scheduler.add_job("first", noop, trigger="interval", seconds=10)
    scheduler.init_app(second)
    assert scheduler.get_jobs() == []


async def test_another_app_is_refused_while_one_is_served(scheduler, app, serve):
    async with serve(scheduler, app):
        with pytest.raises(SchedulerError, match="serves the app"):
            scheduler.init_app(Quart("other"))
        assert scheduler.app is app
    scheduler.init_app(Quart("other"))


async def test_an_app_whose_scheduler_was_bound_to_another_says_so(scheduler, app, caplog):
    scheduler.init_app(app)
    scheduler.start()
    scheduler.init_app(Quart("other"))
    async with app.test_app():
        assert not scheduler.running
    assert "bound to another app" in caplog.text


async def test_a_second_init_app_on_one_app_reads_the_configuration_again(scheduler, app):
    app.config["JOBS"] = [{"id": "old", "func": noop, "trigger": "interval", "seconds": 10}]
    scheduler.init_app(app)
    app.config["JOBS"] = [{"id": "new", "func": noop, "trigger": "interval", "seconds": 10}]
    app.config["SCHEDULER_API_ENABLED"] = True
    scheduler.init_app(app)
    scheduler.init_app(app)
    assert [job.id for job in scheduler.get_jobs()] == ["new"]
    scheduler.start()
    async with app.test_app() as test_app:
        assert scheduler.running
        assert (await test_app.test_client().get("/scheduler")).status_code == 200


# Declarations


@pytest.mark.parametrize("verb", ["authenticate", "before_run", "after_run", "on_overdue", "add_listener"])
def test_what_cannot_be_called_is_refused_where_it_is_registered(scheduler, verb):
    with pytest.raises(InvalidDefinition, match=f"{verb}: is 'nonsense'; expected a function"):
        getattr(scheduler, verb)("nonsense")


def test_a_decorator_without_parentheses_is_refused(scheduler):
    with pytest.raises(InvalidDefinition, match=r'trigger: is <function .*tick.*; .*@scheduler.task\("interval", se'):
        scheduler.task(tick)
    with pytest.raises(InvalidDefinition, match="trigger: is 3; expected a kind of trigger"):
        scheduler.task(3)
    scheduler.task(None, id="now")(tick)
    scheduler.task({"type": "interval", "hours": 1}, id="older form")(tick)
    scheduler.task(IntervalTrigger(hours=1), id="object")(tick)
    assert [job.id for job in scheduler.get_jobs()] == ["now", "older form", "object"]


async def test_decorators_work_before_and_after_init_app_in_the_configured_zone(scheduler, app, serve):
    @scheduler.task("cron", id="before", hour=3)
    async def before() -> None: ...

    app.config["SCHEDULER_TIMEZONE"] = "Asia/Shanghai"
    scheduler.init_app(app)

    @scheduler.task("cron", id="after", hour=3)
    async def after() -> None: ...

    async with serve(scheduler, app, SCHEDULER_TIMEZONE="Asia/Shanghai"):
        for job_id in ("before", "after"):
            assert scheduler.get_job(job_id).next_run_time.isoformat() == "2026-03-03T03:00:00+08:00"


async def test_an_interval_counts_from_the_start_not_from_the_declaration(scheduler, app, serve, clock):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    clock.suspend(seconds=100)
    async with serve(scheduler, app):
        assert (scheduler.get_job("job").next_run_time - clock.now()).total_seconds() == 10


def test_a_task_returns_the_function_and_is_named_after_it(scheduler):
    @scheduler.task("interval", seconds=10)
    def job() -> None: ...

    assert job.__name__ == "job"
    [declared] = scheduler.get_jobs()
    assert declared.id == f"{__name__}:{job.__qualname__}"
    assert declared.name == job.__qualname__
    assert declared.pending


def test_a_task_takes_its_options_by_position_as_apscheduler_does(scheduler):
    @scheduler.task("interval", (1,), {"b": 2}, "job", "a name", seconds=10)
    def job(a: int, b: int) -> None: ...

    declared = scheduler.get_job("job")
    assert (declared.args, declared.kwargs, declared.name) == ((1,), {"b": 2}, "a name")


@pytest.mark.parametrize("running", [False, True])
async def test_a_duplicate_id_is_refused_at_once(scheduler, app, serve, running):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    if not running:
        with pytest.raises(DuplicateJob, match="job already exists"):
            scheduler.add_job("job", tick, trigger="interval", seconds=20)
        return
    async with serve(scheduler, app):
        with pytest.raises(ConflictingIdError, match="job already exists"):
            scheduler.add_job("job", tick, trigger="interval", seconds=20)
        with pytest.raises(DuplicateJob):
            scheduler.task("interval", id="job", seconds=20)(tick)
        await scheduler.aio.shutdown()
        with pytest.raises(DuplicateJob):
            scheduler.add_job("job", tick, trigger="interval", seconds=20)
        assert scheduler.get_job("job").func is noop


def test_a_configured_job_with_the_id_of_a_task_is_refused_and_nothing_changes(scheduler, app):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    app.config["JOBS"] = [{"id": "job", "func": tick, "trigger": "interval", "seconds": 20}]
    with pytest.raises(DuplicateJob):
        scheduler.init_app(app)
    assert scheduler.app is None
    assert "apscheduler" not in app.extensions
    assert scheduler.get_job("job").func is noop


def test_replace_existing_replaces_a_declaration(scheduler):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    scheduler.add_job("job", tick, trigger="interval", seconds=20, replace_existing=True)
    [job] = scheduler.get_jobs()
    assert job.func is tick


async def test_a_job_that_another_thread_adds_while_the_scheduler_starts_is_not_left_waiting(
    scheduler, clock, monkeypatch
):
    declarations, ran = scheduler.scheduler.catalogue.declarations, []
    declare = declarations.declare

    def started_before(*args: Any) -> Any:
        scheduler.scheduler.start()
        return declare(*args)

    async def job() -> None:
        ran.append(1)

    scheduler.add_job("early", tick, trigger="interval", seconds=10)
    monkeypatch.setattr(declarations, "declare", started_before)
    assert not scheduler.add_job("late", job, trigger="interval", seconds=10).pending
    await clock.advance(seconds=10)
    assert ran == [1]
    await scheduler.aio.shutdown()


async def test_replace_existing_with_an_equal_declaration_changes_nothing(scheduler, app, serve, clock):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    async with serve(scheduler, app):
        before = scheduler.get_job("job").next_run_time
        clock.suspend(seconds=5)
        scheduler.add_job("job", noop, trigger="interval", seconds=10, replace_existing=True)
        assert scheduler.get_job("job").next_run_time == before
        scheduler.pause_job("job")
        scheduler.add_job("job", tick, trigger="interval", seconds=10, replace_existing=True)
        assert scheduler.get_job("job").next_run_time is None
        assert scheduler.get_job("job").func is tick


async def test_jobs_that_wait_can_be_changed_paused_and_removed(scheduler, app, serve):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    scheduler.add_job("other", noop, trigger="interval", seconds=10)
    scheduler.modify_job("job", name="renamed", trigger="interval", seconds=30)
    scheduler.pause_job("job")
    scheduler.remove_job("other")
    assert scheduler.get_job("job").next_run_time is None
    async with serve(scheduler, app):
        [job] = scheduler.get_jobs()
        assert (job.name, job.trigger.interval_length, job.next_run_time) == ("renamed", 30, None)
    scheduler.remove_all_jobs()
    assert scheduler.get_jobs() == []


async def test_a_resumed_declaration_fires_again(scheduler, app, serve):
    scheduler.add_job("job", noop, trigger="interval", seconds=10)
    scheduler.pause_job("job")
    scheduler.resume_job("job")
    async with serve(scheduler, app):
        assert scheduler.get_job("job").next_run_time is not None


# One event loop after the other


ran: list[str] = []


async def count() -> None:
    ran.append("count")


async def sleep() -> None:
    ran.append("sleep")
    await asyncio.sleep(60)


async def fail() -> None:
    ran.append("fail")
    raise ValueError("as asked")


async def until_it_fires() -> None:
    ran.clear()
    await eventually(lambda: ran.count("count") >= 2, timeout=30)


@pytest.fixture(params=["memory", "sql"])
def looped(request: pytest.FixtureRequest, tmp_path: Path, app: Quart) -> APScheduler:
    """A scheduler in real time, with a job that fires ten times a second."""
    if request.param == "sql":
        app.config["SCHEDULER_JOBSTORES"] = {"default": {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/jobs.db"}}
    app.config.update(SCHEDULER_POLL_INTERVAL=0.05, SCHEDULER_OVERDUE_GRACE=1, SCHEDULER_METRICS_ENABLED=True)
    scheduler = APScheduler(app=app)
    scheduler.add_job("count", count, trigger="interval", seconds=0.1)
    return scheduler


@pytest.mark.parametrize("end", ["none", "begun", "not waited for", "whole"])
def test_it_fires_in_one_event_loop_after_the_other_however_that_ended(looped, end):
    async def main(end: str) -> None:
        await looped.aio.start()
        stream = looped.scheduler.live.open()
        await until_it_fires()
        await eventually(lambda: any(kind == "run" for kind, *_ in stream.take()), timeout=30)
        looped.scheduler.live.leave(stream)
        if end == "begun":
            looped.shutdown()
        elif end != "none":
            await looped.aio.shutdown(wait=end == "whole")

    for _ in range(2):
        asyncio.run(main(end))
    asyncio.run(main("whole"))
    assert "skipped" not in {record.outcome for record in looped.history.records()}
    assert not looped.running


@pytest.mark.parametrize("rebind", [False, True])
def test_a_loop_that_ended_without_a_shutdown_is_none_that_an_app_is_served_in(looped, app, rebind):
    async def main() -> None:
        await looped.aio.start()
        await until_it_fires()

    async def serve() -> None:
        async with served.test_app():
            await until_it_fires()

    asyncio.run(main())
    served = app
    if rebind:
        served = Quart("another")
        looped.init_app(served)
        looped.add_job("count", count, trigger="interval", seconds=0.1)
    looped.start()
    asyncio.run(serve())
    assert not looped.running


def test_what_a_loop_left_behind_that_ended_without_a_shutdown_is_accounted_for(looped):
    past = {"next_run_time": datetime.now(UTC) - timedelta(hours=3), "misfire_grace_time": None, "coalesce": False}
    looped.add_job("sleep", sleep, trigger="interval", hours=1, **past)
    looped.add_job("fail", fail, trigger="interval", hours=1, run_on_start=True, retry={"attempts": 2, "delay": 0.5})

    async def first() -> None:
        await looped.aio.start()
        await eventually(lambda: {"sleep", "fail", "count"} <= set(ran), timeout=30)

    async def second() -> None:
        await looped.aio.start()
        await until_it_fires()
        await looped.aio.shutdown(timeout=0)

    async def outcomes() -> set[str]:
        return {run.outcome for run in (await looped.aio.runs()).items}

    ran.clear()
    asyncio.run(first())
    asyncio.run(second())
    assert looped.scheduler.runner.under_way.runs() == []
    assert not looped.scheduler.runner.waiting
    assert not {"running", "lost"} & asyncio.run(outcomes())
