"""Forecasts: the fires to come, and what clock changes do to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched.errors import InvalidDefinition
from quart_sched.model.combining import EarliestOrTrigger
from quart_sched.model.crontab import CrontabTrigger
from quart_sched.model.forecast import COUNT, HOURS, Fire, NextFires, forecast, next_fires
from quart_sched.model.planning import first_fire
from quart_sched.model.triggers import BoundedAndTrigger

BERLIN, LORD_HOWE = ZoneInfo("Europe/Berlin"), ZoneInfo("Australia/Lord_Howe")
SPRING = datetime(2026, 3, 28, 12, tzinfo=BERLIN)
AUTUMN = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = (timedelta(**{unit: 1}) for unit in ("seconds", "minutes", "hours", "days"))
FORWARD = "The clocks go forward on 2026-03-29 from 02:00 to 03:00 (Europe/Berlin): "
BACK = "The clocks go back on 2026-10-25 from 03:00 to 02:00 (Europe/Berlin): "

OWNER = AsyncIOScheduler()


def make(trigger: BaseTrigger, begin: datetime = NOW, job_id: str = "job", **options: Any) -> Job:
    fire = options.pop("next_run_time", "first")
    given = {"misfire_grace_time": 60, "coalesce": True, "max_instances": 1} | options
    job = Job(OWNER, job_id, func=print, trigger=trigger, args=(), kwargs={}, executor="default", **given)
    job._modify(next_run_time=first_fire(trigger, begin.astimezone(UTC)) if fire == "first" else fire)
    job._jobstore_alias = "default"
    return job


def ask(job: Job, begin: datetime = NOW, count: int = 10, **options: Any) -> NextFires:
    return next_fires(job, begin.astimezone(UTC), count, max_catch_up=100, **options)


def shown(fires: tuple[Fire, ...], end: datetime) -> list[tuple[str, str | None]]:
    """Fires up to `end`, each with what a clock change does to it."""
    return [
        (fire.at.strftime("%d %H:%M%z"), fire.clock_change.effect if fire.clock_change else None)
        for fire in fires
        if fire.at.timestamp() <= end.timestamp()
    ]


def daily(hour: int = 2, minute: int = 30, **options: Any) -> CronTrigger:
    return CronTrigger(hour=hour, minute=minute, timezone=BERLIN, **options)


# Clock changes


@pytest.mark.parametrize(
    ("trigger", "begin", "expected"),
    [
        (daily(), SPRING, [("29 03:30+0200", "moved"), ("30 02:30+0200", None)]),
        (daily(), AUTUMN, [("25 02:30+0200", "both"), ("25 02:30+0100", "both"), ("26 02:30+0100", None)]),
        (daily(3), SPRING, [("29 03:30+0200", None), ("30 03:30+0200", None)]),
        (CrontabTrigger("30 2 * * *", timezone=BERLIN), SPRING, [("29 03:00+0200", "moved"), ("30 02:30+0200", None)]),
        (CrontabTrigger("30 2 * * *", timezone=BERLIN), AUTUMN, [("25 02:30+0200", "once"), ("26 02:30+0100", None)]),
        (CrontabTrigger("0 3 * * *", timezone=BERLIN), SPRING, [("29 03:00+0200", None), ("30 03:00+0200", None)]),
        (
            CalendarIntervalTrigger(days=1, hour=2, minute=30, start_date=date(2026, 1, 1), timezone=BERLIN),
            SPRING,
            [("30 02:30+0200", "left_out")],
        ),
        (
            CalendarIntervalTrigger(days=1, hour=2, minute=30, start_date=date(2026, 1, 1), timezone=BERLIN),
            AUTUMN,
            [("25 02:30+0200", "once"), ("26 02:30+0100", None)],
        ),
        (
            IntervalTrigger(hours=24, start_date=AUTUMN.replace(hour=2, minute=30), timezone=BERLIN),
            AUTUMN,
            [("25 02:30+0200", "once"), ("26 01:30+0100", None)],
        ),
        (DateTrigger(datetime(2026, 10, 25, 2, 30), BERLIN), AUTUMN, [("25 02:30+0200", "once")]),
        (
            BoundedAndTrigger([daily(), CronTrigger(minute="*/10", timezone=BERLIN)]),
            SPRING,
            [("30 02:30+0200", "left_out")],
        ),
        (
            BoundedAndTrigger([daily(), CronTrigger(minute="*/10", timezone=BERLIN)]),
            AUTUMN,
            [("25 02:30+0200", "both"), ("25 02:30+0100", "both"), ("26 02:30+0100", None)],
        ),
        (
            EarliestOrTrigger([daily(), daily(12, 0, start_date=SPRING + DAY, end_date=SPRING + DAY)]),
            SPRING,
            [("29 03:30+0200", "moved"), ("29 12:00+0200", None), ("30 02:30+0200", None)],
        ),
    ],
)
def test_a_fire_that_meets_a_clock_change_is_marked(
    trigger: BaseTrigger, begin: datetime, expected: list[tuple[str, str | None]]
) -> None:
    assert shown(ask(make(trigger, begin), begin).items, begin + 2 * DAY) == expected


def test_the_mark_says_in_words_which_change_it_is_and_what_becomes_of_the_fire() -> None:
    trigger = daily()
    mark = ask(make(trigger, SPRING), SPRING).items[0].to_wire()["clock_change"]
    assert mark == {
        "direction": "forward",
        "at": "2026-03-29T03:00:00+02:00",
        "wall": "2026-03-29T02:30:00",
        "effect": "moved",
        "description": f"{FORWARD}02:30 is skipped, and the job fires at 03:30 instead.",
    }
    first, second = (fire.to_wire()["clock_change"] for fire in ask(make(trigger, AUTUMN), AUTUMN).items[:2])
    assert (first["direction"], first["at"]) == ("back", "2026-10-25T02:00:00+01:00")
    assert first["description"] == f"{BACK}02:30 comes twice, and the job fires both times, of which this is the first."
    assert second["description"].endswith("of which this is the second.")


@pytest.mark.parametrize(
    ("trigger", "begin", "said"),
    [
        (
            CrontabTrigger("30 2 * * *", timezone=BERLIN),
            AUTUMN,
            f"{BACK}02:30 comes twice, and the job fires the first time and not the second.",
        ),
        (
            CrontabTrigger("30 * * * *", timezone=BERLIN),
            SPRING,
            f"{FORWARD}02:30 is skipped, and the job does not fire for it.",
        ),
        (
            CrontabTrigger("*/5 * * * *", timezone=BERLIN),
            SPRING,
            f"{FORWARD}02:00 and more times of the job are skipped, and it does not fire for them.",
        ),
        (
            EarliestOrTrigger([daily(), CronTrigger(minute=0, timezone=BERLIN)]),
            SPRING,
            f"{FORWARD}02:00 and more times of the job are skipped, and it does not fire for them.",
        ),
        (
            CrontabTrigger("15 2 * * *", timezone=LORD_HOWE),
            datetime(2026, 10, 3, 12, tzinfo=LORD_HOWE),
            "The clocks go forward on 2026-10-04 from 02:00 to 02:30 (Australia/Lord_Howe): "
            "02:15 is skipped, and the job fires at 02:30 instead.",
        ),
    ],
)
def test_each_effect_has_its_words(trigger: BaseTrigger, begin: datetime, said: str) -> None:
    fires = ask(make(trigger, begin), begin, 300).items
    assert next(fire.clock_change.description for fire in fires if fire.clock_change) == said


def test_a_stored_time_that_has_lost_its_wall_is_marked_too() -> None:
    first = first_fire(daily(), SPRING.astimezone(UTC))
    assert first is not None
    job = make(daily(), next_run_time=first.astimezone(UTC).astimezone(BERLIN))
    assert shown(ask(job, SPRING).items, SPRING + DAY) == [("29 03:30+0200", "moved")]


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Asia/Tokyo")], ids=str)
def test_where_clocks_do_not_change_nothing_is_marked(zone: Any) -> None:
    job = make(CronTrigger(hour=2, minute=30, timezone=zone))
    assert not [fire for fire in ask(job, count=400).items if fire.clock_change]


@pytest.mark.parametrize("hours", [1, 2, 24])
def test_marks_do_not_depend_on_when_one_asks(hours: int) -> None:
    job = make(daily(), SPRING)
    later = SPRING + hours * MINUTE
    assert ask(job, later, 300).items == ask(job, SPRING, 300).items


# Fires


def walk(trigger: BaseTrigger, fire: datetime | None, count: int) -> Iterator[float]:
    while fire is not None and count:
        yield fire.timestamp()
        fire, count = trigger.get_next_fire_time(fire, fire.astimezone(UTC) + SECOND / 1000), count - 1


triggers = st.sampled_from(
    [
        CronTrigger(minute="*/7", timezone=UTC),
        daily(),
        CronTrigger(hour="1-4", minute="*/20", timezone=BERLIN),
        CrontabTrigger("*/10 * * * *", timezone=BERLIN),
        CrontabTrigger("30 1-3 * * *", timezone=BERLIN),
        IntervalTrigger(minutes=13, start_date=NOW, timezone=BERLIN),
        IntervalTrigger(minutes=13, start_date=NOW, end_date=NOW + HOUR, timezone=UTC),
        CalendarIntervalTrigger(days=1, hour=2, minute=30, start_date="2026-03-01", timezone=BERLIN),
        EarliestOrTrigger([daily(), CrontabTrigger("0 */2 * * *", timezone=BERLIN)]),
        BoundedAndTrigger([CronTrigger(hour="2-3", timezone=BERLIN), CronTrigger(minute="*/30", timezone=BERLIN)]),
    ]
)


@given(triggers, st.sampled_from([SPRING, AUTUMN, NOW]), st.integers(0, 2 * 86_400), st.integers(1, 40))
def test_the_fires_are_those_that_the_trigger_gives_one_after_the_other(
    trigger: BaseTrigger, begin: datetime, later: int, count: int
) -> None:
    now = begin.astimezone(UTC) + later * SECOND
    job = make(trigger, now)
    if job.next_run_time is None:
        return
    items = ask(job, now, count).items
    assert [fire.at.timestamp() for fire in items] == list(walk(trigger, job.next_run_time, count))
    for fire in items:
        # A time that is shown is one that the wall shows.
        assert fire.at.astimezone(UTC).astimezone(fire.at.tzinfo).isoformat() == fire.at.isoformat()
    assert all(a.at.timestamp() < b.at.timestamp() for a, b in pairwise(items))


@pytest.mark.parametrize(
    "trigger",
    [
        CronTrigger(minute="*/10", timezone=UTC, jitter=300),
        CrontabTrigger("*/10 * * * *", timezone=UTC, jitter=300),
        IntervalTrigger(minutes=10, start_date=NOW, timezone=UTC, jitter=300),
        EarliestOrTrigger([CronTrigger(minute="*/10", timezone=UTC, jitter=300)], jitter=300),
        BoundedAndTrigger([CronTrigger(minute="*/10", timezone=UTC, jitter=300)], jitter=300),
        AndTrigger([CronTrigger(minute="*/10", timezone=UTC, jitter=300)], jitter=300),
    ],
    ids=str,
)
def test_jitter_is_left_out_behind_the_fire_that_is_stored(trigger: BaseTrigger) -> None:
    stored = NOW + 10 * MINUTE
    items = ask(make(trigger, next_run_time=stored), count=4).items
    assert [fire.at for fire in items] == [stored + 10 * MINUTE * step for step in range(4)]
    assert trigger.jitter == 300, "the job's own trigger is left alone"


def test_the_stored_fire_is_shown_as_it_is() -> None:
    stored = NOW + 97 * SECOND
    every_ten = IntervalTrigger(minutes=10, start_date=NOW, timezone=UTC, jitter=300)
    for trigger in (CronTrigger(minute="*/10", timezone=UTC, jitter=300), every_ten):
        items = ask(make(trigger, next_run_time=stored), count=2).items
        assert [fire.at for fire in items] == [stored, NOW + 10 * MINUTE]


def test_a_schedule_that_ends_ends_the_list() -> None:
    assert len(ask(make(CronTrigger(year="2026-2027", day=1, month=7, timezone=UTC)), count=1000).items) == 2
    assert len(ask(make(DateTrigger(NOW + HOUR))).items) == 1
    never = make(CronTrigger(month=2, day=30, timezone=UTC), next_run_time=NOW + HOUR)
    assert len(ask(never).items) == 1


def test_what_is_far_away_does_not_take_long() -> None:
    for trigger in (
        CalendarIntervalTrigger(years=5000, start_date=date(2026, 6, 1), timezone=UTC),
        CalendarIntervalTrigger(years=20, start_date=date(2028, 2, 29), timezone=BERLIN),
        CrontabTrigger("0 0 29 2 *", timezone=BERLIN),
        IntervalTrigger(days=36_525, start_date=NOW + HOUR, timezone=UTC),
    ):
        items = ask(make(trigger), count=1000).items
        assert 1 <= len(items) <= 1000
        assert not [fire for fire in items[5:] if fire.clock_change]


def test_a_trigger_that_fails_breaks_the_list_off_and_says_why() -> None:
    apart = [CronTrigger(minute=0, timezone=UTC), CronTrigger(minute=30, timezone=UTC)]
    found = ask(make(BoundedAndTrigger(apart), next_run_time=NOW + HOUR))
    assert [fire.at for fire in found.items] == [NOW + HOUR]
    assert found.reason == "its trigger raised ValueError: its triggers have no fire in common within 500 rounds"


class Countdown(BaseTrigger):
    """Of the user's own: it counts its fires."""

    asked: ClassVar[int] = 0

    def __init__(self, left: int, step: timedelta = HOUR) -> None:
        self.left, self.step = left, step

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        Countdown.asked += 1
        self.left -= 1
        return None if self.left < 0 else (previous_fire_time or now) + self.step


