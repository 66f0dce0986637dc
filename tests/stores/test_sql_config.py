"""The SQL store's configuration: what is wrong is said before anything is connected, and passwords are never told."""

from __future__ import annotations

import functools
import logging
import re
import sys
import threading
import types
from datetime import datetime
from typing import Any

import pytest
import sqlalchemy as sa
from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.interval import IntervalTrigger
from quart import Quart

from quart_sched import APScheduler, Scheduler
from quart_sched.config import Settings
from quart_sched.errors import ConfigError, InvalidDefinition
from quart_sched.stores.adapter import make_history, make_store
from quart_sched.stores.sql.failures import DatabaseFailure
from quart_sched.stores.sql.store import SqlStore
from tests.stores.cluster import Cluster

pytestmark = pytest.mark.integration  # there is a database in each

SECRET = "hush-hush"


async def job(*args: Any, **kwargs: Any) -> None: ...


def sql(url: Any = "sqlite:///jobs.db", **options: Any) -> dict[str, Any]:
    return {"type": "sqlalchemy", "url": url, **options}


def refused(entry: Any) -> str:
    """Return why an entry is refused, by make_store and by init_app alike."""
    with pytest.raises(ConfigError) as caught:
        make_store("SCHEDULER_JOBSTORES['default']", entry)
    app = Quart("app")
    app.config["SCHEDULER_JOBSTORES"] = {"default": entry}
    with pytest.raises(ConfigError) as again:
        APScheduler(app=app)
    assert str(again.value) == str(caught.value)
    assert str(caught.value).startswith("SCHEDULER_JOBSTORES['default'] ")
    return str(caught.value)


# URLs


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:///jobs.db", "sqlite+pysqlite"),
        ("sqlite+pysqlite:////var/jobs.db", "sqlite+pysqlite"),
        ("postgresql://h/db", "postgresql+psycopg"),
        ("postgres://h/db", "postgresql+psycopg"),
        ("postgresql+psycopg://u@h:5432/db?sslmode=require", "postgresql+psycopg"),
        ("mysql://h/db", "mysql+pymysql"),
        ("mariadb+pymysql://h/db", "mariadb+pymysql"),
        (sa.make_url("postgresql://h/db"), "postgresql+psycopg"),
        (f"postgresql://u:{SECRET}%40%2F%3A@h/db", "postgresql+psycopg"),
    ],
    ids=str,
)
def test_the_three_databases_are_known_by_their_urls(url, driver):
    store: Any = make_store("KEY", sql(url))
    assert (type(store), store.database.engine.url.drivername) == (SqlStore, driver)


@pytest.mark.parametrize(
    "url", ["nonsense", "", "sqlite", "postgresql//u@h/db", "://", "postgresql://h:port/db", "postgresql://[::1:5/db"]
)
def test_an_url_that_cannot_be_read_is_refused(url):
    assert "has an url that cannot be read; expected one such as 'sqlite:///jobs.db'" in refused(sql(url))


@pytest.mark.parametrize(("url", "kind"), [(None, "NoneType"), (5, "int"), (b"sqlite:///x", "bytes"), ([], "list")])
def test_an_url_that_is_no_text_is_refused(url, kind):
    assert f"has an url of type {kind}; expected one such as" in refused(sql(url))


def test_an_url_that_is_missing_is_refused():
    assert "has no url; expected one such as 'sqlite:///jobs.db'" in refused({"type": "sqlalchemy"})


@pytest.mark.parametrize("url", ["oracle://h/db", "mssql+pyodbc://h/db", "http://h/db", "redis://h/0", "SQLITE:///x"])
def test_a_database_of_another_kind_is_refused_with_those_that_are_known(url):
    message = refused(sql(url))
    assert "expected sqlite://, postgresql+psycopg:// or mysql+pymysql://" in message
    assert f"has the url {url.partition('://')[0]}://" in message


