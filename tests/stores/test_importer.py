"""The import out of APScheduler's own table: what comes over, what does not, and that nothing comes twice."""

from __future__ import annotations

import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.calendarinterval import CalendarIntervalTrigger
from apscheduler.triggers.combining import AndTrigger, OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger

from quart_sched import Scheduler
from quart_sched.errors import ConfigError
from quart_sched.model.jobs import JobDefinition
from quart_sched.model.policies import Policy
from quart_sched.model.triggers import spec_of
from quart_sched.stores.sql import importer
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.failures import DatabaseFailure, SchemaProblem
from quart_sched.stores.sql.importer import ImportResult, SourceProblem, import_jobs, import_pickled, read_pickled
from quart_sched.stores.sql.store import SqlStore
from tests.conftest import START
from tests.stores.manual_clock import ManualClock

pytestmark = pytest.mark.integration  # there is a database in each

BERLIN = ZoneInfo("Europe/Berlin")
FUTURE = datetime(2030, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
TRIGGERS = {
    "date": DateTrigger(FUTURE),
    "interval": IntervalTrigger(minutes=90, start_date=FUTURE, end_date=FUTURE + timedelta(days=9), jitter=5),
    "cron": CronTrigger(day_of_week="mon-fri", hour="9-17", minute="*/5", timezone=BERLIN, jitter=2),
    "crontab": CronTrigger.from_crontab("0 4 * * 1", timezone=UTC),
    "calendarinterval": CalendarIntervalTrigger(months=1, hour=6, start_date=date(2030, 1, 31), timezone=BERLIN),
    "and": AndTrigger([IntervalTrigger(hours=2, start_date=FUTURE), IntervalTrigger(hours=3, start_date=FUTURE)]),
    "or": OrTrigger([IntervalTrigger(hours=2, start_date=FUTURE), CronTrigger(minute=7, timezone=BERLIN)], jitter=3),
}
unpickled: list[str] = []


def tick(*args: Any, **kwargs: Any) -> None: ...


async def tock() -> None: ...


def takes_one(value: Any) -> None: ...


def generates() -> Iterator[int]:
    yield 1


class Holder:
    """An object of the user's own, and where its unpickling can be seen."""

    def method(self) -> None: ...

    def __setstate__(self, state: Any) -> None:
        unpickled.append("holder")

    def __getstate__(self) -> Any:
        return {"some": "state"}


class Exits:
    def __reduce__(self) -> Any:
        return sys.exit, ("not today",)


class OwnTrigger(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: datetime) -> datetime:
        return FUTURE


Fill = Callable[[Any], None]


class Old:
    """APScheduler's table in one database, as APScheduler fills it."""

    def __init__(self, url: str, table: str) -> None:
        self.url = url
        self.table = table
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    def store(self) -> SQLAlchemyJobStore:
        return SQLAlchemyJobStore(engine=self.engine, tablename=self.table)

    @contextmanager
    def scheduler(self) -> Iterator[BackgroundScheduler]:
        """APScheduler itself, which keeps its jobs in the table."""
        scheduler = BackgroundScheduler(jobstores={"default": self.store()}, timezone=UTC)
        scheduler.start(paused=True)
        yield scheduler
        scheduler.shutdown()

    def add(self, *ids: str, **options: Any) -> None:
        with self.scheduler() as scheduler:
            for job_id in ids:
                scheduler.add_job(**{"func": tick, "trigger": DateTrigger(FUTURE), "id": job_id, **options})

    def put(self, job_id: str, state: Any) -> None:
        """Write a row that APScheduler would not: the pickled `state`, or bytes as they are.

        After all others: APScheduler deletes what it cannot restore.
        """
        self.store().jobs_t.create(self.engine, checkfirst=True)
        values = {"id": job_id, "state": state if isinstance(state, bytes) else pickle.dumps(state)}
        with self.engine.begin() as conn:
            conn.execute(
                sa.text(f"INSERT INTO {self.table} (id, next_run_time, job_state) VALUES (:id, 1, :state)"), values
            )

    def state(self, job_id: str, **changes: Any) -> dict[str, Any]:
        """The state of a job in order, with some of it changed."""
        return {
            "version": 1, "id": job_id, "func": f"{__name__}:tick", "trigger": DateTrigger(FUTURE),
            "executor": "default", "args": (), "kwargs": {}, "name": job_id, "misfire_grace_time": 1,
            "coalesce": True, "max_instances": 1, "next_run_time": FUTURE, **changes,
        }  # fmt: skip

    def rows(self) -> list[tuple[Any, ...]]:
        with self.engine.connect() as conn:
            return [tuple(row) for row in conn.execute(sa.text(f"SELECT * FROM {self.table} ORDER BY id"))]

    def drop(self) -> None:
        with self.engine.begin() as conn:
            conn.execute(sa.text(f"DROP TABLE IF EXISTS {self.table}"))
        self.engine.dispose()


@pytest.fixture
def old(database_url: str, table_prefix: str) -> Iterator[Old]:
    """APScheduler's table in the store's own database."""
    table = Old(database_url, f"{table_prefix}old")
    yield table
    table.drop()


@pytest.fixture
def engine() -> Scheduler:
    return Scheduler(timezone="UTC")


@pytest.fixture
def store(database_url: str, table_prefix: str, engine: Scheduler) -> Iterator[SqlStore]:
    """Our store, open."""
    store = SqlStore(database_url, table_prefix=table_prefix)
    store.start(engine, "default")
    yield store
    store.shutdown()


@pytest.fixture
def file_store(tmp_path, engine: Scheduler) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'jobs.db'}")
    store.start(engine, "default")
    yield store
    store.shutdown()


