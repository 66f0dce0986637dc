"""Triggers on the wire: lossless both ways, and bad input is named precisely."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.trigger_parser import MAX_DEPTH, MAX_TRIGGERS, parse_trigger
from quart_sched.model.triggers import BoundedAndTrigger, Custom, TriggerSpec, spec_of

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")

zones = st.sampled_from(
    [
        UTC,
        BERLIN,
        ZoneInfo("Asia/Shanghai"),
        ZoneInfo("America/St_Johns"),
        ZoneInfo("Australia/Lord_Howe"),
        timezone(timedelta(hours=8)),
        timezone(-timedelta(hours=3, minutes=30)),
        timezone(timedelta(hours=1, minutes=30, seconds=30)),
    ]
)
naive = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1))
aware = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=zones)
jitters = st.none() | st.integers(0, 1000) | st.floats(0, 1000)


@st.composite
def options(draw: Any, **more: Any) -> dict[str, Any]:
    """Draw trigger options, some of them left out."""
    drawn = {key: draw(st.none() | strategy) for key, strategy in more.items()}
    return {key: value for key, value in drawn.items() if value is not None}


def order(moment: date) -> float:
    return moment.timestamp() if isinstance(moment, datetime) else moment.toordinal()


@st.composite
def ordered_span(draw: Any, moments: Any) -> dict[str, Any]:
    start, end = draw(st.none() | moments), draw(st.none() | moments)
    if start is not None and end is not None and order(start) > order(end):
        start, end = end, start
    return {key: value for key, value in (("start_date", start), ("end_date", end)) if value is not None}


dates = options(run_date=naive | aware, timezone=zones).map(lambda o: {"trigger": "date", **o})
intervals = st.builds(
    lambda every, span, rest: {"trigger": "interval", **every, **span, **rest},
    options(
        weeks=st.integers(1, 9),
        days=st.integers(1, 40),
        hours=st.integers(1, 90),
        minutes=st.integers(1, 90),
        seconds=st.integers(1, 90) | st.floats(0.001, 100).map(lambda value: round(value, 6)),
    ).filter(bool),
    ordered_span(aware),
    options(timezone=zones, jitter=jitters),
)
fields = {
    "year": st.sampled_from([2030, "2026-2030", "*"]),
    "month": st.sampled_from([1, "1-6", "*/2", "jan,mar"]),
    "day": st.sampled_from([15, "last", "1st mon", "*/5"]),
    "week": st.sampled_from([10, "1-20"]),
    "day_of_week": st.sampled_from([0, "mon-fri", "sat,sun"]),
    "hour": st.sampled_from([3, "9-17", "*/6", "*"]),
    "minute": st.sampled_from([0, "*/5", "0,30"]),
    "second": st.sampled_from([0, "*/10"]),
}
crons = st.builds(
    lambda when, span, rest: {"trigger": "cron", **when, **span, **rest},
    options(**fields),
    ordered_span(aware),
    options(timezone=zones, jitter=jitters),
)
calendars = st.builds(
    lambda every, span, rest: {"trigger": "calendarinterval", **every, **span, **rest},
    options(years=st.integers(1, 3), months=st.integers(1, 20), weeks=st.integers(1, 9), days=st.integers(1, 9)).filter(
        bool
    ),
    ordered_span(st.dates(date(1990, 1, 1), date(2090, 1, 1))),
    options(
        hour=st.integers(0, 23), minute=st.integers(0, 59), second=st.integers(0, 59), timezone=zones, jitter=jitters
    ),
)
crontabs = st.builds(
    lambda expression, span, rest: {"trigger": "crontab", "expression": expression, **span, **rest},
    st.sampled_from(["*/5 9-17 * * mon-fri", "0 30 2 * * *", "@daily", "0 0 L * 5L"]),
    ordered_span(aware),
    options(timezone=zones, jitter=jitters),
)
simple = dates | intervals | crons | crontabs | calendars
combined = st.recursive(
    simple,
    lambda inner: st.builds(
        lambda kind, triggers, rest: {"trigger": kind, "triggers": triggers, **rest},
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=1, max_size=3),
        options(jitter=jitters),
    ),
    max_leaves=6,
)


def as_json(spec: TriggerSpec) -> dict[str, Any]:
    """Send it over the wire."""
    sent: dict[str, Any] = json.loads(json.dumps(spec.to_dict()))
    return sent


def state(trigger: BaseTrigger) -> Any:
    if isinstance(trigger, AndTrigger | OrTrigger):
        return (type(trigger), trigger.jitter, [state(part) for part in trigger.triggers])
    if isinstance(trigger, CronTrigger):
        return (str(trigger), trigger.start_date, trigger.end_date, trigger.timezone, trigger.jitter)
    return trigger.__getstate__()


@given(combined, zones)
def test_what_is_shown_parses_to_an_equal_trigger(data: dict[str, Any], zone: tzinfo) -> None:
    live = parse_trigger(data).build(zone, NOW)
    spec = spec_of(live)
    again = parse_trigger(as_json(spec))
    assert again == spec
    assert state(again.build(BERLIN, NOW + timedelta(days=1))) == state(live)


@given(combined, zones)
def test_a_declaration_is_recognised_in_what_it_was_built_into_before(data: dict[str, Any], zone: tzinfo) -> None:
    spec = parse_trigger(data)
    assert spec.describes(spec_of(spec.build(zone, NOW)), zone)
    assert spec.describes(spec_of(spec.build(zone, NOW - timedelta(days=30))), zone)


@given(simple)
def test_the_zone_is_always_shown(data: dict[str, Any]) -> None:
    assert "timezone" in spec_of(parse_trigger(data).build(BERLIN, NOW)).to_dict()


def test_the_keys_have_flask_apschedulers_order() -> None:
    data = {"trigger": "interval", "jitter": 3, "seconds": 5, "minutes": 1, "end_date": "2030-01-01"}
    shown = spec_of(parse_trigger(data).build(UTC, NOW)).to_dict()
    assert list(shown) == ["trigger", "start_date", "end_date", "minutes", "seconds", "timezone", "jitter"]
    shown = spec_of(parse_trigger({"trigger": "cron", "second": 5, "hour": 3}).build(UTC, NOW)).to_dict()
    assert shown == {"trigger": "cron", "hour": "3", "second": "5", "timezone": "UTC"}


def test_fractions_of_seconds_are_exact() -> None:
    shown = spec_of(parse_trigger({"trigger": "interval", "seconds": 0.1}).build(UTC, NOW)).to_dict()
    assert shown["seconds"] == 0.1
    assert parse_trigger(shown).build(UTC, NOW).interval == timedelta(milliseconds=100)


def test_both_sides_of_an_ambiguous_hour_stay_apart() -> None:
    for offset in ("+02:00", "+01:00"):
        data = {"trigger": "date", "run_date": f"2026-10-25T02:30:00{offset}", "timezone": "Europe/Berlin"}
        trigger = parse_trigger(data).build(UTC, NOW)
        assert trigger.run_date.isoformat() == f"2026-10-25T02:30:00{offset}"
        assert parse_trigger(spec_of(trigger).to_dict()).build(UTC, NOW).run_date.fold == trigger.run_date.fold


def test_a_time_that_the_clocks_skip_is_shown_as_the_one_it_means() -> None:
    lord_howe = ZoneInfo("Australia/Lord_Howe")
    skipped = datetime(2018, 10, 7, 2, 0, tzinfo=lord_howe)
    for trigger in (
        CronTrigger(hour=3, end_date=skipped, timezone=lord_howe),
        IntervalTrigger(hours=1, start_date=skipped, timezone=lord_howe),
        DateTrigger(skipped),
    ):
        spec = spec_of(trigger)
        assert "2018-10-07T02:30:00+11:00" in spec.to_dict().values()
        assert parse_trigger(as_json(spec)) == spec


def test_naive_dates_are_read_in_the_triggers_zone_or_else_in_the_schedulers() -> None:
    data = {"trigger": "date", "run_date": "2026-07-01 08:00:00"}
    assert parse_trigger(data).build(BERLIN, NOW).run_date.isoformat() == "2026-07-01T08:00:00+02:00"
    data["timezone"] = "Asia/Tokyo"
    assert parse_trigger(data).build(BERLIN, NOW).run_date.isoformat() == "2026-07-01T08:00:00+09:00"


def test_what_is_left_out_is_taken_from_the_given_present() -> None:
    interval = parse_trigger({"trigger": "interval", "minutes": 5}).build(BERLIN, NOW)
    assert interval.start_date == NOW + timedelta(minutes=5)
    assert parse_trigger({"trigger": "date"}).build(BERLIN, NOW).run_date == NOW
    calendar = parse_trigger({"trigger": "calendarinterval", "days": 1}).build(BERLIN, NOW)
    assert calendar.start_date == NOW.date()


def test_python_values_are_taken_as_well() -> None:
    data = {"trigger": "interval", "hours": 1, "start_date": date(2026, 5, 1), "timezone": BERLIN}
    assert parse_trigger(data).build(UTC, NOW).start_date.isoformat() == "2026-05-01T00:00:00+02:00"
    data = {"trigger": "calendarinterval", "days": 1, "start_date": datetime(2026, 5, 1, 9)}
    assert parse_trigger(data).build(UTC, NOW).start_date == date(2026, 5, 1)
    inner = {"trigger": "or", "triggers": [CronTrigger(hour=3, timezone=UTC), {"trigger": DateTrigger(NOW, UTC)}]}
    assert isinstance(parse_trigger(inner).build(UTC, NOW), OrTrigger)


def test_none_is_as_good_as_left_out() -> None:
    assert parse_trigger({"trigger": "cron", "hour": 3, "day": None}) == parse_trigger({"trigger": "cron", "hour": 3})


def test_the_names_of_a_cron_are_read_in_any_case_and_spacing() -> None:
    data = {"trigger": "cron", "month": "Jan-MAR", "day": "1ST  Mon , LAST", "day_of_week": " MON-Fri, 6 ", "hour": "٣"}
    shown = spec_of(parse_trigger(data).build(UTC, NOW)).to_dict()
    assert {key: shown[key] for key in ("month", "day", "day_of_week", "hour")} == {
        "month": "jan-mar", "day": "1st mon,last", "day_of_week": "mon-fri,6", "hour": "3",
    }  # fmt: skip


def test_another_schedule_is_not_described() -> None:
    stored = spec_of(parse_trigger({"trigger": "interval", "hours": 1}).build(UTC, NOW))
    for other in (
        {"trigger": "interval", "hours": 2},
        {"trigger": "interval", "hours": 1, "jitter": 5},
        {"trigger": "interval", "hours": 1, "start_date": "2020-01-01"},
        {"trigger": "cron", "hour": 1},
        {"trigger": "or", "triggers": [{"trigger": "interval", "hours": 1}]},
    ):
        assert not parse_trigger(other).describes(stored, UTC)
    assert not parse_trigger({"trigger": "interval", "hours": 1}).describes(stored, BERLIN)


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("run_date", {"trigger": "date"}),
        ("end_date", {"trigger": "interval", "hours": 1, "start_date": "2026-10-20"}),
        ("start_date", {"trigger": "cron", "minute": 30}),
        ("end_date", {"trigger": "crontab", "expression": "30 * * * *"}),
    ],
)
def test_a_schedule_with_a_date_an_hour_later_on_the_same_wall_is_another(key: str, fields: dict[str, Any]) -> None:
    first, second = (
        parse_trigger({**fields, "timezone": "Europe/Berlin", key: f"2026-10-25T02:30:00{offset}"})
        for offset in ("+02:00", "+01:00")
    )
    assert first.describes(spec_of(first.build(UTC, NOW)), UTC)
    assert second.describes(spec_of(second.build(UTC, NOW)), UTC)
    assert not first.describes(spec_of(second.build(UTC, NOW)), UTC)
    assert not second.describes(spec_of(first.build(UTC, NOW)), UTC)


class EveryLeapSecond(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: Any) -> None: ...

    def __str__(self) -> str:
        return "leap seconds"


class Subclass(IntervalTrigger):
    pass


def test_a_users_own_trigger_is_shown_but_cannot_be_parsed() -> None:
    live = EveryLeapSecond()
    spec = spec_of(live)
    assert isinstance(spec, Custom)
    assert spec.to_dict() == {"trigger": "leap seconds"}
    assert spec.build(UTC, NOW) is live
    assert spec.describes(spec_of(live), UTC)
    assert spec.describes(spec_of(EveryLeapSecond()), UTC)
    assert not spec.describes(spec_of(DateTrigger(NOW)), UTC)
    with pytest.raises(InvalidDefinition, match="trigger: is 'leap seconds'; expected one of date, interval, cron"):
        parse_trigger(spec.to_dict())


def test_a_subclass_of_a_known_trigger_counts_as_the_users_own() -> None:
    assert isinstance(spec_of(Subclass(seconds=5, start_date=NOW)), Custom)


def test_an_and_without_a_common_fire_gives_up_instead_of_searching_for_ever() -> None:
    start = "2026-01-01T00:00:00"
    triggers = [{"trigger": "interval", "seconds": 10, "start_date": f"{start}{part}"} for part in ("", ".500")]
    trigger = parse_trigger({"trigger": "and", "triggers": triggers}).build(UTC, NOW)
    with pytest.raises(ValueError, match="no fire in common"):
        trigger.get_next_fire_time(None, NOW)


def test_an_and_fires_where_its_triggers_meet_and_ends_with_the_first() -> None:
    triggers = [{"trigger": "cron", "hour": "*/2"}, {"trigger": "cron", "hour": "*/3", "end_date": "2026-03-03"}]
    trigger = parse_trigger({"trigger": "and", "triggers": triggers}).build(UTC, NOW)
    assert isinstance(trigger, BoundedAndTrigger)
    assert trigger.get_next_fire_time(None, NOW + timedelta(seconds=1)).hour == 18
    assert trigger.get_next_fire_time(None, NOW + timedelta(days=2)) is None


BAD = [
    ({}, "trigger", "expected one of date, interval, cron, crontab, calendarinterval, and, or"),
    ({"trigger": "weekly"}, "trigger", "'weekly'"),
    ({"trigger": 5}, "trigger", "is 5"),
    ({"trigger": "interval"}, "seconds", "expected one between"),
    ({"trigger": "interval", "seconds": 0}, "seconds", "expected one between"),
    ({"trigger": "interval", "seconds": -1}, "seconds", "expected a number of at least 0"),
    ({"trigger": "interval", "seconds": float("nan")}, "seconds", "nan"),
    ({"trigger": "interval", "seconds": float("inf")}, "seconds", "inf"),
    ({"trigger": "interval", "seconds": 10**400}, "seconds", "expected a number"),
    ({"trigger": "interval", "weeks": 10**9}, "weeks", "36525 days"),
    ({"trigger": "interval", "days": 10**14}, "days", "36525 days"),
    ({"trigger": "interval", "seconds": True}, "seconds", "True"),
    ({"trigger": "interval", "seconds": "3"}, "seconds", "'3'"),
    ({"trigger": "interval", "second": 3}, "second", "did you mean 'seconds'?"),
    ({"trigger": "interval", "seconds": 3, "zzz": 1}, "zzz", "expected start_date"),
    ({"trigger": "interval", "seconds": 3, "jitter": -1}, "jitter", "-1"),
    ({"trigger": "interval", "seconds": 3, "jitter": 10**9}, "jitter", "at most"),
    ({"trigger": "interval", "seconds": 3, "timezone": "Mars/Olympus"}, "timezone", "Mars/Olympus"),
    ({"trigger": "interval", "seconds": 3, "timezone": "../../etc/passwd"}, "timezone", "expected a time zone"),
    ({"trigger": "interval", "seconds": 3, "timezone": ""}, "timezone", "expected a time zone"),
    ({"trigger": "interval", "seconds": 3, "timezone": "+99:00"}, "timezone", "expected a time zone"),
    ({"trigger": "interval", "seconds": 3, "timezone": 3}, "timezone", "is 3"),
    ({"trigger": "interval", "seconds": 3, "start_date": "tomorrow"}, "start_date", "ISO 8601"),
    ({"trigger": "interval", "seconds": 3, "start_date": 5}, "start_date", "is 5"),
    (
        {"trigger": "cron", "hour": 3, "start_date": "2026-02-01", "end_date": "2026-01-01"},
        "end_date",
        "before start_date",
    ),
    ({"trigger": "cron", "hour": 24}, "hour", "24"),
    ({"trigger": "cron", "minute": "five"}, "minute", "five"),
    ({"trigger": "cron", "day_of_week": "mon-"}, "day_of_week", "mon-"),
    ({"trigger": "cron", "day_of_week": "fri,mon-5"}, "day_of_week", 'Unrecognized expression "mon-5"'),
    ({"trigger": "cron", "day_of_week": "mon-fri/2"}, "day_of_week", "mon-fri/2"),
    ({"trigger": "cron", "day_of_week": "mon#2"}, "day_of_week", "mon#2"),
    ({"trigger": "cron", "month": "jan-3"}, "month", "jan-3"),
    ({"trigger": "cron", "month": "jan/2"}, "month", "jan/2"),
    ({"trigger": "cron", "day": "last-2"}, "day", "last-2"),
    ({"trigger": "cron", "day": "1st mon garbage"}, "day", "1st mon garbage"),
    ({"trigger": "cron", "minute": True}, "minute", "True"),
    ({"trigger": "cron", "minute": "1," * 200}, "minute", "expected a number or a cron expression"),
    ({"trigger": "cron", "minute": []}, "minute", "[]"),
    ({"trigger": "date", "run_date": "2026-02-30"}, "run_date", "2026-02-30"),
    ({"trigger": "date", "run_date": "9999-12-31T23:59:59+00:00", "timezone": "+14:00"}, "run_date", "out of range"),
    ({"trigger": "date", "run_date": "9999-12-30"}, "run_date", "is 9999-12-30T00:00:00, out of range in some time"),
    ({"trigger": "interval", "days": 1, "start_date": "9999-12-31"}, "start_date", "out of range in some time zones"),
    ({"trigger": "calendarinterval"}, "days", "at least one of"),
    ({"trigger": "calendarinterval", "days": 1.5}, "days", "whole number"),
    ({"trigger": "calendarinterval", "days": 1, "hour": 25}, "hour", "from 0 to 23"),
    ({"trigger": "calendarinterval", "days": 1, "start_date": "soon"}, "start_date", "2026-01-31"),
    ({"trigger": "calendarinterval", "days": 1, "start_date": 7}, "start_date", "is 7"),
    ({"trigger": "or"}, "triggers", "is missing"),
    ({"trigger": "or", "triggers": []}, "triggers", "1 to 20"),
    ({"trigger": "or", "triggers": "cron"}, "triggers", "1 to 20"),
    ({"trigger": "or", "triggers": [5]}, "triggers[0]", "expected an object"),
    (
        {"trigger": "or", "triggers": [{"trigger": "date"}, {"trigger": "cron", "hour": 99}]},
        "triggers[1].hour",
        "99",
    ),
]


@pytest.mark.parametrize(("data", "field", "text"), BAD, ids=lambda value: str(value)[:50])
def test_bad_input_names_the_key_and_what_was_expected(data: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        parse_trigger(data)
    assert caught.value.field == field
    assert str(caught.value).startswith(f"{field}: ")
    assert text in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_place_stands_before_each_key() -> None:
    with pytest.raises(InvalidDefinition, match=r"^body\.hour: "):
        parse_trigger({"trigger": "cron", "hour": 99}, where="body.")


def test_nesting_and_number_are_bounded() -> None:
    data: dict[str, Any] = {"trigger": "date"}
    for _ in range(MAX_DEPTH + 1):
        data = {"trigger": "or", "triggers": [data]}
    with pytest.raises(InvalidDefinition, match="nested more than"):
        parse_trigger(data)
    with pytest.raises(InvalidDefinition, match="1 to 20"):
        parse_trigger({"trigger": "or", "triggers": [{"trigger": "date"}] * (MAX_TRIGGERS + 1)})


@pytest.mark.parametrize(
    ("zone", "name"),
    [
        (UTC, "UTC"),
        (ZoneInfo("UTC"), "UTC"),
        (BERLIN, "Europe/Berlin"),
        (timezone(timedelta(hours=8)), "+08:00"),
        (timezone(-timedelta(minutes=30)), "-00:30"),
        (timezone(-timedelta(hours=1, seconds=30)), "-01:00:30"),
        (timezone(timedelta(seconds=1.5)), "+00:00:01.500000"),
    ],
)
def test_zones_have_names_that_parse(zone: tzinfo, name: str) -> None:
    spec = spec_of(IntervalTrigger(seconds=5, start_date=NOW, timezone=zone))
    assert spec.to_dict()["timezone"] == name
    assert parse_trigger(spec.to_dict()) == spec


def test_a_calendar_interval_is_taken_from_a_live_trigger() -> None:
    live = CalendarIntervalTrigger(months=1, hour=4, start_date="2026-01-31", timezone="Europe/Berlin")
    assert spec_of(live).to_dict() == {
        "trigger": "calendarinterval",
        "start_date": "2026-01-31",
        "months": 1,
        "hour": 4,
        "timezone": "Europe/Berlin",
    }


def test_crons_that_have_to_agree_go_on_after_their_first_fire() -> None:
    parts = [{"trigger": "cron", "hour": "*/2"}, {"trigger": "cron", "hour": "*/3"}]
    trigger = parse_trigger({"trigger": "and", "triggers": parts}).build(UTC, NOW)
    fires = [trigger.get_next_fire_time(None, NOW)]
    for _ in range(3):
        fires.append(trigger.get_next_fire_time(fires[-1], NOW))
    assert [(fire.day, fire.hour, fire.minute) for fire in fires[1:]] == [
        (fires[0].day + (fires[0].hour + 6 * step) // 24, (fires[0].hour + 6 * step) % 24, 0) for step in (1, 2, 3)
    ]


def test_a_date_that_has_to_agree_ends_the_schedule() -> None:
    at = NOW.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    parts = [{"trigger": "date", "run_date": at}, {"trigger": "cron", "hour": "*"}]
    trigger = parse_trigger({"trigger": "and", "triggers": parts}).build(UTC, NOW)
    assert trigger.get_next_fire_time(None, NOW) == at
    assert trigger.get_next_fire_time(at, NOW) is None
