"""Runs by hand: jobs that are run beside their schedules, and runs that are told to stop."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job

from ..errors import NoEventLoop, RunNotFound, RunOver, SchedulerError
from ..model.overrides import NO_OVERRIDES, Overrides
from ..model.runs import Cause, RunRecord
from .handles import RepeatedRun, RunHandle
from .idempotency import IdempotencyKeys

if TYPE_CHECKING:
    from ..model.idempotency import RunRequest
    from ..stores.slot import Slot
    from .scheduler import Scheduler


class ByHand:
    """Runs jobs of one scheduler, whether or not it is started, and ends runs in whichever process they are."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._keys = IdempotencyKeys()

    def clear(self) -> None:
        """Forget the idempotency keys: they are those of another app's clients."""
        self._keys = IdempotencyKeys()

    async def run(
        self,
        job_id: str,
        jobstore: str | None,
        cause: Cause,
        overrides: Overrides = NO_OVERRIDES,
        request: RunRequest | None = None,
    ) -> RunHandle:
        """Run the job once beside its schedule; for a `request` that is repeated, return its run.

        Raises JobNotFound, NotStored, InvalidDefinition, IdempotencyKeyReused, OverlapForbidden or Draining.
        """
        scheduler = self._scheduler
        slot, job = await self.runnable(job_id, jobstore)
        overrides.check(job)
        if slot is not None and slot.shared:
            started = await scheduler.cluster(slot).run_now(job_id, cause, overrides, request)
            return started if isinstance(started, RunHandle) else self._repeated(job_id, started)
        now = scheduler.clock.now()
        if request is not None and (run_id := self._keys.run_of(request, now)) is not None:
            return self._repeated(job_id, run_id)
        handle = scheduler.runner.start_now(overrides.apply(job), cause)
        if request is not None:
            self._keys.keep(request, handle.run_id, now)
        return handle

    def run_sync(self, job_id: str, jobstore: str | None = None) -> Any:
        """Run the job once beside its schedule.

        In the loop's own thread this returns a RunHandle to await; in others it waits, and raises what awaiting does.
        """
        scheduler, loop = self._scheduler, self._scheduler._eventloop
        if loop is None:
            raise NoEventLoop(f"Job {job_id} needs a running event loop; use await scheduler.aio.run_job({job_id!r})")
        if threading.get_ident() == scheduler._loop_thread:
            slot, job = scheduler.call_sync(partial(scheduler.catalogue.runnable, job_id, jobstore, on_books=True))
            if slot is not None and slot.shared:
                raise SchedulerError(f"Job {job_id} is in an SQL store; use await scheduler.aio.run_job({job_id!r})")
            return scheduler.runner.start_now(job, "manual")

        async def run() -> Any:
            return await (await self.run(job_id, jobstore, "manual"))

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    async def runnable(self, job_id: str, jobstore: str | None = None) -> tuple[Slot | None, Job]:
        """Return the job, ready to be run in this loop and on the books, and its store: see Catalogue.runnable."""
        scheduler = self._scheduler
        if scheduler._eventloop is None or scheduler._eventloop.is_closed():
            scheduler.attach(asyncio.get_running_loop())
        return await scheduler.call(partial(scheduler.catalogue.runnable, job_id, jobstore, on_books=True))

    async def cancel(self, run_id: str) -> None:
        """Ask a run to stop, in whichever process it is. Raises RunNotFound, RunOver or StoreUnavailable."""
        scheduler = self._scheduler
        if scheduler.runner.cancel(run_id):
            return
        shared = () if scheduler.is_unwritten(run_id) else scheduler.catalogue.slots.shared
        for slot in shared:
            asked = await scheduler.call(partial(self._cancel_in, slot, run_id))
            if isinstance(asked, RunRecord):
                scheduler.runner.accounts.tell(asked, slot.alias)
                scheduler.wakeup()  # for what waited for it
            if asked:
                return
        record = await self._find(run_id)
        if record is None:
            raise RunNotFound(run_id)
        raise RunOver(run_id, record.outcome)

    def _cancel_in(self, slot: Slot, run_id: str) -> bool | RunRecord:
        """Ask a run of a shared store to stop; tell whether it is there, by its record where it waited."""
        slot.open(self._scheduler)
        found: bool | RunRecord = slot.do(lambda store: store.cancel(run_id, self._scheduler.runner.worker))
        return found

    def _repeated(self, job_id: str, run_id: str) -> RepeatedRun:
        return RepeatedRun(run_id, job_id, self._find, self._scheduler.clock)

    async def _find(self, run_id: str) -> RunRecord | None:
        return await self._scheduler.read_history(partial(self._scheduler.histories.find, run_id))