@pytest.fixture
def file(file_store: SqlStore) -> Old:
    """APScheduler's table in the file of the store."""
    return Old(str(file_store.database.engine.url), "apscheduler_jobs")


def outcomes(results: list[ImportResult]) -> dict[str, str]:
    return {result.job_id: result.outcome for result in results}


def ours(database: Database) -> dict[str, Any]:
    return {row.id: row for row in database.query(f"SELECT * FROM {database.prefix}jobs")}


def micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


# What comes over


def test_every_kind_of_trigger_comes_over_with_its_next_fire(old, store, engine):
    with old.scheduler() as scheduler:
        jobs = {name: scheduler.add_job(tick, trigger, id=name) for name, trigger in TRIGGERS.items()}
        fires = {name: job.next_run_time for name, job in jobs.items()}
    results = import_jobs(store.database, old.table, scheduler=engine)
    assert outcomes(results) == dict.fromkeys(sorted(TRIGGERS), "imported")
    imported = {job.id: job for job in store.get_all_jobs()}
    assert {name: spec_of(job.trigger) for name, job in imported.items()} == {
        name: spec_of(trigger) for name, trigger in TRIGGERS.items()
    }
    assert {name: job.next_run_time for name, job in imported.items()} == fires
    assert {name: row.next_us for name, row in ours(store.database).items()} == {
        name: micros(fire) for name, fire in fires.items()
    }


def test_function_arguments_and_options_come_over(old, store, engine):
    args = (1, "two", None, 2.5, (3, [4]), b"\0\xff", Decimal("1.10"), UUID(int=5), FUTURE, date(2030, 1, 1))
    kwargs = {"a": {"b": timedelta(seconds=1)}, "snow": "\N{SNOWMAN} and \N{PILE OF POO}"}
    options = {"misfire_grace_time": None, "coalesce": False, "max_instances": 3, "name": "A name"}
    old.add("job", args=args, kwargs=kwargs, **options)
    old.add("async", func=tock)
    import_jobs(store.database, old.table, scheduler=engine)
    job = store.lookup_job("job")
    assert (job.func, job.args, job.kwargs) == (tick, args, kwargs)
    assert {name: getattr(job, name) for name in options} == options
    assert (job.executor, job.policy, job.version, job.source, job.broken) == ("default", Policy(), 1, "added", None)
    assert store.lookup_job("async").func is tock


