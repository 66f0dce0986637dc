"""Executors: ours under both names, APScheduler's process pool, and the user's own."""

from __future__ import annotations

import asyncio
import copy
import os
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from apscheduler.events import EVENT_EXECUTOR_ADDED, SchedulerEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.debug import DebugExecutor
from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor

from quart_sched import APScheduler
from quart_sched.engine.executors import JobExecutor, make_executor
from quart_sched.errors import ConfigError
from quart_sched.model.runs import Run
from tests.conftest import START, eventually


async def coroutine() -> None: ...


def whereabouts() -> int:
    return os.getpid()


def thread_name() -> str:
    return threading.current_thread().name


def fail() -> None:
    raise ValueError("in another process")


def wait_long() -> None:
    time.sleep(60)


def wait_for(path: str) -> None:
    while not os.path.exists(path):
        time.sleep(0.01)


def wait_for_or_fail(path: str | None) -> Any:
    """Return what cannot be sent back where there is nothing to wait for."""
    return threading.Lock() if path is None else wait_for(path)


class Held(BaseExecutor):
    """A user's own executor: runs each job when it is told so."""

    def start(self, scheduler: Any, alias: str) -> None:
        super().start(scheduler, alias)
        self.held: list[Any] = []

    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        self.held.append((job, run_times))

    def release(self) -> None:
        for job, run_times in self.held:
            self._run_job_success(job.id, run_job(job, job._jobstore_alias, run_times, self._logger.name))


class OwnThreads(ThreadPoolExecutor):
    """A user's own way with APScheduler's threads."""


class Inline(BaseExecutor):
    """A user's own executor: runs each job where it is submitted, or fails on demand."""

    broken = False

    def _do_submit_job(self, job: Any, run_times: Any) -> None:
        if self.broken:
            raise RuntimeError("cannot take it")
        self._run_job_success(job.id, run_job(job, job._jobstore_alias, run_times, self._logger.name))


@pytest.mark.parametrize(
    ("entry", "workers"),
    [
        ({"type": "threadpool", "max_workers": 3}, 3),
        ({"type": "threadpool"}, 20),
        ({"type": "asyncio"}, 20),
        ({"class": "apscheduler.executors.pool:ThreadPoolExecutor", "max_workers": 4, "pool_kwargs": {}}, 4),
        ({"class": AsyncIOExecutor}, 20),
    ],
)
def test_thread_pool_and_asyncio_mean_our_executor(entry, workers):
    executor = make_executor("KEY", entry, 20)
    assert isinstance(executor, JobExecutor)
    assert executor.max_workers == workers


def test_instances_of_apschedulers_own_are_replaced_by_ours():
    pool = ThreadPoolExecutor(7)
    executor = make_executor("KEY", pool, 20)
    assert isinstance(executor, JobExecutor)
    assert executor.max_workers == 7
    assert isinstance(make_executor("KEY", AsyncIOExecutor(), 20), JobExecutor)
    pool.shutdown()


def test_other_executors_stay_what_they_are():
    assert type(make_executor("KEY", {"type": "processpool", "max_workers": 1}, 20)) is ProcessPoolExecutor
    own = Inline()
    assert make_executor("KEY", own, 20) is own
    assert type(make_executor("KEY", {"class": Inline}, 20)) is Inline


def test_a_class_may_be_given_by_its_reference():
    assert type(make_executor("KEY", {"class": "apscheduler.executors.debug:DebugExecutor"}, 20)) is DebugExecutor


