"""Placing: a definition becomes a job in its store, where one with its id may be already."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from types import NoneType
from typing import TYPE_CHECKING, Any

from apscheduler import events as aps
from apscheduler.job import Job
from apscheduler.jobstores.base import ConflictingIdError
from apscheduler.triggers.base import BaseTrigger

from ..errors import DuplicateJob, InvalidDefinition
from ..model import arguments
from ..model.changes import Action
from ..model.jobs import DEFAULTED, UNSET, JobDefinition
from ..model.planning import first_fire, take_up
from ..model.policies import policy_of
from ..model.triggers import spec_of
from ..stores.adapter import unrestorable_reason
from ..stores.slot import Slot
from .declarations import check_place

if TYPE_CHECKING:
    from .scheduler import Scheduler

_FLAT = (str, int, NoneType)
"""Types of which equal values are the same as JSON too."""

NO_FIRE_LEFT = 'Job "%s" is declared, but its trigger has no fire left'


class NoFireLeft(InvalidDefinition):
    """A trigger will not fire any more, and no next fire was given beside it."""

    def __init__(self) -> None:
        super().__init__("trigger", "has no fire left; expected one to come, or next_run_time beside it")


def place(
    scheduler: Scheduler, slot: Slot, definition: JobDefinition, job: Job, *, replacing: bool, action: Action
) -> int:
    """Put a job, resolved, into its store, or reconcile it with the one there; return the event's code, 0 for none.

    `action` is written down where the store does not write down changes itself. Raises DuplicateJob, InvalidDefinition
    or StoreUnavailable.
    """
    check_place(definition, scheduler.runner.executors, scheduler.catalogue.slots)
    if job.next_run_time is None and definition.next_run_time is UNSET:
        raise NoFireLeft
    slot.check(job)
    put = partial(_put, scheduler, job, definition, replacing, None if slot.shared else action)
    try:
        code: int = slot.perform(put)
    except DuplicateJob:
        raise
    except ConflictingIdError:
        # Another process has added it in this moment.
        if not replacing:
            raise DuplicateJob(job.id) from None
        code = slot.perform(put)
    return code


def _put(
    scheduler: Scheduler, job: Job, definition: JobDefinition, replacing: bool, action: Action | None, store: Any
) -> int:
    """Add or replace the job within a transaction of its store; return the code of the event, 0 for none.

    Where the store does not write down changes, the `action` is.
    """
    existing = store.lookup_job(job.id)
    if existing is None:
        store.add_job(job)
        if action is not None:
            scheduler.changes.note_new(job, action)
        return int(aps.EVENT_JOB_ADDED)
    if not replacing:
        raise DuplicateJob(job.id)
    if not _adopt(existing, job, definition, scheduler.timezone):
        return 0
    before = existing.next_run_time
    store.update_job(job)
    if action is not None:
        scheduler.changes.note_update(job, before, "replaced")
    return int(aps.EVENT_JOB_MODIFIED)


def _adopt(existing: Job, job: Job, definition: JobDefinition, zone: tzinfo) -> bool:
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
    same_trigger = definition.trigger.describes(spec_of(existing.trigger), zone)
    if definition.next_run_time is UNSET and same_trigger:
        job.next_run_time = existing.next_run_time
    if same_trigger:
        job.trigger = existing.trigger
    same_function = job.func == existing.func or (job.func_ref is not None and job.func_ref == existing.func_ref)
    attributes = ("name", "args", "kwargs", "executor", *DEFAULTED, "next_run_time")
    same = all(alike(getattr(job, key), getattr(existing, key)) for key in attributes)
    same = same and policy_of(existing) == definition.policy
    return not (same_trigger and same_function and same)


def made(scheduler: Scheduler, definition: JobDefinition) -> Job:
    """Return the job with zone, defaults and first fire filled in, as of now. Raises InvalidDefinition."""
    return scheduler.catalogue.declarations.pending(definition, _resolved(scheduler, definition))


def resolve(scheduler: Scheduler, job: Job, definition: JobDefinition) -> None:
    """Fill in zone, defaults and first fire of a job that has waited, as of now. Raises InvalidDefinition."""
    job._modify(**_resolved(scheduler, definition))


def _resolved(scheduler: Scheduler, definition: JobDefinition) -> dict[str, Any]:
    trigger, fire = scheduler.catalogue.declarations.trigger(definition), definition.next_run_time
    resolved = {"trigger": trigger, "next_run_time": next_fire(scheduler, trigger) if fire is UNSET else fire}
    for key in DEFAULTED:
        given = getattr(definition, key)
        resolved[key] = scheduler._job_defaults[key] if given is UNSET else given
    return resolved


def next_fire(scheduler: Scheduler, trigger: BaseTrigger, consumed: datetime | None = None) -> datetime | None:
    """Return the next fire, behind the one that was `consumed` last."""
    try:
        fire = first_fire(trigger, scheduler.clock.now())
        if fire is not None and consumed is not None and fire.timestamp() <= consumed.timestamp():
            # A date that has had its fire is no fire to come.
            fire = take_up(trigger, consumed.astimezone(UTC) + timedelta(microseconds=1))
        return fire
    except Exception as error:
        # The trigger may be the user's own code, or a combination that has no common fire.
        raise InvalidDefinition("trigger", f"gives no next fire: {type(error).__name__}: {error}") from error


def alike(one: Any, other: Any) -> bool:
    """Compare as JSON does, to which true is not 1; what cannot be compared is another each time."""
    try:
        equal = bool(one == other)
    except Exception:
        # The objects' own code: arrays are neither equal nor not, a signalling NaN is made to raise.
        return False
    if not equal or (type(one) is type(other) and isinstance(one, _FLAT)):
        return equal
    return json.dumps(arguments.show(one)) == json.dumps(arguments.show(other))
