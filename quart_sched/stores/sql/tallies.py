"""The cluster's counters: what each process counted since it last wrote, added up by whoever asks.

Nothing is ever taken away: what dead processes counted stays in the sum. Old rows are merged into one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ...model.tallies import Numbers, add_up
from .database import Database
from .transaction import Transaction

_TOTAL = "total"
"""Stands for the process in the row into which old ones are merged."""
_KEPT = 120 * 1_000_000
"""Microseconds for which a row is kept as it is. Until then its process may not know that it was written."""

_COLUMNS = ("worker_id", "n", "at_us", "data")

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

    def __init__(self, database: Database) -> None:
        self._database = database
        self._p = database.prefix

    def add(self, addition: Addition, *, again: bool = False) -> None:
        """Add; `again` tells that it may have been added already, as an answer was lost."""
        self._database.transact(lambda tx: self._add(tx, addition, again))

    def read(self, addition: Addition | None = None) -> Sums:
        """Add, and return the sums. Whoever asks later gets no less, in whichever process."""

        def run(tx: Transaction) -> Sums:
            if addition is not None:
                self._add(tx, addition, False)
            return self._read(tx)

        return self._database.transact(run, write=addition is not None)

    def compact(self) -> None:
        """Merge what is old into one row."""
        self._database.transact(self._compact)

    def _add(self, tx: Transaction, addition: Addition, again: bool) -> None:
        if again:
            query = f"SELECT n FROM {self._p}metric_deltas WHERE worker_id = :worker_id AND n = :n"
            if tx.first(query, worker_id=addition.worker_id, n=addition.n) is not None:
                return
        data = json.dumps({"numbers": addition.numbers, "gauges": addition.gauges}, separators=(",", ":"))
        tx.insert("metric_deltas", _COLUMNS, [(addition.worker_id, addition.n, tx.now, data)])

    def _read(self, tx: Transaction) -> Sums:
        rows = self._rows(tx)
        living = {row.id for row in tx.rows(f"SELECT id FROM {self._p}workers WHERE gone_us IS NULL")}
        parts = [(row.worker_id, json.loads(row.data)) for row in rows]
        # The last one of each process counts.
        gauges = {worker_id: part["gauges"] for worker_id, part in parts if worker_id in living}
        due = f"SELECT COUNT(*) FROM {self._p}jobs WHERE next_us <= :now"
        numbers = add_up(part["numbers"] for _, part in parts)
        return Sums(numbers, gauges, tx.scalar(due, now=tx.now) or 0)

    def _rows(self, tx: Transaction, where: str = "", lock: str = "", /, **values: Any) -> list[Any]:
        order = "ORDER BY at_us, worker_id, n"
        return tx.rows(f"SELECT worker_id, n, data FROM {self._p}metric_deltas {where} {order}{lock}", **values)

    def _compact(self, tx: Transaction) -> None:
        rows = self._rows(tx, "WHERE at_us < :before", tx.dialect.lock, before=tx.now - _KEPT)
        if len(rows) < 2:
            return
        numbers = add_up(json.loads(row.data)["numbers"] for row in rows)
        statement = f"DELETE FROM {self._p}metric_deltas WHERE worker_id = ? AND n = ?"
        tx.execute_many(statement, [(row.worker_id, row.n) for row in rows])
        n = 1 + max((row.n for row in rows if row.worker_id == _TOTAL), default=0)
        data = json.dumps({"numbers": numbers, "gauges": {}}, separators=(",", ":"))
        # It stays in front of all others, and with it the order in which jobs were first seen.
        tx.insert("metric_deltas", _COLUMNS, [(_TOTAL, n, 0, data)])
