"""Plans: what runs, what lapses, and what comes next."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import combinations
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.fields import WeekField
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import assume, given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.model import planning
from quart_sched.model.combining import EarliestOrTrigger
from quart_sched.model.crontab import CrontabTrigger
from quart_sched.model.planning import WALK_LIMIT, Lapse, TriggerStuck, fire_after, first_fire, plan
from quart_sched.model.triggers import BoundedAndTrigger

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND, HOUR = timedelta(seconds=1), timedelta(hours=1)
SCHEDULER = Scheduler(timezone="UTC")


async def run() -> None: ...


def make(trigger: BaseTrigger, due: datetime | None, **options: Any) -> Job:
    defaults = {"misfire_grace_time": 1, "coalesce": True, "max_instances": 1, "executor": "default", "id": "job"}
    return Job(SCHEDULER, func=run, args=(), kwargs={}, trigger=trigger, next_run_time=due, **{**defaults, **options})


def every(seconds: float, start: datetime = NOW, **options: Any) -> IntervalTrigger:
    return IntervalTrigger(seconds=seconds, start_date=start, timezone=UTC, **options)


class Counting(BaseTrigger):
    """Counts how often another trigger is asked."""

    def __init__(self, inner: BaseTrigger) -> None:
        self.inner, self.calls = inner, 0

    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        self.calls += 1
        return self.inner.get_next_fire_time(previous, now)


def test_a_fire_in_time_runs_and_the_trigger_is_asked_once() -> None:
    trigger = Counting(every(10))
    planned = plan(make(trigger, NOW), NOW + SECOND / 2, 100)
    assert (planned.fires, planned.lapses, planned.next) == ((NOW,), (), NOW + 10 * SECOND)
    assert trigger.calls == 1


def test_a_fire_that_is_too_late_is_missed() -> None:
    planned = plan(make(every(10), NOW), NOW + 2 * SECOND, 100)
    assert planned.fires == ()
    assert planned.lapses == (Lapse("missed", NOW, NOW, 1),)
    assert planned.next == NOW + 10 * SECOND


def test_a_date_ends_with_its_one_fire() -> None:
    planned = plan(make(DateTrigger(NOW), NOW), NOW, 100)
    assert (planned.fires, planned.next) == ((NOW,), None)


def test_a_coalescing_job_runs_its_latest_fire_for_those_before() -> None:
    planned = plan(make(every(10), NOW, misfire_grace_time=None), NOW + 35 * SECOND, 100)
    assert planned.fires == (NOW + 30 * SECOND,)
    assert planned.lapses == (Lapse("coalesced", NOW, NOW + 20 * SECOND, 3),)
    assert planned.next == NOW + 40 * SECOND


def test_a_coalescing_job_whose_fires_are_all_too_late_has_missed_them() -> None:
    planned = plan(make(every(10), NOW), NOW + 35 * SECOND, 100)
    assert planned.fires == ()
    assert planned.lapses == (Lapse("missed", NOW, NOW + 30 * SECOND, 4),)


def test_without_coalescing_all_fires_in_time_run() -> None:
    planned = plan(make(every(10), NOW, coalesce=False, misfire_grace_time=20), NOW + 35 * SECOND, 100)
    assert planned.fires == (NOW + 20 * SECOND, NOW + 30 * SECOND)
    assert planned.lapses == (Lapse("missed", NOW, NOW + 10 * SECOND, 2),)
    planned = plan(make(every(10), NOW, coalesce=False, misfire_grace_time=None), NOW + 25 * SECOND, 100)
    assert len(planned.fires) == 3
    assert planned.lapses == ()


def test_catching_up_is_bounded_and_the_rest_recorded() -> None:
    planned = plan(make(every(1), NOW, coalesce=False, misfire_grace_time=None), NOW + 3600 * SECOND, 100)
    assert len(planned.fires) == 100
    assert planned.fires[-1] == NOW + 3600 * SECOND
    assert planned.lapses == (Lapse("missed", NOW, NOW + 3500 * SECOND, 3501),)


@pytest.mark.parametrize("grace", [1, None])
def test_a_second_interval_after_a_week_costs_a_bounded_walk_and_is_counted_exactly(
    monkeypatch: pytest.MonkeyPatch, grace: int | None
) -> None:
    asked = 0
    original = IntervalTrigger.get_next_fire_time

    def count(self: IntervalTrigger, previous: Any, now: Any) -> Any:
        nonlocal asked
        asked += 1
        return original(self, previous, now)

    monkeypatch.setattr(IntervalTrigger, "get_next_fire_time", count)
    week = 7 * 86_400
    planned = plan(make(every(1), NOW, misfire_grace_time=grace), NOW + week * SECOND, 100)
    assert asked <= WALK_LIMIT + 1
    assert planned.fires == (NOW + week * SECOND,)
    assert planned.lapses == (Lapse("coalesced", NOW, NOW + (week - 1) * SECOND, week),)
    assert planned.next == NOW + (week + 1) * SECOND


def test_a_cron_per_minute_after_a_month_is_taken_up_near_the_present() -> None:
    trigger = Counting(CronTrigger(minute="*", timezone=UTC))
    later = NOW + timedelta(days=30)
    planned = plan(make(trigger, NOW, misfire_grace_time=120), later, 100)
    assert trigger.calls < 2 * WALK_LIMIT
    assert planned.fires == (later,)
    [lapse] = planned.lapses
    assert (lapse.first, lapse.last, lapse.fires) == (NOW, later - timedelta(minutes=1), None)
    assert planned.next == later + timedelta(minutes=1)


def test_a_cron_without_grace_limit_runs_once_and_goes_on_after_the_present() -> None:
    later = NOW + timedelta(days=30, seconds=30)
    planned = plan(make(CronTrigger(second="*", timezone=UTC), NOW, misfire_grace_time=None), later, 100)
    assert len(planned.fires) == 1
    assert planned.next > later


def test_a_grace_that_spans_more_fires_than_are_walked_still_ends_after_the_present() -> None:
    later = NOW + timedelta(days=1)
    planned = plan(make(CronTrigger(second="*", timezone=UTC), NOW, misfire_grace_time=80_000), later, 100)
    assert len(planned.fires) == 1
    assert planned.next > later


def test_an_interval_steps_over_a_clock_change_in_real_time() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    start = datetime(2026, 10, 24, 12, 0, tzinfo=berlin)
    trigger = IntervalTrigger(seconds=10, start_date=start, timezone=berlin)
    later = datetime(2026, 10, 25, 11, 0, tzinfo=UTC)  # 12:00 in winter time, 25 hours after the start
    planned = plan(make(trigger, start, misfire_grace_time=None), later, 100)
    assert planned.fires[-1] == later
    assert planned.lapses[0].fires == 25 * 360
    assert planned.next == later + 10 * SECOND


class Stuck(BaseTrigger):
    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        return previous


class Endless(BaseTrigger):
    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        return (previous or NOW) + timedelta(microseconds=1)


def test_a_trigger_that_does_not_advance_is_found_out() -> None:
    with pytest.raises(TriggerStuck, match="does not advance"):
        plan(make(Stuck(), NOW), NOW + SECOND, 100)


def test_a_trigger_that_hardly_advances_costs_a_bounded_walk() -> None:
    trigger = Counting(Endless())
    plan(make(trigger, NOW, misfire_grace_time=None), NOW + SECOND, 100)
    assert trigger.calls < 3 * WALK_LIMIT


@given(
    st.floats(0.5, 5000).map(lambda seconds: round(seconds, 3)),
    st.floats(0, 200_000).map(lambda seconds: round(seconds, 3)),
    st.none() | st.integers(1, 1000),
    st.booleans(),
)
def test_runs_lapses_and_the_next_fire_cover_the_schedule(
    interval: float, late: float, grace: int | None, coalesce: bool
) -> None:
    now = NOW + late * SECOND
    planned = plan(make(every(interval), NOW, misfire_grace_time=grace, coalesce=coalesce), now, 100)
    assert planned.next is not None
    expected = round((planned.next - NOW).total_seconds() / interval)
    lapsed = sum(lapse.fires or 0 for lapse in planned.lapses)
    assert lapsed + len(planned.fires) == expected
    assert planned.next > now
    assert abs((planned.next - now).total_seconds()) <= interval + 1e-3
    for fire in planned.fires:
        assert fire <= now
        assert grace is None or (now - fire).total_seconds() <= grace
    if planned.lapses and planned.fires:
        assert planned.lapses[-1].last < planned.fires[0]
    assert len(planned.fires) <= (1 if coalesce else 100)


def test_a_calendar_interval_begins_with_its_first_fire_to_come() -> None:
    trigger = CalendarIntervalTrigger(days=1, hour=9, start_date="2026-02-01", timezone=UTC)
    assert first_fire(trigger, NOW) == datetime(2026, 3, 3, 9, tzinfo=UTC)
    over = CalendarIntervalTrigger(days=1, start_date="2026-01-01", end_date="2026-02-01", timezone=UTC)
    assert first_fire(over, NOW) is None
    at_nine = datetime(2026, 3, 3, 9, tzinfo=UTC)
    assert first_fire(trigger, at_nine) == at_nine


def test_a_cron_expression_that_never_comes_true_is_not_searched_for_ever() -> None:
    asked: list[int] = []

    class Week(WeekField):
        def get_value(self, dateval: datetime) -> int:
            asked.append(dateval.year)
            return int(super().get_value(dateval))

    trigger = CronTrigger(week=53, month=6, timezone=UTC)
    trigger.fields[3] = Week("week", "53")
    assert first_fire(trigger, NOW) is None
    assert max(asked) < NOW.year + 60
    assert trigger.end_date is None


def test_a_date_in_the_past_stays_a_fire_that_was_missed() -> None:
    assert first_fire(DateTrigger(NOW - SECOND), NOW) == NOW - SECOND


# The schedule and its end


def test_a_schedule_that_ended_while_nobody_looked_runs_its_last_fire_and_ends() -> None:
    trigger = every(10, end_date=NOW + 25 * SECOND)
    planned = plan(make(trigger, NOW, misfire_grace_time=None), NOW + 3600 * SECOND, 100)
    assert planned.fires == (NOW + 20 * SECOND,)
    assert planned.lapses == (Lapse("coalesced", NOW, NOW + 10 * SECOND, 2),)
    assert planned.next is None


def test_the_end_itself_may_be_a_fire() -> None:
    planned = plan(make(every(10, end_date=NOW + 40 * SECOND), NOW, misfire_grace_time=None), NOW + 35 * SECOND, 100)
    assert planned.next == NOW + 40 * SECOND


def test_the_last_fire_of_a_schedule_may_be_missed_like_any_other() -> None:
    planned = plan(make(every(10, end_date=NOW), NOW), NOW + 5 * SECOND, 100)
    assert (planned.fires, planned.lapses, planned.next) == ((), (Lapse("missed", NOW, NOW, 1),), None)


@pytest.mark.parametrize("coalesce", [True, False])
def test_no_fire_beyond_the_end_runs_or_is_counted_however_long_ago_that_was(coalesce: bool) -> None:
    trigger = every(1, end_date=NOW + 5000 * SECOND)
    planned = plan(make(trigger, NOW, misfire_grace_time=None, coalesce=coalesce), NOW + 10_000 * SECOND, 100)
    assert planned.fires[-1] == NOW + 5000 * SECOND
    [lapse] = planned.lapses
    assert len(planned.fires) + (lapse.fires or 0) == 5001
    assert lapse.last == planned.fires[0] - SECOND
    assert planned.next is None


def test_an_end_long_ago_misses_no_more_than_there_was() -> None:
    planned = plan(make(every(1, end_date=NOW + 5000 * SECOND), NOW), NOW + 10_000 * SECOND, 100)
    assert planned.fires == ()
    assert planned.lapses == (Lapse("missed", NOW, NOW + 5000 * SECOND, 5001),)


# Longer gaps than are walked


def test_a_bound_on_catching_up_that_is_higher_than_the_walk_loses_no_fire() -> None:
    job = make(every(1), NOW, coalesce=False, misfire_grace_time=None)
    planned = plan(job, NOW + 3000 * SECOND, 5000)
    assert len(planned.fires) + sum(lapse.fires or 0 for lapse in planned.lapses) == 3001
    assert list(planned.fires) == sorted(planned.fires)
    assert planned.fires[-1] == NOW + 3000 * SECOND


@pytest.mark.parametrize("grace", [None, 80_000])
def test_after_a_day_a_coalescing_cron_runs_a_fire_behind_those_that_it_stands_for(grace: int | None) -> None:
    later = NOW + timedelta(days=1) + SECOND / 2
    planned = plan(make(CronTrigger(second="*", timezone=UTC), NOW, misfire_grace_time=grace), later, 100)
    [fire] = planned.fires
    assert fire == later - SECOND / 2
    [lapse] = planned.lapses
    assert (lapse.outcome, lapse.first, lapse.fires) == ("coalesced", NOW, None)
    assert lapse.last < fire


def test_after_a_day_a_cron_that_does_not_coalesce_runs_its_latest_fires() -> None:
    later = NOW + timedelta(days=1) + SECOND / 2
    job = make(CronTrigger(second="*", timezone=UTC), NOW, misfire_grace_time=None, coalesce=False)
    planned = plan(job, later, 100)
    assert len(planned.fires) <= 100
    assert planned.fires[-1] == later - SECOND / 2
    assert planned.lapses[-1].last < planned.fires[0]


YEAR = timedelta(days=365)
SECONDLY = CronTrigger(second="*", timezone=UTC)
AT_NINE = CronTrigger(hour=9, minute="*", second="*", timezone=UTC)
ENDED = CronTrigger(second="*", end_date=NOW + timedelta(days=3), timezone=UTC)


@pytest.mark.parametrize(
    ("trigger", "last"),
    [
        (SECONDLY, NOW + YEAR),
        (AT_NINE, datetime(2027, 3, 2, 9, 59, 59, tzinfo=UTC)),
        (ENDED, NOW + timedelta(days=3)),
    ],
    ids=["each second", "an hour a day", "over for a year"],
)
@pytest.mark.parametrize("grace", [None, 3 * 365 * 86_400], ids=["no grace", "long grace"])
def test_after_a_year_the_latest_fires_are_found_with_a_few_hundred_calls(
    trigger: BaseTrigger, last: datetime, grace: int | None
) -> None:
    later, first = NOW + YEAR + SECOND / 2, first_fire(trigger, NOW)
    for coalesce, runs in ((True, 1), (False, 100)):
        counting = Counting(trigger)
        planned = plan(make(counting, first, misfire_grace_time=grace, coalesce=coalesce), later, 100)
        assert planned.fires == tuple(last - number * SECOND for number in range(runs - 1, -1, -1))
        [lapse] = planned.lapses
        assert (lapse.first, lapse.last, lapse.fires) == (first, last - runs * SECOND, None)
        assert lapse.outcome == ("coalesced" if coalesce else "missed")
        assert planned.next is None or planned.next > later
        assert counting.calls < 4 * WALK_LIMIT


def test_a_date_among_other_triggers_does_not_keep_them_from_being_taken_up() -> None:
    counting = Counting(SECONDLY)
    planned = plan(make(OrTrigger([DateTrigger(NOW), counting]), NOW, misfire_grace_time=None), NOW + YEAR, 100)
    assert planned.fires == (NOW + YEAR,)
    assert planned.lapses == (Lapse("coalesced", NOW, NOW + YEAR - SECOND, None),)
    assert counting.calls < 2 * WALK_LIMIT


def test_a_grace_bounds_the_look_back_however_much_may_be_caught_up() -> None:
    counting = Counting(SECONDLY)
    job = make(counting, NOW, coalesce=False, misfire_grace_time=7)
    planned = plan(job, NOW + YEAR + SECOND / 2, 1_000_000)
    assert planned.fires == tuple(NOW + YEAR - number * SECOND for number in range(6, -1, -1))
    assert planned.lapses == (Lapse("missed", NOW, NOW + YEAR - 7 * SECOND, None),)
    assert counting.calls < 2 * WALK_LIMIT


def test_where_all_due_fires_are_too_late_the_lapse_ends_with_the_last_of_them() -> None:
    planned = plan(make(AT_NINE, first_fire(AT_NINE, NOW), misfire_grace_time=60), NOW + YEAR, 100)
    assert planned.fires == ()
    [lapse] = planned.lapses
    assert (lapse.outcome, lapse.last, lapse.fires) == ("missed", datetime(2027, 3, 2, 9, 59, 59, tzinfo=UTC), None)
    assert planned.next == datetime(2027, 3, 3, 9, tzinfo=UTC)


def test_a_cron_is_counted_where_the_look_back_reaches_what_was_walked() -> None:
    job = make(SECONDLY, NOW, coalesce=False, misfire_grace_time=None)
    planned = plan(job, NOW + 3000 * SECOND, 5000)
    assert planned.fires == tuple(NOW + number * SECOND for number in range(3001))
    assert planned.lapses == ()
    planned = plan(job, NOW + 3000 * SECOND, 2950)
    assert planned.fires == tuple(NOW + number * SECOND for number in range(51, 3001))
    assert planned.lapses == (Lapse("missed", NOW, NOW + 50 * SECOND, 51),)


@pytest.mark.parametrize("coalesce", [True, False])
@pytest.mark.parametrize("grace", [None, 1, 30])
def test_a_hundred_due_fires_are_counted(grace: int | None, coalesce: bool) -> None:
    assert WALK_LIMIT == 100
    for trigger in (SECONDLY, CrontabTrigger("* * * * * *", timezone=UTC)):
        planned = plan(make(trigger, NOW, misfire_grace_time=grace, coalesce=coalesce), NOW + 99 * SECOND, 10)
        assert len(planned.fires) + sum(lapse.fires or 0 for lapse in planned.lapses) == 100


KINDS = {
    "cron": lambda: SECONDLY,
    "cron at times": lambda: AT_NINE,
    "cron daily": lambda: CronTrigger(hour=3, timezone=BERLIN),
    "crontab": lambda: CrontabTrigger("*/5 9-17 * * mon-fri", timezone=BERLIN),
    "crontab daily": lambda: CrontabTrigger("30 2 * * *", timezone=BERLIN),
    "interval": lambda: every(1),
    "interval with jitter": lambda: every(1, jitter=2),
    "calendar days": lambda: CalendarIntervalTrigger(days=1, hour=9, start_date="1970-01-01", timezone=BERLIN),
    "calendar months": lambda: CalendarIntervalTrigger(months=1, start_date="1970-01-31", timezone=BERLIN),
    "or": lambda: EarliestOrTrigger([CronTrigger(minute="*/7", timezone=BERLIN), every(300)]),
    "and": lambda: BoundedAndTrigger([AT_NINE, CronTrigger(second="*/5", timezone=UTC)]),
    "and of calendar days": lambda: BoundedAndTrigger(
        [
            CrontabTrigger("0 9 * * mon-fri", timezone=BERLIN),
            CalendarIntervalTrigger(days=1, hour=9, start_date="1970-01-01", timezone=BERLIN),
        ]
    ),
}


@pytest.mark.parametrize("grace", [None, 1, 3 * 365 * 86_400])
@pytest.mark.parametrize("kind", KINDS)
def test_a_coalescing_job_that_is_a_year_behind_asks_its_trigger_a_few_hundred_times(
    monkeypatch: pytest.MonkeyPatch, kind: str, grace: int | None
) -> None:
    trigger = KINDS[kind]()
    job, later = make(trigger, first_fire(trigger, NOW), misfire_grace_time=grace), NOW + YEAR
    asked = dict.fromkeys((CronTrigger, CrontabTrigger, IntervalTrigger, CalendarIntervalTrigger), 0)
    for leaf in asked:
        monkeypatch.setattr(leaf, "get_next_fire_time", counted(leaf, asked))
    planned = plan(job, later, 100)
    assert planned.next is not None
    assert planned.next > later
    assert sum(asked.values()) <= 4 * WALK_LIMIT


def counted(leaf: Any, asked: dict[Any, int]) -> Any:
    original = leaf.get_next_fire_time

    def count(self: Any, previous: Any, now: Any) -> Any:
        asked[leaf] += 1
        return original(self, previous, now)

    return count


def test_a_trigger_of_many_parts_is_walked_less() -> None:
    parts = [Counting(CronTrigger(minute=minute, timezone=UTC)) for minute in range(20)]
    trigger = EarliestOrTrigger(parts)
    planned = plan(make(trigger, first_fire(trigger, NOW), misfire_grace_time=None), NOW + YEAR, 100)
    assert planned.fires == (NOW + YEAR,)
    assert sum(part.calls for part in parts) <= 6 * WALK_LIMIT


def test_behind_a_hundred_calendar_days_are_taken_up_near_the_present() -> None:
    trigger = CalendarIntervalTrigger(days=1, hour=9, start_date="2026-03-01", timezone=BERLIN)
    first = datetime(2026, 3, 3, 9, tzinfo=BERLIN)
    now = datetime(2036, 3, 3, 9, tzinfo=BERLIN)
    planned = plan(make(trigger, first, misfire_grace_time=None), now, 100)
    assert planned.fires == (now,)
    assert planned.lapses == (Lapse("coalesced", first, datetime(2036, 3, 2, 9, tzinfo=BERLIN), None),)


class Listed(BaseTrigger):
    """A schedule out of a list: it does not look at the present."""

    def __init__(self, fires: list[datetime]) -> None:
        self.fires = fires

    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        return next((fire for fire in self.fires if previous is None or fire > previous), None)


@pytest.mark.parametrize("grace", [None, 600])
@pytest.mark.parametrize("coalesce", [True, False])
def test_what_cannot_be_taken_up_near_the_present_is_worked_off_plan_by_plan(
    monkeypatch: pytest.MonkeyPatch, grace: int | None, coalesce: bool
) -> None:
    monkeypatch.setattr(planning, "WALK_LIMIT", 20)
    fires = [NOW + number * SECOND for number in range(50)]
    job = make(Listed(fires), NOW, misfire_grace_time=grace, coalesce=coalesce)
    now, seen, plans = NOW + HOUR / 2, 0, 0
    while job.next_run_time is not None:
        planned = plan(job, now, 100)
        for lapse in planned.lapses:
            assert lapse.outcome == ("coalesced" if coalesce and grace is None else "missed")
            assert (lapse.first, lapse.last) == (fires[seen], fires[seen + (lapse.fires or 0) - 1])
            seen += lapse.fires or 0
        assert planned.fires == tuple(fires[seen : seen + len(planned.fires)])
        seen += len(planned.fires)
        assert planned.next == (fires[seen] if seen < 50 else None)
        job.next_run_time, plans = planned.next, plans + 1
    assert plans == 3
    # What runs comes with the last plan.
    assert bool(planned.fires) == (grace is None)


def test_jitter_does_not_add_up_from_one_interval_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    trigger = every(60, jitter=7, end_date=NOW + 185 * SECOND)
    fire, offsets = first_fire(trigger, NOW), []
    while fire is not None:
        offsets.append((fire - NOW).total_seconds())
        fire = fire_after(trigger, fire, fire)
    # The last one is put off as far as the end, and not dropped.
    assert offsets == [7, 67, 127, 185]
    by_hand = NOW + 100 * SECOND
    assert fire_after(trigger, by_hand, by_hand) == NOW + 127 * SECOND
    assert fire_after(every(60), by_hand, by_hand) == NOW + 160 * SECOND


def test_jitter_is_walked_and_its_gap_bounded() -> None:
    trigger = Counting(every(1, jitter=1))
    planned = plan(make(trigger, NOW, misfire_grace_time=None), NOW + 7 * 86_400 * SECOND, 100)
    assert trigger.calls < 3 * WALK_LIMIT
    assert len(planned.fires) == 1


# Clock changes

BERLIN = ZoneInfo("Europe/Berlin")
AUTUMN = datetime(2026, 10, 25, 0, 0, tzinfo=UTC)  # 02:00 in summer time; 03:00 becomes 02:00 an hour later
SPRING = datetime(2026, 3, 29, 0, 0, tzinfo=UTC)  # 01:00 in winter time; 02:00 becomes 03:00 an hour later


CRON_10 = CronTrigger(minute="*/10", timezone=BERLIN)
INTERVAL_10 = IntervalTrigger(minutes=10, start_date=datetime(2026, 1, 1, tzinfo=BERLIN), timezone=BERLIN)
OR_10 = OrTrigger([CronTrigger(minute=0, timezone=BERLIN), CronTrigger(minute="10-50/10", timezone=BERLIN)])


@pytest.mark.parametrize("zone", [UTC, BERLIN], ids=["utc", "berlin"])
@pytest.mark.parametrize(
    ("trigger", "begin"),
    [
        (CRON_10, AUTUMN),
        (CRON_10, SPRING),
        (INTERVAL_10, AUTUMN),
        (INTERVAL_10, SPRING),
        (OR_10, AUTUMN),
        (OR_10, SPRING),
    ],
    ids=["cron-autumn", "cron-spring", "interval-autumn", "interval-spring", "or-autumn", "or-spring"],
)
def test_over_a_clock_change_each_moment_is_a_fire_of_its_own(
    trigger: BaseTrigger, begin: datetime, zone: tzinfo
) -> None:
    first = begin.astimezone(BERLIN)
    later = begin + timedelta(hours=3, minutes=5)
    planned = plan(make(trigger, first, misfire_grace_time=None, coalesce=False), later.astimezone(zone), 100)
    expected = [begin + timedelta(minutes=10 * step) for step in range(19)]
    assert [fire.astimezone(UTC) for fire in planned.fires] == expected
    assert planned.lapses == ()
    assert planned.next == begin + timedelta(minutes=190)


@pytest.mark.parametrize("seconds", [5, 900])
@pytest.mark.parametrize(
    "kind",
    [
        CronTrigger(minute="*/30", timezone=BERLIN),
        IntervalTrigger(minutes=30, start_date=datetime(2026, 1, 1, tzinfo=BERLIN), timezone=BERLIN),
        EarliestOrTrigger([CronTrigger(minute="*/30", timezone=BERLIN)]),
        BoundedAndTrigger([CronTrigger(minute="*/30", timezone=BERLIN)]),
    ],
    ids=["cron", "interval", "or", "and"],
)
def test_jitter_puts_off_by_real_time_in_the_hour_that_comes_twice(
    kind: BaseTrigger, seconds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    trigger = copy.copy(kind)
    trigger.jitter = seconds
    fires = [AUTUMN.astimezone(BERLIN)]
    while fires[-1].timestamp() < (AUTUMN + 3 * HOUR).timestamp():
        following = fire_after(trigger, fires[-1], fires[-1])
        assert following is not None
        fires.append(following)
    expected = [AUTUMN + timedelta(minutes=30 * step, seconds=seconds) for step in range(1, 7)]
    assert [fire.astimezone(UTC) for fire in fires[1:]] == expected
    assert {fire.tzinfo for fire in fires} == {BERLIN}


def test_jitter_puts_off_by_real_time_a_day_of_the_calendar_in_the_hour_that_comes_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("random.uniform", lambda least, most: most)
    trigger = CalendarIntervalTrigger(days=1, hour=2, minute=50, start_date="2026-10-20", timezone=BERLIN, jitter=900)
    fire = first_fire(trigger, AUTUMN - HOUR)
    assert fire is not None
    assert fire.astimezone(UTC) == AUTUMN + timedelta(minutes=65)


@pytest.mark.parametrize("zone", [UTC, BERLIN], ids=["utc", "berlin"])
def test_in_the_hour_that_comes_twice_a_fire_is_late_by_real_time(zone: tzinfo) -> None:
    first = AUTUMN.astimezone(BERLIN)  # 02:00 in summer time
    job, now = make(CronTrigger(hour=2, timezone=BERLIN), first, misfire_grace_time=1800), AUTUMN + HOUR
    planned = plan(job, now.astimezone(zone), 100)
    assert [lapse.first for lapse in planned.lapses] == [first]
    assert not [fire for fire in planned.fires if fire.timestamp() == first.timestamp()]


def test_a_lapse_ends_right_before_the_run_in_the_hour_that_comes_twice_too() -> None:
    start = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    trigger = IntervalTrigger(seconds=1, start_date=start, timezone=BERLIN)
    now = AUTUMN + HOUR + timedelta(minutes=6)  # 02:06 for the second time
    planned = plan(make(trigger, start, misfire_grace_time=None), now, 100)
    assert planned.fires[0].astimezone(UTC) == now
    assert planned.lapses[0].last.astimezone(UTC) == now - SECOND


def test_in_the_hour_that_comes_twice_no_fire_before_the_first_is_taken_up_again() -> None:
    first = (AUTUMN + timedelta(minutes=50)).astimezone(BERLIN)
    job = make(CronTrigger(second="*", timezone=BERLIN), first, misfire_grace_time=7200, coalesce=False)
    planned = plan(job, AUTUMN + timedelta(minutes=90), 5000)
    moments = [fire.timestamp() for fire in planned.fires]
    assert min(moments) >= first.timestamp()
    assert moments == sorted(set(moments))


def test_in_the_hour_that_comes_twice_combined_triggers_are_taken_up_in_real_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(planning, "WALK_LIMIT", 3)
    monkeypatch.setattr(planning, "_LEAST_WALK", 3)
    trigger = OrTrigger([CronTrigger(minute=0, timezone=BERLIN), CronTrigger(minute=50, timezone=BERLIN)])
    job = make(trigger, (AUTUMN - 5 * HOUR).astimezone(BERLIN), misfire_grace_time=600)
    planned = plan(job, AUTUMN + timedelta(minutes=55), 100)
    assert moments(planned.fires) == [(AUTUMN + timedelta(minutes=50)).timestamp()]


# Any of several triggers

PARTS: dict[str, BaseTrigger] = {
    "cron": CronTrigger(hour=9, end_date=NOW + timedelta(days=3), timezone=BERLIN),
    "cron from a later day on": CronTrigger(hour=10, start_date=NOW + timedelta(days=3), timezone=BERLIN),
    "crontab": CrontabTrigger("30 */5 * * *", timezone=BERLIN),
    "calendar": CalendarIntervalTrigger(days=1, hour=17, start_date="2026-03-01", timezone=BERLIN),
    "another calendar": CalendarIntervalTrigger(days=2, minute=30, start_date="2026-03-01", timezone=BERLIN),
    "interval": IntervalTrigger(hours=7, start_date=NOW - timedelta(days=1), timezone=UTC),
    "uneven interval": IntervalTrigger(seconds=7777.7, start_date=NOW - timedelta(days=999), timezone=UTC),
    "date": DateTrigger(NOW + timedelta(days=1, minutes=7)),
    "another date": DateTrigger(NOW + timedelta(days=2, minutes=7)),
    "or": OrTrigger([DateTrigger(NOW + timedelta(days=1)), DateTrigger(NOW + timedelta(days=3))]),
    "and": BoundedAndTrigger([CronTrigger(hour="*/2", timezone=UTC), CronTrigger(hour="*/3", timezone=UTC)]),
}


def fires_of(trigger: BaseTrigger) -> set[datetime]:
    found, fire = set(), first_fire(trigger, NOW)
    while fire is not None and fire <= NOW + timedelta(days=4):
        found.add(fire.astimezone(UTC))
        fire = fire_after(trigger, fire, fire.astimezone(UTC) + SECOND)
    return found


@pytest.mark.parametrize("kind", [OrTrigger, EarliestOrTrigger])
@pytest.mark.parametrize("names", [*combinations(PARTS, 2), tuple(PARTS)], ids=" or ".join)
def test_any_of_some_triggers_fires_when_each_of_them_does(names: tuple[str, ...], kind: Any) -> None:
    parts = [PARTS[name] for name in names]
    assert fires_of(kind(parts)) == set().union(*map(fires_of, parts))


def test_what_fires_beside_a_trigger_of_the_users_own_is_told_to_it() -> None:
    own = Listed([NOW + 10 * SECOND, NOW + 30 * SECOND])
    either = EarliestOrTrigger([own, DateTrigger(NOW + 20 * SECOND)])
    fires = [first_fire(either, NOW)]
    while fires[-1] is not None:
        fires.append(fire_after(either, fires[-1], fires[-1]))
    assert fires == [NOW + 10 * SECOND, NOW + 20 * SECOND, NOW + 30 * SECOND, None]


# Properties


def reference(trigger: BaseTrigger, first: datetime, now: datetime) -> list[datetime | None]:
    """Walk the schedule fire by fire: those that are due, and the one that follows."""
    fires: list[datetime | None] = [first]
    while fires[-1] is not None and fires[-1] <= now:
        fires.append(trigger.get_next_fire_time(fires[-1], now))
    return fires


def moments(fires: Iterable[datetime | None]) -> list[float | None]:
    """Moments instead of times on the wall, of which some come twice."""
    return [fire.timestamp() if fire is not None else None for fire in fires]


triggers = st.sampled_from(
    [
        CronTrigger(minute="*/7", timezone=UTC),
        CronTrigger(hour="*/2", minute=30, timezone=BERLIN),
        CronTrigger(day_of_week="mon-fri", hour="9-17", timezone=ZoneInfo("America/New_York")),
        CronTrigger(minute="*/20", timezone=UTC, end_date=NOW + timedelta(hours=9)),
        IntervalTrigger(minutes=13, start_date=NOW, timezone=BERLIN),
        IntervalTrigger(minutes=13, start_date=NOW, end_date=NOW + timedelta(days=1), timezone=UTC),
        CalendarIntervalTrigger(days=1, hour=2, minute=30, start_date="2026-03-01", timezone=BERLIN),
        OrTrigger([CronTrigger(minute="5", timezone=UTC), CronTrigger(minute="*/15", timezone=BERLIN)]),
    ]
)


@given(triggers, st.integers(0, 4 * 86_400), st.none() | st.integers(1, 200_000), st.booleans(), st.integers(1, 50))
def test_what_is_planned_is_the_schedule_as_it_is_walked_fire_by_fire(
    trigger: BaseTrigger, late: int, grace: int | None, coalesce: bool, bound: int
) -> None:
    first = first_fire(trigger, NOW)
    assert first is not None
    now = first + late * SECOND
    *due, following = reference(trigger, first, now)
    planned = plan(make(trigger, first, misfire_grace_time=grace, coalesce=coalesce), now, bound)
    in_time = [fire for fire in due if fire is not None and (grace is None or (now - fire).total_seconds() <= grace)]
    run = in_time[-1:] if coalesce else in_time[-bound:]
    assert list(planned.fires) == run
    assert planned.next == following
    lapsed = due[: len(due) - len(run)]
    assert [(lapse.first, lapse.last) for lapse in planned.lapses] == ([(lapsed[0], lapsed[-1])] if lapsed else [])
    # The two parts of the or-trigger are walked half as far.
    uncounted = [None] if len(due) > WALK_LIMIT // 2 else []
    assert all(lapse.fires in [len(lapsed), *uncounted] for lapse in planned.lapses)
    assert [lapse.outcome for lapse in planned.lapses] == (
        [("coalesced" if run and coalesce else "missed")] if lapsed else []
    )


dense = st.sampled_from(
    [
        CronTrigger(minute="*/7", timezone=UTC),
        CronTrigger(minute="*/10", timezone=BERLIN),
        CronTrigger(minute="0-9", hour="*/5", timezone=BERLIN),
        CronTrigger(hour=2, minute="*/2", timezone=BERLIN),
        CronTrigger(minute="*/20", timezone=UTC, end_date=AUTUMN + timedelta(hours=9)),
        CronTrigger(day_of_week="sun", minute="*/5", timezone=BERLIN),
        OrTrigger([CronTrigger(minute="5", timezone=UTC), CronTrigger(minute="*/15", timezone=UTC)]),
        OrTrigger([DateTrigger(AUTUMN - 5 * HOUR), CronTrigger(minute="*/15", timezone=UTC)]),
    ]
)


# With a short walk, so that most of it is found by looking back.
@given(
    dense,
    st.integers(-30, 3),
    st.integers(0, 2 * 86_400),
    st.none() | st.integers(1, 100_000),
    st.booleans(),
    st.integers(1, 50),
)
def test_behind_the_walk_too_what_runs_is_the_latest_and_what_lapses_is_the_rest(
    trigger: BaseTrigger, begin: int, late: int, grace: int | None, coalesce: bool, bound: int
) -> None:
    first = first_fire(trigger, AUTUMN + begin * HOUR)
    assume(first is not None)
    assert first is not None
    now = first.astimezone(UTC) + late * SECOND
    *due, following = reference(trigger, first, now)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "WALK_LIMIT", 10)
        patch.setattr(planning, "_SLACK", 2)
        planned = plan(make(trigger, first, misfire_grace_time=grace, coalesce=coalesce), now, bound)
    in_time = [fire for fire in due if fire is not None and (grace is None or (now - fire).total_seconds() <= grace)]
    run = in_time[-1:] if coalesce else in_time[-bound:]
    assert moments(planned.fires) == moments(run)
    assert moments([planned.next]) == moments([following])
    lapsed = due[: len(due) - len(run)]
    assert [(*moments([lapse.first, lapse.last]), lapse.fires or len(lapsed)) for lapse in planned.lapses] == (
        [(*moments([lapsed[0], lapsed[-1]]), len(lapsed))] if lapsed else []
    )


@given(st.integers(1, 600), st.integers(0, 300_000), st.none() | st.integers(1, 900), st.booleans())
def test_a_plain_interval_is_covered_without_gap_or_overlap(
    interval: int, late: int, grace: int | None, coalesce: bool
) -> None:
    planned = plan(
        make(every(interval), NOW, misfire_grace_time=grace, coalesce=coalesce), NOW + late * SECOND, WALK_LIMIT // 2
    )
    step, expected = interval * SECOND, NOW
    for lapse in planned.lapses:
        assert lapse.first == expected
        assert lapse.last == lapse.first + ((lapse.fires or 0) - 1) * step
        expected = lapse.last + step
    for fire in planned.fires:
        assert fire == expected
        expected = fire + step
    assert planned.next == expected


# The first fire


def test_a_schedule_is_taken_up_at_its_next_moment() -> None:
    assert first_fire(every(10), NOW + SECOND) == NOW + 10 * SECOND
    assert first_fire(every(10, start=NOW + 60 * SECOND), NOW) == NOW + 60 * SECOND
    assert first_fire(CronTrigger(hour=13, timezone=UTC), NOW) == NOW + HOUR
    assert first_fire(CronTrigger(year=2020, timezone=UTC), NOW) is None
    assert first_fire(CronTrigger(hour=13, end_date=NOW, timezone=UTC), NOW) is None


def test_a_cron_expression_that_never_comes_true_is_given_up_after_fifty_years() -> None:
    trigger = CronTrigger(month=2, day=30, timezone=UTC)
    assert first_fire(trigger, NOW) is None
    assert first_fire(CronTrigger(year=2070, timezone=UTC), NOW) == datetime(2070, 1, 1, tzinfo=UTC)
    assert first_fire(CronTrigger(year=2170, timezone=UTC), NOW) is None
    assert trigger.end_date is None  # it was not touched for that


def test_a_calendar_interval_keeps_the_step_from_its_start() -> None:
    trigger = CalendarIntervalTrigger(weeks=2, start_date="2026-02-10", timezone=UTC)
    assert first_fire(trigger, NOW) == datetime(2026, 3, 10, tzinfo=UTC)
