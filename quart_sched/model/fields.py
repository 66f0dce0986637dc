"""Fields: how a value is parsed, and its JSON Schema, both made of the same arguments so that they say the same."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import cache
from typing import Any, NoReturn
from zoneinfo import ZoneInfo, available_timezones

from ..errors import InvalidDefinition
from .arguments import bounded_repr
from .zones import canonical_zone

Schema = dict[str, Any]
"""A JSON Schema of the draft 2020-12, that of OpenAPI 3.1."""


@dataclass(frozen=True, slots=True)
class Field:
    """What a key may hold. Called with the key and a value it returns what was meant, or raises InvalidDefinition.

    Some take more from Python than from JSON (a datetime beside its text), and some more of JSON than `schema` says,
    where that is an older or a looser form. What `schema` admits they take.
    """

    parse: Callable[[str, Any], Any]
    schema: Schema

    def __call__(self, key: str, value: Any) -> Any:
        return self.parse(key, value)

    def about(self, description: str, **notes: Any) -> Field:
        """Return the field with a description, and maybe `default` or `examples`."""
        return replace(self, schema=self.schema | {"description": description} | notes)


def wrong(key: str, value: Any, expected: str) -> NoReturn:
    """Raise InvalidDefinition, which names the key, the value and what was expected."""
    raise InvalidDefinition(key, f"is {bounded_repr(value)}; expected {expected}")


def unknown(key: str, value: Any, known: Iterable[str]) -> NoReturn:
    """Raise InvalidDefinition for a key that is none of the `known` ones."""
    raise InvalidDefinition(key, f"is {bounded_repr(value)}, but not known here; expected {', '.join(known) or 'none'}")


def parse_fields(fields: Mapping[str, Field], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as their fields mean them, without those that are None, which stands for what is not given.

    Raises InvalidDefinition, also for a key that has no field.
    """
    for key in values:
        if key not in fields:
            unknown(key, values[key], fields)
    return {key: fields[key](key, value) for key, value in values.items() if value is not None}


# Builders


def field(take: Callable[[Any], Any], expected: str, schema: Schema) -> Field:
    """Return a field whose value `take` returns; what is wrong it refuses with a ValueError or TypeError."""

    def parse(key: str, value: Any) -> Any:
        try:
            return take(value)
        except (TypeError, ValueError, OverflowError):
            wrong(key, value, expected)

    return Field(parse, schema)


def nullable(inner: Field, *, expected: str | None = None) -> Field:
    """Let null stand for None; `expected` is for a message that says so too."""

    def parse(key: str, value: Any) -> Any:
        if value is None:
            return None
        try:
            return inner(key, value)
        except InvalidDefinition:
            if expected is None:
                raise
            wrong(key, value, expected)

    return Field(parse, or_null(inner.schema))


def flag(*, expected: str = "true or false") -> Field:
    """Return a field for true or false."""

    def take(value: Any) -> bool:
        if not isinstance(value, bool):
            raise TypeError
        return value

    return field(take, expected, {"type": "boolean"})


def whole(low: int, high: int, *, text: bool = False, expected: str | None = None) -> Field:
    """Return a field for a whole number, which JSON may write as 1.0; with `text` also in digits, as a query has it."""

    def take(value: Any) -> int:
        number = int(value) if text and isinstance(value, str) and _DIGITS.fullmatch(value) else without_point(value)
        if isinstance(number, bool) or not isinstance(number, int) or not low <= number <= high:
            raise ValueError
        return number

    schema = {"type": "integer", "minimum": low, "maximum": high}
    return field(take, expected or f"a whole number from {low} to {high}", schema)


def number(low: float, high: float, *, above: bool = False, text: bool = False, expected: str | None = None) -> Field:
    """Return a field for a number from `low` on, or `above` it; with `text` also as digits, as a query has it."""

    def take(value: Any) -> float:
        given = float(value) if text and isinstance(value, str) and _DECIMAL.fullmatch(value) else value
        if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
            raise ValueError
        if above and given == low:
            raise ValueError
        return float(given) if isinstance(given, float) else int(given)

    schema = {"type": "number", "exclusiveMinimum" if above else "minimum": low, "maximum": high}
    return field(take, expected or f"a number from {low:g} to {high:,.0f}", schema)


def text(least: int = 1, most: int | None = None, *, expected: str = "a non-empty string") -> Field:
    """Return a field for a text of so many characters."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or len(value) < least or (most is not None and len(value) > most):
            raise ValueError
        return value

    bounds = {"minLength": least} if least else {}
    return field(take, expected, {"type": "string", **bounds, **({} if most is None else {"maxLength": most})})


def choice(*choices: str, expected: str | None = None) -> Field:
    """Return a field for one of some words."""

    def take(value: Any) -> str:
        if not isinstance(value, str) or value not in choices:
            raise ValueError
        return value

    *firsts, last = map(repr, choices)
    return field(take, expected or f"{', '.join(firsts)} or {last}", {"type": "string", "enum": [*choices]})


def without_point(value: Any) -> Any:
    """Return the whole number that a float is, and anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_DIGITS = re.compile(r"[0-9]{1,9}")
_DECIMAL = re.compile(r"[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,3})?")


# Schemas of what is more than one value


