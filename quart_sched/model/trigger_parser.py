"""Parses triggers, from JSON or Python, into specs; names precisely what is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from apscheduler.triggers.base import BaseTrigger

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .trigger_fields import FIELDS, LONGEST, MAX_DEPTH, MAX_TRIGGERS, SHORTEST
from .triggers import (
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
    spec_of,
)
from .zones import localize


def parse_trigger(data: Mapping[str, Any], *, where: str = "") -> TriggerSpec:
    """Parse `{"trigger": kind, field: value, ...}`; values may be JSON, or Python's datetime, date and tzinfo.

    `where` stands before each key in messages. Raises InvalidDefinition naming the key, what was wrong and what was
    expected.
    """
    return _parse(data, where, 0)


def _parse(data: Mapping[str, Any], where: str, depth: int) -> TriggerSpec:
    kind = data.get("trigger")
    if len(data) == 1 and isinstance(kind, BaseTrigger):
        return spec_of(kind)
    if not isinstance(kind, str) or kind not in TRIGGER_FIELDS:
        raise InvalidDefinition(f"{where}trigger", f"is {kind!r}; expected one of {', '.join(TRIGGER_FIELDS)}")
    values: dict[str, Any] = {}
    own = FIELDS[kind]
    for name, value in data.items():
        if name == "trigger" or (value is None and name in own):
            continue
        path = f"{where}{name}"
        if name == "triggers" and kind in ("and", "or"):
            values[name] = _parse_several(path, value, depth)
        elif name in own:
            values[name] = own[name].parse(path, value)
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
        spec = replace(spec, **aware) if aware else spec
    start, end = getattr(spec, "start_date", None), getattr(spec, "end_date", None)
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
    try:
        every = timedelta(**parts)
    except OverflowError:
        every = timedelta.max
    if not SHORTEST <= every <= LONGEST:
        given = ", ".join(f"{unit}={value}" for unit, value in parts.items()) or "nothing"
        unit = next(iter(parts), "seconds")
        raise InvalidDefinition(
            f"{where}{unit}", f"makes an interval of {given}; expected one between 1 ms and {LONGEST.days} days"
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


_MAKERS: dict[str, Callable[[str, dict[str, Any]], TriggerSpec]] = {
    "date": lambda where, values: Date(**values),
    "interval": _make_interval,
    "cron": lambda where, values: Cron(**values),
    "crontab": _make_crontab,
    "calendarinterval": _make_calendar_interval,
    "and": lambda where, values: _make_combined(where, values, And),
    "or": lambda where, values: _make_combined(where, values, Or),
}
