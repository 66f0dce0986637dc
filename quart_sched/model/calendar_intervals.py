"""Calendar intervals: the dates that are whole steps from the start, whatever fired before.

APScheduler counts from the date of the last fire, in whatever zone that is: one that jitter has put off past midnight,
or that was set by hand, would shift the schedule for good. And it walks from the start to where it is taken up.
"""

from __future__ import annotations

import copy
from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger

from .jitter import put_off

_LAST_YEAR = 9999
_MOST_STEPS = 9
"""Steps from one fire to the next, at most: a 29 February comes again within eight, or as many years."""
_TICK = timedelta(microseconds=1)


def first_from(trigger: CalendarIntervalTrigger, at: datetime) -> datetime | None:
    """Return the first fire at `at` or later; None where it might lie behind the end of the calendar."""
    plain = _plain(trigger)
    fire = _step(plain, _date_before(plain, at))
    while fire is not None and fire.timestamp() < at.timestamp():
        fire = _step(plain, fire)
    return put_off(trigger, fire, at)


def fire_behind(trigger: CalendarIntervalTrigger, fire: datetime) -> datetime | None:
    """Return the first fire behind another moment; None where it might lie behind the end of the calendar."""
    local = fire.astimezone(UTC).astimezone(trigger.timezone)
    if local.time() == trigger._time.replace(tzinfo=None) and _is_step(trigger, local.date()):
        return put_off(trigger, _step(_plain(trigger), local), local)
    return first_from(trigger, fire.astimezone(UTC) + _TICK)


def last_before(trigger: CalendarIntervalTrigger, at: datetime) -> datetime | None:
    """Return the last fire before `at`, jitter left out."""
    plain = _plain(trigger)
    if plain.end_date is not None:
        at = min(at, datetime.combine(plain.end_date, time.max, plain.timezone), key=datetime.timestamp)
    days, months = _units(plain)
    # More steps than may lie between two fires, but not to before the calendar.
    back = min(_MOST_STEPS * (days + 31 * months), at.toordinal() - _MOST_STEPS)
    before, fire = None, first_from(plain, at - timedelta(days=back))
    while fire is not None and fire.timestamp() < at.timestamp():
        before, fire = fire, _step(plain, fire)
    return before


def _plain(trigger: CalendarIntervalTrigger) -> CalendarIntervalTrigger:
    if not trigger.jitter:
        return trigger
    plain = copy.copy(trigger)
    plain.jitter = None
    return plain


def _step(plain: CalendarIntervalTrigger, last: date | None) -> datetime | None:
    """Return the fire after a date of the schedule; without one, the first.

    At the end of the calendar APScheduler, which would search for minutes, is not asked.
    """
    if last is not None and last.year + _MOST_STEPS * (plain.years + plain.months // 12 + 1) > _LAST_YEAR:
        return None
    # It does not look at the present.
    following: datetime | None = plain.get_next_fire_time(last, last)
    return following


def _is_step(trigger: CalendarIntervalTrigger, day: date) -> bool:
    """Tell whether a date is one of the schedule; where only steps from its start lead there, that is not known."""
    days, months = _units(trigger)
    start: date = trigger.start_date
    if day < start or (days and months):
        return False
    if days:
        return (day - start).days % days == 0
    return day.day == start.day and ((day.year - start.year) * 12 + day.month - start.month) % months == 0


def _units(trigger: CalendarIntervalTrigger) -> tuple[int, int]:
    """Return the step in days and in months."""
    return trigger.days + 7 * trigger.weeks, trigger.months + 12 * trigger.years


def _date_before(trigger: CalendarIntervalTrigger, at: datetime) -> date | None:
    """Return a date of the schedule shortly before `at`; None where only steps from its start lead there."""
    days, months = _units(trigger)
    # Clock changes put off a fire by a day at most.
    latest = at.astimezone(trigger.timezone).date() - timedelta(days=2)
    start: date = trigger.start_date
    if latest <= start or (days and months):
        return None
    if days:
        return start + (latest - start) // timedelta(days) * timedelta(days)
    steps = ((latest.year - start.year) * 12 + latest.month - start.month - 1) // months
    for number in range(steps, 0, -1):
        years, month = divmod(start.month - 1 + number * months, 12)
        if start.day <= monthrange(start.year + years, month + 1)[1]:
            return date(start.year + years, month + 1, start.day)
    return None
