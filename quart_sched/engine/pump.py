"""The pump: claims what is due in one store and hands it to the runner, for as long as the scheduler runs."""

from __future__ import annotations

import asyncio
import logging
from contextlib import closing
from contextvars import Context
from typing import TYPE_CHECKING

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.schedulers.base import STATE_RUNNING

from ..model.events import JobChanged, PumpFailed
from ..model.planning import Plan
from ..model.runs import Run
from ..stores.memory import MemoryStore
from ..stores.slot import Slot
from .claims import Round, claim
from .executors import JobExecutor
from .failures import Failures
from .progress import Progress
from .slices import SLICE, Slices

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

BATCH = 100
"""Jobs that are claimed at once. A batch is lost if the process dies before it is submitted, so it is small."""
LONGEST_WAIT = 60.0
"""Seconds after which the pump looks again in any case: a stepped clock or a suspended machine shows no other way."""
_CATCH_UP, _CATCH_UPS = 0.001, 5
"""Seconds, and how often, for which the loop waits for threads that are behind."""
_QUICK = 10
"""Calls that such threads do meanwhile, at least, where they wait for nothing but the interpreter."""
_BEHIND = BATCH // 2
"""Calls that wait for a thread, where the threads are behind."""


class Pump:
    """One for each store, so that a slow or absent store holds up none of the others. It cannot die of an error."""

    def __init__(self, scheduler: Scheduler, slot: Slot) -> None:
        self.slot = slot
        self.progress = Progress(scheduler.clock)
        self._scheduler = scheduler
        self._wake = asyncio.Event()
        self._stopping = False
        self._failures = Failures(slot)
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._awaited: float | None = None
        """When the fire is due that alone is waited for, in seconds since 1970; None where more is to be looked for."""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to claim."""
        self._task = Context().run(loop.create_task, self._run(), name=f"quart-sched-pump-{self.slot.alias}")

    def wake(self) -> None:
        """Look for due jobs now. On the loop only; many calls before it gets its turn are one."""
        if self._awaited is not None and isinstance(self.slot.store, MemoryStore):
            with self.slot.lock:
                due = self.slot.store.next_due()
            if due is None or due >= self._awaited:
                return
        self._wake.set()

    def stop(self) -> None:
        """Claim no more."""
        self._stopping = True
        self._wake.set()

    async def stopped(self) -> None:
        """Return when the round under way, if any, has been submitted."""
        if self._task is not None:
            await asyncio.shield(self._task)

    @property
    def ended(self) -> bool:
        """Whether it has ended though nobody told it to."""
        return self._task is not None and self._task.done() and not self._stopping

    @property
    def _idle(self) -> bool:
        return self._stopping or self._scheduler.state != STATE_RUNNING or self._scheduler.held

    async def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            self.progress.step()
            try:
                delay = await self._turn()
                self._failures.end()
            except Exception as error:
                # Whatever a store, a trigger or we ourselves did wrong: the jobs must go on.
                delay = self._back_off(error)
            self.progress.rest()
            if not self._stopping:
                await self._rest(min(delay, LONGEST_WAIT))

    async def _rest(self, delay: float) -> None:
        """Return when there is more to be done than a timer can do by itself."""
        clock = self._scheduler.clock
        if self.slot.blocking or not clock.real:
            await clock.wait(self._wake, delay)
            return
        self._set_timer(delay)
        try:
            await self._wake.wait()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _set_timer(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(min(delay, LONGEST_WAIT), self._on_time)

    def _on_time(self) -> None:
        """Run what is due, if it is one batch at most: to wake the task for that costs as much as the job."""
        self.progress.step()
        delay: float | None
        try:
            delay = self._turn_at_once()
            self._failures.end()
        except Exception as error:
            delay = self._back_off(error)
        self.progress.rest()
        if delay is None:
            self._wake.set()
        else:
            self._set_timer(delay)

    def _turn_at_once(self) -> float | None:
        """Claim and submit one batch; return the seconds until the next, None where the task is to go on."""
        self._awaited = None
        if self._idle or self._scheduler.runner.under_way.room == 0:
            return None
        round_ = self._claim()
        for job, plan in round_.claims:
            self._submit_fires(job, plan)
        self._tell(round_)
        return None if round_.more else self._until_next(round_)

    def _back_off(self, error: Exception) -> float:
        self._scheduler.stream.emit(PumpFailed(self.slot.alias, error))
        return self._failures.add(error, self._scheduler.settings.poll_interval)

    async def _turn(self) -> float:
        """Claim and submit until nothing is due; return the seconds until something is."""
        scheduler, runner = self._scheduler, self._scheduler.runner
        self._awaited = None
        await scheduler.call(self._prepare, blocking=self.slot.blocking)
        while not self._idle:
            if runner.under_way.room == 0:
                self.progress.rest()
                await runner.under_way.wait_for_room(self._wake)
                continue
            self.progress.step()
            round_ = await scheduler.call(self._claim, blocking=self.slot.blocking)
            await self._submit(round_)
            if not round_.more:
                return self._until_next(round_)
            await asyncio.sleep(0)
            if scheduler.clock.real:
                await self._let_threads_catch_up()
        return LONGEST_WAIT

    def _until_next(self, round_: Round) -> float:
        """Return the seconds until something is due."""
        clock = self._scheduler.clock
        due = float("inf") if round_.next_due is None else round_.next_due
        delay = due - clock.now().timestamp()
        if delay > 0 or not round_.stuck:
            if clock.real and not self.slot.blocking:
                self._awaited = due
            return max(delay, 0.0)
        # All that is due is broken and stays due: look again, but do not spin.
        return self._scheduler.settings.poll_interval

    async def _let_threads_catch_up(self) -> None:
        """Leave the interpreter to threads that are behind with short calls, for a few milliseconds.

        The more runs are under way, the more of their objects the garbage collector comes to look at before they are
        gone; a whole collection holds up everything. Threads that get on slowly wait for something of their own.
        """
        threads = [one.threads for one in self._scheduler.runner.executors.values() if isinstance(one, JobExecutor)]
        for _ in range(_CATCH_UPS):
            done = sum(one.done for one in threads)
            if sum(one.waiting for one in threads) < _BEHIND:
                return
            await asyncio.sleep(_CATCH_UP)
            if sum(one.done for one in threads) - done < _QUICK:
                return

    def _prepare(self) -> None:
        """Open the store and bring the declared jobs into it."""
        self.slot.open(self._scheduler)
        self._scheduler.catalogue.apply(self.slot)

    def _claim(self) -> Round:
        """Claim one batch. In the store thread where the store blocks, else on the loop."""
        scheduler, slot = self._scheduler, self.slot
        store, now = slot.store, scheduler.clock.now()
        limit = min(BATCH, scheduler.runner.under_way.room)
        options = (now, scheduler.settings.max_catch_up, scheduler.runner.executors, limit)
        if isinstance(store, MemoryStore):
            # Without `slot.use`, which is there for what may fail.
            with slot.lock:
                with closing(store.due(now)) as due:
                    round_ = claim(store, due, *options, seconds=SLICE)
                round_.next_due = store.next_due()
        else:
            with slot.use():
                round_ = claim(store, store.get_due_jobs(now), *options)
                upcoming = store.get_next_run_time()
                round_.next_due = None if upcoming is None else upcoming.timestamp()
        for job, plan in round_.claims:
            job._jobstore_alias = slot.alias
            last = plan.fires[-1] if plan.fires else plan.lapses[-1].last
            slot.consumed[job.id] = last
        for job_id in round_.ended:
            slot.forget(job_id)
        for job, reason in round_.broken:
            if slot.broken.get(job.id) != reason:
                slot.broken[job.id] = reason
                scheduler.changes.note("broken", job.id, detail=reason)
                log.error('Job "%s" is broken and does not run: %s', job.id, reason)
        return round_

    async def _submit(self, round_: Round) -> None:
        """Hand the claimed fires to the runner, in slices that leave the loop free in between."""
        slices = Slices()
        for job, plan in round_.claims:
            await slices.give_way()
            self._submit_fires(job, plan)
        self._tell(round_)

    def _submit_fires(self, job: Job, plan: Plan) -> None:
        runner = self._scheduler.runner
        try:
            for lapse in plan.lapses:
                runner.accounts.lapse(job, lapse.outcome, lapse.first, lapse.last, lapse.fires)
            if plan.fires:
                runner.submit(job, [Run(job, fire, "schedule") for fire in plan.fires])
        except Exception:
            # The others of the batch are claimed already: they must not be lost with this one.
            log.exception('The fires %s of job "%s" could not be submitted', plan.fires, job.id)

    def _tell(self, round_: Round) -> None:
        """Tell of jobs that have ended or are broken. Raises what the store raised on one of them."""
        alias = self.slot.alias
        for job, _ in round_.broken:
            self._scheduler.watch.note_broken(job.id, alias)
        for job_id in round_.ended:
            self._scheduler.stream.emit(JobChanged(aps.EVENT_JOB_REMOVED, job_id, alias, ended=True))
        if round_.failed:
            raise next(iter(round_.failed.values()))
