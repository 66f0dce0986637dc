"""The memory store keeps APScheduler's contract for job stores, and never loses or repeats a fire."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import Scheduler
from quart_sched.stores.memory import MemoryStore

NOW = datetime(2026, 3, 2, tzinfo=UTC)
SCHEDULER = Scheduler(timezone="UTC")


def run() -> None: ...


def make(job_id: str, seconds: int | None) -> Job:
    return Job(
        SCHEDULER,
        id=job_id,
        func=run,
        args=(),
        kwargs={},
        trigger=IntervalTrigger(seconds=60, start_date=NOW, timezone=UTC),
        executor="default",
        misfire_grace_time=1,
        coalesce=True,
        max_instances=1,
        next_run_time=None if seconds is None else at(seconds),
    )


def at(seconds: int) -> datetime:
    return NOW + timedelta(seconds=seconds)


# The contract of all stores


@pytest.fixture(params=[MemoryStore, MemoryJobStore, lambda: SQLAlchemyJobStore("sqlite://")])
def store(request: pytest.FixtureRequest) -> Any:
    made: BaseJobStore = request.param()
    made.start(SCHEDULER, "default")
    yield made
    made.shutdown()


def ids(jobs: list[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_a_job_is_found_under_its_id(store: BaseJobStore) -> None:
    store.add_job(make("a", 5))
    assert store.lookup_job("a").id == "a"
    assert store.lookup_job("b") is None


def test_a_taken_id_is_refused(store: BaseJobStore) -> None:
    store.add_job(make("a", 5))
    with pytest.raises(ConflictingIdError):
        store.add_job(make("a", 9))


def test_jobs_are_listed_by_their_next_fire_paused_ones_last(store: BaseJobStore) -> None:
    for job_id, seconds in (("p", None), ("b", 9), ("a", 5), ("c", 12)):
        store.add_job(make(job_id, seconds))
    assert ids(store.get_all_jobs()) == ["a", "b", "c", "p"]


def test_due_jobs_come_earliest_first(store: BaseJobStore) -> None:
    for job_id, seconds in (("late", 9), ("due", 5), ("earlier", 3), ("paused", None)):
        store.add_job(make(job_id, seconds))
    assert ids(store.get_due_jobs(at(5))) == ["earlier", "due"]
    assert store.get_next_run_time() == at(3)


def test_an_update_moves_the_job(store: BaseJobStore) -> None:
    store.add_job(make("a", 5))
    store.update_job(make("a", 50))
    assert store.get_due_jobs(at(5)) == []
    assert store.get_next_run_time() == at(50)
    store.update_job(make("a", None))
    assert store.get_next_run_time() is None


def test_what_is_not_there_cannot_be_updated_or_removed(store: BaseJobStore) -> None:
    with pytest.raises(JobLookupError):
        store.update_job(make("a", 5))
    with pytest.raises(JobLookupError):
        store.remove_job("a")


def test_removed_jobs_are_gone(store: BaseJobStore) -> None:
    for job_id in "abc":
        store.add_job(make(job_id, 5))
    store.remove_job("b")
    assert ids(store.get_all_jobs()) == ["a", "c"]
    store.remove_all_jobs()
    assert store.get_all_jobs() == []
    assert store.get_next_run_time() is None


# What is ours alone


def test_jobs_outlive_the_shutdown() -> None:
    store = MemoryStore()
    store.add_job(make("a", 5))
    store.shutdown()
    assert len(store) == 1


def test_taking_is_bounded_and_what_is_taken_is_out_until_it_is_put_back() -> None:
    store = MemoryStore()
    for number in range(5):
        store.add_job(make(str(number), number))
    assert ids(store.take_due(at(9), 2)) == ["0", "1"]
    assert store.next_due() == at(2).timestamp()
    store.update_job(make("0", 1))
    assert ids(store.take_due(at(9), 9)) == ["0", "2", "3", "4"]
    assert store.next_due() is None


def test_many_changes_leave_no_waste_behind() -> None:
    store = MemoryStore()
    for number in range(10_000):
        job = make("a", number)
        store.update_job(job) if number else store.add_job(job)
    assert len(store._heap) < 200
    assert store.next_due() == at(9_999).timestamp()


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "update", "remove", "take", "clear"]),
        st.sampled_from("abcdef"),
        st.none() | st.integers(0, 20),
    ),
    max_size=60,
)


@given(operations)
def test_it_agrees_with_a_plain_dict_whatever_is_done(steps: list[tuple[str, str, int | None]]) -> None:
    store, model = MemoryStore(), dict[str, int | None]()
    for verb, job_id, seconds in steps:
        if verb == "add" and job_id not in model:
            store.add_job(make(job_id, seconds))
            model[job_id] = seconds
        elif verb == "update" and job_id in model:
            store.update_job(make(job_id, seconds))
            model[job_id] = seconds
        elif verb == "remove" and job_id in model:
            store.remove_job(job_id)
            del model[job_id]
        elif verb == "clear":
            store.remove_all_jobs()
            model.clear()
        elif verb == "take":
            due = {key for key, value in model.items() if value is not None and value <= 10}
            taken = store.take_due(at(10), 100)
            assert set(ids(taken)) == due
            assert [job.next_run_time for job in taken] == sorted(job.next_run_time for job in taken)
            for job in taken:
                store.update_job(make(job.id, 15))
                model[job.id] = 15
        waiting = [value for value in model.values() if value is not None]
        assert store.next_due() == (at(min(waiting)).timestamp() if waiting else None)
        assert sorted(ids(store.get_all_jobs())) == sorted(model)
