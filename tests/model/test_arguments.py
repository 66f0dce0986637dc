"""Arguments on the wire: what JSON lacks is tagged, and comes back as it was."""

from __future__ import annotations

import json
import time as time_module
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.arguments import MAX_DEPTH, bounded_repr, decode, encode, show

zones = st.none() | st.sampled_from([UTC, ZoneInfo("Europe/Berlin"), timezone(timedelta(hours=-3))])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(timezones=zones, allow_imaginary=False)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.uuids()
)
keys = st.text() | st.integers() | st.just("$tuple") | st.uuids()
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_what_is_encoded_comes_back_equal_and_of_the_same_type(value: Any) -> None:
    back = decode(json.loads(json.dumps(encode(value))))
    # Outside of a repeated hour, which has its own test, a fold says nothing.
    assert repr(back).replace(", fold=1", "") == repr(value).replace(", fold=1", "")


@pytest.mark.parametrize("value", [None, True, 5, 1.5, "text", [1, "a"], {"a": [None]}])
def test_what_json_has_stays_as_it_is(value: Any) -> None:
    assert encode(value) == value


def test_a_moment_keeps_its_zone_over_a_clock_change() -> None:
    for fold in (0, 1):
        moment = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
        back = decode(encode(moment))
        assert (back.isoformat(), back.tzinfo, back.fold) == (moment.isoformat(), moment.tzinfo, fold)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-03-02T12:00:00", "2026-03-02T12:00:00+01:00"),
        ("2026-07-02T12:00:00", "2026-07-02T12:00:00+02:00"),
        ("2026-03-02T12:00:00Z", "2026-03-02T13:00:00+01:00"),
        ("2026-03-02", "2026-03-02T00:00:00+01:00"),
    ],
)
@pytest.mark.parametrize("here", ["UTC", "Asia/Tokyo"])
def test_a_moment_without_an_offset_is_read_in_its_zone(monkeypatch, here, text, moment) -> None:
    monkeypatch.setenv("TZ", here)
    time_module.tzset()
    try:
        read = decode({"$datetime": text, "zone": "Europe/Berlin"})
    finally:
        monkeypatch.undo()
        time_module.tzset()
    assert (read.isoformat(), read.tzinfo) == (moment, ZoneInfo("Europe/Berlin"))


def test_numbers_that_json_lacks_are_tagged() -> None:
    assert encode(float("inf")) == {"$float": "inf"}
    assert decode({"$float": "-inf"}) == float("-inf")
    assert str(decode(encode(float("nan")))) == "nan"


class Level(IntEnum):
    HIGH = 3


class Text(str):
    pass


@pytest.mark.parametrize("value", [object(), {1, 2}, Level.HIGH, Text("x"), print, 1j])
def test_what_cannot_be_held_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"^args\[1\]\.k: is .*expected None, bool, int"):
        encode([0, {"k": value}], where="args")


def test_what_cannot_be_held_can_be_shown_but_not_sent_back() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    shown = show([Level.HIGH, Silent(), "x" * 1000, Text("y" * 1000)])
    assert shown[0] == {"$repr": "<Level.HIGH: 3>"}
    assert shown[1] == {"$repr": "<Silent whose repr raised ZeroDivisionError>"}
    assert shown[2] == "x" * 1000
    assert len(shown[3]["$repr"]) == 200
    with pytest.raises(InvalidDefinition, match=r"^args\[0\]: .*cannot be sent back"):
        decode(shown[:1], where="args")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"$nonsense": 1}, "expected one of $tuple, $dict, $datetime"),
        ({"$tuple": 5}, "expected a list"),
        ({"$dict": [[1]]}, "pairs"),
        ({"$dict": [[[], 1]]}, "pairs"),
        ({"$dict": 5}, "expected a list"),
        ({"$tuple": [], "more": 1}, "beside other keys"),
        ({"$date": "2026-01-01", "zone": "UTC"}, "beside other keys"),
        ({"$datetime": "soon"}, "which is none"),
        ({"$datetime": 5}, "which is none"),
        ({"$datetime": "2026-01-01T00:00:00+00:00", "zone": "Mars/Olympus"}, "which is none"),
        ({"$datetime": "2026-01-01T00:00:00+00:00", "zone": "../x"}, "which is none"),
        ({"$datetime": "2026-01-01T00:00:00+00:00", "zone": 5}, "which is none"),
        ({"$date": "2026-02-30"}, "which is none"),
        ({"$time": "25:00"}, "which is none"),
        ({"$timedelta": "1"}, "which is none"),
        ({"$timedelta": [10**12, 0, 0]}, "which is none"),
        ({"$decimal": "much"}, "which is none"),
        ({"$uuid": "x"}, "which is none"),
        ({"$uuid": 5}, "which is none"),
        ({"$bytes": "%%"}, "which is none"),
        ({"$bytes": 5}, "which is none"),
        ({"$float": "1.5"}, "which is none"),
    ],
)
def test_a_wrong_tag_says_where_and_what(value: Any, text: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        decode([value], where="args")
    assert str(caught.value).startswith("args[0]: ")
    assert text in str(caught.value)


def test_the_types_of_the_contract_are_all_there() -> None:
    held = (None, True, 1, 1.5, "s", [1], (1,), {"k": 1}, datetime(2026, 1, 1), date(2026, 1, 1), timedelta(1))
    more = (Decimal("1.10"), UUID(int=5), b"b", time(12))
    for value in (*held, *more):
        back = decode(encode(value))
        assert (back, type(back)) == (value, type(value))


def test_depth_is_bounded_and_cycles_do_no_harm() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    with pytest.raises(InvalidDefinition):
        encode(cycle)
    assert "$repr" in json.dumps(show(cycle))
    deep: Any = 1
    for _ in range(3 * MAX_DEPTH):
        deep = [deep]
    with pytest.raises(InvalidDefinition, match="nested more than"):
        decode(deep)


quoted = st.text("a'\"")
plain = st.none() | st.integers() | st.text("ab\n\u4f60") | quoted | quoted.map(str.encode) | st.binary() | st.dates()
keys = st.text("ab") | st.integers()


@given(
    st.recursive(
        plain | st.frozensets(keys) | st.sets(keys),
        lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    ),
    st.integers(2, 200),
)
def test_a_bounded_repr_is_the_beginning_of_the_whole(value: Any, limit: int) -> None:
    whole = repr(value)
    assert bounded_repr(value, limit) == (whole if len(whole) <= limit else whole[: limit - 1] + "…")


def test_a_bounded_repr_looks_at_no_more_than_it_shows() -> None:
    looked_at = 0

    class Row:
        def __repr__(self) -> str:
            nonlocal looked_at
            looked_at += 1
            return "<Row>"

    rows = [Row() for _ in range(10_000)]
    for value in (rows, {"rows": rows, "more": rows}, (rows, set(rows)), dict.fromkeys(rows, rows)):
        looked_at = 0
        assert len(bounded_repr(value, 100)) == 100
        assert looked_at < 30


def test_a_bounded_repr_of_what_contains_itself_ends() -> None:
    cycle: list[Any] = [1]
    cycle.append({"again": cycle})
    assert bounded_repr(cycle) == repr(cycle)
    deep: Any = 1
    for _ in range(3 * MAX_DEPTH):
        deep = [deep]
    assert bounded_repr(deep, 1000) == repr(deep)
