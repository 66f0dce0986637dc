"""PostgreSQL, through psycopg."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.exc import DBAPIError

from .dialects import CONNECT_TIMEOUT, LOCK_TIMEOUT, Dialect, Row, is_number
from .transaction import Transaction

_RETRYABLE = {"40001", "40P01", "55P03"}


class PostgreSQL(Dialect):
    """Row locks with SKIP LOCKED, JSON for many rows, an advisory lock for the pause, NOTIFY."""

    name = "postgresql"
    now = "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"

    def engine_options(self) -> dict[str, Any]:
        keepalives = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        # While something is on its way no keepalives are sent: the same time for that, in milliseconds.
        connect_args = {"connect_timeout": CONNECT_TIMEOUT, "tcp_user_timeout": 25_000, **keepalives}
        # Also where the server, or the account, was given another default.
        return super().engine_options() | {"connect_args": connect_args, "isolation_level": "READ COMMITTED"}

    def set_up(self, connection: Any, idle_limit: float) -> None:
        cursor = connection.cursor()
        cursor.execute(f"SET idle_in_transaction_session_timeout = {int(idle_limit * 1000)}")
        cursor.execute(f"SET lock_timeout = {LOCK_TIMEOUT * 1000}")
        cursor.close()
        connection.commit()

    def is_retryable(self, error: DBAPIError) -> bool:
        """serialization_failure, deadlock_detected, lock_not_available."""
        return getattr(error.orig, "sqlstate", None) in _RETRYABLE

    def pack(self, values: Iterable[Any]) -> Any:
        return list(values)

    def within(self, column: str, parameter: str) -> str:
        return f"{column} = ANY(:{parameter})"

    def listed(self, parameter: str) -> str:
        return f"unnest(CAST(:{parameter} AS text[])) AS packed(v)"

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

    def _records(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> tuple[str, str]:
        # JSON, as the driver takes several times longer to write arrays.
        types = self.table(table).c
        fields = ", ".join(f"{column} {'bigint' if is_number(types[column]) else 'text'}" for column in columns)
        given = json.dumps([dict(zip(columns, row, strict=True)) for row in rows])
        return f"json_to_recordset(CAST(:rows AS json)) AS given ({fields})", given

    def hold_pause(self, tx: Transaction, *, exclusive: bool) -> None:
        # Not a row lock: readers that share one starve the pauser.
        kind = "" if exclusive else "_shared"
        tx.execute(f"SELECT pg_advisory_xact_lock{kind}(hashtext(:name))", name=self.prefix + "pause")

    @property
    def channel(self) -> str:
        return f"{self.prefix}wake"

    def notify(self, tx: Transaction) -> None:
        tx.execute("SELECT pg_notify(:channel, '')", channel=self.channel)

    @contextmanager
    def schema_held(self, tx: Transaction) -> Iterator[None]:
        tx.execute("SELECT pg_advisory_xact_lock(hashtext(:name))", name=self.prefix + "schema")
        yield

    def narrow_encoding(self, tx: Transaction) -> str | None:
        encoding: str = tx.scalar("SHOW server_encoding")
        return None if encoding == "UTF8" else encoding
