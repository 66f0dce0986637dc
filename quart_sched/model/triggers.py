"""Triggers on the wire: parsed at the edge into frozen specs, shown as JSON without loss, built into APScheduler's own.

A spec is as its author wrote it: what was left out is None, and is filled in by `build`. `spec_of` gives the spec of a
live trigger, in which nothing is left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from apscheduler.util import convert_to_datetime

from ..errors import InvalidDefinition

MAX_DEPTH = 5
MAX_TRIGGERS = 20

_CRON = ("year", "month", "day", "week", "day_of_week", "hour", "minute", "second")
_UNITS = ("weeks", "days", "hours", "minutes", "seconds")
_SPAN = ("start_date", "end_date")
_COMMON = ("timezone", "jitter")

TRIGGER_FIELDS: Mapping[str, tuple[str, ...]] = {
    "date": ("run_date", "timezone"),
    "interval": (*_SPAN, *_UNITS, *_COMMON),
    "cron": (*_SPAN, *_CRON, *_COMMON),
    "calendarinterval": (*_SPAN, "years", "months", "weeks", "days", "hour", "minute", "second", *_COMMON),
    "and": ("triggers", "jitter"),
    "or": ("triggers", "jitter"),
}
"""The fields of each kind of trigger, in the order in which they are shown."""

_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(days=36_525)
_LONGEST_JITTER = 366 * 86_400
_AND_ROUNDS = 1000


class BoundedAndTrigger(AndTrigger):
    """An AndTrigger that gives up: APScheduler's own searches for ever where its triggers never meet."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """Return the next moment on which all agree; raises ValueError after too many rounds without one."""
        for _ in range(_AND_ROUNDS):
            fires = [trigger.get_next_fire_time(previous_fire_time, now) for trigger in self.triggers]
            if None in fires:
                return None
            if min(fires) == max(fires):
                agreed: datetime | None = self._apply_jitter(fires[0], self.jitter, now)
                return agreed
            now = max(fires)
        raise ValueError(f"its triggers have no fire in common within {_AND_ROUNDS} rounds")


@dataclass(frozen=True, slots=True)
class TriggerSpec:
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
            name: _localize(name, value, zone)
            for name in (*_SPAN, "run_date")
            if isinstance(value := getattr(self, name, None), datetime)
        }
        changes: Any = {"timezone": zone, **moments}
        return replace(self, **changes)

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        """Return the APScheduler trigger; what was left out is taken from `timezone` and `now`.

        Naive dates are read in the spec's own zone, else in `timezone`. Raises InvalidDefinition.
        """
        raise NotImplementedError

    def describes(self, stored: TriggerSpec, timezone: tzinfo) -> bool:
        """Tell whether `stored`, the spec of a live trigger, is what this one was built into at some earlier time."""
        if type(stored) is not type(self):
            return False
        mine = self.resolve(timezone)
        derived = self.open_start if self.open_start and getattr(self, self.open_start) is None else None
        return all(getattr(mine, f.name) == getattr(stored, f.name) for f in fields(self) if f.name != derived)


