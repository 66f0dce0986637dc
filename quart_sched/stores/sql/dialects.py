"""What differs between SQLite, PostgreSQL and MySQL or MariaDB: locks, the time, and many rows in one statement."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import BigInteger, Integer, MetaData, Table
from sqlalchemy.exc import DBAPIError

from ...model.state import MAX_REF

if TYPE_CHECKING:
    from .transaction import Transaction

Row = Sequence[Any]

_RETRY_P = {"40001", "40P01", "55P03"}
_RETRY_M = {1020, 1205, 1213}
_LARGEST = 1_000_000
"""Characters of the rows that go into one statement with MySQL, where there are several: its packets are limited."""


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
    """The time of the database in microseconds; None where the process's own clock is as good."""

    def __init__(self, prefix: str, tables: MetaData) -> None:
        self.prefix = prefix
        self._tables = tables

    def table(self, name: str) -> Table:
        """Return the table with this name before the prefix."""
        return self._tables.tables[self.prefix + name]

    def marked(self, statement: str) -> str:
        """Return a statement, in which `:name` stands for a value and `?` for the next one, as the driver takes it."""
        return _marked(statement)

    def pack(self, values: Iterable[Any]) -> Any:
        """Return the parameter that stands for a list in `within`."""
        return json.dumps(list(values))

    def within(self, column: str, parameter: str) -> str:
        """Return a condition: `column` is among the packed list."""
        return f"{column} IN (SELECT value FROM json_each(:{parameter}))"

    def listed(self, parameter: str) -> str:
        """Return a FROM clause of the packed list itself, as `packed` with the column `v`."""
        return f"(SELECT value AS v FROM json_each(:{parameter})) AS packed"

    def joined(self, table: str, key: str, parameter: str) -> str:
        """Return a FROM clause of the rows of `table` whose `key` is among the packed list."""
        return f"{self.prefix}{table} WHERE {self.within(key, parameter)} AND"

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

    def notify(self, tx: Transaction) -> None:
        """Wake the other processes when this transaction is committed, where the database can."""

    def is_retryable(self, error: DBAPIError) -> bool:
        """Tell whether the transaction failed for the company that it was in, and is to be repeated."""
        raise AssertionError  # each kind has its own codes


class SQLite(Dialect):
    """One writer at a time: BEGIN IMMEDIATE stands for every lock, and the process's clock for the database's."""

    name = "sqlite"
    lock = skip = ""
    now = "NULL"

    def marked(self, statement: str) -> str:
        return statement

    def is_retryable(self, error: DBAPIError) -> bool:
        """SQLITE_BUSY, SQLITE_LOCKED and their kin."""
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return code in (5, 6)


