"""Fields: the JSON Schema of each says what its parser does."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model import arguments, backfill, forecast, idempotency, jobs, policies, runs, trigger_fields
from quart_sched.model.fields import Field, choice, flag, listing, nullable, number, or_null, record, text, whole
from quart_sched.model.job_schema import JOB_CHANGES, NEW_JOB
from quart_sched.model.jobs import JobChanges, JobDefinition, from_wire
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.model.triggers import TRIGGER_FIELDS
from tests.model.schemas import is_valid, values
from tests.names import shown

# The functions that a name may mean are checked elsewhere, and a cursor is only what a page has given.
_EACH: dict[str, Field] = {
    **{f"job {key}": field for key, field in jobs.FIELDS.items() if key not in ("func", "args", "kwargs")},
    **{f"retry {key}": field for key, field in policies.RETRY.items()},
    **{f"{kind} {key}": field for kind, own in trigger_fields.FIELDS.items() for key, field in own.items()},
    **{f"runs {key}": field for key, field in runs.QUERY.items() if key != "cursor"},
    **{f"backfill {key}": field for key, field in backfill.FIELDS.items()},
    "next count": forecast.COUNT,
    "forecast hours": forecast.HOURS,
    "forecast limit": forecast.LIMIT,
    "idempotency key": idempotency.KEY,
}
ALL = {json.dumps(field.about("").schema, sort_keys=True): name for name, field in _EACH.items()}
ALL = {name: _EACH[name] for name in ALL.values()}
"""One of each kind."""
NOT_TO_BE_SAID = re.compile(
    # JSON Schema compares no values, and adds none.
    r"no cron expression: (Error validating|The minimum value in a range must not be higher)"
    r"|has .* as its (second|minute|hour|day-of-month|month|day-of-week); expected"
    r"|never fires"
    r"|makes an interval of .*; expected one between"
    r"|is .*, before start_date"
    r"|is .*, out of range in "
    # Each level of a recursive schema is like the one above.
    r"|is nested more than"
)
LOOSER = {"run_date", "start_date", "end_date", "next_run_time", "since", "until", "start", "end", "timezone"}
"""Keys of ISO 8601 and of time zones, in which more is taken than the schema says: the basic format, blanks around."""


def refusal(parse: Any, *given: Any) -> str | None:
    """The message with which the values are refused; None where they are taken, or for what no schema can say."""
    try:
        parse(*given)
    except InvalidDefinition as error:
        return None if NOT_TO_BE_SAID.search(str(error)) else str(error)
    return None


@pytest.mark.parametrize("name", ALL)
@given(st.data())
@settings(max_examples=20, derandomize=True)
def test_what_the_schema_admits_the_parser_takes(name: str, data: st.DataObject) -> None:
    field = ALL[name]
    value = data.draw(values(field.schema))
    assert is_valid(field.schema, value)
    assert refusal(field, name.split()[1], value) is None


odd = st.one_of(
    st.none(), st.booleans(), st.text(max_size=8), st.integers(), st.floats(allow_nan=False),
    st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
    # Bounds lie near round numbers.
    st.builds(lambda base, power, more: base * 10**power + more, st.integers(-4, 4), st.integers(0, 10),
              st.sampled_from([-1, 0, 1, 0.5])),
)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
@given(odd)
@settings(max_examples=100, derandomize=True)
def test_what_the_schema_refuses_the_parser_refuses(name: str, value: Any) -> None:
    field, key = ALL[name], name.split()[1]
    if isinstance(value, str) and (key in LOOSER or value.isdigit()):
        return  # a query has its numbers as text
    taken = True
    try:
        field(key, value)
    except InvalidDefinition:
        taken = False
    if taken:
        assert is_valid(field.schema, value), value


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        (whole(1, 9), [1, 9, 1.0], [0, 10, 1.5, True, "1", None, math.inf]),
        (whole(1, 9, text=True), [1, "9", "09"], ["", "x", "10", "1.0", "+1", "٣"]),
        (number(0, 9), [0, 9, 0.5], [-0.1, 9.1, True, "1", None, math.nan]),
        (number(0, 9, above=True), [5e-324, 9], [0, 0.0]),
        (number(0, 9, text=True), ["0", "1.5", "1e0", "5e-324"], ["-1", "nan", "inf", "1_0", " 1", "", "1e"]),
        (flag(), [True, False], [0, 1, "true", None]),
        (text(), ["a"], ["", None, 1]),
        (text(0, 2), ["", "ab"], ["abc"]),
        (choice("a", "b"), ["a"], ["c", "", None, ["a"]]),
        (nullable(whole(1, 2)), [None, 1], [0, "1"]),
    ],
    ids=shown,
)  # fmt: skip
def test_bounds(field: Field, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        field("key", value)
    for value in bad:
        with pytest.raises(InvalidDefinition, match=r"^key: is .*; expected "):
            field("key", value)


def test_a_message_names_the_key_the_value_and_what_was_expected() -> None:
    with pytest.raises(InvalidDefinition, match=r"^a: is 'x'; expected a whole number from 1 to 3$"):
        whole(1, 3)("a", "x")
    with pytest.raises(InvalidDefinition, match=r"^a: is 'x'; expected 'b', 'c' or 'd'$"):
        choice("b", "c", "d")("a", "x")
    with pytest.raises(InvalidDefinition, match=r"^a: is 0; expected seconds, or null$"):
        nullable(whole(1, 3), expected="seconds, or null")("a", 0)


def test_schemas_of_several_values() -> None:
    assert or_null({"enum": ["a"], "type": "string"}) == {"enum": ["a", None], "type": ["string", "null"]}
    assert or_null({"$ref": "x"}) == {"anyOf": [{"$ref": "x"}, {"type": "null"}]}
    assert record({"a": flag(), "b": listing({})}, optional=["b"]) == {
        "type": "object",
        "properties": {"a": {"type": "boolean"}, "b": {"type": "array", "items": {}}},
        "required": ["a"],
        "additionalProperties": False,
    }


# Arguments and triggers


@given(values(arguments.ARGUMENT))
@settings(max_examples=150, derandomize=True)
def test_arguments_that_the_schema_admits_are_decoded(value: Any) -> None:
    assert is_valid(arguments.ARGUMENT, value)
    assert refusal(arguments.decode, value) is None


def test_each_tag_of_arguments_is_in_the_schema() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    for value in (moment, moment.date(), moment.time(), timedelta(days=-1, seconds=5), b"x", (1,), {1: 2}, math.inf):
        wire = arguments.encode(value)
        assert is_valid(arguments.ARGUMENT, wire)
        assert not is_valid(arguments.ARGUMENT, wire | {"other": 1})
    assert not is_valid(arguments.ARGUMENT, {"$nonsense": 1})
    assert not is_valid(arguments.ARGUMENT, {"$repr": "<object>"})


@pytest.mark.parametrize(
    "wire", [{"$decimal": False}, {"$decimal": 1}, {"$timedelta": [1]}, {"$timedelta": [True, 0, 0]}]
)
def test_what_a_tag_cannot_hold_both_refuse(wire: Any) -> None:
    assert not is_valid(arguments.ARGUMENT, wire)
    with pytest.raises(InvalidDefinition):
        arguments.decode(wire)


@pytest.mark.parametrize("kind", TRIGGER_FIELDS)
@given(st.data())
@settings(max_examples=30, derandomize=True)
def test_triggers_that_the_schema_admits_are_parsed(kind: str, data: st.DataObject) -> None:
    schema = trigger_fields.trigger_schema(kind)
    value = data.draw(values(schema))
    assert is_valid(schema, value)
    assert refusal(parse_trigger, value) is None


# Jobs


def job(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize("form", range(len(NEW_JOB["oneOf"])), ids=lambda n: NEW_JOB["oneOf"][n]["title"])
@given(st.data())
@settings(max_examples=10, derandomize=True)
def test_jobs_that_the_schema_admits_are_parsed(form: int, data: st.DataObject) -> None:
    schema = NEW_JOB["oneOf"][form]
    schema = schema | {"properties": {k: v for k, v in schema["properties"].items() if k not in jobs.READ_ONLY}}
    value = json.loads(json.dumps(data.draw(values(schema))))
    # A plain function cannot be replaced, and what is called is not JSON's to know.
    value |= {"func": f"{__name__}:job"} | ({"overlap": "skip"} if "overlap" in value else {})
    assert refusal(lambda: JobDefinition.parse(from_wire(value) | {"func": job})) is None


@pytest.mark.parametrize("form", range(len(JOB_CHANGES["oneOf"])), ids=lambda n: JOB_CHANGES["oneOf"][n]["title"])
@given(st.data())
@settings(max_examples=10, derandomize=True)
def test_changes_that_the_schema_admits_are_parsed(form: int, data: st.DataObject) -> None:
    schema = JOB_CHANGES["oneOf"][form]
    fixed = {*jobs.READ_ONLY, "id", "jobstore"}
    schema = schema | {"properties": {k: v for k, v in schema["properties"].items() if k not in fixed}}
    value = data.draw(values(schema))
    shown = {"id": "job", "trigger": "interval", "seconds": 1}
    assert refusal(lambda: JobChanges.from_wire(value, shown, lambda ref: job)) is None


@pytest.mark.parametrize(
    "body",
    [
        {"id": "a"},
        {"func": "app:tick"},
        {"id": "a", "func": "app:tick", "trigger": "weekly"},
        {"id": "a", "func": "app:tick", "trigger": "interval"},
        {"id": "a", "func": "app:tick", "trigger": "interval", "seconds": 0},
        {"id": "a", "func": "app:tick", "trigger": "interval", "second": 1},
        {"id": "a", "func": "app:tick", "trigger": "crontab"},
        {"id": "a", "func": "app:tick", "trigger": "calendarinterval", "hour": 3},
        {"id": "a", "func": "app:tick", "trigger": "and", "triggers": []},
        {"id": "a", "func": "app:tick", "seconds": 5},
        {"id": "a", "func": "app:tick", "retry": {"attempts": 1}},
        {"id": "a", "func": "app:tick", "tags": [" "]},
        {"id": "a", "func": "app:tick", "max_instance": 5},
    ],
    ids=shown,
)
def test_what_no_form_of_a_job_admits_is_refused(body: dict[str, Any]) -> None:
    assert not is_valid(NEW_JOB, body)
    with pytest.raises(InvalidDefinition):
        JobDefinition.parse(from_wire(body) | ({"func": job} if "func" in body else {}))