@pytest.mark.parametrize(
    ("url", "right"),
    [
        ("sqlite+aiosqlite:///jobs.db", "sqlite+pysqlite://"),
        ("postgresql+asyncpg://h/db", "postgresql+psycopg://"),
        ("postgres+asyncpg://h/db", "postgresql+psycopg://"),
        ("postgresql+psycopg_async://h/db", "postgresql+psycopg://"),
        ("mysql+aiomysql://h/db", "mysql+pymysql://"),
        ("mysql+asyncmy://h/db", "mysql+pymysql://"),
        ("mariadb+aiomysql://h/db", "mariadb+pymysql://"),
    ],
)
def test_an_async_driver_is_refused_with_the_name_of_the_right_one(url, right):
    message = refused(sql(url))
    assert f"expected the driver {right}, as the store works in threads of its own and never on the event" in message


@pytest.mark.parametrize("driver", ["postgresql+psycopg2", "postgresql+pg8000", "mysql+mysqldb", "sqlite+pysqlcipher"])
def test_another_driver_is_refused_with_the_name_of_the_right_one(driver):
    kind = driver.partition("+")[0]
    right = {"postgresql": "psycopg", "mysql": "pymysql", "sqlite": "pysqlite"}[kind]
    assert refused(sql(f"{driver}://h/db")).endswith(f"expected the driver {kind}+{right}://")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite+pysqlite:///:memory:",
        "sqlite:///file::memory:?cache=shared&uri=true", "sqlite:///file:x?mode=memory&uri=true",
    ],
)  # fmt: skip
def test_sqlite_in_memory_is_refused(url):
    message = refused(sql(url))
    assert "a database in memory, which ends with the process" in message
    assert 'expected a file such as sqlite:///jobs.db, or {"type": "memory"}' in message


# What is not installed


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [("postgresql://h/db", "psycopg", "postgresql"), ("mysql://h/db", "pymysql", "mysql")],
)
def test_a_driver_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch, url, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    message = refused(sql(url))
    assert f"whose driver is not installed (import of {module} halted" in message
    assert message.endswith(f"pip install 'quart-sched[{extra}]'")


def test_sqlalchemy_that_is_missing_is_named_with_the_extra_that_brings_it(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "sqlalchemy"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("quart_sched.stores.sql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    message = refused(sql())
    assert message.endswith("has type 'sqlalchemy', which needs SQLAlchemy: pip install 'quart-sched[sql]'")


# Options


@pytest.mark.parametrize("name", ["tabel_prefix", "prefix", "key", "pool_size", "type_", 5])
def test_an_option_that_is_not_known_is_named_with_those_that_are(name):
    message = refused({**sql(), name: "x"})
    assert f"has the option {name!r}; expected 'url', 'table_prefix', 'create_tables', 'engine_options'" in message


@pytest.mark.parametrize("name", ["tablename", "tableschema", "engine", "metadata", "pickle_protocol"])
def test_an_option_of_apschedulers_own_store_says_how_to_have_that_one(name):
    message = refused({**sql(), name: "x"})
    assert '{"class": "apscheduler.jobstores.sqlalchemy:SQLAlchemyJobStore"}' in message


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"table_prefix": "a-b"}, "has table_prefix 'a-b'; expected small letters, digits and underscores, at most 32"),
        ({"table_prefix": ""}, "has table_prefix ''"),
        ({"table_prefix": "1x"}, "has table_prefix '1x'"),
        ({"table_prefix": "App_"}, "has table_prefix 'App_'"),
        ({"table_prefix": "x; DROP TABLE y"}, "has table_prefix 'x; DROP TABLE y'"),
        ({"table_prefix": "x" * 33}, f"has table_prefix '{'x' * 33}'"),
        ({"table_prefix": None}, "has table_prefix None"),
        ({"create_tables": "no"}, "has create_tables 'no'; expected True or False"),
        ({"create_tables": 0}, "has create_tables 0; expected True or False"),
        ({"engine_options": "echo"}, "has engine_options that are no dict of options of SQLAlchemy's create_engine"),
        ({"engine_options": {1: 2}}, "has engine_options that are no dict"),
        ({"engine_options": {"pool_siez": 5}}, "'pool_siez'"),
        ({"engine_options": {"connect_args": "x"}}, "has connect_args of type str; expected a dict"),
        ({"engine_options": {"isolation_level": "SERIALIZABLE"}}, "has the engine option 'isolation_level'"),
    ],
    ids=str,
)
def test_an_option_of_the_wrong_kind_is_named(options, expected):
    assert expected in refused(sql(**options))