def test_an_entry_stays_as_it_was():
    entry = {"type": "threadpool", "max_workers": 3, "pool_kwargs": {"thread_name_prefix": "x"}}
    before = copy.deepcopy(entry)
    make_executor("KEY", entry, 20)
    assert entry == before


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"type": "rocket"}, "has type 'rocket'; expected one of 'threadpool', 'asyncio', 'processpool'"),
        ({"class": None}, "has class None; expected a subclass of apscheduler's BaseExecutor"),
        ({"class": dict}, "has class <class 'dict'>; expected a subclass"),
        ({"class": "json:dumps"}, "has class 'json:dumps'; expected a subclass"),
        ({"class": "no reference"}, "cannot be made into an executor"),
        ({"class": "nowhere:Executor"}, "cannot be made into an executor"),
        ({"class": "json:Executor"}, "cannot be made into an executor"),
        ({"class": Inline, "speed": 9}, "cannot be made into an executor"),
        ({"type": "threadpool", "speed": 9}, "expected at most max_workers, a whole number of at least 1"),
        ({"type": "threadpool", "max_workers": 0}, "expected at most max_workers"),
        ({"type": "threadpool", "max_workers": True}, "expected at most max_workers"),
        ({"type": "asyncio", "max_workers": "9"}, "expected at most max_workers"),
        ({"type": "processpool", "max_workers": 0}, "cannot be made into an executor: max_workers must be greater"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_named_with_what_was_expected(entry, expected):
    with pytest.raises(ConfigError) as caught:
        make_executor("KEY", entry, 20)
    assert str(caught.value).startswith("KEY ")
    assert expected in str(caught.value)


def test_a_type_that_is_no_str_is_named_too():
    with pytest.raises(ConfigError, match="KEY has type"):
        make_executor("KEY", {"type": ["asyncio"]}, 20)


def test_what_a_users_own_class_raises_while_it_is_made_is_named_too():
    class Failing(Inline):
        def __init__(self) -> None:
            raise OSError("no such device")

    with pytest.raises(ConfigError, match=r"KEY .*no such device"):
        make_executor("KEY", {"class": Failing}, 20)


async def test_plain_functions_run_in_the_process_pool_and_are_accounted_for(app, serve):
    scheduler = APScheduler()  # in real time, as its processes are
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors):
        for name, func in (("good", whereabouts), ("bad", fail)):
            scheduler.add_job(name, func, trigger="interval", hours=1, executor="procs", misfire_grace_time=None)
        record = await (await scheduler.aio.run_job("good"))
        assert record.outcome == "succeeded"
        assert record.result not in (None, repr(os.getpid()))
        with pytest.raises(ValueError, match="in another process"):
            await (await scheduler.aio.run_job("bad"))
    async with app.test_app():  # its pool is made anew
        assert (await (await scheduler.aio.run_job("good"))).outcome == "succeeded"


async def test_what_cannot_be_sent_to_or_from_the_pool_fails_the_run_that_it_is_of(app, serve, tmp_path):
    scheduler = APScheduler()  # in real time, as its processes are
    executors = {"procs": {"type": "processpool", "max_workers": 2}}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors):
        options = {"trigger": "interval", "hours": 1, "executor": "procs", "max_instances": 3}
        scheduler.add_job("job", wait_for_or_fail, args=(str(tmp_path / "go"),), **options)
        first = await scheduler.aio.run_job("job")
        for argument in (None, threading.Lock()):
            run = await scheduler.aio.run_job("job", args=[argument])
            record = await asyncio.wait_for(run.wait(), 30)
            assert record.outcome == "failed"
            assert "cannot pickle" in record.error_message
        assert not first.done()
        (tmp_path / "go").touch()
        assert (await first.wait()).outcome == "succeeded"
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_a_process_that_outlasts_the_deadline_is_ended(scheduler, app, serve):
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    begun = time.monotonic()
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("long", wait_long, trigger="interval", hours=1, executor="procs", misfire_grace_time=None)
        await scheduler.aio.run_job("long")
    assert [record.outcome for record in scheduler.history.records()] == ["cancelled"]
    assert time.monotonic() - begun < 30


async def test_after_a_pool_was_ended_by_a_shutdown_its_jobs_run_again(app, serve):
    scheduler = APScheduler()  # in real time, as its processes are
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors):
        for name, func in (("long", wait_long), ("good", whereabouts)):
            scheduler.add_job(name, func, trigger="interval", hours=1, executor="procs", misfire_grace_time=None)
        await scheduler.aio.run_job("long")
        await scheduler.aio.shutdown(timeout=0)
        await scheduler.aio.start()
        assert (await (await scheduler.aio.run_job("good"))).outcome == "succeeded"


async def test_a_pool_that_a_drain_has_to_end_is_not_that_of_a_new_start(app, serve, tmp_path):
    scheduler = APScheduler()  # in real time, as its processes are
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    options = {"trigger": "interval", "hours": 1, "executor": "procs", "misfire_grace_time": None}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("long", wait_long, **options)
        scheduler.add_job("next", wait_for, args=(str(tmp_path / "go"),), **options)
        await scheduler.aio.run_job("long")
        stuck = list(scheduler.scheduler.runner.executors["procs"].executor._pool._processes.values())
        scheduler.shutdown()
        scheduler.start()
        run = await scheduler.aio.run_job("next")
        await eventually(lambda: scheduler.history.records("long"), timeout=30)
        await eventually(lambda: not any(process.is_alive() for process in stuck), timeout=30)
        (tmp_path / "go").touch()
        assert (await run.wait()).outcome == "succeeded"
    assert [record.outcome for record in scheduler.history.records("long")] == ["cancelled"]


async def test_a_coroutine_is_refused_for_the_process_pool(scheduler, app, serve):
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors):
        with pytest.raises(ValueError, match="executor: 'procs' is a process pool, which cannot run the coroutine"):
            scheduler.add_job("job", coroutine, trigger="interval", hours=1, executor="procs")


