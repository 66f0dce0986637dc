"""The tables: made by many processes at once or by an operator, refused where they are newer, kept where they are."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from quart_sched.errors import SchedulerError
from quart_sched.stores.sql import schema
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.failures import DatabaseFailure, SchemaProblem
from tests.stores.cluster import Cluster, reachable

pytestmark = pytest.mark.integration  # there is a database in each

TABLES = (
    "changes", "decls", "events", "jobs", "live", "meta", "metric_deltas", "run_output", "runs", "workers",
)  # fmt: skip
ran: list[str] = []


async def job() -> None:
    ran.append("job")


@pytest.fixture(autouse=True)
def _forget() -> None:
    ran.clear()


def database(url: str, prefix: str, *, create_tables: bool = True) -> Database:
    return Database("KEY", url, prefix, create_tables=create_tables, engine_options={"poolclass": sa.NullPool})


def found(url: str, prefix: str) -> list[str]:
    """Return the names of the tables that are there, without the prefix."""
    names = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool)).get_table_names()
    return sorted(name.removeprefix(prefix) for name in names if name.startswith(prefix))


def described(url: str, prefix: str) -> dict[str, Any]:
    """Return what the database says of each table."""
    if url.startswith("mysql"):  # whose reflection takes long
        texts = {name: execute(url, f"SHOW CREATE TABLE {prefix}{name}")[0][1] for name in found(url, prefix)}
        return {
            name: sorted(line.strip(" ,").replace(prefix, "") for line in text.splitlines())
            for name, text in texts.items()
        }
    inspector = sa.inspect(sa.create_engine(url, poolclass=sa.NullPool))

    def plain(value: Any) -> Any:
        return repr(value).replace(prefix, "")

    return {
        name: (
            [plain({**column, "type": repr(column["type"])}) for column in inspector.get_columns(prefix + name)],
            plain(inspector.get_pk_constraint(prefix + name)["constrained_columns"]),
            sorted(map(plain, inspector.get_indexes(prefix + name))),
            sorted(map(plain, inspector.get_unique_constraints(prefix + name))),
            plain(inspector.get_table_options(prefix + name)),
        )
        for name in found(url, prefix)
    }


def execute(url: str, *statements: str) -> list[Any]:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    rows: list[Any] = []
    with engine.begin() as conn:
        for statement in statements:
            result = conn.execute(sa.text(statement))
            rows += list(result) if result.returns_rows else []
    return rows


@pytest.fixture
async def fresh(clock: Any, database_url: str, table_prefix: str) -> AsyncIterator[Cluster]:
    """Processes on a database in which nothing has been made yet."""
    cluster = Cluster(clock, {"type": "sqlalchemy", "url": database_url, "table_prefix": table_prefix})
    yield cluster
    await cluster.close()


# Making


def test_many_that_make_the_tables_at_once_all_succeed(database_url, table_prefix):
    for number in range(5):
        prefix = f"{table_prefix}{number}_"
        barrier, errors = threading.Barrier(8), []

        def make(prefix: str = prefix, barrier: threading.Barrier = barrier, errors: list[Any] = errors) -> None:
            own = database(database_url, prefix)
            barrier.wait()
            try:
                own.schema.open()
            except Exception as error:
                errors.append(error)
            own.dispose()

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert found(database_url, prefix) == sorted(TABLES)
        rows = execute(database_url, f"SELECT k, n FROM {prefix}meta ORDER BY k")
        assert [tuple(row) for row in rows] == [
            ("janitor", 0), ("listening", 0), ("members", 0), ("paused", 0), ("reconcile", 0),
            ("schema", schema.VERSION),
        ]  # fmt: skip


async def test_processes_that_start_at_once_on_an_empty_database_share_its_jobs(fresh):
    def declare(scheduler: Any) -> None:
        for number in range(5):
            scheduler.add_job(f"job-{number}", job, trigger="interval", seconds=10)

    processes = await asyncio.gather(*(fresh.start(declare) for _ in range(4)))
    await fresh.advance(11)
    assert len(ran) == 5
    assert len(await processes[0].aio.workers()) == 4
    assert all(process.slot.error is None for process in processes)


def test_upgrading_again_keeps_what_is_there(database_url, table_prefix):
    own = database(database_url, table_prefix)
    assert own.schema.upgrade() == schema.VERSION
    execute(
        database_url,
        f"UPDATE {table_prefix}meta SET n = 1 WHERE k = 'paused'",
        f"INSERT INTO {table_prefix}decls (hash, since_us, body) VALUES ('x', 1, '[]')",
    )
    before = described(database_url, table_prefix)
    assert own.schema.upgrade() == schema.VERSION
    own.schema.open()
    assert described(database_url, table_prefix) == before
    assert execute(database_url, f"SELECT n FROM {table_prefix}meta WHERE k = 'paused'") == [(1,)]
    assert execute(database_url, f"SELECT hash FROM {table_prefix}decls") == [("x",)]
    own.dispose()


@pytest.mark.parametrize(
    "broken_off",
    [
        ("DELETE FROM {p}meta WHERE k = 'schema'",),
        ("DELETE FROM {p}meta WHERE k = 'schema'", "DROP TABLE {p}runs", "DROP TABLE {p}jobs"),
        ("DROP TABLE {p}meta",),
        ("DELETE FROM {p}meta", "DROP INDEX {p}jobs_next_us{on_jobs}", "DROP INDEX {p}runs_outcome_run_id{on_runs}"),
    ],
    ids=["version", "tables", "meta", "indexes"],
)
def test_tables_that_were_made_half_way_are_completed(database_url, table_prefix, broken_off):
    own = database(database_url, table_prefix)
    own.schema.open()
    whole = described(database_url, table_prefix)
    mysql = database_url.startswith("mysql")
    on = {name: f" ON {table_prefix}{name[3:]}" if mysql else "" for name in ("on_jobs", "on_runs")}
    execute(database_url, *(statement.format(p=table_prefix, **on) for statement in broken_off))
    own.schema.open()
    assert described(database_url, table_prefix) == whole
    assert execute(database_url, f"SELECT n FROM {table_prefix}meta WHERE k = 'schema'") == [(schema.VERSION,)]
    own.dispose()


def run_script(url: str, script: str) -> None:
    """Run a script as the database's own client would, in one piece."""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    if engine.dialect.name == "mysql":
        from pymysql.constants import CLIENT

        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args={"client_flag": CLIENT.MULTI_STATEMENTS})
    raw = engine.raw_connection()
    cursor = raw.cursor()
    getattr(cursor, "executescript", cursor.execute)(script)
    while getattr(cursor, "nextset", lambda: None)():
        pass
    raw.commit()
    cursor.close()
    raw.close()


