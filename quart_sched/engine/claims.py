"""Claims: which fires of a job are due, which came too late, and when it fires next."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, JobLookupError
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from ..model.runs import Outcome
from ..stores.adapter import unrestorable_reason

WALK_LIMIT = 1000
"""Missed fires that are walked one by one. Behind that the schedule is taken up near the present."""

_CRON_HORIZON = timedelta(days=50 * 365)


class TriggerStuck(Exception):
    """A trigger returned a fire that does not lie behind the one before it."""


@dataclass(frozen=True, slots=True)
class Lapse:
    """Fires from `first` to `last` that will not run; `fires` is None where they were not counted."""

    outcome: Outcome
    first: datetime
    last: datetime
    fires: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with a job that is due: the fires to run, those that lapse, and the next one (None: it has ended)."""

    fires: tuple[datetime, ...]
    lapses: tuple[Lapse, ...]
    next: datetime | None


@dataclass(slots=True)
class Round:
    """The outcome of one claim on a store.

    `broken` jobs come with the reason, `ended` ones have no fire left, the store raised on `failed` ones. There is
    `more` due than was taken, or what is due is `stuck` there. `next_due` is a POSIX timestamp in seconds.
    """

    claims: list[tuple[Job, Plan]] = field(default_factory=list)
    broken: list[tuple[Job, str]] = field(default_factory=list)
    failed: dict[str, Exception] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    more: bool = False
    stuck: bool = False
    next_due: float | None = None


def first_fire(trigger: BaseTrigger, now: datetime) -> datetime | None:
    """Return the first fire of a schedule that is taken up at `now`.

    A calendar interval begins at its start date even where that is past, against its own documentation; here its past
    fires are left out. A date in the past stays what it is: a fire that was missed. A cron expression is searched for
    50 years: for one that never comes true, APScheduler searches eight thousand, which takes it a second.
    """
    if type(trigger) is CronTrigger and trigger.end_date is None:
        bounded: BaseTrigger = object.__new__(CronTrigger)
        bounded.__setstate__(trigger.__getstate__() | {"end_date": now + _CRON_HORIZON})
        trigger = bounded
    fire: datetime | None = trigger.get_next_fire_time(None, now)
    if isinstance(trigger, CalendarIntervalTrigger):
        while fire is not None and fire < now:
            fire = trigger.get_next_fire_time(fire, now)
    return fire


def plan(job: Job, now: datetime, max_catch_up: int) -> Plan:
    """Decide on the due fires of `job`. Whether a fire is too late is judged here and nowhere else.

    A coalescing job runs its latest fire; otherwise the latest `max_catch_up` that are in time. Raises TriggerStuck,
    and whatever the trigger raises.
    """
    first: datetime = job.next_run_time
    following = _after(job.trigger, first, now)
    if following is None or following > now:
        if _is_late(job, first, now):
            return Plan((), (Lapse("missed", first, first, 1),), following)
        return Plan((first,), (), following)

    due, skipped_to, counted, following = _walk(job, first, following, now)
    in_time = [fire for fire in due if not _is_late(job, fire, now)]
    run = in_time[-1:] if job.coalesce else in_time[-max_catch_up:]
    lapsed = due[: len(due) - len(run)]
    if not lapsed:
        return Plan(tuple(run), (), following)
    # Late fires are missed; those that another one stands for are coalesced into it.
    outcome: Outcome = "coalesced" if run and job.coalesce else "missed"
    fires = counted - len(run) if counted is not None else None
    return Plan(tuple(run), (Lapse(outcome, first, max(lapsed[-1], skipped_to), fires),), following)


def _walk(
    job: Job, first: datetime, second: datetime, now: datetime
) -> tuple[list[datetime], datetime, int | None, datetime | None]:
    """Return known due fires (at least the first), the end of what was passed over, their count, and what follows."""
    trigger = job.trigger
    due = [first]
    passed, count = first, 1
    fire: datetime | None = second
    if type(trigger) is IntervalTrigger and not trigger.jitter:
        # A plain interval is arithmetic: go to where the walk below has few steps left.
        until = now if trigger.end_date is None else min(now, trigger.end_date)
        steps = int((until - second) / trigger.interval) - WALK_LIMIT + 2
        if steps > 0:
            at = second.timestamp()
            passed = datetime.fromtimestamp(at + (steps - 1) * trigger.interval_length, second.tzinfo)
            fire = datetime.fromtimestamp(at + steps * trigger.interval_length, second.tzinfo)
            count = 1 + steps
    walked = 0
    while fire is not None and fire <= now:
        due.append(fire)
        count += 1
        walked += 1
        if walked == WALK_LIMIT:
            near = now - timedelta(seconds=job.misfire_grace_time) if job.misfire_grace_time else now
            return _jump(trigger, due, near, now)
        fire = _after(trigger, fire, now)
    return due, passed, count, fire


def _jump(
    trigger: BaseTrigger, due: list[datetime], near: datetime, now: datetime
) -> tuple[list[datetime], datetime, None, datetime | None]:
    """Leave the uncounted middle out and take the schedule up again at `near`."""
    passed = due[-1]
    fire = first_fire(trigger, max(near, passed + timedelta(microseconds=1)))
    for _ in range(WALK_LIMIT):
        if fire is None or fire > now:
            return due, passed, None, fire
        due.append(fire)
        fire = _after(trigger, fire, now)
    return due, due[-1], None, first_fire(trigger, now + timedelta(microseconds=1))


def _after(trigger: BaseTrigger, fire: datetime, now: datetime) -> datetime | None:
    following: datetime | None = trigger.get_next_fire_time(fire, now)
    if following is not None and following <= now and following.timestamp() <= fire.timestamp():
        raise TriggerStuck(f"the trigger returned {following} after {fire}: it does not advance")
    return following


def _is_late(job: Job, fire: datetime, now: datetime) -> bool:
    return job.misfire_grace_time is not None and (now - fire).total_seconds() > job.misfire_grace_time


def claim(
    store: BaseJobStore, due: Iterable[Job], now: datetime, max_catch_up: int, usable: Container[str], limit: int
) -> Round:
    """Claim the fires of up to `limit` of the `due` jobs: move each on in the store, and only then let its fires run.

    A job whose trigger raises, or whose executor is not among the `usable` ones, is paused and reported as broken. One
    that the store fails on is reported as failed and stays due; one that was removed meanwhile is left alone.
    """
    outcome = Round()
    taken = 0
    for job in due:
        if (reason := unrestorable_reason(job)) is not None:
            outcome.broken.append((job, reason))
            outcome.stuck = True
            continue
        if taken == limit:
            outcome.more = True
            break
        taken += 1
        before = job.next_run_time
        reason = "" if job.executor in usable else f'there is no executor "{job.executor}"'
        planned = Plan((), (), None)
        if not reason:
            try:
                planned = plan(job, now, max_catch_up)
            except Exception as error:
                # A trigger may be the user's own code: it must not take the others down with it.
                reason = f"its trigger raised {type(error).__name__}: {error}"
        try:
            if reason or planned.next is not None:
                job.next_run_time = planned.next
                store.update_job(job)
            else:
                store.remove_job(job.id)
                outcome.ended.append(job.id)
        except JobLookupError:
            continue
        except Exception as error:
            # Whatever the store's driver raises: nothing is known to have moved on, so nothing may run.
            job.next_run_time = before
            outcome.failed[job.id] = error
            continue
        if reason:
            outcome.broken.append((job, reason))
        else:
            outcome.claims.append((job, planned))
    return outcome
