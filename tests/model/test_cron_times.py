"""Cron times: the tables say what APScheduler finds, or should find, or nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger
from hypothesis import assume, example, given
from hypothesis import strategies as st

from quart_sched.model.clock_changes import changes_between
from quart_sched.model.cron_times import next_match
from quart_sched.model.planning import fire_after, first_fire

BERLIN = ZoneInfo("Europe/Berlin")
ZONES: list[tzinfo] = [
    UTC,
    timezone(timedelta(hours=5, minutes=45)),
    *map(
        ZoneInfo,
        ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"),
    ),
]
TICK = timedelta(microseconds=1)
BEGIN = datetime(2025, 1, 1)


def numbers(low: int, high: int) -> st.SearchStrategy[str]:
    value = st.integers(low, high)
    ranges = st.tuples(value, value).map(sorted).map(lambda ends: f"{ends[0]}-{ends[1]}")
    steps = st.integers(1, max(1, (high - low) // 2)).map("*/{}".format)
    return st.lists(st.one_of(value.map(str), ranges, steps, st.just("*")), min_size=1, max_size=3).map(",".join)


FIELDS: dict[str, st.SearchStrategy[str]] = {
    "year": numbers(2025, 2027),
    "month": numbers(1, 12) | st.sampled_from(["jan-mar", "oct"]),
    "day": numbers(1, 31) | st.sampled_from(["last", "2nd fri", "last sun"]),
    "week": numbers(1, 53),
    "day_of_week": numbers(0, 6) | st.sampled_from(["mon-fri", "sun"]),
    "hour": numbers(0, 23),
    "minute": numbers(0, 59),
    "second": numbers(0, 59),
}
# Most schedules are about the time of the day: few are given a day.
triggers = st.builds(
    lambda times, days, zone: CronTrigger(**times, **days, timezone=zone, end_date=datetime(2029, 1, 1, tzinfo=UTC)),
    st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in ("hour", "minute", "second")}),
    st.just({}) | st.fixed_dictionaries({}, optional={name: FIELDS[name] for name in list(FIELDS)[:5]}),
    st.sampled_from(ZONES),
)
moments = st.datetimes(BEGIN, datetime(2027, 12, 31), timezones=st.sampled_from(ZONES))


def passes_over(trigger: CronTrigger, after: datetime, fire: datetime, expected: datetime | None) -> bool:
    """Tell whether APScheduler, which expects another fire, comes too late for this one, since clocks go forward."""
    matches = all(field.get_next_value(fire) == field.get_value(fire) for field in trigger.fields)
    earlier = expected is None or fire.timestamp() < expected.timestamp()
    return matches and earlier and any(change.forward for change in changes_between(after, fire, trigger.timezone))


@given(triggers, moments)
def test_the_next_match_is_the_fire_that_apscheduler_finds(trigger: CronTrigger, after: datetime) -> None:
    found = next_match(trigger, after)
    assume(found is not None)
    # In UTC, as APScheduler adds to what it is given, which makes the first of a time that comes twice of the second.
    moment = after.astimezone(UTC)
    expected = trigger.get_next_fire_time(moment, moment + TICK)
    assert found is not None
    assert found.tzinfo is trigger.timezone
    assert found == expected or passes_over(trigger, after, found, expected)


@example(CronTrigger(hour="2-3", minute="0", timezone=BERLIN), datetime(2025, 3, 28, tzinfo=UTC))
@example(CronTrigger(hour=0, timezone=BERLIN), datetime(2025, 3, 28, tzinfo=UTC))
@example(CronTrigger(timezone=UTC), datetime(2025, 3, 30, 2, fold=1, tzinfo=BERLIN))
@given(triggers, moments)
def test_a_schedule_is_that_of_apscheduler_wherever_its_fires_come_from(trigger: CronTrigger, begin: datetime) -> None:
    after, fire, expected = begin, first_fire(trigger, begin), trigger.get_next_fire_time(None, begin)
    for _ in range(5):
        if fire is None:
            assert expected is None or expected.year > 2070
            break
        assert fire == expected or passes_over(trigger, after, fire, expected)
        # In UTC, as plans ask: an hour later on the wall may be the same moment, where clocks go forward.
        after, now = fire, fire.astimezone(UTC) + timedelta(hours=1)
        fire, expected = fire_after(trigger, fire, now), trigger.get_next_fire_time(fire, now)


def at(text: str, zone: tzinfo = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


@pytest.mark.parametrize(
    ("fields", "after", "expected"),
    [
        ({"minute": "*/15"}, "2026-03-01T10:07:30", "2026-03-01T10:15:00"),
        ({"hour": 3}, "2026-03-01T03:00:00", "2026-03-02T03:00:00"),
        ({"hour": 3}, "2026-03-01T02:59:59.999999", "2026-03-01T03:00:00"),
        ({"hour": 23, "minute": 59, "second": 59}, "2026-12-31T23:59:58", "2026-12-31T23:59:59"),
        ({"day_of_week": "mon", "hour": 9}, "2026-03-02T09:00:00", "2026-03-09T09:00:00"),
        ({"hour": "8,20", "minute": "5,35", "second": "7"}, "2026-03-01T08:35:07", "2026-03-01T20:05:07"),
        ({"day": "last", "hour": 0}, "2026-02-25T12:00:00", "2026-02-28T00:00:00"),
    ],
)
def test_what_is_looked_up(fields: dict[str, Any], after: str, expected: str) -> None:
    assert next_match(CronTrigger(**fields, timezone=UTC), at(after)) == at(expected)


@pytest.mark.parametrize(
    ("options", "after"),
    [
        pytest.param({"day": 1, "hour": 0}, at("2026-03-01T00:00:00"), id="a month away"),
        pytest.param({"hour": 3, "jitter": 10}, at("2026-03-01T00:00:00"), id="jitter"),
        pytest.param({"hour": 3, "end_date": at("2026-03-01T02:00:00")}, at("2026-03-01T00:00:00"), id="ended"),
        pytest.param({"year": 2025}, at("2026-03-01T00:00:00"), id="never again"),
        pytest.param({"hour": 0}, at("9999-12-31T12:00:00"), id="the end of the calendar"),
    ],
)
def test_what_is_not_looked_up(options: dict[str, Any], after: datetime) -> None:
    assert next_match(CronTrigger(**options, timezone=UTC), after) is None


@pytest.mark.parametrize("after", ["2026-03-29T00:00:00", "2026-10-25T00:00:00"], ids=["never", "twice"])
def test_a_time_that_never_comes_or_twice_is_not_looked_up(after: str) -> None:
    assert next_match(CronTrigger(hour=2, minute=30, timezone=BERLIN), at(after, BERLIN)) is None


@pytest.mark.parametrize("after", ["2026-03-29T00:00:00", "2026-10-25T00:00:00"], ids=["forward", "back"])
def test_behind_a_change_of_the_clocks_a_time_is_what_it_always_is(after: str) -> None:
    found = next_match(CronTrigger(hour=4, minute=30, timezone=BERLIN), at(after, BERLIN))
    assert found == at(after, BERLIN).replace(hour=4, minute=30)


def test_many_triggers_with_the_same_fields_share_their_tables() -> None:
    from quart_sched.model.cron_times import _times_of

    one, other = (CronTrigger(hour="*/2", timezone=zone) for zone in ("Europe/Berlin", "Asia/Tokyo"))
    assert _times_of(one) is _times_of(other)
    assert _times_of(one) is not _times_of(CronTrigger(hour="*/3", timezone="UTC"))
