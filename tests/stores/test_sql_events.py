"""Live events through an SQL store: what happens in one process is told in all, and nothing is written for nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from apscheduler.events import EVENT_JOB_ADDED
from sqlalchemy import text

from quart_sched import APScheduler
from quart_sched.engine.feed import Stream
from quart_sched.model.events import JobChanged
from quart_sched.model.ids import new_id
from quart_sched.model.instants import micros
from quart_sched.model.news import News, decode, encode
from quart_sched.stores.sql.events import FOLLOWED, KEPT, SqlEvents
from tests.conftest import eventually
from tests.stores.cluster import Cluster, Process
from tests.stores.peers import at, outage

log = logging.getLogger("quart_sched_tests.sql_events")
goes_on = threading.Event()


async def tick() -> None: ...


def talks() -> None:
    log.info("first")
    goes_on.wait(20)
    log.info("last")


def declare(scheduler: APScheduler) -> None:
    trigger = {"trigger": "interval", "seconds": 1000, "start_date": at(1000)}
    scheduler.add_job("job", tick, max_instances=10, **trigger)
    scheduler.add_job("talks", talks, **trigger)


@pytest.fixture(autouse=True)
def _afresh() -> Any:
    goes_on.clear()
    yield
    goes_on.set()


def live_of(process: Process) -> Any:
    return process.scheduler.scheduler.live


def events_of(process: Process) -> SqlEvents:
    events: SqlEvents = process.slot.store.events
    return events


class Reader:
    """Takes what a stream in a process tells."""

    def __init__(self, process: Process, last_id: str | None = None, **filters: str) -> None:
        self._live = live_of(process)
        self.stream: Stream = self._live.open(last_id, **filters)
        self.ids: list[str] = []

    @property
    def last_id(self) -> str | None:
        return self.stream.last_id

    def take(self) -> list[tuple[str, Any]]:
        found = []
        while items := self.stream.take():
            found += [(kind, data) for kind, data, _ in items]
            self.ids += [place for _, _, place in items]
        return found

    def told(self) -> list[Any]:
        """Kind and what counts of what there is."""
        return [
            (kind, data.get("job_id"), data.get("outcome") or data.get("action")) if data else kind
            for kind, data in self.take()
        ]

    def leave(self) -> None:
        self._live.leave(self.stream)


async def pass_time(cluster: Cluster, seconds: float = 2.0) -> None:
    """Let time go on, and everything be exchanged that is due."""
    steps = min(max(1, round(seconds / 0.25)), 24)
    for _ in range(steps):
        cluster.clock.jump(seconds / steps)
        for moment, event in list(cluster.clock._waiting):
            if moment <= cluster.clock.now():
                event.set()
        await cluster.rest()
        await at_rest(cluster)


async def at_rest(cluster: Cluster) -> None:
    """Wait, in real time, until no exchange is under way."""

    def calm() -> bool:
        waiting = {event for _, event in cluster.clock._waiting if not event.is_set()}
        lives = [live_of(process) for process in cluster.processes]
        return all(live._task is None or live._task.done() or live._wake in waiting for live in lives)

    await eventually(calm, 10)


@pytest.fixture
async def pair(cluster: Cluster) -> tuple[Process, Process]:
    return await cluster.start(declare), await cluster.start(declare)


async def listen(cluster: Cluster, process: Process, **filters: str) -> Reader:
    """A reader, once all processes know of it."""
    reader = Reader(process, **filters)
    await pass_time(cluster, 4)
    assert set(reader.told()) <= {"reset", ("scheduler", None, "started")}
    return reader


async def run(process: Process, job_id: str = "job") -> str:
    handle = await process.aio.run_job(job_id)
    await handle
    return str(handle.run_id)


# What is told


async def test_what_happens_in_one_process_is_told_in_all(cluster, pair):
    here, there = pair
    readers = [await listen(cluster, here), await listen(cluster, there)]
    run_id = await run(there)
    await there.aio.add_job("new", tick, trigger="interval", hours=1)
    await there.aio.pause_job("job")
    await pass_time(cluster)
    for reader in readers:
        told = reader.take()
        assert [data for kind, data in told if kind == "job"] == [
            {"action": "added", "job_id": "new"}, {"action": "paused", "job_id": "job"},
        ]  # fmt: skip
        ends = [data for kind, data in told if kind == "run" and data["outcome"] != "running"]
        assert [(data["run_id"], data["outcome"]) for data in ends] == [(run_id, "succeeded")]
        status, shown = await here.rest("GET", f"/runs/{run_id}")
        assert status == 200
        worker = ends[0].pop("worker")
        assert worker == shown["worker"]
        assert ends[0].items() <= shown.items()
    await here.aio.pause()
    await pass_time(cluster)
    assert all(("scheduler", None, "paused") in reader.told() for reader in readers)


async def test_fires_of_the_schedule_are_told_with_how_they_ended(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here, job_id="soon")
    await there.aio.add_job("soon", tick, trigger="date", run_date=at(10))
    await pass_time(cluster, 12)
    told = reader.told()
    assert told[0] == ("job", "soon", "added")
    assert ("run", "soon", "succeeded") in told
    assert told[-1] in [("job", "soon", "removed"), ("run", "soon", "succeeded")]


async def test_a_run_that_waits_for_a_place_or_its_time_is_told_of(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    await there.aio.add_job("again", fails, trigger="date", run_date=at(10), retry={"attempts": 2, "delay": 60})
    await pass_time(cluster, 12)
    told = [data for kind, data in reader.take() if kind == "run" and data["outcome"] != "running"]
    assert [(data["outcome"], data["attempt"], data["final"]) for data in told] == [
        ("failed", 1, False), ("retry_wait", 2, False),
    ]  # fmt: skip
    status, shown = await here.rest("GET", f"/runs/{told[1]['run_id']}")
    assert (status, shown["outcome"]) == (200, "retry_wait")


async def fails() -> None:
    raise LookupError("not there")


async def test_the_end_of_a_run_is_told_when_it_is_on_record_and_not_before(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    engine = there.scheduler.scheduler
    [pump] = there.pumps
    pump.is_unwritten = lambda run_id: True
    run_id = await run(there)
    await pass_time(cluster)
    assert [told for told in reader.told() if told[2] == "succeeded"] == []
    del pump.is_unwritten
    await pass_time(cluster)
    assert not engine.is_unwritten(run_id)
    assert ("run", "job", "succeeded") in reader.told()


async def test_a_process_that_dies_makes_readers_read_again(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    cluster.kill(there)
    live_of(there).end()
    for _ in range(10):
        await pass_time(cluster, 6)
    assert "reset" in reader.told()


async def test_the_shutdown_of_a_process_is_told_in_the_others(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    await cluster.stop(there)
    await pass_time(cluster)
    assert reader.told() == [("scheduler", None, "shutdown")]


# Nobody listens


async def test_nothing_is_written_and_no_statement_more_is_made_while_nobody_listens(cluster, pair):
    here, there = pair
    statements: list[str] = []
    for process in pair:
        process.slot.store.events.tell = statements.append
        process.slot.store.events.after = statements.append
    for _ in range(3):
        await run(here)
        await run(there)
        await there.aio.pause_job("job")
        await there.aio.resume_job("job")
        await pass_time(cluster)
    assert statements == []
    assert cluster.query("SELECT id FROM {p}events") == []
    assert not any(live_of(process)._outbox or live_of(process)._feed._batches for process in pair)


async def test_five_minutes_after_the_last_reader_nothing_is_written_any_more(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    reader.leave()
    await pass_time(cluster, 300)
    await run(there)
    await pass_time(cluster)
    written = len(cluster.query("SELECT id FROM {p}events"))
    assert written > 0
    await pass_time(cluster, 100)
    await run(there)
    await pass_time(cluster)
    assert len(cluster.query("SELECT id FROM {p}events")) == written


async def test_old_events_are_deleted_but_for_the_newest(cluster, pair):
    here, _ = pair
    for number in range(3):
        events_of(here).tell(encode([News("reset", {"n": number})]))
    cluster.clock.jump(KEPT + 1)
    here.slot.store.house.clear_up(at(0))
    [(kept,)] = cluster.query("SELECT id FROM {p}events")
    events_of(here).tell("[]")
    ids = [number for (number,) in cluster.query("SELECT id FROM {p}events ORDER BY id")]
    assert ids == [kept, kept + 1]


# Resuming


async def test_a_stream_goes_on_in_another_process_without_loss_or_repetition(cluster, pair):
    reader = await listen(cluster, pair[0], job_id="job")
    ran: list[str] = []
    seen: list[str] = []
    for number in range(6):
        ran += [await run(pair[number % 2]), await run(pair[number % 2 - 1])]
        await pass_time(cluster, 1)
        seen += [data["run_id"] for _, data in reader.take()]
        place = reader.last_id
        reader.leave()
        ran.append(await run(pair[0]))
        await pass_time(cluster, 7 * number)
        reader = Reader(pair[number % 2 - 1], place, job_id="job")
        await pass_time(cluster, 1)
    seen += [data["run_id"] for _, data in reader.take()]
    ended = [run_id for index, run_id in enumerate(seen) if run_id not in seen[index + 1 :]]
    assert sorted(ended) == sorted(ran)
    assert len(seen) <= 2 * len(ran)


async def test_the_id_in_the_middle_of_a_row_is_good_in_another_process(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    news = [News("job", {"action": "added", "job_id": str(number)}) for number in range(5)]
    events_of(there).tell(encode(news))
    await pass_time(cluster)
    reader.ids.clear()
    assert len(reader.take()) == 5
    second = Reader(there, reader.ids[1])
    await pass_time(cluster)
    assert [data["job_id"] for _, data in second.take()] == ["2", "3", "4"]


async def test_a_stream_that_ended_too_long_ago_starts_anew(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    await pass_time(cluster)
    place = reader.last_id
    reader.leave()
    await pass_time(cluster, 290)
    assert Reader(there, place, job_id="none").told() == []
    await pass_time(cluster, 1)
    other = Reader(there, place)
    await pass_time(cluster, 20)
    late = Reader(here, place)
    await pass_time(cluster)
    assert "reset" not in other.told()
    assert "reset" in late.told()


async def test_the_first_reader_reads_again_when_all_processes_tell(cluster, pair):
    here, there = pair
    reader = Reader(here)
    await pass_time(cluster, 0.5)
    assert "reset" in reader.told()
    place = reader.last_id
    await pass_time(cluster, 4)
    assert "reset" in reader.told()
    # What it knew before that is no place to go on from.
    other = Reader(there, place)
    await pass_time(cluster, 1)
    assert "reset" in other.told()
    again = Reader(there, reader.last_id)
    await pass_time(cluster, 1)
    assert "reset" not in again.told()


async def test_an_id_from_other_tables_starts_anew(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    await pass_time(cluster)
    place = reader.last_id
    reader.leave()
    cluster.query("UPDATE {p}meta SET v = 'other' WHERE k = 'listening'")
    await pass_time(cluster, 10)
    other = Reader(there, place)
    await pass_time(cluster)
    assert "reset" in other.told()


# Late commits and failures


async def test_a_row_that_is_committed_late_is_told(cluster, pair):
    here, there = pair
    if here.slot.store.database.dialect.name == "sqlite":
        pytest.skip("there is one writer at a time, which gets its number with the commit")
    reader = await listen(cluster, here)
    events, database = events_of(there), there.slot.store.database
    with database.engine.connect() as conn, conn.begin():
        insert = f"INSERT INTO {database.prefix}events (at_us, kind, data) VALUES (:now, 'news', :data)"
        late = encode([News("job", {"action": "added", "job_id": "late"})])
        conn.execute(text(insert), {"now": micros(cluster.clock.now()), "data": late})
        events.tell(encode([News("job", {"action": "added", "job_id": "early"})]))
        await pass_time(cluster)
        assert reader.told() == [("job", "early", "added")]
        place = reader.last_id
    second = Reader(there, place)
    await pass_time(cluster)
    assert reader.told() == second.told() == [("job", "late", "added")]


async def test_an_outage_costs_a_reset_and_no_stream(cluster, pair):
    here, there = pair
    reader = await listen(cluster, here)
    with outage(here.slot.store.database, there.slot.store.database):
        there.scheduler.scheduler.stream.emit(job_changed())
        await pass_time(cluster, 3)
        assert not reader.stream.closed
        assert reader.told() == []
    await pass_time(cluster, 20)
    assert "reset" in reader.told()
    await run(there)
    await pass_time(cluster)
    assert ("run", "job", "succeeded") in reader.told()


def job_changed() -> JobChanged:
    return JobChanged(EVENT_JOB_ADDED, "job", "default")


def test_what_a_later_version_tells_is_left_out():
    assert decode('[["reset",{}],["weather",{"sun":1}],["job",{"job_id":"a"}]]') == (
        News("reset", {}), News("job", {"job_id": "a"}),
    )  # fmt: skip


# Logs


async def test_the_log_of_a_run_is_told_in_another_process_while_it_is_written(cluster, pair):
    here, there = pair
    handle = await there.aio.run_job("talks")
    await eventually(lambda: [r.log.text() for r in there.scheduler.scheduler.runner.under_way.runs() if r.log])
    reader = await listen_to_log(cluster, here, handle.run_id)
    first = reader.take()
    assert [(data["line"], data["text"].endswith("first")) for kind, data in first if kind == "log"] == [(0, True)]
    second = await listen_to_log(cluster, there, handle.run_id)
    assert [data["line"] for kind, data in second.take() if kind == "log"] == [0]
    assert [data for kind, data in reader.take() if kind == "log"] == []
    goes_on.set()
    await handle
    await pass_time(cluster)
    for one in (reader, second):
        told = one.take()
        assert [(data["line"], data["text"].endswith("last")) for kind, data in told if kind == "log"] == [(1, True)]
        assert [data["outcome"] for kind, data in told if kind == "run"] == ["succeeded"]
    assert [kind for kind, _ in told] == ["log", "run"]


async def listen_to_log(cluster: Cluster, process: Process, run_id: str) -> Reader:
    reader = Reader(process, run_id=run_id)
    await pass_time(cluster, 6)
    return reader


async def test_a_log_is_told_only_while_somebody_follows_it(cluster, pair):
    here, there = pair
    await listen(cluster, here)
    handle = await there.aio.run_job("talks")
    await pass_time(cluster)
    reader = await listen_to_log(cluster, here, handle.run_id)
    assert there.scheduler.scheduler.live._outbox._followed.keys() == {handle.run_id}
    reader.leave()
    await pass_time(cluster, FOLLOWED + 21)
    assert not there.scheduler.scheduler.live._outbox._followed
    written = "".join(data for (data,) in cluster.query("SELECT data FROM {p}events"))
    assert written.count('"log"') == 1
    goes_on.set()
    await handle


async def test_who_follows_is_forgotten_after_a_while(cluster, pair):
    here, _ = pair
    run_id = new_id()
    await asyncio.to_thread(events_of(here).listen, 60.0, {run_id: True})
    assert events_of(here).followed().keys() == {run_id}
    cluster.clock.jump(FOLLOWED + 1)
    assert events_of(here).followed() == {}
    events_of(here).listen(60.0, {})
    assert cluster.query("SELECT k FROM {p}meta WHERE k LIKE 'follow%'") == []


async def test_many_may_begin_to_follow_at_once(cluster, pair):
    run_id = new_id()
    threads = [asyncio.to_thread(events_of(process).listen, 60.0, {run_id: True}) for process in pair for _ in range(4)]
    found = await asyncio.gather(*threads)
    assert {listening.epoch for listening in found} == {found[0].epoch}
    assert all(listening.followed.keys() == {run_id} for listening in found)