async def test_a_users_own_executor_runs_jobs_and_is_accounted_for(scheduler, app, serve, clock):
    own = Inline()
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": own}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own", misfire_grace_time=None)
        record = await (await scheduler.aio.run_job("job"))
        assert record.result == repr(os.getpid())
        own.broken = True
        with pytest.raises(RuntimeError, match="cannot take it"):
            await (await scheduler.aio.run_job("job"))
        assert scheduler.scheduler.runner.under_way.runs() == []


@pytest.mark.parametrize("func", [whereabouts, fail])
async def test_a_run_that_a_foreign_executor_cannot_stop_is_recorded_as_cancelled_all_the_same(
    scheduler, app, serve, func
):
    own = Held()
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": own}):
        scheduler.add_job("job", func, trigger="interval", hours=1, executor="own")
        run = await scheduler.aio.run_job("job")
        await scheduler.aio.cancel_run(run.run_id)
        assert not run.done()
        own.release()
        assert (await run.wait()).outcome == "cancelled"
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_an_executor_that_is_added_while_the_scheduler_is_stopped_takes_part_from_the_next_start(
    scheduler, app, serve
):
    async with serve(scheduler, app):
        await scheduler.aio.shutdown()
        scheduler.scheduler.add_executor(Inline(), "late")
        await scheduler.aio.start()
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="late")
        assert (await (await scheduler.aio.run_job("job"))).outcome == "succeeded"


async def test_a_users_own_kind_of_threads_is_there_again_each_time_the_app_is_served(scheduler, app, serve):
    named = {"thread_name_prefix": "own"}
    for _ in range(2):
        async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": OwnThreads(1, named)}):
            options = {"trigger": "interval", "hours": 1, "executor": "own", "replace_existing": True}
            scheduler.add_job("job", thread_name, **options)
            for _ in range(2):
                assert (await (await scheduler.aio.run_job("job"))).result == "'own_0'"
        async with app.test_app():
            assert (await (await scheduler.aio.run_job("job"))).result == "'own_0'"


async def test_an_executor_that_runs_jobs_on_the_spot_may_be_given_very_many_fires(scheduler, app, serve, clock):
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Inline()}, SCHEDULER_MAX_CATCH_UP=300):
        past = clock.now() - timedelta(hours=299, minutes=30)
        late = {"start_date": past, "next_run_time": past, "misfire_grace_time": None, "coalesce": False}
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own", **late)
        await clock.run_due()
        assert [record.outcome for record in scheduler.history.records("job")] == ["succeeded"] * 300
        assert scheduler.scheduler.runner.under_way.runs() == []


async def test_an_executor_that_reports_a_crash_has_failed_the_run(scheduler, app, serve):
    class Crashing(Inline):
        def _do_submit_job(self, job: Any, run_times: Any) -> None:
            self._run_job_error(job.id, OSError("pool is broken"))

    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Crashing()}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own")
        with pytest.raises(OSError, match="pool is broken"):
            await (await scheduler.aio.run_job("job"))


async def test_a_foreign_executor_does_not_judge_again_whether_a_fire_is_too_late(scheduler, app, serve, clock):
    # It would do so by the machine's own clock, to which the test's is long past.
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Inline()}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own", misfire_grace_time=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        assert record.outcome == "succeeded"


def test_our_executor_can_be_used_through_apschedulers_interface(scheduler):
    submitted: list[Any] = []

    class Runner:
        def submit(self, job: Any, runs: list[Run]) -> None:
            submitted.extend((run.job_id, run.scheduled_at, run.cause) for run in runs)

    class Host:
        runner = Runner()
        _create_lock = staticmethod(threading.RLock)

    job = scheduler.scheduler.add_job(whereabouts, "interval", hours=1, id="job", max_instances=1)
    executor = JobExecutor(1)
    executor.start(Host(), "default")
    executor.submit_job(job, [START])
    assert submitted == [("job", START, "schedule")]


async def test_a_foreign_executor_sees_the_scheduler_and_its_other_events_end_no_run(scheduler, app, serve):
    class Talking(Inline):
        def _do_submit_job(self, job: Any, run_times: Any) -> None:
            assert self._scheduler.timezone == scheduler.scheduler.timezone
            self._scheduler._dispatch_event(SchedulerEvent(EVENT_EXECUTOR_ADDED, "talk"))
            super()._do_submit_job(job, run_times)

    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Talking()}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own", misfire_grace_time=None)
        record = await (await scheduler.aio.run_job("job"))
        assert record.outcome == "succeeded"
        assert len(scheduler.history.records()) == 1


def test_shutting_down_gives_up_the_threads_and_leaves_new_ones_for_the_next_start():
    executor = JobExecutor(1)
    gate, got = threading.Event(), list[int]()
    executor.threads.submit(lambda: gate.wait(5))
    executor.shutdown()
    done = threading.Event()
    executor.threads.submit(lambda: (got.append(1), done.set()))
    assert done.wait(5)
    assert got == [1]
    gate.set()
    executor.shutdown()
