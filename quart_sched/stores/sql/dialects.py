"""What differs between SQLite, PostgreSQL and MySQL or MariaDB: each is a Dialect in a module of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

from sqlalchemy import BigInteger, Engine, Integer, MetaData, Table
from sqlalchemy.exc import DBAPIError

if TYPE_CHECKING:
    from .transaction import Transaction

Row = Sequence[Any]

CONNECT_TIMEOUT: Final = 5
"""Seconds to wait for a connection."""
LOCK_TIMEOUT: Final = 5
"""Seconds to wait for what others have locked."""


_MARK = re.compile(r"(?<![:\w]):(\w+)|\?")


@lru_cache(maxsize=1024)
def _marked(statement: str) -> str:
    """Return a statement with the marks of psycopg and PyMySQL."""
    return _MARK.sub(lambda mark: f"%({mark[1]})s" if mark[1] else "%s", statement.replace("%", "%%"))


class Dialect:
    """One kind of database, with the tables of one prefix."""

    name: ClassVar[str]
    lock: ClassVar[str] = " FOR UPDATE"
    """Ends a query whose rows are to be locked, waiting for them."""
    skip: ClassVar[str] = " FOR UPDATE SKIP LOCKED"
    """The same, leaving out rows that others have locked."""
    share: ClassVar[str] = ""
    """Ends the query by which a claim looks at the pause, so that a pause waits for it."""
    now: ClassVar[str]
    """The time of the database in microseconds; NULL where the process's own clock is as good."""
    divide: ClassVar[str] = "/"
    """Divides whole numbers, without what is left over."""
    marked: Callable[[str], str] = staticmethod(_marked)
    """Returns a statement, in which `:name` stands for a value and `?` for the next one, as the driver takes it."""

    def __init__(self, prefix: str, tables: MetaData) -> None:
        self.prefix = prefix
        self._tables = tables

    def table(self, name: str) -> Table:
        """Return the table with this name before the prefix."""
        return self._tables.tables[self.prefix + name]

    # Connections

    def engine_options(self) -> dict[str, Any]:
        """Return options of `create_engine`, and under `connect_args` those of the driver."""
        # Nothing to roll back on the way to the pool, as each transaction has been ended by then: with MySQL that would
        # be a statement more, and where the connection is lost just then, SQLAlchemy logs a traceback.
        return {"pool_reset_on_return": None, "pool_recycle": 1800, "pool_timeout": CONNECT_TIMEOUT}

    def adapt(self, engine: Engine) -> None:
        """Have an engine begin its transactions as they should, where the driver does not."""

    def set_up(self, connection: Any, idle_limit: float) -> None:
        """Prepare a new connection, given as the driver's own; `idle_limit`, in seconds, is for its transactions."""
        raise NotImplementedError

    def is_retryable(self, error: DBAPIError) -> bool:
        """Tell whether the transaction failed for the company that it was in, and is to be repeated."""
        raise NotImplementedError

    def is_about_file(self, error: DBAPIError) -> bool:
        """Tell whether what failed is the database's file, whose name is then worth saying."""
        return False

    # Statements

    def pack(self, values: Iterable[Any]) -> Any:
        """Return the parameter that stands for a list in `within`."""
        return json.dumps(list(values))

    def within(self, column: str, parameter: str) -> str:
        """Return a condition: `column` is among the packed list."""
        raise NotImplementedError

    def listed(self, parameter: str) -> str:
        """Return a FROM clause of the packed list itself, as `packed` with the column `v`."""
        raise NotImplementedError

    def joined(self, table: str, key: str, parameter: str) -> str:
        """Return a FROM clause of the rows of `table` whose `key` is among the packed list."""
        return f"{self.prefix}{table} WHERE {self.within(key, parameter)} AND"

    def by_index(self, table: str, column: str) -> str:
        """Return a FROM clause of a table that is to be read in the order of the index on a column."""
        return f"{self.prefix}{table}"

    def first_is(self, column: str, parameter: str) -> str:
        """Return a condition on the first column of an index whose later ones say where to begin and in what order."""
        return f"{column} = :{parameter}"

    # Changes

    def delete(self, tx: Transaction, table: str, key: str, keys: Iterable[str]) -> None:
        """Delete the rows whose `key` is among `keys`."""
        tx.execute(f"DELETE FROM {self.prefix}{table} WHERE {self.within(key, 'keys')}", keys=self.pack(keys))

    def insert(self, tx: Transaction, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """Insert rows, of which there is one at least, each in the order of `columns`."""
        # Placeholders alone: anything else among the values stops PyMySQL from sending them as one statement.
        marks = ", ".join("?" * len(columns))
        tx.execute_many(f"INSERT INTO {self.prefix}{table} ({', '.join(columns)}) VALUES ({marks})", rows)

    def update(
        self, tx: Transaction, table: str, key: str, columns: Sequence[str], rows: Sequence[Row], also: str
    ) -> None:
        """Set `columns` of the rows named by their `key`, which comes first in each row; `also` is set besides."""
        sets = ", ".join([f"{column} = ?" for column in columns] + ([also] if also else []))
        statement = f"UPDATE {self.prefix}{table} SET {sets} WHERE {key} = ?"
        tx.execute_many(statement, [(*row[1:], row[0]) for row in rows])

    def hold_pause(self, tx: Transaction, *, exclusive: bool) -> None:
        """Keep a pause (exclusive) and claims apart until the end of the transaction."""

    @property
    def channel(self) -> str | None:
        """Where `notify` is heard; None where the database has no such thing."""
        return None

    def notify(self, tx: Transaction) -> None:
        """Wake the other processes when this transaction is committed, where the database can."""

    # The schema

    @contextmanager
    def schema_held(self, tx: Transaction) -> Iterator[None]:
        """Let nobody else make the tables meanwhile; what is done to them is there for others at the end."""
        yield

    def narrow_encoding(self, tx: Transaction) -> str | None:
        """Return the encoding of a database that cannot hold every text; None where it can."""
        return None


def is_number(column: Any) -> bool:
    """Tell whether a column holds whole numbers, and not text."""
    return isinstance(column.type, Integer | BigInteger)
