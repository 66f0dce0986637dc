"""The crontab trigger: standard cron expressions, as cronsim reads them, with Debian's rule at clock changes."""

from __future__ import annotations

import calendar
import copy
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Any

from apscheduler.triggers.base import BaseTrigger
from apscheduler.util import astimezone, convert_to_datetime, datetime_repr
from cronsim import CronSim, CronSimError
from tzlocal import get_localzone

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .clock_changes import change_around

MAX_EXPRESSION = 300
"""Characters of the longest expression."""

ALIASES: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Names for common expressions, and what they stand for: see crontab(5)."""

_FORM = "5 fields, minute hour day-of-month month day-of-week, or 6 with the second before them"
_STEPS = 'also "*", lists (1,5), ranges from low to high (1-5) and steps (*/5)'
_FIELDS = (
    ("second", f"0 to 59; {_STEPS}"),
    ("minute", f"0 to 59; {_STEPS}"),
    ("hour", f"0 to 23; {_STEPS}"),
    ("day-of-month", f"1 to 31, L for the last day or LW for the last weekday; {_STEPS}"),
    ("month", f"1 to 12 or jan to dec; {_STEPS}"),
    (
        "day-of-week",
        f"0 to 7 (Sunday is 0 and 7) or sun to sat, 5L for the last Friday, 1#2 for the second Monday; {_STEPS}",
    ),
)
_EPOCH = datetime(1970, 1, 1)
_SECOND, _TICK = timedelta(seconds=1), timedelta(microseconds=1)
# Years that begin with each day of the week, common and leap: all that a calendar can look like.
_CALENDARS = (2001, 2002, 2003, 2005, 2006, 2009, 2010, *range(2000, 2028, 4))


def parse_expression(path: str, value: Any) -> str:
    """Return the expression `value`, its blanks made even.

    Raises InvalidDefinition naming the field, what was wrong and what was expected; and for one that never fires.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > MAX_EXPRESSION:
        raise InvalidDefinition(
            path, f"is {bounded_repr(value, 100)}; expected a crontab expression of at most {MAX_EXPRESSION} characters"
        )
    expression = " ".join(value.split())
    try:
        compile_expression(expression)
    except ValueError as error:
        raise InvalidDefinition(path, str(error)) from error
    return expression


