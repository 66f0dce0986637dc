"""The coroutine verbs: the same as the scheduler's own, and none of them blocks the event loop."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job

from .engine.handles import RunHandle
from .errors import JobChangedMeanwhile
from .model.changes import ChangePage, ChangeQuery
from .model.jobs import JobChanges, JobDefinition, tag_of
from .model.overrides import Overrides
from .model.runs import Cause, RunPage, RunQuery, RunRecord

if TYPE_CHECKING:
    # What only answers questions is imported by the verb that asks them: it would hold up the start of every app.
    from apscheduler.triggers.base import BaseTrigger

    from .extension import APScheduler
    from .model.backfill import Backfill, BackfillRequest
    from .model.explanation import Explanation
    from .model.forecast import Forecast, NextFires
    from .model.listing import JobPage
    from .model.stretches import Stretch
    from .model.triggers import TriggerSpec
    from .stores.sql.workers import Worker


class AioVerbs:
    """`scheduler.aio`: for coroutines, also where the job store does I/O. Call it in the scheduler's own loop."""

    def __init__(self, front: APScheduler) -> None:
        self._front = front
        self._scheduler = front.scheduler

    async def start(self, paused: bool = False) -> None:
        """Start in the running loop, whether or not an app serves in it: this is how to run jobs without a server.

        An app's own start-up functions are not called for it. With `paused`, no job fires until `resume`. On a host
        that is not among the allowed ones this does nothing but say so in the log. Raises AlreadyRunning.
        """
        if self._front.lifespan.may_start():
            self._scheduler.start(paused)

    async def shutdown(self, wait: bool = True, timeout: float | None = None) -> None:
        """Stop firing; with `wait`, give the running jobs `timeout` seconds, then cancel them.

        `timeout` None means SCHEDULER_SHUTDOWN_TIMEOUT. A job that calls this waits for the others and goes on. Where
        the caller is cancelled the shutdown goes on; without a server, another call waits for its end. Raises
        NotRunning.
        """
        await self._front.lifespan.stop(wait=wait, timeout=timeout)

    async def pause(self) -> None:
        """Stop firing until `resume`, in all processes that share a store. Raises NotRunning."""
        if not self._front.lifespan.note_pause(True):
            await self._scheduler.set_paused(True)

    async def resume(self) -> None:
        """Fire again, in all processes that share a store. Raises NotRunning."""
        if not self._front.lifespan.note_pause(False):
            await self._scheduler.set_paused(False)

    async def add_job(self, id: str, func: Any, **options: Any) -> Job:
        """Add a job; the options are those of `APScheduler.add_job`. Raises InvalidDefinition or DuplicateJob."""
        return await self.add(JobDefinition.parse({**options, "id": id, "func": func}))

    async def add(self, definition: JobDefinition) -> Job:
        """Add a job whose definition has been parsed. Raises InvalidDefinition or DuplicateJob."""
        catalogue = self._scheduler.catalogue
        return await self._scheduler.call(partial(catalogue.add, definition, origin=self._front.origin))

    async def modify_job(self, id: str, jobstore: str | None = None, **changes: Any) -> Job:
        """Change a job: all of it or, where something is wrong, nothing. Raises JobNotFound or InvalidDefinition."""
        return await self.modify(id, JobChanges.parse(id, changes), jobstore)

    async def modify(
        self, id: str, changes: JobChanges, jobstore: str | None = None, *, seen: Container[str] | None = None
    ) -> Job:
        """Apply changes that have been parsed. Raises JobNotFound or InvalidDefinition.

        With `seen`, entity tags as `tag` gives them, the job is changed only if it has one of them still: else this
        raises JobChangedMeanwhile.
        """
        modify = partial(self._scheduler.catalogue.modify, id, jobstore, changes, check=self._unchanged(seen))
        return await self._scheduler.call(modify)

    def tag(self, job: Job) -> str:
        """Return the entity tag of a job: another one whenever something of it was changed, its next fire aside."""
        return tag_of(job, broken=self._scheduler.catalogue.broken_reason(job))

    def _unchanged(self, seen: Container[str] | None) -> Callable[[Job], None]:
        def check(job: Job) -> None:
            if seen is not None and self.tag(job) not in seen:
                raise JobChangedMeanwhile(job.id)

        return check

    async def get_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Return the job, or None."""
        return await self._scheduler.call(partial(self._scheduler.catalogue.get, id, jobstore))

    async def get_jobs(self, jobstore: str | None = None) -> list[Job]:
        """Return all jobs: those that wait for the start, then by time of their next fire, paused ones last."""
        return await self._scheduler.call(partial(self._scheduler.catalogue.all, jobstore))

    async def job_page(self, **query: Any) -> JobPage:
        """Return a page of the jobs, light enough for many thousands of them.

        `search` is looked for in id, name, function and tags; `state` is running, overdue, broken, paused, scheduled
        or pending; `tag` is one of the jobs' tags; `outcome` that of the last run ("none": never ran). `sort` is next
        (the default), name, id, state or outcome, `descending` turns it round; `limit` (50, at most 500) jobs from
        `offset` on are returned, the ids in `first` before all others; with `ids`, these jobs alone; only
        those with an id greater than `after`. Raises InvalidDefinition or StoreUnavailable.
        """
        from .engine import listing
        from .model.listing import JobQuery

        parsed = JobQuery.parse(query)
        scheduler = self._scheduler
        running = await scheduler.computing.read(partial(listing.running_jobs, scheduler))
        read = partial(listing.job_page, scheduler, parsed, running)
        if scheduler.blocking or scheduler.histories.blocking:
            return await scheduler.call(read, blocking=True)
        # A memory store may be read from any thread, and many jobs take their time.
        return await scheduler.computing.compute(read)

    async def pause_job(self, id: str, jobstore: str | None = None) -> Job:
        """Keep the job from firing until it is resumed. Raises JobNotFound."""
        return await self._scheduler.call(partial(self._scheduler.catalogue.pause, id, jobstore))

    async def resume_job(self, id: str, jobstore: str | None = None) -> Job | None:
        """Take the job's schedule up again; None where it is over and the job was removed. Raises JobNotFound."""
        return await self._scheduler.call(partial(self._scheduler.catalogue.resume, id, jobstore))

    async def remove_job(self, id: str, jobstore: str | None = None, *, seen: Container[str] | None = None) -> None:
        """Remove the job; a run under way goes on. For `seen` see `modify`.

        Raises JobNotFound, or DeclaredJob where it is in an SQL store and the code declares it.
        """
        await self._scheduler.call(partial(self._scheduler.catalogue.remove, id, jobstore, check=self._unchanged(seen)))

    async def remove_all_jobs(self, jobstore: str | None = None) -> None:
        """Remove the jobs of one store, or of all; those that the code declares stay in an SQL store."""
        await self._scheduler.call(partial(self._scheduler.catalogue.remove_all, jobstore))

    async def workers(self) -> list[Worker]:
        """Return the processes that share an SQL store with this one, itself among them. Raises StoreUnavailable."""
        return await self._scheduler.call(self._scheduler.catalogue.slots.workers)

    async def run_job(
        self,
        id: str,
        jobstore: str | None = None,
        *,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
        cause: Cause = "manual",
    ) -> RunHandle:
        """Run the job once beside its schedule, also a paused one, and return the run to await.

        `args` and `kwargs`, where given, take the place of the job's own for this run, its retries and reruns. With an
        `idempotency_key`, a call that is repeated within 24 hours returns the run of the first one, whose `repeated` is
        then True, in whichever process it was made.

        Awaiting it gives its RunRecord, or raises what the job raised. Raises JobNotFound, NotStored for a job that no
        process has brought into its SQL store yet, InvalidDefinition for arguments that do not fit,
        IdempotencyKeyReused for a key that stood for another job or other arguments, OverlapForbidden where
        max_instances of it run already, or Draining.
        """
        overrides = Overrides.parse(args, kwargs)
        return await self.run_with(id, overrides, jobstore, idempotency_key=idempotency_key, cause=cause)

    async def run_with(
        self,
        id: str,
        overrides: Overrides,
        jobstore: str | None = None,
        *,
        idempotency_key: str | None = None,
        cause: Cause = "manual",
    ) -> RunHandle:
        """Carry out `run_job` with arguments that have been parsed."""
        request = None
        if idempotency_key is not None:
            from .model.idempotency import RunRequest

            request = RunRequest.parse(idempotency_key, id, overrides)
        return await self._scheduler.by_hand.run(id, jobstore, cause, overrides, request)

    async def backfill(
        self,
        job_id: str,
        start: datetime | str,
        end: datetime | str | None = None,
        *,
        dry_run: bool = False,
        concurrency: int = 1,
        rerun: bool = False,
    ) -> Backfill:
        """Run the past fires of a job from `start` on and before `end`, each with the time that it was due at.

        They run in order, `concurrency` (1 to 100) at once and never more than the job's max_instances, counted
        together with the fires of its schedule, also where the job is paused. Naive times are read in
        SCHEDULER_TIMEZONE; without an `end` it is now. The records have the cause "backfill". With an SQL store what
        waits outlives this process and runs in any; with others it ends with it.

        Fires of which a run waits or is under way are left out, those that the schedule has yet to come to and, unless
        `rerun`, those that one has succeeded at.
        With `dry_run` nothing runs, and the answer says what would. Raises JobNotFound, NotStored, InvalidDefinition
        for wrong values and for more than 1,000 fires, Draining, or StoreUnavailable.
        """
        from .model.backfill import BackfillRequest

        given = {"start": start, "end": end, "dry_run": dry_run, "concurrency": concurrency, "rerun": rerun}
        return await self.fill(
            job_id, BackfillRequest.parse(given, timezone=self._scheduler.timezone, now=self._scheduler.clock.now())
        )

    async def fill(self, job_id: str, request: BackfillRequest) -> Backfill:
        """Carry out `backfill` with a request that has been parsed."""
        from .engine.backfill import backfill

        return await backfill(self._scheduler, job_id, request)

    async def cancel_run(self, run_id: str) -> None:
        """Ask a run to stop, whichever process has it; this returns before it has, within SCHEDULER_POLL_INTERVAL.

        A coroutine is cancelled; a plain function sees `current_run.cancelled`. A run that waits does not start any
        more. The record says `cancelled`. Raises RunNotFound, or RunOver where it has ended.
        """
        await self._scheduler.by_hand.cancel(run_id)

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
        given = {
            "job_id": job_id,
            "outcome": outcome,
            "since": since,
            "until": until,
            "limit": limit,
            "cursor": cursor,
        }
        query = RunQuery.parse(given, timezone=self._scheduler.timezone)
        return await self._scheduler.read_history(partial(self._scheduler.histories.page, query))

    async def run(self, run_id: str) -> RunRecord | None:
        """Return this run with its result, traceback and log, or None where its record is not there (any more)."""
        return await self._scheduler.read_history(partial(self._scheduler.histories.find, run_id))

    async def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        return await self._scheduler.computing.read(partial(self._scheduler.histories.attempts, record))

    async def latest_runs(self, job_ids: Sequence[str], count: int = 30) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        return await self._scheduler.computing.read(partial(self._scheduler.histories.latest, job_ids, count))

    async def statistics(
        self, since: datetime, until: datetime, buckets: int, job_ids: Iterable[str] | None = None
    ) -> list[Stretch]:
        """Return the runs that ended, counted and timed, in so many `buckets` (1 to 1,000) of equal length.

        The runs are those of the fires at or after `since` and before `until`, both aware. With `job_ids` they are
        those of these jobs alone, counted for each job; else `job_id` is "". Raises InvalidDefinition, or
        SchedulerError where a history is not available.
        """
        from .model.stretches import StretchQuery

        query = StretchQuery.parse(since, until, buckets, job_ids)
        return await self._scheduler.computing.read(partial(self._scheduler.histories.stretches, query))

    async def next_fires(self, job_id: str, count: int | str = 10) -> NextFires:
        """Return the job's next fires, up to `count` (1 to 1,000), in order of time.

        Each of the `items` has `at`, aware, in the trigger's time zone, and `clock_change`: None, or a ClockMark where
        the clocks skip or repeat the time of the fire, or have skipped another of the job since the one before. The
        first fire is as it is stored; behind it jitter is left out. A fire that is due comes first, with its time in
        the past.

        `state` is that of the job: `scheduled`, `pending` (the fires are those that it had if the scheduler started
        now), `paused` (those that it had if it were resumed now; `paused` is True), `ended` (paused, and none are
        left), or `broken`. Of a broken job there are none, and where the trigger fails they break off: `reason` says
        why. `paused` is True as well where the scheduler itself is paused; that it is stopped is left aside. There are
        fewer than `count` where the schedule ends, and where a cron expression does not come true for 50 years.

        Raises InvalidDefinition for a wrong `count`, JobNotFound or StoreUnavailable.
        """
        from .engine import forecasts

        return await forecasts.next_fires(self._scheduler, job_id, count)

    async def explain(self, job_id: str, at: datetime | str) -> Explanation:
        """Say what happened, or is to happen, to the job's fire at a moment: `verdict` in a word, `description` in a
        sentence, and the details, as `Explanation` says.

        `at` is a datetime or ISO 8601 text. A naive one is read in the trigger's zone; where it comes twice it stands
        for the time that is a fire, or the first if both are. One with whole seconds means the fire within that second,
        and with a trigger that has jitter the nearest fire within that.

        Raises InvalidDefinition for a wrong `at`, JobNotFound where neither a job nor a trace of one is there,
        StoreUnavailable, or SchedulerError where a history is not available.
        """
        from .engine import inquiries

        return await inquiries.explain(self._scheduler, job_id, at)

    async def changes(self, job_id: str | None = None, limit: int | str = 50, cursor: str | None = None) -> ChangePage:
        """Return who changed what, newest first, `limit` (1 to 500) at a time: jobs, and the scheduler as a whole.

        `cursor` is the `next` of the page before. An SQL store keeps its list for SCHEDULER_HISTORY_DAYS, for all
        processes; of jobs elsewhere, and of its own start, stop and pauses, each process remembers the last 10,000
        changes. Raises InvalidDefinition or StoreUnavailable.
        """
        scheduler = self._scheduler
        return await scheduler.call(partial(scheduler.ledger.page, ChangeQuery.parse(job_id, limit, cursor)))

    async def forecast(self, hours: float | str = 24, limit: int | str = 1000) -> Forecast:
        """Return the fires of all jobs within so many `hours` (at most 8,784, which are 366 days), in order of time.

        The `items` are the first `limit` (1 to 10,000) of them, and `truncated` is True where there are more before
        `until`. Each has `job_id` besides what `next_fires` gives. Jobs that wait for the start fire as if that were
        now; paused and broken ones are left out. `paused` is True where the scheduler itself is paused, and the fires
        are those that there were if it were resumed now; that it is stopped is left aside.

        Raises InvalidDefinition for a wrong value, or StoreUnavailable.
        """
        from .engine import forecasts

        return await forecasts.forecast_all(self._scheduler, hours, limit)

    async def outlook(self, jobs: Iterable[Job], hours: float, limit: int = 200) -> dict[str, Forecast]:
        """Return the fires of each of these jobs within so many `hours`, the first `limit`, by the job's id.

        As in `forecast`, paused and broken jobs have none.
        """
        from .engine import forecasts

        return await forecasts.outlook(self._scheduler, jobs, hours, limit)

    async def preview(self, trigger: TriggerSpec, count: int = 10) -> tuple[BaseTrigger, NextFires]:
        """Return the trigger as a job that is added now would have it, and the fires that the job had.

        Raises InvalidDefinition where the trigger cannot be built.
        """
        from .engine import forecasts

        return await forecasts.preview(self._scheduler, trigger, count)
