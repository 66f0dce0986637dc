"""Values of a JSON Schema, for as much of it as our fields use."""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from quart_sched.model.fields import zone_names
from quart_sched.model.job_schema import SCHEMAS

COMPONENTS = {"schemas": {**SCHEMAS, "TimeZoneName": zone_names()}}

_SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "string": st.text(st.characters(codec="utf-8"), max_size=20),
}


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    """Whether the value is one of the schema, which may refer to the document's components."""
    return Draft202012Validator(schema | {"components": COMPONENTS}).is_valid(value)


def values(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of the schema; lists and objects that go on for ever end after a while."""
    return _values(json.dumps(schema), depth)


@cache
def _values(text: str, depth: int) -> st.SearchStrategy[Any]:
    schema = json.loads(text)
    if "$ref" in schema:
        return values(COMPONENTS["schemas"][schema["$ref"].rpartition("/")[2]], depth)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    forms = schema.get("oneOf") or ([] if "properties" in schema else schema.get("anyOf"))
    if forms:
        shallow = [form for form in forms if depth < 3 or not _nests(form)]
        return st.one_of([values(form, depth) for form in shallow])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return st.one_of([_of_type(kind, schema, depth) for kind in kinds])


def _nests(schema: Any) -> bool:
    return (schema.get("type") in ("array", "object") and "Argument" in str(schema)) or "triggers" in str(schema)


def _of_type(kind: str, schema: Any, depth: int) -> st.SearchStrategy[Any]:
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum")
        above = "exclusiveMinimum" in schema
        whole = st.integers(low if low is None else math.ceil(low) + above, high if high is None else int(high))
        floats = st.floats(low, high, exclude_min=above, allow_nan=False, allow_infinity=False)
        return whole if kind == "integer" else whole | floats
    if kind == "string":
        low, high = schema.get("minLength", 0), schema.get("maxLength")
        if "pattern" not in schema:
            return st.text(st.characters(codec="utf-8"), min_size=low, max_size=high and min(high, 80))
        anchored = schema["pattern"].startswith("^") and schema["pattern"].endswith("$")
        texts = st.from_regex(schema["pattern"], fullmatch=anchored, alphabet=st.characters(codec="ascii"))
        return texts.filter(lambda text: high is None or len(text) <= high)
    if kind == "array":
        if "prefixItems" in schema:
            return st.tuples(*(values(item, depth + 1) for item in schema["prefixItems"])).map(list)
        most = min(schema.get("maxItems", 3), 3)
        return st.lists(values(schema["items"], depth + 1), min_size=schema.get("minItems", 0), max_size=most)
    if kind == "object":
        return _objects(schema, depth)
    return _SCALARS[kind]


def _objects(schema: Any, depth: int) -> st.SearchStrategy[Any]:
    if "properties" not in schema:
        keys = values({"type": "string", **schema["propertyNames"]}).map(lambda text: text[:10])
        keys = keys.filter(lambda text: is_valid(schema["propertyNames"], text))
        return st.dictionaries(keys, values(schema["additionalProperties"], depth + 1), max_size=3)
    required, forms = schema.get("required", []), []
    for form in schema.get("anyOf", [{}]):
        special = form.get("properties", {})
        own = {key: values(each | special.get(key, {}), depth + 1) for key, each in schema["properties"].items()}
        needed = {key: own.pop(key) for key in (*required, *form.get("required", ()))}
        forms.append(st.fixed_dictionaries(needed, optional=own))
    return st.one_of(forms)
