"""Cron searches: when a cron trigger of APScheduler fires next, whatever the clocks do until then.

Over an hour that the clocks skip APScheduler counts by elapsed time, and so comes too late for what is to fire in the
first hour of the day, month or year behind it: `hour=0` loses the day after the change, `day=1` a whole month.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.triggers.cron import CronTrigger

from .clock_changes import change_around
from .cron_times import comes_once, is_fixed, next_match
from .jitter import put_off
from .zones import in_zone

_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)
_TICK = timedelta(microseconds=1)
_HORIZON = timedelta(days=50 * 365)
_LAST_BOUNDED = 9948
"""The last year of which that horizon lies within the calendar."""


def next_cron_fire(trigger: CronTrigger, after: datetime) -> datetime | None:
    """Return the first fire after `after`, an aware time.

    It is searched for 50 years: for an expression that never comes true, APScheduler searches eight thousand, which
    takes it a second.
    """
    start = trigger.start_date
    if start is not None and after.timestamp() < start.timestamp():
        after = start.astimezone(UTC) - _TICK
    fire = next_match(trigger, after)
    if fire is not None:
        return fire
    fire, end = _searched(trigger, after), trigger.end_date
    if fire is not None and end is not None and fire.timestamp() > end.timestamp():
        return None
    fire = put_off(trigger, fire, after)
    return fire if fire is None or end is None else min(fire, end, key=datetime.timestamp)


def _searched(trigger: CronTrigger, after: datetime) -> datetime | None:
    """Return the first fire without its jitter, which may lie behind the end."""
    zone, end = trigger.timezone, trigger.end_date
    after = after.astimezone(UTC)
    if after.year <= _LAST_BOUNDED and (end is None or end > after + _HORIZON):
        end = after + _HORIZON
    # In UTC, as APScheduler compares times of one zone by the clock on the wall, where an hour comes twice.
    end = None if end is None else in_zone(end, UTC)
    local = after.astimezone(zone)
    found: datetime | None
    if is_fixed(zone):
        found = _copy(trigger, end_date=end).get_next_fire_time(None, after + _TICK)
        return found
    # On a wall whose clock is never changed.
    last = None if end is None else end.astimezone(zone)
    if last is not None and not comes_once(last):
        last += _DAY  # what comes before it may show a later time
    on_wall = _copy(trigger, timezone=UTC, end_date=None if last is None else last.replace(tzinfo=UTC, fold=0))
    wall = on_wall.get_next_fire_time(None, local.replace(tzinfo=UTC, fold=0, microsecond=0) + _SECOND)
    fire = None if wall is None else wall.replace(tzinfo=zone)
    if comes_once(local) and (fire is None or comes_once(fire)):
        return fire
    # APScheduler knows what comes twice, and puts off what is skipped, but not beyond a fire that there is.
    fires = [_copy(trigger, end_date=end).get_next_fire_time(None, after + _TICK)]
    while wall is not None and (change := change_around(wall.replace(tzinfo=None), zone)) is not None:
        if not change.forward:
            break
        wall = on_wall.get_next_fire_time(None, change.wall[1].replace(tzinfo=UTC))
    if wall is not None:
        fires.append(wall.replace(tzinfo=zone, fold=local.fold))
    known = (fire for fire in fires if fire is not None)
    return min(known, key=datetime.timestamp, default=None)


def _copy(trigger: CronTrigger, **changes: Any) -> CronTrigger:
    copied: CronTrigger = object.__new__(CronTrigger)
    copied.__setstate__(trigger.__getstate__() | {"start_date": None, "jitter": None} | changes)
    return copied
