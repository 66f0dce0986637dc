"""Arguments as JSON: what JSON lacks is tagged, as in `{"$datetime": "2026-01-31T12:00:00+00:00"}`."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from ..errors import InvalidDefinition

MAX_DEPTH = 50
_REPR_LIMIT = 200
_TEXTS = (str, bytes, bytearray)
_BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), set: ("{", "}"), frozenset: ("frozenset({", "})"),
}  # fmt: skip
_INT_END = 10**4000  # Python turns no int of more than 4,300 digits into text, or back.


def encode(value: Any, *, where: str = "argument") -> Any:
    """Return `value` as JSON. Raises InvalidDefinition naming the place of what JSON and the tags cannot hold."""
    return _encode(value, where, 0, _refuse)


def show(value: Any) -> Any:
    """Return `value` as JSON, with `{"$repr": ...}` for what cannot be encoded; that is for reading only."""
    return _encode(value, "", 0, _show_repr)


def decode(value: Any, *, where: str = "argument") -> Any:
    """Return the Python value of tagged JSON. Raises InvalidDefinition naming the place of what is wrong."""
    return _decode(value, where, 0)


def _refuse(value: Any, where: str) -> Any:
    raise InvalidDefinition(
        where,
        f"is {bounded_repr(value)}, a {type(value).__name__}; expected None, bool, int (of up to 4,000 digits), float, "
        "str, list, tuple, dict, datetime, date, time (of a fixed offset or none), timedelta, Decimal, UUID or bytes",
    )


def _show_repr(value: Any, where: str) -> Any:
    return {"$repr": bounded_repr(value)}


def bounded_repr(value: Any, limit: int = _REPR_LIMIT) -> str:
    """Return `repr(value)` of at most `limit` characters, also where that raises.

    Of Python's own containers no more is looked at than is shown: a job may return very much.
    """
    try:
        parts: list[str] = []
        _add(value, limit, parts, ())
        text = "".join(parts)
    except (Exception, SystemExit) as error:
        # The object's own code: it must not keep the job, or what became of it, from being shown.
        text = f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _add(value: Any, room: int, parts: list[str], around: tuple[int, ...]) -> int:
    """Add `repr(value)` to `parts`, which end where there is no `room` left; return the room, which may be below 0.

    `around` are the ids of the containers that the value is in.
    """
    kind = type(value)  # exact: a subclass may be shown, and walked, as it likes
    if kind in _TEXTS:
        text = repr(_head(value, max(room, 0)))
    elif kind not in _BRACKETS or not value or len(around) == MAX_DEPTH:
        text = repr(value)
    elif id(value) in around:
        text = "...".join(_BRACKETS[kind])
    else:
        return _add_items(value, room, parts, (*around, id(value)))
    parts.append(text)
    return room - len(text)


def _head(text: Any, length: int) -> Any:
    """Return the beginning of a text, with more behind it where there was more, so that it gets the same quotes."""
    head = text[:length]
    if len(text) > length:
        for quote in ("'", '"') if type(text) is str else (b"'", b'"'):
            head += quote if quote in text else quote[:0]
    return head


def _add_items(values: Any, room: int, parts: list[str], around: tuple[int, ...]) -> int:
    kind = type(values)
    before, closing = _BRACKETS[kind]
    for item in values:
        parts.append(before)
        room = _add(item, room - len(before), parts, around)
        if kind is dict:
            parts.append(": ")
            room = _add(values[item], room - 2, parts, around)
        if room < 0:
            return room
        before = ", "
    parts.append(",)" if kind is tuple and len(values) == 1 else closing)
    return room - len(parts[-1])


def _encode(value: Any, where: str, depth: int, otherwise: Callable[[Any, str], Any]) -> Any:
    kind = type(value)  # exact: a subclass would come back as something else
    flat = value is None or kind in (bool, int, str, float)
    if _is_lossy(value, kind) or (depth >= MAX_DEPTH and not flat):
        return otherwise(value, where)
    if flat:
        return {"$float": str(value)} if kind is float and not math.isfinite(value) else value
    if kind in (list, tuple):
        items = [_encode(item, f"{where}[{index}]", depth + 1, otherwise) for index, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if kind is dict:
        return _encode_dict(value, where, depth, otherwise)
    if kind is datetime and isinstance(value.tzinfo, ZoneInfo) and value.tzinfo.key:
        return {"$datetime": value.isoformat(), "zone": value.tzinfo.key}
    for tag, (tagged, write, *_) in _TAGS.items():
        if kind is tagged:
            return {tag: write(value)}
    return otherwise(value, where)


def _is_lossy(value: Any, kind: type) -> bool:
    if kind is int:
        return not -_INT_END < value < _INT_END
    # Such a moment's ISO text is that of a naive one.
    return kind in (datetime, time) and value.tzinfo is not None and value.utcoffset() is None


def _encode_dict(value: dict[Any, Any], where: str, depth: int, otherwise: Callable[[Any, str], Any]) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _encode(item, f"{where}.{key}", depth + 1, otherwise) for key, item in value.items()}
    pairs = enumerate(value.items())
    return {"$dict": [_encode([*pair], f"{where}[{n}]", depth + 1, otherwise) for n, pair in pairs]}


def _decode(value: Any, where: str, depth: int) -> Any:
    if depth > 2 * MAX_DEPTH:
        raise InvalidDefinition(where, f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        return [_decode(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    tag = next((key for key in value if key.startswith("$")), None)
    if tag is None:
        return {key: _decode(item, f"{where}.{key}", depth + 1) for key, item in value.items()}
    return _decode_tag(tag, value, where, depth)


def _decode_tag(tag: str, value: dict[str, Any], where: str, depth: int) -> Any:
    content = value[tag]
    if tag == "$repr":
        raise InvalidDefinition(where, 'is {"$repr": ...}, which only shows an object and cannot be sent back')
    if value.keys() - ({tag, "zone"} if tag == "$datetime" else {tag}):
        raise InvalidDefinition(where, f"has {tag!r} beside other keys; expected it alone")
    if tag in ("$tuple", "$dict"):
        if not isinstance(content, list):
            raise InvalidDefinition(where, f"is {tag!r} of {bounded_repr(content)}; expected a list")
        items = _decode(content, where, depth + 1)
        if tag == "$tuple":
            return tuple(items)
        try:
            return dict(items)
        except (TypeError, ValueError):
            raise InvalidDefinition(where, 'is "$dict" of something else than pairs of key and value') from None
    if tag not in _TAGS:
        raise InvalidDefinition(where, f"has the key {tag!r}; expected one of {', '.join(('$tuple', '$dict', *_TAGS))}")
    read = _TAGS[tag][2]
    try:
        decoded = read(content)
        return decoded if "zone" not in value else _in_zone(decoded, ZoneInfo(value["zone"]))
    except (TypeError, ValueError, OverflowError, InvalidOperation, binascii.Error, AttributeError, KeyError, OSError):
        raise InvalidDefinition(where, f"is {tag!r} of {bounded_repr(content)}, which is none") from None


def _in_zone(moment: datetime, zone: ZoneInfo) -> datetime:
    # Without an offset it is what the clocks of that zone show, not those of this machine.
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)


def _float(text: str) -> float:
    if text not in ("nan", "inf", "-inf"):
        raise ValueError(text)
    return float(text)


def _decimal(text: Any) -> Decimal:
    if not isinstance(text, str):
        raise TypeError(text)
    return Decimal(text)


def _timedelta(parts: Any) -> timedelta:
    if not isinstance(parts, list) or len(parts) != 3 or any(isinstance(part, bool) for part in parts):
        raise TypeError(parts)
    return timedelta(*parts)


_SCALAR = {"type": ["null", "boolean", "number", "string"]}
_ARGUMENT = {"$ref": "#/components/schemas/Argument"}
_ARGUMENTS = {"type": "array", "items": _ARGUMENT}
_PAIR = {"type": "array", "prefixItems": [_SCALAR, _ARGUMENT], "items": False, "minItems": 2}
_BASE64 = "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"


def _pattern(pattern: str) -> dict[str, Any]:
    return {"type": "string", "pattern": pattern}


def _whole(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": -most, "maximum": most}


_TAGS: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any], dict[str, Any]]] = {
    "$datetime": (datetime, datetime.isoformat, datetime.fromisoformat, {"$ref": "#/components/schemas/Moment"}),
    "$date": (date, date.isoformat, date.fromisoformat, {"$ref": "#/components/schemas/Day"}),
    "$time": (
        time,
        time.isoformat,
        time.fromisoformat,
        _pattern(r"^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?([+-]([01][0-9]|2[0-3]):[0-5][0-9])?$"),
    ),
    "$timedelta": (
        timedelta,
        lambda delta: [delta.days, delta.seconds, delta.microseconds],
        _timedelta,
        {
            "description": "Days, seconds and microseconds.",
            "type": "array",
            "prefixItems": [_whole(10**8), _whole(10**6), _whole(10**6)],
            "items": False,
            "minItems": 3,
        },
    ),
    "$decimal": (Decimal, str, _decimal, _pattern(r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?$")),
    "$uuid": (UUID, str, UUID, _pattern("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")),
    "$bytes": (
        bytes,
        lambda data: base64.b64encode(data).decode(),
        lambda text: base64.b64decode(text, validate=True),
        _pattern(_BASE64) | {"contentEncoding": "base64"},
    ),
    "$float": (float, str, _float, {"enum": ["nan", "inf", "-inf"]}),
}
"""Type, writer, reader and JSON Schema of each tag."""

BY_NAME: dict[str, Any] = {
    "type": "object",
    # A key that begins with a dollar is a tag.
    "propertyNames": {"pattern": "^($|[^$])"},
    "additionalProperties": _ARGUMENT,
}
"""The JSON Schema of arguments by name."""


def _tagged(tag: str, content: dict[str, Any], **more: Any) -> dict[str, Any]:
    properties = {tag: content, **more}
    return {"type": "object", "properties": properties, "required": [tag], "additionalProperties": False}


ARGUMENT: dict[str, Any] = {
    "description": "Any JSON. An object with a key that begins with a dollar stands for what JSON lacks.",
    "anyOf": [
        _SCALAR,
        _ARGUMENTS,
        BY_NAME,
        _tagged("$tuple", _ARGUMENTS),
        _tagged("$dict", {"type": "array", "items": _PAIR}),
        _tagged("$datetime", _TAGS["$datetime"][3], zone={"$ref": "#/components/schemas/TimeZoneName"}),
        *(_tagged(tag, schema) for tag, (*_, schema) in _TAGS.items() if tag != "$datetime"),
    ],
    "examples": [5, ["a", None], {"$datetime": "2026-03-02T12:00:00+00:00"}, {"$tuple": [1, 2]}],
}
"""The JSON Schema of one argument."""
