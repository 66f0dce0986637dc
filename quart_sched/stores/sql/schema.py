"""The tables, and how they are made and brought up to date.

Times are BIGINT microseconds since 1970 UTC, ids are text compared byte by byte. There are no foreign keys: a record of
the past must not keep a job from being removed.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

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

from .address import names_missing_file
from .failures import SchemaProblem
from .transaction import Transaction

if TYPE_CHECKING:
    from .database import Database

log = logging.getLogger("quart_sched")

VERSION: Final = 1
"""The version of the schema below. Upgrades only add, so that older processes can go on beside newer ones."""
_OLDEST = {"mysql": (8, 0, 4), "mariadb": (10, 6), "postgresql": (9, 6), "sqlite": (3, 24)}


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


class Schema:
    """The tables of one prefix, as they stand in the database. Each verb is safe from many processes at once.

    They raise SchemaProblem or DatabaseFailure.
    """

    def __init__(self, database: Database, *, create_tables: bool) -> None:
        """`create_tables` tells whether `open` may make the tables."""
        self.tables = metadata(database.prefix)
        self._database = database
        self._create_tables = create_tables

    def open(self) -> None:
        """Make sure that the tables are there and of a version that this code knows; make them if that is allowed."""
        version = self.version()
        if version is None and not self._create_tables:
            raise SchemaProblem(
                f"There are no tables {self._names} in {self._database.url}, and create_tables is False: "
                "run `quart scheduler db upgrade` with an account that may make them"
            )
        self._check(self.upgrade() if version is None else version)

    def is_there(self) -> bool:
        """Tell whether the tables are there, without making anything."""
        if names_missing_file(self._database.engine.url):
            return False  # To connect would make an empty one.
        version = self.version()
        if version is not None:
            self._check(version)
        return version is not None

    def version(self) -> int | None:
        """Return the version of the tables; None where there are none, or not all."""
        return self._database.transact(self._version, write=False)

    def upgrade(self) -> int:
        """Make the tables, or bring them up to date, whether `open` may or not; return their version."""

        def upgrade(tx: Transaction) -> int:
            with tx.dialect.schema_held(tx):
                version = self._version(tx)
                if version is None:
                    self._make(tx)
                return VERSION if version is None else version

        return self._database.transact(upgrade)

    @property
    def _names(self) -> str:
        return f"{self._database.prefix}*"

    def _make(self, tx: Transaction) -> None:
        # Also where an earlier attempt was broken off half-way: the version is written last.
        self.tables.create_all(tx.connection)
        for index in (index for table in self.tables.sorted_tables for index in table.indexes):
            index.create(tx.connection, checkfirst=True)
        tx.execute(f"DELETE FROM {tx.prefix}meta")
        for statement in first_rows(tx.prefix):
            tx.execute(statement)
        log.info("Made the tables %s in %s", self._names, self._database.url)

    def _version(self, tx: Transaction) -> int | None:
        if (encoding := tx.dialect.narrow_encoding(tx)) is not None:
            # One run's output would keep all others from being written.
            raise SchemaProblem(
                f"{self._database.url} is in the encoding {encoding}; expected UTF8, as of "
                "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )
        if not tx.connection.dialect.has_table(tx.connection, f"{tx.prefix}meta"):
            return None
        version: int | None = tx.scalar(f"SELECT n FROM {tx.prefix}meta WHERE k = 'schema'")
        return version

    def _check(self, version: int) -> None:
        if version > VERSION:
            raise SchemaProblem(
                f"The tables {self._names} in {self._database.url} are of version {version}; this quart_sched knows "
                f"{VERSION}: update quart_sched here"
            )
        dialect = self._database.engine.dialect
        kind = "mariadb" if getattr(dialect, "is_mariadb", False) else self._database.dialect.name
        found = dialect.server_version_info or ()
        if found and tuple(found) < _OLDEST[kind]:
            raise SchemaProblem(
                f"{self._database.url} is {kind} {'.'.join(map(str, found))}; expected at least "
                f"{'.'.join(map(str, _OLDEST[kind]))}"
            )