def test_a_trigger_of_the_users_own_is_asked_without_any_effect_on_it() -> None:
    trigger = Countdown(3)
    found = ask(make(trigger, next_run_time=NOW + HOUR))
    assert [fire.at for fire in found.items] == [NOW + HOUR * step for step in range(1, 5)]
    assert trigger.left == 3


class Stuck(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        return NOW + HOUR


def test_a_trigger_that_does_not_advance_breaks_the_list_off() -> None:
    found = ask(make(Stuck()))
    assert len(found.items) == 1
    assert found.reason is not None
    assert "TriggerStuck" in found.reason


# How the job stands


def test_a_job_in_order_is_scheduled() -> None:
    found = ask(make(daily()), count=1)
    assert (found.job_id, found.state, found.paused, found.reason) == ("job", "scheduled", False, None)


def test_a_paused_job_shows_what_it_would_fire_at_if_it_were_resumed_now() -> None:
    paused, running = ask(make(daily(), next_run_time=None)), ask(make(daily()))
    assert (paused.state, paused.paused, paused.items) == ("paused", True, running.items)


def test_a_paused_job_whose_schedule_is_over_has_ended() -> None:
    found = ask(make(daily(end_date=NOW - DAY), next_run_time=None))
    assert (found.state, found.paused, found.items) == ("ended", True, ())


def test_a_broken_job_has_no_fires_and_says_why() -> None:
    found = ask(make(daily()), broken="no module named shop")
    assert (found.state, found.paused, found.items) == ("broken", False, ())
    assert found.reason == "no module named shop"


def test_a_job_that_is_overdue_shows_what_would_run_of_it_and_goes_on_from_now() -> None:
    every = IntervalTrigger(seconds=1, start_date=NOW - 7 * DAY, timezone=UTC)
    items = ask(make(every, next_run_time=NOW - 7 * DAY), count=3).items
    assert [fire.at for fire in items] == [NOW, NOW + SECOND, NOW + 2 * SECOND]
    late = make(CronTrigger(hour=6, timezone=UTC), next_run_time=NOW - 6 * HOUR)
    assert [fire.at for fire in ask(late, count=2).items] == [NOW + 18 * HOUR, NOW + 42 * HOUR], "too late to run"


# All jobs


def test_the_forecast_has_the_fires_of_all_jobs_in_order_of_time() -> None:
    jobs = [
        make(CronTrigger(minute=0, timezone=UTC), job_id="b"),
        make(CronTrigger(hour=13, minute="0,30", timezone=UTC), job_id="a"),
        make(daily(), job_id="paused", next_run_time=None),
        make(daily(), job_id="tomorrow"),
    ]
    found = forecast(jobs, NOW + SECOND, 2, 100, max_catch_up=1)
    assert [(fire.at - NOW, fire.job_id) for fire in found.items] == [
        (timedelta(0), "b"),
        (HOUR, "a"),
        (HOUR, "b"),
        (1.5 * HOUR, "a"),
        (2 * HOUR, "b"),
    ]
    assert (found.truncated, found.until) == (False, NOW + 2 * HOUR + SECOND)


def test_a_forecast_marks_clock_changes() -> None:
    jobs = [make(daily(), AUTUMN, job_id=job_id) for job_id in "ab"]
    effects = [
        fire.clock_change.effect for fire in forecast(jobs, AUTUMN, 24, 9, max_catch_up=1).items if fire.clock_change
    ]
    assert effects == ["both"] * 4


@pytest.mark.parametrize(("limit", "truncated"), [(59, True), (60, False), (61, False)])
def test_a_forecast_stops_at_its_limit_and_says_so(limit: int, truncated: bool) -> None:
    job = make(IntervalTrigger(minutes=1, start_date=NOW + MINUTE, timezone=UTC))
    found = forecast([job], NOW, 1, limit, max_catch_up=1)
    assert (len(found.items), found.truncated) == (min(limit, 60), truncated)


def test_no_more_fires_are_asked_for_than_are_shown() -> None:
    Countdown.asked = 0
    jobs = [make(Countdown(10**9, SECOND), job_id=str(number), next_run_time=NOW + SECOND) for number in range(50)]
    found = forecast(jobs, NOW, 24 * 366, 100, max_catch_up=1)
    assert (len(found.items), found.truncated) == (100, True)
    assert Countdown.asked <= 101


def test_a_trigger_that_fails_does_not_take_the_others_along() -> None:
    jobs = [make(Stuck(), job_id="stuck"), make(CronTrigger(minute=0, timezone=UTC), NOW + SECOND, job_id="job")]
    found = forecast(jobs, NOW + SECOND, 3, 100, max_catch_up=1)
    assert [fire.job_id for fire in found.items] == ["job", "stuck", "job", "job"]


# Values


@pytest.mark.parametrize("value", [0, 1001, -1, "0", "x", "", "1.5", "1e2", "٣", True, None, 2.5, "9" * 5000])
def test_a_count_is_a_whole_number_within_its_bounds(value: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"^count: is .*; expected a whole number from 1 to 1000$"):
        COUNT("count", value)
    assert [COUNT("count", good) for good in (1, "1000", "010")] == [1, 1000, 10]


@pytest.mark.parametrize("value", [0, -1, 8785, "nan", "inf", "x", "", True, None, [], "9" * 5000, 10**400])
def test_hours_are_more_than_none_and_at_most_a_year(value: Any) -> None:
    with pytest.raises(InvalidDefinition, match=r"^hours: is .*; expected more than 0 and at most 8784$"):
        HOURS("hours", value)
    assert [HOURS("hours", good) for good in (24, "0.5", 8784)] == [24, 0.5, 8784]
