"""The contract of a run history: the same for the ring in memory, SQLite, PostgreSQL and MariaDB."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quart_sched.engine.history import Histories
from quart_sched.engine.history_ring import HistoryRing
from quart_sched.model.events import RunEnded
from quart_sched.model.ids import first_id
from quart_sched.model.instants import micros
from quart_sched.model.runs import STATES, Cursor, RunQuery, RunRecord
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.failures import DatabaseFailure, SchemaProblem
from quart_sched.stores.sql.history import HistoryUnavailable, SqlHistory
from quart_sched.stores.sql.rows import LIVE_COLUMNS
from quart_sched.stores.sql.transaction import Transaction
from tests.stores.cluster import KINDS, drop_tables, reachable

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def run_id(moment: datetime, number: int = 0) -> str:
    return f"{first_id(micros(moment))[:-12]}{number:012x}"


def ended(number: int, outcome: Any = "succeeded", job_id: str = "job", late: float = 0, **more: Any) -> RunRecord:
    """The record of the fire `number` seconds after NOW, which began `late` seconds late."""
    fire = NOW + timedelta(seconds=number)
    begun = fire + timedelta(seconds=late)
    name = run_id(begun, number)
    times: dict[str, Any] = {"started_at": begun, "finished_at": begun + timedelta(milliseconds=1500)}
    return RunRecord(name, name, job_id, fire, outcome, "schedule", "host:1", **times)._replace(**more)


def under_way(number: int, state: Any = "running", job_id: str = "job", **more: Any) -> RunRecord:
    fire = NOW + timedelta(seconds=number)
    name = run_id(fire, number)
    running = state == "running"
    record = RunRecord(name, name, job_id, fire, state, "schedule", "host:7" if running else "", final=False)
    return record._replace(started_at=fire if running else None, **more)


class Kept:
    """A history of one kind, and a way to fill it."""

    def __init__(self, database: Database | None) -> None:
        self._live: list[RunRecord] = []
        self.database = database
        self.ring = HistoryRing(100_000, lambda: self._live)
        self.sql = SqlHistory(database) if database is not None else None
        self.history: Any = self.sql or self.ring
        self.page = self.history.page
        self.find = self.history.find
        self.attempts = self.history.attempts

    def add(self, *records: RunRecord) -> None:
        over = [record for record in records if record.outcome not in STATES]
        live = [record for record in records if record.outcome in STATES]
        if self.sql is None:
            self._live += live
            for record in over:
                self.ring(RunEnded(record, "default"))
            return
        self.sql.write(over)
        insert_live(self.sql.database, live)

    def ids(self, **query: Any) -> list[str]:
        return [record.run_id for record in self.page(RunQuery(**query))]


def insert_live(database: Database, records: Sequence[RunRecord]) -> None:
    """Write what a claim writes."""
    workers = {record.worker: str(uuid.uuid4()) for record in records if record.worker}
    rows = []
    for record in records:
        us = micros(record.scheduled_at)
        begun = micros(record.started_at) if record.started_at is not None else None
        rows.append(
            (record.run_id, record.fire_id, record.run_id, record.job_id, str(uuid.uuid4()), us, us, record.attempt,
             record.cause, "lost", 1, "m:f", record.outcome, workers.get(record.worker), None, begun, None, None)
        )  # fmt: skip

    def write(tx: Transaction) -> None:
        sessions = [(key, *worker.split(":"), 0, 0) for worker, key in workers.items()]
        columns = ("id", "host", "pid", "started_us", "seen_us")
        tx.insert("workers", columns, [(a, b, int(c), d, e) for a, b, c, d, e in sessions])
        tx.insert("live", LIVE_COLUMNS, rows)

    database.schema.open()
    database.transact(write)


@pytest.fixture(scope="module")
def connect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Database]]:
    """Makes tables in a database of a kind, which are dropped at the end."""
    folder = tmp_path_factory.mktemp("history")
    made: list[tuple[Database, str]] = []

    def make(kind: str) -> Database:
        url, prefix = reachable(kind, folder), f"t{uuid.uuid4().hex[:10]}_"
        made.append((Database("test", url, prefix, create_tables=True, engine_options={}), url))
        return made[-1][0]

    yield make
    for database, url in made:
        database.dispose()
        drop_tables(url, database.prefix)


@pytest.fixture(scope="module")
def tables(connect: Callable[[str], Database]) -> Callable[[str], Database]:
    """Empties the tables that the tests share: to make some for each would take most of their time."""
    of_kind = cache(connect)

    def empty(kind: str) -> Database:
        database = of_kind(kind)
        database.schema.open()
        with database.engine.begin() as conn:
            for table in ("runs", "run_output", "live", "workers"):
                conn.execute(sa.text(f"DELETE FROM {database.prefix}{table}"))
        return database

    return empty


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tables: Callable[[str], Database]) -> Database:
    return tables(request.param)


@pytest.fixture(params=["ring", *KINDS])
def kept(request: pytest.FixtureRequest, tables: Callable[[str], Database]) -> Kept:
    """An empty history of each kind in turn."""
    return Kept(None if request.param == "ring" else tables(request.param))


# Pages


def test_the_newest_runs_come_first_and_no_more_than_asked_for(kept):
    kept.add(*[ended(number) for number in (3, 1, 4, 2, 0)])
    assert kept.ids(limit=3) == [ended(number).run_id for number in (4, 3, 2)]
    assert kept.ids() == [ended(number).run_id for number in (4, 3, 2, 1, 0)]


def test_without_runs_the_page_is_empty(kept):
    assert kept.ids() == []
    assert kept.ids(job_id="job", outcome="failed", since=NOW, until=NOW) == []


def test_a_record_comes_back_as_it_went_in(kept):
    record = ended(
        1, "failed", cause="api", error_type="LookupError", error_message="nothing ✓ 'there'", attempt=3, final=False
    )  # fmt: skip
    lapse = ended(
        2, "missed", started_at=None, finished_at=None, first_scheduled_at=NOW - timedelta(hours=1), fires=None
    )  # fmt: skip
    kept.add(record, lapse)
    assert kept.page(RunQuery()) == [lapse, record]


def test_what_runs_or_waits_is_among_them_with_its_state(kept):
    running, queued, waiting = under_way(2), under_way(1, "queued"), under_way(3, "retry_wait", attempt=2)
    kept.add(running, queued, waiting, ended(0))
    assert kept.page(RunQuery()) == [waiting, running, queued, ended(0)]
    assert kept.page(RunQuery(outcome="running")) == [running]
    assert kept.page(RunQuery(outcome="retry_wait")) == [waiting]
    assert kept.ids(limit=2) == [waiting.run_id, running.run_id]


def test_the_first_fires_of_a_job_from_a_moment_come_in_order_of_time(kept):
    missed = ended(
        5, "missed", started_at=None, finished_at=NOW, first_scheduled_at=NOW + timedelta(seconds=3), fires=3
    )
    by_hand, again = ended(4, cause="manual"), ended(6, cause="retry")
    late, others = ended(1, late=30), [ended(2, job_id="other"), ended(3, job_id="jo")]
    running = under_way(7)
    kept.add(ended(0), late, missed, by_hand, again, *others)
    kept.add(running, under_way(8, cause="api"), under_way(9, "retry_wait", cause="retry"))
    assert kept.history.fires_from("job", NOW + timedelta(seconds=1), 10) == [late, missed, running]
    assert kept.history.fires_from("job", NOW + timedelta(seconds=1), 2) == [late, missed]
    assert kept.history.fires_from("job", NOW + timedelta(seconds=8), 2) == []


def test_an_outcome_can_be_asked_for(kept):
    kept.add(ended(1), ended(2, "failed"), ended(3), ended(4, "failed", "other"), under_way(5))
    assert kept.page(RunQuery(outcome="failed")) == [ended(4, "failed", "other"), ended(2, "failed")]
    assert kept.page(RunQuery(outcome="failed", job_id="job")) == [ended(2, "failed")]
    assert kept.page(RunQuery(outcome="lost")) == []


def test_the_runs_of_one_job_can_be_asked_for(kept):
    kept.add(ended(1), ended(2, job_id="other"), under_way(3, job_id="other"), under_way(4), ended(5, job_id="Job"))
    assert kept.page(RunQuery(job_id="other")) == [under_way(3, job_id="other"), ended(2, job_id="other")]
    assert kept.page(RunQuery(job_id="job")) == [under_way(4), ended(1)]
    assert kept.page(RunQuery(job_id="jo")) == []


def test_a_stretch_of_time_takes_its_beginning_in_and_leaves_its_end_out(kept):
    kept.add(*[ended(number) for number in range(5)], under_way(5))
    since, until = NOW + timedelta(seconds=1), NOW + timedelta(seconds=3)
    for job_id in (None, "job"):
        assert kept.ids(job_id=job_id, since=since, until=until) == [ended(2).run_id, ended(1).run_id]
        assert kept.ids(job_id=job_id, since=until) == [under_way(5).run_id, ended(4).run_id, ended(3).run_id]
        assert kept.ids(job_id=job_id, until=since) == [ended(0).run_id]
        assert kept.ids(job_id=job_id, since=NOW + timedelta(microseconds=1), limit=500)[-1] == ended(1).run_id


def test_a_late_run_is_listed_by_when_it_was_made_and_in_a_job_or_a_stretch_of_time_by_its_fire(kept):
    kept.add(late := ended(1, late=60), ended(2), ended(3))
    assert kept.ids() == [late.run_id, ended(3).run_id, ended(2).run_id]
    assert kept.ids(since=NOW) == kept.ids()
    by_fire = [ended(3).run_id, ended(2).run_id, late.run_id]
    assert kept.ids(job_id="job") == by_fire
    assert kept.ids(until=NOW + timedelta(seconds=4)) == by_fire


@pytest.mark.parametrize("query", [{}, {"job_id": "job"}, {"until": NOW + timedelta(days=1)}, {"outcome": "succeeded"}])
def test_pages_follow_each_other_without_gap_or_repetition(kept, query):
    # Runs of one fire share its time, and the page may end between them.
    records = [ended(number // 3, late=number % 3) for number in range(20)]
    kept.add(*records)
    history = Histories([kept.history])
    seen, cursor = [], None
    while True:
        page = history.page(RunQuery(**query, limit=3, before=cursor))
        seen += [record.run_id for record in page.items]
        if page.next is None:
            break
        cursor = Cursor.decode(page.next)
    assert seen == kept.ids(**query, limit=500)
    assert len(seen) == len(set(seen)) == 20


def test_what_is_added_meanwhile_does_not_disturb_the_pages_behind(kept):
    kept.add(*[ended(number) for number in range(6)])
    history = Histories([kept.history])
    first = history.page(RunQuery(limit=3))
    kept.add(ended(7), under_way(8))
    second = history.page(RunQuery(limit=3, before=Cursor.decode(first.next)))
    assert [record.run_id for record in second.items] == [ended(number).run_id for number in (2, 1, 0)]
    assert second.next is None


@pytest.mark.parametrize(("fold", "before"), [(0, 1), (1, 3)], ids=["the first", "the second"])
def test_the_hour_that_the_clocks_repeat_is_two_hours(kept, fold, before):
    two = datetime(2026, 10, 25, 2, tzinfo=ZoneInfo("Europe/Berlin"))
    fires = [two.replace(minute=minute, fold=second) for second, minute in ((0, 10), (0, 50), (1, 5), (1, 40))]
    records = [ended(0)._replace(run_id=run_id(fire), fire_id=run_id(fire), scheduled_at=fire) for fire in fires]
    kept.add(*records)
    newest_first = [record.run_id for record in reversed(records)]
    assert kept.ids(job_id="job") == newest_first
    assert kept.ids(until=two.replace(minute=20, fold=fold).astimezone(UTC)) == newest_first[-before:]
    for index, record in enumerate(reversed(records)):
        assert kept.ids(job_id="job", before=Cursor.of(record)) == newest_first[index + 1 :]


# One run


def test_one_run_comes_with_what_it_put_out(kept):
    record = ended(1, result="42", traceback="Traceback …\n", log="line\nline")
    kept.add(record, ended(2, log=""), under_way(3))
    assert kept.find(record.run_id) == record
    assert kept.find(ended(2).run_id) == ended(2, log="")
    assert kept.find(under_way(3).run_id) == under_way(3)


def test_a_run_that_nobody_knows_is_none(kept):
    kept.add(ended(1))
    for name in ("", "nobody", run_id(NOW), "x" * 1000, "a\0b", "\ud800", "✓", "' OR 1 = 1"):
        assert kept.find(name) is None


def test_all_attempts_at_a_fire_are_found_in_their_order(kept):
    first = ended(1, "lost", final=False)
    second = ended(1, "failed", late=5, attempt=2, final=False)._replace(fire_id=first.fire_id)
    third = under_way(1, run_id=run_id(NOW + timedelta(seconds=9)), fire_id=first.fire_id, attempt=3)
    by_hand = ended(1, late=7)
    kept.add(third, by_hand, second, first, ended(1, job_id="other", late=2))
    ids = [record.run_id for record in kept.attempts(third)]
    assert ids == [first.run_id, second.run_id, third.run_id]
    assert [record.run_id for record in kept.attempts(by_hand)] == [by_hand.run_id]


# What is only in a database


QUERIES = st.fixed_dictionaries(
    {},
    optional={
        "job_id": st.sampled_from(["job", "other", "nobody"]),
        "outcome": st.sampled_from(["succeeded", "failed", "running", "lost"]),
        "since": st.integers(-1, 40).map(lambda number: NOW + timedelta(seconds=number)),
        "until": st.integers(-1, 40).map(lambda number: NOW + timedelta(seconds=number)),
        "limit": st.integers(1, 20),
    },
)


@pytest.fixture(scope="module", params=KINDS)
def filled(request: pytest.FixtureRequest, connect: Callable[[str], Database]) -> tuple[SqlHistory, list[RunRecord]]:
    """A history with all sorts of runs, and these runs."""
    database = connect(request.param)
    chance = random.Random(7)
    records = []
    for number in range(60):
        outcome = chance.choice(["succeeded", "failed"])
        record = ended(number // 2, outcome, chance.choice(["job", "other"]), late=chance.choice([0, 0, 0.5, 30]))
        records.append(record._replace(run_id=run_id(record.started_at or NOW, number)))
    live = [under_way(40 + number)._replace(run_id=run_id(NOW, 1000 + number)) for number in range(3)]
    history = SqlHistory(database)
    history.write(records)
    insert_live(database, live)
    return history, records + live


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(QUERIES, st.none() | st.integers(0, 62))
def test_a_database_selects_what_the_query_itself_would(filled, given_, place):
    history, records = filled
    query = RunQuery(**given_, before=None if place is None else Cursor.of(records[place]))
    assert history.page(query) == query.select(records)


def test_writing_the_same_records_again_changes_nothing(database):
    history = SqlHistory(database)
    history.write([ended(1, result="1")])
    history.write([ended(1, result="other"), ended(2, log="two")])
    assert [history.find(ended(number).run_id) for number in (1, 2)] == [ended(1, result="1"), ended(2, log="two")]
    history.write([])
    assert len(history.page(RunQuery())) == 2


def test_a_job_of_a_memory_store_may_have_any_id(database):
    history = SqlHistory(database)
    for number, job_id in enumerate(["x" * 500, "nul\0", "half \ud800", "✓ ümläut", "", "%_'\\"]):
        history.write([ended(number, job_id=job_id, error_message="a\0b\udfff", log="\0")])
        [record] = history.page(RunQuery(job_id=job_id))
        assert record.run_id == ended(number).run_id
        assert history.attempts(record._replace(job_id=job_id)) == [record]
        assert history.find(record.run_id) == record._replace(log="\ufffd")


def test_what_runs_again_is_no_longer_under_way_as_what_it_was(database):
    history = SqlHistory(database)
    insert_live(database, [under_way(1)])
    history.write([ended(1, "lost", final=False)])
    assert history.page(RunQuery()) == [ended(1, "lost", final=False)]
    assert history.find(ended(1).run_id) == ended(1, "lost", final=False)
    assert history.attempts(ended(1)) == [ended(1, "lost", final=False)]


# Retention


def test_old_runs_are_pruned_oldest_first_and_in_batches(database):
    history = SqlHistory(database)
    history.write([ended(number, log="log") for number in range(10)])
    before = NOW + timedelta(seconds=9)
    assert history.prune(before, 4) == 4
    assert [record.scheduled_at.second for record in history.page(RunQuery())] == [9, 8, 7, 6, 5, 4]
    assert history.prune(before, 5) == 4
    assert history.prune(before, 5) == 0
    # The older of these two began before that time, but ended after it.
    assert history.page(RunQuery()) == [ended(9), ended(8)]
    rows = database.query(f"SELECT run_id FROM {database.prefix}run_output ORDER BY run_id")
    assert [row.run_id for row in rows] == [ended(8).run_id, ended(9).run_id]


def test_the_runs_of_a_fire_that_is_still_live_are_not_pruned(database):
    history = SqlHistory(database)
    first = ended(1, "lost", final=False)
    history.write([first, ended(2), ended(3, "missed", started_at=None, finished_at=None)])
    again = under_way(1, "queued", run_id=run_id(NOW + timedelta(days=60)), fire_id=first.fire_id, attempt=2)
    insert_live(database, [again])
    assert history.prune(NOW + timedelta(days=30)) == 2
    assert history.page(RunQuery()) == [again, first]
    database.transact(lambda tx: tx.delete("live", "run_id", [again.run_id]))
    assert history.prune(NOW + timedelta(days=30)) == 1


# Faults


def test_a_database_that_is_not_there_is_unavailable_and_comes_back(tmp_path):
    file = tmp_path / "absent" / "test.db"
    history = SqlHistory(Database("test", f"sqlite:///{file}", "t_", create_tables=True, engine_options={}))
    calls: list[Callable[[], Any]] = [
        lambda: history.page(RunQuery()),
        lambda: history.find("x"),
        lambda: history.attempts(ended(1)),
        lambda: history.write([ended(1)]),
        lambda: history.prune(NOW),
    ]
    for call in calls:
        with pytest.raises(HistoryUnavailable, match="unable to open database file") as caught:
            call()
        assert caught.value.status == 503
    file.parent.mkdir()
    history.write([ended(1)])
    assert history.page(RunQuery()) == [ended(1)]
    history.database.dispose()


def test_tables_that_may_not_be_made_are_a_problem_with_a_way_out(tmp_path):
    database = Database("test", f"sqlite:///{tmp_path}/test.db", "t_", create_tables=False, engine_options={})
    with pytest.raises(SchemaProblem, match="quart scheduler db upgrade"):
        SqlHistory(database).page(RunQuery())
    database.dispose()


def test_a_record_that_the_database_refuses_does_not_keep_the_others_out(database, monkeypatch, caplog):
    history = SqlHistory(database)
    history.write([ended(0)])
    insert = database.dialect.insert

    def refuse(tx: Transaction, table: str, columns: Any, rows: Any) -> None:
        if any(ended(2).run_id in row for row in rows):
            raise DatabaseFailure("value out of range") from sa.exc.DataError("INSERT", {}, Exception())
        insert(tx, table, columns, rows)

    monkeypatch.setattr(database.dialect, "insert", refuse)
    history.write([ended(1), ended(2, log="refused"), ended(3)])
    assert [record.scheduled_at.second for record in history.page(RunQuery())] == [3, 1, 0]
    assert f"The run history cannot hold the record of run {ended(2).run_id}" in caplog.text


# Plans


@pytest.fixture(scope="module", params=KINDS)
def large(
    request: pytest.FixtureRequest, connect: Callable[[str], Database]
) -> tuple[Database, Callable[[RunQuery], list[str]]]:
    """A history with so many runs that an index pays, and a function that explains how a page is read."""
    database = connect(request.param)
    history = SqlHistory(database)
    outcomes = ["succeeded"] * 97 + ["failed"] * 2 + ["lost"]
    history.write(
        [
            ended(number, outcomes[number % 100], f"job{number % 7}" if number % 2 else "common")
            for number in range(8000)
        ]
    )
    analyze = {"postgresql": "ANALYZE", "mysql": "ANALYZE TABLE"}.get(request.param)
    if analyze:
        database.transact(lambda tx: tx.execute(f"{analyze} {database.prefix}runs"))
    statements: list[tuple[str, Any]] = []

    @sa.event.listens_for(database.engine, "before_cursor_execute")
    def take(conn: Any, cursor: Any, statement: str, values: Any, *_: Any) -> None:
        statements.append((statement, values))

    def explain(query: RunQuery) -> list[str]:
        statements.clear()
        history.page(query)
        [(statement, values)] = [entry for entry in statements if f"{database.prefix}runs" in entry[0]]
        how = "EXPLAIN QUERY PLAN" if request.param == "sqlite" else "EXPLAIN"
        with database.engine.connect() as conn:
            return [str(tuple(row)) for row in conn.exec_driver_sql(f"{how} {statement}", values)]

    return database, explain


MIDDLE = Cursor(micros(NOW + timedelta(seconds=4000)), run_id(NOW + timedelta(seconds=4000)))


@pytest.mark.parametrize("before", [None, MIDDLE], ids=["first", "later"])
@pytest.mark.parametrize(
    ("query", "index"),
    [
        ({}, ""),
        ({"since": NOW + timedelta(seconds=3000)}, ""),
        # Of a job that has half of the runs, the index of all fires may serve as well.
        ({"job_id": "common"}, "runs_"),
        ({"job_id": "common", "since": NOW + timedelta(seconds=3000)}, "runs_"),
        ({"job_id": "common", "until": NOW + timedelta(seconds=3000)}, "runs_"),
        ({"until": NOW + timedelta(seconds=3000)}, "runs_sched_us"),
        ({"job_id": "nobody"}, "runs_job_id"),
        ({"outcome": "lost"}, "runs_outcome"),
        ({"outcome": "lost", "since": NOW + timedelta(seconds=3000)}, "runs_outcome"),
        ({"outcome": "succeeded"}, ""),
        ({"job_id": "common", "outcome": "failed"}, ""),
    ],
    ids=str,
)
def test_a_page_is_read_from_an_index_and_neither_scanned_nor_sorted(large, query, index, before):
    database, explain = large
    text = " ".join(explain(RunQuery(**query, before=before)))
    assert index in text
    kind = database.dialect.name
    if kind == "sqlite":
        assert "INDEX" in text
        assert "TEMP B-TREE" not in text
    elif kind == "postgresql":
        assert "Index" in text
        assert "Seq Scan" not in text
        # Where few rows are left, the planner may sort these instead.
        assert "Sort" not in text or ("job_id" in query and "outcome" in query)
    else:
        assert "'ALL'" not in text
        # As a range it begins where the page does; as a reference it would begin with the newest run of all.
        assert before is None or "'range'" in text or ("job_id" in query and "outcome" in query)
