"""Forms: what stands in the fields becomes arguments, triggers and options, and comes back the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from quart_sched.model.arguments import encode
from quart_sched.model.policies import Policy, Retry
from quart_sched.model.trigger_parser import parse_trigger
from quart_sched.web.dashboard import fields, forms

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def plain(a: Any, b: Any = 5, *rest: Any, key: str = "x", **more: Any) -> None: ...


def typed(text: str, number: int, flag: bool, maybe: str | None = None, ratio: float = 0.5) -> None: ...


def placed(first: Any, second: Any = 2, /, third: Any = 3) -> None: ...


def nothing() -> None: ...


def given(values: Mapping[str, str]) -> Any:
    return lambda key: values.get(key, "")


@pytest.mark.parametrize(
    ("func", "args", "kwargs"),
    [
        (plain, (1,), {}),
        (plain, (1, 2, 3, "four"), {"key": "y", "other": [1, {"a": None}]}),
        (plain, (), {"a": "text", "b": 1.5}),
        (plain, (b"bytes", NOW), {"key": ""}),
        (typed, ("", 3, True), {"maybe": "4", "ratio": 2}),
        (typed, (), {"text": '"quoted"', "number": -1, "flag": False}),
        (placed, (1, 2), {"third": None}),
        (placed, (1,), {}),
        (nothing, (), {}),
    ],
)
def test_arguments_come_back_as_they_were(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    shown = fields.filled(func, args, kwargs)
    got_args, got_kwargs, problems = fields.read(given(shown), func, positional=len(args))
    assert problems == {}
    assert encode([list(got_args), got_kwargs]) == encode([list(args), kwargs])


def test_arguments_that_do_not_fit_are_shown_as_they_are() -> None:
    shown = fields.filled(nothing, (1,), {"x": 2})
    assert shown == {"args": "[1]", "kwargs": '{"x": 2}'}
    assert fields.read(given(shown), None) == ((1,), {"x": 2}, {})


@pytest.mark.parametrize("value", [None, 5, "two\nlines", "a\rb", "nul\0", " ", "\u3000", '""'])
def test_what_a_field_of_text_would_not_give_back_is_shown_as_json(value: Any) -> None:
    shown = fields.filled(typed, (value, 1, True), {})
    assert shown.keys() == {"args", "kwargs"}
    assert fields.read(given(shown), None) == ((value, 1, True), {}, {})


@pytest.mark.parametrize(
    ("func", "values", "field", "problem"),
    [
        (plain, {}, "a.a", "is missing"),
        (plain, {"a.a": "text"}, "a.a", 'expected JSON, such as 42, "text"'),
        (plain, {"a.a": "1", "a.rest": "1"}, "a.rest", "expected a JSON list"),
        (plain, {"a.a": "1", "a.more": "[1]"}, "a.more", "expected a JSON object"),
        (plain, {"a.a": '{"$datetime": "x"}'}, "a.a", "which is none"),
        (plain, {"a.a": "[" * 3000}, "a.a", "expected JSON"),
        (typed, {"a.number": "1.5", "a.flag": "true"}, "a.number", "expected a whole number"),
        (typed, {"a.number": "true", "a.flag": "true"}, "a.number", "expected a whole number"),
        (typed, {"a.number": "1", "a.flag": "1"}, "a.flag", "expected true or false"),
        (typed, {"a.number": "1"}, "a.flag", "is missing"),
        (typed, {"a.number": "1", "a.flag": "true", "a.ratio": '"x"'}, "a.ratio", "expected a number"),
    ],
)
def test_what_is_wrong_is_told_by_field(func: Any, values: dict[str, str], field: str, problem: str) -> None:
    _, _, problems = fields.read(given(values), func)
    assert list(problems) == [field]
    assert problem in problems[field]


def test_what_is_left_empty_is_left_to_the_function() -> None:
    assert fields.read(given({"a.a": "1"}), plain) == ((), {"a": 1}, {})
    assert fields.read(given({"a.text": "", "a.number": "0", "a.flag": "false"}), typed) == (
        (), {"text": "", "number": 0, "flag": False}, {},
    )  # fmt: skip
    assert fields.read(given({"a.first": "1", "a.third": "9"}), placed) == ((1,), {"third": 9}, {})


TRIGGERS: list[dict[str, Any]] = [
    {"trigger": "interval", "weeks": 1, "hours": 2, "seconds": 0.25, "start_date": "2026-01-31T12:00:00+01:00"},
    {"trigger": "cron", "hour": "*/2", "day_of_week": "mon-fri", "timezone": "Europe/Berlin", "jitter": 30},
    {"trigger": "crontab", "expression": "*/5 9-17 * * mon-fri", "end_date": "2027-01-01T00:00:00"},
    {"trigger": "calendarinterval", "months": 1, "hour": 6, "start_date": "2026-01-31"},
    {"trigger": "date", "run_date": "2026-05-01T08:00:00+00:00"},
    {"trigger": "or", "triggers": [{"trigger": "cron", "hour": "3"}, {"trigger": "interval", "minutes": 5}]},
]


@pytest.mark.parametrize("wire", TRIGGERS, ids=lambda wire: wire["trigger"])
def test_a_trigger_comes_back_equal(wire: dict[str, Any]) -> None:
    built = parse_trigger(wire).build(UTC, NOW)
    spec, problems = forms.read_trigger(given(forms.show_trigger(built)))
    assert problems == {}
    assert spec is not None
    assert spec.to_dict() == parse_trigger(forms.spec_of(built).to_dict()).to_dict()


@pytest.mark.parametrize(
    ("values", "field", "problem"),
    [
        ({}, "kind", "expected a kind of trigger"),
        ({"kind": "odd"}, "kind", "expected a kind of trigger"),
        ({"kind": "interval"}, "t.interval.seconds", "interval of nothing"),
        ({"kind": "interval", "t.interval.seconds": "soon"}, "t.interval.seconds", "expected a number"),
        ({"kind": "cron", "t.cron.hour": "25"}, "t.cron.hour", "no cron expression"),
        ({"kind": "crontab"}, "t.crontab.expression", "is missing"),
        ({"kind": "crontab", "t.crontab.expression": "* * *"}, "t.crontab.expression", ""),
        ({"kind": "calendarinterval", "t.calendarinterval.hour": "3"}, "t.calendarinterval.days", "at least one"),
        ({"kind": "date", "t.date.run_date": "never"}, "t.date.run_date", "ISO 8601"),
        ({"kind": "date", "t.date.timezone": "Mars/Base"}, "t.date.timezone", "expected a time zone"),
        ({"kind": "json", "t.json": "{"}, "t.json", "is no JSON"),
        ({"kind": "json", "t.json": "[]"}, "t.json", "is no JSON object"),
        ({"kind": "json", "t.json": '{"trigger": "and"}'}, "t.json", "is missing"),
    ],
)
def test_what_is_wrong_with_a_trigger_is_told_by_field(values: dict[str, str], field: str, problem: str) -> None:
    spec, problems = forms.read_trigger(given(values))
    assert spec is None
    assert list(problems) == [field]
    assert problem in problems[field]


def test_a_trigger_may_be_kept() -> None:
    assert forms.read_trigger(given({"kind": "keep"})) == (None, {})


OPTIONS = {"o.max_instances": "2", "o.misfire_grace_time": "", "o.coalesce": "true", "o.max_queue": "3"}


def test_options_are_read() -> None:
    more = {"name": " Report ", "tags": "a, b,", "o.timeout": "1.5", "o.overlap": "queue", "o.retry.attempts": "3"}
    values, problems = forms.read_options(given(OPTIONS | more), policies=True)
    assert problems == {}
    assert (values["name"], values["tags"], values["timeout"]) == ("Report", ("a", "b"), 1.5)
    assert (values["max_instances"], values["misfire_grace_time"], values["coalesce"]) == (2, None, True)
    assert (values["overlap"], values["max_queue"], values["retry"].attempts) == ("queue", 3, 3)
    plain, _ = forms.read_options(given(OPTIONS | more), policies=False)
    assert plain.keys() == {"name", "max_instances", "misfire_grace_time", "coalesce"}


@pytest.mark.parametrize("number", [1209600.0, 0.1234567, 1 / 3, 1e-7, 0.00012345678901234567, 0.0, 31622400.0])
def test_a_number_comes_back_as_it_was(number: float) -> None:
    retry = Retry(3, delay=number, jitter=number)
    job: Any = SimpleNamespace(name="", policy=Policy(retry=retry, timeout=number or None))
    values, problems = forms.read_options(given(OPTIONS | forms.show_options(job)), policies=True)
    assert problems == {}
    assert (values["retry"], values["timeout"]) == (retry, number or None)


def test_what_comes_back_as_it_was_shown_is_left_out() -> None:
    policy = Policy(retry=Retry(3), description="two\r\nlines", tags=("a, b", "c"))
    job: Any = SimpleNamespace(name="a\nb", policy=policy)
    shown = forms.show_options(job)
    sent = shown | {"name": "ab", "description": "two\nlines"}  # as browsers do
    assert forms.read_options(given(sent), policies=True, shown=shown) == ({}, {})
    sent |= {"o.max_instances": "2", "o.retry.delay": "5", "description": "two\n\nlines"}
    values, _ = forms.read_options(given(sent), policies=True, shown=shown)
    assert values == {"max_instances": 2, "retry": Retry(3, delay=5), "description": "two\n\nlines"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("o.max_instances", "0"),
        ("o.misfire_grace_time", "1.5"),
        ("o.timeout", "never"),
        ("o.overlap", "explode"),
        ("o.max_queue", "-1"),
        ("o.on_crash", "cry"),
        ("o.retry.attempts", "1"),
        ("o.retry.delay", "-1"),
        ("tags", "x" * 65),
        ("description", "x" * 2001),
    ],
)
def test_what_is_wrong_with_an_option_is_told_by_field(field: str, value: str) -> None:
    more = {"o.retry.attempts": "3"} if field == "o.retry.delay" else {}
    _, problems = forms.read_options(given(OPTIONS | more | {field: value}), policies=True)
    assert list(problems) == [field]
