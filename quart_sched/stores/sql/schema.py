"""The tables, and how they are made and brought up to date.

Times are BIGINT microseconds since 1970 UTC, ids are text compared byte by byte. There are no foreign keys: a record of
the past must not keep a job from being removed.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_mock_engine,
)
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import SchemaItem

VERSION: Final = 1
"""The version of the schema below. Upgrades only add, so that older processes can go on beside newer ones."""


def _id(length: int) -> Any:
    binary = String(length).with_variant(String(length, collation="C"), "postgresql")
    return binary.with_variant(mysql.VARCHAR(length, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")


_long = Text().with_variant(mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_uuid, _job, _func = _id(36), _id(191), _id(512)
_number = BigInteger().with_variant(Integer, "sqlite")  # SQLite numbers only INTEGER keys by itself
_need = partial(Column, nullable=False)


def metadata(prefix: str) -> MetaData:
    """Return the tables, their names with `prefix`."""
    tables = MetaData()

    def table(name: str, *parts: SchemaItem, index: tuple[tuple[str, ...], ...] = ()) -> None:
        indexes = [Index(f"{prefix}{name}_{'_'.join(columns)}", *columns) for columns in index]
        # MySQL's other engines know no row locks.
        Table(prefix + name, tables, *parts, *indexes, mysql_engine="InnoDB", mariadb_engine="InnoDB")

    # Single facts: the schema's version, the pause of the whole scheduler, locks, counters, until when news are wanted.
    table(
        "meta",
        _need("k", _id(64), primary_key=True),
        _need("n", BigInteger, server_default="0"),
        Column("v", _long),
        Column("at_us", BigInteger),
    )
    # `next_us` is the only gate to a claim: NULL while paused, pruned, broken or ended.
    table(
        "jobs",
        _need("id", _job, primary_key=True),
        _need("incarnation", _uuid),
        Column("next_us", BigInteger),
        _need("func", _func),
        _need("definition", _long),
        _need("version", Integer),
        _need("fence", BigInteger, server_default="0"),
        Column("last_us", BigInteger),
        Column("held_us", BigInteger),
        Column("paused_us", BigInteger),
        Column("paused_by", _job),
        Column("orphan_us", BigInteger),
        Column("broken_us", BigInteger),
        Column("broken_reason", _long),
        Column("ended_us", BigInteger),
        _need("source", _id(16)),
        _need("modified", Integer, server_default="0"),
        Column("trig_hash", _id(64)),
        Column("decl_hash", _id(64)),
        index=(("next_us",), ("broken_us",)),
    )
    # Runs under way (owner set) or waiting for somebody to take them (owner NULL, due_us set).
    table(
        "live",
        _need("run_id", _uuid, primary_key=True),
        _need("fire_id", _uuid),
        _need("batch_id", _uuid),
        _need("job_id", _job),
        _need("incarnation", _uuid),
        # The fire, for runs that the schedule caused; NULL, and so not unique, for all others.
        Column("fire_us", BigInteger),
        _need("sched_us", BigInteger),
        _need("attempt", Integer),
        _need("crashes", Integer, server_default="0"),
        _need("cause", _id(16)),
        _need("on_crash", _id(8)),
        _need("version", Integer),
        _need("func", _func),
        _need("state", _id(16)),
        Column("owner", _uuid),
        Column("due_us", BigInteger),
        Column("claimed_us", BigInteger),
        _need("fence", BigInteger, server_default="0"),
        Column("cancel_us", BigInteger),
        # Runs of one lane come one after the other: those behind the first are not due (`due_us` NULL) until it ends.
        Column("lane", _id(48)),
        # Arguments in the place of the job's own.
        Column("overrides", _long),
        UniqueConstraint("incarnation", "fire_us", name=f"{prefix}live_fire"),
        index=(("owner", "due_us"), ("job_id",), ("lane", "sched_us")),
    )
    # The history: insert-only.
    table(
        "runs",
        _need("run_id", _uuid, primary_key=True),
        _need("fire_id", _uuid),
        _need("job_id", _job),
        Column("version", Integer),
        Column("func", _func),
        _need("sched_us", BigInteger),
        Column("first_us", BigInteger),
        Column("fires", BigInteger),
        _need("outcome", _id(16)),
        _need("final", Integer),
        _need("cause", _id(16)),
        Column("worker", _job),
        Column("recorded_by", _uuid),
        _need("attempt", Integer),
        Column("started_us", BigInteger),
        Column("ended_us", BigInteger),
        Column("error_type", _job),
        Column("error_message", _long),
        index=(("job_id", "sched_us", "run_id"), ("outcome", "run_id"), ("sched_us", "run_id")),
    )
    table(
        "run_output",
        _need("run_id", _uuid, primary_key=True),
        Column("result", _long),
        Column("traceback", _long),
        Column("log", _long),
        # Of runs that had other arguments than their job.
        Column("overrides", _long),
    )
    # One row for each process session, from its start to its end.
    table(
        "workers",
        _need("id", _uuid, primary_key=True),
        _need("host", _job),
        _need("pid", Integer),
        _need("started_us", BigInteger),
        _need("beat", BigInteger, server_default="0"),
        _need("seen_us", BigInteger),
        Column("gone_us", BigInteger),
        Column("gone_why", _id(16)),
        Column("decl", _id(64)),
        index=(("gone_us",),),
    )
    # What each version of the code declares: the ids of its jobs.
    table("decls", _need("hash", _id(64), primary_key=True), _need("since_us", BigInteger), _need("body", _long))
    # Who changed what, when: the versions of each job, and its pauses. job_id is NULL for the scheduler as a whole.
    table(
        "changes",
        _need("id", _number, primary_key=True, autoincrement=True),
        _need("at_us", BigInteger),
        Column("actor", _job),
        _need("action", _id(16)),
        Column("job_id", _job),
        Column("version", Integer),
        # Of the changes that brought another one.
        Column("definition", _long),
        Column("detail", _long),
        index=(("job_id", "id"), ("at_us",)),
    )
    # Numbers are given before the commit, so that a reader must look again for those that he has not seen.
    table(
        "events",
        _need("id", _number, primary_key=True, autoincrement=True),
        _need("at_us", BigInteger),
        _need("kind", _id(16)),
        Column("job_id", _job),
        Column("data", _long),
        index=(("at_us",),),
    )
    # What a process adds to the cluster's counters.
    table(
        "metric_deltas",
        _need("worker_id", _uuid),
        _need("n", BigInteger),
        _need("at_us", BigInteger),
        _need("data", _long),
        PrimaryKeyConstraint("worker_id", "n"),
    )
    return tables


def first_rows(prefix: str) -> list[str]:
    """Return the statements that fill the tables that were just made; the version comes last."""
    facts = {"paused": 0, "reconcile": 0, "members": 0, "janitor": 0, "listening": 0, "schema": VERSION}
    return [f"INSERT INTO {prefix}meta (k, n) VALUES ('{key}', {number})" for key, number in facts.items()]


def ddl(engine: Engine, prefix: str) -> str:
    """Return the SQL that makes everything from nothing on this kind of database, for an operator to run."""
    statements: list[str] = []

    def write(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)).strip())

    metadata(prefix).create_all(create_mock_engine(engine.url, write), checkfirst=False)
    return ";\n\n".join([*statements, *first_rows(prefix)]) + ";\n"
