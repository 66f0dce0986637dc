"""Workers: who is taken for dead, and what becomes of the runs of a process that has died, left or come back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from quart_sched.model.ids import new_id
from quart_sched.model.runs import RunRecord
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.workers import CRASH_LIMIT, SessionLost, Watch
from tests.stores.peers import Peer, answers_lost, at, seconds


def reap(watcher: Peer, dead: Peer) -> list[tuple[str, str, int, bool]]:
    """Declare `dead` dead as of its last heartbeat; return job, outcome, attempt and finality of each record."""
    known = {row.run_id for row in watcher.live() if row.owner == watcher.me.id}
    beat = watcher.store.heartbeat(watcher.me, known).others[dead.me.id]
    records = watcher.store.reap(dead.me.id, beat, watcher.me)
    assert records is not None
    return [(record.job_id, record.outcome, record.attempt, record.final) for record in records]


# Who is taken for dead


def test_a_heartbeat_that_moves_keeps_a_process_alive():
    watch = Watch()
    assert [watch.overdue({"a": beat}, now=5.0 * beat, lease=20) for beat in range(20)] == [[]] * 20


def test_death_is_a_heartbeat_that_stands_still_over_the_lease():
    watch = Watch()
    looks = [watch.overdue({"a": 7}, now, lease=20) for now in (0, 5, 10, 15, 19.9, 20)]
    assert looks == [[], [], [], [], [], [("a", 7)]]


def test_one_that_is_seen_for_the_first_time_gets_a_whole_lease():
    watch = Watch()
    watch.overdue({"a": 1}, 0, lease=20)
    for now in (15, 20, 25, 30):
        assert watch.overdue({"a": now, "b": 3}, now, lease=20) == []
    assert watch.overdue({"a": 35, "b": 3}, 35, lease=20) == [("b", 3)]


def test_three_looks_at_least_are_taken():
    watch = Watch()
    looks = [watch.overdue({"a": 7}, now, lease=20) for now in (0, 10, 20, 30)]
    assert looks == [[], [], [], [("a", 7)]]


def test_a_watcher_that_has_not_looked_for_long_gives_all_a_whole_lease_again():
    watch = Watch()
    for now in (0, 5, 10, 15):
        watch.overdue({"a": 7}, now, lease=20)
    for now in (1000, 1001, 1002, 1010, 1019):
        assert watch.overdue({"a": 7}, now, lease=20) == []
    assert watch.overdue({"a": 7}, 1020, lease=20) == [("a", 7)]


def test_a_heartbeat_between_two_looks_begins_the_lease_anew():
    watch = Watch()
    for now in (0, 5, 10, 15):
        watch.overdue({"a": 7}, now, lease=20)
    assert watch.overdue({"a": 8}, 20, lease=20) == []
    assert watch.overdue({"a": 8}, 39, lease=20) == []


def test_one_that_has_left_and_comes_back_is_not_held_to_what_was_seen_before():
    watch = Watch()
    for now in (0, 5, 10):
        watch.overdue({"a": 7}, now, lease=20)
    watch.overdue({}, 15, lease=20)
    assert watch.overdue({"a": 7}, 30, lease=20) == []


# What becomes of its runs


def test_the_runs_of_a_dead_process_are_lost(peer, clock):
    a, b = peer(), peer()
    a.add("job", misfire_grace_time=None)
    clock.jump(12)
    [run] = a.claim()
    clock.jump(25)
    assert reap(b, a) == [("job", "lost", 1, True)]
    assert b.live() == []
    [row] = b.runs()
    assert (row.run_id, row.fire_id, row.outcome, row.final, row.attempt) == (run.run_id, run.run_id, "lost", 1, 1)
    assert (row.worker, row.recorded_by, row.cause) == (a.worker, b.me.id, "schedule")
    assert (seconds(row.sched_us), seconds(row.started_us), seconds(row.ended_us)) == (10, 12, 37)
    assert (row.error_type, row.error_message) == (
        "ProcessDied", f"The process {a.worker} stopped before the run ended",
    )  # fmt: skip


def test_with_rerun_they_start_again_elsewhere_as_the_next_attempt(peer, clock):
    a, b = peer(), peer()
    a.add("job", on_crash="rerun")
    clock.jump(10)
    [run] = a.claim()
    clock.jump(25)
    assert reap(b, a) == [("job", "lost", 1, False)]
    [again] = [other for other in b.claim() if other.cause == "rerun"]
    assert (again.fire_id, again.attempt, again.scheduled_at) == (run.fire_id, 2, run.scheduled_at)
    assert again.run_id != run.run_id
    b.finish(again)
    rows = [row for row in b.runs() if row.fire_id == run.fire_id]
    assert [(row.run_id, row.outcome, row.final, row.attempt, row.cause) for row in rows] == [
        (run.run_id, "lost", 0, 1, "schedule"),
        (again.run_id, "succeeded", 1, 2, "rerun"),
    ]


def test_a_run_that_was_asked_to_stop_is_not_run_again_when_its_process_dies(peer, clock):
    a, b = peer(), peer()
    a.add("once", trigger="date", run_date=at(5), on_crash="rerun")
    clock.jump(5)
    [run] = a.claim()
    assert b.store.cancel(run.run_id, b.worker) is True
    assert reap(b, a) == [("once", "lost", 1, True)]
    assert b.live() == []


def test_a_run_that_takes_its_process_down_each_time_is_given_up(peer, clock):
    watcher, doomed = peer(), peer()
    watcher.add("once", trigger="date", run_date=at(5), on_crash="rerun")
    clock.jump(5)
    attempts = []
    for _ in range(CRASH_LIMIT):
        [run] = doomed.claim()
        attempts.append(run.attempt)
        last = reap(watcher, doomed)
        doomed.join()
    assert attempts == [1, 2, 3]
    assert last == [("once", "lost", 3, True)]
    assert watcher.live() == []
    assert [(row.attempt, row.outcome, row.final) for row in watcher.runs()] == [
        (1, "lost", 0), (2, "lost", 0), (3, "lost", 1),
    ]  # fmt: skip
    assert len({row.fire_id for row in watcher.runs()}) == 1
    assert len({row.run_id for row in watcher.runs()}) == 3


def test_a_hand_back_is_no_crash(peer, clock):
    watcher, doomed = peer(), peer()
    watcher.add("once", trigger="date", run_date=at(5), on_crash="rerun")
    clock.jump(5)
    for _ in range(5):
        [run] = doomed.claim()
        doomed.round(returned=(run.run_id,), limit=0)
    [run] = doomed.claim()
    assert (run.attempt, run.fire_id) == (1, run.run_id)
    assert reap(watcher, doomed) == [("once", "lost", 1, False)]


def test_each_fire_of_a_batch_is_run_again_by_itself(peer, clock):
    a, b = peer(), peer()
    a.add("job", coalesce=False, misfire_grace_time=None, on_crash="rerun", max_instances=2)
    clock.jump(30)
    assert len(a.claim()) == 3
    assert reap(b, a) == [("job", "lost", 1, False)] * 3
    assert len(b.claim()) == 2, "as many as may run at once"
    assert len({row.batch_id for row in b.live()}) == 3


def test_a_run_by_hand_is_lost_or_run_again_like_any_other(peer):
    a, b = peer(), peer()
    a.add("job", on_crash="rerun")
    a.store.start_now(a.me, "job", new_id(), "api")
    assert reap(b, a) == [("job", "lost", 1, False)]
    [again] = b.claim()
    assert (again.cause, again.attempt) == ("rerun", 2)


def test_a_run_whose_job_has_been_removed_is_not_run_again(peer, clock):
    a, b = peer(), peer()
    a.add("job", on_crash="rerun")
    clock.jump(10)
    a.claim()
    a.verbs.remove("job")
    reap(b, a)
    b.round()
    assert b.live() == []
    assert sum(row.final for row in b.runs()) == 1


def test_the_instance_of_a_dead_process_is_free_again(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    a.claim()
    reap(b, a)
    clock.jump(10)
    assert len(b.claim()) == 1


def test_what_is_nobodys_stays_when_a_process_dies(peer, clock):
    a, b, c = peer(), peer(), peer()
    for job_id in ("one", "two", "three"):
        a.add(job_id)
    clock.jump(10)
    [first] = a.claim(limit=1)
    [second] = a.claim(limit=1)
    [third] = c.claim()
    a.round(returned=(second.run_id,), limit=0)
    assert len(reap(b, a)) == 1
    assert {(row.run_id, row.owner) for row in b.live()} == {(second.run_id, None), (third.run_id, c.me.id)}
    assert [row.run_id for row in b.runs()] == [first.run_id]


# Once, and only if it is still


def test_who_has_moved_meanwhile_is_not_declared_dead(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    a.claim()
    beat = b.store.heartbeat(b.me, set()).others[a.me.id]
    a.store.heartbeat(a.me, {row.run_id for row in a.live()})
    assert b.store.reap(a.me.id, beat, b.me) is None
    assert (len(a.live()), a.runs()) == (1, [])
    assert {worker.id for worker in b.store.workers()} == {a.me.id, b.me.id}


def test_a_claim_an_end_and_a_run_by_hand_are_signs_of_life_too(peer, clock):
    a, b = peer(), peer()
    a.add("job", max_instances=2)
    clock.jump(10)
    beats = []

    def look() -> None:
        beats.append(b.store.heartbeat(b.me, set()).others[a.me.id])

    look()
    [run] = a.claim()
    look()
    a.finish(run)
    look()
    a.store.start_now(a.me, "job", new_id(), "manual")
    look()
    a.store.beat(a.me)
    look()
    assert len(set(beats)) == 5


def test_several_that_find_a_process_dead_bury_it_once(peer, clock):
    dead, watchers = peer(), [peer() for _ in range(4)]
    for number in range(10):
        dead.add(f"job{number}", on_crash="rerun" if number % 2 else "lost")
    clock.jump(10)
    dead.claim()
    beat = watchers[0].store.heartbeat(watchers[0].me, set()).others[dead.me.id]
    barrier = threading.Barrier(4)

    def bury(watcher: Peer) -> list[RunRecord] | None:
        barrier.wait(10)
        return watcher.store.reap(dead.me.id, beat, watcher.me)

    with ThreadPoolExecutor(4) as pool:
        [records] = [records for records in pool.map(bury, watchers) if records is not None]
    assert len(records) == 10
    assert len(dead.runs()) == 10
    assert [(row.owner, row.attempt) for row in dead.live()] == [(None, 2)] * 5


def test_a_claim_and_a_burial_at_the_same_moment_leave_no_run_with_a_dead_owner(peer, clock):
    watcher = peer()
    watcher.add("job", trigger="interval", seconds=1, start_date=at(1), max_instances=1000)
    barrier = threading.Barrier(2)

    def claim(one: Peer) -> str:
        barrier.wait(10)
        try:
            return "claimed" if one.claim() else "too late for a claim"
        except SessionLost:
            return "dead"

    def bury(one: Peer, beat: int) -> None:
        barrier.wait(10)
        watcher.store.reap(one.me.id, beat, watcher.me)

    with ThreadPoolExecutor(2) as pool:
        for _ in range(8):
            one = peer()
            one.store.loader.learn([watcher.job("job").func])
            clock.jump(1)
            beat = watcher.store.heartbeat(watcher.me, set()).others[one.me.id]
            claiming, burying = pool.submit(claim, one), pool.submit(bury, one, beat)
            burying.result()
            outcome = claiming.result()
            alive = {row.id for row in watcher.query("SELECT id FROM {p}workers WHERE gone_us IS NULL")}
            assert (outcome, one.me.id in alive) in (("claimed", True), ("dead", False))
            assert {row.owner for row in watcher.live()} <= alive


# Who comes back too late


def test_a_process_that_was_declared_dead_can_write_nothing_more(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    reap(b, a)
    clock.jump(10)
    before = (b.runs(), b.live(), b.job("job"))
    for act in (
        lambda: a.finish(run),
        lambda: a.claim(),
        lambda: a.round(returned=(run.run_id,), limit=0),
        lambda: a.store.heartbeat(a.me, set()),
        lambda: a.store.beat(a.me),
        lambda: a.store.start_now(a.me, "job", new_id(), "manual"),
    ):
        with pytest.raises(SessionLost, match=f"declared dead as {a.me.id}"):
            act()
    assert a.store.sign_off(a.me) == []
    assert (b.runs(), b.live(), b.job("job")) == before


def test_it_takes_part_anew_under_another_id(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    before = a.me.id
    reap(b, a)
    a.join()
    assert a.me.id != before
    clock.jump(10)
    [run] = a.claim()
    assert a.finish(run) == []
    gone = {row.id: row.gone_why for row in a.query("SELECT id, gone_why FROM {p}workers")}
    assert gone == {before: "lost", a.me.id: None, b.me.id: None}


def test_what_was_run_again_elsewhere_is_not_overwritten_by_the_first_attempt(peer, clock):
    a, b = peer(), peer()
    a.add("job", on_crash="rerun")
    clock.jump(10)
    [run] = a.claim()
    reap(b, a)
    [again] = b.claim()
    a.join()
    assert a.finish(run) == [run.run_id], "also where it has joined anew"
    b.round(b.end(again, "failed"), limit=0)
    assert a.finish(run) == [run.run_id]
    assert [(row.run_id, row.outcome) for row in b.runs()] == [(run.run_id, "lost"), (again.run_id, "failed")]


# Who leaves


def test_who_leaves_in_order_leaves_nothing_behind(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    a.finish(run)
    assert a.store.sign_off(a.me) == []
    assert [worker.id for worker in b.store.workers()] == [b.me.id]
    assert [row.gone_why for row in b.query("SELECT * FROM {p}workers WHERE gone_us IS NOT NULL")] == ["left"]
    assert a.me.id not in b.store.heartbeat(b.me, set()).others


def test_what_has_not_ended_when_a_process_leaves_is_lost_or_run_again(peer, clock):
    a, b = peer(), peer()
    a.add("job")
    a.add("other", on_crash="rerun")
    clock.jump(10)
    a.claim()
    records = a.store.sign_off(a.me)
    assert {(record.job_id, record.final) for record in records} == {("job", True), ("other", False)}
    assert a.store.sign_off(a.me) == []
    assert [(run.job_id, run.attempt) for run in b.claim()] == [("other", 2)]
    assert [(row.job_id, row.outcome, row.worker) for row in b.runs("job")] == [("job", "lost", a.worker)]


def test_coming_and_going_is_counted_for_all_to_see(peer):
    a = peer()
    seen = [a.store.poll().members]
    b = peer()
    seen.append(a.store.poll().members)
    c = peer()
    seen.append(a.store.poll().members)
    b.store.sign_off(b.me)
    seen.append(a.store.poll().members)
    reap(a, c)
    seen.append(a.store.poll().members)
    a.store.heartbeat(a.me, set())
    a.claim()
    assert a.store.poll().members == seen[-1]
    assert len(set(seen)) == 5


# Who is there


def test_the_living_are_listed_with_what_they_run(peer, clock):
    a = peer()
    clock.jump(1)
    b = peer()
    a.add("job")
    clock.jump(10)
    [run] = a.claim()
    clock.jump(3)
    b.store.heartbeat(b.me, set())
    one, other = b.store.workers()
    assert (one.id, one.worker, one.started_at, one.seen_at, one.age) == (a.me.id, a.worker, at(0), at(11), 3)
    assert (other.id, other.started_at, other.age) == (b.me.id, at(1), 0)
    assert (one.running, other.running) == ({run.run_id: "job"}, {})


# Strays


def test_a_heartbeat_gives_back_what_is_its_own_and_not_known_and_leaves_alone_what_is_others(peer, clock):
    a, b = peer(), peer()
    a.add("one")
    a.add("two")
    clock.jump(10)
    [known] = a.claim(limit=1)
    [other] = b.claim()
    assert a.store.heartbeat(a.me, {known.run_id}).strays == []
    assert {row.owner for row in a.live()} == {a.me.id, b.me.id}
    assert a.store.heartbeat(a.me, set()).strays == [known.run_id]
    assert {(row.run_id, row.owner, row.state) for row in a.live()} == {
        (known.run_id, None, "queued"), (other.run_id, b.me.id, "running"),
    }  # fmt: skip


def test_the_own_ghost_of_a_join_whose_answer_was_lost_is_buried_like_any_other(peer):
    a = peer()
    with answers_lost(a.store.database), pytest.raises(DatabaseFailure):
        a.store.join()
    [(ghost, beat)] = a.store.heartbeat(a.me, set()).others.items()
    assert a.store.reap(ghost, beat, a.me) == []
    assert a.store.heartbeat(a.me, set()).others == {}


def test_one_process_clears_up_and_a_turn_from_a_clock_that_was_ahead_does_not_last(peer):
    a, b = peer(), peer()
    assert a.store.house.take_turn(a.me, 60)
    assert not b.store.house.take_turn(b.me, 60)
    assert a.store.house.take_turn(a.me, 365 * 86_400)
    assert b.store.house.take_turn(b.me, 60)
