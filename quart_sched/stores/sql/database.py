"""The database: its connections, and transactions that are repeated where others were in the way."""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from ...errors import ConfigError, SchedulerError
from . import schema
from .dialects import DIALECTS, Dialect
from .statements import text

log = logging.getLogger("quart_sched")

T = TypeVar("T")

_DRIVERS = {"sqlite": "pysqlite", "postgresql": "psycopg", "mysql": "pymysql", "mariadb": "pymysql"}
_EXTRAS = {"sqlite": "sql", "postgresql": "postgresql", "mysql": "mysql", "mariadb": "mysql"}
_OLDEST = {"mysql": (8, 0, 4), "mariadb": (10, 6), "postgresql": (9, 6), "sqlite": (3, 24)}
_ASYNC = {"aiosqlite", "asyncpg", "psycopg_async", "aiomysql", "asyncmy"}
_ABOUT_THE_FILE = {8, 10, 11, 13, 14, 26}
"""SQLite's codes READONLY, IOERR, CORRUPT, FULL, CANTOPEN and NOTADB."""
_ATTEMPTS = 10
_CONNECT_TIMEOUT = 5
_LOCK_TIMEOUT = 5
"""Seconds to wait for what others have locked."""
_SCHEMA_TIMEOUT = 60
"""Seconds to wait for another process that is at the tables themselves."""
_ANSWER_TIMEOUT = 90
"""Seconds after which a server that has not answered is taken for gone: more than any lock is waited for."""


