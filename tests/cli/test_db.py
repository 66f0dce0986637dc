"""`quart scheduler db`: what it prints, how it exits, and that it asks before it unpickles."""

from __future__ import annotations

import os
import pickle
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from click.testing import Result
from quart import Quart

from quart_sched import APScheduler, cli
from quart_sched.cli import messages
from quart_sched.stores.memory import MemoryStore
from quart_sched.stores.sql.database import Database
from quart_sched.stores.sql.schema import VERSION, Schema
from quart_sched.stores.sql.store import SqlStore

FUTURE = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)
unpickled: list[str] = []


def tick(*_: Any) -> None: ...


class Tell:
    """Tells when it is unpickled."""

    def __reduce__(self) -> Any:
        return unpickled.append, ("told",)


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _forget() -> None:
    unpickled.clear()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "jobs.db"


def run_with(store: Any, **config: Any) -> Run:
    """Return a function that runs `quart scheduler ...` for an app with this store."""
    app = Quart(__name__)
    app.config.update(SCHEDULER_JOBSTORES={"default": store}, SCHEDULER_TIMEZONE="UTC", **config)
    APScheduler(app=app)
    runner = app.test_cli_runner()

    def run(*args: str, **options: Any) -> Result:
        result = runner.invoke(args=["scheduler", *args], **options)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


@pytest.fixture
def run(file: Path) -> Run:
    """Runs for an app whose account may not make tables, and whose jobs are in `file`."""
    return run_with(SqlStore(f"sqlite:///{file}", table_prefix="qs_", create_tables=False))


def query(file: Path, statement: str) -> list[Any]:
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement).fetchall()


def fill(file: Path, *ids: str, table: str = "apscheduler_jobs", **options: Any) -> None:
    """Let APScheduler itself put jobs into its table."""
    store = SQLAlchemyJobStore(f"sqlite:///{file}", tablename=table)
    scheduler = BackgroundScheduler(jobstores={"default": store}, timezone=UTC)
    scheduler.start(paused=True)
    for job_id in ids:
        scheduler.add_job(**{"func": tick, "trigger": "date", "run_date": FUTURE, "id": job_id, **options})
    scheduler.shutdown()
    store.engine.dispose()  # APScheduler's thread looks for jobs once more on its way out, with a new connection.


def spoil(file: Path, job_id: str) -> None:
    """Put something into APScheduler's table that tells when it is unpickled, and is no job."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO apscheduler_jobs VALUES (?, 1, ?)", (job_id, pickle.dumps(Tell())))


# The group


def test_an_app_has_the_commands_however_often_it_is_initialised():
    app = Quart(__name__)
    scheduler = APScheduler(app=app)
    scheduler.init_app(app)
    assert app.cli.commands["scheduler"].target is cli.commands
    assert "Look after the app's scheduler" in app.test_cli_runner().invoke(args=["--help"]).output
    result = app.test_cli_runner().invoke(args=["scheduler", "db", "--help"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.partition("Commands:")[2].splitlines() if line] == [
        "import",
        "sql",
        "upgrade",
    ]


def test_an_app_keeps_a_command_of_its_own_with_the_same_name():
    app = Quart(__name__)

    @app.cli.command("scheduler")
    def own() -> None:
        """The app's own."""

    APScheduler(app=app)
    assert app.cli.commands["scheduler"] is own


# db sql


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////nowhere/at/all/jobs.db", "INTEGER NOT NULL"),
        ("postgresql+psycopg://me:secret@127.0.0.1:1/db", 'COLLATE "C"'),
        ("mysql+pymysql://me:secret@127.0.0.1:1/db", "ENGINE=InnoDB"),
    ],
)
def test_the_sql_is_that_of_the_configured_kind_and_nothing_is_connected(url, expected):
    result = run_with(SqlStore(url, table_prefix="qs_"))("db", "sql")
    assert result.exit_code == 0
    assert result.output.startswith("CREATE TABLE qs_")
    assert expected in result.output
    assert "secret" not in result.output


