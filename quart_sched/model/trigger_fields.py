"""The fields of each kind of trigger, and the JSON Schemas of triggers that are made of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta

from . import fields
from .cron_fields import EXPRESSION_SCHEMA, cron_field, expression
from .fields import Field, Schema, listing, number, or_null, record, ref, whole
from .triggers import CRON_FIELDS, INTERVAL_UNITS, TRIGGER_FIELDS

MAX_DEPTH = 5
MAX_TRIGGERS = 20
SHORTEST, LONGEST = timedelta(milliseconds=1), timedelta(days=36_525)
_LONGEST_JITTER = 366 * 86_400


# The bound keeps ints out that no float can hold.
_unit = number(0, 1e15, expected="a number of at least 0")
_jitter = number(0, _LONGEST_JITTER, expected=f"a number of at least 0, and at most {_LONGEST_JITTER} seconds").about(
    "Seconds at random by which a fire may come earlier or later."
)
_zone = fields.zone.about("The time zone in which the trigger reads the clock; left out, the scheduler's.")
_COMMON: Mapping[str, Field] = {
    "start_date": fields.fire_time.about("No fire before."),
    "end_date": fields.moment.about("No fire after."),
    "timezone": _zone,
    "jitter": _jitter,
}
FIELDS: Mapping[str, Mapping[str, Field]] = {
    "date": {
        "run_date": fields.fire_time.about("The time of the only fire; left out, now."),
        "timezone": _zone,
    },
    "interval": {
        **dict.fromkeys(INTERVAL_UNITS, _unit),
        **_COMMON,
        "start_date": fields.fire_time.about(
            "The time that the fires are counted from; left out, one interval from now."
        ),
    },
    "cron": {**{name: cron_field(name) for name in CRON_FIELDS}, **_COMMON},
    "crontab": {"expression": expression, **_COMMON},
    "calendarinterval": {
        **{unit: whole(0, 10_000) for unit in ("years", "months", "weeks", "days")},
        "hour": whole(0, 23),
        "minute": whole(0, 59),
        "second": whole(0, 59),
        **_COMMON,
        "start_date": fields.day.about("The day that the fires are counted from; left out, today."),
        "end_date": fields.day.about("No fire after this day."),
    },
    "and": {"jitter": _jitter},
    "or": {"jitter": _jitter},
}
"""By kind of trigger and key; what the triggers `and` and `or` combine is parsed with them."""

_KINDS = {
    "date": "Once.",
    "interval": "Again and again after the same time.",
    "cron": "At the times that match every field. The week begins on Monday, 0.",
    "crontab": "At the times of a crontab expression. The week begins on Sunday, 0 or 7.",
    "calendarinterval": "Every so many years, months, weeks and days, at the same time of day.",
    "and": "At the moments on which all of some triggers agree.",
    "or": "At the moments of any of some triggers.",
}


def trigger_schema(
    kind: str, more: Mapping[str, Schema | Field] | None = None, *, key: str = "trigger", required: Iterable[str] = ()
) -> Schema:
    """Return the schema of a trigger whose kind stands under `key`, in an object that may have `more` keys."""
    own = {name: or_null(each.schema) for name, each in FIELDS[kind].items()}
    if kind == "crontab":
        own["expression"] = FIELDS[kind]["expression"].schema
    if "triggers" in TRIGGER_FIELDS[kind]:
        own["triggers"] = listing(ref("Trigger"), minItems=1, maxItems=MAX_TRIGGERS)
    properties = {key: {"const": kind}, **{name: own[name] for name in TRIGGER_FIELDS[kind]}, **(more or {})}
    needed = {key, "triggers", "expression", *required}
    schema = record(properties, optional=properties.keys() - needed, description=_KINDS[kind])
    if kind == "interval":
        # As a whole it is checked by its parser alone: JSON Schema cannot add.
        one = {unit: timedelta(**{unit: 1}) for unit in INTERVAL_UNITS}
        schema["properties"] |= {unit: own[unit] | {"maximum": LONGEST / one[unit]} for unit in one}
        schema["anyOf"] = [_at_least(unit, "number", SHORTEST / one[unit]) for unit in one]
    if kind == "calendarinterval":
        schema["anyOf"] = [_at_least(unit, "integer", 1) for unit in ("years", "months", "weeks", "days")]
    return schema


def _at_least(key: str, kind: str, least: float) -> Schema:
    return {"properties": {key: {"type": kind, "minimum": least}}, "required": [key]}


SCHEMAS: Mapping[str, Schema] = {
    "Moment": fields.MOMENT_SCHEMA,
    "Day": fields.DAY_SCHEMA,
    "TimeZone": fields.ZONE_SCHEMA,
    "CrontabExpression": EXPRESSION_SCHEMA,
    "Trigger": {
        "description": f"One of the triggers that `and` and `or` combine; they may be nested {MAX_DEPTH} deep.",
        "oneOf": [trigger_schema(kind) for kind in TRIGGER_FIELDS],
    },
    "OlderTrigger": {
        "description": "A trigger as an object; without a type it is a date.",
        "oneOf": [
            *(trigger_schema(kind, key="type") for kind in TRIGGER_FIELDS),
            record({name: or_null(each.schema) for name, each in FIELDS["date"].items()}, optional=FIELDS["date"]),
        ],
    },
}
"""What the schemas of triggers refer to; TimeZoneName, which is missing here, is `fields.zone_names`."""
_TEXT: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_WHOLE: Schema = {"type": "integer"}
_CRON: Schema = {"type": ["string", "integer"]}
SHOWN: Mapping[str, Schema] = {
    **dict.fromkeys(("run_date", "start_date", "end_date", "expression", "timezone"), _TEXT),
    **dict.fromkeys(CRON_FIELDS, _CRON),
    **dict.fromkeys(("years", "months"), _WHOLE),
    **dict.fromkeys((*INTERVAL_UNITS, "jitter"), _NUMBER),
    "triggers": {"type": "array", "items": {"type": "object", "required": ["trigger"]}},
}
"""A trigger's fields as they are shown: those of its kind, and of them those that it has."""
