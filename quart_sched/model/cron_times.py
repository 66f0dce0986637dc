"""Cron times: when a cron trigger of APScheduler fires next, looked up in tables instead of searched field by field.

There is none for a schedule with jitter, where the next fire is more than a week away, and at times that the clocks
skip or show twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger

_DAYS = 7
"""Days that are looked through."""
_SECOND = timedelta(seconds=1)
_KEPT = 20_000
"""Triggers whose tables are at hand without a look at their fields."""
_ANY_DAY = datetime(2024, 1, 1)

_Next = tuple[int | None, ...]
"""By a value of a field, the first one from there on that matches."""


class CronTimes:
    """What matches the fields of some triggers, which are equal."""

    def __init__(self, fields: list[Any]) -> None:
        """Take the fields of a CronTrigger. They are only asked, so that they may hold any expression."""
        *self._of_day, hour, minute, second = fields
        self._hours = _table(hour, [_ANY_DAY.replace(hour=value) for value in range(24)])
        self._minutes = _table(minute, [_ANY_DAY.replace(minute=value) for value in range(60)])
        self._seconds = _table(second, [_ANY_DAY.replace(second=value) for value in range(60)])
        self._days: dict[date, bool] = {}

    def first(self, moment: datetime) -> datetime | None:
        """Return the first match from `moment` on, a naive time of whole seconds; None for none within a week."""
        day = moment.date()
        if self._is_day(day) and (found := self._within(moment.hour, moment.minute, moment.second)) is not None:
            return datetime.combine(day, found)
        try:
            for _ in range(_DAYS):
                day += timedelta(days=1)
                if self._is_day(day):
                    found = self._within(0, 0, 0)
                    return None if found is None else datetime.combine(day, found)
        except OverflowError:
            pass  # The end of the calendar.
        return None

    def _within(self, hour: int, minute: int, second: int) -> time | None:
        """Return the first match from that time on, within the day."""
        if (at_hour := self._hours[hour]) == hour:
            if (at_minute := self._minutes[minute]) == minute:
                if (at_second := self._seconds[second]) is not None:
                    return time(hour, minute, at_second)
                at_minute = self._minutes[minute + 1] if minute < 59 else None
            if at_minute is not None:
                return _time(hour, at_minute, self._seconds[0])
            at_hour = self._hours[hour + 1] if hour < 23 else None
        return None if at_hour is None else _time(at_hour, self._minutes[0], self._seconds[0])

    def _is_day(self, day: date) -> bool:
        known = self._days.get(day)
        if known is None:
            if len(self._days) > 4 * _DAYS:
                self._days.clear()
            moment = datetime.combine(day, time())
            known = self._days[day] = all(_matches(field, moment) for field in self._of_day)
        return known


def next_match(trigger: CronTrigger, after: datetime) -> datetime | None:
    """Return the first fire after `after`, an aware time; None where that has to be searched for."""
    if trigger.jitter is not None:
        return None
    zone: tzinfo = trigger.timezone
    local = after if after.tzinfo is zone else after.astimezone(zone)
    found = _times_of(trigger).first(local.replace(microsecond=0, tzinfo=None) + _SECOND)
    if found is None:
        return None
    fire = found.replace(tzinfo=zone)
    if not is_fixed(zone):
        offset = local.utcoffset()
        # The same offset tells of both that no other moment of that name is meant.
        alike = fire.utcoffset() == offset == fire.replace(fold=1).utcoffset()
        if not alike and not (comes_once(fire) and comes_once(local)):
            return None
    return None if trigger.end_date is not None and fire > trigger.end_date else fire


def comes_once(moment: datetime) -> bool:
    """Tell whether the clocks of its zone neither skip nor repeat a time."""
    return moment.utcoffset() == moment.replace(fold=1 - moment.fold).utcoffset()


@lru_cache(maxsize=256)
def is_fixed(zone: tzinfo) -> bool:
    """Tell whether the clocks of a zone are known never to change."""
    return zone is UTC or type(zone) is type(UTC) or (isinstance(zone, ZoneInfo) and zone.key in ("UTC", "Etc/UTC"))


_by_identity: dict[int, tuple[list[Any], CronTimes]] = {}


def _times_of(trigger: CronTrigger) -> CronTimes:
    fields = trigger.fields
    kept = _by_identity.get(id(fields))
    # The list itself is kept with it, so that nothing else can have its address.
    if kept is not None and kept[0] is fields:
        return kept[1]
    if len(_by_identity) >= _KEPT:
        _by_identity.clear()
    times = _times_of_texts(tuple(map(str, fields)))
    _by_identity[id(fields)] = (fields, times)
    return times


@lru_cache(maxsize=4096)
def _times_of_texts(texts: tuple[str, ...]) -> CronTimes:
    names = CronTrigger.FIELD_NAMES
    return CronTimes([CronTrigger.FIELDS_MAP[name](name, text) for name, text in zip(names, texts, strict=True)])


def _table(field: Any, moments: list[datetime]) -> _Next:
    def entries() -> Iterator[int | None]:
        found: int | None = None
        for value in range(len(moments) - 1, -1, -1):
            found = value if _matches(field, moments[value]) else found
            yield found

    return tuple(reversed([*entries()]))


def _matches(field: Any, moment: datetime) -> bool:
    return bool(field.get_next_value(moment) == field.get_value(moment))


def _time(hour: int, minute: int | None, second: int | None) -> time | None:
    return None if minute is None or second is None else time(hour, minute, second)