def test_the_sql_makes_what_an_app_needs_that_may_not_make_tables(run, file):
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(run("db", "sql").output)
    database = Database("test", f"sqlite:///{file}", "qs_", create_tables=False, engine_options={})
    database.schema.open()
    database.dispose()
    assert run("db", "upgrade").output.endswith(f"up to date, version {VERSION}\n")


# db upgrade


def test_an_upgrade_makes_the_tables_and_leaves_them_alone_from_then_on(run, file):
    first = run("db", "upgrade")
    assert (first.exit_code, first.output) == (
        0,
        f"Tables qs_* in sqlite+pysqlite:///{file}: made, version {VERSION}\n",
    )
    tables = query(file, "SELECT * FROM sqlite_master")
    second = run("db", "upgrade")
    assert (second.exit_code, second.output) == (
        0,
        f"Tables qs_* in sqlite+pysqlite:///{file}: up to date, version {VERSION}\n",
    )
    assert query(file, "SELECT * FROM sqlite_master") == tables


def test_tables_of_a_newer_version_are_refused(run, file):
    run("db", "upgrade")
    query(file, "UPDATE qs_meta SET n = 99 WHERE k = 'schema'")
    fill(file, "a")
    for command in (("db", "upgrade"), ("db", "import", "--yes")):
        result = run(*command)
        assert result.exit_code == 1
        assert result.output.startswith("Error: The tables qs_* in ")
        assert result.output.endswith(f"are of version 99; this quart_sched knows {VERSION}: update quart_sched here\n")
    assert query(file, "SELECT n FROM qs_meta WHERE k = 'schema'") == [(99,)]


@pytest.mark.parametrize("command", [("upgrade",), ("import", "--yes")], ids=" ".join)
@pytest.mark.parametrize(
    "url",
    [
        "sqlite:////nowhere/at/all/jobs.db",
        "postgresql+psycopg://me:secret@127.0.0.1:1/db",
        "mysql+pymysql://me:secret@127.0.0.1:1/db",
    ],
)
def test_a_database_that_cannot_be_reached_is_told_in_one_line(url, command):
    result = run_with(SqlStore(url))("db", *command)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {url.replace('secret', '***').replace('sqlite:', 'sqlite+pysqlite:')}: ")
    assert result.output.count("\n") == 1
    assert "secret" not in result.output


@pytest.mark.parametrize("command", [("sql",), ("upgrade",), ("import", "--yes")], ids=" ".join)
def test_a_store_without_tables_of_ours_is_refused(command):
    result = run_with({"type": "memory"})("db", *command)
    assert result.exit_code == 2
    assert result.output == (
        "Error: The store 'default' is a MemoryStore; "
        'expected SCHEDULER_JOBSTORES = {"default": {"type": "sqlalchemy", "url": ...}}\n'
    )


def test_a_store_that_is_not_there_is_named_with_those_that_are(run):
    result = run("db", "upgrade", "--store", "other")
    assert (result.exit_code, result.output) == (2, "Error: There is no store 'other'; expected one of 'default'\n")


def test_another_store_than_the_default_one_is_taken_when_asked_for(file):
    app = Quart(__name__)
    app.config["SCHEDULER_JOBSTORES"] = {"default": MemoryStore(), "other": SqlStore(f"sqlite:///{file}")}
    APScheduler(app=app)
    result = app.test_cli_runner().invoke(args=["scheduler", "db", "upgrade", "--store", "other"])
    assert (result.exit_code, file.exists()) == (0, True)


def test_without_sqlalchemy_no_store_is_taken_for_one_of_ours(monkeypatch):
    run = run_with({"type": "memory"})
    monkeypatch.setitem(sys.modules, "quart_sched.stores.sql.database", None)
    result = run("db", "upgrade")
    assert result.exit_code == 2
    assert "The store 'default' is a MemoryStore" in result.output


# db import


