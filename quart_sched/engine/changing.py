"""Changing: what changes that are asked for come to with a job as its store has it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from apscheduler.job import Job

from ..errors import InvalidDefinition
from ..model.functions import check_call
from ..model.jobs import JobChanges, ScheduledJob
from ..model.policies import PARSERS, check_policy, policy_of, split, with_changes
from ..model.triggers import spec_of
from ..stores.adapter import check_plain, unrestorable_reason
from ..stores.slot import Slot
from .declarations import check_executor
from .placing import NoFireLeft, alike, next_fire

if TYPE_CHECKING:
    from .scheduler import Scheduler


def differences(scheduler: Scheduler, slot: Slot, job: Job, changes: JobChanges) -> dict[str, Any]:
    """Check the changes against the job; return those that make a difference. Raises InvalidDefinition."""
    fields = dict(changes.fields)
    refuse_unrestorable(job)
    if changes.trigger is not None and not changes.trigger.describes(spec_of(job.trigger), scheduler.timezone):
        trigger = fields["trigger"] = changes.trigger.build(scheduler.timezone, scheduler.clock.now())
        fire = next_fire(scheduler, trigger, last_claimed(slot, job))
        if fire is None and "next_run_time" not in fields:
            raise NoFireLeft
        broken = getattr(job, "broken", None) and job.paused_by is None
        if job.next_run_time is not None or job.id in slot.broken or broken:
            fields.setdefault("next_run_time", fire)
    func = fields.get("func", job.func)
    check_call(func, fields.get("args", job.args), fields.get("kwargs", job.kwargs))
    executors, executor = scheduler.runner.executors, fields.get("executor", job.executor)
    before = policy_of(job)
    policy = with_changes(before, split(fields)[0])
    check_executor(executor, func, executors, policy)
    check_policy(policy, func)
    if not isinstance(job, ScheduledJob):
        check_plain(policy, slot.alias)
    if fields.get("name", job.name) is None:
        del fields["name"]
    moment = fields.get("next_run_time")
    if moment is not None:
        moment = moment if moment.tzinfo else moment.replace(tzinfo=scheduler.timezone)
        consumed = last_claimed(slot, job)
        if consumed is not None and moment.timestamp() <= consumed.timestamp() and "trigger" not in fields:
            # A job that was read, and sent back after it fired meanwhile: that fire must not come again.
            del fields["next_run_time"]
    return {
        key: value
        for key, value in fields.items()
        if key == "func" or not alike(getattr(before if key in PARSERS else job, key, None), value)
    }


def last_claimed(slot: Slot, job: Job) -> datetime | None:
    """Return the last fire of the job that was claimed, as far as is known."""
    return getattr(job, "last_fire", None) or slot.consumed.get(job.id)


def refuse_unrestorable(job: Job) -> None:
    """Raise InvalidDefinition for a job that cannot be loaded from its store."""
    if (reason := unrestorable_reason(job)) is not None:
        raise InvalidDefinition("job", f"{job.id!r} is broken and can only be removed: {reason}")
