"""The fields of the cron trigger, as APScheduler reads them, and of the crontab trigger, as cron does."""

from __future__ import annotations

import re
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.fields import SEPARATOR

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .crontab import ALIASES, MAX_EXPRESSION, parse_expression
from .fields import Field, Schema, ref, without_point, wrong

_LONGEST = 200
_MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_WEEKDAYS = "mon|tue|wed|thu|fri|sat|sun"
_SIXTY = ("[0-5]?[0-9]", "0?[1-9]|[1-5][0-9]")
_HOUR = ("[01]?[0-9]|2[0-3]", "0?[1-9]|1[0-9]|2[0-3]")
_DAY = ("0?[1-9]|[12][0-9]|3[01]", "0?[1-9]|[12][0-9]|30")
_MONTH = ("0?[1-9]|1[0-2]", "0?[1-9]|1[01]")
_FORMS: dict[str, tuple[int, int, tuple[str, str], str]] = {
    # name: least and greatest value, the patterns of a value and of a step, and what else may stand there
    "year": (1970, 9999, ("19[7-9][0-9]|[2-9][0-9]{3}", "[1-9][0-9]{0,2}"), ""),
    "month": (1, 12, _MONTH, f"({_MONTHS})(-({_MONTHS}))?"),
    "day": (1, 31, _DAY, f"last|(1st|2nd|3rd|4th|5th|last) ({_WEEKDAYS})"),
    "week": (1, 53, ("0?[1-9]|[1-4][0-9]|5[0-3]", "0?[1-9]|[1-4][0-9]|5[0-2]"), ""),
    "day_of_week": (0, 6, ("[0-6]", "[1-6]"), f"({_WEEKDAYS})(-({_WEEKDAYS}))?"),
    "hour": (0, 23, _HOUR, ""),
    "minute": (0, 59, _SIXTY, ""),
    "second": (0, 59, _SIXTY, ""),
}


def cron_field(name: str) -> Field:
    """Return the field for one of the cron trigger's expressions, or a number in its place."""
    low, high, (value, step), more = _FORMS[name]
    kind = CronTrigger.FIELDS_MAP[name]
    words = re.compile(more.replace(" ", " +"), re.IGNORECASE)

    def parse(key: str, given: Any) -> str:
        given = without_point(given)
        if isinstance(given, bool) or not isinstance(given, int | str) or len(str(given)) > _LONGEST:
            wrong(key, given, "a number or a cron expression")
        text = str(given).strip()
        try:
            parsed = str(kind(name, text))
            for part in SEPARATOR.split(text):
                # APScheduler drops what stands behind a name: "mon-5" would be Monday alone.
                if any(map(str.isalpha, part)) and not words.fullmatch(part):
                    raise ValueError(f'Unrecognized expression "{part}" for field "{name}"')
            return parsed
        except ValueError as error:
            raise InvalidDefinition(key, f"is {bounded_repr(given)}, which is no cron expression: {error}") from error

    schema: Schema = {
        "anyOf": [
            {"type": "integer", "minimum": low, "maximum": high},
            {"type": "string", "maxLength": _LONGEST, "pattern": f"^{_list(_item(value, step, more), ' *, *')}$"},
        ]
    }
    return Field(parse, schema)


def _item(value: str, step: str, more: str) -> str:
    return rf"(\*(/({step}))?|({value})(-({value}))?(/({step}))?{'|' if more else ''}{more})"


def _list(item: str, separator: str) -> str:
    return f"{item}({separator}{item})*"


def _crontab_pattern() -> str:
    step = "[1-9][0-9]?"
    weekday = f"[0-7]|{_WEEKDAYS}"
    fields = (
        _item(_SIXTY[0], step, ""),
        _item(_HOUR[0], step, ""),
        _item(_DAY[0], step, "LW?"),
        _item(f"{_MONTH[0]}|{_MONTHS}", step, ""),
        _item(weekday, step, f"[0-7]L|({weekday})#[1-5]"),
    )
    minute, hour, day, month, day_of_week = (_list(item, ",") for item in fields)
    return f"^({'|'.join(ALIASES)}|({minute} )?{minute} {hour} {day} {month} {day_of_week})$"


EXPRESSION_SCHEMA: Schema = {
    "description": "A crontab expression: minute, hour, day of the month, month and day of the week (0 and 7 are "
    "Sunday), or six fields with the second first, or a name such as @daily.",
    "type": "string",
    "maxLength": MAX_EXPRESSION,
    "pattern": _crontab_pattern(),
    "examples": ["*/5 9-17 * * mon-fri", "0 12 L * *", "@daily"],
}
expression = Field(parse_expression, ref("CrontabExpression"))