def test_the_longest_prefix_works_on_every_database(database_url):
    prefix = "p" * 32
    from tests.stores.cluster import drop_tables

    drop_tables(database_url, prefix)
    store: Any = make_store("KEY", sql(database_url, table_prefix=prefix))
    store.database.schema.open()
    store.database.dispose()
    drop_tables(database_url, prefix)


@pytest.mark.parametrize("pool", [sa.NullPool, sa.QueuePool], ids=lambda pool: pool.__name__)
async def test_the_users_engine_options_are_taken_beside_ours(clock, database_url, table_prefix, pool):
    cluster = Cluster(clock, sql(database_url, table_prefix=table_prefix))
    name = {"sqlite": "cached_statements", "postgresql": "prepare_threshold", "mysql": "read_timeout"}
    kind = database_url.partition("+")[0].partition(":")[0]
    options = {"poolclass": pool, "connect_args": {name[kind]: 17}, "pool_recycle": 60}
    cluster.entry["engine_options"] = options
    one = await cluster.start()
    engine = one.slot.store.database.engine
    assert (type(engine.pool), engine.pool._recycle) == (pool, 60)
    await one.aio.add_job("id", job, trigger="interval", seconds=10)
    await cluster.advance(10)
    assert await one.outcomes("id") == ["succeeded"]
    assert options == {"poolclass": pool, "connect_args": {name[kind]: 17}, "pool_recycle": 60}
    await cluster.close()


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (sql("nonsense"), "SCHEDULER_HISTORY has an url that cannot be read"),
        ({"type": "sqlalchemy"}, "SCHEDULER_HISTORY has no url"),
        (sql(tablename="x"), "SCHEDULER_HISTORY has the option 'tablename'"),
        (sql("postgresql+asyncpg://h/db"), "expected the driver postgresql+psycopg://"),
    ],
    ids=str,
)
def test_the_database_of_the_history_is_checked_alike(entry, expected):
    with pytest.raises(ConfigError, match=re.escape(expected)):
        make_history("SCHEDULER_HISTORY", entry)
    app = Quart("app")
    app.config["SCHEDULER_HISTORY"] = entry
    with pytest.raises(ConfigError, match=re.escape(expected)):
        APScheduler(app=app)


# Passwords


WITH_PASSWORD: list[Any] = [
    sql(f"oracle://u:{SECRET}@h/db"),
    sql(f"postgresql+asyncpg://u:{SECRET}@h/db"),
    sql(f"postgresql//u:{SECRET}@h/db"),
    sql(f"postgresql://u:{SECRET}@h:port/db"),
    sql(f"postgresql://u:x@{SECRET}@h/db"),
    sql(f"postgresql://u:x/{SECRET}@h:port/db"),
    sql(f"postgresql+asyncpg://u@h/db?password={SECRET}"),
    sql(f"postgresql+asyncpg://u@h/db?sslpassword={SECRET}"),
    sql(f"postgresql://u:{SECRET}@h/db", tablename="x"),
    sql(f"postgresql://u:{SECRET}@h/db", table_prefix="-"),
    sql(f"postgresql://u:{SECRET}@h/db", engine_options={"pool_siez": 1}),
    sql("postgresql://u@h/db", engine_options={"pool_siez": 1, "connect_args": {"password": SECRET}}),
    {"url": f"postgresql://u:{SECRET}@h/db"},
    {"host": "h", "password": SECRET},
    f"postgresql://u:{SECRET}@h/db",
    f"postgresql://u:x@/{SECRET}@h/db",
]


@pytest.mark.parametrize("entry", WITH_PASSWORD, ids=lambda entry: re.sub(SECRET, "...", str(entry)))
def test_no_message_tells_a_password(entry):
    for given in (entry, {"default": entry}):
        app = Quart("app")
        app.config["SCHEDULER_JOBSTORES"] = given
        with pytest.raises(ConfigError) as caught:
            APScheduler(app=app)
        assert SECRET not in str(caught.value)
    app = Quart("app")
    app.config["SCHEDULER_HISTORY"] = entry
    with pytest.raises(ConfigError) as caught:
        APScheduler(app=app)
    assert SECRET not in str(caught.value)


