"""Schedules: what a trigger fires, asked beside its job: behind a fire, around a moment, and on the wall alone."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .calendar_intervals import last_before
from .clock_changes import ClockChange, changes_between
from .combining import EarliestOrTrigger
from .crontab import CrontabTrigger
from .planning import fire_after, first_fire
from .triggers import SPAN, BoundedAndTrigger

_TICK = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)


def without_jitter(trigger: BaseTrigger) -> BaseTrigger:
    """Return a trigger with the same fires and no jitter, which can be asked without any effect on the job's own.

    An interval keeps a jitter of 0, as without any it would not count from its start.
    """
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        return kind([without_jitter(part) for part in trigger.triggers])
    if kind in (AndTrigger, BoundedAndTrigger):
        return BoundedAndTrigger([without_jitter(part) for part in trigger.triggers])
    if kind in (CronTrigger, CrontabTrigger, IntervalTrigger, CalendarIntervalTrigger):
        return _changed(trigger, jitter=0 if kind is IntervalTrigger else None) if trigger.jitter else trigger
    # One of the user's own may count its fires.
    return trigger if kind is DateTrigger else copy.deepcopy(trigger)


def jitter_of(trigger: BaseTrigger | None) -> timedelta:
    """Return how far from its fire a run may be due, to either side."""
    parts = [jitter_of(part) for part in getattr(trigger, "triggers", ())]
    return timedelta(seconds=getattr(trigger, "jitter", None) or 0) + max(parts, default=timedelta())


def _changed(trigger: BaseTrigger, **changes: Any) -> BaseTrigger:
    changed: BaseTrigger = object.__new__(type(trigger))
    changed.__setstate__(trigger.__getstate__() | changes)
    return changed


def following(trigger: BaseTrigger, fire: datetime) -> datetime | None:
    """Return the fire after `fire`. Raises TriggerStuck, and what the trigger raises."""
    return fire_after(trigger, fire, fire.astimezone(UTC) + _TICK)


def fires_at(trigger: BaseTrigger, moment: datetime, fire: datetime) -> bool | None:
    """Tell whether a trigger that gave `fire` fires at `moment` too, when the wall shows the same time."""
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        answers = [fires_at(part, moment, fire) for part in trigger.triggers]
        return True if True in answers else None if None in answers else False
    if kind is IntervalTrigger:
        return not (moment - fire.astimezone(UTC)) % trigger.interval
    if kind in (CronTrigger, CrontabTrigger, BoundedAndTrigger):
        found = first_fire(trigger, moment)
        return found is not None and found.timestamp() == moment.timestamp()
    return False if kind in (DateTrigger, CalendarIntervalTrigger) else None


def may_change(zone: tzinfo) -> bool:
    """Tell whether the clocks of a zone may ever be changed."""
    return not isinstance(zone, timezone)


@dataclass(frozen=True, slots=True)
class Leaf:
    """A trigger that goes by the clock on the wall, and the same on a clock that never changes: UTC's."""

    trigger: BaseTrigger
    unchanging: BaseTrigger
    zone: tzinfo

    def matches(self, change: ClockChange) -> list[datetime]:
        """Return the first times that the schedule has among those skipped, two at most."""
        begin, end = (wall.replace(tzinfo=UTC) for wall in change.wall)
        found: list[datetime] = []
        fire = first_fire(self.unchanging, begin)
        while fire is not None and begin <= fire < end and len(found) < 2:
            found.append(fire.replace(tzinfo=None))
            fire = following(self.unchanging, fire)
        return found

    def gave_way(self, timestamp: float) -> bool:
        """Tell whether a fire is there for a time that was skipped: it is none of the schedule itself."""
        wall = datetime.fromtimestamp(timestamp, self.zone).replace(tzinfo=UTC, fold=0)
        return first_fire(self.unchanging, wall) != wall


def leaves(trigger: BaseTrigger) -> Iterator[Leaf]:
    """Return the parts of a trigger that go by the clock on the wall."""
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger):
        for part in trigger.triggers:
            yield from leaves(part)
    elif kind is BoundedAndTrigger:
        parts = [leaf for part in trigger.triggers for leaf in leaves(part)]
        # Otherwise it is not a schedule on one wall.
        if len(parts) == len(trigger.triggers) and len({leaf.zone for leaf in parts}) == 1:
            yield Leaf(trigger, BoundedAndTrigger([leaf.unchanging for leaf in parts]), parts[0].zone)
    elif kind in (CronTrigger, CrontabTrigger, CalendarIntervalTrigger) and may_change(trigger.timezone):
        zone = trigger.timezone
        span = {
            name: moment.astimezone(zone).replace(tzinfo=UTC, fold=0)
            for name in SPAN
            if isinstance(moment := getattr(trigger, name), datetime)
        }
        yield Leaf(trigger, _changed(trigger, timezone=UTC, **span), zone)


