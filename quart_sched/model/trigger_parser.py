"""Parses triggers, from JSON or Python, into specs; names precisely what is wrong."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.cron import CronTrigger

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .crontab import parse_expression
from .triggers import (
    CRON_FIELDS,
    INTERVAL_UNITS,
    SPAN,
    TRIGGER_FIELDS,
    And,
    CalendarInterval,
    Combined,
    Cron,
    Crontab,
    Date,
    Interval,
    Or,
    TriggerSpec,
    canonical_zone,
    localize,
    spec_of,
)

MAX_DEPTH = 5
MAX_TRIGGERS = 20
_SHORTEST, _LONGEST = timedelta(milliseconds=1), timedelta(days=36_525)
_LONGEST_JITTER = 366 * 86_400


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
            name: localize(where + name, value, zone)
            for name in (*SPAN, "run_date")
            if isinstance(value := getattr(spec, name, None), datetime) and value.tzinfo is not None
        }
        spec = replace(spec, **aware)
    start, end = (getattr(spec, name, None) for name in SPAN)
    if start is None or end is None or getattr(start, "tzinfo", None) != getattr(end, "tzinfo", None):
        return spec
    if isinstance(spec, Interval):
        return spec  # Its start may be derived, as one interval from now, and so lie behind an end that is close.
    aware_span = getattr(start, "tzinfo", None) is not None
    # Not the times of the clock on the wall, which stand still or run back when clocks change.
    if (end.timestamp() < start.timestamp()) if aware_span else (end < start):
        raise InvalidDefinition(f"{where}end_date", f"is {end.isoformat()}, before start_date, {start.isoformat()}")
    return spec


def _make_interval(where: str, values: dict[str, Any]) -> Interval:
    parts = {unit: values.pop(unit) for unit in INTERVAL_UNITS if unit in values}
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


def _make_crontab(where: str, values: dict[str, Any]) -> Crontab:
    if "expression" not in values:
        raise InvalidDefinition(f"{where}expression", 'is missing; expected a crontab expression such as "30 2 * * *"')
    return Crontab(**values)


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
    return bounded_repr(value, 100)


def moment(path: str, value: Any) -> datetime:
    """Return the moment that a datetime, date or ISO 8601 text means; naive where it is. Raises InvalidDefinition."""
    if isinstance(value, datetime):
        return value if value.tzinfo is None else value.replace(tzinfo=canonical_zone(value.tzinfo))
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
        return canonical_zone(value)
    if isinstance(value, str):
        if (match := _OFFSET.fullmatch(value)) and int(match[2]) < 24 and int(match[3]) < 60:
            offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
            return canonical_zone(timezone(-offset if match[1] == "-" else offset))
        if _ZONE_NAME.fullmatch(value) and len(value) < 100:
            try:
                return canonical_zone(ZoneInfo(value))
            except Exception:
                # zoneinfo raises another error for each way in which a name can be wrong: all mean the same here.
                pass
    raise InvalidDefinition(path, f'is {_brief(value)}; expected a time zone such as "Europe/Berlin" or "+02:00"')


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


_PARSERS: dict[str, dict[str, Callable[[str, Any], Any]]] = {
    "date": {"run_date": moment, "timezone": _zone},
    "interval": {
        **dict.fromkeys(INTERVAL_UNITS, _number),
        **dict.fromkeys(SPAN, moment),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "cron": {
        **dict.fromkeys(CRON_FIELDS, _cron_field),
        **dict.fromkeys(SPAN, moment),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "crontab": {
        "expression": parse_expression,
        **dict.fromkeys(SPAN, moment),
        "timezone": _zone,
        "jitter": _jitter,
    },
    "calendarinterval": {
        **dict.fromkeys(("years", "months", "weeks", "days"), _between(0, 10_000)),
        "hour": _between(0, 23),
        "minute": _between(0, 59),
        "second": _between(0, 59),
        **dict.fromkeys(SPAN, _day),
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
    "crontab": _make_crontab,
    "calendarinterval": _make_calendar_interval,
    "and": lambda where, values: _make_combined(where, values, And),
    "or": lambda where, values: _make_combined(where, values, Or),
}
