"""The memory store keeps APScheduler's contract for job stores, and never loses or repeats a fire."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import islice, zip_longest
from typing import Any

import pytest
from apscheduler.job import Job
from apscheduler.jobstores.base import BaseJobStore, ConflictingIdError, JobLookupError
from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.triggers.interval import IntervalTrigger
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

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


def ids(jobs: Iterable[Job]) -> list[str]:
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


def test_a_fire_is_due_at_its_very_microsecond(store: BaseJobStore) -> None:
    moment = at(5).replace(microsecond=123_457)
    job = make("a", 5)
    job.next_run_time = moment
    store.add_job(job)
    assert store.get_due_jobs(moment - timedelta(microseconds=1)) == []
    assert ids(store.get_due_jobs(moment)) == ["a"]
    assert store.get_next_run_time() == moment


def test_a_job_comes_back_as_it_was_put(store: BaseJobStore) -> None:
    store.add_job(make("a", 5))
    job = make("a", 7)
    job.name, job.args, job.kwargs = "renamed", (), {}
    job.misfire_grace_time, job.coalesce, job.max_instances = None, False, 4
    store.update_job(job)
    found = store.lookup_job("a")
    assert (found.name, found.func, found.next_run_time) == ("renamed", run, at(7))
    assert (found.misfire_grace_time, found.coalesce, found.max_instances) == (None, False, 4)
    assert (type(found.trigger), found.trigger.interval) == (IntervalTrigger, timedelta(seconds=60))


def test_an_update_leaves_the_other_jobs_alone(store: BaseJobStore) -> None:
    for job_id, seconds in (("a", 5), ("b", 9)):
        store.add_job(make(job_id, seconds))
    store.update_job(make("a", 20))
    assert [(job.id, job.next_run_time) for job in store.get_all_jobs()] == [("b", at(9)), ("a", at(20))]


def test_an_empty_store_has_nothing_due(store: BaseJobStore) -> None:
    assert store.get_all_jobs() == []
    assert store.get_due_jobs(at(5)) == []
    assert store.get_next_run_time() is None
    store.remove_all_jobs()


# What is ours alone


def test_jobs_outlive_the_shutdown() -> None:
    store = MemoryStore()
    store.add_job(make("a", 5))
    store.shutdown()
    assert len(store) == 1


def test_what_is_due_and_not_moved_on_stays_due() -> None:
    store = MemoryStore()
    for number in range(5):
        store.add_job(make(str(number), number))
    with closing(store.due(at(9))) as due:
        assert ids(islice(due, 2)) == ["0", "1"]
    assert store.next_due() == at(0).timestamp()
    assert ids(store.due(at(2))) == ["0", "1", "2"]
    assert ids(store.due(at(9))) == ["0", "1", "2", "3", "4"]


def test_what_is_moved_on_while_the_due_jobs_are_gone_through_comes_once_and_in_its_place_afterwards() -> None:
    store = MemoryStore()
    for number in range(5):
        store.add_job(make(str(number), number))
    seen = []
    with closing(store.due(at(9))) as due:
        for job in due:
            seen.append(job.id)
            if job.id == "0":
                store.update_job(make("0", 1))  # due again
                store.update_job(make("3", 20))
                store.remove_job("4")
    assert seen == ["0", "1", "2"]
    assert ids(store.due(at(30))) == ["1", "0", "2", "3"]


def test_many_changes_leave_no_waste_behind() -> None:
    store = MemoryStore()
    for number in range(10_000):
        job = make("a", number)
        store.update_job(job) if number else store.add_job(job)
    assert len(store._heap) < 200
    assert store.next_due() == at(9_999).timestamp()


def test_taking_none_takes_none() -> None:
    store = MemoryStore()
    store.add_job(make("a", 5))
    assert ids(islice(store.due(at(9)), 0)) == []
    assert ids(store.due(at(9))) == ["a"]


def test_what_is_due_can_be_removed_and_added_anew() -> None:
    store = MemoryStore()
    store.add_job(make("a", 5))
    with closing(store.due(at(9))) as due:
        for _ in due:
            store.remove_job("a")
            store.add_job(make("a", 7))
    assert store.next_due() == at(7).timestamp()
    assert ids(store.due(at(9))) == ["a"]


def test_jobs_due_at_one_moment_come_in_the_order_in_which_they_were_put() -> None:
    store = MemoryStore()
    for job_id in "cab":
        store.add_job(make(job_id, 5))
    assert ids(store.due(at(5))) == ["c", "a", "b"]


def test_no_fire_is_lost_when_the_waste_is_swept_out() -> None:
    store, due = MemoryStore(), {str(number): number for number in range(100)}
    for job_id, seconds in due.items():
        store.add_job(make(job_id, seconds))
    for turn in range(40):
        for number in range(50):  # the other half is never touched
            due[str(number)] = (number * 37 + turn * 11) % 1000
            store.update_job(make(str(number), due[str(number)]))
    assert len(store._heap) <= 2 * 100 + 64
    taken = list(store.due(at(1000)))
    assert len(taken) == 100
    assert {job.id: job.next_run_time for job in taken} == {job_id: at(seconds) for job_id, seconds in due.items()}
    assert [job.next_run_time for job in taken] == sorted(map(at, due.values()))


class MemoryStoreMachine(RuleBasedStateMachine):
    """The store against a plain dict of id to seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.store = MemoryStore()
        self.model: dict[str, int | None] = {}

    names = st.sampled_from("abcdef")
    times = st.none() | st.integers(0, 20)

    @rule(name=names, seconds=times)
    def add(self, name: str, seconds: int | None) -> None:
        if name in self.model:
            with pytest.raises(ConflictingIdError):
                self.store.add_job(make(name, seconds))
        else:
            self.store.add_job(make(name, seconds))
            self.model[name] = seconds

    @rule(name=names, seconds=times)
    def update(self, name: str, seconds: int | None) -> None:
        if name in self.model:
            self.store.update_job(make(name, seconds))
            self.model[name] = seconds
        else:
            with pytest.raises(JobLookupError):
                self.store.update_job(make(name, seconds))

    @rule(name=names)
    def remove(self, name: str) -> None:
        if name in self.model:
            self.store.remove_job(name)
            del self.model[name]
        else:
            with pytest.raises(JobLookupError):
                self.store.remove_job(name)

    @rule()
    def remove_all(self) -> None:
        self.store.remove_all_jobs()
        self.model.clear()

    @rule(seconds=st.integers(0, 20), limit=st.integers(0, 7), moves=st.lists(times, max_size=7))
    def go_through(self, seconds: int, limit: int, moves: list[int | None]) -> None:
        waiting = {name: value for name, value in self.model.items() if value is not None and value <= seconds}
        got = []
        with closing(self.store.due(at(seconds))) as due:
            for job, move in zip_longest(islice(due, limit), moves[:limit], fillvalue=...):
                if job is ...:
                    break
                got.append(job.id)
                if move is not ...:
                    self.update(job.id, move)
        assert len(got) == len(set(got)) == min(limit, len(waiting))
        left = [waiting[name] for name in waiting.keys() - set(got)]
        times = [waiting[name] for name in got]
        assert times == sorted(times)
        assert not times or not left or max(times) <= min(left)

    def waiting(self) -> dict[str, int]:
        return {name: value for name, value in self.model.items() if value is not None}

    @invariant()
    def it_agrees_with_the_dict(self) -> None:
        waiting = self.waiting()
        assert self.store.next_due() == (at(min(waiting.values())).timestamp() if waiting else None)
        assert self.store.get_next_run_time() == (at(min(waiting.values())) if waiting else None)
        assert len(self.store) == len(self.model)
        assert {job.id: job.next_run_time for job in self.store.get_all_jobs()} == {
            name: None if seconds is None else at(seconds) for name, seconds in self.model.items()
        }
        due = {name for name, seconds in self.model.items() if seconds is not None and seconds <= 10}
        assert set(ids(self.store.get_due_jobs(at(10)))) == due


TestItAgreesWithAPlainDictWhateverIsDone = MemoryStoreMachine.TestCase
