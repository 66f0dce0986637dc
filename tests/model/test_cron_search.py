"""Cron searches: over changes of the clocks a cron trigger has each fire that the wall shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.cron import CronTrigger

from quart_sched.model.clock_changes import ClockChange, change_around, changes_between
from quart_sched.model.planning import fire_after, first_fire

BERLIN = ZoneInfo("Europe/Berlin")
TICK, QUARTER, DAY = timedelta(microseconds=1), timedelta(minutes=15), timedelta(days=1)
# By an hour mostly, by half of one on Lord Howe, by two at Troll; at midnight in Santiago, and to it on the Azores.
ZONES = (
    *("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll", "Africa/Casablanca"),
    *("America/Santiago", "Atlantic/Azores"),
)
SCHEDULES: dict[str, dict[str, Any]] = {
    "midnight": {"hour": 0},
    "past midnight": {"hour": 0, "minute": 15},
    "skipped": {"hour": 2, "minute": 30},
    "skipped and behind": {"hour": "1-3", "minute": "0,30"},
    "some of both": {"hour": "2,3", "minute": "15,45"},
    "each quarter": {"minute": "*/15"},
    "each second hour": {"hour": "*/2"},
    "Mondays": {"day_of_week": "mon"},
    "weekly": {"day_of_week": "tue", "hour": 0, "minute": 45},
    "the first": {"day": 1},
    "days": {"day": "*/9"},
}


def schedule(name: str, zone: str = "Europe/Berlin", **options: Any) -> CronTrigger:
    return CronTrigger(**SCHEDULES[name], timezone=ZoneInfo(zone), **options)


def matches(trigger: CronTrigger, moment: datetime) -> bool:
    wall = moment.astimezone(trigger.timezone)
    return all(field.get_next_value(wall) == field.get_value(wall) for field in trigger.fields)


def changes(zone: str) -> list[ClockChange]:
    return list(changes_between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC), ZoneInfo(zone)))


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("zone", ZONES)
def test_over_a_clock_change_no_time_that_there_is_is_passed_over(zone: str, name: str) -> None:
    trigger = schedule(name, zone)
    for change in changes(zone):
        moments = [change.at + step * QUARTER for step in range(-3 * 96, 3 * 96)]
        expected = [moment for moment in moments if matches(trigger, moment)]
        found, fire = [], first_fire(trigger, moments[0])
        while fire is not None and fire.astimezone(UTC) <= moments[-1]:
            skipped = change_around(fire.replace(tzinfo=None), trigger.timezone)
            moved = skipped is not None and skipped.forward and not matches(trigger, fire.astimezone(UTC))
            found += [] if moved else [fire.astimezone(UTC)]
            fire = fire_after(trigger, fire, fire.astimezone(UTC) + TICK)
        assert found == expected


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("zone", ZONES)
def test_a_schedule_is_taken_up_anywhere_near_a_clock_change(zone: str, name: str) -> None:
    trigger = schedule(name, zone)
    for change in changes(zone):
        moments = [change.at + step * QUARTER for step in range(-96, 2 * 96)]
        expected = [moment for moment in moments if matches(trigger, moment)]
        for begin in moments[:150:3]:
            fire = first_fire(trigger, begin)
            following = next((moment for moment in expected if moment >= begin), None)
            assert fire is not None
            # What is skipped may be put off, but not beyond what there is.
            assert following is None or begin <= fire.astimezone(UTC) <= following


def days(trigger: CronTrigger, begin: str, count: int) -> list[str]:
    fires, fire = [], first_fire(trigger, datetime.fromisoformat(begin).replace(tzinfo=UTC))
    while fire is not None and len(fires) < count:
        fires.append(fire.strftime("%m-%d %H:%M"))
        fire = fire_after(trigger, fire, fire.astimezone(UTC) + TICK)
    return fires


def test_no_day_week_or_month_is_left_out_in_spring() -> None:
    assert days(CronTrigger(hour=0, timezone=BERLIN), "2026-03-28T12:00", 2) == ["03-29 00:00", "03-30 00:00"]
    assert days(CronTrigger(day_of_week="mon", timezone=BERLIN), "2026-03-20", 2) == ["03-23 00:00", "03-30 00:00"]
    assert days(CronTrigger(day=1, timezone=BERLIN), "2026-02-20", 3) == ["03-01 00:00", "04-01 00:00", "05-01 00:00"]


def test_what_is_put_off_in_spring_remains_so() -> None:
    daily = CronTrigger(hour=2, minute=30, timezone=BERLIN)
    fire = first_fire(daily, datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert fire is not None
    assert fire.astimezone(UTC) == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert fire_after(daily, fire, fire.astimezone(UTC) + TICK) == datetime(2026, 3, 30, 2, 30, tzinfo=BERLIN)


def test_what_is_skipped_between_two_hours_of_a_schedule_is_left_out() -> None:
    def on_the_wall(trigger: CronTrigger) -> list[str]:
        fires, fire = [], first_fire(trigger, datetime(2026, 3, 28, 23, tzinfo=UTC))
        for _ in range(3):
            assert fire is not None
            fires.append(fire.astimezone(UTC).astimezone(BERLIN).strftime("%H:%M"))
            fire = fire_after(trigger, fire, fire.astimezone(UTC) + TICK)
        return fires

    assert on_the_wall(CronTrigger(hour="1-4", minute=30, timezone=BERLIN)) == ["01:30", "03:30", "04:30"]
    # Here it is put off.
    assert on_the_wall(CronTrigger(hour="*/2", timezone=BERLIN)) == ["00:00", "03:00", "04:00"]


def test_a_schedule_does_not_end_before_the_last_fire_that_clocks_going_forward_would_hide() -> None:
    monthly = CronTrigger(day=1, end_date=datetime(2026, 4, 15, tzinfo=UTC), timezone=BERLIN)
    assert days(monthly, "2026-02-20", 9) == ["03-01 00:00", "04-01 00:00"]
    over = CronTrigger(day=1, end_date=datetime(2026, 3, 31, 21, tzinfo=UTC), timezone=BERLIN)
    assert days(over, "2026-03-02", 9) == []


@pytest.mark.parametrize("minutes", [15, 30, 75, 90, 130])
def test_a_schedule_ends_at_the_one_time_of_the_hour_that_comes_twice_that_is_meant(minutes: int) -> None:
    autumn = datetime(2026, 10, 25, tzinfo=UTC)  # 02:00 in summer time
    end = (autumn + timedelta(minutes=minutes)).astimezone(BERLIN)
    for trigger, each in (
        (CronTrigger(minute="*/20", end_date=end, timezone=BERLIN), range(0, minutes + 1, 20)),
        (CronTrigger(minute=40, end_date=end, timezone=BERLIN), range(40, minutes + 1, 60)),
    ):
        fires, fire = [], fire_after(trigger, autumn - timedelta(minutes=20), autumn)
        while fire is not None:
            fires.append((fire.astimezone(UTC) - autumn) // timedelta(minutes=1))
            fire = fire_after(trigger, fire, fire.astimezone(UTC) + TICK)
        assert fires == list(each)


@pytest.mark.parametrize("zone", [BERLIN, ZoneInfo("America/New_York"), UTC])
def test_an_end_that_is_that_of_the_calendar_is_no_matter(zone: tzinfo) -> None:
    for end in (datetime(9999, 12, 31, 23, 59, 59, tzinfo=zone), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)):
        monthly = CronTrigger(day=1, end_date=end, timezone=zone)
        assert days(monthly, "2026-02-20", 2) == ["03-01 00:00", "04-01 00:00"]


def test_jitter_comes_on_top_once_and_ends_with_the_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    end = datetime(2026, 3, 30, 0, 0, 30, tzinfo=BERLIN)
    daily = CronTrigger(hour=0, jitter=60, end_date=end, timezone=BERLIN)
    fire = first_fire(daily, datetime(2026, 3, 28, 12, tzinfo=UTC))
    assert fire == datetime(2026, 3, 29, 0, 1, tzinfo=BERLIN)
    assert fire is not None
    assert fire_after(daily, fire, fire.astimezone(UTC) + TICK) == end


def test_a_fire_before_the_start_does_not_begin_the_schedule_early() -> None:
    start = datetime(2026, 3, 10, tzinfo=BERLIN)
    daily = CronTrigger(hour=9, start_date=start, timezone=BERLIN)
    by_hand = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert fire_after(daily, by_hand, by_hand + TICK) == datetime(2026, 3, 10, 9, tzinfo=BERLIN)
