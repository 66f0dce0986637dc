"""The cluster's counters: what each process counted since it last wrote, added up by whoever asks.

Nothing is ever taken away: what dead processes counted stays in the sum. Old rows are merged into one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from ...model.tallies import Numbers, add_up
from .database import Database
from .statements import text

_TOTAL = "total"
"""Stands for the process in the row into which old ones are merged."""
_KEPT = 120 * 1_000_000
"""Microseconds for which a row is kept as it is. Until then its process may not know that it was written."""

Gauges = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Addition:
    """What a process adds: its `n`-th one under the id of its session, with how it stands now. `numbers` are a part."""

    worker_id: str
    n: int
    numbers: Numbers
    gauges: Gauges


@dataclass(frozen=True, slots=True)
class Sums:
    """What all processes counted, how the living ones stand, and how many jobs are due and not claimed.

    `gauges` has them by the ids of their sessions.
    """

    numbers: Numbers
    gauges: dict[str, Gauges]
    due: int


class SqlTallies:
    """The counters in one database. Safe from any thread; raises DatabaseFailure."""

    def __init__(self, database: Database, now: Callable[[Connection], int]) -> None:
        self._database = database
        self._dialect = database.dialect
        self._p = database.prefix
        self._now = now

    def add(self, addition: Addition, *, again: bool = False) -> None:
        """Add; `again` tells that it may have been added already, as an answer was lost."""
        self._database.transact(lambda conn: self._add(conn, addition, again))

    def read(self, addition: Addition | None = None) -> Sums:
        """Add, and return the sums. Whoever asks later gets no less, in whichever process."""

        def run(conn: Connection) -> Sums:
            if addition is not None:
                self._add(conn, addition, False)
            return self._read(conn)

        return self._database.transact(run, write=addition is not None)

    def compact(self) -> None:
        """Merge what is old into one row."""
        self._database.transact(self._compact)

    def _add(self, conn: Connection, addition: Addition, again: bool) -> None:
        if again:
            query = f"SELECT n FROM {self._p}metric_deltas WHERE worker_id = :worker_id AND n = :n"
            values = {"worker_id": addition.worker_id, "n": addition.n}
            if conn.execute(text(query), values).first() is not None:
                return
        data = json.dumps({"numbers": addition.numbers, "gauges": addition.gauges}, separators=(",", ":"))
        row = (addition.worker_id, addition.n, self._now(conn), data)
        self._dialect.insert(conn, "metric_deltas", ("worker_id", "n", "at_us", "data"), [row])

    def _read(self, conn: Connection) -> Sums:
        rows = self._rows(conn)
        living = {row.id for row in conn.execute(text(f"SELECT id FROM {self._p}workers WHERE gone_us IS NULL"))}
        parts = [(row.worker_id, json.loads(row.data)) for row in rows]
        # The last one of each process counts.
        gauges = {worker_id: part["gauges"] for worker_id, part in parts if worker_id in living}
        due = f"SELECT COUNT(*) FROM {self._p}jobs WHERE next_us <= :now"
        numbers = add_up(part["numbers"] for _, part in parts)
        return Sums(numbers, gauges, conn.scalar(text(due), {"now": self._now(conn)}) or 0)

    def _rows(self, conn: Connection, before: int | None = None) -> list[Any]:
        where = "" if before is None else " WHERE at_us < :before"
        query = (
            f"SELECT worker_id, n, data FROM {self._p}metric_deltas{where} ORDER BY at_us, worker_id, n"
            f"{'' if before is None else self._dialect.lock}"
        )
        return list(conn.execute(text(query), {} if before is None else {"before": before}))

    def _compact(self, conn: Connection) -> None:
        rows = self._rows(conn, self._now(conn) - _KEPT)
        if len(rows) < 2:
            return
        numbers = add_up(json.loads(row.data)["numbers"] for row in rows)
        statement = f"DELETE FROM {self._p}metric_deltas WHERE worker_id = :worker_id AND n = :n"
        conn.execute(text(statement), [{"worker_id": row.worker_id, "n": row.n} for row in rows])
        n = 1 + max((row.n for row in rows if row.worker_id == _TOTAL), default=0)
        data = json.dumps({"numbers": numbers, "gauges": {}}, separators=(",", ":"))
        # It stays in front of all others, and with it the order in which jobs were first seen.
        self._dialect.insert(conn, "metric_deltas", ("worker_id", "n", "at_us", "data"), [(_TOTAL, n, 0, data)])
