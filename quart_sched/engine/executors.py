"""Executors: ours, and the bridge to those that APScheduler or the user brings."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent import futures
from datetime import datetime
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_MISSED, JobExecutionEvent, SchedulerEvent
from apscheduler.executors.asyncio import AsyncIOExecutor
from apscheduler.executors.base import BaseExecutor
from apscheduler.executors.pool import ProcessPoolExecutor, ThreadPoolExecutor
from apscheduler.job import Job
from apscheduler.util import maybe_ref

from ..errors import ConfigError
from ..model.jobs import copy_with
from ..model.runs import Run
from .threads import WorkerThreads

_OF_THREADS = ("thread_name_prefix", "initializer", "initargs")
"""What a pool of threads was made with, and keeps."""


class JobExecutor(BaseExecutor):
    """Coroutines on the event loop, plain functions in at most `max_workers` threads of its own.

    The running itself is the Runner's; an executor only lends its threads.
    """

    def __init__(self, max_workers: int) -> None:
        super().__init__()
        self.max_workers = max_workers
        self.threads = WorkerThreads(max_workers, "quart-sched-job")

    def shutdown(self, wait: bool = True) -> None:
        """Let the threads end, each after the call that it is in."""
        self.threads.stop()
        self.threads = WorkerThreads(self.max_workers, "quart-sched-job")

    def _do_submit_job(self, job: Job, run_times: list[datetime]) -> None:
        self._scheduler.runner.submit(job, [Run(job, moment, "schedule") for moment in run_times])


class JobIdOfRun(str):
    """The id of the job that a foreign executor is given: one like any other, which tells the job's runs apart.

    APScheduler's executors report by nothing else that a run could not be sent to another process, or its result back.
    """

    run_id: str

    @classmethod
    def of(cls, run: Run) -> JobIdOfRun:
        """Make the one of that run."""
        made = cls(run.job_id)
        made.run_id = run.run_id
        return made


class ForeignExecutor:
    """Runs jobs in an executor that is not ours, such as APScheduler's process pool.

    Neither app context nor hooks reach there. `ended(job_id, scheduled_at, event, error)` is called once for each run,
    from any thread.
    """

    def __init__(self, executor: BaseExecutor, ended: Callable[[str, datetime | None, Any, Any], None]) -> None:
        self.executor = executor
        self._ended = ended
        self._left: dict[int, list[Any]] = {}
        """Processes of pools that runs of an earlier start are in still, by the last start that used them."""

    @property
    def in_processes(self) -> bool:
        """Whether jobs run in other processes, where no coroutine can go."""
        return isinstance(self.executor, ProcessPoolExecutor)

    def start(self, scheduler: Any, alias: str) -> None:
        """Prepare for jobs."""
        self.executor.start(_Reporter(scheduler, self), alias)
        self.executor._run_job_error = self._failed

    def submit(self, run: Run) -> None:
        """Hand one run over."""
        self._renew()
        # Whether the fire is too late has been judged; APScheduler's executors would do so once more.
        job = copy_with(run.job, id=JobIdOfRun.of(run), misfire_grace_time=None)
        # The runner has counted the instances already, the same way for every executor.
        with self.executor._lock:
            self.executor._instances[job.id] += 1
            self.executor._do_submit_job(job, [run.scheduled_at])

    def set_apart(self, generation: int) -> None:
        """Let the runs of the next start have a pool of their own where some of this one's are in it still.

        The drain of these may have to end the processes.
        """
        if isinstance(self.executor, ProcessPoolExecutor) and self.executor._pool._pending_work_items:
            self._left[generation] = self._processes()
            self.executor._pool.shutdown(wait=False)

    def _processes(self) -> list[Any]:
        pool = getattr(self.executor, "_pool", None)
        return list((getattr(pool, "_processes", None) or {}).values())

    def _renew(self) -> None:
        """Make a pool anew that was shut down: at the end of a serving, for a new start, or by a drain that had to."""
        pool: Any = getattr(self.executor, "_pool", None)
        if isinstance(self.executor, ProcessPoolExecutor) and pool._shutdown_thread:
            self.executor._pool = type(pool)(pool._max_workers, **self.executor.pool_kwargs)
        elif isinstance(pool, futures.ThreadPoolExecutor) and pool._shutdown:
            options = {name: getattr(pool, f"_{name}") for name in _OF_THREADS if hasattr(pool, f"_{name}")}
            self.executor._pool = type(pool)(pool._max_workers, **options)

    def report(self, event: SchedulerEvent) -> None:
        """Take an event that the executor sent."""
        if isinstance(event, JobExecutionEvent):
            self._ended(event.job_id, event.scheduled_run_time, event, event.exception)

    def _failed(self, job_id: str, error: BaseException, traceback: Any = None) -> None:
        self._ended(job_id, None, None, error)

    def kill(self, generation: int) -> None:
        """End the processes in which runs of that start are, whatever they are doing."""
        victims = next((left for last, left in self._left.items() if last >= generation), None)
        if victims is None:
            victims = self._processes()
            self.executor.shutdown(wait=False)
        for process in victims:
            process.terminate()

    def stop(self) -> None:
        """Shut down without waiting."""
        self._left.clear()
        self.executor.shutdown(wait=False)


class _Reporter:
    """Stands between a foreign executor and the scheduler, so that run events pass through our books."""

    def __init__(self, scheduler: Any, owner: ForeignExecutor) -> None:
        self._scheduler = scheduler
        self._owner = owner

    def _create_lock(self) -> Any:
        return threading.RLock()

    def _dispatch_event(self, event: SchedulerEvent) -> None:
        self._owner.report(event)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._scheduler, name)


def outcome_of(event: JobExecutionEvent) -> str:
    """Return the outcome that a foreign executor's event tells of."""
    return {EVENT_JOB_ERROR: "failed", EVENT_JOB_MISSED: "missed"}.get(event.code, "succeeded")


