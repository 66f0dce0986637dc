"""Calendar intervals: the fires that APScheduler walks from the start, and an end before that of the calendar."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.date import DateTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.model.planning import fire_after, first_fire, plan
from quart_sched.model.schedules import fire_before
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


def calendar_interval(
    steps: tuple[int, ...], zone: Any, time: tuple[int, int], start: date, end: date | None
) -> CalendarIntervalTrigger:
    years, months, weeks, days = steps
    return CalendarIntervalTrigger(
        years=years, months=months, weeks=weeks, days=days, hour=time[0], minute=time[1],
        start_date=start, end_date=end, timezone=zone,
    )  # fmt: skip


TRIGGERS = st.builds(
    calendar_interval,
    st.tuples(*(st.integers(0, most) for most in (2, 14, 5, 9))).filter(any),
    st.sampled_from([UTC, BERLIN, ZoneInfo("Asia/Tokyo"), ZoneInfo("America/Los_Angeles"), ZoneInfo("Asia/Amman")]),
    st.sampled_from([(0, 0), (2, 30), (23, 59)]),
    st.dates(START, date(2020, 3, 31)),
    st.none() | st.dates(date(2021, 1, 1), date(2024, 1, 1)),
)
MOMENTS = st.datetimes(datetime(2017, 12, 1), datetime(2025, 12, 31))


@given(TRIGGERS, MOMENTS)
def test_the_first_fire_is_that_of_the_walk_from_the_start(trigger: CalendarIntervalTrigger, at: datetime) -> None:
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
    later = fire + timedelta(days=1)
    assert fire_after(OrTrigger([CENTURIES, DateTrigger(later)]), fire, fire) == later
    assert fire_after(OrTrigger([CENTURIES, DateTrigger(later)]), later, later) is None
    assert fire_after(BoundedAndTrigger([CENTURIES, CENTURIES]), fire, fire) is None
    assert first_fire(CENTURIES, fire) is None
    assert first_fire(CENTURIES, datetime(9960, 1, 1, tzinfo=UTC)) == datetime(9970, 1, 1, tzinfo=UTC)


def test_its_past_fires_are_left_out_within_an_or_too() -> None:
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)
    days = CalendarIntervalTrigger(days=1, hour=9, start_date="2020-01-01", timezone=UTC)
    assert first_fire(OrTrigger([days, DateTrigger(now + timedelta(days=9))]), now) == datetime(
        2026, 3, 3, 9, tzinfo=UTC
    )


# Whatever fired before


def behind(trigger: CalendarIntervalTrigger, fire: datetime, count: int = 3) -> list[str]:
    """Return the next fires, as the wall of the trigger shows them."""
    fires: list[str] = []
    for _ in range(count):
        following = fire_after(trigger, fire, fire)
        if following is None:
            break
        fires.append(following.strftime("%m-%d %H:%M"))
        fire = following
    return fires


def test_the_next_fire_is_that_of_its_own_zone_in_whatever_zone_the_last_one_is_told() -> None:
    berlin = CalendarIntervalTrigger(days=1, minute=30, start_date="2026-03-01", timezone=BERLIN)
    assert behind(berlin, datetime(2026, 3, 2, 23, 30, tzinfo=UTC)) == ["03-04 00:30", "03-05 00:30", "03-06 00:30"]
    new_york = ZoneInfo("America/New_York")
    evening = CalendarIntervalTrigger(days=1, hour=20, start_date="2026-03-01", timezone=new_york)
    assert behind(evening, datetime(2026, 3, 3, 1, tzinfo=UTC), 2) == ["03-03 20:00", "03-04 20:00"]


@pytest.mark.parametrize("steps", [{"days": 3}, {"months": 1}, {"years": 1}, {"months": 1, "days": 2}])
def test_a_fire_that_was_set_by_hand_does_not_shift_the_schedule(steps: dict[str, int]) -> None:
    trigger = CalendarIntervalTrigger(**steps, hour=9, start_date="2026-01-15", timezone=UTC)
    schedule = [fire := datetime(2026, 1, 15, 9, tzinfo=UTC)]
    while len(schedule) < 9:
        schedule.append(fire := trigger.get_next_fire_time(fire, fire))
    for last, following in pairwise(schedule):
        for by_hand in (
            last,
            last + timedelta(hours=7),
            following - timedelta(days=1),
            following - timedelta(seconds=1),
        ):
            assert fire_after(trigger, by_hand, by_hand) == following
    early = datetime(2026, 1, 12, 9, tzinfo=UTC)
    assert fire_after(trigger, early, early) == schedule[0]


@pytest.mark.parametrize("steps", [{"days": 1}, {"months": 1}, {"months": 1, "days": 2}])
def test_jitter_past_midnight_neither_shifts_the_schedule_nor_repeats_a_day(
    steps: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    late = timedelta(hours=1)
    plain, trigger = (
        CalendarIntervalTrigger(**steps, hour=23, minute=30, start_date="2026-01-15", timezone=BERLIN, jitter=jitter)
        for jitter in (None, 3600)
    )
    at = datetime(2026, 2, 1, tzinfo=UTC)
    fire, grid = first_fire(trigger, at), first_fire(plain, at)
    for _ in range(30):
        assert fire is not None
        assert grid is not None
        assert fire.astimezone(UTC) == grid.astimezone(UTC) + late
        fire, grid = fire_after(trigger, fire, fire), fire_after(plain, grid, grid)


@given(TRIGGERS, MOMENTS)
def test_the_fires_around_a_moment_are_those_of_the_walk_from_the_start(
    trigger: CalendarIntervalTrigger, at: datetime
) -> None:
    moment = at.replace(tzinfo=UTC)
    before, fire = None, trigger.get_next_fire_time(None, moment)
    while fire is not None and fire < moment:
        before, fire = fire, trigger.get_next_fire_time(fire, moment)
    assert fire_before(trigger, moment) == before
    assert fire_after(trigger, moment, moment) == (
        fire if fire is None or fire > moment else trigger.get_next_fire_time(fire, moment)
    )


@pytest.mark.parametrize("step", [{"days": 1}, {"months": 1}, {"years": 1}])
def test_the_fire_before_takes_a_few_steps_however_long_ago_the_start_was(
    monkeypatch: pytest.MonkeyPatch, step: dict[str, int]
) -> None:
    asked: list[Any] = []
    original = CalendarIntervalTrigger.get_next_fire_time

    def count(self: CalendarIntervalTrigger, previous: Any, now: Any) -> Any:
        asked.append(previous)
        return original(self, previous, now)

    monkeypatch.setattr(CalendarIntervalTrigger, "get_next_fire_time", count)
    trigger = CalendarIntervalTrigger(**step, start_date="0996-02-29", timezone=BERLIN)
    assert fire_before(trigger, datetime(2026, 3, 2, tzinfo=UTC)) is not None
    assert len(asked) <= 20
