"""The catalogue: every verb on jobs, written once. Declarations wait here until the scheduler starts."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.triggers.base import BaseTrigger

from ..errors import DuplicateJob, InvalidDefinition, JobNotFound
from ..model.events import JobChanged, SchedulerChanged
from ..model.functions import check_call
from ..model.jobs import UNSET, JobChanges, JobDefinition
from ..model.triggers import spec_of
from ..stores.adapter import check_storable, unrestorable_reason
from ..stores.slot import Slot
from .claims import first_fire
from .declarations import Declarations, Declared, Origin, check_executor, check_place, listed

log = logging.getLogger("quart_sched")

_OPTIONS = ("misfire_grace_time", "coalesce", "max_instances")


class Catalogue:
    """The jobs of a scheduler: those in its stores, and the declared ones that wait for its start.

    Nothing here waits on the event loop. The scheduler calls these methods where the stores may be used: directly
    with memory stores alone, else in the store thread.
    """

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self.slots: dict[str, Slot] = {}
        self.bound = False
        """Whether the stores and executors are known, since an app was given."""
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
        """Add a job, or declare it where the scheduler has not started yet. Raises DuplicateJob."""
        if self.started:
            slot = self.slot(definition.jobstore)
            slot.open(self._scheduler)
            self.apply(slot)
            job = self.declarations.pending(definition)
            job = self._store(slot, definition, job, replacing=definition.replace_existing)
        else:
            if self.bound:
                self.declarations.check_place(definition, self._scheduler.runner.executors, self.slots)
            job = self.declarations.declare(definition, origin)
        self.declarations.remember(definition, origin)
        return job

    def apply(self, slot: Slot) -> None:
        """Bring the declared jobs of this store into it: add new ones, update changed ones, leave equal ones alone.

        Raises StoreUnavailable; what is not stored by then stays declared.
        """
        for entry in self.declarations.of(slot.alias):
            try:
                self._store(slot, entry.definition, entry.job, replacing=True)
            except InvalidDefinition as error:
                # Only now is the store's opinion known. The other jobs must not suffer for it.
                log.error('Job "%s" cannot be scheduled: %s', entry.definition.id, error)
            self.declarations.applied(entry)

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
        if (entry := self.declarations.get(job_id, alias)) is not None:
            return entry.job
        return next((job for _, job in self._find(job_id, alias)), None)

    def all(self, alias: str | None = None) -> list[Job]:
        """Return the jobs that wait for the start, then those in the stores by time of their next fire."""
        waiting = [entry.job for entry in self.declarations.of(alias)]
        stored = []
        for slot in self._slots(alias):
            with slot.use() as store:
                stored += [job for job in store.get_all_jobs() if job.id not in self.declarations]
        return waiting + stored

    def broken_reason(self, job: Job) -> str | None:
        """Return why `job` cannot fire, or None."""
        slot = self.slots.get(job._jobstore_alias)
        return slot.broken_reason(job) if slot else None

    def modify(self, job_id: str, alias: str | None, changes: JobChanges) -> Job:
        """Change a job, all of it or, where something is wrong, nothing. Raises JobNotFound or InvalidDefinition."""
        if (entry := self.declarations.get(job_id, alias)) is not None:
            return self._redeclare(entry, changes)
        for slot, job in self._find(job_id, alias):
            with slot.use() as store:
                fields = self._prepare(slot, job, changes)
                if not fields:
                    return job
                if fields.keys() & {"trigger", "func", "executor"} or fields.get("next_run_time"):
                    slot.broken.pop(job_id, None)
                job._modify(**fields)
                if slot.blocking:
                    check_storable(job, slot.alias)
                store.update_job(job)
            self._changed(aps.EVENT_JOB_MODIFIED, job_id, slot.alias)
            return job
        raise JobNotFound(job_id)

    def pause(self, job_id: str, alias: str | None = None) -> Job:
        """Keep the job from firing until it is resumed."""
        return self.modify(job_id, alias, JobChanges(fields={"next_run_time": None}))

    def resume(self, job_id: str, alias: str | None = None) -> Job | None:
        """Take the schedule up from now on; a job whose schedule is over is removed, and None returned."""
        if (entry := self.declarations.get(job_id, alias)) is not None:
            return self._redeclare(entry, JobChanges(fields={"next_run_time": UNSET}))
        for slot, job in self._find(job_id, alias):
            self._refuse_unrestorable(job)
            fire = self._first_fire(job.trigger)
            if fire is None:
                self.remove(job_id, slot.alias)
                return None
            slot.consumed.pop(job_id, None)
            return self.modify(job_id, slot.alias, JobChanges(fields={"next_run_time": fire}))
        raise JobNotFound(job_id)

    def remove(self, job_id: str, alias: str | None = None) -> None:
        """Remove the job. Raises JobNotFound."""
        entry = self.declarations.get(job_id, alias)
        if entry is not None:
            self.declarations.drop(job_id)
            self._changed(aps.EVENT_JOB_REMOVED, job_id, entry.definition.jobstore)
            return
        for slot in self._slots(alias):
            try:
                with slot.use() as store:
                    store.remove_job(job_id)
            except JobLookupError:
                continue
            slot.forget(job_id)
            self._changed(aps.EVENT_JOB_REMOVED, job_id, slot.alias)
            return
        raise JobNotFound(job_id)

    def remove_all(self, alias: str | None = None) -> None:
        """Remove every job, of one store or of all."""
        for entry in self.declarations.of(alias):
            self.declarations.drop(entry.definition.id)
        for slot in self._slots(alias):
            with slot.use() as store:
                store.remove_all_jobs()
            slot.broken.clear()
            slot.consumed.clear()
        self._scheduler.stream.emit(SchedulerChanged(aps.EVENT_ALL_JOBS_REMOVED, alias))
        self._scheduler.wakeup()

    def runnable(self, job_id: str, alias: str | None = None) -> Job:
        """Return the job with every option resolved, ready to be run. Raises JobNotFound or InvalidDefinition."""
        if (entry := self.declarations.get(job_id, alias)) is not None:
            job = self.declarations.pending(entry.definition)
            self._resolve(job, entry.definition)
            return job
        for _, job in self._find(job_id, alias):
            self._refuse_unrestorable(job)
            check_executor(job.executor, job.func, self._scheduler.runner.executors)
            return job
        raise JobNotFound(job_id)

    # The parts of them

    def _slots(self, alias: str | None) -> list[Slot]:
        slots = list(self.slots.values()) if alias is None else [self.slot(alias)]
        for slot in slots:
            slot.open(self._scheduler)
        return slots

    def _find(self, job_id: str, alias: str | None) -> Iterator[tuple[Slot, Job]]:
        """Yield the job with its store from the first store that has it."""
        for slot in self._slots(alias):
            with slot.use() as store:
                job = store.lookup_job(job_id)
            if job is not None:
                yield slot, job
                return

    def _store(self, slot: Slot, definition: JobDefinition, job: Job, *, replacing: bool) -> Job:
        """Put a job into its store, or reconcile it with the one that is there."""
        check_place(definition, self._scheduler.runner.executors, self.slots)
        self._resolve(job, definition)
        if slot.blocking:
            check_storable(job, slot.alias)
        with slot.use() as store:
            existing = store.lookup_job(job.id)
            code = aps.EVENT_JOB_ADDED
            if existing is not None:
                if not replacing:
                    raise DuplicateJob(job.id)
                if self._adopt(existing, job, definition):
                    store.update_job(job)
                    code = aps.EVENT_JOB_MODIFIED
                else:
                    code = 0
            else:
                try:
                    store.add_job(job)
                except ConflictingIdError:
                    raise DuplicateJob(job.id) from None
            job._jobstore_alias = slot.alias
        if code:
            slot.forget(job.id)
            self._changed(code, job.id, slot.alias)
        return job

    def _resolve(self, job: Job, definition: JobDefinition) -> None:
        """Fill in zone, defaults and first fire, as of now."""
        now = self._scheduler.clock.now()
        trigger = definition.trigger.build(self._scheduler.timezone, now)
        resolved: dict[str, Any] = {"trigger": trigger}
        for key in _OPTIONS:
            given = getattr(definition, key)
            resolved[key] = self._scheduler._job_defaults[key] if given is UNSET else given
        given = definition.next_run_time
        resolved["next_run_time"] = self._first_fire(trigger) if given is UNSET else given
        job._modify(**resolved)

    def _first_fire(self, trigger: BaseTrigger) -> datetime | None:
        try:
            return first_fire(trigger, self._scheduler.clock.now())
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            raise InvalidDefinition("trigger", f"gives no next fire: {type(error).__name__}: {error}") from error

    def _adopt(self, existing: Job, job: Job, definition: JobDefinition) -> bool:
        """Carry over what a new declaration leaves alone; tell whether anything else differs.

        An equal trigger keeps its next fire, and a paused job stays paused.
        """
        if unrestorable_reason(existing) is not None:
            return True
        same_trigger = definition.trigger.describes(spec_of(existing.trigger), self._scheduler.timezone)
        if definition.next_run_time is UNSET:
            if existing.next_run_time is None:
                job.next_run_time = None
            elif same_trigger:
                job.next_run_time = existing.next_run_time
        if same_trigger:
            job.trigger = existing.trigger
        same_function = job.func == existing.func or (job.func_ref is not None and job.func_ref == existing.func_ref)
        attributes = ("name", "args", "kwargs", "executor", *_OPTIONS, "next_run_time")
        same = all(getattr(job, key) == getattr(existing, key) for key in attributes)
        return not (same_trigger and same_function and same)

    def _prepare(self, slot: Slot, job: Job, changes: JobChanges) -> dict[str, Any]:
        """Check the changes against the job; return those that make a difference."""
        fields = dict(changes.fields)
        self._refuse_unrestorable(job)
        now = self._scheduler.clock.now()
        if changes.trigger is not None and not changes.trigger.describes(
            spec_of(job.trigger), self._scheduler.timezone
        ):
            trigger = fields["trigger"] = changes.trigger.build(self._scheduler.timezone, now)
            if job.next_run_time is not None or job.id in slot.broken:
                fields.setdefault("next_run_time", self._first_fire(trigger))
        func = fields.get("func", job.func)
        check_call(func, fields.get("args", job.args), fields.get("kwargs", job.kwargs))
        check_executor(fields.get("executor", job.executor), func, self._scheduler.runner.executors)
        if fields.get("name", job.name) is None:
            del fields["name"]
        moment = fields.get("next_run_time")
        if moment is not None:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=self._scheduler.timezone)
            consumed = slot.consumed.get(job.id)
            if consumed is not None and moment <= consumed and "trigger" not in fields:
                # A job that was read, and sent back after it fired meanwhile: that fire must not come again.
                del fields["next_run_time"]
        return {key: value for key, value in fields.items() if key == "func" or getattr(job, key) != value}

    def _redeclare(self, entry: Declared, changes: JobChanges) -> Job:
        self.declarations.modify(entry, changes)
        self._changed(aps.EVENT_JOB_MODIFIED, entry.definition.id, None)
        return entry.job

    def _refuse_unrestorable(self, job: Job) -> None:
        if (reason := unrestorable_reason(job)) is not None:
            raise InvalidDefinition("job", f"{job.id!r} is broken and can only be removed: {reason}")

    def _changed(self, code: int, job_id: str, alias: str | None) -> None:
        self._scheduler.stream.emit(JobChanged(code, job_id, alias))
        self._scheduler.wakeup()
