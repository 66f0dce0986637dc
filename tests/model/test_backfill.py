"""Requests for backfills: what they take, which fires they mean, and which of those are left to run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.backfill import BackfillRequest, remaining
from quart_sched.model.crontab import CrontabTrigger
from quart_sched.model.schedules import jitter_of
from tests.conftest import START
from tests.stores.peers import at

BERLIN = ZoneInfo("Europe/Berlin")


def request(**values: object) -> BackfillRequest:
    return BackfillRequest.parse(values, timezone=BERLIN, now=START)


def test_naive_times_are_read_in_the_schedulers_zone_and_the_end_is_now():
    asked = request(start="2026-03-02T10:00", concurrency="3", rerun=None)
    assert asked == BackfillRequest(datetime(2026, 3, 2, 9, tzinfo=UTC), START, concurrency=3)
    assert request(start=at(-60), end="2026-03-02T11:59:30Z").end == at(-30)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "start: is missing; expected the time of the first fire, in ISO 8601"),
        ({"start": 5}, "start: is 5; expected an ISO 8601 date and time"),
        ({"start": at(0)}, "start: is 2026-03-02T12:00:00.00:00; expected a time before the end, 2026-03-02T12:00:00"),
        ({"start": at(-9), "end": at(-10)}, "start: is .*; expected a time before the end"),
        ({"start": at(-9), "end": at(1)}, "end: is .*; expected a time that is not in the future"),
        ({"start": at(-9), "end": "soon"}, "end: is 'soon'; expected an ISO 8601 date and time"),
        (
            {"start": at(-9), "until": at(-1)},
            "until: is .*, but not known here; expected start, end, dry_run, concurrency, rerun",
        ),
        ({"start": at(-9), "dry_run": 1}, "dry_run: is 1; expected true or false"),
        ({"start": at(-9), "rerun": "yes"}, "rerun: is 'yes'; expected true or false"),
        ({"start": at(-9), "concurrency": True}, "concurrency: is True; expected a whole number from 1 to 100"),
        ({"start": at(-9), "concurrency": 101}, "concurrency: is 101; expected a whole number from 1 to 100"),
        ({"start": "0001-01-01T00:00"}, "start: is 0001-01-01T00:00:00, out of range"),
    ],
)
def test_what_is_wrong_is_named(values, message):
    with pytest.raises(InvalidDefinition, match=message):
        request(**values)


def walls(trigger: object, start: str, end: str) -> list[str]:
    fires = request(start=start, end=end).fires(trigger)
    return [fire.astimezone(BERLIN).strftime("%d. %H:%M") for fire in fires]


def test_each_kind_of_trigger_has_its_fires_from_the_start_on_and_before_the_end():
    span = ("2026-02-27T10:00", "2026-03-01T10:00")
    daily = CronTrigger(hour=10, timezone=BERLIN)
    assert walls(daily, *span) == ["27. 10:00", "28. 10:00"]
    assert walls(CrontabTrigger("30 9 * * sat", timezone=BERLIN), *span) == ["28. 09:30"]
    every = IntervalTrigger(hours=20, start_date="2026-02-20 14:00:00", timezone=BERLIN, jitter=600)
    assert walls(every, *span) == ["28. 02:00", "28. 22:00"]
    once = DateTrigger("2026-02-28 01:00:00", timezone=BERLIN)
    assert walls(once, *span) == ["28. 01:00"]
    assert walls(DateTrigger("2026-02-27 09:59:00", timezone=BERLIN), *span) == []
    either = OrTrigger([once, CronTrigger(hour=12, timezone=BERLIN)])
    assert walls(either, *span) == ["27. 12:00", "28. 01:00", "28. 12:00"]
    assert walls(AndTrigger([daily, CronTrigger(day=28, timezone=BERLIN, hour="*")]), *span) == ["28. 10:00"]


def test_a_date_long_past_does_not_make_an_or_walk_from_there():
    trigger = OrTrigger([DateTrigger("1999-01-01", timezone=UTC), CronTrigger(second="0", timezone=UTC)])
    assert request(start=at(-120)).fires(trigger) == [at(-120), at(-60)]


def test_clock_changes_are_those_of_the_schedule():
    autumn = BackfillRequest.parse({"start": "2025-10-26T01:00", "end": "2025-10-26T04:00"}, timezone=BERLIN, now=START)
    assert len(autumn.fires(IntervalTrigger(hours=1, start_date="2025-10-01 00:00:00", timezone=BERLIN))) == 4
    spring = BackfillRequest.parse({"start": "2025-03-30T01:00", "end": "2025-03-31T00:00"}, timezone=BERLIN, now=START)
    [fire] = spring.fires(CrontabTrigger("30 2 * * *", timezone=BERLIN))
    assert fire.astimezone(UTC) == datetime(2025, 3, 30, 1, 0, tzinfo=UTC)


def test_more_than_a_thousand_fires_are_too_many():
    every = IntervalTrigger(seconds=1, start_date=at(-5000), timezone=UTC)
    assert len(request(start=at(-1000)).fires(every)) == 1000
    with pytest.raises(InvalidDefinition, match="end: leaves more than 1,000 fires; expected a shorter span"):
        request(start=at(-1001)).fires(every)


def test_a_trigger_that_has_no_fire_or_raises_says_so():
    never = AndTrigger([CronTrigger(month=1, timezone=UTC), CronTrigger(month=2, timezone=UTC)])
    with pytest.raises(InvalidDefinition, match="trigger: raised "):
        request(start=at(-60)).fires(never)


@given(st.integers(0, 999_999), st.integers(1, 100_000), st.integers(0, 10_000))
def test_an_interval_has_its_fire_at_the_very_start(micro, number, every):
    first = datetime(2026, 1, 1, microsecond=micro, tzinfo=UTC)
    trigger = IntervalTrigger(seconds=every + 1, start_date=first, timezone=UTC)
    fire = first + number * timedelta(seconds=every + 1)
    asked = BackfillRequest(fire, fire + timedelta(microseconds=1))
    assert asked.fires(trigger) == [fire]


def left(fires: list[float], taken: list[float], jitter: float = 0, upcoming: float | None = None) -> list[float]:
    found = remaining(
        [at(fire) for fire in fires],
        [at(each) for each in taken],
        jitter=timedelta(seconds=jitter),
        upcoming=None if upcoming is None else at(upcoming),
    )
    return [(fire - START).total_seconds() for fire in found]


def test_a_fire_that_ran_is_left_out_and_so_is_what_the_schedule_comes_to():
    assert left([10, 20, 30], [20, 20]) == [10, 30]
    assert left([10, 20, 30], [21]) == [10, 20, 30]
    assert left([10, 20, 30], [], upcoming=20) == [10]
    assert left([10, 20, 30], [], jitter=2, upcoming=21.5) == [10]


def test_with_jitter_each_run_stands_for_one_fire():
    assert left([10, 20, 30], [12, 27], jitter=3) == [20]
    assert left([10, 20, 30], [18], jitter=8) == [20, 30]
    assert left([10, 20, 30], [20], jitter=15) == [10, 30]  # which was backfilled, as it is exact
    assert left([10, 20, 30], [12, 8], jitter=3) == [20, 30]


def test_jitters_of_parts_count_as_well():
    parts = [CronTrigger(minute="*", jitter=20), DateTrigger(START)]
    assert jitter_of(OrTrigger(parts)) == timedelta(seconds=20)
    assert jitter_of(OrTrigger(parts, jitter=5)) == timedelta(seconds=25)
    assert jitter_of(DateTrigger(START)) == timedelta()
