"""MySQL and MariaDB, through PyMySQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from ...model.state import MAX_REF
from .dialects import CONNECT_TIMEOUT, LOCK_TIMEOUT, Dialect, Row, is_number
from .failures import DatabaseFailure
from .transaction import Transaction

_RETRYABLE = {1020, 1205, 1213}
_ANSWER_TIMEOUT = 90
"""Seconds after which a server that has not answered is taken for gone: more than any lock is waited for."""
_SCHEMA_TIMEOUT = 60
"""Seconds to wait for another process that is at the tables themselves."""
_LARGEST = 1_000_000
"""Characters of the rows that go into one statement, where there are several: the server's packets are limited."""


class MySQL(Dialect):
    """Row locks with SKIP LOCKED at READ COMMITTED; JSON_TABLE for many rows, since IN lists made deadlocks."""

    name = "mysql"
    share = " LOCK IN SHARE MODE"
    now = "CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS SIGNED)"
    divide = "DIV"

    def engine_options(self) -> dict[str, Any]:
        # The driver knows no keepalives that would find a server gone.
        timeouts = {"read_timeout": _ANSWER_TIMEOUT, "write_timeout": _ANSWER_TIMEOUT}
        connect_args = {"connect_timeout": CONNECT_TIMEOUT, "charset": "utf8mb4", **timeouts}
        return super().engine_options() | {"connect_args": connect_args, "isolation_level": "READ COMMITTED"}

    def set_up(self, connection: Any, idle_limit: float) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {LOCK_TIMEOUT}")
        if "MariaDB" in connection.server_version:  # MySQL has no such limit
            cursor.execute(f"SET SESSION idle_transaction_timeout = {max(1, int(idle_limit))}")
        cursor.close()

    def is_retryable(self, error: DBAPIError) -> bool:
        """ER_CHECKREAD, ER_LOCK_WAIT_TIMEOUT, ER_LOCK_DEADLOCK."""
        return bool(error.orig is not None and error.orig.args and error.orig.args[0] in _RETRYABLE)

    def within(self, column: str, parameter: str) -> str:
        return f"{column} IN (SELECT v FROM {_json_table(parameter, ('v',))} AS packed)"

    def listed(self, parameter: str) -> str:
        return f"{_json_table(parameter, ('v',))} AS packed"

    def joined(self, table: str, key: str, parameter: str) -> str:
        source = _json_table(parameter, ("v",))
        return f"{source} AS packed STRAIGHT_JOIN {self.prefix}{table} ON {key} = packed.v WHERE"

    def by_index(self, table: str, column: str) -> str:
        # Else one process locks rows beyond those that it takes, and a second one gets none.
        return f"{self.prefix}{table} FORCE INDEX ({self.prefix}{table}_{column})"

    def first_is(self, column: str, parameter: str) -> str:
        # MariaDB begins with the first of all rows with that value, unless this looks like a range.
        return f"{column} >= :{parameter} AND {column} <= :{parameter}"

    def delete(self, tx: Transaction, table: str, key: str, keys: Iterable[str]) -> None:
        name, source = self.prefix + table, _json_table("keys", ("v",))
        statement = f"DELETE {name} FROM {source} AS packed STRAIGHT_JOIN {name} ON {key} = packed.v"
        tx.execute(statement, keys=self.pack(keys))

    def update(
        self, tx: Transaction, table: str, key: str, columns: Sequence[str], rows: Sequence[Row], also: str
    ) -> None:
        types = self.table(table).c
        source = _json_table("rows", (key, *columns), {column for column in columns if is_number(types[column])})
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

    @contextmanager
    def schema_held(self, tx: Transaction) -> Iterator[None]:
        # Each statement on tables is a transaction of its own there, so that the lock must be the connection's.
        name = self.prefix + "schema"
        if tx.scalar("SELECT GET_LOCK(:name, :seconds)", name=name, seconds=_SCHEMA_TIMEOUT) != 1:
            raise DatabaseFailure(f"another process holds the lock on the schema for more than {_SCHEMA_TIMEOUT} s")
        try:
            yield
            tx.connection.commit()
        finally:
            if not tx.connection.invalidated:
                tx.scalar("SELECT RELEASE_LOCK(:name)", name=name)


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
