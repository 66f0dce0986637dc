"""Claims: what runs, what lapses, and what comes next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.cron.fields import WeekField
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.engine.claims import WALK_LIMIT, Lapse, TriggerStuck, claim, first_fire, plan
from quart_sched.stores.memory import MemoryStore

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
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


# Claims on a store


class FailingStore(MemoryStore):
    def __init__(self) -> None:
        super().__init__()
        self.errors: dict[str, Exception] = {}

    def update_job(self, job: Job) -> None:
        if job.id in self.errors:
            raise self.errors[job.id]
        super().update_job(job)


def stored(*jobs: Job) -> FailingStore:
    store = FailingStore()
    for job in jobs:
        store.add_job(job)
    return store


def test_a_claim_moves_each_job_on_before_it_runs_and_removes_what_has_ended() -> None:
    store = stored(make(every(10), NOW, id="a"), make(DateTrigger(NOW), NOW, id="b"))
    outcome = claim(store, store.take_due(NOW, 10), NOW, 100, {"default"}, 10)
    assert [(job.id, planned.fires) for job, planned in outcome.claims] == [("a", (NOW,)), ("b", (NOW,))]
    assert outcome.ended == ["b"]
    assert store.lookup_job("b") is None
    assert store.lookup_job("a").next_run_time == NOW + 10 * SECOND
    assert store.take_due(NOW, 10) == []


def test_no_more_is_claimed_than_there_is_room_for() -> None:
    jobs = [make(every(10), NOW, id=str(number)) for number in range(5)]
    outcome = claim(stored(*jobs), jobs, NOW, 100, {"default"}, 3)
    assert len(outcome.claims) == 3
    assert outcome.more
    assert jobs[4].next_run_time == NOW


def test_what_the_store_fails_on_does_not_run_and_stays_due() -> None:
    jobs = [make(every(10), NOW, id="a"), make(every(10), NOW, id="b")]
    store = stored(*jobs)
    store.errors["a"] = OSError("disk full")
    outcome = claim(store, jobs, NOW, 100, {"default"}, 10)
    assert [job.id for job, _ in outcome.claims] == ["b"]
    assert str(outcome.failed["a"]) == "disk full"
    assert jobs[0].next_run_time == NOW


def test_a_job_that_was_removed_meanwhile_is_left_alone() -> None:
    jobs = [make(every(10), NOW, id="a"), make(every(10), NOW, id="b")]
    store = stored(*jobs)
    store.errors["a"] = JobLookupError("a")
    outcome = claim(store, jobs, NOW, 100, {"default"}, 10)
    assert [job.id for job, _ in outcome.claims] == ["b"]
    assert not outcome.failed


def test_a_job_whose_trigger_raises_is_paused_and_named() -> None:
    jobs = [make(Stuck(), NOW, id="a"), make(every(10), NOW, id="b"), make(every(10), NOW, id="c", executor="gone")]
    store = stored(*jobs)
    outcome = claim(store, jobs, NOW + SECOND, 100, {"default"}, 10)
    assert [job.id for job, _ in outcome.claims] == ["b"]
    assert [(job.id, reason.split(":")[0]) for job, reason in outcome.broken] == [
        ("a", "its trigger raised TriggerStuck"),
        ("c", 'there is no executor "gone"'),
    ]
    assert jobs[0].next_run_time is None
