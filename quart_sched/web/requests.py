"""What comes in: parsed by the fields of its operation, before a view sees it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from quart import request

from ..errors import BadRequest, InvalidDefinition
from ..model.fields import Field, parse_fields
from ..model.texts import parse_json
from .operations import Operation


async def arguments(operation: Operation) -> dict[str, Any]:
    """Return what the request under way gives to the view, by name. Raises InvalidDefinition or BadRequest."""
    query = operation.query
    if operation.lenient and query is not None and not request.args.keys() & query.keys():
        query = None
    given = parameters(query, operation.headers)
    if operation.body is not None:
        given["body"] = operation.body.parse(await _object(optional=not operation.body.required))
    return given


def parameters(query: Mapping[str, Field] | None, headers: Mapping[str, Field] | None = None) -> dict[str, Any]:
    """Return what the query and the headers give, by name; no query is looked at where `query` is None.

    Raises InvalidDefinition.
    """
    given = {} if query is None else parse_fields(query, _query())
    for name, field in (headers or {}).items():
        if (value := request.headers.get(name)) is not None:
            given[name.lower().replace("-", "_")] = field(name, value)
    return given


def _query() -> dict[str, str]:
    given: dict[str, str] = {}
    for name, value in request.args.items(multi=True):
        if name in given:
            raise InvalidDefinition(name, f"is {given[name]!r} and {value!r}; expected one value")
        given[name] = value
    return given


async def _object(*, optional: bool) -> dict[str, Any]:
    """Return the body, a JSON object whatever its content type says. Raises BadRequest."""
    raw = cast(bytes, await request.get_data(as_text=False))
    if optional and not raw.strip():
        return {}
    try:
        body = parse_json(raw.decode(), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"The body is no JSON: {error}") from None
    if optional and body is None:
        return {}
    if not isinstance(body, dict):
        raise BadRequest(f"The body is a JSON {type(body).__name__}; expected an object")
    return body


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r} stands there twice")
    return values