def test_the_ddl_runs_as_it_is_and_makes_the_same_tables(database_url, table_prefix):
    made = database(database_url, f"{table_prefix}a_")
    made.schema.open()
    own = database(database_url, f"{table_prefix}b_", create_tables=False)
    run_script(database_url, schema.ddl(own.engine, own.prefix))
    own.schema.open()
    assert described(database_url, own.prefix) == described(database_url, made.prefix)
    rows = [execute(database_url, f"SELECT k, n FROM {one.prefix}meta ORDER BY k") for one in (made, own)]
    assert rows[0] == rows[1]
    assert own.schema.upgrade() == schema.VERSION
    made.dispose()
    own.dispose()


def test_the_ddl_needs_no_connection(table_prefix):
    own = database("postgresql+psycopg://nobody@127.0.0.1:1/nothing", table_prefix)
    assert schema.ddl(own.engine, own.prefix).count("CREATE TABLE") == len(TABLES)


# Prefixes


async def test_a_prefix_separates_two_stores_in_one_database(clock, database_url, table_prefix):
    clusters = [
        Cluster(clock, {"type": "sqlalchemy", "url": database_url, "table_prefix": table_prefix + name})
        for name in ("a_", "b_")
    ]
    (one, two) = [await cluster.start() for cluster in clusters]
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await one.aio.pause()
    assert await two.ids() == []
    assert len(await two.aio.workers()) == 1
    await two.aio.add_job("id", job, trigger="interval", seconds=5)
    await clusters[1].advance(5)
    assert len(ran) == 1
    assert (await one.aio.get_job("id")).trigger.interval_length == 10
    assert (await two.rest("GET", ""))[1]["state"] == "running"
    for cluster in clusters:
        await cluster.close()


