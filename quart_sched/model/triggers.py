"""Triggers on the wire: parsed at the edge into frozen specs, shown as JSON without loss, built into APScheduler's own.

A spec is as its author wrote it: what was left out is None, and is filled in by `build`. `spec_of` gives the spec of a
live trigger, in which nothing is left out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any, ClassVar

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from .combining import EarliestOrTrigger
from .crontab import CrontabTrigger
from .jitter import put_off
from .planning import first_fire
from .unrestorable import Unrestorable
from .zones import canonical_zone, localize, zone_name

CRON_FIELDS = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
INTERVAL_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
SPAN = ("start_date", "end_date")
_COMMON = ("timezone", "jitter")

TRIGGER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "date": ("run_date", "timezone"),
    "interval": (*SPAN, *INTERVAL_UNITS, *_COMMON),
    "cron": (*SPAN, *CRON_FIELDS, *_COMMON),
    "crontab": (*SPAN, "expression", *_COMMON),
    "calendarinterval": (*SPAN, "years", "months", "weeks", "days", "hour", "minute", "second", *_COMMON),
    "and": ("triggers", "jitter"),
    "or": ("triggers", "jitter"),
}
"""The fields of each kind of trigger, in the order in which they are shown."""

_AND_ROUNDS = 500
_TICK = timedelta(microseconds=1)


class BoundedAndTrigger(AndTrigger):
    """An AndTrigger that gives up: APScheduler's own searches for ever where its triggers never meet.

    Nor does it hand on the fire before: with that, a cron trigger would not look where the others are.
    """

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next moment on which all agree; raises ValueError after too many rounds without one."""
        # In UTC, as times on the wall come twice when clocks go back.
        at = now.astimezone(UTC) if previous_fire_time is None else previous_fire_time.astimezone(UTC) + _TICK
        for _ in range(_AND_ROUNDS):
            found = [first_fire(trigger, at) for trigger in self.triggers]
            fires = [fire for fire in found if fire is not None and fire.astimezone(UTC) >= at]
            if len(fires) < len(found):
                return None
            at = max(fire.astimezone(UTC) for fire in fires)
            if at == min(fire.astimezone(UTC) for fire in fires):
                return put_off(self, fires[0], now)
        raise ValueError(f"its triggers have no fire in common within {_AND_ROUNDS} rounds")


@dataclass(frozen=True, slots=True)
class TriggerSpec(ABC):
    """What all specs have in common."""

    kind: ClassVar[str]
    open_start: ClassVar[str] = ""
    """The field that `build` derives from the present where it was left out."""

    def to_dict(self) -> dict[str, Any]:
        """Return the trigger as JSON, its kind first. Nothing is lost: `parse_trigger` of it gives an equal spec."""
        shown: dict[str, Any] = {"trigger": self.kind}
        for name in TRIGGER_FIELDS[self.kind]:
            value = getattr(self, name)
            if value is not None:
                shown[name] = _show(value)
        return shown

    def resolve(self, timezone: tzinfo) -> TriggerSpec:
        """Return the spec with its zone filled in, and its moments in that zone."""
        zone = getattr(self, "timezone", None) or timezone
        moments = {
            name: localize(name, value, zone)
            for name in (*SPAN, "run_date")
            if isinstance(value := getattr(self, name, None), datetime)
        }
        changes: Any = {"timezone": zone, **moments}
        return replace(self, **changes)

    @abstractmethod
    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        """Return the APScheduler trigger; what was left out is taken from `timezone` and `now`.

        Naive dates are read in the spec's own zone, else in `timezone`. Raises InvalidDefinition.
        """

    def describes(self, stored: TriggerSpec, timezone: tzinfo) -> bool:
        """Tell whether `stored`, the spec of a live trigger, is what this one was built into at some earlier time."""
        if type(stored) is not type(self):
            return False
        mine = self.resolve(timezone)
        derived = self.open_start if self.open_start and getattr(self, self.open_start) is None else None
        return all(_same(getattr(mine, f.name), getattr(stored, f.name)) for f in fields(self) if f.name != derived)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, datetime) and isinstance(other, datetime):
        # Within one zone they would be compared by the clock on the wall, where an hour comes twice.
        return one.timestamp() == other.timestamp()
    return bool(one == other)


