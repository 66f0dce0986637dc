"""Calendar intervals: taken up near the present without a walk from their start, and ended before the calendar is."""

from __future__ import annotations

from calendar import monthrange
from datetime import date, datetime, timedelta

from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger

_LAST_YEAR = 9999


def first_from(trigger: CalendarIntervalTrigger, at: datetime) -> datetime | None:
    """Return the first fire at `at` or later."""
    fire: datetime | None
    before = _date_before(trigger, at)
    fire = trigger.get_next_fire_time(None, at) if before is None else fire_behind(trigger, before, at)
    while fire is not None and fire < at:
        fire = fire_behind(trigger, fire, at)
    return fire


def fire_behind(trigger: CalendarIntervalTrigger, fire: date, now: datetime) -> datetime | None:
    """Return the fire after another one, or after its date; None where it might lie behind the end of the calendar.

    There APScheduler searches for minutes.
    """
    # A 29 February comes again within eight steps, or as many years.
    if fire.year + 9 * (trigger.years + trigger.months // 12 + 1) > _LAST_YEAR:
        return None
    following: datetime | None = trigger.get_next_fire_time(fire, now)
    return following


def _date_before(trigger: CalendarIntervalTrigger, at: datetime) -> date | None:
    """Return a date of the schedule shortly before `at`; None where only steps from its start lead there."""
    days, months = trigger.days + 7 * trigger.weeks, trigger.months + 12 * trigger.years
    # Clock changes put off a fire by a day at most, and jitter as far as it reaches.
    latest = (at - timedelta(seconds=trigger.jitter or 0)).astimezone(trigger.timezone).date() - timedelta(days=2)
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
