"""The fires around a moment, against those that the trigger gives one after the other."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.triggers.base import BaseTrigger

from quart_sched.model.clock_changes import change_around, changes_between
from quart_sched.model.combining import EarliestOrTrigger
from quart_sched.model.planning import first_fire
from quart_sched.model.schedules import (
    fire_before,
    fire_from,
    following,
    looks_at_the_present,
    normal,
    without_jitter,
)
from quart_sched.model.trigger_parser import parse_trigger

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SPRING, AUTUMN = datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, 0, tzinfo=UTC)


def built(kind: str, **fields: Any) -> BaseTrigger:
    spec = parse_trigger({"trigger": kind, "timezone": "Europe/Berlin", **fields})
    return without_jitter(spec.build(BERLIN, NOW))


def combined(kind: str, *parts: dict[str, Any]) -> BaseTrigger:
    triggers = [{"timezone": "Europe/Berlin", **part} for part in parts]
    return without_jitter(parse_trigger({"trigger": kind, "triggers": triggers}).build(BERLIN, NOW))


TRIGGERS = {
    "cron": built("cron", hour=2, minute=30),
    "often": built("cron", minute="*/20"),
    "crontab": built("crontab", expression="30 2 * * *"),
    "yearly": built("crontab", expression="0 9 1 1 *"),
    "leap": built("cron", month=2, day=29),
    "interval": built("interval", hours=7, start_date="2026-01-01T00:00:00"),
    "interval with jitter": built("interval", hours=7, start_date="2026-01-01T00:00:00", jitter=600),
    "calendar": built("calendarinterval", days=3, hour=2, minute=30, start_date="2026-01-01"),
    "or": combined(
        "or", {"trigger": "crontab", "expression": "30 2 * * *"}, {"trigger": "crontab", "expression": "*/25 * * * *"}
    ),
    "or of all": combined(
        "or",
        {"trigger": "interval", "hours": 7, "start_date": "2026-01-01T00:00:00"},
        {"trigger": "calendarinterval", "days": 1, "hour": 9, "start_date": "2026-01-01"},
        {"trigger": "calendarinterval", "days": 3, "hour": 17, "start_date": "2026-01-01"},
        {"trigger": "cron", "hour": 9, "end_date": "2026-03-30T00:00:00"},
        {"trigger": "cron", "hour": 10, "start_date": "2026-03-30T00:00:00"},
        {"trigger": "date", "run_date": "2026-03-29T15:00:00"},
        {"trigger": "date", "run_date": "2026-10-25T15:00:00"},
    ),
    "and": combined("and", {"trigger": "cron", "minute": 30}, {"trigger": "cron", "hour": "*/2", "minute": "*"}),
}


def walked(trigger: BaseTrigger, begin: datetime, end: datetime) -> list[datetime]:
    """All fires between two moments, one after the other, as the scheduler comes by them."""
    fires, fire = [], first_fire(trigger, begin)
    while fire is not None and fire.astimezone(UTC) < end:
        fires.append(normal(fire).astimezone(UTC))
        fire = following(trigger, fire)
    return fires


def utc(fire: datetime | None) -> datetime | None:
    """Times that come twice are equal to none of another zone."""
    return None if fire is None else fire.astimezone(UTC)


@pytest.mark.parametrize("name", TRIGGERS)
@pytest.mark.parametrize("change", [SPRING, AUTUMN], ids=["spring", "autumn"])
def test_the_fires_around_a_moment_are_those_that_come_one_after_the_other(name, change):
    trigger = TRIGGERS[name]
    fires = walked(trigger, change - timedelta(days=5), change + timedelta(days=5))
    for minutes in range(-240, 241, 15):
        at = change + timedelta(minutes=minutes, seconds=minutes % 2)
        before = [fire for fire in fires if fire < at]
        behind = [fire for fire in fires if fire >= at]
        if before:
            assert utc(fire_before(trigger, at)) == before[-1], at
        if behind:
            assert utc(fire_from(trigger, at)) == behind[0], at


def test_a_fire_long_ago_is_found_and_nothing_before_the_first_or_behind_the_last() -> None:
    assert fire_before(TRIGGERS["leap"], NOW) == datetime(2024, 2, 29, tzinfo=BERLIN)
    date = built("date", run_date="2026-03-01T00:00:00")
    assert (fire_before(date, NOW), fire_from(date, NOW)) == (datetime(2026, 3, 1, tzinfo=BERLIN), None)
    span = built("interval", hours=1, start_date="2026-03-01T00:00:00", end_date="2026-03-01T02:30:00")
    assert fire_before(span, NOW) == datetime(2026, 3, 1, 2, tzinfo=BERLIN)
    assert fire_from(span, NOW) is None
    assert fire_before(span, datetime(2026, 2, 1, tzinfo=UTC)) is None
    assert fire_from(span, datetime(2026, 2, 1, tzinfo=UTC)) == datetime(2026, 3, 1, tzinfo=BERLIN)


def test_an_interval_is_exact_however_many_steps_it_has_taken() -> None:
    trigger = built("interval", seconds=0.1, start_date="2020-01-01T00:00:00")
    begin = datetime(2020, 1, 1, tzinfo=BERLIN).astimezone(UTC)
    for steps in (3, 7, 1_234_567_891):
        fire = begin + steps * timedelta(microseconds=100_000)
        assert fire_from(trigger, fire) == fire
        assert fire_before(trigger, fire) == fire - timedelta(microseconds=100_000)


class Own(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> None:
        return None


def test_nobody_knows_whether_a_trigger_of_the_users_own_looks_at_the_present() -> None:
    assert not looks_at_the_present(Own())
    assert not looks_at_the_present(EarliestOrTrigger([built("cron", hour=2), Own()]))
    assert looks_at_the_present(combined("and", {"trigger": "interval", "hours": 5}, {"trigger": "cron", "hour": "*"}))
    assert all(looks_at_the_present(trigger) for trigger in TRIGGERS.values())


def test_clock_changes_are_found_between_fractions_of_a_second() -> None:
    begin = SPRING - timedelta(seconds=1.5)
    assert [change.at for change in changes_between(begin, SPRING + timedelta(seconds=0.2), BERLIN)] == [SPRING]
    assert list(changes_between(SPRING + timedelta(seconds=0.2), SPRING + timedelta(days=1), BERLIN)) == []
    skipped = change_around(datetime(2026, 3, 29, 2, 30, 0, 500_000), BERLIN)
    assert skipped is not None
    assert skipped.at == SPRING