@dataclass(frozen=True, slots=True)
class Date(TriggerSpec):
    """Once, at `run_date` (left out: now)."""

    run_date: datetime | None = None
    timezone: tzinfo | None = None

    kind = "date"
    open_start = "run_date"

    def resolve(self, timezone: tzinfo) -> TriggerSpec:
        if self.timezone is None and self.run_date is not None and self.run_date.tzinfo is not None:
            timezone = canonical_zone(self.run_date.tzinfo)
        return TriggerSpec.resolve(self, timezone)

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        spec: Any = self.resolve(timezone)
        return DateTrigger(spec.run_date or now.astimezone(spec.timezone), spec.timezone)


@dataclass(frozen=True, slots=True)
class Interval(TriggerSpec):
    """Every `every`, counted from `start_date` (left out: `every` from now)."""

    every: timedelta = timedelta(0)
    start_date: datetime | None = None
    end_date: datetime | None = None
    timezone: tzinfo | None = None
    jitter: float | None = None

    kind = "interval"
    open_start = "start_date"

    def to_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"trigger": self.kind}
        for name in SPAN:
            if (moment := getattr(self, name)) is not None:
                shown[name] = moment.isoformat()
        weeks, days = divmod(self.every.days, 7)
        minutes, seconds = divmod(self.every.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        fraction = self.every.microseconds
        parts = (weeks, days, hours, minutes, round(seconds + fraction / 1_000_000, 6) if fraction else seconds)
        shown |= {name: value for name, value in zip(INTERVAL_UNITS, parts, strict=True) if value}
        for name in _COMMON:
            if (value := getattr(self, name)) is not None:
                shown[name] = _show(value)
        return shown

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        zone = self.timezone or timezone
        start, end = _span_of(self, zone)
        return IntervalTrigger(
            seconds=self.every.total_seconds(),
            start_date=start or (now + self.every).astimezone(zone),
            end_date=end,
            timezone=zone,
            jitter=self.jitter,
        )

    def describes(self, stored: TriggerSpec, timezone: tzinfo) -> bool:
        # That is what most changes are about, and cheap to see.
        if isinstance(stored, Interval) and stored.every != self.every:
            return False
        return TriggerSpec.describes(self, stored, timezone)


@dataclass(frozen=True, slots=True)
class Cron(TriggerSpec):
    """At the times that match every given field, as APScheduler reads them (the week begins on Monday, 0)."""

    year: str | None = None
    month: str | None = None
    day: str | None = None
    week: str | None = None
    day_of_week: str | None = None
    hour: str | None = None
    minute: str | None = None
    second: str | None = None
    start_date: datetime | None = None
    end_date: datetime | None = None
    timezone: tzinfo | None = None
    jitter: float | None = None

    kind = "cron"

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        spec = self.resolve(timezone)
        return CronTrigger(**{name: getattr(spec, name) for name in TRIGGER_FIELDS["cron"]})


@dataclass(frozen=True, slots=True)
class Crontab(TriggerSpec):
    """At the times of a crontab expression, as cron reads it (the week begins on Sunday, 0 or 7)."""

    expression: str = ""
    start_date: datetime | None = None
    end_date: datetime | None = None
    timezone: tzinfo | None = None
    jitter: float | None = None

    kind = "crontab"

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        spec = self.resolve(timezone)
        return CrontabTrigger(**{name: getattr(spec, name) for name in TRIGGER_FIELDS["crontab"]})


@dataclass(frozen=True, slots=True)
class CalendarInterval(TriggerSpec):
    """Every so many calendar years, months, weeks and days, at the same time of day."""

    years: int = 0
    months: int = 0
    weeks: int = 0
    days: int = 0
    hour: int = 0
    minute: int = 0
    second: int = 0
    start_date: date | None = None
    end_date: date | None = None
    timezone: tzinfo | None = None
    jitter: float | None = None

    kind = "calendarinterval"
    open_start = "start_date"

    def to_dict(self) -> dict[str, Any]:
        shown = TriggerSpec.to_dict(self)
        return {name: value for name, value in shown.items() if value != 0 or name == "jitter"}

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        spec: Any = self.resolve(timezone)
        options = {name: getattr(spec, name) for name in TRIGGER_FIELDS["calendarinterval"]}
        today = now.astimezone(spec.timezone).date()
        # One whose end is past has no fire left; that is no mistake, and must not keep an app from starting.
        options["start_date"] = self.start_date or min(today, self.end_date or today)
        return CalendarIntervalTrigger(**options)


@dataclass(frozen=True, slots=True)
class Combined(TriggerSpec):
    """Several triggers as one."""

    triggers: tuple[TriggerSpec, ...] = ()
    jitter: float | None = None

    def to_dict(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"trigger": self.kind, "triggers": [spec.to_dict() for spec in self.triggers]}
        return shown if self.jitter is None else shown | {"jitter": self.jitter}

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        combine = BoundedAndTrigger if self.kind == "and" else EarliestOrTrigger
        return combine([spec.build(timezone, now) for spec in self.triggers], self.jitter)

    def describes(self, stored: TriggerSpec, timezone: tzinfo) -> bool:
        return (
            isinstance(stored, Combined)
            and (stored.kind, stored.jitter, len(stored.triggers)) == (self.kind, self.jitter, len(self.triggers))
            and all(mine.describes(its, timezone) for mine, its in zip(self.triggers, stored.triggers, strict=True))
        )


@dataclass(frozen=True, slots=True)
class And(Combined):
    """At the moments on which all the triggers agree."""

    kind = "and"


@dataclass(frozen=True, slots=True)
class Or(Combined):
    """At the moments of any of the triggers."""

    kind = "or"


@dataclass(frozen=True, slots=True)
class Custom(TriggerSpec):
    """A trigger class of the user's own, which the wire can only show."""

    instance: BaseTrigger

    kind = "custom"

    def to_dict(self) -> dict[str, Any]:
        return {"trigger": str(self.instance)}

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        return self.instance

    def describes(self, stored: TriggerSpec, timezone: tzinfo) -> bool:
        if not isinstance(stored, Custom):
            return False
        mine, its = self.instance, stored.instance
        return mine is its or (type(mine) is type(its) and str(mine) == str(its))


# From live triggers


def spec_of(trigger: BaseTrigger) -> TriggerSpec:
    """Return the spec of a live trigger, with zone and dates as they were resolved."""
    # Exact types: a subclass may fire as it likes.
    kind = type(trigger)
    if kind is IntervalTrigger:
        zone = canonical_zone(trigger.timezone)
        return Interval(trigger.interval, *_span_of(trigger, zone), zone, trigger.jitter)
    if kind is CronTrigger:
        zone = canonical_zone(trigger.timezone)
        expressions = {field.name: str(field) for field in trigger.fields if not field.is_default}
        start, end = _span_of(trigger, zone)
        return Cron(**expressions, start_date=start, end_date=end, timezone=zone, jitter=trigger.jitter)
    if kind is CrontabTrigger:
        zone = canonical_zone(trigger.timezone)
        return Crontab(trigger.expression, *_span_of(trigger, zone), zone, trigger.jitter)
    if kind is DateTrigger:
        zone = canonical_zone(trigger.run_date.tzinfo)
        return Date(localize("run_date", trigger.run_date, zone), zone)
    if kind is CalendarIntervalTrigger:
        at = trigger._time
        options = {name: getattr(trigger, name) for name in ("years", "months", "weeks", "days", *SPAN, "jitter")}
        times = {"hour": at.hour, "minute": at.minute, "second": at.second}
        return CalendarInterval(**options, **times, timezone=canonical_zone(trigger.timezone))
    if kind in (AndTrigger, BoundedAndTrigger, OrTrigger, EarliestOrTrigger):
        combined = Or if issubclass(kind, OrTrigger) else And
        return combined(tuple(spec_of(part) for part in trigger.triggers), trigger.jitter)
    if kind is Unrestorable and trigger.stored is not None:
        return spec_of(trigger.stored)
    return Custom(trigger)


def _span_of(trigger: Any, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    start, end = trigger.start_date, trigger.end_date
    return (
        None if start is None else localize("start_date", start, zone),
        None if end is None else localize("end_date", end, zone),
    )


def _show(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return zone_name(value) if isinstance(value, tzinfo) else value
