"""The coroutine verbs: the same as the scheduler's own, and none of them blocks the event loop."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job

from .engine.runner import RunHandle
from .model.jobs import JobChanges, JobDefinition
from .model.runs import Cause, RunPage, RunQuery, RunRecord

if TYPE_CHECKING:
    from .extension import APScheduler
    from .stores.sql.workers import Worker


class AioVerbs:
    """`scheduler.aio`: for coroutines, also where the job store does I/O. Call it in the scheduler's own loop."""

    def __init__(self, front: APScheduler) -> None:
        self._front = front

    async def start(self, paused: bool = False) -> None:
        """Start in the running loop, whether or not an app serves in it.

        With `paused`, no job fires until `resume`. On a host that is not among the allowed ones this does nothing but
        say so in the log. Raises AlreadyRunning.
        """
        if self._front.may_start():
            self._front.scheduler.start(paused)

    async def shutdown(self, wait: bool = True, timeout: float | None = None) -> None:
        """Stop firing; with `wait`, give the running jobs `timeout` seconds, then cancel them.

        `timeout` None means SCHEDULER_SHUTDOWN_TIMEOUT. Raises NotRunning.
        """
        await self._front.stop(wait=wait, timeout=timeout)

    async def pause(self) -> None:
        """Stop firing until `resume`, in all processes that share a store. Raises NotRunning."""
        if not self._front.note_pause(True):
            await self._front.scheduler.set_paused(True)

    async def resume(self) -> None:
        """Fire again, in all processes that share a store. Raises NotRunning."""
        if not self._front.note_pause(False):
            await self._front.scheduler.set_paused(False)

    async def add_job(self, id: str, func: Any, **options: Any) -> Job:
        """Add a job; the options are those of `APScheduler.add_job`. Raises InvalidDefinition or DuplicateJob."""
        return await self.add(JobDefinition.parse({**options, "id": id, "func": func}))

    async def add(self, definition: JobDefinition) -> Job:
        """Add a job whose definition has been parsed. Raises InvalidDefinition or DuplicateJob."""
        catalogue = self._front.scheduler.catalogue
        return await self._front.scheduler.call(partial(catalogue.add, definition, origin=self._front.origin))

    async def modify_job(self, id: str, jobstore: str | None = None, **changes: Any) -> Job:
        """Change a job: all of it or, where something is wrong, nothing. Raises JobNotFound or InvalidDefinition."""
        return await self.modify(id, JobChanges.parse(id, changes), jobstore)

    async def modify(self, id: str, changes: JobChanges, jobstore: str | None = None) -> Job:
        """Apply changes that have been parsed. Raises JobNotFound or InvalidDefinition."""
        scheduler = self._front.scheduler
        return await scheduler.call(partial(scheduler.catalogue.modify, id, jobstore, changes))

    async def get_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Return the job, or None."""
        scheduler = self._front.scheduler
        return await scheduler.call(partial(scheduler.catalogue.get, id, jobstore))

    async def get_jobs(self, jobstore: str | None = None) -> list[Job]:
        """Return all jobs: those that wait for the start, then by time of their next fire, paused ones last."""
        scheduler = self._front.scheduler
        return await scheduler.call(partial(scheduler.catalogue.all, jobstore))

    async def pause_job(self, id: str, jobstore: str | None = None) -> Job:
        """Keep the job from firing until it is resumed. Raises JobNotFound."""
        scheduler = self._front.scheduler
        return await scheduler.call(partial(scheduler.catalogue.pause, id, jobstore))

    async def resume_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Take the job's schedule up again; None where it is over and the job was removed. Raises JobNotFound."""
        scheduler = self._front.scheduler
        return await scheduler.call(partial(scheduler.catalogue.resume, id, jobstore))

    async def remove_job(self, id: str, jobstore: str | None = None) -> None:
        """Remove the job; a run under way goes on. Raises JobNotFound."""
        scheduler = self._front.scheduler
        await scheduler.call(partial(scheduler.catalogue.remove, id, jobstore))

    async def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove the jobs of one store, or of all."""
        scheduler = self._front.scheduler
        await scheduler.call(partial(scheduler.catalogue.remove_all, jobstore))

    async def workers(self) -> list[Worker]:
        """Return the processes that share an SQL store with this one, itself among them. Raises StoreUnavailable."""
        scheduler = self._front.scheduler
        return await scheduler.call(scheduler.catalogue.workers)

    async def run_job(self, id: str, jobstore: str | None = None, *, cause: Cause = "manual") -> RunHandle:
        """Run the job once beside its schedule, also a paused one, and return the run to await.

        Awaiting it gives its RunRecord, or raises what the job raised. Raises JobNotFound, OverlapForbidden where
        max_instances of it run already, or Draining.
        """
        return await self._front.scheduler.run_now(id, jobstore, cause)

    async def runs(
        self,
        job_id: str | None = None,
        outcome: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        limit: int | str = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return what runs and what has run, newest first, `limit` (1 to 500) at a time.

        `outcome` may be a state too; the fire's time lies at or after `since` and before `until`, which are read in
        SCHEDULER_TIMEZONE where they are naive. `cursor` is the `next` of the page before. The order is that in which
        the runs were made; with `job_id` or `until` it is that of the fires. Raises InvalidDefinition, or
        SchedulerError where a history is not available.
        """
        scheduler = self._front.scheduler
        given = {
            "job_id": job_id,
            "outcome": outcome,
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
        }
        query = RunQuery.parse(given, timezone=scheduler.timezone)
        histories = scheduler.histories
        page: RunPage = await scheduler.call(partial(histories.page, query), blocking=histories.blocking)
        return page

    async def run(self, run_id: str) -> RunRecord | None:
        """Return this run with its result, traceback and log, or None where its record is not there (any more)."""
        histories = self._front.scheduler.histories
        record: RunRecord | None = await self._front.scheduler.call(
            partial(histories.find, run_id), blocking=histories.blocking
        )
        return record
