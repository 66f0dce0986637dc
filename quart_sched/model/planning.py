"""Plans: which fires of a job are due, which came too late, and when it fires next."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, BaseCombiningTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .calendar_intervals import fire_behind, first_from
from .combining import EarliestOrTrigger
from .cron_search import next_cron_fire
from .jitter import put_off

if TYPE_CHECKING:
    from .runs import Outcome

WALK_LIMIT = 100
"""Due fires that are walked one by one and counted. Behind them the schedule is taken up again near the present."""

_LEAST_WALK = 10
_ASKED = 2 * WALK_LIMIT
"""About how often the parts of a trigger are asked in one plan: those of a combined one each for each fire."""
_SLACK = 4
"""Fires more than expected that one look back may bring up."""
_LOOKS = 500
"""Looks back after which a trigger is taken for one that cannot be taken up; a cron trigger needs fifty at most."""
_TICK = timedelta(microseconds=1)


class TriggerStuck(Exception):
    """A trigger returned a fire that does not lie behind the one before it."""


class Lapse(NamedTuple):
    """Fires from `first` to `last` that will not run; `fires` is None where they were not counted."""

    outcome: Outcome
    first: datetime
    last: datetime
    fires: int | None


class Plan(NamedTuple):
    """What to do with a job that is due: the fires to run, those that lapse, and the next one (None: it has ended).

    Each fire up to `next` is in one of them, and in one alone.
    """

    fires: tuple[datetime, ...]
    lapses: tuple[Lapse, ...]
    next: datetime | None


class _Due(NamedTuple):
    """The `latest` due fires in a row, behind `passed` others (None: not counted), and the fire that follows them."""

    latest: list[datetime]
    following: datetime | None
    passed: int | None = 0


def first_fire(trigger: BaseTrigger, now: datetime) -> datetime | None:
    """Return the first fire of a schedule that is taken up at `now`.

    A calendar interval begins at its start date even where that is past, against its own documentation; here its past
    fires are left out. A date in the past stays what it is: a fire that was missed.
    """
    if isinstance(trigger, CalendarIntervalTrigger):
        return first_from(trigger, now)
    if type(trigger) in (OrTrigger, EarliestOrTrigger):
        return _earliest(trigger, (first_fire(part, now) for part in trigger.triggers), now)
    if type(trigger) is IntervalTrigger and trigger.interval_length > 0:
        return _interval_from(trigger, now.astimezone(UTC))
    if type(trigger) is CronTrigger:
        # In UTC, as a moment less on the wall may be an hour less, or more, where clocks change.
        return next_cron_fire(trigger, now.astimezone(UTC) - _TICK)
    fire: datetime | None = trigger.get_next_fire_time(None, now)
    return fire


def fire_after(trigger: BaseTrigger, fire: datetime, now: datetime) -> datetime | None:
    """Return the fire that follows `fire`. Raises TriggerStuck, and whatever the trigger raises.

    An interval counts from the last fire; with jitter from its start, as the jitters would add up otherwise.
    """
    following: datetime | None = None
    kind = type(trigger)
    if kind is IntervalTrigger and trigger.interval_length > 0:
        # First, since a check by isinstance costs more than this kind of trigger does.
        if trigger.jitter is not None:
            return take_up_behind(trigger, fire)
        following = trigger.get_next_fire_time(fire, now)
        return following
    if kind in (OrTrigger, EarliestOrTrigger):
        following = _earliest(trigger, (_fire_of_part(part, fire, now) for part in trigger.triggers), now)
    elif kind is CronTrigger:
        following = next_cron_fire(trigger, fire)
    elif isinstance(trigger, CalendarIntervalTrigger):
        following = fire_behind(trigger, fire)
    else:
        following = trigger.get_next_fire_time(fire, now)
    if following is not None and following.timestamp() <= fire.timestamp():
        raise TriggerStuck(f"the trigger returned {following} after {fire}: it does not advance")
    return following


def counts_from_last(trigger: BaseTrigger) -> bool:
    """Tell whether the fires are whole intervals from one another, which need not be so from the start date."""
    return type(trigger) is IntervalTrigger and trigger.jitter is None


def _interval_from(trigger: IntervalTrigger, at: datetime) -> datetime | None:
    """Return the first fire at `at` or later, whole intervals from the start; exact, where APScheduler has floats."""
    begin = trigger.start_date.astimezone(UTC)
    fire = begin + max(0, -((begin - at) // trigger.interval)) * trigger.interval
    end = trigger.end_date
    if end is not None and fire > end.astimezone(UTC):
        return None
    jittered = put_off(trigger, fire.astimezone(trigger.timezone), at)
    return jittered if jittered is None or end is None else min(jittered, end, key=datetime.timestamp)


def _fire_of_part(part: BaseTrigger, fire: datetime, now: datetime) -> datetime | None:
    """Return the first fire behind `fire`, which may be that of another part of the same trigger.

    To APScheduler it is the last one of each part: an interval would begin anew there, and a date be over.
    """
    if type(part) in (IntervalTrigger, DateTrigger):
        return take_up_behind(part, fire)
    return fire_after(part, fire, now)


def _earliest(trigger: BaseTrigger, fires: Iterable[datetime | None], now: datetime) -> datetime | None:
    """Return what an or-trigger makes of the `fires` of its parts."""
    # Not by the times on the wall, as APScheduler's own, which loses fires in the hour that comes twice.
    earliest = min((fire for fire in fires if fire is not None), key=datetime.timestamp, default=None)
    return put_off(trigger, earliest, now)


def plan(job: Job, now: datetime, max_catch_up: int) -> Plan:
    """Decide on the due fires of `job`. Whether a fire is too late is judged here and nowhere else.

    A coalescing job runs its latest fire; otherwise the latest `max_catch_up` that are in time. However far behind, it
    asks the trigger a few hundred times at most beyond what runs. A trigger of the user's own that cannot be taken up
    near the present is worked off in several plans: the `next` of all but the last is due as well. Raises TriggerStuck,
    and whatever the trigger raises.
    """
    # Between two zones moments are compared as moments, within one as times on the wall, of which some come twice.
    now = now.astimezone(UTC)
    first: datetime = job.next_run_time
    following = fire_after(job.trigger, first, now)
    if following is None or following > now:
        if _is_late(job, first, now):
            return Plan((), (Lapse("missed", first, first, 1),), following)
        return Plan((first,), (), following)

    wanted = 1 if job.coalesce else max_catch_up
    if counts_from_last(job.trigger):
        return _judge(job, now, wanted, _calculate(job, now, wanted))
    most = _walk_limit(job.trigger, wanted) - 1
    fires, following = _walk(job.trigger, following, now, until=now, most=most)
    walked = [first, *fires]
    if following is None or following > now:
        return _judge(job, now, wanted, _Due(walked, following))
    due = _look_back(job, walked, following, now, wanted)
    if due is not None:
        return _judge(job, now, wanted, due)
    outcome: Outcome = "coalesced" if job.coalesce and not _is_late(job, walked[-1], now) else "missed"
    return Plan((), (Lapse(outcome, first, walked[-1], len(walked)),), following)


def _judge(job: Job, now: datetime, wanted: int, due: _Due) -> Plan:
    """Part the due fires into those that run and a lapse of all before them."""
    in_time = [fire for fire in due.latest if not _is_late(job, fire, now)]
    run = in_time[-wanted:]
    lapsed = due.latest[: len(due.latest) - len(run)]
    if not lapsed:
        return Plan(tuple(run), (), due.following)
    # Late fires are missed; those that another one stands for are coalesced into it.
    outcome: Outcome = "coalesced" if run and job.coalesce else "missed"
    fires = None if due.passed is None else due.passed + len(lapsed)
    return Plan(tuple(run), (Lapse(outcome, job.next_run_time, lapsed[-1], fires),), due.following)


def _calculate(job: Job, now: datetime, wanted: int) -> _Due:
    """Return the latest due fires of a plain interval, one more than can run, by arithmetic."""
    trigger, step = job.trigger, job.trigger.interval
    first = job.next_run_time.astimezone(UTC)
    end = trigger.end_date.astimezone(UTC) if trigger.end_date is not None else None
    count = ((now if end is None else min(now, end)) - first) // step + 1
    known = min(count, wanted + 1)
    if job.misfire_grace_time is not None:
        known = min(known, timedelta(seconds=job.misfire_grace_time) // step + 2)
    latest = [(first + number * step).astimezone(trigger.timezone) for number in range(count - known, count)]
    following = first + count * step
    over = end is not None and following > end
    return _Due(latest, None if over else following.astimezone(trigger.timezone), count - known)


def _walk(
    trigger: BaseTrigger, fire: datetime | None, now: datetime, *, until: datetime, most: int
) -> tuple[list[datetime], datetime | None]:
    """Return the fires from `fire` on, up to `until` or `most` of them, and the one that follows."""
    fires: list[datetime] = []
    while fire is not None and fire <= until and len(fires) < most:
        fires.append(fire)
        fire = fire_after(trigger, fire, now)
    return fires, fire


def _walk_limit(trigger: BaseTrigger, wanted: int) -> int:
    """Return how many due fires are walked at most, of which `wanted` are looked for at the other end."""
    asked = _ASKED // _parts(trigger) - min(wanted, WALK_LIMIT)
    return max(_LEAST_WALK, min(WALK_LIMIT, asked))


def _parts(trigger: BaseTrigger) -> int:
    if not isinstance(trigger, BaseCombiningTrigger):
        return 1
    # Those of an and-trigger are asked until they agree, mostly twice.
    return sum(map(_parts, trigger.triggers)) * (2 if isinstance(trigger, AndTrigger) else 1)


def _look_back(job: Job, walked: list[datetime], following: datetime, now: datetime, wanted: int) -> _Due | None:
    """Return the latest due fires, one more than can run, behind those that were `walked` and the one `following` them.

    Looks at one span before the other, back from `now`: a longer one where few fires were found, half of one in which
    there are too many. Where that reaches what was walked, nothing is left out. Returns None where the trigger cannot
    be taken up.
    """
    begin, until = walked[-1].astimezone(UTC), now
    # Seconds, as that many gaps may be longer than a timedelta can be.
    gap = (begin - walked[0]).total_seconds() / (len(walked) - 1)
    seconds = min(gap * (wanted + 1), (now - begin).total_seconds())
    if job.misfire_grace_time is not None:
        seconds = min(seconds, job.misfire_grace_time + gap)
    span, expected = timedelta(seconds=seconds), wanted + 1
    too_long: datetime | None = None
    latest: list[datetime] = []
    following_now: datetime | None = None
    for _ in range(_LOOKS):
        span = min(span, until - begin)
        at = until - span
        fire = following if at == begin else take_up(job.trigger, at)
        if fire is not None and fire < at:
            return None
        most = _SLACK + min(expected, wanted + 1 - len(latest))
        found, fire = _walk(job.trigger, fire, now, until=until, most=most)
        if fire is not None and fire <= until:
            too_long = at
            span, expected = span / 2, expected // 2
            continue
        if until == now:
            following_now = fire
        latest = found + latest
        if at == begin:
            return _Due(walked + latest, following_now)
        if len(latest) > wanted or (latest and _is_late(job, latest[0], now)):
            return _Due(latest, following_now, None)
        until = at - _TICK
        expected = 2 * len(found)
        between = not found and too_long is not None and too_long < until
        span = (until - too_long) / 2 if between and too_long is not None else 2 * span + _TICK
    return None


def take_up(trigger: BaseTrigger, at: datetime) -> datetime | None:
    """Return the first fire from `at` on; an earlier one, where the trigger does not look at the present."""
    if type(trigger) in (OrTrigger, EarliestOrTrigger):
        return _earliest(trigger, (take_up(part, at) for part in trigger.triggers), at)
    fire = first_fire(trigger, at)
    return None if type(trigger) is DateTrigger and fire is not None and fire < at else fire


def take_up_behind(trigger: BaseTrigger, last: datetime) -> datetime | None:
    """Return the first fire behind the `last` one; None where the trigger has none."""
    last = last.astimezone(UTC)
    fire = take_up(trigger, last + _TICK)
    return None if fire is None or fire.astimezone(UTC) <= last else fire


def _is_late(job: Job, fire: datetime, now: datetime) -> bool:
    return job.misfire_grace_time is not None and (now - fire).total_seconds() > job.misfire_grace_time