class PostgreSQL(Dialect):
    """Row locks with SKIP LOCKED, JSON for many rows, an advisory lock for the pause, NOTIFY."""

    name = "postgresql"
    now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"

    @property
    def channel(self) -> str:
        """The channel of NOTIFY."""
        return f"{self.prefix}wake"

    def pack(self, values: Iterable[Any]) -> Any:
        return list(values)

    def within(self, column: str, parameter: str) -> str:
        return f"{column} = ANY(:{parameter})"

    def listed(self, parameter: str) -> str:
        return f"unnest(CAST(:{parameter} AS text[])) AS packed(v)"

    def _records(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, str]:
        # JSON, as the driver takes several times longer to write arrays.
        types = self.table(table).c
        fields = ", ".join(f"{column} {_type(types[column].type)}" for column in columns)
        given = json.dumps([dict(zip(columns, row, strict=True)) for row in rows])
        return f"json_to_recordset(CAST(:rows AS json)) AS given ({fields})", given

    def insert(self, tx: Transaction, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        source, given = self._records(table, columns, rows)
        names = ", ".join(columns)
        tx.execute(f"INSERT INTO {self.prefix}{table} ({names}) SELECT {names} FROM {source}", rows=given)

    def update(
        self, tx: Transaction, table: str, key: str, columns: Sequence[str], rows: Sequence[Row], also: str
    ) -> None:
        source, given = self._records(table, (key, *columns), rows)
        sets = ", ".join([f"{column} = given.{column}" for column in columns] + ([also] if also else []))
        tx.execute(f"UPDATE {self.prefix}{table} AS t SET {sets} FROM {source} WHERE t.{key} = given.{key}", rows=given)

    def hold_pause(self, tx: Transaction, *, exclusive: bool) -> None:
        # Not a row lock: readers that share one starve the pauser.
        kind = "" if exclusive else "_shared"
        tx.execute(f"SELECT pg_advisory_xact_lock{kind}(hashtext(:name))", name=self.prefix + "pause")

    def notify(self, tx: Transaction) -> None:
        tx.execute("SELECT pg_notify(:channel, '')", channel=self.channel)

    def is_retryable(self, error: DBAPIError) -> bool:
        """serialization_failure, deadlock_detected, lock_not_available."""
        return getattr(error.orig, "sqlstate", None) in _RETRY_P


class MySQL(Dialect):
    """Row locks with SKIP LOCKED at READ COMMITTED; JSON_TABLE for many rows, since IN lists made deadlocks."""

    name = "mysql"
    share = " LOCK IN SHARE MODE"
    now = "CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS SIGNED)"

    def within(self, column: str, parameter: str) -> str:
        return f"{column} IN (SELECT v FROM {_json_table(parameter, ('v',))} AS packed)"

    def listed(self, parameter: str) -> str:
        return f"{_json_table(parameter, ('v',))} AS packed"

    def joined(self, table: str, key: str, parameter: str) -> str:
        source = _json_table(parameter, ("v",))
        return f"{source} AS packed STRAIGHT_JOIN {self.prefix}{table} ON {key} = packed.v WHERE"

    def delete(self, tx: Transaction, table: str, key: str, keys: Iterable[str]) -> None:
        name, source = self.prefix + table, _json_table("keys", ("v",))
        statement = f"DELETE {name} FROM {source} AS packed STRAIGHT_JOIN {name} ON {key} = packed.v"
        tx.execute(statement, keys=self.pack(keys))

    def update(
        self, tx: Transaction, table: str, key: str, columns: Sequence[str], rows: Sequence[Row], also: str
    ) -> None:
        types = self.table(table).c
        numbers = {column for column in columns if isinstance(types[column].type, Integer | BigInteger)}
        source = _json_table("rows", (key, *columns), numbers)
        sets = ", ".join([f"t.{column} = given.{column}" for column in columns] + ([also] if also else []))
        packed = json.dumps([list(row) for row in rows])
        if len(packed) > _LARGEST and len(rows) > 1:
            half = len(rows) // 2
            for part in (rows[:half], rows[half:]):
                self.update(tx, table, key, columns, part, also)
            return
        tx.execute(
            f"UPDATE {source} AS given STRAIGHT_JOIN {self.prefix}{table} AS t ON t.{key} = given.{key} SET {sets}",
            rows=packed,
        )

    def is_retryable(self, error: DBAPIError) -> bool:
        """ER_CHECKREAD, ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK."""
        return bool(error.orig is not None and error.orig.args and error.orig.args[0] in _RETRY_M)


DIALECTS: dict[str, type[Dialect]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mysql": MySQL, "mariadb": MySQL}


_MARK = re.compile(r"(?<![:\w]):(\w+)|\?")


@lru_cache(maxsize=1024)
def _marked(statement: str) -> str:
    """Return a statement with the marks of psycopg and PyMySQL."""
    return _MARK.sub(lambda mark: f"%({mark[1]})s" if mark[1] else "%s", statement.replace("%", "%%"))


def _type(kind: Any) -> str:
    return "bigint" if isinstance(kind, Integer | BigInteger) else "text"


def _json_table(parameter: str, columns: Sequence[str], numbers: Iterable[str] = ()) -> str:
    """Return a table of a JSON list: of scalars for one column, of lists for several."""
    parts = []
    for index, column in enumerate(columns):
        kind = "BIGINT" if column in numbers else "LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        if column == columns[0]:
            # As long as the longest key: that of a function.
            kind = f"VARCHAR({MAX_REF}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        parts.append(f"{column} {kind} PATH '{f'$[{index}]' if len(columns) > 1 else '$'}'")
    return f"JSON_TABLE(:{parameter}, '$[*]' COLUMNS ({', '.join(parts)}))"