class CrontabTrigger(BaseTrigger):
    """Fires at the times of a crontab expression, such as ``"*/5 9-17 * * mon-fri"``.

    Five fields, or six with the second first, or ``@daily`` and its kin. The week begins on Sunday, 0 or 7. Where both
    the day of the month and that of the week are restricted either will do, unless one of them begins with ``*``.

    When clocks change, Debian's rule holds (cron(8)): where minute and hour both do not begin with ``*``, a time that
    comes twice fires the first time alone, and times that are skipped fire once, right after the gap. All others follow
    the clock on the wall: they do not fire at times that are skipped, and fire again at those that come twice.

    `start_date` and `end_date` are inclusive; `jitter` is in seconds. Without a `timezone` that of the dates counts,
    else the machine's own. Raises InvalidDefinition for a wrong expression, and for one that never fires.
    """

    __slots__ = ("_pattern", "end_date", "expression", "jitter", "start_date", "timezone")

    def __init__(
        self,
        expression: str,
        *,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        timezone: tzinfo | str | None = None,
        jitter: float | None = None,
    ) -> None:
        zones = (getattr(moment, "tzinfo", None) for moment in (start_date, end_date))
        zone: tzinfo = astimezone(timezone or next(filter(None, zones), None) or get_localzone())
        self.__setstate__(
            {
                "expression": parse_expression("expression", expression),
                "timezone": zone,
                "start_date": convert_to_datetime(start_date, zone, "start_date"),
                "end_date": convert_to_datetime(end_date, zone, "end_date"),
                "jitter": jitter,
            }
        )

    @property
    def pattern(self) -> CronSim:
        """The expression as cronsim reads it; it is shared, and not to be advanced."""
        return self._pattern

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the first fire after `previous_fire_time`; without one, the first at `now` or later."""
        earliest = now.astimezone(UTC) if previous_fire_time is None else previous_fire_time.astimezone(UTC) + _TICK
        if self.start_date is not None:
            earliest = max(earliest, self.start_date.astimezone(UTC))
        end = None if self.end_date is None else self.end_date.astimezone(UTC)
        try:
            fire = _next_fire(self._pattern, self.timezone, (earliest - _TICK).replace(microsecond=0))
            if fire is None or (end is not None and fire > end):
                return None
            jittered: datetime = self._apply_jitter(fire, self.jitter, now)
            return (jittered if end is None else min(jittered, end)).astimezone(self.timezone)
        except OverflowError:
            return None  # the calendar ends with the year 9999

    def __getstate__(self) -> dict[str, Any]:
        names = ("expression", "timezone", "start_date", "end_date", "jitter")
        return {"version": 1, **{name: getattr(self, name) for name in names}}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        if state.get("version", 1) > 1:
            raise ValueError(
                f"this CrontabTrigger is of version {state['version']}; expected 1: newer code has made it"
            )
        self.expression: str = state["expression"]
        self.timezone: tzinfo = state["timezone"]
        self.start_date: datetime | None = state["start_date"]
        self.end_date: datetime | None = state["end_date"]
        self.jitter: float | None = state["jitter"]
        self._pattern = compile_expression(self.expression)

    def __str__(self) -> str:
        return f"crontab[{self.expression!r}]"

    def __repr__(self) -> str:
        options = [repr(self.expression)]
        for name in ("start_date", "end_date"):
            if (moment := getattr(self, name)) is not None:
                options.append(f"{name}={datetime_repr(moment)!r}")
        if self.jitter:
            options.append(f"jitter={self.jitter}")
        return f"<CrontabTrigger ({', '.join(options)}, timezone='{self.timezone}')>"


# Fires


def _next_fire(pattern: CronSim, zone: tzinfo, after: datetime) -> datetime | None:
    """Return the first fire behind `after`; both are in UTC, and `after` is a whole second."""
    local = after.astimezone(zone)
    wall = local.replace(tzinfo=None, fold=0)
    change = change_around(wall, zone)
    if _has_fixed_time(pattern):
        if change is not None and local.fold:
            wall = change.wall[1] - _SECOND  # up to there all times were on the wall before
        match = _next_match(pattern, wall)
        skipping = None if match is None else change_around(match, zone)
        if skipping is not None and skipping.forward:
            return skipping.at
        return None if match is None else match.replace(tzinfo=zone).astimezone(UTC)

    match = _next_match(pattern, wall)
    if change is not None and not change.forward:
        again, end = change.wall
        if match is not None and match < end:
            return match.replace(tzinfo=zone, fold=local.fold).astimezone(UTC)
        if not local.fold:
            second = _next_match(pattern, again - _SECOND)
            if second is not None and second < end:
                return second.replace(tzinfo=zone, fold=1).astimezone(UTC)
    while match is not None and (change := change_around(match, zone)) is not None and change.forward:
        match = _next_match(pattern, change.wall[1] - _SECOND)
    return None if match is None else match.replace(tzinfo=zone).astimezone(UTC)


def _has_fixed_time(pattern: CronSim) -> bool:
    return not pattern.parts[1].startswith("*") and not pattern.parts[2].startswith("*")


def _next_match(pattern: CronSim, wall: datetime) -> datetime | None:
    """Return the first naive time behind `wall` that matches."""
    # What cronsim knows of zones is left aside: it does not know six fields there, nor changes of half an hour.
    walker = copy.copy(pattern)
    walker.dt = wall
    try:
        return next(walker)
    except StopIteration:
        return None


# Expressions


@lru_cache(maxsize=4096)
def compile_expression(expression: str) -> CronSim:
    """Return the expression as cronsim reads it, with six fields. Raises ValueError, which says what is wrong."""
    text = expression
    if text.startswith("@"):
        if text.lower() == "@reboot":
            raise ValueError(f"is {text!r}, which is no time; give the job run_on_start=True instead")
        if text.lower() not in ALIASES:
            raise ValueError(f"is {bounded_repr(text, 100)}; expected one of {', '.join(ALIASES)}")
        text = ALIASES[text.lower()]
    parts = text.split()
    if len(parts) not in (5, 6):
        raise ValueError(f"is {bounded_repr(text, 100)}, of {_count(parts)}; expected {_FORM}")
    parts = ["0"] * (6 - len(parts)) + parts
    try:
        pattern = CronSim(" ".join(parts), _EPOCH)
        if _comes_true(pattern):
            return pattern
    except CronSimError:
        for index, (name, expected) in enumerate(_FIELDS):
            alone = ["*"] * len(parts)
            alone[index] = parts[index]
            try:
                CronSim(" ".join(alone), _EPOCH)
            except CronSimError:
                raise ValueError(f"has {bounded_repr(parts[index], 60)} as its {name}; expected {expected}") from None
    raise ValueError(
        f"is {bounded_repr(text, 100)}, which never fires: there is no day-of-month {bounded_repr(parts[3], 60)} "
        f"with month {bounded_repr(parts[4], 60)} and day-of-week {bounded_repr(parts[5], 60)}"
    )


def _count(parts: list[str]) -> str:
    return "1 field" if len(parts) == 1 else f"{len(parts)} fields"


def _comes_true(pattern: CronSim) -> bool:
    """Tell whether there is a day on which it fires; found without the 50 years that cronsim walks to give up."""
    return any(
        pattern.match_day(date(year, month, day))
        for month in pattern.months
        for year in _CALENDARS
        for day in range(1, calendar.monthrange(year, month)[1] + 1)
    )