class DatabaseFailure(Exception):
    """A statement failed. `unknown` tells that it was a commit, which may have gone through all the same."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class SchemaProblem(SchedulerError):
    """The tables are missing, or of a version that this code does not know. The message says what to do."""

    status = 503


class Database:
    """The tables of one prefix in one database, for any thread."""

    def __init__(
        self, key: str, url: Any, prefix: str, *, create_tables: bool, engine_options: Mapping[str, Any]
    ) -> None:
        """Take a SQLAlchemy URL, and options of `create_engine` beside ours; nothing is connected yet.

        Raises ConfigError, naming `key`.
        """
        self.prefix = prefix
        self.create_tables = create_tables
        self.idle_limit = 10.0
        """Seconds after which the database ends a transaction whose process has stopped in the middle."""
        self._lock = threading.Lock()
        self._kept = True
        """Whether connections are kept for the next use, as somebody will close them by `dispose`."""
        parsed = _parse_url(key, url)
        kind = parsed.get_backend_name()
        self.dialect: Dialect = DIALECTS[kind](prefix, schema.metadata(prefix))
        try:
            self.engine: Engine = create_engine(parsed, **_merged(key, self._options(kind), engine_options))
        except ImportError as error:
            extra = _EXTRAS[kind]
            raise ConfigError(
                f"{key} has the url {_shown(parsed)}, whose driver is not installed ({error}): "
                f"pip install 'quart-sched[{extra}]'"
            ) from error
        except (ArgumentError, TypeError) as error:
            raise ConfigError(f"{key} cannot be made into an engine: {error}") from error
        event.listen(self.engine, "connect", self._set_up)
        if kind == "sqlite":
            event.listen(self.engine, "begin", _begin_sqlite)

    @property
    def url(self) -> str:
        """The address, without its password."""
        return _shown(self.engine.url)

    def _options(self, kind: str) -> dict[str, Any]:
        # Nothing to roll back on the way to the pool, as each transaction has been ended by then: with MySQL that would
        # be a statement more, and where the connection is lost just then, SQLAlchemy logs a traceback.
        options: dict[str, Any] = {"pool_reset_on_return": None}
        if kind == "sqlite":
            return options | {"connect_args": {"timeout": _LOCK_TIMEOUT, "check_same_thread": False}}
        # Also where the server, or the account, was given another default.
        options |= {"isolation_level": "READ COMMITTED", "pool_recycle": 1800, "pool_timeout": _CONNECT_TIMEOUT}
        if kind == "postgresql":
            keepalives = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
            # While something is on its way no keepalives are sent: the same time for that, in milliseconds.
            connect = {"connect_timeout": _CONNECT_TIMEOUT, "tcp_user_timeout": 25_000}
            options["connect_args"] = {**connect, **keepalives}
        else:
            # Its driver knows no keepalives that would find a server gone.
            timeouts = {"read_timeout": _ANSWER_TIMEOUT, "write_timeout": _ANSWER_TIMEOUT}
            options["connect_args"] = {"connect_timeout": _CONNECT_TIMEOUT, "charset": "utf8mb4", **timeouts}
        return options

    def _set_up(self, connection: Any, _: Any) -> None:
        """Prepare a new connection."""
        cursor = connection.cursor()
        if self.dialect.name == "sqlite":
            # The driver's own transactions begin late and never with IMMEDIATE.
            connection.isolation_level = None
            _write_ahead(cursor)
            cursor.execute("PRAGMA synchronous = FULL")
        elif self.dialect.name == "postgresql":
            limit, lock = int(self.idle_limit * 1000), _LOCK_TIMEOUT * 1000
            cursor.execute(f"SET idle_in_transaction_session_timeout = {limit}")
            cursor.execute(f"SET lock_timeout = {lock}")
            connection.commit()
        else:
            cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_TIMEOUT}")
            if "MariaDB" in connection.server_version:  # MySQL has no such limit
                cursor.execute(f"SET SESSION idle_transaction_timeout = {max(1, int(self.idle_limit))}")
        cursor.close()

    # Transactions

    def transact(self, op: Callable[[Connection], T], *, write: bool = True) -> T:
        """Return `op(connection)`, run in a transaction; repeated as a whole where other transactions were in its way.

        `op` may roll back the transaction where it has nothing to write.

        Raises DatabaseFailure for what the database raises, and whatever `op` raises.
        """
        patience = time.monotonic() + _LOCK_TIMEOUT
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._once(op, write)
            except DBAPIError as error:
                again = self.dialect.is_retryable(error) or (error.connection_invalidated and attempt == 1)
                if not again or attempt == _ATTEMPTS or time.monotonic() > patience:
                    raise self._failure(error) from error
            except SQLAlchemyError as error:
                raise self._failure(error) from error
            time.sleep(random.uniform(0.002, 0.01) * attempt)
        raise AssertionError("unreachable")

    def _once(self, op: Callable[[Connection], T], write: bool) -> T:
        with self._connected() as conn:
            conn.execution_options(quart_sched_write=write)
            transaction = conn.begin()
            result = op(conn)
            try:
                if transaction.is_active:
                    transaction.commit()
            except BaseException as error:
                # SQLAlchemy takes the transaction for ended, which it need not be.
                conn.invalidate()
                if not isinstance(error, DBAPIError) or self.dialect.is_retryable(error):
                    raise
                raise self._failure(error, unknown=True) from error
            return result

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """Yield a connection; what has not been committed at the end is rolled back."""
        pool = self.engine.pool
        conn = self.engine.connect()
        try:
            yield conn
        finally:
            try:
                if conn.in_transaction():
                    conn.rollback()
            except BaseException:
                conn.invalidate()
                raise
            finally:
                with self._lock:
                    if not self._kept or self.engine.pool is not pool:
                        # Disposed of meanwhile, or before: nobody would close it any more.
                        conn.invalidate()
                    conn.close()

    def _failure(self, error: Exception, *, unknown: bool = False) -> DatabaseFailure:
        """Say what went wrong, and with which file where that is what counts."""
        message = first_line(error)
        if getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF in _ABOUT_THE_FILE:
            message += f" ({self.engine.url.database})"
        return DatabaseFailure(message, unknown=unknown)

    def query(self, statement: str, **values: Any) -> list[Any]:
        """Return the rows of a statement that only reads."""
        return self.transact(lambda conn: list(self.dialect.execute(conn, statement, values)), write=False)

    def resume(self) -> None:
        """Keep connections from now on, until they are disposed of."""
        self._kept = True

    def dispose(self) -> None:
        """Close the connections: those in use after it, and so whatever is made before `resume`."""
        with self._lock:
            self._kept = False
            self.engine.dispose()

    # The schema

    def open(self) -> None:
        """Make sure that the tables are there and of a version that this code knows; make or upgrade them if allowed.

        Safe from many processes at once. Raises SchemaProblem or DatabaseFailure.
        """
        version = self._version()
        if version is None and not self.create_tables:
            raise SchemaProblem(
                f"There are no tables {self.prefix}* in {self.url}, and create_tables is False: "
                "run `quart scheduler db upgrade` with an account that may make them"
            )
        if version is None:
            version = self.upgrade()
        self._check(version)

    def has_tables(self) -> bool:
        """Tell whether the tables are there, without making anything. Raises SchemaProblem or DatabaseFailure."""
        file = self.engine.url.database or ""
        if self.dialect.name == "sqlite" and not file.startswith("file:") and not Path(file).is_file():
            return False  # To connect would make an empty one.
        version = self._version()
        if version is not None:
            self._check(version)
        return version is not None

    def upgrade(self) -> int:
        """Make the tables, or bring them up to date, whatever `create_tables` says; return their version."""
        if self.dialect.name == "mysql":
            return self._upgrade_mysql()

        def make(conn: Connection) -> int:
            if self.dialect.name == "postgresql":
                conn.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": self.prefix + "schema"})
            return self._make(conn)

        return self.transact(make)

    def _upgrade_mysql(self) -> int:
        # Each statement on tables is a transaction of its own there, so that the lock must be the connection's.
        name = {"name": f"{self.prefix}schema"}
        try:
            with self._connected() as conn:
                try:
                    if conn.scalar(text(f"SELECT GET_LOCK(:name, {_SCHEMA_TIMEOUT})"), name) != 1:
                        raise DatabaseFailure(
                            f"another process holds the lock on the schema for more than {_SCHEMA_TIMEOUT} s"
                        )
                    return self._make(conn)
                finally:
                    if not conn.invalidated:
                        conn.execute(text("SELECT RELEASE_LOCK(:name)"), name)
                        conn.commit()
        except SQLAlchemyError as error:
            raise self._failure(error) from error

    def _make(self, conn: Connection) -> int:
        version = self._version_in(conn)
        if version is None:
            # Also where an earlier attempt was broken off half-way: the version is written last.
            tables = schema.metadata(self.prefix)
            tables.create_all(conn)
            for index in (index for table in tables.sorted_tables for index in table.indexes):
                index.create(conn, checkfirst=True)
            conn.execute(text(f"DELETE FROM {self.prefix}meta"))
            for statement in schema.first_rows(self.prefix):
                conn.execute(text(statement))
            conn.commit() if self.dialect.name == "mysql" else None
            log.info("Made the tables %s* in %s", self.prefix, self.url)
            version = schema.VERSION
        return version

    def _version(self) -> int | None:
        return self.transact(self._version_in, write=False)

    def _version_in(self, conn: Connection) -> int | None:
        self._check_encoding(conn)
        if not self.engine.dialect.has_table(conn, f"{self.prefix}meta"):
            return None
        version: int | None = conn.scalar(text(f"SELECT n FROM {self.prefix}meta WHERE k = 'schema'"))
        return version

    def _check_encoding(self, conn: Connection) -> None:
        """Refuse a database that cannot hold every text: one run's output would keep all others from being written."""
        if self.dialect.name == "postgresql" and (encoding := conn.scalar(text("SHOW server_encoding"))) != "UTF8":
            raise SchemaProblem(
                f"{self.url} is in the encoding {encoding}; expected UTF8, as of "
                "CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0"
            )

    def _check(self, version: int) -> None:
        if version > schema.VERSION:
            raise SchemaProblem(
                f"The tables {self.prefix}* in {self.url} are of version {version}; this quart_sched knows "
                f"{schema.VERSION}: update quart_sched here"
            )
        kind = "mariadb" if getattr(self.engine.dialect, "is_mariadb", False) else self.dialect.name
        found = self.engine.dialect.server_version_info or ()
        if found and tuple(found) < _OLDEST[kind]:
            raise SchemaProblem(
                f"{self.url} is {kind} {'.'.join(map(str, found))}; expected at least "
                f"{'.'.join(map(str, _OLDEST[kind]))}"
            )


