"""The database: its connections, and transactions that are repeated where others were in the way."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from ...errors import ConfigError
from .address import EXTRAS, merged_options, parse_url, shown
from .dialects import LOCK_TIMEOUT, Dialect
from .failures import DatabaseFailure, first_line
from .mysql import MySQL
from .postgresql import PostgreSQL
from .schema import Schema
from .sqlite import SQLite
from .transaction import Transaction

T = TypeVar("T")

_KINDS: dict[str, type[Dialect]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}
_ATTEMPTS = 10


class Database:
    """The tables of one prefix in one database, for any thread."""

    def __init__(
        self, key: str, url: Any, prefix: str, *, create_tables: bool, engine_options: Mapping[str, Any]
    ) -> None:
        """Take a SQLAlchemy URL, and options of `create_engine` beside ours; nothing is connected yet.

        Raises ConfigError, naming `key`.
        """
        self.prefix = prefix
        self.schema = Schema(self, create_tables=create_tables)
        self.clock: Any = None
        """The process's clock, for transactions that go by a time."""
        self.idle_limit = 10.0
        """Seconds after which the database ends a transaction whose process has stopped in the middle."""
        self._lock = threading.Lock()
        self._kept = True
        """Whether connections are kept for the next use, as somebody will close them by `dispose`."""
        parsed = parse_url(key, url)
        kind = parsed.get_backend_name()
        self.dialect: Dialect = _KINDS[kind](prefix, self.schema.tables)
        options = merged_options(key, self.dialect.engine_options(), engine_options)
        try:
            self.engine: Engine = create_engine(parsed, **options)
        except ImportError as error:
            extra = EXTRAS[kind]
            raise ConfigError(
                f"{key} has the url {shown(parsed)}, whose driver is not installed ({error}): "
                f"pip install 'quart-sched[{extra}]'"
            ) from error
        except (ArgumentError, TypeError) as error:
            raise ConfigError(f"{key} cannot be made into an engine: {error}") from error
        event.listen(self.engine, "connect", lambda connection, _: self.dialect.set_up(connection, self.idle_limit))
        self.dialect.adapt(self.engine)

    @property
    def url(self) -> str:
        """The address, without its password."""
        return shown(self.engine.url)

    # Transactions

    def transact(self, op: Callable[[Transaction], T], *, write: bool = True) -> T:
        """Return `op(transaction)`; repeated as a whole, in a new transaction, where others were in its way.

        `op` may roll back the transaction where it has nothing to write.

        Raises DatabaseFailure for what the database raises, and whatever `op` raises.
        """
        patience = time.monotonic() + LOCK_TIMEOUT
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

    def _once(self, op: Callable[[Transaction], T], write: bool) -> T:
        with self._connected() as conn:
            conn.execution_options(quart_sched_write=write)
            transaction = conn.begin()
            result = op(Transaction(conn, self.dialect, self.clock))
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
        if isinstance(error, DBAPIError) and self.dialect.is_about_file(error):
            message += f" ({self.engine.url.database})"
        return DatabaseFailure(message, unknown=unknown)

    def query(self, statement: str, /, **values: Any) -> list[Any]:
        """Return the rows of a statement that only reads."""
        return self.transact(lambda tx: tx.rows(statement, **values), write=False)

    def resume(self) -> None:
        """Keep connections from now on, until they are disposed of."""
        self._kept = True

    def dispose(self) -> None:
        """Close the connections: those in use after it, and so whatever is made before `resume`."""
        with self._lock:
            self._kept = False
            self.engine.dispose()
