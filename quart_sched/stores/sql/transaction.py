"""Transactions: the one way to run a statement, and the one time that counts within each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection

from ...model.instants import micros
from .dialects import Dialect, Row


class Transaction:
    """A transaction under way, on the tables of one prefix.

    In a statement, `:name` stands for a value. All else goes to the driver as it is: what SQLAlchemy would make of a
    statement costs as much as many a database's answer. Rows have their columns as attributes.
    """

    def __init__(self, connection: Connection, dialect: Dialect, clock: Any) -> None:
        self.connection = connection
        """SQLAlchemy's, for what concerns the tables themselves."""
        self.dialect = dialect
        self.prefix = dialect.prefix
        self._send, self._marked = connection.exec_driver_sql, dialect.marked
        self._clock = clock
        self._now: int | None = None

    # Time

    @property
    def now(self) -> int:
        """The time that counts, in microseconds; it stands still until the end of the transaction."""
        return self.take_time(self.scalar(f"SELECT {self.dialect.now}")) if self._now is None else self._now

    def take_time(self, database_us: int | None) -> int:
        """Go by what a statement said of the database's time, None where it has none; return the time that counts.

        That is the database's, or the process's clock where that is all, or a test's.
        """
        clock = self._clock
        self._now = micros(clock.now()) if database_us is None or not clock.real else int(database_us)
        return self._now

    # Statements

    def rows(self, statement: str, /, **values: Any) -> list[Any]:
        """Return the rows of a query."""
        return list(self._send(self._marked(statement), values).all())

    def first(self, statement: str, /, **values: Any) -> Any:
        """Return the first row of a query, or None."""
        return self._send(self._marked(statement), values).first()

    def scalar(self, statement: str, /, **values: Any) -> Any:
        """Return the first value of the first row of a query, or None."""
        return self._send(self._marked(statement), values).scalar()

    def execute(self, statement: str, /, **values: Any) -> int:
        """Execute a statement; return how many rows it was about."""
        return self._send(self._marked(statement), values).rowcount

    def execute_many(self, statement: str, rows: Sequence[Row]) -> None:
        """Execute a statement for each of the rows, whose values the marks `?` in it stand for."""
        self._send(self._marked(statement), [tuple(row) for row in rows])

    def among(
        self, table: str, key: str, keys: Iterable[str], columns: str, also: str = "1 = 1", /, **values: Any
    ) -> list[Any]:
        """Return the rows of a table whose `key` is among `keys`; `also` is what else the statement asks for."""
        source = self.dialect.joined(table, key, "keys")
        return self.rows(f"SELECT {columns} FROM {source} {also}", keys=self.dialect.pack(sorted(keys)), **values)

    def insert(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows, each in the order of `columns`."""
        if rows:
            self.dialect.insert(self, table, columns, rows)

    def update(self, table: str, key: str, columns: Sequence[str], rows: Sequence[Row], also: str = "") -> None:
        """Set `columns` of the rows named by their `key`, which comes first in each row; `also` is set besides."""
        if rows:
            self.dialect.update(self, table, key, columns, rows, also)

    def delete(self, table: str, key: str, keys: Iterable[str]) -> None:
        """Delete the rows whose `key` is among `keys`."""
        self.dialect.delete(self, table, key, keys)

    def notify(self) -> None:
        """Wake the other processes when this is committed, where the database can."""
        self.dialect.notify(self)

    # The end

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """What fails within is undone by itself, and the transaction goes on."""
        with self.connection.begin_nested():
            yield

    def roll_back(self) -> None:
        """End it without anything having been written."""
        if (transaction := self.connection.get_transaction()) is not None:
            transaction.rollback()