def ref(name: str) -> Schema:
    """Return the schema that stands under this name among the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def or_null(schema: Schema) -> Schema:
    """Return the schema of the same, or null."""
    kind = schema.get("type")
    if not isinstance(kind, str):
        return {"anyOf": [schema, {"type": "null"}]}
    choices = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return schema | {"type": [kind, "null"]} | choices


def listing(items: Schema, **bounds: int) -> Schema:
    """Return the schema of a list; `bounds` are minItems and maxItems."""
    return {"type": "array", "items": items, **bounds}


def record(properties: Mapping[str, Schema | Field], *, optional: Iterable[str] = (), **more: Any) -> Schema:
    """Return the schema of an object that has these keys and no others, all of them but the `optional` ones."""
    left_out = {*optional}
    required = [key for key in properties if key not in left_out]
    return {
        "type": "object",
        "properties": {key: value.schema if isinstance(value, Field) else value for key, value in properties.items()},
        **({"required": required} if required else {}),
        "additionalProperties": False,
        **more,
    }


# Time


def _moment(value: Any) -> datetime:
    if isinstance(value, datetime):
        zone = None if value.tzinfo is None else canonical_zone(value.tzinfo)
        return value if zone is value.tzinfo else value.replace(tzinfo=zone)
    if isinstance(value, date):
        return datetime.combine(value, time())
    return datetime.fromisoformat(value.strip()) if isinstance(value, str) else _refuse()


def _fire_time(key: str, value: Any) -> datetime:
    at: datetime = moment(key, value)
    if not datetime.min + _FURTHEST <= at.replace(tzinfo=None) <= datetime.max - _FURTHEST:
        raise InvalidDefinition(key, f"is {at.isoformat()}, out of range in some time zones")
    return at


def _moment_of_query(value: Any) -> datetime:
    # The plus of an offset from UTC arrives as a space where nobody has encoded it.
    return _moment(_OFFSET_AT_THE_END.sub(r"\1+", value) if isinstance(value, str) else value)


def _day(value: Any) -> date:
    if isinstance(value, date):
        return value.date() if isinstance(value, datetime) else value
    return date.fromisoformat(value.strip()) if isinstance(value, str) else _refuse()


def _zone(value: Any) -> tzinfo:
    if isinstance(value, tzinfo):
        return canonical_zone(value)
    if not isinstance(value, str):
        raise TypeError
    if match := _OFFSET.fullmatch(value):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]), seconds=float(match[4] or 0))
        return canonical_zone(timezone(-offset if match[1] == "-" else offset))
    if not _ZONE_NAME.fullmatch(value) or len(value) >= 100:
        raise ValueError
    try:
        return canonical_zone(ZoneInfo(value))
    except Exception:
        # zoneinfo raises another error for each way in which a name can be wrong: all mean the same here.
        raise ValueError from None


def _refuse() -> NoReturn:
    raise TypeError


_FURTHEST = timedelta(days=2)
"""More than what lies between the times on the walls of any two zones."""
_OFFSET_AT_THE_END = re.compile(r"(:\d\d(?:\.\d+)?) (?=\d\d:?\d\d$)")
_ZONE_NAME = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
# Of seconds too, as that of a moment may be.
_OFFSET = re.compile(r"(?:UTC)?([+-])([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d{6})?))?")

moment = field(_moment, "an ISO 8601 date and time", ref("Moment"))
"""The moment that a datetime, a date or an ISO 8601 text means: naive where that is."""
fire_time = Field(_fire_time, moment.schema)
"""A moment at which something may fire, so that it is to be shown in any zone."""
moment_of_query = field(_moment_of_query, "an ISO 8601 date and time", ref("Moment"))
"""The same in a query string."""
day = field(_day, "a date such as 2026-01-31", ref("Day"))
zone = field(_zone, 'a time zone such as "Europe/Berlin" or "+02:00"', ref("TimeZone"))

_DATE = (
    "([1-9][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|1[0-9]|2[0-8]))"
    # The 29th of February, in leap years alone.
    "|([1-9][0-9](0[48]|[2468][048]|[13579][26])|([2468][048]|[13579][26])00)-02-29)"
)
_CLOCK = "([01][0-9]|2[0-3]):[0-5][0-9]"

DAY_SCHEMA: Schema = {
    "description": "A day, in ISO 8601.",
    "type": "string",
    "pattern": f"^{_DATE}$",
    "examples": ["2026-01-31"],
}
MOMENT_SCHEMA: Schema = {
    "description": "A date and time in ISO 8601, of a day its beginning. Without an offset from UTC it is read in the "
    "trigger's time zone where there is one, else in the scheduler's.",
    "type": "string",
    "pattern": rf"^{_DATE}([T ]{_CLOCK}(:[0-5][0-9](\.[0-9]{{1,6}})?)?(Z|[+-]{_CLOCK}(:[0-5][0-9])?)?)?$",
    "examples": ["2026-03-02T12:00:00+01:00", "2026-03-02T12:00:00", "2026-03-02"],
}


ZONE_SCHEMA: Schema = {
    "description": "A time zone by its name, or its offset from UTC.",
    "anyOf": [
        ref("TimeZoneName"),
        {"type": "string", "pattern": rf"^(UTC)?[+-]{_CLOCK}(:[0-5][0-9])?$", "examples": ["+02:00"]},
    ],
}


@cache
def zone_names() -> Schema:
    """Return the schema TimeZoneName. Reads the machine's time zone database: not for the event loop."""
    return {"description": "A time zone of the IANA database.", "enum": sorted(available_timezones())}