URLS = [
    f"postgresql://u:{SECRET}@127.0.0.1:1/db",
    f"postgresql://u@127.0.0.1:1/db?password={SECRET}",
    f"mysql://u:{SECRET}@127.0.0.1:1/db",
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.replace(SECRET, "..."))
async def test_neither_logs_nor_answers_nor_reprs_tell_a_password(clock, caplog, url):
    caplog.set_level(logging.DEBUG)
    cluster = Cluster(clock, sql(url, table_prefix="q_"))
    one = await cluster.start()
    store = one.slot.store
    with pytest.raises(DatabaseFailure) as caught:
        store.database.schema.open()
    answers = [await one.rest(method, path) for method, path in (("GET", ""), ("GET", "/jobs"), ("GET", "/runs"))]
    assert [status for status, _ in answers] == [200, 503, 503]
    settings = one.scheduler.settings
    for told in (store, store.database, store.database.url, one.slot, settings, caught.value):
        assert SECRET not in repr(told)
        assert SECRET not in str(told)
    assert SECRET not in str(answers)
    await cluster.advance(10)
    await cluster.close()
    assert "trying again" in caplog.text
    assert SECRET not in caplog.text


def test_the_settings_keep_what_they_do_not_show():
    url = f"postgresql://u:{SECRET}@h/db"
    settings = Settings.from_mapping({"SCHEDULER_JOBSTORES": {"default": sql(url)}, "SCHEDULER_HISTORY": sql(url)})
    assert settings.jobstores["default"]["url"] == url
    assert settings.history is not None
    assert SECRET not in repr(settings)


# Jobs that a shared store cannot hold


class Own(BaseTrigger):
    def get_next_fire_time(self, previous_fire_time: Any, now: datetime) -> datetime:
        return now


class Holder:
    async def method(self) -> None: ...

    async def __call__(self) -> None: ...


def nested() -> Any:
    async def inner() -> None: ...

    return inner


UNHOLDABLE: list[tuple[dict[str, Any], str]] = [
    ({"func": lambda: None}, "cannot be loaded by other processes: a lambda has no name; use a function at the top"),
    ({"func": nested()}, "it is made inside of a function; use a function at the top of a module, or the memory store"),
    ({"func": functools.partial(job, 1)}, "a partial has no name, but its arguments can go into the job's args and"),
    ({"func": Holder().method}, "it is bound to an object that exists here alone; use a function at the top of a mod"),
    ({"func": Holder()}, "it is an object, not a function with a name; use a function at the top of a module"),
    ({"func": job, "args": [threading.Lock()]}, r"args[0]: is <unlocked _thread.lock"),
    ({"func": job, "kwargs": {"x": {"y": [object()]}}}, "kwargs.x.y[0]: is <object object at"),
    ({"func": job, "args": [{1, 2}]}, "args[0]: is {1, 2}, a set; expected None, bool, int"),
    ({"func": job, "trigger": Own()}, "a trigger class of your own, which other processes may not have; use one of"),
    ({"func": job, "trigger": OrTrigger([IntervalTrigger(hours=1), Own()])}, "trigger.triggers[1]: is <"),
]


def complete(options: dict[str, Any]) -> dict[str, Any]:
    return options if "trigger" in options else {**options, "trigger": "interval", "hours": 1}


UNHOLDABLE_IDS = [f"{number}-{expected[:20]}" for number, (_, expected) in enumerate(UNHOLDABLE)]


@pytest.mark.parametrize(("options", "expected"), UNHOLDABLE, ids=UNHOLDABLE_IDS)
async def test_what_json_cannot_hold_is_refused_when_it_is_added(clock, tmp_path, options, expected):
    cluster = Cluster(clock, sql(f"sqlite:///{tmp_path / 'jobs.db'}", table_prefix="q_"))
    one = await cluster.start()
    with pytest.raises(InvalidDefinition, match=re.escape(expected)):
        await one.aio.add_job("id", **complete(options))
    await one.aio.add_job("id", job, trigger="interval", hours=2)
    before = await one.job("id")
    with pytest.raises(InvalidDefinition, match=re.escape(expected)):
        await one.aio.add_job("id", **complete(options), replace_existing=True)
    with pytest.raises(InvalidDefinition, match=re.escape(expected)):
        await one.aio.modify_job("id", **complete(options))
    assert await one.job("id") == before
    await cluster.close()


