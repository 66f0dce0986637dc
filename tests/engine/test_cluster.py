"""The pumps of several processes on one store: crashes, lost answers, outages, drains, pauses and runs by hand."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from apscheduler.events import EVENT_SCHEDULER_PAUSED, EVENT_SCHEDULER_RESUMED
from apscheduler.schedulers.base import STATE_PAUSED, STATE_RUNNING
from quart import Quart, current_app

from quart_sched import APScheduler, Scheduler, current_run
from quart_sched.engine.housekeeping import HOUSE_INTERVAL
from quart_sched.engine.pulse import Pulse
from quart_sched.errors import DuplicateJob, NotStored
from quart_sched.model.events import SchedulerChanged
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.mending import Mending
from quart_sched.stores.sql.store import SqlStore
from tests.conftest import eventually
from tests.servers.ports import free_port
from tests.stores.cluster import Cluster, Process
from tests.stores.peers import answers_lost, at, outage

pytestmark = pytest.mark.integration  # there is a database in each

ran: list[tuple[str, str]] = []
"""Job and process of each run that began."""
ended: list[str] = []
gate = asyncio.Event()
thread_gate = threading.Event()


async def notes() -> None:
    ran.append((current_run.job_id, current_app.name))


async def waits() -> str:
    ran.append((current_run.job_id, current_app.name))
    try:
        await gate.wait()
    except asyncio.CancelledError:
        ended.append(f"{current_app.name} {'cancelled' if current_run.cancelled else 'stopped'}")
        raise
    ended.append(current_app.name)
    return "done"


def waits_in_thread() -> str:
    ran.append((current_run.job_id, current_app.name))
    while not thread_gate.wait(0.002):
        if current_run.cancelled:
            ended.append(f"{current_app.name} cancelled")
            return "cancelled"
    ended.append(current_app.name)
    return "done"


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    global gate, thread_gate
    ran.clear()
    ended.clear()
    gate, thread_gate = asyncio.Event(), threading.Event()
    yield
    thread_gate.set()


def declares(**jobs: dict[str, Any]) -> Callable[[APScheduler], None]:
    """Return code that declares jobs: intervals of 10 s that begin 10 s after the start, unless told otherwise."""

    def declare(scheduler: APScheduler) -> None:
        for job_id, options in jobs.items():
            trigger = {} if "trigger" in options else {"trigger": "interval", "seconds": 10, "start_date": at(10)}
            scheduler.add_job(job_id, **{"func": notes, **trigger, **options})

    return declare


ONE = declares(job={})
ONCE = {"trigger": "date", "run_date": at(5)}


def pump_of(process: Process) -> Any:
    [pump] = process.pumps
    return pump


def database_of(process: Process) -> Any:
    return process.slot.store.database


@contextmanager
def stands_still(cluster: Cluster, process: Process) -> Iterator[None]:
    """Let a process stand still, as far as others can tell: nothing that it wants of the store is carried out."""
    go_on = threading.Event()
    pump_of(process)._thread.submit(go_on.wait)
    cluster.processes.remove(process)
    try:
        yield
    finally:
        go_on.set()
        cluster.processes.append(process)


def live(cluster: Cluster) -> list[tuple[Any, ...]]:
    """Job, owner and attempt of the runs under way or waiting."""
    return cluster.query("SELECT job_id, owner, attempt FROM {p}live ORDER BY sched_us, job_id")


def books(cluster: Cluster) -> list[tuple[Any, ...]]:
    """Job, fire in seconds, outcome, finality and attempt of what the history has."""
    rows = cluster.query(
        "SELECT job_id, sched_us, outcome, final, attempt FROM {p}runs ORDER BY sched_us, job_id, attempt"
    )
    zero = int(at(0).timestamp() * 1e6)
    return [(job, (us - zero) / 1e6, *rest) for job, us, *rest in rows]


# Together


async def test_each_fire_runs_in_one_of_the_processes(cluster):
    jobs = {f"job{number}": {} for number in range(5)}
    for _ in range(3):
        await cluster.start(declares(**jobs))
    await cluster.advance(30)
    assert Counter(job for job, _ in ran) == dict.fromkeys(jobs, 3)
    assert books(cluster) == [(job, fire, "succeeded", 1, 1) for fire in (10, 20, 30) for job in jobs]
    assert live(cluster) == []


async def test_a_process_takes_no_more_than_it_has_room_for(cluster):
    jobs = {f"job{number}": {"func": waits} for number in range(5)}
    first = await cluster.start(declares(**jobs), SCHEDULER_MAX_RUNS=2)
    await cluster.advance(10)
    assert len(ran) == 2
    assert len(live(cluster)) == 2
    second = await cluster.start(declares(**jobs))
    assert Counter(process for _, process in ran) == {first.app.name: 2, second.app.name: 3}
    gate.set()


async def test_max_instances_holds_over_all_processes(cluster):
    for _ in range(3):
        await cluster.start(declares(job={"func": waits, "max_instances": 2}))
    await cluster.advance(40)
    assert len(ran) == 2
    assert books(cluster) == [("job", 30, "skipped", 1, 1), ("job", 40, "skipped", 1, 1)]
    gate.set()
    await cluster.advance(10)
    assert len(ran) == 3


# When an end is written down


async def test_an_end_is_written_down_with_the_next_claim_where_that_is_due_soon(cluster):
    soon = {"trigger": "date", "run_date": at(5.04)}
    await cluster.start(declares(one=ONCE, two=soon))
    await cluster.advance(5)
    assert (ran, books(cluster)) == ([("one", "process_0")], [])
    await cluster.advance(0.04)
    assert [job for job, _ in ran] == ["one", "two"]
    assert books(cluster) == [("one", 5, "succeeded", 1, 1), ("two", 5.04, "succeeded", 1, 1)], "nothing follows it"


async def test_an_end_does_not_wait_for_a_claim_that_is_far_off(cluster):
    await cluster.start(declares(one=ONCE, two={"trigger": "date", "run_date": at(5.06)}))
    await cluster.advance(5)
    assert books(cluster) == [("one", 5, "succeeded", 1, 1)]


async def test_an_end_is_written_down_before_its_job_is_due_again(cluster):
    process = await cluster.start(declares(job={}))
    await cluster.advance(9.98)
    await (await process.aio.run_job("job"))
    await cluster.rest()
    assert books(cluster) == [("job", 9.98, "succeeded", 1, 1)]
    await cluster.advance(1)
    assert [row[2] for row in books(cluster)] == ["succeeded", "succeeded"]


async def test_an_end_waits_no_longer_where_the_claim_comes_to_nothing(cluster):
    process = await cluster.start(declares(one=ONCE, two={"trigger": "date", "run_date": at(5.04)}))
    await cluster.advance(5)
    await process.aio.pause_job("two")
    await cluster.advance(0.05)
    assert books(cluster) == [("one", 5, "succeeded", 1, 1)]


# Answers that are lost


async def test_a_claim_whose_answer_is_lost_is_given_back_and_runs_once(cluster, caplog):
    process = await cluster.start(ONE)
    await cluster.advance(15)
    with answers_lost(database_of(process), "SqlStore.round", times=1) as lost:
        await cluster.advance(5)
    assert len(lost) == 1
    assert len(ran) == 1
    assert live(cluster) == [("job", process.slot.session.id, 1)]
    await cluster.advance(2)
    assert len(ran) == 2
    assert books(cluster) == [("job", fire, "succeeded", 1, 1) for fire in (10, 20)]
    assert "was claimed here and never begun" in caplog.text
    await cluster.advance(8)
    assert len(ran) == 3


async def test_an_end_whose_answer_is_lost_is_recorded_once_and_forgotten(cluster, caplog):
    process = await cluster.start(declares(job={"func": waits}))
    await cluster.advance(10)
    with answers_lost(database_of(process), "SqlStore.round", times=1) as lost:
        gate.set()
        await cluster.rest()
    assert len(lost) == 1
    await cluster.advance(5)
    assert books(cluster) == [("job", 10, "succeeded", 1, 1)]
    pump = pump_of(process)
    assert (pump._own.endings, pump._own.returned, pump._own.held) == ({}, set(), set())
    assert "recorded as lost before" not in caplog.text


@pytest.mark.parametrize("every", [(2, 3), (3, 2), (3, 5)], ids=str)
async def test_whatever_answers_are_lost_every_fire_runs_once(cluster, every):
    processes = [await cluster.start(declares(a={}, b={"coalesce": False})) for _ in range(2)]
    await cluster.advance(15)
    one, other = map(database_of, processes)
    with answers_lost(one, every=every[0]) as lost, answers_lost(other, every=every[1]) as also_lost:
        await cluster.advance(100)
    assert len(lost) > 5
    assert len(also_lost) > 5
    await cluster.advance(50)
    done = books(cluster)
    fires = [(job, fire) for fire in range(10, 170, 10) for job in "ab"]
    assert [row[:2] for row in done] == fires
    outcomes = Counter(row[2] for row in done)
    assert outcomes["succeeded"] + outcomes["skipped"] + outcomes["missed"] == len(fires)
    assert len(ran) == outcomes["succeeded"] > len(fires) / 2
    assert live(cluster) == []
    for process in processes:
        pump = pump_of(process)
        assert (pump._own.held, pump._own.endings, pump._own.returned) == (set(), {}, set())


# Life and death


async def test_a_process_that_stands_still_is_dead_after_the_lease_and_its_runs_are_lost(cluster, caplog):
    still = await cluster.start(declares(job={**ONCE, "func": waits}))
    await cluster.advance(5)
    other = await cluster.start()
    await cluster.advance(5)
    with stands_still(cluster, still):
        await cluster.advance(18)
        assert len(live(cluster)) == 1
        await cluster.advance(10)
        assert live(cluster) == []
        assert books(cluster) == [("job", 5, "lost", 1, 1)]
        [record] = await other.records("job")
        assert (record.outcome, record.error_type) == ("lost", "ProcessDied")
        assert f"Process {still.slot.session.id} is dead: 1 of its runs" in caplog.text
        assert ended == []


async def test_a_process_that_shows_itself_at_the_last_moment_is_not_said_to_be_dead(cluster, caplog, monkeypatch):
    still, other = await cluster.start(), await cluster.start()
    reap, tried = other.slot.store.reap, []

    def reap_late(worker, beat, me):
        still.slot.store.beat(still.slot.session)
        tried.append(worker)
        return reap(worker, beat, me)

    monkeypatch.setattr(other.slot.store, "reap", reap_late)
    with stands_still(cluster, still):
        await cluster.advance(30)
        assert tried == [still.slot.session.id]
        assert "is dead" not in caplog.text


async def test_a_process_that_comes_back_too_late_gives_its_runs_up_and_goes_on(cluster, caplog):
    still = await cluster.start(declares(job={**ONCE, "func": waits}))
    await cluster.advance(5)
    await cluster.start()
    before = still.slot.session.id
    with stands_still(cluster, still):
        await cluster.advance(30)
    await cluster.rest()
    assert ended == [f"{still.app.name} cancelled"]
    assert still.slot.session.id != before
    assert "1 run(s) are given up" in caplog.text
    assert books(cluster) == [("job", 5, "lost", 1, 1)], "it cannot overwrite"
    assert still.scheduler.scheduler.runner.under_way.room == 1000
    [gone] = cluster.query("SELECT gone_why FROM {p}workers WHERE id = :id", id=before)
    assert gone == ("lost",)
    # And it goes on.
    await cluster.stop(cluster.processes[0])
    await still.aio.add_job("later", notes, trigger="interval", seconds=10)
    await cluster.advance(10)
    assert ran[-1] == ("later", still.app.name)


async def test_a_function_in_a_thread_sees_that_its_run_is_its_own_no_more(cluster):
    still = await cluster.start(declares(job={**ONCE, "func": waits_in_thread}))
    await cluster.advance(5)
    await cluster.start()
    with stands_still(cluster, still):
        await cluster.advance(30)
    await eventually(lambda: ended)
    assert ended == [f"{still.app.name} cancelled"]
    await cluster.rest()
    assert books(cluster) == [("job", 5, "lost", 1, 1)]


async def test_a_function_that_waits_for_a_thread_is_not_begun_once_its_run_is_lost(cluster):
    jobs = {job: {**ONCE, "func": waits_in_thread} for job in ("one", "other")}
    still = await cluster.start(declares(**jobs), SCHEDULER_MAX_THREADS=1)
    await cluster.advance(5)
    await eventually(lambda: ran)
    [(begun, _)] = ran
    await cluster.start()
    with stands_still(cluster, still):
        await cluster.advance(30)
    await eventually(lambda: ended)
    await cluster.rest()
    await asyncio.sleep(0.02)
    assert ran == [(begun, still.app.name)]
    assert still.scheduler.scheduler.runner.under_way.room == 1000


async def test_with_rerun_a_lost_run_starts_again_elsewhere(cluster):
    still = await cluster.start(declares(job={**ONCE, "func": waits, "on_crash": "rerun"}))
    await cluster.advance(5)
    other = await cluster.start()
    with stands_still(cluster, still):
        await cluster.advance(30)
        assert ran == [("job", still.app.name), ("job", other.app.name)]
        assert live(cluster) == [("job", other.slot.session.id, 2)]
        gate.set()
        await cluster.rest()
        assert books(cluster) == [("job", 5, "lost", 0, 1), ("job", 5, "succeeded", 1, 2)]
    await cluster.rest()
    assert books(cluster) == [("job", 5, "lost", 0, 1), ("job", 5, "succeeded", 1, 2)]
    first, second = cluster.query("SELECT run_id, fire_id FROM {p}runs ORDER BY attempt")
    assert first[1] == second[1] == first[0] != second[0]


async def test_a_database_that_is_away_for_longer_than_the_lease_kills_nobody(cluster):
    processes = [await cluster.start(declares(job={**ONCE, "func": waits})) for _ in range(3)]
    sessions = [process.slot.session.id for process in processes]
    await cluster.advance(7)
    with outage(*map(database_of, processes)):
        await cluster.advance(100)
    await cluster.advance(60)
    assert [process.slot.session.id for process in processes] == sessions
    assert len(live(cluster)) == 1
    gate.set()
    await cluster.rest()
    assert books(cluster) == [("job", 5, "succeeded", 1, 1)]


async def test_a_long_outage_of_the_database_leaves_few_lines_in_the_log(cluster, caplog):
    caplog.set_level(logging.INFO)
    process = await cluster.start()
    with outage(database_of(process)):
        await cluster.advance(3600)
    told = [record.message for record in caplog.records if "trying again" in record.message]
    assert 8 <= len(told) <= 12
    await cluster.advance(10)
    assert caplog.records[-1].message.startswith('The pump of job store "default" goes on after ')


def test_the_pulse_says_once_that_it_fails(caplog):
    def beat() -> None:
        beats.append(None)
        raise OSError("away")

    beats: list[None] = []
    pulse = Pulse(beat, 0.005)
    while len(beats) < 3:
        time.sleep(0.005)
    pulse.stop()
    assert [record.message for record in caplog.records] == ["No heartbeat for 0 s: away"]


@pytest.mark.parametrize(("heartbeat", "lease", "poll"), [(5, 20, 1), (1, 3, 1), (1, 4, 10)])
async def test_who_finds_the_database_again_first_does_not_take_the_others_for_dead(cluster, heartbeat, lease, poll):
    config = {"SCHEDULER_HEARTBEAT": heartbeat, "SCHEDULER_LEASE": lease, "SCHEDULER_POLL_INTERVAL": poll}
    first, second = [await cluster.start(**config) for _ in range(2)]
    sessions = [first.slot.session.id, second.slot.session.id]
    await cluster.advance(1.4 * heartbeat)
    with outage(database_of(first)):
        await cluster.advance(0.7 * lease)
        with outage(database_of(second)):
            await cluster.advance(5.3 * lease)
    await cluster.advance(3 * lease)
    assert [first.slot.session.id, second.slot.session.id] == sessions


async def test_a_dead_process_is_found_after_an_outage_too(cluster):
    watcher, still = [await cluster.start() for _ in range(2)]
    dead = still.slot.session.id
    with stands_still(cluster, still):
        with outage(database_of(watcher)):
            await cluster.advance(60)
        await cluster.advance(65)
        [gone] = cluster.query("SELECT gone_why FROM {p}workers WHERE id = :id", id=dead)
        assert gone == ("lost",)


async def test_what_a_claim_took_that_lasted_too_long_goes_back_and_does_not_start(cluster, cluster_clock):
    process = await cluster.start(declares(job={**ONCE, "misfire_grace_time": None}))
    round_ = process.slot.store.round
    claimed: list[str] = []

    def stops_behind_its_first_claim(*args: Any) -> Any:
        done = round_(*args)
        if done.claimed and not claimed:
            cluster_clock.jump(11)
        claimed.extend(run.run_id for claim in done.claimed for run in claim.runs)
        return done

    process.slot.store.round = stops_behind_its_first_claim
    await cluster.jump(5)
    await cluster.advance(2)
    assert len(claimed) == 2
    assert len(set(claimed)) == 1
    assert ran == [("job", process.app.name)]
    assert books(cluster) == [("job", 5, "succeeded", 1, 1)]


# Leaving


async def test_functions_that_wait_for_a_thread_are_handed_back_and_run_once_elsewhere(cluster):
    jobs = {job: {**ONCE, "func": waits_in_thread} for job in ("one", "two", "three")}
    first = await cluster.start(declares(**jobs), SCHEDULER_MAX_THREADS=1)
    await cluster.advance(5)
    await eventually(lambda: ran)
    second = await cluster.start()
    sessions = first.slot.session.id, second.slot.session.id
    at_the_end = []
    sign_off = first.slot.store.sign_off
    first.slot.store.sign_off = lambda me: (at_the_end.append((live(cluster), books(cluster))), sign_off(me))[1]

    stopping = asyncio.create_task(cluster.stop(first))
    await eventually(lambda: [owner for _, owner, _ in live(cluster)].count(sessions[0]) == 1)
    await cluster.advance(1)
    await eventually(lambda: len(ran) == 3)
    assert {process for _, process in ran[1:]} == {second.app.name}
    assert not stopping.done(), "what runs gets its time"
    thread_gate.set()
    await stopping
    assert Counter(job for job, _ in ran) == dict.fromkeys(jobs, 1)
    assert sorted(books(cluster)) == [(job, 5, "succeeded", 1, 1) for job in sorted(jobs)]
    recorders = cluster.query("SELECT job_id, recorded_by FROM {p}runs")
    assert dict(recorders)[ran[0][0]] == sessions[0]
    [(left, recorded)] = at_the_end
    assert sessions[0] not in {owner for _, owner, _ in left}
    assert (ran[0][0], 5, "succeeded", 1, 1) in recorded, "before the session ended"


async def test_catch_up_fires_behind_the_one_that_runs_are_handed_back(cluster):
    job = {"func": waits, "coalesce": False, "misfire_grace_time": None, "trigger": "cron", "second": "5,15,25"}
    first = await cluster.start(declares(job=job))
    await cluster.jump(26)
    assert len(ran) == 1
    second = await cluster.start()
    stopping = asyncio.create_task(cluster.stop(first))
    await asyncio.sleep(0)
    await cluster.advance(2)
    assert len(ran) == 1, "max_instances is 1, and the first fire still runs"
    gate.set()
    await stopping
    await cluster.advance(4)
    assert ran == [("job", first.app.name), ("job", second.app.name), ("job", second.app.name)]
    assert books(cluster) == [("job", fire, "succeeded", 1, 1) for fire in (5, 15, 25)]
    assert live(cluster) == []


async def test_what_does_not_end_in_time_is_cancelled_and_in_the_books_when_the_process_has_left(cluster):
    jobs = {"coroutine": {**ONCE, "func": waits}, "function": {**ONCE, "func": waits_in_thread, "on_crash": "rerun"}}
    first = await cluster.start(declares(**jobs), SCHEDULER_SHUTDOWN_TIMEOUT=0.02)
    await cluster.advance(5)
    await eventually(lambda: len(ran) == 2)
    await cluster.stop(first)
    assert books(cluster) == [("coroutine", 5, "cancelled", 1, 1), ("function", 5, "cancelled", 1, 1)]
    assert live(cluster) == []
    assert cluster.query("SELECT gone_why FROM {p}workers") == [("left",)]


async def test_a_process_that_cannot_write_its_last_words_leaves_all_the_same_and_is_found_out(cluster, monkeypatch):
    monkeypatch.setattr("quart_sched.engine.scheduler._BOOKS_GRACE", 0.05)
    first = await cluster.start(declares(job={**ONCE, "func": waits}))
    await cluster.advance(5)
    with outage(database_of(first)):
        gate.set()
        await cluster.stop(first)
    assert len(live(cluster)) == 1
    await cluster.start()
    await cluster.advance(40)
    assert books(cluster) == [("job", 5, "lost", 1, 1)]


async def test_a_process_that_is_about_to_leave_begins_no_housekeeping(cluster, monkeypatch):
    process = await cluster.start(ONE)
    [pump], store = process.pumps, process.slot.store
    await eventually(lambda: pump._housekeeping is None)
    heartbeat, begun, goes_on = store.heartbeat, threading.Event(), threading.Event()
    turns: list[Any] = []

    def slow(*args: Any) -> Any:
        begun.set()
        goes_on.wait(5)
        return heartbeat(*args)

    monkeypatch.setattr(store, "heartbeat", slow)
    monkeypatch.setattr(store.house, "take_turn", lambda *args: turns.append(args))
    cluster.clock.jump(HOUSE_INTERVAL + 1)
    pump.wake()
    await eventually(begun.is_set)
    leaving = asyncio.create_task(pump.close(5))
    await eventually(lambda: pump._closing)
    goes_on.set()
    await leaving
    await asyncio.sleep(0.05)
    assert (turns, pump._housekeeping) == ([], None)


async def test_a_connection_for_notifications_that_nobody_waits_for_any_more_is_closed(cluster, monkeypatch):
    process = await cluster.start(ONE)
    [pump] = process.pumps
    begun, goes_on, closed = threading.Event(), threading.Event(), threading.Event()

    def listen() -> Any:
        begun.set()
        goes_on.wait(5)
        return SimpleNamespace(close=closed.set)

    monkeypatch.setattr(process.slot.store, "listen", listen)
    listening = asyncio.create_task(pump._listen())
    await eventually(begun.is_set)
    listening.cancel()
    await asyncio.wait([listening])
    goes_on.set()
    await eventually(closed.is_set)


async def test_runs_end_in_the_books_after_the_scheduler_was_shut_down_and_it_can_start_again(cluster):
    process = await cluster.start(declares(job={"func": waits}))
    await cluster.advance(10)
    await process.aio.shutdown(wait=False)
    gate.set()
    await cluster.rest()
    assert books(cluster) == [("job", 10, "succeeded", 1, 1)]
    await cluster.advance(20)
    assert len(ran) == 1
    await process.aio.start()
    await cluster.advance(10)
    assert books(cluster)[-1] == ("job", 40, "succeeded", 1, 1)


# The pause


async def test_a_pause_holds_for_all_within_the_poll_interval_and_so_does_its_end(cluster):
    one, other = [await cluster.start(ONE) for _ in range(2)]

    async def states() -> list[str]:
        return [(await process.rest("GET", ""))[1]["state"] for process in cluster.processes]

    assert await one.rest("POST", "/pause") == (204, None)
    assert (await states())[0] == "paused"
    await cluster.advance(1)
    assert await states() == ["paused", "paused"]
    await cluster.start(ONE)
    assert await states() == ["paused"] * 3, "a start lifts no pause"
    await cluster.advance(24)
    assert ran == []
    assert await other.rest("POST", "/resume") == (204, None)
    await cluster.advance(1)
    assert await states() == ["running"] * 3
    await cluster.advance(5)
    assert len(ran) == 1
    assert books(cluster) == [("job", 20, "missed", 1, 1), ("job", 30, "succeeded", 1, 1)]


@pytest.mark.parametrize("pausing", [True, False])
async def test_a_look_that_began_before_it_does_not_undo_a_pause_or_its_end(cluster, pausing):
    process = await cluster.start(ONE)
    if not pausing:
        await process.aio.pause()
        await cluster.rest()
    store, engine = process.slot.store, process.scheduler.scheduler
    poll, looked, go_on = store.poll, threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        answer = poll(*args)
        looked.set()
        go_on.wait(10)
        return answer

    changes: list[int] = []
    engine.stream.subscribe(lambda event: changes.append(event.code), SchedulerChanged)
    store.poll = slow
    pump_of(process).wake()
    await eventually(looked.is_set)
    await (process.aio.pause() if pausing else process.aio.resume())
    go_on.set()
    await cluster.rest()
    assert changes == [EVENT_SCHEDULER_PAUSED if pausing else EVENT_SCHEDULER_RESUMED]
    assert engine.state == (STATE_PAUSED if pausing else STATE_RUNNING)


async def test_a_paused_start_concerns_the_process_alone(cluster):
    one = await cluster.start(ONE, paused=True)
    other = await cluster.start(ONE)
    await cluster.advance(20)
    assert ran == [("job", other.app.name)] * 2
    await one.rest("POST", "/resume")
    await cluster.stop(other)
    await cluster.advance(10)
    assert ran[2:] == [("job", one.app.name)]


async def test_the_end_of_a_pause_of_all_leaves_a_paused_start_alone(cluster):
    one = await cluster.start(ONE, paused=True)
    other = await cluster.start(ONE)
    await one.aio.pause()
    await one.aio.resume()
    await cluster.advance(10)
    await other.aio.pause()
    await one.aio.resume()  # before it has heard of the pause
    await cluster.advance(10)
    assert ran == [("job", other.app.name)] * 2


async def test_the_dashboard_of_a_paused_start_says_that_others_may_fire_and_does_not_offer_to_resume(cluster):
    async def page() -> str:
        response = await one.client.get("/scheduler/ui/")
        return str(await response.get_data(as_text=True))

    one = await cluster.start(ONE, paused=True, SCHEDULER_DASHBOARD_ENABLED=True)
    shown = await page()
    assert "This process was started paused, and fires no job. Other processes may." in shown
    assert "Pause the scheduler" in shown
    stale = {"action": "resume"}
    assert (await one.client.post("/scheduler/ui/scheduler", form=stale)).status_code == 303
    assert one.scheduler.state == 2
    await one.aio.pause()
    assert "Resume the scheduler" in await page()


@pytest.fixture
async def postgresql(tables: Any, cluster_clock: Any) -> Any:
    """Processes on PostgreSQL, whatever else there is."""
    processes = Cluster(cluster_clock, tables.empty("postgresql"))
    yield processes
    await processes.close()


@pytest.mark.integration
async def test_with_postgresql_changes_are_seen_at_once(postgresql):
    one = await postgresql.start(paused=True, SCHEDULER_POLL_INTERVAL=30)
    other = await postgresql.start(SCHEDULER_POLL_INTERVAL=30)
    await one.aio.add_job("job", notes, trigger="date", run_date=at(0))
    await eventually(lambda: ran)
    assert ran == [("job", other.app.name)]
    await one.rest("POST", "/pause")
    await eventually(lambda: other.scheduler.state == 2)
    await one.rest("POST", "/resume")
    await eventually(lambda: other.scheduler.state == 1)


@pytest.mark.integration
async def test_with_postgresql_polling_goes_on_without_notifications_and_they_come_back(postgresql):
    one = await postgresql.start(paused=True)
    other = await postgresql.start()
    listening = f"query LIKE 'LISTEN%{postgresql.entry['table_prefix']}%'"
    kill = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {listening}"
    assert postgresql.query(kill) == [(2,)]
    await eventually(lambda: pump_of(one)._wakeups is None and pump_of(other)._wakeups is None)
    await one.aio.add_job("job", notes, trigger="date", run_date=at(0), misfire_grace_time=None)
    await postgresql.rest()
    assert ran == []
    await postgresql.advance(1)
    assert len(ran) == 1
    await postgresql.advance(40)
    assert postgresql.query(f"SELECT count(*) FROM pg_stat_activity WHERE {listening}") == [(2,)]
    await one.aio.add_job("again", notes, trigger="date", run_date=at(0), misfire_grace_time=None)
    await eventually(lambda: len(ran) == 2)


@pytest.mark.integration
async def test_with_postgresql_an_event_loop_that_watches_no_sockets_goes_without_notifications(
    postgresql, monkeypatch, caplog
):
    def refuse(*_: Any) -> None:
        raise NotImplementedError

    for method in ("add_reader", "remove_reader"):
        monkeypatch.setattr(asyncio.get_running_loop(), method, refuse)
    caplog.set_level("INFO", "quart_sched")
    one = await postgresql.start(ONE)
    await postgresql.advance(75)
    assert len(ran) == 7
    assert caplog.text.count("No notifications") == 1
    assert [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
    listening = f"query LIKE 'LISTEN%{postgresql.entry['table_prefix']}%'"
    assert postgresql.query(f"SELECT count(*) FROM pg_stat_activity WHERE {listening}") == [(0,)]
    await postgresql.stop(one)


# Runs by hand


async def test_a_run_by_hand_that_another_process_is_in_the_way_of_is_refused_with_its_run_id(cluster):
    one, other = [await cluster.start(declares(job={"func": waits})) for _ in range(2)]
    before = await one.job("job")
    status, answer = await one.rest("POST", "/jobs/job/run?wait=0")
    assert status == 202
    status, refusal = await other.rest("POST", "/jobs/job/run?wait=0")
    assert status == 409
    assert answer["run_id"] in refusal["error_message"]
    gate.set()
    await cluster.rest()
    status, _ = await other.rest("POST", "/jobs/job/run")
    assert status == 200
    assert (await other.job("job"))["next_run_time"] == before["next_run_time"]
    assert [process for _, process in ran] == [one.app.name, other.app.name]


async def test_a_paused_job_runs_by_hand_in_any_process(cluster):
    one, other = [await cluster.start(ONE) for _ in range(2)]
    await one.rest("POST", "/jobs/job/pause")
    assert (await other.rest("POST", "/jobs/job/run"))[0] == 200
    assert ran == [("job", other.app.name)]
    assert (await one.job("job"))["next_run_time"] is None


async def test_a_run_by_hand_whose_answer_is_lost_runs_once_at_the_next_heartbeat(cluster):
    process = await cluster.start(ONE)
    with answers_lost(database_of(process), "start_now") as lost:
        status, answer = await process.rest("POST", "/jobs/job/run")
    assert len(lost) == 1
    assert status == 503
    assert "in the middle of a commit" in answer["error_message"]
    assert ran == []
    await cluster.advance(6)
    assert len(ran) == 1
    [(cause, outcome)] = cluster.query("SELECT cause, outcome FROM {p}runs")
    assert (cause, outcome) == ("api", "succeeded")


async def test_a_heartbeat_under_way_does_not_take_a_run_by_hand_for_a_stray(cluster):
    process = await cluster.start(declares(job={"func": waits}))
    heartbeat = process.slot.store.heartbeat
    begun, go_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return heartbeat(*args)

    process.slot.store.heartbeat = slow
    pump_of(process)._beat_at = float("-inf")
    pump_of(process).wake()
    await eventually(begun.is_set)
    status, _ = await process.rest("POST", "/jobs/job/run?wait=0")
    go_on.set()
    await cluster.rest()
    assert status == 202
    assert live(cluster) == [("job", process.slot.session.id, 1)]
    gate.set()
    await cluster.rest()
    assert cluster.query("SELECT cause, outcome FROM {p}runs") == [("api", "succeeded")]
    assert len(ran) == 1


async def test_a_run_by_hand_that_took_too_long_to_claim_is_not_started_then(cluster, cluster_clock):
    process = await cluster.start(ONE)
    start_now = process.slot.store.start_now

    def slowly(*args: Any) -> Any:
        run = start_now(*args)
        cluster_clock.jump(11)
        return run

    process.slot.store.start_now = slowly
    status, answer = await process.rest("POST", "/jobs/job/run")
    assert status == 503, answer
    assert ran == []
    process.slot.store.start_now = start_now
    await cluster.advance(6)
    assert cluster.query("SELECT outcome FROM {p}runs WHERE cause = 'api'") == [("succeeded",)]


async def test_a_run_by_hand_in_a_process_that_was_declared_dead_is_refused_until_it_has_joined_anew(cluster):
    one, other = [await cluster.start(ONE) for _ in range(2)]
    session = one.slot.session
    [(beat,)] = cluster.query("SELECT beat FROM {p}workers WHERE id = :id", id=session.id)
    with stands_still(cluster, one):
        other.slot.store.reap(session.id, beat, other.slot.session)
        status, answer = await one.rest("POST", "/jobs/job/run")
    assert (status, "declared dead" in answer["error_message"]) == (503, True)
    assert ran == []
    await cluster.rest()
    assert (await one.rest("POST", "/jobs/job/run"))[0] == 200


async def test_what_is_declared_comes_into_the_store_also_after_a_run_by_hand_before_the_start(cluster):
    first = await cluster.start()
    await first.aio.add_job("stored", notes, trigger="interval", hours=1)
    scheduler = APScheduler(Scheduler(clock=cluster.clock))
    app = Quart("waits_for_its_start")
    app.config.update(
        SCHEDULER_TIMEZONE="UTC",
        SCHEDULER_API_ENABLED=True,
        SCHEDULER_JOBSTORES={"default": cluster.entry},
        TESTING=True,
    )
    scheduler.init_app(app)
    declares(declared={})(scheduler)
    async with app.test_app() as test_app:
        late = Process(scheduler, app, test_app)
        assert (await late.rest("POST", "/jobs/stored/run"))[0] == 200
        cluster.processes.append(late)
        await cluster.rest()
        assert (await late.rest("POST", "/start"))[0] == 204
        await cluster.rest()
        assert cluster.query("SELECT id FROM {p}jobs ORDER BY id") == [("declared",), ("stored",)]
        cluster.processes.remove(late)


NOT_ALLOWED = {"SCHEDULER_ALLOWED_HOSTS": ["elsewhere"]}


async def test_the_verbs_of_a_process_that_may_not_start_work_on_what_is_in_the_store(cluster):
    works = await cluster.start(declares(job={"func": waits}))
    other = await cluster.start(declares(job={"func": waits}), **NOT_ALLOWED)
    assert not other.scheduler.running
    assert await other.job("job") == await works.job("job")
    assert (await works.rest("POST", "/jobs/job/run?wait=0"))[0] == 202
    assert (await other.rest("POST", "/jobs/job/run?wait=0"))[0] == 409
    assert (await other.rest("POST", "/jobs/job/pause"))[0] == 200
    assert (await works.job("job"))["next_run_time"] is None
    assert (await other.rest("POST", "/jobs/job/resume"))[0] == 200
    assert (await works.job("job"))["next_run_time"] is not None
    assert (await other.rest("PATCH", "/jobs/job", json={"trigger": "interval", "seconds": 20}))[0] == 200
    shown = await works.job("job")
    assert (shown["seconds"], shown["modified"]) == (20, True)
    assert (await other.rest("DELETE", "/jobs/job"))[0] == 409
    await other.aio.remove_all_jobs()
    assert await other.ids() == ["job"]
    new = {"id": "job", "func": f"{__name__}:notes", "trigger": "interval", "seconds": 5}
    assert (await other.rest("POST", "/jobs", json=new))[0] == 409
    gate.set()
    await cluster.rest()
    assert [process for _, process in ran] == [works.app.name]


async def test_a_job_that_is_added_in_a_process_that_may_not_start_is_in_the_store_and_run_by_the_others(cluster):
    works = await cluster.start(ONE)
    other = await cluster.start(ONE, **NOT_ALLOWED)
    new = {"id": "new", "func": f"{__name__}:notes", "trigger": "interval", "seconds": 5}
    status, shown = await other.rest("POST", "/jobs", json=new)
    assert (status, shown["state"]) == (200, "scheduled")
    assert await works.job("new") == await other.job("new") == shown
    assert cluster.query("SELECT source FROM {p}jobs WHERE id = 'new'") == [("added",)]
    await works.rest("POST", "/jobs", json=new | {"id": "theirs"})
    assert (await other.rest("POST", "/jobs", json=new | {"id": "theirs", "seconds": 9}))[0] == 409
    again = new | {"id": "theirs", "seconds": 9, "replace_existing": True}
    assert (await other.rest("POST", "/jobs", json=again))[0] == 200
    assert (await works.job("theirs"))["seconds"] == 9
    await cluster.advance(6)
    assert ran == [("new", works.app.name)]
    assert (await other.rest("DELETE", "/jobs/new"))[0] == 204
    assert sorted(await works.ids()) == ["job", "theirs"]


async def test_code_that_adds_a_job_in_a_process_that_serves_without_a_start_puts_it_into_the_store(cluster):
    await cluster.start(ONE)
    other = await cluster.start(declares(job={}, waits={}), **NOT_ALLOWED)
    daily = {"trigger": "cron", "hour": 3}
    await other.aio.add_job("by_coroutine", notes, **daily)
    await asyncio.to_thread(other.scheduler.add_job, "by_thread", notes, **daily)
    unnamed = [await asyncio.to_thread(other.scheduler.scheduler.add_job, notes, "cron", hour=3) for _ in "12"]
    added = {"by_coroutine", "by_thread", *(job.id for job in unnamed)}
    assert {job_id for (job_id,) in cluster.query("SELECT id FROM {p}jobs WHERE source = 'added'")} == added
    other.scheduler.task("cron", id="of_a_task", hour=3)(notes)
    with pytest.raises(DuplicateJob, match="declared as"):
        await other.aio.add_job("waits", notes, **daily)
    assert {job_id: (await other.job(job_id))["state"] for job_id in ("waits", "of_a_task")} == {
        "waits": "pending",
        "of_a_task": "pending",
    }
    other.scheduler.allowed_hosts = ["*"]
    await other.aio.start()
    await cluster.rest()
    assert {job_id for (job_id,) in cluster.query("SELECT id FROM {p}jobs WHERE source = 'added'")} == added


async def test_what_the_apps_start_up_adds_is_declared_though_the_scheduler_does_not_start(cluster):
    await cluster.start(ONE)

    def declare(scheduler: APScheduler) -> None:
        @scheduler.app.before_serving
        async def before() -> None:
            await scheduler.aio.run_job("job")
            await scheduler.aio.add_job("of_start_up", notes, trigger="cron", hour=3)

    other = await cluster.start(declare, **NOT_ALLOWED)
    assert (await other.job("of_start_up"))["state"] == "pending"
    assert cluster.query("SELECT id FROM {p}jobs") == [("job",)]


async def test_a_declared_job_that_is_not_in_the_store_is_not_run_by_a_process_that_has_not_started(cluster):
    process = await cluster.start(ONE, **NOT_ALLOWED)
    assert (await process.job("job"))["state"] == "pending"
    assert (await process.aio.next_fires("job", 1)).items
    status, answer = await process.rest("POST", "/jobs/job/run")
    assert status == 409
    assert "Job job is declared, but not in the store yet" in answer["error_message"]
    with pytest.raises(NotStored):
        await process.aio.backfill("job", at(-60))
    with pytest.raises(NotStored):
        process.scheduler.run_job("job")
    assert ran == []


async def test_a_process_that_has_looked_on_brings_its_declarations_in_when_it_starts(cluster):
    await cluster.start(ONE)
    late = await cluster.start(declares(job={"description": "newer"}, more={}), **NOT_ALLOWED)
    assert [(await late.job(job_id))["state"] for job_id in ("job", "more")] == ["scheduled", "pending"]
    late.scheduler.allowed_hosts = ["*"]
    await late.aio.start()
    await cluster.rest()
    assert [(await late.job(job_id))["state"] for job_id in ("job", "more")] == ["scheduled", "scheduled"]
    assert (await late.job("job"))["description"] == "newer"


# The database is away


class Gateway:
    """The way to a database server, which can be shut."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.port = free_port()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)

    async def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, requests = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, requests}
        for source, sink in ((reader, requests), (answers, writer)):
            task = asyncio.create_task(self._pass_on(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.transport.abort()
        self._writers.discard(writer)


@pytest.fixture
async def gateway(cluster: Cluster) -> Any:
    """The way to the cluster's database, shut, and the store's entry that leads through it; not for SQLite."""
    url = sa.make_url(cluster.entry["url"])
    if url.get_backend_name() == "sqlite":
        pytest.skip("there is no way to a file that could be shut")
    port = {"postgresql": 5432, "mysql": 3306}[url.get_backend_name()]
    way = Gateway(url.port or port)
    through = url.set(host="127.0.0.1", port=way.port).render_as_string(hide_password=False)
    yield way, {**cluster.entry, "url": through}
    for process in cluster.processes:
        process.slot.session = None
    await cluster.close()
    await way.shut()


async def check_that_it_serves_without_a_store(process: Process) -> None:
    assert (await process.client.get("/hello")).status_code == 200
    status, shown = await process.rest("GET", "")
    assert status == 200
    assert shown["jobstores"]["default"]["available"] is False
    assert shown["jobstores"]["default"]["error"]
    new = {"id": "new", "func": f"{__name__}:notes", "trigger": "interval", "seconds": 5}
    for method, path, body in (
        ("GET", "/jobs", None),
        ("POST", "/jobs", new),
        ("GET", "/jobs/job", None),
        ("PATCH", "/jobs/job", {"seconds": 7}),
        ("DELETE", "/jobs/job", None),
        ("POST", "/jobs/job/run", None),
        ("POST", "/jobs/job/pause", None),
        ("POST", "/pause", None),
        ("POST", "/resume", None),
    ):
        status, answer = await process.rest(method, path, json=body)
        assert (method, path, status) == (method, path, 503)
        assert 'Job store "default" is not available' in answer["error_message"]


def with_hello(**jobs: dict[str, Any]) -> Callable[[APScheduler], None]:
    def declare(scheduler: APScheduler) -> None:
        declares(**jobs)(scheduler)
        assert scheduler.app is not None
        scheduler.app.add_url_rule("/hello", view_func=lambda: "hello")

    return declare


async def test_an_app_serves_without_its_database_and_its_jobs_run_once_that_is_there(cluster, gateway):
    way, entry = gateway
    process = await cluster.start(with_hello(job={}), SCHEDULER_JOBSTORES={"default": entry})
    await cluster.advance(10)
    await check_that_it_serves_without_a_store(process)
    await way.open()
    await cluster.advance(20)
    assert ("job", process.app.name) in ran
    _, shown = await process.rest("GET", "")
    assert shown["jobstores"]["default"] == {"available": True, "error": None}
    assert {job for job, *_ in books(cluster)} == {"job"}


async def test_an_app_serves_without_its_sqlite_file_and_its_jobs_run_once_that_can_be_made(cluster_clock, tmp_path):
    entry = {"type": "sqlalchemy", "url": f"sqlite:///{tmp_path}/later/jobs.db", "table_prefix": "t_"}
    cluster = Cluster(cluster_clock, entry)
    process = await cluster.start(with_hello(job={}))
    await cluster.advance(10)
    await check_that_it_serves_without_a_store(process)
    (tmp_path / "later").mkdir()
    await cluster.advance(20)
    assert ("job", process.app.name) in ran
    await cluster.close()


async def test_what_ends_while_the_database_is_away_is_written_down_afterwards(cluster, gateway):
    way, entry = gateway
    await way.open()
    jobs = {"job": {**ONCE, "func": waits}, "other": {**ONCE, "func": waits_in_thread}}
    process = await cluster.start(with_hello(**jobs), SCHEDULER_JOBSTORES={"default": entry})
    other = await cluster.start()
    session = process.slot.session.id
    await cluster.advance(5)
    await eventually(lambda: len(ran) == 2)
    mine = Counter(process for _, process in ran)[process.app.name]
    await way.shut()
    gate.set()
    thread_gate.set()
    await eventually(lambda: len(ended) == 2)
    await cluster.advance(8)
    await check_that_it_serves_without_a_store(process)
    assert len(live(cluster)) == mine
    await way.open()
    await cluster.advance(6)
    assert sorted(books(cluster)) == [("job", 5, "succeeded", 1, 1), ("other", 5, "succeeded", 1, 1)]
    assert live(cluster) == []
    assert process.slot.session.id == session
    assert other.slot.error is None


async def test_tables_that_are_not_there_and_may_not_be_made_are_told(cluster):
    entry = {**cluster.entry, "table_prefix": "no_such_", "create_tables": False}
    process = await cluster.start(ONE, SCHEDULER_JOBSTORES={"default": entry})
    await cluster.advance(10)
    status, answer = await process.rest("GET", "/jobs")
    assert (status, "create_tables is False" in answer["error_message"]) == (503, True)
    status, shown = await process.rest("GET", "")
    assert shown["jobstores"]["default"]["available"] is False
    assert "create_tables is False" in shown["jobstores"]["default"]["error"]


# More than enough to do


async def test_heartbeats_have_their_time_however_much_is_due(cluster, cluster_clock):
    process = await cluster.start(declares(job={"trigger": "interval", "seconds": 1, "start_date": at(1)}))
    store = process.slot.store
    round_, heartbeat = store.round, store.heartbeat
    rounds, beats = [], []

    def never_through(*args: Any) -> Any:
        done = round_(*args)
        rounds.append(cluster_clock.monotonic())
        if len(rounds) < 40:
            cluster_clock.jump(1)
            done.more = True
        return done

    def counted(*args: Any) -> Any:
        beats.append(cluster_clock.monotonic())
        return heartbeat(*args)

    store.round, store.heartbeat = never_through, counted
    await cluster.jump(10)
    assert len(rounds) >= 40
    beats = [beat for beat in beats if rounds[0] <= beat <= rounds[-1]]
    assert len(beats) >= 5
    assert max(after - before for before, after in pairwise(beats)) <= 6


# Whatever goes wrong


def fails_once(original: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    errors = [error]

    def failing(*args: Any, **options: Any) -> Any:
        if errors:
            raise errors.pop()
        return original(*args, **options)

    return failing


@pytest.mark.parametrize("error", [ZeroDivisionError("ours"), DatabaseFailure("theirs"), asyncio.InvalidStateError()])
@pytest.mark.parametrize(
    "place",
    ["store.round", "store.poll", "store.heartbeat", "mending.mend", "engine.hear_pause", "accounts.tell",
     "runner.submit", "rounds.tell", "pump._heartbeat", "pump._mend", "rounds.limit"],
)  # fmt: skip
async def test_the_pump_survives_whatever_goes_wrong_in_a_round(tables, cluster_clock, place, error, monkeypatch):
    cluster = Cluster(cluster_clock, tables.empty("sqlite"))
    process = await cluster.start(declares(job={}, other={"trigger": "interval", "seconds": 3, "coalesce": False}))
    await cluster.advance(5)
    engine, pump = process.scheduler.scheduler, pump_of(process)
    owner = {
        "store": process.slot.store,
        "mending": process.slot.store.mending,
        "engine": engine,
        "runner": engine.runner,
        "accounts": engine.runner.accounts,
        "stream": engine.stream,
        "pump": pump,
        "rounds": pump._rounds,
    }
    name, _, method = place.partition(".")
    monkeypatch.setattr(owner[name], method, fails_once(getattr(owner[name], method), error))
    await cluster.advance(45)
    assert not pump._task.done()
    assert len([job for job, _ in ran if job == "job"]) >= 4
    assert Counter(row[:2] for row in books(cluster)).most_common(1)[0][1] == 1
    assert live(cluster) == []
    assert (pump._own.held, pump._own.endings, pump._own.returned) == (set(), {}, set())
    await cluster.close()


@pytest.mark.parametrize(
    ("owner", "place"),
    [(Mending, "mend"), *((SqlStore, place) for place in ("poll", "reconcile", "listen", "join"))],
)
async def test_what_is_declared_comes_into_the_store_when_the_first_attempt_broke_off(
    cluster, owner, place, monkeypatch
):
    failing = fails_once(getattr(owner, place), DatabaseFailure("the connection was closed"))
    monkeypatch.setattr(owner, place, lambda self, *args, **options: failing(self, *args, **options))
    process = await cluster.start(ONE)
    await cluster.advance(10)
    assert ran == [("job", process.app.name)]


def generates() -> Iterator[None]:
    yield


async def test_a_stored_job_whose_function_has_become_a_generator_fails_and_holds_no_place(cluster, monkeypatch):
    first = await cluster.start()
    await first.aio.add_job("job", f"{__name__}:notes", **ONCE)
    await cluster.stop(first)
    monkeypatch.setitem(globals(), "notes", contextmanager(generates))
    second = await cluster.start()
    await cluster.advance(10)
    [record] = await second.records("job")
    assert (record.outcome, record.error_type) == ("failed", "InvalidDefinition")
    assert "generator" in record.error_message
    under_way = second.scheduler.scheduler.runner.under_way
    assert under_way.room == under_way.limit
    assert live(cluster) == []


@contextmanager
def statements(process: Process) -> Iterator[list[str]]:
    """Yields what the process sends to the database."""
    sent: list[str] = []

    def note(conn: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN"):
            sent.append(statement)

    engine = database_of(process).engine
    sa.event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        sa.event.remove(engine, "before_cursor_execute", note)


async def test_an_idle_process_sends_one_query_for_each_poll_interval_and_its_heartbeats(cluster):
    process = await cluster.start(declares(job={"trigger": "interval", "hours": 1}))
    for seconds in (0, 62):  # beyond the looks for what is old, which take real time
        await cluster.advance(seconds)
        await eventually(lambda: pump_of(process)._housekeeping is None)
    with statements(process) as sent:
        await cluster.advance(50)
    polls = [statement for statement in sent if "MIN(next_us)" in statement]
    assert len(polls) <= 51
    beats = [statement for statement in sent if "SET beat = beat + 1" in statement]
    assert len(beats) <= 11
    # A heartbeat: the time, the beat, the own runs, the others' beats. Every 30 s a look for broken jobs, and one for
    # overdue jobs: whose turn it is, which are known, the turn, the jobs.
    assert len(sent) <= len(polls) + 4 * len(beats) + 3 + 2 * 4


@pytest.mark.parametrize("state", ["paused", "full", "unloadable", "waiting"])
async def test_no_process_spins_while_something_is_due_that_it_cannot_take(cluster, state, monkeypatch):
    jobs = {"job": {**ONCE, "func": waits, "misfire_grace_time": None}, "other": {"misfire_grace_time": None}}
    process = await cluster.start(declares(**jobs), SCHEDULER_MAX_RUNS=1 if state == "full" else 100)
    await cluster.advance(6)
    if state == "paused":
        await process.rest("POST", "/pause")
    elif state == "unloadable":
        cluster.query("UPDATE {p}jobs SET func = 'nowhere:at_all', version = version + 1 WHERE id = 'other'")
    elif state == "waiting":
        # A second run of a job that may run once, given back by somebody who has left.
        cluster.query(
            "INSERT INTO {p}live (run_id, fire_id, batch_id, job_id, incarnation, sched_us, attempt, cause, on_crash, "
            "version, func, state, due_us) SELECT 'r', 'r', 'r', job_id, incarnation, sched_us, 1, 'manual', 'lost', "
            "version, func, 'queued', 0 FROM {p}live"
        )
    await cluster.advance(5)
    with statements(process) as sent:
        await cluster.advance(10)
    # Each second at most a round that puts off what waits, and a poll behind it.
    assert len(sent) <= 10 * 12 + 3 * 4
    assert ("other", process.app.name) not in ran[1:] or state == "waiting"
    gate.set()


async def test_a_disk_that_is_full_shows_though_reading_works(cluster: Cluster):
    process = await cluster.start(ONE)
    database = database_of(process)
    original = database.transact

    def full(op: Any, *, write: bool = True) -> Any:
        if write:
            raise DatabaseFailure("OperationalError: database or disk is full")
        return original(op, write=write)

    database.transact = full  # type: ignore[method-assign]
    await cluster.advance(12)
    status, info = await process.rest("GET", "")
    assert status == 200
    assert info["degraded"] == [
        'Job store "default" is not available: DatabaseFailure: OperationalError: database or disk is full'
    ]
    assert info["jobstores"]["default"]["available"] is False
    database.transact = original  # type: ignore[method-assign]
    await cluster.advance(30)
    status, info = await process.rest("GET", "")
    assert info["degraded"] == []
    assert ran
