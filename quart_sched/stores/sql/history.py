"""The history in the database: what runs or waits now, and what became of the fires before."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError

from ...errors import SchedulerError
from ...model.ids import first_id
from ...model.instants import micros, moment
from ...model.runs import STATES, RunQuery, RunRecord, in_attempt_order, in_time
from ...model.stretches import Stretch, StretchQuery
from . import statistics
from .database import Database, DatabaseFailure
from .rows import LEAVING, OUTPUT_COLUMNS, RUN, RUN_COLUMNS, clean, output_rows, record_of, run_row
from .statements import text

log = logging.getLogger("quart_sched")

T = TypeVar("T")

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

        def read(conn: Connection) -> list[RunRecord]:
            found: dict[str, RunRecord] = {}
            # In this order, a run that ends in between is seen, and as what it is then.
            if query.outcome is None or query.outcome in STATES:
                found |= {row.run_id: _live_record(row) for row in conn.execute(*self._live_statement(query))}
            if query.outcome not in STATES:
                found |= {row.run_id: record_of(row) for row in conn.execute(*self._runs_statement(query))}
            return query.select(found.values())

        return self._transact(read, write=False)

    def find(self, run_id: str) -> RunRecord | None:
        """Return this run, with what it put out, or None."""
        if clean(run_id, 36) != run_id:
            return None
        live = text(f"SELECT {_LIVE} FROM {self._live} WHERE r.run_id = :run_id")
        runs = text(
            f"SELECT {RUN}, o.result, o.traceback, o.log, o.overrides FROM {self._runs} LEFT JOIN {self._output} "
            "ON o.run_id = r.run_id WHERE r.run_id = :run_id"
        )

        def read(conn: Connection) -> RunRecord | None:
            under_way = conn.execute(live, {"run_id": run_id}).first()
            ended = conn.execute(runs, {"run_id": run_id}).first()
            if ended is not None:
                return record_of(ended)
            return None if under_way is None else _live_record(under_way)

        return self._transact(read, write=False)

    def attempts(self, record: RunRecord) -> list[RunRecord]:
        """Return the runs of the same fire, in the order in which they were attempted."""
        condition = "r.job_id = :job_id AND r.sched_us = :us AND r.fire_id = :fire_id"
        values = {"job_id": _id(record.job_id), "us": micros(record.scheduled_at), "fire_id": record.fire_id}

        def read(conn: Connection) -> list[RunRecord]:
            live = conn.execute(text(f"SELECT {_LIVE} FROM {self._live} WHERE {condition}"), values)
            found = {row.run_id: _live_record(row) for row in live}
            runs = conn.execute(text(f"SELECT {RUN} FROM {self._runs} WHERE {condition}"), values)
            found |= {row.run_id: record_of(row) for row in runs}
            return sorted(found.values(), key=in_attempt_order)

        return self._transact(read, write=False)

    def stretches(self, query: StretchQuery) -> list[Stretch]:
        """Count the runs that have ended and are asked for."""
        count = partial(statistics.stretches, dialect=self._dialect, query=query)
        return self._transact(count, write=False)

    def latest(self, job_ids: Sequence[str], count: int) -> dict[str, list[RunRecord]]:
        """Return the last `count` runs that ended of each of these jobs, newest first."""
        read = partial(statistics.latest, dialect=self._dialect, job_ids=job_ids, count=count)
        return self._transact(read, write=False)

    def last_outcomes(self, job_ids: Sequence[str]) -> dict[str, str]:
        """Return how the last run of each of these jobs ended; those that never ran are left out."""
        read = partial(statistics.last_outcomes, dialect=self._dialect, job_ids=job_ids)
        return self._transact(read, write=False)

    def fires_from(self, job_id: str, begin: datetime, limit: int) -> list[RunRecord]:
        """Return the first records of the job's own fires from `begin` on, in order of time, `limit` at most."""
        where = f"WHERE {self._first_is('r.job_id', 'job_id')} AND r.sched_us >= :begin AND r.cause = 'schedule'"
        order = "ORDER BY r.job_id, r.sched_us, r.run_id LIMIT :limit"
        values = {"job_id": _id(job_id), "begin": micros(begin), "limit": limit}
        live = text(f"SELECT {_LIVE} FROM {self._live} {where} AND r.state <> '{LEAVING}' {order}")
        runs = text(f"SELECT {RUN} FROM {self._runs} {where} {order}")

        def read(conn: Connection) -> list[RunRecord]:
            # In this order, a run that ends in between is seen, and as what it is then.
            found = {row.run_id: _live_record(row) for row in conn.execute(live, values)}
            found |= {row.run_id: record_of(row) for row in conn.execute(runs, values)}
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
            self._transact(partial(self._insert, records), write=True)
        except HistoryUnavailable as error:
            refused = error.__cause__ is not None and isinstance(error.__cause__.__cause__, DataError)
            if not refused:
                raise
            if len(records) == 1:
                log.error("The run history cannot hold the record of run %s: %s", records[0].run_id, error.__cause__)
                return
            for record in records:
                self.write([record])

    def _insert(self, records: Sequence[RunRecord], conn: Connection) -> None:
        # An earlier attempt may have been committed although its reply was lost.
        known = text(f"SELECT run_id FROM {self._runs} WHERE {self._dialect.within('run_id', 'ids')}")
        ids = self._dialect.pack(record.run_id for record in records)
        written = {row.run_id for row in conn.execute(known, {"ids": ids})}
        new = [record._replace(job_id=_id(record.job_id)) for record in records if record.run_id not in written]
        self._dialect.insert(conn, "runs", RUN_COLUMNS, [run_row(record, None, None, None) for record in new])
        self._dialect.insert(conn, "run_output", OUTPUT_COLUMNS, output_rows(new))

    def prune(self, before: datetime, batch: int = 500) -> int:
        """Delete up to `batch` of the oldest runs that were made, and ended, before that time; return how many.

        Runs of a fire that another attempt is still to be made at stay. Fewer than `batch` means that none is left.
        """
        query = text(
            f"SELECT r.run_id FROM {self._runs} WHERE r.run_id < :end AND COALESCE(r.ended_us, r.sched_us) < :us "
            f"AND NOT EXISTS (SELECT 1 FROM {self.database.prefix}live AS l WHERE l.job_id = r.job_id "
            "AND l.fire_id = r.fire_id) ORDER BY r.run_id LIMIT :batch"
        )
        us = micros(before)

        def delete(conn: Connection) -> int:
            rows = conn.execute(query, {"end": first_id(us), "us": us, "batch": batch})
            old = [row.run_id for row in rows]
            if old:
                self._dialect.delete(conn, "run_output", "run_id", old)
                self._dialect.delete(conn, "runs", "run_id", old)
            return len(old)

        return self._transact(delete, write=True)

    # Statements

    def _live_statement(self, query: RunQuery) -> tuple[Any, dict[str, Any]]:
        """Those under way, or waiting: never many."""
        return self._page(f"SELECT {_LIVE} FROM {self._live}", "state", query)

    def _runs_statement(self, query: RunQuery) -> tuple[Any, dict[str, Any]]:
        """Those that have ended: read from the end of an index, without sorting."""
        return self._page(f"SELECT {RUN} FROM {self._runs}", "outcome", query)

    def _page(self, select: str, outcome: str, query: RunQuery) -> tuple[Any, dict[str, Any]]:
        where, values = _span(query)
        if outcome == "state":
            where.append(f"r.state <> '{LEAVING}'")
        order = "r.sched_us DESC, r.run_id DESC" if query.by_time else "r.run_id DESC"
        if query.job_id is not None:
            where.append(self._first_is("r.job_id", "job_id"))
            order = f"r.job_id DESC, {order}"
            values["job_id"] = query.job_id
        if query.outcome is not None and query.by_time:
            where.append(f"r.{outcome} = :outcome")
        elif query.outcome is not None:
            where.append(self._first_is(f"r.{outcome}", "outcome"))
            order = f"r.{outcome} DESC, {order}"
        if query.outcome is not None:
            values["outcome"] = query.outcome
        condition = f" WHERE {' AND '.join(where)}" if where else ""
        return text(f"{select}{condition} ORDER BY {order} LIMIT :limit"), values | {"limit": query.limit}

    def _first_is(self, column: str, parameter: str) -> str:
        """Return a condition on the first column of an index whose later ones say where to begin and in what order."""
        if self._dialect.name == "mysql":
            # MariaDB begins with the first of all rows with that value, unless this looks like a range.
            return f"{column} >= :{parameter} AND {column} <= :{parameter}"
        return f"{column} = :{parameter}"

    def _transact(self, op: Callable[[Connection], T], *, write: bool) -> T:
        try:
            if not self._open:
                self.database.open()
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
            values["first"] = first_id(values["since"] - statistics.CLOCK_SLACK)
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