async def test_two_stores_of_one_scheduler_can_share_a_database(clock, database_url, table_prefix):
    entries = [
        {"type": "sqlalchemy", "url": database_url, "table_prefix": table_prefix + name} for name in ("a_", "b_")
    ]
    cluster = Cluster(clock, entries[0])
    one = await cluster.start(SCHEDULER_JOBSTORES={"default": entries[0], "second": entries[1]})
    await one.aio.add_job("one", job, trigger="interval", seconds=10)
    await one.aio.add_job("two", job, trigger="interval", seconds=10, jobstore="second")
    assert [found.id for found in await one.aio.get_jobs("second")] == ["two"]
    await cluster.advance(10)
    assert len(ran) == 2
    await cluster.close()


# Tables that are not there, or newer


async def said(process: Any) -> str:
    """Return what is wrong with the store, as everything that shows it agrees."""
    status, answer = await process.rest("GET", "/jobs")
    assert status == 503
    _, info = await process.rest("GET", "")
    store = info["jobstores"]["default"]
    assert not store["available"]
    assert answer["error_message"] == f'Job store "default" is not available: {store["error"]}'
    assert info["degraded"] == [answer["error_message"]]
    with pytest.raises(SchedulerError) as caught:
        await process.aio.add_job("id", job, trigger="interval", seconds=10)
    assert str(caught.value) == answer["error_message"]
    return str(answer["error_message"])


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_where_the_tables_may_not_be_made_it_says_so_and_the_app_serves(fresh, caplog):
    fresh.entry["create_tables"] = False

    def declare(scheduler: Any) -> None:
        scheduler.add_job("job", job, trigger="interval", seconds=10)

    one = await fresh.start(declare)

    @one.app.get("/")
    async def index() -> str:
        return "served"

    assert await (await one.client.get("/")).get_data(as_text=True) == "served"
    message = await said(one)
    prefix = fresh.entry["table_prefix"]
    assert f"There are no tables {prefix}* in " in message
    assert "create_tables is False: run `quart scheduler db upgrade`" in message
    await fresh.advance(30)
    assert found(fresh.entry["url"], prefix) == []
    assert len(failures(caplog)) < 15
    assert "Traceback" not in caplog.text

    own = database(fresh.entry["url"], prefix, create_tables=False)
    own.schema.upgrade()
    own.dispose()
    await fresh.advance(31)
    assert len(ran) > 0
    assert (await one.rest("GET", ""))[1]["jobstores"]["default"] == {"available": True, "error": None}
    assert (await one.rest("GET", "/jobs"))[0] == 200


async def test_tables_of_a_newer_version_are_refused_and_left_alone(fresh, caplog):
    first = await fresh.start()
    await first.aio.add_job("job", job, trigger="interval", seconds=10)
    await fresh.stop(first)
    newer = f"UPDATE {fresh.entry['table_prefix']}meta SET n = {schema.VERSION + 1} WHERE k = 'schema'"
    execute(fresh.entry["url"], newer)
    before = fresh.contents("jobs", "meta", "workers")
    one = await fresh.start()
    message = await said(one)
    assert (
        f"are of version {schema.VERSION + 1}; this quart_sched knows {schema.VERSION}: update quart_sched" in message
    )
    await fresh.advance(30)
    assert ran == []
    assert fresh.contents("jobs", "meta", "workers") == before
    assert len(failures(caplog)) < 15
    assert "Traceback" not in caplog.text
    execute(fresh.entry["url"], newer.replace(f"n = {schema.VERSION + 1}", f"n = {schema.VERSION}"))
    await fresh.advance(31)
    assert len(ran) > 0


@pytest.mark.parametrize("create_tables", [True, False])
def test_a_newer_version_is_refused_by_an_upgrade_too(database_url, table_prefix, create_tables):
    own = database(database_url, table_prefix, create_tables=create_tables)
    own.schema.upgrade()
    execute(database_url, f"UPDATE {table_prefix}meta SET n = 99 WHERE k = 'schema'")
    assert own.schema.upgrade() == 99
    with pytest.raises(SchemaProblem, match="are of version 99"):
        own.schema.open()
    own.dispose()


