"""The catalogue: every verb on jobs, written once. Declarations wait here until the scheduler starts."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError, JobLookupError
from apscheduler.triggers.base import BaseTrigger

from ..errors import DuplicateJob, InvalidDefinition, JobNotFound
from ..model import arguments, state
from ..model.actor import current_actor
from ..model.changes import Action
from ..model.events import JobChanged, SchedulerChanged, Switch
from ..model.functions import check_call
from ..model.jobs import UNSET, JobChanges, JobDefinition, ScheduledJob
from ..model.policies import PARSERS, check_policy, policy_of, split, with_changes
from ..model.runs import RunRecord
from ..model.triggers import spec_of
from ..stores.adapter import check_plain, unrestorable_reason
from ..stores.slot import Slot
from .claims import first_fire
from .declarations import Declarations, Declared, Origin, check_executor, check_place, listed

if TYPE_CHECKING:
    from ..stores.sql.preview import Preview
    from ..stores.sql.reconcile import Declaration
    from ..stores.sql.workers import Session, Worker

log = logging.getLogger("quart_sched")

Check = Callable[[Job], None]
Switched = Switch | None

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
            if self._scheduler.tracing is not None:
                self._scheduler.tracing.note_added(job.id)
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
        entries = self.declarations.of(slot.alias)
        if slot.shared:
            if entries:
                self.reconcile(slot)
            return
        token = current_actor.set("deploy")
        try:
            for entry in entries:
                try:
                    self._store(slot, entry.definition, entry.job, replacing=True, action="declare")
                except InvalidDefinition as error:
                    # Only now is the store's opinion known. The other jobs must not suffer for it.
                    log.error('Job "%s" cannot be scheduled: %s', entry.definition.id, error)
                self.declarations.applied(entry)
        finally:
            current_actor.reset(token)

    def join(self, slot: Slot) -> Session:
        """Open a shared store and take part in it as a process of its own. Raises StoreUnavailable."""
        with slot.lock:
            slot.open(self._scheduler)
            if slot.session is None:
                slot.session = slot.do(lambda store: store.join())
            return slot.session

    def reconcile(self, slot: Slot, *, starting: bool = False) -> None:
        """Bring what the code declares into a shared store, as one among all its processes.

        Where the scheduler is `starting`, the jobs run that want that. Raises StoreUnavailable.
        """
        with slot.lock:
            me = self.join(slot)
            entries = self.declarations.all(slot.alias)
            declared, invalid = self._declared(entries)
            done = slot.do(lambda store: store.reconcile(me, declared, self._scheduler.prune, starting=starting))
        for job_id in done.refused:
            log.error(
                'Job "%s" is declared, but its id is that of a job that was added at run time: remove that one first',
                job_id,
            )
        for job_id, reason in (invalid | done.invalid).items():
            log.error('Job "%s" cannot be scheduled: %s', job_id, reason)
        removed = self._scheduler.prune == "remove"
        for code, ids in (
            (aps.EVENT_JOB_ADDED, done.added),
            (aps.EVENT_JOB_MODIFIED, [*done.changed, *done.restored]),
            (aps.EVENT_JOB_REMOVED if removed else aps.EVENT_JOB_MODIFIED, done.pruned),
        ):
            for job_id in ids:
                self._scheduler.stream.emit(JobChanged(code, job_id, slot.alias))
        if done.pruned:
            log.warning("No longer declared (SCHEDULER_PRUNE is %r): %s", self._scheduler.prune, ", ".join(done.pruned))
        for entry in entries:
            self.declarations.applied(entry)

    def preview(self, slot: Slot) -> Preview:
        """Return what `reconcile` would come to in this process's hands; nothing is written. Raises StoreUnavailable.

        The store need not be open.
        """
        declared, invalid = self._declared(self.declarations.all(slot.alias))
        found: Preview = slot.do(
            lambda store: store.preview(self._scheduler, slot.alias, declared, self._scheduler.prune)
        )
        found.result.invalid |= invalid
        return found

    def look_on(self, slot: Slot) -> None:
        """Take what is stored for the jobs of a shared store, and bring nothing in. Raises StoreUnavailable.

        Declared jobs that are not in there go on waiting for the start.
        """
        slot.open(self._scheduler)
        missing = set(self.preview(slot).result.added)
        for entry in self.declarations.of(slot.alias):
            if entry.definition.id not in missing:
                self.declarations.applied(entry)

    def _declared(self, entries: Iterable[Declared]) -> tuple[list[Declaration], dict[str, str]]:
        """Return the declarations as a shared store compares them, and why others cannot be stored."""
        from ..stores.sql.reconcile import Declaration

        zone, defaults = self._scheduler.timezone, self._scheduler._job_defaults
        declared, invalid = [], {}
        for entry in entries:
            definition = entry.definition
            try:
                if entry.hashes is None:
                    entry.hashes = (state.trigger_hash(definition, zone), state.options_hash(definition, defaults))
            except InvalidDefinition as error:
                invalid[definition.id] = str(error)
            else:
                sets_next = definition.next_run_time is not UNSET
                make = partial(self._made, definition)
                declared.append(Declaration(definition.id, *entry.hashes, make, sets_next))
        return declared, invalid

    def _made(self, definition: JobDefinition) -> Job:
        """Return the declared job, resolved as of now. Raises InvalidDefinition."""
        check_place(definition, self._scheduler.runner.executors, self.slots)
        job = self.declarations.pending(definition)
        self._resolve(job, definition)
        return job

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
        return next((job for _, job in self._find(job_id, alias)), None)

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
            job = slot.perform(partial(self._modify, slot, job_id, changes, check))
            if job is not None:
                return job
        raise JobNotFound(job_id)

    def _modify(self, slot: Slot, job_id: str, changes: JobChanges, check: Check, store: Any) -> Job | None:
        """Change a job within a transaction of its store; None where the store has no such job."""
        job: Job | None = store.lookup_job(job_id)
        if job is None:
            return None
        job._jobstore_alias = slot.alias
        check(job)
        fields = self._prepare(slot, job, changes)
        if not fields:
            return job
        before = job.next_run_time
        if fields.keys() & {"trigger", "func", "executor"} or fields.get("next_run_time"):
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
        self._changed(aps.EVENT_JOB_MODIFIED, job_id, slot.alias, switched)
        return job

    def pause(self, job_id: str, alias: str | None = None) -> Job:
        """Keep the job from firing until it is resumed."""
        for slot, _ in self._find(job_id, alias):
            if slot.shared:
                slot.perform(lambda store: store.pause(job_id))
                self._changed(aps.EVENT_JOB_MODIFIED, job_id, slot.alias, "paused")
                paused = self.get(job_id, slot.alias)
                if paused is None:
                    break
                return paused
        return self.modify(job_id, alias, JobChanges(fields={"next_run_time": None}))

    def resume(self, job_id: str, alias: str | None = None) -> Job | None:
        """Take the schedule up from now on; a job whose schedule is over is removed, and None returned."""
        if (entry := self._waiting(job_id, alias)) is not None:
            return self._redeclare(entry, JobChanges(fields={"next_run_time": UNSET}))
        for slot, job in self._find(job_id, alias):
            self._refuse_unrestorable(job)
            fire = self._first_fire(job.trigger, self._consumed(slot, job))
            if fire is None:
                self.remove(job_id, slot.alias)
                return None
            return self.modify(job_id, slot.alias, JobChanges(fields={"next_run_time": fire}))
        raise JobNotFound(job_id)

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
            slot.forget(job_id)
            if not slot.shared:
                self._scheduler.changes.note("remove", job_id)
            self._scheduler.mailbox.post(partial(self._scheduler.runner.waiting.drop, "the job was removed", job_id))
            self._changed(aps.EVENT_JOB_REMOVED, job_id, slot.alias)
            return
        raise JobNotFound(job_id)

    def _remove(self, slot: Slot, job_id: str, check: Check, store: Any) -> None:
        job: Job | None = store.lookup_job(job_id)
        if job is not None:
            job._jobstore_alias = slot.alias
            check(job)
        store.remove_job(job_id)

    def remove_all(self, alias: str | None = None) -> None:
        """Remove every job, of one store or of all."""
        for entry in self.declarations.of(alias):
            self.declarations.drop(entry.definition.id)
            self._scheduler.changes.note("remove", entry.definition.id)
        for slot in self._slots(alias):
            jobs = [] if slot.shared else slot.do(lambda store: store.get_all_jobs())
            slot.perform(lambda store: store.remove_all_jobs())
            drop = partial(self._scheduler.runner.waiting.drop, "the job was removed", jobstore=slot.alias)
            self._scheduler.mailbox.post(drop)
            for job in jobs:
                self._scheduler.changes.note("remove", job.id)
            slot.broken.clear()
            slot.consumed.clear()
        self._scheduler.stream.emit(SchedulerChanged(aps.EVENT_ALL_JOBS_REMOVED, alias))
        self._scheduler.wakeup()

    def runnable(self, job_id: str, alias: str | None = None) -> tuple[Slot | None, Job]:
        """Return the job with every option resolved, ready to be run, and its store.

        The store is None for a job that waits for the start. Raises JobNotFound or InvalidDefinition.
        """
        if (entry := self._waiting(job_id, alias)) is not None:
            job = self.declarations.pending(entry.definition)
            self._resolve(job, entry.definition)
            return None, job
        for slot, job in self._find(job_id, alias):
            self._refuse_unrestorable(job)
            executors: Any = self._scheduler.runner.executors
            check_executor(job.executor, job.func, executors, policy_of(job))
            return slot, job
        raise JobNotFound(job_id)

    def workers(self) -> list[Worker]:
        """Return the processes that share a store with this one, itself among them. Raises StoreUnavailable."""
        found: list[Worker] = []
        for slot in self.slots.values():
            if slot.shared:
                slot.open(self._scheduler)
                found += slot.do(lambda store: store.workers())
        return found

    def cancel_run(self, slot: Slot, run_id: str) -> bool | RunRecord:
        """Ask a run of a shared store to stop; tell whether it is there, by its record where it waited."""
        slot.open(self._scheduler)
        found: bool | RunRecord = slot.do(lambda store: store.cancel(run_id, self._scheduler.runner.worker))
        return found

    def set_paused(self, paused: bool) -> None:
        """Pause or resume the shared stores, for all their processes."""
        for slot in self.slots.values():
            if slot.shared:
                slot.open(self._scheduler)
                slot.do(lambda store: store.set_paused(paused))

    def ready_slots(self) -> list[Slot]:
        """Return all stores, open and with the declared jobs in them. Raises StoreUnavailable."""
        return self._slots(None)

    # The parts of them

    def _slots(self, alias: str | None) -> list[Slot]:
        slots = list(self.slots.values()) if alias is None else [self.slot(alias)]
        for slot in slots:
            slot.open(self._scheduler)
            self._settle(slot)
        return slots

    def _settle(self, slot: Slot) -> None:
        """Bring what is declared into a shared store: once the scheduler has started, a verb is to find it there."""
        if slot.shared and self.started:
            self.apply(slot)

    def _waiting(self, job_id: str, alias: str | None) -> Declared | None:
        """Return the job if it waits for the start."""
        entry = self.declarations.get(job_id, alias)
        if entry is not None and (slot := self.slots.get(entry.definition.jobstore)) is not None:
            self._settle(slot)
        return self.declarations.get(job_id, alias)

    def _find(self, job_id: str, alias: str | None) -> Iterator[tuple[Slot, Job]]:
        """Yield the job with its store from the first store that has it."""
        for slot in self._slots(alias):
            job = slot.perform(lambda store: store.lookup_job(job_id), write=False)
            if job is not None:
                yield slot, job
                return

    def _store(
        self, slot: Slot, definition: JobDefinition, job: Job, *, replacing: bool, action: Action = "add"
    ) -> Job:
        """Put a job into its store, or reconcile it with the one that is there."""
        check_place(definition, self._scheduler.runner.executors, self.slots)
        self._resolve(job, definition)
        slot.check(job)
        put = partial(self._put, job, definition, replacing, None if slot.shared else action)
        try:
            code = slot.perform(put)
        except DuplicateJob:
            raise
        except ConflictingIdError:
            # Another process has added it in this moment.
            if not replacing:
                raise DuplicateJob(job.id) from None
            code = slot.perform(put)
        job._jobstore_alias = slot.alias
        if code:
            slot.forget(job.id)
            self._changed(code, job.id, slot.alias)
        return self.get(job.id, slot.alias) or job if slot.shared else job

    def _put(self, job: Job, definition: JobDefinition, replacing: bool, action: Action | None, store: Any) -> int:
        """Add or replace the job within a transaction of its store; return the code of the event, 0 for none.

        Where the store does not write down changes, the `action` is.
        """
        existing = store.lookup_job(job.id)
        if existing is None:
            store.add_job(job)
            if action is not None:
                self._scheduler.changes.note_new(job, action)
            return int(aps.EVENT_JOB_ADDED)
        if not replacing:
            raise DuplicateJob(job.id)
        if not self._adopt(existing, job, definition):
            return 0
        before = existing.next_run_time
        store.update_job(job)
        if action is not None:
            self._scheduler.changes.note_update(job, before, "replaced")
        return int(aps.EVENT_JOB_MODIFIED)

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

    def _first_fire(self, trigger: BaseTrigger, consumed: datetime | None = None) -> datetime | None:
        """Return the next fire, behind the one that was `consumed` last."""
        try:
            fire = first_fire(trigger, self._scheduler.clock.now())
            if fire is not None and consumed is not None and fire.timestamp() <= consumed.timestamp():
                fire = first_fire(trigger, consumed.astimezone(UTC) + timedelta(microseconds=1))
            return fire
        except Exception as error:
            # The trigger may be the user's own code, or a combination that has no common fire.
            raise InvalidDefinition("trigger", f"gives no next fire: {type(error).__name__}: {error}") from error

    def _adopt(self, existing: Job, job: Job, definition: JobDefinition) -> bool:
        """Carry over what a new declaration leaves alone; tell whether anything else differs.

        An equal trigger keeps its next fire, and a paused job stays paused.
        """
        paused = existing.next_run_time is None
        if (broken := getattr(existing, "broken", None)) is not None:
            paused = existing.paused_by is not None
        if paused and definition.next_run_time is UNSET:
            job.next_run_time = None
        if broken is not None or unrestorable_reason(existing) is not None:
            return True
        same_trigger = definition.trigger.describes(spec_of(existing.trigger), self._scheduler.timezone)
        if definition.next_run_time is UNSET and same_trigger:
            job.next_run_time = existing.next_run_time
        if same_trigger:
            job.trigger = existing.trigger
        same_function = job.func == existing.func or (job.func_ref is not None and job.func_ref == existing.func_ref)
        attributes = ("name", "args", "kwargs", "executor", *_OPTIONS, "next_run_time")
        same = all(_alike(getattr(job, key), getattr(existing, key)) for key in attributes)
        same = same and policy_of(existing) == definition.policy
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
            broken = getattr(job, "broken", None) and job.paused_by is None
            if job.next_run_time is not None or job.id in slot.broken or broken:
                fields.setdefault("next_run_time", self._first_fire(trigger, self._consumed(slot, job)))
        func = fields.get("func", job.func)
        check_call(func, fields.get("args", job.args), fields.get("kwargs", job.kwargs))
        executors, executor = self._scheduler.runner.executors, fields.get("executor", job.executor)
        policy = with_changes(policy_of(job), split(fields)[0])
        check_executor(executor, func, executors, policy)
        check_policy(policy, func)
        if not isinstance(job, ScheduledJob):
            check_plain(policy, slot.alias)
        if fields.get("name", job.name) is None:
            del fields["name"]
        moment = fields.get("next_run_time")
        if moment is not None:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=self._scheduler.timezone)
            consumed = self._consumed(slot, job)
            if consumed is not None and moment <= consumed and "trigger" not in fields:
                # A job that was read, and sent back after it fired meanwhile: that fire must not come again.
                del fields["next_run_time"]
        before = policy_of(job)
        return {
            key: value
            for key, value in fields.items()
            if key == "func" or not _alike(getattr(before if key in PARSERS else job, key, None), value)
        }

    def _consumed(self, slot: Slot, job: Job) -> datetime | None:
        """Return the last fire of the job that was claimed, as far as is known."""
        return getattr(job, "last_fire", None) or slot.consumed.get(job.id)

    def _redeclare(self, entry: Declared, changes: JobChanges) -> Job:
        before = getattr(entry.job, "next_run_time", UNSET)
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

    def _refuse_unrestorable(self, job: Job) -> None:
        if (reason := unrestorable_reason(job)) is not None:
            raise InvalidDefinition("job", f"{job.id!r} is broken and can only be removed: {reason}")

    def _changed(self, code: int, job_id: str, alias: str | None, switched: Switched = None) -> None:
        self._scheduler.stream.emit(JobChanged(code, job_id, alias, switched))
        self._scheduler.wakeup()


def _alike(one: Any, other: Any) -> bool:
    """Compare as JSON does, to which true is not 1."""
    return bool(one == other) and json.dumps(arguments.show(one)) == json.dumps(arguments.show(other))
