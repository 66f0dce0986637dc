"""The watch over jobs that do not succeed in time: an event, a mark for all to see, and a call of the users' hooks."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import Context, copy_context
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.schedulers.base import STATE_RUNNING

from ..errors import SchedulerError, StoreUnavailable
from ..model.events import JobChanged, JobOverdue, RunEnded, SchedulerChanged
from ..model.functions import runs_on_loop
from ..model.overdue import REMEMBERED, Overdue
from ..model.policies import policy_of
from ..model.runs import Run
from ..stores.memory import MemoryStore
from ..stores.slot import Slot
from .expectations import Expectation, Expectations
from .slices import Slices
from .threads import DaemonPool

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

Hook = Callable[[Overdue], Any]

LONGEST_INTERVAL = 30.0
"""Seconds between looks at a shared store, at most: so much later than due an alarm may come."""
_HOOK_GRACE = 1.0
"""Seconds that hooks under way get when the process ends."""


class OverdueWatch:
    """Watches the jobs of one scheduler while it runs, beginning one SCHEDULER_OVERDUE_GRACE after its start.

    In a shared store every process watches, one that was started paused too, and the hooks are called by one of them.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.hooks: list[Hook] = []
        self._scheduler = scheduler
        self._here = Expectations()
        self._known: dict[str, dict[str, Overdue]] = {}
        """What is overdue, by store and job."""
        self._told: dict[str, set[str]] = {}
        """The jobs of shared stores whose hooks were called, until the store knows."""
        self._telling: dict[str, set[str]] = {}
        """The jobs of shared stores whose hooks are being called."""
        self._since: float | None = None
        """When the scheduler began to run, or went on after a pause."""
        self._next: datetime | None = None
        """When this process looks at its own stores again; None where it has no reason to."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[None]] = set()
        self._threads = DaemonPool("quart-sched-alarms", 4)
        # Apart from each other, as one of them is called for each run.
        scheduler.stream.subscribe(self._hear_ended, RunEnded)
        scheduler.stream.subscribe(self._hear_changed, JobChanged, SchedulerChanged)

    @property
    def overdue(self) -> list[Overdue]:
        """The jobs that are overdue, for the longest first; none while the scheduler is paused or stopped."""
        if not self._is_on:
            return []
        return sorted((one for some in self._known.values() for one in some.values()), key=lambda one: one.since)

    def clear(self) -> None:
        """Forget what was expected of another app's jobs."""
        self._here = Expectations()

    # Life cycle

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch, if SCHEDULER_OVERDUE_GRACE says so."""
        self._since = None
        if self._task is None and self._scheduler.settings.overdue_grace is not None:
            self._wake = asyncio.Event()
            self._scheduler.runner.begun = self._hear_begun
            self._task = Context().run(loop.create_task, self._run(), name="quart-sched-overdue")

    def stop(self) -> None:
        """Watch no more."""
        self._scheduler.runner.begun = None
        task, self._task = self._task, None
        if task is not None:
            task.cancel()

    def leave_loop(self) -> None:
        """Forget what a loop took along that was closed without a shutdown."""
        self._task = None
        self._calls.clear()
        self._telling.clear()

    async def close(self) -> None:
        """Let the hooks under way end, for a moment, and free the threads."""
        self.stop()
        if self._calls:
            _, late = await asyncio.wait(self._calls, timeout=_HOOK_GRACE)
            for task in late:
                task.cancel()
        self._threads.stop()
        self._known.clear()

    def _hear_begun(self, run: Run, jobstore: str | None) -> None:
        # Each look finds out what is under way: most runs have succeeded before the next one, and cost nothing here.
        if self._next is not None and policy_of(run.job).overdue_after is None:
            return
        if self._watches(jobstore) and (opened := self._here.begun(run, jobstore or "default")) is not None:
            self._note_opened(opened)

    def _hear_ended(self, event: RunEnded) -> None:
        if not self._watches(event.jobstore):
            return
        alias = event.jobstore or "default"
        if (opened := self._here.hear_ended(event, alias)) is not None:
            self._note_opened(opened)
        elif (
            self._known
            and (job_id := event.record.job_id) in self._known.get(alias, ())
            # One failure more changes nothing, and while what the jobs need is away there may be very many.
            and (event.record.outcome == "succeeded" or not self._here.is_open(job_id, alias))
        ):
            self._wake.set()

    def _hear_changed(self, event: JobChanged | SchedulerChanged) -> None:
        if self._scheduler.settings.overdue_grace is None:
            return
        alias = event.alias if isinstance(event, SchedulerChanged) else event.jobstore
        if isinstance(event, SchedulerChanged) or self._concerns(event):
            self._wake.set()
        gone = event.code in (aps.EVENT_JOB_REMOVED, aps.EVENT_ALL_JOBS_REMOVED)
        if gone and not (isinstance(event, JobChanged) and event.ended):
            self._ignore(None if isinstance(event, SchedulerChanged) else event.job_id, alias)
        if self._watches(alias):
            if isinstance(event, JobChanged) and event.ended:
                for opened in self._look_at_runs(alias or "default", event.job_id):
                    self._note_opened(opened)
            self._here.hear_changed(event)

    def _concerns(self, event: JobChanged) -> bool:
        """Tell whether that may make a job overdue, or no more: most jobs are none that anything is open of."""
        alias = event.jobstore or "default"
        if not self._watches(alias):
            return False
        return event.job_id in self._known.get(alias, ()) or (
            not event.ended and self._here.is_open(event.job_id, alias)
        )

    def _ignore(self, job_id: str | None, alias: str | None) -> None:
        """Expect nothing of what is under way of a job, or of a store or all, that was removed."""
        under_way = self._scheduler.runner.under_way
        for batch in under_way.all() if job_id is None else under_way.of(job_id):
            if alias in (None, batch.jobstore) and self._watches(batch.jobstore):
                runs = batch.runs if batch.ended else [batch.current, *batch.runs]
                self._here.ignore(run.run_id for run in runs)

    def _look_at_runs(self, alias: str, job_id: str | None = None) -> list[Expectation]:
        """Expect something of what is under way; return what is expected anew."""
        runs = [run for run in self._scheduler.runner.under_way.runs(job_id) if run.job._jobstore_alias == alias]
        return [opened for run in runs if (opened := self._here.begun(run, alias)) is not None]

    def _watches(self, alias: str | None) -> bool:
        """Tell whether this process alone knows of the jobs of that store, and is to watch them."""
        if self._scheduler.settings.overdue_grace is None:
            return False
        slot = self._scheduler.catalogue.slots.get(alias or "default")
        return slot is not None and not slot.shared

    def _note_opened(self, opened: Expectation) -> None:
        # There is a look within the grace in any case, while anything is open.
        hurry = opened.policy.overdue_after is not None
        if self._next is None or (hurry and ((at := self._due(opened)) is None or at < self._next)):
            self._next = self._scheduler.clock.now()
            self._wake.set()

    def begin_anew(self) -> None:
        """Watch on as after a start: what was held back until now is not overdue for that."""
        self._since = None
        self._wake.set()

    def note_broken(self, job_id: str, jobstore: str) -> None:
        """Take note that a job of a store of this process's own fires no more, though nobody wants it so."""
        self._here.expect(job_id, jobstore, self._scheduler.clock.now())
        self._wake.set()

    # The loop

    @property
    def _is_on(self) -> bool:
        return self._scheduler.state == STATE_RUNNING or self._scheduler.looks_on

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                delay = await self._look()
            except Exception:
                # A store's own code may raise anything, and the other jobs are to be watched all the same.
                log.exception("Overdue jobs could not be looked for")
                delay = LONGEST_INTERVAL
            await self._scheduler.clock.wait(self._wake, delay)

    async def _look(self) -> float | None:
        """Look at every store; return the seconds until the next look, None where something has to happen first."""
        scheduler, grace = self._scheduler, self._scheduler.settings.overdue_grace
        if not self._is_on or grace is None:
            self._since = None
            return None
        now = scheduler.clock.monotonic()
        self._since = now if self._since is None else self._since
        if (wait := self._since + grace - now) > 0:
            # What came due before is being run, or given up, only now.
            self._next = scheduler.clock.now() + timedelta(seconds=wait)
            return wait
        delays, nexts = [], []
        for slot in list(scheduler.catalogue.slots.values()):
            if slot.shared:
                await self._look_at_store(slot, grace)
                delays.append(_interval(grace))
            elif not scheduler.looks_on and (at := await self._look_here(slot, grace)) is not None:
                nexts.append(at)
        self._next = min((*nexts, scheduler.clock.now() + timedelta(seconds=grace))) if nexts else None
        if self._next is not None:
            delays.append(max(0.001, (self._next - scheduler.clock.now()).total_seconds()))
        return min(delays, default=None)

    async def _look_at_store(self, slot: Slot, grace: float) -> None:
        store: Any = slot.store
        if (session := slot.session) is None:
            return
        told = self._told.pop(slot.alias, set())
        # A little less, so that the turn is over when this process comes again.
        term, telling = 0.9 * _interval(grace), frozenset(self._telling.get(slot.alias, ()))
        look = partial(store.overdue.look, session, grace, term, told, telling)
        try:
            findings = await self._scheduler.call(lambda: slot.do(lambda _: look()), blocking=True)
        except StoreUnavailable:
            # The pump says so. What is known to be overdue goes on being so.
            self._told.setdefault(slot.alias, set()).update(told)
            return
        await self._take(slot.alias, findings.overdue)
        slices = Slices()
        for job_id in findings.to_tell:
            await slices.give_way()
            if job_id in findings.overdue:
                self._call_hooks(findings.overdue[job_id], shared=True)

    # This process's own stores

    async def _look_here(self, slot: Slot, grace: float) -> datetime | None:
        """Look at the jobs of one store; return when to look again."""
        now = self._scheduler.clock.now()
        found: dict[str, Overdue] = {}
        nexts: list[datetime] = []
        self._look_at_runs(slot.alias)
        slices = Slices()
        for entry in self._here.unmet(slot.alias):
            await slices.give_way()
            overdue, at = await self._judge(slot, entry, grace, now)
            if overdue is not None:
                found[entry.job_id] = overdue
            if at is not None:
                nexts.append(at)
        await slices.give_way()
        # Some may have succeeded meanwhile.
        found = {job_id: one for job_id, one in found.items() if self._here.is_open(job_id, slot.alias)}
        for job in self._unclaimed(slot, now):
            overdue = self._here.overdue(job.id, slot.alias, grace, policy_of(job), job.next_run_time)
            if overdue is not None and overdue.since <= now:
                found[job.id] = overdue
            elif overdue is not None:
                nexts.append(overdue.since)
        for overdue in await self._take(slot.alias, found):
            await slices.give_way()
            self._call_hooks(overdue, shared=False)
        return min(nexts, default=None)

    async def _judge(
        self, slot: Slot, entry: Expectation, grace: float, now: datetime
    ) -> tuple[Overdue | None, datetime | None]:
        """Return how a job is overdue, None where it is not, and when that may change by itself."""
        before = self._known.get(slot.alias, {}).get(entry.job_id)
        if entry.ended and before is not None and before.since + REMEMBERED > now:
            # Nothing can become of it any more, and there may be very many.
            return before, before.since + REMEMBERED
        if before is None and (at := self._due(entry)) is not None and at > now:
            return None, at
        job = await self._job(slot, entry)
        if job is None and not entry.ended:
            self._here.forget(entry.job_id, slot.alias)
        elif job is None or job.next_run_time is not None or job.id in slot.broken:
            policy = entry.policy if job is None else policy_of(job)
            overdue = self._here.overdue(entry.job_id, slot.alias, grace, policy)
            if overdue is None:
                return None, None
            if overdue.since > now:
                return None, overdue.since
            if not entry.ended:
                return overdue, None
            if overdue.since + REMEMBERED > now:
                return overdue, overdue.since + REMEMBERED
            self._here.forget(entry.job_id, slot.alias)
        return None, None

    def _due(self, entry: Expectation) -> datetime | None:
        grace = self._scheduler.settings.overdue_grace
        overdue = None if grace is None else self._here.overdue(entry.job_id, entry.jobstore, grace, entry.policy)
        return None if overdue is None else overdue.since

    async def _job(self, slot: Slot, entry: Expectation) -> Job | None:
        lookup = partial(slot.do, lambda store: store.lookup_job(entry.job_id))
        try:
            job: Job | None = await self._scheduler.call(lookup, blocking=slot.blocking)
        except SchedulerError:
            return None
        return job

    @staticmethod
    def _unclaimed(slot: Slot, now: datetime) -> list[Job]:
        """Return the jobs of a memory store that are due and that nobody has taken: broken ones, for example."""
        store = slot.store
        if not isinstance(store, MemoryStore):
            return []
        with slot.lock:
            return store.peek_due(now)

    # The alarm

    async def _take(self, alias: str, found: dict[str, Overdue]) -> list[Overdue]:
        """Tell of what is new; return it."""
        before = self._known.get(alias, {})
        self._known[alias] = found
        new = [one for job_id, one in found.items() if job_id not in before or _other_period(before[job_id], one)]
        slices = Slices()
        for overdue in new:
            await slices.give_way()
            log.warning("%s", overdue, extra={"job_id": overdue.job_id})
            self._scheduler.stream.emit(JobOverdue(overdue))
        for job_id in before.keys() - found.keys():
            await slices.give_way()
            log.info('Job "%s" is not overdue any more', job_id, extra={"job_id": job_id})
        return new

    def _call_hooks(self, overdue: Overdue, *, shared: bool) -> None:
        if shared:
            self._telling.setdefault(overdue.jobstore, set()).add(overdue.job_id)
        if not self.hooks:
            self._note_called(overdue, shared)
            return
        task = asyncio.get_running_loop().create_task(self._call(overdue, shared), context=Context())
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _call(self, overdue: Overdue, shared: bool) -> None:
        app = self._scheduler.performer.app
        for hook in list(self.hooks):
            try:
                async with app.app_context() if app is not None else nullcontext():
                    if runs_on_loop(hook):
                        await hook(overdue)
                        continue
                    # A function that sends a mail takes its time.
                    call = partial(copy_context().run, hook, overdue)
                    result = await asyncio.wrap_future(self._threads.submit(call))
                    if inspect.isawaitable(result):
                        await result
            except (Exception, SystemExit):
                # An exit in a task would end the event loop.
                log.exception("The hook %r of on_overdue failed", hook, extra={"job_id": overdue.job_id})
        self._note_called(overdue, shared)

    def _note_called(self, overdue: Overdue, shared: bool) -> None:
        if shared:
            self._telling[overdue.jobstore].discard(overdue.job_id)
            self._told.setdefault(overdue.jobstore, set()).add(overdue.job_id)
            self._wake.set()


def _interval(grace: float) -> float:
    """Return the seconds between looks at a shared store."""
    return min(LONGEST_INTERVAL, max(1.0, grace / 2))


def _other_period(before: Overdue, now: Overdue) -> bool:
    """Tell whether the job has succeeded in between."""
    return before.last_success != now.last_success