@dataclass(frozen=True, slots=True)
class Date(TriggerSpec):
    """Once, at `run_date` (left out: now)."""

    run_date: datetime | None = None
    timezone: tzinfo | None = None

    kind = "date"
    open_start = "run_date"

    def resolve(self, timezone: tzinfo) -> TriggerSpec:
        if self.timezone is None and self.run_date is not None and self.run_date.tzinfo is not None:
            return replace(self, timezone=_canonical(self.run_date.tzinfo))
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
        for name in _SPAN:
            if (moment := getattr(self, name)) is not None:
                shown[name] = moment.isoformat()
        weeks, days = divmod(self.every.days, 7)
        minutes, seconds = divmod(self.every.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        fraction = self.every.microseconds
        parts = (weeks, days, hours, minutes, round(seconds + fraction / 1_000_000, 6) if fraction else seconds)
        shown |= {name: value for name, value in zip(_UNITS, parts, strict=True) if value}
        for name in _COMMON:
            if (value := getattr(self, name)) is not None:
                shown[name] = _show(value)
        return shown

    def build(self, timezone: tzinfo, now: datetime) -> BaseTrigger:
        spec: Any = self.resolve(timezone)
        return IntervalTrigger(
            seconds=self.every.total_seconds(),
            start_date=spec.start_date or (now + self.every).astimezone(spec.timezone),
            end_date=spec.end_date,
            timezone=spec.timezone,
            jitter=self.jitter,
        )


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
        options["start_date"] = self.start_date or now.astimezone(spec.timezone).date()
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
        combine = BoundedAndTrigger if self.kind == "and" else OrTrigger
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


# Parsing


def parse_trigger(data: Mapping[str, Any], *, where: str = "") -> TriggerSpec:
    """Parse `{"trigger": kind, field: value, ...}`; values may be JSON, or Python's datetime, date and tzinfo.

    `where` stands before each key in messages. Raises InvalidDefinition naming the key, what was wrong and what was
    expected.
    """
    return _parse(data, where, 0)


def _parse(data: Mapping[str, Any], where: str, depth: int) -> TriggerSpec:
    kind = data.get("trigger")
    if isinstance(kind, BaseTrigger) and len(data) == 1:
        return spec_of(kind)
    if not isinstance(kind, str) or kind not in TRIGGER_FIELDS:
        raise InvalidDefinition(f"{where}trigger", f"is {kind!r}; expected one of {', '.join(TRIGGER_FIELDS)}")
    values: dict[str, Any] = {}
    parsers = _PARSERS[kind]
    for name, value in data.items():
        if name == "trigger" or (value is None and name in parsers):
            continue
        path = f"{where}{name}"
        if name == "triggers" and kind in ("and", "or"):
            values[name] = _parse_several(path, value, depth)
        elif name in parsers:
            values[name] = parsers[name](path, value)
        else:
            near = difflib.get_close_matches(str(name), TRIGGER_FIELDS[kind], 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; expected {', '.join(TRIGGER_FIELDS[kind])}"
            raise InvalidDefinition(path, f"is no field of the trigger {kind!r}{hint}")
    spec = _MAKERS[kind](where, values)
    return _checked_span(where, spec)


def _parse_several(path: str, value: Any, depth: int) -> tuple[TriggerSpec, ...]:
    if not isinstance(value, list | tuple) or not 1 <= len(value) <= MAX_TRIGGERS:
        raise InvalidDefinition(path, f"is {_brief(value)}; expected a list of 1 to {MAX_TRIGGERS} triggers")
    if depth >= MAX_DEPTH:
        raise InvalidDefinition(path, f"is nested more than {MAX_DEPTH} deep")
    specs = []
    for index, entry in enumerate(value):
        where = f"{path}[{index}]"
        if isinstance(entry, BaseTrigger):
            specs.append(spec_of(entry))
        elif isinstance(entry, Mapping):
            specs.append(_parse(entry, f"{where}.", depth + 1))
        else:
            raise InvalidDefinition(where, f'is {_brief(entry)}; expected an object with "trigger"')
    return tuple(specs)


def _checked_span(where: str, spec: TriggerSpec) -> TriggerSpec:
    """Put aware moments into the trigger's own zone; refuse a span that is none."""
    zone = getattr(spec, "timezone", None)
    if zone is not None:
        aware = {
            name: _localize(where + name, value, zone)
            for name in (*_SPAN, "run_date")
            if isinstance(value := getattr(spec, name, None), datetime) and value.tzinfo is not None
        }
        spec = replace(spec, **aware)
    start, end = (getattr(spec, name, None) for name in _SPAN)
    if start is None or end is None or getattr(start, "tzinfo", None) != getattr(end, "tzinfo", None):
        return spec
    if end < start:
        raise InvalidDefinition(f"{where}end_date", f"is {end.isoformat()}, before start_date, {start.isoformat()}")
    return spec


def _make_interval(where: str, values: dict[str, Any]) -> Interval:
    parts = {unit: values.pop(unit) for unit in _UNITS if unit in values}
    given = ", ".join(f"{unit}={value}" for unit, value in parts.items()) or "nothing"
    try:
        every = timedelta(**parts)
    except OverflowError:
        every = timedelta.max
    if not _SHORTEST <= every <= _LONGEST:
        unit = next(iter(parts), "seconds")
        raise InvalidDefinition(
            f"{where}{unit}", f"makes an interval of {given}; expected one between 1 ms and {_LONGEST.days} days"
        )
    return Interval(every=every, **values)


def _make_calendar_interval(where: str, values: dict[str, Any]) -> CalendarInterval:
    spec = CalendarInterval(**values)
    if not any((spec.years, spec.months, spec.weeks, spec.days)):
        raise InvalidDefinition(f"{where}days", "is missing; expected at least one of years, months, weeks and days")
    return spec


def _make_combined(where: str, values: dict[str, Any], kind: type[Combined]) -> Combined:
    if "triggers" not in values:
        raise InvalidDefinition(f"{where}triggers", f"is missing; expected a list of 1 to {MAX_TRIGGERS} triggers")
    return kind(**values)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"


def _moment(path: str, value: Any) -> datetime:
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.replace(tzinfo=_canonical(value.tzinfo))
    if isinstance(value, date):
        return datetime.combine(value, time())
    if isinstance(value, str):
        try:
            return datetime.fromisoformat(value.strip())
        except ValueError:
            pass
    raise InvalidDefinition(path, f"is {_brief(value)}; expected an ISO 8601 date and time")


def _day(path: str, value: Any) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            pass
    raise InvalidDefinition(path, f"is {_brief(value)}; expected a date such as 2026-01-31")


_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_OFFSET = re.compile(r"(?:UTC)?([+-])(\d\d):(\d\d)")


def _zone(path: str, value: Any) -> tzinfo:
    if isinstance(value, tzinfo):
        return _canonical(value)
    if isinstance(value, str):
        if (match := _OFFSET.fullmatch(value)) and int(match[2]) < 24 and int(match[3]) < 60:
            offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
            return _canonical(timezone(-offset if match[1] == "-" else offset))
        if _ZONE_NAME.fullmatch(value) and len(value) < 100:
            try:
                return _canonical(ZoneInfo(value))
            except Exception:
                # zoneinfo raises another error for each way in which a name can be wrong: all mean the same here.
                pass
    raise InvalidDefinition(path, f'is {_brief(value)}; expected a time zone such as "Europe/Berlin" or "+02:00"')


def _canonical(zone: tzinfo) -> tzinfo:
    """Return the one object that stands for this zone, so that equal zones are equal."""
    name = getattr(zone, "key", None) or getattr(zone, "zone", None)
    if name == "UTC" or zone == UTC:
        return UTC
    return ZoneInfo(name) if isinstance(name, str) and not isinstance(zone, ZoneInfo) else zone


def zone_name(zone: tzinfo) -> str:
    """Return the name by which the wire knows `zone`."""
    if (key := getattr(zone, "key", None)) is not None:
        return str(key)
    if isinstance(zone, timezone):
        return "UTC" if zone == UTC else datetime(2000, 1, 1, tzinfo=zone).isoformat()[19:]
    return str(zone)


def _number(path: str, value: Any) -> float:
    # The bound keeps ints out that no float can hold.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1e15:
        raise InvalidDefinition(path, f"is {_brief(value)}; expected a number of at least 0")
    return value


def _jitter(path: str, value: Any) -> float:
    if _number(path, value) > _LONGEST_JITTER:
        raise InvalidDefinition(path, f"is {_brief(value)}; expected at most {_LONGEST_JITTER} seconds")
    return float(value) if isinstance(value, float) else int(value)


def _between(low: int, high: int) -> Callable[[str, Any], int]:
    def parse(path: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidDefinition(path, f"is {_brief(value)}; expected a whole number from {low} to {high}")
        return value

    return parse


def _cron_field(path: str, value: Any) -> str:
    name = path.rpartition(".")[2]
    if isinstance(value, bool) or not isinstance(value, int | str) or len(str(value)) > 200:
        raise InvalidDefinition(path, f"is {_brief(value)}; expected a number or a cron expression")
    try:
        return str(CronTrigger.FIELDS_MAP[name](name, str(value).strip()))
    except ValueError as error:
        raise InvalidDefinition(path, f"is {_brief(value)}, which is no cron expression: {error}") from error


def _localize(path: str, moment: datetime, zone: tzinfo) -> datetime:
    try:
        if moment.tzinfo is not None:
            return moment.astimezone(zone)
        localized: datetime = convert_to_datetime(moment, zone, path)
        return localized
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidDefinition(path, f"is {moment.isoformat()}, out of range in {zone_name(zone)}: {error}") from error


def _show(value: Any) -> Any:
    if isinstance(value, date):
        return value.isoformat()
    return zone_name(value) if isinstance(value, tzinfo) else value


_PARSERS: dict[str, dict[str, Callable[[str, Any], Any]]] = {
    "date": {"run_date": _moment, "timezone": _zone},
    "interval": {
        **dict.fromkeys(_UNITS, _number),
        **dict.fromkeys(_SPAN, _moment),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "cron": {
        **dict.fromkeys(_CRON, _cron_field),
        **dict.fromkeys(_SPAN, _moment),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "calendarinterval": {
        **dict.fromkeys(("years", "months", "weeks", "days"), _between(0, 10_000)),
        "hour": _between(0, 23),
        "minute": _between(0, 59),
        "second": _between(0, 59),
        **dict.fromkeys(_SPAN, _day),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "and": {"jitter": _jitter},
    "or": {"jitter": _jitter},
}
_MAKERS: dict[str, Callable[[str, dict[str, Any]], TriggerSpec]] = {
    "date": lambda where, values: Date(**values),
    "interval": _make_interval,
    "cron": lambda where, values: Cron(**values),
    "calendarinterval": _make_calendar_interval,
    "and": lambda where, values: _make_combined(where, values, And),
    "or": lambda where, values: _make_combined(where, values, Or),
}


# From live triggers


def spec_of(trigger: BaseTrigger) -> TriggerSpec:
    """Return the spec of a live trigger, with zone and dates as they were resolved."""
    # Exact types: a subclass may fire as it likes.
    kind = type(trigger)
    if kind is IntervalTrigger:
        zone = _canonical(trigger.timezone)
        return Interval(trigger.interval, *_span_of(trigger, zone), zone, trigger.jitter)
    if kind is CronTrigger:
        zone = _canonical(trigger.timezone)
        expressions = {field.name: str(field) for field in trigger.fields if not field.is_default}
        start, end = _span_of(trigger, zone)
        return Cron(**expressions, start_date=start, end_date=end, timezone=zone, jitter=trigger.jitter)
    if kind is DateTrigger:
        zone = _canonical(trigger.run_date.tzinfo)
        return Date(trigger.run_date.replace(tzinfo=zone), zone)
    if kind is CalendarIntervalTrigger:
        at = trigger._time
        options = {name: getattr(trigger, name) for name in ("years", "months", "weeks", "days", *_SPAN, "jitter")}
        times = {"hour": at.hour, "minute": at.minute, "second": at.second}
        return CalendarInterval(**options, **times, timezone=_canonical(trigger.timezone))
    if kind in (AndTrigger, BoundedAndTrigger, OrTrigger):
        combined = Or if kind is OrTrigger else And
        return combined(tuple(spec_of(part) for part in trigger.triggers), trigger.jitter)
    return Custom(trigger)


def _span_of(trigger: Any, zone: tzinfo) -> tuple[datetime | None, datetime | None]:
    start, end = (moment and moment.astimezone(zone) for moment in (trigger.start_date, trigger.end_date))
    return start, end
