"""SQLite: one writer at a time, whatever process it is in."""

from __future__ import annotations

import random
import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from .dialects import LOCK_TIMEOUT, Dialect

_WAL_ATTEMPTS = 50


class SQLite(Dialect):
    """BEGIN IMMEDIATE stands for every lock, and the process's clock for the database's."""

    name = "sqlite"
    lock = skip = ""
    now = "NULL"
    marked = staticmethod(str)  # as it is

    def engine_options(self) -> dict[str, Any]:
        connect_args = {"timeout": LOCK_TIMEOUT, "check_same_thread": False}
        return {"pool_reset_on_return": None, "connect_args": connect_args}

    def adapt(self, engine: Engine) -> None:
        event.listen(engine, "begin", _begin)

    def set_up(self, connection: Any, idle_limit: float) -> None:
        # The driver's own transactions begin late and never with IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        _write_ahead(cursor)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.close()

    def is_retryable(self, error: DBAPIError) -> bool:
        """SQLITE_BUSY, SQLITE_LOCKED and their kin."""
        return _code(error) in (5, 6)

    def is_about_file(self, error: DBAPIError) -> bool:
        """READONLY, IOERR, CORRUPT, FULL, CANTOPEN and NOTADB."""
        return _code(error) in (8, 10, 11, 13, 14, 26)

    def within(self, column: str, parameter: str) -> str:
        return f"{column} IN (SELECT value FROM json_each(:{parameter}))"

    def listed(self, parameter: str) -> str:
        return f"(SELECT value AS v FROM json_each(:{parameter})) AS packed"


def _code(error: DBAPIError) -> int:
    return getattr(error.orig, "sqlite_errorcode", 0) & 0xFF


def _write_ahead(cursor: Any) -> None:
    """Switch to the write-ahead log; several processes that do so at once get 'locked' whatever the busy timeout."""
    for attempt in range(1, _WAL_ATTEMPTS + 1):
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or attempt == _WAL_ATTEMPTS:
                raise
            time.sleep(random.uniform(0.005, 0.03))


def _begin(conn: Connection) -> None:
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
