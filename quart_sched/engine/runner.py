"""The runner: takes claimed fires and runs each once, in its own context, and says what became of it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Container, Sequence
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from functools import partial
from typing import Any

from apscheduler.executors.base import BaseExecutor
from apscheduler.job import Job

from ..errors import Draining, OverlapForbidden, RunCancelled, RunTimedOut
from ..model.events import RunEnded, RunLeft, RunReturned, RunSubmitted
from ..model.policies import policy_of
from ..model.runs import Cause, Outcome, Run, overlap_error
from .accounts import Accounts
from .batches import Batch
from .clock import Clock
from .executors import ForeignExecutor, outcome_of
from .handles import RunHandle
from .performer import Performer, ThreadRun
from .stream import EventStream, Mailbox
from .under_way import UnderWay
from .waiting import Waiting, WaitingRuns

log = logging.getLogger("quart_sched")

Perform = Callable[[Batch, Run], Awaitable[Any]]
"""Returns what a job returns, or raises what it raises."""

BY_HAND = "it was cancelled by hand"
UNBEGUN = "it was cancelled before it began"
REMOVED = "the job was removed"
REPLACED = "a later fire of its job took its place"
LEFT = "the event loop was closed before it ended"


class Runner:
    """Runs jobs and keeps the books on it: which run now, how many of each, and what became of them."""

    def __init__(self, clock: Clock, stream: EventStream, mailbox: Mailbox, performer: Performer) -> None:
        self.clock = clock
        self.under_way = UnderWay()
        self.accounts = Accounts(clock, stream)
        self.draining = False
        self.generation = 0
        """Counts the starts, so that a drain leaves alone what began after them."""
        self.executors: dict[str, BaseExecutor | ForeignExecutor] = {}
        self._stream = stream
        self._mailbox = mailbox
        self._performer = performer
        self._loop: asyncio.AbstractEventLoop | None = None
        self.waiting = WaitingRuns(self._begin_waiting, self._give_up_waiting)
        stream.subscribe(self.waiting.hear, RunEnded)
        self.origin: Callable[[], Any] | None = None
        """Returns what stands for the caller of a run by hand, in traces."""
        self.held: Callable[[], bool] = lambda: False
        """Whether nothing may start at the moment."""
        self.begun: Callable[[Run, str | None], None] | None = None
        """To be called with each run that begins, and its store."""

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run jobs on `loop` from now on."""
        before, self._loop = self._loop, loop
        self.draining = False
        self.accounts.worker = f"{socket.gethostname()}:{os.getpid()}"
        if before is not None and before.is_closed():
            self._give_up_left()

    def _give_up_left(self) -> None:
        """Account for what a loop took along that was closed without a shutdown."""
        self.waiting.drop(LEFT)
        for batch in self.under_way.all():
            # One whose task was cancelled before its first step has not ended either.
            if batch.task is not None and not batch.ended:
                if batch.has_unbegun_task:
                    batch.task.get_coro().close()
                batch.given_up, batch.task, batch.waiter = True, None, None
                self.finish(batch, batch.current, "cancelled", error=RunCancelled(LEFT))

    def begin_generation(self) -> None:
        """Let what begins from now on be another start's."""
        for executor in self.executors.values():
            if isinstance(executor, ForeignExecutor):
                executor.set_apart(self.generation)
        self.generation += 1

    @property
    def worker(self) -> str:
        """This process, as records name it."""
        return self.accounts.worker

    # Submission

    def submit(self, job: Job, runs: list[Run], *, claimed: bool = False) -> None:
        """Run claimed fires of `job`, oldest first, or account for them as skipped.

        With `claimed`, a shared store has counted the instances of the job over all processes already.
        """
        if not claimed and len(self.under_way.of_job(job)) >= job.max_instances:
            self._overlap(job, runs)
            return
        self._begin(Batch(job, runs, self.executors[job.executor], self.generation, claimed=claimed))

    def _overlap(self, job: Job, runs: list[Run]) -> None:
        """Do with fires what their job wants where there is no place for them."""
        policy = policy_of(job)
        waiting = [run for run in self.waiting.runs(job.id) if run.job._jobstore_alias == job._jobstore_alias]
        queued = [run for run in waiting if run.cause == "schedule"]
        admitted: list[Run] = []
        if policy.overlap == "queue":
            admitted = runs[: max(0, policy.max_queue - len(queued))]
        elif policy.overlap == "replace":
            admitted = runs[-1:]
            for run in queued:
                self.waiting.cancel(run.run_id, REPLACED)
            busy = [batch for batch in self.under_way.of_job(job) if not batch.current.cancelled]
            for batch in busy[: max(0, len(busy) - job.max_instances + 1)]:
                self.drop_rest(batch, REPLACED)  # They are older still.
                self._cancel_current(batch, REPLACED)
        if left_out := [run for run in runs if run not in admitted]:
            self.warn_of_overlap(job)
            under_way = [batch.current.run_id for batch in self.under_way.of_job(job)]
            for run in left_out:
                self.accounts.end(run, job._jobstore_alias, "skipped", why=overlap_error(under_way))
        for run in admitted:
            executor = self.executors[job.executor]
            self._let_wait(Waiting(run, job._jobstore_alias, executor, self.generation), 0.0)

    def _let_wait(self, entry: Waiting, seconds: float) -> None:
        self.waiting.add(entry, seconds, self.clock)
        self.accounts.wait(entry.run, entry.jobstore)

    def warn_of_overlap(self, job: Job) -> None:
        """Say that a fire was skipped."""
        text = 'Job "%s" skipped: already running %d time(s), its max_instances'
        log.warning(text, job.id, job.max_instances, extra={"job_id": str(job.id)})

    def start_now(self, job: Job, cause: Cause) -> RunHandle:
        """Run `job` once, now, beside its schedule. Raises OverlapForbidden or Draining."""
        self._refuse_while_draining(job)
        active = self.under_way.of_job(job)
        if len(active) >= job.max_instances:
            raise OverlapForbidden(job.id, [batch.current.run_id for batch in active])
        return self._start(
            Batch(job, [Run(job, self.clock.now(), cause)], self.executors[job.executor], self.generation)
        )

    def start_claimed(self, run: Run) -> RunHandle:
        """Run what a shared store has let this process run beside the schedule. Raises Draining."""
        self._refuse_while_draining(run.job)
        return self._start(Batch(run.job, [run], self.executors[run.job.executor], self.generation, claimed=True))

    def backfill(self, job: Job, fires: Sequence[datetime], concurrency: int) -> list[str]:
        """Run past fires of `job`, so many at once and as its instances allow; return their runs. Raises Draining."""
        self._refuse_while_draining(job)
        runs = [Run(job, fire, "backfill") for fire in fires]
        executor, alias = self.executors[job.executor], job._jobstore_alias
        entries = [Waiting(run, alias, executor, self.generation) for run in runs]
        for number in range(concurrency):
            self.waiting.add_lane(entries[number::concurrency], self.clock)
        for entry in entries:
            self.accounts.wait(entry.run, entry.jobstore)
        return [run.run_id for run in runs]

    def _refuse_while_draining(self, job: Job) -> None:
        if self.draining or self._loop is None:
            raise Draining(f"Job {job.id} cannot be run: this process is shutting down")

    def _start(self, batch: Batch) -> RunHandle:
        assert self._loop is not None
        batch.waiter = self._loop.create_future()
        run = batch.current
        if self.origin is not None:
            run.origin = self.origin()
        self._begin(batch)
        return RunHandle(run, batch.waiter)

    def _begin(self, batch: Batch) -> None:
        self.under_way.enter(batch)
        self._next(batch)

    def _next(self, batch: Batch) -> None:
        """Start the batch's next run, in a context and task of its own."""
        assert self._loop is not None
        run = batch.begin_next()
        if self.begun is not None:
            self.begun(run, batch.jobstore)
        if self._stream.is_read(RunSubmitted):
            self._stream.emit(RunSubmitted(run, batch.jobstore))
        if isinstance(batch.executor, ForeignExecutor):
            run.started_at = self.clock.now()
            try:
                batch.executor.submit(run)
            except Exception as error:
                # A pool that cannot take the job (it may be broken) has failed this run, and none of the others.
                self.finish(batch, run, "failed", error=error)
            return
        try:
            in_thread = self._performer.perform_in_thread(batch, run, self._thread_ended)
        except RuntimeError as error:
            # No thread could be started. One that is there may have taken the call all the same.
            if batch.call is not None and batch.call.withdraw():
                batch.call = None
                self.finish(batch, run, "failed", error=error)
            return
        if not in_thread:
            self._run_in_task(batch, run, self._performer.perform, Context())

    def _run_in_task(self, batch: Batch, run: Run, perform: Perform, context: Context) -> None:
        assert self._loop is not None
        # A name of its own spares the making of one, and tells people more.
        task = self._loop.create_task(self._run(batch, run, perform), name=batch.job.id, context=context)
        if not task.done():
            # Where tasks are eager it may be over by now, and the batch at its next run.
            batch.task = task

    # One run

    async def _run(self, batch: Batch, run: Run, perform: Perform) -> None:
        run.started_at = run.started_at or self.clock.now()
        try:
            result = await perform(batch, run)
        except asyncio.CancelledError as error:
            self._fail(batch, run, error)
            if (task := asyncio.current_task()) and task.cancelling():
                raise
        except BaseException as error:
            self._fail(batch, run, error)
        else:
            self.finish(batch, run, "cancelled" if run.cancelled else "succeeded", result=result)

    def _fail(self, batch: Batch, run: Run, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self.finish(batch, run, "cancelled", error=error if batch.why is None else RunCancelled(batch.why))
        elif isinstance(error, RunTimedOut):
            self.finish(batch, run, "timed_out", error=error)
        elif batch.stopped and not isinstance(error, KeyboardInterrupt):
            # It has done what it was asked for, in its own way.
            self.finish(batch, run, "cancelled", error=error)
        else:
            # SystemExit too: a job must not end the server that it runs in.
            self.finish(batch, run, "failed", error=error)
            if isinstance(error, KeyboardInterrupt):
                raise error

    def _thread_ended(self, batch: Batch, run: Run, call: ThreadRun, error: BaseException | None, result: Any) -> None:
        """Take note that a function which needed no task has left its thread."""
        if call.unfinished and batch.ended:
            call.drop()  # The drain has given this run up and recorded it.
        elif call.unfinished:
            assert call.context is not None
            self._run_in_task(batch, run, call.perform, call.context)
        elif error is not None:
            self._fail(batch, run, error)
        else:
            self.finish(batch, run, "cancelled" if run.cancelled else "succeeded", result=result)

    # The end of a run

    def finish(
        self, batch: Batch, run: Run, outcome: Outcome, *, result: Any = None, error: BaseException | None = None
    ) -> None:
        """Account for the current run of a batch, once, and go on with the next one."""
        if batch.done or batch.ended:
            return  # The drain has given this run up and recorded it.
        batch.ended = True
        seconds = None
        if outcome in ("failed", "timed_out"):
            self._log_failure(batch, run, outcome, error)
            seconds = self._seconds_to_retry(batch, run)
        call = batch.call
        # A function that is still busy in its thread holds its place.
        busy = call is not None and not call.withdraw()
        ended = self.accounts.end(run, batch.jobstore, outcome, result=result, error=error, retry_in=seconds, busy=busy)
        if seconds is not None and not batch.claimed:
            # A shared store keeps it waiting itself, for any of its processes.
            again = Run(run.job, run.scheduled_at, "retry", fire_id=run.fire_id, attempt=run.attempt + 1)
            entry = Waiting(again, batch.jobstore, batch.executor, batch.generation)
            if batch.last:
                self._give_up_waiting(entry, REMOVED)  # A listener has done that, told of the failure.
            else:
                self._let_wait(entry, seconds)
        if batch.runs and batch.given_up:
            self.drop_rest(batch)
        if call is not None and busy:
            call.on_end = partial(self._next_or_release, batch)
        elif batch.runs:
            self._next(batch)
            return
        if batch.runs:
            return
        batch.done = True
        if batch.waiter is not None and not batch.waiter.done():
            batch.waiter.set_result(ended)
        if not busy:
            self.release(batch)

    def _next_or_release(self, batch: Batch) -> None:
        """Go on when a function that had been given up has left its thread."""
        batch.call = None
        self._stream.emit(RunLeft(batch.current.run_id, batch.jobstore))
        if batch.runs and not (self.draining or batch.given_up):
            self._next(batch)
            return
        self.drop_rest(batch)
        batch.done = True
        if batch.waiter is not None:
            batch.waiter.cancel()  # of a drain, which waits for the thread alone
        self.release(batch)

    @staticmethod
    def _log_failure(batch: Batch, run: Run, outcome: Outcome, error: BaseException | None) -> None:
        # A handler may raise, for example over an exception that nobody can show; the run has to end all the same.
        with suppress(Exception, SystemExit):
            if outcome == "timed_out":
                log.error('Job "%s" timed out: %s', run.job_id, error, extra=run.log_fields())
            elif not batch.disowned:
                log.error('Job "%s" raised an exception', run.job_id, exc_info=error, extra=run.log_fields())

    def _seconds_to_retry(self, batch: Batch, run: Run) -> float | None:
        """Return how long from now the next attempt of a run that failed is due; None where there is none."""
        retry = policy_of(run.job).retry
        if retry is None or run.attempt >= retry.attempts:
            return None
        # What waits in this process ends with it; what a shared store keeps is another one's to take.
        over = batch.disowned or (not batch.claimed and (self.draining or batch.last))
        return None if over else retry.seconds_after(run.attempt)

    def _begin_waiting(self, entry: Waiting) -> bool:
        job = entry.run.job
        if self.held() or not self.under_way.room or len(self.under_way.of_job(job)) >= job.max_instances:
            return False
        self._begin(Batch(job, [entry.run], entry.executor, self.generation))
        return True

    def _give_up_waiting(self, entry: Waiting, why: str) -> None:
        self.accounts.end(entry.run, entry.jobstore, "cancelled", error=RunCancelled(why))

    def drop(self, batch: Batch, run: Run, why: str | None = None) -> None:
        """Give up a run that has not begun: back to the store that can let another process have it, or for good."""
        if batch.claimed:
            self._stream.emit(RunReturned(run, batch.jobstore))
        else:
            error = None if why is None else RunCancelled(why)
            self.accounts.end(run, batch.jobstore, "cancelled", error=error)

    def drop_rest(self, batch: Batch, why: str | None = None) -> None:
        """Give up the runs of a batch that have not begun."""
        for run in batch.runs:
            self.drop(batch, run, why)
        batch.runs = []

    def cancel(self, run_id: str, why: str = BY_HAND) -> bool:
        """Ask a run to stop, once, if it is under way or waits here; tell whether it is."""
        if self.waiting.cancel(run_id, UNBEGUN):
            return True
        for batch in self.under_way.all():
            if batch.current.run_id == run_id and not batch.ended:
                if not batch.current.cancelled:
                    self._cancel_current(batch, why)
                return True
        return self.cancel_unbegun(run_id, UNBEGUN)

    def cancel_unbegun(self, run_id: str, why: str) -> bool:
        """End a run whose turn in its batch has not come; tell whether there is such a one."""
        for batch in self.under_way.all():
            for run in [run for run in batch.runs if run.run_id == run_id]:
                batch.runs.remove(run)
                self.accounts.end(run, batch.jobstore, "cancelled", error=RunCancelled(why))
                return True
        return False

    def _cancel_current(self, batch: Batch, why: str) -> None:
        batch.current.cancelled = batch.stopped = True
        batch.why = why
        self.stop(batch)

    def stop(self, batch: Batch) -> None:
        """Stop what can be stopped of a batch's current run; a function in its thread cannot."""
        if (call := batch.call) is not None:
            if not call.begins_run or not call.withdraw():
                return
            batch.call = None
            if batch.task is None:
                self.finish(batch, batch.current, "cancelled", error=RunCancelled(batch.why or UNBEGUN))
                return
        if batch.task is None:
            return  # It is in a foreign executor's hands.
        if not batch.has_unbegun_task:
            batch.task.cancel()
        elif batch.current.started_at is None:
            # A task that has not begun is gone without a trace when it is cancelled.
            batch.task.cancel()
            self.finish(batch, batch.current, "cancelled", error=RunCancelled(UNBEGUN))
        else:
            # What follows a function gets its first step before, so that it can put things in order.
            batch.task.get_loop().call_soon(batch.task.cancel)

    def end_with(self, job_id: str | None = None, *, jobstore: str | None = None) -> None:
        """Let nothing follow what is under way of a job, or of all of a job store, that was removed."""
        self.waiting.drop(REMOVED, job_id, jobstore=jobstore)
        for batch in self.under_way.all() if job_id is None else self.under_way.of(job_id):
            if jobstore in (None, batch.jobstore):
                batch.last = batch.given_up = True

    def disown(self, run_ids: Container[str]) -> None:
        """Cancel runs that are this process's no more, since the others have declared it dead."""
        for batch in self.under_way.all():
            if batch.claimed and batch.current.run_id in run_ids and not batch.done:
                batch.disowned = batch.given_up = True
                batch.runs.clear()
                batch.current.cancelled = batch.stopped = True
                self.stop(batch)

    def release(self, batch: Batch) -> None:
        """Give the batch's instance of its job to those that wait for one."""
        self.under_way.leave(batch)
        if self.waiting:
            self.waiting.offer(batch.job.id)

    def foreign_ended(self, job_id: str, scheduled_at: datetime | None, event: Any, error: Any) -> None:
        """Account for a run that a foreign executor reports, from whatever thread."""
        ended = partial(self._foreign_ended, job_id, scheduled_at, event, error)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._mailbox.post(ended)
        else:
            # An executor that runs its jobs on the spot is about to return: the next fire must not go deeper each time.
            loop.call_soon(self._mailbox.post, ended, context=Context())

    def _foreign_ended(self, job_id: str, scheduled_at: datetime | None, event: Any, error: Any) -> None:
        # A user's own executor may report by an id of its own making.
        run_id = getattr(job_id, "run_id", None)
        for batch in self.under_way.of(job_id):
            run = batch.current
            is_its = scheduled_at in (None, run.scheduled_at) if run_id is None else run_id == run.run_id
            if isinstance(batch.executor, ForeignExecutor) and is_its:
                outcome: Any = "failed" if event is None else outcome_of(event)
                if batch.stopped:
                    outcome = "cancelled"  # It could not be told; what it did is not wanted any more.
                self.finish(batch, run, outcome, result=getattr(event, "retval", None), error=error)
                return
