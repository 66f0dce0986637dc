"""Calendar intervals: the same fires as APScheduler walks, without the walk, and an end before that of the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.date import DateTrigger
from hypothesis import given, settings
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.model.planning import fire_after, first_fire, plan
from quart_sched.model.triggers import BoundedAndTrigger

BERLIN = ZoneInfo("Europe/Berlin")
START = date(2018, 1, 31)


async def run() -> None: ...


def walked(trigger: CalendarIntervalTrigger, at: datetime) -> datetime | None:
    """Walk to the first fire from `at` on, as APScheduler would."""
    fire: datetime | None = trigger.get_next_fire_time(None, at)
    while fire is not None and fire < at:
        fire = trigger.get_next_fire_time(fire, at)
    return fire


@settings(deadline=None)
@given(
    st.tuples(*(st.integers(0, most) for most in (2, 14, 5, 9))).filter(any),
    st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Amman")]),
    st.sampled_from([(0, 0), (2, 30), (23, 59)]),
    st.dates(START, date(2020, 3, 31)),
    st.none() | st.dates(date(2021, 1, 1), date(2024, 1, 1)),
    st.datetimes(datetime(2017, 12, 1), datetime(2025, 12, 31)),
)
def test_the_first_fire_is_that_of_the_walk_from_the_start(
    steps: tuple[int, ...], zone: Any, time: tuple[int, int], start: date, end: date | None, at: datetime
) -> None:
    years, months, weeks, days = steps
    trigger = CalendarIntervalTrigger(
        years=years, months=months, weeks=weeks, days=days, hour=time[0], minute=time[1],
        start_date=start, end_date=end, timezone=zone,
    )  # fmt: skip
    assert first_fire(trigger, at.replace(tzinfo=UTC)) == walked(trigger, at.replace(tzinfo=UTC))


@pytest.mark.parametrize("step", [{"days": 1}, {"weeks": 3}, {"months": 1}, {"years": 4}])
def test_the_first_fire_takes_a_few_steps_however_long_ago_the_start_was(
    monkeypatch: pytest.MonkeyPatch, step: dict[str, int]
) -> None:
    asked = 0
    original = CalendarIntervalTrigger.get_next_fire_time

    def count(self: CalendarIntervalTrigger, previous: Any, now: Any) -> Any:
        nonlocal asked
        asked += 1
        return original(self, previous, now)

    monkeypatch.setattr(CalendarIntervalTrigger, "get_next_fire_time", count)
    trigger = CalendarIntervalTrigger(**step, start_date="0999-02-28", timezone=BERLIN)
    assert first_fire(trigger, datetime(2026, 3, 2, tzinfo=UTC)) is not None
    assert asked <= 5


CENTURIES = CalendarIntervalTrigger(years=20, start_date="9970-01-01", timezone=UTC)


def test_near_the_end_of_the_calendar_the_schedule_ends() -> None:
    """APScheduler itself would search through the years behind it for minutes."""
    fire = datetime(9990, 1, 1, tzinfo=UTC)
    assert fire_after(CENTURIES, fire, fire) is None
    job: Any = Job(
        Scheduler(timezone="UTC"), id="job", func=run, args=(), kwargs={}, trigger=CENTURIES, next_run_time=fire,
        misfire_grace_time=None, coalesce=True, max_instances=1, executor="default",
    )  # fmt: skip
    planned = plan(job, fire + timedelta(days=1), 100)
    assert (planned.fires, planned.lapses, planned.next) == ((fire,), (), None)


def test_it_ends_there_within_combined_triggers_too() -> None:
    fire = datetime(9990, 1, 1, tzinfo=UTC)
    later = DateTrigger(fire + timedelta(days=1))
    assert fire_after(OrTrigger([CENTURIES, later]), fire, fire) is None
    assert fire_after(BoundedAndTrigger([CENTURIES, CENTURIES]), fire, fire) is None
    assert first_fire(CENTURIES, fire) is None
    assert first_fire(CENTURIES, datetime(9960, 1, 1, tzinfo=UTC)) == datetime(9970, 1, 1, tzinfo=UTC)


def test_its_past_fires_are_left_out_within_an_or_too() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    days = CalendarIntervalTrigger(days=1, hour=9, start_date="2020-01-01", timezone=UTC)
    assert first_fire(OrTrigger([days, DateTrigger(now + timedelta(days=9))]), now) == datetime(
        2026, 3, 3, 9, tzinfo=UTC
    )
