"""The synchronous verbs on jobs, with APScheduler's own names and signatures, for any thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import tzinfo
from functools import partial
from typing import Any, TextIO, TypeVar
from uuid import uuid4

from apscheduler import events as aps
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.base import STATE_STOPPED
from apscheduler.util import undefined

from ..model.functions import default_id
from ..model.jobs import POSITIONAL, JobChanges, JobDefinition
from .catalogue import Catalogue
from .declarations import Origin
from .listeners import Listener, Listeners
from .stream import EventStream
from .threads import DaemonPool

log = logging.getLogger("quart_sched")

T = TypeVar("T")


class Verbs(AsyncIOScheduler):
    """What APScheduler's scheduler offers on jobs, on top of our catalogue."""

    # APScheduler's own attributes, which it does not declare.
    state: int
    timezone: tzinfo
    _eventloop: asyncio.AbstractEventLoop | None
    _job_defaults: dict[str, Any]
    _jobstores: dict[str, BaseJobStore]
    _executors: dict[str, BaseExecutor]
    _listeners: list[tuple[Listener, int]]
    _pending_jobs: list[tuple[Job, str, bool]]

    catalogue: Catalogue
    listeners: Listeners
    stream: EventStream
    _store_thread: DaemonPool
    _shared_threads: DaemonPool
    _loop_thread: int | None = None
    _warned = False

    @property
    def blocking(self) -> bool:
        """Whether any job store does I/O, so that verbs have to go to the store thread."""
        return self.catalogue.slots.blocking

    @property
    def _threads(self) -> DaemonPool:
        """Where verbs are carried out."""
        return self._store_thread if self.catalogue.slots.foreign else self._shared_threads

    def call_sync(self, op: Callable[[], T]) -> T:
        """Run `op`, which uses job stores, and wait for it, in any thread."""
        if not self.blocking:
            return op()
        threads = self._threads
        if threads.is_current():
            return op()
        if threading.get_ident() == self._loop_thread and not self._warned:
            self._warned = True
            log.warning(
                "A synchronous verb waits for a job store on the event loop. "
                "In coroutines use scheduler.aio, which has the same verbs: await scheduler.aio.get_jobs()"
            )
        return threads.submit(partial(copy_context().run, op)).result()

    def add_listener(self, callback: Listener, mask: int = aps.EVENT_ALL) -> None:
        """Call `callback`, a function or coroutine function, on the loop with each event whose code is in `mask`."""
        with self._listeners_lock:
            self.listeners.add(callback, mask)
            self._hear_for_listeners()

    def remove_listener(self, callback: Listener) -> None:
        """Forget a listener."""
        with self._listeners_lock:
            self.listeners.remove(callback)
            self._hear_for_listeners()

    def _hear_for_listeners(self) -> None:
        # For those that hear of failures alone, say, no other event is made.
        if kinds := self.listeners.kinds:
            self.stream.subscribe(self.listeners, *kinds)
        else:
            self.stream.unsubscribe(self.listeners)

    def add_job(self, func: Any, trigger: Any = None, *args: Any, **options: Any) -> Job:
        """Add a job, as APScheduler's method of this name does. Raises InvalidDefinition or DuplicateJob.

        Without an `id` it gets a random one after the start, and with an SQL store while the app serves; before, one
        that is the same in each process: ``module:qualname``, with ``-2`` and so on for more jobs of the function.
        """
        return self._add(func, trigger, args, options, "app")

    def _add(self, func: Any, trigger: Any, args: tuple[Any, ...], options: dict[str, Any], origin: Origin) -> Job:
        given = dict(zip((*POSITIONAL, "replace_existing"), args, strict=False)) | options
        given = {key: value for key, value in given.items() if value is not undefined}
        if given.get("id") is None:
            name = default_id(func) if callable(func) else str(func)
            if origin != "task":
                added = self.catalogue.adds_to(str(given.get("jobstore", "default")))
                name = uuid4().hex if added else self.catalogue.declarations.free_id(name)
            given["id"] = name
        definition = JobDefinition.parse({**given, "func": func, "trigger": trigger}, named_after="func")
        return self.call_sync(partial(self.catalogue.add, definition, origin=origin))

    def scheduled_job(self, trigger: Any, *args: Any, **options: Any) -> Callable[[T], T]:
        """Declare the decorated function as a job; without an `id` it is called ``module:qualname``."""

        def decorate(func: T) -> T:
            self._add(func, trigger, args, options, "task")
            return func

        return decorate

    def modify_job(self, job_id: str, jobstore: str | None = None, **changes: Any) -> Job:
        """Change a job; `changes` may have a trigger with its fields. Raises JobNotFound or InvalidDefinition."""
        return self.call_sync(partial(self.catalogue.modify, job_id, jobstore, JobChanges.parse(job_id, changes)))

    def reschedule_job(self, job_id: str, jobstore: str | None = None, trigger: Any = None, **trigger_args: Any) -> Job:
        """Give the job another trigger."""
        return self.modify_job(job_id, jobstore, trigger=trigger or "date", **trigger_args)

    def pause_job(self, job_id: str, jobstore: str | None = None) -> Job:
        """Keep the job from firing until it is resumed. Raises JobNotFound."""
        return self.call_sync(partial(self.catalogue.pause, job_id, jobstore))

    def resume_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Take the job's schedule up again; None where it is over and the job was removed. Raises JobNotFound."""
        return self.call_sync(partial(self.catalogue.resume, job_id, jobstore))

    def get_job(self, job_id: str, jobstore: str | None = None) -> Job | None:
        """Return the job, or None."""
        return self.call_sync(partial(self.catalogue.get, job_id, jobstore))

    def get_jobs(self, jobstore: str | None = None, pending: bool | None = None) -> list[Job]:
        """Return all jobs: those that wait for the start, then by time of their next fire, paused ones last."""
        return self.call_sync(partial(self.catalogue.all, jobstore))

    def print_jobs(self, jobstore: str | None = None, out: TextIO | None = None) -> None:
        """Print the jobs of one store, or of all, to `out` (standard output); before the start those that wait."""
        if self.state == STATE_STOPPED:
            lists = {"Pending jobs": [entry.job for entry in self.catalogue.declarations.of(jobstore)]}
        else:
            aliases = [alias for alias in sorted(self.catalogue.slots) if jobstore in (None, alias)]
            lists = {f"Jobstore {alias}": self.get_jobs(alias) for alias in aliases}
        nothing = "No pending jobs" if self.state == STATE_STOPPED else "No scheduled jobs"
        for title, jobs in lists.items():
            print(f"{title}:", *(f"    {job}" for job in jobs or [nothing]), sep="\n", file=out)

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """Remove the job. Raises JobNotFound."""
        self.call_sync(partial(self.catalogue.remove, job_id, jobstore))

    def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove the jobs of one store, or of all."""
        self.call_sync(partial(self.catalogue.remove_all, jobstore))