def test_a_paused_job_stays_paused(old, store, engine):
    with old.scheduler() as scheduler:
        scheduler.add_job(tick, IntervalTrigger(hours=1), id="paused")
        scheduler.pause_job("paused")
    assert outcomes(import_jobs(store.database, old.table, scheduler=engine)) == {"paused": "imported"}
    row = ours(store.database)["paused"]
    assert (row.next_us, row.held_us, row.paused_by, row.source) == (None, None, "import", "added")
    assert row.paused_us is not None
    assert store.lookup_job("paused").paused_by == "import"


def test_a_fire_in_the_second_of_two_hours_of_one_name_stays_there(file, file_store, engine):
    second = datetime(2030, 10, 27, 2, 30, tzinfo=BERLIN, fold=1)
    file.put("autumn", file.state("autumn", next_run_time=second))
    import_jobs(file_store.database, file.table, scheduler=engine)
    assert ours(file_store.database)["autumn"].next_us == micros(datetime(2030, 10, 27, 1, 30, tzinfo=UTC))


def test_each_import_stands_in_the_list_of_changes(file, file_store, engine):
    file.add("a", "b")
    import_jobs(file_store.database, file.table, scheduler=engine)
    changes = file_store.database.query(f"SELECT * FROM {file_store.database.prefix}changes ORDER BY job_id")
    definitions = {job_id: row.definition for job_id, row in ours(file_store.database).items()}
    assert [(row.action, row.actor, row.job_id, row.version) for row in changes] == [
        ("import", "import", "a", 1),
        ("import", "import", "b", 1),
    ]
    assert {row.job_id: row.definition for row in changes} == definitions


def test_a_function_of_the_running_script_comes_over(file, file_store, engine, monkeypatch):
    script = types.ModuleType("__main__")
    script.__file__ = "/srv/run_jobs.py"
    exec("def add(): ...", script.__dict__)
    monkeypatch.setitem(sys.modules, "__main__", script)
    file.put("by name", file.state("by name", func="run_jobs:add"))
    file.put("as main", file.state("as main", func="__main__:add"))
    results = import_jobs(file_store.database, file.table, scheduler=engine)
    assert outcomes(results) == {"by name": "imported", "as main": "imported"}
    assert {row.func for row in ours(file_store.database).values()} == {"run_jobs:add"}


# What does not come twice


def test_a_second_import_imports_nothing(old, store, engine):
    old.add("a", "b")
    import_jobs(store.database, old.table, scheduler=engine)
    before = ours(store.database)
    old.add("c")
    results = import_jobs(store.database, old.table, scheduler=engine)
    assert outcomes(results) == {"a": "present", "b": "present", "c": "imported"}
    after = ours(store.database)
    assert {job_id: after[job_id] for job_id in before} == before
    assert len(after) == 3


def test_a_job_that_was_imported_and_then_removed_does_not_come_back(old, store, engine):
    old.add("a")
    import_jobs(store.database, old.table, scheduler=engine)
    store.remove_job("a")
    results = import_jobs(store.database, old.table, scheduler=engine)
    assert results == [
        ImportResult("a", "present", "it was imported before, and has ended or been removed since"),
    ]
    assert ours(store.database) == {}


def test_a_job_whose_schedule_is_over_does_not_come_back(file, file_store, engine):
    file.add("a")
    import_jobs(file_store.database, scheduler=engine)
    with file.engine.begin() as conn:
        conn.execute(sa.text("UPDATE quart_sched_jobs SET next_us = NULL, ended_us = 1"))
    assert outcomes(import_jobs(file_store.database, scheduler=engine)) == {"a": "present"}
    assert ours(file_store.database)["a"].ended_us == 1


def test_a_job_of_ours_with_the_same_id_is_left_alone_and_the_old_one_not_unpickled(file, file_store, engine):
    definition = JobDefinition.parse({"id": "a", "func": tock, "trigger": "date", "run_date": FUTURE})
    job = engine.catalogue.declarations.pending(definition)
    job._modify(misfire_grace_time=1, coalesce=True, max_instances=1, next_run_time=FUTURE)
    file_store.add_job(job)
    file.add("a", args=(Holder(),))
    unpickled.clear()
    assert import_jobs(file_store.database, file.table, scheduler=engine) == [ImportResult("a", "present")]
    assert file_store.lookup_job("a").func is tock
    assert unpickled == []


