"""The history in the database: what runs or waits now, and what became of the fires before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy.exc import DataError

from ...errors import SchedulerError
from ...model.ids import first_id
from ...model.instants import micros, moment
from ...model.runs import STATES, RunQuery, RunRecord, in_attempt_order, in_time
from ...model.stretches import Stretch, StretchQuery
from . import statistics
from .database import Database
from .failures import DatabaseFailure
from .rows import LEAVING, OUTPUT_COLUMNS, RUN, RUN_COLUMNS, clean, output_rows, record_of, run_row
from .transaction import Transaction

log = logging.getLogger("quart_sched")

T = TypeVar("T")

CLOCK_SLACK = 3_600_000_000
"""Microseconds by which a process's clock may be behind before a page with `since`, but without a job, misses its runs.
"""

_LIVE = (
    "r.run_id, r.fire_id, r.job_id, r.sched_us, r.attempt, r.cause, r.state, "
    "CASE WHEN r.owner IS NOT NULL THEN r.claimed_us END AS started_us, w.host, w.pid, r.overrides"
)


class HistoryUnavailable(SchedulerError):
    """The database of the history cannot be reached, or failed."""

    status = 503


class SqlHistory:
    """The history of one database. It is safe from any thread, and each call is one transaction.

    Everything here raises HistoryUnavailable, or SchemaProblem where the tables are not there to be used.
    """

    blocking = True

    def __init__(self, database: Database) -> None:
        self.database = database
        self._dialect = database.dialect
        p = database.prefix
        self._runs = f"{p}runs AS r"
        self._live = f"{p}live AS r LEFT JOIN {p}workers AS w ON w.id = r.owner"
        self._output = f"{p}run_output AS o"
        self._open = False

    def page(self, query: RunQuery) -> list[RunRecord]:
        """Return the runs that are asked for, newest first, at most `query.limit`."""
        query = query if query.job_id is None else query._replace(job_id=_id(query.job_id))

        def read(tx: Transaction) -> list[RunRecord]:
            found: dict[str, RunRecord] = {}
            # In this order, a run that ends in between is seen, and as what it is then.
            if query.outcome is None or query.outcome in STATES:
                found |= {row.run_id: _live_record(row) for row in self._live_page(tx, query)}
            if query.outcome not in STATES:
                found |= {row.run_id: record_of(row) for row in self._runs_page(tx, query)}
            return query.select(found.values())

        return self._transact(read, write=False)

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        if clean(run_id, 36) != run_id:
            return None
        live = f"SELECT {_LIVE} FROM {self._live} WHERE r.run_id = :run_id"
        runs = (
            f"SELECT {RUN}, o.result, o.traceback, o.log, o.overrides FROM {self._runs} LEFT JOIN {self._output} "
            "ON o.run_id = r.run_id WHERE r.run_id = :run_id"
        )

        def read(tx: Transaction) -> RunRecord | None:
            under_way = tx.first(live, run_id=run_id)
            ended = tx.first(runs, run_id=run_id)
            if ended is not None:
                return record_of(ended)
            return None if under_way is None else _live_record(under_way)

        return self._transact(read, write=False)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        condition = "r.job_id = :job_id AND r.sched_us = :us AND r.fire_id = :fire_id"
        values = {"job_id": _id(record.job_id), "us": micros(record.scheduled_at), "fire_id": record.fire_id}

        def read(tx: Transaction) -> list[RunRecord]:
            live = tx.rows(f"SELECT {_LIVE} FROM {self._live} WHERE {condition}", **values)
            found = {row.run_id: _live_record(row) for row in live}
            runs = tx.rows(f"SELECT {RUN} FROM {self._runs} WHERE {condition}", **values)
            found |= {row.run_id: record_of(row) for row in runs}
            return sorted(found.values(), key=in_attempt_order)

        return self._transact(read, write=False)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for."""
        return self._transact(lambda tx: statistics.stretches(tx, query), write=False)

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        return self._transact(lambda tx: statistics.latest(tx, job_ids, count), write=False)

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""
        return self._transact(lambda tx: statistics.last_outcomes(tx, job_ids), write=False)

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most."""
        where = (
            f"WHERE {self._dialect.first_is('r.job_id', 'job_id')} AND r.sched_us >= :begin AND r.cause = 'schedule'"
        )
        order = "ORDER BY r.job_id, r.sched_us, r.run_id LIMIT :limit"
        values = {"job_id": _id(job_id), "begin": micros(begin), "limit": limit}
        live = f"SELECT {_LIVE} FROM {self._live} {where} AND r.state <> '{LEAVING}' {order}"
        runs = f"SELECT {RUN} FROM {self._runs} {where} {order}"

        def read(tx: Transaction) -> list[RunRecord]:
            # In this order, a run that ends in between is seen, and as what it is then.
            found = {row.run_id: _live_record(row) for row in tx.rows(live, **values)}
            found |= {row.run_id: record_of(row) for row in tx.rows(runs, **values)}
            return sorted(found.values(), key=in_time)[:limit]

        return self._transact(read, write=False)

    def close(self) -> None:
        """Free the connections; the next use makes new ones, which are kept once records are written again."""
        self.database.dispose()

    def write(self, records: Sequence[RunRecord]) -> None:
        """Add records of runs whose jobs are not in this database.

        Those that it has already are left as they are; one that it refuses is left out, and the log says so.
        """
        self.database.resume()
        try:
            self._transact(lambda tx: self._insert(tx, records), write=True)
        except HistoryUnavailable as error:
            refused = error.__cause__ is not None and isinstance(error.__cause__.__cause__, DataError)
            if not refused:
                raise
            if len(records) == 1:
                log.error("The run history cannot hold the record of run %s: %s", records[0].run_id, error.__cause__)
                return
            for record in records:
                self.write([record])

    def _insert(self, tx: Transaction, records: Sequence[RunRecord]) -> None:
        # An earlier attempt may have been committed although its reply was lost.
        written = {row.run_id for row in tx.among("runs", "run_id", [record.run_id for record in records], "run_id")}
        new = [record._replace(job_id=_id(record.job_id)) for record in records if record.run_id not in written]
        tx.insert("runs", RUN_COLUMNS, [run_row(record, None, None, None) for record in new])
        tx.insert("run_output", OUTPUT_COLUMNS, output_rows(new))

    def prune(self, before: datetime, batch: int = 500) -> int:
        """Delete up to `batch` of the oldest runs that were made, and ended, before that time; return how many.

        Runs of a fire that another attempt is still to be made at stay. Fewer than `batch` means that none is left.
        """
        query = (
            f"SELECT r.run_id FROM {self._runs} WHERE r.run_id < :end AND COALESCE(r.ended_us, r.sched_us) < :us "
            f"AND NOT EXISTS (SELECT 1 FROM {self.database.prefix}live AS l WHERE l.job_id = r.job_id "
            "AND l.fire_id = r.fire_id) ORDER BY r.run_id LIMIT :batch"
        )
        us = micros(before)

        def delete(tx: Transaction) -> int:
            old = [row.run_id for row in tx.rows(query, end=first_id(us), us=us, batch=batch)]
            if old:
                tx.delete("run_output", "run_id", old)
                tx.delete("runs", "run_id", old)
            return len(old)

        return self._transact(delete, write=True)

    # Statements

    def _live_page(self, tx: Transaction, query: RunQuery) -> list[Any]:
        """Return those under way, or waiting: never many."""
        return self._page(tx, f"SELECT {_LIVE} FROM {self._live}", "state", query)

    def _runs_page(self, tx: Transaction, query: RunQuery) -> list[Any]:
        """Return those that have ended: read from the end of an index, without sorting."""
        return self._page(tx, f"SELECT {RUN} FROM {self._runs}", "outcome", query)

    def _page(self, tx: Transaction, select: str, outcome: str, query: RunQuery) -> list[Any]:
        where, values = _span(query)
        if outcome == "state":
            where.append(f"r.state <> '{LEAVING}'")
        order = "r.sched_us DESC, r.run_id DESC" if query.by_time else "r.run_id DESC"
        if query.job_id is not None:
            where.append(self._dialect.first_is("r.job_id", "job_id"))
            order = f"r.job_id DESC, {order}"
            values["job_id"] = query.job_id
        if query.outcome is not None and query.by_time:
            where.append(f"r.{outcome} = :outcome")
        elif query.outcome is not None:
            where.append(self._dialect.first_is(f"r.{outcome}", "outcome"))
            order = f"r.{outcome} DESC, {order}"
        if query.outcome is not None:
            values["outcome"] = query.outcome
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return tx.rows(f"{select}{condition} ORDER BY {order} LIMIT :limit", limit=query.limit, **values)

    def _transact(self, op: Callable[[Transaction], T], *, write: bool) -> T:
        try:
            if not self._open:
                self.database.schema.open()
                self._open = True
            return self.database.transact(op, write=write)
        except DatabaseFailure as error:
            raise HistoryUnavailable(f"The run history in {self.database.url} is not available: {error}") from error


def _span(query: RunQuery) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions on time, and on what comes before the page."""
    where: list[str] = []
    values: dict[str, Any] = {}
    if query.since is not None:
        where.append("r.sched_us >= :since")
        values["since"] = micros(query.since)
        if query.job_id is None:
            # No run is made before its fire is due: here the search ends.
            where.append("r.run_id >= :first")
            values["first"] = first_id(values["since"] - CLOCK_SLACK)
    if query.until is not None:
        where.append("r.sched_us < :until")
        values["until"] = micros(query.until)
    if query.before is not None and query.by_time:
        # Not as a comparison of pairs, for which MySQL uses no index.
        where.append("r.sched_us <= :before_us AND (r.sched_us < :before_us OR r.run_id < :before)")
        values |= {"before_us": query.before.scheduled_us, "before": query.before.run_id}
    elif query.before is not None:
        where.append("r.run_id < :before")
        values["before"] = query.before.run_id
    return where, values


def _id(job_id: str) -> str:
    """Return a job's id as the table holds it; a memory store takes any text for one."""
    return clean(job_id, 191) or ""


def _live_record(row: Any) -> RunRecord:
    return RunRecord(
        run_id=row.run_id,
        fire_id=row.fire_id,
        job_id=row.job_id,
        scheduled_at=moment(row.sched_us),
        outcome=row.state,
        cause=row.cause,
        worker="" if row.host is None else f"{row.host}:{row.pid}",
        attempt=row.attempt,
        started_at=None if row.started_us is None else moment(row.started_us),
        final=False,
        overrides=row.overrides,
    )