def test_an_import_shows_what_became_of_each_job(run, file):
    run("db", "upgrade")
    fill(file, "a", "long name")
    first = run("db", "import", "--yes")
    assert (first.exit_code, first.output.splitlines()) == (
        0,
        [
            "JOB        RESULT    REASON",
            "a          imported",
            "long name  imported",
            "2 imported, 0 already there, 0 refused",
        ],
    )
    fill(file, "b")
    spoil(file, "spoilt")
    second = run("db", "import", "--yes")
    lines = second.output.splitlines()
    assert second.exit_code == 1
    assert lines[1:4] == ["a          already there", "b          imported", "long name  already there"]
    assert lines[4].startswith("spoilt     refused        job_state: is None; expected the state of a job")
    assert lines[5:] == ["1 imported, 2 already there, 1 refused"]
    assert query(file, "SELECT id FROM qs_jobs ORDER BY id") == [("a",), ("b",), ("long name",)]


def test_an_import_of_what_is_there_already_succeeds(run, file):
    run("db", "upgrade")
    fill(file, "a")
    run("db", "import", "--yes")
    result = run("db", "import", "--yes")
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, "0 imported, 1 already there, 0 refused")


def test_an_import_of_an_empty_table_needs_no_word_and_does_nothing(run, file):
    run("db", "upgrade")
    fill(file)
    result = run("db", "import")
    assert (result.exit_code, result.output) == (0, "0 imported, 0 already there, 0 refused\n")


def test_an_import_needs_the_tables(run, file):
    fill(file, "a")
    result = run("db", "import", "--yes")
    assert result.exit_code == 1
    assert "run `quart scheduler db upgrade`" in result.output


def test_without_a_terminal_and_the_users_word_nothing_is_unpickled(run, file):
    run("db", "upgrade")
    fill(file)
    spoil(file, "spoilt")
    result = run("db", "import", input="y\n")
    assert result.exit_code == 2
    assert result.output == (
        f"Error: The table apscheduler_jobs in sqlite+pysqlite:///{file} holds pickled jobs (1), and reading them runs "
        "the code of whoever wrote them. There is no terminal to ask on: give --yes if you trust whoever could write "
        "to the table\n"
    )
    assert unpickled == []


def test_who_says_no_has_nothing_unpickled(run, file, monkeypatch):
    monkeypatch.setattr(messages, "has_terminal", lambda: True)
    run("db", "upgrade")
    fill(file)
    spoil(file, "spoilt")
    for answer in ("n\n", "\n", ""):
        result = run("db", "import", input=answer)
        assert result.exit_code == 1
        assert "Aborted" in result.output
    assert unpickled == []
    assert query(file, "SELECT id FROM qs_jobs") == []


def test_who_is_asked_sees_table_and_database_and_may_say_yes(run, file, tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "has_terminal", lambda: True)
    run("db", "upgrade")
    fill(tmp_path / "old.db", "a", "b", table="old_jobs")
    url = f"sqlite:///{tmp_path / 'old.db'}"
    result = run("db", "import", "--table", "old_jobs", "--from", url, input="y\n")
    assert result.exit_code == 0
    assert f"The table old_jobs in {url} holds pickled jobs (2)" in result.stderr
    assert result.stdout.splitlines()[-1] == "2 imported, 0 already there, 0 refused"
    assert query(file, "SELECT id FROM qs_jobs ORDER BY id") == [("a",), ("b",)]


def test_who_is_asked_sees_no_password_of_the_database(run, tmp_path, monkeypatch):
    monkeypatch.setattr(messages, "has_terminal", lambda: True)
    run("db", "upgrade")
    fill(tmp_path / "old.db", "a")
    url = f"sqlite:///file:{tmp_path / 'old.db'}?uri=true&password=s3cret"
    result = run("db", "import", "--from", url, input="n\n")
    assert "old.db?password=...&uri=true holds pickled jobs" in result.stderr
    assert "s3cret" not in result.output