def _parse_url(key: str, url: Any) -> URL:
    if not isinstance(url, str | URL):
        raise ConfigError(f"{key} has an url of type {type(url).__name__}; expected one such as 'sqlite:///jobs.db'")
    try:
        parsed = make_url(url)
        if "@" in (parsed.host or ""):
            raise ValueError("the password ends there")
    except (ArgumentError, ValueError):
        # What cannot be parsed may have a password anywhere.
        raise ConfigError(
            f"{key} has an url that cannot be read; expected one such as 'sqlite:///jobs.db', or "
            "'postgresql+psycopg://user:password@host:5432/database' with @ : / in the password written as %40 %3A %2F"
        ) from None
    kind, _, driver = parsed.drivername.partition("+")
    kind = "postgresql" if kind == "postgres" else kind
    if kind not in _DRIVERS:
        raise ConfigError(
            f"{key} has the url {_shown(parsed)}; expected sqlite://, postgresql+psycopg:// or mysql+pymysql://"
        )
    if driver not in ("", _DRIVERS[kind]):
        threads = ", as the store works in threads of its own and never on the event loop"
        raise ConfigError(
            f"{key} has the url {_shown(parsed)}; expected the driver {kind}+{_DRIVERS[kind]}://"
            f"{threads if driver in _ASYNC else ''}"
        )
    name = parsed.database or ""
    if kind == "sqlite" and (not name or ":memory:" in name or parsed.query.get("mode") == "memory"):
        raise ConfigError(
            f"{key} has the url {_shown(parsed)}, a database in memory, which ends with the process; expected a file "
            'such as sqlite:///jobs.db, or {"type": "memory"}'
        )
    return parsed.set(drivername=f"{kind}+{_DRIVERS[kind]}")


