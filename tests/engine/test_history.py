"""The history: a ring of records in memory, a writer that brings them to a database, and several sources as one."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from apscheduler import events as aps
from hypothesis import given
from hypothesis import strategies as st

from quart_sched import APScheduler
from quart_sched.engine.clock import Clock
from quart_sched.engine.history import Histories
from quart_sched.engine.history_ring import HistoryRing, under_way
from quart_sched.engine.history_writer import HistoryWriter
from quart_sched.errors import ConfigError
from quart_sched.model.events import RunEnded, SchedulerChanged
from quart_sched.model.runs import STATES, Cursor, RunQuery, RunRecord, in_time
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.history import SqlHistory
from quart_sched.testing import VirtualClock
from tests.conftest import START, eventually

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def end(ring: HistoryRing, number: int, outcome: Any = "succeeded", job: str = "job", fires: int | None = 1) -> None:
    moment = NOW + timedelta(seconds=number)
    ring(RunEnded(RunRecord(f"r{number}", "f", job, moment, outcome, "schedule", "host:1", fires=fires), "default"))


def test_the_newest_records_are_kept_oldest_first() -> None:
    ring = HistoryRing(3)
    for number in range(5):
        end(ring, number)
    assert [record.run_id for record in ring.records()] == ["r2", "r3", "r4"]
    assert len(ring) == 3
    assert ring.get("r0") is None
    assert ring.get("r4") is not None


def test_records_of_one_job_can_be_asked_for() -> None:
    ring = HistoryRing(10)
    end(ring, 1, job="a")
    end(ring, 2, job="b")
    assert [record.run_id for record in ring.records("b")] == ["r2"]


def test_the_last_outcome_in_the_hour_that_comes_twice_is_that_of_the_later_fire() -> None:
    ring, first = HistoryRing(10), datetime(2026, 10, 25, 2, 50, tzinfo=ZoneInfo("Europe/Berlin"))
    for fire, outcome in ((first, "succeeded"), (first.replace(minute=0, fold=1), "failed")):
        ring.add(RunRecord(f"r{fire.fold}", "f", "job", fire, outcome, "schedule", "host:1"))
    assert ring.last_outcomes(["job"]) == {"job": "failed"}


def test_other_events_leave_no_record() -> None:
    ring = HistoryRing(10)
    ring(SchedulerChanged(aps.EVENT_SCHEDULER_PAUSED))
    assert ring.records() == []


def test_consecutive_lapses_of_a_kind_share_one_record() -> None:
    ring = HistoryRing(10)
    for number in (1, 2, 3):
        end(ring, number, "missed")
    [record] = ring.records()
    assert (record.run_id, record.fires) == ("r1", 3)
    assert record.first_scheduled_at == NOW + timedelta(seconds=1)
    assert record.scheduled_at == NOW + timedelta(seconds=3)


def test_another_outcome_in_between_parts_them() -> None:
    ring = HistoryRing(10)
    end(ring, 1, "missed")
    end(ring, 2, "coalesced")
    end(ring, 3)
    end(ring, 4, "missed", job="other")
    end(ring, 5, "missed")
    assert [(record.run_id, record.outcome) for record in ring.records("job")] == [
        ("r1", "missed"),
        ("r2", "coalesced"),
        ("r3", "succeeded"),
        ("r5", "missed"),
    ]


def test_lapses_that_were_decided_on_one_by_one_keep_their_own_delays() -> None:
    ring = HistoryRing(10)
    for number, accounted in ((1, 5), (2, 5), (9, 10)):
        moment, decided = NOW + timedelta(seconds=number), NOW + timedelta(seconds=accounted)
        lapse = RunRecord(f"r{number}", "f", "job", moment, "missed", "schedule", "host:1", finished_at=decided)
        ring(RunEnded(lapse, "default"))
    assert [(record.fires, record.finished_at) for record in ring.records()] == [
        (2, NOW + timedelta(seconds=5)),
        (1, NOW + timedelta(seconds=10)),
    ]


def test_a_count_that_is_not_known_stays_unknown() -> None:
    ring = HistoryRing(10)
    end(ring, 1, "missed", fires=None)
    end(ring, 2, "missed")
    assert ring.records()[0].fires is None


def test_a_lapse_that_left_the_ring_is_not_continued() -> None:
    ring = HistoryRing(2)
    end(ring, 1, "missed", job="a")
    for number in (2, 3, 4):
        end(ring, number, job="b")
    end(ring, 5, "missed", job="a")
    assert [record.run_id for record in ring.records("a")] == ["r5"]


def test_a_lapse_of_several_fires_is_continued_from_its_own_beginning() -> None:
    ring = HistoryRing(10)
    begun = NOW - timedelta(hours=1)
    long = RunRecord("r0", "f", "job", NOW, "missed", "schedule", "host:1", first_scheduled_at=begun, fires=61)
    ring(RunEnded(long, "default"))
    end(ring, 60, "missed")
    [record] = ring.records()
    assert (record.run_id, record.first_scheduled_at, record.fires) == ("r0", begun, 62)
    assert ring.get("r0") == record
    assert ring.get("r60") is None


def test_a_ring_of_one_keeps_the_last_and_still_joins_lapses() -> None:
    ring = HistoryRing(1)
    for number, outcome in enumerate(("succeeded", "missed", "missed")):
        end(ring, number, outcome)
    [record] = ring.records()
    assert (record.run_id, record.fires) == ("r1", 2)


async def test_a_history_of_size_zero_keeps_nothing(scheduler, app, serve, clock) -> None:
    ran = []
    scheduler.add_job("job", lambda: ran.append(1), trigger="interval", seconds=60)
    async with serve(scheduler, app, SCHEDULER_HISTORY_SIZE=0):
        await clock.advance(minutes=2)
        assert len(ran) == 2
        assert (await scheduler.aio.runs()).items == ()
        assert len(scheduler.history) == 0


def test_records_that_go_to_a_database_need_a_place_to_wait(app, tmp_path) -> None:
    app.config.update(
        SCHEDULER_HISTORY_SIZE=0, SCHEDULER_HISTORY={"type": "sqlalchemy", "url": f"sqlite:///{tmp_path / 'runs'}"}
    )
    with pytest.raises(ConfigError, match="SCHEDULER_HISTORY_SIZE is 0; expected at least 1 where records go"):
        APScheduler(app=app)


def test_the_list_of_records_is_the_readers_own() -> None:
    ring = HistoryRing(10)
    end(ring, 1)
    ring.records().clear()
    assert len(ring) == 1
    assert ring.records("nobody") == []


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["succeeded", "missed", "coalesced"])), max_size=40),
    st.integers(1, 50),
)
def test_every_fire_is_counted_once_and_the_ring_never_grows_over_its_size(
    fires: list[tuple[str, str]], size: int
) -> None:
    ring = HistoryRing(size)
    for number, (job, outcome) in enumerate(fires):
        end(ring, number, outcome, job)
        assert len(ring) <= size
    if size >= len(fires):
        for key in {*fires}:
            counted = sum(r.fires or 0 for r in ring.records(key[0]) if r.outcome == key[1])
            assert counted == fires.count(key)
    for records in (ring.records("a"), ring.records("b")):
        assert [r.scheduled_at for r in records] == sorted(r.scheduled_at for r in records)
        pairs = itertools.pairwise(records)
        assert not [1 for one, two in pairs if one.outcome == two.outcome != "succeeded"]


# As a source


def record(number: int, outcome: Any = "succeeded", **more: Any) -> RunRecord:
    base = RunRecord(f"r{number}", f"r{number}", "job", NOW + timedelta(seconds=number), outcome, "schedule", "host:1")
    return base._replace(**({"final": outcome not in STATES} | more))


def test_a_run_under_way_is_shown_until_its_record_is_there() -> None:
    live = [record(2, "running")]
    ring = HistoryRing(10, lambda: live)
    end(ring, 1)
    assert [r.outcome for r in ring.page(RunQuery())] == ["running", "succeeded"]
    assert ring.find("r2") == live[0]
    assert ring.records() == [ring.get("r1")], "that is what has ended"
    end(ring, 2)
    # A plain function that was given up is still busy in its thread.
    assert [r.outcome for r in ring.page(RunQuery())] == ["succeeded", "succeeded"]
    assert ring.find("r2") == ring.get("r2")
    assert ring.page(RunQuery(outcome="running")) == []


def test_a_ring_keeps_the_runs_of_those_stores_that_it_is_for() -> None:
    ring = HistoryRing(10, keeps=lambda alias: alias == "memory")
    ring(RunEnded(record(1), "shared"))
    ring(RunEnded(record(2), "memory"))
    assert ring.records() == [record(2)]


async def test_what_runs_in_this_process_is_under_way(scheduler, app, serve) -> None:
    goes_on = asyncio.Event()

    async def wait() -> None:
        await goes_on.wait()

    scheduler.add_job("job", wait, trigger="interval", hours=1)
    async with serve(scheduler, app):
        runner = scheduler.scheduler.runner
        assert under_way(runner) == []
        handle = await scheduler.aio.run_job("job")
        assert [r.outcome for r in under_way(runner)] == ["queued"]
        await asyncio.sleep(0)
        [running] = under_way(runner)
        assert (running.run_id, running.outcome, running.final) == (handle.run_id, "running", False)
        assert (running.worker, running.started_at, running.cause) == (
            runner.worker,
            scheduler.scheduler.clock.now(),
            "manual",
        )
        assert under_way(runner, lambda alias: alias != "default") == []
        goes_on.set()
        await handle
        assert under_way(runner) == []


# Several sources as one


class Fixed:
    """A source of given records."""

    blocking = True

    def __init__(self, *records: RunRecord) -> None:
        self.records = records

    def page(self, query: RunQuery) -> list[RunRecord]:
        return query.select(self.records)

    def find(self, run_id: str) -> RunRecord | None:
        return next((r for r in self.records if r.run_id == run_id), None)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        return [r for r in self.records if r.fire_id == record.fire_id]

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        own = [r for r in self.records if r.job_id == job_id and r.scheduled_at >= begin]
        return sorted(own, key=in_time)[:limit]


@pytest.mark.parametrize("filters", [{}, {"job_id": "job"}], ids=["all", "of one job"])
@given(st.lists(st.lists(st.integers(0, 30), max_size=12, unique=True), max_size=3), st.integers(1, 5))
def test_the_pages_of_several_sources_merge_into_one_order(
    filters: dict[str, Any], parts: list[list[int]], limit: int
) -> None:
    # The time of a fire runs against the order of the ids, so that each order is seen to be kept.
    def one(number: int) -> RunRecord:
        return record(number, run_id=f"r{number:03}", scheduled_at=NOW - timedelta(seconds=number // 2))

    histories = Histories(Fixed(*map(one, part)) for part in parts)
    seen: list[str] = []
    cursor = None
    while True:
        page = histories.page(RunQuery(**filters, limit=limit, before=cursor))
        seen += [r.run_id for r in page.items]
        if page.next is None:
            break
        assert len(page.items) == limit
        cursor = Cursor.decode(page.next)
    every = {one(number).run_id: one(number) for part in parts for number in part}
    assert seen == [r.run_id for r in RunQuery(**filters, limit=500).select(every.values())]


def test_a_run_that_moves_from_source_to_source_is_seen_once_and_as_it_is_now() -> None:
    running, over = record(1, "running"), record(1, "failed")
    for sources in ([Fixed(running), Fixed(over)], [Fixed(over), Fixed(running)], [Fixed(over), Fixed(over)]):
        histories = Histories(sources)
        assert histories.page(RunQuery()).items == (over,)
        assert histories.find("r1") == over
        assert histories.attempts(running) == [over]


def test_a_run_that_has_ended_is_not_under_way_where_that_is_only_to_be_written_down() -> None:
    ended = [record(number) for number in (1, 3, 4)]
    running = Fixed(record(0, "running"), *(record(number, "running") for number in (1, 2, 3, 4)))
    histories = Histories([running], lambda: ended)
    page = histories.page(RunQuery(outcome="running", limit=1))
    assert ([r.run_id for r in page.items], page.next) == (["r2"], Cursor.of(record(2)).encode())
    assert [r.run_id for r in histories.page(RunQuery(outcome="succeeded", limit=2)).items] == ["r4", "r3"]
    assert (histories.find("r1"), histories.find("r2")) == (record(1), record(2, "running"))
    assert histories.attempts(record(1)) == [record(1)]
    # What is written down counts: the run may have been lost before it ended.
    assert Histories([Fixed(record(1, "lost"))], lambda: ended).find("r1") == record(1, "lost")


def test_attempts_in_several_places_come_in_their_order() -> None:
    first, second = record(1, "lost", final=False), record(2, fire_id="r1", attempt=2)
    histories = Histories([Fixed(second), Fixed(first, record(3))])
    assert histories.attempts(second) == [first, second]


def test_the_first_fires_from_a_moment_come_in_the_order_of_time_out_of_all_sources() -> None:
    running, over = record(2, "running"), record(2)
    histories = Histories([Fixed(record(4), running), Fixed(record(1), over, record(3)), Fixed(record(9))])
    found = histories.fires_from("job", NOW + timedelta(seconds=2), 3)
    assert found == [over, record(3), record(4)]


def test_without_sources_there_is_nothing() -> None:
    histories = Histories()
    assert histories.page(RunQuery()).items == ()
    assert (histories.page(RunQuery()).next, histories.find("r1"), histories.attempts(record(1))) == (None, None, [])
    assert not histories.blocking
    assert not Histories([HistoryRing(1)]).blocking
    assert Histories([HistoryRing(1), Fixed()]).blocking


# The writer


class Shelf:
    """A history to write to, which may be away or slow."""

    def __init__(self) -> None:
        self.batches: list[list[RunRecord]] = []
        self.away = False
        self.attempts = 0
        self.open = threading.Event()
        self.open.set()
        self.threads: set[str] = set()
        self.pruned: list[datetime] = []
        self.closed = 0

    def prune(self, before: datetime) -> int:
        self.pruned.append(before)
        return 1 if len(self.pruned) % 3 else 0

    def close(self) -> None:
        self.closed += 1

    def write(self, records: Any) -> None:
        self.attempts += 1
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(10)
        if self.away:
            raise ConnectionError("The run history is not available")
        self.batches.append(list(records))

    @property
    def written(self) -> list[str]:
        return [r.run_id for batch in self.batches for r in batch]


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def writer(shelf: Shelf, clock: VirtualClock) -> AsyncIterator[HistoryWriter]:
    made = HistoryWriter(shelf, size=5, clock=clock, keeps=lambda alias: alias != "shared")
    yield made
    shelf.away = False
    shelf.open.set()
    await made.close(5)


def over(writer: HistoryWriter, *numbers: int, alias: str = "default", **more: Any) -> None:
    for number in numbers:
        writer(RunEnded(record(number, **more), alias))


async def test_records_are_written_together_in_another_thread(writer, shelf, clock) -> None:
    over(writer, 1, 2)
    await clock.advance(seconds=0.05)
    over(writer, 3)
    assert shelf.attempts == 0
    await clock.advance(seconds=0.06)
    await eventually(lambda: not len(writer))
    assert shelf.batches == [[record(1), record(2), record(3)]]
    assert threading.current_thread().name not in shelf.threads


async def test_runs_of_a_shared_store_and_other_events_are_not_written(writer, shelf, clock) -> None:
    over(writer, 1, alias="shared")
    writer(SchedulerChanged(aps.EVENT_SCHEDULER_PAUSED))
    assert len(writer) == 0
    await clock.advance(seconds=60)
    assert shelf.attempts == 0


async def test_a_record_is_shown_until_it_is_written(writer, shelf, clock) -> None:
    shelf.open.clear()
    over(writer, 1)
    advancing = asyncio.create_task(clock.advance(seconds=1))
    await eventually(lambda: shelf.attempts)
    assert writer.waiting.find("r1") == record(1)
    assert writer.waiting.page(RunQuery()) == [record(1)]
    assert writer.waiting.attempts(record(1)) == [record(1)]
    shelf.open.set()
    await advancing
    assert writer.waiting.find("r1") is None


async def test_lapses_share_a_record_only_as_long_as_it_is_not_being_written(writer, shelf, clock) -> None:
    shelf.open.clear()
    over(writer, 1, 2, outcome="missed")
    advancing = asyncio.create_task(clock.advance(seconds=1))
    await eventually(lambda: shelf.attempts)
    over(writer, 3, 4, outcome="missed")
    shelf.open.set()
    await advancing
    await eventually(lambda: not len(writer))
    assert [[(r.run_id, r.fires) for r in batch] for batch in shelf.batches] == [[("r1", 2)], [("r3", 2)]]


async def test_while_the_database_is_away_the_newest_records_wait_and_the_log_says_so_once(
    writer, shelf, clock, caplog
) -> None:
    shelf.away = True
    over(writer, 1, 2, 3)
    for _ in range(5):
        before = shelf.attempts
        await clock.advance(seconds=31)
        await eventually(lambda before=before: shelf.attempts > before)
    over(writer, 4, 5, 6, 7)
    assert len(writer) == 5
    shelf.away = False
    await clock.advance(seconds=31)
    await eventually(lambda: not len(writer))
    assert shelf.written == ["r3", "r4", "r5", "r6", "r7"]
    messages = [entry.getMessage() for entry in caplog.records]
    assert messages == [
        "The run history is not available. The newest 5 records are kept in memory until they can be written",
        "The run history is being written again; 2 records had to be dropped",
    ]
    over(writer, 8)
    await clock.advance(seconds=1)
    await eventually(lambda: not len(writer))
    assert len(caplog.records) == 2


async def test_attempts_at_a_database_that_is_away_become_rare(shelf) -> None:
    waits: list[float] = []

    class Impatient(Clock):
        async def wait(self, event: asyncio.Event, timeout: float | None) -> None:
            waits.append(timeout or 0)
            shelf.away = shelf.attempts < 12

    writer = HistoryWriter(shelf, size=5, clock=Impatient(), keeps=lambda alias: True)
    shelf.away = True
    over(writer, 1)
    await eventually(lambda: not len(writer))
    backoff = [seconds for seconds in waits if seconds != 0.1]
    assert len(backoff) == 12
    assert 0.5 <= backoff[0] <= 1
    assert all(15 <= seconds <= 30 for seconds in backoff[6:])
    await writer.close(5)


async def test_records_that_made_room_while_they_were_written_do_not_count_as_dropped(
    writer, shelf, clock, caplog
) -> None:
    shelf.open.clear()
    over(writer, 1, 2)
    advancing = asyncio.create_task(clock.advance(seconds=1))
    await eventually(lambda: shelf.attempts)
    over(writer, 3, 4, 5, 6, 7)
    shelf.open.set()
    await advancing
    await eventually(lambda: not len(writer))
    assert shelf.written == ["r1", "r2", "r3", "r4", "r5", "r6", "r7"]
    assert caplog.records == []


async def test_closing_writes_what_waits_without_delay(writer, shelf) -> None:
    over(writer, 1, 2)
    await writer.close(5)
    assert shelf.written == ["r1", "r2"]
    over(writer, 3)
    await writer.close(5)
    assert shelf.written == ["r1", "r2", "r3"], "it can be used again"


async def test_closing_tries_again_within_its_deadline(shelf) -> None:
    writer = HistoryWriter(shelf, size=5, clock=Clock(), keeps=lambda alias: True)
    shelf.away = True
    over(writer, 1)
    closing = asyncio.create_task(writer.close(20))
    await eventually(lambda: shelf.attempts >= 2)
    shelf.away = False
    await closing
    assert shelf.written == ["r1"]


async def test_closing_gives_up_at_its_deadline_and_says_what_is_lost(shelf, caplog) -> None:
    writer = HistoryWriter(shelf, size=2, clock=Clock(), keeps=lambda alias: True)
    shelf.open.clear()
    over(writer, 1, 2, 3)
    await writer.close(0.05)
    assert caplog.messages == [
        "The run history could not be written: 2 records are lost, and 1 that had been dropped before"
    ]
    assert asyncio.all_tasks() == {asyncio.current_task()}
    shelf.open.set()


async def test_closing_with_nothing_to_write_says_nothing(writer, shelf, caplog) -> None:
    await writer.close(0)
    assert (shelf.attempts, caplog.records) == (0, [])


def test_records_that_come_without_a_loop_are_written_with_the_next(shelf) -> None:
    writer = HistoryWriter(shelf, size=5, clock=Clock(), keeps=lambda alias: True)
    over(writer, 1)

    async def use() -> None:
        over(writer, 2)
        await writer.close(5)

    asyncio.run(use())
    assert shelf.written == ["r1", "r2"]


async def test_the_records_of_a_memory_store_reach_a_database_and_are_read_as_one(
    scheduler, app, serve, tmp_path
) -> None:
    database = Database("test", f"sqlite:///{tmp_path}/history.db", "t_", create_tables=True, engine_options={})
    history = SqlHistory(database)
    engine = scheduler.scheduler
    writer = HistoryWriter(
        history, size=100, clock=engine.clock, keeps=lambda alias: True, under_way=lambda: under_way(engine.runner)
    )
    engine.stream.subscribe(writer)
    engine.histories = Histories([writer, history])

    async def work() -> str:
        return "done"

    scheduler.add_job("job", work, trigger="interval", hours=1)
    async with serve(scheduler, app):
        first = await (await scheduler.aio.run_job("job"))
        assert (await scheduler.aio.runs("job")).items == (first,), "not written yet"
        await writer.close(5)
        assert len(writer) == 0
        second = await (await scheduler.aio.run_job("job"))
        assert [r.run_id for r in (await scheduler.aio.runs("job")).items] == [second.run_id, first.run_id]
        assert await scheduler.aio.run(first.run_id) == first
        await writer.close(5)
    database.dispose()


async def test_a_writer_deletes_what_is_too_old_once_an_hour_and_frees_its_connections(clock) -> None:
    shelf = Shelf()
    writer = HistoryWriter(shelf, size=5, days=2, clock=clock, keeps=lambda alias: True)
    for number, seconds in enumerate((0, 1800, 1801)):
        clock.suspend(seconds=seconds)
        over(writer, number)
        await clock.advance(seconds=0.2)
        await eventually(lambda: not len(writer))
        await eventually(lambda: writer._task is not None and writer._task.done())
    assert len(shelf.pruned) == 6  # twice, each until nothing was left
    assert timedelta(0) < shelf.pruned[0] - (START - timedelta(days=2)) < timedelta(seconds=1)
    assert shelf.pruned[3] - shelf.pruned[0] >= timedelta(hours=1)
    await writer.close(5)
    assert await eventually(lambda: shelf.closed) == 1


async def test_what_ends_while_very_many_old_records_are_deleted_is_written_meanwhile(clock) -> None:
    loop = asyncio.get_running_loop()

    class Crowded(Shelf):
        """It has many batches of old records, and a run ends while each of them is deleted."""

        def prune(self, before: datetime) -> int:
            self.pruned.append(before)
            loop.call_soon_threadsafe(over, writer, len(self.pruned))
            return 500 if len(self.pruned) < 20 else 0

    shelf = Crowded()
    writer = HistoryWriter(shelf, size=5, clock=clock, keeps=lambda alias: True)
    over(writer, 0)
    await clock.advance(seconds=5)
    await eventually(lambda: not len(writer))
    assert shelf.written == [f"r{number}" for number in range(21)]
    assert len(shelf.pruned) == 20
    assert len(set(shelf.pruned)) == 1, "what grows old meanwhile is left to the next hour"
    await writer.close(5)
