"""Executors: ours under both names, APScheduler's process pool, and the user's own."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.base import BaseExecutor, run_job
from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor

from quart_sched.engine.executors import JobExecutor, make_executor
from quart_sched.engine.threads import StoreThread, WorkerThreads
from quart_sched.errors import ConfigError


async def coroutine() -> None: ...


def whereabouts() -> int:
    return os.getpid()


def fail() -> None:
    raise ValueError("in another process")


def wait_long() -> None:
    time.sleep(60)


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


def test_options_that_an_executor_does_not_have_are_refused():
    with pytest.raises(ConfigError, match=r"KEY is .* cannot be made into an executor"):
        make_executor("KEY", {"class": Inline, "speed": 9}, 20)


async def test_plain_functions_run_in_the_process_pool_and_are_accounted_for(scheduler, app, serve):
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


async def test_a_process_that_outlasts_the_deadline_is_ended(scheduler, app, serve):
    executors = {"procs": {"type": "processpool", "max_workers": 1}}
    begun = time.monotonic()
    async with serve(scheduler, app, SCHEDULER_EXECUTORS=executors, SCHEDULER_SHUTDOWN_TIMEOUT=0):
        scheduler.add_job("long", wait_long, trigger="interval", hours=1, executor="procs", misfire_grace_time=None)
        await scheduler.aio.run_job("long")
    assert [record.outcome for record in scheduler.history.records()] == ["cancelled"]
    assert time.monotonic() - begun < 30


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
        assert scheduler.scheduler.runner.running() == []


async def test_an_executor_that_reports_a_crash_has_failed_the_run(scheduler, app, serve):
    class Crashing(Inline):
        def _do_submit_job(self, job: Any, run_times: Any) -> None:
            self._run_job_error(job.id, OSError("pool is broken"))

    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Crashing()}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own")
        with pytest.raises(OSError, match="pool is broken"):
            await (await scheduler.aio.run_job("job"))


async def test_what_a_foreign_executor_calls_missed_is_recorded_so(scheduler, app, serve, clock):
    # It judges by the machine's own clock, to which the manual one is long past.
    async with serve(scheduler, app, SCHEDULER_EXECUTORS={"own": Inline()}):
        scheduler.add_job("job", whereabouts, trigger="interval", hours=1, executor="own", misfire_grace_time=1)
        record = await (await scheduler.aio.run_job("job")).wait()
        assert record.outcome == "missed"


def test_our_executor_can_be_used_through_apschedulers_interface(scheduler):
    submitted: list[Any] = []

    class Runner:
        def submit(self, job: Any, run_times: Any, cause: str) -> None:
            submitted.append((job.id, run_times, cause))

    class Host:
        runner = Runner()
        _create_lock = staticmethod(threading.RLock)

    job = scheduler.scheduler.add_job(whereabouts, "interval", hours=1, id="job", max_instances=1)
    executor = JobExecutor(1)
    executor.start(Host(), "default")
    executor.submit_job(job, [1])
    assert submitted == [("job", [1], "schedule")]


# Threads


def test_threads_are_daemons_started_on_demand_up_to_the_limit():
    threads = WorkerThreads(2, "test-threads")
    gate, started = threading.Event(), threading.Semaphore(0)

    def call() -> None:
        started.release()
        gate.wait(10)

    assert not [t for t in threading.enumerate() if t.name.startswith("test-threads")]
    for _ in range(5):
        threads.submit(call)
    started.acquire()
    started.acquire()
    mine = [t for t in threading.enumerate() if t.name.startswith("test-threads")]
    assert len(mine) == 2
    assert all(thread.daemon for thread in mine)
    gate.set()
    threads.stop()
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()


def test_an_idle_thread_is_used_again():
    threads = WorkerThreads(5, "test-idle")
    for _ in range(20):
        done = threading.Event()
        threads.submit(done.set)
        assert done.wait(5)
        time.sleep(0.001)  # until it has said that it is idle
    assert len([t for t in threading.enumerate() if t.name.startswith("test-idle")]) <= 2
    threads.stop()


def test_the_store_thread_returns_results_and_errors_in_order():
    thread = StoreThread()
    order: list[int] = []
    futures: list[Future[Any]] = [thread.submit(lambda number=number: order.append(number)) for number in range(10)]
    failing = thread.submit(lambda: 1 / 0)
    assert [future.result(5) for future in futures] == [None] * 10
    assert order == list(range(10))
    with pytest.raises(ZeroDivisionError):
        failing.result(5)
    assert thread.submit(thread.is_current).result(5)
    assert not thread.is_current()
    thread.stop()


async def test_a_call_that_nobody_waits_for_any_more_is_not_made():
    thread = StoreThread()
    gate, made = threading.Event(), []
    thread.submit(lambda: gate.wait(5))
    waiting = asyncio.wrap_future(thread.submit(lambda: made.append(1)))
    waiting.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.wrap_future(thread.submit(lambda: None))
    assert made == []
    thread.stop()