def normal(fire: datetime) -> datetime:
    """Return a fire as the clock on the wall shows it: APScheduler's cron gives times that the clocks skip."""
    return fire.astimezone(UTC).astimezone(fire.tzinfo)


# Around a moment

_SPANS = 26
"""Spans back from a moment, from a minute on and each twice as long, in which a fire is looked for: some 60 years."""
_STEPS = 200
"""Steps after which the search for the last fire before a moment ends; the bisection needs some 50."""
_SKIPPED = timedelta(hours=3)
"""How far behind a clock change APScheduler's cron may fire for a time that was skipped."""


def looks_at_the_present(trigger: BaseTrigger) -> bool:
    """Tell whether the fires of a trigger around a moment hang on that alone, and not on those that came before.

    Nobody knows of one of the user's own.
    """
    kind = type(trigger)
    if kind in (OrTrigger, EarliestOrTrigger, AndTrigger, BoundedAndTrigger):
        return all(looks_at_the_present(part) for part in trigger.triggers)
    return kind in (CronTrigger, CrontabTrigger, IntervalTrigger, CalendarIntervalTrigger, DateTrigger)


def fire_from(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """Return the first fire at or behind an aware moment.

    The trigger has no jitter, and looks at the present. Raises what it raises.
    """
    kind = type(trigger)
    moment = moment.astimezone(UTC)
    if kind in (OrTrigger, EarliestOrTrigger):
        return _earliest(fire_from(part, moment) for part in trigger.triggers)
    if kind is DateTrigger:
        return trigger.run_date if trigger.run_date.astimezone(UTC) >= moment else None
    fire = first_fire(trigger, moment)
    if kind is CronTrigger and may_change(trigger.timezone):
        changes = list(changes_between(moment - _SKIPPED, moment, trigger.timezone))
        if changes and changes[0].forward:
            # It may fire now for a time that was skipped, which it does not tell when it is asked now.
            delayed = first_fire(trigger, changes[0].at - _SECOND)
            if delayed is not None and delayed.astimezone(UTC) >= moment:
                fire = _earliest((fire, delayed))
    return None if fire is None else normal(fire)


def fire_before(trigger: BaseTrigger, moment: datetime) -> datetime | None:
    """Return the last fire before an aware moment; None where there is none within 60 years, or that is hard to tell.

    The trigger has no jitter, and looks at the present. Raises what it raises.
    """
    kind = type(trigger)
    moment = moment.astimezone(UTC)
    if kind in (OrTrigger, EarliestOrTrigger):
        found = [fire for part in trigger.triggers if (fire := fire_before(part, moment)) is not None]
        return max(found, key=datetime.timestamp, default=None)
    if kind is DateTrigger:
        return trigger.run_date if trigger.run_date.astimezone(UTC) < moment else None
    if kind is IntervalTrigger:
        begin = trigger.start_date.astimezone(UTC)
        last = moment if trigger.end_date is None else min(moment, trigger.end_date.astimezone(UTC) + _TICK)
        steps = -((begin - last) // trigger.interval) - 1
        return None if steps < 0 else (begin + steps * trigger.interval).astimezone(trigger.timezone)
    if kind is CalendarIntervalTrigger:
        return last_before(trigger, moment)
    if kind is BoundedAndTrigger and any(type(part) is CalendarIntervalTrigger for part in trigger.triggers):
        return None  # Each look would walk through all of its days.
    for doubling in range(_SPANS):
        fire = fire_from(trigger, moment - timedelta(minutes=2**doubling))
        if fire is not None and fire.astimezone(UTC) < moment:
            return _last_between(trigger, fire, moment)
    return None


def _last_between(trigger: BaseTrigger, fire: datetime, end: datetime) -> datetime:
    """Return the last fire before `end`, at or behind `fire`, by bisection."""
    begin, bound = fire.astimezone(UTC), end
    for _ in range(_STEPS):
        behind = fire_from(trigger, begin + _TICK)
        if behind is None or behind.astimezone(UTC) >= end:
            break
        fire, begin = behind, behind.astimezone(UTC)
        middle = begin + (bound - begin) // 2
        later = fire_from(trigger, middle)
        if later is None or later.astimezone(UTC) >= end:
            bound = middle
        else:
            fire, begin = later, later.astimezone(UTC)
    return fire


def _earliest(fires: Iterable[datetime | None]) -> datetime | None:
    return min((fire for fire in fires if fire is not None), key=datetime.timestamp, default=None)
