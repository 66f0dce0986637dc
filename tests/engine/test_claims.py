"""Claims: each fire is moved on in its store before it may run, and no trouble of one job is another's."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.jobstores.base import JobLookupError
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.engine.claims import claim
from quart_sched.model import planning
from quart_sched.model.unrestorable import Unrestorable
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


class Stuck(BaseTrigger):
    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        return previous


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


def ids(store: MemoryStore) -> list[str]:
    return [job.id for job in store.get_all_jobs()]


def test_a_claim_moves_each_job_on_before_it_runs_and_removes_what_has_ended() -> None:
    store = stored(make(every(10), NOW, id="a"), make(DateTrigger(NOW), NOW, id="b"))
    outcome = claim(store, store.due(NOW), NOW, 100, {"default"}, 10)
    assert [(job.id, planned.fires) for job, planned in outcome.claims] == [("a", (NOW,)), ("b", (NOW,))]
    assert outcome.ended == ["b"]
    assert store.lookup_job("b") is None
    assert store.lookup_job("a").next_run_time == NOW + 10 * SECOND
    assert list(store.due(NOW)) == []


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


def test_when_its_time_is_over_a_claim_leaves_the_rest_due() -> None:
    jobs = [make(every(10), NOW - number * SECOND, id=str(number), misfire_grace_time=60) for number in range(3)]
    store, claimed = stored(*jobs), []
    for more in (True, True, False):
        outcome = claim(store, store.due(NOW), NOW, 100, {"default"}, 10, seconds=0.0)
        assert outcome.more == more
        claimed += [job.id for job, _ in outcome.claims]
    assert claimed == ["2", "1", "0"]
    assert store.next_due() > NOW.timestamp()


def test_a_job_that_is_due_again_after_its_claim_lets_the_others_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "WALK_LIMIT", 10)

    class Listed(BaseTrigger):
        """Does not look at the present, so that it is worked off plan by plan."""

        def get_next_fire_time(self, previous: Any, now: Any) -> Any:
            return NOW if previous is None else previous + SECOND

    now = NOW + 35 * SECOND
    behind = make(Listed(), NOW, id="behind", misfire_grace_time=None)
    store, order = stored(behind, make(every(10, start=now), now, id="other")), []
    while claims := claim(store, store.due(now), now, 100, {"default"}, 10).claims:
        order += [(job.id, sum(lapse.fires or 0 for lapse in planned.lapses)) for job, planned in claims]
    assert order == [("behind", 10), ("other", 0), ("behind", 10), ("behind", 10), ("behind", 5)]


class Silent(BaseTrigger):
    def get_next_fire_time(self, previous: Any, now: Any) -> Any:
        raise ZeroDivisionError("in the trigger")


def test_a_job_removed_between_taking_and_claiming_does_not_run() -> None:
    store = stored(make(every(10), NOW, id="a"), make(DateTrigger(NOW), NOW, id="b"), make(every(10), NOW, id="c"))
    due = list(store.due(NOW))
    store.remove_job("a")
    store.remove_job("b")
    outcome = claim(store, due, NOW, 100, {"default"}, 10)
    assert [job.id for job, _ in outcome.claims] == ["c"]
    assert (outcome.failed, outcome.ended, outcome.broken) == ({}, [], [])
    assert ids(store) == ["c"]


def test_a_store_that_cannot_remove_keeps_the_last_fire_due() -> None:
    class Keeping(MemoryStore):
        def remove_job(self, job_id: str) -> None:
            raise OSError("read only")

    store = Keeping()
    job = make(DateTrigger(NOW), NOW)
    store.add_job(job)
    outcome = claim(store, [job], NOW, 100, {"default"}, 10)
    assert (outcome.claims, outcome.ended) == ([], [])
    assert str(outcome.failed["job"]) == "read only"
    assert job.next_run_time == NOW


def test_a_broken_trigger_in_a_store_that_fails_too_is_tried_again() -> None:
    job = make(Silent(), NOW)
    store = stored(job)
    store.errors["job"] = OSError("disk full")
    outcome = claim(store, [job], NOW, 100, {"default"}, 10)
    assert (outcome.broken, [*outcome.failed]) == ([], ["job"])
    assert job.next_run_time == NOW


def test_the_reason_says_what_the_trigger_raised() -> None:
    job = make(Silent(), NOW)
    outcome = claim(stored(job), [job], NOW, 100, {"default"}, 10)
    assert outcome.broken == [(job, "its trigger raised ZeroDivisionError: in the trigger")]
    assert job.next_run_time is None


def test_what_cannot_be_restored_is_reported_and_left_in_the_store_as_it_is() -> None:
    lost, good = make(Unrestorable("LookupError: gone", every(10)), NOW, id="lost"), make(every(10), NOW, id="good")
    store = stored(lost, good)
    outcome = claim(store, [lost, good], NOW, 100, {"default"}, 1)
    assert outcome.broken == [(lost, "LookupError: gone")]
    assert outcome.stuck
    assert not outcome.more
    assert [job.id for job, _ in outcome.claims] == ["good"]
    assert lost.next_run_time == NOW


def test_without_room_nothing_is_claimed_and_nothing_lost() -> None:
    job = make(every(10), NOW)
    outcome = claim(stored(job), [job], NOW, 100, {"default"}, 0)
    assert (outcome.claims, outcome.more, job.next_run_time) == ([], True, NOW)
    assert not claim(stored(), [], NOW, 100, {"default"}, 0).more


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 30)), min_size=1, max_size=8),
    st.sampled_from([0.0, float("inf")]),
)
def test_over_many_rounds_each_fire_is_claimed_once(steps: list[tuple[int, int]], slice_: float) -> None:
    """Whatever the pace of the rounds: what ran and what lapsed is the schedule, each fire once."""
    jobs = {f"{number}": seconds for number, (seconds, _) in enumerate(steps)}
    store = stored(*(make(every(seconds), NOW, id=job_id) for job_id, seconds in jobs.items()))
    now, seen = NOW, dict.fromkeys(jobs, 0)
    for _, wait in steps:
        now += wait * SECOND
        while claims := claim(store, store.due(now), now, 100, {"default"}, 3, slice_).claims:
            for job, planned in claims:
                seen[job.id] += len(planned.fires) + sum(lapse.fires or 0 for lapse in planned.lapses)
    for job_id, seconds in jobs.items():
        assert seen[job_id] == (now - NOW) // (seconds * SECOND) + 1
        assert store.lookup_job(job_id).next_run_time > now