@pytest.mark.parametrize(("options", "expected"), UNHOLDABLE, ids=UNHOLDABLE_IDS)
def test_what_json_cannot_hold_is_refused_when_it_is_declared(options, expected):
    app = Quart("app")
    app.config["SCHEDULER_JOBSTORES"] = {"default": sql()}
    bound = APScheduler(app=app)
    with pytest.raises(InvalidDefinition, match=re.escape(expected)):
        bound.add_job("id", **complete(options))
    assert len(bound.scheduler.catalogue.declarations) == 0

    early = APScheduler()
    early.add_job("id", **complete(options))
    with pytest.raises(ConfigError, match=f"Job id: .*{re.escape(expected)}"):
        early.init_app(app_with(sql()))
    early.init_app(app_with({"type": "memory"}))


def app_with(entry: dict[str, Any], **config: Any) -> Quart:
    app = Quart("app")
    app.config.update(SCHEDULER_JOBSTORES={"default": entry}, **config)
    return app


@pytest.mark.parametrize(("options", "expected"), UNHOLDABLE, ids=UNHOLDABLE_IDS)
def test_what_json_cannot_hold_is_refused_in_the_configuration(options, expected):
    with pytest.raises(ConfigError, match=f"Job id: .*{re.escape(expected)}"):
        APScheduler(app=app_with(sql(), JOBS=[{"id": "id", **complete(options)}]))


@pytest.mark.parametrize("job_id", ["x" * 192, "a\0b", "a "], ids=["long", "nul", "blank"])
def test_an_id_that_cannot_be_kept_is_refused_at_init_app(job_id):
    early = APScheduler()
    early.add_job(job_id, job, trigger="interval", hours=1)
    with pytest.raises(ConfigError, match=r"id: is .*; expected"):
        early.init_app(app_with(sql()))


# Functions of the main script


def in_main(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> Any:
    """Return a function of a main script with these attributes."""
    main = types.ModuleType("__main__")
    vars(main).update(attributes)
    exec("async def tick(): ...", vars(main))
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main.tick


@pytest.mark.parametrize(
    "attributes", [{}, {"__file__": "<stdin>"}, {"__file__": "/srv/run"}, {"__file__": "/srv/my.jobs.py"}], ids=str
)
def test_a_function_of_a_program_without_an_importable_name_is_refused(monkeypatch, attributes):
    tick = in_main(monkeypatch, **attributes)
    scheduler = APScheduler(app=app_with(sql()))
    with pytest.raises(InvalidDefinition, match="the program that it belongs to cannot be imported by name; use a fun"):
        scheduler.add_job("id", tick, trigger="interval", hours=1)
    early = APScheduler()
    early.task("interval", hours=1, id="id")(tick)
    with pytest.raises(ConfigError, match="the program that it belongs to cannot be imported by name"):
        early.init_app(app_with(sql()))


async def test_a_function_of_the_main_script_is_kept_under_the_scripts_own_name(clock, tmp_path, monkeypatch):
    tick = in_main(monkeypatch, __file__="/srv/run.py")
    cluster = Cluster(clock, sql(f"sqlite:///{tmp_path / 'jobs.db'}", table_prefix="q_"))
    one = await cluster.start()
    await one.aio.add_job("id", tick, trigger="interval", seconds=10)
    assert cluster.query("SELECT func FROM {p}jobs") == [("run:tick",)]
    await cluster.advance(10)
    assert await one.outcomes("id") == ["succeeded"]
    assert (await one.aio.get_job("id")).func is tick
    await cluster.close()


def test_nothing_is_connected_before_the_start(tmp_path):
    path = tmp_path / "jobs.db"
    scheduler = APScheduler(Scheduler(timezone="UTC"))
    scheduler.init_app(app_with(sql(f"sqlite:///{path}")))
    scheduler.add_job("id", job, trigger="interval", hours=1)
    assert not path.exists()