def test_a_job_that_the_code_declares_is_left_to_it(file, file_store, engine):
    for job_id in ("a", "b"):
        definition = JobDefinition.parse({"id": job_id, "func": tock, "trigger": "interval", "hours": 1})
        engine.catalogue.add(definition, origin="task")
    file.add("a", "b")
    with file.scheduler() as scheduler:
        scheduler.pause_job("b")
    a, b = import_jobs(file_store.database, file.table, scheduler=engine)
    assert a == ImportResult("a", "present", "the code declares it")
    assert b.outcome == "present"
    assert "it is paused in the old table, which is not taken over" in b.reason
    assert ours(file_store.database) == {}


def test_imports_at_the_same_time_bring_each_job_once(old, database_url, table_prefix, store, engine):
    old.add(*(f"job{n}" for n in range(20)))
    databases = [Database("test", database_url, table_prefix, create_tables=True, engine_options={}) for _ in range(3)]
    start = threading.Barrier(len(databases))
    results: list[list[ImportResult]] = []

    def run(database: Database) -> None:
        start.wait()
        results.append(import_jobs(database, old.table, scheduler=engine))

    threads = [threading.Thread(target=run, args=(database,)) for database in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for database in databases:
        database.dispose()
    kinds = [sorted(set(outcomes(result).values())) for result in results]
    assert sorted(kinds) == [["imported"], ["present"], ["present"]]
    assert len(ours(store.database)) == 20


def test_a_job_that_somebody_adds_meanwhile_is_left_alone(old, store, engine, monkeypatch):
    old.add("a", "b")
    known, calls = importer._known, []

    def late(tx: Any) -> Any:
        # The first look, and that of the transaction which runs into the other's job, come too early.
        calls.append(tx)
        return {} if len(calls) <= 2 else known(tx)

    import_pickled(store.database, read_pickled(store.database, old.table)[:1], scheduler=engine)
    monkeypatch.setattr(importer, "_known", late)
    assert outcomes(import_jobs(store.database, old.table, scheduler=engine)) == {"a": "present", "b": "imported"}
    assert len(calls) == 3


def test_an_import_is_dated_by_a_tests_clock_as_all_else_is(old, store, engine):
    old.add("a")
    engine.clock.replace(ManualClock())
    import_jobs(store.database, old.table, scheduler=engine)
    rows = store.database.query(f"SELECT at_us FROM {store.database.prefix}changes WHERE action = 'import'")
    assert rows == [(micros(START),)]


def test_an_import_that_breaks_off_leaves_nothing_behind(old, store, engine, monkeypatch):
    def fail(*_: Any) -> None:
        raise OSError("no more")

    old.add("a", "b")
    monkeypatch.setattr(importer, "write_down", fail)
    with pytest.raises(OSError, match="no more"):
        import_jobs(store.database, old.table, scheduler=engine)
    assert ours(store.database) == {}


def test_the_old_table_is_left_as_it_is(old, store, engine):
    old.add("good")
    old.put("bad", b"no pickle")
    before = old.rows()
    import_jobs(store.database, old.table, scheduler=engine)
    assert old.rows() == before


# What is refused


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"func": "nowhere:at_all"}, "func: cannot import 'nowhere' of 'nowhere:at_all': No module named 'nowhere'"),
        ({"func": f"{__name__}:gone"}, f"func: {__name__!r} has no 'gone'"),
        ({"func": "no reference"}, "func: 'no reference' is no reference; expected 'module:name'"),
        ({"func": tick}, "func: is <function tick"),
        ({"func": f"{__name__}:generates"}, "func: tests.stores.test_importer:generates is a generator function"),
        ({"func": f"{__name__}:takes_one"}, "args: do not fit tests.stores.test_importer:takes_one"),
        ({"func": f"{__name__}:Holder.method", "args": (Holder(),)}, "args[0]: is <"),
        ({"kwargs": {"open": Holder()}}, "kwargs.open: is <"),
        ({"kwargs": {1: 2}}, "kwargs: is {1: 2}; expected keyword arguments by name"),
        ({"trigger": OwnTrigger()}, "trigger: is <"),
        ({"trigger": "interval"}, "trigger: is 'interval'; expected a trigger of APScheduler's"),
        ({"executor": "pool"}, "executor: is 'pool'; expected one of 'default'"),
        ({"name": ""}, "name: is ''; expected a non-empty string"),
        ({"misfire_grace_time": 0}, "misfire_grace_time: is 0; expected whole seconds of at least 1"),
        ({"next_run_time": datetime(2030, 1, 1)}, "next_run_time: is datetime.datetime(2030, 1, 1, 0, 0); expected"),
        ({"next_run_time": 5}, "next_run_time: is 5; expected an aware datetime, or None"),
        ({"version": 2}, "job_state: has the version 2; expected 1"),
        ({"id": "another"}, "id: is 'another' in the state, but 'bad' in the table"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_kept_is_refused_with_the_reason_and_nothing_else_suffers(
    file, file_store, engine, changes, reason
):
    file.add("good")
    file.put("bad", file.state("bad", **changes))
    bad, good = import_jobs(file_store.database, scheduler=engine)
    assert (bad.outcome, good.outcome) == ("refused", "imported")
    assert bad.reason.startswith(reason)
    assert list(ours(file_store.database)) == ["good"]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (b"no pickle", "job_state: cannot be unpickled: UnpicklingError: "),
        (b"", "job_state: cannot be unpickled: EOFError: "),
        (b"cnowhere\nThing\n.", "job_state: cannot be unpickled: ModuleNotFoundError: No module named 'nowhere'"),
        (Exits(), "job_state: cannot be unpickled: SystemExit: not today"),
        (["a", "list"], "job_state: is ['a', 'list']; expected the state of a job"),
        ({"id": "bad", "func": "a:b"}, "job_state: has no args, coalesce, executor, kwargs, max_instances, misfire_gr"),
    ],
    ids=["no pickle", "nothing", "a missing module", "an exit", "a list", "half a state"],
)
def test_what_is_no_pickled_job_is_refused_with_the_reason(file, file_store, engine, state, reason):
    file.add("good")
    file.put("bad", state)
    bad, good = import_jobs(file_store.database, scheduler=engine)
    assert (bad.outcome, good.outcome) == ("refused", "imported")
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize("job_id", ["x" * 192, "blank at its end "])
def test_an_id_that_not_every_database_holds_is_refused(file, file_store, engine, job_id):
    file.put(job_id, file.state(job_id))
    [result] = import_jobs(file_store.database, scheduler=engine)
    assert result.outcome == "refused"
    assert result.reason.startswith("id: is ")