def test_a_database_of_postgresql_that_cannot_hold_every_text_is_refused(tmp_path):
    server = sa.create_engine(reachable("postgresql", tmp_path), poolclass=sa.NullPool, isolation_level="AUTOCOMMIT")
    name = f"t{uuid.uuid4().hex[:10]}"
    with server.connect() as conn:
        made = f"CREATE DATABASE {name} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        conn.exec_driver_sql(made)
        try:
            url = server.url.set(database=name).render_as_string(hide_password=False)
            one = database(url, "q_")
            for attempt in (one.schema.open, one.schema.upgrade, one.schema.is_there):
                with pytest.raises(SchemaProblem, match="is in the encoding LATIN1; expected UTF8"):
                    attempt()
            assert found(url, "q_") == []
        finally:
            conn.exec_driver_sql(f"DROP DATABASE {name}")


def test_a_server_that_is_too_old_is_refused(database_url, table_prefix, monkeypatch):
    own = database(database_url, table_prefix)
    own.schema.upgrade()
    monkeypatch.setattr(own.engine.dialect, "server_version_info", (3, 1))
    with pytest.raises(SchemaProblem, match=r"is (sqlite|postgresql|mariadb|mysql) 3.1; expected at least \d"):
        own.schema._check(schema.VERSION)
    own.dispose()


# SQLite's file


def sqlite_cluster(clock: Any, url: str) -> Cluster:
    return Cluster(clock, {"type": "sqlalchemy", "url": url, "table_prefix": "q_"})


async def test_a_folder_that_does_not_exist_is_said_with_the_file_and_taken_up_when_it_does(clock, tmp_path, caplog):
    path = tmp_path / "later" / "jobs.db"
    cluster = sqlite_cluster(clock, f"sqlite:///{path}")
    one = await cluster.start()
    assert f"unable to open database file ({path})" in await said(one)
    await cluster.advance(30)
    assert len(failures(caplog)) < 15
    assert "Traceback" not in caplog.text
    path.parent.mkdir()
    await cluster.advance(31)
    await one.aio.add_job("job", job, trigger="interval", seconds=10)
    await cluster.advance(10)
    assert len(ran) == 1
    await cluster.close()


async def made(path: Path, clock: Any) -> None:
    """Make a file with a job in it."""
    cluster = sqlite_cluster(clock, f"sqlite:///{path}")
    one = await cluster.start()
    await one.aio.add_job("job", job, trigger="interval", seconds=10)
    await cluster.close()


@pytest.mark.parametrize("prepare", [lambda path, clock: asyncio.sleep(0, path.touch()), made], ids=["empty", "made"])
async def test_a_file_that_may_not_be_written_is_said_with_its_name(clock, tmp_path, caplog, prepare):
    path = tmp_path / "jobs.db"
    await prepare(path, clock)
    cluster = sqlite_cluster(clock, f"sqlite:///file:{path}?mode=ro&uri=true")
    one = await cluster.start()
    await cluster.advance(30)
    status, answer = await one.rest("POST", "/jobs/job/pause")
    assert (status, f"attempt to write a readonly database (file:{path})" in answer["error_message"]) == (503, True)
    assert ran == []
    assert 0 < len(failures(caplog)) < 15
    assert "Traceback" not in caplog.text
    await cluster.close()


async def test_a_file_that_is_no_database_is_said_with_its_name(clock, tmp_path):
    path = tmp_path / "jobs.db"
    path.write_text("This is a text. " * 100, encoding="utf-8")
    cluster = sqlite_cluster(clock, f"sqlite:///{path}")
    one = await cluster.start()
    assert f"file is not a database ({path})" in await said(one)
    await cluster.close()


def test_what_goes_wrong_with_a_server_is_said_in_one_line(table_prefix):
    for url in ("postgresql+psycopg://u:secret@127.0.0.1:1/x", "mysql+pymysql://u:secret@127.0.0.1:1/x"):
        calls: list[Callable[[], Any]] = [
            database(url, table_prefix).schema.open,
            database(url, table_prefix).schema.upgrade,
        ]
        for call in calls:
            with pytest.raises(DatabaseFailure) as caught:
                call()
            assert "\n" not in str(caught.value)
            assert "secret" not in str(caught.value)
            assert "OperationalError" in str(caught.value)