def _shown(url: URL) -> str:
    """Return the URL without what is secret in it."""
    query = {name: "..." if "pass" in name.lower() else value for name, value in url.query.items()}
    return url.set(query=query).render_as_string(hide_password=True)


def _merged(key: str, ours: dict[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of the engine: ours, and over them those that the user gave."""
    if "isolation_level" in given:
        raise ConfigError(f"{key} has the engine option 'isolation_level', which is not to be chosen: leave it out")
    connect_args = given.get("connect_args", {})
    if not isinstance(connect_args, Mapping):
        raise ConfigError(f"{key} has connect_args of type {type(connect_args).__name__}; expected a dict")
    merged = {**ours, **given, "connect_args": {**ours["connect_args"], **connect_args}}
    if "poolclass" in given and "pool_timeout" not in given:
        merged.pop("pool_timeout", None)  # pools that make no one wait do not take it
    return merged


def _write_ahead(cursor: Any) -> None:
    """Switch to the write-ahead log; several processes that do so at once get 'locked' whatever the busy timeout."""
    for attempt in range(50):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except Exception as error:  # the driver's own class, which is not ours to import here
            if "locked" not in str(error) or attempt == 49:
                raise
            time.sleep(random.uniform(0.005, 0.03))


def _begin_sqlite(conn: Connection) -> None:
    if not conn.get_execution_options().get("quart_sched_write"):
        conn.exec_driver_sql("BEGIN")
        return
    # SQLite's own way of waiting sleeps ever longer, up to 0.1 s, and so finds the short gaps between others'
    # transactions late.
    driver: Any = conn.connection.driver_connection
    (patience,) = driver.execute("PRAGMA busy_timeout").fetchone()
    deadline = time.monotonic() + patience / 1000
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        while time.monotonic() < deadline:
            try:
                driver.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    break
            time.sleep(random.uniform(0.0005, 0.002))
        conn.exec_driver_sql("BEGIN IMMEDIATE")
    finally:
        driver.execute(f"PRAGMA busy_timeout = {patience}")


def first_line(error: Exception) -> str:
    """Say what went wrong in one line, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    return f"{type(cause).__name__}: {cause}".splitlines()[0]