def test_a_refused_job_is_tried_again_the_next_time(file, file_store, engine, monkeypatch):
    file.put("later", file.state("later", func="soon_there:work"))
    assert outcomes(import_jobs(file_store.database, scheduler=engine)) == {"later": "refused"}
    module = types.ModuleType("soon_there")
    exec("def work(): ...", module.__dict__)
    monkeypatch.setitem(sys.modules, "soon_there", module)
    assert outcomes(import_jobs(file_store.database, scheduler=engine)) == {"later": "imported"}


# Where the table is


def test_the_table_may_be_in_another_database(old, file_store, engine):
    old.add("a")
    results = import_jobs(file_store.database, old.table, old.url, scheduler=engine)
    assert outcomes(results) == {"a": "imported"}
    assert list(ours(file_store.database)) == ["a"]


def test_jobs_come_from_a_file_to_each_database(file, store, engine):
    file.add("a")
    assert outcomes(import_jobs(store.database, source_url=file.url, scheduler=engine)) == {"a": "imported"}
    assert list(ours(store.database)) == ["a"]


def test_an_url_without_a_driver_takes_the_one_that_is_there(old, file_store, engine):
    old.add("a")
    plain = sa.make_url(old.url)
    plain = plain.set(drivername=plain.get_backend_name()).render_as_string(hide_password=False)
    assert outcomes(import_jobs(file_store.database, old.table, plain, scheduler=engine)) == {"a": "imported"}


