"""Lanes: runs of a backfill that wait for each other in the database, whoever ends them, and all at the same time."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from quart_sched.model.runs import Run, RunRecord
from tests.stores.peers import Peer, at, seconds


def backfill(peer: Peer, fires: int, concurrency: int = 1, **options: Any) -> list[str]:
    """Let so many fires run, one a second before the clock's start; return their run_ids."""
    moments = [at(second) for second in range(-fires, 0)]
    settings = {"concurrency": concurrency, "rerun": False, "dry_run": False} | options
    return [run_id for _, run_id in peer.store.backfill("job", moments, **settings) if run_id is not None]


def times(runs: list[Run]) -> list[float]:
    return [(run.scheduled_at - at(0)).total_seconds() for run in runs]


def due(peer: Peer) -> list[float]:
    """The fires that are under way, or that any process may take."""
    return [seconds(row.sched_us) for row in peer.live() if row.owner is not None or row.due_us is not None]


def test_of_each_lane_one_run_at_a_time_is_due(peer):
    one, other = peer(), peer()
    one.add("job", max_instances=3)
    backfill(one, 5, 2)
    first = one.claim()
    assert times(first) == [-5, -4]
    assert other.claim() == []
    assert one.finish(first[1]) == []
    assert due(one) == [-5, -2]
    [third] = other.claim()
    assert times([third]) == [-2]
    other.finish(third)
    assert due(one) == [-5]
    one.finish(first[0])
    assert due(one) == [-3]


def test_one_that_waits_behind_is_cancelled_and_the_lane_stays_as_it_is(peer):
    one = peer()
    one.add("job")
    _, second, _ = backfill(one, 3)
    [run] = one.claim()
    record = one.store.cancel(second, "host:1")
    assert isinstance(record, RunRecord)
    assert record.cause == "backfill"
    assert due(one) == [-3]
    one.finish(run)
    assert due(one) == [-1]


def test_the_first_one_that_waits_is_cancelled_and_the_next_becomes_due(peer):
    one = peer()
    one.add("job")
    first, *_ = backfill(one, 3)
    one.store.cancel(first, "host:1")
    assert due(one) == [-2]


def test_an_attempt_that_is_to_be_repeated_keeps_its_lane(peer):
    one = peer()
    one.add("job")
    backfill(one, 2)
    [run] = one.claim()
    one.round(one.end(run, "failed", final=False, retry_at=at(5)), limit=0)
    assert due(one) == [-2]
    one.scheduler.clock.jump(5)
    [again] = one.claim()
    assert (again.attempt, again.fire_id, again.cause) == (2, run.fire_id, "retry")
    one.finish(again)
    assert due(one) == [-1]


def test_a_function_that_outlives_its_run_keeps_its_place_and_not_its_lane(peer):
    one = peer()
    one.add("job", max_instances=2)
    backfill(one, 3)
    [run] = one.claim()
    one.round(one.end(run, "timed_out", busy=True), limit=0)
    [second] = one.claim()
    assert times([second]) == [-2]
    one.finish(second)
    assert due(one) == [-3, -1]  # the first is only busy still


@pytest.mark.parametrize("on_crash", ["lost", "rerun"])
def test_the_death_of_a_process_ends_its_run_or_keeps_the_lane_for_the_next_attempt(peer, on_crash):
    one, other = peer(), peer()
    one.add("job", on_crash=on_crash, max_instances=2)
    backfill(one, 3)
    [busy] = one.claim()
    one.round(one.end(busy, "timed_out", busy=True), limit=0)
    [run] = one.claim()
    [(beat,)] = one.query("SELECT beat FROM {p}workers WHERE id = :id", id=one.me.id)
    [record] = other.store.reap(one.me.id, beat, other.me) or []
    assert (record.run_id, record.outcome, record.final) == (run.run_id, "lost", on_crash == "lost")
    assert due(other) == ([-2] if on_crash == "rerun" else [-1])
    [following] = other.claim()
    other.finish(following)
    assert due(other) == ([-1] if on_crash == "rerun" else [])


def test_of_a_job_that_was_removed_everything_is_cancelled_at_once(peer):
    one = peer()
    one.add("job")
    backfill(one, 4)
    [run] = one.claim()
    one.verbs.remove("job")
    assert [(row.outcome, row.error_type) for row in one.runs()] == [("cancelled", "JobRemoved")] * 3
    one.finish(run)
    assert one.live() == []


def test_earlier_fires_come_first_also_where_they_had_to_wait_for_a_place(peer):
    one = peer()
    one.add("job", max_instances=2)
    one.store.backfill("job", [at(-60)], concurrency=1, rerun=False, dry_run=False)
    backfill(one, 4, 2)
    first = one.claim()
    assert times(first) == [-60, -4]
    one.round(*(one.end(run) for run in first[1:]), limit=0)
    assert times(one.claim()) == [-3]


def test_every_lane_empties_while_processes_end_and_cancel_its_runs_at_the_same_time(peer):
    peers = [peer() for _ in range(4)]
    peers[0].add("job", max_instances=100)
    run_ids = backfill(peers[0], 120, 12)

    def work(one: Peer, number: int) -> int:
        chance, done = random.Random(number), 0
        while one.live():
            runs = one.claim(limit=chance.randint(1, 6))
            done += len(runs) - len(one.finish(*runs))
        return done

    def cancel(one: Peer, number: int) -> int:
        chosen = random.Random(number).sample(run_ids, 50)
        return sum(isinstance(one.store.cancel(run_id, "host:1"), RunRecord) for run_id in chosen)

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, one, number) for number, one in enumerate(peers[:2])]
        cancelling = [pool.submit(cancel, one, number) for number, one in enumerate(peers[2:])]
        done, cancelled = (sum(each.result(60) for each in some) for some in (working, cancelling))
    assert done + cancelled == 120
    assert len(peers[0].runs("job")) == 120


def test_two_equal_backfills_at_once_run_nothing_twice(peer):
    peers = [peer() for _ in range(3)]
    peers[0].add("job")
    with ThreadPoolExecutor(3) as pool:
        entered = [len(each) for each in pool.map(lambda one: backfill(one, 30, 3), peers)]
    assert sorted(entered) == [0, 0, 30]
    assert len(peers[0].live()) == 30
