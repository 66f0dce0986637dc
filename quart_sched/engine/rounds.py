"""Rounds in a shared store: what ended here is written down, and what is due is claimed and handed to the runner."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from apscheduler.schedulers.base import STATE_RUNNING

from ..model.events import JobChanged, RunWaits
from ..model.instants import micros
from ..model.planning import plan
from ..stores.slot import Slot
from ..stores.sql.rounds import Round, Work
from .own_runs import TOGETHER, OwnRuns
from .pump import BATCH
from .runner import REPLACED
from .slices import Slices

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")


@dataclass(slots=True)
class Attempt:
    """A round under way in the pump's thread, since `begin` of the clock that never jumps."""

    work: Work
    begin: float
    done: asyncio.Future[Round]


class Rounds:
    """The rounds of one process. Each is begun and ended by the pump, whose `call` carries it out in its thread."""

    def __init__(
        self,
        scheduler: Scheduler,
        slot: Slot,
        own: OwnRuns,
        call: Callable[[Callable[[], Round]], asyncio.Future[Round]],
    ) -> None:
        self._scheduler = scheduler
        self._slot = slot
        self._store: Any = slot.store
        self._own = own
        self._call = call
        self.claiming = False
        """Whether jobs may be claimed; what ended is written down in any case."""
        self.next_due: int | None = None
        """When a job or a run is due, in microseconds, as far as is known."""
        self.waiting_due: int | None = None
        """When a run is due that waits for a process."""

    def now(self) -> int:
        """Return the time in microseconds."""
        return micros(self._scheduler.clock.now())

    def limit(self, unsubmitted: int = 0) -> int:
        """How many jobs may be claimed, with so many already that are yet to be submitted."""
        scheduler = self._scheduler
        if not self.claiming or scheduler.state != STATE_RUNNING or scheduler.held:
            return 0
        return max(0, min(BATCH, scheduler.runner.under_way.room - unsubmitted))

    def begin(self, unsubmitted: int = 0, *, hurry: bool = False) -> Attempt | None:
        """Begin to write down what ended and to claim what is due, if there is either; there may be jobs to submit.

        In a `hurry` nothing is written down that can wait.
        """
        scheduler = self._scheduler
        limit = self.limit(unsubmitted)
        now = self.now()
        due = limit > 0 and self.next_due is not None and self.next_due <= now
        endings = [] if (hurry and due) or self.ends_can_wait() else self._own.next_endings()
        returned, left = set(self._own.returned), self._own.left - self._own.endings.keys()
        if not (due or endings or returned or left):
            return None
        # With an end there may be a place for what waits for one.
        waiting = self.waiting_due is not None and (self.waiting_due <= now or bool(endings or left))
        due = due or (waiting and limit > 0)
        unwritten = self._own.freed(len(endings))
        work = Work(endings, sorted(returned), sorted(left), limit if due else 0, waiting, unwritten)
        decide = partial(plan, max_catch_up=scheduler.settings.max_catch_up)
        round_ = partial(self._store.round, self._slot.session, work, decide, set(scheduler.runner.executors))
        return Attempt(work, scheduler.clock.monotonic(), self._call(round_))

    def ends_can_wait(self) -> bool:
        """Tell whether what ended can be written down with the next claim, which is due soon."""
        if self.next_due is None or self.next_due >= self._own.write_by:
            return False
        return 0 < self.next_due - self.now() < TOGETHER and self.limit() > 0

    async def end(self, attempt: Attempt) -> Round:
        """Wait for a round; what it claimed is this process's from then on."""
        scheduler, clock = self._scheduler, self._scheduler.clock
        done = await attempt.done
        if done.next_us is not None:
            self.next_due = min(done.next_us, self.waiting_due or done.next_us)
        if any(record.outcome == "queued" for record in done.waiting):
            self.waiting_due = self.waiting_due or self.now()
        if done.advanced:
            self.waiting_due = self.next_due = self.now()
        for at in (micros(record.retry_at) for record in attempt.work.endings if record.retry_at is not None):
            self.waiting_due = min(self.waiting_due or at, at)
            self.next_due = min(self.next_due or at, at)
        self._own.written(attempt.work, done.late)
        for run_id in done.late:
            log.warning("Run %s ended here, but was recorded as lost before: what it brought is dropped", run_id)
        # Before anything is submitted: a heartbeat in between would take these runs for strays.
        claimed = {run.run_id for claim in done.claimed for run in claim.runs}
        self._own.held |= claimed
        if clock.monotonic() - attempt.begin > scheduler.settings.lease / 2:
            # This process stood still: the others may be about to declare it dead, and run what it has claimed.
            self._own.returned |= claimed
            done.claimed.clear()
        return done

    async def submit(self, done: Round) -> None:
        """Hand the claimed fires to the runner, in slices that leave the loop free in between."""
        runner = self._scheduler.runner
        slices = Slices()
        for claim in done.claimed:
            await slices.give_way()
            try:
                if runner.draining:
                    self._own.returned |= {run.run_id for run in claim.runs}
                else:
                    runner.submit(claim.job, claim.runs, claimed=True)
            except Exception:
                # The others of the batch are claimed already: they must not be lost with this one.
                self._own.returned |= {run.run_id for run in claim.runs}
                log.exception('The runs of job "%s" could not be submitted', claim.job.id)

    def tell(self, done: Round) -> None:
        """Say what else came of a round."""
        runner, alias = self._scheduler.runner, self._slot.alias
        for run_id in done.replaced:
            runner.cancel(run_id, REPLACED)
        for record in done.records:
            if record.outcome == "skipped":
                text = 'Job "%s" skipped: it runs already, as often as its max_instances allows'
                log.warning(text, record.job_id, extra={"job_id": record.job_id, "run_id": record.run_id})
            runner.accounts.tell(record, alias)
        for record in done.waiting:
            self._scheduler.stream.emit(RunWaits(record, alias))
        for job_id, reason in done.broken:
            log.error('Job "%s" is broken and does not run: %s', job_id, reason)
        for job_id in done.ended:
            self._scheduler.stream.emit(JobChanged(aps.EVENT_JOB_REMOVED, job_id, alias, ended=True))