def test_the_table_may_be_named_with_its_schema(old, file_store, engine):
    old.add("a")
    kind = old.engine.dialect.name
    schema = {"sqlite": "main", "postgresql": "public"}.get(kind, old.engine.url.database)
    results = import_jobs(file_store.database, f"{schema}.{old.table}", old.url, scheduler=engine)
    assert outcomes(results) == {"a": "imported"}


def test_an_empty_table_gives_nothing(file, file_store, engine):
    file.add()
    assert import_jobs(file_store.database, file.table, scheduler=engine) == []


def test_a_table_that_is_not_there_is_named(store, engine):
    with pytest.raises(SourceProblem, match="There is no table nothing_here in "):
        import_jobs(store.database, "nothing_here", scheduler=engine)


def test_a_table_of_something_else_is_named(file_store, engine):
    table = f"{file_store.database.prefix}meta"
    with pytest.raises(SourceProblem, match=r"has the columns at_us, k, n, v; expected one of APScheduler's"):
        import_jobs(file_store.database, table, scheduler=engine)


def test_a_file_that_is_not_there_is_named_and_not_made(file_store, engine, tmp_path):
    missing = tmp_path / "old.db"
    with pytest.raises(SourceProblem, match=r"There is no file '.*old\.db'"):
        import_jobs(file_store.database, source_url=f"sqlite:///{missing}", scheduler=engine)
    assert not missing.exists()


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("nonsense", ConfigError, "The source's url is none: ArgumentError: "),
        ("dbase://host/db", ConfigError, "The source's url is none: NoSuchModuleError: "),
        ("postgresql+psycopg2://me:secret@host/db", ConfigError, "needs a driver that is not installed: No module"),
        ("sqlite+aiosqlite:///old.db", ConfigError, "has an asynchronous driver; expected a synchronous one"),
        ("postgresql://me:secret@127.0.0.1:1/db", SourceProblem, "OperationalError: connection failed"),
        ("mysql://me:secret@127.0.0.1:1/db", SourceProblem, "OperationalError: "),
    ],
)
def test_a_source_that_cannot_be_read_is_named_without_its_password(file_store, engine, url, error, message):
    with pytest.raises(error) as caught:
        import_jobs(file_store.database, source_url=url, scheduler=engine)
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


# Our own tables


def test_an_import_makes_our_tables_where_it_may(old, database_url, table_prefix, engine):
    database = Database("test", database_url, table_prefix, create_tables=True, engine_options={})
    old.add("a")
    assert outcomes(import_jobs(database, old.table, scheduler=engine)) == {"a": "imported"}
    assert list(ours(database)) == ["a"]
    database.dispose()


def test_an_import_says_who_has_to_make_our_tables_where_it_may_not(old, database_url, table_prefix, engine):
    database = Database("test", database_url, table_prefix, create_tables=False, engine_options={})
    old.add("a", args=(Holder(),))
    unpickled.clear()
    with pytest.raises(SchemaProblem, match="run `quart scheduler db upgrade`"):
        import_jobs(database, old.table, scheduler=engine)
    assert unpickled == []
    database.dispose()


def test_a_dry_run_tells_what_would_be_done_and_writes_nothing(old, database_url, table_prefix, engine):
    database = Database("test", database_url, table_prefix, create_tables=True, engine_options={})
    old.add("a")
    old.put("b", b"no pickle")
    jobs = read_pickled(database, old.table)
    results = import_pickled(database, jobs, scheduler=engine, dry_run=True)
    assert outcomes(results) == {"a": "imported", "b": "refused"}
    assert not sa.inspect(old.engine).has_table(f"{table_prefix}jobs")
    import_pickled(database, jobs, scheduler=engine)
    again = import_pickled(database, jobs, scheduler=engine, dry_run=True)
    assert outcomes(again) == {"a": "present", "b": "refused"}
    database.dispose()


def test_a_database_that_is_away_is_told(engine):
    database = Database("test", "mysql://me:secret@127.0.0.1:1/db", "p_", create_tables=True, engine_options={})
    with pytest.raises(DatabaseFailure, match="OperationalError"):
        import_jobs(database, scheduler=engine)
