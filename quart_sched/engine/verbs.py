"""The synchronous verbs on jobs, with APScheduler's own names and signatures, for any thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from datetime import tzinfo
from functools import partial
from typing import Any, TypeVar

from apscheduler import events as aps
from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.util import undefined

from ..model.functions import default_id
from ..model.jobs import POSITIONAL, JobChanges, JobDefinition
from .catalogue import Catalogue
from .stream import EventStream, Listener, Listeners
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
        self.listeners.add(callback, mask)
        self.stream.subscribe(self.listeners)

    def remove_listener(self, callback: Listener) -> None:
        """Forget a listener."""
        self.listeners.remove(callback)
        if not self.listeners:
            self.stream.unsubscribe(self.listeners)

    def add_job(self, func: Any, trigger: Any = None, *args: Any, **options: Any) -> Job:
        """Add a job, as APScheduler's method of this name does. Raises InvalidDefinition or DuplicateJob."""
        given = dict(zip((*POSITIONAL, "replace_existing"), args, strict=False)) | options
        given = {key: value for key, value in given.items() if value is not undefined}
        if given.get("id") is None:
            given["id"] = default_id(func) if callable(func) else func
        definition = JobDefinition.parse({**given, "func": func, "trigger": trigger}, named_after="func")
        return self.call_sync(partial(self.catalogue.add, definition))

    def scheduled_job(self, trigger: Any, *args: Any, **options: Any) -> Callable[[T], T]:
        """Declare the decorated function as a job."""

        def decorate(func: T) -> T:
            self.add_job(func, trigger, *args, **options)
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

    def remove_job(self, job_id: str, jobstore: str | None = None) -> None:
        """Remove the job. Raises JobNotFound."""
        self.call_sync(partial(self.catalogue.remove, job_id, jobstore))

    def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove the jobs of one store, or of all."""
        self.call_sync(partial(self.catalogue.remove_all, jobstore))