def test_a_dry_run_writes_nothing(run, file):
    run("db", "upgrade")
    fill(file, "a")
    result = run("db", "import", "--yes", "--dry-run")
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [
        "a    would be imported",
        "1 would be imported, 0 already there, 0 refused",
    ]
    assert query(file, "SELECT id FROM qs_jobs") == []


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--table", "none"), "There is no table none in sqlite+pysqlite:///"),
        (("--table", "qs_meta"), "The table qs_meta in sqlite+pysqlite:///"),
        (("--from", "sqlite:///none.db"), "There is no file 'none.db', which sqlite+pysqlite:///none.db names"),
        (("--from", "nonsense"), "The source's url is none: "),
        (("--from", "postgresql://me:secret@127.0.0.1:1/db"), "postgresql+psycopg://me:***@127.0.0.1:1/db: "),
    ],
    ids=" ".join,
)
def test_a_source_that_cannot_be_read_is_told_in_one_line(run, args, expected):
    run("db", "upgrade")
    result = run("db", "import", "--yes", *args)
    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {expected}")
    assert result.output.count("\n") == 1
    assert "secret" not in result.output


def test_what_would_steer_a_terminal_is_not_printed(run, file):
    run("db", "upgrade")
    fill(file)
    spoil(file, "red\x1b[31m\nline")
    result = run("db", "import", "--yes")
    assert "\x1b" not in result.output
    assert len(result.output.splitlines()) == 3


def test_what_may_have_been_done_all_the_same_is_told(run, file, monkeypatch):
    from quart_sched.stores.sql.failures import DatabaseFailure

    def cut(*_: Any) -> Any:
        raise DatabaseFailure("OperationalError: connection lost", unknown=True)

    monkeypatch.setattr(Schema, "upgrade", cut)
    result = run("db", "upgrade")
    assert result.exit_code == 1
    assert result.output.endswith("connection lost; it may have been done all the same, so run this again\n")


# As a program

APP = """
from quart import Quart
from quart_sched import APScheduler
from quart_sched.stores.sql.store import SqlStore

app = Quart(__name__)
app.config["SCHEDULER_JOBSTORES"] = {"default": SqlStore("sqlite:///jobs.db", create_tables=False)}
APScheduler(app=app).start()
"""
ROOT = Path(__file__).parents[2]


def program(folder: Path, *args: str, **options: Any) -> subprocess.Popen[str]:
    """Start `quart scheduler ...` for an app in `folder`."""
    (folder / "run_app.py").write_text(APP)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environ = {**os.environ, "QUART_APP": "run_app", "PYTHONPATH": path}
    command = [sys.executable, "-m", "quart", "scheduler", *args]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
    return subprocess.Popen(command, cwd=folder, env=environ, text=True, **options)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a program; return its exit code and what it printed."""
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, output


@pytest.mark.integration
def test_several_processes_upgrade_at_the_same_time(tmp_path):
    processes = [program(tmp_path, "db", "upgrade") for _ in range(3)]
    finished = [finish(process) for process in processes]
    assert [status for status, _ in finished] == [0, 0, 0], finished
    assert all(output.endswith(f", version {VERSION}\n") for _, output in finished)
    assert query(tmp_path / "jobs.db", "SELECT n FROM quart_sched_meta WHERE k = 'schema'") == [(VERSION,)]


@pytest.mark.integration
def test_on_a_terminal_the_user_is_asked(tmp_path):
    upgraded, output = finish(program(tmp_path, "db", "upgrade"))
    assert upgraded == 0, output
    fill(tmp_path / "jobs.db", "a", func="time:time")
    controller, terminal = pty.openpty()
    try:
        process = program(tmp_path, "db", "import", stdin=terminal)
        os.write(controller, b"y\n")
        status, output = finish(process)
    finally:
        os.close(terminal)
        os.close(controller)
    assert status == 0, output
    assert "Do you trust whoever could write to the table? [y/N]:" in output
    assert output.endswith("1 imported, 0 already there, 0 refused\n")
    assert query(tmp_path / "jobs.db", "SELECT id, func FROM quart_sched_jobs") == [("a", "time:time")]