def make_executor(key: str, entry: Any, max_threads: int) -> BaseExecutor:
    """Make the executor that a `SCHEDULER_EXECUTORS` entry asks for. Raises ConfigError.

    APScheduler's thread pool and asyncio executor, in whatever form they are given, mean ours.
    """
    if isinstance(entry, BaseExecutor):
        return _ours_instead(entry, max_threads)
    options = dict(entry)
    kind, cls = options.pop("type", None), options.pop("class", None)
    known: dict[Any, type] = {"threadpool": ThreadPoolExecutor, "asyncio": AsyncIOExecutor}
    known["processpool"] = ProcessPoolExecutor
    if kind is not None and (not isinstance(kind, str) or kind not in known):
        raise ConfigError(f"{key} has type {kind!r}; expected one of {', '.join(map(repr, known))}")
    try:
        executor_class = known[kind] if kind is not None else maybe_ref(cls)
        if not (inspect.isclass(executor_class) and issubclass(executor_class, BaseExecutor)):
            raise ConfigError(f"{key} has class {cls!r}; expected a subclass of apscheduler's BaseExecutor")
        if executor_class in (AsyncIOExecutor, ThreadPoolExecutor, JobExecutor):
            options.pop("pool_kwargs", None)
            workers = options.pop("max_workers", max_threads)
            if options or isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
                raise ConfigError(
                    f"{key} is {dict(entry)!r}; expected at most max_workers, a whole number of at least 1"
                )
            return JobExecutor(workers)
        return executor_class(**options)
    except ConfigError:
        raise
    except Exception as error:
        # A user's own class may raise what it likes while it is made.
        raise ConfigError(f"{key} is {dict(entry)!r}, which cannot be made into an executor: {error}") from error


def _ours_instead(executor: BaseExecutor, max_threads: int) -> BaseExecutor:
    if type(executor) is ThreadPoolExecutor:
        return JobExecutor(executor._pool._max_workers)
    return JobExecutor(max_threads) if type(executor) is AsyncIOExecutor else executor
