"""The catalogue: every verb on jobs, written once. Declarations wait here until the scheduler starts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError

from ..errors import InvalidDefinition, JobNotFound, NotStored
from ..model.actor import current_actor
from ..model.changes import Action
from ..model.events import JobChanged, SchedulerChanged, Switch
from ..model.jobs import UNSET, JobChanges, JobDefinition
from ..model.policies import policy_of
from ..stores.slot import Slot
from . import deployment
from .changing import differences, last_claimed, refuse_unrestorable
from .declarations import Declarations, Declared, Origin, check_executor, listed
from .placing import NO_FIRE_LEFT, NoFireLeft, made, next_fire, place, resolve
from .slots import Slots

if TYPE_CHECKING:
    from .scheduler import Scheduler

log = logging.getLogger("quart_sched")

_MENDING = frozenset(("trigger", "func", "executor"))
"""Fields a change to which may let a broken job run."""
_OF_FIRES = _MENDING | {"next_run_time"}
"""Fields that decide on when a job fires, so that the pump is to look."""

Check = Callable[[Job], None]
Switched = Switch | None
Tell = Callable[[], None]
"""Tells of a change: when the transaction is over that made it, which may be repeated, or come to nothing."""


class Catalogue:
    """The jobs of a scheduler: those in its stores, and the declared ones that wait for its start.

    Nothing here waits on the event loop. The scheduler calls these methods where the stores may be used: directly
    with memory stores alone, else in the store thread.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.slots = Slots(scheduler, {})
        self.bound = False
        """Whether the stores and executors are known, since an app was given."""
        self.serving = False
        """Whether the app serves: what its code adds from then on is not declared by its start-up."""
        self.started = False
        self.declarations = Declarations(scheduler)

    # Declarations

    def begin(self, jobs: Iterable[JobDefinition], *, rebind: bool) -> None:
        """Take the configured `jobs` in. With `rebind`, only those declared by decorator or before any app stay."""
        if rebind:
            self.started = False
        self.declarations.begin(rebind=rebind)
        for definition in jobs:
            # A second `init_app` on one app brings the same jobs again.
            self.add(replace(definition, replace_existing=True), origin="config")

    def add(self, definition: JobDefinition, *, origin: Origin = "app") -> Job:
        """Add a job, or declare it for the start. Raises DuplicateJob."""
        if self.started or self._adds_at_once(definition, origin):
            slot = self.slot(definition.jobstore)
            slot.open(self._scheduler)
            if self.started:
                self.apply(slot)
            job = made(self._scheduler, definition)
            # A store that outlives the process has the job of a task whose code is there only now.
            late = origin == "task" and slot.blocking and not self.declarations.is_declared(definition.id)
            try:
                job = self._store(slot, definition, job, replacing=late or definition.replace_existing, late=late)
            except NoFireLeft:
                if origin != "task":
                    raise
                # Code that is imported late is not to fail from the day on when its schedule is over.
                log.warning(NO_FIRE_LEFT, definition.id)
            if self._scheduler.tracing is not None:
                self._scheduler.tracing.note_added(job.id)
        else:
            if self.bound:
                self.declarations.check_place(definition, self._scheduler.runner.executors, self.slots)
            job = self.declarations.declare(definition, origin)
            if self.started:
                # On the loop it has started meanwhile, and may have been through with what is declared.
                self.apply(self.slot(definition.jobstore))
        self.declarations.remember(definition, origin, started=self.started)
        return job

    def adds_to(self, alias: str) -> bool:
        """Tell whether code that adds a job now brings it into this store at once, and does not declare it.

        So it is after the start and, as other processes run the job, while the app serves without one.
        """
        slot = self.slots.get(alias)
        return self.started or (self.serving and slot is not None and slot.shared)

    def _adds_at_once(self, definition: JobDefinition, origin: Origin) -> bool:
        """Tell whether that goes for this job: not for a task, nor where one with its id waits for the start."""
        return origin == "app" and self.adds_to(definition.jobstore) and self._waiting(definition.id, None) is None

    def apply(self, slot: Slot) -> None:
        """Bring the declared jobs of this store into it: add new ones, update changed ones, leave equal ones alone.

        Raises StoreUnavailable; what is not stored by then stays declared.
        """
        if slot.shared:
            deployment.settle(self._scheduler, slot)
            return
        token = current_actor.set("deploy")
        # A memory store is used by any thread, and one alone is to bring a job into it.
        lock = nullcontext() if slot.blocking else slot.lock
        try:
            with lock:
                self._apply(slot)
        finally:
            current_actor.reset(token)

    def _apply(self, slot: Slot) -> None:
        over = []
        for entry in self.declarations.of(slot.alias):
            try:
                resolve(self._scheduler, entry)
                self._store(slot, entry.definition, entry.job, replacing=True, action="declare")
            except NoFireLeft:
                log.warning(NO_FIRE_LEFT, entry.definition.id)
                over.append(entry.definition.id)
            except InvalidDefinition as error:
                # Only now is the store's opinion known. The other jobs must not suffer for it.
                log.error('Job "%s" cannot be scheduled: %s', entry.definition.id, error)
            self.declarations.applied(entry)
        for job_id in over:
            with suppress(JobNotFound):
                self.remove(job_id, slot.alias)

    def close_stores(self) -> None:
        """Free the stores' connections. What is declared will be brought into them again when they are next opened."""
        for slot in self.slots.values():
            if slot.close():
                self.declarations.restore(slot.alias)

    # Verbs

    def slot(self, alias: str) -> Slot:
        """Return the store with this alias. Raises InvalidDefinition."""
        try:
            return self.slots[alias]
        except KeyError:
            raise InvalidDefinition("jobstore", f"is {alias!r}; expected one of {listed(self.slots)}") from None

    def get(self, job_id: str, alias: str | None = None) -> Job | None:
        """Return the job, or None."""
        if (entry := self._waiting(job_id, alias)) is not None:
            return entry.job
        found = self._find(job_id, alias)
        return None if found is None else found[1]

    def all(self, alias: str | None = None) -> list[Job]:
        """Return the jobs that wait for the start, then those in the stores by time of their next fire."""
        slots = self._slots(alias)
        waiting = [entry.job for entry in self.declarations.of(alias)]
        stored = []
        for slot in slots:
            jobs = slot.perform(lambda store: store.get_all_jobs(), write=False)
            stored += [job for job in jobs if job.id not in self.declarations]
        return waiting + stored

    def broken_reason(self, job: Job) -> str | None:
        """Return why `job` cannot fire, or None."""
        slot = self.slots.get(job._jobstore_alias)
        return slot.broken_reason(job) if slot else None

    def modify(self, job_id: str, alias: str | None, changes: JobChanges, *, check: Check = lambda job: None) -> Job:
        """Change a job, all of it or, where something is wrong, nothing. Raises JobNotFound or InvalidDefinition.

        `check` raises where the job, as it is found, is not to be changed.
        """
        if (entry := self._waiting(job_id, alias)) is not None:
            check(entry.job)
            return self._redeclare(entry, changes)
        for slot in self._slots(alias):
            done = slot.perform(partial(self._modify, slot, job_id, changes, check))
            if done is not None:
                job, tell = done
                tell()
                return job
        raise JobNotFound(job_id)

    def _modify(
        self, slot: Slot, job_id: str, changes: JobChanges, check: Check, store: Any
    ) -> tuple[Job, Tell] | None:
        """Change a job within a transaction of its store; None where the store has no such job."""
        job: Job | None = store.lookup_job(job_id)
        if job is None:
            return None
        job._jobstore_alias = slot.alias
        check(job)
        return self._change(slot, job, changes, store)

    def _change(self, slot: Slot, job: Job, changes: JobChanges, store: Any) -> tuple[Job, Tell]:
        """Change a job that was found within this transaction of its store."""
        job_id = job.id
        fields = differences(self._scheduler, slot, job, changes)
        if not fields:
            return job, _tell_nothing
        before = job.next_run_time
        if not _MENDING.isdisjoint(fields) or fields.get("next_run_time"):
            slot.broken.pop(job_id, None)
        switched: Switched = None
        if fields.keys() == {"next_run_time"} and (job.next_run_time is None) != (fields["next_run_time"] is None):
            switched = "paused" if fields["next_run_time"] is None else "resumed"
        job._modify(**fields)
        slot.check(job)
        store.update_job(job)
        if slot.shared:
            job = store.lookup_job(job_id)
        else:
            keys = ", ".join(key for key in fields if key != "next_run_time")
            self._scheduler.changes.note_update(job, before, keys or None)
        wake = slot.shared or not _OF_FIRES.isdisjoint(fields)
        return job, partial(self._changed, aps.EVENT_JOB_MODIFIED, job_id, slot.alias, switched, wake=wake)

    def pause(self, job_id: str, alias: str | None = None) -> Job:
        """Keep the job from firing until it is resumed."""
        found = self._find(job_id, alias)
        if found is not None and (slot := found[0]).shared:
            slot.perform(lambda store: store.pause(job_id))
            self._changed(aps.EVENT_JOB_MODIFIED, job_id, slot.alias, "paused")
            if (paused := self.get(job_id, slot.alias)) is not None:
                return paused
        return self.modify(job_id, alias, JobChanges(fields={"next_run_time": None}))

    def resume(self, job_id: str, alias: str | None = None) -> Job | None:
        """Take the schedule of a paused job up from now on; where it is over, remove the job and return None."""
        if (entry := self._waiting(job_id, alias)) is not None:
            paused = getattr(entry.job, "next_run_time", UNSET) is None
            return self._redeclare(entry, JobChanges(fields={"next_run_time": UNSET})) if paused else entry.job
        if (found := self._find(job_id, alias)) is None:
            raise JobNotFound(job_id)
        slot, _ = found
        job, tell = slot.perform(partial(self._resume, slot, job_id))
        tell()
        return job

    def _resume(self, slot: Slot, job_id: str, store: Any) -> tuple[Job | None, Tell]:
        """Resume a job within a transaction of its store; None where its schedule is over. Raises JobNotFound."""
        job: Job | None = store.lookup_job(job_id)
        if job is None:
            raise JobNotFound(job_id)
        refuse_unrestorable(job)
        job._jobstore_alias = slot.alias
        if job.next_run_time is not None and job_id not in slot.broken:
            # From now on would be behind fires that are due and not claimed yet.
            return job, _tell_nothing
        fire = next_fire(self._scheduler, job.trigger, last_claimed(slot, job))
        if fire is None:
            if slot.shared:
                store.end_job(job_id)
                return None, partial(self._changed, aps.EVENT_JOB_REMOVED, job_id, slot.alias)
            store.remove_job(job_id)
            return None, partial(self._removed, slot, job_id)
        return self._change(slot, job, JobChanges(fields={"next_run_time": fire}), store)

    def remove(self, job_id: str, alias: str | None = None, *, check: Check = lambda job: None) -> None:
        """Remove the job. Raises JobNotFound; `check` raises where the job, as it is found, is to stay."""
        entry = self._waiting(job_id, alias)
        if entry is not None:
            check(entry.job)
            self.declarations.drop(job_id)
            self._scheduler.changes.note("remove", job_id)
            self._changed(aps.EVENT_JOB_REMOVED, job_id, entry.definition.jobstore)
            return
        for slot in self._slots(alias):
            try:
                slot.perform(partial(self._remove, slot, job_id, check))
            except JobLookupError:
                continue
            self._removed(slot, job_id)
            return
        raise JobNotFound(job_id)

    def _remove(self, slot: Slot, job_id: str, check: Check, store: Any) -> None:
        job: Job | None = store.lookup_job(job_id)
        if job is not None:
            job._jobstore_alias = slot.alias
            check(job)
        store.remove_job(job_id)

    def _removed(self, slot: Slot, job_id: str) -> None:
        """Let nothing follow of a job that was removed, and tell of it."""
        slot.forget(job_id)
        if not slot.shared:
            self._scheduler.changes.note("remove", job_id)
        self._scheduler.mailbox.post(partial(self._scheduler.runner.end_with, job_id, jobstore=slot.alias))
        # Nothing is due the sooner for it.
        self._changed(aps.EVENT_JOB_REMOVED, job_id, slot.alias, wake=slot.shared)

    def remove_all(self, alias: str | None = None) -> None:
        """Remove every job, of one store or of all."""
        slots = self._slots(alias)
        for entry in self.declarations.of(alias):
            self.declarations.drop(entry.definition.id)
            self._scheduler.changes.note("remove", entry.definition.id)
        for slot in slots:
            jobs = [] if slot.shared else slot.do(lambda store: store.get_all_jobs())
            slot.perform(lambda store: store.remove_all_jobs())
            self._scheduler.mailbox.post(partial(self._scheduler.runner.end_with, jobstore=slot.alias))
            for job in jobs:
                self._scheduler.changes.note("remove", job.id)
            slot.broken.clear()
            slot.consumed.clear()
        self._scheduler.stream.emit(SchedulerChanged(aps.EVENT_ALL_JOBS_REMOVED, alias))
        self._scheduler.wakeup()

    def runnable(self, job_id: str, alias: str | None = None, *, on_books: bool = False) -> tuple[Slot | None, Job]:
        """Return the job with every option resolved, ready to be run, and its store.

        The store is None for a job that waits for the start. With `on_books`, one that waits for a shared store is
        refused, since other processes would not know of its run. Raises JobNotFound, NotStored or InvalidDefinition.
        """
        if (entry := self._waiting(job_id, alias)) is not None:
            if on_books and self.slot(entry.definition.jobstore).shared:
                raise NotStored(job_id)
            job = made(self._scheduler, entry.definition)
            if on_books:
                # After the start the job is in that store, and the run counts as one of its instances.
                job._jobstore_alias = entry.definition.jobstore
            return None, job
        if (found := self._find(job_id, alias)) is None:
            raise JobNotFound(job_id)
        slot, job = found
        refuse_unrestorable(job)
        check_executor(job.executor, job.func, self._scheduler.runner.executors, policy_of(job))
        return slot, job

    def ready_slot(self, alias: str) -> Slot:
        """Return a store, open and with the declared jobs in it. Raises StoreUnavailable."""
        return self._slots(alias)[0]

    # The parts of them

    def _slots(self, alias: str | None) -> list[Slot]:
        slots = list(self.slots.values()) if alias is None else [self.slot(alias)]
        for slot in slots:
            slot.open(self._scheduler)
            self._settle(slot)
        return slots

    def _settle(self, slot: Slot) -> None:
        """Bring what is declared into a shared store: once the scheduler has started, a verb is to find it there.

        A process that serves and was not started takes part in what the others do: of what it declares, that counts
        which is in the store.
        """
        if not slot.shared:
            return
        if self.started:
            self.apply(slot)
        elif self._scheduler._eventloop is not None:
            deployment.look_on(self._scheduler, slot)

    def _waiting(self, job_id: str, alias: str | None) -> Declared | None:
        """Return the job if it waits for the start."""
        entry = self.declarations.get(job_id, alias)
        if entry is None:
            return None
        if (slot := self.slots.get(entry.definition.jobstore)) is not None:
            self._settle(slot)
        return self.declarations.get(job_id, alias)

    def _find(self, job_id: str, alias: str | None) -> tuple[Slot, Job] | None:
        """Return the job from the first store that has it, with that store."""
        for slot in self._slots(alias):
            job = slot.perform(lambda store: store.lookup_job(job_id), write=False)
            if job is not None:
                return slot, job
        return None

    def _store(
        self,
        slot: Slot,
        definition: JobDefinition,
        job: Job,
        *,
        replacing: bool,
        late: bool = False,
        action: Action = "add",
    ) -> Job:
        """Put a job into its store, or reconcile it with the one that is there."""
        hashes = deployment.hashes(self._scheduler, definition) if late and slot.shared else None
        code = place(self._scheduler, slot, definition, job, replacing=replacing, action=action, hashes=hashes)
        job._jobstore_alias = slot.alias
        if code:
            slot.forget(job.id)
            self._changed(code, job.id, slot.alias)
        return self.get(job.id, slot.alias) or job if slot.shared else job

    def _redeclare(self, entry: Declared, changes: JobChanges) -> Job:
        before = getattr(entry.job, "next_run_time", UNSET)
        if changes.trigger is not None and "next_run_time" not in changes.fields:
            trigger = changes.trigger.build(self._scheduler.timezone, self._scheduler.clock.now())
            if next_fire(self._scheduler, trigger) is None:
                raise NoFireLeft
        self.declarations.modify(entry, changes)
        self._note_pending(entry.job, before, changes)
        switched: Switched = None
        if changes.fields.keys() == {"next_run_time"}:
            switched = {None: "paused", UNSET: "resumed"}.get(changes.fields["next_run_time"])  # type: ignore[assignment]
        self._changed(aps.EVENT_JOB_MODIFIED, entry.definition.id, None, switched)
        return entry.job

    def _note_pending(self, job: Job, before: Any, changes: JobChanges) -> None:
        """Write down what was changed of a job that waits for the start, which has no next fire unless it was given."""
        keys = [*(["trigger"] if changes.trigger is not None else []), *changes.fields]
        if others := ", ".join(key for key in keys if key != "next_run_time"):
            self._scheduler.changes.note("modify", job.id, detail=others, trigger=job.trigger)
        after = getattr(job, "next_run_time", UNSET)
        if (before is None) != (after is None):
            self._scheduler.changes.note("pause" if after is None else "resume", job.id)

    def _changed(
        self, code: int, job_id: str, alias: str | None, switched: Switched = None, *, wake: bool = True
    ) -> None:
        self._scheduler.stream.emit(JobChanged(code, job_id, alias, switched))
        if wake:
            self._scheduler.wakeup()


def _tell_nothing() -> None:
    """Tell of nothing, where nothing was changed."""
